package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// quota gives a bucket a quota; zeros clear it.
func (h *harness) quota(bucket string, maxBytes, maxObjects int64) {
	h.t.Helper()
	if _, err := h.UpdateBucket(h.ctx, bucket, func(o *BucketOptions) error {
		o.MaxBytes, o.MaxObjects = maxBytes, maxObjects
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
}

// wantUsage compares what a bucket uses, as its counter says, with what is expected, with what a listing of its
// versions adds up to, and with what it is counted to be anew.
func (h *harness) wantUsage(bucket string, bytes, objects int64) {
	h.t.Helper()
	want := Usage{bytes, objects}
	used, err := h.QuotaUsage(h.ctx, bucket)
	if err != nil {
		h.t.Fatal(err)
	}
	if used != want {
		h.t.Errorf("%s uses %+v, want %+v", bucket, used, want)
	}
	info, err := h.Bucket(bucket, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	var listed Usage
	for in := (ListVersionsInput{MaxKeys: 1000}); ; {
		page, err := h.ListVersions(h.ctx, bucket, &in)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, e := range page.Entries {
			if !e.Marker && e.LSN > info.BranchLSN {
				listed.add(Usage{int64(e.Size), 1})
			}
		}
		if !page.Truncated {
			break
		}
		in.KeyMarker, in.VersionMarker = page.NextKeyMarker, page.NextVersionMarker
	}
	if listed != want {
		h.t.Errorf("%s lists %+v, want %+v", bucket, listed, want)
	}
	h.meters.drop(info.Timeline, h.meters.m[info.Timeline])
	if used, err = h.QuotaUsage(h.ctx, bucket); err != nil || used != want {
		h.t.Errorf("%s, counted anew, uses %+v (%v), want %+v", bucket, used, err, want)
	}
}

func (h *harness) tryPut(bucket, key string, size int) error {
	_, err := h.Put(h.ctx, bucket, key, &PutInput{Body: strings.NewReader(strings.Repeat("x", size)), Size: int64(size)})
	return err
}

// dump is all versions of a bucket.
func (h *harness) dump(bucket string) string {
	h.t.Helper()
	page, err := h.ListVersions(h.ctx, bucket, &ListVersionsInput{MaxKeys: 1000})
	if err != nil || page.Truncated {
		h.t.Fatal(err, page)
	}
	return fmt.Sprintf("%+v", page.Entries)
}

func (h *harness) wantRefused(err error) {
	h.t.Helper()
	if !errors.Is(err, ErrQuotaExceeded) {
		h.t.Errorf("error %v, want that of the quota", err)
	}
}

// A quota holds for what every way to write makes a bucket grow by; what is refused writes nothing.
func TestQuotaOfEveryWrite(t *testing.T) {
	merge := func(run func(*Service, context.Context, *MergeInput) (*MergeReport, error), source string) func(h *harness) error {
		return func(h *harness) error {
			_, err := run(h.Service, h.ctx, &MergeInput{Source: Point{Bucket: source}, Target: "home"})
			return err
		}
	}
	// Each begins with "a" of 60 bytes, and "b" of 40 KiB in "other", of which there are versions if versioned.
	const large = 40 << 10
	var at wal.LSN
	var u *Upload
	var part *Part
	cases := []struct {
		name   string
		before func(h *harness) // the quota is set
		write  func(h *harness) error
		grows  Usage
	}{
		{"put", nil, func(h *harness) error { return h.tryPut("home", "n", 40) }, Usage{40, 1}},
		{"put of a large body", nil, func(h *harness) error { return h.tryPut("home", "n", 100_000) }, Usage{100_000, 1}},
		{"put of unknown length", nil, func(h *harness) error {
			_, err := h.Put(h.ctx, "home", "n", &PutInput{Body: bytes.NewReader(make([]byte, 70_000)), Size: -1})
			return err
		}, Usage{70_000, 1}},
		{"overwrite", nil, func(h *harness) error { return h.tryPut("home", "a", 100) }, Usage{40, 0}},
		{"conditional put", nil, func(h *harness) error {
			_, err := h.Put(h.ctx, "home", "n", &PutInput{Body: strings.NewReader("12345"), Size: 5, Cond: Conditions{IfNoneMatch: "*"}})
			return err
		}, Usage{5, 1}},
		{"put beside a version", func(h *harness) { h.versioning("home", Enabled) }, func(h *harness) error { return h.tryPut("home", "a", 10) }, Usage{10, 1}},
		{"empty object", nil, func(h *harness) error { return h.tryPut("home", "n", 0) }, Usage{0, 1}},
		{"copy", nil, func(h *harness) error {
			_, err := h.Copy(h.ctx, "home", "n", &CopyInput{SrcBucket: "other", SrcKey: "b"})
			return err
		}, Usage{large, 1}},
		{"append", nil, func(h *harness) error { _, err := h.append("a", 60, []byte("1234")); return err }, Usage{4, 0}},
		{"append that makes", nil, func(h *harness) error { _, err := h.append("n", 0, []byte("1234")); return err }, Usage{4, 1}},
		{"complete", func(h *harness) {
			u = h.upload("home", "up", UploadInput{})
			part = h.part(u, 1, []byte("part"), Expect{})
		}, func(h *harness) error { _, err := h.complete(u, CompleteInput{Size: -1}, part); return err }, Usage{4, 1}},
		{"rename beside a version", func(h *harness) { h.versioning("home", Enabled) }, func(h *harness) error {
			_, err := h.Rename(h.ctx, "home", "n", &RenameInput{Source: "a"})
			return err
		}, Usage{60, 1}},
		{"commit", nil, func(h *harness) error {
			_, err := h.Commit(h.ctx, "home", &CommitInput{Ops: []CommitOp{
				{Kind: CommitPut, Key: "n", Data: make([]byte, 100)}, {Kind: CommitDelete, Key: "a"}, {Kind: CommitCopy, Key: "c", SrcBucket: "other", Source: "b"},
			}})
			return err
		}, Usage{40 + large, 1}},
		{"commit of prefixes", nil, func(h *harness) error {
			_, err := h.Commit(h.ctx, "home", &CommitInput{Ops: []CommitOp{
				{Kind: CommitRenamePrefix, Key: "dir/", Source: "a"}, {Kind: CommitPut, Key: "n", Data: make([]byte, 7)},
			}})
			return err
		}, Usage{7, 1}},
		{"create in place", nil, func(h *harness) error {
			_, err := h.WritePages(h.ctx, "home", "n", &PageInput{Ops: []PageOp{{Kind: PageWrite, Off: 1000, Data: []byte("x")}}, Create: &PageCreate{}})
			return err
		}, Usage{1001, 1}},
		{"grow in place", nil, func(h *harness) error {
			_, err := h.WritePages(h.ctx, "home", "a", &PageInput{Ops: []PageOp{{Kind: PageResize, Off: 1 << 20}}})
			return err
		}, Usage{1<<20 - 60, 0}},
		{"clone", nil, func(h *harness) error {
			_, err := h.Clone(h.ctx, "home", "n", &CloneInput{SrcBucket: "other", SrcKey: "b", Len: 30_000})
			return err
		}, Usage{30_000, 1}},
		{"append in place", func(h *harness) {
			if _, err := h.WritePages(h.ctx, "home", "a", &PageInput{Ops: []PageOp{{Kind: PageWrite, Data: []byte("x")}}}); err != nil {
				h.t.Fatal(err)
			}
		}, func(h *harness) error { _, err := h.append("a", 60, []byte("1234")); return err }, Usage{4, 0}},
		{"undelete", func(h *harness) { h.del("home", "gone") }, func(h *harness) error {
			_, err := h.Undelete(h.ctx, "home", []string{"gone"}, false)
			return err
		}, Usage{5, 1}},
		{"revert", func(h *harness) { at = h.store.Visible(); h.del("home", "gone") }, func(h *harness) error {
			_, err := h.Revert(h.ctx, &RevertInput{Bucket: "home", From: at})
			return err
		}, Usage{5, 1}},
		{"rebase", func(h *harness) {
			h.fork("other", "dev")
			h.put("other", "c", make([]byte, 33))
			h.move(timeline.Move{Bucket: "home", Source: "dev"}, timeline.Move{Bucket: "dev", Source: "home"})
		}, func(h *harness) error {
			_, err := h.Rebase(h.ctx, &MergeInput{Source: Point{Bucket: "other"}, Target: "home"})
			return err
		}, Usage{33, 1}},
		{"merge", func(h *harness) {
			h.fork("home", "dev")
			h.put("dev", "n", make([]byte, 90))
			h.del("dev", "a")
		}, merge((*Service).Merge, "dev"), Usage{30, 0}},
		{"merge with versions", func(h *harness) {
			h.versioning("home", Enabled)
			h.fork("home", "dev")
			h.put("dev", "a", make([]byte, 1))
			h.put("dev", "a", make([]byte, 2))
		}, merge((*Service).Merge, "dev"), Usage{3, 2}},
		{"cherry-pick", nil, func(h *harness) error {
			_, err := h.CherryPick(h.ctx, &PickInput{Source: Point{Bucket: "other"}, Target: "home", Keys: []string{"b"}})
			return err
		}, Usage{large, 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := start(t)
			if _, err := h.store.SetWindow(h.ctx, "home", gc.Forever); err != nil {
				t.Fatal(err)
			}
			h.bucket("other")
			h.put("other", "b", make([]byte, large))
			h.put("home", "a", make([]byte, 60))
			h.put("home", "gone", make([]byte, 5))
			h.quota("home", MaxQuota, MaxQuota)
			if c.before != nil {
				c.before(h)
			}
			was, err := h.QuotaUsage(h.ctx, "home")
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range []Usage{{was.Bytes + c.grows.Bytes - 1, 0}, {0, was.Objects + c.grows.Objects - 1}} {
				if q.Bytes != 0 && c.grows.Bytes == 0 || q.Objects != 0 && c.grows.Objects == 0 {
					continue
				}
				h.quota("home", q.Bytes, q.Objects)
				before := h.dump("home")
				var e *QuotaError
				if err := c.write(h); !errors.As(err, &e) {
					t.Fatalf("with a quota of %+v: %v", q, err)
				}
				if now := h.dump("home"); now != before {
					t.Fatalf("what was refused has written\n%s\nit was\n%s", now, before)
				}
				h.wantUsage("home", was.Bytes, was.Objects)
			}
			h.quota("home", was.Bytes+c.grows.Bytes, was.Objects+c.grows.Objects)
			if err := c.write(h); err != nil {
				t.Fatal(err)
			}
			h.wantUsage("home", was.Bytes+c.grows.Bytes, was.Objects+c.grows.Objects)
		})
	}
}

// What frees room is never refused, however much more than the quota is used, and nobody waits for a count.
func TestQuotaRefusesNoDeletes(t *testing.T) {
	h := start(t)
	h.versioning("home", Enabled)
	for i := range 6 {
		h.put("home", "a", make([]byte, 100+i))
		h.put("home", fmt.Sprint("k", i), make([]byte, 10))
	}
	h.fork("home", "dev")
	h.quota("home", 1, 1)
	h.wantRefused(h.tryPut("home", "a", 1))
	h.wantUsage("home", 675, 12)
	h.meters.m = map[layers.TimelineID]*meter{}
	h.del("home", "k0") // a marker
	if len(h.meters.m) != 0 {
		t.Error("a delete has counted the bucket")
	}
	h.wantUsage("home", 675, 12)
	h.delete("home", DeleteKey{Key: "k1", Version: h.newest("home", "k1")})
	h.delete("home", DeleteKey{Key: "a", Version: h.newest("home", "a")}) // the one before becomes current
	h.wantUsage("home", 560, 10)
	if _, _, err := h.DeleteMany(h.ctx, "home", []DeleteKey{{Key: "k2", Version: h.newest("home", "k2")}, {Key: "k3"}, {Key: "none"}}); err != nil {
		t.Fatal(err)
	}
	h.wantUsage("home", 550, 9)
	if _, err := h.Commit(h.ctx, "home", &CommitInput{Ops: []CommitOp{{Kind: CommitDeletePrefix, Key: "k"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SetTags(h.ctx, "home", "a", 0, []Field{{"k", "v"}}); err != nil {
		t.Fatal(err)
	}
	h.wantUsage("home", 550, 9)
	h.rules("home", LifecycleRule{NoncurrentExpiration: &NoncurrentExpiration{Days: ptr(int32(1))}})
	h.age("home", 3*day)
	h.wantUsage("home", 104, 1)
	h.wantRefused(h.tryPut("home", "n", 0))
}

// Two that delete the same object make room once.
func TestQuotaConcurrentDeletes(t *testing.T) {
	h := start(t)
	h.quota("home", 1000, 0)
	for i := range 50 {
		h.put("home", "a", make([]byte, 10))
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { h.del("home", "a") })
		}
		all.Wait()
		if used, err := h.QuotaUsage(h.ctx, "home"); err != nil || used != (Usage{}) {
			t.Fatalf("round %d: %+v, %v", i, used, err)
		}
	}
}

// Writers that compete for the last room never exceed the quota, and fill it to the end.
func TestQuotaConcurrentWriters(t *testing.T) {
	h := start(t)
	h.quota("home", 1000, 0)
	var written, refused atomic.Int64
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 40 {
				switch err := h.tryPut("home", fmt.Sprintf("%d/%d", w, i), 10); {
				case err == nil:
					written.Add(10)
				case errors.Is(err, ErrQuotaExceeded):
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	// All want the same of a counter, and none fails for another reason: nothing is left free.
	if written.Load() != 1000 || refused.Load() != 220 {
		t.Errorf("%d bytes were written, %d writes refused", written.Load(), refused.Load())
	}
	h.wantUsage("home", 1000, 100)

	for w := range 4 { // overwriting, growing and deleting by turns
		all.Go(func() {
			for i := range 100 {
				key := fmt.Sprintf("%d/%d", i%5, i%7)
				if i%3 == w%3 {
					if _, err := h.Delete(h.ctx, "home", DeleteKey{Key: key}); err != nil {
						t.Error(err)
					}
				} else if err := h.tryPut("home", key, 5*(i%9)); err != nil && !errors.Is(err, ErrQuotaExceeded) {
					t.Error(err)
				}
				if used, err := h.QuotaUsage(h.ctx, "home"); err != nil || used.Bytes > 1000 {
					t.Errorf("%+v are used: %v", used, err)
				}
			}
		})
	}
	all.Wait()
	used, err := h.QuotaUsage(h.ctx, "home")
	if err != nil {
		t.Fatal(err)
	}
	h.wantUsage("home", used.Bytes, used.Objects)
}

// A quota that comes while blind puts and deletes are on their way counts all of them.
func TestQuotaSetAmongBlindWrites(t *testing.T) {
	h := start(t)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for w := range 6 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprint(w%2, "/", i%4)
				if i%5 == 4 {
					h.del("home", key)
				} else if err := h.tryPut("home", key, i%50); err != nil && !errors.Is(err, ErrQuotaExceeded) {
					t.Error(err)
				}
			}
		})
	}
	for i := range 60 {
		h.quota("home", int64(100+i%3), 0)
		used, err := h.QuotaUsage(h.ctx, "home")
		if err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 {
			h.quota("home", 0, 0)
		}
		_ = used
	}
	close(stop)
	all.Wait()
	h.quota("home", 1, 0)
	used, err := h.QuotaUsage(h.ctx, "home")
	if err != nil {
		t.Fatal(err)
	}
	h.wantUsage("home", used.Bytes, used.Objects)
}

// A quota starts from the snapshot (branch point), not the live source: what a fork inherits is free, and nothing
// that becomes of the source changes what the fork uses.
func TestQuotaStartsFromTheBranchPoint(t *testing.T) {
	h := start(t)
	if _, err := h.store.SetWindow(h.ctx, "home", gc.Forever); err != nil {
		t.Fatal(err)
	}
	h.put("home", "a", make([]byte, 1000))
	h.put("home", "b", make([]byte, 500))
	point := h.store.Visible()
	h.put("home", "late", make([]byte, 5000))
	o := &BucketOptions{}
	o.MaxBytes, o.MaxObjects = 100, 3
	if _, err := h.ForkMany(h.ctx, "home", point, []string{"fork-1", "fork-2"}, o); err != nil {
		t.Fatal(err)
	}
	h.wantUsage("fork-1", 0, 0)
	h.put("home", "more", make([]byte, 9000))
	h.del("home", "a")
	h.wantUsage("fork-1", 0, 0)

	h.wantRefused(h.tryPut("fork-1", "n", 101))
	h.put("fork-1", "n", make([]byte, 60))
	h.put("fork-1", "a", make([]byte, 40)) // in full, though it is less than what was inherited
	h.wantUsage("fork-1", 100, 2)
	h.wantRefused(h.tryPut("fork-1", "m", 1))
	h.del("fork-1", "b") // what was free makes no room
	h.wantUsage("fork-1", 100, 2)
	h.wantRefused(h.tryPut("fork-1", "m", 1))
	h.del("fork-1", "n")
	h.put("fork-1", "m", make([]byte, 60))
	h.wantUsage("fork-1", 100, 2)
	h.wantUsage("fork-2", 0, 0)

	// A fork of a fork inherits what that has written; the quota stays where it is.
	h.fork("fork-1", "grand")
	h.put("grand", "x", make([]byte, 5000))
	h.quota("grand", 5001, 0)
	h.wantUsage("grand", 5000, 1)
	h.wantRefused(h.tryPut("grand", "y", 2))

	// The source goes, and what only it had.
	if _, err := h.DeleteBucket(h.ctx, "home", timeline.DeleteOptions{Force: true, Undo: -1}); err != nil {
		t.Fatal(err)
	}
	h.flush()
	h.wantUsage("fork-1", 100, 2)
}

// What a fork renames, appends to or writes in place goes on being inherited, and counts what it has grown by; a copy does not.
func TestQuotaOfInheritedObjectsThatGoOn(t *testing.T) {
	h := start(t)
	if _, err := h.store.SetWindow(h.ctx, "home", gc.Forever); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"renamed", "appended", "paged", "both", "committed"} {
		h.put("home", key, make([]byte, 1000))
	}
	h.fork("home", "dev")
	grows := func(bytes, objects int64, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		used, err := h.QuotaUsage(h.ctx, "dev")
		info, _ := h.Bucket("dev", 0)
		h.meters.drop(info.Timeline, h.meters.m[info.Timeline])
		again, err2 := h.QuotaUsage(h.ctx, "dev")
		if want := (Usage{bytes, objects}); err != nil || err2 != nil || used != want || again != want {
			t.Errorf("dev uses %+v (%v), counted anew %+v (%v), want %+v", used, err, again, err2, want)
		}
	}
	appendTo := func(key string, offset, n int) error {
		_, err := h.Append(h.ctx, "dev", key, uint64(offset), &PutInput{Body: bytes.NewReader(make([]byte, n)), Size: int64(n)})
		return err
	}
	rename := func(bucket, from, to string) error {
		_, err := h.Rename(h.ctx, bucket, to, &RenameInput{Source: from})
		return err
	}
	write := func(key string, ops ...PageOp) error {
		_, err := h.WritePages(h.ctx, "dev", key, &PageInput{Ops: ops})
		return err
	}
	if err := rename("dev", "committed", "unmetered"); err != nil { // no quota yet: it is remembered all the same
		t.Fatal(err)
	}
	h.quota("dev", 100, 1)
	grows(0, 0, nil)
	grows(0, 0, rename("dev", "renamed", "moved"))
	grows(0, 0, rename("dev", "moved", "again"))
	grows(60, 0, appendTo("appended", 1000, 60))
	h.wantRefused(appendTo("appended", 1060, 41))
	grows(100, 0, appendTo("appended", 1060, 40))
	grows(100, 0, write("paged", PageOp{Kind: PageWrite, Off: 10, Data: make([]byte, 900)}))
	h.wantRefused(write("paged", PageOp{Kind: PageWrite, Off: 1000, Data: []byte("x")}))
	h.wantRefused(appendTo("paged", 1000, 1))
	grows(100, 0, write("paged", PageOp{Kind: PageResize, Off: 500}))
	grows(100, 0, write("paged", PageOp{Kind: PageResize, Off: 1000}))
	grows(100, 0, rename("dev", "paged", "paged again"))
	_, err := h.Commit(h.ctx, "dev", &CommitInput{Ops: []CommitOp{
		{Kind: CommitRename, Source: "again", Key: "both"}, {Kind: CommitRename, Source: "both", Key: "again"}, {Kind: CommitRenamePrefix, Source: "unm", Key: "m"},
	}})
	grows(100, 0, err)
	h.quota("dev", 2000, 0)
	_, err = h.Copy(h.ctx, "dev", "copy", &CopyInput{SrcBucket: "dev", SrcKey: "again", StorageClass: Glacier})
	grows(1100, 1, err)
	h.del("dev", "appended")
	grows(1000, 1, nil)

	// Whoever forks the fork inherits all, what is merged is a new version of the target.
	h.fork("dev", "grand")
	h.quota("grand", 10, 0)
	if err := rename("grand", "copy", "mine"); err != nil {
		t.Fatal(err)
	}
	h.wantRefused(h.tryPut("grand", "n", 11))
	h.quota("home", MaxQuota, 0)
	if _, err := h.CherryPick(h.ctx, &PickInput{Source: Point{Bucket: "dev"}, Target: "home", Keys: []string{"both", "copy"}}); err != nil {
		t.Fatal(err)
	}
	h.wantUsage("home", 6000, 6)

	// Where versions are kept, what it was stays beside it.
	h.versioning("dev", Enabled)
	h.quota("dev", 4000, 0)
	grows(2000, 2, rename("dev", "both", "beside"))
	h.wantRefused(appendTo("again", 1000, 1001))
	grows(3001, 3, appendTo("again", 1000, 1))
}

// Versions that a fork inherits stay free when others become current.
func TestQuotaOfForkWithVersions(t *testing.T) {
	h := start(t)
	h.versioning("home", Enabled)
	h.put("home", "a", make([]byte, 1000))
	h.fork("home", "dev")
	h.quota("dev", 100, 0)
	h.put("dev", "a", make([]byte, 60))
	h.wantUsage("dev", 60, 1)
	h.del("dev", "a")
	h.wantUsage("dev", 60, 1)
	h.wantRefused(h.tryPut("dev", "a", 41))
	for _, e := range h.versions("dev") {
		if e.Marker || e.Size == 60 {
			h.delete("dev", DeleteKey{Key: "a", Version: e.ID})
		}
	}
	h.wantUsage("dev", 0, 0) // the inherited one is current again
	if _, err := h.SetTags(h.ctx, "dev", "a", 0, []Field{{"k", "v"}}); err != nil {
		t.Fatal(err)
	}
	h.wantUsage("dev", 0, 0)
}

func (h *harness) versions(bucket string) []VersionEntry {
	h.t.Helper()
	page, err := h.ListVersions(h.ctx, bucket, &ListVersionsInput{MaxKeys: 1000})
	if err != nil {
		h.t.Fatal(err)
	}
	return page.Entries
}

// Quotas are raised, lowered and cleared while the bucket is in use.
func TestQuotaChanges(t *testing.T) {
	h := start(t)
	h.put("home", "a", make([]byte, 100))
	h.quota("home", 150, 0)
	h.wantRefused(h.tryPut("home", "b", 51))
	h.quota("home", 151, 0)
	h.put("home", "b", make([]byte, 51))
	h.quota("home", 10, 0) // less than is used
	h.wantUsage("home", 151, 2)
	h.wantRefused(h.tryPut("home", "c", 1))
	h.put("home", "a", make([]byte, 99)) // it shrinks
	h.put("home", "c", nil)
	h.quota("home", 0, 3) // of the other sort
	h.put("home", "a", make([]byte, 9999))
	h.wantRefused(h.tryPut("home", "d", 0))
	h.quota("home", 0, 0)
	h.put("home", "d", make([]byte, 1)) // blind, and not counted
	if used, err := h.QuotaUsage(h.ctx, "home"); err != nil || used != (Usage{}) {
		t.Errorf("without a quota: %+v, %v", used, err)
	}
	h.quota("home", 100_000, 0)
	h.wantUsage("home", 9999+51+1, 4)
	for _, bad := range []Quota{{MaxBytes: -1}, {MaxObjects: MaxQuota + 1}} {
		if _, err := h.UpdateBucket(h.ctx, "home", func(o *BucketOptions) error { o.Quota = bad; return nil }); !errors.Is(err, ErrBadAttributes) {
			t.Errorf("quota of %+v: %v", bad, err)
		}
	}
	if _, err := h.RenameBucket(h.ctx, "home", "house"); err != nil {
		t.Fatal(err)
	}
	h.wantUsage("house", 9999+51+1, 4)
	h.wantRefused(h.tryPut("house", "e", 100_000))
}

// After a crash a counter is what it was, without what was refused.
func TestQuotaAfterCrash(t *testing.T) {
	fs := storefs.NewMem()
	h := open(t, fs)
	h.bucket("home")
	h.put("home", "inherited", make([]byte, 70))
	h.fork("home", "dev")
	h.quota("home", 200, 0)
	h.quota("dev", 50, 0)
	h.put("home", "a", make([]byte, 100))
	h.put("dev", "a", make([]byte, 50))
	h.wantRefused(h.tryPut("dev", "b", 1))
	h = open(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	h.wantRefused(h.tryPut("dev", "b", 1))
	h.wantRefused(h.tryPut("home", "b", 31))
	h.wantUsage("dev", 50, 1)
	h.wantUsage("home", 170, 2)
}

// A move leaves the quota, and what the bucket is then counts: of a root all, of a fork what is younger than its branch point.
func TestQuotaAfterMoves(t *testing.T) {
	h := start(t)
	for _, b := range []string{"home"} {
		if _, err := h.store.SetWindow(h.ctx, b, gc.Forever); err != nil {
			t.Fatal(err)
		}
	}
	h.put("home", "a", make([]byte, 100))
	h.fork("home", "dev")
	h.quota("home", 1000, 0)
	h.quota("dev", 1000, 0)
	h.put("dev", "b", make([]byte, 30))
	before := h.store.Visible()
	h.put("dev", "c", make([]byte, 7))
	h.put("home", "d", make([]byte, 500))
	h.wantUsage("home", 600, 2)

	if _, err := h.Restore(h.ctx, "dev", before, 0); err != nil {
		t.Fatal(err)
	}
	h.wantUsage("dev", 30, 1)
	promote, err := h.PromoteMove("dev")
	if err != nil {
		t.Fatal(err)
	}
	h.move(promote)
	h.wantUsage("home", 130, 2) // a root
	reset, err := h.ResetMove("dev", 0)
	if err != nil {
		t.Fatal(err)
	}
	h.put("dev", "e", make([]byte, 1))
	h.move(reset)
	h.wantUsage("dev", 0, 0)
	h.put("dev", "e", make([]byte, 999))
	h.wantRefused(h.tryPut("dev", "f", 2))
	h.wantUsage("dev", 999, 1)
}

// A body that cannot fit is not read.
func TestQuotaRefusesEarly(t *testing.T) {
	h := start(t)
	h.quota("home", 100_000, 0)
	h.put("home", "a", make([]byte, 60_000))
	u := h.upload("home", "up", UploadInput{})
	body := unread{t}
	_, err := h.Put(h.ctx, "home", "b", &PutInput{Body: body, Size: 40_001})
	h.wantRefused(err)
	_, err = h.PutPart(h.ctx, "home", "up", u.ID, 1, &PutPartInput{Body: body, Size: 40_001})
	h.wantRefused(err)
	_, err = h.Append(h.ctx, "home", "a", 60_000, &PutInput{Body: body, Size: 40_001})
	h.wantRefused(err)
	h.put("home", "a", make([]byte, 100_000)) // in place of what is there
	h.wantUsage("home", 100_000, 1)

	// What makes room is seen wherever it lies, and where nothing does, what is appended to counts again.
	h.put("home", "a", make([]byte, 50_000))
	h.versioning("home", Enabled)
	h.put("home", "a", make([]byte, 40_000))
	h.versioning("home", Suspended)
	_, err = h.Append(h.ctx, "home", "a", 40_000, &PutInput{Body: body, Size: 40_000}) // 40,000, and 80,000 in the place of 50,000
	h.wantRefused(err)
	h.put("home", "a", make([]byte, 60_000)) // in the place of the null version
	h.wantUsage("home", 100_000, 2)
	h.versioning("home", Enabled)
	h.quota("home", 200_000, 0)
	_, err = h.Append(h.ctx, "home", "a", 60_000, &PutInput{Body: body, Size: 40_001})
	h.wantRefused(err)
	if _, err := h.append("a", 60_000, make([]byte, 40_000)); err != nil {
		t.Error(err)
	}
	h.wantUsage("home", 200_000, 3)
}

// unread fails the test when somebody reads it.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, errors.New("read")
}
