package s3api

import "testing"

func TestTigrisMergeAndRebase(t *testing.T) {
	s := newServer(t)
	fork := func(name, source string) {
		t.Helper()
		s.want(200, call{method: "PUT", path: "/" + name, headers: []string{"X-Tigris-Fork-Source-Bucket", source}})
	}
	merge := func(target, source string) call {
		return call{method: "PUT", path: "/" + target, headers: []string{"X-Tigris-Merge-Source-Bucket", source}}
	}
	rebase := func(bucket, value string) call {
		return call{method: "PUT", path: "/" + bucket, headers: []string{"X-Tigris-Rebase", value}}
	}
	s.snapshotBucket("home")
	s.put("/home/a", "one")
	s.put("/home/gone", "one")
	fork("fork", "home")
	fork("leaf", "fork")
	s.put("/fork/a", "two")
	s.want(204, call{method: "DELETE", path: "/fork/gone"})
	s.put("/home/b", "of home")

	a := s.want(200, rebase("fork", "true"))
	if a.header.Get("X-Tigris-Snapshot-Version") == "" || s.get("/fork/b") != "of home" || s.get("/fork/a") != "two" {
		t.Errorf("after the rebase: %v", a.header)
	}
	a = s.want(200, merge("home", "fork"))
	version := a.header.Get("X-Tigris-Snapshot-Version")
	if s.get("/home/a") != "two" || s.get("/home/a", "X-Tigris-Snapshot-Version", version) != "two" {
		t.Errorf("after the merge: %v", a.header)
	}
	s.refused(404, "NoSuchKey", call{method: "GET", path: "/home/gone"})

	s.put("/fork/a", "three")
	s.put("/home/a", "four")
	s.refused(409, "MergeConflict", merge("home", "fork"))
	if got := s.get("/home/a"); got != "four" {
		t.Errorf("a refused merge left %q", got)
	}
	s.refused(400, "InvalidArgument", merge("home", "leaf"))
	s.refused(400, "InvalidArgument", merge("fork", "home"))
	s.refused(404, "NoSuchBucket", merge("home", "nowhere"))
	s.refused(404, "NoSuchBucket", merge("nowhere", "fork"))
	s.refused(400, "InvalidArgument", rebase("home", "true"))
	s.refused(400, "InvalidArgument", rebase("fork", "1"))
}
