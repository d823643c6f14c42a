package s3api

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"stemma/pageserver/object"
)

// Every bad request gets the code that AWS gives, and changes nothing: no
// commit is made.
func TestBadInput(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	s.put("/b-1/k", "kept")
	id := s.upload("/b-1/up")
	drop := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Del(name) }
	}
	replace := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	big := string(pattern(100_000))
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, c := range []struct {
		name   string
		status int
		code   string
		call
	}{
		{"anonymous", 403, "AccessDenied", call{method: "PUT", path: "/b-1/k", body: "x", unsigned: true}},
		{"anonymous read", 403, "AccessDenied", call{method: "GET", path: "/b-1/k", unsigned: true}},
		{"changed header", 403, "SignatureDoesNotMatch", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-meta-a", "1"}, change: replace("X-Amz-Meta-A", "2")}},
		{"unsigned header", 403, "AccessDenied", call{method: "PUT", path: "/b-1/k", body: "x", change: replace("X-Amz-Meta-A", "2")}},
		{"skew past", 403, "RequestTimeTooSkewed", call{method: "PUT", path: "/b-1/k", body: "x", at: time.Now().Add(-16 * time.Minute)}},
		{"skew future", 403, "RequestTimeTooSkewed", call{method: "PUT", path: "/b-1/k", body: "x", at: time.Now().Add(16 * time.Minute)}},
		{"no date", 403, "AccessDenied", call{method: "PUT", path: "/b-1/k", body: "x", change: drop("X-Amz-Date")}},
		{"no hash", 400, "InvalidRequest", call{method: "PUT", path: "/b-1/k", body: "x", change: drop("X-Amz-Content-Sha256")}},
		{"malformed authorization", 400, "AuthorizationHeaderMalformed", call{method: "PUT", path: "/b-1/k", body: "x", change: replace("Authorization", "AWS4-HMAC-SHA256 Credential=x")}},
		{"version 2", 403, "InvalidAccessKeyId", call{method: "PUT", path: "/b-1/k", body: "x", change: replace("Authorization", "AWS a:b")}},
		{"small body, wrong hash", 400, "XAmzContentSHA256Mismatch", call{method: "PUT", path: "/b-1/k", body: "x", hash: empty}},
		{"large body, wrong hash", 400, "XAmzContentSHA256Mismatch", call{method: "PUT", path: "/b-1/k", body: big, hash: empty}},
		{"part, wrong hash", 400, "XAmzContentSHA256Mismatch", call{method: "PUT", path: "/b-1/up?partNumber=1&uploadId=" + id, body: "x", hash: empty}},
		{"bucket, wrong hash", 400, "XAmzContentSHA256Mismatch", call{method: "PUT", path: "/b-2", body: "x", hash: empty}},
		{"delete, wrong hash", 400, "XAmzContentSHA256Mismatch", call{method: "POST", path: "/b-1?delete", body: "<Delete/>", headers: md5Header("<Delete/>"), hash: empty}},
		{"wrong md5", 400, "BadDigest", call{method: "PUT", path: "/b-1/k", body: "x", headers: md5Header("y")}},
		{"wrong md5 of a large body", 400, "BadDigest", call{method: "PUT", path: "/b-1/k", body: big, headers: md5Header("y")}},
		{"malformed md5", 400, "InvalidDigest", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"Content-MD5", "Zm9v"}}},
		{"md5 no base64", 400, "InvalidDigest", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"Content-MD5", "?"}}},
		{"wrong checksum", 400, "BadDigest", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-checksum-crc32", "AAAAAA=="}}},
		{"wrong checksum of a large body", 400, "BadDigest", call{method: "PUT", path: "/b-1/k", body: big, headers: []string{"x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}}},
		{"malformed checksum", 400, "BadDigest", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-checksum-crc32", "AA=="}}},
		{"unknown checksum", 400, "InvalidRequest", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-checksum-md4", "AAAAAA=="}}},
		{"two checksums", 400, "InvalidRequest", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-checksum-crc32", "AAAAAA==", "x-amz-checksum-crc32c", "AAAAAA=="}}},
		{"algorithm without checksum", 400, "InvalidRequest", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-sdk-checksum-algorithm", "CRC32"}}},
		{"algorithm and another checksum", 400, "InvalidRequest", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-sdk-checksum-algorithm", "SHA1", "x-amz-checksum-crc32", "AAAAAA=="}}},
		{"trailer without chunks", 400, "MalformedTrailerError", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-trailer", "x-amz-checksum-crc32"}}},
		{"unknown trailer", 400, "InvalidRequest", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-trailer", "x-amz-mood"}}},
		{"chunks without decoded length", 411, "MissingContentLength", call{method: "PUT", path: "/b-1/k", body: "1\r\nx\r\n0\r\n\r\n", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}},
		{"no chunks", 400, "InvalidRequest", call{method: "PUT", path: "/b-1/k", body: "nonsense\r\n", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: []string{"x-amz-decoded-content-length", "1"}}},
		{"chunks too short", 400, "IncompleteBody", call{method: "PUT", path: "/b-1/k", body: "1\r\nx\r\n0\r\n\r\n", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: []string{"x-amz-decoded-content-length", "2"}}},
		{"chunks too long", 400, "IncompleteBody", call{method: "PUT", path: "/b-1/k", body: "2\r\nxy\r\n0\r\n\r\n", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: []string{"x-amz-decoded-content-length", "1"}}},
		{"wrong trailer checksum", 400, "BadDigest", call{method: "PUT", path: "/b-1/k", body: "1\r\nx\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: []string{"x-amz-decoded-content-length", "1", "x-amz-trailer", "x-amz-checksum-crc32"}}},
		{"malformed trailer checksum", 400, "InvalidRequest", call{method: "PUT", path: "/b-1/k", body: "1\r\nx\r\n0\r\nx-amz-checksum-crc32:A\r\n\r\n", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: []string{"x-amz-decoded-content-length", "1", "x-amz-trailer", "x-amz-checksum-crc32"}}},
		{"trailer missing", 400, "MalformedTrailerError", call{method: "PUT", path: "/b-1/k", body: "1\r\nx\r\n0\r\n\r\n", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: []string{"x-amz-decoded-content-length", "1", "x-amz-trailer", "x-amz-checksum-crc32"}}},
		{"unsigned chunk", 400, "InvalidRequest", call{method: "PUT", path: "/b-1/k", body: "1\r\nx\r\n0\r\n\r\n", hash: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", headers: []string{"x-amz-decoded-content-length", "1"}}},
		{"wrong chunk signature", 403, "SignatureDoesNotMatch", call{method: "PUT", path: "/b-1/k", body: "1;chunk-signature=" + empty + "\r\nx\r\n0;chunk-signature=" + empty + "\r\n\r\n", hash: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", headers: []string{"x-amz-decoded-content-length", "1"}}},
		{"bad decoded length", 400, "InvalidArgument", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-decoded-content-length", "x"}}},
		{"too large", 400, "EntityTooLarge", call{method: "PUT", path: "/b-1/k", body: "x", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: []string{"x-amz-decoded-content-length", "5368709121"}}},
		{"metadata too large", 400, "MetadataTooLarge", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-meta-a", strings.Repeat("x", object.MaxUserMetaBytes)}}},
		{"header section too large", 400, "RequestHeaderSectionTooLarge", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-meta-a", strings.Repeat("x", 20_000)}}},
		{"path too large", 400, "RequestHeaderSectionTooLarge", call{method: "GET", path: "/b-1/" + strings.Repeat("x", 20_000)}},
		{"key too long", 400, "KeyTooLongError", call{method: "PUT", path: "/b-1/" + strings.Repeat("x", 1025), body: "x"}},
		{"key no UTF-8", 400, "InvalidURI", call{method: "PUT", path: "/b-1/a%ffb", body: "x"}},
		{"storage class", 400, "InvalidStorageClass", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-storage-class", "WARM"}}},
		{"canned acl", 400, "InvalidArgument", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-acl", "public-wread"}}},
		{"grant", 400, "InvalidArgument", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-grant-read", "id=1"}}},
		{"other owner", 403, "AccessDenied", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-expected-bucket-owner", "123456789012"}}},
		{"no bucket", 404, "NoSuchBucket", call{method: "PUT", path: "/absent/k", body: "x"}},
		{"no bucket, large body", 404, "NoSuchBucket", call{method: "PUT", path: "/absent/k", body: big}},
		{"no upload", 404, "NoSuchUpload", call{method: "PUT", path: "/b-1/k?partNumber=1&uploadId=x", body: big}},
		{"no bucket name", 400, "InvalidBucketName", call{method: "PUT", path: "//k", body: "x"}},
		{"short bucket name", 400, "InvalidBucketName", call{method: "PUT", path: "/ab"}},
		{"upper bucket name", 400, "InvalidBucketName", call{method: "PUT", path: "/Bucket"}},
		{"bucket name like an address", 400, "InvalidBucketName", call{method: "PUT", path: "/10.0.0.1"}},
		{"bucket name with escapes", 400, "InvalidBucketName", call{method: "PUT", path: "/a%00b"}},
		{"bucket name long", 400, "InvalidBucketName", call{method: "PUT", path: "/" + strings.Repeat("a", 64)}},
		{"bucket exists", 409, "BucketAlreadyOwnedByYou", call{method: "PUT", path: "/b-1", headers: []string{"X-Tigris-Fork-Source-Bucket", "b-1"}}},
		{"bucket document", 400, "MalformedXML", call{method: "PUT", path: "/b-2", body: "<CreateBucketConfiguration>"}},
		{"bucket document's root", 400, "MalformedXML", call{method: "PUT", path: "/b-2", body: "<Delete></Delete>"}},
		{"bucket document too long", 400, "MaxMessageLengthExceeded", call{method: "PUT", path: "/b-2", body: "<CreateBucketConfiguration>" + strings.Repeat(" ", maxXMLBytes) + "</CreateBucketConfiguration>"}},
		{"bucket not empty", 409, "BucketNotEmpty", call{method: "DELETE", path: "/b-1"}},
		{"complete without parts", 400, "MalformedXML", call{method: "POST", path: "/b-1/up?uploadId=" + id, body: completeDoc()}},
		{"complete with an absent part", 400, "InvalidPart", call{method: "POST", path: "/b-1/up?uploadId=" + id, body: completeDoc("1", "x")}},
		{"version", 404, "NoSuchVersion", call{method: "GET", path: "/b-1/k?versionId=5"}},
		{"no version", 400, "InvalidArgument", call{method: "DELETE", path: "/b-1/k?versionId=x"}},
		{"version of S3", 404, "NoSuchVersion", call{method: "GET", path: "/b-1/k?versionId=3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrH"}},
		{"empty version", 400, "InvalidArgument", call{method: "DELETE", path: "/b-1/k?versionId="}},
		{"read a version", 404, "NoSuchVersion", call{method: "GET", path: "/b-1/k?versionId=5"}},
		{"read a malformed version", 400, "InvalidArgument", call{method: "GET", path: "/b-1/k?versionId=x"}},
		{"append", 400, "InvalidWriteOffset", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-write-offset-bytes", "5"}}},
		{"encryption", 400, "InvalidArgument", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-server-side-encryption", "aes:kms"}}},
		{"customer key", 400, "InvalidArgument", call{method: "GET", path: "/b-1/k", headers: []string{"x-amz-server-side-encryption-customer-algorithm", "AES256"}}},
		{"half an object lock", 400, "InvalidArgument", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-object-lock-mode", "GOVERNANCE"}}},
		{"object lock of a part", 501, "NotImplemented", call{method: "PUT", path: "/b-1/k?partNumber=1&uploadId=1", body: "x", headers: []string{"x-amz-object-lock-legal-hold", "ON"}}},
		{"redirect to nowhere", 400, "InvalidRedirectLocation", call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-website-redirect-location", "elsewhere"}}},
		{"delete of another size", 412, "PreconditionFailed", call{method: "DELETE", path: "/b-1/k", headers: []string{"x-amz-if-match-size", "5"}}},
		{"delete of no size", 400, "InvalidArgument", call{method: "DELETE", path: "/b-1/k", headers: []string{"x-amz-if-match-size", "-1"}}},
		{"delete of another time", 412, "PreconditionFailed", call{method: "DELETE", path: "/b-1/k", headers: []string{"x-amz-if-match-last-modified-time", "Thu, 01 Jan 2015 00:00:00 GMT"}}},
		{"delete of no time", 400, "InvalidArgument", call{method: "DELETE", path: "/b-1/k", headers: []string{"x-amz-if-match-last-modified-time", "noon"}}},
		{"abort with a condition", 501, "NotImplemented", call{method: "DELETE", path: "/b-1/k?uploadId=x", headers: []string{"x-amz-if-match-initiated-time", "Wed, 21 Oct 2026 07:28:00 GMT"}}},
		{"bucket in a namespace", 501, "NotImplemented", call{method: "PUT", path: "/b-2", headers: []string{"x-amz-bucket-namespace", "account-regional"}}},
		{"put with a condition of deletes", 501, "NotImplemented", call{method: "PUT", path: "/b-1/k", headers: []string{"x-amz-if-match-size", "4"}}},
		{"form upload", 412, "PreconditionFailed", call{method: "POST", path: "/b-1", body: "x"}},
		{"post to an object", 501, "NotImplemented", call{method: "POST", path: "/b-1/k", body: "x"}},
		{"post to the service", 501, "NotImplemented", call{method: "POST", path: "/?Action=CreateUser", body: "x"}},
		{"patch", 400, "InvalidArgument", call{method: "PATCH", path: "/b-1", body: "{}"}},
		{"patch of an object", 501, "NotImplemented", call{method: "PATCH", path: "/b-1/k", body: "{}"}},
		{"method", 405, "MethodNotAllowed", call{method: "BREW", path: "/b-1/k"}},
		{"options", 400, "BadRequest", call{method: "OPTIONS", path: "/b-1/k"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			before := s.store.Visible()
			a := s.refused(c.status, c.code, c.call)
			if after := s.store.Visible(); after != before {
				t.Fatalf("a commit was made: %s", a.body)
			}
			if a.code() != "" && (element(a.body, "RequestId") != a.header.Get("x-amz-request-id") || element(a.body, "Message") == "" || a.header.Get("Content-Type") != "application/xml") {
				t.Fatalf("%v %s", a.header, a.body)
			}
		})
	}
	s.t = t
	if got := s.get("/b-1/k"); got != "kept" {
		t.Fatalf("%q", got)
	}
}

// Subresources that are not served are refused for every method, and the plain
// operation does not happen.
func TestSubresources(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	s.put("/b-1/k", "kept")
	for name := range subresources {
		for _, c := range []struct{ method, path string }{
			{"PUT", "/b-1"}, {"DELETE", "/b-1"}, {"GET", "/b-1"}, {"PUT", "/b-1/k"}, {"DELETE", "/b-1/k"}, {"GET", "/b-1/k"}, {"POST", "/b-1"}, {"POST", "/b-1/k"},
		} {
			a := s.do(call{method: c.method, path: c.path + "?" + name, body: ""})
			if a.status < 400 && !hasRoute(c.method, c.path, name) {
				t.Errorf("%s %s?%s: %d %s", c.method, c.path, name, a.status, a.body)
			}
		}
	}
	for _, c := range []call{
		{method: "PUT", path: "/b-1/k?newSubresource", body: "x"}, {method: "DELETE", path: "/b-1/k?newSubresource=1"}, {method: "GET", path: "/b-1?newSubresource"},
	} {
		s.refused(501, "NotImplemented", c)
	}
	if got := s.get("/b-1/k?cachebuster=1&x-id=GetObject"); got != "kept" {
		t.Fatalf("%q", got)
	}
}

// hasRoute reports whether a subresource of a bucket or an object is served.
func hasRoute(method, path, name string) bool {
	at := bucketLevel
	if strings.Count(path, "/") == 2 {
		at = objectLevel
	}
	return slices.ContainsFunc(slices.Concat(tigrisRoutes, accessRoutes, configRoutes, versionRoutes, routes), func(r route) bool { return r.method == method && r.level == at && r.param == name })
}

// Every code that the tables lead to is one that can be answered.
func TestCodesAreKnown(t *testing.T) {
	for _, e := range sentinels {
		if codes[e.code].status == 0 {
			t.Errorf("%v: no status for %s", e.err, e.code)
		}
	}
}
