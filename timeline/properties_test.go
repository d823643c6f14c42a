package timeline

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"stemma/layers"
	"stemma/wal"
	"stemma/wal/storefs"
)

func openMem(t *testing.T, fs *storefs.MemFS) *Store {
	t.Helper()
	s, err := Open(Options{FS: fs, Dir: "data", WALSegmentBytes: 4 << 20, CollectEvery: -1, HorizonEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Properties are there with the bucket, are changed by one who sees the last ones,
// and outlive a rename, an undelete and a restart; forks do not inherit them.
func TestProperties(t *testing.T) {
	fs := storefs.NewMem()
	s, ctx := openMem(t, fs), t.Context()
	info, err := s.CreateBucket(ctx, NewBucket{Name: "b", Properties: Properties{Attrs: []byte("one"), Expires: wal.MaxLSN}})
	if err != nil || string(info.Attrs) != "one" || info.Expires != wal.MaxLSN {
		t.Fatalf("%+v, %v", info, err)
	}
	for i := range 3 {
		_, err := s.SetAttributes(ctx, "b", func(old []byte) ([]byte, error) { return fmt.Appendf(nil, "%s+%d", old, i), nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.SetExpiry(ctx, "b", 0); err != nil {
		t.Fatal(err)
	}
	never := errors.New("changed its mind")
	if _, err := s.SetAttributes(ctx, "b", func([]byte) ([]byte, error) { return nil, never }); !errors.Is(err, never) {
		t.Error(err)
	}
	if _, err := s.SetAttributes(ctx, "b", func([]byte) ([]byte, error) { return make([]byte, MaxAttrBytes+1), nil }); !errors.Is(err, ErrBadProperties) {
		t.Error(err)
	}
	if _, err := s.SetExpiry(ctx, "none", 0); !errors.Is(err, ErrNoSuchBucket) {
		t.Error(err)
	}
	if _, err := s.RenameBucket(ctx, "b", "c"); err != nil {
		t.Fatal(err)
	}
	forks, err := s.Fork(ctx, ForkOptions{Source: "c", Forks: Named("fork")})
	if err != nil || forks[0].Attrs != nil || forks[0].Expires != 0 {
		t.Fatalf("%+v, %v", forks, err)
	}
	if _, err := s.DeleteBucket(ctx, "c", DeleteOptions{Undo: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Undelete(ctx, info.Bucket, "d"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if info, err = s.Bucket("d", 0); err != nil || string(info.Attrs) != "one+0+1+2" || info.Expires != 0 {
			t.Fatalf("%+v, %v", info, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openMem(t, fs)
	}
}

// A million forks of one commit with the same attributes have them once in memory,
// also after a restart, and nearly once in the log; those without have nothing.
func TestForksShareTheirProperties(t *testing.T) {
	fs := storefs.NewMem()
	s, ctx := openMem(t, fs), t.Context()
	if _, err := s.CreateBucket(ctx, NewBucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	forks := make([]NewBucket, 1000)
	for i := range forks {
		forks[i] = NewBucket{Name: fmt.Sprintf("fork-%d", i)}
		forks[i].Attrs = bytes.Repeat([]byte("x"), 10_000) // equal, not the same
	}
	forks[7].Attrs, forks[8].Expires = nil, 5
	first := &Batch{}
	first.Put(layers.NamespaceObjects, []byte("own"), []byte("record"), nil)
	forks[9].First = first
	if _, err := s.Fork(ctx, ForkOptions{Source: "b", Forks: forks}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		shared := s.tree.sequencedName("fork-10").properties.Load()
		if shared == nil || s.tree.sequencedName("fork-999").properties.Load() != shared {
			t.Error("forks with the same attributes do not share them")
		}
		if p := s.tree.sequencedName("fork-7").properties.Load(); p != nil {
			t.Errorf("a fork without properties has %+v", p)
		}
		v, err := s.View(ctx, "fork-9", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Get(layers.NamespaceObjects, []byte("own")); err != nil {
			t.Error("record of the fork's own:", err)
		}
		v.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openMem(t, fs)
	}
}
