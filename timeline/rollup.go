package timeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
	"stemma/wal/storefs"
)

// rollup shortens the way of reads of one timeline: what the timelines in
// between have of each key, newest only, becomes records of its own, below all
// that it wrote itself, and its reads go on beyond them (DESIGN 2.5).
type rollup struct {
	node *node
	hops []layers.Hop // in between that have records, nearest first
	to   readPair
	most int64 // records that it may copy; zero: any number

	copied int64
	// watch is told every so often how many were copied; an error of it ends the rollup. Nil: nobody watches.
	watch func(copied int64) error
}

// rollupsEach bounds the timelines that one edit rolls up.
const rollupsEach = 256

// rollUp shortens the chains that are longer than they should be, those at
// the lower depths first, so that the longer rollups find the shorter ones done.
// Then come the timelines whose reads have paid for a rollup of their own. When
// somebody waits for it, it is not held back.
func (s *Store) rollUp(ctx context.Context, waited bool) error {
	for ctx.Err() == nil {
		done, err := s.rollUpSome(s.longChains, waited)
		if err != nil {
			return err
		}
		if done.timelines == 0 {
			break
		}
	}
	for _, n := range s.takeStrained() {
		if ctx.Err() != nil {
			break
		}
		if err := s.rollUpStrained(n, waited); err != nil {
			s.strained.add(n) // to be tried again
			return err
		}
	}
	return ctx.Err()
}

const (
	// fewHops is a chain that no read minds.
	fewHops = 3
	// scanStrain is how much more than a get a scan suffers from a hop.
	scanStrain = 32
	// firstPatience is the strain after which a timeline is rolled up by itself,
	// and the records that this may copy. It doubles when there are more.
	firstPatience = 4096
)

// strain notes that a read goes many hops. Once the hops of a timeline's reads
// are as many as the records that a rollup would copy, it is worth it.
func (v *View) strain(weight int) {
	extra := len(v.chain) - fewHops
	if extra <= 0 {
		return
	}
	n := v.node
	used := n.use()
	patience := max(used.patience.Load(), firstPatience)
	if now := used.strain.Add(int64(extra * weight)); now >= patience && now-int64(extra*weight) < patience {
		v.store.strained.add(n)
	}
}

// strained are the timelines whose reads have gone many hops.
type strained struct {
	mu    sync.Mutex
	nodes []*node
}

func (s *strained) add(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
}

func (s *strained) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.nodes) > 0
}

func (s *Store) takeStrained() []*node {
	s.strained.mu.Lock()
	defer s.strained.mu.Unlock()
	nodes := s.strained.nodes
	s.strained.nodes = nil
	return nodes
}

// errManyRecords ends a rollup that copies more than its reads have paid for.
var errManyRecords = errors.New("timeline: too many records")

// rollUpStrained rolls a timeline up to the root of its lineage, if that copies
// no more records than its patience; else it becomes more patient.
func (s *Store) rollUpStrained(n *node, waited bool) error {
	used := n.use()
	for {
		patience := max(used.patience.Load(), firstPatience)
		if used.strain.Load() < patience {
			return nil // what its reads have paid so far stays paid
		}
		_, err := s.rollUpSome(func(version uint64) []rollup {
			if p := n.next(version); p.node == nil || p.node.next(version).node == nil {
				return nil
			}
			r := n.rollupTo(0, version)
			r.most = patience
			return []rollup{r}
		}, waited)
		if !errors.Is(err, errManyRecords) {
			used.strain.Store(0)
			return err
		}
		used.patience.Store(2 * patience)
	}
}

const (
	// idleRecords is how many records the rollups of an idle store may copy at
	// least, and idleShare which part of all records they may.
	idleRecords = 16 << 10
	idleShare   = 8
)

// rollUpLeaves rolls up the leaves whose reads go many hops, the newest first,
// before their reads have paid for it: for an idle store, and only as many as its
// budget for the life of the process allows.
func (s *Store) rollUpLeaves(ctx context.Context) error {
	c := &s.collector
	for each := 1; ctx.Err() == nil; {
		left := max(idleRecords, s.layerRecords()/idleShare) - c.leafRecords
		if left <= 0 {
			return nil
		}
		done, err := s.rollUpSome(func(version uint64) []rollup { return s.farLeaves(version, each, left/int64(each)) }, false)
		switch {
		case errors.Is(err, errManyRecords) && each == 1:
			c.leafRecords = math.MaxInt64 / 2 // the rest waits for its reads
			return nil
		case errors.Is(err, errManyRecords):
			each = 1
			continue
		case err != nil || done.timelines == 0:
			return err
		}
		if c.leafRecords += done.records; s.busyAgain(gc.Idle) {
			return nil
		}
		// As many as half of what is left would be enough for.
		mean := done.records/int64(done.timelines) + 1
		each = int(min(max(1, (left-done.records)/(2*mean)), rollupsEach))
	}
	return ctx.Err()
}

// farLeaves plans the rollups of up to n leaves, the newest first, whose reads go
// many hops. Each may copy so many records.
func (s *Store) farLeaves(version uint64, n int, most int64) []rollup {
	var leaves []*node
	visible := s.log.Visible()
	s.tree.mu.RLock()
	for n := range s.tree.mu.nodes.all() {
		if n.depth > fewHops && n.forks.Load() == 0 && n.birth <= visible && n.readable(wal.MaxLSN) {
			leaves = append(leaves, n)
		}
	}
	s.tree.mu.RUnlock()
	slices.SortFunc(leaves, func(a, b *node) int { return cmp.Compare(b.id, a.id) })
	var plan []rollup
	for _, leaf := range leaves {
		r := leaf.rollupTo(0, version)
		if len(r.hops) <= fewHops {
			continue
		}
		r.most = most
		if plan = append(plan, r); len(plan) == n {
			break
		}
	}
	return plan
}

// layerRecords returns how many records the layers have.
func (s *Store) layerRecords() (n int64) {
	for l := range s.version.Load().All() {
		n += int64(l.Desc().Entries)
	}
	return n
}

// longChains plans the rollups of the lowest tier that has any to do.
func (s *Store) longChains(version uint64) []rollup {
	var plan []rollup
	tier, visible := math.MaxInt, s.log.Visible()
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	for n := range s.tree.mu.nodes.all() {
		target, ok := gc.RollupDepth(int(n.depth))
		p := n.next(version)
		switch {
		case !ok, p.node == nil, int(p.node.depth) <= target, p.node.next(version).node == nil:
			continue
		case !n.readable(wal.MaxLSN) && n.forks.Load() == 0:
			continue
		}
		if n.birth > visible {
			continue // a crash may take it back
		}
		step := int(n.depth) - target
		if step > tier {
			continue
		}
		if step < tier {
			tier, plan = step, plan[:0]
		}
		if len(plan) < rollupsEach {
			plan = append(plan, n.rollupTo(target, version))
		}
	}
	return plan
}

// rollupTo plans a rollup to the first timeline on the way whose depth is at or
// below target, or to the last on the way: that is as good as a root, and to copy
// all of it would be a detachment. A negative target rolls up everything.
func (n *node) rollupTo(target int, version uint64) rollup {
	r := rollup{node: n, to: n.next(version)}
	lsn := wal.MaxLSN
	for r.to.node != nil && int(r.to.node.depth) > target && (target < 0 || r.to.node.next(version).node != nil) {
		lsn = min(lsn, r.to.lsn)
		if r.to.node.written.Load() {
			r.hops = append(r.hops, layers.Hop{Timeline: r.to.node.id, UpTo: lsn})
		}
		r.to = r.to.node.next(version)
	}
	r.to.lsn = min(lsn, r.to.lsn)
	return r
}

// Detach copies the records that a bucket inherits, values aside, so that its
// reads need no ancestor any more. What the ancestors alone were kept for can go.
//
// Errors: ErrNoSuchBucket, those of the disk.
func (s *Store) Detach(ctx context.Context, name string) error {
	return s.DetachWatched(ctx, name, nil)
}

// DetachWatched is Detach that ends with ctx, and tells watch, unless it is nil, every so often how many records
// were copied so far. What was copied by one that ended before its end goes. Errors besides: those of ctx.
func (s *Store) DetachWatched(ctx context.Context, name string, watch func(records int64)) error {
	b, _, err := s.lookup(name)
	if err != nil {
		return fmt.Errorf("detach %q: %w", name, err)
	}
	n := b.last()
	_, err = s.rollUpSome(func(version uint64) []rollup {
		if n.next(version).node == nil {
			return nil
		}
		r := n.rollupTo(-1, version)
		r.watch = func(copied int64) error {
			if watch != nil {
				watch(copied)
			}
			return ctx.Err()
		}
		return []rollup{r}
	}, true)
	if err != nil {
		return fmt.Errorf("detach %q: %w", name, err)
	}
	return nil
}

// rolledUp is what one edit did.
type rolledUp struct {
	timelines int
	records   int64 // that it copied
}

// rollUpSome carries out what plan wants in the current Version, in one edit:
// layer synced, catalog synced, Version published, and then the read pairs,
// which hold from that Version on.
func (s *Store) rollUpSome(plan func(version uint64) []rollup, waited bool) (done rolledUp, err error) {
	s.compactMu.Lock()
	defer s.compactMu.Unlock()
	// Not by acquireLayers: what is copied may be garbage before it is published, if
	// the timeline is dropped, and its values must not be reclaimed meanwhile.
	v, visible, err := s.acquire()
	if err != nil {
		return done, err
	}
	defer v.Release()
	if err := s.Err(); err != nil {
		return done, err
	}
	// The Version may lack records that a timeline inherits which was born since, and
	// a crash may take back one that is not visible. Rows of one that is purged would
	// have nothing to belong to.
	rs := slices.DeleteFunc(plan(v.Seq), func(r rollup) bool { return r.node.birth > visible || !s.worthReading(r.node) })
	if len(rs) == 0 {
		return done, nil
	}
	slices.SortFunc(rs, func(a, b rollup) int { return int(a.node.id) - int(b.node.id) })
	out := s.newOutput(layers.DeltaLayer, 0, storefs.User)
	defer out.abort()
	made, err := s.writeRollups(v, rs, out, s.newPacer(waited))
	if err != nil {
		return done, fmt.Errorf("roll up %d timelines: %w", len(rs), err)
	}
	rows := s.catalog.newBatch()
	for _, l := range made {
		s.setLayerRows(rows, l.Desc())
		s.metrics.rollupBytes.Add(l.Desc().Bytes)
		done.records += int64(l.Desc().Entries)
	}
	for _, r := range rs {
		rows.setReads(r.node.id, r.to)
		if len(r.hops) > 0 {
			rows.set(rowKey(rowWritten, uint64(r.node.id)), nil)
		}
	}
	s.at(StepRollupWritten)
	if err := s.commitSynced(rows, made); err != nil {
		return done, err
	}
	s.at(StepRollupCommitted)
	seq := s.publish(func(e *edit) { e.layers = append(e.layers, made...) })
	for _, r := range rs {
		r.node.applyRollup(&r, seq)
	}
	s.at(StepRollupPublished)
	done.timelines = len(rs)
	s.metrics.rollups.Add(int64(len(rs)))
	poke(s.compactC)
	return done, nil
}

// worthReading reports whether a timeline exists and anybody may read it.
func (s *Store) worthReading(n *node) bool {
	return s.tree.node(n.id) == n && (n.readable(wal.MaxLSN) || n.forks.Load() > 0)
}

// applyRollup lets reads in Versions from seq on take the short way.
func (n *node) applyRollup(r *rollup, seq uint64) {
	if len(r.hops) > 0 {
		n.written.Store(true)
	}
	n.reads.Store(&shortWay{readPair: r.to, since: seq, prev: n.reads.Load()})
}

// inheritedNamespaces are those that a fork sees of its ancestors, in key order.
var inheritedNamespaces = []layers.Namespace{
	layers.NamespaceConfig, layers.NamespaceMerges, layers.NamespaceObjects, layers.NamespaceVersions, layers.NamespacePages, layers.NamespaceK2V,
}

// writeRollups writes the records of rollups that are sorted by timeline.
func (s *Store) writeRollups(v *layers.Version, rs []rollup, out *output, pace *pacer) ([]*layers.Layer, error) {
	for _, r := range rs {
		for _, ns := range inheritedNamespaces {
			if err := s.writeRollup(v, &r, ns, out, pace); err != nil {
				return nil, err
			}
			for _, h := range r.hops {
				hist := v.NewHistory(h.Timeline, ns, nil, nil, 1, h.UpTo)
				for _, t := range hist.RangeTombstones() {
					t.Key, t.End = moveKey(t.Key, h.Timeline, r.node.id), moveKey(t.End, h.Timeline, r.node.id)
					out.stones = append(out.stones, t)
				}
				if err := firstError(hist.Err(), hist.Close()); err != nil {
					return nil, err
				}
			}
		}
	}
	return out.finish()
}

// writeRollup writes what the hops have of one namespace.
func (s *Store) writeRollup(v *layers.Version, r *rollup, ns layers.Namespace, out *output, pace *pacer) error {
	if len(r.hops) == 0 {
		return nil
	}
	scan := v.NewScan(r.hops, ns, nil, nil, layers.ScanOptions{NoFillCache: true, Tombstones: r.to.node != nil})
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		pace.step()
		if s.closing.Err() != nil {
			return ErrClosed
		}
		if r.copied++; r.most > 0 && r.copied > r.most {
			return errManyRecords
		}
		if r.watch != nil && r.copied%256 == 0 {
			if err := r.watch(r.copied); err != nil {
				return err
			}
		}
		rec := *scan.Record()
		rec.Key = layers.MakeKey(r.node.id, ns, rec.Key.User())
		rec.Death = 0
		if err := out.add(&rec); err != nil {
			return err
		}
		if rec.Kind == layers.KindDelta {
			if err := r.writeBases(v, &rec, out); err != nil {
				return err
			}
		}
	}
	return scan.Err()
}

// writeBases writes what of the hops a delta, which was written, applies to.
func (r *rollup) writeBases(v *layers.Version, delta *layers.Record, out *output) error {
	var failed error
	err := v.Walk(r.hops, delta.Key.Namespace(), delta.Key.User(), func(base *layers.Record, _ int) bool {
		if base.LSN >= delta.LSN && base.Kind != layers.KindRangeTombstone {
			return true // the delta itself; a range may have been deleted in the same commit
		}
		if base.Kind == layers.KindRangeTombstone || base.Kind == layers.KindTombstone && r.to.node == nil {
			return false
		}
		if r.copied++; r.most > 0 && r.copied > r.most {
			failed = errManyRecords
			return false
		}
		rec := *base
		rec.Key, rec.Death = delta.Key, 0
		failed = out.add(&rec)
		return failed == nil && rec.Kind == layers.KindDelta
	})
	return firstError(failed, err)
}

// moveKey gives the bound of a range another timeline; an end may be the first
// key behind the old one.
func moveKey(k layers.Key, from, to layers.TimelineID) layers.Key {
	return layers.AppendKey(nil, to+(k.Timeline()-from), k.Namespace(), k.User())
}
