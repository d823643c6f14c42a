package timeline

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal/storefs"
)

// What merges everything down goes piece by piece: a compaction of level 0 waits
// for one of them, not for the whole store.
func TestMergingDownGoesInPieces(t *testing.T) {
	s, err := Open(Options{
		FS: storefs.NewMem(), Dir: "data", CollectEvery: -1, HorizonEvery: time.Hour, Window: -1,
		LayerBytes: 12 << 10, Level1Bytes: 48 << 10, L0Layers: 2, PartBytes: 1 << 20, BackgroundShare: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.CreateBucket(t.Context(), NewBucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	write := func(n int) {
		t.Helper()
		var b Batch
		for i := range n {
			b.Put(layers.NamespaceObjects, fmt.Appendf(nil, "%08x-%d", rng.Uint32(), i), fmt.Append(nil, rng.Uint64(), rng.Uint64(), rng.Uint64()), nil)
		}
		if _, err := s.Commit(t.Context(), "b", &b); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 16 {
		write(2000)
	}
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	write(500)
	bottom := levelBytes(s.version.Load().Levels[layers.BottomLevel])
	pieces := 0
	for {
		var most int64
		ran, err := s.compactOnce(func(v *layers.Version) *compaction {
			c := s.pickDown(v)
			if c != nil {
				most = levelBytes(c.inputs)
			}
			return c
		})
		if err != nil {
			t.Fatal(err)
		}
		if !ran {
			break
		}
		if pieces++; most > bottom/2 {
			t.Errorf("merge %d has inputs of %d bytes, the bottom has %d", pieces, most, bottom)
		}
	}
	v := s.version.Load()
	if n := len(v.L0); n > 0 || pieces < 4 {
		t.Errorf("%d layers left at level 0 after %d merges", n, pieces)
	}
	for level := 1; level < layers.BottomLevel; level++ {
		if n := len(v.Levels[level]); n > 0 {
			t.Errorf("%d layers left at level %d", n, level)
		}
	}
}

// A full collection notices that a compaction replaced a layer before it came to
// it: what that wrote has to be looked at, too.
func TestRewriteIsOvertaken(t *testing.T) {
	s, err := Open(Options{FS: storefs.NewMem(), Dir: "data", HorizonEvery: time.Hour, CollectEvery: -1, L0Layers: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.CreateBucket(t.Context(), NewBucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	put := func() {
		var b Batch
		b.Put(layers.NamespaceObjects, []byte("key"), []byte("value"), nil)
		if _, err := s.Commit(t.Context(), "b", &b); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	put()
	put()
	s.collector.prepare()
	snap, err := s.takeTreeSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	look := func(l *layers.Layer) rewrites {
		budget := int64(1 << 30)
		done, err := s.rewriteIfGarbage(t.Context(), l, snap, gc.Full, &budget)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	l := s.version.Load().L0[0]
	if done := look(l); done.overtaken {
		t.Errorf("%+v, nothing has replaced it", done)
	}
	if ran, err := s.compactOnce(s.pickDown); !ran || err != nil {
		t.Fatal(ran, err)
	}
	if done := look(l); !done.overtaken || done.rewrote {
		t.Errorf("%+v, a compaction has replaced it", done)
	}
}
