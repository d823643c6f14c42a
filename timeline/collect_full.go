package timeline

import (
	"context"
	"fmt"
	"time"

	"stemma/gc"
)

// CollectFull gives back everything that nobody can read, to the byte, and
// returns when that is done: flush, every level merged down, every layer with
// garbage rewritten, every value segment with dead bytes punched or rewritten.
// It costs the entries of the whole store, and the values of the segments that it
// rewrites. Commits made meanwhile are left for the next time.
//
// Errors: ctx's, ErrClosed, those of the disk.
func (s *Store) CollectFull(ctx context.Context) (CollectReport, error) {
	s.collectMu.Lock()
	defer s.collectMu.Unlock()
	if err := s.advanceHorizon(); err != nil {
		return CollectReport{}, err
	}
	if err := s.expire(ctx); err != nil {
		return CollectReport{}, err
	}
	dropped, err := s.droppedUsage(ctx) // before the flush, which leaves out what is dead
	if err != nil {
		return CollectReport{}, err
	}
	before := s.metrics.freed()
	if err := s.collectFull(ctx); err != nil {
		return CollectReport{}, err
	}
	report := s.metrics.freed().since(before)
	report.Timelines = dropped
	return report, nil
}

// collectFull is CollectFull behind its bookkeeping.
func (s *Store) collectFull(ctx context.Context) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	// What goes in one round can be what kept something else: a tombstone stays
	// while an ancestor has what it hides, and while a living timeline descends from
	// below it through one that is purged.
	// All rounds go by one horizon, so that they come to an end however much is
	// committed meanwhile.
	horizon := s.Horizon()
	overtaken := 0
	for again := true; again; {
		if err := s.rollUp(ctx, true); err != nil {
			return err
		}
		snap, err := s.takeTreeSnapshotAt(ctx, horizon) // with the read pairs of the rollups
		if err != nil {
			return err
		}
		s.collector.changed(snap, s.tree)
		if err := s.settleDown(ctx, snap, gc.Full); err != nil {
			return err
		}
		done, err := s.rewriteGarbage(ctx, snap, gc.Full)
		if err != nil {
			return err
		}
		if again = done.rewrote; done.overtaken && overtaken < maxOvertaken {
			overtaken++
			again = true
		}
		purged := s.metrics.purged.Load()
		if err := s.purge(ctx, snap); err != nil {
			return err
		}
		again = again || s.metrics.purged.Load() != purged
	}
	if err := s.waitForReaders(ctx); err != nil {
		return err
	}
	return s.reclaimValues(ctx, gc.Full)
}

// maxOvertaken bounds the rounds that a full collection goes on for because
// compactions replaced layers before it came to them: under load some always do.
const maxOvertaken = 16

// readersGone is how long CollectFull waits for readers of older Versions.
const readersGone = time.Minute

// waitForReaders waits until nobody reads a Version older than the current one.
func (s *Store) waitForReaders(ctx context.Context) error {
	v := s.version.Load()
	if v == nil {
		return ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, readersGone)
	defer cancel()
	for s.readersBefore(v.Seq) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for readers of what is to go: %w", ctx.Err())
		case <-s.closing.Done():
			return ErrClosed
		}
	}
	return nil
}
