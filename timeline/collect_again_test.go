package timeline_test

import (
	"fmt"
	"testing"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// pass lets time pass.
func (s *usageStore) pass(d time.Duration) {
	s.clock.Lock()
	defer s.clock.Unlock()
	s.now = s.now.Add(d)
}

func (s *usageStore) remove(bucket string, keys ...string) {
	s.t.Helper()
	var b timeline.Batch
	for _, k := range keys {
		b.Delete(layers.NamespaceObjects, []byte(k))
	}
	_, err := s.Commit(s.t.Context(), bucket, &b)
	s.ok(err)
}

func (s *usageStore) drop(name string) {
	s.t.Helper()
	_, err := s.DeleteBucket(s.t.Context(), name, timeline.DeleteOptions{Force: true, Undo: -1})
	s.ok(err)
}

func (s *usageStore) tip(name string) wal.LSN {
	s.t.Helper()
	v, err := s.View(s.t.Context(), name, 0)
	s.ok(err)
	defer v.Close()
	return v.LSN()
}

// Tombstones that hide what a fork inherits stay for as long as the fork does. A
// layer with them must not be read again by every collection: in a busy store they
// would use up what it may read, and no other layer would get its turn.
func TestTombstonesThatHideAreNotAssessedAgain(t *testing.T) {
	s := openUsage(t, -1)
	s.create("base")
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("key-%02d", i))
		s.put("base", keys[i], 100)
	}
	s.fork("base", "dev")
	s.ok(s.Flush(t.Context()))
	s.remove("dev", keys...)
	s.ok(s.Flush(t.Context()))
	s.put("base", "later", 10) // the tombstones are below the horizon now
	s.ok(s.Collect(t.Context(), gc.Busy))
	before := s.Metrics().Assessed
	for range 3 {
		s.put("base", "other", 10)
		s.ok(s.Collect(t.Context(), gc.Busy))
	}
	if n := s.Metrics().Assessed - before; n != 0 {
		t.Errorf("%d layers were assessed again, nothing had happened to them", n)
	}

	left := func() (n int) {
		t.Helper()
		dev, err := s.Bucket("dev", 0)
		s.ok(err)
		s.ok(s.VisitRecords(func(_ *layers.Desc, r *layers.Record) error {
			if r.Kind == layers.KindTombstone && r.Key.Timeline() == dev.Timeline {
				n++
			}
			return nil
		}))
		return n
	}
	// Deleted on both sides: should base have the keys again, a merge must find that
	// the fork had deleted them.
	s.remove("base", keys...)
	s.ok(s.Flush(t.Context()))
	s.collect()
	if n := left(); n != len(keys) {
		t.Errorf("%d tombstones are left, a merge may need %d", n, len(keys))
	}
	// When there is nothing to merge into, they go, too.
	s.drop("base")
	s.collect()
	if n := left(); n > 0 {
		t.Errorf("%d tombstones are left, they hide nothing", n)
	}
}

// Nothing is logged when a lease ends. A store in which nothing else happens
// gives back what the lease kept all the same.
func TestLeaseEndsInAnIdleStore(t *testing.T) {
	s := openUsage(t, -1)
	s.create("main")
	s.put("main", "key", 200<<10)
	s.ok(s.Lease("main", s.tip("main"), time.Minute))
	s.put("main", "key", 100)
	s.ok(s.Flush(t.Context()))
	s.ok(s.Collect(t.Context(), gc.Busy)) // advances the horizon
	values := func() int64 { return s.Metrics().ValueAllocatedBytes }
	collect := func() {
		t.Helper()
		for range 5 {
			s.pass(5 * time.Second)
			s.ok(s.CollectIfNews(t.Context()))
		}
	}
	collect()
	if values() < 200<<10 {
		t.Fatal("the lease kept nothing")
	}
	s.pass(2 * time.Minute)
	collect()
	if n := values(); n >= 200<<10 {
		t.Errorf("%d bytes of values are left, the lease has ended", n)
	}
}

// A flush that cannot get on must not keep a collection from giving back what
// lies in layers: the flush may be waiting for just that room.
func TestCollectionGoesOnWithoutTheFlush(t *testing.T) {
	defer timeline.SetFlushPatience(50 * time.Millisecond)()
	stuck := make(chan struct{})
	block := false
	s := openUsageWith(t, -1, func(o *timeline.Options) {
		o.At = func(step timeline.Step) {
			if step == timeline.StepFlushSynced && block {
				<-stuck
			}
		}
	})
	s.create("main")
	s.fork("main", "dev")
	s.put("dev", "key", 5<<20)
	s.ok(s.Flush(t.Context()))
	s.drop("dev")
	block = true
	s.put("main", "key", 2<<20) // worth a flush of an idle store
	done := make(chan error, 1)
	go func() { done <- s.Collect(t.Context(), gc.Idle) }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("the collection did not say that the flush is stuck")
		}
		if n := s.Metrics().ReclaimedBytes; n < 5<<20 {
			t.Errorf("%d bytes were given back, want 5 MiB", n)
		}
	case <-time.After(20 * time.Second):
		t.Error("the collection waits for the flush")
	}
	close(stuck)
	if t.Failed() {
		<-done
	}
}

// A store whose snapshots cost much rests between two collections. The snapshots
// that compactions take all the time must not put the next one off for ever.
func TestSnapshotsOfCompactionsDoNotPutCollectionsOff(t *testing.T) {
	s := openUsage(t, -1)
	s.create("main")
	s.put("main", "key", 100)
	s.ok(s.CollectIfNews(t.Context()))
	seen := s.Metrics().Assessed
	for range 10 {
		s.put("main", "key", 100)
		s.ok(s.Flush(t.Context()))
		s.pass(15 * time.Second)
		s.ok(s.SnapshotTook(t.Context(), time.Second)) // rest: 20 s
		s.pass(2 * time.Second)
		s.put("main", "key", 100) // not idle
		s.ok(s.CollectIfNews(t.Context()))
	}
	if s.Metrics().Assessed == seen {
		t.Error("no collection in 170 s")
	}
}

// gc --full has no bound on what deciding on a range tombstone may cost.
func TestRangeTombstoneOverManyTombstonesGoes(t *testing.T) {
	s := openUsage(t, -1)
	s.create("base")
	var keys []string
	for i := range 100 {
		keys = append(keys, fmt.Sprintf("key-%03d", i))
	}
	put := func(bucket string) {
		t.Helper()
		var b timeline.Batch
		for _, k := range keys {
			b.Put(layers.NamespaceObjects, []byte(k), []byte(bucket), nil)
		}
		_, err := s.Commit(t.Context(), bucket, &b)
		s.ok(err)
	}
	put("base")
	s.fork("base", "older")
	s.remove("base", keys...) // a difference to what older branched from shows it
	s.fork("base", "dev")
	var b timeline.Batch
	b.DeleteRange(layers.NamespaceObjects, []byte("key"), []byte("key~"))
	_, err := s.Commit(t.Context(), "dev", &b)
	s.ok(err)
	put("older") // nobody needs the values of base any more
	s.collect()
	s.collect()
	kinds := make(map[layers.Kind]int)
	s.ok(s.VisitRecords(func(_ *layers.Desc, r *layers.Record) error {
		kinds[r.Kind]++
		return nil
	}))
	if kinds[layers.KindTombstone] != 100 || kinds[layers.KindValue] != 100 {
		t.Fatalf("%v", kinds)
	}
	if n := kinds[layers.KindRangeTombstone]; n > 0 {
		t.Errorf("%d range tombstones are left, they hide nothing", n)
	}
}

// A store that comes to rest lets go of its snapshot, and takes another when it works
// again.
func TestStoreAtRestHasNoSnapshot(t *testing.T) {
	s := openUsage(t, -1)
	s.create("main")
	for round := range 2 {
		s.pass(time.Second) // its snapshots rest, too
		s.put("main", "key", 100)
		s.ok(s.CollectIfNews(t.Context()))
		if !s.HasSnapshot() {
			t.Errorf("round %d: no snapshot while it works", round)
		}
		s.pass(time.Minute)
		s.ok(s.CollectIfNews(t.Context()))
		if s.HasSnapshot() {
			t.Errorf("round %d: a snapshot while it rests", round)
		}
		s.put("main", "key", 200)
		s.ok(s.Flush(t.Context()))
	}
}
