package layers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal/storefs"
)

// Errors of the value segments. Those of the disk pass through, so that
// errors.Is(err, syscall.ENOSPC) finds a full one.
var (
	// ErrHeld refuses to remove, punch or rewrite a value segment that is open, and
	// to remove one that somebody reads or rewrites.
	ErrHeld = errors.New("layers: value segment in use")
	// ErrNoSegment marks a reference to a value segment that is not there. It is
	// also ErrCorrupt: what is referred to must exist.
	ErrNoSegment = fmt.Errorf("layers: no such value segment: %w", ErrCorrupt)
	// ErrTooManyWriters says that all value writers stayed taken until the context ended.
	ErrTooManyWriters = errors.New("layers: too many value writers")
	// ErrClosed is the answer of Values after Close.
	ErrClosed = errors.New("layers: values closed")
)

// ValuesOptions configures OpenValues.
type ValuesOptions struct {
	// NextFileNum draws the number of a new segment. Required; safe for
	// concurrent use; never returns a number that a file on disk has.
	NextFileNum func() FileNum
	// SegmentBytes seals a streamed segment that has reached it; the last extent
	// may pass it by up to min(SegmentBytes, 256 MiB). Default 1 GiB.
	SegmentBytes int64
	// PackedSegmentBytes ends a packed segment. Default 64 MiB.
	PackedSegmentBytes int64
	// Generations says which file of a rewritten segment counts, as the catalog has
	// it; absent: 0, the first. Read by OpenValues only.
	Generations map[FileNum]uint32
	// MaxWriters bounds the ValueWriters in use, and so the open segments. Default 256.
	MaxWriters int
	// MaxOpenFiles bounds the read handles kept open; those in use may exceed it. Default 512.
	MaxOpenFiles int
	// Now stamps new segments. Default time.Now.
	Now func() time.Time
	// Logger gets what no caller can be told. Default slog.Default.
	Logger *slog.Logger
}

func (o *ValuesOptions) ensureDefaults() {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 1 << 30
	}
	if o.PackedSegmentBytes <= 0 {
		o.PackedSegmentBytes = 64 << 20
	}
	if o.MaxWriters <= 0 {
		o.MaxWriters = 256
	}
	if o.MaxOpenFiles <= 0 {
		o.MaxOpenFiles = 512
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// Values is the directory of value segments. It starts no goroutine. Safe for
// concurrent use; the writers, packers and readers that it hands out are not.
type Values struct {
	fs    vfs.FS
	dir   string
	o     ValuesOptions
	files *valueFiles
	slots chan struct{} // one token per ValueWriter of NewWriter that may have an open segment
	// internalSlots are those of NewInternalWriter: it never waits for slow uploads.
	internalSlots chan struct{}
	done          chan struct{} // closed by Close
	lastNum       FileNum       // the highest number of a file that OpenValues found
	streams       atomic.Int64  // see StreamsEnded

	mu struct {
		sync.RWMutex
		segments map[FileNum]*valueSegment
		idle     []*valueSegment // open, taken by nobody; the last was used last
		orphans  map[string]orphanFile
		closed   bool
	}
}

// orphanFile is a file of a generation that does not count.
type orphanFile struct {
	num        FileNum
	generation uint32
}

// internalWriters bounds the writers of NewInternalWriter in use.
const internalWriters = 8

// valueSegment is one segment of values. The fields from file on belong to the
// writer that has taken the segment, or to Values.mu while it is idle.
type valueSegment struct {
	num    FileNum
	size   atomic.Int64  // bytes written to the file of generation 0; a handle that ends beyond it is corrupt
	holds  atomic.Int64  // segmentGone once removed
	sealed atomic.Bool   // never written to again
	kind   atomic.Uint32 // valueKind; 0: not known yet

	generation atomic.Uint32 // of the file that counts
	rewritten  atomic.Int64  // bytes of that file, if its generation is not 0
	saved      atomic.Int64  // bytes of that file that take no space
	// reclaiming belongs to the one who punches or rewrites the segment.
	reclaiming atomic.Bool
	punched    blockSet // of the current file; belongs to who reclaims

	category  vfs.DiskWriteCategory
	file      vfs.File
	pos       int64 // where the next bytes go
	writtenTo int64 // write-back was begun up to here
	durable   bool  // the file's inode and directory entry have been synced
}

// segmentGone is the hold count of a removed segment; holds are refused.
const segmentGone = math.MinInt64

// hold counts one more holder, unless the segment was removed.
func (s *valueSegment) hold() bool {
	for {
		n := s.holds.Load()
		if n == segmentGone {
			return false
		}
		if s.holds.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *valueSegment) release() { s.holds.Add(-1) }

// SegmentInfo describes one value segment.
type SegmentInfo struct {
	Num        FileNum
	Generation uint32 // of the file that counts; 0: never rewritten
	Bytes      int64  // of that file so far
	Allocated  int64  // what of Bytes takes space on the disk; less once holes were punched
	Sealed     bool   // never written to again
	Holds      int64  // readers, writers and rewriters that keep it
}

// OpenValues opens the value segments in dir, which it creates if need be. All
// segments found are sealed. Their headers are checked when they are first read.
// A segment of whose counted generation there is no file is not among them; files
// of other generations are orphans, which stay until RemoveOrphan.
func OpenValues(fs vfs.FS, dir string, o ValuesOptions) (*Values, error) {
	if o.NextFileNum == nil {
		return nil, errors.New("open values: no NextFileNum")
	}
	o.ensureDefaults()
	if err := makeValueDir(fs, dir); err != nil {
		return nil, fmt.Errorf("open values: %w", err)
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("open values: list %s: %w", dir, err)
	}
	v := &Values{
		fs: fs, dir: dir, o: o,
		slots:         make(chan struct{}, o.MaxWriters),
		internalSlots: make(chan struct{}, internalWriters),
		done:          make(chan struct{}),
	}
	v.files = newValueFiles(v, o.MaxOpenFiles)
	v.mu.segments = make(map[FileNum]*valueSegment, len(names))
	v.mu.orphans = make(map[string]orphanFile)
	for _, name := range names {
		if err := v.found(name); err != nil {
			return nil, fmt.Errorf("open values: %w", err)
		}
	}
	v.o.Generations = nil
	return v, nil
}

// found takes in a file of the directory.
func (v *Values) found(name string) error {
	num, generation, ok := parseValueName(name)
	if !ok {
		v.o.Logger.Warn("file of another kind among value segments", "file", v.fs.PathJoin(v.dir, name))
		return nil
	}
	v.lastNum = max(v.lastNum, num)
	if generation != v.o.Generations[num] {
		v.mu.orphans[name] = orphanFile{num, generation}
		return nil
	}
	info, err := v.fs.Stat(v.fs.PathJoin(v.dir, name))
	if err != nil {
		return fmt.Errorf("stat %s: %w", name, err)
	}
	s := &valueSegment{num: num}
	s.generation.Store(generation)
	if generation == 0 {
		s.size.Store(info.Size())
	} else {
		s.rewritten.Store(info.Size())
	}
	if allocated, ok := storefs.AllocatedBytes(info); ok {
		s.saved.Store(info.Size() - allocated)
	}
	s.sealed.Store(true)
	v.mu.segments[num] = s
	return nil
}

// LastNum returns the highest number that a file had, orphans included, when the
// values were opened; 0 without any.
func (v *Values) LastNum() FileNum { return v.lastNum }

// StreamsEnded counts the ValueWriters that wrote something and were closed since
// OpenValues. What became of their values is not known here: when no commit names
// them, this is all that tells of dead space.
func (v *Values) StreamsEnded() int64 { return v.streams.Load() }

// makeValueDir makes dir last through a crash.
func makeValueDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stat %s: %w", dir, err)
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	if err := storefs.SyncDir(fs, fs.PathDir(dir)); err != nil {
		return err
	}
	return nil
}

// path returns the file of the segment num that counts.
func (v *Values) path(num FileNum) string {
	v.mu.RLock()
	s := v.mu.segments[num]
	v.mu.RUnlock()
	if s == nil {
		return v.filePath(num, 0)
	}
	return v.segmentPath(s)
}

func (v *Values) segmentPath(s *valueSegment) string { return v.filePath(s.num, s.generation.Load()) }

func (v *Values) filePath(num FileNum, generation uint32) string {
	return v.fs.PathJoin(v.dir, ValueFileName(num, generation))
}

// Close refuses new writers, packers and readers, and closes idle files. Those
// still at work end on their own; what they hold is closed as they give it back.
func (v *Values) Close() error {
	v.mu.Lock()
	if v.mu.closed {
		v.mu.Unlock()
		return nil
	}
	v.mu.closed = true
	idle := v.mu.idle
	v.mu.idle = nil
	v.mu.Unlock()
	close(v.done)
	var errs []error
	for _, s := range idle {
		errs = append(errs, v.seal(s))
	}
	v.files.closeAllIdle()
	return errors.Join(errs...)
}

// Segments lists the segments, ascending by number.
func (v *Values) Segments() []SegmentInfo {
	v.mu.RLock()
	infos := make([]SegmentInfo, 0, len(v.mu.segments))
	for _, s := range v.mu.segments {
		infos = append(infos, s.info())
	}
	v.mu.RUnlock()
	slices.SortFunc(infos, func(a, b SegmentInfo) int {
		if a.Num < b.Num {
			return -1
		}
		return 1
	})
	return infos
}

func (s *valueSegment) info() SegmentInfo {
	return SegmentInfo{
		Num: s.num, Generation: s.generation.Load(), Bytes: s.fileBytes(), Allocated: s.fileBytes() - s.saved.Load(),
		Sealed: s.sealed.Load(), Holds: max(s.holds.Load(), 0),
	}
}

// fileBytes returns the size of the file that counts.
func (s *valueSegment) fileBytes() int64 {
	if s.generation.Load() == 0 {
		return s.size.Load()
	}
	return s.rewritten.Load()
}

// Hold keeps segs from removal until release is called. release may be called
// more than once. It holds all or, with ErrNoSegment or ErrClosed, none.
func (v *Values) Hold(segs []FileNum) (release func(), err error) {
	held := make([]*valueSegment, 0, len(segs))
	for _, num := range segs {
		s, err := v.holdSegment(num)
		if err != nil {
			releaseSegments(held)
			return nil, fmt.Errorf("hold value segments: %w", err)
		}
		held = append(held, s)
	}
	return sync.OnceFunc(func() { releaseSegments(held) }), nil
}

func releaseSegments(held []*valueSegment) {
	for _, s := range held {
		s.release()
	}
}

func (v *Values) holdSegment(num FileNum) (*valueSegment, error) {
	v.mu.RLock()
	s, closed := v.mu.segments[num], v.mu.closed
	v.mu.RUnlock()
	if closed {
		return nil, ErrClosed
	}
	if s == nil || !s.hold() {
		return nil, fmt.Errorf("%s: %w", v.path(num), ErrNoSegment)
	}
	return s, nil
}

// SealIdle seals all open segments that no writer has taken but the keep used
// last, so that Remove can take them. Without it a segment stays open until
// it is full, however little is written.
func (v *Values) SealIdle(keep int) error {
	v.mu.Lock()
	n := max(len(v.mu.idle)-max(keep, 0), 0)
	idle := slices.Clone(v.mu.idle[:n])
	v.mu.idle = slices.Delete(v.mu.idle, 0, n)
	v.mu.Unlock()
	var errs []error
	for _, s := range idle {
		errs = append(errs, v.seal(s))
	}
	return errors.Join(errs...)
}

// Remove unlinks the file of a segment that counts and syncs the directory. It refuses with ErrHeld one
// that is open or held, and the caller must have seen it sealed and without
// holds before it looked for references, or a commit on its way is lost. When
// the unlink fails, the segment stays; when only the sync fails, it is gone
// from v but may be back after a crash.
func (v *Values) Remove(num FileNum) error {
	v.mu.RLock()
	s := v.mu.segments[num]
	v.mu.RUnlock()
	if s == nil {
		return fmt.Errorf("remove %s: %w", v.path(num), ErrNoSegment)
	}
	if !s.sealed.Load() || !s.holds.CompareAndSwap(0, segmentGone) {
		if s.holds.Load() == segmentGone {
			return fmt.Errorf("remove %s: %w", v.path(num), ErrNoSegment)
		}
		return fmt.Errorf("remove %s: %w", v.path(num), ErrHeld)
	}
	v.files.evict(num)
	if err := v.fs.Remove(v.segmentPath(s)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.holds.Store(0)
		return fmt.Errorf("remove %s: %w", v.path(num), err)
	}
	v.mu.Lock()
	delete(v.mu.segments, num)
	v.mu.Unlock()
	if err := storefs.SyncDir(v.fs, v.dir); err != nil {
		return fmt.Errorf("remove %s: %w", v.path(num), err)
	}
	return nil
}

// takeSegment returns an open segment of the category that no other writer has,
// held once.
func (v *Values) takeSegment(category vfs.DiskWriteCategory) (*valueSegment, error) {
	v.mu.Lock()
	if v.mu.closed {
		v.mu.Unlock()
		return nil, ErrClosed
	}
	for i := len(v.mu.idle) - 1; i >= 0; i-- {
		s := v.mu.idle[i]
		if s.category != category {
			continue
		}
		v.mu.idle = slices.Delete(v.mu.idle, i, i+1)
		v.mu.Unlock()
		s.hold() // cannot fail: Remove refuses open segments
		return s, nil
	}
	v.mu.Unlock()
	return v.createSegment(category, valuesStreamed)
}

// createSegment makes a new file and writes its header, not synced. The segment
// is held once. A file that could not be made whole is removed again; if even
// that fails it stays as a sealed segment that nothing refers to.
func (v *Values) createSegment(category vfs.DiskWriteCategory, kind valueKind) (*valueSegment, error) {
	num := v.o.NextFileNum()
	s := &valueSegment{num: num, category: category}
	if err := v.createFile(s, kind); err != nil {
		var left *leftFileError
		if errors.As(err, &left) {
			s.sealed.Store(true)
			v.addSegment(s)
		}
		return nil, err
	}
	s.holds.Store(1)
	v.addSegment(s)
	return s, nil
}

// leftFileError says that a file that could not be made whole is still there.
type leftFileError struct{ err error }

func (e *leftFileError) Error() string { return e.err.Error() }
func (e *leftFileError) Unwrap() error { return e.err }

// createFile makes the file of s and writes its header, not synced. A file that
// could not be made whole is removed again, or the error is a leftFileError.
func (v *Values) createFile(s *valueSegment, kind valueKind) error {
	name := v.segmentPath(s)
	if _, err := v.fs.Stat(name); err == nil {
		return fmt.Errorf("create %s: %w", name, os.ErrExist)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("create %s: %w", name, err)
	}
	file, err := v.fs.OpenReadWrite(name, s.category)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	h := valueHeader{num: s.num, generation: s.generation.Load(), kind: kind, created: v.o.Now().UnixNano()}
	if _, err := file.WriteAt(h.append(make([]byte, 0, valueHeaderBytes)), 0); err != nil {
		err = fmt.Errorf("write header of %s: %w", name, err)
		err = errors.Join(err, file.Close())
		if removeErr := v.fs.Remove(name); removeErr != nil {
			return &leftFileError{errors.Join(err, removeErr)}
		}
		return err
	}
	s.kind.Store(uint32(kind))
	s.file = file
	s.pos, s.writtenTo = valueHeaderBytes, valueHeaderBytes
	s.size.Store(valueHeaderBytes)
	return nil
}

func (v *Values) addSegment(s *valueSegment) {
	v.mu.Lock()
	v.mu.segments[s.num] = s
	v.mu.Unlock()
}

// putSegment takes an unharmed segment back from its writer, whose hold stays.
func (v *Values) putSegment(s *valueSegment) error {
	if s.pos < v.o.SegmentBytes {
		v.mu.Lock()
		if !v.mu.closed {
			v.mu.idle = append(v.mu.idle, s)
			v.mu.Unlock()
			return nil
		}
		v.mu.Unlock()
	}
	return v.seal(s)
}

// seal closes the file of a segment that its owner will not write again.
func (v *Values) seal(s *valueSegment) error {
	err := s.file.Close()
	s.file = nil
	s.sealed.Store(true)
	if err != nil {
		return fmt.Errorf("close %s: %w", v.segmentPath(s), err)
	}
	return nil
}

// writeBackBytes is how much may be written before write-back of it is begun.
const writeBackBytes = 8 << 20

// append writes p at the end of s.
func (v *Values) append(s *valueSegment, p []byte) error {
	if _, err := s.file.WriteAt(p, s.pos); err != nil {
		return fmt.Errorf("write %s at %d: %w", v.segmentPath(s), s.pos, err)
	}
	s.pos += int64(len(p))
	s.size.Store(s.pos)
	if s.pos-s.writtenTo < writeBackBytes {
		return nil
	}
	// A page that is still being filled would be written twice.
	to := s.pos &^ (valueAlign - 1)
	if _, err := s.file.SyncTo(to); err != nil {
		return fmt.Errorf("write back %s to %d: %w", v.segmentPath(s), to, err)
	}
	s.writtenTo = to
	return nil
}

// sync makes all of s durable, the first time with its directory entry.
func (v *Values) sync(s *valueSegment) error {
	if s.durable {
		if err := s.file.SyncData(); err != nil {
			return fmt.Errorf("sync %s: %w", v.segmentPath(s), err)
		}
		return nil
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", v.segmentPath(s), err)
	}
	if err := storefs.SyncDir(v.fs, v.dir); err != nil {
		return fmt.Errorf("sync %s: %w", v.segmentPath(s), err)
	}
	s.durable = true
	return nil
}

// takeSlot waits for the right to have an open segment, which ends with <-slots.
func (v *Values) takeSlot(ctx context.Context, slots chan struct{}) error {
	select {
	case <-v.done:
		return ErrClosed
	default:
	}
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case slots <- struct{}{}:
		return nil
	case <-v.done:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%d in use: %w: %w", cap(slots), ErrTooManyWriters, context.Cause(ctx))
	}
}
