package pageserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7/pkg/signer"

	"stemma/pageserver/object"
)

// pagesClient sends signed requests with headers to the admin listener.
type pagesClient struct {
	t *testing.T
	s *Server
}

func (c *pagesClient) do(method, path string, body []byte, headers ...string) (int, http.Header, []byte) {
	c.t.Helper()
	req, err := http.NewRequest(method, "http://"+c.s.AdminAddr().String()+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	sum := sha256.Sum256(body)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	res, err := http.DefaultClient.Do(signer.SignV4(*req, rootKey.ID, rootKey.Secret, "", "us-east-1"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	p, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, res.Header, p
}

// change sends a change that must succeed.
func (c *pagesClient) change(method, path string, body []byte, headers ...string) (a PageAnswer) {
	c.t.Helper()
	status, _, p := c.do(method, path, body, headers...)
	if status != 200 || json.Unmarshal(p, &a) != nil {
		c.t.Fatalf("%s %s: %d %s", method, path, status, p)
	}
	return a
}

// fails sends a request that must be refused with a code.
func (c *pagesClient) fails(status int, code, method, path string, body []byte, headers ...string) {
	c.t.Helper()
	got, _, p := c.do(method, path, body, headers...)
	var e AdminError
	if json.Unmarshal(p, &e) != nil || got != status || e.Code != code {
		c.t.Errorf("%s %s: %d %.200s, want %d %s", method, path, got, p, status, code)
	}
}

// An object that S3 put is changed in place in every form that PATCH knows, and S3 reads
// what it became, and what it was.
func TestPagesOverHTTP(t *testing.T) {
	s := started(t)
	c := &pagesClient{t, s}
	ctx := context.Background()
	api := client(s)
	if _, err := api.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("disk")}); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 20<<10) // 320 KiB
	first, err := api.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("disk"), Key: aws.String("a/img b"), Body: bytes.NewReader(want)})
	if err != nil {
		t.Fatal(err)
	}
	const path = "/v1/buckets/disk/objects/a/img%20b"
	read := func() {
		t.Helper()
		o, err := api.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("disk"), Key: aws.String("a/img b")})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Body.Close()
		if got, err := io.ReadAll(o.Body); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v: %d bytes, want %d", err, len(got), len(want))
		}
	}
	patch := func(off int, data string) { copy(want[off:], data) }

	a := c.change("PATCH", path, []byte("one"), "Content-Range", "bytes 100-102/*", "If-Match", *first.ETag)
	patch(100, "one")
	read()
	begin := a.LSN
	c.fails(412, "PreconditionFailed", "PATCH", path, []byte("x"), "Content-Range", "bytes 0-0/*", "If-Match", *first.ETag)
	c.fails(412, "PreconditionFailed", "PATCH", path+"?if-lsn=7", []byte("x"), "Content-Range", "bytes 0-0/*")

	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, off := range []int{5000, 100_000} {
		part, _ := w.CreatePart(textproto.MIMEHeader{"Content-Range": {fmt.Sprintf("bytes %d-%d/*", off, off+2)}})
		part.Write([]byte("two"))
		patch(off, "two")
	}
	w.Close()
	a = c.change("PATCH", path+fmt.Sprintf("?if-lsn=%d", a.LSN), body.Bytes(), "Content-Type", "multipart/byteranges; boundary="+w.Boundary())
	read()

	ops := []object.PageOp{{Kind: object.PageWrite, Off: 9, Data: []byte("three")}, {Kind: object.PageZero, Off: 150_000, Len: 70_000}}
	a = c.change("PATCH", path, object.AppendPageOps(nil, ops), "Content-Type", PagesType)
	patch(9, "three")
	clear(want[150_000:220_000])
	read()

	a = c.change("PATCH", path+fmt.Sprintf("?append=%d", len(want)), []byte("tail"))
	want = append(want, "tail"...)
	read()
	c.fails(409, "OffsetMismatch", "PATCH", path+"?append=5", []byte("tail"))
	a = c.change("PATCH", path+"?zero=10-20", nil)
	clear(want[10:21])
	a = c.change("PATCH", path+"?size=300000", nil)
	want = want[:300_000]
	a = c.change("PATCH", path+"?size=310000", nil)
	want = append(want, make([]byte, 10_000)...)
	read()
	if a.Size != 310_000 || a.PageBytes != object.DefaultPageBytes {
		t.Errorf("%+v", a)
	}

	// Ranges, at the tip and in the past.
	status, h, p := c.do("GET", path, nil, "Range", "bytes=0-9,5000-5002,-4")
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || status != 206 || kind != byterangeType {
		t.Fatalf("%d %v", status, h)
	}
	parts := multipart.NewReader(bytes.NewReader(p), params["boundary"])
	for _, span := range [][2]int{{0, 10}, {5000, 5003}, {309_996, 310_000}} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(part)
		if r := fmt.Sprintf("bytes %d-%d/310000", span[0], span[1]-1); part.Header.Get("Content-Range") != r || !bytes.Equal(got, want[span[0]:span[1]]) {
			t.Errorf("%v %q, want %s", part.Header, got, r)
		}
	}
	if status, _, p = c.do("GET", path+fmt.Sprintf("?at=%d", begin), nil, "Range", "bytes=98-104"); status != 206 || string(p) != "23one78" {
		t.Errorf("%d %q", status, p)
	}
	if status, h, p = c.do("GET", path, nil); status != 200 || !bytes.Equal(p, want) || h.Get("ETag") != a.ETag {
		t.Errorf("%d, %d bytes, %v", status, len(p), h)
	}

	// A batch, what changed, and a clone.
	reads := []object.PageRead{{Key: "a/img b", Off: 5000, Len: 3}, {Key: "none", Len: 3}, {Key: "a/img b", At: begin, Off: 5000, Len: 3}}
	status, _, p = c.do("POST", "/v1/buckets/disk/pages:read", object.AppendPageReads(nil, reads))
	results, err := object.DecodePageResults(p)
	if status != 200 || err != nil || len(results) != 3 || string(results[0].Data) != "two" || results[1].Err == nil || string(results[2].Data) != "89a" {
		t.Errorf("%d %v %+v", status, err, results)
	}
	status, _, p = c.do("GET", path+fmt.Sprintf("?changed&since=%d", begin), nil)
	var changed ChangedAnswer
	if err := json.Unmarshal(p, &changed); err != nil || status != 200 || changed.Whole || len(changed.Ranges) == 0 || changed.Size != 310_000 {
		t.Errorf("%d %s", status, p)
	}
	clone := c.change("POST", "/v1/buckets/disk/objects/copy?clone", []byte(`{"key":"a/img b","offset":5000,"length":3}`))
	if status, _, p = c.do("GET", "/v1/buckets/disk/objects/copy", nil); string(p) != "two" || clone.Size != 3 {
		t.Errorf("%d %q", status, p)
	}
	c.change("PATCH", "/v1/buckets/disk/objects/new?create=only&page-size=65536", nil)
	c.fails(412, "PreconditionFailed", "PATCH", "/v1/buckets/disk/objects/new?create=only", nil)
}

func TestPagesBadInput(t *testing.T) {
	s := started(t)
	c := &pagesClient{t, s}
	if _, err := client(s).CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: aws.String("disk")}); err != nil {
		t.Fatal(err)
	}
	const path = "/v1/buckets/disk/objects/k"
	x := []byte("x")
	c.fails(404, "NoSuchKey", "PATCH", path, x, "Content-Range", "bytes 0-0/*")
	c.fails(404, "NoSuchBucket", "PATCH", "/v1/buckets/other/objects/k?create=yes", x, "Content-Range", "bytes 0-0/*")
	c.change("PATCH", path+"?create=yes", x, "Content-Range", "bytes 0-0/*")
	for _, r := range []string{"bytes 0-1/*", "bytes 1-0/*", "bytes x", "lines 0-0/*", "bytes 0-0", "bytes 99999999999999999999-99999999999999999999/*"} {
		if status, _, p := c.do("PATCH", path, x, "Content-Range", r); status != 400 {
			t.Errorf("%q: %d %s", r, status, p)
		}
	}
	c.fails(413, "RequestTooLarge", "PATCH", path, x, "Content-Range", "bytes 99999999999999999-99999999999999999/*")
	c.fails(400, "InvalidArgument", "PATCH", path, x)
	c.fails(400, "InvalidArgument", "PATCH", path+"?append=1&size=5", x)
	c.fails(400, "InvalidArgument", "PATCH", path+"?what=1", x)
	c.fails(400, "InvalidArgument", "PATCH", path+"?page-size=4097&size=9", nil)
	c.fails(400, "InvalidArgument", "PATCH", path, []byte{1, 9, 9}, "Content-Type", PagesType)
	c.fails(400, "BadRequest", "PATCH", path, []byte("--x"), "Content-Type", "multipart/byteranges; boundary=x")
	c.fails(400, "InvalidArgument", "GET", path, nil, "Range", "bytes=5-1")
	c.fails(416, "InvalidRange", "GET", path, nil, "Range", "bytes=5-9")
	c.fails(400, "InvalidArgument", "GET", path+"?changed", nil)
	c.fails(400, "InvalidArgument", "GET", path+"?at=9223372036854775807", nil)
	c.fails(400, "InvalidArgument", "POST", "/v1/buckets/disk/pages:read", []byte{2})
	c.fails(405, "MethodNotAllowed", "DELETE", path, nil)
	c.fails(405, "MethodNotAllowed", "GET", "/v1/buckets/disk/pages:read", nil)
	c.fails(400, "BadRequest", "POST", path+"?clone", []byte("{"))
	c.fails(416, "InvalidRange", "POST", path+"?clone", []byte(`{"key":"k","offset":2}`))
}
