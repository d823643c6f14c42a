package timeline

import (
	"context"
	"fmt"
	"testing"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
	"stemma/wal/storefs"
)

// diffStore returns a store with n objects in "main" that have gone down to the
// bottom level, and the LSN of that.
func diffStore(t testing.TB, n int) (*Store, wal.LSN) {
	t.Helper()
	s, err := Open(Options{
		FS: storefs.NewMem(), Dir: "data", CollectEvery: -1, HorizonEvery: time.Hour, Window: gc.Forever,
		LayerBytes: 64 << 10, MemlayerBytes: 8 << 20, BackgroundShare: 100, WALSegmentBytes: 4 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.CreateBucket(context.Background(), NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	var b Batch
	for i := range n {
		b.Put(layers.NamespaceObjects, diffKey(i), fmt.Appendf(nil, "first content of object %d", i), nil)
		if b.Len() == 10_000 || i == n-1 {
			diffCommit(t, s, "main", &b)
			b.Reset()
		}
	}
	diffSettle(t, s)
	return s, s.Visible()
}

func diffKey(i int) []byte { return fmt.Appendf(nil, "data/%03d/object-%09d", i%100, i) }

func diffCommit(t testing.TB, s *Store, name string, b *Batch) wal.LSN {
	t.Helper()
	lsn, err := s.Commit(context.Background(), name, b)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// diffSettle moves everything to the bottom.
func diffSettle(t testing.TB, s *Store) {
	t.Helper()
	if _, err := s.CollectFull(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// countDiff walks the difference of two points and returns how many keys differ
// and how many blocks of layers were looked at.
func countDiff(t testing.TB, s *Store, a string, la wal.LSN, b string, lb wal.LSN) (keys int, blocks uint64) {
	t.Helper()
	before := s.cache.Metrics()
	va, err := s.View(context.Background(), a, la)
	if err != nil {
		t.Fatal(err)
	}
	defer va.Close()
	vb, err := s.View(context.Background(), b, lb)
	if err != nil {
		t.Fatal(err)
	}
	defer vb.Close()
	d := s.Diff(context.Background(), va, vb, layers.NamespaceObjects, nil, nil)
	for d.Next() {
		keys++
	}
	if err := firstError(d.Err(), d.Close()); err != nil {
		t.Fatal(err)
	}
	after := s.cache.Metrics()
	return keys, after.Hits + after.Misses - before.Hits - before.Misses
}

// What did not change is not looked at, wherever in the levels the changes lie.
func TestDiffCostFollowsTheChanges(t *testing.T) {
	const objects, changes = 60_000, 10
	s, base := diffStore(t, objects)
	if _, err := s.Fork(t.Context(), ForkOptions{Source: "main", Forks: Named("fork")}); err != nil {
		t.Fatal(err)
	}
	var b, f Batch
	for i := range changes {
		b.Put(layers.NamespaceObjects, diffKey(i*objects/changes), []byte("second"), nil)
		f.Delete(layers.NamespaceObjects, diffKey(i*objects/changes+1))
	}
	changed, forked := diffCommit(t, s, "main", &b), diffCommit(t, s, "fork", &f)
	layerCount := 0
	for _, place := range []string{"the memlayer", "level 0", "the bottom"} {
		switch place {
		case "level 0":
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		case "the bottom":
			diffSettle(t, s)
			layerCount = len(s.version.Load().Levels[layers.BottomLevel])
		}
		for _, c := range []struct {
			name   string
			a, b   string
			la, lb wal.LSN
			want   int
		}{
			{"the past and the tip", "main", "main", base, changed, changes},
			{"a point with itself", "main", "main", changed, changed, 0},
			{"a fork and its parent", "main", "fork", changed, forked, 2 * changes},
			{"a fork and its own past", "fork", "fork", base, forked, changes},
		} {
			keys, blocks := countDiff(t, s, c.a, c.la, c.b, c.lb)
			t.Logf("changes in %s: %s: %d keys, %d blocks, %d layers at the bottom", place, c.name, keys, blocks, layerCount)
			// Per change the way down to it and to what was there before, in a few
			// layers; per layer a look at its filter.
			if most := uint64(20*c.want + 4*layerCount + 20); keys != c.want || blocks > most {
				t.Errorf("changes in %s: %s: %d keys, want %d; %d blocks, want at most %d", place, c.name, keys, c.want, blocks, most)
			}
		}
	}
	if layerCount < 10 {
		t.Errorf("%d layers at the bottom: too few to show anything", layerCount)
	}
}

// BenchmarkDiff compares a bucket with its past, ten changes apart.
func BenchmarkDiff(b *testing.B) {
	for _, objects := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("objects=%d/changes=10", objects), func(b *testing.B) {
			s, base := diffStore(b, objects)
			var c Batch
			for i := range 10 {
				c.Put(layers.NamespaceObjects, diffKey(i*objects/10), []byte("second"), nil)
			}
			changed := diffCommit(b, s, "main", &c)
			diffSettle(b, s)
			b.ReportAllocs()
			var blocks uint64
			for b.Loop() {
				var keys int
				if keys, blocks = countDiff(b, s, "main", base, "main", changed); keys != 10 {
					b.Fatal(keys)
				}
			}
			b.ReportMetric(float64(blocks), "blocks/op")
		})
	}
}
