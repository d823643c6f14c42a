package timeline

import (
	"context"
	"time"

	"stemma/gc"
)

// UsageInPasses is Usage with n values in mind at a time.
func (s *Store) UsageInPasses(ctx context.Context, n int) (Usage, error) { return s.usage(ctx, nil, n) }

// CollectIfNews is one turn of the worker that collects.
func (s *Store) CollectIfNews(ctx context.Context) error { return s.collectOnce(ctx) }

// Reclaim flushes by the present tree and gives back values, and merges nothing.
func (s *Store) Reclaim(ctx context.Context) error {
	s.collectMu.Lock()
	defer s.collectMu.Unlock()
	if err := s.advanceHorizon(); err != nil {
		return err
	}
	if _, err := s.takeTreeSnapshot(ctx); err != nil {
		return err
	}
	return firstError(s.Flush(ctx), s.reclaimValues(ctx, gc.Full))
}

// SnapshotTook takes a snapshot, as a compaction does, and lets it have cost so much.
func (s *Store) SnapshotTook(ctx context.Context, cost time.Duration) error {
	_, err := s.takeTreeSnapshot(ctx)
	s.treeSnapshots.mu.Lock()
	defer s.treeSnapshots.mu.Unlock()
	s.treeSnapshots.cost = cost
	return err
}

// HasSnapshot reports whether the store holds a snapshot for the next who wants one.
func (s *Store) HasSnapshot() bool { return s.anyTreeSnapshot() != nil }

// SetFlushPatience sets how long a collection waits for a flush, until undone.
func SetFlushPatience(d time.Duration) (undo func()) {
	old := flushPatience
	flushPatience = d
	return func() { flushPatience = old }
}

// SpendLeafRecords takes n records from what an idle store may copy for leaves.
func (s *Store) SpendLeafRecords(n int64) {
	s.collectMu.Lock()
	defer s.collectMu.Unlock()
	s.collector.leafRecords += n
}
