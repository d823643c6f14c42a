package layers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
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

// valuesTest is a directory of values for tests; its logger fails the test.
type valuesTest struct {
	*Values
	t    testing.TB
	next *atomic.Uint64
}

func openTestValues(t testing.TB, fs vfs.FS, o ValuesOptions) valuesTest {
	t.Helper()
	v, err := tryOpenTestValues(t, fs, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func tryOpenTestValues(t testing.TB, fs vfs.FS, o ValuesOptions) (valuesTest, error) {
	var next atomic.Uint64
	if names, err := vfs.Root(fs).List("values"); err == nil {
		for _, name := range names {
			if num, ok := parseValueName(name); ok {
				next.Store(max(next.Load(), uint64(num)))
			}
		}
	}
	o.NextFileNum = func() FileNum { return FileNum(next.Add(1)) }
	if o.Now == nil {
		o.Now = func() time.Time { return time.Unix(1700000000, 0) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(failWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	v, err := OpenValues(fs, "values", o)
	return valuesTest{Values: v, t: t, next: &next}, err
}

type failWriter struct{ t testing.TB }

func (w failWriter) Write(p []byte) (int, error) {
	w.t.Errorf("unexpected log line: %s", p)
	return len(p), nil
}

// put streams value in random pieces and returns its extents; the writer is closed.
func (v valuesTest) put(rng *rand.Rand, value []byte) ([]Extent, error) {
	w, err := v.NewWriter(context.Background())
	if err != nil {
		return nil, err
	}
	defer w.Close()
	for rest := value; len(rest) > 0; {
		n := min(1+rng.IntN(1+rng.IntN(3<<20)), len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return w.Finish()
}

func (v valuesTest) mustPut(rng *rand.Rand, value []byte) []Extent {
	v.t.Helper()
	ext, err := v.put(rng, value)
	if err != nil {
		v.t.Fatal(err)
	}
	return ext
}

// read returns [off, off+n) of the value, in one of the ways there are.
func (v valuesTest) read(rng *rand.Rand, ext []Extent, off, n uint64) ([]byte, error) {
	r, err := v.NewReader(ext, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out bytes.Buffer
	if rng.IntN(2) == 0 {
		_, err = r.WriteTo(&out)
		return out.Bytes(), err
	}
	p := make([]byte, 1+rng.IntN(200<<10))
	for {
		n, err := r.Read(p)
		out.Write(p[:n])
		if err == io.EOF {
			return out.Bytes(), nil
		}
		if err != nil {
			return out.Bytes(), err
		}
	}
}

// check reads the whole value and some ranges of it.
func (v valuesTest) check(rng *rand.Rand, ext []Extent, value []byte) {
	v.t.Helper()
	n := uint64(len(value))
	got, err := v.read(rng, ext, 0, n)
	if err != nil || !bytes.Equal(got, value) {
		v.t.Fatalf("read of %d bytes: %d bytes, equal %v, err %v", n, len(got), bytes.Equal(got, value), err)
	}
	for range 4 {
		off := rng.Uint64N(n + 1)
		m := rng.Uint64N(n - off + 1)
		got, err := v.read(rng, ext, off, m)
		if err != nil || !bytes.Equal(got, value[off:off+m]) {
			v.t.Fatalf("read [%d,+%d) of %d bytes: %d bytes, err %v", off, m, n, len(got), err)
		}
	}
	all := []byte("head")
	for _, e := range ext {
		if all, err = v.ReadAll(all, e); err != nil {
			v.t.Fatal(err)
		}
	}
	if !bytes.Equal(all[4:], value) || string(all[:4]) != "head" {
		v.t.Fatalf("ReadAll of %d bytes differs", n)
	}
}

func randomBytes(rng *rand.Rand, n int) []byte {
	p := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		x := rng.Uint64()
		for j := range 8 {
			p[i+j] = byte(x >> (8 * j))
		}
	}
	return p[:n:n]
}

// compressibleBytes returns n bytes that lz4 shrinks.
func compressibleBytes(rng *rand.Rand, n int) []byte {
	words := bytes.Fields([]byte("the quick brown fox jumps over a lazy dog and then some more words follow"))
	var p []byte
	for len(p) < n {
		p = append(append(p, words[rng.IntN(len(words))]...), ' ')
	}
	return p[:n]
}

func testRNG(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

var valueSizes = []int{
	1, 100, valueAlign - 1, valueAlign, valueAlign + 1,
	valueChunkBytes - 1, valueChunkBytes, valueChunkBytes + 1, 2 * valueChunkBytes,
	maxBufferBytes - 1, maxBufferBytes, maxBufferBytes + 1, 3<<20 + 123, 9 << 20,
}

func TestStreamRoundTrip(t *testing.T) {
	for _, segmentBytes := range []int64{0, 4096, 100_000, 1 << 20} {
		t.Run(fmt.Sprintf("segment=%d", segmentBytes), func(t *testing.T) {
			rng := testRNG(t)
			v := openTestValues(t, storefs.NewMem(), ValuesOptions{SegmentBytes: segmentBytes})
			for _, n := range valueSizes {
				if segmentBytes != 0 && n > 2<<20 {
					continue // thousands of files show no more than hundreds
				}
				value := randomBytes(rng, n)
				ext := v.mustPut(rng, value)
				for _, e := range ext {
					if e.Offset%valueAlign != 0 || e.Skip != 0 || e.Len != e.Length || e.Raw != e.Length {
						t.Fatalf("streamed extent %+v", e)
					}
				}
				v.check(rng, ext, value)
			}
			for _, s := range v.Segments() {
				if s.Sealed != (s.Bytes >= v.o.SegmentBytes) || s.Holds != 0 {
					t.Errorf("segment %+v at the end", s)
				}
			}
		})
	}
}

func TestEmptyValue(t *testing.T) {
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{})
	rng := testRNG(t)
	if ext := v.mustPut(rng, nil); len(ext) != 0 {
		t.Fatalf("extents of an empty value: %+v", ext)
	}
	if got, err := v.read(rng, nil, 0, 0); err != nil || len(got) != 0 {
		t.Fatalf("read of an empty value: %d bytes, %v", len(got), err)
	}
	if n := len(v.Segments()); n != 0 {
		t.Fatalf("%d segments for nothing", n)
	}
	if _, err := v.NewReader(nil, 0, 1); err == nil {
		t.Fatal("a range past the end was accepted")
	}
}

// Pieces of values, as a multipart upload or a page overlay makes them.
func TestReadPieces(t *testing.T) {
	rng := testRNG(t)
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{SegmentBytes: 300_000})
	p, err := v.NewPacker("test")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var ext []Extent
	var value []byte
	for i := range 60 {
		var part []byte
		var whole []Extent
		switch i % 3 {
		case 0:
			part = randomBytes(rng, 1+rng.IntN(500_000))
			whole = v.mustPut(rng, part)
		case 1:
			part = compressibleBytes(rng, 1+rng.IntN(40_000))
		case 2:
			part = randomBytes(rng, 1+rng.IntN(200_000))
		}
		if whole == nil {
			h, err := p.Add(part)
			if err != nil {
				t.Fatal(err)
			}
			whole = []Extent{{Handle: h, Len: h.Raw}}
		}
		at := 0
		for _, e := range whole {
			piece := part[at : at+int(e.Len)]
			at += int(e.Len)
			e.Skip = rng.Uint64N(e.Len + 1)
			e.Len = rng.Uint64N(e.Len - e.Skip + 1)
			ext = append(ext, e)
			value = append(value, piece[e.Skip:e.Skip+e.Len]...)
		}
	}
	if _, err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	v.check(rng, ext, value)
	if _, err := v.NewReader(ext, 1, uint64(len(value))); err == nil {
		t.Fatal("a range past the end was accepted")
	}
}

func TestPackerRoundTrip(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{PackedSegmentBytes: 100_000})
	p, err := v.NewPacker("test")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var values [][]byte
	var handles []Handle
	compressed := 0
	for i := range 200 {
		n := 1 + rng.IntN(1<<rng.IntN(16))
		if i == 50 {
			n = 3 << 20
		}
		value := randomBytes(rng, n)
		if i%2 == 0 {
			value = compressibleBytes(rng, n)
		}
		h, err := p.Add(value)
		if err != nil {
			t.Fatal(err)
		}
		if h.Raw != uint64(n) {
			t.Fatalf("handle %+v of %d bytes", h, n)
		}
		if h.compressed() {
			compressed++
			if h.Length > h.Raw-h.Raw/8 {
				t.Fatalf("compression of %+v saves less than an eighth", h)
			}
		}
		if last := len(handles) - 1; last >= 0 && handles[last].Segment == h.Segment {
			before := handles[last]
			if want := before.Offset + before.Length + valueTableBytes(before.Length); h.Offset != want {
				t.Fatalf("value at %d, want %d: packed values lie one behind the other", h.Offset, want)
			}
		}
		values, handles = append(values, value), append(handles, h)
	}
	infos, err := p.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if compressed < 20 || len(infos) < 2 {
		t.Fatalf("%d values compressed, %d segments", compressed, len(infos))
	}
	after := openTestValues(t, fs.CrashClone(vfs.CrashCloneCfg{}), ValuesOptions{})
	for i, h := range handles {
		for _, from := range []valuesTest{v, after} {
			from.check(rng, []Extent{{Handle: h, Len: h.Raw}}, values[i])
		}
	}
}

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

func flip(t testing.TB, fs vfs.FS, name string, off uint64) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], int64(off)); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b[:], int64(off)); err != nil {
		t.Fatal(err)
	}
}

// One flipped bit in any region is found before a byte of its chunk is served,
// and harms no range that does not touch it.
func TestCorruptRegions(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	v := openTestValues(t, fs, ValuesOptions{})
	const chunks = 20
	value := randomBytes(rng, chunks*valueChunkBytes-777)
	big := v.mustPut(rng, value)[0]
	small := randomBytes(rng, 40_000)
	p, _ := v.NewPacker("test")
	defer p.Close()
	raw, err := p.Add(small)
	if err != nil {
		t.Fatal(err)
	}
	text := compressibleBytes(rng, 40_000)
	packed, err := p.Add(text)
	if err != nil || !packed.compressed() {
		t.Fatalf("handle %+v, %v", packed, err)
	}
	if _, err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	wantCorrupt := func(err error, segment FileNum) {
		t.Helper()
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), valueName(segment)) || !strings.Contains(err.Error(), "at ") {
			t.Fatalf("error %v, want ErrCorrupt with file and offset", err)
		}
	}
	for _, h := range []Handle{raw, packed} {
		for range 20 {
			at := h.Offset + rng.Uint64N(h.Length)
			flip(t, fs, v.path(h.Segment), at)
			_, err := v.ReadAll(nil, Extent{Handle: h, Len: h.Raw})
			wantCorrupt(err, h.Segment)
			_, err = v.read(rng, []Extent{{Handle: h, Skip: 5, Len: 1}}, 0, 1)
			wantCorrupt(err, h.Segment)
			flip(t, fs, v.path(h.Segment), at)
		}
	}
	for range 20 {
		at := rng.Uint64N(big.Length)
		chunk := at / valueChunkBytes
		flip(t, fs, v.path(big.Segment), big.Offset+at)
		got, err := v.read(rng, []Extent{big}, 0, big.Len)
		wantCorrupt(err, big.Segment)
		if uint64(len(got)) > chunk*valueChunkBytes || !bytes.Equal(got, value[:len(got)]) {
			t.Fatalf("chunk %d is corrupt, %d bytes were served", chunk, len(got))
		}
		for c := range uint64(chunks) {
			off := c*valueChunkBytes + rng.Uint64N(60_000)
			got, err := v.read(rng, []Extent{big}, off, 1000)
			if c == chunk {
				wantCorrupt(err, big.Segment)
			} else if err != nil || !bytes.Equal(got, value[off:off+1000]) {
				t.Fatalf("chunk %d is corrupt, read of chunk %d: %v", chunk, c, err)
			}
		}
		flip(t, fs, v.path(big.Segment), big.Offset+at)
	}
	for i := range valueTableBytes(big.Length) {
		flip(t, fs, v.path(big.Segment), big.Offset+big.Length+i)
		_, err := v.read(rng, []Extent{big}, rng.Uint64N(big.Len), 1)
		wantCorrupt(err, big.Segment)
		flip(t, fs, v.path(big.Segment), big.Offset+big.Length+i)
	}
	v.check(rng, []Extent{big}, value)
	for _, at := range []uint64{0, 8, 16, 24, 2000, valueHeaderBytes - 1} {
		flip(t, fs, v.path(big.Segment), at)
		fresh := openTestValues(t, fs, ValuesOptions{})
		_, err := fresh.ReadAll(nil, big)
		wantCorrupt(err, big.Segment)
		flip(t, fs, v.path(big.Segment), at)
	}
}

// A file that is shorter than its handles say, found at open or while reading.
func TestTruncatedSegment(t *testing.T) {
	rng := testRNG(t)
	mem := storefs.NewMem()
	v := openTestValues(t, mem, ValuesOptions{})
	value := randomBytes(rng, 200_000)
	ext := v.mustPut(rng, value)
	data, err := mem.UnsafeGetFileDataBuffer(v.path(1))
	if err != nil {
		t.Fatal(err)
	}
	end := int(ext[0].Offset + ext[0].Length + valueTableBytes(ext[0].Length))
	for _, n := range []int{0, 1, 31, valueHeaderBytes - 1, valueHeaderBytes, valueHeaderBytes + 1, 100_000, end - 13, end - 1, end} {
		fs := storefs.NewMem()
		fs.MkdirAll("values", 0o755)
		f, _ := fs.Create(fs.PathJoin("values", valueName(1)), "test")
		f.Write(bytes.Clone(data[:n]))
		f.Close()
		short := openTestValues(t, fs, ValuesOptions{})
		got, err := short.read(rng, ext, 0, ext[0].Len)
		switch {
		case n == end && (err != nil || !bytes.Equal(got, value)):
			t.Errorf("whole file: %v", err)
		case n < end && !errors.Is(err, ErrCorrupt):
			t.Errorf("file of %d bytes instead of %d: %v", n, end, err)
		}
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
			if k < 60 {
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
	for i := range 6 {
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

func TestLoadExtents(t *testing.T) {
	rng := testRNG(t)
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{})
	var ext []Extent
	var length uint64
	for i := range 5000 {
		n := rng.Uint64N(1 << 20)
		ext = append(ext, Extent{Handle: Handle{Segment: FileNum(3 + i%4), Offset: 4096 * uint64(i), Length: n, Raw: n, CRC: rng.Uint32()}, Len: n})
		length += n
	}
	plain := AppendExtentsBody(nil, ext)
	list := v.mustPut(rng, plain)[0]
	segs := []FileNum{3, 4, 5, 6}
	load := func(b Body) error {
		got, err := v.LoadExtents(b, ext[:1:1])
		if err != nil {
			return err
		}
		if len(got) != 1+len(ext) {
			t.Fatalf("%d extents", len(got))
		}
		for i := range ext {
			if got[i+1] != ext[i] {
				t.Fatalf("extent %d: %+v, want %+v", i, got[i+1], ext[i])
			}
		}
		return nil
	}
	for _, b := range []Body{plain, AppendSpilledBody(nil, list, length, segs)} {
		if err := load(b); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := v.LoadExtents(nil, nil); err != nil || len(got) != 0 {
		t.Fatalf("empty body: %v, %v", got, err)
	}
	short := list
	short.Len--
	other := v.mustPut(rng, []byte("no body at all"))[0]
	nested := v.mustPut(rng, AppendSpilledBody(nil, list, length, segs))[0]
	huge := list
	huge.Raw, huge.Length, huge.Len = maxExtentBytes, maxExtentBytes, maxExtentBytes
	for name, b := range map[string]Body{
		"length":        AppendSpilledBody(nil, list, length+1, segs),
		"segment":       AppendSpilledBody(nil, list, length, segs[1:]),
		"short list":    AppendSpilledBody(nil, short, length, segs),
		"no list":       AppendSpilledBody(nil, other, length, segs),
		"nested":        AppendSpilledBody(nil, nested, length, segs),
		"too long":      AppendSpilledBody(nil, huge, length, segs),
		"inline":        AppendInlineBody(nil, []byte("x")),
		"missing":       AppendSpilledBody(nil, Extent{Handle: Handle{Segment: 99, Offset: 4096, Length: 5, Raw: 5}, Len: 5}, 5, segs),
		"unknown form":  {7, 1, 2},
		"cut off":       AppendSpilledBody(nil, list, length, segs)[:20],
		"zero overhead": {byte(BodySpilled)},
	} {
		if err := load(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Names that are not segments are reported and left alone.
func TestForeignFiles(t *testing.T) {
	fs := storefs.NewMem()
	fs.MkdirAll("values", 0o755)
	for _, name := range []string{"0000000000000001.val", "1.val", "000000000000000A.val", "0000000000000002.tmp"} {
		f, _ := fs.Create("values/"+name, "test")
		f.Close()
	}
	var log bytes.Buffer
	v := openTestValues(t, fs, ValuesOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if s := v.Segments(); len(s) != 1 || s[0].Num != 1 {
		t.Fatalf("segments %+v", s)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 3 {
		t.Fatalf("log: %s", log.String())
	}
	v.next.Store(0) // a number that is taken is refused
	if _, err := v.put(testRNG(t), []byte("x")); err == nil {
		t.Fatal("wrote over a file")
	}
}

// Reading a small value costs no allocation but the destination.
func TestReadAllAllocations(t *testing.T) {
	rng := testRNG(t)
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{})
	e := v.mustPut(rng, randomBytes(rng, 20_000))[0]
	dst := make([]byte, 0, 32<<10)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := v.ReadAll(dst, e); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
