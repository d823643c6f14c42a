package layers

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal/storefs"
)

// punchFS counts punches, and fails the one before which left is 0.
type punchFS struct {
	vfs.FS
	left    int
	punched []ValueRange
}

func (p *punchFS) Unwrap() vfs.FS { return p.FS }

func (p *punchFS) PunchHole(name string, off, n int64) error {
	if p.left == 0 {
		return syscall.EIO
	}
	p.left--
	p.punched = append(p.punched, ValueRange{uint64(off), uint64(n)})
	return storefs.PunchHole(p.FS, name, off, n)
}

func ranges(live []storedValue) []ValueRange {
	var all []ValueRange
	for _, s := range live {
		all = append(all, s.Range())
		if s.Offset%3 == 0 {
			all = append(all, s.Range()) // a second reference
		}
	}
	return all
}

// wantPunched returns what data must be after a punch that keeps live, ranges of
// the file, and the bytes that it gives back.
func wantPunched(data []byte, live []ValueRange, end int) (want []byte, dead int64) {
	keep := make([]bool, len(data)/punchBlockBytes+1)
	keep[0] = true
	for _, r := range live {
		for i := r.Offset; i < r.end(); i++ {
			keep[i/punchBlockBytes] = true
		}
	}
	want = bytes.Clone(data)
	for i := 0; i < end/punchBlockBytes; i++ {
		j := i
		for j < end/punchBlockBytes && !keep[j] {
			j++
		}
		if (j-i)*punchBlockBytes >= minPunchBytes {
			clear(want[i*punchBlockBytes : j*punchBlockBytes])
			dead += int64(j-i) * punchBlockBytes
		}
		i = max(i, j-1)
	}
	return want, dead
}

// Live sets shrink; after each punch exactly the long dead runs are zeros, and
// nothing is punched twice.
func TestPunch(t *testing.T) {
	var sum int64
	for _, streamed := range []bool{true, false} {
		for round := range 2 {
			rng := testRNG(t)
			mem := storefs.NewMem()
			fs := &punchFS{FS: mem, left: -1}
			v := openTestValues(t, fs, ValuesOptions{})
			all := v.pack
			if streamed {
				all = v.streamed
			}
			live := all(rng, 250)
			num := live[0].Segment
			if round%2 == 1 { // one that was rewritten
				live = some(rng, live, 90)
				v.mustRewrite(num, live)
			}
			var total int64
			for _, percent := range []int{100, 60, 40, 40, 0} {
				live = some(rng, live, percent)
				file, err := v.files.acquire(v.mu.segments[num])
				if err != nil {
					t.Fatal(err)
				}
				at := ranges(live)
				end := v.Segments()[0].Bytes
				if file.remap != nil {
					end = int64(file.remap.tableOffset)
					for i, r := range at {
						if r.Length > 0 {
							if at[i].Offset, err = file.remap.locate(file.file, r); err != nil {
								t.Fatal(err)
							}
						} else {
							at[i].Offset = 0
						}
					}
				}
				v.files.release(file)
				data, _ := mem.UnsafeGetFileDataBuffer(v.path(num))
				want, dead := wantPunched(data, at, int(end))
				fs.punched = nil
				freed, err := v.Punch(num, ranges(live))
				if err != nil || freed != dead-total {
					t.Fatalf("freed %d, %v; want %d", freed, err, dead-total)
				}
				total = dead
				if data, _ = mem.UnsafeGetFileDataBuffer(v.path(num)); !bytes.Equal(data, want) {
					t.Fatal("other bytes than dead ones were punched")
				}
				var punched int64
				for _, r := range fs.punched {
					punched += int64(r.Length)
				}
				if info := v.Segments()[0]; punched != freed || info.Allocated != info.Bytes-total || info.Bytes != int64(len(data)) || info.Holds != 0 {
					t.Fatalf("punched %d, freed %d, %+v", punched, freed, info)
				}
				v.readAll(rng, live)
				fs.punched = nil
				if freed, err := v.Punch(num, ranges(live)); err != nil || freed != 0 || len(fs.punched) != 0 {
					t.Fatalf("second punch: %d, %v, %v", freed, err, fs.punched)
				}
			}
			sum += total
			// A new start does not know; it punches once more.
			info := v.Segments()[0]
			after := openTestValues(t, fs, ValuesOptions{Generations: map[FileNum]uint32{num: info.Generation}})
			for _, want := range []int64{total, 0} {
				if freed, err := after.Punch(num, nil); err != nil || freed != want {
					t.Fatalf("after a restart: %d, %v, want %d", freed, err, want)
				}
			}
		}
	}
	if sum < 1_000_000 { // the streamed segments alone have 2 MB each
		t.Fatalf("only %d bytes were punched", sum)
	}
}

// A punch that fails or crashes half way harms nothing and can be made again.
func TestPunchFaults(t *testing.T) {
	for k := 0; ; k++ {
		rng := rand.New(rand.NewPCG(uint64(k), 5))
		mem := storefs.NewMem()
		fs := &punchFS{FS: mem, left: k}
		v := openTestValues(t, fs, ValuesOptions{})
		all := v.streamed(rng, 100)
		num, live := all[0].Segment, some(rng, all, 20)
		freed, err := v.Punch(num, ranges(live))
		if err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		if info := v.Segments()[0]; info.Bytes-info.Allocated != freed || info.Holds != 0 {
			t.Fatalf("freed %d, %+v", freed, info)
		}
		v.readAll(rng, live)
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
		after := openTestValues(t, crashed, ValuesOptions{})
		after.readAll(rng, live)
		before := len(fs.punched)
		fs.left = -1
		more, err2 := v.Punch(num, ranges(live))
		if err2 != nil || (err == nil) != (more == 0) {
			t.Fatalf("k=%d: second try freed %d, %v", k, more, err2)
		}
		for i, r := range fs.punched[before:] {
			if slices.Contains(fs.punched[:before+i], r) {
				t.Fatalf("%+v was punched twice", r)
			}
		}
		v.readAll(rng, live)
		if err == nil {
			if k < 5 {
				t.Fatalf("only %d punches", k)
			}
			return
		}
	}
}

func TestPunchRefuses(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{})
	all := v.streamed(rng, 20)
	num := all[0].Segment
	data, _ := fs.UnsafeGetFileDataBuffer(v.path(num))
	want := bytes.Clone(data)
	for name, live := range map[string][]ValueRange{
		"header":     {{100, 10}},
		"past end":   {{uint64(len(data)) - 5, 6}},
		"huge":       {{1 << 63, 1 << 63}},
		"descending": {all[5].Range(), all[3].Range()},
		"overlap":    {{8192, 100}, {8200, 10}},
	} {
		if freed, err := v.Punch(num, live); !errors.Is(err, ErrCorrupt) || freed != 0 || !strings.Contains(err.Error(), ValueName(num)+" at ") {
			t.Errorf("%s: freed %d, %v", name, freed, err)
		}
	}
	v.mustRewrite(num, all[:10])
	if _, err := v.Punch(num, []ValueRange{all[15].Range()}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a range that was not kept: %v", err)
	}
	if !bytes.Equal(want, data) {
		t.Error("bytes changed")
	}
	if _, err := v.Punch(99, nil); !errors.Is(err, ErrNoSegment) {
		t.Errorf("no segment: %v", err)
	}
	none := openTestValues(t, hidePunch{storefs.NewMem()}, ValuesOptions{})
	num = none.streamed(rng, 30)[0].Segment
	if _, err := none.Punch(num, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a file system without holes: %v", err)
	}
}

// hidePunch is a file system that cannot punch.
type hidePunch struct{ vfs.FS }

func (hidePunch) Unwrap() vfs.FS { return nil }

// On a real disk blocks are given back, and the disk says so.
func TestPunchOnDisk(t *testing.T) {
	rng := testRNG(t)
	fs, err := storefs.New(storefs.Options{Dir: t.TempDir(), BallastBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	dir := fs.PathJoin(t.TempDir(), "values")
	next := FileNum(0)
	open := func() valuesTest {
		v, err := OpenValues(fs, dir, ValuesOptions{NextFileNum: func() FileNum { next++; return next }})
		if err != nil {
			t.Fatal(err)
		}
		return valuesTest{Values: v, t: t}
	}
	v := open()
	var all []storedValue
	w, err := v.NewWriter(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	for range 40 {
		value := randomBytes(rng, 100_000)
		all = append(all, storedValue{v.mustPut(rng, value)[0].Handle, value})
	}
	if err := v.SealIdle(0); err != nil {
		t.Fatal(err)
	}
	num := all[0].Segment
	live := []storedValue{all[3], all[20], all[39]}
	freed, err := v.Punch(num, ranges(live))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("the file system of the temporary directory cannot punch holes: %v", err)
	}
	if err != nil || freed < 36*100_000 {
		t.Fatalf("freed %d, %v", freed, err)
	}
	v.readAll(rng, live)
	for range 2 {
		info := v.Segments()[0]
		if info.Allocated > info.Bytes-36*100_000 || info.Allocated < 3*100_000 {
			t.Fatalf("after the punch %+v", info)
		}
		if freed, err := v.Punch(num, ranges(live)); err != nil || freed != 0 {
			t.Fatalf("again: freed %d, %v", freed, err)
		}
		v.readAll(rng, live)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		v = open()
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBlockSet(t *testing.T) {
	rng := testRNG(t)
	const blocks = 300
	var set blockSet
	in := make([]bool, blocks)
	for range 200 {
		first := rng.IntN(blocks)
		r := ValueRange{uint64(first) * punchBlockBytes, uint64(1+rng.IntN(min(20, blocks-first))) * punchBlockBytes}
		want := make([]bool, blocks)
		for i := first; i < int(r.end()/punchBlockBytes); i++ {
			want[i] = !in[i]
		}
		got := make([]bool, blocks)
		var before uint64
		for _, p := range set.missing(r) {
			if p.Length == 0 || before > 0 && p.Offset <= before {
				t.Fatalf("part %+v after %d", p, before)
			}
			before = p.end()
			for i := p.Offset / punchBlockBytes; i < before/punchBlockBytes; i++ {
				got[i] = true
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("missing of %+v: %v, want %v", r, got, want)
		}
		if rng.IntN(3) == 0 {
			set = set.add(r, blocks*punchBlockBytes)
			for i := first; i < int(r.end()/punchBlockBytes); i++ {
				in[i] = true
			}
		}
	}
}
