package timeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
	"stemma/wal/storefs"
)

// moves is a store with helpers for buckets of small objects.
type moves struct {
	*testing.T
	*Store
	fs    *storefs.MemFS
	clock *handClock
}

func newMoves(t *testing.T, buckets ...string) *moves {
	t.Helper()
	m := &moves{T: t, fs: storefs.NewMem(), clock: &handClock{}}
	m.open()
	for _, name := range buckets {
		_, err := m.CreateBucket(t.Context(), NewBucket{Name: name})
		m.must(err)
	}
	return m
}

func (m *moves) open() {
	m.Helper()
	s, err := Open(Options{FS: m.fs, Dir: "data", WALSegmentBytes: 256 << 10, CollectEvery: -1, HorizonEvery: time.Hour, Now: m.clock.now, Uptime: m.clock.uptime})
	m.must(err)
	m.Store = s
	m.Cleanup(func() { s.Close() })
}

func (m *moves) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *moves) put(bucket string, ns layers.Namespace, key, value string) wal.LSN {
	m.Helper()
	var b Batch
	b.Put(ns, []byte(key), []byte(value), nil)
	lsn, err := m.Store.Commit(m.Context(), bucket, &b)
	m.must(err)
	return lsn
}

func (m *moves) object(bucket, key, value string) wal.LSN {
	m.Helper()
	return m.put(bucket, layers.NamespaceObjects, key, value)
}

func (m *moves) remove(bucket, key string) wal.LSN {
	m.Helper()
	var b Batch
	b.Delete(layers.NamespaceObjects, []byte(key))
	lsn, err := m.Store.Commit(m.Context(), bucket, &b)
	m.must(err)
	return lsn
}

func (m *moves) fork(source string, at wal.LSN, names ...string) {
	m.Helper()
	_, err := m.Store.Fork(m.Context(), ForkOptions{Source: source, At: at, Forks: Named(names...)})
	m.must(err)
}

func (m *moves) move(list ...Move) wal.LSN {
	m.Helper()
	res, err := m.Store.Move(m.Context(), MoveOptions{Moves: list})
	m.must(err)
	return res.LSN
}

// want compares the values of a key, or of another namespace, at an LSN.
func (m *moves) want(bucket string, at wal.LSN, ns layers.Namespace, key, value string) {
	m.Helper()
	v, err := m.View(m.Context(), bucket, at)
	m.must(err)
	defer v.Close()
	rec, err := v.Get(ns, []byte(key))
	switch {
	case value == "" && errors.Is(err, ErrNotFound):
	case err != nil || string(rec.Meta) != value:
		m.Errorf("%q of %q at %d is %q, %v; want %q", key, bucket, at, rec.Meta, err, value)
	}
}

func (m *moves) objects(bucket string, at wal.LSN, want string) {
	m.Helper()
	v, err := m.View(m.Context(), bucket, at)
	m.must(err)
	defer v.Close()
	scan, got := v.Scan(layers.NamespaceObjects, nil, nil), ""
	for ok := scan.First(); ok; ok = scan.Next() {
		got += fmt.Sprintf("%s=%s ", scan.Record().Key.User(), scan.Record().Meta)
	}
	m.must(firstError(scan.Err(), scan.Close()))
	if got != want {
		m.Errorf("%q at %d: %q, want %q", bucket, at, got, want)
	}
}

func (m *moves) reopen() {
	m.Helper()
	m.must(m.Close())
	m.open()
}

// A restore is one commit, after which the past before it is still what it was, and by
// which the bucket keeps its id, configuration and snapshots, but no uploads. It is
// undone by another one.
func TestRestore(t *testing.T) {
	m := newMoves(t, "main")
	first := m.object("main", "a", "1")
	m.put("main", layers.NamespaceConfig, "settings", "old")
	good := m.object("main", "b", "1")
	m.put("main", layers.NamespaceConfig, "settings", "new")
	m.put("main", layers.NamespaceUploads, "upload", "x")
	m.remove("main", "a")
	snaps, err := m.Snapshot(t.Context(), NewSnapshot{Buckets: []string{"main"}, SnapshotSettings: SnapshotSettings{Name: "before"}})
	m.must(err)
	bad := m.object("main", "b", "2")
	was, err := m.Bucket("main", 0)
	m.must(err)

	at := m.move(Move{Bucket: "main", Source: "main", At: good})
	check := func() {
		t.Helper()
		m.objects("main", 0, "a=1 b=1 ")
		m.objects("main", at, "a=1 b=1 ")
		m.objects("main", at-1, "b=2 ")
		m.objects("main", bad, "b=2 ")
		m.objects("main", snaps[0].LSN, "b=1 ")
		m.objects("main", first, "a=1 ")
		m.want("main", 0, layers.NamespaceConfig, "settings", "new")
		m.want("main", good, layers.NamespaceConfig, "settings", "old")
		m.want("main", 0, layers.NamespaceUploads, "upload", "")
		is, err := m.Bucket("main", 0)
		m.must(err)
		if is.Bucket != was.Bucket || is.Timeline == was.Timeline || is.Created != was.Created || is.Ancestor != was.Timeline {
			t.Errorf("%+v, was %+v", is, was)
		}
		if list := m.Snapshots(is.Bucket, SnapshotCursor{}, 0); len(list) != 1 || list[0].LSN != snaps[0].LSN {
			t.Errorf("snapshots %+v", list)
		}
	}
	check()
	m.reopen()
	check()
	m.must(m.Flush(t.Context()))
	_, err = m.CollectFull(t.Context())
	m.must(err)
	check()

	m.object("main", "c", "3")
	undo := m.move(Move{Bucket: "main", Source: "main", At: at - 1})
	m.objects("main", 0, "b=2 ")
	m.objects("main", undo-1, "a=1 b=1 c=3 ")
	m.objects("main", at, "a=1 b=1 ")
	m.fork("main", undo-1, "fork")
	m.objects("fork", 0, "a=1 b=1 c=3 ")
}

// Reset, promotion and swap are the same with other sources. Who was forked from whom,
// and what snapshots are of, goes by the bucket.
func TestMovesBetweenBuckets(t *testing.T) {
	m := newMoves(t, "main")
	m.object("main", "a", "1")
	m.put("main", layers.NamespaceConfig, "settings", "of main")
	m.fork("main", 0, "dev", "exp")
	m.put("dev", layers.NamespaceConfig, "settings", "of dev")
	m.object("dev", "b", "dev")
	m.object("exp", "b", "exp")
	m.object("main", "a", "2")

	m.move(Move{Bucket: "dev", Source: "main"})
	m.objects("dev", 0, "a=2 ")
	m.want("dev", 0, layers.NamespaceConfig, "settings", "of dev")
	info, err := m.Bucket("dev", 0)
	m.must(err)
	if info.SourceName != "main" || info.BranchLSN != m.Visible()-1 {
		t.Errorf("after the reset: %+v", info)
	}

	m.move(Move{Bucket: "main", Source: "exp"})
	m.objects("main", 0, "a=1 b=exp ")
	m.objects("exp", 0, "a=1 b=exp ")
	m.object("exp", "c", "later")
	m.objects("main", 0, "a=1 b=exp ")
	m.want("main", 0, layers.NamespaceConfig, "settings", "of main")

	lsn := m.move(Move{Bucket: "main", Source: "dev"}, Move{Bucket: "dev", Source: "main"})
	m.objects("main", 0, "a=2 ")
	m.objects("dev", 0, "a=1 b=exp ")
	m.want("main", 0, layers.NamespaceConfig, "settings", "of main")
	m.want("dev", 0, layers.NamespaceConfig, "settings", "of dev")
	m.objects("main", lsn-1, "a=1 b=exp ")
	m.objects("dev", lsn-1, "a=2 ")
	m.reopen()
	m.objects("main", 0, "a=2 ")
	m.objects("dev", lsn-1, "a=2 ")
	if forks := m.Forks(info.SourceBucket, "", "", 0); len(forks) != 2 {
		t.Errorf("forks of main: %+v", forks)
	}
	m.move(Move{Bucket: "main", Source: "main", At: lsn - 1}, Move{Bucket: "dev", Source: "dev", At: lsn - 1})
	m.objects("main", 0, "a=1 b=exp ")
	m.objects("dev", 0, "a=2 ")
}

// What cannot be moved changes nothing.
func TestMovesThatAreRefused(t *testing.T) {
	m := newMoves(t, "main", "other")
	lsn := m.object("main", "a", "1")
	later := m.object("main", "a", "2")
	no := errors.New("no")
	for name, c := range map[string]struct {
		o    MoveOptions
		want error
	}{
		"nothing":       {MoveOptions{}, ErrBadMove},
		"twice":         {MoveOptions{Moves: []Move{{Bucket: "main", Source: "other"}, {Bucket: "main", Source: "other"}}}, ErrBadMove},
		"to itself":     {MoveOptions{Moves: []Move{{Bucket: "main", Source: "main"}}}, ErrBadMove},
		"no bucket":     {MoveOptions{Moves: []Move{{Bucket: "none", Source: "main"}}}, ErrNoSuchBucket},
		"no source":     {MoveOptions{Moves: []Move{{Bucket: "main", Source: "none"}}}, ErrNoSuchBucket},
		"too early":     {MoveOptions{Moves: []Move{{Bucket: "main", Source: "main", At: 5}}}, ErrNoSuchBucket},
		"in the future": {MoveOptions{Moves: []Move{{Bucket: "main", Source: "main", At: wal.MaxLSN}}}, ErrFuture},
		"changed":       {MoveOptions{Moves: []Move{{Bucket: "main", Source: "other", IfUnchangedSince: lsn}}}, ErrTargetChanged},
		"refused":       {MoveOptions{Moves: []Move{{Bucket: "main", Source: "other"}}, Refuse: func(int, *View, *View) error { return no }}, no},
		"second":        {MoveOptions{Moves: []Move{{Bucket: "main", Source: "other"}, {Bucket: "other", Source: "none"}}}, ErrNoSuchBucket},
		"configuration": {MoveOptions{Moves: []Move{{Bucket: "main", Source: "other"}}, Configure: func(int, *View, *View, *Batch) error { return no }}, no},
	} {
		before := m.Visible()
		if _, err := m.Store.Move(t.Context(), c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if m.Visible() != before {
			t.Errorf("%s: something was committed", name)
		}
	}
	m.move(Move{Bucket: "main", Source: "main", At: lsn, IfUnchangedSince: later})
	if _, err := m.Store.Move(t.Context(), MoveOptions{Moves: []Move{{Bucket: "main", Source: "other", IfUnchangedSince: later}}}); !errors.Is(err, ErrTargetChanged) {
		t.Errorf("after a move since: %v", err)
	}
}

// The configuration that a caller adds counts before the one that is carried along.
func TestMoveConfigures(t *testing.T) {
	m := newMoves(t, "main", "other")
	m.put("main", layers.NamespaceConfig, "settings", "now")
	m.put("other", layers.NamespaceConfig, "settings", "then")
	m.put("other", layers.NamespaceConfig, "more", "then")
	_, err := m.Store.Move(t.Context(), MoveOptions{
		Moves: []Move{{Bucket: "main", Source: "other"}},
		Configure: func(_ int, now, then *View, first *Batch) error {
			a, err := now.Get(layers.NamespaceConfig, []byte("settings"))
			m.must(err)
			b, err := then.Get(layers.NamespaceConfig, []byte("settings"))
			m.must(err)
			first.Put(layers.NamespaceConfig, []byte("settings"), append(a.Meta, b.Meta...), nil)
			return nil
		},
	})
	m.must(err)
	m.want("main", 0, layers.NamespaceConfig, "settings", "nowthen")
	m.want("main", 0, layers.NamespaceConfig, "more", "")
	m.want("other", 0, layers.NamespaceConfig, "more", "then")
}

// What a move leaves is kept until its undo time is over and its window has passed it;
// then it goes, and who asks for it is told so, after a restart too. A bucket that is
// reset again and again does not grow.
func TestWhatMovesLeaveGoes(t *testing.T) {
	m := newMoves(t, "main")
	m.object("main", "a", "1")
	m.fork("main", 0, "dev")
	_, err := m.SetWindow(t.Context(), "dev", 0)
	m.must(err)
	collect := func() {
		t.Helper()
		_, err := m.CollectFull(t.Context())
		m.must(err)
	}
	var lsn wal.LSN
	for i := range 20 {
		m.object("dev", "b", fmt.Sprint(i))
		lsn = m.move(Move{Bucket: "dev", Source: "main"})
		m.clock.pass(time.Second)
		collect()
		m.objects("dev", lsn-1, fmt.Sprintf("a=1 b=%d ", i)) // its undo time is not over
	}
	if n := m.tree.len(); n != 22 {
		t.Errorf("%d timelines, want those of 20 moves and 2", n)
	}
	m.clock.pass(25 * time.Hour)
	m.object("main", "c", "1")
	collect()
	m.clock.pass(time.Hour + time.Second) // had the store stood still meanwhile
	collect()
	check := func() {
		t.Helper()
		var gone *BelowHorizonError
		if _, err := m.View(t.Context(), "dev", lsn-1); !errors.As(err, &gone) {
			t.Errorf("what was left: %v", err)
		}
		if n := m.tree.len(); n != 2 {
			t.Errorf("%d timelines, want 2: %+v", n, m.TreeLines())
		}
	}
	check()
	m.move(Move{Bucket: "dev", Source: "main"})
	n := 0
	for range m.tree.sequencedName("dev").bound() {
		n++
	}
	if n != 3 {
		t.Errorf("%d bindings, want one for all that went, and 2", n)
	}
	m.reopen()
	m.objects("dev", 0, "a=1 c=1 ")
	if _, err := m.View(t.Context(), "dev", lsn-1); err == nil {
		t.Error("what was left can be read after a restart")
	}
	_, err = m.DeleteBucket(t.Context(), "dev", DeleteOptions{Force: true})
	m.must(err)
	collect()
	if n := m.tree.len(); n != 1 {
		t.Errorf("%d timelines, want 1: %+v", n, m.TreeLines())
	}
	m.reopen()
}

// The window of a bucket is that of what it led to before, too.
func TestWindowAfterMove(t *testing.T) {
	m := newMoves(t, "main")
	_, err := m.SetWindow(t.Context(), "main", gc.Forever)
	m.must(err)
	first := m.object("main", "a", "1")
	m.object("main", "a", "2")
	_, err = m.Store.Move(t.Context(), MoveOptions{Moves: []Move{{Bucket: "main", Source: "main", At: first}}, Undo: -1})
	m.must(err)
	m.clock.pass(48 * time.Hour)
	m.object("main", "b", "1")
	_, err = m.CollectFull(t.Context())
	m.must(err)
	m.objects("main", first, "a=1 ")
	_, err = m.SetWindow(t.Context(), "main", 0)
	m.must(err)
	_, err = m.CollectFull(t.Context())
	m.must(err)
	var gone *BelowHorizonError
	if _, err := m.View(t.Context(), "main", first+1); !errors.As(err, &gone) {
		t.Errorf("with no window: %v", err)
	}
	m.objects("main", 0, "a=1 b=1 ")
}

// Forks from before the point that a bucket was restored to can still be merged into it,
// and meet what it has deleted since.
func TestMergeAfterRestore(t *testing.T) {
	m := newMoves(t, "main")
	m.object("main", "a", "1")
	m.fork("main", 0, "dev")
	m.object("dev", "new", "of dev")
	m.object("dev", "dev", "of dev")
	m.object("dev", "gone", "of dev")
	m.remove("dev", "gone")
	point := m.object("main", "b", "1")
	m.object("main", "b", "2")
	_, err := m.SetWindow(t.Context(), "main", 0)
	m.must(err)
	_, err = m.SetWindow(t.Context(), "dev", 0)
	m.must(err)
	m.move(Move{Bucket: "main", Source: "main", At: m.Visible()})
	_ = point
	m.object("main", "new", "of main")
	m.remove("main", "new")
	m.object("main", "gone", "of main")
	m.must(m.Flush(t.Context()))
	_, err = m.CollectFull(t.Context())
	m.must(err)
	var conflict *MergeConflictError
	_, err = m.Merge(t.Context(), MergeOptions{Source: "dev", Target: "main"})
	if !errors.As(err, &conflict) || conflict.Count != 2 {
		t.Fatalf("merge: %v, want a conflict about 2 keys", err)
	}
	res, err := m.Merge(t.Context(), MergeOptions{Source: "dev", Target: "main", Rules: MergeRules{Resolve: func(*MergeEntry) (Side, error) { return Theirs, nil }}})
	m.must(err)
	if res.Put != 2 || res.Deleted != 1 {
		t.Errorf("%+v", res)
	}
	m.objects("main", 0, "a=1 b=2 dev=of dev new=of dev ")
	// One that branched above the point cannot.
	m.fork("main", 0, "late")
	m.object("late", "c", "1")
	m.object("main", "d", "1")
	m.move(Move{Bucket: "main", Source: "main", At: res.LSN - 1})
	if _, err := m.Merge(t.Context(), MergeOptions{Source: "late", Target: "main"}); !errors.Is(err, ErrNotDescendant) {
		t.Errorf("merge of what branched from what was undone: %v", err)
	}
}

// Commits and moves at the same time: none is lost that was acknowledged after the last
// move, and what was acknowledged before one lies in the past.
func TestMovesUnderWrites(t *testing.T) {
	m := newMoves(t, "a", "b")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type ack struct {
		bucket string
		n      int
		lsn    wal.LSN
	}
	acks := make(chan ack, 1<<16)
	done := make(chan error, 2)
	for _, bucket := range []string{"a", "b"} {
		go func() {
			for n := 0; ctx.Err() == nil; n++ {
				var b Batch
				b.Put(layers.NamespaceObjects, fmt.Appendf(nil, "%s-%d", bucket, n), []byte("x"), nil)
				lsn, err := m.Store.Commit(context.Background(), bucket, &b)
				if err != nil {
					done <- err
					return
				}
				select {
				case acks <- ack{bucket, n, lsn}:
				default:
				}
			}
			done <- nil
		}()
	}
	acks <- <-acks // they are at it
	var swaps []wal.LSN
	for range 20 {
		swaps = append(swaps, m.move(Move{Bucket: "a", Source: "b"}, Move{Bucket: "b", Source: "a"}))
	}
	cancel()
	m.must(firstError(<-done, <-done))
	close(acks)
	if len(acks) == 0 {
		t.Error("nothing was committed meanwhile")
	}
	for k := range acks {
		m.want(k.bucket, k.lsn, layers.NamespaceObjects, fmt.Sprintf("%s-%d", k.bucket, k.n), "x")
		now := k.bucket // where it has come to: every swap takes it along
		for _, lsn := range swaps {
			if lsn > k.lsn {
				now = map[string]string{"a": "b", "b": "a"}[now]
			}
		}
		m.want(now, 0, layers.NamespaceObjects, fmt.Sprintf("%s-%d", k.bucket, k.n), "x")
	}
}
