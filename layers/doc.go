// Package layers encodes, decodes and indexes records and values: keys, the
// memlayer, immutable layer files, value segments, and the Version that joins
// them for readers. It knows no tree and no names, and its only goroutines are
// those that its callers bring.
//
// # Layer file, version 1
//
// Integers are little-endian; offsets count bytes from the start of the file;
// crc is CRC-32C (Castagnoli). docs/format/layers.md says the same at length.
//
//	+--------+--------+-----+-------+-----+-----+--------+------------+--------+
//	| header | data   | ... | index | ... | top | filter | tombstones | props  | footer
//	|        | blocks |     | blocks|     |     | blocks | (a tree)   |        |
//	+--------+--------+-----+-------+-----+-----+--------+------------+--------+
//	0        32                                                             size-96
//
//	header  off size
//	          0    8  magic "STEMMALY"
//	          8    4  version, 1
//	         12    1  kind (1 delta, 2 image, 3 history)
//	         13    3  zero
//	         16    8  file number
//	         24    4  zero
//	         28    4  crc of [0, 28)
//
// A tree is data blocks, index blocks, one top index: all of the form "block".
// That of the point records comes first; without records it is absent, and so is
// the filter. That of the range tombstones is absent without any.
//
//	block   entries | restarts (4 bytes each) | base LSN (8) | restart count (4)
//	stored  block, or its LZ4 | form (0 raw, 1 LZ4) | raw length (4) | crc (4)
//
// The crc of a stored block, and of a filter block, is over what precedes it, then
// the file number (8) and the offset of the block (8): a block in the wrong place
// is corrupt. Every 16th entry of a data block and every entry of an index block is a
// restart: its key is whole.
//
//	entry       uvarint key bytes shared with the previous entry
//	            uvarint key bytes that follow
//	            varint  LSN - base LSN
//	            uvarint value length
//	            key bytes, value
//	record      flags (kind 1, 2, 3; 0x08 adopted; 0x10 death), with 0x10 uvarint death - LSN,
//	            uvarint meta length, meta, body
//	tombstone   flags (kind 4; 0x08 adopted), exclusive end of the range
//	index       uvarints offset, stored length, entry LSN - min LSN, max LSN - entry LSN;
//	            key and LSN of the entry are those of the last record of the block
//	filter      4,092 bytes of bits | crc (4)
//	properties  Desc.Append | crc of it (4)
//
//	footer  off size
//	          0   12  top index of point records: offset (8), stored length (4)
//	         12   12  filter
//	         24   12  top index of range tombstones
//	         36   12  properties
//	         48    8  size of the file
//	         56    8  file number
//	         64    1  kind
//	         65    3  zero
//	         68    4  version, 1
//	         72   12  zero
//	         84    4  crc of [0, 84)
//	         88    8  magic "STEMMALE"
//
// An adopted file (a staged merge) holds LSN zero everywhere; its readers take
// Desc.AdoptedLSN of the catalog for it.
//
// A delta layer holds any records. An image layer holds one version of each key: one
// record, or page deltas and the record that they apply to. A history layer holds superseded versions, each with its death LSN (flag 0x10),
// that of what superseded it, and no range tombstones: a read at L sees of it what
// has LSN <= L < death, and does not look at it at all if L is below its lowest LSN
// or not below its highest death.
//
// # Value segment, version 2
//
// See docs/format/values.md.
//
// # Crash consistency
//
// A file exists only once the catalog names it; others are deleted on open. A
// layer is synced by LayerWriter.Finish, its directory by the caller, before
// the catalog names it.
package layers
