package timeline

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// treeSnapshot is the tree as one collection sees it, with the newest timeline that
// it knows: what came later is none of its business.
type treeSnapshot struct {
	*gc.Tree
	newest layers.TimelineID
	// last is the newest commit that had its place in the order: of records above
	// it the tree knows nothing. A bucket may have been undeleted.
	last wal.LSN
}

// dead reports whether nobody reads a timeline at all.
func (s *treeSnapshot) dead(id layers.TimelineID) bool { return id <= s.newest && s.Dead(id) }

// treeSnapshots keeps the newest snapshot, none while the store rests. An old one is as
// safe as a new one, it only keeps more.
type treeSnapshots struct {
	mu   sync.Mutex
	last *treeSnapshot
	at   time.Duration // uptime when it was taken
	cost time.Duration // that taking it took
}

// treeSnapshotLasts is how long a snapshot serves for compactions; more for a tree so
// large that taking it costs more than a twentieth of that.
const treeSnapshotLasts = time.Second

// recentTreeSnapshot returns a snapshot that is not much older than now.
func (s *Store) recentTreeSnapshot() (*treeSnapshot, error) {
	if last := s.anyTreeSnapshot(); last != nil && s.treeSnapshotAge() < max(treeSnapshotLasts, restFactor*s.treeSnapshotCost()) {
		return last, nil
	}
	return s.takeTreeSnapshot(s.closing)
}

// treeSnapshotAge returns the age of the newest snapshot; a long time without one.
func (s *Store) treeSnapshotAge() time.Duration {
	s.treeSnapshots.mu.Lock()
	defer s.treeSnapshots.mu.Unlock()
	if s.treeSnapshots.last == nil {
		return math.MaxInt64
	}
	return s.opts.Uptime() - s.treeSnapshots.at
}

// treeSnapshotCost returns how long the newest snapshot took.
func (s *Store) treeSnapshotCost() time.Duration {
	s.treeSnapshots.mu.Lock()
	defer s.treeSnapshots.mu.Unlock()
	return s.treeSnapshots.cost
}

// anyTreeSnapshot returns the newest snapshot without waiting for anything, nil when
// there is none.
func (s *Store) anyTreeSnapshot() *treeSnapshot {
	s.treeSnapshots.mu.Lock()
	defer s.treeSnapshots.mu.Unlock()
	return s.treeSnapshots.last
}

// manyTimelines is how many make it worth while to give memory back at rest.
const manyTimelines = 100_000

// dropTreeSnapshot lets go of the newest snapshot: one of a million timelines is a fifth
// of what they take in memory, and a store at rest needs none. Nor does it need what
// taking it, or reading the catalog, has left to the garbage collector of Go, which
// would come by after minutes only.
func (s *Store) dropTreeSnapshot() {
	s.treeSnapshots.mu.Lock()
	s.treeSnapshots.last = nil
	s.treeSnapshots.mu.Unlock()
	if s.tree.len() >= manyTimelines {
		debug.FreeOSMemory()
	}
}

// takeTreeSnapshot returns what is read now. All that it shows as gone is gone for
// good when it returns: deletions are durable. What is granted later lies at or
// above the cutoffs of its horizon, where it keeps everything.
func (s *Store) takeTreeSnapshot(ctx context.Context) (*treeSnapshot, error) {
	return s.takeTreeSnapshotAt(ctx, wal.MaxLSN)
}

// takeTreeSnapshotAt is takeTreeSnapshot by a horizon of at most most.
func (s *Store) takeTreeSnapshotAt(ctx context.Context, most wal.LSN) (*treeSnapshot, error) {
	began := s.opts.Uptime()
	s.treeMu.Lock()
	h := min(s.Horizon(), most)
	pins := s.pinnedLSNs()
	s.tree.mu.RLock()
	lines := make([]gc.Line, 0, s.tree.mu.nodes.len())
	for n := range s.tree.mu.nodes.all() {
		lines = append(lines, n.line(h, pins[n.id]))
	}
	s.tree.mu.RUnlock()
	newest, last := s.tree.lastTimeline, s.log.LastReserved()
	s.treeMu.Unlock()
	if err := s.log.Settle(ctx, last); err != nil {
		return nil, fmt.Errorf("wait for %d to become durable: %w", last, err)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	snap := &treeSnapshot{gc.NewTree(lines, h), newest, last}
	s.treeSnapshots.mu.Lock()
	defer s.treeSnapshots.mu.Unlock()
	s.treeSnapshots.last, s.treeSnapshots.at, s.treeSnapshots.cost = snap, s.opts.Uptime(), s.opts.Uptime()-began
	return snap, nil
}

// pinnedLSNs gathers pins and leases. Leases are granted under the lock that is
// held here, against a horizon that is at or above that of the caller from now on.
func (s *Store) pinnedLSNs() map[layers.TimelineID][]wal.LSN {
	pins := make(map[layers.TimelineID][]wal.LSN)
	s.tree.mu.RLock()
	for p := range s.tree.mu.pinned {
		pins[p.timeline] = append(pins[p.timeline], p.lsn)
	}
	s.tree.mu.RUnlock()
	now := s.clock.Now()
	s.leases.mu.Lock()
	for l, until := range s.leases.until {
		if until >= now {
			pins[l.timeline] = append(pins[l.timeline], l.lsn)
		}
	}
	s.leases.mu.Unlock()
	return pins
}

func (n *node) line(h wal.LSN, pins []wal.LSN) gc.Line {
	l := gc.Line{
		ID: n.id, Birth: n.birth, Ancestor: n.ancestorID, BranchLSN: n.branchLSN,
		Readable: n.readable(wal.MaxLSN), Written: n.written.Load(), Pins: pins,
	}
	if l.Readable {
		l.Cutoff = n.cutoff(h)
	}
	if n.left() {
		l.Moved = n.bucket.last().id
	}
	if p := n.next(math.MaxUint64); p.node != nil {
		l.ReadAncestor, l.ReadLSN = p.node.id, p.lsn
	}
	return l
}
