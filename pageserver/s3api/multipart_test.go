package s3api

import (
	"fmt"
	"strings"
	"testing"

	"stemma/pageserver/object"
)

func (s *testServer) upload(path string, headers ...string) string {
	s.t.Helper()
	a := s.want(200, call{method: "POST", path: path + "?uploads", headers: headers})
	id := element(a.body, "UploadId")
	if id == "" || lsnOf(a) == "" {
		s.t.Fatalf("%s", a.body)
	}
	return id
}

func completeDoc(parts ...string) string {
	doc := "<CompleteMultipartUpload>"
	for i := 0; i < len(parts); i += 2 {
		doc += "<Part><PartNumber>" + parts[i] + "</PartNumber><ETag>" + parts[i+1] + "</ETag></Part>"
	}
	return doc + "</CompleteMultipartUpload>"
}

func TestMultipart(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	whole := string(pattern(2*object.MinPartBytes + 1000))
	id := s.upload("/b-1/big", "Content-Type", "text/x", "x-amz-meta-a", "1")
	tags := map[int]string{}
	for n, body := range map[int]string{1: whole[:object.MinPartBytes], 5: whole[object.MinPartBytes : 2*object.MinPartBytes], 9: whole[2*object.MinPartBytes:]} {
		a := s.want(200, call{method: "PUT", path: fmt.Sprintf("/b-1/big?partNumber=%d&uploadId=%s", n, id), body: body})
		tags[n] = a.header.Get("ETag")
	}
	s.refused(404, "NoSuchKey", call{method: "GET", path: "/b-1/big"})

	doc := s.get("/b-1/big?uploadId=" + id + "&max-parts=2")
	if strings.Join(elements(doc, "PartNumber"), " ") != "1 5" || element(doc, "IsTruncated") != "true" || element(doc, "NextPartNumberMarker") != "5" || element(doc, "MaxParts") != "2" {
		t.Fatalf("%s", doc)
	}
	doc = s.get("/b-1/big?uploadId=" + id + "&part-number-marker=5")
	if strings.Join(elements(doc, "PartNumber"), " ") != "9" || element(doc, "IsTruncated") != "false" || element(doc, "Size") != "1000" {
		t.Fatalf("%s", doc)
	}
	doc = s.get("/b-1?uploads")
	if element(doc, "UploadId") != id || element(doc, "Key") != "big" || element(doc, "Initiated") == "" {
		t.Fatalf("%s", doc)
	}

	path := "/b-1/big?uploadId=" + id
	for _, c := range []struct{ doc, code string }{
		{completeDoc("1", tags[1], "2", tags[5]), "InvalidPart"},
		{completeDoc("1", `"00000000000000000000000000000000"`), "InvalidPart"},
		{completeDoc("5", tags[5], "1", tags[1]), "InvalidPartOrder"},
		{completeDoc("1", tags[1], "9", tags[9], "10", tags[9]), "InvalidPart"},
		{completeDoc("0", tags[1]), "InvalidArgument"},
		{completeDoc(), "MalformedXML"},
		{"", "MalformedXML"},
		{"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>", "MalformedXML"},
		{"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>", "MalformedXML"},
		{"<Complete/>", "MalformedXML"},
	} {
		a := s.do(call{method: "POST", path: path, body: c.doc})
		if a.status != 400 || a.code() != c.code {
			t.Errorf("%s: %d %s", c.doc, a.status, a.body)
		}
	}
	s.refused(400, "InvalidRequest", call{method: "POST", path: path, body: completeDoc("1", tags[1]), headers: []string{"x-amz-mp-object-size", "7"}})
	s.refused(400, "InvalidArgument", call{method: "POST", path: path, body: completeDoc("1", tags[1]), headers: []string{"x-amz-mp-object-size", "-7"}})
	s.refused(404, "NoSuchKey", call{method: "GET", path: "/b-1/big"})

	a := s.want(200, call{method: "POST", path: path, body: completeDoc("1", tags[1], "5", tags[5], "9", tags[9])})
	if !strings.HasSuffix(element(a.body, "ETag"), `-3&quot;`) || element(a.body, "Location") == "" || lsnOf(a) == "" {
		t.Fatalf("%s", a.body)
	}
	whole3 := strings.ReplaceAll(element(a.body, "ETag"), "&quot;", `"`)
	g := s.want(200, call{method: "GET", path: "/b-1/big"})
	if g.body != whole || g.header.Get("Content-Type") != "text/x" || g.header.Get("x-amz-meta-a") != "1" {
		t.Fatalf("%d bytes, %v", len(g.body), g.header)
	}
	g = s.want(206, call{method: "GET", path: "/b-1/big?partNumber=3", headers: []string{"x-amz-checksum-mode", "ENABLED"}})
	if len(g.body) != 1000 || g.header.Get("x-amz-mp-parts-count") != "3" || g.header.Get("ETag") != whole3 {
		t.Fatalf("%v", g.header)
	}
	s.want(206, call{method: "GET", path: "/b-1/big?partNumber=2", headers: []string{"If-Match", whole3}})
	s.refused(412, "PreconditionFailed", call{method: "GET", path: "/b-1/big?partNumber=2", headers: []string{"If-Match", tags[5]}})
	s.refused(404, "NoSuchUpload", call{method: "GET", path: path})

	g = s.want(200, call{method: "GET", path: "/b-1/big?attributes", headers: []string{"x-amz-object-attributes", "ETag,ObjectSize,ObjectParts,StorageClass,Checksum", "x-amz-max-parts", "2"}})
	if element(g.body, "ObjectSize") != fmt.Sprint(len(whole)) || element(g.body, "PartsCount") != "3" || len(elements(g.body, "Part")) != 2 || element(g.body, "IsTruncated") != "true" {
		t.Fatalf("%s", g.body)
	}
	s.refused(400, "InvalidArgument", call{method: "GET", path: "/b-1/big?attributes", headers: []string{"x-amz-object-attributes", "Mood"}})
	s.refused(400, "InvalidArgument", call{method: "GET", path: "/b-1/big?attributes"})
}

func TestMultipartCopyAndAbort(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	body := string(pattern(object.MinPartBytes + 5000))
	lsn := lsnOf(s.put("/b-1/src", body))
	s.want(204, call{method: "DELETE", path: "/b-1/src"})
	id := s.upload("/b-1/dst")
	part := func(n int, more ...string) call {
		return call{method: "PUT", path: fmt.Sprintf("/b-1/dst?partNumber=%d&uploadId=%s", n, id), headers: append([]string{"x-amz-copy-source", "/b-1/src", "x-stemma-copy-source-at", lsn}, more...)}
	}
	one := s.want(200, part(1, "x-amz-copy-source-range", fmt.Sprintf("bytes=0-%d", object.MinPartBytes-1)))
	two := s.want(200, part(2, "x-amz-copy-source-range", fmt.Sprintf("bytes=%d-%d", object.MinPartBytes, len(body)-1)))
	for _, bad := range []string{"bytes=0-", "bytes=-5", "0-5", "bytes=5-3", "bytes=0-1,3-4"} {
		s.refused(400, "InvalidArgument", part(3, "x-amz-copy-source-range", bad))
	}
	s.refused(416, "InvalidRange", part(3, "x-amz-copy-source-range", "bytes=0-99999999"))
	s.refused(412, "PreconditionFailed", part(3, "x-amz-copy-source-if-match", `"x"`))
	s.want(200, call{method: "POST", path: "/b-1/dst?uploadId=" + id, body: completeDoc("1", element(one.body, "ETag"), "2", element(two.body, "ETag"))})
	if got := s.get("/b-1/dst"); got != body {
		t.Fatalf("%d bytes", len(got))
	}

	id = s.upload("/b-1/gone")
	s.want(200, call{method: "PUT", path: "/b-1/gone?partNumber=1&uploadId=" + id, body: "x"})
	s.want(204, call{method: "DELETE", path: "/b-1/gone?uploadId=" + id})
	s.refused(404, "NoSuchUpload", call{method: "DELETE", path: "/b-1/gone?uploadId=" + id})
	s.refused(404, "NoSuchUpload", call{method: "PUT", path: "/b-1/gone?partNumber=2&uploadId=" + id, body: "x"})
	s.refused(404, "NoSuchUpload", call{method: "POST", path: "/b-1/gone?uploadId=nonsense", body: completeDoc("1", "x")})
	s.refused(404, "NoSuchKey", call{method: "GET", path: "/b-1/gone"})
	for _, n := range []string{"0", "10001", "x", "-1", ""} {
		s.refused(400, "InvalidArgument", call{method: "PUT", path: "/b-1/gone?uploadId=" + id + "&partNumber=" + n, body: "x"})
	}
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/b-1/gone?partNumber=1", body: "x"})
}

func TestListUploads(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	for _, k := range []string{"a/1", "a/2", "b", "c"} {
		s.upload("/b-1/" + k)
	}
	s.upload("/b-1/b") // a second one of the same key
	if got := strings.Join(elements(s.get("/b-1?uploads&delimiter=/"), "Key"), " "); got != "b b c" {
		t.Fatalf("%s", got)
	}
	if got := strings.Join(elements(s.get("/b-1?uploads&prefix=a/"), "Key"), " "); got != "a/1 a/2" {
		t.Fatalf("%s", got)
	}
	var all []string
	key, id := "", ""
	for range 10 {
		path := "/b-1?uploads&max-uploads=2"
		if key != "" {
			path += "&key-marker=" + escape(key) + "&upload-id-marker=" + id
		}
		doc := s.get(path)
		all = append(all, elements(doc, "Key")...)
		if element(doc, "IsTruncated") == "false" {
			break
		}
		key, id = element(doc, "NextKeyMarker"), element(doc, "NextUploadIdMarker")
	}
	if strings.Join(all, " ") != "a/1 a/2 b b c" {
		t.Fatalf("%q", all)
	}
	if got := elements(s.get("/b-1?uploads&key-marker=b"), "Key"); strings.Join(got, " ") != "c" {
		t.Fatalf("%q", got)
	}
	s.refused(400, "InvalidArgument", call{method: "GET", path: "/b-1?uploads&key-marker=b&upload-id-marker=nonsense"})
}

// Uploads with checksums, of parts and of the whole.
func TestMultipartChecksums(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	id := s.upload("/b-1/k", "x-amz-checksum-algorithm", "CRC32C", "x-amz-checksum-type", "COMPOSITE")
	a := s.want(200, call{method: "PUT", path: "/b-1/k?partNumber=1&uploadId=" + id, body: "hello", headers: []string{"x-amz-checksum-crc32c", crc32c("hello")}})
	if a.header.Get("x-amz-checksum-crc32c") != crc32c("hello") {
		t.Fatalf("%v", a.header)
	}
	tag := a.header.Get("ETag")
	s.refused(400, "BadDigest", call{method: "PUT", path: "/b-1/k?partNumber=1&uploadId=" + id, body: "hellO", headers: []string{"x-amz-checksum-crc32c", crc32c("hello")}})
	s.refused(400, "InvalidRequest", call{method: "PUT", path: "/b-1/k?partNumber=1&uploadId=" + id, body: "hello", headers: []string{"x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="}})
	doc := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + tag + "</ETag><ChecksumCRC32C>%s</ChecksumCRC32C></Part></CompleteMultipartUpload>"
	s.refused(400, "InvalidPart", call{method: "POST", path: "/b-1/k?uploadId=" + id, body: fmt.Sprintf(doc, crc32c("other"))})
	s.refused(400, "InvalidPart", call{method: "POST", path: "/b-1/k?uploadId=" + id, body: fmt.Sprintf(doc, "AAAA")})
	s.refused(400, "BadDigest", call{method: "POST", path: "/b-1/k?uploadId=" + id, body: completeDoc("1", tag), headers: []string{"x-amz-checksum-crc32c", "bad"}})
	s.refused(400, "InvalidRequest", call{method: "POST", path: "/b-1/k?uploadId=" + id, body: completeDoc("1", tag), headers: []string{"x-amz-checksum-type", "FULL_OBJECT"}})
	a = s.want(200, call{method: "POST", path: "/b-1/k?uploadId=" + id, body: completeDoc("1", tag)}) // the checksums of parts may be left out
	if !strings.HasSuffix(element(a.body, "ChecksumCRC32C"), "-1") || element(a.body, "ChecksumType") != "COMPOSITE" {
		t.Fatalf("%s", a.body)
	}
	g := s.want(206, call{method: "GET", path: "/b-1/k?partNumber=1", headers: []string{"x-amz-checksum-mode", "ENABLED"}})
	if g.header.Get("x-amz-checksum-crc32c") != crc32c("hello") {
		t.Fatalf("%v", g.header)
	}
	s.refused(400, "InvalidRequest", call{method: "POST", path: "/b-1/k?uploads", headers: []string{"x-amz-checksum-algorithm", "MD4"}})
	s.refused(400, "InvalidRequest", call{method: "POST", path: "/b-1/k?uploads", headers: []string{"x-amz-checksum-algorithm", "SHA1", "x-amz-checksum-type", "FULL_OBJECT"}})
}
