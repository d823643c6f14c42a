package timeline_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// One key with very many versions passes through flush, merges and the removal
// of all but one: each version is looked at alone, whatever their number.
func TestHotKey(t *testing.T) {
	versions := 20_000
	if testing.Short() {
		versions = 2_000
	}
	ctx := context.Background()
	s, err := timeline.Open(timeline.Options{
		FS: storefs.NewMem(), Dir: "data", Logger: strictLogger(t), Window: gc.Forever,
		MemlayerBytes: 1 << 20, LayerBytes: 64 << 10, WALSegmentBytes: 64 << 10, HorizonEvery: time.Hour, CollectEvery: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "hot"}); err != nil {
		t.Fatal(err)
	}
	lsns := make([]wal.LSN, versions)
	for i := range lsns {
		var b timeline.Batch
		b.Put(layers.NamespaceObjects, []byte("key"), fmt.Append(nil, i), nil)
		if lsns[i], err = s.Commit(ctx, "hot", &b); err != nil {
			t.Fatal(err)
		}
	}
	full := func() {
		t.Helper()
		if _, err := s.CollectFull(ctx); err != nil {
			t.Fatal(err)
		}
	}
	read := func(at wal.LSN) (string, error) {
		v, err := s.View(ctx, "hot", at)
		if err != nil {
			return "", err
		}
		defer v.Close()
		r, err := v.Get(layers.NamespaceObjects, []byte("key"))
		return string(r.Meta), err
	}
	full()
	for i := 0; i < versions; i += versions/50 + 1 {
		if got, err := read(lsns[i]); got != fmt.Sprint(i) || err != nil {
			t.Fatalf("version %d reads %q, %v", i, got, err)
		}
	}
	before := layerBytes(s)
	if _, err := s.SetWindow(ctx, "hot", 0); err != nil {
		t.Fatal(err)
	}
	full()
	if after := layerBytes(s); after*5 > before {
		t.Errorf("%d bytes of layers are left of %d", after, before)
	}
	if got, err := read(0); got != fmt.Sprint(versions-1) || err != nil {
		t.Errorf("the tip reads %q, %v", got, err)
	}
	if got, err := read(lsns[versions/2]); err == nil {
		t.Errorf("a version without a window reads %q", got)
	}
}

func layerBytes(s *timeline.Store) (n int64) {
	m := s.Metrics()
	for i := range m.Levels {
		n += m.Levels[i].Bytes + m.History[i].Bytes
	}
	return n
}

// A log that stays long because of its segments' size is no reason to flush a
// memlayer to which nothing came.
func TestLongLogFlushesOnce(t *testing.T) {
	s, err := timeline.Open(timeline.Options{
		FS: storefs.NewMem(), Dir: "data", Logger: strictLogger(t), HorizonEvery: time.Hour, CollectEvery: -1,
		WALSegmentBytes: 1 << 20, WALFlushBytes: 1, // shorter than any log
	})
	if err != nil {
		t.Fatal(err)
	}
	const commits = 20
	for i := range commits {
		if _, err := s.CreateBucket(context.Background(), timeline.NewBucket{Name: fmt.Sprint("bucket-", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	settled := s.Metrics().Flushes
	for range 20 {
		time.Sleep(time.Millisecond) // an endless flush would not need half of it
	}
	if n := s.Metrics().Flushes; n > settled+1 || n > commits+2 {
		t.Errorf("%d flushes of %d commits, %d after the last", n, commits, n-settled)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
