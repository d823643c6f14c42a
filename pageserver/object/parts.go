package object

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"

	"stemma/layers"
)

// partTable locates the encoded parts table of an object.
type partTable struct {
	inline []byte // the table itself
	tail   uint64 // or the bytes of it behind the object's, in the body
}

const (
	// maxInlineParts bounds a parts table within an entry.
	maxInlineParts = 256
	// maxPartTable bounds any parts table: the most parts, each a run of its own,
	// each with the longest checksum.
	maxPartTable = 1 + MaxPartNumber*(3*binary.MaxVarintLen64+32+md5.Size)
)

// appendParts appends the encoded parts table:
//
//	1 byte   checksum algorithm of every part, 0 none
//	per run  uvarint numbers skipped since the part before, uvarint parts in
//	         the run (1 and more), uvarint size of each
//	         a run of 0 parts ends the list: 0x00 0x00
//	         then the checksums, in order, then the MD5s of the tags, 16 bytes each
//
// A run is of parts with consecutive numbers and equal sizes.
func appendParts(dst []byte, parts []PartInfo) []byte {
	alg := partsAlgorithm(parts)
	dst = append(dst, byte(alg))
	last := 0
	for i := 0; i < len(parts); {
		n := 1
		for i+n < len(parts) && parts[i+n].Number == parts[i].Number+n && parts[i+n].Size == parts[i].Size {
			n++
		}
		dst = binary.AppendUvarint(dst, uint64(parts[i].Number-last-1))
		dst = binary.AppendUvarint(dst, uint64(n))
		dst = binary.AppendUvarint(dst, parts[i].Size)
		last = parts[i].Number + n - 1
		i += n
	}
	dst = append(dst, 0, 0)
	if alg != NoChecksum {
		for i := range parts {
			dst = append(dst, parts[i].Checksum.Bytes()...)
		}
	}
	for i := range parts {
		dst = append(dst, parts[i].MD5[:]...)
	}
	return dst
}

// partsAlgorithm returns the algorithm that all parts have, or none.
func partsAlgorithm(parts []PartInfo) Algorithm {
	if len(parts) == 0 {
		return NoChecksum
	}
	alg := parts[0].Checksum.Algorithm
	for i := range parts {
		if parts[i].Checksum.Algorithm != alg {
			return NoChecksum
		}
	}
	return alg
}

// decodeParts decodes a parts table. Errors: ErrCorrupt.
func decodeParts(p []byte) ([]PartInfo, error) {
	if len(p) == 0 || Algorithm(p[0]) >= numAlgorithms {
		return nil, corrupt("bad parts table")
	}
	alg, p := Algorithm(p[0]), p[1:]
	var parts []PartInfo
	for last := 0; ; {
		gap, rest, ok := takeUvarint(p)
		if !ok {
			return nil, corrupt("bad gap in the parts table")
		}
		n, rest, ok := takeUvarint(rest)
		if !ok || gap > MaxPartNumber || n > MaxPartNumber || last+int(gap)+int(n) > MaxPartNumber {
			return nil, corrupt("bad run in the parts table")
		}
		if p = rest; n == 0 {
			if gap != 0 {
				return nil, corrupt("bad end of the parts table")
			}
			break
		}
		size, rest, ok := takeUvarint(p)
		if !ok || size > MaxPartBytes {
			return nil, corrupt("bad size in the parts table")
		}
		p = rest
		if k := len(parts); k > 0 && gap == 0 && parts[k-1].Size == size {
			return nil, corrupt("run of parts cut in two")
		}
		last += int(gap)
		for range n {
			last++
			parts = append(parts, PartInfo{Number: last, Size: size})
		}
	}
	if len(parts) == 0 || len(p) != len(parts)*(alg.Size()+md5.Size) {
		return nil, corrupt("%d bytes of checksums and tags for %d parts", len(p), len(parts))
	}
	if alg != NoChecksum {
		for i := range parts {
			parts[i].Checksum.Algorithm = alg
			p = p[copy(parts[i].Checksum.Sum[:], p[:alg.Size()]):]
		}
	}
	for i := range parts {
		p = p[copy(parts[i].MD5[:], p):]
	}
	return parts, nil
}

// loadParts returns the parts of an object; nil if it has no table. ext is its
// whole body when the table lies there.
func (s *Service) loadParts(e *Entry, ext []layers.Extent) ([]PartInfo, error) {
	table := e.parts.inline
	if e.parts.tail > 0 {
		at := e.Size
		if e.crypt != nil {
			at = length(ext) - min(length(ext), e.parts.tail)
		}
		tail := slice(ext, at, e.parts.tail)
		for i := range tail {
			var err error
			if table, err = s.values.ReadAll(table, tail[i]); err != nil {
				return nil, fmt.Errorf("read parts table: %w", err)
			}
		}
		if e.crypt != nil {
			var err error
			if table, err = e.crypt.small().openSmall(purposeTable, table); err != nil {
				return nil, err
			}
		}
	}
	if table == nil {
		return nil, nil
	}
	parts, err := decodeParts(table)
	if err != nil {
		return nil, err
	}
	var size uint64
	for i := range parts {
		size += parts[i].Size
	}
	if size != e.Size || len(parts) != e.PartsCount {
		return nil, corrupt("%d parts of %d bytes, the entry says %d of %d", len(parts), size, e.PartsCount, e.Size)
	}
	return parts, nil
}
