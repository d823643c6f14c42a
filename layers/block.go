package layers

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/pierrec/lz4/v4"

	"stemma/wal"
)

// Blocks; doc.go has their form.
const (
	blockTargetBytes = 16 << 10 // a block is cut before the entry that would exceed it
	dataRestarts     = 16       // entries per restart in a data block
	indexRestarts    = 1        // in an index block, which is searched more than it is read
	blockTailBytes   = 12       // base LSN, restart count
	blockTrailer     = 9        // form, raw length, crc

	// MaxRecordBytes bounds the key, meta and body of a record together; a
	// layer holds none that is larger.
	MaxRecordBytes = 16 << 20
	maxBlockBytes  = MaxRecordBytes + 64<<10
)

// The forms in which a block is stored.
const (
	blockRaw byte = 0
	blockLZ4 byte = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealBlock appends the stored form of a block that will lie at off of a file:
// compressed if that saves an eighth, and the trailer. The checksum covers where
// the block belongs, so that one that was misplaced is found out.
func sealBlock(dst, raw []byte, num FileNum, off uint64, c *lz4.Compressor) []byte {
	start := len(dst)
	form := blockRaw
	if limit := len(raw) - len(raw)/8; limit > 64 {
		dst = append(dst, make([]byte, limit)...)
		if n, err := c.CompressBlock(raw, dst[start:]); err == nil && n > 0 {
			form, dst = blockLZ4, dst[:start+n]
		}
	}
	if form == blockRaw {
		dst = append(dst[:start], raw...)
	}
	dst = append(dst, form)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(raw)))
	return binary.LittleEndian.AppendUint32(dst, placedCRC(dst[start:], num, off))
}

// placedCRC is the crc32c of p followed by the file number and the offset that
// p lies at.
func placedCRC(p []byte, num FileNum, off uint64) uint32 {
	var place [16]byte
	binary.LittleEndian.PutUint64(place[:], uint64(num))
	binary.LittleEndian.PutUint64(place[8:], off)
	return crc32.Update(crc32.Checksum(p, castagnoli), castagnoli, place[:])
}

// openBlock verifies a stored block and returns its bytes, which alias stored if
// they were not compressed.
func openBlock(stored []byte, num FileNum, off uint64) ([]byte, error) {
	n := len(stored) - 4
	if n < blockTrailer-4 {
		return nil, fmt.Errorf("block of %d bytes: %w", len(stored), ErrCorrupt)
	}
	if got, want := placedCRC(stored[:n], num, off), binary.LittleEndian.Uint32(stored[n:]); got != want {
		return nil, fmt.Errorf("block checksum %08x, want %08x: %w", got, want, ErrCorrupt)
	}
	return expandBlock(stored[:n])
}

// expandBlock is openBlock below the checksum.
func expandBlock(p []byte) ([]byte, error) {
	n := len(p) - 5
	form, rawLen := p[n], binary.LittleEndian.Uint32(p[n+1:])
	p = p[:n:n]
	switch {
	case form == blockRaw && int(rawLen) == n:
		return p, nil
	case form != blockLZ4 || int(rawLen) <= n || rawLen > maxBlockBytes:
		return nil, fmt.Errorf("block of form %d, %d bytes for %d: %w", form, n, rawLen, ErrCorrupt)
	}
	raw := make([]byte, rawLen)
	if got, err := lz4.UncompressBlock(p, raw); err != nil || got != len(raw) {
		return nil, fmt.Errorf("expand block to %d of %d bytes (%v): %w", got, rawLen, err, ErrCorrupt)
	}
	return raw, nil
}

// blockBuilder makes the bytes of a block from entries in order.
type blockBuilder struct {
	every    int // entries per restart
	buf      []byte
	restarts []uint32
	count    int
	base     wal.LSN // of the first entry
	lastKey  Key
}

func (b *blockBuilder) reset() {
	b.buf, b.restarts, b.count, b.lastKey = b.buf[:0], b.restarts[:0], 0, b.lastKey[:0]
}

// bytesWith returns the size of the block, at most, with one more entry.
func (b *blockBuilder) bytesWith(key Key, value int) int {
	return len(b.buf) + 4*len(b.restarts) + blockTailBytes + 4 + 4*binary.MaxVarintLen32 + len(key) + value
}

// begin appends the head of an entry and its key; the caller appends exactly
// valueLen bytes to b.buf.
func (b *blockBuilder) begin(key Key, lsn wal.LSN, valueLen int) {
	shared := 0
	if b.count == 0 {
		b.base = lsn
	}
	if b.count%b.every == 0 {
		b.restarts = append(b.restarts, uint32(len(b.buf)))
	} else {
		shared = sharedPrefix(b.lastKey, key)
	}
	b.count++
	b.buf = binary.AppendUvarint(b.buf, uint64(shared))
	b.buf = binary.AppendUvarint(b.buf, uint64(len(key)-shared))
	b.buf = binary.AppendVarint(b.buf, int64(lsn)-int64(b.base))
	b.buf = binary.AppendUvarint(b.buf, uint64(valueLen))
	b.buf = append(b.buf, key[shared:]...)
	b.lastKey = append(b.lastKey[:shared], key[shared:]...)
}

// finish returns the bytes of the block, valid until reset.
func (b *blockBuilder) finish() []byte {
	for _, r := range b.restarts {
		b.buf = binary.LittleEndian.AppendUint32(b.buf, r)
	}
	b.buf = binary.LittleEndian.AppendUint64(b.buf, uint64(b.base))
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(len(b.restarts)))
	return b.buf
}

func sharedPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// blockIter walks the entries of a block, in either direction. It never panics,
// whatever the bytes; it fails with ErrCorrupt. After a failure it stands on nothing.
type blockIter struct {
	entries  []byte
	restarts []byte
	base     wal.LSN
	bias     wal.LSN // added to every LSN: that of adopted records

	// The entry it stands on: entries[off:next]. off is -1 before the first,
	// len(entries) after the last.
	off, next int
	key       Key
	lsn       wal.LSN
	value     []byte // aliases the block
	err       error

	// back holds the entries before off in its run between restarts, once a
	// step back has decoded them; keys are in backKeys.
	back     []backEntry
	backKeys []byte
}

type backEntry struct {
	off, next      int
	keyOff, keyEnd int
	lsn            wal.LSN
	value          []byte
}

// init sets the iterator on the bytes of a block, before the first entry.
func (it *blockIter) init(raw []byte, bias wal.LSN) error {
	it.reset()
	n := len(raw) - blockTailBytes
	if n < 4 {
		return it.corrupt("block of %d bytes", len(raw))
	}
	base, count := binary.LittleEndian.Uint64(raw[n:]), binary.LittleEndian.Uint32(raw[n+8:])
	if count == 0 || uint64(count) > uint64(n)/4 || base > uint64(wal.MaxLSN) {
		return it.corrupt("block of %d bytes with %d restarts from LSN %d", len(raw), count, base)
	}
	it.base, it.bias = wal.LSN(base), bias
	n -= 4 * int(count)
	it.entries, it.restarts = raw[:n:n], raw[n:n+4*int(count)]
	return nil
}

// reset leaves an empty iterator that keeps its memory.
func (it *blockIter) reset() {
	*it = blockIter{off: -1, key: it.key[:0], back: it.back[:0], backKeys: it.backKeys}
}

// corrupt notes the failure and leaves the iterator on nothing.
func (it *blockIter) corrupt(format string, args ...any) error {
	it.err = fmt.Errorf(format+": %w", append(args, ErrCorrupt)...)
	it.entries, it.off, it.value = nil, -1, nil
	return it.err
}

// head decodes the head of the entry at off: the lengths and the LSN, and
// where the unshared part of the key begins.
func (it *blockIter) head(off int) (shared, unshared, value, keyOff int, lsn wal.LSN, ok bool) {
	p := it.entries[off:]
	if len(p) < 4 {
		return
	}
	var v [2]uint64
	n := 0
	for i := range v {
		if v[i] = uint64(p[n]); v[i] < 0x80 {
			n++
			continue
		}
		k := 0
		if v[i], k = binary.Uvarint(p[n:]); k <= 0 || n+k >= len(p) {
			return
		}
		n += k
	}
	delta, k := binary.Varint(p[n:])
	if k <= 0 {
		return
	}
	n += k
	vlen, k := binary.Uvarint(p[n:])
	if k <= 0 {
		return
	}
	n += k
	rest := uint64(len(p) - n)
	if v[0] > maxKeyBytes || v[1] > maxKeyBytes || v[1] > rest || vlen > rest-v[1] {
		return
	}
	l := int64(it.base) + delta
	if l < 0 {
		return
	}
	return int(v[0]), int(v[1]), int(vlen), off + n, wal.LSN(l) + it.bias, true
}

// decode moves to the entry at off, whose predecessor's key, or a longer one, is in it.key.
func (it *blockIter) decode(off int) bool {
	shared, unshared, value, keyOff, lsn, ok := it.head(off)
	if !ok || shared > len(it.key) || shared+unshared > maxKeyBytes {
		it.corrupt("entry at %d of %d in block", off, len(it.entries))
		return false
	}
	it.key = append(it.key[:shared], it.entries[keyOff:keyOff+unshared]...)
	it.off, it.next, it.lsn = off, keyOff+unshared+value, lsn
	it.value = it.entries[keyOff+unshared : it.next : it.next]
	return true
}

// valid reports whether the iterator stands on an entry.
func (it *blockIter) valid() bool { return it.off >= 0 && it.off < len(it.entries) }

func (it *blockIter) first() bool {
	it.back, it.key = it.back[:0], it.key[:0]
	if len(it.entries) == 0 {
		return false
	}
	return it.decode(0)
}

// step moves to the next entry; past the last it stands on nothing.
func (it *blockIter) step() bool {
	it.back = it.back[:0]
	if it.off < 0 {
		return it.first()
	}
	if it.next >= len(it.entries) {
		it.off = len(it.entries)
		return false
	}
	return it.decode(it.next)
}

// restart returns the offset of the i-th restart, unchecked.
func (it *blockIter) restart(i int) int {
	return int(binary.LittleEndian.Uint32(it.restarts[4*i:]))
}

// restartsBefore returns how many restarts have an entry before (key, lsn); false
// after a failure.
func (it *blockIter) restartsBefore(key Key, lsn wal.LSN) (int, bool) {
	lo, hi := 0, len(it.restarts)/4
	for lo < hi {
		m := int(uint(lo+hi) / 2)
		off := it.restart(m)
		if off >= len(it.entries) {
			it.corrupt("restart %d of block at %d of %d", m, off, len(it.entries))
			return 0, false
		}
		shared, unshared, _, keyOff, l, ok := it.head(off)
		if !ok || shared != 0 {
			it.corrupt("restart %d of block at %d of %d", m, off, len(it.entries))
			return 0, false
		}
		if compareRecords(it.entries[keyOff:keyOff+unshared], l, key, lsn) < 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo, true
}

// seekGE moves to the first entry at or after (key, lsn).
func (it *blockIter) seekGE(key Key, lsn wal.LSN) bool {
	if len(it.entries) == 0 {
		return false
	}
	n, ok := it.restartsBefore(key, lsn)
	if !ok {
		return false
	}
	it.back, it.key = it.back[:0], it.key[:0]
	off := 0
	if n > 0 {
		off = it.restart(n - 1)
	}
	for ok = it.decode(off); ok; ok = it.step() {
		if compareRecords(it.key, it.lsn, key, lsn) >= 0 {
			return true
		}
	}
	return false
}

// seekLT moves to the last entry before (key, lsn).
func (it *blockIter) seekLT(key Key, lsn wal.LSN) bool {
	if it.seekGE(key, lsn) || it.err == nil {
		return it.stepBack()
	}
	return false
}

func (it *blockIter) last() bool {
	it.toEnd()
	return it.stepBack()
}

// toEnd moves past the last entry.
func (it *blockIter) toEnd() {
	it.off, it.next, it.back = len(it.entries), len(it.entries), it.back[:0]
}

// stepBack moves to the previous entry; before the first it stands on nothing.
func (it *blockIter) stepBack() bool {
	if it.off <= 0 {
		it.off, it.back = -1, it.back[:0]
		return false
	}
	if len(it.back) == 0 && !it.fillBack() {
		return false
	}
	e := it.back[len(it.back)-1]
	it.back = it.back[:len(it.back)-1]
	it.key = append(it.key[:0], it.backKeys[e.keyOff:e.keyEnd]...)
	it.off, it.next, it.lsn, it.value = e.off, e.next, e.lsn, e.value
	return true
}

// fillBack decodes the entries from the last restart before off up to off.
func (it *blockIter) fillBack() bool {
	end := it.off
	lo, hi := 0, len(it.restarts)/4 // restarts before end
	for lo < hi {
		if m := int(uint(lo+hi) / 2); it.restart(m) < end {
			lo = m + 1
		} else {
			hi = m
		}
	}
	off := 0
	if lo > 0 {
		off = it.restart(lo - 1)
	}
	it.key, it.backKeys = it.key[:0], it.backKeys[:0]
	for off < end {
		if !it.decode(off) {
			it.back = it.back[:0]
			return false
		}
		k := len(it.backKeys)
		it.backKeys = append(it.backKeys, it.key...)
		it.back = append(it.back, backEntry{it.off, it.next, k, len(it.backKeys), it.lsn, it.value})
		off = it.next
	}
	if off != end {
		it.corrupt("entries of block meet at %d, want %d", off, end)
		it.back = it.back[:0]
		return false
	}
	return true
}
