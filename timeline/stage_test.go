package timeline_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// stageOptions are those of a store in which a merge of some hundred keys is staged.
func stageOptions(t *testing.T, fs vfs.FS) timeline.Options {
	return timeline.Options{
		FS: fs, Dir: "data", WALSegmentBytes: 256 << 10, MergeBytes: 16 << 10, Logger: strictLogger(t), CollectEvery: -1, HorizonEvery: time.Hour,
	}
}

func openStore(t *testing.T, o timeline.Options) *timeline.Store {
	t.Helper()
	s, err := timeline.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closing closes a store at the end of a test.
func closing(t *testing.T, s *timeline.Store) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

const stagedKeys = 1200

func stagedKey(i int) []byte { return fmt.Appendf(nil, "key-%06d", i) }

// stageFork makes main with every second key, and dev, which changes all, deletes every
// tenth, and has bodies of several kinds. Changes are in memory and in layers.
func stageFork(t *testing.T, s *timeline.Store) {
	t.Helper()
	fill := func(bucket string, write func(b *timeline.Batch, i int)) {
		for i := 0; i < stagedKeys; {
			var b timeline.Batch
			for ; i < stagedKeys && b.Bytes() < 64<<10; i++ {
				write(&b, i)
			}
			if _, err := s.Commit(t.Context(), bucket, &b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.CreateBucket(t.Context(), timeline.NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	fill("main", func(b *timeline.Batch, i int) {
		if i%2 == 0 {
			b.Put(layers.NamespaceObjects, stagedKey(i), []byte("old"), nil)
		}
	})
	if _, err := s.Fork(t.Context(), timeline.ForkOptions{Source: "main", Forks: timeline.Named("dev")}); err != nil {
		t.Fatal(err)
	}
	fill("dev", func(b *timeline.Batch, i int) {
		if i%10 == 0 {
			b.Delete(layers.NamespaceObjects, stagedKey(i))
		} else {
			b.Put(layers.NamespaceObjects, stagedKey(i), fmt.Append(nil, "new ", i), stagedBody(i))
		}
		if i == stagedKeys/2 {
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// stagedBody returns an inline body, of every seventh key one that a flush parts.
func stagedBody(i int) layers.Body {
	n := 10
	if i%7 == 0 {
		n = 2000
	}
	p := make([]byte, n)
	for j := range p {
		p[j] = byte(i * (j + 1))
	}
	return layers.AppendInlineBody(nil, p)
}

// checkMerged compares main at an LSN, zero for the tip, with what the merge at lsn made of it.
func checkMerged(t *testing.T, s *timeline.Store, at, lsn wal.LSN) {
	t.Helper()
	v, err := s.View(t.Context(), "main", at)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for i := range stagedKeys {
		r, err := v.Get(layers.NamespaceObjects, stagedKey(i))
		if i%10 == 0 {
			if !errors.Is(err, timeline.ErrNotFound) {
				t.Fatalf("key %d was deleted: %v, %v", i, r, err)
			}
			continue
		}
		if err != nil || string(r.Meta) != fmt.Sprint("new ", i) || r.LSN != lsn {
			t.Fatalf("key %d, merged at %d: %q at %d, %v", i, lsn, r.Meta, r.LSN, err)
		}
		checkBody(t, s, r.Body, i)
	}
	scan, n := v.Scan(layers.NamespaceObjects, nil, nil), 0
	for ok := scan.First(); ok; ok = scan.Next() {
		n++
	}
	if err := errors.Join(scan.Err(), scan.Close()); err != nil || n != stagedKeys*9/10 {
		t.Fatalf("scan: %d keys, %v", n, err)
	}
}

func checkBody(t *testing.T, s *timeline.Store, b layers.Body, i int) {
	t.Helper()
	got := b
	if b.Tag() != layers.BodyInline {
		extents, err := s.Values().LoadExtents(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := b.Len()
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Values().NewReader(extents, 0, n)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, n)
		if err := errors.Join(readAll(r, p), r.Close()); err != nil {
			t.Fatal(err)
		}
		got = layers.AppendInlineBody(nil, p)
	}
	if want := stagedBody(i); string(got) != string(want) {
		t.Fatalf("body of key %d: %d bytes, want %d", i, len(got), len(want))
	}
}

func readAll(r *layers.ValueReader, p []byte) error {
	for len(p) > 0 {
		n, err := r.Read(p)
		if p = p[n:]; err != nil && len(p) > 0 {
			return err
		}
	}
	return nil
}

// checkBefore sees that a view of main below the merge has nothing of it.
func checkBefore(t *testing.T, v *timeline.View) {
	t.Helper()
	scan, n := v.Scan(layers.NamespaceObjects, nil, nil), 0
	for ok := scan.First(); ok; ok = scan.Next() {
		if n++; string(scan.Record().Meta) != "old" {
			t.Fatalf("%s: %q", scan.Record().Key, scan.Record().Meta)
		}
	}
	if err := errors.Join(scan.Err(), scan.Close()); err != nil || n != stagedKeys/2 {
		t.Fatalf("%d keys before the merge, %v", n, err)
	}
}

// A merge that the log has no room for: one commit at one LSN, before it nothing is to be seen, and
// it is there after starts that replay it, after flushes, compactions and collections.
func TestMergeStaged(t *testing.T) {
	fs := storefs.NewMem()
	o := stageOptions(t, fs)
	s := openStore(t, o)
	stageFork(t, s)
	held, err := s.View(t.Context(), "main", 0)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Visible()
	const writer = 77
	res, err := s.Merge(timeline.WithWriter(t.Context(), writer), timeline.MergeOptions{Source: "dev", Target: "main"})
	if err != nil || res.Put+res.Deleted+res.Same != stagedKeys || !res.Committed || res.LSN != s.Visible() {
		t.Fatalf("merge: %+v, %v", res, err)
	}
	if n := s.Metrics().AdoptedBytes; n == 0 {
		t.Fatal("nothing was staged")
	}
	checkBefore(t, held)
	held.Close()
	checkMerged(t, s, 0, res.LSN)
	v, err := s.View(t.Context(), "main", 0)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := v.Get(layers.NamespaceObjects, stagedKey(1)); err != nil || r.Writer != writer {
		t.Errorf("written by %d, %v; want %d", r.Writer, err, writer)
	}
	v.Close()
	again, err := s.Merge(t.Context(), timeline.MergeOptions{Source: "dev", Target: "main"})
	if err != nil || again.Committed {
		t.Fatalf("merge again: %+v, %v", again, err)
	}
	mergePut(t, s, "main", "zzz", "later") // adopted layers are older than this, and newer than what memory has
	look := func(what string) {
		t.Helper()
		v, err := s.View(t.Context(), "main", res.LSN-1)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		checkBefore(t, v)
		v.Close()
		checkMerged(t, s, res.LSN, res.LSN)
		if before >= res.LSN {
			t.Fatal("no new LSN")
		}
	}
	for i := range 3 {
		look(fmt.Sprint("start ", i))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, o)
	}
	closing(t, s)
	look("opened")
	if err := errors.Join(s.Flush(t.Context()), s.Compact()); err != nil {
		t.Fatal(err)
	}
	look("compacted")
	if _, err := s.DeleteBucket(t.Context(), "dev", timeline.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CollectFull(t.Context()); err != nil {
		t.Fatal(err)
	}
	look("collected")
}

// layerFiles counts the files of layers and of values.
func layerFiles(t *testing.T, fs vfs.FS) (n int) {
	t.Helper()
	for _, dir := range []string{"data/layers", "data/values"} {
		names, err := fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		n += len(names)
	}
	return n
}

// Of a merge that fails when most of it was staged, no file is left.
func TestStageRefused(t *testing.T) {
	fs := storefs.NewMem()
	s := openStore(t, stageOptions(t, fs))
	closing(t, s)
	stageFork(t, s)
	mergePut(t, s, "main", string(stagedKey(stagedKeys-1)), "ours")
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, visible := layerFiles(t, fs), s.Visible()
	errStop := errors.New("stop")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	theirs := timeline.MergeRules{Resolve: func(*timeline.MergeEntry) (timeline.Side, error) { return timeline.Theirs, nil }}
	for name, c := range map[string]struct {
		ctx  context.Context
		o    timeline.MergeOptions
		want error
	}{
		"conflict": {t.Context(), timeline.MergeOptions{}, timeline.ErrMergeConflict},
		"visitor": {t.Context(), timeline.MergeOptions{Rules: theirs, Visit: func(e *timeline.MergeEntry) (bool, error) {
			if string(e.Key) == string(stagedKey(stagedKeys-10)) {
				return false, errStop
			}
			return true, nil
		}}, errStop},
		"context": {ctx, timeline.MergeOptions{Rules: theirs, Visit: func(e *timeline.MergeEntry) (bool, error) {
			if string(e.Key) == string(stagedKey(stagedKeys/2)) {
				cancel()
			}
			return true, nil
		}}, context.Canceled},
	} {
		c.o.Source, c.o.Target = "dev", "main"
		if _, err := s.Merge(c.ctx, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if n := layerFiles(t, fs); n != files || s.Visible() != visible {
			t.Errorf("%s: %d files, before %d", name, n, files)
		}
	}
	s.SetAdmission(func(*timeline.Tx) (func(bool), error) { return nil, errStop })
	if _, err := s.Merge(t.Context(), timeline.MergeOptions{Source: "dev", Target: "main", Rules: theirs}); !errors.Is(err, errStop) {
		t.Errorf("not admitted: %v", err)
	}
	if n := layerFiles(t, fs); n != files || s.Visible() != visible {
		t.Errorf("not admitted: %d files, before %d", n, files)
	}
}

// Whoever admits commits sees every record of one that was staged, and reads what it replaces.
func TestStageAdmission(t *testing.T) {
	s := openStore(t, stageOptions(t, storefs.NewMem()))
	closing(t, s)
	stageFork(t, s)
	puts, deletes, replaced := 0, 0, 0
	var committed []bool
	s.SetAdmission(func(tx *timeline.Tx) (func(bool), error) {
		for w := range tx.Writes() {
			if w.Namespace != layers.NamespaceObjects {
				continue
			}
			if w.Kind == layers.KindTombstone {
				deletes++
			} else if puts++; string(w.Meta[:4]) != "new " {
				t.Errorf("%q: %q", w.Key, w.Meta)
			}
			if _, err := tx.Get(w.Namespace, w.Key); err == nil {
				replaced++
			}
		}
		return func(ok bool) { committed = append(committed, ok) }, nil
	})
	res, err := s.Merge(t.Context(), timeline.MergeOptions{Source: "dev", Target: "main"})
	if err != nil {
		t.Fatal(err)
	}
	if puts != stagedKeys*9/10 || int64(deletes) != res.Deleted || replaced != stagedKeys/2 || len(committed) != 1 || !committed[0] {
		t.Errorf("%d puts, %d deletes, %d replaced, told %v; merged %+v", puts, deletes, replaced, committed, res)
	}
}

// Rebases, picks and reverts are staged as merges are, and a revert brings back what was.
func TestOthersStaged(t *testing.T) {
	s := openStore(t, stageOptions(t, storefs.NewMem()))
	closing(t, s)
	stageFork(t, s)
	before := s.Visible()
	staged := func(what string, res timeline.MergeResult, err error) {
		t.Helper()
		if n := s.Metrics().AdoptedBytes; err != nil || !res.Committed || n == 0 {
			t.Fatalf("%s: %+v, %v; %d bytes staged", what, res, err, n)
		}
	}
	all := []layers.UserRange{{}}
	res, err := s.Pick(t.Context(), timeline.PickOptions{Source: "dev", Target: "main", Ranges: all})
	staged("pick", res, err)
	checkMerged(t, s, 0, res.LSN)
	res, err = s.Revert(t.Context(), timeline.RevertOptions{Target: "main", From: before})
	staged("revert", res, err)
	v, err := s.View(t.Context(), "main", 0)
	if err != nil {
		t.Fatal(err)
	}
	checkBefore(t, v)
	v.Close()
	res, err = s.Rebase(t.Context(), timeline.MergeOptions{Source: "main", Target: "dev", Rules: timeline.MergeRules{
		Resolve: func(*timeline.MergeEntry) (timeline.Side, error) { return timeline.Theirs, nil },
	}})
	staged("rebase", res, err)
}

// What a staged merge deleted does not come back: older values wait in memory while its layers
// would be merged to the bottom, where a tombstone that hides nothing goes.
func TestAdoptedAheadOfMemory(t *testing.T) {
	o := stageOptions(t, storefs.NewMem())
	o.L0Layers, o.MergeBytes, o.Window = 1, 64, -1
	var held atomic.Bool
	release := make(chan struct{})
	let := sync.OnceFunc(func() { held.Store(false); close(release) })
	o.At = func(step timeline.Step) {
		if step == timeline.StepFlushSynced && held.Load() {
			<-release
		}
	}
	s := openStore(t, o)
	closing(t, s)
	t.Cleanup(let)
	if _, err := s.CreateBucket(t.Context(), timeline.NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	held.Store(true)
	for i := range 20 {
		mergePut(t, s, "main", string(stagedKey(i)), "old")
	}
	if _, err := s.Fork(t.Context(), timeline.ForkOptions{Source: "main", Forks: timeline.Named("dev")}); err != nil {
		t.Fatal(err)
	}
	var b timeline.Batch
	for i := range 20 {
		b.Delete(layers.NamespaceObjects, stagedKey(i))
	}
	if _, err := s.Commit(t.Context(), "dev", &b); err != nil {
		t.Fatal(err)
	}
	if res, err := s.Merge(t.Context(), timeline.MergeOptions{Source: "dev", Target: "main"}); err != nil || res.Deleted != 20 {
		t.Fatalf("merge: %+v, %v", res, err)
	}
	if _, err := s.DeleteBucket(t.Context(), "dev", timeline.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	if l0 := s.Metrics().Levels[0].Layers; l0 == 0 {
		t.Fatal("adopted layers were merged before what is older than they")
	}
	let()
	for range 2 {
		if err := errors.Join(s.Flush(t.Context()), s.Compact(), s.Collect(t.Context(), gc.Idle)); err != nil {
			t.Fatal(err)
		}
	}
	if l0 := s.Metrics().Levels[0].Layers; l0 != 0 {
		t.Errorf("%d layers are left in level 0", l0)
	}
	v, err := s.View(t.Context(), "main", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for i := range 20 {
		if r, err := v.Get(layers.NamespaceObjects, stagedKey(i)); !errors.Is(err, timeline.ErrNotFound) {
			t.Fatalf("key %d is back: %q, %v", i, r.Meta, err)
		}
	}
}
