package layers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pierrec/lz4/v4"

	"stemma/wal"
	"stemma/wal/storefs"
)

// smallLayer writes a layer with every part, in a few blocks.
func smallLayer(t testing.TB, fs vfs.FS, kind LayerKind) (Desc, []Record, []Record) {
	rng := testRNG(t)
	var recs []Record
	for i := range 300 {
		r := Record{Key: MakeKey(TimelineID(1+i/150), 0x20, fmt.Appendf(nil, "k%03d", i/2)), LSN: wal.LSN(1000 - i), Kind: KindValue, Meta: randomBytes(rng, 40)}
		if i%7 == 0 {
			r.Body = AppendExtentsBody(nil, []Extent{{Handle: Handle{Segment: 5, Offset: 4096, Length: 9, Raw: 9}, Len: 9}})
		} else {
			r.Body = AppendInlineBody(nil, compressibleBytes(rng, 150))
		}
		recs = append(recs, r)
	}
	recs = ofKind(rng, kind, recs)
	var stones []Record
	if kind != HistoryLayer {
		stones = layerTombstones(rng, 30)
	}
	return writeLayer(t, fs, WriterOptions{Kind: kind, Level: 3}, recs, stones), recs, stones
}

// askAll asks a layer everything. Each answer must be right or ErrCorrupt with
// the name of the file; it returns whether all were right.
func askAll(t *testing.T, what string, fs vfs.FS, d Desc, recs, stones []Record) bool {
	t.Helper()
	sound := true
	fail := func(err error) bool {
		if err == nil {
			return false
		}
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), LayerName(7)) {
			t.Fatalf("%s: %v", what, err)
		}
		sound = false
		return true
	}
	l, err := OpenLayer(fs, "layers", d, nil)
	if fail(err) {
		return false
	}
	defer l.Close()
	if got := l.RangeTombstones(); !slices.EqualFunc(got, stones, sameTombstone) {
		t.Fatalf("%s: other range tombstones", what)
	}
	it := l.NewIter(IterOptions{})
	i := 0
	for ok := it.First(); ok; ok = it.Next() {
		if !sameRecord(it.Record(), &recs[i]) {
			t.Fatalf("%s: record %d is %+v", what, i, it.Record())
		}
		i++
	}
	if !fail(it.Err()) && i != len(recs) {
		t.Fatalf("%s: %d records", what, i)
	}
	it = l.NewIter(IterOptions{})
	i = len(recs)
	for ok := it.Last(); ok; ok = it.Prev() {
		if i--; !sameRecord(it.Record(), &recs[i]) {
			t.Fatalf("%s: backward, record %d is %+v", what, i, it.Record())
		}
	}
	if !fail(it.Err()) && i != 0 {
		t.Fatalf("%s: backward, %d records", what, i)
	}
	for i := 0; i < len(recs); i += 37 {
		if r, ok, err := l.Get(recs[i].Key, recs[i].LSN, nil); !fail(err) && (!ok || !sameRecord(&r, &recs[i])) {
			t.Fatalf("%s: get of record %d: %+v %v", what, i, r, ok)
		}
		if may, err := l.MayContain(HashKey(recs[i].Key)); !fail(err) && !may {
			t.Fatalf("%s: filter misses record %d", what, i)
		}
	}
	return !fail(l.Verify()) && sound
}

// No byte of a file can change, and none be cut off or added, without an answer
// that is right or says ErrCorrupt; and Verify finds it.
func TestLayerCorruption(t *testing.T) {
	for _, kind := range layerKinds {
		t.Run(kind.String(), func(t *testing.T) { testLayerCorruption(t, kind) })
	}
}

func testLayerCorruption(t *testing.T, kind LayerKind) {
	fs := storefs.NewMem()
	d, recs, stones := smallLayer(t, fs, kind)
	stones = sortedTombstones(stones)
	if !askAll(t, "sound file", fs, d, recs, stones) {
		t.Fatal("a sound file is corrupt")
	}
	rng := testRNG(t)
	path := "layers/" + LayerName(7)
	for off := int64(0); off < d.Bytes; off++ {
		if off > 100 && off < d.Bytes-400 && rng.IntN(53) != 0 {
			continue
		}
		what := fmt.Sprintf("byte %d of %d", off, d.Bytes)
		flip(t, fs, path, uint64(off))
		if askAll(t, what, fs, d, recs, stones) {
			t.Errorf("%s: a change goes unnoticed", what)
		}
		flip(t, fs, path, uint64(off))
	}
	file := readFile(t, fs, path)
	for range 40 {
		n := rng.IntN(len(file))
		writeFile(t, fs, path, file[:n])
		if askAll(t, fmt.Sprintf("%d of %d bytes", n, len(file)), fs, d, recs, stones) {
			t.Errorf("the first %d of %d bytes pass", n, len(file))
		}
	}
	writeFile(t, fs, path, append(slices.Clone(file), 0))
	if askAll(t, "a byte more", fs, d, recs, stones) {
		t.Error("a byte more passes")
	}
}

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Verify finds what checksums cannot: files that were written wrong.
func TestVerifyFindsLies(t *testing.T) {
	for _, kind := range layerKinds {
		t.Run(kind.String(), func(t *testing.T) { testVerifyFindsLies(t, kind) })
	}
}

func testVerifyFindsLies(t *testing.T, kind LayerKind) {
	fs := storefs.NewMem()
	d, _, _ := smallLayer(t, fs, kind)
	path := "layers/" + LayerName(7)
	file := readFile(t, fs, path)
	foot, err := decodeLayerFooter(file[len(file)-layerFooterBytes:], uint64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	relie := func(what string, change func(file []byte, d *Desc)) {
		t.Helper()
		p, lie := slices.Clone(file), d
		change(p, &lie)
		copy(p[foot.properties.off:], appendCRC(lie.Append(nil)))
		writeFile(t, fs, path, p)
		l, err := OpenLayer(fs, "layers", lie, nil)
		if err == nil {
			err = l.Verify()
			l.Close()
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	relie("entries", func(_ []byte, d *Desc) { d.Entries-- })
	relie("deletes", func(_ []byte, d *Desc) { d.Deletes++ })
	relie("raw bytes", func(_ []byte, d *Desc) { d.RawBytes++ })
	relie("range tombstones", func(_ []byte, d *Desc) { d.RangeTombstones++ })
	relie("lowest LSN", func(_ []byte, d *Desc) { d.MinLSN++ })
	relie("last death", func(_ []byte, d *Desc) { d.MaxDeath++ })
	relie("an earlier last death", func(_ []byte, d *Desc) { d.MaxDeath-- })
	relie("segments", func(_ []byte, d *Desc) { d.Segments = []SegmentRef{{5, 44}} })
	relie("first key", func(_ []byte, d *Desc) { d.Range.Start = MakeKey(0, 0x20, []byte("kzzz")) })
	relie("filter", func(p []byte, _ *Desc) {
		b := p[foot.filter.off:][:filterBlockBytes]
		for i := range 2000 {
			b[i] = 0
		}
		sealFilter(b, 7, foot.filter.off)
	})
}

// A writer with a bug makes files whose checksums hold: Verify, which every
// rewrite goes through before it is used, must not let them pass.
func TestVerifyFindsBugs(t *testing.T) {
	last := Record{Key: MakeKey(9, 0x20, []byte("last")), LSN: 50, Kind: KindValue}
	for what, bug := range map[string]func(w *LayerWriter) error{
		"none": func(w *LayerWriter) error { return nil },
		"disorder": func(w *LayerWriter) error {
			w.lastKey = make(Key, keyPrefixLen)
			return w.Add(&Record{Key: MakeKey(1, 0x20, nil), LSN: 9, Kind: KindValue})
		},
		"a version twice":  func(w *LayerWriter) error { w.lastLSN = 51; return w.Add(&last) },
		"gap":              func(w *LayerWriter) error { return w.out.write([]byte{0}) },
		"gap in the index": func(w *LayerWriter) error { return errors.Join(w.points.cutBlock(), w.out.write([]byte{0})) },
		"filter":           func(w *LayerWriter) error { w.hashes = w.hashes[:len(w.hashes)-1]; return nil },
		"LSNs of a block":  func(w *LayerWriter) error { w.points.block.minLSN--; return nil },
		"LSNs above it": func(w *LayerWriter) error {
			err := w.points.cutBlock()
			w.points.index.maxLSN++
			return errors.Join(err, w.Add(&Record{Key: MakeKey(9, 0x20, []byte("later")), LSN: 50, Kind: KindValue}))
		},
		"last key": func(w *LayerWriter) error { w.points.block.lastKey = append(w.points.block.lastKey, 0); return nil },
		"last LSN": func(w *LayerWriter) error { w.points.block.lastLSN--; return nil },
		"a restart more": func(w *LayerWriter) error {
			w.points.block.restarts = append(w.points.block.restarts, 0)
			return nil
		},
		"a restart less":   func(w *LayerWriter) error { w.points.block.restarts = w.points.block.restarts[:1]; return nil },
		"a restart inside": func(w *LayerWriter) error { w.points.block.restarts[1]++; return nil },
		"flags": func(w *LayerWriter) error {
			w.points.block.buf[len(w.points.block.buf)-2] |= 0x10
			return nil
		},
		"adopted": func(w *LayerWriter) error {
			w.points.block.buf[len(w.points.block.buf)-2] |= entryAdopted
			return nil
		},
		"body": func(w *LayerWriter) error {
			r := Record{Key: MakeKey(9, 0x20, []byte("later")), Kind: KindValue, Body: Body{77}}
			w.desc.Entries++
			return w.points.add(r.Key, 50, appendRecordValue(nil, &r, 0))
		},
		"short key": func(w *LayerWriter) error {
			w.desc.Entries++
			return w.points.add(bytes.Repeat([]byte{0xff}, 8), 50, appendRecordValue(nil, &last, 0))
		},
		"no adoption": func(w *LayerWriter) error { w.desc.AdoptedLSN = 5; return nil },
		"number":      func(w *LayerWriter) error { w.desc.Num = 8; return nil },
		"kind":        func(w *LayerWriter) error { w.desc.Kind = HistoryLayer; return nil },
	} {
		fs := storefs.NewMem()
		w, err := NewLayerWriter(fs, "", 7, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			if err := w.Add(&Record{Key: MakeKey(1, 0x20, fmt.Append(nil, 100+i)), LSN: wal.LSN(60 + i), Kind: KindValue}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.AddRangeTombstone(&Record{Key: MakeKey(3, 0x20, nil), End: MakeKey(4, 0x20, nil), LSN: 70, Kind: KindRangeTombstone}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Add(&last), bug(w)); err != nil {
			t.Fatal(what, err)
		}
		d, err := w.Finish()
		if err != nil {
			t.Fatal(what, err)
		}
		d.Num, d.Kind = 7, DeltaLayer
		l, err := OpenLayer(fs, "", d, nil)
		if err == nil {
			err = errors.Join(l.Verify(), l.Close())
		}
		if ok := what == "none"; ok && err != nil || !ok && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The same for what only image and history layers promise.
func TestVerifyFindsBugsOfKinds(t *testing.T) {
	key := MakeKey(9, 0x20, []byte("k"))
	raw := func(value ...byte) func(w *LayerWriter) error {
		return func(w *LayerWriter) error {
			w.desc.Entries++
			w.desc.MaxDeath = max(w.desc.MaxDeath, 100) // so that the description passes
			return w.points.add(key, 40, value)
		}
	}
	for _, c := range []struct {
		what string
		kind LayerKind
		bug  func(w *LayerWriter) error
	}{
		{"none", ImageLayer, func(w *LayerWriter) error { return nil }},
		{"none", HistoryLayer, func(w *LayerWriter) error { return nil }},
		{"a second version", ImageLayer, func(w *LayerWriter) error {
			w.desc.Kind = DeltaLayer
			err := w.Add(&Record{Key: key, LSN: 40, Kind: KindValue})
			w.desc.Kind = ImageLayer
			return err
		}},
		{"a death", ImageLayer, func(w *LayerWriter) error { w.desc.MaxDeath = 100; return nil }},
		{"a death of a record", ImageLayer, func(w *LayerWriter) error {
			w.desc.Entries++
			return w.points.add(append(key, 'x'), 40, []byte{byte(KindTombstone) | entryDeath, 1, 0})
		}},
		{"no death", HistoryLayer, raw(byte(KindTombstone), 0)},
		{"death at birth", HistoryLayer, raw(byte(KindTombstone)|entryDeath, 0, 0)},
		{"death past the last LSN", HistoryLayer, raw(append(binary.AppendUvarint([]byte{byte(KindTombstone) | entryDeath}, uint64(wal.MaxLSN)), 0)...)},
		{"death without more", HistoryLayer, raw(byte(KindTombstone)|entryDeath, 7)},
		{"long form of a death", HistoryLayer, raw(byte(KindTombstone)|entryDeath, 0x80|7, 0, 0)},
		{"last death", HistoryLayer, func(w *LayerWriter) error { w.desc.MaxDeath++; return nil }},
		{"range tombstone", HistoryLayer, func(w *LayerWriter) error {
			w.tombstones = append(w.tombstones, Record{Key: key, End: append(key, 'x'), LSN: 40, Kind: KindRangeTombstone})
			return nil
		}},
	} {
		fs := storefs.NewMem()
		w, err := NewLayerWriter(fs, "", 7, WriterOptions{Kind: c.kind})
		if err != nil {
			t.Fatal(err)
		}
		first := Record{Key: key, LSN: 50, Kind: KindValue}
		if c.kind == HistoryLayer {
			first.Death = 70
		}
		if err := errors.Join(w.Add(&first), c.bug(w)); err != nil {
			t.Fatal(c.what, err)
		}
		d, err := w.Finish()
		if err != nil {
			t.Fatal(c.what, err)
		}
		l, err := OpenLayer(fs, "", d, nil)
		if err == nil {
			err = errors.Join(l.Verify(), l.Close())
		}
		if ok := c.what == "none"; ok && err != nil || !ok && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s in a layer of kind %s: %v", c.what, c.kind, err)
		}
	}
}

// Failing at every call there is, the writer returns the error or a file that is
// whole, also after a crash once the directory is synced; Abort leaves nothing.
func TestLayerWriterFaults(t *testing.T) {
	rng := testRNG(t)
	recs, stones := layerRecords(rng, 4000), layerTombstones(rng, 20)
	for k := 0; ; k++ {
		mem := storefs.NewMem()
		if err := errors.Join(mem.MkdirAll("layers", 0o755), storefs.SyncDir(mem, "/"), storefs.SyncDir(mem, "layers")); err != nil {
			t.Fatal(err)
		}
		calls, hit := 0, false
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if calls++; calls-1 == k {
				hit = true
				return syscall.EIO
			}
			return nil
		}))
		d, err := writeAll(fs, recs, stones)
		if err == nil {
			err = storefs.SyncDir(fs, "layers")
		}
		if err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatalf("call %d: %v", k, err)
		}
		if err == nil {
			crashed := mem.CrashClone(vfs.CrashCloneCfg{})
			l := openLayer(t, crashed, d, nil)
			if err := l.Verify(); err != nil {
				t.Fatalf("call %d, after a crash: %v", k, err)
			}
			if !hit {
				return
			}
			t.Logf("call %d failed and nobody was told", k)
			t.Fail()
		}
	}
}

// writeAll writes layer 7; after a failure it aborts, and the file must be gone.
func writeAll(fs vfs.FS, recs, stones []Record) (d Desc, err error) {
	w, err := NewLayerWriter(fs, "layers", 7, WriterOptions{})
	if err != nil {
		return d, err
	}
	defer func() {
		if err == nil {
			return
		}
		if aerr := w.Abort(); aerr != nil {
			err = errors.Join(aerr, errors.New("abort failed"))
		}
		if names, lerr := fs.List("layers"); lerr != nil || len(names) > 0 {
			err = fmt.Errorf("after an abort: %v %v", names, lerr)
		}
	}()
	for i := range recs {
		if err := w.Add(&recs[i]); err != nil {
			return d, err
		}
	}
	for i := range stones {
		if err := w.AddRangeTombstone(&stones[i]); err != nil {
			return d, err
		}
	}
	return w.Finish()
}

// An unreadable disk is not a corrupt file; and a later read may succeed.
func TestLayerReadFaults(t *testing.T) {
	mem := storefs.NewMem()
	d, recs, stones := smallLayer(t, mem, HistoryLayer)
	for k := 0; ; k++ {
		calls, hit := 0, false
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind != errorfs.OpOpen && op.Kind != errorfs.OpFileReadAt && op.Kind != errorfs.OpFileStat {
				return nil
			}
			if calls++; calls-1 == k {
				hit = true
				return syscall.EIO
			}
			return nil
		}))
		told := 0
		tell := func(err error) {
			if err == nil {
				return
			}
			if told++; !errors.Is(err, syscall.EIO) || errors.Is(err, ErrCorrupt) {
				t.Fatalf("call %d: %v", k, err)
			}
		}
		l, err := OpenLayer(fs, "layers", d, NewBlockCache(1<<20))
		if tell(err); err == nil {
			_, _, err := l.Get(recs[5].Key, wal.MaxLSN, nil)
			tell(err)
			_, err = l.MayContain(HashKey(recs[5].Key))
			tell(err)
			it := l.NewIter(IterOptions{FillCache: true})
			for it.First(); it.Next(); {
			}
			tell(it.Err())
			tell(l.Verify())
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if hit && told != 1 || !hit && told != 0 {
			t.Fatalf("call %d: told of %d failures", k, told)
		}
		if !hit {
			break
		}
	}
	if !askAll(t, "at last", mem, d, recs, sortedTombstones(stones)) {
		t.Error("the file is corrupt")
	}
}

// oneBlockFile makes a file whose tree is the one block raw, under indexes that
// agree with it, whatever it is.
func oneBlockFile(raw []byte) (file []byte, points section) {
	var c lz4.Compressor
	var it blockIter
	x := newLevel(indexRestarts)
	if it.init(raw, 0) == nil {
		for n := 0; it.step(); n++ {
			if n == 0 {
				x.minLSN, x.maxLSN = it.lsn, it.lsn
			}
			x.minLSN, x.maxLSN, x.lastLSN = min(x.minLSN, it.lsn), max(x.maxLSN, it.lsn), it.lsn
			x.lastKey = append(x.lastKey[:0], it.key...)
		}
	}
	file = appendLayerHeader(nil, 7, DeltaLayer)
	block := func(raw []byte) section {
		s := section{off: uint64(len(file))}
		file = sealBlock(file, raw, 7, s.off, &c)
		s.length = uint64(len(file)) - s.off
		return s
	}
	above := func(s section) []byte {
		ref := blockRef{off: s.off, length: s.length, minLSN: x.minLSN, maxLSN: x.maxLSN}
		up := newLevel(indexRestarts)
		up.put(x.lastKey, x.lastLSN, ref.appendValue(nil, x.lastLSN), x.minLSN, x.maxLSN)
		return bytes.Clone(up.finish())
	}
	return file, block(above(block(above(block(raw)))))
}

// layerOver opens a layer by hand over a file, skipping what OpenLayer checks.
func layerOver(t testing.TB, file []byte, points section) *Layer {
	fs := storefs.NewMem()
	writeFile(t, fs, "f", file)
	l := &Layer{num: 7, fs: fs, path: "f"}
	var err error
	if l.file, err = fs.Open("f"); err != nil {
		t.Fatal(err)
	}
	l.foot = layerFooter{num: 7, points: points, fileBytes: uint64(len(file))}
	l.desc = Desc{Num: 7, MaxLSN: wal.MaxLSN, Range: KeyRange{nil, nil}}
	l.top, err = l.loadTop(points)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// walkLayer moves over a layer every way; errors must be ErrCorrupt.
func walkLayer(t *testing.T, l *Layer) {
	var keys []Key
	it := l.NewIter(IterOptions{})
	for ok := it.First(); ok; ok = it.Next() {
		keys = append(keys, bytes.Clone(it.Record().Key))
	}
	errs := []error{it.Err()}
	it = l.NewIter(IterOptions{MinLSN: 3, MaxLSN: 1 << 40})
	for ok := it.Last(); ok; ok = it.Prev() {
	}
	errs = append(errs, it.Err())
	for _, k := range append(keys, nil, Key("x"), MakeKey(1, 2, nil)) {
		_, _, err := l.Get(k, 50, nil)
		it := l.NewIter(IterOptions{})
		it.SeekLT(k, 7)
		it.Next()
		errs = append(errs, err, it.Err())
	}
	w := treeWalk{l: l, top: l.top, topAt: l.foot.points}
	errs = append(errs, w.walk(func(Key, wal.LSN, []byte) error { return nil }))
	_, _, err := l.readTombstones(&layerContents{stoneTop: l.top, foot: layerFooter{tombstones: l.foot.points}})
	errs = append(errs, err)
	for _, err := range errs {
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	}
}

// Below the checksums: arbitrary bytes as a data block of a layer.
func FuzzLayerData(f *testing.F) {
	recs := []Record{
		{Key: MakeKey(1, 0x20, []byte("a")), LSN: 9, Kind: KindValue, Meta: []byte("m")}, {Key: MakeKey(1, 0x20, []byte("a")), LSN: 7, Kind: KindDelta},
		{Key: MakeKey(2, 0x20, []byte("b")), LSN: 8, Kind: KindTombstone},
	}
	f.Add(buildBlock(recs, 0), byte(0))
	dead := slices.Clone(recs)
	for i := range dead {
		dead[i].Death = 300
	}
	f.Add(buildBlock(dead, entryDeath), byte(entryDeath))
	b := blockBuilder{every: dataRestarts}
	stone := append([]byte{byte(KindRangeTombstone)}, recs[2].Key...)
	b.begin(recs[0].Key, 9, len(stone))
	b.buf = append(b.buf, stone...)
	f.Add(b.finish(), byte(0))
	f.Fuzz(func(t *testing.T, raw []byte, flags byte) {
		file, points := oneBlockFile(raw)
		l := layerOver(t, file, points)
		l.flags = flags & entryDeath
		walkLayer(t, l)
	})
}

// Below the checksums: arbitrary bytes as the top index, over a sound file.
func FuzzLayerIndex(f *testing.F) {
	recs := []Record{{Key: MakeKey(1, 0x20, []byte("a")), LSN: 9, Kind: KindValue}}
	file, points := oneBlockFile(buildBlock(recs, 0))
	f.Add(layerOver(f, file, points).top)
	f.Fuzz(func(t *testing.T, top []byte) {
		l := layerOver(t, file, points)
		l.top = top
		walkLayer(t, l)
	})
}

// Above and below the checksum: arbitrary bytes as a footer. What decodes
// encodes to the same bytes.
func FuzzLayerFooter(f *testing.F) {
	fs := storefs.NewMem()
	d, _, _ := smallLayer(f, fs, DeltaLayer)
	file := readFile(f, fs, "layers/"+LayerName(7))
	f.Add(file[len(file)-layerFooterBytes:], uint64(d.Bytes))
	f.Fuzz(func(t *testing.T, p []byte, size uint64) {
		if _, err := decodeLayerFooter(p, size); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if len(p) != layerFooterBytes {
			return
		}
		foot, err := parseLayerFooter(p[:layerFooterBytes-12], size)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again := foot.append(nil)
		if !bytes.Equal(again[:layerFooterBytes-12], p[:layerFooterBytes-12]) {
			t.Fatalf("%x again %x", p, again)
		}
		if got, err := decodeLayerFooter(again, size); err != nil || got != foot {
			t.Fatalf("%+v again %+v, %v", foot, got, err)
		}
		for _, s := range []section{foot.points, foot.filter, foot.tombstones, foot.properties} {
			if s.length > 0 && (s.off < layerHeaderBytes || s.off > size || s.length > size-s.off) {
				t.Fatalf("section %+v of %d bytes", s, size)
			}
		}
	})
}

func FuzzLayerHeader(f *testing.F) {
	f.Add(appendLayerHeader(nil, 7, DeltaLayer))
	f.Fuzz(func(t *testing.T, p []byte) {
		kind, err := checkLayerHeader(p, 7)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if got := appendLayerHeader(nil, 7, kind); !bytes.Equal(got, p) {
			t.Fatalf("%x again %x", p, got)
		}
	})
}
