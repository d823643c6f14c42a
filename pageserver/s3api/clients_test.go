package s3api

//lint:file-ignore SA1019 the upload manager is what deployed programs use; its successor has no stable release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/minio/minio-go/v7"

	"stemma/pageserver/object"
)

var ctx = context.Background()

// ok returns the first value of a call that must succeed: ok(f())(t).
func ok[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestSDK(t *testing.T) {
	s := newServer(t)
	c, bucket, key := s.sdk, aws.String("sdk-bucket"), aws.String("dir/k ü+&")
	ok(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))(t)
	ok(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))(t) // again, as in S3's first region
	_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket, ACL: types.BucketCannedACLPublicRead})
	if owned := new(types.BucketAlreadyExists); !errors.As(err, &owned) {
		t.Fatal(err)
	}
	ok(c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: bucket}))(t)
	if _, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("absent")}); !errors.As(err, new(*types.NotFound)) {
		t.Fatal(err)
	}
	if list := ok(c.ListBuckets(ctx, nil))(t); len(list.Buckets) != 1 || *list.Buckets[0].Name != *bucket {
		t.Fatalf("%+v", list.Buckets)
	}
	for _, algorithm := range append(types.ChecksumAlgorithm("").Values(), "") {
		a, err := object.ParseAlgorithm(string(algorithm))
		if err != nil {
			t.Errorf("%q is newer than what is served", algorithm)
			continue
		}
		body := pattern(70_000)
		in := &s3.PutObjectInput{
			Bucket: bucket, Key: key, Body: bytes.NewReader(body), ChecksumAlgorithm: algorithm,
			ContentType: aws.String("text/x"), Metadata: map[string]string{"A": "1"},
		}
		switch sum := aws.String(object.ChecksumOf(a, body).String()); algorithm { // the SDK has these sent, and does not compute them
		case types.ChecksumAlgorithmMd5:
			in.ChecksumMD5 = sum
		case types.ChecksumAlgorithmXxhash64:
			in.ChecksumXXHASH64 = sum
		case types.ChecksumAlgorithmXxhash3:
			in.ChecksumXXHASH3 = sum
		case types.ChecksumAlgorithmXxhash128:
			in.ChecksumXXHASH128 = sum
		}
		put := ok(c.PutObject(ctx, in))(t)
		got := ok(c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled}))(t)
		p := ok(io.ReadAll(got.Body))(t) // the SDK verifies the checksum
		if !bytes.Equal(p, body) || *got.ETag != *put.ETag || *got.ContentType != "text/x" || got.Metadata["a"] != "1" {
			t.Fatalf("%s: %d bytes %+v", algorithm, len(p), got)
		}
	}
	if _, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("absent")}); !errors.As(err, new(*types.NoSuchKey)) {
		t.Fatal(err)
	}
	if _, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("absent")}); !errors.As(err, new(*types.NotFound)) {
		t.Fatal(err)
	}
	ok(c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String(*bucket + "/" + escape(*key))}))(t)
	attrs := ok(c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: bucket, Key: aws.String("copy"),
		ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesEtag, types.ObjectAttributesObjectSize, types.ObjectAttributesChecksum}}))(t)
	if *attrs.ObjectSize != 70_000 {
		t.Fatalf("%+v", attrs)
	}
	ok(c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("copy")}))(t)
	del := ok(c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: key}, {Key: aws.String("x")}}}}))(t)
	if len(del.Deleted) != 2 || len(del.Errors) != 0 {
		t.Fatalf("%+v", del)
	}
	ok(c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket}))(t)
}

func TestSDKListing(t *testing.T) {
	s := newServer(t)
	bucket := aws.String("sdk-bucket")
	ok(s.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))(t)
	var want []string
	for i := range 60 {
		key := fmt.Sprintf("d%d/a b+%02d", i%3, i)
		want = append(want, key)
		ok(s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(key)}))(t)
	}
	slices.Sort(want)
	var got []string
	pages := s3.NewListObjectsV2Paginator(s.sdk, &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(7), EncodingType: types.EncodingTypeUrl})
	for pages.HasMorePages() {
		for _, o := range ok(pages.NextPage(ctx))(t).Contents {
			got = append(got, strings.NewReplacer("%20", " ", "%2B", "+").Replace(*o.Key))
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
	list := ok(s.sdk.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Delimiter: aws.String("/")}))(t)
	if len(list.CommonPrefixes) != 3 || *list.CommonPrefixes[1].Prefix != "d1/" {
		t.Fatalf("%+v", list.CommonPrefixes)
	}
}

// The managers upload and download in parts, several at a time.
func TestSDKMultipart(t *testing.T) {
	s := newServer(t)
	bucket := aws.String("sdk-bucket")
	ok(s.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))(t)
	body := pattern(10<<20 + 7)
	for _, algorithm := range []types.ChecksumAlgorithm{"", types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmSha256, types.ChecksumAlgorithmCrc64nvme} {
		up := manager.NewUploader(s.sdk, func(u *manager.Uploader) { u.PartSize = 5 << 20 })
		ok(up.Upload(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("big"), Body: bytes.NewReader(body), ChecksumAlgorithm: algorithm}))(t)
		buf := manager.NewWriteAtBuffer(make([]byte, 0, len(body)))
		ok(manager.NewDownloader(s.sdk).Download(ctx, buf, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("big")}))(t)
		if !bytes.Equal(buf.Bytes(), body) {
			t.Fatalf("%s: %d bytes", algorithm, len(buf.Bytes()))
		}
	}
	created := ok(s.sdk.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("up")}))(t)
	ok(s.sdk.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: aws.String("up"), UploadId: created.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("x")}))(t)
	parts := ok(s.sdk.ListParts(ctx, &s3.ListPartsInput{Bucket: bucket, Key: aws.String("up"), UploadId: created.UploadId}))(t)
	uploads := ok(s.sdk.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket}))(t)
	if len(parts.Parts) != 1 || *parts.Parts[0].Size != 1 || len(uploads.Uploads) != 1 {
		t.Fatalf("%+v %+v", parts, uploads)
	}
	ok(s.sdk.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: aws.String("up"), UploadId: created.UploadId}))(t)
}

// A body that cannot be sought goes in unsigned chunks with a trailer.
func TestSDKUnseekable(t *testing.T) {
	s := newServer(t)
	bucket := aws.String("sdk-bucket")
	ok(s.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))(t)
	body := pattern(300_000)
	ok(s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("k"), Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body)))},
		s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)))(t)
	var sent strings.Builder
	chunked := encodeUnsigned(body, 64<<10, "x-amz-checksum-crc32c:"+crc32c(string(body)))
	sent.WriteString(chunked)
	a := s.want(200, call{method: "PUT", path: "/sdk-bucket/k2", body: chunked, hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: []string{
		"x-amz-decoded-content-length", fmt.Sprint(len(body)), "x-amz-trailer", "x-amz-checksum-crc32c", "Content-Encoding", "aws-chunked,gzip",
	}})
	if a.header.Get("x-amz-checksum-crc32c") != crc32c(string(body)) {
		t.Fatalf("%v", a.header)
	}
	for _, key := range []string{"k", "k2"} {
		g := s.want(200, call{method: "GET", path: "/sdk-bucket/" + key})
		if g.body != string(body) || key == "k2" && g.header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: %d bytes %v", key, len(g.body), g.header)
		}
	}
}

func encodeUnsigned(body []byte, size int, trailer string) string {
	var b strings.Builder
	for chunk := range slices.Chunk(body, size) {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(chunk), chunk)
	}
	return b.String() + "0\r\n" + trailer + "\r\n\r\n"
}

func TestPresigned(t *testing.T) {
	s := newServer(t)
	bucket, key := aws.String("sdk-bucket"), aws.String("dir/k ü+&")
	ok(s.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))(t)
	p := s3.NewPresignClient(s.sdk)
	send := func(method, url, body string, header http.Header) *answer {
		r := ok(http.NewRequest(method, url, strings.NewReader(body)))(t)
		for name := range header {
			if name != "Host" && name != "Content-Length" {
				r.Header.Set(name, header.Get(name))
			}
		}
		res := ok(s.http.Do(r))(t)
		defer res.Body.Close()
		return &answer{res.StatusCode, res.Header, string(ok(io.ReadAll(res.Body))(t))}
	}
	put := ok(p.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Metadata: map[string]string{"a": "1"}, StorageClass: types.StorageClassStandardIa},
		func(o *s3.PresignOptions) {
			o.ClientOptions = append(o.ClientOptions, func(o *s3.Options) { o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired })
		}))(t)
	if a := send("PUT", put.URL, "hello", put.SignedHeader); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	get := ok(p.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, ResponseContentType: aws.String("text/y")}, s3.WithPresignExpires(time.Minute)))(t)
	a := send("GET", get.URL, "", nil)
	if a.status != 200 || a.body != "hello" || a.header.Get("Content-Type") != "text/y" || a.header.Get("x-amz-meta-a") != "1" || a.header.Get("x-amz-storage-class") != "STANDARD_IA" {
		t.Fatalf("%d %s %v", a.status, a.body, a.header)
	}
	if a := send("GET", strings.Replace(get.URL, "text%2Fy", "text%2Fz", 1), "", nil); a.code() != "SignatureDoesNotMatch" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := send("DELETE", get.URL, "", nil); a.code() != "SignatureDoesNotMatch" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	long := ok(p.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key}, s3.WithPresignExpires(8*24*time.Hour)))(t)
	if a := send("GET", long.URL, "", nil); a.status != 403 || a.code() != "AccessDenied" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// A parameter that stands for a header cannot smuggle lines into answers.
	evil := ok(p.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("evil")}, func(o *s3.PresignOptions) {
		o.ClientOptions = append(o.ClientOptions, s3.WithAPIOptions(func(stack *middleware.Stack) error {
			return stack.Build.Add(middleware.BuildMiddlewareFunc("evil", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
				r := in.Request.(*smithyhttp.Request)
				r.URL.RawQuery += "&x-amz-meta-a=1%0D%0AX-Evil:%201"
				return next.HandleBuild(ctx, in)
			}), middleware.After)
		}))
	}))(t)
	if a := send("PUT", evil.URL, "", evil.SignedHeader); a.status != 400 || a.code() != "InvalidArgument" {
		t.Fatalf("%s: %d %s", evil.URL, a.status, a.body)
	}
	// What the client hoists into the query counts as the header.
	acl := ok(p.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("acl"), ACL: types.ObjectCannedACLPublicRead}))(t)
	if a := send("PUT", acl.URL, "hello", acl.SignedHeader); a.status != 200 {
		t.Fatalf("%s: %d %s", acl.URL, a.status, a.body)
	}
	if a := s.want(200, call{method: "GET", path: "/sdk-bucket/acl", unsigned: true}); a.body != "hello" {
		t.Fatalf("%s", a.body)
	}
}

func TestMinioClient(t *testing.T) {
	s := newServer(t)
	for name, change := range map[string]func(*minio.Options){
		"chunk signatures": func(o *minio.Options) {},
		"signed trailers":  func(o *minio.Options) { o.TrailingHeaders = true },
	} {
		t.Run(name, func(t *testing.T) {
			c := s.newMinio(change)
			bucket := "minio-" + strings.ReplaceAll(name, " ", "-")
			if err := c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}); err != nil {
				t.Fatal(err)
			}
			if found := ok(c.BucketExists(ctx, bucket))(t); !found {
				t.Fatal("bucket")
			}
			for _, size := range []int{0, 1, 64 << 10, 200_001, 17 << 20} {
				body := pattern(size)
				o := minio.PutObjectOptions{ContentType: "text/x", UserMetadata: map[string]string{"a": "1"}, PartSize: 16 << 20}
				if strings.Contains(name, "trailers") {
					o.Checksum = minio.ChecksumCRC32C
				}
				info := ok(c.PutObject(ctx, bucket, "dir/k ü", bytes.NewReader(body), int64(size), o))(t)
				got := ok(c.GetObject(ctx, bucket, "dir/k ü", minio.GetObjectOptions{}))(t)
				p := ok(io.ReadAll(got))(t)
				stat := ok(got.Stat())(t)
				if !bytes.Equal(p, body) || stat.ETag != info.ETag || stat.UserMetadata["A"] != "1" {
					t.Fatalf("%d bytes: %d, %+v", size, len(p), stat)
				}
			}
			ok(c.PutObject(ctx, bucket, "unknown", io.MultiReader(strings.NewReader("abc")), -1, minio.PutObjectOptions{PartSize: 16 << 20}))(t)
			ok(c.CopyObject(ctx, minio.CopyDestOptions{Bucket: bucket, Object: "copy"}, minio.CopySrcOptions{Bucket: bucket, Object: "dir/k ü"}))(t)
			ok(c.ComposeObject(ctx, minio.CopyDestOptions{Bucket: bucket, Object: "composed"},
				minio.CopySrcOptions{Bucket: bucket, Object: "copy"}, minio.CopySrcOptions{Bucket: bucket, Object: "unknown"}))(t)
			var keys []string
			for o := range c.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
				if o.Err != nil {
					t.Fatal(o.Err)
				}
				keys = append(keys, o.Key)
			}
			if strings.Join(keys, " ") != "composed copy dir/k ü unknown" {
				t.Fatalf("%q", keys)
			}
			u := ok(c.PresignedGetObject(ctx, bucket, "unknown", time.Minute, nil))(t)
			res := ok(s.http.Get(u.String()))(t)
			p := ok(io.ReadAll(res.Body))(t)
			if string(p) != "abc" {
				t.Fatalf("%q", p)
			}
			objects := make(chan minio.ObjectInfo)
			go func() {
				defer close(objects)
				for _, k := range keys {
					objects <- minio.ObjectInfo{Key: k}
				}
			}()
			for e := range c.RemoveObjects(ctx, bucket, objects, minio.RemoveObjectsOptions{}) {
				t.Error(e.Err)
			}
			if err := c.RemoveBucket(ctx, bucket); err != nil {
				t.Fatal(err)
			}
			err := c.MakeBucket(ctx, "UPPER", minio.MakeBucketOptions{})
			if err == nil {
				t.Fatal("made UPPER")
			}
		})
	}
}

// Many clients at once: every acknowledged write is read back as it was written.
func TestConcurrentClients(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 15 {
				key := aws.String(fmt.Sprintf("k%d-%d", g, i%5))
				body := pattern(1000*g + 20_000*(i%3) + i)
				if _, err := s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("b-1"), Key: key, Body: bytes.NewReader(body)}); err != nil {
					t.Error(err)
					return
				}
				got, err := s.sdk.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("b-1"), Key: key})
				if err != nil {
					t.Error(err)
					return
				}
				p, err := io.ReadAll(got.Body)
				if err != nil || !bytes.Equal(p, body) {
					t.Errorf("%s: %d bytes, want %d, %v", *key, len(p), len(body), err)
				}
			}
		})
	}
	wg.Wait()
}
