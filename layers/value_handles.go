package layers

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// ValueRange is what one stored value takes in its segment, chunk table included,
// in the offsets of handles.
type ValueRange struct{ Offset, Length uint64 } // bytes

func (r ValueRange) end() uint64 { return r.Offset + r.Length }

// Range returns what the value takes.
func (h Handle) Range() ValueRange {
	return ValueRange{Offset: h.Offset, Length: h.Length + valueTableBytes(h.Length)}
}

// Footprint returns how to get from the Length of a value's Range to what the value
// costs the segment's file: behind a streamed one the next begins with a block, and
// of a rewritten file the table has an entry for each. Errors: those of Streamed.
func (v *Values) Footprint(num FileNum) (func(length uint64) uint64, error) {
	streamed, err := v.Streamed(num)
	if err != nil {
		return nil, err
	}
	v.mu.RLock()
	s := v.mu.segments[num]
	v.mu.RUnlock()
	align, entry := uint64(1), uint64(0)
	if streamed {
		align = valueAlign
	}
	if s != nil && s.generation.Load() > 0 {
		entry = remapEntryBytes
	}
	return func(length uint64) uint64 { return roundUp(length, align) + entry }, nil
}

// EachHandle calls fn for every stored value that body refers to: those of its
// extents, and for a spilled body first the list. A value that several extents
// share comes as often. fn's error ends it. A spilled list is read in pieces;
// each is verified before fn sees a handle of it, but only a nil error says that
// the list was whole and as the body describes it.
//
// Errors: that of fn, ctx's cause, ErrCorrupt, ErrNoSegment, those of the disk.
func (v *Values) EachHandle(ctx context.Context, body Body, fn func(Handle) error) error {
	switch body.Tag() {
	case BodyEmpty, BodyInline:
		return nil
	case BodyExtents:
		d := extentDecoder{window: body}
		return d.each(ctx, func(e *Extent) error { return fn(e.Handle) })
	}
	list, length, segs, err := body.Spilled()
	if err != nil {
		return err
	}
	if list.Len > maxSpilledBytes {
		return fmt.Errorf("handles of body: list of %d bytes, at most %d: %w", list.Len, maxSpilledBytes, ErrCorrupt)
	}
	if err := fn(list.Handle); err != nil {
		return err
	}
	r, err := v.NewReader([]Extent{list}, 0, list.Len)
	if err != nil {
		return fmt.Errorf("handles of body: %w", err)
	}
	defer r.Close()
	bad := func(format string, args ...any) error {
		return fmt.Errorf("handles of body: list in %s at %d: %s: %w", v.path(list.Segment), list.Offset, fmt.Sprintf(format, args...), ErrCorrupt)
	}
	var sum uint64
	d := extentDecoder{r: r}
	err = d.each(ctx, func(e *Extent) error {
		if sum += e.Len; sum > length || sum < e.Len {
			return bad("more than the %d bytes that the body says", length)
		}
		if _, ok := slices.BinarySearch(segs, e.Segment); !ok {
			return bad("segment %d is not in the body", e.Segment)
		}
		return fn(e.Handle)
	})
	if err == nil && sum != length {
		err = bad("%d bytes, the body says %d", sum, length)
	}
	return err
}

// maxExtentEncoded bounds the encoding of one extent, or of the count before them.
const maxExtentEncoded = 6*10 + 4

// extentDecoder decodes an extents body piece by piece.
type extentDecoder struct {
	window []byte       // not decoded yet
	r      *ValueReader // has what follows; nil: nothing
	buf    []byte       // window lies in it, if r is not nil
}

// fill makes the window hold an extent whole, or all that is left.
func (d *extentDecoder) fill() error {
	for len(d.window) < maxExtentEncoded && d.r != nil {
		if d.buf == nil {
			d.buf = make([]byte, 32<<10)
		}
		n := copy(d.buf, d.window)
		m, err := d.r.Read(d.buf[n:])
		d.window = d.buf[:n+m]
		if err == io.EOF {
			d.r = nil
		} else if err != nil {
			return fmt.Errorf("decode extents: %w", err)
		}
	}
	return nil
}

// each is Body.Extents one by one.
func (d *extentDecoder) each(ctx context.Context, fn func(*Extent) error) error {
	if err := d.fill(); err != nil {
		return err
	}
	if tag := Body(d.window).Tag(); tag != BodyExtents {
		return fmt.Errorf("decode extents: body has tag %d: %w", tag, ErrCorrupt)
	}
	n, rest, ok := uvarint(d.window[1:])
	if !ok || n == 0 || n > MaxExtents {
		return fmt.Errorf("decode extents: bad count: %w", ErrCorrupt)
	}
	d.window = rest
	for i := range n {
		if i%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := d.fill(); err != nil {
			return err
		}
		var e Extent
		var err error
		if d.window, err = decodeExtent(d.window, &e); err != nil {
			return err
		}
		if err := fn(&e); err != nil {
			return err
		}
	}
	if err := d.fill(); err != nil {
		return err
	}
	if len(d.window) != 0 {
		return fmt.Errorf("decode extents: bytes left over: %w", ErrCorrupt)
	}
	return nil
}
