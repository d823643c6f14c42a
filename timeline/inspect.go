package timeline

import (
	"cmp"
	"context"
	"math"
	"slices"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// TreeLine is what the tree knows of a timeline: for tests and tools.
type TreeLine struct {
	ID        layers.TimelineID
	Bucket    BucketID // zero: purged
	Birth     wal.LSN
	Depth     int
	Ancestor  layers.TimelineID // lineage; zero: a root. It may have been purged.
	BranchLSN wal.LSN

	ReadAncestor layers.TimelineID // where reads go on; zero: nowhere
	ReadLSN      wal.LSN

	Window gc.Window
	Floor  wal.LSN
	// Of a timeline whose bucket was deleted; see Deleted.
	Deleted, Undo wal.LSN
	Dropped       wal.LSN // zero: live, or it can be undeleted
}

// TreeLines describes all timelines of the sequenced tree, by id. It takes in
// what is logged but not visible yet.
func (s *Store) TreeLines() []TreeLine {
	s.tree.mu.RLock()
	list := make([]TreeLine, 0, s.tree.mu.nodes.len())
	for n := range s.tree.mu.nodes.all() {
		list = append(list, n.treeLine())
	}
	s.tree.mu.RUnlock()
	slices.SortFunc(list, func(a, b TreeLine) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (n *node) treeLine() TreeLine {
	r := n.retention.Load()
	t := TreeLine{
		ID: n.id, Birth: n.birth, Depth: int(n.depth), Ancestor: n.ancestorID, BranchLSN: n.branchLSN,
		Window: r.window, Floor: r.floor,
	}
	if n.bucket != nil {
		t.Bucket = n.bucket.id
	}
	if p := n.next(math.MaxUint64); p.node != nil {
		t.ReadAncestor, t.ReadLSN = p.node.id, p.lsn
	}
	if f := n.fate.Load(); f != nil {
		t.Deleted, t.Undo, t.Dropped = f.deleted, f.undo, f.dropped
	}
	return t
}

// VisitRecords calls visit for every record that is there, range tombstones
// included, whether somebody can read it or not: those of the memlayers (l is
// nil) and of all layers of the present Version. A record is valid until visit
// returns. Errors: those of visit, ErrClosed, those of the disk.
func (s *Store) VisitRecords(visit func(l *layers.Desc, r *layers.Record) error) error {
	v, _, err := s.acquire()
	if err != nil {
		return err
	}
	defer v.Release()
	for _, m := range v.Mem {
		if err := visitSource(nil, m.NewIter(), m.RangeTombstones(), visit); err != nil {
			return err
		}
	}
	for l := range v.All() {
		if err := visitSource(l.Desc(), l.NewIter(layers.IterOptions{}), l.RangeTombstones(), visit); err != nil {
			return err
		}
	}
	return nil
}

func visitSource(l *layers.Desc, it layers.Iterator, stones []layers.Record, visit func(l *layers.Desc, r *layers.Record) error) error {
	for ok := it.First(); ok; ok = it.Next() {
		if err := visit(l, it.Record()); err != nil {
			return firstError(err, it.Close())
		}
	}
	if err := firstError(it.Err(), it.Close()); err != nil {
		return err
	}
	for i := range stones {
		if err := visit(l, &stones[i]); err != nil {
			return err
		}
	}
	return nil
}

// CollectedLSN returns the horizon by which reads are refused now: that of the
// present Version, at or below Horizon.
func (s *Store) CollectedLSN() wal.LSN {
	v, _, err := s.acquire()
	if err != nil {
		return 0
	}
	defer v.Release()
	return v.Horizon
}

// Collect advances the horizon and runs one collection of that eagerness now,
// news or not; gc.Full is CollectFull. Errors: ctx's, ErrClosed, those of the disk.
func (s *Store) Collect(ctx context.Context, mode gc.Mode) error {
	if mode == gc.Full {
		_, err := s.CollectFull(ctx)
		return err
	}
	s.collectMu.Lock()
	defer s.collectMu.Unlock()
	if err := s.advanceHorizon(); err != nil {
		return err
	}
	if err := s.expire(ctx); err != nil {
		return err
	}
	s.collector.look(s) // an idle collection ends when something is committed from now on
	snap, err := s.takeTreeSnapshot(ctx)
	if err != nil {
		return err
	}
	return s.collect(ctx, snap, mode)
}
