package s3api

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// sseKey is a customer's key as requests have it.
type sseKey struct{ algorithm, key, sum *string }

func newSSEKey(n byte) sseKey {
	raw := bytes.Repeat([]byte{n, n + 1}, 16)
	sum := md5.Sum(raw)
	return sseKey{
		aws.String("AES256"), aws.String(base64.StdEncoding.EncodeToString(raw)), aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	}
}

func wantStatus(t *testing.T, what string, err error, status int, code string) {
	t.Helper()
	var re *smithyhttp.ResponseError
	var ae smithy.APIError
	if !errors.As(err, &re) || re.HTTPStatusCode() != status || code != "" && (!errors.As(err, &ae) || ae.ErrorCode() != code) {
		t.Errorf("%s: error %v, want %d %s", what, err, status, code)
	}
}

func TestSSEThroughSDK(t *testing.T) {
	s := newServer(t)
	s.bucket("b-1")
	ctx := t.Context()
	k, other := newSSEKey(1), newSSEKey(9)
	body := strings.Repeat("0123456789", 30_000)
	read := func(in *s3.GetObjectInput) string {
		t.Helper()
		out, err := s.sdk.GetObject(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Body.Close()
		p, err := io.ReadAll(out.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(p)
	}
	for _, n := range []int{0, 10, len(body)} {
		text := body[:n]
		put, err := s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("b-1"), Key: aws.String("s3"), Body: strings.NewReader(text), ServerSideEncryption: types.ServerSideEncryptionAes256})
		if err != nil || put.ServerSideEncryption != "AES256" || *put.ETag != fmt.Sprintf(`"%x"`, md5.Sum([]byte(text))) {
			t.Fatalf("put %+v, %v", put, err)
		}
		if got := read(&s3.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("s3")}); got != text {
			t.Error("SSE-S3: other bytes")
		}
		_, err = s.sdk.PutObject(ctx, &s3.PutObjectInput{
			Bucket: aws.String("b-1"), Key: aws.String("kms"), Body: strings.NewReader(text), ServerSideEncryption: types.ServerSideEncryptionAwsKms,
			SSEKMSKeyId: aws.String("testkey-1"), SSEKMSEncryptionContext: aws.String(base64.StdEncoding.EncodeToString([]byte(`{"a":"b"}`))), BucketKeyEnabled: aws.Bool(true),
		})
		if err != nil {
			t.Fatal(err)
		}
		head, err := s.sdk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("b-1"), Key: aws.String("kms")})
		if err != nil || head.ServerSideEncryption != "aws:kms" || *head.SSEKMSKeyId != "testkey-1" || !*head.BucketKeyEnabled || *head.ContentLength != int64(n) {
			t.Errorf("head %+v, %v", head, err)
		}
		if got := read(&s3.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("kms")}); got != text {
			t.Error("SSE-KMS: other bytes")
		}
		c, err := s.sdk.PutObject(ctx, &s3.PutObjectInput{
			Bucket: aws.String("b-1"), Key: aws.String("c"), Body: strings.NewReader(text), SSECustomerAlgorithm: k.algorithm, SSECustomerKey: k.key, SSECustomerKeyMD5: k.sum,
		})
		if err != nil || *c.SSECustomerKeyMD5 != *k.sum || *c.SSECustomerAlgorithm != "AES256" {
			t.Fatalf("put %+v, %v", c, err)
		}
		get := &s3.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("c")}
		_, err = s.sdk.GetObject(ctx, get)
		wantStatus(t, "no key", err, 400, "InvalidRequest")
		get.SSECustomerAlgorithm, get.SSECustomerKey, get.SSECustomerKeyMD5 = other.algorithm, other.key, other.sum
		_, err = s.sdk.GetObject(ctx, get)
		wantStatus(t, "wrong key", err, 400, "InvalidRequest")
		get.SSECustomerAlgorithm, get.SSECustomerKey, get.SSECustomerKeyMD5 = k.algorithm, k.key, k.sum
		if got := read(get); got != text {
			t.Error("SSE-C: other bytes")
		}
		_, err = s.sdk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("b-1"), Key: aws.String("c")})
		wantStatus(t, "head without a key", err, 400, "")
		get.Key = aws.String("s3")
		_, err = s.sdk.GetObject(ctx, get)
		wantStatus(t, "a key for SSE-S3", err, 400, "InvalidRequest")
	}
	copied, err := s.sdk.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: aws.String("b-1"), Key: aws.String("copy"), CopySource: aws.String("b-1/c"), ServerSideEncryption: types.ServerSideEncryptionAes256,
		CopySourceSSECustomerAlgorithm: k.algorithm, CopySourceSSECustomerKey: k.key, CopySourceSSECustomerKeyMD5: k.sum,
	})
	if err != nil || copied.ServerSideEncryption != "AES256" {
		t.Fatalf("copy %+v, %v", copied, err)
	}
	if got := read(&s3.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("copy"), Range: aws.String("bytes=65515-65529")}); got != body[65515:65530] {
		t.Errorf("range of the copy: %q", got)
	}
}

func TestSSEMultipartThroughSDK(t *testing.T) {
	s := newServer(t)
	s.bucket("b-1")
	ctx := t.Context()
	k, other := newSSEKey(1), newSSEKey(9)
	bucket, key := aws.String("b-1"), aws.String("k")
	u, err := s.sdk.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: bucket, Key: key, SSECustomerAlgorithm: k.algorithm, SSECustomerKey: k.key, SSECustomerKeyMD5: k.sum,
	})
	if err != nil || *u.SSECustomerKeyMD5 != *k.sum {
		t.Fatalf("create %+v, %v", u, err)
	}
	part := func(n int32, p string, k sseKey) (*s3.UploadPartOutput, error) {
		return s.sdk.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: aws.Int32(n), Body: strings.NewReader(p),
			SSECustomerAlgorithm: k.algorithm, SSECustomerKey: k.key, SSECustomerKeyMD5: k.sum,
		})
	}
	_, err = part(1, "x", sseKey{})
	wantStatus(t, "part without a key", err, 400, "InvalidRequest")
	_, err = part(1, "x", other)
	wantStatus(t, "part with another key", err, 400, "InvalidRequest")
	first, second := strings.Repeat("a", 5<<20+1), "the end"
	one, err := part(1, first, k)
	if err != nil || *one.SSECustomerKeyMD5 != *k.sum {
		t.Fatal(one, err)
	}
	two, err := part(2, second, k)
	if err != nil {
		t.Fatal(err)
	}
	done := &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{
		{ETag: one.ETag, PartNumber: aws.Int32(1), ChecksumCRC32: one.ChecksumCRC32}, {ETag: two.ETag, PartNumber: aws.Int32(2), ChecksumCRC32: two.ChecksumCRC32},
	}}}
	wrong := *done
	wrong.SSECustomerAlgorithm, wrong.SSECustomerKey, wrong.SSECustomerKeyMD5 = other.algorithm, other.key, other.sum
	_, err = s.sdk.CompleteMultipartUpload(ctx, &wrong)
	wantStatus(t, "complete with another key", err, 400, "InvalidRequest")
	if _, err = s.sdk.CompleteMultipartUpload(ctx, done); err != nil { // without a key, which is not needed
		t.Fatal(err)
	}
	out, err := s.sdk.GetObject(ctx, &s3.GetObjectInput{
		Bucket: bucket, Key: key, Range: aws.String(fmt.Sprintf("bytes=%d-", len(first)-2)), SSECustomerAlgorithm: k.algorithm, SSECustomerKey: k.key, SSECustomerKeyMD5: k.sum,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if p, err := io.ReadAll(out.Body); err != nil || string(p) != "aa"+second {
		t.Errorf("read %q, %v", p, err)
	}
}

func TestSSERefused(t *testing.T) {
	s := newServer(t)
	s.bucket("b-1")
	k := newSSEKey(1)
	const p = "x-amz-server-side-encryption"
	c := p + "-customer-"
	for _, x := range []struct {
		method, code string
		headers      []string
	}{
		{"PUT", "InvalidArgument", []string{p, "aes:kms"}},
		{"PUT", "NotImplemented", []string{p, "aws:kms:dsse"}},
		{"PUT", "InvalidArgument", []string{p, "aws:kms"}},
		{"PUT", "InvalidArgument", []string{p, "AES256", p + "-aws-kms-key-id", "k"}},
		{"PUT", "InvalidArgument", []string{p + "-aws-kms-key-id", "k"}},
		{"PUT", "InvalidArgument", []string{p, "aws:kms", p + "-aws-kms-key-id", "k", p + "-context", "nonsense"}},
		{"PUT", "InvalidArgument", []string{p, "AES256", c + "algorithm", "AES256", c + "key", *k.key, c + "key-md5", *k.sum}},
		{"PUT", "InvalidEncryptionAlgorithmError", []string{c + "algorithm", "AES192", c + "key", *k.key, c + "key-md5", *k.sum}},
		{"PUT", "InvalidArgument", []string{c + "key", *k.key, c + "key-md5", *k.sum}},
		{"PUT", "InvalidArgument", []string{c + "algorithm", "AES256", c + "key", *k.key}},
		{"PUT", "InvalidArgument", []string{c + "algorithm", "AES256"}},
		{"PUT", "InvalidArgument", []string{c + "algorithm", "AES256", c + "key", "c2hvcnQ=", c + "key-md5", *k.sum}},
		{"PUT", "InvalidArgument", []string{c + "algorithm", "AES256", c + "key", *k.key, c + "key-md5", "AAAAAAAAAAAAAAAAAAAAAA=="}},
		{"GET", "InvalidArgument", []string{p, "AES256"}},
		{"DELETE", "InvalidArgument", []string{p, "AES256"}},
	} {
		status := 400
		if x.code == "NotImplemented" {
			status = 501
		}
		res := s.do(call{method: x.method, path: "/b-1/k", body: map[string]string{"PUT": "x"}[x.method], headers: x.headers})
		if res.status != status || !strings.Contains(res.body, "<Code>"+x.code+"</Code>") {
			t.Errorf("%s %q: %d %s", x.method, x.headers, res.status, res.body)
		}
	}
	strict := newServer(t, func(o *Options) { o.RequireTLSForSSEC = true })
	strict.bucket("b-1")
	res := strict.do(call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{c + "algorithm", "AES256", c + "key", *k.key, c + "key-md5", *k.sum}})
	if res.status != 400 || !strings.Contains(res.body, "secure connection") {
		t.Errorf("without TLS: %d %s", res.status, res.body)
	}
}

func TestSSEThroughMinIO(t *testing.T) {
	s := newServer(t)
	s.bucket("b-1")
	client := s.newMinio()
	kms, err := encrypt.NewSSEKMS("key-1", map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	for name, sse := range map[string]encrypt.ServerSide{"s3": encrypt.NewSSE(), "kms": kms} {
		body := strings.Repeat(name, 3<<20)
		_, err := client.PutObject(t.Context(), "b-1", name, strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{ServerSideEncryption: sse, PartSize: 5 << 20})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		o, err := client.GetObject(t.Context(), "b-1", name, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := io.ReadAll(o); err != nil || string(p) != body {
			t.Errorf("%s: read %d bytes, %v", name, len(p), err)
		}
		o.Close()
	}
}
