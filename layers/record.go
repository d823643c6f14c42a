package layers

import (
	"errors"

	"stemma/wal"
)

// ErrCorrupt marks bytes that are not what this package wrote. Errors that wrap
// it name the file and the offset.
var ErrCorrupt = errors.New("layers: corrupt")

// FileNum names a layer file or a value segment; both draw from one counter.
type FileNum uint64

// Kind says what a record does to its key.
type Kind byte

// The kinds. Only KindValue and KindTombstone end the search for a key.
const (
	KindValue          Kind = 1 // the full value
	KindDelta          Kind = 2 // a page delta, applied over the next older record
	KindTombstone      Kind = 3 // hides the key here and in ancestors
	KindRangeTombstone Kind = 4 // hides [Key, End) here and in ancestors, at LSNs below its own
)

// Record is one version of one key, or one range tombstone. For one key and
// LSN there is at most one point record. A point record at the LSN of a range
// tombstone that covers it is visible: the tombstone hides only lower LSNs.
//
// Records are sorted by key ascending, then LSN descending (newest first).
type Record struct {
	Key Key
	LSN wal.LSN
	// Death is the LSN of what superseded the record: it is visible at L iff
	// LSN <= L < Death. Only records of history layers have one; zero elsewhere.
	Death wal.LSN
	Kind  Kind
	// Adopted says that the file holds no LSN for the record; the reader has
	// filled LSN from the layer's Desc.AdoptedLSN (a staged merge, DESIGN 8).
	Adopted bool
	// Writer is who made the commit: a number that means something to whoever gave it. Zero: nobody said.
	// Range tombstones have none.
	Writer uint32
	Meta   []byte // always in the layer, never parted
	Body   Body   // inline bytes, or extents in value segments
	End    Key    // range tombstones only: exclusive end, same timeline and namespace as Key
}

// Iterator walks point records in record order (key ascending, LSN
// descending). The methods that position it report whether it stands on a
// record; after false, Err tells an end from a failure. A Record and what it
// points to are valid until the next move or Close, unless the implementation
// promises more. Not safe for concurrent use.
type Iterator interface {
	// SeekGE moves to the first record at or after (key, lsn): key greater, or
	// key equal and LSN at or below lsn.
	SeekGE(key Key, lsn wal.LSN) bool
	// SeekLT moves to the last record before (key, lsn).
	SeekLT(key Key, lsn wal.LSN) bool
	First() bool
	Last() bool
	Next() bool
	Prev() bool
	Record() *Record
	Err() error
	Close() error
}
