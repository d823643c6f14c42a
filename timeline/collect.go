package timeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// collector finds layers that are worth rewriting. It belongs to whoever holds
// Store.collectMu.
type collector struct {
	known    []known // timelines, by id
	assessed map[layers.FileNum]*assessment
	seed     maphash.Seed

	// seen is what the store looked like when it was last looked at, done when
	// the last collection that ended well began.
	seen, done state
	quietSince time.Duration // uptime since which nothing was committed
	ran        time.Duration // uptime when the last collection began
	// leafRecords is how many records rollUpLeaves has copied.
	leafRecords int64
	leasesEnd   wal.LSN // when the first of the leases ends that it knew of; zero: there were none
}

// state is what a collection goes by: where nothing of it changed, there is nothing new.
type state struct {
	visible, horizon wal.LSN
	streams          int64 // uploads that ended; they may have left dead space
	mode             gc.Mode
}

// known is what a timeline was when its needs were last looked at.
type known struct {
	id        layers.TimelineID
	parent    layers.TimelineID // read ancestor
	signature uint64            // of what decides on the needs of its records, horizon aside
}

// assessment is what a layer was found to hold.
type assessment struct {
	bytes      int64                // of the file
	dead       int64                // of them, those of records that nobody can read
	deadValues int64                // in value segments, that only dead records of the layer hold
	deadAll    bool                 // nothing is left to keep
	kept       [gc.NumReasons]int64 // of bytes, by why
	ended      int64                // dead values in older layers, that records without values of this one ended

	expires  wal.LSN // horizon at which a quarter of the rest will have expired; zero: never
	byOthers bool    // what other timelines have or lack keeps something
	flushed  int64   // Store.metrics.flushedBytes when it was assessed
	last     wal.LSN // the newest commit that the snapshot knew of
}

// idleAfter is how long nothing may be committed until the store counts as idle.
const idleAfter = 3 * time.Second

// collectGarbage is the worker that gives back what nobody can read.
func (s *Store) collectGarbage() {
	defer s.workers.Done()
	if s.opts.CollectEvery < 0 {
		return
	}
	tick := time.NewTicker(s.opts.CollectEvery)
	defer tick.Stop()
	work(s, tick.C, "collection", &s.metrics.collectErrors, func() (again bool, err error) {
		return false, s.collectOnce(s.closing)
	})
}

// collectOnce looks for garbage if something happened since it last did, and
// removes what is worth it.
func (s *Store) collectOnce(ctx context.Context) error {
	s.collectMu.Lock()
	defer s.collectMu.Unlock()
	c := &s.collector
	began := c.look(s)
	now := s.opts.Uptime()
	ended := c.leasesEnd != 0 && c.leasesEnd < s.clock.Now() // nothing is logged when a lease ends
	news := began != c.done || ended || s.reclaim.pending() || s.strained.any()
	if !news || now-c.ran < restFactor*s.treeSnapshotCost() {
		return nil
	}
	c.ran, c.leasesEnd = now, s.leases.firstEnd(s.clock.Now())
	snap, err := s.takeTreeSnapshot(ctx)
	if err != nil {
		return err
	}
	if err := s.collect(ctx, snap, began.mode); err != nil {
		return err
	}
	c.done = began
	if began.mode == gc.Idle {
		s.dropTreeSnapshot()
	}
	return nil
}

// restFactor is how many times longer than the taking of a snapshot took the next
// collection waits while the store is busy: a tree of a million takes most of a
// second. It waits for no snapshots but its own: compactions take some, too.
const restFactor = 20

// look says where the store stands, and how eager to be.
func (c *collector) look(s *Store) state {
	now := s.opts.Uptime()
	st := state{visible: s.log.Visible(), horizon: s.Horizon(), streams: s.values.StreamsEnded(), mode: gc.Busy}
	if st.visible != c.seen.visible {
		c.quietSince = now
	}
	if now-c.quietSince >= idleAfter {
		st.mode = gc.Idle
	}
	c.seen = st
	return st
}

// collect runs one collection by a snapshot. The caller holds collectMu.
func (s *Store) collect(ctx context.Context, snap *treeSnapshot, mode gc.Mode) error {
	// What fails in one place, a corrupt file say, must not keep the others from
	// giving back what they can.
	errs := []error{s.rollUp(ctx, false)}
	dirty := s.collector.changed(snap, s.tree)
	errs = append(errs, s.invalidate(dirty), s.flushDead(ctx, snap, dirty, mode))
	if mode == gc.Idle {
		errs = append(errs, s.flushIdle(ctx, snap), s.rollUpLeaves(ctx), s.settleDown(ctx, snap, mode))
	}
	_, err := s.rewriteGarbage(ctx, snap, mode) // what overtook it is looked at the next time
	errs = append(errs, err, s.mergeEnded(ctx, mode), s.reclaimValues(ctx, mode), s.purge(ctx, snap))
	return errors.Join(errs...)
}

// prepare makes what the first use needs.
func (c *collector) prepare() {
	if c.assessed != nil {
		return
	}
	c.assessed = make(map[layers.FileNum]*assessment)
	c.seed = maphash.MakeSeed()
}

// changed returns the timelines, ascending, whose needs may have shrunk since
// the last snapshot: those whose readers changed, and all that they read on in.
func (c *collector) changed(snap *treeSnapshot, t *tree) []layers.TimelineID {
	c.prepare()
	set := make(map[layers.TimelineID]bool)
	mark := func(id layers.TimelineID) {
		for id != 0 && !set[id] {
			set[id] = true
			i, ok := slices.BinarySearchFunc(c.known, id, func(k known, id layers.TimelineID) int { return cmp.Compare(k.id, id) })
			if !ok {
				return
			}
			id = c.known[i].parent
		}
	}
	now, old := make([]known, 0, len(c.known)), c.known
	for line := range snap.Lines() { // by id, as known
		for len(old) > 0 && old[0].id < line.ID { // purged
			mark(old[0].id)
			old = old[1:]
		}
		sig := c.signature(&line, t.node(line.ID))
		if len(old) > 0 && old[0].id == line.ID {
			if old[0].signature != sig {
				mark(line.ID)
			}
			old = old[1:]
		} else if !line.Readable { // it came and went between two looks, and has records, too
			mark(line.ID)
		}
		now = append(now, known{line.ID, line.ReadAncestor, sig})
	}
	for _, k := range old {
		mark(k.id)
	}
	c.known = now
	for line := range snap.Lines() {
		if set[line.ID] {
			mark(line.ReadAncestor) // where it reads on now
		}
	}
	ids := make([]layers.TimelineID, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (c *collector) signature(l *gc.Line, n *node) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	maphash.WriteComparable(&h, struct {
		readable bool
		window   gc.Window
		in       layers.TimelineID
		lsn      wal.LSN
	}{l.Readable, n.window(), l.ReadAncestor, l.ReadLSN})
	for _, p := range l.Pins {
		maphash.WriteComparable(&h, p)
	}
	return h.Sum64()
}

// flushDead moves memlayers to layers when they hold enough of timelines that
// nobody reads: a flush leaves those out, and their values can go.
func (s *Store) flushDead(ctx context.Context, snap *treeSnapshot, dirty []layers.TimelineID, mode gc.Mode) error {
	v, _, err := s.acquireLayers()
	if err != nil {
		return err
	}
	var dead uint64
	for _, id := range dirty {
		if !snap.dead(id) {
			continue
		}
		for _, m := range v.Mem {
			if m.MayContain(layers.HashTimeline(id)) {
				n, err := deadBytes(m, id)
				if err != nil {
					v.ReleaseLayers()
					return err
				}
				dead += n
			}
		}
	}
	v.ReleaseLayers()
	if dead == 0 || mode == gc.Busy && dead < flushDeadBytes {
		return nil
	}
	return s.flushAndGoOn(ctx)
}

// flushPatience is how long a collection waits for a flush. One that fails, for
// want of room perhaps, must not keep it from giving back what lies in layers.
var flushPatience = 30 * time.Second // a variable for the tests

// flushAndGoOn is Flush with an end to patience.
func (s *Store) flushAndGoOn(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	if err := s.Flush(wait); err != nil {
		return fmt.Errorf("wait for a flush: %w", err)
	}
	return nil
}

// flushDeadBytes is how much of dropped timelines a memlayer may hold on to
// while the store is busy; a flush comes by itself before long.
const flushDeadBytes = 4 << 20

// deadBytes adds up what a memlayer has of a timeline.
func deadBytes(m *layers.Memlayer, id layers.TimelineID) (n uint64, err error) {
	it := m.NewIter()
	defer it.Close()
	for ok := it.SeekGE(layers.MakeKey(id, 0, nil), wal.MaxLSN); ok && it.Record().Key.Timeline() == id; ok = it.Next() {
		body, err := it.Record().Body.Len()
		if err != nil {
			return 0, err
		}
		n += uint64(len(it.Record().Key)) + body
	}
	return n, it.Err()
}

// flushIdle moves the active memlayer to a layer when the store is idle and it
// holds, or ended, enough: what its records replaced cannot go before.
func (s *Store) flushIdle(ctx context.Context, snap *treeSnapshot) error {
	const records, values = 64 << 10, 1 << 20
	s.applyMu.Lock()
	worth := s.mu.active.Bytes() >= records || s.memValues >= values
	s.applyMu.Unlock()
	if !worth {
		var err error
		if worth, err = s.memlayersEndMuch(ctx, snap); err != nil || !worth {
			return err
		}
	}
	return s.flushAndGoOn(ctx)
}

// settleDown merges the levels above the bottom into it when the store is idle
// and they weigh something: only at the bottom every version finds what ended it.
// In a full collection it merges whatever has records that the snapshot knows: on
// others nothing can be decided, and under load they never come to an end.
func (s *Store) settleDown(ctx context.Context, snap *treeSnapshot, mode gc.Mode) error {
	for begun := false; ctx.Err() == nil; begun = true {
		ran, err := s.compactOnce(func(v *layers.Version) *compaction {
			if mode == gc.Full {
				c := s.pickDownTo(v, snap.last)
				if c != nil {
					c.snap, c.exact, c.ctx = snap, true, ctx
				}
				return c
			}
			upper, bottom := levelWeight(v.L0), levelWeight(v.Levels[layers.BottomLevel])
			for _, level := range v.Levels[:layers.BottomLevel] {
				upper += levelWeight(level)
			}
			if upper == 0 || !begun && upper < bottom/20 {
				return nil
			}
			return s.pickDown(v)
		})
		if err != nil || !ran {
			return err
		}
		if s.busyAgain(mode) {
			return nil
		}
	}
	return ctx.Err()
}

// levelWeight adds up layers and the values that they refer to.
func levelWeight(ls []*layers.Layer) int64 {
	n := levelBytes(ls)
	for _, l := range ls {
		for _, ref := range l.Desc().Segments {
			n += int64(ref.Bytes)
		}
	}
	return n
}

// downLayers bounds the layers that one merge down takes, unless its first input
// alone meets more: level 0 fills up while it waits for the end of a merge.
const downLayers = 64

// pickDown merges level 0 to where it is merged anyway; without one, as many layers
// of the highest level that has some as bounds allow, in order of their keys, into
// the next level that has, or into the bottom.
func (s *Store) pickDown(v *layers.Version) *compaction { return s.pickDownTo(v, wal.MaxLSN) }

// pickDownTo is pickDown of the layers that have records of LSNs up to last. What
// it leaves in level 0 is newer than what it takes.
func (s *Store) pickDownTo(v *layers.Version, last wal.LSN) *compaction {
	newer := func(l *layers.Layer) bool { return l.Desc().MinLSN > last }
	if l0 := slices.DeleteFunc(settledLevel0(v), newer); len(l0) > 0 {
		return compactionOf(v, false, 0, s.baseLevel(v), l0)
	}
	for from := 1; from < layers.BottomLevel; from++ {
		all := v.Levels[from]
		first := slices.IndexFunc(all, func(l *layers.Layer) bool { return !newer(l) })
		if first < 0 {
			continue
		}
		all = all[first:]
		to := from + 1
		for to < layers.BottomLevel && len(v.Levels[to]) == 0 {
			to++
		}
		c := compactionOf(v, false, from, to, all[:1])
		for n := 2; n <= min(len(all), downLayers); n++ {
			more := compactionOf(v, false, from, to, all[:n])
			if len(more.inputs) > downLayers {
				break
			}
			c = more
		}
		return c
	}
	return nil
}

// busyAgain reports whether somebody committed since an idle collection began.
func (s *Store) busyAgain(mode gc.Mode) bool {
	return mode == gc.Idle && s.log.Visible() != s.collector.seen.visible
}

// invalidate forgets what was found in layers that may have records of the
// timelines, and in those that are gone.
func (s *Store) invalidate(ids []layers.TimelineID) error {
	v, _, err := s.acquireLayers()
	if err != nil {
		return err
	}
	defer v.ReleaseLayers()
	old := s.collector.assessed
	s.collector.assessed = make(map[layers.FileNum]*assessment, len(old))
	for l := range v.All() {
		num := l.Desc().Num
		touched, err := touches(l, ids)
		if err != nil {
			return err
		}
		if a := old[num]; a != nil && !touched {
			s.collector.assessed[num] = a
		}
	}
	s.countKept()
	return nil
}

// assessBudget bounds the bytes of layers that one collection assesses while the
// store is busy. What is left is assessed by the next ones.
const assessBudget = 32 << 20

// rewriteGarbage assesses the layers that may have become garbage and rewrites
// those where it is worth it. It reports whether it rewrote any. A layer that
// fails does not keep it from the others.
func (s *Store) rewriteGarbage(ctx context.Context, snap *treeSnapshot, mode gc.Mode) (done rewrites, err error) {
	v, _, err := s.acquireLayers()
	if err != nil {
		return done, err
	}
	all := slices.Collect(v.All())
	v.ReleaseLayers()
	s.collector.prepare()
	budget := int64(math.MaxInt64)
	if mode == gc.Busy {
		budget = assessBudget
	}
	var errs []error
	for _, l := range all {
		if ctx.Err() != nil || s.closing.Err() != nil || s.Err() != nil {
			return done, errors.Join(append(errs, ctx.Err(), s.Err())...)
		}
		one, err := s.rewriteIfGarbage(ctx, l, snap, mode, &budget)
		done.rewrote = done.rewrote || one.rewrote
		done.overtaken = done.overtaken || one.overtaken
		if err != nil {
			errs = append(errs, fmt.Errorf("collect layer %d: %w", l.Desc().Num, err))
		}
	}
	return done, errors.Join(errs...)
}

// rewrites says what became of layers that were looked at for garbage.
type rewrites struct {
	rewrote bool
	// overtaken: a compaction replaced one before. What it wrote was decided on by a
	// snapshot of its own, maybe an older one, and was not looked at.
	overtaken bool
}

// rewriteIfGarbage assesses a layer, unless it was and nothing happened since or
// the budget of bytes is spent, and rewrites it if that is worth it.
func (s *Store) rewriteIfGarbage(ctx context.Context, l *layers.Layer, snap *treeSnapshot, mode gc.Mode, budget *int64) (done rewrites, err error) {
	num := l.Desc().Num
	a := s.collector.assessed[num]
	if s.stale(a, snap, mode) {
		if *budget <= 0 || s.busyAgain(mode) {
			return done, nil
		}
		*budget -= l.Desc().Bytes
		v, _, err := s.acquireLayers()
		if err != nil {
			return done, err
		}
		defer v.ReleaseLayers()
		if !slices.Contains(slices.Collect(v.All()), l) {
			return rewrites{overtaken: true}, nil
		}
		if a, err = s.assess(v, l, snap, mode == gc.Full); err != nil {
			return done, err
		}
		s.metrics.assessed.Add(1)
		s.collector.assessed[num] = a
	}
	if !a.deadAll && !gc.Rewrite(a.bytes, a.dead, a.deadValues, mode) {
		return done, nil
	}
	done.rewrote, err = s.rewriteLayer(ctx, l, snap, mode)
	done.overtaken = !done.rewrote && err == nil
	return done, err
}

// rewriteLayer removes the garbage of one layer. It reports false when a
// compaction was faster.
func (s *Store) rewriteLayer(ctx context.Context, l *layers.Layer, snap *treeSnapshot, mode gc.Mode) (bool, error) {
	return s.compactOnce(func(v *layers.Version) *compaction {
		if !slices.Contains(slices.Collect(v.All()), l) || aheadOfMemory(v, l) {
			return nil
		}
		d := l.Desc()
		return &compaction{history: d.Kind == layers.HistoryLayer, level: d.Level, inputs: []*layers.Layer{l}, exact: mode == gc.Full, snap: snap, ctx: ctx}
	})
}

// stale reports whether a layer has to be assessed (again).
func (s *Store) stale(a *assessment, snap *treeSnapshot, mode gc.Mode) bool {
	if a == nil || mode == gc.Full || a.expires != 0 && snap.Horizon() >= a.expires {
		return true
	}
	if a.kept[gc.Unknown] > 0 && snap.last > a.last {
		return true // of commits that are known by now
	}
	grown := s.metrics.flushedBytes.Load() - a.flushed
	return a.byOthers && grown > 0 && (grown >= a.bytes/8 || mode == gc.Idle)
}

// touches reports whether a layer may have records of one of the timelines.
func touches(l *layers.Layer, ids []layers.TimelineID) (bool, error) {
	d := l.Desc()
	from, _ := slices.BinarySearch(ids, d.Range.Start.Timeline())
	const asked = 64
	for i, id := range ids[from:] {
		if id > d.Range.End.Timeline() {
			break
		}
		if i >= asked || d.RangeTombstones > 0 {
			return true, nil
		}
		if may, err := l.MayContain(layers.HashTimeline(id)); may || err != nil {
			return may, err
		}
	}
	return false, nil
}

// assess reads the entries of one layer and decides on each.
func (s *Store) assess(v *layers.Version, l *layers.Layer, snap *treeSnapshot, exact bool) (*assessment, error) {
	d := l.Desc()
	k := s.newRetainer(snap, v, []*layers.Layer{l}, exact)
	k.bottom = d.Kind != layers.DeltaLayer
	a := &assessment{bytes: d.Bytes, flushed: s.metrics.flushedBytes.Load(), last: snap.last}
	recheck := gc.NewRecheck(snap.Horizon())
	var deadRaw, raw int64
	it := l.NewIter(layers.IterOptions{})
	defer it.Close()
	pace := s.newPacer(exact)
	for ok := it.First(); ok; ok = it.Next() {
		pace.step()
		if s.closing.Err() != nil {
			return nil, ErrClosed
		}
		r := it.Record()
		verdict, err := k.next(r)
		if err != nil {
			return nil, err
		}
		size := int64(len(r.Key) + len(r.Meta) + len(r.Body))
		raw += size
		a.kept[verdict.reason] += size
		switch {
		case !verdict.keep():
			deadRaw += size
			a.deadValues += valueBytes(r)
		case r.Kind == layers.KindTombstone && s.expiry(r.Key.Timeline(), r.LSN) > snap.Horizon():
			recheck.Add(size, s.expiry(r.Key.Timeline(), r.LSN))
		case r.Kind == layers.KindTombstone: // no window keeps it, but what it hides
			a.byOthers = true
		case verdict.reason == gc.InWindow:
			recheck.Add(size, s.expiry(r.Key.Timeline(), verdict.death))
		case verdict.reason == gc.Child, verdict.reason == gc.ProbeLimit:
			a.byOthers = true
		}
		if d.Kind == layers.DeltaLayer && (r.Kind == layers.KindTombstone || d.Entries <= fewRecords) {
			bytes, why, err := s.ended(v, k, r)
			switch {
			case err != nil:
				return nil, err
			case why == gc.None:
				a.ended += bytes
			case why == gc.InWindow:
				recheck.Add(bytes, s.expiry(r.Key.Timeline(), r.LSN))
			}
		}
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	a.deadAll = deadRaw == raw
	for _, r := range l.RangeTombstones() {
		keep, err := k.keepRange(&r)
		if err != nil {
			return nil, err
		}
		if raw++; !keep {
			deadRaw++
		} else {
			a.deadAll = false
		}
	}
	a.dead = int64(float64(a.bytes) * float64(deadRaw) / float64(max(raw, 1)))
	if deadRaw > 0 {
		a.dead = max(a.dead, 1)
	}
	for i := range a.kept {
		a.kept[i] = int64(float64(a.kept[i]) * float64(a.bytes) / float64(max(raw, 1)))
	}
	if at, ok := recheck.At(); ok {
		a.expires = at
	}
	return a, nil
}

// valueBytes is what a record holds in value segments.
func valueBytes(r *layers.Record) int64 {
	if r.Body.Tag() != layers.BodyExtents && r.Body.Tag() != layers.BodySpilled {
		return 0
	}
	n, err := r.Body.Len()
	if err != nil {
		return 0 // the verification of a rewrite reports it
	}
	return int64(n)
}

// expiry returns the horizon from which a window does not keep a version any
// more that ended at death.
func (s *Store) expiry(id layers.TimelineID, death wal.LSN) wal.LSN {
	n := s.tree.node(id)
	if n == nil {
		return 0
	}
	return gc.Expiry(death, n.retention.Load().window)
}
