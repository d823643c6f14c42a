package layers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// The constants of the value segment format, docs/format/values.md.
const (
	valueMagic       = "STEMMAVS"
	valueVersion     = 1
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

// ValueName returns the name of a value segment within its directory.
func ValueName(num FileNum) string { return fmt.Sprintf("%016x%s", uint64(num), valueSuffix) }

// parseValueName is the inverse of valueName; ok is false for any other name.
func parseValueName(name string) (num FileNum, ok bool) { return parseName(name, valueSuffix) }

// appendValueHeader appends the first block of a value segment.
func appendValueHeader(dst []byte, num FileNum, now time.Time) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, valueHeaderBytes)...)
	h := dst[at:]
	copy(h, valueMagic)
	binary.LittleEndian.PutUint32(h[8:], valueVersion)
	binary.LittleEndian.PutUint64(h[16:], uint64(num))
	binary.LittleEndian.PutUint64(h[24:], uint64(max(now.UnixNano(), 0)))
	binary.LittleEndian.PutUint32(h[valueHeaderBytes-4:], crc32.Checksum(h[:valueHeaderBytes-4], castagnoli))
	return dst
}

// checkValueHeader verifies the first block of the segment num. The errors
// begin with the offset.
func checkValueHeader(h []byte, num FileNum) error {
	if len(h) != valueHeaderBytes {
		return fmt.Errorf("at 0: header of %d bytes, want %d: %w", len(h), valueHeaderBytes, ErrCorrupt)
	}
	if string(h[:8]) != valueMagic {
		return fmt.Errorf("at 0: magic %q, want %q: %w", h[:8], valueMagic, ErrCorrupt)
	}
	if got, want := binary.LittleEndian.Uint32(h[valueHeaderBytes-4:]), crc32.Checksum(h[:valueHeaderBytes-4], castagnoli); got != want {
		return fmt.Errorf("at %d: header checksum %08x, want %08x: %w", valueHeaderBytes-4, got, want, ErrCorrupt)
	}
	if got := binary.LittleEndian.Uint32(h[8:]); got != valueVersion {
		return fmt.Errorf("at 8: format version %d, want %d: %w", got, valueVersion, ErrCorrupt)
	}
	if got := FileNum(binary.LittleEndian.Uint64(h[16:])); got != num {
		return fmt.Errorf("at 16: header of segment %d, want %d: %w", got, num, ErrCorrupt)
	}
	created := time.Unix(0, int64(binary.LittleEndian.Uint64(h[24:])))
	if !bytes.Equal(h, appendValueHeader(nil, num, created)) {
		return fmt.Errorf("at 12: reserved bytes of the header are not zero: %w", ErrCorrupt)
	}
	return nil
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
