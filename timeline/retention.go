package timeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"stemma/gc"
	"stemma/wal"
)

// SetWindow changes how far back a bucket can be read at every LSN. Shrinking
// takes effect with the next collection; growing brings nothing back that
// could not be read when it was asked for. Safe at any time, on a full disk too.
//
// Errors: ErrNoSuchBucket, and those of Commit.
func (s *Store) SetWindow(ctx context.Context, name string, w gc.Window) (wal.LSN, error) {
	if w < 0 {
		return 0, fmt.Errorf("window of %d ns: %w", w, ErrBadWindow)
	}
	if err := s.admit(ctx, nil); err != nil {
		return 0, err
	}
	s.treeMu.Lock()
	b := s.tree.sequencedName(name)
	if b == nil {
		s.treeMu.Unlock()
		return 0, fmt.Errorf("set window of %q: %w", name, ErrNoSuchBucket)
	}
	var ops []treeOp
	for l := range b.bound() { // what moves have left has the window of its bucket, too
		if l.node.readable(wal.MaxLSN) {
			// Collections decide by a durable horizon: none has passed this cutoff.
			ops = append(ops, treeOp{tag: opWindow, timeline: l.node.id, window: w, lsn: l.node.cutoff(s.Horizon())})
		}
	}
	lsn, err := s.changeTree(ctx, ops)
	if err != nil {
		return 0, fmt.Errorf("set window of %q: %w", name, err)
	}
	return lsn, nil
}

// Window returns how far back a bucket can be read at every LSN.
// Errors: ErrNoSuchBucket.
func (s *Store) Window(name string) (gc.Window, error) {
	b, visible, err := s.lookup(name)
	if err != nil {
		return 0, fmt.Errorf("window of %q: %w", name, err)
	}
	return b.at(visible).node.retention.Load().window, nil
}

// undoUntil returns the LSN until which a bucket that is deleted now can be
// undeleted, zero for not at all.
func (s *Store) undoUntil(b *bucket, undo time.Duration) wal.LSN {
	if undo == 0 && b.source == 0 {
		undo = s.opts.UndoTime
	}
	if undo <= 0 {
		return 0
	}
	now := s.clock.Now()
	return now + min(wal.LSN(undo), wal.MaxLSN-now)
}

// Deleted describes a bucket that can be undeleted.
type Deleted struct {
	Info
	Deleted wal.LSN // when, as the LSN of the commit
	Until   wal.LSN // by the store clock, it can be undeleted
}

// DeletedBuckets lists the buckets that can be undeleted, by id.
func (s *Store) DeletedBuckets() []Deleted {
	now, visible := s.due(), s.log.Visible()
	s.tree.mu.RLock()
	var found []*bucket
	for b := range s.tree.mu.buckets.all() {
		if d := b.deleted.Load(); d != 0 && wal.LSN(d) <= visible {
			found = append(found, b)
		}
	}
	s.tree.mu.RUnlock()
	var list []Deleted
	for _, b := range found {
		n := b.last()
		if f := n.fate.Load(); f != nil && f.undeletable(now) {
			list = append(list, Deleted{Info: s.info(b, n), Deleted: f.deleted, Until: f.undo})
		}
	}
	slices.SortFunc(list, func(a, b Deleted) int { return int(a.Bucket) - int(b.Bucket) })
	return list
}

func (f *fate) undeletable(now wal.LSN) bool { return f.dropped == 0 && now < f.undo }

// Undelete brings a deleted bucket back as it was, under a name. One that has
// expired does so no more.
//
// Errors: ErrNoSuchBucket, ErrGone, ErrBucketExists, ErrBadName, and those of Commit.
func (s *Store) Undelete(ctx context.Context, id BucketID, name string) (Info, error) {
	if err := checkNames(name); err != nil {
		return Info{}, err
	}
	if err := s.AdmitWrite(ctx); err != nil {
		return Info{}, err
	}
	s.treeMu.Lock()
	b := s.tree.bucket(id)
	err := error(nil)
	switch {
	case b == nil && s.tree.wasBucket(id):
		err = ErrGone
	case b == nil:
		err = ErrNoSuchBucket
	case b.deleted.Load() == 0:
		err = fmt.Errorf("it was not deleted: %w", ErrBucketExists)
	case !b.last().fate.Load().undeletable(s.due()):
		err = ErrGone
	case s.tree.sequencedName(name) != nil:
		err = fmt.Errorf("name %q: %w", name, ErrBucketExists)
	}
	if err != nil {
		s.treeMu.Unlock()
		return Info{}, fmt.Errorf("undelete bucket %d: %w", id, err)
	}
	ops := []treeOp{{tag: opUndelete, bucket: id, timeline: b.last().id, name: name}}
	if p := b.propertiesAt(wal.MaxLSN); p.Expires != 0 && p.Expires <= s.due() {
		p.Expires = 0
		ops = append(ops, treeOp{tag: opProperties, bucket: id, props: p})
	}
	lsn, err := s.changeTree(ctx, ops)
	if err != nil {
		return Info{}, fmt.Errorf("undelete bucket %d: %w", id, err)
	}
	return s.infoOf(id, lsn), nil
}

// dropExpired logs the end of timelines whose undo time is over.
func (s *Store) dropExpired(ctx context.Context) error {
	s.treeMu.Lock()
	now := s.due()
	var ops []treeOp
	s.tree.mu.RLock()
	for _, n := range s.tree.mu.unbound { // not all nodes: this runs every second, idle or not
		if len(ops) == maxDropsEach || !s.over(n, now) {
			continue
		}
		op := treeOp{tag: opDrop, timeline: n.id, lsn: n.fate.Load().deleted}
		if !n.left() {
			op.bucket = n.bucket.id
		}
		ops = append(ops, op)
	}
	s.tree.mu.RUnlock()
	if len(ops) == 0 {
		s.treeMu.Unlock()
		return nil
	}
	lsn, err := s.changeTree(ctx, ops)
	if err != nil {
		return fmt.Errorf("drop %d timelines: %w", len(ops), err)
	}
	s.tree.settleSnapshotsOf(ops, lsn)
	s.at(StepDropLogged)
	return nil
}

// over reports whether an unbound timeline can be dropped: its undo time is over and,
// if a move has left it, its window does not reach it any more, or its bucket is gone.
func (s *Store) over(n *node, now wal.LSN) bool {
	f := n.fate.Load()
	if !n.left() {
		return !f.undeletable(now)
	}
	if last := n.bucket.last().fate.Load(); last != nil && !last.undeletable(now) {
		return true
	}
	return !f.undeletable(now) && n.windowCutoff(s.Horizon()) >= f.deleted
}

// maxDropsEach bounds the timelines that one commit drops.
const maxDropsEach = 10_000
