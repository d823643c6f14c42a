// Package timeline is the engine of a store: the tree of timelines, commits,
// reads at (timeline, LSN), flush, compaction and recovery.
//
// # Life of a commit
//
// Store.Commit resolves the bucket's name to its timeline, takes the
// timeline's gate (shared) and the stripes of the keys, encodes the batch and
// appends it to the log. The log's Reserve callback checks, at the moment that
// fixes the order, that the name still leads to the same timeline. Once the
// group is on stable storage the log calls Store.apply, in LSN order: records
// go to the active memlayer, rows derived from the commit to the catalog, and
// only then does the commit become visible and the caller return.
//
// # The tree
//
// A name leads to a bucket, a bucket's bindings lead to timelines, both by
// LSN. The tree in memory is the sequenced one: it changes inside Reserve,
// under treeMu and the log's sequencing lock. Readers skip what lies above the
// LSN they read at, so that nothing is visible before it is durable.
//
// # Crash consistency
//
// The log is the truth. Memlayers are rebuilt from it above flushedLSN, rows
// above appliedLSN; both marks are catalog rows, written in the same Pebble
// batch as what they vouch for. Order of a flush: values synced, layer file
// and directory synced, one synced catalog batch, Version swapped, log
// released. A crash between any two leaves files that no row names; they are
// removed after the next replay.
//
// # Locks
//
// Order: a timeline's gate, then stripes (ascending), then treeMu, then the
// log's sequencing lock, then mu. mu is never held across file I/O.
package timeline
