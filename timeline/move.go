package timeline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"stemma/layers"
	"stemma/wal"
)

// A move leads a bucket to a new timeline, a branch of any point of any bucket: its
// own past (restore), its parent's tip (reset), its fork (promote), or, two at once,
// each other's (swap). The bucket keeps its id, name, properties, snapshots, forks and
// configuration. What it led to before stays readable at the LSNs before the move: by
// the window, and its last state until the undo time is over at least. So a move is
// undone by another one, to the LSN before it.

// Move says what a bucket is to become.
type Move struct {
	Bucket string
	Source string  // a bucket, also this one
	At     wal.LSN // of the source; zero: its tip
	// IfUnchangedSince refuses the move if the bucket has an object or version of its own
	// above the LSN, or was moved since; zero: no condition.
	IfUnchangedSince wal.LSN
}

// MoveOptions are moves that take place in one commit.
type MoveOptions struct {
	Moves []Move // of a bucket each
	// Undo is how long what the buckets were before can be read at least. Zero:
	// Options.UndoTime; negative: for no longer than their windows.
	Undo time.Duration
	// Refuse, if set, looks at what the bucket of move i is and at what it will be; its
	// error ends all.
	Refuse func(i int, now, then *View) error
	// Configure, if set, adds to first, which has what it takes to give the new timeline
	// of move i the configuration that the bucket has now. A record that it puts in
	// counts before one that is there.
	Configure func(i int, now, then *View, first *Batch) error
}

// MoveResult says what moves did.
type MoveResult struct {
	// LSN is that of the commit. Moves back to the LSN before it undo it.
	LSN   wal.LSN
	Infos []Info // of the buckets, in the order of the moves
}

// Move makes buckets what others are, or were, in one commit, see MoveOptions. It
// copies nothing but what of the configurations differs. Open uploads are lost. Other
// commits to the buckets wait meanwhile, and then go to the new timelines.
//
// Errors: ErrNoSuchBucket, ErrReadOnly, ErrBadMove, ErrTargetChanged, ErrFuture,
// *BelowHorizonError, those of Refuse, Configure and Commit. After any of them but
// *wal.ReadOnlyError nothing has changed.
func (s *Store) Move(ctx context.Context, o MoveOptions) (MoveResult, error) {
	res, err := s.moveAll(ctx, &o)
	if err != nil {
		return MoveResult{}, fmt.Errorf("move: %w", err)
	}
	return res, nil
}

func (s *Store) moveAll(ctx context.Context, o *MoveOptions) (MoveResult, error) {
	if err := o.check(); err != nil {
		return MoveResult{}, err
	}
	if err := s.AdmitWrite(ctx); err != nil {
		return MoveResult{}, err
	}
	var last wal.LSN
	for i := range o.Moves {
		last = max(last, o.Moves[i].At)
	}
	if last != 0 {
		if err := s.settle(ctx, last); err != nil {
			return MoveResult{}, err
		}
	}
	for {
		res, err := s.moveOnce(ctx, o)
		if !errors.Is(err, errMoved) {
			return res, err
		}
		// What moved, or was configured, is in the order but maybe not visible yet.
		if err := s.log.Settle(ctx, s.log.LastReserved()); err != nil {
			return MoveResult{}, fmt.Errorf("wait for the buckets to settle: %w", err)
		}
	}
}

func (o *MoveOptions) check() error {
	if len(o.Moves) == 0 {
		return fmt.Errorf("no bucket: %w", ErrBadMove)
	}
	seen := make(map[string]bool, len(o.Moves))
	for i := range o.Moves {
		m := &o.Moves[i]
		switch {
		case seen[m.Bucket]:
			return fmt.Errorf("bucket %q twice: %w", m.Bucket, ErrBadMove)
		case m.Bucket == m.Source && m.At == 0:
			return fmt.Errorf("bucket %q to where it is: %w", m.Bucket, ErrBadMove)
		}
		seen[m.Bucket] = true
	}
	return nil
}

// moving is one move under way.
type moving struct {
	*Move
	bucket, source *bucket
	now, then      *View
	first          *Batch
}

// moveOnce is Move with the timelines that the names lead to now.
func (s *Store) moveOnce(ctx context.Context, o *MoveOptions) (res MoveResult, err error) {
	if err := ctx.Err(); err != nil {
		return res, err
	}
	list := make([]moving, len(o.Moves))
	nodes := make([]*node, len(list))
	for i := range list {
		list[i].Move = &o.Moves[i]
		b, visible, err := s.lookup(o.Moves[i].Bucket)
		if err != nil {
			return res, err
		}
		list[i].bucket, nodes[i] = b, b.at(visible).node
	}
	gates := slices.Clone(nodes)
	slices.SortFunc(gates, func(a, b *node) int { return cmp.Compare(a.id, b.id) })
	for _, n := range slices.Compact(gates) {
		n.use().gate.Lock()
		defer n.use().gate.Unlock()
	}
	for i := range list {
		m := &list[i]
		defer m.close()
		if err := s.prepareMove(ctx, o, i, m, nodes[i]); err != nil {
			return res, fmt.Errorf("bucket %q: %w", m.Bucket, err)
		}
	}
	s.treeMu.Lock()
	ops, tips, err := s.planMovesLocked(o, list)
	if err != nil {
		s.treeMu.Unlock()
		return res, err
	}
	res.LSN, err = s.changeTreeIf(ctx, ops, func() error {
		for n, known := range tips {
			if s.lastConfigured(n) > known {
				return errMoved
			}
		}
		return nil
	})
	if err != nil {
		return res, err
	}
	for i := range list {
		res.Infos = append(res.Infos, s.infoOf(list[i].bucket.id, res.LSN))
	}
	return res, nil
}

func (m *moving) close() {
	for _, v := range []*View{m.now, m.then} {
		if v != nil {
			v.Close()
		}
	}
}

// prepareMove looks at what move i is about. The gate of n, which the bucket leads to,
// keeps that as it is.
func (s *Store) prepareMove(ctx context.Context, o *MoveOptions, i int, m *moving, n *node) (err error) {
	if !m.bucket.leadsTo(m.Bucket, n) {
		return errMoved
	}
	version, visible, err := s.acquire()
	if err != nil {
		return err
	}
	m.now = s.newView(version, m.bucket, n, visible)
	if m.then, err = s.View(ctx, m.Source, m.At); err != nil {
		return err
	}
	m.source = m.then.bucket
	if m.IfUnchangedSince != 0 {
		if err := m.now.checkUnchanged(m.IfUnchangedSince, layers.NamespaceObjects, layers.NamespaceVersions); err != nil {
			return err
		}
	}
	if o.Refuse != nil {
		if err := o.Refuse(i, m.now, m.then); err != nil {
			return err
		}
	}
	if m.first, err = configurationOf(m.now, m.then); err == nil && o.Configure != nil {
		err = o.Configure(i, m.now, m.then, m.first)
	}
	return firstError(err, m.first.check(s.opts.maxCommitBytes()))
}

// configurationOf returns what a branch of then needs to have the configuration of now. It
// looks at all of both, which is little.
func configurationOf(now, then *View) (*Batch, error) {
	b, was := &Batch{}, make(map[string]wal.LSN)
	each := func(v *View, visit func(r *layers.Record)) error {
		scan := v.Scan(layers.NamespaceConfig, nil, nil)
		for ok := scan.First(); ok; ok = scan.Next() {
			visit(scan.Record())
		}
		return firstError(scan.Err(), scan.Close())
	}
	err := firstError(
		each(then, func(r *layers.Record) { was[string(r.Key.User())] = r.LSN }),
		each(now, func(r *layers.Record) {
			key := r.Key.User()
			if was[string(key)] != r.LSN {
				b.Put(layers.NamespaceConfig, bytes.Clone(key), bytes.Clone(r.Meta), bytes.Clone(r.Body))
			}
			delete(was, string(key))
		}))
	for _, key := range slices.Sorted(maps.Keys(was)) {
		b.Delete(layers.NamespaceConfig, []byte(key))
	}
	if err != nil {
		return b, fmt.Errorf("compare configurations: %w", err)
	}
	return b, nil
}

// planMovesLocked validates moves against the sequenced tree. tips are the timelines
// that are branched from at their tips, and as of when their configuration is known.
func (s *Store) planMovesLocked(o *MoveOptions, list []moving) (ops []treeOp, tips map[*node]wal.LSN, err error) {
	ops, tips = make([]treeOp, len(list)), make(map[*node]wal.LSN)
	for i := range list {
		m := &list[i]
		if s.tree.sequencedName(m.Bucket) != m.bucket || m.bucket.sequenced() != m.now.node || s.tree.sequencedName(m.Source) != m.source {
			return nil, nil, errMoved
		}
		if m.bucket.readOnly() {
			return nil, nil, fmt.Errorf("bucket %q: %w", m.Bucket, ErrReadOnly)
		}
		from, branch := m.source.sequenced(), wal.LSN(0)
		if m.At != 0 {
			if from, branch, err = s.planPastLocked(m.source, m.At); err != nil {
				return nil, nil, fmt.Errorf("bucket %q: %w", m.Bucket, err)
			}
		} else if known, ok := tips[from]; !ok || m.then.lsn < known {
			tips[from] = m.then.lsn
		}
		if from != m.then.node {
			return nil, nil, errMoved
		}
		ops[i] = treeOp{
			tag: opMove, bucket: m.bucket.id, left: m.now.node.id, undo: s.keptUntil(o.Undo), ancestor: from.id, lsn: branch,
			seen: from.sees(m.bucket.source), timeline: s.tree.lastTimeline + 1 + layers.TimelineID(i),
			window: m.now.node.window(), name: m.Bucket, first: m.first,
		}
	}
	return ops, tips, nil
}

// keptUntil returns until when what a move leaves is kept at least.
func (s *Store) keptUntil(undo time.Duration) wal.LSN {
	if undo == 0 {
		undo = s.opts.UndoTime
	}
	if undo <= 0 {
		return 0
	}
	now := s.clock.Now()
	return now + min(wal.LSN(undo), wal.MaxLSN-now)
}

// sees returns the most that n sees of the timelines of a bucket: zero for nothing,
// wal.MaxLSN when it is one of them.
func (n *node) sees(id BucketID) wal.LSN {
	if id == 0 {
		return 0
	}
	at := wal.MaxLSN
	for ; n != nil; n = n.ancestor {
		if n.bucket != nil && n.bucket.id == id {
			return at
		}
		at = min(at, n.branchLSN)
	}
	return 0
}

// moveLocked leads a bucket to a new timeline in the commit at lsn.
func (t *tree) moveLocked(o *treeOp, lsn wal.LSN) error {
	b, a, old := t.mu.buckets.get(o.bucket), t.mu.nodes.get(o.ancestor), t.mu.nodes.get(o.left)
	switch {
	case b == nil || b.sequenced() == nil:
		return o.dangling("bucket", uint64(o.bucket))
	case a == nil:
		return o.dangling("timeline", uint64(o.ancestor))
	case old == nil || b.sequenced() != old:
		return o.dangling("timeline", uint64(o.left))
	}
	branch := o.lsn
	if branch == 0 {
		branch = lsn - 1
	}
	n := &node{id: o.timeline, birth: lsn, ancestor: a, branchLSN: branch, sourceLSN: min(o.seen, branch)}
	n.setRetention(retention{window: o.window}, old.retention.Load())
	t.addNodeLocked(n, b)
	b.bindings.Store(&binding{lsn, n, t.remembered(b)})
	t.setFateLocked(old, o.fate(lsn))
	if old.ancestor != nil {
		old.ancestor.forks.Add(-1)
	}
	return nil
}

// remembered returns bindings of which one stands for all at the beginning whose timelines
// were purged.
func (t *tree) remembered(b *bucket) (newest *binding) {
	l := slices.Collect(b.bound())
	for n := len(l); n > 1 && t.mu.nodes.get(l[n-1].node.id) == nil && t.mu.nodes.get(l[n-2].node.id) == nil; n-- {
		l[n-2] = &binding{since: l[n-1].since, node: l[n-2].node}
		l = l[:n-1]
	}
	for _, bound := range slices.Backward(l) {
		newest = &binding{bound.since, bound.node, newest}
	}
	return newest
}

// checkUnchanged refuses a bucket that has a record of its own above an LSN in one of
// the namespaces, or was moved since. Errors: ErrTargetChanged, those of reads.
func (v *View) checkUnchanged(since wal.LSN, namespaces ...layers.Namespace) error {
	changed := v.node.birth > since && v.bucket.first().node != v.node
	for _, ns := range namespaces {
		if changed {
			break
		}
		c := v.changes(ns, nil, nil, since)
		changed = c.First() || len(c.Ranges()) > 0
		if err := firstError(c.Err(), c.Close()); err != nil {
			return err
		}
	}
	if changed {
		return fmt.Errorf("it was to be as at %d: %w", since, ErrTargetChanged)
	}
	return nil
}
