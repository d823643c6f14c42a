package timeline

import (
	"sync/atomic"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// counters are what Metrics reads.
type counters struct {
	slowDowns      atomic.Int64
	flushes        atomic.Int64
	flushErrors    atomic.Int64
	compactions    atomic.Int64
	compactedBytes atomic.Int64
	compactErrors  atomic.Int64

	flushedBytes   atomic.Int64 // layers written by flushes
	packedBytes    atomic.Int64 // values written by flushes
	collections    atomic.Int64 // layers rewritten for their garbage
	collectedBytes atomic.Int64 // written by that
	collectErrors  atomic.Int64
	assessed       atomic.Int64 // layers read for their garbage
	probes         atomic.Int64 // reads in children that decided on a version
	rollups        atomic.Int64 // timelines
	rollupBytes    atomic.Int64
	adoptedBytes   atomic.Int64 // layers that commits adopted
	purged         atomic.Int64 // timelines
	expired        atomic.Int64 // buckets
	expiryErrors   atomic.Int64
	rewrittenBytes atomic.Int64 // of value segments
	reclaimedBytes atomic.Int64 // given back to the disk from value segments
	replacedBytes  atomic.Int64 // of layers that were inputs of compactions and collections

	// kept is what the layers hold that were assessed, by why, in bytes.
	kept [gc.NumReasons]atomic.Int64
}

// LevelMetrics sums the layers of one level.
type LevelMetrics struct {
	Layers int
	Bytes  int64
}

// Metrics is a snapshot of a store's numbers. Counters count since Open. Write
// amplification is the sum of all bytes written over those that came in: the
// log's payload and the values streamed.
type Metrics struct {
	VisibleLSN, Horizon wal.LSN

	Buckets, Timelines int
	MemlayerBytes      int64 // active and frozen
	FrozenMemlayers    int
	Levels             [layers.NumLevels]LevelMetrics // of the main family
	History            [layers.NumLevels]LevelMetrics
	LogBytes           int64 // not released yet
	Log                wal.Metrics
	SlowDowns          int64 // commits refused with ErrSlowDown

	Flushes, FlushErrors          int64
	FlushedBytes                  int64 // layers written by flushes
	PackedBytes                   int64 // values written by flushes
	Compactions, CompactionErrors int64
	CompactedBytes                int64 // layers written by compactions
	Collections, CollectionErrors int64 // layers rewritten for their garbage
	CollectedBytes                int64 // layers written by that
	ReplacedBytes                 int64 // layers that compactions and collections read and removed
	Assessed                      int64 // layers read to find garbage
	Rollups, RollupBytes          int64 // timelines rolled up, layers written by that
	AdoptedBytes                  int64 // layers written by merges that were too large for the log
	RewrittenBytes                int64 // value segments written anew without their garbage
	ReclaimedBytes                int64 // value segments given back to the disk
	Purged                        int64 // timelines of which nothing is left
	Expired, ExpiryErrors         int64 // buckets deleted because their time had come

	// Kept is what assessed layers hold, by why, in bytes; of gc.None: garbage
	// that is not worth a rewrite yet.
	Kept [gc.NumReasons]int64

	ValueSegments       int
	ValueSegmentBytes   int64 // size of the files
	ValueAllocatedBytes int64 // of them, what takes space on the disk
}

// Metrics returns a snapshot; the zero Metrics after Close.
func (s *Store) Metrics() Metrics {
	v, visible, err := s.acquire()
	if err != nil {
		return Metrics{}
	}
	defer v.Release()
	c := &s.metrics
	m := Metrics{
		VisibleLSN: visible, Horizon: s.Horizon(), LogBytes: s.log.Size(), Log: s.log.Metrics(),
		SlowDowns: c.slowDowns.Load(), FrozenMemlayers: len(v.Mem) - 1,
		Flushes: c.flushes.Load(), FlushErrors: c.flushErrors.Load(),
		FlushedBytes: c.flushedBytes.Load(), PackedBytes: c.packedBytes.Load(),
		Compactions: c.compactions.Load(), CompactionErrors: c.compactErrors.Load(), CompactedBytes: c.compactedBytes.Load(),
		Collections: c.collections.Load(), CollectionErrors: c.collectErrors.Load(), CollectedBytes: c.collectedBytes.Load(),
		ReplacedBytes: c.replacedBytes.Load(),
		Assessed:      s.metrics.assessed.Load(), Rollups: c.rollups.Load(), RollupBytes: c.rollupBytes.Load(),
		AdoptedBytes:   c.adoptedBytes.Load(),
		RewrittenBytes: c.rewrittenBytes.Load(), ReclaimedBytes: c.reclaimedBytes.Load(), Purged: c.purged.Load(),
		Expired: c.expired.Load(), ExpiryErrors: c.expiryErrors.Load(),
	}
	for reason := range c.kept {
		m.Kept[reason] = c.kept[reason].Load()
	}
	for _, mem := range v.Mem {
		m.MemlayerBytes += mem.Bytes()
	}
	for l := range v.All() {
		d := l.Desc()
		level := &m.Levels[d.Level]
		if d.Kind == layers.HistoryLayer {
			level = &m.History[d.Level]
		}
		level.Layers++
		level.Bytes += d.Bytes
	}
	for _, seg := range s.values.Segments() {
		m.ValueSegments++
		m.ValueSegmentBytes += seg.Bytes
		m.ValueAllocatedBytes += seg.Allocated
	}
	s.tree.mu.RLock()
	m.Buckets, m.Timelines = s.tree.mu.buckets.len(), s.tree.mu.nodes.len()
	s.tree.mu.RUnlock()
	return m
}
