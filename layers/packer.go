package layers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pierrec/lz4/v4"
)

// Packer writes many small values one after the other into fresh segments, in
// the order in which they are given. Not safe for concurrent use.
type Packer struct {
	v        *Values
	category vfs.DiskWriteCategory
	seg      *valueSegment // being filled, or nil
	made     []*valueSegment
	buf      []byte // accepted, not written out; pooled
	lz       lz4.Compressor
	packed   []byte // scratch of lz
	finished bool
	done     bool
	err      error
}

// NewPacker returns a packer whose files have the given write category. Always
// call Close. Files are made as values come.
func (v *Values) NewPacker(category vfs.DiskWriteCategory) (*Packer, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.mu.closed {
		return nil, fmt.Errorf("new packer: %w", ErrClosed)
	}
	return &Packer{v: v, category: category}, nil
}

// Add stores value, at most 256 MiB, and returns its handle, good once Finish
// has succeeded. A value of up to 1 MiB is compressed when that saves an eighth.
// The first failure is returned for ever.
func (p *Packer) Add(value []byte) (Handle, error) {
	if p.done {
		return Handle{}, errWriterDone
	}
	if len(value) > maxExtentBytes {
		return Handle{}, fmt.Errorf("pack value: %d bytes, at most %d", len(value), maxExtentBytes)
	}
	stored := p.compress(value)
	table := chunkTable(stored)
	h := Handle{Length: uint64(len(stored)), Raw: uint64(len(value))}
	if table == nil {
		h.CRC = crc32.Checksum(stored, castagnoli)
	} else {
		h.CRC = crc32.Checksum(table, castagnoli)
	}
	p.place(&h)
	p.write(stored)
	p.write(table)
	if p.err != nil {
		return Handle{}, p.err
	}
	return h, nil
}

// chunkTable returns the checksums of the chunks of stored, nil for a single one.
func chunkTable(stored []byte) []byte {
	if len(stored) <= valueChunkBytes {
		return nil
	}
	table := make([]byte, 0, valueTableBytes(uint64(len(stored))))
	for len(stored) > 0 {
		n := min(len(stored), valueChunkBytes)
		table = binary.LittleEndian.AppendUint32(table, crc32.Checksum(stored[:n], castagnoli))
		stored = stored[n:]
	}
	return table
}

// compress returns what to store of value: itself, or an lz4 block in p.packed.
func (p *Packer) compress(value []byte) []byte {
	most := len(value) - max(len(value)/8, 1)
	if len(value) > maxCompressedRaw || most <= 0 {
		return value
	}
	if cap(p.packed) < most {
		p.packed = make([]byte, max(most, 32<<10))
	}
	// An error only says that the block does not fit.
	n, err := p.lz.CompressBlock(value, p.packed[:most])
	if err != nil || n == 0 {
		return value
	}
	return p.packed[:n]
}

// place says where the next value goes, in a new segment if the last is full.
func (p *Packer) place(h *Handle) {
	if p.err == nil && p.seg != nil && p.seg.pos+int64(len(p.buf)) >= p.v.o.PackedSegmentBytes {
		p.endSegment()
	}
	if p.err == nil && p.seg == nil {
		seg, err := p.v.createSegment(p.category, valuesPacked)
		if err != nil {
			p.fail(err)
			return
		}
		p.seg, p.made = seg, append(p.made, seg)
	}
	if p.err == nil {
		h.Segment, h.Offset = p.seg.num, uint64(p.seg.pos)+uint64(len(p.buf))
	}
}

func (p *Packer) write(b []byte) {
	for len(b) > 0 && p.err == nil {
		if len(p.buf) == 0 && len(b) >= maxBufferBytes {
			n := min(len(b), maxWriteBytes)
			p.writeOut(b[:n])
			b = b[n:]
			continue
		}
		p.buf = growBuffer(p.buf, len(b))
		n := min(len(b), cap(p.buf)-len(p.buf))
		p.buf = append(p.buf, b[:n]...)
		b = b[n:]
		if len(p.buf) == maxBufferBytes {
			p.writeOut(p.buf)
			p.buf = p.buf[:0]
		}
	}
}

func (p *Packer) writeOut(b []byte) {
	if err := p.v.append(p.seg, b); err != nil {
		p.fail(err)
	}
}

// endSegment writes the rest, syncs and seals.
func (p *Packer) endSegment() {
	if p.err != nil || p.seg == nil {
		return
	}
	p.writeOut(p.buf)
	p.buf = p.buf[:0]
	if p.err != nil {
		return
	}
	if err := p.v.sync(p.seg); err != nil {
		p.fail(err)
		return
	}
	if err := p.v.seal(p.seg); err != nil {
		p.err = fmt.Errorf("pack values: %w", err)
	}
	p.seg = nil
}

// Finish writes the rest and syncs files and directory; after it every handle
// survives a crash. The segments stay held until Close.
func (p *Packer) Finish() ([]SegmentInfo, error) {
	if p.done {
		return nil, errWriterDone
	}
	p.endSegment()
	p.done = true
	if p.err != nil {
		return nil, p.err
	}
	p.finished = true
	infos := make([]SegmentInfo, 0, len(p.made))
	for _, s := range p.made {
		infos = append(infos, s.info())
	}
	return infos, nil
}

// Close ends the packer. If Finish did not succeed its segments are removed;
// otherwise their holds are dropped, which must wait until the Version that
// refers to them is in place. More calls do nothing.
func (p *Packer) Close() error {
	p.done = true
	putBuffer(p.buf)
	p.buf = nil
	var errs []error
	if p.seg != nil {
		errs = append(errs, p.v.seal(p.seg))
		p.seg = nil
	}
	releaseSegments(p.made)
	if !p.finished {
		for _, s := range p.made {
			errs = append(errs, p.v.Remove(s.num))
		}
	}
	p.made = nil
	return errors.Join(errs...)
}

// Discard is Close for a packer whose handles went nowhere, though Finish may
// have succeeded: its segments are removed.
func (p *Packer) Discard() error {
	p.finished = false
	return p.Close()
}

// fail keeps the first error; the segment that it struck is written no more.
func (p *Packer) fail(err error) {
	if p.seg != nil {
		if closeErr := p.v.seal(p.seg); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
		p.seg = nil
	}
	p.err = fmt.Errorf("pack values: %w", err)
}
