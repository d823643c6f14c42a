package s3api

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// The requests are those that the published clients of Tigris send.

func (s *testServer) snapshotBucket(name string) {
	s.t.Helper()
	a := s.want(200, call{method: "PUT", path: "/" + name, headers: []string{"X-Tigris-Enable-Snapshot", "true"}})
	if got := a.header.Get("Location"); got != "/"+name {
		s.t.Fatalf("Location %q", got)
	}
}

func (s *testServer) snapshot(bucket, value string) string {
	s.t.Helper()
	a := s.want(200, call{method: "PUT", path: "/" + bucket, headers: []string{"X-Tigris-Snapshot", value}})
	v := a.header.Get("X-Tigris-Snapshot-Version")
	if v == "" {
		s.t.Fatal("no version")
	}
	return v
}

func (s *testServer) json(method, path, body string, to any, headers ...string) {
	s.t.Helper()
	a := s.want(200, call{method: method, path: path, body: body, headers: append([]string{"Accept", "application/json"}, headers...)})
	if err := json.Unmarshal([]byte(a.body), to); err != nil {
		s.t.Fatalf("%v: %s", err, a.body)
	}
}

func TestTigrisSnapshots(t *testing.T) {
	s := newServer(t)
	s.snapshotBucket("home")
	s.put("/home/a", "one")
	first := s.snapshot("home", "true; name=hello+world+%26+co")
	s.put("/home/a", "two")
	second := s.snapshot("home", "true")
	s.put("/home/a", "three")
	for v, want := range map[string]string{first: "one", second: "two"} {
		if got := s.get("/home/a", "X-Tigris-Snapshot-Version", v); got != want {
			t.Errorf("at %s: %q, want %q", v, got, want)
		}
	}
	list := s.get("/?x-id=ListBuckets", "X-Tigris-Snapshot", "home")
	if got := elements(list, "Name"); !slices.Equal(got, []string{second, first + "; name=hello+world+%26+co"}) {
		t.Errorf("snapshots %q", got)
	}
	page := s.get("/?max-buckets=1", "X-Tigris-Snapshot", "home")
	token := element(page, "ContinuationToken")
	if got := elements(page, "Name"); !slices.Equal(got, []string{second}) || token != second {
		t.Errorf("first page %q, then %q", got, token)
	}
	page = s.get("/?max-buckets=1&continuation-token="+token, "X-Tigris-Snapshot", "home")
	if got := elements(page, "Name"); len(got) != 1 || !strings.HasPrefix(got[0], first) || element(page, "ContinuationToken") != "" {
		t.Errorf("second page %s", page)
	}

	remove := func(bucket, version string) call {
		return call{method: "DELETE", path: "/" + bucket + "/", headers: []string{"X-Tigris-Snapshot-Version", version}}
	}
	s.want(204, remove("home", first))
	s.refused(404, "NoSuchSnapshot", remove("home", first))
	s.refused(404, "NoSuchBucket", remove("nowhere", first))
	s.refused(400, "InvalidArgument", remove("home", "x"))
	s.refused(400, "InvalidArgument", call{method: "DELETE", path: "/home", headers: []string{"X-Tigris-New-Thing", "true"}})
	if got := s.get("/home/a"); got != "three" {
		t.Errorf("the bucket has %q", got)
	}
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/home", headers: []string{"X-Tigris-Snapshot", "yes"}})
	s.refused(404, "NoSuchBucket", call{method: "PUT", path: "/nowhere", headers: []string{"X-Tigris-Snapshot", "true"}})
	s.refused(404, "NoSuchBucket", call{method: "GET", path: "/", headers: []string{"X-Tigris-Snapshot", "nowhere"}})
}

func TestTigrisForksAndKinds(t *testing.T) {
	s := newServer(t)
	s.snapshotBucket("home")
	s.put("/plain", "")
	s.put("/home/a", "one")
	v := s.snapshot("home", "true")
	s.put("/home/a", "two")
	s.want(200, call{method: "PUT", path: "/fork", headers: []string{"X-Tigris-Fork-Source-Bucket", "home", "X-Tigris-Fork-Source-Bucket-Snapshot", v}})
	s.want(200, call{method: "PUT", path: "/fork2", headers: []string{"X-Tigris-Fork-Source-Bucket", "home"}})
	if got := s.get("/fork/a"); got != "one" {
		t.Errorf("the fork has %q", got)
	}
	for _, c := range []struct{ bucket, enabled, source, snapshot, parent string }{
		{"home", "true", "", "", "true"}, {"plain", "false", "", "", ""}, {"fork", "true", "home", v, ""},
	} {
		h := s.want(200, call{method: "HEAD", path: "/" + c.bucket}).header
		got := []string{h.Get("X-Tigris-Enable-Snapshot"), h.Get("X-Tigris-Fork-Source-Bucket"), h.Get("X-Tigris-Fork-Source-Bucket-Snapshot"), h.Get("X-Tigris-Is-Fork-Parent")}
		if want := []string{c.enabled, c.source, c.snapshot, c.parent}; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c.bucket, got, want)
		}
	}

	var list bucketsJSON
	names := func() (names []string) {
		for _, b := range list.Buckets.Bucket {
			names = append(names, b.Name+" "+b.Type)
		}
		return names
	}
	s.json("GET", "/", "", &list)
	if got := names(); !slices.Equal(got, []string{"fork Snapshot", "fork2 Snapshot", "home Snapshot", "plain Regular"}) {
		t.Errorf("buckets %q", got)
	}
	list = bucketsJSON{}
	s.json("GET", "/?max-buckets=1", "", &list, "X-Tigris-Fork", "home")
	if got := names(); !slices.Equal(got, []string{"fork Snapshot"}) || list.ContinuationToken == "" {
		t.Errorf("first page of forks %q", got)
	}
	if f := list.Buckets.Bucket[0].ForkInfo; f == nil || len(f.Parents) != 1 || f.Parents[0].BucketName != "home" || f.Parents[0].Snapshot != v {
		t.Errorf("fork info %+v", f)
	}
	token := list.ContinuationToken
	list = bucketsJSON{}
	s.json("GET", "/?max-buckets=1&continuation-token="+token, "", &list, "X-Tigris-Fork", "home")
	if got := names(); !slices.Equal(got, []string{"fork2 Snapshot"}) || list.ContinuationToken != "" {
		t.Errorf("second page of forks %q", got)
	}

	var info bucketInfoJSON
	s.json("GET", "/home?metadata&with-size=true", "", &info)
	if info.Type != 1 || *info.Rows != 1 || *info.Size != 3 || !info.ForkInfo.HasChildren {
		t.Errorf("info %+v", info)
	}
}

func TestTigrisPatch(t *testing.T) {
	s := newServer(t)
	s.put("/home", "")
	patch := func(bucket, body string) call {
		return call{method: "PATCH", path: "/" + bucket, body: body, headers: []string{"Content-Type", "application/json"}}
	}
	enabled := func() string {
		return s.want(200, call{method: "HEAD", path: "/home"}).header.Get("X-Tigris-Enable-Snapshot")
	}
	if a := s.want(200, patch("home", `{"type":1}`)); a.body != `{"status":"success"}` || enabled() != "true" {
		t.Errorf("%s, enabled %s", a.body, enabled())
	}
	a := s.want(400, patch("home", `{"type":1}`))
	var e errorJSON
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || !strings.Contains(e.Message, "already enabled") {
		t.Errorf("%v: %s", err, a.body)
	}
	s.want(200, call{method: "PUT", path: "/fork", headers: []string{"X-Tigris-Fork-Source-Bucket", "home"}})
	s.want(400, patch("home", `{"type":0}`))
	s.want(400, patch("fork", `{"type":0}`))
	s.want(204, call{method: "DELETE", path: "/fork"})
	s.want(200, patch("home", `{"type":0}`))
	if enabled() != "false" {
		t.Errorf("enabled %s", enabled())
	}
	s.want(501, patch("home", `{"type":1,"webhook":{}}`))
	for _, bad := range []string{"", "[]", "{}", `{"type":2}`, `{"type":"1"}`} {
		s.want(400, patch("home", bad))
	}
	s.want(404, patch("nowhere", `{"type":1}`))
}

func TestTigrisRename(t *testing.T) {
	s := newServer(t)
	s.put("/home", "")
	s.put("/home/old name", "body")
	rename := func(to, source, value string) call {
		return call{method: "PUT", path: to + "?x-id=CopyObject", headers: []string{"X-Amz-Copy-Source", source, "X-Tigris-Rename", value}}
	}
	a := s.want(200, rename("/home/new", "home/old%20name", "true"))
	if element(a.body, "ETag") == "" || s.get("/home/new") != "body" {
		t.Errorf("answer %s", a.body)
	}
	s.refused(404, "NoSuchKey", call{method: "GET", path: "/home/old%20name"})
	s.refused(404, "NoSuchKey", rename("/home/newer", "home/old%20name", "true"))
	s.refused(400, "InvalidArgument", rename("/home/newer", "other/new", "true"))
	s.refused(400, "InvalidArgument", rename("/home/newer", "home/new", "yes"))
}
