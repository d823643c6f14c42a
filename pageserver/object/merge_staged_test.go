package object

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"stemma/timeline"
	"stemma/wal"
)

// staged has merges of a few kilobytes go by way of layers.
func staged(o *timeline.Options) { o.MergeBytes = 4 << 10 }

// mergeManyKinds makes a bucket and a fork that changes, adds and deletes some hundred keys, merges the
// fork, and returns what a client sees of the bucket then, with ids by their order.
func mergeManyKinds(t *testing.T, h *harness, versioning Versioning) string {
	t.Helper()
	set := func(state Versioning) {
		if state != Unversioned {
			h.versioning("home", state)
		}
	}
	body := func(i int, what string) []byte {
		return []byte(fmt.Sprintf("%s %d %s", what, i, strings.Repeat("-", i*20)))
	}
	const keys = 200
	if versioning == Suspended {
		set(Enabled)
	}
	for i := range keys {
		h.put("home", fmt.Sprintf("k%03d", i), body(i, "base"))
	}
	set(versioning)
	h.fork("home", "dev")
	for i := range keys {
		switch key := fmt.Sprintf("k%03d", i); i % 4 {
		case 0:
			h.put("dev", key, body(i, "changed"))
		case 1:
			h.del("dev", key)
		case 2:
			h.put("dev", key, body(i, "first"))
			h.put("dev", key, body(i, "second"))
			h.put("dev", "new-"+key, body(i, "added"))
		}
	}
	before := h.store.Visible()
	r, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home"})
	if err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "put %d, deleted %d, same %d\n", r.Put, r.Deleted, r.Same)
	look := func() {
		list, err := h.ListVersions(h.ctx, "home", &ListVersionsInput{MaxKeys: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list.Entries {
			fmt.Fprintf(&s, "%s marker=%v latest=%v null=%v size=%d merged=%v\n", e.Key, e.Marker, e.Latest, e.ID == NullVersion, e.Size, e.LSN > before)
			in := GetInput{Version: e.ID}
			if versioning == Unversioned {
				in = GetInput{}
			}
			if e.Marker {
				if e.LSN <= before || e.LSN > r.LSN {
					t.Errorf("%s: marker of %d, merged between %d and %d", e.Key, e.LSN, before, r.LSN)
				}
				continue
			}
			_, got, err := h.get("home", e.Key, in)
			if err != nil {
				t.Fatalf("%s %v: %v", e.Key, e.ID, err)
			}
			fmt.Fprintf(&s, "  %.20s\n", got)
		}
		log, err := h.Log(h.ctx, &LogInput{Bucket: "home"})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range log.Entries {
			if e.LSN == r.LSN {
				fmt.Fprintf(&s, "log %s %s %d\n", e.Kind, e.Key, e.Size)
			}
		}
	}
	look()
	// Deletes of the fork come to be undone, and others put and delete on top.
	for i := range keys {
		switch key := fmt.Sprintf("k%03d", i); i % 8 {
		case 1:
			h.put("home", key, body(i, "again"))
		case 5:
			h.del("home", key)
		}
	}
	r.LSN = wal.MaxLSN
	look()
	return s.String()
}

// A merge that goes by way of layers leaves what one commit would: objects, versions, markers, null versions.
func TestMergeStagedIsAsOneCommit(t *testing.T) {
	for _, v := range []Versioning{Unversioned, Enabled, Suspended} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			one, many := start(t), start(t, small, staged)
			want, got := mergeManyKinds(t, one, v), mergeManyKinds(t, many, v)
			if one.store.Metrics().AdoptedBytes != 0 || many.store.Metrics().AdoptedBytes == 0 {
				t.Fatal("the wrong merge was staged")
			}
			if got == want {
				return
			}
			a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Fatalf("line %d is %q, want %q", i, b[i], a[i])
				}
			}
			t.Fatalf("%d lines, want %d", len(b), len(a))
		})
	}
}

// A quota judges a staged merge by all of it: what it deletes last makes room for what it puts first.
func TestQuotaOfStagedMerge(t *testing.T) {
	h := start(t, small, staged)
	for i := range 100 {
		h.put("home", fmt.Sprintf("z%03d", i), make([]byte, 100))
	}
	h.quota("home", 12_000, 0)
	h.wantUsage("home", 10_000, 100)
	h.fork("home", "dev")
	for i := range 100 {
		h.put("dev", fmt.Sprintf("a%03d", i), make([]byte, 100))
	}
	merge := func() error {
		_, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home"})
		return err
	}
	h.wantRefused(merge())
	h.wantUsage("home", 10_000, 100)
	for i := range 80 {
		h.del("dev", fmt.Sprintf("z%03d", i))
	}
	if err := merge(); err != nil {
		t.Fatal(err)
	}
	if h.store.Metrics().AdoptedBytes == 0 {
		t.Fatal("nothing was staged")
	}
	h.wantUsage("home", 12_000, 120)
	if err := h.tryPut("home", "more", 1); !errors.Is(err, ErrQuotaExceeded) {
		t.Errorf("put on top: %v", err)
	}
}
