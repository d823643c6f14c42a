package timeline_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"stemma/timeline"
	"stemma/wal/storefs"
)

// The buckets that are marked by their attributes are found whatever becomes of them, from the log
// and from the catalog, and no other bucket is looked at for it.
func TestMarked(t *testing.T) {
	ctx, asked := t.Context(), 0
	o := timeline.Options{FS: storefs.NewMem(), Dir: "data", WALSegmentBytes: 1 << 20, HorizonEvery: time.Hour, MarkAttributes: func(attrs []byte) bool {
		asked++
		return bytes.HasPrefix(attrs, []byte("marked"))
	}}
	var s *timeline.Store
	reopen := func() {
		t.Helper()
		var err error
		if s != nil {
			err = s.Close()
		}
		if err == nil {
			s, err = timeline.Open(o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	t.Cleanup(func() { s.Close() })
	check := func(when string, want ...string) {
		t.Helper()
		asked = 0
		var got []string
		for after := timeline.BucketID(0); ; {
			page := s.Marked(after, 2)
			for i := range page {
				got, after = append(got, page[i].Name), page[i].Bucket
			}
			if len(page) < 2 {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
		if asked != 0 {
			t.Errorf("%s: asked about %d buckets", when, asked)
		}
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	set := func(name, attrs string) {
		t.Helper()
		must(s.SetAttributes(ctx, name, func([]byte) ([]byte, error) { return []byte(attrs), nil }))
	}
	must(s.CreateBucket(ctx, timeline.NewBucket{Name: "a", Properties: timeline.Properties{Attrs: []byte("marked a")}}))
	must(s.CreateBucket(ctx, timeline.NewBucket{Name: "b"}))
	forks := timeline.Named("c", "d", "e", "f")
	for i := range forks {
		forks[i].Attrs = fmt.Appendf(nil, "owner")
	}
	must(s.Fork(ctx, timeline.ForkOptions{Source: "a", Forks: forks}))
	check("made", "a")
	set("d", "marked d")
	set("f", "marked f")
	check("set", "a", "d", "f")
	set("d", "marked otherwise")
	must(s.RenameBucket(ctx, "d", "z"))
	check("renamed", "a", "z", "f")
	reopen()
	check("replayed", "a", "z", "f")
	must(nil, s.Flush(ctx))
	set("b", "marked b")
	set("f", "")
	check("cleared", "a", "b", "z")
	reopen()
	check("loaded", "a", "b", "z")
	b, err := s.Bucket("b", 0)
	must(nil, err)
	must(s.DeleteBucket(ctx, "b", timeline.DeleteOptions{}))
	check("deleted", "a", "z")
	reopen()
	check("deleted and loaded", "a", "z")
	must(s.Undelete(ctx, b.Bucket, "y"))
	check("undeleted", "a", "y", "z")
	must(s.DeleteBucket(ctx, "z", timeline.DeleteOptions{Force: true, Undo: -1}))
	check("gone", "a", "y")
}
