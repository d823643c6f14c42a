package wal

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
	"stemma/wal/storefs"
)

// Open recovers the log in o.Dir: it passes every accepted commit above
// o.ReplayFrom in order to replay, cuts or refuses the tail, syncs what it
// accepted, and opens a new segment under the next incarnation, which makes the
// cut final. The payload is valid during the call only. A log that does not
// exist is made. Close must be called on the log that Open returns.
//
// Errors: *CorruptionError; what replay returns; of the file system. An Open
// that failed has lost nothing, and may be tried again.
func Open(o Options, replay func(lsn LSN, payload []byte) error) (*Log, Recovery, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, Recovery{}, err
	}
	if err := makeDir(o.FS, o.Dir); err != nil {
		return nil, Recovery{}, fmt.Errorf("make log directory: %w", asDiskFull(err))
	}
	r := recovery{o: o, replay: replay, open: openDirect(o.FS)}
	if err := r.run(); err != nil {
		return nil, r.result, fmt.Errorf("recover log: %w", err)
	}
	if err := r.secure(); err != nil {
		return nil, r.result, fmt.Errorf("sync recovered log: %w", err)
	}
	first, spares, err := r.newSegment()
	if err != nil {
		return nil, r.result, fmt.Errorf("open new log segment: %w", asDiskFull(err))
	}
	r.result.Incarnation++
	if err := first.startRun(&r.tail, r.result.Incarnation); err != nil {
		return nil, r.result, fmt.Errorf("open new log segment: %w", errors.Join(err, first.closeFile()))
	}
	l := newLog(&r, first, spares)
	o.Logger.Info("log opened", "lsn", r.result.LastLSN, "commits", r.result.Commits, "bytes", r.result.Bytes,
		"incarnation", r.result.Incarnation, "clean", r.result.Clean, "torn_at", r.result.TornAt)
	return l, r.result, nil
}

// openDirect returns a function that opens files so that they can be read past
// the page cache, and synced.
func openDirect(vfsys vfs.FS) func(name string) (vfs.File, error) {
	return func(name string) (vfs.File, error) { return vfsys.OpenReadWrite(name, storefs.Direct) }
}

// makeDir makes dir durably.
func makeDir(vfsys vfs.FS, dir string) error {
	if _, err := vfsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := vfsys.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return storefs.SyncDir(vfsys, vfsys.PathDir(dir))
}

// secure makes what was accepted durable. Only the last group can be otherwise,
// and the names of files that a process left behind without a crash.
func (r *recovery) secure() error {
	if len(r.used) > 0 {
		name := r.used[len(r.used)-1].name
		f, err := r.open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.SyncData(), f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return storefs.SyncDir(r.o.FS, r.o.Dir)
}

// newSegment makes the segment that goes on, from a file that is not needed if
// there is one. It returns the other files that are not needed.
func (r *recovery) newSegment() (*segment, []spare, error) {
	d := directory{fs: r.o.FS, path: r.o.Dir}
	for _, name := range r.parts {
		if err := r.o.FS.Remove(name); err != nil {
			r.o.Logger.Warn("cannot remove an unfinished log segment", "err", err)
		}
	}
	// Of the segments in use, the last one keeps the chain until the new header
	// is durable. Of those before it, some are released, and in some a run wrote
	// nothing: the chain goes past them.
	var last *foundSegment
	if len(r.used) > 0 {
		last = r.used[len(r.used)-1]
	}
	var spares []spare
	for _, f := range r.files {
		if f != last && f.bytes == 0 {
			spares = append(spares, spare{name: f.name, size: f.size})
		}
	}
	r.maxNumber++
	for i, s := range spares {
		if s.size != r.o.SegmentBytes {
			continue
		}
		seg, err := d.recycle(s, r.maxNumber)
		return seg, append(spares[:i], spares[i+1:]...), err
	}
	seg, err := d.make(r.maxNumber, r.o.SegmentBytes, nil)
	return seg, spares, err
}

// startRun makes the header of a run's first segment durable.
func (s *segment) startRun(tail *chain, incarnation uint64) error {
	block := storefs.AlignedBlock(segmentHeaderBytes)
	h := tail.header(s.number, incarnation)
	h.encode(block)
	if err := writeAll(s, block, 0); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if err := s.file.SyncData(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.started, s.last = true, tail.last
	return nil
}

// newLog starts the log that goes on in the segment first.
func newLog(r *recovery, first *segment, spares []spare) *Log {
	l := &Log{
		o:           r.o,
		incarnation: r.result.Incarnation,
		groupCap:    min(groupCapBytes, usableBytes(r.o.SegmentBytes)),
		durable:     make(chan *group, applyQueue),
		prepare:     make(chan struct{}, 1),
		stop:        make(chan struct{}),
		tail:        r.tail,
		nextNumber:  r.maxNumber + 1,
	}
	l.mu.work.L = &l.mu
	l.mu.last = r.tail.last
	l.mu.retired = spares
	l.mu.released = r.o.ReplayFrom
	l.visible.Store(uint64(r.tail.last))
	for _, f := range r.used[r.start:] {
		if f.bytes > 0 {
			l.mu.segments = append(l.mu.segments, &segment{number: f.number, name: f.name, size: f.size,
				next: f.size, last: f.last, bytes: f.bytes, started: true})
			l.size.Add(f.bytes)
		} else if f == r.used[len(r.used)-1] {
			l.mu.retired = append(l.mu.retired, spare{name: f.name, size: f.size})
		}
	}
	l.mu.segments = append(l.mu.segments, first)
	l.releaseLocked() // nobody else has the log yet
	l.wg.Add(3)
	go l.write()
	go l.apply()
	go l.keepReady()
	return l
}
