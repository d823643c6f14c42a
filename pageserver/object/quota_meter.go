package object

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// meter counts what a timeline whose bucket has a quota uses: from its cut on, by
// what commits tell it, and once that is counted with what there was at the cut.
// Safe for concurrent use.
type meter struct {
	epoch int64 // of the quota

	mu       sync.Mutex
	counted  bool
	used     Usage // visible; without what there was at the cut until that is counted
	reserved Usage // growth by commits under way
}

// errUncounted says that a meter cannot tell yet.
var errUncounted = errors.New("object: usage is not counted yet")

// admit reserves what a commit grows by. settle must follow unless there is an error. Errors:
// *QuotaError, errUncounted.
func (m *meter) admit(q *Quota, change Usage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if q.grows(change) {
		if !m.counted {
			return errUncounted
		}
		if refused := q.refuses(m.used, m.reserved, change); refused != nil {
			return refused
		}
	}
	m.reserved.add(change.grown())
	return nil
}

// settle ends what admit began: with a commit that is visible, or without one.
func (m *meter) settle(change Usage, committed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reserved.sub(change.grown())
	if committed {
		m.used.add(change)
	}
}

// complete adds what there was at the cut.
func (m *meter) complete(at Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used.add(at)
	m.counted = true
}

// now returns what is used, and whether that is all.
func (m *meter) now() (Usage, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used, m.counted
}

// Bounds of meters.
const (
	maxMeters = 1 << 14
	maxCounts = 2 // at once
	countWait = 10 * time.Second
)

// meters are those of a service, and the counts under way. A meter may be dropped at any time: the
// next one has its cut when all commits that knew this one have ended.
type meters struct {
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}
	wg     sync.WaitGroup

	mu     sync.RWMutex
	closed bool
	m      map[layers.TimelineID]*meter
	counts map[layers.TimelineID]*quotaCount
}

// quotaCount is a count under way.
type quotaCount struct {
	done chan struct{} // closed at its end
	err  error         // before that
}

func (c *meters) init() {
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.slots = make(chan struct{}, maxCounts)
	c.m, c.counts = make(map[layers.TimelineID]*meter), make(map[layers.TimelineID]*quotaCount)
}

// close ends the counts under way; there will be no others.
func (c *meters) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// get returns the meter of a timeline for a quota; nil: there is none.
func (c *meters) get(id layers.TimelineID, epoch int64) *meter {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if m := c.m[id]; m != nil && m.epoch == epoch {
		return m
	}
	return nil
}

// put makes m the meter of a timeline. When there are too many, any other gives way.
func (c *meters) put(id layers.TimelineID, m *meter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for other := range c.m {
		if len(c.m) < maxMeters {
			break
		}
		delete(c.m, other)
	}
	c.m[id] = m
}

// drop forgets a meter.
func (c *meters) drop(id layers.TimelineID, m *meter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m[id] == m {
		delete(c.m, id)
	}
}

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
	c := &quotaCount{done: make(chan struct{})}
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
