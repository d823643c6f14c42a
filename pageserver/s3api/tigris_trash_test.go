package s3api

import (
	"slices"
	"strings"
	"testing"
)

var inTrash = []string{softDeleteHeader, "true"}

func (s *testServer) trashed(path string) []string {
	s.t.Helper()
	return elements(s.get(path, inTrash...), "Key")
}

func TestTigrisSoftDelete(t *testing.T) {
	s := newServer(t)
	s.want(200, call{method: "PUT", path: "/home", headers: []string{"X-Tigris-Soft-Delete", "true"}})
	for _, key := range []string{"live", "d/one", "d/two", "e", "a%20%26%2B%281%29"} {
		s.put("/home/"+key, "body of "+key)
	}
	remove := func(key string) { s.want(204, call{method: "DELETE", path: "/home/" + key}) }
	for _, key := range []string{"d/one", "d/two", "e", "a%20%26%2B%281%29"} {
		remove(key)
		remove(key) // once more does nothing
	}
	if got := s.trashed("/home?list-type=2"); !slices.Equal(got, []string{"a &amp;+(1)", "d/one", "d/two", "e"}) {
		t.Errorf("deleted %q", got)
	}
	if got := s.trashed("/home?list-type=2&prefix=d/"); !slices.Equal(got, []string{"d/one", "d/two"}) {
		t.Errorf("below d/: %q", got)
	}
	grouped := s.get("/home?list-type=2&delimiter=/", inTrash...)
	if got := elements(grouped, "Key"); len(got) != 2 || !strings.Contains(grouped, "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>") {
		t.Errorf("grouped %s", grouped)
	}
	var all []string
	for token := ""; ; {
		page := s.get("/home?list-type=2&max-keys=1&continuation-token="+token, inTrash...)
		all = append(all, elements(page, "Key")...)
		if token = element(page, "NextContinuationToken"); token == "" {
			break
		}
	}
	if len(all) != 4 {
		t.Errorf("by pages %q", all)
	}
	if live := s.get("/home?list-type=2"); !slices.Equal(elements(live, "Key"), []string{"live"}) {
		t.Errorf("live: %s", live)
	}

	versions := s.get("/home?versions&prefix=d/one", inTrash...)
	ids := elements(versions, "VersionId")
	if len(ids) != 2 || ids[0] != ids[1] || strings.Count(versions, "<DeleteMarker>") != 1 || strings.Count(versions, "<Version>") != 1 {
		t.Fatalf("versions %s", versions)
	}
	restore := func(key, id string) call {
		return call{method: "POST", path: "/home/" + key + "?restore", headers: []string{"X-Tigris-Restore-Type", "soft-delete", "X-Tigris-Restore-Version", id}}
	}
	s.refused(404, "NoSuchVersion", restore("d/one", "5"))
	s.refused(404, "NoSuchVersion", restore("live", ids[0]))
	s.refused(400, "InvalidArgument", call{method: "POST", path: "/home/d/one?restore", headers: []string{"X-Tigris-Restore-Type", "other"}})
	s.want(200, restore("d/one", ids[0]))
	if got := s.get("/home/d/one"); got != "body of d/one" {
		t.Errorf("back came %q", got)
	}
	s.refused(404, "NoSuchVersion", restore("d/one", ids[0]))

	id := elements(s.get("/home?versions&prefix=d/two", inTrash...), "VersionId")[0]
	purge := call{method: "DELETE", path: "/home/d/two?versionId=" + id}
	s.refused(400, "InvalidArgument", purge)
	purge.headers = inTrash
	s.want(204, purge)
	s.refused(404, "NoSuchVersion", purge)
	s.refused(404, "NoSuchVersion", restore("d/two", id))
	if got := s.trashed("/home?list-type=2"); !slices.Equal(got, []string{"a &amp;+(1)", "e"}) {
		t.Errorf("deleted in the end %q", got)
	}
	s.refused(400, "InvalidArgument", call{method: "GET", path: "/home?list-type=2", headers: []string{softDeleteHeader, "yes"}})
	s.refused(400, "InvalidArgument", call{method: "DELETE", path: "/home/live", headers: inTrash})

	// A fork has what its source has; a bucket without soft deletion has none.
	s.want(200, call{method: "PUT", path: "/fork", headers: []string{"X-Tigris-Fork-Source-Bucket", "home"}})
	s.want(204, call{method: "DELETE", path: "/fork/live"})
	if got := s.trashed("/fork?list-type=2"); !slices.Contains(got, "live") {
		t.Errorf("deleted in the fork %q", got)
	}
	s.put("/plain", "")
	s.put("/plain/a", "x")
	s.want(204, call{method: "DELETE", path: "/plain/a"})
	if got := s.trashed("/plain?list-type=2"); len(got) != 0 {
		t.Errorf("without soft deletion %q", got)
	}
}

func TestTigrisDeletedBuckets(t *testing.T) {
	s := newServer(t)
	s.want(200, call{method: "PUT", path: "/home", headers: []string{"X-Tigris-Soft-Delete", "9"}})
	s.put("/home/a", "one")
	s.put("/other", "")
	for _, name := range []string{"home", "other"} {
		s.want(204, call{method: "DELETE", path: "/" + name, headers: []string{"Tigris-Force-Delete", "true"}})
	}
	var list bucketsJSON
	s.json("GET", "/?OnlyDeleted=true", "", &list)
	got := list.Buckets.Bucket
	if len(got) != 2 || got[0].Name != "home" || got[0].SoftDeleteInfo.RetentionDays != 9 || got[1].SoftDeleteInfo.RetentionDays != 1 {
		t.Fatalf("deleted %+v", got)
	}
	list = bucketsJSON{}
	s.json("GET", "/?OnlyDeleted=true&max-buckets=1", "", &list)
	if len(list.Buckets.Bucket) != 1 || list.ContinuationToken == "" {
		t.Errorf("first page %+v", list)
	}
	s.want(200, call{method: "POST", path: "/home?restore"})
	if got := s.get("/home/a"); got != "one" {
		t.Errorf("back came %q", got)
	}
	s.refused(409, "BucketAlreadyExists", call{method: "POST", path: "/home?restore"})
	s.refused(404, "NoSuchBucket", call{method: "POST", path: "/never?restore"})
	s.want(403, call{method: "POST", path: "/other?restore", unsigned: true})
	list = bucketsJSON{}
	s.json("GET", "/?IncludeStats=true", "", &list)
	if list.Stats == nil || *list.Stats != (statsJSON{1, 1, 1, 3}) {
		t.Errorf("stats %+v", list.Stats)
	}
}
