package layers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/pierrec/lz4/v4"
)

// pieceBytes is how much of a value a reader reads at once.
const pieceBytes = 512 << 10

// ValueReader reads a range of a value made of extents. No byte is served
// before the checksum of its chunk was verified. It buffers at most 512 KiB of a
// raw value, or one compressed value (1 MiB), and holds its segments until
// Close. Not safe for concurrent use.
type ValueReader struct {
	v    *Values
	ext  []Extent // from the current one on
	pos  uint64   // within the current extent, from its Skip
	left uint64   // bytes not yet in window
	held []*valueSegment

	window []byte // verified, not served; within buf
	buf    []byte // pooled
	table  []byte // chunk table of the current extent, once loaded
	err    error
}

// NewReader returns a reader of the bytes [off, off+n) of the value that ext
// makes up. It keeps ext until Close, and holds the segments that it will read;
// a range past the end of the value is refused. Nothing is read yet.
//
// Errors: ErrNoSegment, ErrClosed; ErrCorrupt for extents that no writer made.
func (v *Values) NewReader(ext []Extent, off, n uint64) (*ValueReader, error) {
	r := &ValueReader{v: v, left: n}
	for len(ext) > 0 && off >= ext[0].Len {
		off -= ext[0].Len
		ext = ext[1:]
	}
	r.ext, r.pos = ext, off
	var last FileNum
	for i, need := 0, n; need > 0; i++ {
		if i == len(ext) {
			releaseSegments(r.held)
			return nil, fmt.Errorf("read value: range ends %d bytes past its end", need)
		}
		e := &ext[i]
		if e.Len == 0 {
			continue
		}
		need -= min(need, e.Len-off)
		off = 0
		if len(r.held) > 0 && e.Segment == last {
			continue
		}
		s, err := v.holdSegment(e.Segment)
		if err != nil {
			releaseSegments(r.held)
			return nil, fmt.Errorf("read value: %w", err)
		}
		r.held, last = append(r.held, s), e.Segment
	}
	return r, nil
}

// Read implements io.Reader. Errors are final; ErrCorrupt comes with file and offset.
func (r *ValueReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !r.fill() {
		return 0, r.err
	}
	n := copy(p, r.window)
	r.window = r.window[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: it hands over whole pieces without a copy.
func (r *ValueReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for r.fill() {
		n, err := w.Write(r.window)
		total += int64(n)
		r.window = r.window[n:]
		if err == nil && len(r.window) > 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
	if r.err == io.EOF {
		return total, nil
	}
	return total, r.err
}

// Close drops the holds. More calls do nothing.
func (r *ValueReader) Close() error {
	releaseSegments(r.held)
	r.held, r.ext, r.window = nil, nil, nil
	putBuffer(r.buf)
	r.buf = nil
	if r.err == nil {
		r.err = errors.New("layers: read from a closed value reader")
	}
	return nil
}

// fill makes the window non-empty, or sets err.
func (r *ValueReader) fill() bool {
	for len(r.window) == 0 {
		if r.err == nil && r.left == 0 {
			r.err = io.EOF
			putBuffer(r.buf)
			r.buf = nil
		}
		if r.err != nil {
			return false
		}
		e := &r.ext[0]
		if r.pos == e.Len {
			r.ext, r.pos, r.table = r.ext[1:], 0, r.table[:0]
			continue
		}
		if err := r.load(e, min(e.Len-r.pos, r.left)); err != nil {
			r.err = fmt.Errorf("read value: %w", err)
			return false
		}
	}
	return true
}

// load puts the next at most want bytes of e into the window.
func (r *ValueReader) load(e *Extent, want uint64) error {
	src, err := r.v.openExtent(e)
	if err != nil {
		return err
	}
	defer src.close()
	if e.compressed() {
		r.buf = emptyBuffer(r.buf, int(e.Raw))[:e.Raw]
		if err := src.inflate(r.buf); err != nil {
			return err
		}
		from := e.Skip + r.pos
		r.take(r.buf[from : from+want])
		return nil
	}
	from := e.Skip + r.pos
	first := from - from%valueChunkBytes
	end := min(e.Length, first+pieceBytes, roundUp(from+want, valueChunkBytes))
	want = min(want, end-from)
	if len(r.table) == 0 && valueTableBytes(e.Length) > 0 {
		r.table = slices.Grow(r.table, int(valueTableBytes(e.Length)))
		if r.table, err = src.loadTable(r.table); err != nil {
			return err
		}
	}
	r.buf = emptyBuffer(r.buf, int(end-first))[:end-first]
	if err := src.readChunks(r.buf, first, r.table); err != nil {
		return err
	}
	r.take(r.buf[from-first : from-first+want])
	return nil
}

func (r *ValueReader) take(p []byte) {
	r.window = p
	r.pos += uint64(len(p))
	r.left -= uint64(len(p))
}

func roundUp(n, to uint64) uint64 { return (n + to - 1) / to * to }

// emptyBuffer returns b if it has room for n bytes, or another in its place.
func emptyBuffer(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:0]
	}
	putBuffer(b)
	return getBuffer(n)
}

// extentSource is the open file of one extent that has been checked.
type extentSource struct {
	v    *Values
	e    *Extent
	file *valueFile
	at   uint64 // where the stored bytes begin in file
}

// openExtent opens the segment of e, which the caller holds. Every error of a
// source names the file, those about its bytes the offset too.
func (v *Values) openExtent(e *Extent) (extentSource, error) {
	v.mu.RLock()
	s := v.mu.segments[e.Segment]
	v.mu.RUnlock()
	if s == nil {
		return extentSource{}, fmt.Errorf("%s: %w", v.path(e.Segment), ErrNoSegment)
	}
	file, err := v.files.acquire(s)
	if err != nil {
		return extentSource{}, err
	}
	src := extentSource{v: v, e: e, file: file}
	if src.at, err = file.locate(e); err != nil {
		src.close()
		return extentSource{}, src.wrap(err)
	}
	return src, nil
}

func (s extentSource) close() { s.v.files.release(s.file) }

func (s extentSource) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %w", s.v.filePath(s.e.Segment, s.file.header.generation), err)
}

// readAt fills p from the file offset off. A file that ends there is corrupt.
func (s extentSource) readAt(p []byte, off uint64) error {
	n, err := s.file.file.ReadAt(p, int64(off))
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("file ends: %w", ErrCorrupt)
	}
	return s.wrap(fmt.Errorf("at %d: %d of %d bytes: %w", off+uint64(n), n, len(p), err))
}

// loadTable puts the verified chunk table of the value into table, which has
// room for it. A value without one leaves it empty.
func (s extentSource) loadTable(table []byte) ([]byte, error) {
	table = table[:valueTableBytes(s.e.Length)]
	if len(table) == 0 {
		return table, nil
	}
	at := s.at + s.e.Length
	if err := s.readAt(table, at); err != nil {
		return table[:0], err
	}
	if err := checkChunk(table, s.e.CRC, at); err != nil {
		return table[:0], s.wrap(err)
	}
	return table, nil
}

// pooledTable is loadTable into a pooled buffer, or nil when there is none.
func (s extentSource) pooledTable() ([]byte, error) {
	n := valueTableBytes(s.e.Length)
	if n == 0 {
		return nil, nil
	}
	buf := getBuffer(int(n))
	table, err := s.loadTable(buf)
	if err != nil {
		putBuffer(buf)
		return nil, err
	}
	return table, nil
}

// readChunks fills p with stored bytes from from on, which is a multiple of the
// chunk size, and verifies them; p ends with a chunk. A value of one chunk has
// no table: the handle has its checksum.
func (s extentSource) readChunks(p []byte, from uint64, table []byte) error {
	at := s.at + from
	if err := s.readAt(p, at); err != nil {
		return err
	}
	for i := from / valueChunkBytes; len(p) > 0; i++ {
		n, want := min(len(p), valueChunkBytes), s.e.CRC
		if len(table) > 0 {
			want = binary.LittleEndian.Uint32(table[4*i:])
		}
		if err := checkChunk(p[:n], want, at); err != nil {
			return s.wrap(err)
		}
		p, at = p[n:], at+uint64(n)
	}
	return nil
}

// inflate fills raw, which is as long as the raw value, from the compressed one.
func (s extentSource) inflate(raw []byte) error {
	stored := getBuffer(int(s.e.Length))[:s.e.Length]
	defer putBuffer(stored)
	table, err := s.pooledTable()
	if err != nil {
		return err
	}
	defer putBuffer(table)
	if err := s.readChunks(stored, 0, table); err != nil {
		return err
	}
	return s.wrap(inflate(raw, stored, s.at))
}

// inflate decompresses stored into all of raw; at is for the error.
func inflate(raw, stored []byte, at uint64) error {
	n, err := lz4.UncompressBlock(stored, raw)
	if err != nil {
		return fmt.Errorf("at %d: decompress %d bytes to %d: %w: %w", at, len(stored), len(raw), err, ErrCorrupt)
	}
	if n != len(raw) {
		return fmt.Errorf("at %d: %d bytes after decompression, want %d: %w", at, n, len(raw), ErrCorrupt)
	}
	return nil
}

// ReadAll appends the bytes of e to dst, verified. It grows dst by what it needs
// at once, and holds the segment for the call only.
func (v *Values) ReadAll(dst []byte, e Extent) ([]byte, error) {
	if e.Len == 0 {
		return dst, nil
	}
	seg, err := v.holdSegment(e.Segment)
	if err != nil {
		return dst, fmt.Errorf("read value: %w", err)
	}
	defer seg.release()
	src, err := v.openExtent(&e)
	if err != nil {
		return dst, fmt.Errorf("read value: %w", err)
	}
	defer src.close()
	got, err := src.readAll(dst)
	if err != nil {
		return dst, fmt.Errorf("read value: %w", err)
	}
	return got, nil
}

func (s extentSource) readAll(dst []byte) ([]byte, error) {
	e := s.e
	if e.compressed() {
		return s.inflateAll(dst)
	}
	first := e.Skip - e.Skip%valueChunkBytes
	end := min(e.Length, roundUp(e.Skip+e.Len, valueChunkBytes))
	table, err := s.pooledTable()
	if err != nil {
		return nil, err
	}
	defer putBuffer(table)
	at := len(dst)
	dst = slices.Grow(dst, int(end-first))[:at+int(end-first)]
	if err := s.readChunks(dst[at:], first, table); err != nil {
		return nil, err
	}
	copy(dst[at:], dst[at+int(e.Skip-first):])
	return dst[:at+int(e.Len)], nil
}

func (s extentSource) inflateAll(dst []byte) ([]byte, error) {
	e := s.e
	if e.Skip == 0 && e.Len == e.Raw {
		at := len(dst)
		dst = slices.Grow(dst, int(e.Raw))[:at+int(e.Raw)]
		if err := s.inflate(dst[at:]); err != nil {
			return nil, err
		}
		return dst, nil
	}
	raw := getBuffer(int(e.Raw))[:e.Raw]
	defer putBuffer(raw)
	if err := s.inflate(raw); err != nil {
		return nil, err
	}
	return append(dst, raw[e.Skip:e.Skip+e.Len]...), nil
}

// maxSpilledBytes bounds an extent list that is itself a stored value.
const maxSpilledBytes = MaxExtents*(6*binary.MaxVarintLen64+crc32.Size) + binary.MaxVarintLen64 + 1

// LoadExtents appends the extents of b to dst; a spilled list is read, verified
// and checked against what the body says of it. An empty body has none; an
// inline one is refused. The caller keeps the segments alive.
//
// Errors: ErrCorrupt, ErrNoSegment, those of the disk.
func (v *Values) LoadExtents(b Body, dst []Extent) ([]Extent, error) {
	switch b.Tag() {
	case BodyEmpty:
		return dst, nil
	case BodySpilled:
	default:
		return b.Extents(dst)
	}
	list, length, segs, err := b.Spilled()
	if err != nil {
		return nil, err
	}
	if list.Len > maxSpilledBytes {
		return nil, fmt.Errorf("load extents: list of %d bytes, at most %d: %w", list.Len, maxSpilledBytes, ErrCorrupt)
	}
	p, err := v.ReadAll(nil, list)
	if err != nil {
		return nil, fmt.Errorf("load extents: %w", err)
	}
	at := len(dst)
	if dst, err = Body(p).Extents(dst); err != nil {
		return nil, fmt.Errorf("load extents from %s at %d: %w", v.path(list.Segment), list.Offset, err)
	}
	var sum uint64
	for i := range dst[at:] {
		e := &dst[at+i]
		if sum += e.Len; sum > length || sum < e.Len {
			return nil, fmt.Errorf("load extents from %s at %d: more than the %d bytes that the body says: %w", v.path(list.Segment), list.Offset, length, ErrCorrupt)
		}
		if _, ok := slices.BinarySearch(segs, e.Segment); !ok {
			return nil, fmt.Errorf("load extents from %s at %d: segment %d is not in the body: %w", v.path(list.Segment), list.Offset, e.Segment, ErrCorrupt)
		}
	}
	if sum != length {
		return nil, fmt.Errorf("load extents from %s at %d: %d bytes, the body says %d: %w", v.path(list.Segment), list.Offset, sum, length, ErrCorrupt)
	}
	return dst, nil
}
