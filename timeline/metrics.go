package timeline

import (
	"sync/atomic"

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
}

// LevelMetrics sums the layers of one level.
type LevelMetrics struct {
	Layers int
	Bytes  int64
}

// Metrics is a snapshot of a store's numbers. Counters count since Open.
type Metrics struct {
	VisibleLSN, Horizon wal.LSN

	Buckets, Timelines int
	MemlayerBytes      int64 // active and frozen
	FrozenMemlayers    int
	Levels             [layers.NumLevels]LevelMetrics
	LogBytes           int64 // not released yet

	Flushes, FlushErrors          int64
	Compactions, CompactionErrors int64
	CompactedBytes                int64 // written by compaction
	SlowDowns                     int64 // commits refused with ErrSlowDown
	Log                           wal.Metrics
	ValueSegments                 int
	ValueSegmentBytes             int64
}

// Metrics returns a snapshot; the zero Metrics after Close.
func (s *Store) Metrics() Metrics {
	v, visible, err := s.acquire()
	if err != nil {
		return Metrics{}
	}
	defer v.Release()
	m := Metrics{
		VisibleLSN: visible, Horizon: s.Horizon(), LogBytes: s.log.Size(), Log: s.log.Metrics(),
		Flushes: s.metrics.flushes.Load(), FlushErrors: s.metrics.flushErrors.Load(),
		Compactions: s.metrics.compactions.Load(), CompactionErrors: s.metrics.compactErrors.Load(),
		CompactedBytes: s.metrics.compactedBytes.Load(), SlowDowns: s.metrics.slowDowns.Load(),
		FrozenMemlayers: len(v.Mem) - 1,
	}
	for _, mem := range v.Mem {
		m.MemlayerBytes += mem.Bytes()
	}
	for l := range v.All() {
		d := l.Desc()
		m.Levels[d.Level].Layers++
		m.Levels[d.Level].Bytes += d.Bytes
	}
	for _, seg := range s.values.Segments() {
		m.ValueSegments++
		m.ValueSegmentBytes += seg.Bytes
	}
	s.tree.mu.RLock()
	m.Buckets, m.Timelines = len(s.tree.mu.buckets), len(s.tree.mu.nodes)
	s.tree.mu.RUnlock()
	return m
}
