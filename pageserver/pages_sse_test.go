package pageserver

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	native "stemma/client"
	"stemma/pageserver/object"
)

// customerHeaders are those of a customer's key, with a prefix before -customer-.
func customerHeaders(prefix string, key []byte) []string {
	sum := md5.Sum(key)
	prefix += "server-side-encryption-customer-"
	return []string{
		prefix + "algorithm", "AES256", prefix + "key", base64.StdEncoding.EncodeToString(key),
		prefix + "key-MD5", base64.StdEncoding.EncodeToString(sum[:]),
	}
}

// Objects that a customer's key encrypts are made, written, read and cloned in place by who sends it, and S3 reads and copies them.
func TestPagesWithCustomerKey(t *testing.T) {
	s := started(t)
	c := &pagesClient{t, s}
	ctx := t.Context()
	api := client(s)
	if _, err := api.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("disk")}); err != nil {
		t.Fatal(err)
	}
	key, other := bytes.Repeat([]byte("k"), 32), bytes.Repeat([]byte("o"), 32)
	with, wrong := customerHeaders("x-amz-", key), customerHeaders("x-amz-", other)
	const path = "/v1/buckets/disk/objects/img"
	c.change("PATCH", path+"?create=yes&size=100000", nil, with...)
	a := c.change("PATCH", path, []byte("secret"), append(with, "Content-Range", "bytes 5000-5005/*")...)
	c.fails(400, "InvalidRequest", "PATCH", path, []byte("x"), "Content-Range", "bytes 0-0/*")
	c.fails(400, "InvalidRequest", "PATCH", path, []byte("x"), append(wrong, "Content-Range", "bytes 0-0/*")...)
	c.fails(400, "InvalidRequest", "PATCH", path, []byte("x"), "x-amz-server-side-encryption", "AES256", "Content-Range", "bytes 0-0/*")
	c.fails(400, "InvalidArgument", "PATCH", path, []byte("x"), append(with[:4:4], "Content-Range", "bytes 0-0/*")...)
	c.fails(400, "InvalidArgument", "PATCH", path, []byte("x"), append(with, "x-amz-server-side-encryption", "AES256", "Content-Range", "bytes 0-0/*")...)
	c.fails(400, "InvalidRequest", "GET", path, nil)
	c.fails(400, "InvalidRequest", "GET", path, nil, wrong...)
	if status, _, p := c.do("GET", path, nil, append(with, "Range", "bytes=4999-5006")...); status != 206 || string(p) != "\x00secret\x00" {
		t.Errorf("%d %q", status, p)
	}

	// What carries no key says so of the read, or of the write.
	status, _, p := c.do("POST", "/v1/buckets/disk/pages:read", object.AppendPageReads(nil, []object.PageRead{{Key: "img", Len: 1}, {Key: "none", Len: 1}}))
	results, err := object.DecodePageResults(p)
	if status != 200 || err != nil || !errors.Is(results[0].Err, object.ErrKeyRequired) || !errors.Is(results[1].Err, object.ErrNoSuchKey) {
		t.Errorf("%d %v %+v", status, err, results)
	}
	c.fails(400, "InvalidArgument", "POST", "/v1/buckets/disk/pages:read", object.AppendPageReads(nil, nil), with...)
	c.fails(400, "InvalidArgument", "POST", "/v1/pages:stream", nil, append(with, "Connection", "Upgrade", "Upgrade", "stemma-pages/1")...)
	stream := openStream(t, streamClient(t, s, "encrypts"))
	read, err := stream.ReadPages(ctx, "disk", []native.PageRead{{Key: "img", Len: 1}})
	if err != nil || !native.IsCode(read[0].Err, "InvalidRequest") {
		t.Errorf("%v %+v", err, read)
	}
	if _, err := stream.WritePages(ctx, "disk", "img", []native.PageOp{{Kind: native.PageWrite, Data: []byte("x")}}, native.PagesOptions{}); !native.IsCode(err, "InvalidRequest") {
		t.Error(err)
	}

	// Clones, under the same key, another one and the store's.
	source := customerHeaders("x-amz-copy-source-", key)
	body := []byte(`{"key":"img","offset":5000,"length":6}`)
	for _, to := range [][]string{with, wrong, nil} {
		if a := c.change("POST", "/v1/buckets/disk/objects/clone?clone", body, append(source, to...)...); a.Size != 6 || a.PageBytes == 0 {
			t.Errorf("%+v", a)
		}
		if status, _, p := c.do("GET", "/v1/buckets/disk/objects/clone", nil, to...); status != 200 || string(p) != "secret" {
			t.Errorf("%d %q", status, p)
		}
	}
	c.fails(400, "InvalidRequest", "POST", "/v1/buckets/disk/objects/clone?clone", body)
	if a.Size != 100_000 {
		t.Errorf("%+v", a)
	}

	// S3 reads and copies it.
	sum := md5.Sum(key)
	algorithm, secret, digest := aws.String("AES256"), aws.String(base64.StdEncoding.EncodeToString(key)), aws.String(base64.StdEncoding.EncodeToString(sum[:]))
	o, err := api.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("disk"), Key: aws.String("img"), Range: aws.String("bytes=5000-5005"), SSECustomerAlgorithm: algorithm, SSECustomerKey: secret, SSECustomerKeyMD5: digest})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	if got, err := io.ReadAll(o.Body); err != nil || string(got) != "secret" || aws.ToString(o.ETag) != a.ETag || aws.ToString(o.SSECustomerAlgorithm) != "AES256" {
		t.Errorf("%v %q %+v", err, got, o)
	}
	_, err = api.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: aws.String("disk"), Key: aws.String("copy"), CopySource: aws.String("disk/img"), ServerSideEncryption: types.ServerSideEncryptionAes256,
		CopySourceSSECustomerAlgorithm: algorithm, CopySourceSSECustomerKey: secret, CopySourceSSECustomerKeyMD5: digest,
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("disk"), Key: aws.String("copy")})
	if err != nil || h.ServerSideEncryption != types.ServerSideEncryptionAes256 || aws.ToInt64(h.ContentLength) != 100_000 {
		t.Errorf("%v %+v", err, h)
	}
	if status, _, p := c.do("GET", "/v1/buckets/disk/objects/copy", nil, "Range", "bytes=5000-5005"); string(p) != "secret" {
		t.Errorf("%d %q", status, p)
	}
}

// In a bucket with default encryption all that is written in place is encrypted so, by every way there is, and what a request says otherwise holds.
func TestPagesInBucketThatEncrypts(t *testing.T) {
	s := started(t)
	c := &pagesClient{t, s}
	ctx := t.Context()
	api := client(s)
	stream := openStream(t, streamClient(t, s, "disk"))
	if _, err := api.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("disk"), Key: aws.String("clear"), Body: strings.NewReader("clear")}); err != nil {
		t.Fatal(err)
	}
	_, err := api.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: aws.String("disk"), ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{
		Rules: []types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAwsKms, KMSMasterKeyID: aws.String("a-key")}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.change("PATCH", "/v1/buckets/disk/objects/patched?create=yes&append=0", []byte("text"))
	c.change("PATCH", "/v1/buckets/disk/objects/s3?create=yes&append=0", []byte("text"), "x-amz-server-side-encryption", "AES256")
	if _, err := stream.WritePages(ctx, "disk", "streamed", []native.PageOp{{Kind: native.PageWrite, Data: []byte("text")}}, native.PagesOptions{Create: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("disk"), Key: aws.String("put"), Body: strings.NewReader("toxt")}); err != nil {
		t.Fatal(err)
	}
	c.change("PATCH", "/v1/buckets/disk/objects/put", []byte("e"), "Content-Range", "bytes 1-1/*")
	c.fails(400, "InvalidRequest", "PATCH", "/v1/buckets/disk/objects/clear", []byte("x"), "Content-Range", "bytes 0-0/*")
	c.change("POST", "/v1/buckets/disk/objects/clear?clone", []byte(`{"key":"clear"}`)) // onto itself
	c.change("PATCH", "/v1/buckets/disk/objects/clear", []byte("text"), "Content-Range", "bytes 0-3/*")
	c.change("PATCH", "/v1/buckets/disk/objects/clear?size=4", nil)
	for _, key := range []string{"patched", "s3", "streamed", "put", "clear"} {
		o, err := api.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("disk"), Key: aws.String(key)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(o.Body)
		o.Body.Close()
		if err != nil || string(got) != "text" || (o.ServerSideEncryption == types.ServerSideEncryptionAwsKms) != (key != "s3") || o.ServerSideEncryption == "" {
			t.Errorf("%s: %q, %v, %v", key, got, o.ServerSideEncryption, err)
		}
		if read, err := stream.ReadPages(ctx, "disk", []native.PageRead{{Key: key, Len: 9}}); err != nil || read[0].Err != nil || string(read[0].Data) != "text" {
			t.Errorf("%s: %v %+v", key, err, read)
		}
	}
}
