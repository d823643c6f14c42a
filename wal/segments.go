package wal

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"stemma/wal/storefs"
)

const (
	// readyMade is how many segments are made ahead; released ones are recycled
	// beyond that, up to maxReady.
	readyMade = 1
	maxReady  = 4
	// fillBytes is the size of the writes that fill a new segment with zeros.
	fillBytes = 1 << 20

	minPrepareBackoff = 50 * time.Millisecond
	maxPrepareBackoff = time.Second
)

// segment is a segment in use or ready.
type segment struct {
	number uint64
	name   string // path
	size   int64  // bytes of the file

	// file stays open while the segment is in use, and is recycled with it; nil
	// when an earlier run wrote the segment.
	file vfs.File

	// Guarded by Log.mu.
	next    int64 // offset of the next group
	last    LSN   // of the last commit in it, or in the segments before
	bytes   int64 // of durable groups
	started bool  // its header is durable; set by the writer
}

// room returns how many bytes a group at offset off can have.
func (s *segment) room(off int64) int64 { return s.size - blockBytes - off }

func (s *segment) closeFile() error {
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// spare is a file of a segment that is not needed any more.
type spare struct {
	name string // path
	size int64
	file vfs.File // open, or nil
}

// Release says that commits at or below upTo are not needed any more, by
// replay included: the caller's next Open has a ReplayFrom at or above. It
// returns at once; segments are recycled in the background. What is not visible
// is not released.
func (l *Log) Release(upTo LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.released = max(l.mu.released, min(upTo, l.Visible()))
	l.releaseLocked()
}

// releaseLocked retires the segments that are not needed. The header of a later
// one must be durable, else a crash would leave a log without its chain.
func (l *Log) releaseLocked() {
	if l.failed.Load() != nil {
		return
	}
	segs := l.mu.segments
	n := 0
	for n+1 < len(segs) && segs[n].last <= l.mu.released && segs[n+1].started {
		s := segs[n]
		l.mu.retired = append(l.mu.retired, spare{name: s.name, size: s.size, file: s.file})
		l.size.Add(-s.bytes)
		n++
	}
	if n > 0 {
		l.mu.segments = append(segs[:0], segs[n:]...)
		clear(segs[len(segs)-n:])
		l.wakePreparer()
	}
}

func (l *Log) wakePreparer() {
	select {
	case l.prepare <- struct{}{}:
	default:
	}
}

// keepReady is the preparer goroutine: it recycles or removes retired segments
// and makes new ones, so that the next is ready. A failure is not fatal: while
// it lasts, commits that need a segment fail, and it is tried again.
func (l *Log) keepReady() {
	defer l.wg.Done()
	backoff := minPrepareBackoff
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-l.prepare:
		case <-retry.C:
		}
		if l.failed.Load() != nil {
			continue
		}
		if err := l.prepareAll(); err != nil {
			retry.Reset(backoff)
			backoff = min(2*backoff, maxPrepareBackoff)
		} else {
			backoff = minPrepareBackoff
		}
	}
}

// prepareAll does all there is to do and notes how it went.
func (l *Log) prepareAll() error {
	for {
		more, err := l.prepareOne()
		if errors.Is(err, errStopped) {
			return nil
		}
		err = asDiskFull(err)
		l.mu.Lock()
		was := l.mu.prepareErr
		l.mu.prepareErr = err
		if err != nil {
			l.mu.metrics.PrepareFailures++
		}
		l.wakeAppendsLocked()
		l.mu.Unlock()
		switch {
		case err != nil && was == nil:
			l.o.Logger.Warn("cannot prepare a log segment, will try again", "err", err)
		case err == nil && was != nil:
			l.o.Logger.Info("log segments can be prepared again")
		}
		if err != nil || !more {
			return err
		}
	}
}

// asDiskFull makes a lack of space match ErrDiskFull whatever the file system.
func asDiskFull(err error) error {
	if err != nil && storefs.IsDiskFull(err) && !errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

var errStopped = errors.New("stopped")

// prepareOne recycles or removes one retired segment, or makes one when none is
// ready. It reports whether there was something to do.
func (l *Log) prepareOne() (bool, error) {
	l.mu.Lock()
	ready := len(l.mu.ready)
	var old *spare
	if len(l.mu.retired) > 0 {
		s := l.mu.retired[0]
		old = &s
		l.mu.retired = append(l.mu.retired[:0], l.mu.retired[1:]...)
	}
	l.mu.Unlock()
	if old == nil && ready >= readyMade {
		return false, nil
	}
	d := directory{fs: l.o.FS, path: l.o.Dir}
	if old != nil && (ready >= maxReady || old.size != l.o.SegmentBytes) {
		if err := d.remove(*old); err != nil {
			// Harmless: replay skips it, and the next Open tries again.
			l.o.Logger.Warn("cannot remove a released log segment", "err", err)
		}
		l.count(func(m *Metrics) { m.SegmentsRemoved++ })
		return true, nil
	}
	number := l.nextNumber
	l.nextNumber++
	var s *segment
	var err error
	if old != nil {
		s, err = d.recycle(*old, number)
	} else {
		s, err = d.make(number, l.o.SegmentBytes, l.stop)
	}
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.ready = append(l.mu.ready, s)
	if old != nil {
		l.mu.metrics.SegmentsRecycled++
	} else {
		l.mu.metrics.SegmentsMade++
	}
	return true, nil
}

func (l *Log) count(f func(m *Metrics)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.mu.metrics)
}

// directory makes and recycles segment files. What it returns is durable.
type directory struct {
	fs   vfs.FS
	path string
}

func (d directory) join(name string) string { return d.fs.PathJoin(d.path, name) }

// make creates a segment and fills it with zeros, so that its blocks are
// allocated and written before the log needs them. It gives up with errStopped
// when stop is closed; stop may be nil.
func (d directory) make(number uint64, size int64, stop <-chan struct{}) (*segment, error) {
	part, name := d.join(partName(number)), d.join(SegmentName(number))
	f, err := d.fs.Create(part, storefs.Direct)
	if err != nil {
		return nil, fmt.Errorf("make log segment: %w", err)
	}
	s := &segment{number: number, name: name, size: size, file: f, next: segmentHeaderBytes}
	err = s.fill(stop)
	if err == nil {
		err = d.fs.Rename(part, name)
	}
	if err == nil {
		err = storefs.SyncDir(d.fs, d.path)
	}
	if err != nil {
		// What is left of the file is swept by the next Open if it stays.
		_ = errors.Join(s.closeFile(), d.fs.Remove(part), d.fs.Remove(name))
		return nil, fmt.Errorf("make log segment %s: %w", name, err)
	}
	return s, nil
}

// fill writes the whole file with zeros and syncs it.
func (s *segment) fill(stop <-chan struct{}) error {
	zeros := storefs.AlignedBlock(int(min(fillBytes, s.size)))
	for off := int64(0); off < s.size; off += int64(len(zeros)) {
		select {
		case <-stop:
			return errStopped
		default:
		}
		if err := writeAll(s, zeros[:min(int64(len(zeros)), s.size-off)], off); err != nil {
			return err
		}
	}
	return s.file.Sync()
}

// recycle renames the file old to the segment of the given number. Its content
// stays: stale groups are told apart by their sequence.
func (d directory) recycle(old spare, number uint64) (*segment, error) {
	s := &segment{number: number, name: d.join(SegmentName(number)), size: old.size, file: old.file, next: segmentHeaderBytes}
	err := d.fs.Rename(old.name, s.name)
	if err == nil {
		err = storefs.SyncDir(d.fs, d.path)
	}
	if err == nil && s.file == nil {
		s.file, err = d.fs.OpenReadWrite(s.name, storefs.Direct)
	}
	if err != nil {
		_ = errors.Join(s.closeFile(), d.fs.Remove(old.name), d.fs.Remove(s.name))
		return nil, fmt.Errorf("recycle log segment %s as %s: %w", old.name, s.name, err)
	}
	return s, nil
}

func (d directory) remove(old spare) error {
	var err error
	if old.file != nil {
		err = old.file.Close()
	}
	return errors.Join(err, d.fs.Remove(old.name))
}
