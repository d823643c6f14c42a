package layers

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"stemma/wal"
)

// LayerKind says what a layer file holds, and with it how it may be read.
type LayerKind byte

// The kinds of layers.
const (
	DeltaLayer   LayerKind = 1 // records of a key range over an LSN range
	ImageLayer   LayerKind = 2 // the newest version of each key as of an LSN: one record, or page deltas and what they apply to
	HistoryLayer LayerKind = 3 // superseded versions, each with the LSN that ended it; no range tombstones
)

func (k LayerKind) String() string {
	switch k {
	case DeltaLayer:
		return "delta"
	case ImageLayer:
		return "image"
	case HistoryLayer:
		return "history"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// SegmentRef says how many stored bytes of a value segment a layer's records
// refer to. Two records that share a value count it twice, and a spilled body
// counts in equal shares to the segments it names: it is a measure, not a proof.
type SegmentRef struct {
	Segment FileNum
	Bytes   uint64
}

// Desc describes a layer file: what the catalog keeps of it. A copy, with Level,
// AdoptedLSN and the LSNs of adopted records unset, lies in the file.
type Desc struct {
	Num   FileNum
	Kind  LayerKind
	Level int // 0 to 255
	// Range is tight over point keys and range tombstones; its End is the
	// successor of the last key (the key and a zero byte) or the end of a tombstone.
	Range           KeyRange
	MinLSN, MaxLSN  wal.LSN // inclusive, tombstones included
	Bytes           int64   // size of the file
	Entries         uint64  // point records
	Deletes         uint64  // point tombstones among them
	RangeTombstones uint64
	RawBytes        uint64       // keys, metas, bodies before compression
	Segments        []SegmentRef // ascending by segment
	// AdoptedLSN is the LSN of every record of a file that was written without
	// LSNs (WriterOptions.Adopted); zero for other files.
	AdoptedLSN wal.LSN
	// MaxDeath is the highest Death of a history layer's records, above MaxLSN:
	// at it and later none of them is visible. Zero for other kinds.
	MaxDeath wal.LSN
}

// descVersion is the version of the encoding of Desc.
const descVersion = 1

// Append appends the encoding of d: the value of a catalog row.
//
//	byte     version, 1
//	byte     kind
//	byte     level
//	uint64   size of the file, little-endian
//	uvarints file number, min LSN, max LSN, adopted LSN, max death, entries,
//	         deletes, range tombstones, raw bytes
//	bytes    first key, exclusive last key (each with its uvarint length)
//	uvarint  count, then per segment the uvarints number (first) or number -
//	         previous number - 1 (others), bytes
func (d *Desc) Append(dst []byte) []byte {
	dst = append(dst, descVersion, byte(d.Kind), byte(d.Level))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(d.Bytes))
	for _, v := range [...]uint64{
		uint64(d.Num), uint64(d.MinLSN), uint64(d.MaxLSN), uint64(d.AdoptedLSN), uint64(d.MaxDeath),
		d.Entries, d.Deletes, d.RangeTombstones, d.RawBytes,
		uint64(len(d.Range.Start)),
	} {
		dst = binary.AppendUvarint(dst, v)
	}
	dst = append(dst, d.Range.Start...)
	dst = binary.AppendUvarint(dst, uint64(len(d.Range.End)))
	dst = append(dst, d.Range.End...)
	dst = binary.AppendUvarint(dst, uint64(len(d.Segments)))
	var next FileNum
	for _, s := range d.Segments {
		dst = binary.AppendUvarint(dst, uint64(s.Segment-next))
		dst = binary.AppendUvarint(dst, s.Bytes)
		next = s.Segment + 1
	}
	return dst
}

// DecodeDesc decodes what Append wrote; the result shares no memory with p.
// Anything that Append would have written otherwise is ErrCorrupt.
func DecodeDesc(p []byte) (Desc, error) {
	var d Desc
	if len(p) < 11 || p[0] != descVersion {
		return d, fmt.Errorf("decode layer description: %d bytes, or not version %d: %w", len(p), descVersion, ErrCorrupt)
	}
	c := cursor{p: p[11:]}
	d.Kind, d.Level, d.Bytes = LayerKind(p[1]), int(p[2]), int64(binary.LittleEndian.Uint64(p[3:]))
	d.Num = FileNum(c.uvarint())
	d.MinLSN, d.MaxLSN, d.AdoptedLSN, d.MaxDeath = c.lsn(), c.lsn(), c.lsn(), c.lsn()
	d.Entries, d.Deletes, d.RangeTombstones, d.RawBytes = c.uvarint(), c.uvarint(), c.uvarint(), c.uvarint()
	d.Range.Start = slices.Clone(Key(c.bytes()))
	d.Range.End = slices.Clone(Key(c.bytes()))
	n := c.uvarint()
	if n > uint64(len(c.p))/2 {
		c.bad = true
	}
	if !c.bad && n > 0 {
		d.Segments = make([]SegmentRef, 0, n)
	}
	var next FileNum
	for range n {
		s := SegmentRef{Segment: next + FileNum(c.uvarint()), Bytes: c.uvarint()}
		if c.bad || s.Segment < next || s.Segment == 1<<64-1 {
			c.bad = true
			break
		}
		next = s.Segment + 1
		d.Segments = append(d.Segments, s)
	}
	if c.bad || len(c.p) != 0 {
		return Desc{}, fmt.Errorf("decode layer description: bad number, or %d bytes left over: %w", len(c.p), ErrCorrupt)
	}
	return d, d.check()
}

// check refuses what no writer makes.
func (d *Desc) check() error {
	fail := func(what string) error {
		return fmt.Errorf("check description of layer %d: %s: %w", d.Num, what, ErrCorrupt)
	}
	switch {
	case d.Kind < DeltaLayer || d.Kind > HistoryLayer:
		return fail("unknown kind")
	case d.Bytes < 0:
		return fail("bad size")
	case d.MinLSN > d.MaxLSN || d.MinLSN == 0 && d.MaxLSN != 0:
		return fail("LSN range is empty")
	case d.Deletes > d.Entries:
		return fail("more deletes than entries")
	case d.Entries+d.RangeTombstones == 0:
		return fail("no records")
	case d.Kind != DeltaLayer && (d.MinLSN == 0 || d.AdoptedLSN != 0):
		return fail("adopted, and no delta layer")
	case d.Kind == HistoryLayer && (d.MaxDeath <= d.MaxLSN || d.RangeTombstones > 0):
		return fail("history without an end, or with range tombstones")
	case d.Kind != HistoryLayer && d.MaxDeath != 0:
		return fail("an end, and no history")
	case !d.Range.Start.Valid() || !validEnd(d.Range.Start, d.Range.End):
		return fail("bad key range")
	}
	return nil
}

// validEnd reports whether end can be the exclusive end of a range from start.
func validEnd(start, end Key) bool {
	return len(end) >= keyPrefixLen && len(end) <= maxKeyBytes+1 && start.Compare(end) < 0
}

// segmentCounter counts the stored bytes that bodies refer to, by value segment.
type segmentCounter struct {
	bytes   map[FileNum]uint64
	extents []Extent
}

// count adds what a body refers to.
func (c *segmentCounter) count(b Body) error {
	if c.bytes == nil {
		c.bytes = make(map[FileNum]uint64)
	}
	switch b.Tag() {
	case BodyEmpty, BodyInline:
		return nil
	case BodyExtents:
		var err error
		if c.extents, err = b.Extents(c.extents[:0]); err != nil {
			return err
		}
		for i := range c.extents {
			e := &c.extents[i]
			n := e.Length
			if e.Raw == e.Length {
				n = e.Len
			}
			c.bytes[e.Segment] += n
		}
		return nil
	case BodySpilled:
		list, n, segs, err := b.Spilled()
		if err != nil {
			return err
		}
		c.bytes[list.Segment] += list.Length
		for _, s := range segs {
			c.bytes[s] += n / uint64(len(segs))
		}
		return nil
	}
	return fmt.Errorf("body has unknown tag %d: %w", b[0], ErrCorrupt)
}

// refs returns the counts, ascending by segment; nil without any.
func (c *segmentCounter) refs() []SegmentRef {
	var refs []SegmentRef
	for s, n := range c.bytes {
		refs = append(refs, SegmentRef{s, n})
	}
	slices.SortFunc(refs, func(a, b SegmentRef) int { return cmp.Compare(a.Segment, b.Segment) })
	return refs
}

// cursor reads numbers and byte strings; after the first bad one it reads zeros.
type cursor struct {
	p   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, rest, ok := uvarint(c.p)
	if !ok {
		c.bad, c.p = true, nil
		return 0
	}
	c.p = rest
	return v
}

func (c *cursor) lsn() wal.LSN {
	v := c.uvarint()
	if v > uint64(wal.MaxLSN) {
		c.bad = true
	}
	return wal.LSN(v)
}

// bytes reads a length and that many bytes; the result aliases the input.
func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.p)) {
		c.bad, c.p = true, nil
		return nil
	}
	b := c.p[:n:n]
	c.p = c.p[n:]
	return b
}
