package layers

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"stemma/wal/storefs"
)

// storedValue is a value and what names it.
type storedValue struct {
	Handle
	value []byte
}

// pack packs n values, most small, into one segment of v.
func (v valuesTest) pack(rng *rand.Rand, n int) []storedValue {
	v.t.Helper()
	p, err := v.NewPacker("test")
	if err != nil {
		v.t.Fatal(err)
	}
	defer p.Close()
	var stored []storedValue
	for i := range n {
		size := rng.IntN(1 << (1 + rng.IntN(12)))
		if i == n/2 {
			size = 70_000 + rng.IntN(700_000) // a chunk table, more than one piece
		}
		value := randomBytes(rng, size)
		if i%3 == 0 {
			value = compressibleBytes(rng, size)
		}
		h, err := p.Add(value)
		if err != nil {
			v.t.Fatal(err)
		}
		stored = append(stored, storedValue{h, value})
	}
	if _, err := p.Finish(); err != nil {
		v.t.Fatal(err)
	}
	return stored
}

// streamed streams n values into one segment of v and seals it.
func (v valuesTest) streamed(rng *rand.Rand, n int) []storedValue {
	v.t.Helper()
	var stored []storedValue
	for range n {
		value := randomBytes(rng, 1+rng.IntN(1<<(4+rng.IntN(14))))
		stored = append(stored, storedValue{v.mustPut(rng, value)[0].Handle, value})
	}
	if err := v.SealIdle(0); err != nil {
		v.t.Fatal(err)
	}
	return stored
}

// some returns a random part of stored, in order.
func some(rng *rand.Rand, stored []storedValue, percent int) []storedValue {
	var live []storedValue
	for _, s := range stored {
		if rng.IntN(100) < percent {
			live = append(live, s)
		}
	}
	return live
}

// rewrite rewrites up to and including Finish.
func (v valuesTest) rewrite(num FileNum, live []storedValue) (*ValueRewriter, SegmentInfo, error) {
	w, err := v.BeginRewrite(num, "test")
	if err != nil {
		return nil, SegmentInfo{}, err
	}
	for i, s := range live {
		err := w.Add(s.Handle)
		if err == nil && i%5 == 0 {
			err = w.Add(s.Handle) // a second reference
		}
		if err != nil {
			return w, SegmentInfo{}, errors.Join(err, w.Abort())
		}
	}
	info, err := w.Finish()
	if err != nil {
		return w, info, errors.Join(err, w.Abort())
	}
	return w, info, nil
}

func (v valuesTest) mustRewrite(num FileNum, live []storedValue) SegmentInfo {
	v.t.Helper()
	w, info, err := v.rewrite(num, live)
	if err == nil {
		err = w.Publish()
	}
	if err != nil {
		v.t.Fatal(err)
	}
	return info
}

// readAll reads every value, some in all ways.
func (v valuesTest) readAll(rng *rand.Rand, live []storedValue) {
	v.t.Helper()
	for n, i := range rng.Perm(len(live)) {
		s := live[i]
		if n < 20 {
			v.check(rng, []Extent{{Handle: s.Handle, Len: s.Raw}}, s.value)
		} else if p, err := v.ReadAll(nil, Extent{Handle: s.Handle, Len: s.Raw}); err != nil || !bytes.Equal(p, s.value) {
			v.t.Fatalf("%d of %d bytes, %v", len(p), len(s.value), err)
		}
	}
}

// wantLost checks that what was not kept is told apart from what was.
func (v valuesTest) wantLost(stored, live []storedValue, file string) {
	v.t.Helper()
	kept := make(map[Handle]bool)
	for _, s := range live {
		kept[s.Handle] = true
	}
	for _, s := range stored {
		if kept[s.Handle] || s.Length == 0 {
			continue
		}
		_, err := v.ReadAll(nil, Extent{Handle: s.Handle, Len: s.Raw})
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), file+" at ") {
			v.t.Fatalf("read of a value that was not kept: %v, want ErrCorrupt with %s and offset", err, file)
		}
	}
}

// A segment is rewritten again and again, with fewer and fewer values: what is
// left reads the same, through readers of every age and after a restart.
func TestRewrite(t *testing.T) {
	for _, streamed := range []bool{false, true} {
		for round := range 3 {
			t.Run(fmt.Sprintf("streamed=%v/%d", streamed, round), func(t *testing.T) { testRewrite(t, streamed, round) })
		}
	}
}

func testRewrite(t *testing.T, streamed bool, round int) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{})
	stored := v.pack
	if streamed {
		stored = v.streamed
	}
	all := stored(rng, []int{3, 60, 400}[round])
	num := all[0].Segment
	live := all
	for generation := uint32(1); generation <= 4; generation++ {
		old, before := live, v.Segments()[0]
		live = some(rng, live, []int{100, 70, 20, 0}[generation-1])
		var ext []Extent
		var want []byte
		for _, s := range live {
			ext = append(ext, Extent{Handle: s.Handle, Len: s.Raw})
			want = append(want, s.value...)
		}
		r, err := v.NewReader(ext, 0, uint64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, min(len(want), 1000))
		if _, err := io.ReadFull(r, got); err != nil {
			t.Fatal(err)
		}
		w, info, err := v.rewrite(num, live)
		if err != nil {
			t.Fatal(err)
		}
		v.readAll(rng, old)
		seg := v.mu.segments[num]
		file, err := v.files.acquire(seg)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Publish(), w.Abort()); err != nil {
			t.Fatal(err)
		}
		if infos := v.Segments(); len(infos) != 1 || infos[0].Generation != generation || infos[0].Bytes != info.Bytes ||
			info.Generation != generation || infos[0].Allocated != info.Bytes || len(live) < len(old)/2 && infos[0].Bytes >= before.Bytes {
			t.Fatalf("segments %+v, Finish said %+v, before %+v", infos, info, before)
		}
		if names, _ := fs.List("values"); len(names) != 1 || names[0] != ValueFileName(num, generation) || len(v.Orphans()) != 0 {
			t.Fatalf("files %q, orphans %q", names, v.Orphans())
		}
		for _, s := range old { // who has the old file open has all that it had
			e := Extent{Handle: s.Handle, Len: s.Raw}
			src := extentSource{v: v.Values, e: &e, file: file}
			if s.Length == 0 {
				continue
			}
			if src.at, err = file.locate(&e); err != nil {
				t.Fatal(err)
			}
			if p, err := src.readAll(nil); err != nil || !bytes.Equal(p, s.value) {
				t.Fatalf("old file: %d bytes, %v", len(p), err)
			}
		}
		v.files.release(file)
		rest, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(append(got, rest...), want) {
			t.Fatalf("a reader across the rewrite: %d of %d bytes, %v", len(got)+len(rest), len(want), err)
		}
		v.readAll(rng, live)
		v.wantLost(all, live, ValueFileName(num, generation))
		for _, crashed := range []*storefs.MemFS{fs, fs.CrashClone(vfs.CrashCloneCfg{})} {
			after := openTestValues(t, crashed, ValuesOptions{Generations: map[FileNum]uint32{num: generation}})
			after.readAll(rng, live)
			after.wantLost(all, live, ValueFileName(num, generation))
			if s, err := after.Streamed(num); err != nil || s != streamed {
				t.Fatalf("streamed %v, %v", s, err)
			}
		}
	}
	if err := v.Remove(num); err != nil {
		t.Fatal(err)
	}
	if names, _ := fs.List("values"); len(names) != 0 || len(v.Segments()) != 0 {
		t.Fatalf("left %q", names)
	}
}

// What a rewriter refuses, and that an abort leaves nothing.
func TestRewriteRefuses(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{})
	open := v.mustPut(rng, []byte("open"))[0]
	if _, err := v.BeginRewrite(open.Segment, "test"); !errors.Is(err, ErrHeld) {
		t.Fatalf("rewrite of an open segment: %v", err)
	}
	if _, err := v.Punch(open.Segment, nil); !errors.Is(err, ErrHeld) {
		t.Fatalf("punch of an open segment: %v", err)
	}
	if _, err := v.BeginRewrite(99, "test"); !errors.Is(err, ErrNoSegment) {
		t.Fatalf("rewrite of no segment: %v", err)
	}
	all := v.pack(rng, 20)
	num := all[0].Segment
	begin := func() *ValueRewriter {
		t.Helper()
		w, err := v.BeginRewrite(num, "test")
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := begin()
	_, err1 := v.BeginRewrite(num, "test")
	_, err2 := v.Punch(num, nil)
	for _, err := range []error{err1, err2, v.Remove(num)} {
		if !errors.Is(err, ErrHeld) {
			t.Fatalf("while it is rewritten: %v", err)
		}
	}
	if err := w.Publish(); err == nil {
		t.Fatal("published what is not finished")
	}
	if err := w.Add(open.Handle); err == nil {
		t.Fatal("added a value of another segment")
	}
	if err := errors.Join(w.Add(all[15].Handle), w.Abort(), w.Abort()); err != nil {
		t.Fatal(err)
	}
	if w.Add(all[16].Handle) == nil || w.Publish() == nil {
		t.Fatal("an aborted rewriter goes on")
	}
	w = begin()
	big := all[10]
	if err := errors.Join(w.Add(all[9].Handle), w.Add(big.Handle)); err != nil {
		t.Fatal(err)
	}
	inner := big.Handle
	inner.Offset++
	if err := w.Add(inner); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a value within another: %v", err)
	}
	if err := w.Add(all[9].Handle); err == nil {
		t.Fatal("values in descending order")
	}
	w.Abort()
	for _, h := range []Handle{
		{Segment: num, Offset: 4096, Length: 1 << 40, Raw: 1 << 40},
		{Segment: num, Offset: 1 << 40, Length: 5, Raw: 5},
		{Segment: num, Offset: 5, Length: 5, Raw: 5},
		{Segment: num, Offset: all[5].Offset, Length: all[5].Length, Raw: all[5].Raw, CRC: all[5].CRC + 1},
	} {
		w := begin()
		if err := w.Add(h); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), ValueName(num)+" at ") {
			t.Fatalf("add of %+v: %v", h, err)
		}
		if _, err := w.Finish(); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("finish after a failure: %v", err)
		}
		if err := w.Abort(); err != nil {
			t.Fatal(err)
		}
	}
	// A rotten value is not carried on.
	flip(t, fs, v.path(num), big.Offset+uint64(len(big.value)/2))
	w = begin()
	if err := w.Add(big.Handle); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("add of a rotten value: %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if names, _ := fs.List("values"); len(names) != 2 || len(v.Orphans()) != 0 {
		t.Fatalf("files %q, orphans %q", names, v.Orphans())
	}
	if s := v.Segments(); s[0].Holds+s[1].Holds != 0 {
		t.Fatalf("segments %+v", s)
	}
}

// One flipped bit in table, index or footer is found.
func TestCorruptRemap(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{})
	all := v.pack(rng, 600)
	num := all[0].Segment
	info := v.mustRewrite(num, all)
	file, err := v.files.acquire(v.mu.segments[num])
	if err != nil {
		t.Fatal(err)
	}
	table := file.remap.tableOffset
	v.files.release(file)
	name := v.path(num)
	for range 120 {
		at := table + rng.Uint64N(uint64(info.Bytes)-table)
		flip(t, fs, name, at)
		after := openTestValues(t, fs, ValuesOptions{Generations: map[FileNum]uint32{num: 1}})
		bad := 0
		for _, s := range all {
			p, err := after.ReadAll(nil, Extent{Handle: s.Handle, Len: s.Raw})
			if err == nil && !bytes.Equal(p, s.value) {
				t.Fatalf("bit at %d flipped: other bytes were served", at)
			}
			if err != nil {
				if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "at ") {
					t.Fatalf("bit at %d flipped: %v", at, err)
				}
				bad++
			}
		}
		if bad == 0 {
			t.Fatalf("bit at %d flipped: nobody noticed", at)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
		flip(t, fs, name, at)
	}
	for _, size := range []int64{0, 10, valueHeaderBytes, int64(table), info.Bytes - 1} {
		if err := fs.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
		after := openTestValues(t, fs, ValuesOptions{Generations: map[FileNum]uint32{num: 1}})
		if _, err := after.ReadAll(nil, Extent{Handle: all[1].Handle, Len: 1}); !errors.Is(err, ErrCorrupt) && all[1].Raw > 0 {
			t.Fatalf("file of %d bytes: %v", size, err)
		}
	}
}

// A crash before any call of a rewrite leaves all values readable under the
// generation that the catalog has, and every other file as an orphan.
func TestRewriteCrash(t *testing.T) {
	rng := testRNG(t)
	mem := storefs.NewMem()
	type crash struct {
		fs         *storefs.MemFS
		generation uint32
		what       string
	}
	var crashes []crash
	var on bool
	var row, before uint32
	snap := func(what string) {
		crashes = append(crashes,
			crash{mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rng}), row, what},
			crash{mem.CrashClone(vfs.CrashCloneCfg{}), row, what},
			crash{mem.TornClone(rng), row, what + ", torn"})
	}
	v := openTestValues(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on && op.Kind != errorfs.OpFileReadAt && op.Kind != errorfs.OpFileStat {
			snap(fmt.Sprintf("row %d, before call %d of %s", row, op.Kind, op.Path))
		}
		return nil
	})), ValuesOptions{})
	all := v.pack(rng, 300)
	num := all[0].Segment
	live := all
	for range 2 {
		live = some(rng, live, 60)
		before = row
		on = true
		w, info, err := v.rewrite(num, live)
		if err != nil {
			t.Fatal(err)
		}
		snap("finished, no row")
		row = info.Generation
		snap("row, not published")
		if err := w.Publish(); err != nil {
			t.Fatal(err)
		}
		snap("published")
		on = false
	}
	if len(crashes) < 30 || before != 1 || row != 2 {
		t.Fatalf("%d crashes, row %d", len(crashes), row)
	}
	withOrphans := 0
	for _, c := range crashes {
		checkCrashed(t, rng, c.fs, num, c.generation, live, c.what)
		if names, _ := c.fs.List("values"); len(names) > 1 {
			withOrphans++
		}
	}
	if withOrphans < 5 {
		t.Fatalf("only %d crashes left an orphan", withOrphans)
	}
}

// checkCrashed opens what a crash left: live reads, orphans are told and go, and
// the segment can be rewritten again.
func checkCrashed(t *testing.T, rng *rand.Rand, fs *storefs.MemFS, num FileNum, generation uint32, live []storedValue, what string) {
	t.Helper()
	fs = fs.CrashClone(vfs.CrashCloneCfg{}) // TestRewriteCrash looks at the original
	v := openTestValues(t, fs, ValuesOptions{Generations: map[FileNum]uint32{num: generation}})
	defer v.Close()
	want, _ := fs.List("values")
	want = slices.DeleteFunc(want, func(name string) bool { return name == ValueFileName(num, generation) })
	slices.Sort(want)
	if infos := v.Segments(); len(infos) != 1 || infos[0].Generation != generation || !slices.Equal(v.Orphans(), want) || v.LastNum() != num {
		t.Fatalf("%s: segments %+v, orphans %q, want %q", what, infos, v.Orphans(), want)
	}
	for _, s := range live {
		p, err := v.ReadAll(nil, Extent{Handle: s.Handle, Len: s.Raw})
		if err != nil || !bytes.Equal(p, s.value) {
			t.Fatalf("%s: %d bytes, %v", what, len(p), err)
		}
	}
	again, _, err := v.rewrite(num, live) // beside the orphans
	if err == nil {
		err = again.Publish()
	}
	if err != nil {
		t.Fatalf("%s: rewrite again: %v", what, err)
	}
	for _, name := range v.Orphans() {
		if err := v.RemoveOrphan(name); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := fs.List("values"); len(names) != 1 || len(v.Orphans()) != 0 || v.RemoveOrphan(names[0]) == nil {
		t.Fatalf("%s: left %q", what, names)
	}
	v.readAll(rng, live[:min(len(live), 10)])
}

// Whatever call of a rewrite fails, all values stay, every file is known, and a
// second try succeeds.
func TestRewriteFaults(t *testing.T) {
	kinds := []error{errorfs.ErrInjected, syscall.ENOSPC, syscall.EIO}
	for k := int32(0); ; k++ {
		rng := rand.New(rand.NewPCG(uint64(k), 11))
		mem := storefs.NewMem()
		fault := kinds[int(k)%len(kinds)]
		var calls atomic.Int32
		var on, hit atomic.Bool
		inj := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if !on.Load() || calls.Add(1)-1 != k {
				return nil
			}
			hit.Store(true)
			return fault
		})
		v := openTestValues(t, errorfs.Wrap(mem, inj), ValuesOptions{Logger: discardLogger()})
		all := v.pack(rng, 12)
		num, live := all[0].Segment, some(rng, all, 60)
		v.files.evict(num) // opening it is among what fails
		row := uint32(0)
		on.Store(true)
		w, info, err := v.rewrite(num, live)
		if err == nil {
			row = info.Generation
			err = w.Publish()
		}
		on.Store(false)
		if hit.Load() && err != nil && !errors.Is(err, fault) || !hit.Load() && err != nil {
			t.Fatalf("k=%d: %v", k, err)
		}
		checkFaulted(t, rng, v, mem, num, row, live, k)
		if !hit.Load() {
			if k < 15 {
				t.Fatalf("only %d calls", k)
			}
			return
		}
	}
}

// checkFaulted checks the state after a fault, and that all goes well then.
func checkFaulted(t *testing.T, rng *rand.Rand, v valuesTest, mem *storefs.MemFS, num FileNum, row uint32, live []storedValue, k int32) {
	t.Helper()
	v.readAll(rng, live)
	checkCrashed(t, rng, mem.CrashClone(vfs.CrashCloneCfg{}), num, row, live, fmt.Sprintf("k=%d", k))
	known := append(v.Orphans(), ValueFileName(num, row))
	names, _ := mem.List("values")
	for _, name := range names {
		if !slices.Contains(known, name) {
			t.Fatalf("k=%d: nobody knows of %s", k, name)
		}
	}
	if s := v.Segments(); len(s) != 1 || s[0].Holds != 0 || s[0].Generation != row {
		t.Fatalf("k=%d: segments %+v, row %d", k, s, row)
	}
	info := v.mustRewrite(num, live)
	for _, name := range v.Orphans() {
		if err := v.RemoveOrphan(name); err != nil {
			t.Fatal(err)
		}
	}
	v.readAll(rng, live)
	if names, _ := mem.List("values"); len(names) != 1 || names[0] != ValueFileName(num, info.Generation) {
		t.Fatalf("k=%d: files %q", k, names)
	}
}

// Readers read on while the segment is rewritten under them; run it with -race.
func TestRewriteUnderReaders(t *testing.T) {
	rng := testRNG(t)
	fs := &countFS{FS: storefs.NewMem()}
	v := openTestValues(t, fs, ValuesOptions{MaxOpenFiles: 2})
	all := v.pack(rng, 400)
	live := some(rng, all, 50)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for g := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 9))
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := live[rng.IntN(len(live))]
				if p, err := v.ReadAll(nil, Extent{Handle: s.Handle, Len: s.Raw}); err != nil || !bytes.Equal(p, s.value) {
					t.Errorf("%d bytes, %v", len(p), err)
					return
				}
			}
		})
	}
	for range 20 {
		v.mustRewrite(all[0].Segment, live)
	}
	close(stop)
	readers.Wait()
	if n := fs.open.Load(); n > 2 {
		t.Fatalf("%d files kept open", n)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if n := fs.open.Load(); n != 0 {
		t.Fatalf("%d files left open", n)
	}
}

// Of the files of a number the catalog's generation counts.
func TestGenerations(t *testing.T) {
	fs := storefs.NewMem()
	if err := fs.MkdirAll("values", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ValueFileName(1, 0), ValueFileName(1, 2), ValueFileName(2, 1), ValueFileName(3, 0), ValueFileName(9, math.MaxUint32)} {
		f, err := fs.Create("values/"+name, "test")
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	v := openTestValues(t, fs, ValuesOptions{Generations: map[FileNum]uint32{1: 2, 3: 1, 4: 7}})
	if s := v.Segments(); len(s) != 1 || s[0].Num != 1 || s[0].Generation != 2 {
		t.Errorf("segments %+v", s)
	}
	want := []string{ValueFileName(1, 0), ValueFileName(2, 1), ValueFileName(3, 0), ValueFileName(9, math.MaxUint32)}
	if got := v.Orphans(); !slices.Equal(got, want) {
		t.Errorf("orphans %q, want %q", got, want)
	}
	if _, err := v.Hold([]FileNum{3}); !errors.Is(err, ErrNoSegment) || v.LastNum() != 9 {
		t.Errorf("segment of a lost generation: %v; last number %d", err, v.LastNum())
	}
}

func FuzzValueName(f *testing.F) {
	f.Add(ValueFileName(1, 0))
	f.Add(ValueFileName(math.MaxUint64, math.MaxUint32))
	f.Add("0000000000000001-00000000.val")
	f.Add("0000000000000001-0000000A.val")
	f.Add("0000000000000001-000000001.val")
	f.Add("0000000000000001-00000001")
	f.Fuzz(func(t *testing.T, name string) {
		if num, generation, ok := parseValueName(name); ok && ValueFileName(num, generation) != name {
			t.Fatalf("%q parses as %d, %d", name, num, generation)
		}
	})
}

// The bytes of a rewritten file of format version 2, for ever.
func TestRewriteGolden(t *testing.T) {
	mem := storefs.NewMem()
	v := openTestValues(t, mem, ValuesOptions{Now: func() time.Time { return time.Unix(0, 0x0102030405060708) }})
	p, _ := v.NewPacker("test")
	defer p.Close()
	var stored []storedValue
	for _, s := range []string{"one", "two", "three"} {
		h, err := p.Add([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, storedValue{h, []byte(s)})
	}
	if _, err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	v.mustRewrite(1, stored[1:])
	data, err := mem.UnsafeGetFileDataBuffer("values/0000000000000001-00000001.val")
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != 3*4096+8+64 {
		t.Fatalf("file of %d bytes", len(data))
	}
	for _, g := range []struct {
		what     string
		from, to int
		want     string
	}{
		{"header", 0, 40, "5354454d4d415653" + "02000000" + "01000000" + "0100000000000000" + "0807060504030201" + "0200000000000000"},
		{"values", 4096, 4106, "74776f" + "7468726565" + "0000"},
		{"page", 8192, 8192 + 40, "0310000000000000" + "0010000000000000" + "0610000000000000" + "0310000000000000" + "0000000000000000"},
		{"end of page", 12288 - 12, 12288, "0000000000000000" + "3cfaa9b3"},
		{"index", 12288, 12296, "0310000000000000"},
		{"footer", 12296, 12360, "0020000000000000" + "0200000000000000" + "0b10000000000000" + "0100000000000000" + "01000000" + "45cf37cb" + "02000000" +
			"0000000000000000" + "7dea93f1" + "5354454d4d415652"},
	} {
		if got := hex.EncodeToString(data[g.from:g.to]); got != g.want {
			t.Errorf("%s:\n%s, want\n%s", g.what, got, g.want)
		}
	}
}

// A table of more pages than an open file keeps.
func TestRewriteManyPages(t *testing.T) {
	rng := testRNG(t)
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{})
	p, err := v.NewPacker("test")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var all []storedValue
	for range 2*remapCachedPages*remapPageEntries + 3 {
		value := randomBytes(rng, 8)
		h, err := p.Add(value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, storedValue{h, value})
	}
	if _, err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	v.mustRewrite(all[0].Segment, all[1:])
	v.readAll(rng, all[1:])
}

// A fresh file begins without holes, and can be punched like the first.
func TestRewriteOfPunched(t *testing.T) {
	rng := testRNG(t)
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{})
	all := v.streamed(rng, 100)
	num, live := all[0].Segment, append(slices.Clone(all[:1]), all[50:]...)
	if freed, err := v.Punch(num, ranges(live)); err != nil || freed == 0 {
		t.Fatalf("freed %d, %v", freed, err)
	}
	v.mustRewrite(num, live)
	if info := v.Segments()[0]; info.Allocated != info.Bytes {
		t.Fatalf("a fresh file: %+v", info)
	}
	least := v.Segments()[0].Bytes - int64(live[0].Length) - minPunchBytes // blocks that were holes in the first file included
	if freed, err := v.Punch(num, ranges(live[:1])); err != nil || freed < least || v.Segments()[0].Allocated != v.Segments()[0].Bytes-freed {
		t.Fatalf("punch of a rewritten file: freed %d, %v, %+v", freed, err, v.Segments()[0])
	}
	v.readAll(rng, live[:1])
}

// A reader that comes to open the old file too late takes the new one.
func TestPublishWhileOpening(t *testing.T) {
	rng := testRNG(t)
	var w *ValueRewriter
	armed := false
	v := openTestValues(t, errorfs.Wrap(storefs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed && op.Kind == errorfs.OpOpen {
			armed = false
			return w.Publish()
		}
		return nil
	})), ValuesOptions{})
	all := v.pack(rng, 10)
	var err error
	if w, _, err = v.rewrite(all[0].Segment, all); err != nil {
		t.Fatal(err)
	}
	v.files.evict(all[0].Segment)
	armed = true
	v.readAll(rng, all)
	if armed || v.Segments()[0].Generation != 1 {
		t.Fatal("not published while a file was opened")
	}
}
