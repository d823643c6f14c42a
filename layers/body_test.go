package layers

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func exampleExtents(n int) []Extent {
	var e []Extent
	for i := range uint64(n) {
		e = append(e, Extent{Handle: Handle{Segment: FileNum(i * i), Offset: i << 20, Length: i + 100, Raw: i + 1000, CRC: uint32(i) * 0x9e3779b9}, Skip: i, Len: 1000})
	}
	return e
}

func TestBodyForms(t *testing.T) {
	if b := AppendInlineBody(nil, nil); len(b) != 0 || b.Tag() != BodyEmpty {
		t.Errorf("nothing inline: %x", []byte(b))
	}
	if b := AppendExtentsBody(nil, nil); len(b) != 0 {
		t.Errorf("no extents: %x", []byte(b))
	}
	inline := AppendInlineBody(nil, []byte("data"))
	if n, err := inline.Len(); inline.Tag() != BodyInline || string(inline.Inline()) != "data" || n != 4 || err != nil {
		t.Errorf("inline: %x %d %v", []byte(inline), n, err)
	}
	for _, n := range []int{1, 3, 8, 9, 100} {
		want := exampleExtents(n)
		b := AppendExtentsBody(nil, want)
		got, err := b.Extents([]Extent{{Skip: 7}})
		if err != nil || got[0].Skip != 7 || !slices.Equal(got[1:], want) {
			t.Fatalf("%d extents: %+v %v", n, got, err)
		}
		if length, err := b.Len(); err != nil || length != uint64(n)*1000 {
			t.Errorf("%d extents of length %d, %v", n, length, err)
		}
		segs, err := b.Segments([]FileNum{55})
		if err != nil || len(segs) != n+1 || segs[0] != 55 || segs[n] != FileNum((n-1)*(n-1)) {
			t.Errorf("segments %v %v", segs, err)
		}
	}
	list := exampleExtents(2)[1]
	for _, segs := range [][]FileNum{nil, {5}, {0, 1, 1 << 63}} {
		b := AppendSpilledBody(nil, list, 1<<40, segs)
		gotList, length, gotSegs, err := b.Spilled()
		if err != nil || gotList != list || length != 1<<40 || !slices.Equal(gotSegs, segs) {
			t.Errorf("spilled: %+v %d %v %v", gotList, length, gotSegs, err)
		}
		if n, err := b.Len(); n != 1<<40 || err != nil {
			t.Errorf("length %d %v", n, err)
		}
		if all, err := b.Segments(nil); err != nil || !slices.Equal(all, append([]FileNum{list.Segment}, segs...)) {
			t.Errorf("segments %v %v", all, err)
		}
	}
}

func TestBodyRefuses(t *testing.T) {
	e := exampleExtents(2)
	bad := func(change func(*Extent)) Body {
		x := e[1]
		change(&x)
		return AppendExtentsBody(nil, []Extent{x})
	}
	for what, b := range map[string]Body{
		"unknown tag":            {9},
		"a zero byte":            {0},
		"no count":               {byte(BodyExtents)},
		"no extents":             {byte(BodyExtents), 0},
		"overlong count":         {byte(BodyExtents), 0x81, 0},
		"more than there are":    {byte(BodyExtents), 0xff, 0xff, 0x7f},
		"skip past the end":      bad(func(e *Extent) { e.Skip = e.Raw + 1 }),
		"longer than the value":  bad(func(e *Extent) { e.Len = e.Raw }),
		"offset out of bounds":   bad(func(e *Extent) { e.Offset = 1 << 62 }),
		"length out of bounds":   bad(func(e *Extent) { e.Length = 1 << 63 }),
		"left over":              append(AppendExtentsBody(nil, e), 0),
		"spilled and left over":  append(AppendSpilledBody(nil, e[1], 9, nil), 0),
		"segments in disorder":   AppendSpilledBody(nil, e[1], 9, []FileNum{5, 4}),
		"a segment twice":        AppendSpilledBody(nil, e[1], 9, []FileNum{5, 5}),
		"spilled without a list": {byte(BodySpilled)},
	} {
		if n, err := b.Len(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: length %d, %v", what, n, err)
		}
		if s, err := b.Segments(nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: segments %v, %v", what, s, err)
		}
	}
	for _, b := range []Body{AppendExtentsBody(nil, e), AppendSpilledBody(nil, e[1], 9, []FileNum{5})} {
		for n := 1; n < len(b); n++ {
			if _, err := b[:n].Len(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d of %d bytes: %v", n, len(b), err)
			}
		}
	}
	if _, err := Body(nil).Extents(nil); !errors.Is(err, ErrCorrupt) {
		t.Error("extents of an empty body")
	}
}

// What decodes must encode to the same bytes.
func FuzzBody(f *testing.F) {
	f.Add([]byte(AppendInlineBody(nil, []byte("x"))))
	f.Add([]byte(AppendExtentsBody(nil, exampleExtents(3))))
	f.Add([]byte(AppendSpilledBody(nil, exampleExtents(1)[0], 77, []FileNum{1, 2})))
	f.Fuzz(func(t *testing.T, p []byte) {
		b := Body(p)
		_, err := b.Len()
		segs, serr := b.Segments(nil)
		if (err == nil) != (serr == nil) || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err, serr)
		}
		if err != nil {
			return
		}
		var again Body
		switch b.Tag() {
		case BodyEmpty:
		case BodyInline:
			if again = AppendInlineBody(nil, b.Inline()); len(b) == 1 {
				again = b // an empty inline body is read, but not written
			}
		case BodyExtents:
			e, err := b.Extents(nil)
			if err != nil || len(e) != len(segs) {
				t.Fatal(err)
			}
			again = AppendExtentsBody(nil, e)
		case BodySpilled:
			list, n, named, err := b.Spilled()
			if err != nil || len(segs) != len(named)+1 {
				t.Fatal(err)
			}
			again = AppendSpilledBody(nil, list, n, named)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x again %x", p, []byte(again))
		}
	})
}
