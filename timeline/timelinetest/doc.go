// Package timelinetest checks a timeline.Store against a model: random
// operations over many timelines on one side, on the other an Oracle that is
// only a map[key][]version per timeline and a tree of names.
//
// # Modes
//
// Model runs one operation at a time. Everything that it chooses comes from one
// seed, and so do the clocks of the store: the operations, their LSNs and the
// moments of its checks repeat exactly. What a crash leaves of unsynced blocks,
// and when the threads of the store and of Pebble come to run, does not.
//
// Swarm runs many writers and readers at once and writes down what each of
// them saw; the commits are then put into LSN order and replayed on the
// Oracle, which must explain every acknowledgement and every read.
//
// # Crashes and faults
//
// A Disk is a storefs.MemFS that takes a crash clone at a chosen file system
// call, fails a chosen call, or lies. An operation that was under way at a
// crash or a failure is indeterminate: the LSN that the store comes back with
// says whether it took place, and the Oracle follows. Every acknowledged
// commit must be there, whole.
package timelinetest
