// Package wal is the store's log: group commit, framing, replay and recycling
// over direct I/O. Payloads are opaque bytes.
//
// A commit goes through three goroutines, each owned by the Log:
//
//	Append (caller)   reserves an LSN and copies the payload into the open group, under Log.mu, without I/O
//	writer            takes the group, writes it with one call, syncs once, marks it durable
//	applier           hands it to Options.Apply, publishes its last LSN as visible, wakes the waiters
//	preparer          keeps the next segment ready, so that the writer never makes one
//
// # Files, version 1
//
// A segment is a file "%016x.wal", named by its number; numbers rise and are
// never reused. It was filled with zeros and synced before it got that name
// ("%016x.tmp" before), and its size never changes. Integers are
// little-endian, checksums are CRC-32C.
//
//	+----------------+---------+-----+---------+------------------------+
//	| segment header | group a | ... | group z | not written, or stale  |
//	+----------------+---------+-----+---------+------------------------+
//	0               4096                                          file size
//
//	segment header  off size
//	                  0    4  magic "SWS1"
//	                  4    4  checksum of bytes [8, 4096)
//	                  8    2  version, 1
//	                 10    6  zero
//	                 16    8  segment number, as in the name
//	                 24    8  incarnation: of the run that wrote the segment, from 1
//	                 32    8  incarnation of the group before, 0 when there is none
//	                 40    8  sequence of the first group
//	                 48    8  first LSN that a commit of this segment can have
//	                 56    4  checksum field of the group before, 0 when there is none
//	                 60 4036  zero
//
// A file whose header is not valid or has another number is prepared and not
// used yet: all zeros, or recycled with stale content.
//
// A group fills whole 4 KiB blocks. The first begins with the group header, the
// others with the tag "SWC1"; so no byte of a payload ever lies where a group
// can begin, and no payload can pass for one. Zeros follow the payload.
//
//	group header    off size
//	                  0    4  magic "SWG1"
//	                  4    4  checksum of bytes [8, end of the last block)
//	                  8    2  version, 1
//	                 10    2  flags: 1 = end mark of a clean close, without commits
//	                 12    4  commits
//	                 16    8  incarnation, as in the segment header
//	                 24    8  sequence: rises by one from group to group for ever
//	                 32    8  durable mark: highest sequence known durable when this was written
//	                 40    8  LSN of the first commit; of an end mark: the last LSN of the log
//	                 48    8  LSN of the last commit; of an end mark: the same
//	                 56    4  bytes of payload, without tags and padding
//	                 60    4  checksum field of the group before, 0 when there is none
//	                 64       payload
//
//	payload: per commit
//	                  0    8  LSN
//	                  8    4  length
//	                 12       bytes
//
// # Crash consistency
//
// A group is written after the one before it is synced; the header of a segment
// is written in one call with its first group, but at the start of a run alone
// and synced. So whatever is valid proves that what came before it was durable.
// Replay follows the chain (segment, incarnation, sequence, checksum of the
// group before) to its first break. A later group, a later segment header or
// Options.DurableLSN that proves durability beyond the break makes it
// corruption: Open fails. Otherwise the tail is cut: what was accepted is
// synced, and a new segment continues the chain under the next incarnation. The
// cut is final, because the header of that segment says where the chain before
// it ends.
//
// A segment is recycled, by a rename to a future number, only when all its
// commits are released and the header of a later segment is durable. Its stale
// groups have lower sequences and are never taken for anything.
package wal
