package layers

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal"
	"stemma/wal/storefs"
)

// writeLayer writes sorted records and range tombstones as layer 7 of "layers".
func writeLayer(t testing.TB, fs vfs.FS, o WriterOptions, points, stones []Record) Desc {
	t.Helper()
	if err := fs.MkdirAll("layers", 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := NewLayerWriter(fs, "layers", 7, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range points {
		if err := w.Add(&points[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range stones {
		if err := w.AddRangeTombstone(&stones[i]); err != nil {
			t.Fatal(err)
		}
	}
	d, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openLayer(t testing.TB, fs vfs.FS, d Desc, c *BlockCache) *Layer {
	t.Helper()
	l, err := OpenLayer(fs, "layers", d, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// layerRecords makes sorted records with several versions per key, some of them
// large, in the key space of randomMoves and beyond.
func layerRecords(rng *rand.Rand, n int) []Record {
	seen := make(map[string]bool)
	var recs []Record
	for range n {
		r := Record{
			Key:  MakeKey(TimelineID(rng.IntN(6)), 0x20, []byte(fmt.Sprintf("k%02d", rng.IntN(40)))),
			LSN:  wal.LSN(1 + rng.IntN(60)),
			Kind: KindValue + Kind(rng.IntN(3)),
		}
		if rng.IntN(4) == 0 {
			r.Key = append(r.Key, randomBytes(rng, rng.IntN(300))...)
		}
		if rng.IntN(3) == 0 {
			r.LSN = wal.LSN(1<<60 + rng.Uint64N(1<<62))
		}
		if id := fmt.Sprintf("%s@%d", r.Key, r.LSN); seen[id] {
			continue
		} else {
			seen[id] = true
		}
		if r.Kind != KindTombstone {
			r.Meta = randomBytes(rng, rng.IntN(200))
			r.Body = AppendInlineBody(nil, randomBytes(rng, rng.IntN(300)))
			if rng.IntN(200) == 0 {
				r.Body = AppendInlineBody(nil, compressibleBytes(rng, 40_000))
			}
		}
		recs = append(recs, r)
	}
	sortRecords(recs)
	return recs
}

func layerTombstones(rng *rand.Rand, n int) []Record {
	var recs []Record
	for range n {
		a, b := rng.IntN(1000), rng.IntN(1000)
		if a == b {
			continue
		}
		t := TimelineID(rng.IntN(6))
		recs = append(recs, Record{
			Key: MakeKey(t, 0x20, []byte(fmt.Sprintf("k%03d", min(a, b)))), End: MakeKey(t, 0x20, []byte(fmt.Sprintf("k%03d", max(a, b)))),
			LSN: wal.LSN(1 + rng.IntN(100)), Kind: KindRangeTombstone,
		})
	}
	return recs
}

// within returns the records whose LSN is in the window.
func within(recs []Record, low, high wal.LSN) []Record {
	return slices.DeleteFunc(slices.Clone(recs), func(r Record) bool { return r.LSN < low || r.LSN > high })
}

// newestOf is what Get must find in sorted records.
func newestOf(recs []Record, key Key, upTo wal.LSN) (Record, bool) {
	i := newSliceIterator(recs).search(key, upTo)
	if i == len(recs) || recs[i].Key.Compare(key) != 0 {
		return Record{}, false
	}
	return recs[i], true
}

// Everything that can be asked of a layer, against the records it was made of.
func TestLayerModel(t *testing.T) {
	rng := testRNG(t)
	for i, n := range []int{1, 2, 15, 16, 17, 100, 3000, 1, 17, 600, 1, 17, 600} {
		for _, cache := range []*BlockCache{nil, NewBlockCache(100_000)} {
			fs := storefs.NewMem()
			kind := layerKinds[max(i-4, 0)/3]
			recs := ofKind(rng, kind, layerRecords(rng, n))
			var stones []Record
			if kind != HistoryLayer {
				stones = layerTombstones(rng, rng.IntN(20))
			}
			d := writeLayer(t, fs, WriterOptions{Kind: kind, Level: 3}, recs, stones)
			checkDesc(t, &d, kind, recs, stones)
			l := openLayer(t, fs, d, cache)
			if err := l.Verify(); err != nil {
				t.Fatal(err)
			}
			checkLayer(t, rng, l, recs, stones)
		}
	}
}

// ofKind makes sorted records ones that a layer of a kind takes.
func ofKind(rng *rand.Rand, kind LayerKind, recs []Record) []Record {
	switch kind {
	case ImageLayer:
		return slices.CompactFunc(recs, func(a, b Record) bool { return a.Key.Compare(b.Key) == 0 })
	case HistoryLayer:
		for i := range recs {
			recs[i].Death = recs[i].LSN + 1 + wal.LSN(rng.IntN(1<<rng.IntN(40)))
		}
	}
	return recs
}

var layerKinds = []LayerKind{DeltaLayer, ImageLayer, HistoryLayer}

func checkLayer(t *testing.T, rng *rand.Rand, l *Layer, recs, stones []Record) {
	t.Helper()
	randomMoves(t, rng, l.NewIter(IterOptions{}), recs, 300)
	for range 5 {
		low, high := wal.LSN(rng.IntN(60)), wal.LSN(rng.IntN(60))
		if rng.IntN(2) == 0 {
			high = recs[rng.IntN(len(recs))].LSN
		}
		o := IterOptions{MinLSN: low, MaxLSN: high, FillCache: rng.IntN(2) == 0}
		if high == 0 {
			high = wal.MaxLSN
		}
		randomMoves(t, rng, l.NewIter(o), within(recs, low, high), 200)
	}
	var buf GetBuf
	for range 500 {
		r := recs[rng.IntN(len(recs))]
		key, upTo := slices.Clone(r.Key), r.LSN
		switch rng.IntN(5) {
		case 0:
			upTo--
		case 1:
			upTo++
		case 2:
			upTo = wal.LSN(rng.Uint64N(1 << 63))
		case 3:
			key = append(key, byte(rng.IntN(3)))
		}
		got, ok, err := l.Get(key, upTo, &buf)
		want, wantOK := newestOf(recs, key, upTo)
		if err != nil || ok != wantOK || ok && !sameRecord(&got, &want) {
			t.Fatalf("get %s at %d: %+v %v %v, want %+v %v", key, upTo, got, ok, err, want, wantOK)
		}
		if cover, ok := l.CoveringTombstone(key, upTo); cover != coverOf(stones, key, upTo) || ok != (cover != 0) {
			t.Fatalf("cover of %s at %d: %d, want %d", key, upTo, cover, coverOf(stones, key, upTo))
		}
	}
	for i := range recs {
		k := recs[i].Key
		for _, h := range []uint64{HashTimeline(k.Timeline()), HashSuffix(k.Suffix()), HashKey(k)} {
			if may, err := l.MayContain(h); err != nil || !may {
				t.Fatalf("filter says that %s is absent (%v)", k, err)
			}
		}
	}
	if got, want := l.RangeTombstones(), sortedTombstones(stones); !slices.EqualFunc(got, want, sameTombstone) {
		t.Fatalf("range tombstones %v, want %v", got, want)
	}
}

// checkDesc checks a description that a writer made.
func checkDesc(t *testing.T, d *Desc, kind LayerKind, recs, stones []Record) {
	t.Helper()
	want := Desc{Num: 7, Kind: kind, Level: 3, Bytes: d.Bytes, Entries: uint64(len(recs)), MinLSN: wal.MaxLSN,
		RangeTombstones: uint64(len(sortedTombstones(stones)))}
	if len(recs) > 0 {
		want.Range = KeyRange{recs[0].Key, append(slices.Clone(recs[len(recs)-1].Key), 0)}
	}
	for _, r := range slices.Concat(recs, stones) {
		want.MinLSN, want.MaxLSN, want.MaxDeath = min(want.MinLSN, r.LSN), max(want.MaxLSN, r.LSN), max(want.MaxDeath, r.Death)
		if r.Kind == KindRangeTombstone {
			if want.Range.Start == nil || r.Key.Compare(want.Range.Start) < 0 {
				want.Range.Start = r.Key
			}
			if r.End.Compare(want.Range.End) > 0 {
				want.Range.End = r.End
			}
			continue
		}
		if r.Kind == KindTombstone {
			want.Deletes++
		}
		want.RawBytes += uint64(len(r.Key) + len(r.Meta) + len(r.Body))
	}
	if !bytes.Equal(d.Append(nil), want.Append(nil)) {
		t.Fatalf("description\n%+v, want\n%+v", *d, want)
	}
}

// 100,000 versions of one key lie in many blocks, whose index entries share it.
func TestLayerManyVersions(t *testing.T) {
	const n = 100_000
	fs := storefs.NewMem()
	key, after := MakeKey(1, 0x20, []byte("hot")), MakeKey(1, 0x20, []byte("hot2"))
	recs := []Record{{Key: MakeKey(1, 0x20, []byte("before")), LSN: 5, Kind: KindValue}}
	for lsn := wal.LSN(10 * n); lsn > 0; lsn -= 10 {
		recs = append(recs, Record{Key: key, LSN: lsn, Kind: KindValue, Meta: []byte(lsn.String())})
	}
	recs = append(recs, Record{Key: after, LSN: 3 * n, Kind: KindTombstone})
	l := openLayer(t, fs, writeLayer(t, fs, WriterOptions{}, recs, nil), NewBlockCache(64<<20))
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	rng := testRNG(t)
	for range 2000 {
		upTo := wal.LSN(rng.IntN(10*n + 20))
		got, ok, err := l.Get(key, upTo, nil)
		want := min(upTo/10*10, 10*n)
		if err != nil || ok != (want > 0) || ok && (got.LSN != want || string(got.Meta) != want.String()) {
			t.Fatalf("at %d: %d %v %v, want %d", upTo, got.LSN, ok, err, want)
		}
	}
	it := l.NewIter(IterOptions{})
	for _, move := range []func() bool{it.Next, it.Prev} {
		i, step, ok := 0, 1, it.First()
		if move() && it.Record().LSN == 5 || !ok {
			t.Fatal("no second record")
		}
		if i, ok = 1, true; it.Record().LSN != 10*n {
			i, step, ok = len(recs)-1, -1, it.Last()
		}
		for ; ok; ok = move() {
			if !sameRecord(it.Record(), &recs[i]) {
				t.Fatalf("record %d is %s at %d", i, it.Record().Key, it.Record().LSN)
			}
			i += step
		}
		if it.Err() != nil || i != len(recs) && i != -1 {
			t.Fatalf("walk ended at %d of %d: %v", i, len(recs), it.Err())
		}
		it.First() // for Prev: before the first
	}
	// A window at the old end must not read the blocks of the new one.
	cold := openLayer(t, fs, *l.Desc(), nil)
	reads := countReads(cold)
	var got int
	it = cold.NewIter(IterOptions{MinLSN: 1, MaxLSN: 1000})
	for ok := it.First(); ok; ok = it.Next() {
		got++
	}
	if got != 101 || *reads > 6 {
		t.Errorf("a window of 101 records gave %d and read %d blocks", got, *reads)
	}
}

// countReads counts the reads of a layer's file from now on.
func countReads(l *Layer) *int {
	c := &readCounter{File: l.file}
	l.file = c
	return &c.n
}

type readCounter struct {
	vfs.File
	n int
}

func (c *readCounter) ReadAt(p []byte, off int64) (int, error) {
	c.n++
	return c.File.ReadAt(p, off)
}

// A Get reads one index block and one data block, and none when the filter, the
// range or the LSNs say no.
func TestLayerReads(t *testing.T) {
	fs := storefs.NewMem()
	var recs []Record
	for i := range 20_000 {
		recs = append(recs, Record{Key: MakeKey(1, 0x20, fmt.Appendf(nil, "key%06d", 2*i)), LSN: wal.LSN(1000 + i), Kind: KindValue, Meta: make([]byte, 60)})
	}
	d := writeLayer(t, fs, WriterOptions{}, recs, nil)
	for _, c := range []struct {
		what  string
		key   string
		upTo  wal.LSN
		found bool
		most  int
	}{
		{"present", "key020000", wal.MaxLSN, true, 2},
		{"between two", "key020001", wal.MaxLSN, false, 2},
		{"newer only", "key020000", 1500, false, 1},
		{"below all LSNs", "key020000", 999, false, 0},
		{"past the range", "key999999", wal.MaxLSN, false, 0},
	} {
		l := openLayer(t, fs, d, nil)
		reads := countReads(l)
		_, ok, err := l.Get(MakeKey(1, 0x20, []byte(c.key)), c.upTo, nil)
		if err != nil || ok != c.found || *reads > c.most {
			t.Errorf("%s: found %v, %d reads, %v; want %v, at most %d", c.what, ok, *reads, err, c.found, c.most)
		}
	}
	cache := NewBlockCache(16 << 20)
	l := openLayer(t, fs, d, cache)
	reads := countReads(l)
	for range 10 {
		if _, ok, err := l.Get(recs[77].Key, wal.MaxLSN, nil); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if may, err := l.MayContain(HashKey(recs[77].Key)); !may || err != nil {
			t.Fatal(may, err)
		}
	}
	if *reads != 3 {
		t.Errorf("%d reads with a cache, want 3", *reads)
	}
	if m := cache.Metrics(); m.Hits != 27 || m.Misses != 3 {
		t.Errorf("cache metrics %+v", m)
	}
}

// Records from the largest down to nothing keep their bytes.
func TestLayerRecordSizes(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	var recs []Record
	for i, n := range []int{0, 1, 127, 128, 16 << 10, 100 << 10, 5 << 20, MaxRecordBytes - 10 - 16} {
		r := Record{Key: MakeKey(1, 0x20, []byte{byte(i)}), LSN: 1, Kind: KindValue, Body: AppendInlineBody(nil, compressibleBytes(rng, n/2))}
		if n > 0 {
			r.Meta = randomBytes(rng, n/2)
		}
		recs = append(recs, r)
	}
	recs = append(recs, Record{Key: MakeKey(1, 0x20, bytes.Repeat([]byte{0xff}, MaxUserKeyBytes)), LSN: 1, Kind: KindTombstone})
	l := openLayer(t, fs, writeLayer(t, fs, WriterOptions{Level: 3}, recs, nil), nil)
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	checkDesc(t, l.Desc(), DeltaLayer, recs, nil)
	for _, want := range recs {
		if got, ok, err := l.Get(want.Key, 1, nil); !ok || err != nil || !sameRecord(&got, &want) {
			t.Fatalf("record of %d and %d bytes: %v %v", len(want.Meta), len(want.Body), ok, err)
		}
	}
}

// A staged merge has no LSNs until it is adopted.
func TestLayerAdopted(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	var recs []Record
	for i := range 3000 {
		recs = append(recs, Record{Key: MakeKey(1, 0x20, fmt.Appendf(nil, "k%05d", i)), Kind: KindValue, Meta: randomBytes(rng, 30)})
	}
	stones := []Record{{Key: MakeKey(1, 0x20, []byte("k00100")), End: MakeKey(1, 0x20, []byte("k00200")), Kind: KindRangeTombstone, LSN: 99}}
	d := writeLayer(t, fs, WriterOptions{Adopted: true}, recs, stones)
	if d.MinLSN != 0 || d.MaxLSN != 0 || d.AdoptedLSN != 0 {
		t.Fatalf("staged: %+v", d)
	}
	if err := openLayer(t, fs, d, nil).Verify(); err != nil {
		t.Fatal(err)
	}
	for _, open := range []bool{false, true} { // adopted before it is opened, and afterwards
		l := openLayer(t, fs, d, nil)
		if open {
			l.Adopt(5000)
			d.AdoptedLSN = 5000
		} else {
			adopted := d
			adopted.AdoptedLSN = 5000
			l = openLayer(t, fs, adopted, nil)
		}
		checkAdopted(t, rng, l, slices.Clone(recs))
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a layer was adopted twice")
			}
		}()
		openLayer(t, fs, d, nil).Adopt(6000)
	}()
	l := openLayer(t, fs, d, nil)
	for i := range recs {
		recs[i].LSN = 5000
	}
	// A rewrite gives each record its LSN for good.
	fs2 := storefs.NewMem()
	d2 := writeLayer(t, fs2, WriterOptions{}, recs, l.RangeTombstones())
	l2 := openLayer(t, fs2, d2, nil)
	if r, ok, err := l2.Get(recs[9].Key, 5000, nil); !ok || err != nil || r.LSN != 5000 || r.Adopted {
		t.Errorf("rewritten: %+v %v %v", r, ok, err)
	}
	// Only a file without LSNs can be adopted.
	d2.AdoptedLSN = 5001
	if _, err := OpenLayer(fs2, "layers", d2, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("adopting a file with LSNs: %v", err)
	}
}

// checkAdopted checks a layer that was adopted at 5000.
func checkAdopted(t *testing.T, rng *rand.Rand, l *Layer, recs []Record) {
	t.Helper()
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	if got := l.Desc(); got.MinLSN != 5000 || got.MaxLSN != 5000 {
		t.Errorf("description %+v", got)
	}
	for i := range recs {
		recs[i].LSN, recs[i].Adopted = 5000, true
	}
	randomMoves(t, rng, l.NewIter(IterOptions{}), recs, 200)
	randomMoves(t, rng, l.NewIter(IterOptions{MinLSN: 5000, MaxLSN: 5000}), recs, 100)
	randomMoves(t, rng, l.NewIter(IterOptions{MaxLSN: 4999}), nil, 10)
	if _, ok, err := l.Get(recs[9].Key, 4999, nil); ok || err != nil {
		t.Errorf("below the adoption: %v %v", ok, err)
	}
	if r, ok, err := l.Get(recs[9].Key, 5000, nil); !ok || err != nil || r.LSN != 5000 || !r.Adopted {
		t.Errorf("at the adoption: %+v %v %v", r, ok, err)
	}
	if lsn, ok := l.CoveringTombstone(recs[150].Key, 6000); !ok || lsn != 5000 || !l.RangeTombstones()[0].Adopted {
		t.Errorf("range tombstone at %d", lsn)
	}
}

// Range tombstones alone make a layer.
func TestLayerOnlyTombstones(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	stones := layerTombstones(rng, 3000)
	d := writeLayer(t, fs, WriterOptions{Level: 3}, nil, stones)
	checkDesc(t, &d, DeltaLayer, nil, stones)
	l := openLayer(t, fs, d, nil)
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	randomMoves(t, rng, l.NewIter(IterOptions{}), nil, 20)
	if got, want := l.RangeTombstones(), sortedTombstones(stones); !slices.EqualFunc(got, want, sameTombstone) {
		t.Fatalf("%d range tombstones, want %d", len(got), len(want))
	}
	if _, ok, err := l.Get(stones[0].Key, wal.MaxLSN, nil); ok || err != nil {
		t.Error(ok, err)
	}
	if may, err := l.MayContain(HashKey(stones[0].Key)); may || err != nil {
		t.Error(may, err)
	}
}

// The writer refuses what a layer cannot hold, and says so until aborted.
func TestLayerWriterRefuses(t *testing.T) {
	key, other := MakeKey(1, 0x20, []byte("k")), MakeKey(1, 0x20, []byte("l"))
	ok, old := Record{Key: key, LSN: 10, Kind: KindValue}, Record{Key: key, LSN: 10, Death: 11, Kind: KindValue}
	image, history := WriterOptions{Kind: ImageLayer}, WriterOptions{Kind: HistoryLayer}
	stone := func(a, b Key, lsn wal.LSN) func(w *LayerWriter) error {
		return func(w *LayerWriter) error {
			return w.AddRangeTombstone(&Record{Key: a, End: b, LSN: lsn, Kind: KindRangeTombstone})
		}
	}
	add := func(recs ...Record) func(w *LayerWriter) error {
		return func(w *LayerWriter) error {
			for i := range recs {
				if err := w.Add(&recs[i]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, c := range []struct {
		what string
		o    WriterOptions
		do   func(w *LayerWriter) error
	}{
		{"death in a delta layer", WriterOptions{}, add(old)},
		{"death in an image layer", image, add(old)},
		{"two versions in an image layer", image, add(ok, Record{Key: key, LSN: 9, Kind: KindValue})},
		{"nothing in an image layer", image, add()},
		{"no death in a history layer", history, add(ok)},
		{"death at birth", history, add(Record{Key: key, LSN: 10, Death: 10, Kind: KindValue})},
		{"death before birth", history, add(Record{Key: key, LSN: 10, Death: 9, Kind: KindValue})},
		{"death past the last LSN", history, add(Record{Key: key, LSN: 10, Death: wal.MaxLSN + 1, Kind: KindValue})},
		{"range tombstone in a history layer", history, stone(key, other, 1)},
		{"range tombstone that died", WriterOptions{}, func(w *LayerWriter) error {
			return w.AddRangeTombstone(&Record{Key: key, End: other, LSN: 1, Death: 2, Kind: KindRangeTombstone})
		}},
		{"nothing", WriterOptions{}, func(*LayerWriter) error { return nil }},
		{"newer version second", WriterOptions{}, add(ok, Record{Key: key, LSN: 11, Kind: KindValue})},
		{"same version", WriterOptions{}, add(ok, ok)},
		{"lower key", WriterOptions{}, add(Record{Key: other, LSN: 9, Kind: KindValue}, ok)},
		{"two versions, adopted", WriterOptions{Adopted: true}, add(ok, Record{Key: key, LSN: 9, Kind: KindValue})},
		{"no LSN", WriterOptions{}, add(Record{Key: key, Kind: KindValue})},
		{"LSN past the last", WriterOptions{}, add(Record{Key: key, LSN: wal.MaxLSN + 1, Kind: KindValue})},
		{"no kind", WriterOptions{}, add(Record{Key: key, LSN: 1})},
		{"range tombstone as a point", WriterOptions{}, add(Record{Key: key, LSN: 1, Kind: KindRangeTombstone, End: other})},
		{"short key", WriterOptions{}, add(Record{Key: key[:8], LSN: 1, Kind: KindValue})},
		{"long key", WriterOptions{}, add(Record{Key: make([]byte, maxKeyBytes+1), LSN: 1, Kind: KindValue})},
		{"too large", WriterOptions{}, add(Record{Key: key, LSN: 1, Kind: KindValue, Meta: make([]byte, MaxRecordBytes)})},
		{"bad body", WriterOptions{}, add(Record{Key: key, LSN: 1, Kind: KindValue, Body: Body{byte(BodyExtents), 9}})},
		{"unknown body", WriterOptions{}, add(Record{Key: key, LSN: 1, Kind: KindValue, Body: Body{77}})},
		{"empty range", WriterOptions{}, stone(key, key, 1)},
		{"backward range", WriterOptions{}, stone(other, key, 1)},
		{"range without an end", WriterOptions{}, stone(key, nil, 1)},
		{"range without an LSN", WriterOptions{}, stone(key, other, 0)},
		{"point as a range", WriterOptions{}, func(w *LayerWriter) error { return w.AddRangeTombstone(&ok) }},
	} {
		fs := storefs.NewMem()
		w, err := NewLayerWriter(fs, "", 7, c.o)
		if err != nil {
			t.Fatal(err)
		}
		err = c.do(w)
		if _, ferr := w.Finish(); ferr == nil {
			t.Errorf("%s: finished (%v)", c.what, err)
		}
		if err := errors.Join(w.Abort(), w.Abort()); err != nil {
			t.Errorf("%s: abort: %v", c.what, err)
		}
		if names, err := fs.List(""); err != nil || len(names) != 0 {
			t.Errorf("%s: left %v %v", c.what, names, err)
		}
	}
	for _, o := range []WriterOptions{{Level: 256}, {Kind: HistoryLayer + 1}, {Kind: ImageLayer, Adopted: true}, {Kind: HistoryLayer, Adopted: true}} {
		if _, err := NewLayerWriter(storefs.NewMem(), "", 7, o); err == nil {
			t.Errorf("writer made with %+v", o)
		}
	}
}

// The estimate leads to files of about the size that was asked for.
func TestLayerWriterEstimate(t *testing.T) {
	rng := testRNG(t)
	for _, n := range []int{10, 1000, 20_000} {
		w, err := NewLayerWriter(storefs.NewMem(), "", 7, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			r := Record{Key: MakeKey(1, 0x20, fmt.Appendf(nil, "k%06d", i)), LSN: wal.LSN(1 + i), Kind: KindValue, Meta: randomBytes(rng, 100)}
			if err := w.Add(&r); err != nil {
				t.Fatal(err)
			}
		}
		guess := w.EstimatedBytes()
		d, err := w.Finish()
		if err != nil || d.Bytes > guess+guess/20+1000 || d.Bytes < guess-guess/20-20_000 {
			t.Errorf("%d records: estimated %d, got %d, %v", n, guess, d.Bytes, err)
		}
	}
}

// Many read one layer at once, through a cache that is too small.
func TestLayerConcurrent(t *testing.T) {
	fs := storefs.NewMem()
	recs := layerRecords(testRNG(t), 1500)
	l := openLayer(t, fs, writeLayer(t, fs, WriterOptions{}, recs, nil), NewBlockCache(100_000))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			it := l.NewIter(IterOptions{FillCache: i%2 == 0})
			var buf GetBuf
			for range 500 {
				n := rng.IntN(len(recs))
				if r, ok, err := l.Get(recs[n].Key, recs[n].LSN, &buf); !ok || err != nil || !sameRecord(&r, &recs[n]) {
					t.Errorf("get of record %d: %v %v", n, ok, err)
					return
				}
				if !it.SeekGE(recs[n].Key, recs[n].LSN) || !sameRecord(it.Record(), &recs[n]) || it.Prev() != (n > 0) || n > 0 && !sameRecord(it.Record(), &recs[n-1]) {
					t.Errorf("seek to record %d: %v", n, it.Err())
					return
				}
			}
		})
	}
	wg.Wait()
}

// What d says must be what the file says.
func TestOpenLayerDisagrees(t *testing.T) {
	rng := testRNG(t)
	fs := storefs.NewMem()
	d := writeLayer(t, fs, WriterOptions{Level: 3}, layerRecords(rng, 100), nil)
	got, err := ReadDesc(fs, "layers", 7)
	if got.Level = 3; err != nil || !bytes.Equal(got.Append(nil), d.Append(nil)) {
		t.Fatalf("description in the file: %+v %v, want %+v", got, err, d)
	}
	for _, c := range []struct {
		what   string
		change func(*Desc)
	}{
		{"entries", func(d *Desc) { d.Entries++ }},
		{"bytes", func(d *Desc) { d.Bytes-- }},
		{"LSN", func(d *Desc) { d.MinLSN-- }},
		{"range", func(d *Desc) { d.Range.End = append(slices.Clone(d.Range.End), 0) }},
		{"adopted", func(d *Desc) { d.AdoptedLSN = 1 }},
		{"kind", func(d *Desc) { d.Kind = ImageLayer }},
		{"death", func(d *Desc) { d.MaxDeath = d.MaxLSN + 1 }},
	} {
		bad := d
		if c.change(&bad); true {
			if _, err := OpenLayer(fs, "layers", bad, nil); !errors.Is(err, ErrCorrupt) {
				t.Errorf("other %s: %v", c.what, err)
			}
		}
	}
	d.Level = 5 // the catalog may move a layer
	if l := openLayer(t, fs, d, nil); l.Desc().Level != 5 {
		t.Errorf("level %d", l.Desc().Level)
	}
	if _, err := OpenLayer(fs, "elsewhere", d, nil); err == nil || errors.Is(err, ErrCorrupt) {
		t.Errorf("no file: %v", err)
	}
	if err := vfs.Copy(fs, "layers/"+LayerName(7), "layers/"+LayerName(8)); err != nil {
		t.Fatal(err)
	}
	d.Num = 8
	if _, err := OpenLayer(fs, "layers", d, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a layer under another number: %v", err)
	}
}

// A file of a kind that there is none of is corrupt.
func TestLayerKinds(t *testing.T) {
	fs := storefs.NewMem()
	for _, kind := range []LayerKind{0, HistoryLayer + 1} {
		d := exampleDesc()
		d.Num, d.Kind = 7, kind
		file := appendLayerHeader(nil, 7, kind)
		properties := len(appendCRC(d.Append(nil)))
		d.Bytes = int64(len(file) + properties + layerFooterBytes)
		foot := layerFooter{num: 7, kind: kind, properties: section{layerHeaderBytes, uint64(properties)}, fileBytes: uint64(d.Bytes)}
		writeFile(t, fs, LayerName(7), foot.append(append(file, appendCRC(d.Append(nil))...)))
		if _, err := ReadDesc(fs, "", 7); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "unknown kind") {
			t.Errorf("file of kind %s: %v", kind, err)
		}
		if _, err := OpenLayer(fs, "", d, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func writeFile(t testing.TB, fs vfs.FS, name string, p []byte) {
	t.Helper()
	f, err := fs.Create(name, "test")
	if err == nil {
		_, err = f.Write(slices.Clone(p))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// An obsolete layer goes with its last user.
func TestLayerObsolete(t *testing.T) {
	fs := storefs.NewMem()
	d := writeLayer(t, fs, WriterOptions{}, layerRecords(testRNG(t), 10), nil)
	l, err := OpenLayer(fs, "layers", d, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.MarkObsolete()
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if names, err := fs.List("layers"); err != nil || len(names) != 0 {
		t.Errorf("left %v %v", names, err)
	}
}
