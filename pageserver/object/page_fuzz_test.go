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
		d, err := decodeDeltaStack(&layers.Record{Kind: layers.KindDelta, Meta: p})
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
