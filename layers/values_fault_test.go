package layers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"stemma/wal/storefs"
)

// What a packer leaves behind when it is given up: nothing.
func TestPackerAbandoned(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{PackedSegmentBytes: 10_000})
	p, _ := v.NewPacker("test")
	for range 10 {
		if _, err := p.Add(randomBytes(rng, 5000)); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.Segments()) < 3 {
		t.Fatalf("segments %+v", v.Segments())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := fs.List("values")
	if len(v.Segments()) != 0 || len(names) != 0 {
		t.Fatalf("left: %+v, files %q", v.Segments(), names)
	}
}

// An upload that dies leaves dead space; the next one takes the same segment
// from the next boundary on.
func TestAbortAndReuse(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{})
	first := randomBytes(rng, 70_001)
	ext1 := v.mustPut(rng, first)
	w, _ := v.NewWriter(context.Background())
	if _, err := w.Write(randomBytes(rng, 2<<20+5)); err != nil {
		t.Fatal(err)
	}
	if s := v.Segments(); len(s) != 1 || s[0].Holds != 1 {
		t.Fatalf("segments while writing: %+v", s)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err == nil {
		t.Fatal("Finish after Close succeeded")
	}
	second := randomBytes(rng, 100)
	ext2 := v.mustPut(rng, second)
	if ext2[0].Segment != ext1[0].Segment {
		t.Fatalf("the next value went to segment %d, not %d", ext2[0].Segment, ext1[0].Segment)
	}
	if min := ext1[0].Offset + ext1[0].Length + 2<<20; ext2[0].Offset < min || ext2[0].Offset%valueAlign != 0 {
		t.Fatalf("the next value is at %d", ext2[0].Offset)
	}
	for _, fs := range []vfs.FS{fs, fs.CrashClone(vfs.CrashCloneCfg{})} {
		after := openTestValues(t, fs, ValuesOptions{})
		after.check(rng, ext1, first)
		after.check(rng, ext2, second)
	}
}

// Finished means durable; at any moment a crash leaves all that was finished.
func TestCrashKeepsFinished(t *testing.T) {
	rng := testRNG(t)
	for round := range 12 {
		fs := storefs.NewMem()
		v := openTestValues(t, fs, ValuesOptions{SegmentBytes: 1 << 17, PackedSegmentBytes: 1 << 15})
		type kept struct {
			ext   []Extent
			value []byte
		}
		var all []kept
		for range 1 + rng.IntN(12) {
			value := randomBytes(rng, 1+rng.IntN(200_000))
			switch rng.IntN(4) {
			case 0: // given up
				w, _ := v.NewWriter(context.Background())
				w.Write(value)
				w.Close()
			case 1:
				p, _ := v.NewPacker("test")
				var ext []Extent
				for rest := value; len(rest) > 0; {
					n := min(1+rng.IntN(40_000), len(rest))
					h, err := p.Add(rest[:n])
					if err != nil {
						t.Fatal(err)
					}
					ext = append(ext, Extent{Handle: h, Len: h.Raw})
					rest = rest[n:]
				}
				if _, err := p.Finish(); err != nil {
					t.Fatal(err)
				}
				p.Close()
				all = append(all, kept{ext, value})
			default:
				all = append(all, kept{v.mustPut(rng, value), value})
			}
		}
		w, _ := v.NewWriter(context.Background()) // in flight
		w.Write(randomBytes(rng, 1<<19))
		after := openTestValues(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 30 * (round % 3), RNG: rng}), ValuesOptions{})
		w.Close()
		for _, k := range all {
			after.check(rng, k.ext, k.value)
		}
		for _, s := range after.Segments() {
			if !s.Sealed {
				t.Fatalf("segment %+v is open after a restart", s)
			}
		}
		// New segments do not touch those that were found.
		ext := after.mustPut(rng, []byte("new"))
		for _, k := range all {
			if k.ext[0].Segment == ext[0].Segment {
				t.Fatal("a segment of the last run was written to")
			}
		}
	}
}

// Whatever call fails, every Finish that succeeded holds, in this process and
// after a crash; and the store works on when the fault has gone.
func TestFaults(t *testing.T) {
	kinds := []error{errorfs.ErrInjected, syscall.ENOSPC, syscall.EIO}
	for k := int32(0); ; k++ {
		rng := rand.New(rand.NewPCG(uint64(k), 7))
		mem := storefs.NewMem()
		if err := mem.MkdirAll("values", 0o755); err != nil {
			t.Fatal(err)
		}
		storefs.SyncDir(mem, "/")
		fault := kinds[int(k)%len(kinds)]
		var calls atomic.Int32
		var hit, off atomic.Bool
		inj := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if off.Load() || calls.Add(1)-1 != k {
				return nil
			}
			hit.Store(true)
			return fault
		})
		v, err := tryOpenTestValues(t, errorfs.Wrap(mem, inj), ValuesOptions{SegmentBytes: 1 << 17, PackedSegmentBytes: 1 << 15})
		if err != nil {
			if !errors.Is(err, fault) {
				t.Fatalf("k=%d: open: %v", k, err)
			}
			continue
		}
		stored := make(map[string][]Extent)
		failed := runFaultScript(t, v, rng, stored, fault)
		off.Store(true)
		if !failed && hit.Load() {
			t.Errorf("k=%d: an injected fault was told to nobody", k)
		}
		clone := mem.CrashClone(vfs.CrashCloneCfg{})
		after := openTestValues(t, clone, ValuesOptions{})
		for value, ext := range stored {
			v.check(rng, ext, []byte(value))
			after.check(rng, ext, []byte(value))
		}
		v.check(rng, v.mustPut(rng, []byte("still works")), []byte("still works"))
		if err := v.Close(); err != nil {
			t.Fatalf("k=%d: close: %v", k, err)
		}
		if !hit.Load() {
			if k < 40 {
				t.Fatalf("only %d calls", k)
			}
			return
		}
	}
}

// runFaultScript works on v and remembers what was stored; it reports whether
// anything failed, and checks that failures carry the fault.
func runFaultScript(t *testing.T, v valuesTest, rng *rand.Rand, stored map[string][]Extent, fault error) (failed bool) {
	note := func(err error) bool {
		if err == nil {
			return true
		}
		if !errors.Is(err, fault) {
			t.Fatalf("error %v does not wrap the fault %v", err, fault)
		}
		failed = true
		return false
	}
	for i := range 4 {
		value := randomBytes(rng, 1+rng.IntN(90_000))
		ext, err := v.put(rng, value)
		if note(err) {
			stored[string(value)] = ext
			note(readBack(v, ext, value))
		}
		if i%2 == 0 {
			continue
		}
		p, err := v.NewPacker("test")
		if err != nil {
			t.Fatal(err)
		}
		small := randomBytes(rng, 20_000)
		var ext2 []Extent
		for range 3 {
			h, err := p.Add(small)
			if note(err) {
				ext2 = append(ext2, Extent{Handle: h, Len: h.Raw})
			}
		}
		if infos, err := p.Finish(); note(err) {
			stored[string(small)] = ext2[:1]
			if len(infos) == 2 && ext2[2].Segment == infos[1].Num {
				note(p.Close())
				note(v.Remove(infos[1].Num))
			}
		}
		note(p.Close())
	}
	// Streams across segments; the table of a large value.
	value := randomBytes(rng, 300_000)
	ext, err := v.put(rng, value)
	if note(err) {
		stored[string(value)] = ext
	}
	return failed
}

func readBack(v valuesTest, ext []Extent, value []byte) error {
	got, err := v.read(rand.New(rand.NewPCG(1, 1)), ext, 0, uint64(len(value)))
	if err == nil && !bytes.Equal(got, value) {
		return errors.New("other bytes")
	}
	return err
}

// After a failed write or sync a segment is never written to again.
func TestFailedSegmentIsSealed(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWriteAt, errorfs.OpFileSyncData, errorfs.OpFileSyncTo} {
		rng := testRNG(t)
		var on atomic.Bool
		inj := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if on.Load() && op.Kind == kind {
				return syscall.ENOSPC
			}
			return nil
		})
		v := openTestValues(t, errorfs.Wrap(storefs.NewMem(), inj), ValuesOptions{})
		good := randomBytes(rng, 50_000)
		ext := v.mustPut(rng, good)
		on.Store(true)
		_, err := v.put(rng, randomBytes(rng, writeBackBytes+maxBufferBytes))
		on.Store(false)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("kind %d: %v", kind, err)
		}
		if s := v.Segments(); len(s) != 1 || !s[0].Sealed || s[0].Holds != 0 {
			t.Fatalf("kind %d: after the failure: %+v", kind, s)
		}
		if next := v.mustPut(rng, good); next[0].Segment == ext[0].Segment {
			t.Fatalf("kind %d: the failed segment was written to again", kind)
		}
		v.check(rng, ext, good)
	}
}

func TestWriterPool(t *testing.T) {
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{MaxWriters: 2})
	a, err := v.NewWriter(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := v.NewWriter(context.Background())
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("client left")
	cancel(cause)
	if _, err := v.NewWriter(ctx); !errors.Is(err, ErrTooManyWriters) || !errors.Is(err, cause) {
		t.Fatalf("third writer: %v", err)
	}
	got := make(chan error)
	go func() {
		w, err := v.NewWriter(context.Background())
		if err == nil {
			err = w.Close()
		}
		got <- err
	}()
	if _, err := a.Finish(); err != nil { // not closed: holds do not take a slot
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	go func() {
		c, _ := v.NewWriter(context.Background())
		_ = c
		_, err := v.NewWriter(context.Background())
		got <- err
	}()
	for len(v.slots) < 2 {
		time.Sleep(time.Millisecond)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Fatalf("writer that waited across Close: %v", err)
	}
	if _, err := b.Write(make([]byte, 2<<20)); !errors.Is(err, ErrClosed) {
		t.Fatalf("write after Close: %v", err)
	}
	a.Close()
	b.Close()
	_, err1 := v.NewWriter(context.Background())
	_, err2 := v.NewPacker("test")
	_, err3 := v.Hold([]FileNum{1})
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestHoldAndRemove(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{SegmentBytes: 1 << 16})
	value := randomBytes(rng, 200_000)
	w, _ := v.NewWriter(context.Background())
	w.Write(value)
	ext, err := w.Finish()
	if err != nil || len(ext) < 3 {
		t.Fatalf("%d extents, %v", len(ext), err)
	}
	num := ext[0].Segment
	if err := v.Remove(num); !errors.Is(err, ErrHeld) {
		t.Fatalf("remove of what a finished writer holds: %v", err)
	}
	w.Close()
	r, err := v.NewReader(ext, 0, uint64(len(value)))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Remove(num); !errors.Is(err, ErrHeld) {
		t.Fatalf("remove under a reader: %v", err)
	}
	r.Close()
	r.Close()
	release, err := v.Hold([]FileNum{num, ext[1].Segment, num})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Remove(num); !errors.Is(err, ErrHeld) {
		t.Fatalf("remove under a hold: %v", err)
	}
	release()
	release()
	if err := v.Remove(num); err != nil {
		t.Fatal(err)
	}
	if err := v.Remove(num); !errors.Is(err, ErrNoSegment) {
		t.Fatalf("second remove: %v", err)
	}
	for _, s := range v.Segments() {
		if s.Num == num || s.Holds != 0 {
			t.Fatalf("left: %+v", s)
		}
	}
	if _, err := v.NewReader(ext, 0, 10); !errors.Is(err, ErrNoSegment) || !errors.Is(err, ErrCorrupt) {
		t.Fatalf("reader of a removed segment: %v", err)
	}
	if _, err := v.Hold([]FileNum{ext[1].Segment, num}); !errors.Is(err, ErrNoSegment) {
		t.Fatalf("hold of a removed segment: %v", err)
	}
	after := openTestValues(t, fs.CrashClone(vfs.CrashCloneCfg{}), ValuesOptions{})
	if _, err := after.ReadAll(nil, ext[0]); !errors.Is(err, ErrNoSegment) {
		t.Fatalf("after a crash the removed segment: %v", err)
	}
	if _, err := after.ReadAll(nil, ext[1]); err != nil {
		t.Fatal(err)
	}
}

func TestSealIdle(t *testing.T) {
	rng := testRNG(t)
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{})
	var writers []*ValueWriter
	for range 4 {
		w, _ := v.NewWriter(context.Background())
		w.Write(randomBytes(rng, maxBufferBytes))
		writers = append(writers, w)
	}
	for _, w := range writers {
		if _, err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	num := writers[0].ext[0].Segment
	if err := v.Remove(num); !errors.Is(err, ErrHeld) {
		t.Fatalf("remove of an open segment: %v", err)
	}
	if err := v.SealIdle(1); err != nil {
		t.Fatal(err)
	}
	open := 0
	for _, s := range v.Segments() {
		if !s.Sealed {
			open++
		}
	}
	if open != 1 {
		t.Fatalf("%d segments open, want 1", open)
	}
	if err := v.Remove(num); err != nil {
		t.Fatal(err)
	}
	if ext := v.mustPut(rng, []byte("x")); ext[0].Segment != writers[3].ext[0].Segment {
		t.Fatalf("the open segment is not used")
	}
}

// Writers, readers, holders and removers at once; run it with -race.
func TestConcurrentUse(t *testing.T) {
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{SegmentBytes: 1 << 18, MaxWriters: 4, MaxOpenFiles: 3})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 3))
			for range 15 {
				value := randomBytes(rng, 1+rng.IntN(300_000))
				w, err := v.NewWriter(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				w.Write(value)
				if rng.IntN(4) == 0 {
					w.Close()
					continue
				}
				ext, err := w.Finish()
				if err != nil {
					t.Error(err)
					return
				}
				// The writer's holds keep them; so do the reader's, after Close.
				r, err := v.NewReader(ext, 0, uint64(len(value)))
				w.Close()
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(r)
				r.Close()
				if err != nil || !bytes.Equal(got, value) {
					t.Errorf("%d of %d bytes, %v", len(got), len(value), err)
				}
			}
		})
	}
	stop := make(chan struct{})
	var removed atomic.Int64
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := v.SealIdle(1); err != nil {
				t.Error(err)
			}
			for _, s := range v.Segments() {
				if err := v.Remove(s.Num); err == nil {
					removed.Add(1)
				} else if !errors.Is(err, ErrHeld) {
					t.Error(err)
				}
			}
		}
	})
	wg.Wait()
	close(stop)
	sweeper.Wait()
	if removed.Load() == 0 {
		t.Fatal("nothing was removed")
	}
}

// countFS counts the files open for reading.
type countFS struct {
	vfs.FS
	open, peak atomic.Int64
}

type countFile struct {
	vfs.File
	fs *countFS
}

func (c *countFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := c.FS.Open(name, o...)
	if err != nil {
		return nil, err
	}
	n := c.open.Add(1)
	for p := c.peak.Load(); n > p && !c.peak.CompareAndSwap(p, n); p = c.peak.Load() {
	}
	return countFile{f, c}, nil
}

func (f countFile) Close() error {
	f.fs.open.Add(-1)
	return f.File.Close()
}

func TestOpenFilesAreBounded(t *testing.T) {
	rng := testRNG(t)
	fs := &countFS{FS: storefs.NewMem()}
	v := openTestValues(t, fs, ValuesOptions{SegmentBytes: 4096, MaxOpenFiles: 8})
	value := randomBytes(rng, 100*4096)
	ext := v.mustPut(rng, value)
	if len(ext) != 100 {
		t.Fatalf("%d extents", len(ext))
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() { v.check(rand.New(rand.NewPCG(uint64(g), 5)), ext, value) })
	}
	wg.Wait()
	if peak := fs.peak.Load(); peak > 8+4*2 {
		t.Fatalf("%d files open at once", peak)
	}
	if n := fs.open.Load(); n != 8 {
		t.Fatalf("%d files kept open, want 8", n)
	}
	r, err := v.NewReader(ext, 0, uint64(len(value)))
	if err != nil {
		t.Fatal(err)
	}
	v.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, value) {
		t.Fatalf("a reader across Close: %d bytes, %v", len(got), err)
	}
	r.Close()
	if n := fs.open.Load(); n != 0 {
		t.Fatalf("%d files left open", n)
	}
}
