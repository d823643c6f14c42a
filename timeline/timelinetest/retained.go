package timelinetest

import (
	"errors"
	"fmt"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// retained is what an Oracle knows of what must be kept.
type retained struct {
	// window and undoTime are those of new roots.
	window   gc.Window
	undoTime time.Duration
	horizon  wal.LSN // the durable one
	now      wal.LSN // the store clock
	due      wal.LSN // what has a time to end ends by this
	// latest is the latest due that there was: a start puts it back, not what has ended.
	latest wal.LSN
	leases map[leaseKey]wal.LSN
	ways   map[wayKey]wal.LSN // to leases from before the birth, until when
	// loose: what others do at the same time decides on what is refused.
	loose bool
}

func newRetained() retained {
	return retained{leases: make(map[leaseKey]wal.LSN), ways: make(map[wayKey]wal.LSN)}
}

type leaseKey struct {
	id  layers.TimelineID
	lsn wal.LSN
}

// wayKey is the lineage of a timeline as far as an ancestor.
type wayKey struct{ from, to *line }

// life is what becomes of a timeline.
type life struct {
	window gc.Window
	floor  wal.LSN
	// Of a timeline whose bucket is deleted.
	undo    wal.LSN // it can be undeleted until then, by the store clock
	dropped bool
	purged  bool
}

var (
	// errBelow stands for a *timeline.BelowHorizonError.
	errBelow = errors.New("below the horizon")
	// errUnsure says that the way leads through a timeline that was purged: what
	// lies behind may or may not be found. If it is, it must be right.
	errUnsure = errors.New("behind a purged timeline")
	// errNever stands for a bucket id that no bucket had. A crash can skip some: then
	// it counts as one that is gone.
	errNever = errors.New("never a bucket")
)

// meets reports whether an error is the one that was expected.
func meets(err, want error) bool {
	var below *timeline.BelowHorizonError
	switch want {
	case nil:
		return err == nil
	case errBelow:
		return errors.As(err, &below)
	case errUnsure:
		return err == nil || errors.As(err, &below) || errors.Is(err, timeline.ErrNoSuchBucket)
	case errNever:
		return errors.Is(err, timeline.ErrNoSuchBucket) || errors.Is(err, timeline.ErrGone)
	}
	return errors.Is(err, want)
}

// cutoff returns the oldest LSN that the window keeps, by a horizon.
func (l *line) cutoff(h wal.LSN) wal.LSN {
	c := l.windowCutoff(h)
	if l.left != 0 && !l.dropped {
		c = min(c, l.left-1)
	}
	return c
}

// windowCutoff is cutoff of a timeline that no move has left.
func (l *line) windowCutoff(h wal.LSN) wal.LSN {
	w := wal.LSN(l.window)
	if l.window == gc.Forever || w >= h || h-w < l.floor {
		return l.floor
	}
	return h - w
}

// pinned reports whether a snapshot or a living lease of l is at lsn.
func (o *Oracle) pinned(l *line, lsn wal.LSN) bool {
	for _, p := range o.snaps {
		if p.Timeline == l.id && p.LSN == lsn {
			return true
		}
	}
	until, ok := o.leases[leaseKey{l.id, lsn}]
	return ok && until >= o.now
}

// readable says what a read of b at an LSN must meet, by a horizon: nil,
// timeline.ErrNoSuchBucket, errBelow or errUnsure.
func (o *Oracle) readable(b *bucket, at, h wal.LSN) error {
	l := b.at(at)
	if l.purged && l.left != 0 {
		return errBelow
	}
	unsure := l.dropped && l.left != 0 && at < l.birth // it may be purged at any time, and then nobody knows what it came from
	for ; l != nil && at < l.birth; l = l.ancestor {
		at = min(at, l.branch)
		unsure = unsure || l.ancestor != nil && l.ancestor.purged
	}
	switch {
	case unsure:
		return errUnsure
	case l == nil:
		return timeline.ErrNoSuchBucket
	case !l.dropped && at >= l.cutoff(h), o.pinned(l, at):
		return nil
	}
	return errBelow
}

// expectAt says what an operation on the past of b must meet; zero: its tip.
func (o *Oracle) expectAt(b *bucket, at wal.LSN) error {
	if at == 0 {
		return nil
	}
	err := o.readable(b, at, o.horizon)
	if o.loose && err == errBelow {
		return errUnsure
	}
	return err
}

func (o *Oracle) expectUndelete(op *Op) error {
	b := o.buckets[op.ID]
	switch {
	case op.ID == 0:
		return timeline.ErrNoSuchBucket
	case b == nil:
		return errNever
	case b.line.purged:
		return timeline.ErrGone
	case !b.deleted:
		return timeline.ErrBucketExists
	case !b.line.undeletable(o.due):
		return timeline.ErrGone
	case o.names[op.Bucket] != nil:
		return timeline.ErrBucketExists
	}
	return nil
}

func (l *line) undeletable(now wal.LSN) bool { return !l.dropped && now < l.undo }

// end deletes a bucket.
func (o *Oracle) end(b *bucket, op *Op) {
	delete(o.names, b.name)
	b.deleted = true
	b.countFork(-1)
	l := b.line
	undo := op.Undo
	if undo == 0 && b.source == nil {
		undo = o.undoTime
	}
	if l.dropped = undo <= 0; !l.dropped {
		l.undo = o.now + wal.LSN(undo)
		if op.undo != 0 {
			l.undo = op.undo
		}
	}
	if l.dropped {
		o.forgetSnapshots(b)
	}
}

// expired reports whether a bucket was at its end at a store time.
func (o *Oracle) expired(b *bucket, due wal.LSN) bool {
	return !b.deleted && b.props.Expires != 0 && b.props.Expires <= due && !o.held(b)
}

// expire deletes an expired bucket of which the store has deleted the timeline;
// undo is until when that can be undone.
func (o *Oracle) expire(b *bucket, undo wal.LSN) error {
	o.end(b, &Op{undo: undo})
	if undo != 0 && (b.line.dropped || undo > o.now+wal.LSN(o.undoTime)) {
		return fmt.Errorf("bucket %d expired and can be undeleted until %d, it is %d", b.id, undo, o.now)
	}
	return nil
}

func (o *Oracle) undelete(op *Op) error {
	if len(op.Infos) != 1 {
		return fmt.Errorf("%d infos", len(op.Infos))
	}
	b := o.buckets[op.ID]
	b.deleted, b.name = false, op.Bucket
	o.names[b.name] = b
	b.line.undo = 0
	b.countFork(1)
	if b.props.Expires <= op.due {
		b.props.Expires = 0
	}
	return o.checkInfo(b, &op.Infos[0], true)
}

// lease notes a lease that was granted.
func (o *Oracle) lease(b *bucket, at wal.LSN, ttl time.Duration) {
	from := b.at(at)
	l, at := from.resolve(at)
	if w := (wayKey{from, l}); from != l {
		o.ways[w] = max(o.ways[w], o.now+wal.LSN(ttl))
	}
	k := leaseKey{l.id, at}
	o.leases[k] = max(o.leases[k], o.now+wal.LSN(ttl))
}

// advance follows what a collection logs of its own: the horizon, and the end
// of timelines. The log has come to visible.
func (o *Oracle) advance(visible, horizon wal.LSN) error {
	switch {
	case visible < o.Last():
		return fmt.Errorf("the visible LSN is %d after a collection, it was %d", visible, o.Last())
	case horizon < o.horizon || horizon > visible:
		return fmt.Errorf("the horizon went from %d to %d, at %d", o.horizon, horizon, visible)
	case visible > o.Last():
		o.lsns = append(o.lsns, visible)
	}
	o.horizon = horizon
	return nil
}

// Observe compares the tree of a store with what is known, and learns what only
// the store decides: which expired timelines were dropped, and which purged.
func (o *Oracle) Observe(s *timeline.Store) error {
	tree := make(map[layers.TimelineID]*timeline.TreeLine)
	for _, t := range s.TreeLines() {
		if o.timelines[t.ID] == nil {
			return fmt.Errorf("timeline %d is not known", t.ID)
		}
		tree[t.ID] = &t
	}
	o.observeSnapshots(s)
	for id, l := range o.timelines {
		t := tree[id]
		if b := l.bucket; l.left == 0 && o.expired(b, o.latest) && (t == nil || t.Deleted != 0) {
			var undo wal.LSN
			if t != nil {
				undo = t.Undo
			}
			if err := o.expire(b, undo); err != nil {
				return err
			}
		}
	}
	for id, l := range o.timelines {
		t := tree[id]
		if t == nil {
			if l.left == 0 && !l.bucket.deleted {
				return fmt.Errorf("timeline %d of %q is not in the tree", id, l.bucket.name)
			}
			if !l.dropped && !o.over(l, o.latest) {
				return fmt.Errorf("timeline %d is not in the tree, it can be read until %d", id, l.undo)
			}
			l.dropped, l.purged = true, true
			o.forgetSnapshotsOf(l)
			continue
		}
		if err := o.observe(l, t); err != nil {
			return fmt.Errorf("timeline %d of %q: %w; the tree has %+v", id, l.bucket.name, err, *t)
		}
	}
	return nil
}

// over reports whether an unbound timeline may be dropped at a store time: its undo time
// is over, and if a move has left it, its window does not reach it, or its bucket is gone.
func (o *Oracle) over(l *line, due wal.LSN) bool {
	b := l.bucket
	switch {
	case l.left == 0:
		return l.undo <= due
	case b.deleted && (b.line.dropped || b.line.undo <= due):
		return true
	}
	return l.undo <= due && l.windowCutoff(o.horizon) >= l.left
}

// forgetSnapshotsOf lets the snapshots of a bucket go when its last timeline was dropped.
func (o *Oracle) forgetSnapshotsOf(l *line) {
	if l.left == 0 {
		o.forgetSnapshots(l.bucket)
	}
}

func (o *Oracle) observe(l *line, t *timeline.TreeLine) error {
	ancestor := l.ancestorID()
	if o.loose {
		l.floor, l.undo = t.Floor, t.Undo
	}
	switch {
	case l.purged:
		return errors.New("was purged before")
	case t.Birth != l.birth || t.Depth != l.depth || t.Ancestor != ancestor || t.BranchLSN != l.branch:
		return fmt.Errorf("want birth %d, depth %d, ancestor %d at %d", l.birth, l.depth, ancestor, l.branch)
	case t.Window != l.window || t.Floor != l.floor:
		return fmt.Errorf("want window %d, floor %d", l.window, l.floor)
	case l.left == 0 && (t.Deleted != 0) != l.bucket.deleted, l.left != 0 && t.Deleted != l.left:
		return fmt.Errorf("deleted: %v, left at %d", l.bucket.deleted, l.left)
	case t.Dropped == 0 && (l.dropped || t.Undo != l.undo):
		return fmt.Errorf("dropped: %v, undo until %d", l.dropped, l.undo)
	case t.Dropped != 0 && !l.dropped && !o.over(l, o.latest):
		return fmt.Errorf("dropped before its undo time was over, %d", l.undo)
	}
	if l.dropped = t.Dropped != 0; l.dropped {
		o.forgetSnapshotsOf(l)
	}
	return o.checkReads(l, t)
}

// checkReads checks that a read goes on in a timeline of the lineage, as of the
// lowest LSN on the way.
func (o *Oracle) checkReads(l *line, t *timeline.TreeLine) error {
	if t.ReadAncestor == 0 {
		return nil // it has all records that it inherits, or there were none
	}
	lsn := wal.MaxLSN
	for n := l; n.ancestor != nil; n = n.ancestor {
		if lsn = min(lsn, n.branch); n.ancestor.id == t.ReadAncestor {
			if t.ReadLSN != lsn {
				return fmt.Errorf("reads on at %d, want %d", t.ReadLSN, lsn)
			}
			return nil
		}
	}
	return errors.New("reads on outside its lineage")
}
