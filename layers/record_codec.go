package layers

import (
	"encoding/binary"
	"fmt"

	"stemma/wal"
)

// maxKeyBytes bounds a composite key; an exclusive end may be a byte longer.
const maxKeyBytes = keyPrefixLen + MaxUserKeyBytes

// The flags of an entry of a data block: the kind in the low bits, and these.
const (
	entryKindMask = 0x07
	entryAdopted  = 0x08 // its LSN is the layer's AdoptedLSN
	// 0x10 is kept for a death LSN behind the flags, in history layers.
)

// appendRecordValue appends what follows the key in an entry of a data block.
func appendRecordValue(dst []byte, r *Record, adopted bool) []byte {
	flags := byte(r.Kind)
	if adopted {
		flags |= entryAdopted
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(len(r.Meta)))
	dst = append(dst, r.Meta...)
	return append(dst, r.Body...)
}

// decodeRecord fills r from an entry: its slices alias the arguments.
func decodeRecord(r *Record, key Key, lsn wal.LSN, value []byte, adopted bool) error {
	if len(value) < 2 || len(key) < keyPrefixLen {
		return fmt.Errorf("record with a key of %d and a value of %d bytes: %w", len(key), len(value), ErrCorrupt)
	}
	flags := value[0]
	kind := Kind(flags & entryKindMask)
	if kind < KindValue || kind > KindTombstone || flags&^(entryKindMask|entryAdopted) != 0 || (flags&entryAdopted != 0) != adopted {
		return fmt.Errorf("record with flags %02x: %w", flags, ErrCorrupt)
	}
	metaLen, meta, ok := uint64(value[1]), value[2:], true
	if metaLen >= 0x80 {
		metaLen, meta, ok = uvarint(value[1:])
	}
	if !ok || metaLen > uint64(len(meta)) {
		return fmt.Errorf("record with a meta of %d bytes in %d: %w", metaLen, len(value), ErrCorrupt)
	}
	r.Key, r.LSN, r.Kind, r.Adopted, r.End = key, lsn, kind, adopted, nil
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
