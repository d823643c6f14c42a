package s3api

import (
	"strings"
	"testing"

	"stemma/pageserver/object"
)

// Every algorithm: by header and in a document; a wrong sum changes nothing; of parts.
func TestChecksumAlgorithms(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	for a := object.CRC32; a.Size() > 0; a++ {
		name := strings.ToLower(a.String())
		path, header := "/b-1/"+name, "x-amz-checksum-"+name
		sum := object.ChecksumOf(a, []byte("body")).String()
		if g := s.want(400, call{method: "PUT", path: path, body: "bode", headers: []string{header, sum}}); g.code() != "BadDigest" {
			t.Errorf("%v: wrong sum: %s", a, g.code())
		}
		s.want(404, call{method: "HEAD", path: path})
		s.want(200, call{method: "PUT", path: path, body: "body", headers: []string{header, sum}})
		g := s.want(200, call{method: "GET", path: path, headers: []string{"x-amz-checksum-mode", "ENABLED"}})
		if g.header.Get(header) != sum || g.header.Get("x-amz-checksum-type") != "FULL_OBJECT" {
			t.Errorf("%v: headers %v", a, g.header)
		}
		doc := s.want(200, call{method: "GET", path: path + "?attributes", headers: []string{"x-amz-object-attributes", "Checksum"}}).body
		if element(doc, "Checksum"+a.String()) != sum {
			t.Errorf("%v: attributes %s", a, doc)
		}
		s.copyWith(a, path)
		s.uploadWith(a, path+"-parts")
		if a == object.XXHASH128 {
			return // the last one
		}
	}
}

func (s *testServer) copyWith(a object.Algorithm, path string) {
	s.t.Helper()
	s.want(200, call{method: "PUT", path: "/b-1/plain", body: "other"})
	s.want(200, call{method: "PUT", path: path + "-copy", headers: []string{"x-amz-copy-source", "/b-1/plain", "x-amz-checksum-algorithm", a.String()}})
	name := "x-amz-checksum-" + strings.ToLower(a.String())
	if g := s.want(200, call{method: "HEAD", path: path + "-copy", headers: []string{"x-amz-checksum-mode", "ENABLED"}}); g.header.Get(name) != object.ChecksumOf(a, []byte("other")).String() {
		s.t.Errorf("%v: copy %v", a, g.header)
	}
}

func (s *testServer) uploadWith(a object.Algorithm, path string) {
	s.t.Helper()
	header := "x-amz-checksum-" + strings.ToLower(a.String())
	id := element(s.want(200, call{method: "POST", path: path + "?uploads", headers: []string{"x-amz-checksum-algorithm", a.String()}}).body, "UploadId")
	sum := object.ChecksumOf(a, []byte("part")).String()
	part := path + "?partNumber=1&uploadId=" + id
	s.want(400, call{method: "PUT", path: part, body: "bart", headers: []string{header, sum}})
	etag := s.want(200, call{method: "PUT", path: part, body: "part", headers: []string{header, sum}}).header.Get("Etag")
	complete := func(sum string) call {
		field := "Checksum" + a.String()
		return call{method: "POST", path: path + "?uploadId=" + id, body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + etag +
			"</ETag><" + field + ">" + sum + "</" + field + "></Part></CompleteMultipartUpload>"}
	}
	s.want(400, complete(object.ChecksumOf(a, []byte("bart")).String()))
	doc := s.want(200, complete(sum)).body
	kind := "COMPOSITE"
	if a == object.CRC64NVME {
		kind = "FULL_OBJECT"
	}
	if element(doc, "Checksum"+a.String()) == "" || element(doc, "ChecksumType") != kind {
		s.t.Errorf("%v: completed %s", a, doc)
	}
}
