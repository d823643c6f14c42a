package layers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// The constants of the value segment format, docs/format/values.md.
const (
	valueMagic       = "STEMMAVS"
	valueVersion     = 2
	valueHeaderBytes = 4096
	// valueAlign is the alignment of streamed values.
	valueAlign = 4096
	// valueChunkBytes is what one checksum of a chunk table covers.
	valueChunkBytes = 64 << 10
	// maxExtentBytes bounds the stored bytes of one value, and so its chunk table.
	maxExtentBytes = 256 << 20
	// maxCompressedRaw bounds the raw length of a compressed value.
	maxCompressedRaw = 1 << 20
)

const valueSuffix = ".val"

// ValueName returns the name of a value segment within its directory, as long as
// it has not been rewritten.
func ValueName(num FileNum) string { return fmt.Sprintf("%016x%s", uint64(num), valueSuffix) }

// ValueFileName returns the name of a value segment of that generation.
func ValueFileName(num FileNum, generation uint32) string {
	if generation == 0 {
		return ValueName(num)
	}
	return fmt.Sprintf("%016x-%08x%s", uint64(num), generation, valueSuffix)
}

// parseValueName is the inverse of ValueFileName; ok is false for any other name.
func parseValueName(name string) (num FileNum, generation uint32, ok bool) {
	if num, ok = parseName(name, valueSuffix); ok {
		return num, 0, true
	}
	const at = 16 // of the dash
	if len(name) < at+1 || name[at] != '-' {
		return 0, 0, false
	}
	hex, _ := strings.CutSuffix(name[at+1:], valueSuffix)
	g, err := strconv.ParseUint(hex, 16, 32)
	if err != nil || g == 0 {
		return 0, 0, false
	}
	if num, ok = parseName(name[:at], ""); !ok || ValueFileName(num, uint32(g)) != name {
		return 0, 0, false
	}
	return num, uint32(g), true
}

// valueKind says how the values of a segment lie.
type valueKind byte

const (
	valuesStreamed valueKind = 1 // each begins at a multiple of valueAlign
	valuesPacked   valueKind = 2 // one behind the other
)

// valueHeader is what the first block of a value segment says.
type valueHeader struct {
	num        FileNum
	generation uint32 // 0: as written first; else how often it has been rewritten at least
	kind       valueKind
	created    int64 // ns since 1970
}

// append appends the first block.
func (v valueHeader) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, valueHeaderBytes)...)
	h := dst[at:]
	copy(h, valueMagic)
	binary.LittleEndian.PutUint32(h[8:], valueVersion)
	binary.LittleEndian.PutUint32(h[12:], v.generation)
	binary.LittleEndian.PutUint64(h[16:], uint64(v.num))
	binary.LittleEndian.PutUint64(h[24:], uint64(max(v.created, 0)))
	h[32] = byte(v.kind)
	binary.LittleEndian.PutUint32(h[valueHeaderBytes-4:], crc32.Checksum(h[:valueHeaderBytes-4], castagnoli))
	return dst
}

// decodeValueHeader verifies the first block of the segment num of that
// generation. The errors begin with the offset.
func decodeValueHeader(h []byte, num FileNum, generation uint32) (valueHeader, error) {
	bad := func(at int, format string, args ...any) (valueHeader, error) {
		return valueHeader{}, fmt.Errorf("at %d: %s: %w", at, fmt.Sprintf(format, args...), ErrCorrupt)
	}
	if len(h) != valueHeaderBytes {
		return bad(0, "header of %d bytes, want %d", len(h), valueHeaderBytes)
	}
	if string(h[:8]) != valueMagic {
		return bad(0, "magic %q, want %q", h[:8], valueMagic)
	}
	if got, want := binary.LittleEndian.Uint32(h[valueHeaderBytes-4:]), crc32.Checksum(h[:valueHeaderBytes-4], castagnoli); got != want {
		return bad(valueHeaderBytes-4, "header checksum %08x, want %08x", got, want)
	}
	if got := binary.LittleEndian.Uint32(h[8:]); got != valueVersion {
		return bad(8, "format version %d, want %d", got, valueVersion)
	}
	v := valueHeader{
		num:        FileNum(binary.LittleEndian.Uint64(h[16:])),
		generation: binary.LittleEndian.Uint32(h[12:]),
		kind:       valueKind(h[32]),
		created:    int64(binary.LittleEndian.Uint64(h[24:])),
	}
	switch {
	case v.generation != generation:
		return bad(12, "header of generation %d, want %d", v.generation, generation)
	case v.num != num:
		return bad(16, "header of segment %d, want %d", v.num, num)
	case v.kind != valuesStreamed && v.kind != valuesPacked:
		return bad(32, "unknown kind %d", v.kind)
	case !bytes.Equal(h, v.append(nil)):
		return bad(33, "reserved bytes of the header are not zero")
	}
	return v, nil
}

// valueChunks returns the number of chunks of a value of n stored bytes.
func valueChunks(n uint64) uint64 { return (n + valueChunkBytes - 1) / valueChunkBytes }

// valueTableBytes returns the length of the chunk table behind a value of n
// stored bytes: none when one checksum covers it.
func valueTableBytes(n uint64) uint64 {
	if n <= valueChunkBytes {
		return 0
	}
	return 4 * valueChunks(n)
}

// compressed reports whether the stored bytes are an lz4 block.
func (h *Handle) compressed() bool { return h.Raw != h.Length }

// check refuses an extent that no writer made, or that does not fit a file of
// size bytes. What it lets pass bounds every allocation of a reader.
func (e *Extent) check(size int64) error {
	bad := func(what string) error {
		return fmt.Errorf("at %d: extent %+v: %s: %w", e.Offset, *e, what, ErrCorrupt)
	}
	switch {
	case e.Length > maxExtentBytes:
		return bad("too long")
	case e.compressed() && (e.Raw > maxCompressedRaw || e.Length >= e.Raw):
		return bad("bad raw length")
	case e.Skip > e.Raw || e.Len > e.Raw-e.Skip:
		return bad("piece outside of the value")
	case e.Offset < valueHeaderBytes || e.Offset > uint64(size):
		return bad("offset outside of the file")
	case e.Length+valueTableBytes(e.Length) > uint64(size)-e.Offset:
		return bad(fmt.Sprintf("past the end of a file of %d bytes", size))
	}
	return nil
}

// checkChunk verifies stored bytes against their checksum; at is their offset.
func checkChunk(p []byte, want uint32, at uint64) error {
	if got := crc32.Checksum(p, castagnoli); got != want {
		return fmt.Errorf("at %d: checksum %08x of %d bytes, want %08x: %w", at, got, len(p), want, ErrCorrupt)
	}
	return nil
}
