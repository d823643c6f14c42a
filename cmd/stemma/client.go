package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"
	"github.com/spf13/cobra"

	"stemma/pageserver/auth"
	"stemma/wal"
)

// Headers of the requests that S3 has no word for.
const (
	headerAt         = "X-Stemma-At"
	headerForkSource = "X-Tigris-Fork-Source-Bucket"
	headerForkAt     = "X-Tigris-Fork-Source-Bucket-Snapshot"
)

// clientFlags say which server a client command talks to and as whom.
type clientFlags struct {
	endpoint, region, data string
}

func (f *clientFlags) add(cmd *cobra.Command) {
	endpoint := cmp.Or(os.Getenv("AWS_ENDPOINT_URL"), "http://127.0.0.1:9000")
	cmd.Flags().StringVar(&f.endpoint, "endpoint", endpoint, "address of the server; AWS_ENDPOINT_URL counts too")
	cmd.Flags().StringVar(&f.region, "region", defaultRegion, "region to sign requests for")
	cmd.Flags().StringVar(&f.data, "data", defaultData, "data directory whose generated root keys are used when the environment has none")
}

// keys returns the caller's keys: from the environment (STEMMA_ROOT_*,
// MINIO_ROOT_*, AWS_*), else the generated ones of a data directory.
func (f *clientFlags) keys() (auth.Key, error) {
	vars := append(rootVars[:], [2]string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"})
	k, ok, err := keysFromEnv(os.LookupEnv, vars...)
	if ok || err != nil {
		return k, err
	}
	k, err = readKeys(filepath.Join(f.data, credentialsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return k, usagef("no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name the server's data directory with --data")
	}
	return k, err
}

func (f *clientFlags) url() (*url.URL, error) {
	u, err := url.Parse(f.endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, usagef("endpoint %q: want http://host:port", f.endpoint)
	}
	return u, nil
}

// s3 returns an S3 client that signs for the server, path-style.
func (f *clientFlags) s3() (*minio.Core, error) {
	u, err := f.url()
	if err != nil {
		return nil, err
	}
	k, err := f.keys()
	if err != nil {
		return nil, err
	}
	return minio.NewCore(u.Host, &minio.Options{
		Creds:        credentials.NewStaticV4(k.ID, k.Secret, ""),
		Secure:       u.Scheme == "https",
		Region:       f.region,
		BucketLookup: minio.BucketLookupPath,
	})
}

// putBucket sends PUT /bucket with headers, signed, all of them under the signature.
func (f *clientFlags) putBucket(ctx context.Context, bucket string, header http.Header) error {
	u, err := f.url()
	if err != nil {
		return err
	}
	k, err := f.keys()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.JoinPath(bucket).String(), nil)
	if err != nil {
		return usagef("bucket %q: %w", bucket, err)
	}
	req.Header = header
	empty := sha256.Sum256(nil)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(empty[:]))
	res, err := http.DefaultClient.Do(signer.SignV4(*req, k.ID, k.Secret, "", f.region))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return nil
	}
	e := minio.ErrorResponse{Code: res.Status}
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err == nil && len(body) > 0 {
		err = xml.Unmarshal(body, &e)
	}
	if err != nil {
		return fmt.Errorf("%s: unreadable answer: %w", res.Status, err)
	}
	return e
}

// parseAt turns the value of --at into an LSN: a decimal LSN, an RFC 3339
// time, or a negative duration that counts back from now.
func parseAt(s string, now time.Time) (wal.LSN, error) {
	if lsn, err := wal.ParseLSN(s); err == nil {
		return lsn, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if d, derr := time.ParseDuration(s); derr == nil && d < 0 {
		t, err = now.Add(d), nil
	}
	if lsn := wal.LSNFromTime(t); err == nil && lsn != 0 {
		return lsn, nil
	}
	return 0, usagef("--at %q: want an LSN, an RFC 3339 time, or how long ago, such as -5m", s)
}

// atFlag is the --at flag of a command.
type atFlag struct{ value string }

func (f *atFlag) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&f.value, "at", "", what+": an LSN, an RFC 3339 time, or how long ago, such as -5m")
}

// lsn returns the LSN in decimal, "" when --at was not given.
func (f *atFlag) lsn() (string, error) {
	if f.value == "" {
		return "", nil
	}
	lsn, err := parseAt(f.value, time.Now())
	if err != nil {
		return "", err
	}
	return lsn.String(), nil
}

// setNonempty calls set unless value is empty.
func setNonempty(set func(key, value string), key, value string) {
	if value != "" {
		set(key, value)
	}
}

// splitPath takes BUCKET[/KEY], with or without s3:// in front.
func splitPath(s string) (bucket, key string, err error) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(s, "s3://"), "/")
	if bucket == "" {
		return "", "", usagef("%q: want BUCKET or BUCKET/KEY", s)
	}
	return bucket, key, nil
}
