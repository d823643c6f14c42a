package timeline_test

import (
	"fmt"
	"testing"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/timeline/timelinetest"
	"stemma/wal"
)

// bench is a calm model that a test drives by itself.
type bench struct {
	*timelinetest.Model
	t *testing.T
}

func newBench(t *testing.T, cfg timelinetest.Config) *bench {
	t.Helper()
	cfg.Calm = true
	if cfg.Seed == 0 {
		cfg.Seed = 1
	}
	tune := cfg.Tune
	cfg.Tune = func(o *timeline.Options) {
		o.MemlayerBytes, o.WALFlushBytes = 1<<30, 1<<30 // flushed by hand
		o.Window, o.UndoTime, o.PartBytes = -1, -1, 64
		o.LayerBytes, o.Level1Bytes = 12<<10, 48<<10
		if tune != nil {
			tune(o)
		}
	}
	m, err := timelinetest.NewModel(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{m, t}
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) create(name string) {
	b.t.Helper()
	b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpCreate, Bucket: name}))
}

func (b *bench) fork(from, to string) {
	b.t.Helper()
	b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpFork, Bucket: from, Names: []string{to}}))
}

func (b *bench) drop(name string, undo time.Duration) {
	b.t.Helper()
	b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpDelete, Bucket: name, Force: true, Undo: undo}))
}

func (b *bench) window(name string, w gc.Window) {
	b.t.Helper()
	b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpWindow, Bucket: name, Window: w}))
}

// passing creates a bucket that expires so soon.
func (b *bench) passing(name string, in time.Duration) {
	b.t.Helper()
	expires := b.Store().Now() + wal.LSN(in)
	b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpCreate, Bucket: name, Props: timeline.Properties{Expires: expires}}))
}

// pin pins a bucket at its tip.
func (b *bench) pin(name string) timeline.SnapshotID {
	b.t.Helper()
	b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpSnapshot, Bucket: name, At: b.Last()}))
	info, err := b.Store().Bucket(name, 0)
	b.must(err)
	return b.Store().Snapshots(info.Bucket, timeline.SnapshotCursor{}, 1)[0].ID
}

// fill writes some objects, small ones and one of 100 KiB.
func (b *bench) fill(name string) {
	b.t.Helper()
	for i := range 12 {
		b.must(b.Put(name, fmt.Sprintf("key-%02d", i), 700))
	}
	b.must(b.Put(name, "large", 100<<10))
}

func (b *bench) footprint() (bytes int64, records int) {
	b.t.Helper()
	bytes, records, err := b.Footprint()
	b.must(err)
	return bytes, records
}

// frees collects everything, and checks that at least so many bytes went.
func (b *bench) frees(least int64) {
	b.t.Helper()
	b.must(b.Flush())
	before, n := b.footprint()
	b.must(b.Everything())
	after, left := b.footprint()
	b.t.Logf("%d bytes and %d records, then %d and %d", before, n, after, left)
	if before-after < least {
		b.t.Errorf("%d bytes went, want %d at least", before-after, least)
	}
}

// keeps collects everything, and checks that about nothing went.
func (b *bench) keeps(most int64) {
	b.t.Helper()
	b.must(b.Flush())
	before, _ := b.footprint()
	b.must(b.Everything())
	if after, _ := b.footprint(); before-after > most {
		b.t.Errorf("%d bytes went of what is still read, %d were", before-after, before)
	}
}

// A collection that frees nothing would pass every test of what is kept. Each of
// these keeps first, and frees when what kept it is gone.
func TestCollectFrees(t *testing.T) {
	const most, least = 20 << 10, 100 << 10
	t.Run("dropped fork", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		b.fork("main", "dev")
		b.fill("dev")
		b.keeps(most)
		b.drop("dev", 0)
		b.frees(least)
	})
	t.Run("fork whose undo time is over", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		b.fork("main", "dev")
		b.fill("dev")
		b.drop("dev", time.Hour)
		b.keeps(most)
		b.Clocks().Pass(2*time.Hour, 2*time.Hour)
		b.frees(least)
	})
	t.Run("dropped parent with children", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		b.must(b.Put("main", "inherited", 50<<10))
		b.fork("main", "dev")
		b.fill("main") // dev does not see that
		b.keeps(most)
		b.drop("main", -1)
		b.frees(least)
		if _, n := b.footprint(); n != 1 {
			t.Errorf("%d records are left, want the one that is inherited", n)
		}
	})
	t.Run("child that overwrote everything", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		b.fill("main")
		b.fork("main", "dev")
		b.drop("main", -1)
		b.keeps(most)
		b.fill("dev")
		b.frees(least)
	})
	t.Run("child that deleted everything", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		b.fill("main")
		b.fork("main", "dev")
		b.drop("main", -1)
		b.keeps(most)
		b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpCommit, Bucket: "dev", Writes: []timelinetest.Write{
			{Kind: layers.KindRangeTombstone, NS: layers.NamespaceObjects, Key: "", End: "~"},
		}}))
		b.frees(least)
		if _, n := b.footprint(); n != 0 {
			t.Errorf("%d records are left of nothing", n)
		}
	})
	t.Run("window shrunk to nothing", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		b.window("main", gc.Forever)
		b.fill("main")
		b.fill("main")
		b.keeps(most)
		b.window("main", 0)
		b.frees(least)
	})
	t.Run("snapshot", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		b.fill("main")
		pin := b.pin("main")
		b.fill("main")
		b.keeps(most)
		b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpDeleteSnapshot, Snapshot: pin}))
		b.frees(least)
	})
	t.Run("lease", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		b.fill("main")
		b.must(b.Lease("main", b.Last(), time.Minute))
		b.fill("main")
		b.keeps(most)
		b.Clocks().Pass(2*time.Minute, 2*time.Minute)
		b.frees(least)
	})
	t.Run("detached fork of a dropped parent", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		b.fill("main")
		b.fork("main", "dev")
		b.drop("main", -1)
		b.must(b.Store().Detach(t.Context(), "dev"))
		b.must(b.Everything()) // the records were copied: those of main go
		b.keeps(most)          // the values are shared
		b.fill("dev")
		b.frees(least)
	})
	t.Run("abandoned upload", func(t *testing.T) {
		b := newBench(t, timelinetest.Config{})
		b.create("main")
		w, err := b.Store().Values().NewWriter(t.Context())
		b.must(err)
		_, err = w.Write(make([]byte, 200<<10))
		b.must(err)
		_, err = w.Finish()
		b.must(err)
		b.must(w.Close())
		b.frees(least)
	})
}

// Tombstones weigh nothing, what they ended does: a collection in the background
// must not wait for a full memlayer, or for a level 0 that is heavy by itself.
func TestCollectFreesWhatWasDeleted(t *testing.T) {
	const large, objects = 1 << 20, 4
	remove := func(b *bench) { b.must(b.Remove("main", "large-0", "large-1", "large-2", "large-3")) }
	for _, tc := range []struct {
		name  string
		mode  gc.Mode
		flush bool // the memlayer comes to level 0 by itself
		keep  func(b *bench)
		end   func(b *bench)
		freed bool
	}{
		{name: "idle", mode: gc.Idle, end: remove, freed: true},
		{name: "idle, flushed before", mode: gc.Idle, flush: true, end: remove, freed: true},
		{name: "busy", mode: gc.Busy, flush: true, end: remove, freed: true},
		{name: "replaced by something small", mode: gc.Idle, freed: true, end: func(b *bench) {
			for i := range objects {
				b.must(b.Put("main", fmt.Sprintf("large-%d", i), 10))
			}
		}},
		{name: "in the window", mode: gc.Idle, end: remove, keep: func(b *bench) { b.window("main", gc.Forever) }},
		{name: "pinned", mode: gc.Idle, flush: true, end: remove, keep: func(b *bench) { b.pin("main") }},
		{name: "read by a fork", mode: gc.Busy, flush: true, end: remove, keep: func(b *bench) { b.fork("main", "dev") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, timelinetest.Config{})
			b.create("main")
			for i := range objects {
				b.must(b.Put("main", fmt.Sprintf("large-%d", i), large))
			}
			b.must(b.Put("main", "stays", large))
			b.must(b.Everything())
			if tc.keep != nil {
				tc.keep(b)
			}
			before, _ := b.footprint()
			tc.end(b)
			if tc.flush {
				b.must(b.Flush())
			}
			b.must(b.Collect(tc.mode))
			b.must(b.Collect(tc.mode))
			after, _ := b.footprint()
			switch freed := before - after; {
			case tc.freed && freed < objects*large:
				t.Errorf("%d bytes went of %d, want %d", freed, before, objects*large)
			case !tc.freed && freed > large/2:
				t.Errorf("%d bytes went of what is still read", freed)
			}
		})
	}
}

// Who betrays the oracle of what it was granted must be found out, by what reads
// say and by what is there.
func TestBrokenPromiseIsFoundOut(t *testing.T) {
	for _, c := range []struct {
		name string
		// prepare makes something that only the promise keeps.
		prepare func(b *bench) (betray func() error)
	}{
		{"nothing", func(b *bench) func() error { // the control of the control
			b.fill("main")
			b.pin("main")
			b.fill("main")
			return func() error { return nil }
		}},
		{"snapshot", func(b *bench) func() error {
			b.fill("main")
			id := b.pin("main")
			b.fill("main")
			return func() error { _, err := b.Store().DeleteSnapshots(b.t.Context(), id); return err }
		}},
		{"lease", func(b *bench) func() error {
			b.fill("main")
			at := b.Last()
			b.must(b.Lease("main", at, time.Minute))
			b.fill("main")
			return func() error {
				b.Promise("main", at, time.Hour)
				b.Clocks().Pass(2*time.Minute, 2*time.Minute)
				return nil
			}
		}},
		{"window", func(b *bench) func() error {
			b.window("main", gc.Forever)
			b.fill("main")
			b.fill("main")
			return func() error { _, err := b.Store().SetWindow(b.t.Context(), "main", 0); return err }
		}},
		{"fork", func(b *bench) func() error {
			b.fill("main")
			b.fork("main", "dev")
			b.fill("main")
			return func() error {
				_, err := b.Store().DeleteBucket(b.t.Context(), "dev", timeline.DeleteOptions{Force: true})
				return err
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, timelinetest.Config{})
			b.create("main")
			betray := c.prepare(b)
			b.must(b.Everything())
			b.must(b.CheckReads())
			b.must(betray())
			_, err := b.Store().CollectFull(t.Context())
			b.must(err)
			b.Follow()
			reads, exact := b.CheckReads(), b.CheckExact()
			t.Logf("reads: %.300v", reads)
			t.Logf("exact: %.300v", exact)
			if want := c.name != "nothing"; (reads != nil) != want || (exact != nil) != want {
				t.Errorf("found out by reads: %v, by what is there: %v", reads != nil, exact != nil)
			}
		})
	}
}

// A range is deleted and a delta put over it in one commit. The range goes when it
// hides nothing but garbage, which may lie in the history for a while: it must not be
// found below the delta.
func TestDeltaOverRangeOfItsCommit(t *testing.T) {
	b := newBench(t, timelinetest.Config{})
	write := func(writes ...timelinetest.Write) {
		t.Helper()
		for i := range writes {
			writes[i].NS, writes[i].Key = layers.NamespacePages, "page"
		}
		b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpCommit, Bucket: "main", Writes: writes}))
	}
	b.create("main")
	write(timelinetest.Write{Kind: layers.KindValue, Meta: "base"})
	before := b.pin("main")
	write(timelinetest.Write{Kind: layers.KindRangeTombstone, End: "page~"}, timelinetest.Write{Kind: layers.KindDelta, Meta: "delta"})
	b.fill("main")
	b.pin("main")
	b.fill("main") // the history is worth its place
	b.must(b.Everything())
	b.must(b.Do(timelinetest.Op{Kind: timelinetest.OpDeleteSnapshot, Snapshot: before}))
	for range 2 { // the first advances the horizon
		write(timelinetest.Write{Kind: layers.KindDelta, Meta: "another"})
		b.fill("main")
		b.must(b.Flush())
		b.must(b.Collect(gc.Idle))
	}
	ranges := 0
	b.must(b.Store().VisitRecords(func(_ *layers.Desc, r *layers.Record) error {
		if r.Kind == layers.KindRangeTombstone {
			ranges++
		}
		return nil
	}))
	if ranges > 0 {
		t.Fatal("the range is there")
	}
	b.must(b.CheckReads())
}

// One crash at every step of background work, of each of several kinds; the
// next start loses nothing, leaks nothing, and collects to the byte.
func TestCrashAtEveryStep(t *testing.T) {
	afters := []int{0}
	if soaking {
		afters = []int{0, 1, 2, 3, 5, 8}
	}
	for i, step := range timeline.Steps {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			for j, after := range afters {
				kind := (i + j) % 3
				b := newBench(t, timelinetest.Config{Seed: uint64(1 + i + 100*j), Tune: func(o *timeline.Options) { o.L0Layers, o.MergeBytes = 3, 1000 }})
				b.CrashAt(step, after, []int{0, 50, 100}[kind], kind == 1)
				b.everyStep()
				b.must(b.Everything())
				if missing := b.Coverage().Missing([]string{"crash at step: " + string(step)}); len(missing) > 0 && after == 0 {
					t.Errorf("no %s in\n%s", missing, b.Coverage())
				}
			}
		})
	}
}

// everyStep is work in which every step comes up. A crash may take back any
// of it.
func (b *bench) everyStep() {
	b.create("base")
	b.fill("base")
	b.must(b.Put("base", "other", 100<<10))
	b.must(b.Flush())
	b.fork("base", "side")
	for i := range 12 {
		b.must(b.Put("base", fmt.Sprintf("older-%02d", i), 100)) // in memory, when what is newer comes in a layer
		b.must(b.Put("side", fmt.Sprintf("key-%02d", i), 300))
	}
	b.must(b.Remove("side", "other", "key-03"))
	b.must(b.Merge("side", "base"))
	b.must(b.Everything())
	b.must(b.Merge("side", "base"))
	b.fork("base", "f01")
	for i := 2; i <= 17; i++ {
		b.fork(fmt.Sprintf("f%02d", i-1), fmt.Sprintf("f%02d", i))
		b.must(b.Put(fmt.Sprintf("f%02d", i), fmt.Sprintf("key-%02d", i%12), 300))
	}
	b.must(b.Everything())
	for round := range 2 {
		b.passing(fmt.Sprintf("passing-%d", round), 5*time.Millisecond)
		for i := range 8 {
			b.must(b.Put("base", fmt.Sprintf("key-%02d", i), 500))
		}
		b.must(b.Flush())
		b.must(b.Remove("base", "large", "key-09"))
		for i := 1; i <= 8; i++ {
			b.drop(fmt.Sprintf("f%02d", i+8*round), []time.Duration{0, 5 * time.Millisecond}[i%2])
		}
		b.Clocks().Pass(10*time.Millisecond, 10*time.Millisecond)
		b.must(b.Everything())
	}
	b.must(b.Put("f17", "large", 100))
	b.must(b.Everything())
}

// A chain that is deeper than a rollup reaches, with parents that go.
func TestDeepChain(t *testing.T) {
	depth := 16*16 + 17
	if testing.Short() {
		depth = 40
	}
	b := newBench(t, timelinetest.Config{})
	b.create("d000")
	b.fill("d000")
	for i := 1; i <= depth; i++ {
		name := fmt.Sprintf("d%03d", i)
		b.fork(fmt.Sprintf("d%03d", i-1), name)
		switch i % 5 {
		case 1:
			b.must(b.Put(name, fmt.Sprintf("key-%02d", i%12), 200))
		case 2:
			b.must(b.Remove(name, fmt.Sprintf("key-%02d", (i+3)%12)))
		case 3:
			b.must(b.Put(name, fmt.Sprintf("own-%03d", i), 100))
		}
	}
	b.must(b.Everything())
	hops := make(map[layers.TimelineID]int)
	longest := 0
	for _, l := range b.Store().TreeLines() {
		hops[l.ID] = hops[l.ReadAncestor] + 1
		longest = max(longest, hops[l.ID])
	}
	t.Logf("%d timelines, the longest way of a read has %d", len(hops), longest)
	if want := 2 + 3*15; longest > want {
		t.Errorf("a read goes through %d timelines, want %d at most", longest, want)
	}
	for i := range depth { // all but the deepest
		b.drop(fmt.Sprintf("d%03d", i), -1)
	}
	b.must(b.Everything())
	if n := len(b.Store().TreeLines()); n > 2+3*15 {
		t.Errorf("%d timelines are left", n)
	}
	b.must(b.Store().Detach(t.Context(), fmt.Sprintf("d%03d", depth)))
	b.must(b.Everything())
	if n := len(b.Store().TreeLines()); n != 1 {
		t.Errorf("%d timelines are left, the only bucket is detached", n)
	}
}
