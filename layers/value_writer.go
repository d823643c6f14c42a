package layers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal/storefs"
)

// errWriterDone is for our own bugs: a writer used after its end.
var errWriterDone = errors.New("layers: value writer is finished or closed")

const (
	// minWriteBytes is the least that goes from a caller's slice to the file without a copy.
	minWriteBytes = 256 << 10
	// maxWriteBytes bounds one such write.
	maxWriteBytes = writeBackBytes
)

// ValueWriter streams one value into value segments. It buffers up to 1 MiB
// and starts write-back early, so that the sync in Finish is short. Not safe
// for concurrent use.
//
//	w, err := values.NewWriter(ctx)
//	defer w.Close()
//	io.Copy(w, body)
//	ext, err := w.Finish() // durable
//	...                    // commit the extents
type ValueWriter struct {
	v        *Values
	slots    chan struct{} // a token of it is ours; nil: none
	category vfs.DiskWriteCategory
	seg      *valueSegment // taken, or nil
	held     []*valueSegment
	done     bool
	err      error
	ext      []Extent
	limit    int64 // of one extent

	// The open extent.
	start  int64  // in seg, once something was written out
	length int64  // bytes accepted
	sum    uint32 // of the bytes of the open chunk
	table  []byte // checksums of the closed chunks
	buf    []byte // accepted, not written out; pooled
}

// NewWriter returns a writer for one streamed value. When MaxWriters are in use
// it waits for one to end, or for ctx: then the error is ErrTooManyWriters and
// the cause of ctx. The context bounds nothing else. Always call Close.
func (v *Values) NewWriter(ctx context.Context) (*ValueWriter, error) {
	return v.newWriter(ctx, v.slots, storefs.User)
}

// NewInternalWriter is NewWriter for what must not wait for slow uploads: it takes
// none of their MaxWriters places but one of 8 of its own. Whoever has one must
// finish without waiting for a client. Segments are shared by writers of one
// category only.
func (v *Values) NewInternalWriter(ctx context.Context, category vfs.DiskWriteCategory) (*ValueWriter, error) {
	return v.newWriter(ctx, v.internalSlots, category)
}

func (v *Values) newWriter(ctx context.Context, slots chan struct{}, category vfs.DiskWriteCategory) (*ValueWriter, error) {
	if err := v.takeSlot(ctx, slots); err != nil {
		return nil, fmt.Errorf("new value writer: %w", err)
	}
	return &ValueWriter{v: v, slots: slots, category: category, limit: min(maxExtentBytes, v.o.SegmentBytes)}, nil
}

// Write appends p to the value. The first failure is returned for ever, and the
// segment that it struck is not written to again; what others finished there
// stays sound.
func (w *ValueWriter) Write(p []byte) (int, error) {
	if w.done {
		return 0, errWriterDone
	}
	written := 0
	for len(p) > 0 && w.err == nil {
		if w.length == w.limit {
			w.endExtent(false)
			continue
		}
		n := int(min(int64(len(p)), w.limit-w.length))
		w.checksum(p[:n])
		w.buffer(p[:n])
		p, written = p[n:], written+n
	}
	if w.err != nil {
		return 0, w.err
	}
	return written, nil
}

// checksum adds p to the chunk table.
func (w *ValueWriter) checksum(p []byte) {
	for len(p) > 0 {
		n := int(min(int64(len(p)), valueChunkBytes-w.length%valueChunkBytes))
		w.sum = crc32.Update(w.sum, castagnoli, p[:n])
		w.length += int64(n)
		if w.length%valueChunkBytes == 0 {
			w.endChunk()
		}
		p = p[n:]
	}
}

func (w *ValueWriter) endChunk() {
	w.table = binary.LittleEndian.AppendUint32(w.table, w.sum)
	w.sum = 0
}

// buffer takes p for writing: long runs go to the file straight away, the rest waits.
func (w *ValueWriter) buffer(p []byte) {
	for len(p) > 0 && w.err == nil {
		if len(w.buf) == 0 && len(p) >= minWriteBytes {
			n := min(len(p), maxWriteBytes) &^ (valueAlign - 1)
			w.writeOut(p[:n])
			p = p[n:]
			continue
		}
		w.buf = growBuffer(w.buf, len(p))
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
		if len(w.buf) == maxBufferBytes {
			w.writeOut(w.buf)
			w.buf = w.buf[:0]
		}
	}
}

// writeOut appends p to the segment, taking one if the writer has none.
func (w *ValueWriter) writeOut(p []byte) {
	if w.err != nil || len(p) == 0 {
		return
	}
	if w.seg == nil {
		seg, err := w.v.takeSegment(w.category)
		if err != nil {
			w.fail(err)
			return
		}
		w.seg, w.held = seg, append(w.held, seg)
		w.start = seg.pos
	}
	if err := w.v.append(w.seg, p); err != nil {
		w.fail(err)
	}
}

// endExtent writes out what is left of the open extent with its chunk table.
// It syncs the segment when it is full or last is true, and parts with it then.
func (w *ValueWriter) endExtent(last bool) {
	length := uint64(w.length)
	if w.length%valueChunkBytes != 0 {
		w.endChunk()
	}
	w.writeOut(w.buf)
	w.buf = w.buf[:0]
	if w.err == nil && length > 0 {
		h := Handle{Segment: w.seg.num, Offset: uint64(w.start), Length: length, Raw: length}
		if length <= valueChunkBytes {
			h.CRC = binary.LittleEndian.Uint32(w.table)
		} else {
			h.CRC = crc32.Checksum(w.table, castagnoli)
			w.writeOut(w.table)
		}
		w.ext = append(w.ext, Extent{Handle: h, Len: length})
	}
	w.length, w.table = 0, w.table[:0]
	if w.err != nil || w.seg == nil {
		return
	}
	w.seg.alignUp()
	w.start = w.seg.pos
	if !last && w.seg.pos < w.v.o.SegmentBytes {
		return
	}
	if err := w.v.sync(w.seg); err != nil {
		w.fail(err)
		return
	}
	if err := w.giveSegment(); err != nil {
		w.fail(err)
	}
}

// alignUp moves to where the next streamed value may begin. The gap is a hole.
func (s *valueSegment) alignUp() { s.pos = (s.pos + valueAlign - 1) &^ (valueAlign - 1) }

// giveSegment gives the segment back for others to append to, or seals it full.
func (w *ValueWriter) giveSegment() error {
	seg := w.seg
	w.seg = nil
	return w.v.putSegment(seg)
}

// EndExtent begins a new extent with the next byte that is written: what was written so far
// has a place, and a checksum, of its own. Nothing is synced before Finish.
func (w *ValueWriter) EndExtent() {
	if !w.done && w.length > 0 {
		w.endExtent(false)
	}
}

// Finish writes the rest and syncs; after it the extents, in order, survive a
// crash. An empty value has none. The segments stay held until Close, which must
// wait until a commit that names the extents was applied or given up.
func (w *ValueWriter) Finish() ([]Extent, error) {
	if w.done {
		return nil, errWriterDone
	}
	w.endExtent(true)
	err := w.err
	w.end()
	if err != nil {
		return nil, err
	}
	return w.ext, nil
}

// Close ends the writer: if Finish did not succeed, what was written becomes
// dead space; the holds are dropped. More calls do nothing.
func (w *ValueWriter) Close() error {
	var err error
	if w.seg != nil {
		w.seg.alignUp()
		err = w.giveSegment()
	}
	w.end()
	releaseSegments(w.held)
	if len(w.held) > 0 {
		w.v.streams.Add(1)
	}
	w.held = nil
	return err
}

// fail keeps the first error and seals the segment that it struck: after a
// failed write or sync nobody can tell what of it is on disk.
func (w *ValueWriter) fail(err error) {
	if w.seg != nil {
		if closeErr := w.v.seal(w.seg); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
		w.seg = nil
	}
	w.err = fmt.Errorf("write value: %w", err)
}

// end gives back all but the holds.
func (w *ValueWriter) end() {
	w.done = true
	putBuffer(w.buf)
	w.buf = nil
	if w.slots != nil {
		<-w.slots
		w.slots = nil
	}
}

// maxBufferBytes is the largest pooled buffer, and the size of a full write.
const maxBufferBytes = 1 << 20

// bufferBytes are the sizes of pooled buffers, so that many small values at once
// cost little memory.
var bufferBytes = [...]int{valueChunkBytes, 256 << 10, 512 << 10, maxBufferBytes}

var bufferPools [len(bufferBytes)]sync.Pool

// getBuffer returns an empty buffer with room for n bytes, at most maxBufferBytes.
func getBuffer(n int) []byte {
	for i, size := range bufferBytes {
		if n <= size {
			if b, ok := bufferPools[i].Get().(*[]byte); ok {
				return (*b)[:0]
			}
			return make([]byte, 0, size)
		}
	}
	panic(fmt.Sprintf("layers: buffer of %d bytes", n))
}

// putBuffer takes a buffer back; nobody may use it any more.
func putBuffer(b []byte) {
	for i, size := range bufferBytes {
		if cap(b) == size {
			pooled := b // only this one moves to the heap
			bufferPools[i].Put(&pooled)
			return
		}
	}
}

// growBuffer returns b with room for more bytes, or as much as a buffer can have.
func growBuffer(b []byte, more int) []byte {
	if cap(b)-len(b) >= more || cap(b) == maxBufferBytes {
		return b
	}
	next := append(getBuffer(min(len(b)+more, maxBufferBytes)), b...)
	putBuffer(b)
	return next
}
