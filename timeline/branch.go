package timeline

import (
	"context"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/wal"
)

// NewBucket says what to make.
type NewBucket struct {
	Name string
	Properties
	// First holds records that the commit which makes the bucket writes to it, or is nil.
	First *Batch
}

// check refuses what the log's decoder would refuse, and what no layer could hold.
func (b *NewBucket) check(maxCommitBytes int) error {
	if err := firstError(checkNames(b.Name), b.Properties.check()); err != nil || b.First == nil {
		return err
	}
	return b.First.check(maxCommitBytes)
}

// CreateBucket makes an empty bucket on a new root timeline.
//
// Errors: ErrBadName, ErrBadProperties, ErrBucketExists, and those of Commit.
func (s *Store) CreateBucket(ctx context.Context, b NewBucket) (Info, error) {
	if err := b.check(s.opts.maxCommitBytes()); err != nil {
		return Info{}, err
	}
	if err := s.AdmitWrite(ctx); err != nil {
		return Info{}, err
	}
	s.treeMu.Lock()
	if s.tree.sequencedName(b.Name) != nil {
		s.treeMu.Unlock()
		return Info{}, fmt.Errorf("create bucket %q: %w", b.Name, ErrBucketExists)
	}
	op := treeOp{
		tag: opCreate, bucket: s.tree.lastBucket + 1, timeline: s.tree.lastTimeline + 1, window: s.opts.Window,
		name: b.Name, props: b.Properties, first: b.First,
	}
	lsn, err := s.changeTree(ctx, []treeOp{op})
	if err != nil {
		return Info{}, fmt.Errorf("create bucket %q: %w", b.Name, err)
	}
	return s.infoOf(op.bucket, lsn), nil
}

// checkNames refuses names that the log's decoder would refuse. What else makes
// a good name is for the caller to say.
func checkNames(names ...string) error {
	for _, name := range names {
		if name == "" || len(name) > maxNameBytes {
			return fmt.Errorf("name of %d bytes, want 1 to %d: %w", len(name), maxNameBytes, ErrBadName)
		}
	}
	return nil
}

// ForkOptions say what to fork.
type ForkOptions struct {
	Source string
	At     wal.LSN     // zero: the tip
	Forks  []NewBucket // all made in one commit; see Named
}

// Named returns new buckets without properties or records.
func Named(names ...string) []NewBucket {
	list := make([]NewBucket, len(names))
	for i, name := range names {
		list[i].Name = name
	}
	return list
}

// Fork makes new buckets, each a fork of the source at one LSN. It copies nothing
// and creates no file.
//
// Errors: ErrBadName, ErrBadProperties, ErrNoSuchBucket, ErrBucketExists, ErrFuture,
// *BelowHorizonError, and those of Commit.
func (s *Store) Fork(ctx context.Context, o ForkOptions) ([]Info, error) {
	if len(o.Forks) == 0 {
		return nil, fmt.Errorf("fork %q: no names: %w", o.Source, ErrBadName)
	}
	for i := range o.Forks {
		if err := o.Forks[i].check(s.opts.maxCommitBytes()); err != nil {
			return nil, fmt.Errorf("fork %q: %w", o.Source, err)
		}
	}
	if err := s.AdmitWrite(ctx); err != nil {
		return nil, err
	}
	if o.At != 0 {
		if err := s.settle(ctx, o.At); err != nil {
			return nil, fmt.Errorf("fork %q: %w", o.Source, err)
		}
	}
	s.treeMu.Lock()
	ops, err := s.planForkLocked(&o)
	if err != nil {
		s.treeMu.Unlock()
		return nil, fmt.Errorf("fork %q: %w", o.Source, err)
	}
	lsn, err := s.changeTree(ctx, ops)
	if err != nil {
		return nil, fmt.Errorf("fork %q: %w", o.Source, err)
	}
	infos := make([]Info, len(ops))
	for i := range ops {
		infos[i] = s.infoOf(ops[i].bucket, lsn)
	}
	return infos, nil
}

// planForkLocked validates a fork against the sequenced tree.
func (s *Store) planForkLocked(o *ForkOptions) ([]treeOp, error) {
	src := s.tree.sequencedName(o.Source)
	if src == nil {
		return nil, ErrNoSuchBucket
	}
	n, branch := src.sequenced(), wal.LSN(0)
	if o.At != 0 {
		var err error
		if n, branch, err = s.planPastLocked(src, o.At); err != nil {
			return nil, err
		}
	}
	window := src.sequenced().retention.Load().window
	seen := make(map[string]bool, len(o.Forks))
	ops := make([]treeOp, len(o.Forks))
	for i := range o.Forks {
		f := &o.Forks[i]
		if seen[f.Name] || s.tree.sequencedName(f.Name) != nil {
			return nil, fmt.Errorf("bucket %q: %w", f.Name, ErrBucketExists)
		}
		seen[f.Name] = true
		ops[i] = treeOp{
			tag: opFork, ancestor: n.id, lsn: branch, source: src.id, window: window, name: f.Name, props: f.Properties, first: f.First,
			bucket: s.tree.lastBucket + 1 + BucketID(i), timeline: s.tree.lastTimeline + 1 + layers.TimelineID(i),
		}
	}
	return ops, nil
}

// DeleteOptions say when a bucket may be deleted, and for how long that can be undone.
type DeleteOptions struct {
	// Force deletes a bucket that holds objects.
	Force bool
	// Refuse, if set, looks at what the bucket holds, which stays so until the commit; its
	// error ends the deletion.
	Refuse func(v *View) error
	// Undo is how long the bucket can be undeleted. Zero: Options.UndoTime for a
	// root, not at all for a fork. Negative: not at all.
	Undo time.Duration

	expired wal.LSN // the bucket must have expired by then; zero: it need not
}

// DeleteBucket takes the bucket's name away. Forks of it live on. What only the
// bucket could read is given back: at once, or when it cannot be undeleted any more.
//
// Its snapshots go with it: at once, or when it cannot be undeleted any more.
//
// Errors: ErrNoSuchBucket, ErrBucketNotEmpty, ErrSnapshotHeld, ErrProtected, and those of Commit.
func (s *Store) DeleteBucket(ctx context.Context, name string, o DeleteOptions) (wal.LSN, error) {
	if err := s.admit(ctx, nil); err != nil {
		return 0, err
	}
	var deleted BucketID
	lsn, err := s.retryMoved(ctx, name, func(bk *bucket, n *node) (wal.LSN, error) {
		deleted = bk.id
		n.use().gate.Lock()
		defer n.use().gate.Unlock()
		err := s.checkDelete(bk, n, &o)
		if err != nil { // the gate keeps it as it is; treeMu is not held meanwhile
			return 0, err
		}
		s.treeMu.Lock()
		if s.tree.sequencedName(name) != bk || bk.sequenced() != n {
			s.treeMu.Unlock()
			return 0, errMoved
		}
		switch {
		case s.tree.heldSnapshots(bk.id) > 0:
			err = ErrSnapshotHeld
		case bk.propertiesAt(wal.MaxLSN).Protected:
			err = ErrProtected
		case o.expired != 0 && (bk.expires() == 0 || bk.expires() > o.expired):
			err = errNotExpired
		}
		if err != nil {
			s.treeMu.Unlock()
			return 0, err
		}
		op := treeOp{tag: opDelete, bucket: bk.id, timeline: n.id, lsn: s.undoUntil(bk, o.Undo), name: name}
		return s.changeTree(ctx, []treeOp{op})
	})
	if err != nil {
		return 0, fmt.Errorf("delete bucket %q: %w", name, err)
	}
	s.treeMu.Lock()
	s.tree.forgetName(name, deleted, lsn)
	s.tree.settleSnapshots(deleted, lsn)
	s.treeMu.Unlock()
	return lsn, nil
}

// checkDelete refuses to delete a timeline with objects, unless it is forced, and what
// the caller refuses. The caller holds the timeline's gate.
func (s *Store) checkDelete(bk *bucket, n *node, o *DeleteOptions) error {
	if o.Force && o.Refuse == nil {
		return nil
	}
	version, visible, err := s.acquire()
	if err != nil {
		return err
	}
	v := s.newView(version, bk, n, visible)
	defer v.Close()
	if !o.Force {
		if err := v.checkEmpty(); err != nil {
			return err
		}
	}
	if o.Refuse != nil {
		return o.Refuse(v)
	}
	return nil
}

func (v *View) checkEmpty() error {
	for _, ns := range []layers.Namespace{layers.NamespaceObjects, layers.NamespaceVersions} {
		scan := v.Scan(ns, nil, nil)
		found := scan.First()
		if err := firstError(scan.Err(), scan.Close()); err != nil {
			return err
		}
		if found {
			return ErrBucketNotEmpty
		}
	}
	return nil
}

// RenameBucket gives a bucket another name, with its history and forks.
//
// Errors: ErrNoSuchBucket, ErrBucketExists, and those of Commit.
func (s *Store) RenameBucket(ctx context.Context, from, to string) (wal.LSN, error) {
	if err := checkNames(to); err != nil {
		return 0, err
	}
	if err := s.admit(ctx, nil); err != nil {
		return 0, err
	}
	s.treeMu.Lock()
	b := s.tree.sequencedName(from)
	var err error
	switch {
	case b == nil:
		err = ErrNoSuchBucket
	case s.tree.sequencedName(to) != nil:
		err = ErrBucketExists
	}
	if err != nil {
		s.treeMu.Unlock()
		return 0, fmt.Errorf("rename bucket %q to %q: %w", from, to, err)
	}
	lsn, err := s.changeTree(ctx, []treeOp{{tag: opRename, bucket: b.id, name: to}})
	if err != nil {
		return 0, fmt.Errorf("rename bucket %q to %q: %w", from, to, err)
	}
	s.treeMu.Lock()
	s.tree.forgetName(from, b.id, lsn)
	s.treeMu.Unlock()
	return lsn, nil
}

// changeTree logs operations that were validated under treeMu, with the records
// that come with them, changes the sequenced tree as they take their place in the
// order, lets go of treeMu, and waits until they are visible.
func (s *Store) changeTree(ctx context.Context, ops []treeOp) (wal.LSN, error) {
	return s.changeTreeIf(ctx, ops, nil)
}

// changeTreeIf is changeTree unless check, at the moment that fixes the order, has an
// error.
func (s *Store) changeTreeIf(ctx context.Context, ops []treeOp, check func() error) (wal.LSN, error) {
	c := wal.Commit{
		Payload: encodeTree(ops),
		Reserve: func(lsn wal.LSN) error {
			if check != nil {
				if err := check(); err != nil {
					return err
				}
			}
			visible := s.log.Visible()
			for i := range ops {
				if err := s.tree.change(&ops[i], lsn, visible); err != nil {
					panic("BUG: " + err.Error()) // validated just now, under treeMu
				}
			}
			return nil
		},
	}
	err := error(nil)
	if len(c.Payload) > s.opts.maxCommitBytes() {
		err = fmt.Errorf("%d operations in %d bytes: %w", len(ops), len(c.Payload), ErrBatchTooLarge)
	} else {
		err = s.log.Append(ctx, &c)
	}
	s.treeMu.Unlock()
	if err != nil {
		return 0, err
	}
	if err := s.log.Wait(&c); err != nil {
		return 0, err
	}
	return c.LSN, nil
}

// encodeTree returns the payload of a commit of tree operations and the records
// that come with them. A fresh slice: the memlayer aliases it.
func encodeTree(ops []treeOp) []byte {
	n := len(ops)
	for i := range ops {
		if f := ops[i].first; f != nil {
			n += f.Len()
		}
	}
	p, last := appendPayloadHeader(nil, n), []byte(nil)
	for i := range ops {
		p = ops[i].append(p, &last)
	}
	for i := range ops {
		if f := ops[i].first; f != nil {
			for j := range f.ops {
				p = appendRecord(p, ops[i].timeline, &f.ops[j], f.writer)
			}
		}
	}
	return p
}

// infoOf describes a bucket that the caller has just made.
func (s *Store) infoOf(id BucketID, lsn wal.LSN) Info {
	b := s.tree.bucket(id)
	return s.info(b, b.at(lsn).node)
}

// Bucket describes the bucket of a name, as of an LSN (zero: now).
// Errors: ErrNoSuchBucket, ErrFuture.
func (s *Store) Bucket(name string, at wal.LSN) (Info, error) {
	b, visible, err := s.lookup(name)
	if err != nil {
		return Info{}, err
	}
	if at == 0 {
		return s.info(b, b.at(visible).node), nil
	}
	if err := s.checkNotFuture(at); err != nil {
		return Info{}, err
	}
	n, _ := b.resolve(at)
	if n == nil {
		return Info{}, fmt.Errorf("bucket %q was created at %d, after %d: %w", name, b.created, at, ErrNoSuchBucket)
	}
	return s.info(b, b.at(at).node), nil
}

// Buckets returns up to limit visible buckets whose names begin with prefix and
// sort after after, by name. A limit of zero or less means all.
func (s *Store) Buckets(prefix, after string, limit int) []Info {
	var found []*bucket
	s.tree.mu.RLock()
	visible := s.log.Visible() // under the lock: no state that it needs was let go before
	s.tree.mu.names.Ascend(max(prefix, after), func(name string, st *nameState) bool {
		if len(name) < len(prefix) || name[:len(prefix)] != prefix {
			return name < prefix
		}
		if b := st.at(visible); b != nil && name > after {
			found = append(found, b)
		}
		return limit <= 0 || len(found) < limit
	})
	s.tree.mu.RUnlock()
	return s.infos(found, visible)
}
