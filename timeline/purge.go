package timeline

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// purge forgets dropped timelines that nobody reads and of which nothing is left
// in memlayers and layers, and buckets all of whose timelines are gone. The
// caller holds collectMu.
func (s *Store) purge(ctx context.Context, snap *treeSnapshot) error {
	var gone []*node
	s.tree.mu.RLock()
	for n := range s.tree.mu.nodes.all() {
		if !n.readable(wal.MaxLSN) && snap.dead(n.id) {
			gone = append(gone, n)
		}
	}
	s.tree.mu.RUnlock()
	if len(gone) == 0 {
		return nil
	}
	s.compactMu.Lock() // no rollup gives one of them records meanwhile
	defer s.compactMu.Unlock()
	left, err := s.withoutRecords(gone)
	if err != nil {
		return err
	}
	left = s.endWays(s.withoutReaders(left))
	defer func() { // those that stay after all
		for _, n := range left {
			n.purged.Store(false)
		}
	}()
	for len(left) > 0 && ctx.Err() == nil {
		n := min(len(left), maxDropsEach)
		if err := s.purgeSome(left[:n]); err != nil {
			return fmt.Errorf("purge %d timelines: %w", n, err)
		}
		left = left[n:]
	}
	return ctx.Err()
}

// withoutRecords returns those of the timelines that have no record anywhere.
func (s *Store) withoutRecords(nodes []*node) ([]*node, error) {
	v, _, err := s.acquireLayers()
	if err != nil {
		return nil, err
	}
	defer v.ReleaseLayers()
	var left []*node
	for _, n := range nodes {
		if n.written.Load() {
			has, err := hasRecords(v, n.id)
			if err != nil {
				return nil, err
			}
			if has {
				continue
			}
		}
		left = append(left, n)
	}
	return left, nil
}

// withoutReaders returns those of the timelines in which none reads on that
// stays itself, by descending id: children before what they read.
func (s *Store) withoutReaders(nodes []*node) []*node {
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(b.id, a.id) })
	going := make(map[*node]bool, len(nodes))
	for _, n := range nodes {
		going[n] = true
	}
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	for n := range s.tree.mu.nodes.all() {
		n.keepReadIn(going)
	}
	return slices.DeleteFunc(nodes, func(n *node) bool { return !going[n] })
}

// keepReadIn takes what n reads on in out of what is going, if n itself stays.
func (n *node) keepReadIn(going map[*node]bool) {
	for p := n.next(math.MaxUint64); p.node != nil && !going[n]; n, p = p.node, p.node.next(math.MaxUint64) {
		delete(going, p.node)
	}
}

// endWays returns those of the timelines through which no pin or lease is found,
// and from then on none is granted: a snapshot of a fork, from before its birth,
// is found by its lineage.
func (s *Store) endWays(nodes []*node) []*node {
	going := make(map[*node]bool, len(nodes))
	for _, n := range nodes {
		going[n] = true
	}
	s.treeMu.Lock() // pins are granted under it
	defer s.treeMu.Unlock()
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	s.leases.dropWaysLocked(s.clock.Now())
	keep := func(from *node, to layers.TimelineID) {
		for n := from; n != nil && n.id != to; n = n.ancestor {
			if going[n] {
				delete(going, n)
				n.keepReadIn(going)
			}
		}
	}
	s.tree.mu.RLock()
	for _, e := range s.tree.mu.snapshots {
		if e.settings.at(wal.MaxLSN) != nil {
			keep(s.tree.mu.buckets.get(e.bucket).at(e.lsn).node, e.timeline)
		}
	}
	s.tree.mu.RUnlock()
	for w := range s.leases.ways {
		if w.from.readable(wal.MaxLSN) { // or no name leads there any more
			keep(w.from, w.to.id)
		}
	}
	for n := range going {
		n.purged.Store(true)
	}
	return slices.DeleteFunc(nodes, func(n *node) bool { return !going[n] })
}

// hasRecords reports whether a memlayer or layer has a record of a timeline.
func hasRecords(v *layers.Version, id layers.TimelineID) (bool, error) {
	hash := layers.HashTimeline(id)
	all := layers.KeyRange{Start: layers.MakeKey(id, 0, nil), End: layers.MakeKey(id+1, 0, nil)}
	for _, m := range v.Mem {
		if overlapsAny(m.RangeTombstones(), all) {
			return true, nil
		}
		if !m.MayContain(hash) {
			continue
		}
		if has, err := hasPoints(m.NewIter(), all); has || err != nil {
			return has, err
		}
	}
	for l := range v.All() {
		if !l.Desc().Range.Overlaps(all) {
			continue
		}
		if overlapsAny(l.RangeTombstones(), all) {
			return true, nil
		}
		if may, err := l.MayContain(hash); err != nil {
			return false, err
		} else if !may {
			continue
		}
		if has, err := hasPoints(l.NewIter(layers.IterOptions{}), all); has || err != nil {
			return has, err
		}
	}
	return false, nil
}

// hasPoints reports whether an iterator, which it closes, has a record in a range:
// a filter alone may say so for ever of a timeline of which there is nothing.
func hasPoints(it layers.Iterator, r layers.KeyRange) (bool, error) {
	has := it.SeekGE(r.Start, wal.MaxLSN) && r.Contains(it.Record().Key)
	return has, firstError(it.Err(), it.Close())
}

func overlapsAny(stones []layers.Record, r layers.KeyRange) bool {
	for i := range stones {
		if (layers.KeyRange{Start: stones[i].Key, End: stones[i].End}).Overlaps(r) {
			return true
		}
	}
	return false
}

// purgeSome deletes the rows of timelines to which no way leads any more, synced,
// and then forgets them.
func (s *Store) purgeSome(nodes []*node) error {
	s.treeMu.Lock()
	defer s.treeMu.Unlock()
	rows := s.catalog.newBatch()
	buckets := make(map[*bucket]bool)
	for _, n := range nodes {
		rows.purge(n.id)
		buckets[n.bucket] = true
	}
	dead := make(map[layers.TimelineID]bool, len(nodes))
	for _, n := range nodes {
		dead[n.id] = true
	}
	for b := range buckets {
		if b == nil || b.deleted.Load() == 0 || !b.allGone(s.tree, dead) {
			delete(buckets, b)
			continue
		}
		rows.delete(rowKey(rowBucket, uint64(b.id)))
		rows.delete(rowKey(rowProps, uint64(b.id)))
	}
	if err := s.commitSynced(rows, nil); err != nil {
		return err
	}
	s.at(StepPurged)
	s.tree.mu.Lock()
	defer s.tree.mu.Unlock()
	for _, n := range nodes {
		s.tree.mu.nodes.delete(n.id)
	}
	for b := range buckets {
		s.tree.mu.buckets.delete(b.id)
	}
	s.metrics.purged.Add(int64(len(nodes)))
	return nil
}

// allGone reports whether every timeline that the bucket led to is dead or was
// purged before.
func (b *bucket) allGone(t *tree, dead map[layers.TimelineID]bool) bool {
	for l := range b.bound() {
		if !dead[l.node.id] && t.node(l.node.id) != nil {
			return false
		}
	}
	return true
}
