package timeline_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

func mergeStore(t *testing.T) *timeline.Store {
	t.Helper()
	s, err := timeline.Open(timeline.Options{
		FS: storefs.NewMem(), Dir: "data", WALSegmentBytes: 256 << 10, Logger: strictLogger(t), CollectEvery: -1, HorizonEvery: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.CreateBucket(t.Context(), timeline.NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func mergePut(t *testing.T, s *timeline.Store, bucket, key, value string) wal.LSN {
	t.Helper()
	var b timeline.Batch
	b.Put(layers.NamespaceObjects, []byte(key), []byte(value), nil)
	lsn, err := s.Commit(t.Context(), bucket, &b)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// Writers of both sides go on during merges: no acknowledged write to the target is lost
// to one that the merge had not seen, and what a merge brings, it brings whole.
func TestMergeAmongWriters(t *testing.T) {
	s := mergeStore(t)
	if _, err := s.Fork(t.Context(), timeline.ForkOptions{Source: "main", Forks: timeline.Named("dev")}); err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 3, 40
	var wg sync.WaitGroup
	last := make([]wal.LSN, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				// The target's own key, and a pair in the source that belongs together.
				last[w] = mergePut(t, s, "main", fmt.Sprintf("main-%d", w), fmt.Sprint(i))
				var b timeline.Batch
				for _, half := range []string{"left", "right"} {
					b.Put(layers.NamespaceObjects, fmt.Appendf(nil, "dev-%d-%s", w, half), fmt.Append(nil, i), nil)
				}
				if _, err := s.Commit(t.Context(), "dev", &b); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	check := func() {
		v, err := s.View(t.Context(), "main", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		for w := range writers {
			left, errLeft := v.Get(layers.NamespaceObjects, fmt.Appendf(nil, "dev-%d-left", w))
			right, errRight := v.Get(layers.NamespaceObjects, fmt.Appendf(nil, "dev-%d-right", w))
			if (errLeft == nil) != (errRight == nil) || string(left.Meta) != string(right.Meta) || left.LSN != right.LSN {
				t.Fatalf("half a commit was merged: %q at %d, %q at %d", left.Meta, left.LSN, right.Meta, right.LSN)
			}
		}
	}
	for range 20 {
		if _, err := s.Merge(t.Context(), timeline.MergeOptions{Source: "dev", Target: "main"}); err != nil {
			t.Fatal(err)
		}
		check()
	}
	wg.Wait()
	if _, err := s.Merge(t.Context(), timeline.MergeOptions{Source: "dev", Target: "main"}); err != nil {
		t.Fatal(err)
	}
	check()
	v, err := s.View(t.Context(), "main", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for w := range writers {
		if r, err := v.Get(layers.NamespaceObjects, fmt.Appendf(nil, "main-%d", w)); err != nil || r.LSN != last[w] {
			t.Errorf("the last write of writer %d, at %d, is lost: %d, %v", w, last[w], r.LSN, err)
		}
		if r, err := v.Get(layers.NamespaceObjects, fmt.Appendf(nil, "dev-%d-left", w)); err != nil || string(r.Meta) != fmt.Sprint(rounds-1) {
			t.Errorf("the last change of the fork by writer %d was not merged: %q, %v", w, r.Meta, err)
		}
	}
}
