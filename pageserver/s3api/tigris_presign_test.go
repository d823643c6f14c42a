package s3api

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"stemma/pageserver/auth"
)

// presigned has the server sign a URL and returns its target.
func (s *testServer) presigned(body string) string {
	s.t.Helper()
	a := s.want(200, call{method: "POST", path: "/?func=presign", body: body, headers: []string{"Content-Type", "application/json"}})
	var doc struct{ URL string }
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		s.t.Fatalf("%v: %s", err, a.body)
	}
	u, err := url.Parse(doc.URL)
	if err != nil || u.Scheme != "http" || u.Host != s.addr {
		s.t.Fatalf("%v: URL %q", err, doc.URL)
	}
	return u.RequestURI()
}

func TestTigrisPresign(t *testing.T) {
	s := newServer(t)
	s.snapshotBucket("home")
	id := s.put("/home/a%20b%2B%28c%29", "one").header.Get("x-amz-version-id")
	s.put("/home/a%20b%2B%28c%29", "two")
	unsigned := func(status int, method, path, body string) string {
		t.Helper()
		return s.want(status, call{method: method, path: path, body: body, unsigned: true}).body
	}
	key := `"bucket":"home","key":"a b+(c)","key_id":"` + rootKey.ID + `"`
	if got := unsigned(200, "GET", s.presigned(`{`+key+`,"type":"get","expires_in":60}`), ""); got != "two" {
		t.Errorf("got %q", got)
	}
	if got := unsigned(200, "GET", s.presigned(`{`+key+`,"type":"get","version_id":"`+id+`"}`), ""); got != "one" {
		t.Errorf("of the version %q", got)
	}
	get := s.presigned(`{` + key + `,"type":"get"}`)
	unsigned(403, "PUT", get, "x")
	unsigned(403, "GET", strings.Replace(get, "Expires=3600", "Expires=3601", 1), "")
	unsigned(200, "PUT", s.presigned(`{`+key+`,"type":"put"}`), "three")
	if got := s.get("/home/a%20b%2B%28c%29"); got != "three" {
		t.Errorf("put %q", got)
	}
	for _, bad := range []string{
		``, `[]`, `{}`, `{` + key + `}`, `{` + key + `,"type":"delete"}`, `{` + key + `,"type":"get","expires_in":0}`, `{` + key + `,"type":"get","expires_in":604801}`,
		`{` + key + `,"type":"put","version_id":"` + id + `"}`, `{` + key + `,"type":"get","version_id":"x"}`, `{"bucket":".own","key":"a","type":"get"}`,
	} {
		s.want(400, call{method: "POST", path: "/?func=presign", body: bad, headers: []string{"Content-Type", "application/json"}})
	}
	refused := call{method: "POST", path: "/?func=presign", body: `{"bucket":"home","key":"a","key_id":"other","type":"get"}`, headers: []string{"Content-Type", "application/json"}}
	s.want(403, refused)
	refused.unsigned, refused.body = true, `{"bucket":"home","key":"a","type":"get"}`
	s.want(403, refused)
}

// A client may sign for a key of its own, and no other.
func TestTigrisPresignKeys(t *testing.T) {
	user := func(id, unique string, scope []auth.BucketRole) auth.Key {
		return auth.Key{ID: id, Secret: "secret of " + id, Caller: &auth.Caller{ID: "account", Unique: unique, Owner: true, Scope: scope}}
	}
	mine, second, held, theirs := user("mine", "u1", nil), user("second", "u1", nil), user("held", "u1", []auth.BucketRole{{Bucket: 1}}), user("theirs", "u2", nil)
	s := newServer(t, func(o *Options) {
		o.Verifier = auth.NewVerifier(auth.NewStatic(rootKey, mine, second, held, theirs), time.Now)
	})
	for _, c := range []struct {
		as     auth.Key
		id     string
		status int
	}{
		{mine, "mine", 200}, {mine, "second", 200}, {mine, "held", 200}, {mine, "theirs", 403}, {mine, rootKey.ID, 403},
		{held, "held", 200}, {held, "mine", 403}, {rootKey, "theirs", 200},
	} {
		s.want(c.status, call{method: "POST", path: "/?func=presign", as: c.as, headers: []string{"Content-Type", "application/json"},
			body: `{"bucket":"home","key":"a","key_id":"` + c.id + `","type":"get"}`})
	}
}

// What a client signs in the query it may repeat as a header; what it signs without a body tells nothing of the body.
func TestPresignedHeadersInQuery(t *testing.T) {
	s := newServer(t)
	s.put("/home", "")
	sign := func(params ...auth.Param) string {
		p := auth.Presigned{Method: "PUT", Host: s.addr, Path: "/home/a", Region: "auto", Expires: time.Minute, Params: params}
		return rootKey.Presign(&p, time.Now())
	}
	put := func(target, body string, headers ...string) call {
		return call{method: "PUT", path: target, body: body, unsigned: true, headers: headers}
	}
	both := sign(auth.Param{Name: "x-amz-acl", Value: "public-read"}, auth.Param{Name: "x-amz-meta-color", Value: "red"})
	s.want(200, put(both, "one", "X-Amz-Acl", "public-read", "x-amz-meta-color", "red"))
	h := s.want(200, call{method: "GET", path: "/home/a", unsigned: true}).header
	if got := h.Get("x-amz-meta-color"); got != "red" {
		t.Errorf("metadata %q", got)
	}
	s.want(200, put(both, "one"))
	s.refused(403, "AccessDenied", put(both, "one", "x-amz-meta-color", "blue"))
	s.refused(403, "AccessDenied", put(both, "one", "x-amz-meta-size", "9"))

	empty := sign(auth.Param{Name: "x-amz-checksum-crc32", Value: "AAAAAA=="}, auth.Param{Name: "x-amz-sdk-checksum-algorithm", Value: "CRC32"})
	s.want(200, put(empty, "something"))
	s.want(200, put(empty, ""))
	wrong := sign(auth.Param{Name: "x-amz-checksum-crc32", Value: "AAAAAQ=="}, auth.Param{Name: "x-amz-sdk-checksum-algorithm", Value: "CRC32"})
	s.refused(400, "BadDigest", put(wrong, "something"))
}

// To clients of Tigris, known by the region that they sign for, the restoring of what is not archived is a success.
func TestTigrisRestoreObject(t *testing.T) {
	s := newServer(t)
	s.put("/home", "")
	s.put("/home/a", "x")
	p := auth.Presigned{Method: "POST", Host: s.addr, Path: "/home/a", Region: tigrisRegion, Expires: time.Minute, Params: []auth.Param{{Name: "restore"}}}
	s.want(200, call{method: "POST", path: rootKey.Presign(&p, time.Now()), unsigned: true})
	p.Region = "us-east-1"
	s.refused(403, "InvalidObjectState", call{method: "POST", path: rootKey.Presign(&p, time.Now()), unsigned: true})
	p.Path, p.Region = "/home/b", tigrisRegion
	s.refused(404, "NoSuchKey", call{method: "POST", path: rootKey.Presign(&p, time.Now()), unsigned: true})
}
