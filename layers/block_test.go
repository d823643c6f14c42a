package layers

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/pierrec/lz4/v4"

	"stemma/wal"
)

// buildBlock makes a block of records whose entries have the given flags;
// adopted ones have no LSN in it.
func buildBlock(recs []Record, flags byte) []byte {
	b := blockBuilder{every: dataRestarts}
	for i := range recs {
		lsn := recs[i].LSN
		if flags&entryAdopted != 0 {
			lsn = 0
		}
		value := appendRecordValue(nil, &recs[i], flags)
		b.begin(recs[i].Key, lsn, len(value))
		b.buf = append(b.buf, value...)
	}
	return b.finish()
}

// blockWalker makes an Iterator of a blockIter over records, for randomMoves.
type blockWalker struct {
	blockIter
	flags byte
	rec   Record
}

func (w *blockWalker) on(ok bool) bool {
	if ok {
		if err := decodeRecord(&w.rec, w.key, w.lsn, w.value, w.flags); err != nil {
			w.corrupt("%w", err)
			return false
		}
	}
	return ok
}
func (w *blockWalker) SeekGE(key Key, lsn wal.LSN) bool { return w.on(w.seekGE(key, lsn)) }
func (w *blockWalker) SeekLT(key Key, lsn wal.LSN) bool { return w.on(w.seekLT(key, lsn)) }
func (w *blockWalker) First() bool                      { return w.on(w.first()) }
func (w *blockWalker) Last() bool                       { return w.on(w.last()) }
func (w *blockWalker) Next() bool                       { return w.on(w.step()) }
func (w *blockWalker) Prev() bool                       { return w.on(w.stepBack()) }
func (w *blockWalker) Record() *Record                  { return &w.rec }
func (w *blockWalker) Err() error                       { return w.err }
func (w *blockWalker) Close() error                     { return nil }

func TestBlockModel(t *testing.T) {
	rng := testRNG(t)
	for range 200 {
		recs := layerRecords(rng, 1+rng.IntN(80))
		w := new(blockWalker)
		if err := w.init(buildBlock(recs, 0), 0); err != nil {
			t.Fatal(err)
		}
		randomMoves(t, rng, w, recs, 150)
	}
}

// Blocks come back from their stored form, and from nowhere else.
func TestSealBlock(t *testing.T) {
	rng := testRNG(t)
	var c lz4.Compressor
	for _, n := range []int{0, 1, 60, 100, 5000, 16 << 10, 1 << 20} {
		for _, raw := range [][]byte{randomBytes(rng, n), compressibleBytes(rng, n), make([]byte, n)} {
			off := rng.Uint64N(1 << 40)
			stored := sealBlock([]byte("before"), raw, 9, off, &c)[6:]
			if len(stored) > len(raw)+blockTrailer || stored[len(stored)-9] == blockLZ4 && len(stored) > len(raw)-len(raw)/8+blockTrailer {
				t.Errorf("%d bytes stored as %d, form %d", n, len(stored), stored[len(stored)-9])
			}
			got, err := openBlock(stored, 9, off)
			if err != nil || !bytes.Equal(got, raw) {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if _, err := openBlock(stored, 9, off+1); !errors.Is(err, ErrCorrupt) {
				t.Errorf("elsewhere: %v", err)
			}
			if _, err := openBlock(stored, 8, off); !errors.Is(err, ErrCorrupt) {
				t.Errorf("in another file: %v", err)
			}
			if _, err := openBlock(stored[:len(stored)-1], 9, off); !errors.Is(err, ErrCorrupt) {
				t.Errorf("cut: %v", err)
			}
		}
	}
}

// Stored blocks of version 1, raw and compressed, open for ever.
func TestStoredBlockGolden(t *testing.T) {
	for stored, want := range map[string]string{
		"6162636400040000008a4f4987": "abcd",
		"4f61626364040039004c00000400c06162636461626364616263640164000000ca4ad3f1": strings.Repeat("abcd", 25),
	} {
		p, err := hex.DecodeString(stored)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := openBlock(p, 9, 4096); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", stored, got, err)
		}
	}
}

// parseRecord parses "timeline key lsn kind meta body".
func parseRecord(t *testing.T, line string) Record {
	f := strings.Fields(line)
	for len(f) < 6 {
		f = append(f, "")
	}
	timeline, err1 := strconv.ParseUint(f[0], 10, 64)
	born, died, ok := strings.Cut(f[2], "-")
	if !ok {
		died = "0"
	}
	lsn, err2 := strconv.ParseUint(born, 10, 64)
	death, err3 := strconv.ParseUint(died, 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	r := Record{Key: MakeKey(TimelineID(timeline), NamespaceObjects, []byte(f[1])), LSN: wal.LSN(lsn), Death: wal.LSN(death), Meta: []byte(f[4])}
	switch f[3] {
	case "value":
		r.Kind = KindValue
	case "delta":
		r.Kind = KindDelta
	case "tombstone":
		r.Kind = KindTombstone
	default: // the end of a range
		r.Kind, r.Meta, r.End = KindRangeTombstone, nil, MakeKey(TimelineID(timeline), NamespaceObjects, []byte(f[3]))
	}
	r.Body = AppendInlineBody(nil, []byte(f[5]))
	return r
}

// lifeOf is when a record is visible, as parseRecord reads it.
func lifeOf(r *Record) string {
	if r.Death == 0 {
		return fmt.Sprint(uint64(r.LSN))
	}
	return fmt.Sprintf("%d-%d", r.LSN, r.Death)
}

// Scripts that show what blocks hold, byte by byte, and how they are walked.
func TestBlockScripts(t *testing.T) {
	var w blockWalker
	datadriven.RunTest(t, "testdata/block", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		switch d.Cmd {
		case "build":
			var recs []Record
			for line := range strings.Lines(d.Input) {
				recs = append(recs, parseRecord(t, line))
			}
			w = blockWalker{}
			if d.HasArg("adopted") {
				w.flags |= entryAdopted
			}
			if d.HasArg("history") {
				w.flags |= entryDeath
			}
			block := buildBlock(recs, w.flags)
			var bias wal.LSN
			if d.HasArg("adopted") {
				bias = 1000
			}
			if err := w.init(block, bias); err != nil {
				t.Fatal(err)
			}
			return hex.Dump(block)
		case "walk":
			for line := range strings.Lines(d.Input) {
				f := append(strings.Fields(line), "", "", "")
				lsn, _ := strconv.ParseUint(f[3], 10, 64)
				timeline, _ := strconv.ParseUint(f[1], 10, 64)
				key := MakeKey(TimelineID(timeline), NamespaceObjects, []byte(f[2]))
				move := map[string]func() bool{
					"first": w.First, "last": w.Last, "next": w.Next, "prev": w.Prev,
					"ge": func() bool { return w.SeekGE(key, wal.LSN(lsn)) },
					"lt": func() bool { return w.SeekLT(key, wal.LSN(lsn)) },
				}[f[0]]
				if move() {
					fmt.Fprintf(&out, "%s: %s at %s kind %d meta %q body %q\n", strings.TrimSpace(line), w.rec.Key, lifeOf(&w.rec), w.rec.Kind, w.rec.Meta, w.rec.Body)
				} else {
					fmt.Fprintf(&out, "%s: nothing, err %v\n", strings.TrimSpace(line), w.err)
				}
			}
		default:
			t.Fatalf("unknown command %q", d.Cmd)
		}
		return out.String()
	})
}

// moveBlock walks a block every way there is; it must not panic, and after a
// failure it must stand on nothing.
func moveBlock(t *testing.T, raw []byte, rng *rand.Rand) (keys []Key, lsns []wal.LSN, values [][]byte) {
	var it blockIter
	if it.init(raw, 0) != nil {
		return
	}
	for it.step() {
		keys, lsns, values = append(keys, bytes.Clone(it.key)), append(lsns, it.lsn), append(values, it.value)
		var r Record
		if err := decodeRecord(&r, it.key, it.lsn, it.value, 0); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if err := decodeRecord(&r, it.key, it.lsn, it.value, entryDeath); err != nil && !errors.Is(err, ErrCorrupt) || err == nil && r.Death <= r.LSN {
			t.Fatal(r.Death, err)
		}
		if _, err := decodeBlockRef(it.value, it.lsn); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	}
	failed := it.err
	if failed != nil && (!errors.Is(failed, ErrCorrupt) || it.valid() || it.step() || it.stepBack() || it.first() || it.last()) {
		t.Fatalf("after %v it goes on", failed)
	}
	sound := restartsSound(raw)
	it.init(raw, 0)
	for n, ok := len(keys)-1, it.last(); ok && sound; n, ok = n-1, it.stepBack() {
		if n < 0 || !bytes.Equal(it.key, keys[n]) || it.lsn != lsns[n] || !bytes.Equal(it.value, values[n]) {
			t.Fatalf("backward, entry %d differs", n)
		}
	}
	for range 20 {
		it.init(raw, 0)
		key, lsn := Key(randomBytes(rng, rng.IntN(12))), wal.LSN(rng.Uint64N(1<<63))
		if len(keys) > 0 && rng.IntN(2) == 0 {
			n := rng.IntN(len(keys))
			key, lsn = keys[n], lsns[n]
		}
		if it.seekGE(key, lsn) && compareRecords(it.key, it.lsn, key, lsn) < 0 {
			t.Fatal("seek to a lower record")
		}
		it.seekLT(key, lsn)
		it.stepBack()
		it.step()
	}
	if failed != nil {
		return nil, nil, nil
	}
	return
}

// restartsSound reports whether the restarts of a block are where a builder puts them.
func restartsSound(raw []byte) bool {
	var it blockIter
	if it.init(raw, 0) != nil {
		return false
	}
	for n := 0; it.step(); n++ {
		if it.checkRestart(n, dataRestarts) != nil {
			return false
		}
	}
	return it.err == nil
}

// Below the checksum: arbitrary bytes as a block. What decodes, and is of the
// builder's form, encodes to a block with the same entries.
func FuzzBlock(f *testing.F) {
	for _, n := range []int{1, 16, 33} {
		var recs []Record
		for i := range n {
			recs = append(recs, Record{Key: MakeKey(1, 2, fmt.Append(nil, 100+i/2)), LSN: wal.LSN(50 - i%2), Kind: KindValue, Meta: []byte("m")})
		}
		f.Add(buildBlock(recs, 0))
	}
	b := blockBuilder{every: dataRestarts}
	ref := blockRef{off: 99, length: 100, minLSN: 5, maxLSN: 10}
	value := ref.appendValue(nil, 7)
	b.begin(MakeKey(1, 2, nil), 7, len(value))
	b.buf = append(b.buf, value...)
	f.Add(b.finish())
	f.Fuzz(func(t *testing.T, raw []byte) {
		rng := rand.New(rand.NewPCG(uint64(len(raw)), 2))
		keys, lsns, values := moveBlock(t, raw, rng)
		b := blockBuilder{every: dataRestarts}
		for i := range keys {
			b.begin(keys[i], lsns[i], len(values[i]))
			b.buf = append(b.buf, values[i]...)
		}
		if len(keys) == 0 {
			return
		}
		again := bytes.Clone(b.finish())
		keys2, lsns2, values2 := moveBlock(t, again, rng)
		if len(keys2) != len(keys) {
			t.Fatalf("%d entries, encoded again %d", len(keys), len(keys2))
		}
		for i := range keys {
			if !bytes.Equal(keys[i], keys2[i]) || lsns[i] != lsns2[i] || !bytes.Equal(values[i], values2[i]) {
				t.Fatalf("entry %d differs", i)
			}
		}
	})
}

// Above and below the checksum: arbitrary bytes as a stored block.
func FuzzStoredBlock(f *testing.F) {
	var c lz4.Compressor
	for _, raw := range [][]byte{nil, []byte("abc"), bytes.Repeat([]byte("abc"), 100)} {
		f.Add(sealBlock(nil, raw, 7, 32, &c))
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		if raw, err := openBlock(stored, 7, 32); err == nil && len(raw) > maxBlockBytes+len(stored) || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(len(raw), err)
		}
		if len(stored) < blockTrailer {
			return
		}
		raw, err := expandBlock(stored[:len(stored)-4])
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if got, err := openBlock(sealBlock(nil, raw, 7, 32, &c), 7, 32); err != nil || !bytes.Equal(got, raw) {
			t.Fatal(err)
		}
	})
}

// A record's value is canonical: what decodes encodes to the same bytes.
func FuzzRecordValue(f *testing.F) {
	for _, r := range []Record{{Kind: KindValue, Meta: []byte("meta"), Body: AppendInlineBody(nil, []byte("body"))}, {Kind: KindTombstone}, {Kind: KindTombstone, Writer: 1}, {Kind: KindValue, Writer: 300, Meta: []byte("meta")}, {Kind: KindDelta, Meta: make([]byte, 200)}} {
		r.LSN, r.Death = 3, 3+300
		for _, flags := range []byte{0, entryAdopted, entryDeath} {
			f.Add(appendRecordValue(nil, &r, flags), flags, uint64(r.LSN))
		}
	}
	f.Fuzz(func(t *testing.T, p []byte, flags byte, at uint64) {
		flags &= entryAdopted | entryDeath
		lsn := wal.LSN(at) & wal.MaxLSN
		var r Record
		if err := decodeRecord(&r, MakeKey(1, 2, nil), lsn, p, flags); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		ended := r.Death > lsn && r.Death <= wal.MaxLSN
		if got := appendRecordValue(nil, &r, flags); !bytes.Equal(got, p) || r.LSN != lsn || r.Adopted != (flags&entryAdopted != 0) || ended != (flags&entryDeath != 0) || !ended && r.Death != 0 {
			t.Fatalf("%x again %x", p, got)
		}
	})
}

func FuzzBlockRef(f *testing.F) {
	ref := blockRef{off: 32, length: 1000, minLSN: 5, maxLSN: 500}
	f.Add(ref.appendValue(nil, 7), uint64(7))
	f.Fuzz(func(t *testing.T, p []byte, last uint64) {
		last &= uint64(wal.MaxLSN)
		ref, err := decodeBlockRef(p, wal.LSN(last))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if got := ref.appendValue(nil, wal.LSN(last)); !bytes.Equal(got, p) || ref.minLSN > wal.LSN(last) || ref.maxLSN < wal.LSN(last) || ref.maxLSN > wal.MaxLSN {
			t.Fatalf("%x again %x: %+v", p, got, ref)
		}
	})
}

// What no writer makes of a death LSN is corrupt, whatever else would notice.
func TestDecodeRecordDeath(t *testing.T) {
	const value = byte(KindTombstone) | entryDeath
	entry := func(after uint64) []byte { return append(binary.AppendUvarint([]byte{value}, after), 0) }
	for _, c := range []struct {
		what  string
		lsn   wal.LSN
		p     []byte
		flags byte
		death wal.LSN // zero: corrupt
	}{
		{"shortest", 7, entry(1), entryDeath, 8},
		{"longest", 7, entry(uint64(wal.MaxLSN - 7)), entryDeath, wal.MaxLSN},
		{"past the last LSN", 7, entry(uint64(wal.MaxLSN - 6)), entryDeath, 0},
		{"past every number", 7, entry(1<<64 - 1), entryDeath, 0},
		{"record at the last LSN", wal.MaxLSN, entry(1), entryDeath, 0},
		{"record past the last LSN", wal.MaxLSN + 1, entry(1), entryDeath, 0},
		{"at birth", 7, entry(0), entryDeath, 0},
		{"no meta behind it", 7, []byte{value, 1}, entryDeath, 0},
		{"cut", 7, []byte{value, 0x80}, entryDeath, 0},
		{"long form", 7, []byte{value, 0x81, 0, 0}, entryDeath, 0},
		{"in another layer", 7, entry(1), 0, 0},
		{"missing", 7, []byte{byte(KindTombstone), 0}, entryDeath, 0},
		{"adopted", 7, entry(1), entryAdopted, 0},
	} {
		r := Record{Death: 99} // of the record before
		err := decodeRecord(&r, MakeKey(1, 2, nil), c.lsn, c.p, c.flags)
		if c.death == 0 && !errors.Is(err, ErrCorrupt) || c.death > 0 && (err != nil || r.Death != c.death) {
			t.Errorf("%s: death at %d, %v, want %d", c.what, r.Death, err, c.death)
		}
	}
	r := Record{Death: 99}
	if err := decodeRecord(&r, MakeKey(1, 2, nil), 7, []byte{byte(KindTombstone), 0}, 0); err != nil || r.Death != 0 {
		t.Errorf("without a death: %d, %v", r.Death, err)
	}
}
