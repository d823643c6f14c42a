package timeline

import (
	"errors"
	"testing"
	"time"

	"stemma/layers"
	"stemma/wal/storefs"
)

// A snapshot of several buckets is of one LSN. Names are a bucket's own. What is
// held stays, and so does its bucket; all else goes when its time has come, and
// with the bucket, once that cannot be brought back.
func TestSnapshotsOfBuckets(t *testing.T) {
	fs, clock, ctx := storefs.NewMem(), &handClock{}, t.Context()
	s := openAt(t, fs, clock)
	var ids []BucketID
	for _, name := range []string{"a", "b"} {
		info, err := s.CreateBucket(ctx, NewBucket{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, info.Bucket)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(bucket, value string) {
		t.Helper()
		var b Batch
		b.Put(layers.NamespaceObjects, []byte("key"), []byte(value), nil)
		_, err := s.Commit(ctx, bucket, &b)
		must(err)
	}
	put("a", "one")
	both, err := s.Snapshot(ctx, NewSnapshot{Buckets: []string{"a", "b"}, SnapshotSettings: SnapshotSettings{
		Name: "before", Properties: Properties{Attrs: []byte("why"), Expires: clock.in(time.Minute)},
	}})
	must(err)
	if both[0].LSN != both[1].LSN || both[0].LSN != both[0].Created || string(both[1].Attrs) != "why" {
		t.Errorf("%+v", both)
	}
	put("a", "two")
	_, err = s.Snapshot(ctx, NewSnapshot{Buckets: []string{"b", "a"}, SnapshotSettings: SnapshotSettings{Name: "before"}})
	if !errors.Is(err, ErrSnapshotExists) {
		t.Error(err)
	}
	_, err = s.Snapshot(ctx, NewSnapshot{Buckets: []string{"a", "a"}})
	if !errors.Is(err, ErrBadName) {
		t.Error(err)
	}
	hold := func(held bool) {
		t.Helper()
		_, err := s.SetSnapshot(ctx, both[0].ID, func(old SnapshotSettings) (SnapshotSettings, error) {
			old.Held = held
			return old, nil
		})
		must(err)
	}
	hold(true)
	must(s.Close())
	s = openAt(t, fs, clock)
	clock.pass(time.Minute)
	must(s.expire(ctx))
	if _, err := s.SnapshotNamed(ids[1], "before"); !errors.Is(err, ErrNoSuchSnapshot) {
		t.Errorf("a snapshot that has expired: %v", err)
	}
	for what, err := range map[string]error{
		"snapshot": func() error { _, err := s.DeleteSnapshots(ctx, both[0].ID); return err }(),
		"bucket":   func() error { _, err := s.DeleteBucket(ctx, "a", DeleteOptions{Force: true}); return err }(),
	} {
		if !errors.Is(err, ErrSnapshotHeld) {
			t.Errorf("delete a held %s: %v", what, err)
		}
	}
	_, err = s.SetExpiry(ctx, "a", 1)
	must(err)
	must(s.expire(ctx))
	if _, err := s.Bucket("a", 0); err != nil {
		t.Errorf("a bucket with a held snapshot expired: %v", err)
	}
	_, err = s.SetExpiry(ctx, "a", 0)
	must(err)
	_, err = s.SetSnapshot(ctx, both[0].ID, func(old SnapshotSettings) (SnapshotSettings, error) {
		return SnapshotSettings{Name: "after"}, nil
	})
	must(err)
	_, err = s.DeleteBucket(ctx, "a", DeleteOptions{Force: true, Undo: time.Hour})
	must(err)
	_, err = s.Undelete(ctx, ids[0], "back")
	must(err)
	snap, err := s.SnapshotNamed(ids[0], "after")
	must(err)
	v, err := s.View(ctx, "back", snap.LSN)
	must(err)
	if rec, err := v.Get(layers.NamespaceObjects, []byte("key")); err != nil || string(rec.Meta) != "one" {
		t.Errorf("%s, %v", rec.Meta, err)
	}
	v.Close()
	_, err = s.DeleteBucket(ctx, "back", DeleteOptions{Force: true, Undo: time.Hour})
	must(err)
	clock.pass(time.Hour)
	must(s.expire(ctx))
	for range 2 {
		if got := s.Snapshots(ids[0], SnapshotCursor{}, 0); len(got) != 0 {
			t.Errorf("snapshots of a bucket that is gone: %+v", got)
		}
		checkNoSnapshots(t, s)
		must(s.Close())
		s = openAt(t, fs, clock)
	}
}

// A bucket and snapshots of it that expire together, the bucket first: each snapshot
// ends once.
func TestBucketAndSnapshotsExpireTogether(t *testing.T) {
	fs, clock, ctx := storefs.NewMem(), &handClock{}, t.Context()
	s := openAt(t, fs, clock)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.CreateBucket(ctx, NewBucket{Name: "base"})
	must(err)
	_, err = s.Fork(ctx, ForkOptions{Source: "base", Forks: []NewBucket{{Name: "a", Properties: Properties{Expires: clock.in(time.Minute)}}}})
	must(err)
	var b Batch
	b.Put(layers.NamespaceObjects, []byte("key"), []byte("one"), nil)
	_, err = s.Commit(ctx, "a", &b)
	must(err)
	_, err = s.Snapshot(ctx, NewSnapshot{Buckets: []string{"a"}, SnapshotSettings: SnapshotSettings{Properties: Properties{Expires: clock.in(2 * time.Minute)}}})
	must(err)
	clock.pass(time.Hour)
	must(s.expire(ctx))
	for range 2 {
		checkNoSnapshots(t, s)
		must(s.Close())
		s = openAt(t, fs, clock)
	}
}

func checkNoSnapshots(t *testing.T, s *Store) {
	t.Helper()
	if n := len(s.tree.mu.snapshots) + len(s.tree.mu.snapshotsOf) + len(s.tree.mu.pinned); n != 0 {
		t.Errorf("%d things left of snapshots", n)
	}
}
