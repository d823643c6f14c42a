package timeline

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"stemma/wal"
	"stemma/wal/storefs"
)

// handClock is a wall clock and an uptime that a test moves.
type handClock struct{ at atomic.Int64 }

func (c *handClock) now() time.Time             { return time.Unix(1_800_000_000, c.at.Load()) }
func (c *handClock) uptime() time.Duration      { return time.Hour + time.Duration(c.at.Load()) }
func (c *handClock) pass(d time.Duration)       { c.at.Add(int64(d)) }
func (c *handClock) in(d time.Duration) wal.LSN { return wal.LSNFromTime(c.now().Add(d)) }

func openAt(t *testing.T, fs *storefs.MemFS, c *handClock) *Store {
	t.Helper()
	s, err := Open(Options{FS: fs, Dir: "data", WALSegmentBytes: 4 << 20, CollectEvery: -1, HorizonEvery: time.Hour, Now: c.now, Uptime: c.uptime})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A bucket is deleted when its time has come, not before, and not when the time was
// put off or taken back. One that is brought back does not expire again.
func TestBucketsExpire(t *testing.T) {
	fs, clock, ctx := storefs.NewMem(), &handClock{}, t.Context()
	s := openAt(t, fs, clock)
	there := func(want ...string) {
		t.Helper()
		if err := s.expire(ctx); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range s.Buckets("", "", 0) {
			got = append(got, i.Name)
		}
		if len(got) != len(want) {
			t.Errorf("buckets are %q, want %q", got, want)
		}
	}
	must := func(_ wal.LSN, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := s.CreateBucket(ctx, NewBucket{Name: "root", Properties: Properties{Expires: clock.in(3 * time.Minute)}})
	must(0, err)
	forks := Named("a", "b", "c")
	for i := range forks {
		forks[i].Expires = clock.in(time.Minute)
	}
	_, err = s.Fork(ctx, ForkOptions{Source: "root", Forks: forks})
	must(0, err)
	must(s.SetExpiry(ctx, "b", clock.in(2*time.Minute)))
	must(s.SetExpiry(ctx, "c", 0))
	must(s.RenameBucket(ctx, "c", "d"))
	clock.pass(time.Minute - time.Second)
	there("a", "b", "d", "root")
	clock.pass(time.Second)
	there("b", "d", "root")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, fs, clock)
	clock.pass(2 * time.Minute)
	there("d")
	if _, err := s.Undelete(ctx, root.Bucket, "root"); err != nil {
		t.Fatal(err)
	}
	there("d", "root")
	if i, err := s.Bucket("root", 0); err != nil || i.Expires != 0 {
		t.Errorf("%+v, %v", i, err)
	}
	if got := s.Forks(root.Bucket, "", "", 0); len(got) != 1 || got[0].Name != "d" {
		t.Errorf("forks are %+v", got)
	}
}

// A machine that was off for a week must not lose what expired meanwhile in the
// first second: not before it has run for an hour.
func TestNothingExpiresForAnHourAfterALongGap(t *testing.T) {
	fs, clock, ctx := storefs.NewMem(), &handClock{}, t.Context()
	s := openAt(t, fs, clock)
	if _, err := s.CreateBucket(ctx, NewBucket{Name: "a", Properties: Properties{Expires: clock.in(time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	gone, err := s.CreateBucket(ctx, NewBucket{Name: "gone"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteBucket(ctx, "gone", DeleteOptions{Undo: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	clock.pass(7 * 24 * time.Hour)
	s = openAt(t, fs, clock)
	clock.pass(time.Hour - time.Second)
	if err := s.expire(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bucket("a", 0); err != nil {
		t.Error(err)
	}
	if got := s.DeletedBuckets(); len(got) != 1 {
		t.Errorf("can be undeleted: %+v", got)
	}
	clock.pass(time.Second)
	if err := s.expire(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bucket("a", 0); !errors.Is(err, ErrNoSuchBucket) {
		t.Error(err)
	}
	if _, err := s.Undelete(ctx, gone.Bucket, "gone"); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

// A bucket that may not expire stays, whoever else expires with it, and goes when it may.
// One that is being written to is waited for.
func TestExpiryRefused(t *testing.T) {
	clock, ctx := &handClock{}, t.Context()
	refuse := map[string]bool{"b": true, "busy": true}
	s, err := Open(Options{
		FS: storefs.NewMem(), Dir: "data", CollectEvery: -1, HorizonEvery: time.Hour, Now: clock.now, Uptime: clock.uptime,
		RefuseExpiry: func(v *View, now wal.LSN) error {
			if refuse[v.Info().Name] {
				return errors.New("locked")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"a", "b", "c", "busy"} {
		if _, err := s.CreateBucket(ctx, NewBucket{Name: name, Properties: Properties{Expires: clock.in(time.Minute)}}); err != nil {
			t.Fatal(err)
		}
	}
	there := func(want string) {
		t.Helper()
		if err := s.expire(ctx); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, i := range s.Buckets("", "", 0) {
			got += i.Name + " "
		}
		if got != want {
			t.Errorf("buckets are %q, want %q", got, want)
		}
	}
	clock.pass(2 * time.Minute)
	there("b busy ")
	delete(refuse, "b")
	there("b busy ") // not asked again so soon
	clock.pass(refusedFor + time.Second)
	there("busy ")
	delete(refuse, "busy")
	clock.pass(refusedFor + time.Second)
	n := s.tree.sequencedName("busy").last()
	n.use().gate.RLock()
	done := make(chan error)
	go func() { done <- s.expire(ctx) }()
	for n.use().gate.TryRLock() { // until the expiry waits for the gate
		n.use().gate.RUnlock()
		select {
		case err := <-done:
			t.Fatalf("expired under somebody's gate: %v", err)
		default:
		}
	}
	n.use().gate.RUnlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	there("")
}
