package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	headerForce      = "X-Tigris-Force-Delete"
	headerUndo       = "X-Stemma-Undo"
)

// credentialFlags say as whom a client command talks to a server.
type credentialFlags struct {
	region, data, caFile, profile string

	once    sync.Once
	through *http.Transport
	err     error
}

func (f *credentialFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.region, "region", defaultRegion, "region to sign requests for")
	cmd.Flags().StringVar(&f.caFile, "ca-file", os.Getenv("AWS_CA_BUNDLE"), "file of certificates, PEM, that vouch for the server besides the system's; AWS_CA_BUNDLE counts too")
	cmd.Flags().StringVar(&f.data, "data", defaultData, "data directory whose generated root keys are used when the environment has none")
	cmd.Flags().StringVar(&f.profile, "profile", "", "name in the file of profiles, STEMMA_PROFILES or stemma/profiles.json of the user's configuration: addresses and keys")
}

// transport returns the connections of the command, the same each time.
func (f *credentialFlags) transport() (*http.Transport, error) {
	f.once.Do(func() { f.through, f.err = transport(f.caFile) })
	return f.through, f.err
}

// keys returns the caller's keys: of the profile if there is one, from the environment (STEMMA_ROOT_*,
// MINIO_ROOT_*, AWS_*), else the generated ones of a data directory.
func (f *credentialFlags) keys() (auth.Key, error) {
	if f.profile != "" {
		p, err := readProfile(f.profile)
		if err != nil {
			return auth.Key{}, err
		}
		if p.Region != "" && f.region == defaultRegion {
			f.region = p.Region
		}
		if p.AccessKey != "" && p.SecretKey != "" {
			return auth.Key{ID: p.AccessKey, Secret: p.SecretKey}, nil
		}
	}
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

// send sends a request, signed with all of its headers, and returns the status
// and the body of the answer, up to limit bytes.
func (f *credentialFlags) send(ctx context.Context, method string, u *url.URL, header http.Header, body []byte, limit int64) (int, []byte, error) {
	k, err := f.keys()
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, usagef("%s: %w", u, err)
	}
	req.Header = header
	sum := sha256.Sum256(body)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	through, err := f.transport()
	if err != nil {
		return 0, nil, err
	}
	client := http.Client{Transport: through}
	res, err := client.Do(signer.SignV4(*req, k.ID, k.Secret, "", f.region))
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, limit))
	if err != nil {
		return 0, nil, fmt.Errorf("%s: unreadable answer: %w", res.Status, err)
	}
	return res.StatusCode, answer, nil
}

// clientFlags say which server a client command talks to and as whom.
type clientFlags struct {
	endpoint string
	who      credentialFlags
}

func (f *clientFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.endpoint, "endpoint", defaultEndpoint(), "address of the server; AWS_ENDPOINT_URL counts too")
	f.who.add(cmd)
}

func defaultEndpoint() string { return cmp.Or(os.Getenv("AWS_ENDPOINT_URL"), "http://127.0.0.1:9000") }

// address returns the server's.
func (f *clientFlags) address() (*url.URL, error) {
	endpoint, err := f.who.endpoint(f.endpoint, defaultEndpoint(), false)
	if err != nil {
		return nil, err
	}
	return parseEndpoint("endpoint", endpoint)
}

// parseEndpoint parses the value of a flag that names a server.
func parseEndpoint(flag, value string) (*url.URL, error) {
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, usagef("--%s %q: want http://host:port or https://host:port", flag, value)
	}
	return u, nil
}

// s3 returns an S3 client that signs for the server, path-style.
func (f *clientFlags) s3() (*minio.Core, error) {
	u, err := f.address()
	if err != nil {
		return nil, err
	}
	k, err := f.who.keys()
	if err != nil {
		return nil, err
	}
	through, err := f.who.transport()
	if err != nil {
		return nil, err
	}
	return minio.NewCore(u.Host, &minio.Options{
		Transport:    through,
		Creds:        credentials.NewStaticV4(k.ID, k.Secret, ""),
		Secure:       u.Scheme == "https",
		Region:       f.who.region,
		BucketLookup: minio.BucketLookupPath,
	})
}

// bucketRequest sends a request to a bucket with headers that no S3 client knows.
func (f *clientFlags) bucketRequest(ctx context.Context, method, bucket string, header http.Header) error {
	u, err := f.address()
	if err != nil {
		return err
	}
	status, body, err := f.who.send(ctx, method, u.JoinPath(bucket), header, nil, 64<<10)
	if err != nil || status/100 == 2 {
		return err
	}
	e := minio.ErrorResponse{Code: http.StatusText(status)}
	if len(body) > 0 {
		if err := xml.Unmarshal(body, &e); err != nil {
			return fmt.Errorf("%d %s: unreadable answer: %w", status, http.StatusText(status), err)
		}
	}
	e.StatusCode = status
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
	return 0, usagef("--at %q: want an LSN, an RFC 3339 time, how long ago, such as -5m, or the name of a snapshot", s)
}

// atFlag is the --at flag of a command.
type atFlag struct{ value string }

func (f *atFlag) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&f.value, "at", "", what+": an LSN, an RFC 3339 time, how long ago, such as -5m, or the name of a snapshot")
}

// target is what a client command reads: a bucket or part of it, now or as it was.
type target struct {
	client      *minio.Core
	bucket, key string    // key may be empty, or a prefix
	at          string    // LSN; "": the tip
	under       string    // what key begins with to be read as of a snapshot that has a name; may be empty
	bar         io.Writer // gets what is fetched, too; nil: none
}

// open parses BUCKET[/KEY] and --at, and returns them with a client.
func (f *clientFlags) open(path string, at *atFlag) (target, error) {
	c, err := f.s3()
	if err != nil {
		return target{}, err
	}
	t := target{client: c}
	if t.bucket, t.key, err = splitPath(path); err != nil {
		return target{}, err
	}
	if name := at.snapshot(); name != "" {
		t.under = ".snapshot/" + name + "/"
		t.key = t.under + t.key
		return t, nil
	}
	t.at, err = at.lsn()
	return t, err
}

// list walks the keys that begin with the key of t.
func (t *target) list(ctx context.Context, recursive bool) iter.Seq[minio.ObjectInfo] {
	o := minio.ListObjectsOptions{Prefix: t.key, Recursive: recursive}
	setNonempty(o.Set, headerAt, t.at)
	return t.client.Client.ListObjectsIter(ctx, t.bucket, o)
}

// fetch writes an object to out.
func (t *target) fetch(ctx context.Context, key string, out io.Writer) error {
	var o minio.GetObjectOptions
	setNonempty(o.Set, headerAt, t.at)
	body, _, _, err := t.client.GetObject(ctx, t.bucket, key, o)
	if err != nil {
		return err
	}
	if t.bar != nil {
		out = io.MultiWriter(out, t.bar)
	}
	_, err = io.Copy(out, body)
	return errors.Join(err, body.Close())
}

// snapshot returns the name of a snapshot if the value can only be one, else nothing.
func (f *atFlag) snapshot() string {
	if f.value == "" || strings.HasPrefix(f.value, "-") || strings.Contains(f.value, "/") {
		return ""
	}
	if _, err := parseAt(f.value, time.Now()); err == nil {
		return ""
	}
	return f.value
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
