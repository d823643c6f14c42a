package timeline_test

import (
	"fmt"
	"testing"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/timeline/timelinetest"
)

// What a rollup brought to a bucket that is deleted afterwards is not needed by a
// snapshot that sees a newer version, also when nothing newer is left outside of
// the history.
func TestRolledUpBelowHistory(t *testing.T) {
	b := newBench(t, timelinetest.Config{Tune: func(o *timeline.Options) { o.L0Layers = 100 }})
	b.create("main")
	fill := func(name string) {
		t.Helper()
		for i := range 12 {
			b.must(b.Put(name, fmt.Sprintf("key-%02d", i), 700))
		}
	}
	fill("main")
	b.fork("main", "dev")
	fill("dev")
	b.pin("dev")
	fill("dev") // the versions before are history
	b.must(b.Everything())
	b.must(b.Store().Detach(t.Context(), "dev"))
	b.drop("dev", 0)
	b.must(b.Collect(gc.Busy)) // what was newest of dev goes
	b.must(b.Everything())
}

// What a rollup copies may become garbage before the copy is published: the
// timeline is dropped, and what it alone read with it. Then the copy must not
// refer to a value segment that is gone.
func TestReclaimWaitsForRollup(t *testing.T) {
	var s *usageStore
	dropped := false
	s = openUsageWith(t, -1, func(o *timeline.Options) {
		o.At = func(step timeline.Step) {
			if step == timeline.StepRollupWritten && !dropped {
				dropped = true
				s.drop("dev")
				s.ok(s.Reclaim(t.Context()))
			}
		}
	})
	s.create("main")
	s.put("main", "key", 200<<10)
	s.fork("main", "dev")
	s.put("main", "key", 100) // dev alone reads what was there before
	s.ok(s.Detach(t.Context(), "dev"))
	if !dropped {
		t.Fatal("no rollup")
	}
	exists := make(map[layers.FileNum]bool)
	for _, seg := range s.Values().Segments() {
		exists[seg.Num] = true
	}
	s.ok(s.VisitRecords(func(l *layers.Desc, r *layers.Record) error {
		segs, err := r.Body.Segments(nil)
		for _, num := range segs {
			if !exists[num] {
				t.Errorf("record %s at %d refers to value segment %d, which is gone", r.Key, r.LSN, num)
			}
		}
		return err
	}))
	s.collect()
	if n := s.Metrics().ValueAllocatedBytes; n >= 200<<10 {
		t.Errorf("%d bytes of values are left of a dropped fork", n)
	}
}

// An idle store rolls up the leaf of a chain before anybody has read it, as long
// as it may copy that many records.
func TestLeavesAreRolledUpWhenIdle(t *testing.T) {
	const depth = 12 // no tier
	b := newBench(t, timelinetest.Config{})
	b.create("d00")
	b.must(b.Put("d00", "key", 100))
	for i := 1; i <= depth; i++ {
		b.fork(fmt.Sprintf("d%02d", i-1), fmt.Sprintf("d%02d", i))
		b.must(b.Put(fmt.Sprintf("d%02d", i), fmt.Sprintf("own-%02d", i), 100))
		b.must(b.Put(fmt.Sprintf("d%02d", i), "key", 100))
	}
	hops := func(name string) (n int) {
		info, err := b.Store().Bucket(name, 0)
		b.must(err)
		reads := make(map[layers.TimelineID]layers.TimelineID)
		for _, l := range b.Store().TreeLines() {
			reads[l.ID] = l.ReadAncestor
		}
		for id := info.Timeline; id != 0; id = reads[id] {
			n++
		}
		return n
	}
	b.must(b.Store().Flush(t.Context()))
	b.Store().SpendLeafRecords(16 << 10)
	b.must(b.Collect(gc.Idle))
	if n := hops("d12"); n != depth+1 {
		t.Errorf("%d timelines on the way without anything left to spend", n)
	}
	b.Store().SpendLeafRecords(-(16 << 10))
	b.must(b.Collect(gc.Busy))
	if n := hops("d12"); n != depth+1 {
		t.Errorf("%d timelines on the way, and the store was busy", n)
	}
	b.must(b.Collect(gc.Idle))
	if n := hops("d12"); n != 2 {
		t.Errorf("%d timelines on the way of the leaf", n)
	}
	if n := hops("d11"); n != depth {
		t.Errorf("%d timelines on the way of its parent", n)
	}
	b.must(b.Everything())
}

// Many leaves are rolled up by few edits: each makes a layer at level 0.
func TestManyLeavesMakeFewLayers(t *testing.T) {
	const leaves = 300
	b := newBench(t, timelinetest.Config{Tune: func(o *timeline.Options) { o.L0Layers = 1000 }})
	b.create("d0")
	for i := range 6 {
		b.must(b.Put(fmt.Sprint("d", i), fmt.Sprint("key-", i), 100))
		b.fork(fmt.Sprint("d", i), fmt.Sprint("d", i+1))
	}
	for i := range leaves {
		b.fork("d6", fmt.Sprint("leaf-", i))
	}
	b.must(b.Store().Flush(t.Context()))
	before := b.Store().Metrics().Rollups
	b.must(b.Collect(gc.Idle))
	m := b.Store().Metrics()
	if n := m.Rollups - before; n < leaves {
		t.Errorf("%d leaves of %d were rolled up", n, leaves)
	}
	if n := m.Levels[0].Layers; n > 10 {
		t.Errorf("%d layers at level 0", n)
	}
	b.must(b.Everything())
}
