package timeline_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

// What a collection may have taken is refused at every door, and what a bucket's
// deletion left is undeleted only once, under a free name.
func TestRefusedAfterCollection(t *testing.T) {
	ctx := context.Background()
	s, err := timeline.Open(timeline.Options{
		FS: storefs.NewMem(), Dir: "data", Logger: strictLogger(t), WALSegmentBytes: 1 << 20,
		Window: -1, HorizonEvery: time.Hour, CollectEvery: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	info, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	var b timeline.Batch
	b.Put(layers.NamespaceObjects, []byte("key"), []byte("old"), nil)
	old, err := s.Commit(ctx, "data", &b)
	if err != nil {
		t.Fatal(err)
	}
	doors := map[string]func() error{
		"view": func() error {
			v, err := s.View(ctx, "data", old)
			if err == nil {
				v.Close()
			}
			return err
		},
		"lease": func() error { return s.Lease("data", old, time.Hour) },
		"fork": func() error {
			_, err := s.Fork(ctx, timeline.ForkOptions{Source: "data", At: old, Forks: timeline.Named("past")})
			return err
		},
		"snapshot": func() error {
			_, err := s.Snapshot(ctx, timeline.NewSnapshot{Buckets: []string{"data"}, At: old})
			return err
		},
	}
	b.Reset()
	b.Put(layers.NamespaceObjects, []byte("key"), []byte("new"), nil)
	if _, err := s.Commit(ctx, "data", &b); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CollectFull(ctx); err != nil {
		t.Fatal(err)
	}
	for name, open := range doors {
		var below *timeline.BelowHorizonError
		if err := open(); !errors.As(err, &below) || below.LSN != old || below.Cutoff <= old {
			t.Errorf("%s at an LSN that was collected: %v", name, err)
		}
	}
	if _, err := s.DeleteBucket(ctx, "data", timeline.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "data"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Undelete(ctx, info.Bucket, "data"); !errors.Is(err, timeline.ErrBucketExists) {
		t.Errorf("undelete under a name that is taken: %v", err)
	}
	if _, err := s.Undelete(ctx, info.Bucket, "again"); err != nil {
		t.Errorf("undelete: %v", err)
	}
	if _, err := s.Undelete(ctx, info.Bucket, "twice"); !errors.Is(err, timeline.ErrBucketExists) {
		t.Errorf("undelete of a living bucket: %v", err)
	}
	forks, err := s.Fork(ctx, timeline.ForkOptions{Source: "again", Forks: timeline.Named("fork")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteBucket(ctx, "fork", timeline.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"dropped", "purged"} {
		if _, err := s.Undelete(ctx, forks[0].Bucket, "fork"); !errors.Is(err, timeline.ErrGone) {
			t.Errorf("undelete of a fork that was %s: %v", state, err)
		}
		if _, err := s.CollectFull(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []timeline.BucketID{0, forks[0].Bucket + 1} {
		if _, err := s.Undelete(ctx, id, "fork"); !errors.Is(err, timeline.ErrNoSuchBucket) {
			t.Errorf("undelete of %d, which never was: %v", id, err)
		}
	}
}
