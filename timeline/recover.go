package timeline

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
	"stemma/wal/storefs"
)

// names of what a data directory holds.
const (
	lockFile   = "LOCK"
	catalogDir = "catalog"
	walDir     = "wal"
	layersDir  = "layers"
	valuesDir  = "values"
)

// Open opens the store in a directory, a new one if it is empty, and brings it
// to where its last acknowledged commit left it.
//
// Errors: the directory is in use; wal.CorruptionError, layers.ErrCorrupt and
// ErrCorrupt, which say where; I/O errors. A failed Open leaves the data as it
// was but for a repeated or finished recovery.
func Open(o Options) (_ *Store, err error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Store{opts: o, tree: newTree(), flushC: make(chan struct{}, 1), compactC: make(chan struct{}, 1), admitFS: userAdmission(o.FS), ballast: ballastBytes(o.FS)}
	s.tree.marks = o.MarkAttributes
	if err := s.SetBackgroundShare(o.BackgroundShare); err != nil {
		return nil, err
	}
	s.closing, s.cancel = context.WithCancel(context.Background())
	s.leases.until, s.leases.ways = make(map[lease]wal.LSN), make(map[way]wal.LSN)
	s.mu.changed = make(chan struct{})
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	if s.lock, err = o.FS.Lock(s.path(lockFile)); err != nil {
		return nil, fmt.Errorf("lock %s (is another process using it?): %w", o.Dir, err)
	}
	if s.catalog, err = openCatalog(o.FS, s.path(catalogDir), o.Logger); err != nil {
		return nil, err
	}
	r := recovery{s: s}
	if err := r.run(); err != nil {
		return nil, err
	}
	s.opened = s.log.Visible()
	s.applyMu.Lock()
	s.rotateIfFull() // the log may be over its limits, and no commit be let in
	s.rotateBehindAdopted()
	s.applyMu.Unlock()
	s.workers.Add(5)
	go s.expireDue()
	go s.flushFrozen()
	go s.compactLayers()
	go s.collectGarbage()
	go s.advanceHorizons()
	return s, nil
}

func (s *Store) path(name string) string { return s.opts.FS.PathJoin(s.opts.Dir, name) }

func (s *Store) makeDirs() error {
	for _, d := range []string{catalogDir, walDir, layersDir, valuesDir} {
		if err := s.opts.FS.MkdirAll(s.path(d), 0o700); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
	}
	if err := storefs.SyncDir(s.opts.FS, s.opts.Dir); err != nil {
		return err
	}
	// The data directory may be new as well.
	return storefs.SyncDir(s.opts.FS, s.opts.FS.PathDir(s.opts.Dir))
}

// abandon closes what a failed Open had opened.
func (s *Store) abandon() {
	s.cancel()
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	for _, l := range s.adopted {
		errs = append(errs, l.Close())
	}
	if v := s.version.Swap(nil); v != nil {
		v.Release()
	}
	if s.values != nil {
		errs = append(errs, s.values.Close())
	}
	if s.catalog != nil {
		errs = append(errs, s.catalog.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	if err := firstError(errs...); err != nil {
		s.opts.Logger.Error("close after a failed start", "err", err)
	}
}

// recovery is the state of one Open.
type recovery struct {
	s        *Store
	applied  appliedMark
	flushed  flushedMark
	segments map[layers.FileNum]bool // that rows or replayed records refer to
	rows     rowBatch
	rowOps   int
}

func (r *recovery) run() (err error) {
	s := r.s
	var h wal.LSN
	if r.applied, r.flushed, h, err = s.catalog.marks(); err != nil {
		return err
	}
	// A flush vouches for the rows of every commit that it covers.
	r.applied.lsn = max(r.applied.lsn, r.flushed.lsn)
	s.horizon.durable.Store(uint64(h))
	if err := s.catalog.loadTree(s.tree); err != nil {
		return err
	}
	s.tree.lastTimeline, s.tree.lastBucket, s.tree.lastSnapshot = r.applied.timeline, r.applied.bucket, r.applied.snapshot
	if err := r.openFiles(); err != nil {
		return err
	}
	s.mu.active = layers.NewMemlayer()
	s.limitMemValues()
	if err := r.replay(); err != nil {
		return err
	}
	return r.sweep()
}

// openFiles opens the value segments and layers, and makes the first Version.
func (r *recovery) openFiles() (err error) {
	s := r.s
	generations, err := s.catalog.segments()
	if err != nil {
		return err
	}
	r.segments, s.segmentRows.known = make(map[layers.FileNum]bool), make(map[layers.FileNum]bool)
	for num := range generations {
		r.segments[num], s.segmentRows.known[num] = true, true
	}
	s.opts.Values.Generations = generations
	s.opts.Values.NextFileNum = s.nextFileNum
	if s.opts.Values.Logger == nil {
		s.opts.Values.Logger = s.opts.Logger
	}
	if s.values, err = layers.OpenValues(s.opts.FS, s.path(valuesDir), s.opts.Values); err != nil {
		return err
	}
	top := max(r.flushed.fileNum, s.values.LastNum())
	names, err := s.opts.FS.List(s.path(layersDir))
	if err != nil {
		return fmt.Errorf("list layers: %w", err)
	}
	for _, name := range names {
		if num, ok := layers.ParseLayerName(name); ok {
			top = max(top, num)
		}
	}
	s.fileNum.Store(uint64(top))

	s.cache = layers.NewBlockCache(s.opts.CacheBytes)
	descs, err := s.catalog.layers()
	if err != nil {
		return err
	}
	var open []*layers.Layer
	for _, d := range descs {
		l, err := layers.OpenLayer(s.opts.FS, s.path(layersDir), d, s.cache)
		if err != nil {
			for _, l := range open {
				err = firstError(err, l.Close())
			}
			return err
		}
		open = append(open, l)
	}
	s.version.Store(s.newVersion(nil, open, 0))
	return nil
}

// replay applies the log above both marks and leaves it open for new commits.
func (r *recovery) replay() error {
	s := r.s
	r.rows = s.catalog.newBatch()
	last := r.applied.lsn
	s.clock = newStoreClock(s.opts.Now, s.opts.Uptime, last)
	log, rec, err := wal.Open(wal.Options{
		FS: s.opts.FS, Dir: s.path(walDir), Logger: s.opts.Logger,
		SegmentBytes: s.opts.WALSegmentBytes, MaxCommitBytes: s.opts.maxMergeBytes(),
		NextLSN: func(last wal.LSN) wal.LSN { return s.clock.next(last) },
		Apply:   s.apply, ReplayFrom: r.flushed.lsn, DurableLSN: last,
	}, r.commit)
	if err != nil {
		return firstError(fmt.Errorf("open log: %w", err), r.rows.b.Close())
	}
	s.log = log
	s.tree.index()
	if last = max(last, rec.LastLSN); last > s.clock.Now() {
		s.clock = newStoreClock(s.opts.Now, s.opts.Uptime, last)
	}
	s.horizon.hold = gc.HoldAfterStart(s.clock.Now(), last, s.Horizon(), s.opts.Uptime())
	s.commitRows(r.rows, last)
	s.applied = last
	for _, l := range s.adopted {
		for _, ref := range l.Desc().Segments {
			r.segments[ref.Segment] = true
		}
	}
	s.publish(func(e *edit) {
		e.horizon = s.Horizon() // what the layers were collected by is at or below it
		e.layers = append(e.layers, s.adopted...)
	})
	s.adopted = nil
	s.opts.Logger.Info("store open", "lsn", uint64(last), "replayed_commits", rec.Commits,
		"replayed_bytes", rec.Bytes, "clean", rec.Clean, "torn_at", rec.TornAt)
	return s.Err()
}

// replayRowOps bounds the tree operations in one catalog batch of a replay.
const replayRowOps = 10_000

// commit replays one commit of the log. Each kind of row is guarded by its own
// mark. The payload is copied: the memlayer keeps it.
func (r *recovery) commit(lsn wal.LSN, payload []byte) error {
	s := r.s
	tree, records := lsn > r.applied.lsn, lsn > r.flushed.lsn
	if tree {
		err := decodePayload(payload, lsn, payloadVisitor{tree: func(o *treeOp) error {
			r.rowOps++
			return s.tree.change(o, lsn, lsn)
		}})
		if err != nil {
			return err
		}
	}
	if records {
		payload = bytes.Clone(payload)
	}
	adopted := len(s.adopted)
	if err := s.applyCommit(payload, lsn, r.rows, records, tree); err != nil {
		return err
	}
	r.rowOps += len(s.adopted) - adopted
	if r.rowOps >= replayRowOps {
		s.commitRows(r.rows, lsn)
		r.rows, r.rowOps = s.catalog.newBatch(), 0
	}
	if s.mu.active.Bytes() >= s.opts.MemlayerBytes || s.memValues >= s.memValuesMax.Load() {
		s.memValues = 0
		s.mu.frozen = append(s.mu.frozen, &frozenMemlayer{mem: s.mu.active, lastLSN: lsn})
		s.mu.active = layers.NewMemlayer()
	}
	return nil
}

// sweep removes the files that a crash left: those that neither a row nor a
// replayed record knows.
func (r *recovery) sweep() error {
	s := r.s
	for _, m := range append(s.frozenMemlayers(), s.mu.active) {
		if err := collectSegments(m, r.segments); err != nil {
			return err
		}
	}
	missing := maps.Clone(r.segments)
	for _, seg := range s.values.Segments() {
		delete(missing, seg.Num)
		if !r.segments[seg.Num] {
			s.opts.Logger.Info("remove value segment that nothing refers to", "segment", uint64(seg.Num), "bytes", seg.Bytes)
			if err := s.values.Remove(seg.Num); err != nil {
				return err
			}
		}
	}
	for num := range missing {
		return fmt.Errorf("value segment %s is gone, and layers or the log refer to it: %w", layers.ValueName(num), ErrCorrupt)
	}
	for _, name := range s.values.Orphans() {
		s.opts.Logger.Info("remove value file that the catalog does not know", "file", name)
		if err := s.values.RemoveOrphan(name); err != nil {
			return fmt.Errorf("remove orphan: %w", err)
		}
	}
	known := make(map[layers.FileNum]bool)
	v := s.version.Load()
	for l := range v.All() {
		known[l.Desc().Num] = true
	}
	names, err := s.opts.FS.List(s.path(layersDir))
	if err != nil {
		return fmt.Errorf("list layers: %w", err)
	}
	for _, name := range names {
		if num, ok := layers.ParseLayerName(name); !ok || known[num] {
			continue
		}
		s.opts.Logger.Info("remove layer file that the catalog does not know", "layer", name)
		if err := s.opts.FS.Remove(s.opts.FS.PathJoin(s.path(layersDir), name)); err != nil {
			return fmt.Errorf("remove orphan: %w", err)
		}
	}
	return nil
}

// collectSegments adds the value segments that the records of m refer to.
func collectSegments(m *layers.Memlayer, segs map[layers.FileNum]bool) error {
	it := m.NewIter()
	defer it.Close()
	var found []layers.FileNum
	for ok := it.First(); ok; ok = it.Next() {
		var err error
		if found, err = it.Record().Body.Segments(found[:0]); err != nil {
			return fmt.Errorf("record %s at %d: %w", it.Record().Key, it.Record().LSN, err)
		}
		for _, n := range found {
			segs[n] = true
		}
	}
	return it.Err()
}

// ballastBytes finds the size of the file system's reserve, through wrappers; one
// without a reserve refuses nothing either.
func ballastBytes(fs vfs.FS) int64 {
	for f := fs; f != nil; f = f.Unwrap() {
		if b, ok := f.(interface{ BallastBytes() int64 }); ok {
			return b.BallastBytes()
		}
	}
	return math.MaxInt64
}

// userAdmission finds the file system's own word on user writes, through wrappers.
func userAdmission(fs vfs.FS) func() error {
	for f := fs; f != nil; f = f.Unwrap() {
		if a, ok := f.(interface{ AdmitUserWrite() error }); ok {
			return a.AdmitUserWrite
		}
	}
	return func() error { return nil }
}
