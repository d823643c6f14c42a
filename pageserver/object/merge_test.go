package object

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"stemma/timeline"
	"stemma/wal"
)

func (h *harness) fork(source, name string) {
	h.t.Helper()
	if _, err := h.Fork(h.ctx, source, 0, []string{name}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) del(bucket, key string) {
	h.t.Helper()
	if _, err := h.Delete(h.ctx, bucket, DeleteKey{Key: key}); err != nil {
		h.t.Fatal(err)
	}
}

// describe says what a difference consists of.
func describe(entries []DiffEntry) string {
	var out []string
	for _, e := range entries {
		s := fmt.Sprintf("%s %s", e.Kind, e.Key)
		if e.OldKey != "" {
			s += " from " + e.OldKey
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func TestDiffKinds(t *testing.T) {
	h := start(t)
	large := random(1, 100_000)
	for _, key := range []string{"gone", "meta", "mod", "same", "dir/same"} {
		h.put("home", key, []byte("content of "+key))
	}
	h.put("home", "old name", large)
	before := h.store.Visible()
	h.fork("home", "dev")
	h.del("dev", "gone")
	h.put("dev", "mod", []byte("other"))
	h.put("dev", "new", []byte("new"))
	h.put("dev", "same", []byte("content of same"))
	if _, err := h.SetTags(h.ctx, "dev", "meta", 0, []Field{{"k", "v"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Rename(h.ctx, "dev", "name", &RenameInput{Source: "old name"}); err != nil {
		t.Fatal(err)
	}
	want := "removed gone, metadata meta, modified mod, renamed name from old name, added new"
	in := DiffInput{From: Point{Bucket: "home"}, To: Point{Bucket: "dev"}}
	page, err := h.Diff(h.ctx, &in)
	if err != nil || describe(page.Entries) != want || page.NextToken != "" {
		t.Fatalf("%s, more %q, %v; want %s", describe(page.Entries), page.NextToken, err, want)
	}
	wantSum := DiffSummary{Added: 1, Removed: 1, Modified: 1, Metadata: 1, Renamed: 1, BytesAdded: 8, BytesRemoved: uint64(len("content of gone") + len("content of mod"))}
	if page.Summary != wantSum {
		t.Errorf("sum %+v, want %+v", page.Summary, wantSum)
	}
	// Page by page at the same LSNs, whatever is written meanwhile.
	in.Max = 1
	var keys []string
	for {
		page, err := h.Diff(h.ctx, &in)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			keys = append(keys, e.Key)
		}
		h.put("dev", "zzz"+fmt.Sprint(len(keys)), nil)
		if in.Token = page.NextToken; in.Token == "" {
			break
		}
	}
	if got := strings.Join(keys, ","); got != "gone,meta,mod,name,new,old name" {
		t.Errorf("pages have %s", got)
	}
	// A prefix, and the past of a bucket below its birth.
	sum, err := h.DiffAll(h.ctx, DiffInput{From: Point{"home", before}, To: Point{"dev", before}}, nil)
	if err != nil || sum != (DiffSummary{}) {
		t.Errorf("a fork before its birth differs from its parent: %+v, %v", sum, err)
	}
	if page, err = h.Diff(h.ctx, &DiffInput{From: Point{Bucket: "home"}, To: Point{Bucket: "dev"}, Prefix: "m"}); err != nil || describe(page.Entries) != "metadata meta, modified mod" {
		t.Errorf("prefix m: %s, %v", describe(page.Entries), err)
	}
	for _, token := range []string{"x", "AgAAAAAAAAAAAAAAAAAAAABh", strings.Repeat("A", 3000)} {
		_, err = h.Diff(h.ctx, &DiffInput{From: Point{Bucket: "home"}, To: Point{Bucket: "dev"}, Token: token})
		wantErr(t, err, ErrInvalidToken)
	}
}

// A merge moves handles, metadata and tags, deletes, and leaves nothing that would keep
// the fork.
func TestMergeObjects(t *testing.T) {
	h := start(t)
	large := random(2, 300_000)
	for _, key := range []string{"a", "b", "c", "d/1", "d/2"} {
		h.put("home", key, []byte("first "+key))
	}
	h.fork("home", "dev")
	h.put("dev", "large", large)
	h.del("dev", "b")
	h.put("dev", "a", []byte("dev"))
	if _, err := h.SetTags(h.ctx, "dev", "c", 0, []Field{{"k", "v"}}); err != nil {
		t.Fatal(err)
	}
	h.put("dev", "d/1", []byte("dev"))
	h.put("home", "d/1", []byte("home"))
	streamed := h.StreamedBytes()

	in := MergeInput{Source: Point{Bucket: "dev"}, Target: "home"}
	var conflicts *timeline.MergeConflictError
	if _, err := h.Merge(h.ctx, &in); !errors.As(err, &conflicts) || conflicts.Count != 1 || string(conflicts.Conflicts[0].Key) != "d/1" {
		t.Fatalf("conflicts %v", err)
	}
	h.want("home", "a", 0, []byte("first a"))

	in.DryRun, in.Max = true, 2
	var keys []string
	for {
		r, err := h.Merge(h.ctx, &in)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Entries {
			keys = append(keys, e.Action+" "+e.Key)
		}
		if in.After = r.Next; in.After == "" {
			break
		}
	}
	if got, want := strings.Join(keys, ", "), "put a, delete b, put c, conflict d/1, put large"; got != want {
		t.Fatalf("dry run: %s; want %s", got, want)
	}

	in = MergeInput{Source: Point{Bucket: "dev"}, Target: "home", Overrides: []MergeOverride{{Prefix: "d/", Strategy: MergeTargetWins}}}
	r, err := h.Merge(h.ctx, &in)
	if err != nil || r.Put != 3 || r.Deleted != 1 || r.Kept != 1 || !r.Committed || len(r.Entries) != 5 {
		t.Fatalf("merge: %+v, %v", r, err)
	}
	if _, err := h.DeleteBucket(h.ctx, "dev", timeline.DeleteOptions{}); err == nil {
		t.Fatal("a bucket with objects was deleted")
	}
	if _, err := h.store.DeleteBucket(h.ctx, "dev", timeline.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.CollectFull(h.ctx); err != nil {
		t.Fatal(err)
	}
	h.want("home", "a", 0, []byte("dev"))
	h.wantAbsent("home", "b", 0)
	h.want("home", "d/1", 0, []byte("home"))
	if o := h.want("home", "large", 0, large); o.LSN != r.LSN {
		t.Errorf("large is of %d, want that of the merge, %d", o.LSN, r.LSN)
	}
	if o := h.want("home", "c", 0, []byte("first c")); len(o.Tags) != 1 {
		t.Errorf("tags %v", o.Tags)
	}
	if now := h.StreamedBytes(); now != streamed {
		t.Errorf("%d bytes were written by merges", now-streamed)
	}
}

// Where the target keeps versions, what it had becomes one, and the versions that the
// fork made come along with their ids.
func TestMergeCarriesVersions(t *testing.T) {
	h := start(t)
	if _, err := h.SetVersioning(h.ctx, "home", Enabled); err != nil {
		t.Fatal(err)
	}
	base := h.put("home", "k", []byte("base"))
	h.put("home", "d", []byte("base"))
	h.fork("home", "dev")
	mid := h.put("dev", "k", []byte("mid"))
	h.put("dev", "k", []byte("tip"))
	h.del("dev", "d")
	r, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.ListVersions(h.ctx, "home", &ListVersionsInput{MaxKeys: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range list.Entries {
		got = append(got, fmt.Sprintf("%s %v %v", v.Key, v.ID, v.Marker))
	}
	var want []string
	for _, v := range []struct {
		key    string
		id     wal.LSN
		marker bool
	}{{"d", r.LSN, true}, {"d", 0, false}, {"k", r.LSN, false}, {"k", mid.LSN, false}, {"k", base.LSN, false}} {
		want = append(want, fmt.Sprintf("%s %v %v", v.key, VersionID(v.id), v.marker))
	}
	if len(got) != len(want) {
		t.Fatalf("versions %q, want %q", got, want)
	}
	for i := range want {
		if i != 1 && got[i] != want[i] {
			t.Errorf("version %d is %q, want %q", i, got[i], want[i])
		}
	}
	if _, body, err := h.get("home", "k", GetInput{Version: VersionID(mid.LSN)}); err != nil || string(body) != "mid" {
		t.Errorf("version %d: %q, %v", mid.LSN, body, err)
	}
	h.want("home", "k", 0, []byte("tip"))
	h.wantAbsent("home", "d", 0)
}

func TestPickRevertRebaseObjects(t *testing.T) {
	h := start(t)
	for _, key := range []string{"a", "b", "p/1"} {
		h.put("home", key, []byte("first"))
	}
	h.fork("home", "dev")
	h.put("dev", "a", []byte("dev"))
	h.put("dev", "p/1", []byte("dev"))
	before := h.store.Visible()
	if r, err := h.CherryPick(h.ctx, &PickInput{Source: Point{Bucket: "dev"}, Target: "home", Prefixes: []string{"p/"}}); err != nil || r.Put != 1 {
		t.Fatalf("pick: %+v, %v", r, err)
	}
	h.want("home", "a", 0, []byte("first"))
	h.want("home", "p/1", 0, []byte("dev"))
	if r, err := h.Revert(h.ctx, &RevertInput{Bucket: "home", From: before}); err != nil || r.Put != 1 {
		t.Fatalf("revert: %+v, %v", r, err)
	}
	h.want("home", "p/1", 0, []byte("first"))
	h.put("home", "b", []byte("home"))
	if r, err := h.Rebase(h.ctx, &MergeInput{Source: Point{Bucket: "home"}, Target: "dev", Strategy: MergeTargetWins}); err != nil || r.Put != 1 {
		t.Fatalf("rebase: %+v, %v", r, err)
	}
	h.want("dev", "b", 0, []byte("home"))
	h.want("dev", "a", 0, []byte("dev"))

	_, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "home"}, Target: "dev"})
	wantErr(t, err, timeline.ErrNotDescendant)
	_, err = h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home", Strategy: "mine"})
	wantErr(t, err, ErrBadStrategy)
	_, err = h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home", Overrides: []MergeOverride{{Key: "a", Prefix: "a"}}})
	wantErr(t, err, ErrBadStrategy)
	_, err = h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "none"}, Target: "home"})
	wantErr(t, err, timeline.ErrNoSuchBucket)
	_, err = h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home", IfTargetLSN: before})
	wantErr(t, err, timeline.ErrTargetChanged)
	_, err = h.CherryPick(h.ctx, &PickInput{Source: Point{Bucket: "dev"}, Target: "home", Keys: []string{strings.Repeat("k", 2000)}})
	wantErr(t, err, ErrKeyTooLong)
	_, err = h.Revert(h.ctx, &RevertInput{Bucket: "home", From: h.store.Visible()})
	wantErr(t, err, timeline.ErrBadRange)
}
