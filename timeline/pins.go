package timeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// PinID names a pin for ever.
type PinID uint64

// Pin keeps one LSN of a bucket readable for as long as the pin exists. A
// snapshot is a pin with a name.
type Pin struct {
	ID       PinID
	Bucket   BucketID
	Timeline layers.TimelineID
	LSN      wal.LSN
	Created  wal.LSN
	Name     string
}

// newPin returns the pin that the operation makes in the commit at lsn.
func (o *treeOp) newPin(lsn wal.LSN) Pin {
	p := Pin{ID: o.pin, Bucket: o.bucket, Timeline: o.timeline, LSN: o.lsn, Created: lsn, Name: o.name}
	if p.LSN == 0 {
		p.LSN = lsn
	}
	return p
}

// Pin makes a durable pin of a bucket at an LSN; zero means the pin's own
// commit, which sees all that came before.
//
// Errors: ErrNoSuchBucket, ErrFuture, *BelowHorizonError, and those of Commit.
func (s *Store) Pin(ctx context.Context, name string, at wal.LSN, label string) (Pin, error) {
	if len(label) > maxNameBytes {
		return Pin{}, fmt.Errorf("pin name of %d bytes, at most %d: %w", len(label), maxNameBytes, ErrBadName)
	}
	if err := s.AdmitWrite(ctx); err != nil {
		return Pin{}, err
	}
	if at != 0 {
		if err := s.settle(ctx, at); err != nil {
			return Pin{}, fmt.Errorf("pin %q: %w", name, err)
		}
	}
	s.treeMu.Lock()
	op, err := s.planPinLocked(name, at, label)
	if err != nil {
		s.treeMu.Unlock()
		return Pin{}, fmt.Errorf("pin %q: %w", name, err)
	}
	lsn, err := s.changeTree(ctx, []treeOp{op})
	if err != nil {
		return Pin{}, fmt.Errorf("pin %q: %w", name, err)
	}
	return op.newPin(lsn), nil
}

func (s *Store) planPinLocked(name string, at wal.LSN, label string) (treeOp, error) {
	b := s.tree.sequencedName(name)
	if b == nil {
		return treeOp{}, ErrNoSuchBucket
	}
	n, lsn := b.sequenced(), wal.LSN(0)
	if at != 0 {
		if n, lsn = b.at(at).node.resolve(at); n == nil {
			return treeOp{}, fmt.Errorf("it was created at %d, after %d: %w", b.created, at, ErrNoSuchBucket)
		}
		if err := s.checkReadable(s.Horizon(), wal.MaxLSN, n, lsn); err != nil {
			return treeOp{}, err
		}
	}
	return treeOp{tag: opPin, pin: s.tree.lastPin + 1, bucket: b.id, timeline: n.id, lsn: lsn, name: label}, nil
}

// Unpin removes a pin. Errors: ErrNoSuchPin, and those of Commit.
func (s *Store) Unpin(ctx context.Context, id PinID) error {
	if err := s.admit(ctx, nil); err != nil {
		return err
	}
	s.treeMu.Lock()
	s.tree.mu.RLock()
	p := s.tree.mu.pins[id]
	s.tree.mu.RUnlock()
	if p == nil {
		s.treeMu.Unlock()
		return fmt.Errorf("unpin %d: %w", id, ErrNoSuchPin)
	}
	if _, err := s.changeTree(ctx, []treeOp{{tag: opUnpin, pin: id}}); err != nil {
		return fmt.Errorf("unpin %d: %w", id, err)
	}
	return nil
}

// Pins returns the visible pins of a bucket, oldest first.
func (s *Store) Pins(b BucketID) []Pin {
	visible := s.log.Visible()
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	var pins []Pin
	for _, p := range s.tree.mu.pins {
		if p.Bucket == b && p.Created <= visible {
			pins = append(pins, *p)
		}
	}
	slices.SortFunc(pins, func(a, b Pin) int { return int(a.ID) - int(b.ID) })
	return pins
}

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
	n, lsn := from.resolve(at) // under the lock: a purge may be about to end the way
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
	for _, p := range s.tree.mu.pins {
		if p.Timeline == n.id && p.LSN == lsn {
			return true
		}
	}
	return false
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
