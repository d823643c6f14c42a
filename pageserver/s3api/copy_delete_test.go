package s3api

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"stemma/pageserver/object"
)

func TestCopy(t *testing.T) {
	s := newServer(t)
	s.put("/src", "")
	s.put("/dst", "")
	body := string(pattern(100_000))
	s.want(200, call{method: "PUT", path: "/src/a%20b+c%25/%C3%BC", body: body, headers: []string{"Content-Type", "text/x", "x-amz-meta-a", "1"}})
	src := func(more ...string) []string {
		return append([]string{"x-amz-copy-source", "src/a%20b+c%25/%C3%BC"}, more...)
	}

	a := s.want(200, call{method: "PUT", path: "/dst/copy", headers: src()})
	if element(a.body, "ETag") != `&quot;`+fmt.Sprintf("%x", md5.Sum([]byte(body)))+`&quot;` || element(a.body, "LastModified") == "" || lsnOf(a) == "" {
		t.Fatalf("%s", a.body)
	}
	g := s.want(200, call{method: "GET", path: "/dst/copy"})
	if g.body != body || g.header.Get("Content-Type") != "text/x" || g.header.Get("x-amz-meta-a") != "1" {
		t.Fatalf("%v", g.header)
	}
	s.want(200, call{method: "PUT", path: "/dst/copy", headers: src("x-amz-metadata-directive", "REPLACE", "Content-Type", "text/y", "x-amz-meta-b", "2")})
	g = s.want(200, call{method: "HEAD", path: "/dst/copy"})
	if g.header.Get("Content-Type") != "text/y" || g.header.Get("x-amz-meta-a") != "" || g.header.Get("x-amz-meta-b") != "2" {
		t.Fatalf("%v", g.header)
	}
	s.want(200, call{method: "PUT", path: "/dst/copy", headers: src("x-amz-checksum-algorithm", "SHA256")})
	if g = s.want(200, call{method: "HEAD", path: "/dst/copy", headers: []string{"x-amz-checksum-mode", "enabled"}}); g.header.Get("x-amz-checksum-sha256") == "" {
		t.Fatalf("%v", g.header)
	}

	tag := fmt.Sprintf(`"%x"`, md5.Sum([]byte(body)))
	s.want(200, call{method: "PUT", path: "/dst/c2", headers: src("x-amz-copy-source-if-match", tag)})
	s.want(200, call{method: "PUT", path: "/dst/c3", headers: []string{"x-amz-copy-source", "/src/a%20b+c%25/%C3%BC?versionId=null"}})
	for _, c := range []struct {
		path    string
		headers []string
		status  int
		code    string
	}{
		{"/dst/no", src("x-amz-copy-source-if-match", `"x"`), 412, "PreconditionFailed"},
		{"/dst/no", src("x-amz-copy-source-if-none-match", tag), 412, "PreconditionFailed"},
		{"/dst/no", src("x-amz-copy-source-if-unmodified-since", "Mon, 02 Jan 2006 15:04:05 GMT"), 412, "PreconditionFailed"},
		{"/dst/copy", src("If-None-Match", "*"), 412, "PreconditionFailed"},
		{"/dst/no", src("x-amz-metadata-directive", "MAYBE"), 400, "InvalidArgument"},
		{"/dst/no", src("x-amz-storage-class", "COLD"), 400, "InvalidStorageClass"},
		{"/src/a%20b+c%25/%C3%BC", src(), 400, "InvalidRequest"},
		{"/dst/no", []string{"x-amz-copy-source", "src/absent"}, 404, "NoSuchKey"},
		{"/dst/no", []string{"x-amz-copy-source", "absent/k"}, 404, "NoSuchBucket"},
		{"/absent/no", src(), 404, "NoSuchBucket"},
		{"/dst/no", []string{"x-amz-copy-source", "src"}, 400, "InvalidArgument"},
		{"/dst/no", []string{"x-amz-copy-source", "/src/"}, 400, "InvalidArgument"},
		{"/dst/no", []string{"x-amz-copy-source", "/src/%zz"}, 400, "InvalidArgument"},
		{"/dst/no", []string{"x-amz-copy-source", "/src/%ff"}, 400, "InvalidArgument"},
		{"/dst/no", []string{"x-amz-copy-source", "/src/a%20b+c%25/%C3%BC?versionId=123"}, 404, "NoSuchVersion"},
		{"/dst/no", []string{"x-amz-copy-source", "/src/a%20b+c%25/%C3%BC?versionId=x"}, 400, "InvalidArgument"},
		{"/dst/no", []string{"x-amz-copy-source", "arn:aws:s3:us-east-1:1:accesspoint/a/object/k"}, 501, "NotImplemented"},
	} {
		s.refused(c.status, c.code, call{method: "PUT", path: c.path, headers: c.headers})
	}
	s.want(200, call{method: "PUT", path: "/src/a%20b+c%25/%C3%BC", headers: src("x-amz-metadata-directive", "REPLACE")})
	if g := s.want(200, call{method: "GET", path: "/src/a%20b+c%25/%C3%BC"}); g.body != body || g.header.Get("x-amz-meta-a") != "" {
		t.Fatalf("%v", g.header)
	}
	if got := strings.Join(elements(s.get("/dst"), "Key"), " "); got != "c2 c3 copy" {
		t.Fatalf("%s", got)
	}
}

func md5Header(body string) []string {
	sum := md5.Sum([]byte(body))
	return []string{"Content-MD5", base64.StdEncoding.EncodeToString(sum[:])}
}

func TestDeleteObjects(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	s.put("/b-1/a", "a")
	s.put("/b-1/b%26%3C", "b")
	s.put("/b-1/c", "c")
	s.put("/b-1/d", "d")
	doc := `<?xml version="1.0" encoding="UTF-8"?>
<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Object><Key>a</Key></Object><Object><Key>b&amp;&lt;</Key><VersionId>null</VersionId></Object><Object><Key>absent</Key></Object>
  <Object><Key>c</Key><VersionId>77</VersionId></Object><Object><Key>d</Key><ETag>"x"</ETag></Object>
  <Object><Key>d</Key><Size>7</Size></Object><Object><Key></Key></Object>
</Delete>`
	a := s.want(200, call{method: "POST", path: "/b-1?delete", body: doc, headers: md5Header(doc)})
	var got []string
	for _, d := range elements(a.body, "Deleted") {
		got = append(got, element(d, "Key"))
	}
	if strings.Join(got, " ") != "a b&amp;&lt; absent c" || lsnOf(a) == "" {
		t.Fatalf("%s", a.body)
	}
	got = nil
	for _, e := range elements(a.body, "Error") {
		got = append(got, element(e, "Key")+"="+element(e, "Code"))
	}
	if strings.Join(got, " ") != "d=PreconditionFailed d=PreconditionFailed =KeyTooLongError" {
		t.Fatalf("%s", a.body)
	}
	if left := strings.Join(elements(s.get("/b-1"), "Key"), " "); left != "c d" {
		t.Fatalf("left %s", left)
	}

	quiet := `<Delete><Quiet>true</Quiet><Object><Key>c</Key></Object></Delete>`
	a = s.want(200, call{method: "POST", path: "/b-1?delete", body: quiet, headers: []string{"x-amz-checksum-crc32c", crc32c(quiet)}})
	if strings.Contains(a.body, "Deleted") {
		t.Fatalf("%s", a.body)
	}

	long := "<Delete>" + strings.Repeat("<Object><Key>"+strings.Repeat("&amp;", 1024)+"</Key></Object>", 200) + "</Delete>"
	s.want(200, call{method: "POST", path: "/b-1?delete", body: long, headers: md5Header(long)})

	item := "<Object><Key>d</Key></Object>"
	for _, c := range []struct {
		doc     string
		headers []string
		code    string
	}{
		{"<Delete>" + item + "</Delete>", []string{"X-A", "b"}, "InvalidRequest"},
		{"<Delete>" + item + "</Delete>", md5Header("other"), "BadDigest"},
		{"<Delete>" + item + "</Delete>", []string{"Content-MD5", "AAAA"}, "InvalidDigest"},
		{"<Delete>" + item + "</Delete>", []string{"x-amz-checksum-crc32", "AAAAAA=="}, "BadDigest"},
		{"<Delete>" + item + "</Delete>", []string{"x-amz-checksum-crc32", "AAAA"}, "BadDigest"},
		{"", nil, "MissingRequestBodyError"},
		{"<Delete>" + item, nil, "MalformedXML"},
		{"<Delete></Delete>", nil, "MalformedXML"},
		{"<Erase>" + item + "</Erase>", nil, "MalformedXML"},
		{"<Delete>" + item + "</Delete><Delete/>", nil, "MalformedXML"},
		{"<Delete>" + item + "</Delete> x", nil, "MalformedXML"},
		{"<Delete><Object></Object></Delete>", nil, "MalformedXML"},
		{"<Delete>" + item + "<Purge>true</Purge></Delete>", nil, "MalformedXML"},
		{"<Delete><Quiet>perhaps</Quiet>" + item + "</Delete>", nil, "MalformedXML"},
		{"<!DOCTYPE d [<!ENTITY k 'd'>]><Delete><Object><Key>&k;</Key></Object></Delete>", nil, "MalformedXML"},
		{"<Delete>" + strings.Repeat(item, 1001) + "</Delete>", nil, "MalformedXML"},
		{"<Delete>" + strings.Repeat(" ", 9<<20) + "</Delete>", nil, "MaxMessageLengthExceeded"},
		{"{}", nil, "MalformedXML"},
	} {
		h := c.headers
		if h == nil {
			h = md5Header(c.doc)
		}
		s.refused(400, c.code, call{method: "POST", path: "/b-1?delete", body: c.doc, headers: h})
	}
	s.refused(404, "NoSuchBucket", call{method: "POST", path: "/absent?delete", body: quiet, headers: md5Header(quiet)})
	if left := strings.Join(elements(s.get("/b-1"), "Key"), " "); left != "d" {
		t.Fatalf("left %s", left)
	}
}

func crc32c(s string) string {
	return object.ChecksumOf(object.CRC32C, []byte(s)).String()
}
