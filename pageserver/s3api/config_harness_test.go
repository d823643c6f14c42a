package s3api

import (
	"errors"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// at makes an operation of the SDK read the past.
func (s *testServer) at(lsn string) func(*s3.Options) {
	return s3.WithAPIOptions(smithyhttp.SetHeaderValue("x-stemma-at", lsn))
}

// now returns the LSN of what is visible.
func (s *testServer) now() string { return s.store.Visible().String() }

// bucket makes buckets.
func (s *testServer) bucket(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.put("/"+name, "")
	}
}

// fork makes a fork of a bucket.
func (s *testServer) fork(source, name string) {
	s.t.Helper()
	s.want(200, call{method: "PUT", path: "/" + name, headers: []string{"X-Tigris-Fork-Source-Bucket", source}})
}

// sdkError fails the test unless an operation of the SDK failed with a status and a code.
func sdkError(t testing.TB, err error, status int, code string) {
	t.Helper()
	var api smithy.APIError
	var res *smithyhttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &res) {
		t.Fatalf("%v, want %d %s", err, status, code)
	}
	if api.ErrorCode() != code || res.HTTPStatusCode() != status {
		t.Fatalf("%d %s: %s; want %d %s", res.HTTPStatusCode(), api.ErrorCode(), api.ErrorMessage(), status, code)
	}
}

// configCase is one configuration of buckets.
type configCase struct {
	query  string // subresource
	absent string // code of a GET that finds none; empty: there is an answer
	// a and b are two documents, and marks what of them a GET shows.
	a, b         string
	markA, markB string
	// noDelete says that there is no DELETE.
	noDelete bool
}

// testConfig runs a configuration through what all have in common: it is set,
// shown, replaced and deleted; forks have what their source had, the past has what
// was then, and none sees what another changes.
func testConfig(t *testing.T, c configCase) {
	s := newServer(t)
	s.bucket("one")
	path := func(bucket string) string { return "/" + bucket + "?" + c.query }
	get := func(bucket string, headers ...string) string {
		t.Helper()
		return s.want(200, call{method: "GET", path: path(bucket), headers: headers}).body
	}
	absent := func(bucket string, headers ...string) {
		t.Helper()
		if c.absent != "" {
			s.refused(404, c.absent, call{method: "GET", path: path(bucket), headers: headers})
		} else if doc := get(bucket, headers...); contains(doc, c.markA) || contains(doc, c.markB) {
			t.Fatalf("before anything was set: %s", doc)
		}
	}
	put := func(bucket, doc string) {
		t.Helper()
		if a := s.do(call{method: "PUT", path: path(bucket), body: doc}); a.status != http.StatusOK && a.status != http.StatusNoContent {
			t.Fatalf("put: %d %s", a.status, a.body)
		}
	}
	shows := func(doc, mark, not string) {
		t.Helper()
		if !contains(doc, mark) || contains(doc, not) {
			t.Fatalf("%q is missing, or %q is there:\n%s", mark, not, doc)
		}
	}
	none := s.now()
	absent("one")
	put("one", c.a)
	first := s.now()
	s.fork("one", "fork")
	shows(get("one"), c.markA, c.markB)
	shows(get("fork"), c.markA, c.markB)
	put("one", c.b)
	shows(get("one"), c.markB, c.markA)
	shows(get("fork"), c.markA, c.markB)
	shows(get("one", "x-stemma-at", first), c.markA, c.markB)
	absent("one", "x-stemma-at", none)
	// What was shown can be put back.
	put("fork", get("one"))
	shows(get("fork"), c.markB, c.markA)
	if !c.noDelete {
		s.want(204, call{method: "DELETE", path: path("one")})
		absent("one")
		s.want(204, call{method: "DELETE", path: path("one")})
		shows(get("fork"), c.markB, c.markA)
	}
	shows(get("one", "x-stemma-at", first), c.markA, c.markB)
	before := s.store.Visible()
	for _, bad := range []string{"<", "<Other/>", c.a + "<More/>", "<!DOCTYPE x>" + c.a} {
		s.refused(400, "MalformedXML", call{method: "PUT", path: path("one"), body: bad})
	}
	s.refused(400, "MissingRequestBodyError", call{method: "PUT", path: path("one")})
	s.refused(400, "MaxMessageLengthExceeded", call{method: "PUT", path: path("one"), body: c.a + spaces(maxXMLBytes)})
	s.refused(400, "BadDigest", call{method: "PUT", path: path("one"), body: c.a, headers: []string{"Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="}})
	if s.store.Visible() != before {
		t.Error("a request that was refused made a commit")
	}
	s.refused(404, "NoSuchBucket", call{method: "GET", path: path("absent")})
	s.refused(404, "NoSuchBucket", call{method: "PUT", path: path("absent"), body: c.a})
	s.refused(400, "InvalidArgument", call{method: "PUT", path: path("one"), body: c.a, headers: []string{"x-stemma-at", first}})
}
