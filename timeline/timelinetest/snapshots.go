package timelinetest

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"stemma/timeline"
	"stemma/wal"
)

// expectSnapshot says what taking snapshots must meet: the error of the first
// bucket that has one.
func (o *Oracle) expectSnapshot(op *Op) error {
	seen := make(map[*bucket]bool)
	for _, name := range append([]string{op.Bucket}, op.Names...) {
		b := o.names[name]
		switch {
		case b == nil:
			return timeline.ErrNoSuchBucket
		case seen[b]:
			return timeline.ErrBadName
		case op.Settings.Name != "" && o.snapshotNamed(b, op.Settings.Name) != 0:
			return timeline.ErrSnapshotExists
		}
		seen[b] = true
		if err := o.expectAt(b, op.At); err != nil {
			return err
		}
	}
	return nil
}

func (o *Oracle) expectSnapshotChange(op *Op) error {
	s, ok := o.snaps[op.Snapshot]
	switch {
	case !ok, op.Kind == OpSetSnapshot && o.buckets[s.Bucket].deleted:
		return timeline.ErrNoSuchSnapshot
	case op.Kind == OpDeleteSnapshot && s.Held:
		return timeline.ErrSnapshotHeld
	}
	if id := o.snapshotNamed(o.buckets[s.Bucket], op.Settings.Name); op.Kind == OpSetSnapshot && op.Settings.Name != "" && id != 0 && id != s.ID {
		return timeline.ErrSnapshotExists
	}
	return nil
}

// snapshotNamed returns the snapshot of a bucket that has a name; zero: none.
func (o *Oracle) snapshotNamed(b *bucket, name string) timeline.SnapshotID {
	for id, s := range o.snaps {
		if s.Bucket == b.id && s.Name == name {
			return id
		}
	}
	return 0
}

// held reports whether a snapshot keeps a bucket from being deleted.
func (o *Oracle) held(b *bucket) bool {
	for _, s := range o.snaps {
		if s.Bucket == b.id && s.Held {
			return true
		}
	}
	return false
}

// snapshot takes in the snapshots that a store says it has taken.
func (o *Oracle) snapshot(op *Op) error {
	names := append([]string{op.Bucket}, op.Names...)
	if len(op.Snaps) != len(names) {
		return fmt.Errorf("%d snapshots, want %d", len(op.Snaps), len(names))
	}
	for i, name := range names {
		b := o.names[name]
		l, at := b.line, op.LSN
		if op.At != 0 {
			l, at = b.resolve(op.At)
		}
		got := op.Snaps[i]
		want := timeline.Snapshot{ID: got.ID, Bucket: b.id, Timeline: l.id, LSN: at, Created: op.LSN, SnapshotSettings: op.Settings}
		if _, ok := o.snaps[got.ID]; ok || !reflect.DeepEqual(got, want) {
			return fmt.Errorf("snapshot %+v, want %+v", got, want)
		}
		o.snaps[got.ID] = want
	}
	return nil
}

// snapshotsOf returns the snapshots of a bucket, newest first.
func (o *Oracle) snapshotsOf(id timeline.BucketID) []timeline.Snapshot {
	var list []timeline.Snapshot
	for _, s := range o.snaps {
		if s.Bucket == id {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b timeline.Snapshot) int {
		return cmp.Or(cmp.Compare(b.LSN, a.LSN), cmp.Compare(b.ID, a.ID))
	})
	return list
}

// forgetSnapshots lets the snapshots of a bucket go that is gone for good.
func (o *Oracle) forgetSnapshots(b *bucket) {
	for id, s := range o.snaps {
		if s.Bucket == b.id {
			delete(o.snaps, id)
		}
	}
}

// expiredSnapshots are those that were at their end at a store time.
func (o *Oracle) expiredSnapshots(due wal.LSN) []timeline.Snapshot {
	var list []timeline.Snapshot
	for _, s := range o.snaps {
		if !s.Held && s.Expires != 0 && s.Expires <= due {
			list = append(list, s)
		}
	}
	return list
}

// observeSnapshots learns which expired snapshots a store has deleted.
func (o *Oracle) observeSnapshots(s *timeline.Store) {
	for _, snap := range o.expiredSnapshots(o.latest) {
		if got := s.Snapshots(snap.Bucket, timeline.SnapshotCursor{}, 0); !slices.ContainsFunc(got, func(g timeline.Snapshot) bool { return g.ID == snap.ID }) {
			delete(o.snaps, snap.ID)
		}
	}
}

// snapshots compares those of all buckets, by every way to them.
func (c *Checker) snapshots() error {
	for id, b := range c.Oracle.buckets {
		want := c.Oracle.snapshotsOf(id)
		var got []timeline.Snapshot
		limit := c.Rand.IntN(3)
		for after := (timeline.SnapshotCursor{}); ; after = got[len(got)-1].Cursor() {
			page := c.Store.Snapshots(id, after, limit)
			got = append(got, page...)
			if limit == 0 || len(page) < limit {
				break
			}
			c.Count.Add("page of snapshots")
		}
		if !slices.EqualFunc(got, want, func(a, b timeline.Snapshot) bool { return reflect.DeepEqual(a, b) }) {
			return fmt.Errorf("snapshots of bucket %d (%q) are %+v, want %+v", id, b.name, got, want)
		}
		for i := range want {
			s, err := c.Store.SnapshotAt(id, want[i].LSN)
			if err != nil || s.LSN != want[i].LSN || s.ID < want[i].ID {
				return fmt.Errorf("snapshot at %d is %+v, %w, want %+v", want[i].LSN, s, err, want[i])
			}
			if want[i].Name == "" {
				continue
			}
			if s, err = c.Store.SnapshotNamed(id, want[i].Name); err != nil || !reflect.DeepEqual(s, want[i]) {
				return fmt.Errorf("snapshot %q is %+v, %w, want %+v", want[i].Name, s, err, want[i])
			}
		}
	}
	return nil
}
