package layers

import (
	"encoding/binary"
	"fmt"
	"math"

	"stemma/wal"
)

// maxKeyBytes bounds a composite key; an exclusive end may be a byte longer.
const maxKeyBytes = keyPrefixLen + MaxUserKeyBytes

// The flags of an entry of a data block: the kind in the low bits, and these,
// which all entries of a file have or none.
const (
	entryKindMask = 0x07
	entryAdopted  = 0x08 // its LSN is the layer's AdoptedLSN
	entryDeath    = 0x10 // behind the flags lies how far above its LSN it ended
)

// entryWriter is the flag of an entry that has a Writer; it lies before the meta.
const entryWriter = 0x20

// entryFlags returns the flags that every entry of a file has beside its kind.
func entryFlags(kind LayerKind, adopted bool) (flags byte) {
	if kind == HistoryLayer {
		flags |= entryDeath
	}
	if adopted {
		flags |= entryAdopted
	}
	return flags
}

// appendRecordValue appends what follows the key in an entry of a data block
// of a file whose entries have the given flags.
func appendRecordValue(dst []byte, r *Record, flags byte) []byte {
	if r.Writer != 0 {
		flags |= entryWriter
	}
	dst = append(dst, byte(r.Kind)|flags)
	if flags&entryDeath != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.Death-r.LSN))
	}
	if r.Writer != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.Writer))
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Meta)))
	dst = append(dst, r.Meta...)
	return append(dst, r.Body...)
}

// decodeRecord fills r from an entry of a file whose entries have the given
// flags: its slices alias the arguments.
func decodeRecord(r *Record, key Key, lsn wal.LSN, value []byte, flags byte) error {
	if len(value) < 2 || len(key) < keyPrefixLen {
		return fmt.Errorf("record with a key of %d and a value of %d bytes: %w", len(key), len(value), ErrCorrupt)
	}
	kind := Kind(value[0] & entryKindMask)
	if kind < KindValue || kind > KindTombstone || value[0]&^(entryKindMask|entryWriter) != flags {
		return fmt.Errorf("record with flags %02x: %w", value[0], ErrCorrupt)
	}
	rest, death := value[1:], wal.LSN(0)
	if flags&entryDeath != 0 {
		after, behind, ok := uvarint(rest)
		if !ok || after == 0 || lsn > wal.MaxLSN || after > uint64(wal.MaxLSN-lsn) || len(behind) == 0 {
			return fmt.Errorf("record at %d that ends %d later: %w", lsn, after, ErrCorrupt)
		}
		rest, death = behind, lsn+wal.LSN(after)
	}
	writer := uint32(0)
	if value[0]&entryWriter != 0 {
		n, behind, ok := uvarint(rest)
		if !ok || n == 0 || n > math.MaxUint32 || len(behind) == 0 {
			return fmt.Errorf("record of writer %d: %w", n, ErrCorrupt)
		}
		rest, writer = behind, uint32(n)
	}
	metaLen, meta, ok := uint64(rest[0]), rest[1:], true
	if metaLen >= 0x80 {
		metaLen, meta, ok = uvarint(rest)
	}
	if !ok || metaLen > uint64(len(meta)) {
		return fmt.Errorf("record with a meta of %d bytes in %d: %w", metaLen, len(value), ErrCorrupt)
	}
	r.Key, r.LSN, r.Death, r.Kind, r.Adopted, r.End = key, lsn, death, kind, flags&entryAdopted != 0, nil
	r.Writer = writer
	r.Meta, r.Body = meta[:metaLen:metaLen], Body(meta[metaLen:])
	return nil
}

// blockRef is an entry of an index: where a block lies, and what LSNs are in it
// (or, for an index block, below it).
type blockRef struct {
	off            uint64
	length         uint64 // stored, trailer included
	minLSN, maxLSN wal.LSN
}

func (b *blockRef) appendValue(dst []byte, last wal.LSN) []byte {
	dst = binary.AppendUvarint(dst, b.off)
	dst = binary.AppendUvarint(dst, b.length)
	dst = binary.AppendUvarint(dst, uint64(last-b.minLSN))
	return binary.AppendUvarint(dst, uint64(b.maxLSN-last))
}

// decodeBlockRef decodes the value of an index entry whose LSN is last. The
// offset and length are for the caller to bound.
func decodeBlockRef(value []byte, last wal.LSN) (b blockRef, err error) {
	c := cursor{p: value}
	b.off, b.length = c.uvarint(), c.uvarint()
	below, above := c.uvarint(), c.uvarint()
	if c.bad || len(c.p) != 0 || below > uint64(last) || above > uint64(wal.MaxLSN-last) {
		return b, fmt.Errorf("index entry of %d bytes: %w", len(value), ErrCorrupt)
	}
	b.minLSN, b.maxLSN = last-wal.LSN(below), last+wal.LSN(above)
	return b, nil
}
