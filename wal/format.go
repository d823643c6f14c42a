package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"stemma/wal/storefs"
)

const (
	formatVersion = 1

	blockBytes         = storefs.BlockSize
	segmentHeaderBytes = blockBytes
	groupHeaderBytes   = 64
	tagBytes           = 4  // of the blocks of a group after its first
	frameHeaderBytes   = 12 // LSN, length

	segmentMagic = 'S' | 'W'<<8 | 'S'<<16 | '1'<<24
	groupMagic   = 'S' | 'W'<<8 | 'G'<<16 | '1'<<24
	blockTag     = 'S' | 'W'<<8 | 'C'<<16 | '1'<<24

	flagEnd = 1

	// maxCounter bounds segment numbers, incarnations and sequences: no log gets
	// there, and what adds one to them need not look.
	maxCounter = 1 << 62

	firstBlockPayload = blockBytes - groupHeaderBytes
	nextBlockPayload  = blockBytes - tagBytes
)

// errInvalid marks bytes that are not, or not wholly, a segment header or a
// group: nothing was written there, or a write was torn, or bits have changed.
// Errors about bytes with a good checksum wrap ErrCorrupt instead.
var errInvalid = errors.New("not valid")

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func checksum(p []byte) uint32 { return crc32.Checksum(p, crcTable) }

// segmentHeader is the first block of a segment.
type segmentHeader struct {
	number          uint64
	incarnation     uint64
	prevIncarnation uint64 // of the group before
	firstSequence   uint64
	firstLSN        LSN
	prevCRC         uint32 // of the group before
}

// encode fills p, one block.
func (h *segmentHeader) encode(p []byte) {
	clear(p[:segmentHeaderBytes])
	le := binary.LittleEndian
	le.PutUint32(p[0:], segmentMagic)
	le.PutUint16(p[8:], formatVersion)
	le.PutUint64(p[16:], h.number)
	le.PutUint64(p[24:], h.incarnation)
	le.PutUint64(p[32:], h.prevIncarnation)
	le.PutUint64(p[40:], h.firstSequence)
	le.PutUint64(p[48:], uint64(h.firstLSN))
	le.PutUint32(p[56:], h.prevCRC)
	le.PutUint32(p[4:], checksum(p[8:segmentHeaderBytes]))
}

// decodeSegmentHeader decodes p, one block. Errors: errInvalid; ErrCorrupt.
func decodeSegmentHeader(p []byte) (segmentHeader, error) {
	le := binary.LittleEndian
	if len(p) < segmentHeaderBytes || le.Uint32(p) != segmentMagic {
		return segmentHeader{}, fmt.Errorf("no segment header: %w", errInvalid)
	}
	p = p[:segmentHeaderBytes]
	if le.Uint32(p[4:]) != checksum(p[8:]) {
		return segmentHeader{}, fmt.Errorf("checksum mismatch of the segment header: %w", errInvalid)
	}
	if v := le.Uint16(p[8:]); v != formatVersion {
		return segmentHeader{}, fmt.Errorf("segment of version %d, want %d: %w", v, formatVersion, ErrCorrupt)
	}
	h := segmentHeader{
		number:          le.Uint64(p[16:]),
		incarnation:     le.Uint64(p[24:]),
		prevIncarnation: le.Uint64(p[32:]),
		firstSequence:   le.Uint64(p[40:]),
		firstLSN:        LSN(le.Uint64(p[48:])),
		prevCRC:         le.Uint32(p[56:]),
	}
	first := h.firstSequence == 1 && (h.prevIncarnation != 0 || h.prevCRC != 0) // after no group
	if h.number == 0 || h.number > maxCounter || h.incarnation == 0 || h.incarnation > maxCounter ||
		h.prevIncarnation > h.incarnation || h.firstSequence == 0 || h.firstSequence > maxCounter || first ||
		h.firstLSN == 0 || h.firstLSN > MaxLSN || !isZero(p[10:16]) || !isZero(p[60:]) {
		return segmentHeader{}, fmt.Errorf("impossible segment header %+v: %w", h, ErrCorrupt)
	}
	return h, nil
}

var zeroBlock [blockBytes]byte

// isZero reports whether p, at most a block, has no bits set.
func isZero(p []byte) bool { return bytes.Equal(p, zeroBlock[:len(p)]) }

// groupHeader is the start of a group.
type groupHeader struct {
	crc         uint32
	end         bool
	commits     uint32
	incarnation uint64
	sequence    uint64
	durable     uint64
	first, last LSN
	payload     uint32 // bytes, without tags and padding
	prevCRC     uint32
}

// bytes returns the size of the group on disk.
func (h *groupHeader) bytes() int64 { return groupBytes(int64(h.payload)) }

// groupBytes returns the size on disk of a group with a payload of n bytes.
func groupBytes(n int64) int64 {
	if n <= firstBlockPayload {
		return blockBytes
	}
	return blockBytes * (1 + (n-firstBlockPayload+nextBlockPayload-1)/nextBlockPayload)
}

// maxPayload returns the largest payload of a group of n bytes on disk, a
// multiple of blockBytes.
func maxPayload(n int64) int64 {
	return firstBlockPayload + (n/blockBytes-1)*nextBlockPayload
}

// encode fills the header into p, a whole group with its payload, tags and
// padding in place, and sets h.crc.
func (h *groupHeader) encode(p []byte) {
	clear(p[:groupHeaderBytes])
	le := binary.LittleEndian
	le.PutUint32(p[0:], groupMagic)
	le.PutUint16(p[8:], formatVersion)
	if h.end {
		le.PutUint16(p[10:], flagEnd)
	}
	le.PutUint32(p[12:], h.commits)
	le.PutUint64(p[16:], h.incarnation)
	le.PutUint64(p[24:], h.sequence)
	le.PutUint64(p[32:], h.durable)
	le.PutUint64(p[40:], uint64(h.first))
	le.PutUint64(p[48:], uint64(h.last))
	le.PutUint32(p[56:], h.payload)
	le.PutUint32(p[60:], h.prevCRC)
	h.crc = checksum(p[8:])
	le.PutUint32(p[4:], h.crc)
}

// peekGroupHeader decodes the fields of a group header without belief in them:
// its checksum needs the whole group. Errors: errInvalid.
func peekGroupHeader(p []byte) (groupHeader, error) {
	le := binary.LittleEndian
	if len(p) < groupHeaderBytes || le.Uint32(p) != groupMagic {
		return groupHeader{}, fmt.Errorf("no group: %w", errInvalid)
	}
	return groupHeader{
		crc:         le.Uint32(p[4:]),
		end:         le.Uint16(p[10:]) == flagEnd,
		commits:     le.Uint32(p[12:]),
		incarnation: le.Uint64(p[16:]),
		sequence:    le.Uint64(p[24:]),
		durable:     le.Uint64(p[32:]),
		first:       LSN(le.Uint64(p[40:])),
		last:        LSN(le.Uint64(p[48:])),
		payload:     le.Uint32(p[56:]),
		prevCRC:     le.Uint32(p[60:]),
	}, nil
}

// verify checks p, which holds all of the group that h was peeked from.
// Errors: errInvalid; ErrCorrupt when the checksum is good and the rest is not.
func (h *groupHeader) verify(p []byte) error {
	if checksum(p[8:]) != h.crc {
		return fmt.Errorf("checksum mismatch of group %d: %w", h.sequence, errInvalid)
	}
	le := binary.LittleEndian
	if v := le.Uint16(p[8:]); v != formatVersion {
		return fmt.Errorf("group of version %d, want %d: %w", v, formatVersion, ErrCorrupt)
	}
	bad := le.Uint16(p[10:])&^flagEnd != 0 || h.incarnation == 0 || h.incarnation > maxCounter ||
		h.sequence == 0 || h.sequence > maxCounter-1 || h.durable >= h.sequence ||
		(h.sequence == 1 && h.prevCRC != 0) || h.first > h.last || h.last >= MaxLSN
	if h.end {
		bad = bad || h.commits != 0 || h.payload != 0 || h.first != h.last
	} else {
		bad = bad || h.commits == 0 || h.first == 0 || uint64(h.commits)*frameHeaderBytes > uint64(h.payload)
	}
	for off := blockBytes; off < len(p); off += blockBytes {
		bad = bad || le.Uint32(p[off:]) != blockTag
	}
	if bad || !isZero(p[payloadEnd(int64(h.payload)):]) {
		return fmt.Errorf("impossible group %+v: %w", *h, ErrCorrupt)
	}
	return nil
}

// payloadEnd returns the offset in a group of the end of a payload of n bytes.
func payloadEnd(n int64) int64 {
	if n <= firstBlockPayload {
		return groupHeaderBytes + n
	}
	n -= firstBlockPayload
	blocks := (n + nextBlockPayload - 1) / nextBlockPayload
	return blockBytes + n + blocks*tagBytes
}

// joinPayload returns the payload of the verified group p in one piece. It
// moves bytes within p.
func (h *groupHeader) joinPayload(p []byte) []byte {
	end := blockBytes
	for off := blockBytes; off < len(p); off += blockBytes {
		end += copy(p[end:], p[off+tagBytes:off+blockBytes])
	}
	return p[groupHeaderBytes:][:h.payload]
}

// eachCommit calls visit with the commits of a joined payload in order; the
// slices alias it. Errors: ErrCorrupt; of visit.
func (h *groupHeader) eachCommit(payload []byte, visit func(lsn LSN, payload []byte) error) error {
	var last LSN
	for i := range h.commits {
		if len(payload) < frameHeaderBytes {
			return fmt.Errorf("group %d: commit %d is cut off: %w", h.sequence, i, ErrCorrupt)
		}
		lsn := LSN(binary.LittleEndian.Uint64(payload))
		n := binary.LittleEndian.Uint32(payload[8:])
		payload = payload[frameHeaderBytes:]
		if uint64(n) > uint64(len(payload)) || lsn <= last || (i == 0 && lsn != h.first) {
			return fmt.Errorf("group %d: commit %d has LSN %d after %d and %d bytes of %d left: %w",
				h.sequence, i, lsn, last, n, len(payload), ErrCorrupt)
		}
		if err := visit(lsn, payload[:n:n]); err != nil {
			return err
		}
		payload, last = payload[n:], lsn
	}
	if len(payload) != 0 || (h.commits > 0 && last != h.last) {
		return fmt.Errorf("group %d: ends at LSN %d with %d bytes left over, want LSN %d: %w",
			h.sequence, last, len(payload), h.last, ErrCorrupt)
	}
	return nil
}

// groupBuffer is aligned memory in which a group is put together: one block for
// a segment header, then the group. Not safe for concurrent use.
type groupBuffer struct {
	mem     []byte
	payload int64 // bytes appended
	n       int64 // bytes of the group in use, header and tags included
}

func newGroupBuffer(groupBytes int64) *groupBuffer {
	b := &groupBuffer{mem: storefs.AlignedBlock(int(segmentHeaderBytes + groupBytes))}
	b.reset()
	return b
}

func (b *groupBuffer) reset() { b.payload, b.n = 0, groupHeaderBytes }

// group returns the first n bytes of the group.
func (b *groupBuffer) group(n int64) []byte { return b.mem[segmentHeaderBytes:][:n] }

// capacity returns how large a group fits.
func (b *groupBuffer) capacity() int64 { return int64(len(b.mem)) - segmentHeaderBytes }

// grow makes room for a group of n bytes.
func (b *groupBuffer) grow(n int64) {
	if n <= b.capacity() {
		return
	}
	mem := storefs.AlignedBlock(int(segmentHeaderBytes + n))
	copy(mem, b.mem[:segmentHeaderBytes+b.n])
	b.mem = mem
}

// append appends a commit; there is room.
func (b *groupBuffer) append(lsn LSN, payload []byte) {
	var head [frameHeaderBytes]byte
	binary.LittleEndian.PutUint64(head[0:], uint64(lsn))
	binary.LittleEndian.PutUint32(head[8:], uint32(len(payload)))
	b.write(head[:])
	b.write(payload)
}

// write appends p, with a tag at the start of each new block.
func (b *groupBuffer) write(p []byte) {
	b.payload += int64(len(p))
	dst := b.group(b.capacity())
	for len(p) > 0 {
		if b.n%blockBytes == 0 {
			binary.LittleEndian.PutUint32(dst[b.n:], blockTag)
			b.n += tagBytes
		}
		room := blockBytes - b.n%blockBytes
		n := copy(dst[b.n:b.n+room], p)
		b.n += int64(n)
		p = p[n:]
	}
}

// seal pads the group, fills in its header and returns its bytes.
func (b *groupBuffer) seal(h *groupHeader) []byte {
	h.payload = uint32(b.payload)
	p := b.group(groupBytes(b.payload))
	clear(p[b.n:])
	h.encode(p)
	return p
}
