package layers

import (
	"encoding/binary"
	"fmt"
)

// Handle names one stored value in a value segment: a byte range that was
// written at once and has its own checksum. It never changes once written.
type Handle struct {
	Segment FileNum
	Offset  uint64 // of the stored bytes, from the start of the file
	Length  uint64 // stored bytes, without the chunk table behind them
	Raw     uint64 // bytes after decompression; equal to Length when stored raw
	CRC     uint32 // see Values: of the stored bytes, or of the chunk table
}

// Extent is a piece of a stored value: Len bytes of the raw value from Skip on.
type Extent struct {
	Handle
	Skip uint64
	Len  uint64
}

// Body is the encoded body of a record. The empty Body has no bytes.
//
//	tag 0x01 inline   : the bytes
//	tag 0x02 extents  : uvarint count, then per extent the uvarints
//	                    segment, offset, length, raw, skip, len and the CRC (4 bytes, little-endian)
//	tag 0x03 spilled  : one extent whose value is an extents body (tag included),
//	                    uvarint logical length, uvarint count, then the segments it names (uvarints, ascending)
type Body []byte

// BodyTag is the first byte of a Body.
type BodyTag byte

// The forms of a body.
const (
	BodyEmpty   BodyTag = 0
	BodyInline  BodyTag = 1
	BodyExtents BodyTag = 2
	BodySpilled BodyTag = 3
)

// MaxExtents bounds one extents body; longer lists are refused by decoders.
const MaxExtents = 1 << 20

// Tag returns the form of b. Only a body without bytes is empty: a zero byte in
// the tag's place is no form at all.
func (b Body) Tag() BodyTag {
	switch {
	case len(b) == 0:
		return BodyEmpty
	case b[0] == 0:
		return 0xff
	}
	return BodyTag(b[0])
}

// Inline returns the bytes of an inline body; it aliases b.
func (b Body) Inline() []byte { return b[1:] }

// AppendInlineBody appends the body that holds p itself.
func AppendInlineBody(dst []byte, p []byte) Body {
	if len(p) == 0 {
		return dst
	}
	return append(append(dst, byte(BodyInline)), p...)
}

// AppendExtentsBody appends the body made of ext.
func AppendExtentsBody(dst []byte, ext []Extent) Body {
	if len(ext) == 0 {
		return dst
	}
	dst = append(dst, byte(BodyExtents))
	dst = binary.AppendUvarint(dst, uint64(len(ext)))
	for i := range ext {
		dst = appendExtent(dst, &ext[i])
	}
	return dst
}

// AppendSpilledBody appends the body whose extent list is itself stored at list
// and describes length bytes in the given segments (ascending, no repeats).
func AppendSpilledBody(dst []byte, list Extent, length uint64, segments []FileNum) Body {
	dst = append(dst, byte(BodySpilled))
	dst = appendExtent(dst, &list)
	dst = binary.AppendUvarint(dst, length)
	dst = binary.AppendUvarint(dst, uint64(len(segments)))
	for _, s := range segments {
		dst = binary.AppendUvarint(dst, uint64(s))
	}
	return dst
}

func appendExtent(dst []byte, e *Extent) []byte {
	dst = binary.AppendUvarint(dst, uint64(e.Segment))
	dst = binary.AppendUvarint(dst, e.Offset)
	dst = binary.AppendUvarint(dst, e.Length)
	dst = binary.AppendUvarint(dst, e.Raw)
	dst = binary.AppendUvarint(dst, e.Skip)
	dst = binary.AppendUvarint(dst, e.Len)
	return binary.LittleEndian.AppendUint32(dst, e.CRC)
}

// uvarint is binary.Uvarint that refuses overlong and truncated forms.
func uvarint(p []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(p)
	if n <= 0 || (n > 1 && p[n-1] == 0) {
		return 0, nil, false
	}
	return v, p[n:], true
}

func decodeExtent(p []byte, e *Extent) ([]byte, error) {
	var f [6]uint64
	for i := range f {
		v, rest, ok := uvarint(p)
		if !ok {
			return nil, fmt.Errorf("decode extent: bad number %d: %w", i, ErrCorrupt)
		}
		f[i], p = v, rest
	}
	if len(p) < 4 {
		return nil, fmt.Errorf("decode extent: %d bytes left, want a 4-byte checksum: %w", len(p), ErrCorrupt)
	}
	*e = Extent{
		Handle: Handle{Segment: FileNum(f[0]), Offset: f[1], Length: f[2], Raw: f[3], CRC: binary.LittleEndian.Uint32(p)},
		Skip:   f[4], Len: f[5],
	}
	const limit = 1 << 62
	if e.Offset >= limit || e.Length >= limit || e.Raw >= limit || e.Skip > e.Raw || e.Len > e.Raw-e.Skip {
		return nil, fmt.Errorf("decode extent: %+v out of bounds: %w", *e, ErrCorrupt)
	}
	return p[4:], nil
}

// Extents appends the extents of an extents body to dst.
func (b Body) Extents(dst []Extent) ([]Extent, error) {
	if b.Tag() != BodyExtents {
		return nil, fmt.Errorf("decode extents: body has tag %d: %w", b.Tag(), ErrCorrupt)
	}
	n, p, ok := uvarint(b[1:])
	if !ok || n == 0 || n > MaxExtents || n > uint64(len(p)) {
		return nil, fmt.Errorf("decode extents: bad count: %w", ErrCorrupt)
	}
	for range n {
		var e Extent
		var err error
		if p, err = decodeExtent(p, &e); err != nil {
			return nil, err
		}
		dst = append(dst, e)
	}
	if len(p) != 0 {
		return nil, fmt.Errorf("decode extents: %d bytes left over: %w", len(p), ErrCorrupt)
	}
	return dst, nil
}

// Spilled returns the parts of a spilled body.
func (b Body) Spilled() (list Extent, length uint64, segments []FileNum, err error) {
	fail := func(what string) (Extent, uint64, []FileNum, error) {
		return Extent{}, 0, nil, fmt.Errorf("decode spilled body: %s: %w", what, ErrCorrupt)
	}
	if b.Tag() != BodySpilled {
		return fail("wrong tag")
	}
	p, err := decodeExtent(b[1:], &list)
	if err != nil {
		return Extent{}, 0, nil, err
	}
	length, p, ok := uvarint(p)
	if !ok {
		return fail("bad length")
	}
	n, p, ok := uvarint(p)
	if !ok || n > uint64(len(p)) {
		return fail("bad segment count")
	}
	for i := range n {
		var s uint64
		if s, p, ok = uvarint(p); !ok || (i > 0 && FileNum(s) <= segments[i-1]) {
			return fail("bad segment")
		}
		segments = append(segments, FileNum(s))
	}
	if len(p) != 0 {
		return fail("bytes left over")
	}
	return list, length, segments, nil
}

// Len returns the logical length of the body in bytes.
func (b Body) Len() (uint64, error) {
	switch b.Tag() {
	case BodyEmpty:
		return 0, nil
	case BodyInline:
		return uint64(len(b) - 1), nil
	case BodyExtents:
		var few [8]Extent
		ext, err := b.Extents(few[:0])
		if err != nil {
			return 0, err
		}
		var n uint64
		for i := range ext {
			n += ext[i].Len
		}
		return n, nil
	case BodySpilled:
		_, n, _, err := b.Spilled()
		return n, err
	}
	return 0, fmt.Errorf("decode body: unknown tag %d: %w", b[0], ErrCorrupt)
}

// Segments appends the value segments that b refers to, repeats included.
func (b Body) Segments(dst []FileNum) ([]FileNum, error) {
	switch b.Tag() {
	case BodyEmpty, BodyInline:
		return dst, nil
	case BodyExtents:
		var few [8]Extent
		ext, err := b.Extents(few[:0])
		if err != nil {
			return nil, err
		}
		for i := range ext {
			dst = append(dst, ext[i].Segment)
		}
		return dst, nil
	case BodySpilled:
		list, _, segs, err := b.Spilled()
		if err != nil {
			return nil, err
		}
		return append(append(dst, list.Segment), segs...), nil
	}
	return nil, fmt.Errorf("decode body: unknown tag %d: %w", b[0], ErrCorrupt)
}
