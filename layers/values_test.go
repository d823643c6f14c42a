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
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/internal/seeds"
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
			if num, _, ok := parseValueName(name); ok {
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

// discardLogger is for tests whose faults are logged.
func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

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
	return rand.New(rand.NewPCG(seeds.For(t), 1))
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
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), ValueName(segment)) || !strings.Contains(err.Error(), "at ") {
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
		f, _ := fs.Create(fs.PathJoin("values", ValueName(1)), "test")
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

// The production file system, on a real disk.
func TestValuesOnDisk(t *testing.T) {
	rng := testRNG(t)
	fs, err := storefs.New(storefs.Options{Dir: t.TempDir(), BallastBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	dir := fs.PathJoin(t.TempDir(), "values")
	var next FileNum
	o := ValuesOptions{NextFileNum: func() FileNum { next++; return next }, SegmentBytes: 4 << 20}
	open := func() valuesTest {
		v, err := OpenValues(fs, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		return valuesTest{Values: v, t: t}
	}
	v := open()
	var values [][]byte
	var exts [][]Extent
	for _, n := range valueSizes[:len(valueSizes)-1] {
		values = append(values, randomBytes(rng, n))
		exts = append(exts, v.mustPut(rng, values[len(values)-1]))
	}
	p, _ := v.NewPacker("test")
	defer p.Close()
	for range 100 {
		value := compressibleBytes(rng, 1+rng.IntN(30_000))
		h, err := p.Add(value)
		if err != nil {
			t.Fatal(err)
		}
		values, exts = append(values, value), append(exts, []Extent{{Handle: h, Len: h.Raw}})
	}
	if _, err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	p.Close()
	for range 2 {
		for i := range values {
			v.check(rng, exts[i], values[i])
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		v = open()
	}
	for _, s := range v.Segments() {
		if err := v.Remove(s.Num); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := fs.List(dir); err != nil || len(names) != 0 {
		t.Fatalf("left %q, %v", names, err)
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
