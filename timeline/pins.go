package timeline

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// leases are pins in memory that end by themselves: what a paged listing needs
// between two pages.
type leases struct {
	mu    sync.Mutex
	until map[lease]wal.LSN // by the store clock
	// ways are what leads from buckets to leased LSNs from before their birth, until when.
	ways map[way]wal.LSN
}

type lease struct {
	timeline layers.TimelineID
	lsn      wal.LSN
}

// way is the lineage of a timeline as far as an ancestor.
type way struct{ from, to *node }

// maxLeases bounds the leases of a store; the one that ends first gives way.
const maxLeases = 1 << 16

// Lease keeps a bucket readable at an LSN for ttl from now on. It is lost in a
// restart. Errors: ErrNoSuchBucket, *BelowHorizonError.
func (s *Store) Lease(name string, at wal.LSN, ttl time.Duration) error {
	b, _, err := s.lookup(name)
	if err != nil {
		return fmt.Errorf("lease %q at %d: %w", name, at, err)
	}
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	from := b.at(at).node
	n, lsn := b.resolve(at) // under the lock: a purge may be about to end the way
	if n == nil {
		return fmt.Errorf("lease %q at %d: %w", name, at, ErrNoSuchBucket)
	}
	now := s.clock.Now()
	if err := s.leaseLocked(n, lsn, now, now+wal.LSN(ttl)); err != nil {
		return fmt.Errorf("lease %q: %w", name, err)
	}
	if from != n {
		s.leases.addWayLocked(way{from, n}, now, now+wal.LSN(ttl))
	}
	return nil
}

// leaseLocked leases an LSN of a timeline, if it can be read now. The caller holds
// leases.mu. Errors: *BelowHorizonError.
func (s *Store) leaseLocked(n *node, lsn, now, until wal.LSN) error {
	l := lease{n.id, lsn}
	if s.leases.until[l] < now && !s.hasPin(n, lsn) { // by the durable horizon: a collection may be at work by it
		if cutoff := n.cutoffAt(s.Horizon(), wal.MaxLSN); lsn < cutoff {
			return &BelowHorizonError{LSN: lsn, Cutoff: cutoff}
		}
	}
	s.leases.makeRoomLocked(now)
	s.leases.until[l] = max(s.leases.until[l], until)
	return nil
}

// addWayLocked notes a way to a lease; some other gives way when there are too many.
func (l *leases) addWayLocked(w way, now, until wal.LSN) {
	if len(l.ways) >= maxLeases {
		l.dropWaysLocked(now)
	}
	for other := range l.ways {
		if len(l.ways) < maxLeases {
			break
		}
		delete(l.ways, other)
	}
	l.ways[w] = max(l.ways[w], until)
}

// firstEnd returns when the first of the leases ends that last at now; zero when
// there are none.
func (l *leases) firstEnd(now wal.LSN) (first wal.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, until := range l.until {
		if until >= now && (first == 0 || until < first) {
			first = until
		}
	}
	return first
}

// dropWaysLocked forgets the ways to leases that have ended.
func (l *leases) dropWaysLocked(now wal.LSN) {
	maps.DeleteFunc(l.ways, func(_ way, until wal.LSN) bool { return until < now })
}

func (l *leases) makeRoomLocked(now wal.LSN) {
	if len(l.until) < maxLeases {
		return
	}
	first, ends := lease{}, wal.MaxLSN
	for k, until := range l.until {
		if until < now {
			delete(l.until, k)
		} else if until < ends {
			first, ends = k, until
		}
	}
	if len(l.until) >= maxLeases {
		delete(l.until, first)
	}
}

// pinned reports whether a pin or lease keeps timeline n readable at lsn.
func (s *Store) pinned(n *node, lsn wal.LSN) bool {
	s.leases.mu.Lock()
	until := s.leases.until[lease{n.id, lsn}]
	s.leases.mu.Unlock()
	return until >= s.clock.Now() || s.hasPin(n, lsn)
}

func (s *Store) hasPin(n *node, lsn wal.LSN) bool {
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	return s.tree.mu.pinned[lease{n.id, lsn}] > 0
}

// horizon is the store-wide LSN below which windows end.
type horizon struct {
	durable atomic.Uint64 // as last applied from the log

	mu   sync.Mutex // held by whoever advances it
	own  wal.LSN    // of the last horizon record; what is at it and below is no news
	hold gc.Hold
}

// Horizon returns the horizon as last made durable.
func (s *Store) Horizon() wal.LSN { return wal.LSN(s.horizon.durable.Load()) }

// advanceHorizons logs a horizon record every HorizonEvery while commits arrive.
func (s *Store) advanceHorizons() {
	defer s.workers.Done()
	tick := time.NewTicker(s.opts.HorizonEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.closing.Done():
			return
		case <-tick.C:
			if err := s.advanceHorizon(); err != nil && s.closing.Err() == nil {
				s.opts.Logger.Warn("horizon not advanced", "err", err)
			}
		}
	}
}

// advanceHorizon moves the horizon up to what is visible, unless nothing was
// committed since it last did.
func (s *Store) advanceHorizon() error {
	s.horizon.mu.Lock()
	defer s.horizon.mu.Unlock()
	h := s.log.Visible()
	if h <= s.horizon.own {
		return nil
	}
	h, ok := gc.NextHorizon(s.Horizon(), h, s.clock.Now(), s.horizon.hold, s.opts.Uptime())
	if !ok {
		return nil
	}
	op := treeOp{tag: opHorizon, lsn: h}
	c := wal.Commit{Payload: encodeTree([]treeOp{op})}
	lsn, err := s.logCommit(s.closing, &c)
	if err != nil {
		return fmt.Errorf("log horizon %d: %w", h, err)
	}
	s.horizon.own = lsn
	return nil
}
