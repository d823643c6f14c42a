package object

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// awaitCount has a timeline counted, if it is not, and waits for the end of it. The caller looks
// whether there is a meter then. Errors: timeline.ErrSlowDown after countWait, those of
// ctx and of the count.
func (s *Service) awaitCount(ctx context.Context, bucket string, id layers.TimelineID, epoch int64) error {
	c := s.beginCount(bucket, id, epoch)
	if c == nil {
		return nil
	}
	timeout := time.NewTimer(countWait)
	defer timeout.Stop()
	select {
	case <-c.done:
		if c.bucket != bucket && errors.Is(c.err, timeline.ErrNoSuchBucket) {
			return nil // it was renamed since the count began: the caller looks again
		}
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return fmt.Errorf("count what bucket %q uses: %w", bucket, timeline.ErrSlowDown)
	}
}

// beginCount returns the count of a timeline that is under way, or begins one; nil: it has been counted
// meanwhile.
func (s *Service) beginCount(bucket string, id layers.TimelineID, epoch int64) *quotaCount {
	ms := &s.meters
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if c := ms.counts[id]; c != nil {
		return c
	}
	if m := ms.m[id]; m != nil && m.epoch == epoch {
		if _, counted := m.now(); counted {
			return nil
		}
	}
	c := &quotaCount{bucket: bucket, done: make(chan struct{})}
	if ms.closed {
		c.err = timeline.ErrClosed
		close(c.done)
		return c
	}
	ms.counts[id] = c
	ms.wg.Add(1)
	go func() {
		defer ms.wg.Done()
		c.err = s.runCount(ms.ctx, bucket, id)
		ms.mu.Lock()
		delete(ms.counts, id)
		ms.mu.Unlock()
		close(c.done)
	}()
	return c
}

// runCount makes the meter of a timeline, if the bucket still leads to it and has a quota, and counts.
func (s *Service) runCount(ctx context.Context, bucket string, id layers.TimelineID) (err error) {
	select {
	case s.meters.slots <- struct{}{}:
		defer func() { <-s.meters.slots }()
	case <-ctx.Done():
		return timeline.ErrClosed
	}
	var v *timeline.View
	var m *meter
	_, err = s.store.Exclusive(ctx, bucket, func(tx *timeline.Tx) error {
		known, err := s.known(tx)
		if err != nil || known.quota == nil || tx.Info().Timeline != id {
			return err
		}
		// With the gate held no commit is under way: the view has all that there was, and the
		// meter will be told of all that comes.
		if v, err = s.store.View(ctx, bucket, 0); err != nil {
			return err
		}
		if at, _ := v.Configured(); at != id { // the bucket was renamed just now, and another has its name
			v.Close()
			v = nil
			return nil
		}
		m = &meter{epoch: known.quota.Epoch}
		s.meters.put(id, m)
		return nil
	})
	if v == nil {
		return countError(bucket, err)
	}
	defer v.Close()
	var used Usage
	if err == nil {
		used, err = countUsage(ctx, v, v.Info().BranchLSN)
	}
	if err != nil {
		s.meters.drop(id, m)
		return countError(bucket, err)
	}
	m.complete(used)
	return nil
}

func countError(bucket string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("count what bucket %q uses: %w", bucket, err)
}

// countUsage adds up what a view has that is younger than base.
func countUsage(ctx context.Context, v *timeline.View, base wal.LSN) (sum Usage, err error) {
	for _, ns := range []layers.Namespace{layers.NamespaceObjects, layers.NamespaceVersions} {
		u, err := countNamespace(ctx, v, ns, base)
		if err != nil {
			return sum, err
		}
		sum.add(u)
	}
	return sum, nil
}

func countNamespace(ctx context.Context, v *timeline.View, ns layers.Namespace, base wal.LSN) (sum Usage, err error) {
	var it interface {
		keyWalk
		Close() error
	}
	if base == 0 {
		it = v.Scan(ns, nil, nil)
	} else { // what is not above it is inherited
		it = v.Changes(ns, nil, nil, base)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok, n := it.SeekGE(nil), 1; ok; ok, n = it.Next(), n+1 {
		if n%1024 == 0 && ctx.Err() != nil {
			return sum, ctx.Err()
		}
		rec := it.Record()
		if rec.Kind != layers.KindValue {
			continue
		}
		u, err := usageOf(ns, rec.Key.User(), rec.Meta, rec.LSN, base)
		if err != nil {
			return sum, err
		}
		sum.add(u)
	}
	return sum, it.Err()
}
