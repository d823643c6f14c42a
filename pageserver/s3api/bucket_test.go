package s3api

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	s := newServer(t)
	for i := range 5 {
		a := s.want(200, call{method: "PUT", path: fmt.Sprintf("/bucket-%d", i), body: `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>auto</LocationConstraint></CreateBucketConfiguration>`})
		if a.header.Get("Location") != fmt.Sprintf("/bucket-%d", i) {
			t.Fatalf("Location %q", a.header.Get("Location"))
		}
	}
	s.want(200, call{method: "PUT", path: "/other/"}) // with a slash, without a body
	for constraint, want := range map[string]string{"": "", "us-east-1": "", "eu-west-3": "eu-west-3", "auto": "auto"} {
		doc := "<CreateBucketConfiguration><LocationConstraint>" + constraint + "</LocationConstraint></CreateBucketConfiguration>"
		s.want(200, call{method: "PUT", path: "/located", body: doc})
		if doc := s.get("/located?location"); !strings.HasSuffix(doc, ">"+want+"</LocationConstraint>") {
			t.Fatalf("%q: %s", constraint, doc)
		}
		s.want(204, call{method: "DELETE", path: "/located"})
	}
	s.refused(400, "InvalidLocationConstraint", call{method: "PUT", path: "/located", body: "<CreateBucketConfiguration><LocationConstraint>a b</LocationConstraint></CreateBucketConfiguration>"})
	if doc := s.get("/?bucket-region=eu-west-3"); strings.Contains(doc, "<Name>") {
		t.Fatalf("%s", doc)
	}
	s.put("/other/k", "kept")
	s.want(200, call{method: "PUT", path: "/other"}) // again, which changes nothing
	s.want(200, call{method: "PUT", path: "/other", headers: []string{"x-amz-acl", "private"}})
	s.refused(409, "BucketAlreadyExists", call{method: "PUT", path: "/other", headers: []string{"x-amz-acl", "public-read"}})
	if s.get("/other/k") != "kept" {
		t.Fatal("a bucket that was created again is another")
	}
	s.want(204, call{method: "DELETE", path: "/other/k"})
	elsewhere := newServer(t, func(o *Options) { o.Region = "eu-west-1" })
	elsewhere.put("/other", "")
	elsewhere.refused(409, "BucketAlreadyOwnedByYou", call{method: "PUT", path: "/other"})

	doc := s.get("/")
	if got := elements(doc, "Name"); len(got) != 6 || got[0] != "bucket-0" || element(doc, "Owner") == "" {
		t.Fatalf("%s", doc)
	}
	if _, err := time.Parse(timeForm, element(doc, "CreationDate")); err != nil {
		t.Fatal(err)
	}
	var all []string
	for token, pages := "", 0; ; pages++ {
		path := "/?prefix=bucket-&max-buckets=2"
		if token != "" {
			path += "&continuation-token=" + token
		}
		doc := s.get(path)
		all = append(all, elements(doc, "Name")...)
		if token = element(doc, "ContinuationToken"); token == "" {
			break
		}
		if pages > 5 {
			t.Fatal("no end")
		}
	}
	if len(all) != 5 || !slices.IsSorted(all) {
		t.Fatalf("%q", all)
	}
	for path, code := range map[string]string{
		"/?max-buckets=0": "InvalidArgument", "/?max-buckets=10001": "InvalidArgument", "/?max-buckets=x": "InvalidArgument",
		"/?continuation-token=%21": "InvalidArgument",
	} {
		s.refused(400, code, call{method: "GET", path: path})
	}

	if got := s.get("/other?location"); !strings.Contains(got, "<LocationConstraint xmlns=") || strings.Contains(got, "us-east") {
		t.Fatalf("%s", got)
	}
	if got := s.get("/other?versioning"); !strings.HasSuffix(got, "></VersioningConfiguration>") {
		t.Fatalf("%s", got)
	}
	h := s.want(200, call{method: "HEAD", path: "/other"})
	if h.header.Get("x-amz-bucket-region") != "us-east-1" || h.header.Get("X-Tigris-Enable-Snapshot") != "false" || lsnOf(h) == "" ||
		h.header.Values("X-Tigris-Fork-Source-Bucket") != nil || h.header.Values("X-Tigris-Is-Fork-Parent") != nil {
		t.Fatalf("%v", h.header)
	}
	for _, p := range []string{"?location", "?versioning", "?uploads", "", "?list-type=2"} {
		s.refused(404, "NoSuchBucket", call{method: "GET", path: "/absent" + p})
	}
	s.refused(404, "", call{method: "HEAD", path: "/absent"})
	s.refused(404, "NoSuchBucket", call{method: "DELETE", path: "/absent"})

	s.put("/other/k", "x")
	a := s.refused(409, "BucketNotEmpty", call{method: "DELETE", path: "/other"})
	if element(a.body, "BucketName") != "other" {
		t.Fatalf("%s", a.body)
	}
	s.want(204, call{method: "DELETE", path: "/other", headers: []string{"X-Tigris-Force-Delete", "true"}})
	s.refused(404, "", call{method: "HEAD", path: "/other"})
}

func TestForks(t *testing.T) {
	s := newServer(t)
	s.put("/base", "")
	s.put("/base/k", "one")
	first := lsnOf(s.put("/base/k2", "two"))
	s.put("/base/k", "changed")

	// Of the tip, and of an LSN by each of the three headers.
	s.want(200, call{method: "PUT", path: "/tip", headers: []string{"X-Tigris-Fork-Source-Bucket", "base"}})
	for i, header := range []string{"X-Tigris-Fork-Source-Bucket-Snapshot", "X-Tigris-Snapshot-Version", "x-stemma-at"} {
		name := fmt.Sprintf("/old-%d", i)
		a := s.want(200, call{method: "PUT", path: name, headers: []string{"X-Tigris-Fork-Source-Bucket", "base", header, first, "X-Tigris-Enable-Snapshot", "true"}})
		if a.header.Get("Location") != name {
			t.Fatal("Location")
		}
		if got := s.get(name + "/k"); got != "one" {
			t.Fatalf("%s: %q", header, got)
		}
		h := s.want(200, call{method: "HEAD", path: name})
		if h.header.Get("X-Tigris-Fork-Source-Bucket") != "base" || h.header.Get("X-Tigris-Fork-Source-Bucket-Snapshot") != first {
			t.Fatalf("%v", h.header)
		}
	}
	h := s.want(200, call{method: "HEAD", path: "/tip"})
	if h.header.Get("X-Tigris-Fork-Source-Bucket-Snapshot") == "" || h.header.Values("X-Tigris-Is-Fork-Parent") != nil {
		t.Fatalf("%v", h.header)
	}
	if h := s.want(200, call{method: "HEAD", path: "/base"}); h.header.Get("X-Tigris-Is-Fork-Parent") != "true" {
		t.Fatalf("%v", h.header)
	}

	// Neither side sees what the other writes.
	s.put("/tip/k", "forked")
	s.want(204, call{method: "DELETE", path: "/tip/k2"})
	s.put("/base/k3", "three")
	if got := s.get("/base/k"); got != "changed" {
		t.Fatalf("%q", got)
	}
	if got := strings.Join(elements(s.get("/tip"), "Key"), ","); got != "k" {
		t.Fatalf("%s", got)
	}

	a := s.refused(409, "BucketNotEmpty", call{method: "DELETE", path: "/base"})
	if !strings.Contains(element(a.body, "Message"), "forks") {
		t.Fatalf("%s", a.body)
	}
	s.want(204, call{method: "DELETE", path: "/base", headers: []string{"Tigris-Force-Delete", "true"}})
	if got := s.get("/tip/k"); got != "forked" {
		t.Fatalf("%q", got)
	}

	src := []string{"X-Tigris-Fork-Source-Bucket"}
	s.refused(404, "NoSuchBucket", call{method: "PUT", path: "/f-1", headers: append(src, "absent")})
	s.refused(409, "BucketAlreadyOwnedByYou", call{method: "PUT", path: "/tip", headers: append(src, "old-0")})
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/f-1", headers: append(src, "tip", "X-Tigris-Fork-Source-Bucket-Snapshot", "my name")})
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/f-1", headers: append(src, "tip", "x-stemma-at", "9000000000000000000")})
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/f-1", headers: []string{"x-stemma-at", first}})
	s.refused(404, "", call{method: "HEAD", path: "/f-1"})
}

func TestPointsInTime(t *testing.T) {
	s := newServer(t)
	s.put("/base", "")
	first := lsnOf(s.put("/base/k", "one"))
	betweenTime := time.Now().UTC().Format(time.RFC3339Nano)
	time.Sleep(2 * time.Millisecond)
	second := lsnOf(s.put("/base/k", "two"))
	third := lsnOf(s.want(204, call{method: "DELETE", path: "/base/k"}))
	for _, c := range []struct{ header, at, want string }{
		{"x-stemma-at", first, "one"},
		{"x-stemma-at", betweenTime, "one"},
		{"X-Tigris-Snapshot-Version", second, "two"},
		{"x-stemma-at", " " + second + " ", "two"},
	} {
		if got := s.get("/base/k", c.header, c.at); got != c.want {
			t.Errorf("%s %s: %q", c.header, c.at, got)
		}
		h := s.want(200, call{method: "HEAD", path: "/base/k", headers: []string{c.header, c.at}})
		if c.at == first && lsnOf(h) != first {
			t.Errorf("read at %s, not %s", lsnOf(h), first)
		}
		for _, list := range []string{"/base", "/base?list-type=2"} {
			if got := elements(s.get(list, c.header, c.at), "Key"); len(got) != 1 {
				t.Errorf("%s %s: %q", c.header, c.at, got)
			}
		}
	}
	s.refused(404, "NoSuchKey", call{method: "GET", path: "/base/k", headers: []string{"x-stemma-at", third}})
	s.refused(404, "NoSuchBucket", call{method: "GET", path: "/base/k", headers: []string{"x-stemma-at", "1"}})
	s.want(200, call{method: "HEAD", path: "/base", headers: []string{"x-stemma-at", first}})
	s.refused(404, "", call{method: "HEAD", path: "/base", headers: []string{"x-stemma-at", "1"}})

	// A copy of what was deleted, by both headers.
	for i, header := range []string{"x-stemma-copy-source-at", "X-Tigris-Snapshot-Version"} {
		path := fmt.Sprintf("/base/copy-%d", i)
		s.want(200, call{method: "PUT", path: path, headers: []string{"x-amz-copy-source", "/base/k", header, second}})
		if got := s.get(path); got != "two" {
			t.Errorf("%q", got)
		}
	}
	for _, bad := range []string{"yesterday", "0", "-1", "1.5", "9000000000000000000", "2999-01-01T00:00:00Z", "1969-01-01T00:00:00Z", "18446744073709551615", "2024-01-01", ""} {
		if bad == "" {
			bad = " "
		}
		a := s.refused(400, "InvalidArgument", call{method: "GET", path: "/base/copy-0", headers: []string{"x-stemma-at", bad}})
		if element(a.body, "ArgumentName") != "x-stemma-at" && !strings.Contains(a.body, "future") {
			t.Errorf("%s", a.body)
		}
	}
	s.refused(400, "InvalidArgument", call{method: "GET", path: "/base/copy-0", headers: []string{"x-stemma-at", first, "X-Tigris-Snapshot-Version", second}})
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/base/new", headers: []string{"x-stemma-at", first}})
	s.refused(400, "InvalidArgument", call{method: "DELETE", path: "/base/copy-0", headers: []string{"x-stemma-at", first}})
	s.refused(404, "NoSuchKey", call{method: "GET", path: "/base/new"})
}

// What Tigris clients mean by headers is never taken for the plain operation.
func TestTigrisHeaders(t *testing.T) {
	s := newServer(t)
	s.put("/base", "")
	s.put("/base/k", "one")
	s.want(200, call{method: "GET", path: "/base/k", headers: []string{"X-Tigris-Consistent", "true", "X-Tigris-CAS", "x", "X-Tigris-Regions", "r", "X-Tigris-Prefetch", "true", "X-Tigris-Namespace", "n"}})
	for _, c := range []struct {
		method, path, header, value string
		status                      int
		code                        string
	}{
		{"DELETE", "/base", "X-Tigris-Snapshot-Version", "123", 404, "NoSuchSnapshot"},
		{"DELETE", "/base", "X-Tigris-Snapshot-Version", "", 400, "InvalidArgument"},
		{"DELETE", "/base", "X-Tigris-Force-Hard-Delete", "true", 400, "InvalidArgument"},
		{"DELETE", "/base", "X-Tigris-Force-Delete", "maybe", 400, "InvalidArgument"},
		{"DELETE", "/base/k", "X-Tigris-Soft-Delete", "true", 400, "InvalidArgument"},
		{"DELETE", "/base/k", "X-Tigris-Snapshot-Version", "1", 400, "InvalidArgument"},
		{"PUT", "/base", "X-Tigris-Snapshot", "false", 400, "InvalidArgument"},
		{"PUT", "/new-1", "X-Tigris-Snapshot", "true; name=x", 404, "NoSuchBucket"},
		{"PUT", "/new-1", "X-Tigris-Merge-Source-Bucket", "base", 404, "NoSuchBucket"},
		{"PUT", "/new-1", "X-Tigris-Rebase", "true", 404, "NoSuchBucket"},
		{"PUT", "/new-1", "X-Tigris-Enable-Snapshot", "perhaps", 400, "InvalidArgument"},
		{"PUT", "/base/k", "X-Tigris-Snapshot-Version", "1", 501, "NotImplemented"},
		{"GET", "/", "X-Tigris-Snapshot", "new-1", 404, "NoSuchBucket"},
		{"GET", "/", "X-Tigris-Fork", "new-1", 404, "NoSuchBucket"},
		{"GET", "/base?list-type=2", "X-Tigris-Query", "WHERE", 501, "NotImplemented"},
		{"HEAD", "/base/k", "X-Tigris-Schedule-Migration", "true", 501, ""},
	} {
		s.refused(c.status, c.code, call{method: c.method, path: c.path, headers: []string{c.header, c.value}})
	}
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/base/k2", headers: []string{"X-Tigris-Rename", "1", "x-amz-copy-source", "/base/k"}})
	if got := s.get("/base/k"); got != "one" {
		t.Fatalf("%q", got)
	}
	s.refused(404, "", call{method: "HEAD", path: "/new-1"})
	s.refused(404, "", call{method: "HEAD", path: "/base/k2"})
}

func TestVirtualHosts(t *testing.T) {
	s := newServer(t, func(o *Options) { o.Domains = []string{"localhost", "s3.localhost", "example.com"} })
	s.want(200, call{method: "PUT", path: "/", host: "my.bucket.s3.localhost:9000"})
	s.want(200, call{method: "PUT", path: "/dir/a//b", host: "my.bucket.S3.localhost", body: "x"})
	if got := s.get("/my.bucket/dir/a//b"); got != "x" {
		t.Fatalf("%q", got)
	}
	for _, host := range []string{"my.bucket.localhost:1", "my.bucket.example.com", "my.bucket.s3.localhost"} {
		if a := s.want(200, call{method: "GET", path: "/dir/a//b", host: host}); a.body != "x" {
			t.Fatalf("%s: %q", host, a.body)
		}
		if a := s.want(200, call{method: "GET", path: "/?list-type=2&prefix=dir/", host: host}); element(a.body, "Key") != "dir/a//b" {
			t.Fatalf("%s", a.body)
		}
	}
	for _, host := range []string{"localhost:9000", "s3.localhost", "127.0.0.1:1", "[::1]:9000", "[::1]", "elsewhere.org", "example.com"} {
		if a := s.want(200, call{method: "GET", path: "/my.bucket/dir/a//b", host: host}); a.body != "x" {
			t.Fatalf("%s: %q", host, a.body)
		}
	}
}

func TestBucketOfHost(t *testing.T) {
	domains := []string{"localhost", "s3.localhost"}
	for host, want := range map[string]string{
		"": "", "localhost": "", "s3.localhost": "", "S3.LOCALHOST:80": "", "a.localhost": "a", "a.s3.localhost": "a", "a.b.s3.localhost:1": "a.b",
		".localhost": "", "xlocalhost": "", "127.0.0.1": "", "127.0.0.1:9000": "", "[::1]:9000": "", "a.example": "",
	} {
		if got := bucketOfHost(host, domains); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}
