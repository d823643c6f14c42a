package object

import (
	"bytes"
	"errors"
	"testing"

	"stemma/layers"
)

func FuzzPageDelta(f *testing.F) {
	f.Add(pieces{{3, []byte("abc")}, {100, []byte("d")}}.append(nil))
	f.Add([]byte{0, 1, 'x', 0, 1, 'y'})
	f.Fuzz(func(t *testing.T, p []byte) {
		ps, err := decodePieces(p, MinPageBytes)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(ps.append(nil), p) {
			t.Fatalf("%x is encoded as %x", p, ps.append(nil))
		}
		page := make([]byte, MinPageBytes)
		ps.apply(page, 0)
		var again pieces
		for _, i := range ps {
			if !bytes.Equal(page[i.off:i.end()], i.data) {
				t.Fatalf("piece at %d is not on the page", i.off)
			}
			again = again.set(i.off, i.data)
		}
		if !bytes.Equal(again.append(nil), p) {
			t.Fatalf("%x is set as %x", p, again.append(nil))
		}
	})
}

func FuzzDeltaStack(f *testing.F) {
	f.Add(deltaStack{2, 300}.append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		d, err := decodeDeltaStack(&layers.Record{Kind: layers.KindDelta, Meta: p}, false)
		if err == nil && !bytes.Equal(d.append(nil), p) {
			t.Fatalf("%x is encoded as %x", p, d.append(nil))
		}
	})
}

func FuzzPageBase(f *testing.F) {
	f.Add(appendRuns(nil, []run{{off: 0, len: 100}, {off: 5000, len: 1}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		runs, err := decodeRuns(p)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(appendRuns(nil, runs), p) {
			t.Fatalf("%x is encoded as %x", p, appendRuns(nil, runs))
		}
		b := pageBase{runs: runs}
		last := runs[len(runs)-1].end()
		if got := b.overlap(0, last); len(got) != len(runs) {
			t.Fatalf("%v in all of %v", got, runs)
		}
		mid := last / 2
		left, right := cutRuns(runs, mid, last), cutRuns(runs, 0, mid)
		var n uint64
		for _, r := range append(left, right...) {
			n += r.len
		}
		if all := runs[len(runs)-1]; n != all.body+all.len {
			t.Fatalf("%v cut at %d: %v and %v", runs, mid, left, right)
		}
	})
}

func FuzzSealedBase(f *testing.F) {
	f.Add(appendSealedRuns(nil, []sealedStream{{size: 70_000}}, []run{{off: 0, len: 100}, {off: 5000, len: 1, body: 69_999}}))
	f.Add(appendSealedRuns(nil, []sealedStream{{part: 1, size: 100_000}, {part: 3}, {part: copiedPart, size: 80_000}}, []run{{len: 10, body: 99_990}, {off: 10, len: 70_000, body: 110_000}, {off: 90_000, len: 1, body: 99_989}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, runs, err := decodeSealedRuns(p)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if again := appendSealedRuns(nil, b.streams, runs); !bytes.Equal(again, p) {
			t.Fatalf("%x is encoded as %x", p, again)
		}
		var at uint64
		for _, s := range b.spans {
			if s.at != at || s.to <= s.from {
				t.Fatalf("spans %v", b.spans)
			}
			at += s.to - s.from
		}
		for _, r := range runs { // all that a part of a run needs is there
			for _, part := range []run{r, {len: 1, body: r.body}, {len: 1, body: r.body + r.len - 1}, {len: (r.len + 1) / 2, body: r.body + r.len/2}} {
				touched, err := b.touched(part.body, part.len)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range touched {
					if _, err := b.at(s.from, s.to-s.from); err != nil {
						t.Fatalf("%+v of %+v: %v", part, r, err)
					}
				}
			}
		}
	})
}

func FuzzSealedPage(f *testing.F) {
	seal := &pageSeal{&dataKey{1}, fileID{2}}
	f.Add([]byte("meta"), []byte("page"))
	meta, page := seal.seal(7, layers.KindValue, nil, []byte("page"))
	f.Add(meta, page)
	f.Fuzz(func(t *testing.T, meta, p []byte) {
		if _, err := seal.open(7, layers.KindValue, meta, p); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		locked, sealed := seal.seal(8, layers.KindDelta, meta, p)
		if len(sealed) != len(p) || len(locked) != len(meta)+pageLockBytes {
			t.Fatalf("%d and %d bytes became %d and %d", len(meta), len(p), len(locked), len(sealed))
		}
		if got, err := seal.open(8, layers.KindDelta, locked, sealed); err != nil || !bytes.Equal(got, p) {
			t.Fatalf("%x became %x, %v", p, got, err)
		}
		if _, err := seal.open(8, layers.KindValue, locked, sealed); err == nil {
			t.Fatal("a delta opens as a page")
		}
	})
}
