package object

import (
	"context"
	"errors"
	"sync"
	"time"

	"stemma/layers"
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
	bucket string        // whose name it was when the count began
	done   chan struct{} // closed at its end
	err    error         // before that
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
