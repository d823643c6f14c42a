package layers

import (
	"context"
	"errors"
	"testing"

	"stemma/wal/storefs"
)

func TestEachHandle(t *testing.T) {
	rng := testRNG(t)
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{SegmentBytes: 1 << 30})
	var ext []Extent
	var length uint64
	for i := range 30_000 { // the list is more than one piece of its reader
		n := 1 + rng.Uint64N(1<<20)
		ext = append(ext, Extent{Handle: Handle{Segment: FileNum(3 + i%4), Offset: 4096 * uint64(i), Length: n, Raw: n, CRC: rng.Uint32()}, Len: n})
		length += n
	}
	plain := AppendExtentsBody(nil, ext)
	list := v.mustPut(rng, plain)[0]
	segs := []FileNum{3, 4, 5, 6}
	spilled := AppendSpilledBody(nil, list, length, segs)
	for _, b := range []Body{nil, AppendInlineBody(nil, []byte("x")), plain, spilled} {
		var want []Extent
		var wantErr error
		if b.Tag() != BodyInline {
			want, wantErr = v.LoadExtents(b, nil)
		}
		checkHandles(t, v, b, want, wantErr)
	}
	p, err := v.NewPacker("test")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	h, err := p.Add(AppendExtentsBody(nil, ext[:3]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	packed := AppendSpilledBody(nil, Extent{Handle: h, Len: h.Raw}, ext[0].Len+ext[1].Len+ext[2].Len, segs[:3])
	checkHandles(t, v, packed, ext[:3], nil)

	short := list
	short.Len--
	longer := v.mustPut(rng, append([]byte(plain), 0))[0]
	for name, b := range map[string]Body{
		"length":       AppendSpilledBody(nil, list, length+1, segs),
		"less":         AppendSpilledBody(nil, list, length-1, segs),
		"segment":      AppendSpilledBody(nil, list, length, segs[1:]),
		"short list":   AppendSpilledBody(nil, short, length, segs),
		"long list":    AppendSpilledBody(nil, longer, length, segs),
		"missing":      AppendSpilledBody(nil, Extent{Handle: Handle{Segment: 99, Offset: 4096, Length: 5, Raw: 5}, Len: 5}, 5, segs),
		"unknown form": {7, 1, 2},
		"cut off":      spilled[:20],
	} {
		_, want := v.LoadExtents(b, nil)
		if want == nil {
			t.Errorf("%s: is fine", name)
		}
		checkHandles(t, v, b, nil, want)
	}

	stop := errors.New("enough")
	calls := 0
	err = v.EachHandle(t.Context(), spilled, func(Handle) error {
		if calls++; calls == 5 {
			return stop
		}
		return nil
	})
	if err != stop || calls != 5 {
		t.Errorf("%d calls, %v", calls, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	err = v.EachHandle(ctx, plain, func(Handle) error { cancel(stop); return nil })
	if !errors.Is(err, stop) {
		t.Errorf("after cancel: %v", err)
	}
	for _, s := range v.Segments() {
		if s.Holds != 0 && s.Num != h.Segment {
			t.Errorf("left %+v", s)
		}
	}
}

func TestHandleRange(t *testing.T) {
	for n, want := range map[uint64]uint64{0: 0, 1: 1, valueChunkBytes: valueChunkBytes, valueChunkBytes + 1: valueChunkBytes + 1 + 8} {
		if got := (Handle{Offset: 4096, Length: n}).Range(); got != (ValueRange{4096, want}) {
			t.Errorf("%d bytes take %+v, want %d", n, got, want)
		}
	}
}

// Internal writers wait neither for uploads nor for ever.
func TestInternalWriter(t *testing.T) {
	rng := testRNG(t)
	v := openTestValues(t, storefs.NewMem(), ValuesOptions{MaxWriters: 1})
	upload, err := v.NewWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer upload.Close()
	value := randomBytes(rng, 100_000)
	put := func(category string) Extent {
		t.Helper()
		w, err := v.NewInternalWriter(t.Context(), storefs.User)
		if category != "" {
			w.Close()
			w, err = v.NewInternalWriter(t.Context(), "internal")
		}
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		w.Write(value)
		ext, err := w.Finish()
		if err != nil || len(ext) != 1 {
			t.Fatalf("%d extents, %v", len(ext), err)
		}
		v.check(rng, ext, value)
		return ext[0]
	}
	a, b, c, d := put(""), put("internal"), put(""), put("internal")
	if a.Segment != c.Segment || b.Segment != d.Segment || a.Segment == b.Segment {
		t.Fatalf("segments %d, %d, %d, %d: of one category and only of one", a.Segment, b.Segment, c.Segment, d.Segment)
	}
	var all []*ValueWriter
	for range internalWriters {
		w, err := v.NewInternalWriter(t.Context(), "internal")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		all = append(all, w)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.NewInternalWriter(ctx, "internal"); !errors.Is(err, ErrTooManyWriters) || !errors.Is(err, context.Canceled) {
		t.Fatalf("one more: %v", err)
	}
	all[0].Close()
	if w, err := v.NewInternalWriter(ctx, "internal"); err != nil {
		t.Fatal(err)
	} else {
		w.Close()
	}
}
