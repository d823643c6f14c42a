package timeline

import (
	"context"
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// SnapshotID names a snapshot for ever.
type SnapshotID uint64

// Snapshot keeps one LSN of a bucket readable for as long as it exists. It goes by
// the bucket: through renames and moves it stays what it was. It ends by being
// deleted, by expiring, and with its bucket, once that cannot be undeleted any more.
type Snapshot struct {
	ID       SnapshotID
	Bucket   BucketID
	Timeline layers.TimelineID
	LSN      wal.LSN // read the bucket at it
	Created  wal.LSN
	SnapshotSettings
}

// SnapshotSettings are what of a snapshot can be changed.
type SnapshotSettings struct {
	// Name is unique among the snapshots of a bucket, or empty.
	Name string
	// Properties: its attributes must not be changed in place.
	Properties
	// Held says that the snapshot neither expires nor can be deleted, nor its bucket.
	Held bool
}

// check refuses what the log's decoder would refuse.
func (s *SnapshotSettings) check() error {
	if len(s.Name) > maxNameBytes {
		return fmt.Errorf("snapshot name of %d bytes, at most %d: %w", len(s.Name), maxNameBytes, ErrBadName)
	}
	if s.flags() != 0 {
		return fmt.Errorf("a snapshot is neither read-only nor protected: %w", ErrBadProperties)
	}
	return s.Properties.check()
}

// expires returns when the snapshot expires; zero: never.
func (s *SnapshotSettings) expires() wal.LSN {
	if s == nil || s.Held {
		return 0
	}
	return s.Expires
}

func (s *SnapshotSettings) held() bool { return s != nil && s.Held }

// NewSnapshot says what to take a snapshot of.
type NewSnapshot struct {
	// Buckets are names, each once. All get a snapshot of their own, of the same LSN, in
	// one commit.
	Buckets []string
	// Only is the bucket that the one name must lead to, else there is ErrNoSuchBucket; zero: any.
	Only BucketID
	// At is the LSN to keep; zero: that of the commit, which sees all that came before.
	At wal.LSN
	SnapshotSettings
}

// Snapshot takes snapshots, and returns them in the order of the names.
//
// Errors: ErrBadName, ErrBadProperties, ErrNoSuchBucket, ErrSnapshotExists,
// ErrFuture, *BelowHorizonError, and those of Commit.
func (s *Store) Snapshot(ctx context.Context, o NewSnapshot) ([]Snapshot, error) {
	if len(o.Buckets) == 0 {
		return nil, fmt.Errorf("snapshot: no buckets: %w", ErrBadName)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := s.AdmitWrite(ctx); err != nil {
		return nil, err
	}
	if o.At != 0 {
		if err := s.settle(ctx, o.At); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
	}
	s.treeMu.Lock()
	ops, err := s.planSnapshotsLocked(&o)
	if err != nil {
		s.treeMu.Unlock()
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	lsn, err := s.changeTree(ctx, ops)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	s.tree.settleSnapshotsOf(ops, lsn)
	made := make([]Snapshot, len(ops))
	for i := range ops {
		made[i] = ops[i].newSnapshot(lsn)
	}
	return made, nil
}

func (s *Store) planSnapshotsLocked(o *NewSnapshot) ([]treeOp, error) {
	ops := make([]treeOp, len(o.Buckets))
	seen := make(map[*bucket]bool, len(o.Buckets))
	for i, name := range o.Buckets {
		b := s.tree.sequencedName(name)
		switch {
		case b == nil, o.Only != 0 && b.id != o.Only:
			return nil, fmt.Errorf("bucket %q: %w", name, ErrNoSuchBucket)
		case seen[b]:
			return nil, fmt.Errorf("bucket %q is named twice: %w", name, ErrBadName)
		case s.tree.snapshotNamed(b.id, o.Name, wal.MaxLSN) != nil:
			return nil, fmt.Errorf("snapshot %q of bucket %q: %w", o.Name, name, ErrSnapshotExists)
		}
		seen[b] = true
		n, lsn := b.sequenced(), wal.LSN(0)
		if o.At != 0 {
			var err error
			if n, lsn, err = s.planPastLocked(b, o.At); err != nil {
				return nil, fmt.Errorf("bucket %q: %w", name, err)
			}
		}
		ops[i] = treeOp{
			tag: opSnapshot, snapshot: s.tree.lastSnapshot + 1 + SnapshotID(i), bucket: b.id, timeline: n.id, lsn: lsn,
			name: o.Name, props: o.Properties, held: o.Held,
		}
	}
	return ops, nil
}

// planPastLocked finds the timeline that has what a bucket was at an LSN, and as of
// when, if that can be read for as long as treeMu is held and is then kept.
func (s *Store) planPastLocked(b *bucket, at wal.LSN) (*node, wal.LSN, error) {
	n, lsn := b.resolve(at)
	if n == nil {
		return nil, 0, fmt.Errorf("it was created at %d, after %d: %w", b.created, at, ErrNoSuchBucket)
	}
	return n, lsn, s.checkReadable(s.Horizon(), wal.MaxLSN, n, lsn)
}

// newSnapshot returns the snapshot that the operation takes in the commit at lsn.
func (o *treeOp) newSnapshot(lsn wal.LSN) Snapshot {
	p := Snapshot{ID: o.snapshot, Bucket: o.bucket, Timeline: o.timeline, LSN: o.lsn, Created: lsn, SnapshotSettings: *o.snapshotSettings()}
	if p.LSN == 0 {
		p.LSN = lsn
	}
	return p
}

func (o *treeOp) snapshotSettings() *SnapshotSettings {
	return &SnapshotSettings{Name: o.name, Properties: o.props.clone(), Held: o.held}
}

// SetSnapshot replaces the settings of a snapshot by what change makes of them, as
// SetProperties does for buckets.
//
// Errors: those of change, ErrNoSuchSnapshot, ErrBadName, ErrBadProperties,
// ErrSnapshotExists, and those of Commit.
func (s *Store) SetSnapshot(ctx context.Context, id SnapshotID, change func(old SnapshotSettings) (SnapshotSettings, error)) (wal.LSN, error) {
	if err := s.admit(ctx, nil); err != nil {
		return 0, err
	}
	s.treeMu.Lock()
	op, err := s.planSetSnapshotLocked(id, change)
	if err != nil {
		s.treeMu.Unlock()
		return 0, fmt.Errorf("set snapshot %d: %w", id, err)
	}
	lsn, err := s.changeTree(ctx, []treeOp{op})
	if err != nil {
		return 0, fmt.Errorf("set snapshot %d: %w", id, err)
	}
	s.tree.settleSnapshots(op.bucket, lsn)
	return lsn, nil
}

func (s *Store) planSetSnapshotLocked(id SnapshotID, change func(old SnapshotSettings) (SnapshotSettings, error)) (treeOp, error) {
	e, old := s.tree.snapshot(id)
	if old == nil || s.tree.bucket(e.bucket).deleted.Load() != 0 {
		return treeOp{}, ErrNoSuchSnapshot
	}
	now, err := change(*old)
	if err == nil {
		err = now.check()
	}
	if other := s.tree.snapshotNamed(e.bucket, now.Name, wal.MaxLSN); err == nil && other != nil && other != e {
		err = fmt.Errorf("snapshot %q: %w", now.Name, ErrSnapshotExists)
	}
	return treeOp{tag: opSetSnapshot, snapshot: id, bucket: e.bucket, name: now.Name, props: now.Properties, held: now.Held}, err
}

// DeleteSnapshots removes snapshots, all or none. What only they kept is given back.
//
// Errors: ErrNoSuchSnapshot, ErrSnapshotHeld, and those of Commit.
func (s *Store) DeleteSnapshots(ctx context.Context, ids ...SnapshotID) (wal.LSN, error) {
	if err := s.admit(ctx, nil); err != nil {
		return 0, err
	}
	s.treeMu.Lock()
	ops := make([]treeOp, 0, len(ids))
	seen := make(map[SnapshotID]bool, len(ids))
	for _, id := range ids {
		e, settings := s.tree.snapshot(id)
		err := error(nil)
		switch {
		case settings == nil, seen[id]:
			err = ErrNoSuchSnapshot
		case settings.Held:
			err = ErrSnapshotHeld
		}
		if err != nil {
			s.treeMu.Unlock()
			return 0, fmt.Errorf("delete snapshot %d: %w", id, err)
		}
		seen[id] = true
		ops = append(ops, treeOp{tag: opDeleteSnapshot, snapshot: id, bucket: e.bucket})
	}
	lsn, err := s.changeTree(ctx, ops)
	if err != nil {
		return 0, fmt.Errorf("delete %d snapshots: %w", len(ids), err)
	}
	s.tree.settleSnapshotsOf(ops, lsn)
	return lsn, nil
}

// SnapshotCursor is a place in the list of a bucket's snapshots.
type SnapshotCursor struct {
	LSN wal.LSN
	ID  SnapshotID
}

// Cursor returns the snapshot's place.
func (s *Snapshot) Cursor() SnapshotCursor { return SnapshotCursor{s.LSN, s.ID} }

// Snapshots returns up to limit visible snapshots of a bucket, deleted or not, that
// come after a place (the zero cursor: the start), by LSN, newest first. A limit of
// zero or less means all.
func (s *Store) Snapshots(id BucketID, after SnapshotCursor, limit int) []Snapshot {
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	visible := s.log.Visible()
	of := s.tree.mu.snapshotsOf[id]
	if of == nil {
		return nil
	}
	var list []Snapshot
	from := &snapshotEntry{lsn: wal.MaxLSN, id: ^SnapshotID(0)}
	if after != (SnapshotCursor{}) {
		from.lsn, from.id = after.LSN, after.ID
	}
	of.byLSN.Descend(from, func(e *snapshotEntry) bool {
		if snap, ok := e.at(visible); ok && snap.Cursor() != after {
			list = append(list, snap)
		}
		return limit <= 0 || len(list) < limit
	})
	return list
}

// SnapshotNamed returns the visible snapshot of a bucket that has a name.
// Errors: ErrNoSuchSnapshot.
func (s *Store) SnapshotNamed(id BucketID, name string) (Snapshot, error) {
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	visible := s.log.Visible()
	if of := s.tree.mu.snapshotsOf[id]; of != nil && name != "" {
		if e := of.byName[name].at(visible); e != nil {
			if snap, ok := e.at(visible); ok {
				return snap, nil
			}
		}
	}
	return Snapshot{}, fmt.Errorf("snapshot %q of bucket %d: %w", name, id, ErrNoSuchSnapshot)
}

// SnapshotAt returns the visible snapshot of a bucket at an LSN, the last that was
// taken if there are several. Errors: ErrNoSuchSnapshot.
func (s *Store) SnapshotAt(id BucketID, lsn wal.LSN) (Snapshot, error) {
	if list := s.Snapshots(id, SnapshotCursor{lsn, ^SnapshotID(0)}, 1); len(list) == 1 && list[0].LSN == lsn {
		return list[0], nil
	}
	return Snapshot{}, fmt.Errorf("snapshot of bucket %d at %d: %w", id, lsn, ErrNoSuchSnapshot)
}
