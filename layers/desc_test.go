package layers

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"stemma/wal"
)

func exampleDesc() Desc {
	return Desc{
		Num: 0x1234, Kind: DeltaLayer, Level: 6, Bytes: 1 << 20, MinLSN: 300, MaxLSN: 400, AdoptedLSN: 0, Entries: 5, Deletes: 1, RangeTombstones: 2, RawBytes: 1000,
		Range:    KeyRange{MakeKey(1, 0x20, []byte("a")), MakeKey(1, 0x20, []byte("b\x00"))},
		Segments: []SegmentRef{{0, 1}, {1, 2}, {500, 1 << 40}},
	}
}

func TestDescRoundTrip(t *testing.T) {
	none := exampleDesc()
	none.Segments = nil
	adopted := exampleDesc()
	adopted.MinLSN, adopted.MaxLSN, adopted.AdoptedLSN = wal.MaxLSN, wal.MaxLSN, wal.MaxLSN
	staged := exampleDesc()
	staged.MinLSN, staged.MaxLSN = 0, 0
	large := exampleDesc()
	large.MaxDeath, large.RangeTombstones = wal.MaxLSN, 0
	large.Num, large.Kind, large.Level, large.Bytes, large.RawBytes = math.MaxUint64, HistoryLayer, 255, math.MaxInt64, math.MaxUint64
	large.Segments = append(large.Segments, SegmentRef{math.MaxUint64 - 1, math.MaxUint64})
	for _, d := range []Desc{exampleDesc(), none, adopted, staged, large} {
		p := d.Append([]byte("x"))[1:]
		got, err := DecodeDesc(p)
		if err != nil || !reflect.DeepEqual(got, d) {
			t.Errorf("%+v\nagain %+v, %v", d, got, err)
		}
		clear(p)
		if !reflect.DeepEqual(got, d) {
			t.Error("the decoded description shares memory with its input")
		}
	}
}

func TestDescRefuses(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*Desc)
	}{
		{"no kind", func(d *Desc) { d.Kind = 0 }},
		{"unknown kind", func(d *Desc) { d.Kind = 4 }},
		{"no records", func(d *Desc) { d.Entries, d.Deletes, d.RangeTombstones = 0, 0, 0 }},
		{"more deletes", func(d *Desc) { d.Deletes = d.Entries + 1 }},
		{"negative size", func(d *Desc) { d.Bytes = -1 }},
		{"LSNs the wrong way", func(d *Desc) { d.MinLSN = d.MaxLSN + 1 }},
		{"no lowest LSN", func(d *Desc) { d.MinLSN = 0 }},
		{"LSN past the last", func(d *Desc) { d.MaxLSN = wal.MaxLSN + 1 }},
		{"death in a delta layer", func(d *Desc) { d.MaxDeath = 500 }},
		{"death in an image layer", func(d *Desc) { d.Kind, d.MaxDeath = ImageLayer, 500 }},
		{"no death in a history layer", func(d *Desc) { d.Kind, d.RangeTombstones = HistoryLayer, 0 }},
		{"last death at the highest LSN", func(d *Desc) { d.Kind, d.RangeTombstones, d.MaxDeath = HistoryLayer, 0, d.MaxLSN }},
		{"death past the last LSN", func(d *Desc) { d.Kind, d.RangeTombstones, d.MaxDeath = HistoryLayer, 0, wal.MaxLSN+1 }},
		{"range tombstones in a history layer", func(d *Desc) { d.Kind, d.MaxDeath = HistoryLayer, 500 }},
		{"adopted image layer", func(d *Desc) { d.Kind, d.AdoptedLSN = ImageLayer, 300 }},
		{"staged image layer", func(d *Desc) { d.Kind, d.MinLSN, d.MaxLSN = ImageLayer, 0, 0 }},
		{"empty range", func(d *Desc) { d.Range.End = d.Range.Start }},
		{"no end", func(d *Desc) { d.Range.End = nil }},
		{"no start", func(d *Desc) { d.Range.Start = nil }},
		{"segment at the end", func(d *Desc) { d.Segments = []SegmentRef{{math.MaxUint64, 1}} }},
		{"segment twice", func(d *Desc) { d.Segments = []SegmentRef{{5, 1}, {5, 1}} }},
		{"segments disordered", func(d *Desc) { d.Segments = []SegmentRef{{5, 1}, {4, 1}} }},
	} {
		d := exampleDesc()
		c.change(&d)
		if got, err := DecodeDesc(d.Append(nil)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %+v, %v", c.what, got, err)
		}
	}
	d := exampleDesc()
	whole := d.Append(nil)
	for n := range whole {
		if _, err := DecodeDesc(whole[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	if _, err := DecodeDesc(append(slices.Clone(whole), 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte more: %v", err)
	}
	whole[0]++
	if _, err := DecodeDesc(whole); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another version: %v", err)
	}
}

func TestDescGolden(t *testing.T) {
	d := exampleDesc()
	const want = "010106" + "0000100000000000" + // version, kind, level, bytes
		"b424" + "ac02" + "9003" + "00" + "00" + // number, LSNs, last death
		"05" + "01" + "02" + "e807" + // counts
		"0a" + "0000000000000001" + "20" + "61" + "0b" + "0000000000000001" + "20" + "6200" +
		"03" + "0001" + "0002" + "f203808080808020"
	if got := hex.EncodeToString(d.Append(nil)); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
}

func FuzzDesc(f *testing.F) {
	d := exampleDesc()
	f.Add(d.Append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		d, err := DecodeDesc(p)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if got := d.Append(nil); !bytes.Equal(got, p) {
			t.Fatalf("%x again %x", p, got)
		}
	})
}

func TestSegmentCounter(t *testing.T) {
	extents := func(e ...Extent) Body { return AppendExtentsBody(nil, e) }
	raw := func(seg FileNum, n, skip, length uint64) Extent {
		return Extent{Handle: Handle{Segment: seg, Offset: 4096, Length: n, Raw: n}, Skip: skip, Len: length}
	}
	packed := Extent{Handle: Handle{Segment: 2, Offset: 4096, Length: 60, Raw: 100}, Skip: 10, Len: 20}
	var c segmentCounter
	for _, b := range []Body{
		nil, AppendInlineBody(nil, []byte("x")),
		extents(raw(3, 100, 0, 100), raw(1, 50, 10, 20)), // only what is referred to
		extents(packed), // a compressed value counts whole
		AppendSpilledBody(nil, raw(4, 80, 0, 80), 1000, []FileNum{3, 4, 90}), // equal shares
	} {
		if err := c.count(b); err != nil {
			t.Fatal(err)
		}
	}
	want := []SegmentRef{{1, 20}, {2, 60}, {3, 433}, {4, 413}, {90, 333}}
	if got := c.refs(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, b := range []Body{{9}, {byte(BodySpilled)}, {byte(BodyExtents), 0}} {
		if err := c.count(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%x: %v", []byte(b), err)
		}
	}
}
