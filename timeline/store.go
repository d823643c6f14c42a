package timeline

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"stemma/layers"
	"stemma/wal"
)

// Store is one data directory: one log, one LSN sequence, one catalog. All
// methods are safe for concurrent use.
type Store struct {
	opts    Options
	admitFS func() error // the file system's word on user writes
	ballast int64        // the reserve for what must go on when the disk is full
	clock   *storeClock
	lock    io.Closer
	log     *wal.Log
	catalog *catalog
	values  *layers.Values
	cache   *layers.BlockCache
	tree    *tree
	stripes stripes
	fileNum atomic.Uint64 // last file number given out
	opened  wal.LSN       // the newest commit that Open found

	admission atomic.Pointer[Admission]

	// version is immutable; it is swapped while holding mu.
	version atomic.Pointer[layers.Version]

	// level0 is the number of level-0 layers in the current Version.
	level0 atomic.Int32

	// treeMu orders what changes the tree: create, fork, delete, rename, pin.
	treeMu sync.Mutex

	// applyMu is held by whoever writes the active memlayer: the log's applier,
	// and a rotation.
	applyMu sync.Mutex
	// applied is the last commit that went to the memlayer and the catalog;
	// under applyMu.
	applied wal.LSN
	// rotated is what applied was at the last rotation; under applyMu.
	rotated wal.LSN
	// memValues adds up the values in segments that records of the active
	// memlayer refer to; under applyMu.
	memValues int64
	// memValuesMax is where that freezes the memlayer: what its records replace
	// can only be given back once they are in layers.
	memValuesMax atomic.Int64

	// compactMu is held by the one compaction, rollup or rewrite that runs.
	compactMu sync.Mutex
	// collectMu is held by the one collection that runs, around compactMu.
	collectMu sync.Mutex
	collector collector

	expiring expiring

	// dropMu is held while a Version is published that lacks records which the one
	// before has; around mu.
	dropMu sync.Mutex

	// staged are the layers that a commit which is on its way will adopt.
	staged stagedLayers
	// adopted are those that were adopted and are not in a Version yet; under applyMu.
	adopted []*layers.Layer

	treeSnapshots treeSnapshots
	reclaim       reclaimer
	segmentRows   segmentRows
	throttle      throttle
	strained      strained

	// mu is never held across file I/O.
	mu struct {
		sync.Mutex
		active  *layers.Memlayer
		frozen  []*frozenMemlayer // oldest first
		changed chan struct{}     // closed and replaced when frozen or the layers change
		// retired are Versions that were swapped out and may still have readers.
		retired []*layers.Version
		failed  error // the first failure that ended writing
	}

	leases  leases
	horizon horizon
	metrics counters

	flushC   chan struct{} // a memlayer was frozen
	compactC chan struct{} // layers changed
	closing  context.Context
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	closed   atomic.Bool
}

// frozenMemlayer is a memlayer that waits for its flush.
type frozenMemlayer struct {
	mem *layers.Memlayer
	// lastLSN is the last commit that was applied before the freeze.
	lastLSN wal.LSN
}

// Values returns the store's value segments.
func (s *Store) Values() *layers.Values { return s.values }

// Visible returns the LSN of the newest visible commit.
func (s *Store) Visible() wal.LSN { return s.log.Visible() }

// Now returns the store clock.
func (s *Store) Now() wal.LSN { return s.clock.Now() }

// Err returns why the store is read-only, or nil.
func (s *Store) Err() error {
	if err := s.log.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.failed
}

// fail makes the store read-only for good.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.mu.failed == nil
	if first {
		s.mu.failed = err
	}
	s.mu.Unlock()
	if first {
		s.opts.Logger.Error("store is read-only", "err", err)
	}
}

// notifyLocked wakes everybody who waits for frozen memlayers or layers to change.
func (s *Store) notifyLocked() {
	close(s.mu.changed)
	s.mu.changed = make(chan struct{})
}

// acquire returns the current Version, counted, and the visible LSN that it
// can serve: what became visible after the Version was swapped out would be
// missing from it, hence the second look. Errors: ErrClosed.
func (s *Store) acquire() (*layers.Version, wal.LSN, error) {
	return s.acquireBy((*layers.Version).Acquire, (*layers.Version).Release)
}

// acquireLayers is acquire for background work that reads no values.
func (s *Store) acquireLayers() (*layers.Version, wal.LSN, error) {
	return s.acquireBy((*layers.Version).AcquireLayers, (*layers.Version).ReleaseLayers)
}

func (s *Store) acquireBy(acquire func(*layers.Version) bool, release func(*layers.Version)) (*layers.Version, wal.LSN, error) {
	for {
		v := s.version.Load()
		if v == nil {
			return nil, 0, ErrClosed
		}
		if !acquire(v) {
			continue // swapped out and let go of since the load
		}
		lsn := s.log.Visible()
		if s.version.Load() == v {
			return v, lsn, nil
		}
		release(v)
	}
}

// nextFileNum gives out the next number for a layer or value segment.
func (s *Store) nextFileNum() layers.FileNum { return layers.FileNum(s.fileNum.Add(1)) }

// LSNAt returns the LSN to read at for the state at wall-clock time t.
// Errors: ErrFuture.
func (s *Store) LSNAt(t time.Time) (wal.LSN, error) {
	lsn := wal.LSNFromTime(t)
	if err := s.checkNotFuture(lsn); err != nil {
		return 0, err
	}
	return lsn, nil
}

func (s *Store) checkNotFuture(lsn wal.LSN) error {
	if limit := max(s.clock.Now(), wal.LSNFromTime(s.opts.Now()), s.log.Visible()); lsn > limit {
		return fmt.Errorf("LSN %d, the store is at %d: %w", lsn, limit, ErrFuture)
	}
	return nil
}

// Close flushes nothing: it ends the log cleanly, waits for the workers and
// closes every file. The next Open replays what was not flushed.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.cancel()
	s.workers.Wait()
	err := s.log.Close()
	if v := s.version.Swap(nil); v != nil {
		v.Release()
	}
	return firstError(err, s.values.Close(), s.catalog.close(), s.lock.Close())
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
