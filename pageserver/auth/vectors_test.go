package auth

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// The examples that AWS publishes for Signature Version 4 in S3.
var (
	exampleKey  = Key{ID: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", Root: true}
	exampleTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
)

func exampleVerifier(now time.Time) *Verifier {
	return NewVerifier(NewStatic(exampleKey), func() time.Time { return now })
}

// parse reads the header section of a request as the server does. Lines of text
// end in LF.
func parse(t testing.TB, text string) (*fasthttp.RequestHeader, *Target) {
	t.Helper()
	var h fasthttp.RequestHeader
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "\r\n") + "\r\n\r\n"
	if err := h.Read(bufio.NewReaderSize(strings.NewReader(text), 32<<10)); err != nil {
		t.Fatal(err)
	}
	target, err := ParseTarget(h.RequestURI())
	if err != nil {
		t.Fatal(err)
	}
	return &h, &target
}

const exampleAuth = "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"

var exampleRequests = map[string]string{
	"get": `
GET /test.txt HTTP/1.1
Host: examplebucket.s3.amazonaws.com
Range: bytes=0-9
x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
x-amz-date: 20130524T000000Z
` + exampleAuth + `SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41`,
	"put": `
PUT /test$file.text HTTP/1.1
Host: examplebucket.s3.amazonaws.com
Date: Fri, 24 May 2013 00:00:00 GMT
x-amz-date: 20130524T000000Z
x-amz-storage-class: REDUCED_REDUNDANCY
x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072
` + exampleAuth + ` SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd`,
	"lifecycle": `
GET /?lifecycle HTTP/1.1
Host: examplebucket.s3.amazonaws.com
x-amz-date: 20130524T000000Z
x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
` + exampleAuth + ` SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543`,
	"list": `
GET /?max-keys=2&prefix=J HTTP/1.1
Host: examplebucket.s3.amazonaws.com
x-amz-date: 20130524T000000Z
x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
` + exampleAuth + ` SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7`,
	"presigned": `
GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1
Host: examplebucket.s3.amazonaws.com`,
	"chunked": `
PUT /examplebucket/chunkObject.txt HTTP/1.1
Host: s3.amazonaws.com
x-amz-date: 20130524T000000Z
x-amz-storage-class: REDUCED_REDUNDANCY
x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD
Content-Encoding: aws-chunked
x-amz-decoded-content-length: 66560
Content-Length: 66824
` + exampleAuth + ` SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class, Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9`,
	"trailer": `
PUT /examplebucket/chunkObject.txt HTTP/1.1
Host: s3.amazonaws.com
x-amz-date: 20130524T000000Z
x-amz-storage-class: REDUCED_REDUNDANCY
x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER
Content-Encoding: aws-chunked
x-amz-decoded-content-length: 66560
x-amz-trailer: x-amz-checksum-crc32c
Content-Length: 66824
` + exampleAuth + ` SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer, Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e`,
}

func verifyExample(t testing.TB, name string) *Proof {
	t.Helper()
	h, target := parse(t, exampleRequests[name])
	p, err := exampleVerifier(exampleTime).Verify(h, target)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			t.Logf("%v", e.Fields)
		}
		t.Fatal(err)
	}
	return p
}

func TestPublishedSignatures(t *testing.T) {
	for name := range exampleRequests {
		t.Run(name, func(t *testing.T) {
			if p := verifyExample(t, name); p.Key != exampleKey {
				t.Fatalf("key %v", p.Key)
			}
		})
	}
}

func TestPublishedSignaturesBroken(t *testing.T) {
	for name, text := range exampleRequests {
		t.Run(name, func(t *testing.T) {
			for _, change := range [][2]string{{"/test", "/tesT"}, {"chunkO", "chunko"}, {"lifecycle", "lifecyclf"}, {"prefix=J", "prefix=K"}} {
				if !strings.Contains(text, change[0]) {
					continue
				}
				h, target := parse(t, strings.Replace(text, change[0], change[1], 1))
				_, err := exampleVerifier(exampleTime).Verify(h, target)
				wantCode(t, err, "SignatureDoesNotMatch")
			}
		})
	}
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

func chunkedExample() string {
	return "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + strings.Repeat("a", 65536) +
		"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + strings.Repeat("a", 1024) +
		"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
}

func trailerExample() string {
	return "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n" + strings.Repeat("a", 65536) +
		"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + strings.Repeat("a", 1024) +
		"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
		"x-amz-checksum-crc32c:sOO8/Q==\n\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
}

func TestPublishedChunks(t *testing.T) {
	p := verifyExample(t, "chunked")
	raw := chunkedExample()
	if len(raw) != 66824 {
		t.Fatalf("example has %d bytes, AWS says 66824", len(raw))
	}
	b, err := p.NewBody(strings.NewReader(raw), BodyOptions{Length: int64(len(raw)), Decoded: 66560})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err != nil || string(got) != strings.Repeat("a", 66560) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestPublishedTrailer(t *testing.T) {
	p := verifyExample(t, "trailer")
	b, err := p.NewBody(strings.NewReader(trailerExample()), BodyOptions{
		Length: int64(len(trailerExample())), Decoded: 66560, Trailers: []string{"x-amz-checksum-crc32c"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || len(got) != 66560 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if got := b.Trailer("x-amz-checksum-crc32c"); got != "sOO8/Q==" {
		t.Fatalf("trailer %q", got)
	}
}
