// Package gc is pure arithmetic about what must be kept: from LSNs, pins,
// clocks and sizes to decisions. It does no I/O, starts nothing, and never
// imports timeline, which acts on what is decided here. docs/gc.md has the whole
// picture.
//
// # Who reads what
//
// A Tree is an immutable snapshot of all timelines. A timeline is read by itself
// at every LSN from its cutoff on, max(floor, horizon - window), while a bucket
// leads to it or it can be undeleted; and at its pins: snapshots and leases. It is
// never read by itself below its birth.
//
//	         cutoff           horizon
//	  pin       |                |
//	---|--------|================|======>  LSN
//
// A read child reads it at exactly one LSN, its read LSN, and for a key only when
// the child falls through: some LSN at which the child is read, by itself or by
// its own read children, lies below the oldest full value, tombstone or range
// tombstone of the key that the child has. A Prober tells that one LSN.
//
// # What is needed
//
// The version [birth, death) of a key is needed iff its timeline is read by
// itself at an LSN in that interval, or a read child that falls through reads it
// at one (Need). An interval that is too long only keeps more. Uploads have no
// history, pins or children: a version is needed iff the timeline is bound and
// the horizon has not reached the version's death.
//
// Left to the caller, who sees the records: a page delta ends nothing, so that what
// it applies to lives until the next full value or tombstone, as the delta itself
// does; and a timeline younger than the tree keeps everything (Unknown).
//
// A tombstone that is needed can still go at the bottom level when it hides
// nothing, and no difference between two points must show it
// (DifferenceMayShow). A range tombstone is needed iff its timeline is read at or
// above it (NeedFrom). A timeline that nobody reads at all loses everything
// (Dead).
//
// # When it pays
//
// Rewrite and RewriteSegment say whether a file has enough garbage, Recheck when
// to look again, RollupDepth how far a rollup reaches. NextHorizon says how the
// horizon advances.
package gc
