package timeline_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// configure writes configuration to the bucket of openUsage.
func configure(t *testing.T, s *timeline.Store, bucket, value string) wal.LSN {
	t.Helper()
	lsn, err := s.Exclusive(context.Background(), bucket, func(tx *timeline.Tx) error {
		tx.Put(layers.NamespaceConfig, []byte("settings"), []byte(value), nil)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// A batch is refused once the configuration that it was made for has changed, in
// its own timeline and not in a fork or the source of one.
func TestGuardRefusesOldConfiguration(t *testing.T) {
	s := openUsage(t, gc.Forever).Store
	ctx := context.Background()
	if _, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	put := func(bucket string, g timeline.ConfigGuard) error {
		var b timeline.Batch
		b.Put(layers.NamespaceObjects, []byte("key"), []byte("x"), nil)
		b.Guard(g)
		_, err := s.Commit(ctx, bucket, &b)
		return err
	}
	guard := func(bucket string) timeline.ConfigGuard {
		id, changed, err := s.Configured(bucket)
		if err != nil {
			t.Fatal(err)
		}
		return timeline.ConfigGuard{Timeline: id, AsOf: changed}
	}
	before := guard("main")
	if err := put("main", before); err != nil {
		t.Fatal(err)
	}
	configure(t, s, "main", "1")
	if err := put("main", before); !errors.Is(err, timeline.ErrConfigChanged) {
		t.Errorf("put by outdated configuration: %v", err)
	}
	if _, err := s.Fork(ctx, timeline.ForkOptions{Source: "main", Forks: timeline.Named("fork")}); err != nil {
		t.Fatal(err)
	}
	main, fork := guard("main"), guard("fork")
	if err := put("fork", main); !errors.Is(err, timeline.ErrConfigChanged) {
		t.Errorf("put by the configuration of another timeline: %v", err)
	}
	configure(t, s, "fork", "2")
	if err := put("main", main); err != nil {
		t.Errorf("put to the source of a fork that was configured: %v", err)
	}
	if err := put("fork", fork); !errors.Is(err, timeline.ErrConfigChanged) {
		t.Errorf("put to a fork by outdated configuration: %v", err)
	}
}

// Whatever the order of commits is, an update has acted by the configuration that
// holds at its place in it.
func TestUpdateActsByTheConfigurationAtItsCommit(t *testing.T) {
	s := openUsage(t, gc.Forever).Store
	ctx := context.Background()
	if _, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	configure(t, s, "main", "0")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			key := []byte{byte('a' + w)}
			for range 40 {
				lsn, err := s.Update(ctx, "main", []timeline.Lock{{NS: layers.NamespaceObjects, Key: key, Exclusive: true}}, func(tx *timeline.Tx) error {
					rec, err := tx.Get(layers.NamespaceConfig, []byte("settings"))
					tx.Put(layers.NamespaceObjects, key, rec.Meta, nil)
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
				v, err := s.View(ctx, "main", lsn)
				if err != nil {
					t.Error(err)
					return
				}
				set, err1 := v.Get(layers.NamespaceConfig, []byte("settings"))
				got, err2 := v.Get(layers.NamespaceObjects, key)
				v.Close()
				if err1 != nil || err2 != nil || string(set.Meta) != string(got.Meta) {
					t.Errorf("at %d acted by %q, configured was %q (%v, %v)", lsn, got.Meta, set.Meta, err1, err2)
					return
				}
			}
		}()
	}
	for i := range 40 {
		configure(t, s, "main", string(rune('a'+i)))
	}
	wg.Wait()
}

// A stamped key ends in the LSN of its own commit, newest first, whatever else is
// in the commit.
func TestStampedKeys(t *testing.T) {
	s := openUsage(t, gc.Forever).Store
	ctx := context.Background()
	if _, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	var lsns []wal.LSN
	for range 3 {
		var b timeline.Batch
		for i := range byte(20) {
			b.Put(layers.NamespaceObjects, []byte{'k', i}, make([]byte, 200), nil)
			b.PutStamped(layers.NamespaceVersions, []byte{'v', i}, []byte{i}, nil, nil)
		}
		lsn, err := s.Commit(ctx, "main", &b)
		if err != nil {
			t.Fatal(err)
		}
		lsns = append(lsns, lsn)
	}
	v, err := s.View(ctx, "main", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for i := range byte(20) {
		scan := v.Scan(layers.NamespaceVersions, []byte{'v', i}, []byte{'v', i + 1})
		next := len(lsns)
		for ok := scan.First(); ok; ok = scan.Next() {
			rec := scan.Record()
			next--
			if got := timeline.ParseStamp([timeline.StampBytes]byte(rec.Key.User()[2:])); got != lsns[next] || got != rec.LSN || rec.Meta[0] != i {
				t.Fatalf("stamp %d of a record at %d, want %d", got, rec.LSN, lsns[next])
			}
		}
		if err := scan.Close(); err != nil || next != 0 {
			t.Fatalf("%d missing, %v", next, err)
		}
	}
}
