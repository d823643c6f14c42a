package layers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The constants of the remap table, docs/format/values.md.
const (
	remapMagic       = "STEMMAVR"
	remapFooterBytes = 64
	remapPageBytes   = 4096
	remapEntryBytes  = 16
	// remapPageEntries fill a page but for 12 zero bytes and the checksum.
	remapPageEntries = (remapPageBytes - 16) / remapEntryBytes
	// remapCachedPages is how many pages an open file keeps.
	remapCachedPages = 16
)

// remapEntry says where a value of the first file lies in this one.
type remapEntry struct{ old, new uint64 }

// remapFooter is the end of a rewritten file.
type remapFooter struct {
	num           FileNum
	generation    uint32
	tableOffset   uint64 // of the first page; values lie before it
	entries       uint64
	originalBytes uint64 // size of the file of generation 0
	indexCRC      uint32
}

func remapPages(entries uint64) uint64 { return (entries + remapPageEntries - 1) / remapPageEntries }

// indexOffset returns where the index begins: the old offset of each page's first entry.
func (f *remapFooter) indexOffset() uint64 {
	return f.tableOffset + remapPages(f.entries)*remapPageBytes
}

func (f *remapFooter) indexBytes() uint64 { return remapPages(f.entries) * 8 }

func (f *remapFooter) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, remapFooterBytes)...)
	p := dst[at:]
	binary.LittleEndian.PutUint64(p, f.tableOffset)
	binary.LittleEndian.PutUint64(p[8:], f.entries)
	binary.LittleEndian.PutUint64(p[16:], f.originalBytes)
	binary.LittleEndian.PutUint64(p[24:], uint64(f.num))
	binary.LittleEndian.PutUint32(p[32:], f.generation)
	binary.LittleEndian.PutUint32(p[36:], f.indexCRC)
	binary.LittleEndian.PutUint32(p[40:], valueVersion)
	binary.LittleEndian.PutUint32(p[52:], crc32.Checksum(p[:52], castagnoli))
	copy(p[56:], remapMagic)
	return dst
}

// decodeRemapFooter decodes the last bytes p of a file of size bytes. What it
// accepts bounds table and index by the size. Errors begin with the offset.
func decodeRemapFooter(p []byte, num FileNum, generation uint32, size int64) (remapFooter, error) {
	at := size - remapFooterBytes
	bad := func(format string, args ...any) (remapFooter, error) {
		return remapFooter{}, fmt.Errorf("at %d: %s: %w", max(at, 0), fmt.Sprintf(format, args...), ErrCorrupt)
	}
	if at < valueHeaderBytes || len(p) != remapFooterBytes {
		return bad("file of %d bytes has no footer", size)
	}
	if string(p[56:]) != remapMagic {
		return bad("footer magic %q, want %q", p[56:], remapMagic)
	}
	if got, want := binary.LittleEndian.Uint32(p[52:]), crc32.Checksum(p[:52], castagnoli); got != want {
		return bad("footer checksum %08x, want %08x", got, want)
	}
	f := remapFooter{
		tableOffset:   binary.LittleEndian.Uint64(p),
		entries:       binary.LittleEndian.Uint64(p[8:]),
		originalBytes: binary.LittleEndian.Uint64(p[16:]),
		num:           FileNum(binary.LittleEndian.Uint64(p[24:])),
		generation:    binary.LittleEndian.Uint32(p[32:]),
		indexCRC:      binary.LittleEndian.Uint32(p[36:]),
	}
	switch {
	case binary.LittleEndian.Uint32(p[40:]) != valueVersion || binary.LittleEndian.Uint64(p[44:]) != 0:
		return bad("bad version or reserved bytes in the footer")
	case f.num != num || f.generation != generation:
		return bad("footer of segment %d generation %d, want %d generation %d", f.num, f.generation, num, generation)
	case f.tableOffset < valueHeaderBytes || f.tableOffset%valueAlign != 0 || f.tableOffset > uint64(at):
		return bad("remap table at %d", f.tableOffset)
	case f.entries > uint64(at)/remapEntryBytes || f.indexOffset()+f.indexBytes() != uint64(at):
		return bad("remap table of %d entries does not fit", f.entries)
	case f.originalBytes < valueHeaderBytes || f.originalBytes > 1<<62:
		return bad("original file of %d bytes", f.originalBytes)
	}
	return f, nil
}

// remapCRC is the checksum of the page p at offset off.
func remapCRC(p []byte, num FileNum, generation uint32, off uint64) uint32 {
	var place [20]byte
	binary.LittleEndian.PutUint64(place[:], uint64(num))
	binary.LittleEndian.PutUint32(place[8:], generation)
	binary.LittleEndian.PutUint64(place[12:], off)
	return crc32.Update(crc32.Checksum(p, castagnoli), castagnoli, place[:])
}

// appendRemapPage appends the page at off; there are 1 to remapPageEntries entries.
func appendRemapPage(dst []byte, entries []remapEntry, num FileNum, generation uint32, off uint64) []byte {
	at := len(dst)
	for _, e := range entries {
		dst = binary.LittleEndian.AppendUint64(dst, e.old)
		dst = binary.LittleEndian.AppendUint64(dst, e.new)
	}
	dst = append(dst, make([]byte, at+remapPageBytes-4-len(dst))...)
	return binary.LittleEndian.AppendUint32(dst, remapCRC(dst[at:], num, generation, off))
}

// valueRemap is the remap table of an open file. Safe for concurrent use.
type valueRemap struct {
	remapFooter
	index []uint64 // old offset of the first entry of each page
	// pages holds page i, if any, at i % remapCachedPages.
	pages [remapCachedPages]atomic.Pointer[remapPage]
}

// remapPage is a verified page.
type remapPage struct {
	number  uint64
	entries uint64
	p       [remapPageBytes]byte
}

func (g *remapPage) old(i int) uint64 { return binary.LittleEndian.Uint64(g.p[i*remapEntryBytes:]) }
func (g *remapPage) new(i int) uint64 { return binary.LittleEndian.Uint64(g.p[i*remapEntryBytes+8:]) }

// openRemap reads footer and index. Errors about their bytes begin with the offset.
func openRemap(file vfs.File, num FileNum, generation uint32) (*valueRemap, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	size := info.Size()
	var foot [remapFooterBytes]byte
	if size >= valueHeaderBytes+remapFooterBytes {
		if err := readFull(file, foot[:], uint64(size-remapFooterBytes)); err != nil {
			return nil, err
		}
	}
	f, err := decodeRemapFooter(foot[:], num, generation, size)
	if err != nil {
		return nil, err
	}
	index := make([]byte, f.indexBytes())
	if err := readFull(file, index, f.indexOffset()); err != nil {
		return nil, err
	}
	return decodeRemapIndex(f, index)
}

// decodeRemapIndex makes the table of its footer and index.
func decodeRemapIndex(f remapFooter, index []byte) (*valueRemap, error) {
	if err := checkChunk(index, f.indexCRC, f.indexOffset()); err != nil {
		return nil, err
	}
	r := &valueRemap{remapFooter: f, index: make([]uint64, len(index)/8)}
	least := uint64(valueHeaderBytes)
	for i := range r.index {
		r.index[i] = binary.LittleEndian.Uint64(index[8*i:])
		if r.index[i] < least || r.index[i] >= f.originalBytes {
			return nil, fmt.Errorf("at %d: bad page bound %d: %w", f.indexOffset()+8*uint64(i), r.index[i], ErrCorrupt)
		}
		least = r.index[i] + 1
	}
	return r, nil
}

// readFull fills p from off; a file that ends there is corrupt.
func readFull(file vfs.File, p []byte, off uint64) error {
	n, err := file.ReadAt(p, int64(off))
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("file ends: %w", ErrCorrupt)
	}
	return fmt.Errorf("at %d: %d of %d bytes: %w", off+uint64(n), n, len(p), err)
}

// locate returns where the value that was at r.Offset lies in the file. Errors
// about bytes begin with the offset, and are ErrCorrupt: what a handle names
// must be there.
func (t *valueRemap) locate(file vfs.File, r ValueRange) (at uint64, err error) {
	i := sort.Search(len(t.index), func(i int) bool { return t.index[i] > r.Offset })
	if i == 0 {
		return 0, fmt.Errorf("at %d: no value at %d in the first file was kept: %w", t.tableOffset, r.Offset, ErrCorrupt)
	}
	number := uint64(i - 1)
	page := t.pages[number%remapCachedPages].Load()
	if page == nil || page.number != number {
		if page, err = t.readPage(file, number); err != nil {
			return 0, err
		}
		t.pages[number%remapCachedPages].Store(page)
	}
	j := sort.Search(int(page.entries), func(j int) bool { return page.old(j) >= r.Offset })
	if j == int(page.entries) || page.old(j) != r.Offset {
		return 0, fmt.Errorf("at %d: no value at %d in the first file was kept: %w", t.pageOffset(number), r.Offset, ErrCorrupt)
	}
	at = page.new(j)
	if r.Length > t.tableOffset-at {
		return 0, fmt.Errorf("at %d: value of %d bytes runs into the remap table: %w", at, r.Length, ErrCorrupt)
	}
	return at, nil
}

func (t *valueRemap) pageOffset(number uint64) uint64 { return t.tableOffset + number*remapPageBytes }

func (t *valueRemap) readPage(file vfs.File, number uint64) (*remapPage, error) {
	page := &remapPage{number: number, entries: min(t.entries-number*remapPageEntries, remapPageEntries)}
	if err := readFull(file, page.p[:], t.pageOffset(number)); err != nil {
		return nil, err
	}
	if err := t.checkPage(page); err != nil {
		return nil, fmt.Errorf("at %d: %w", t.pageOffset(number), err)
	}
	return page, nil
}

// checkPage verifies a page: its checksum, and that offsets rise and lie within bounds.
func (t *valueRemap) checkPage(g *remapPage) error {
	const crcAt = remapPageBytes - 4
	got := remapCRC(g.p[:crcAt], t.num, t.generation, t.pageOffset(g.number))
	if want := binary.LittleEndian.Uint32(g.p[crcAt:]); got != want {
		return fmt.Errorf("page checksum %08x, want %08x: %w", got, want, ErrCorrupt)
	}
	for _, b := range g.p[g.entries*remapEntryBytes : crcAt] {
		if b != 0 {
			return fmt.Errorf("bytes behind the entries of a page: %w", ErrCorrupt)
		}
	}
	end := t.originalBytes
	if next := g.number + 1; next < uint64(len(t.index)) {
		end = t.index[next]
	}
	if g.old(0) != t.index[g.number] {
		return fmt.Errorf("page begins with offset %d, the index says %d: %w", g.old(0), t.index[g.number], ErrCorrupt)
	}
	last := remapEntry{old: t.index[g.number] - 1, new: valueHeaderBytes - 1}
	for i := range int(g.entries) {
		e := remapEntry{g.old(i), g.new(i)}
		if e.old <= last.old || e.old >= end || e.new <= last.new || e.new >= t.tableOffset {
			return fmt.Errorf("entry %d of a page: %d to %d out of order or bounds: %w", i, e.old, e.new, ErrCorrupt)
		}
		last = e
	}
	return nil
}
