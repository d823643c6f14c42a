package layers

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// valueFiles keeps a bounded number of value segments open for reading.
type valueFiles struct {
	v *Values

	mu struct {
		sync.Mutex
		max   int // handles kept; none once closed
		files map[FileNum]*valueFile
		lru   list.List // of *valueFile; front: used last
	}
}

// valueFile is a read handle of one generation of a segment: where values lie
// belongs to it, so that a rewrite does not disturb who reads the old file. refs
// and elem are guarded by valueFiles.mu, the rest never changes.
type valueFile struct {
	seg    *valueSegment
	header valueHeader
	file   vfs.File
	remap  *valueRemap // nil: values lie where their handles say
	refs   int
	elem   *list.Element // nil once evicted: the last reference closes the file
}

// locate checks e against the file and returns where its stored bytes begin.
func (f *valueFile) locate(e *Extent) (at uint64, err error) {
	if f.remap == nil {
		return e.Offset, e.check(f.seg.size.Load())
	}
	if err := e.check(int64(f.remap.originalBytes)); err != nil {
		return 0, err
	}
	return f.remap.locate(f.file, e.Range())
}

func newValueFiles(v *Values, max int) *valueFiles {
	c := &valueFiles{v: v}
	c.mu.max = max
	c.mu.files = make(map[FileNum]*valueFile)
	return c
}

// Streamed reports whether the values of a segment are streamed: they begin at
// multiples of 4 KiB, so that dead ones are punched out. Otherwise they are
// packed, and a rewrite is what gives back their space. It reads the header of a
// segment when it is first asked after a start.
//
// Errors: ErrNoSegment, ErrClosed, ErrCorrupt, those of the disk.
func (v *Values) Streamed(num FileNum) (bool, error) {
	s, err := v.holdSegment(num)
	if err != nil {
		return false, fmt.Errorf("kind of value segment: %w", err)
	}
	defer s.release()
	if k := valueKind(s.kind.Load()); k != 0 {
		return k == valuesStreamed, nil
	}
	f, err := v.files.acquire(s)
	if err != nil {
		return false, fmt.Errorf("kind of value segment: %w", err)
	}
	defer v.files.release(f)
	s.kind.Store(uint32(f.header.kind))
	return f.header.kind == valuesStreamed, nil
}

// acquire returns an open file of s whose header is sound: of the generation
// that counts, or one that did when the call began. The caller holds s, and gives
// the file back with release.
func (c *valueFiles) acquire(s *valueSegment) (*valueFile, error) {
	for {
		c.mu.Lock()
		f := c.refLocked(s.num)
		c.mu.Unlock()
		if f != nil {
			return f, nil
		}
		generation := s.generation.Load()
		f, err := c.open(s, generation)
		if err == nil {
			return c.keep(f), nil
		}
		if s.generation.Load() == generation {
			return nil, err
		}
		// Rewritten while we opened it: the old file may be gone already.
	}
}

// keep takes in a fresh file, referenced once, or gives one that is open already.
func (c *valueFiles) keep(f *valueFile) *valueFile {
	c.mu.Lock()
	if other := c.refLocked(f.seg.num); other != nil { // somebody else was faster
		c.mu.Unlock()
		c.close(f)
		return other
	}
	f.refs = 1
	if f.seg.generation.Load() != f.header.generation { // rewritten meanwhile: evict has been or will see nothing
		c.mu.Unlock()
		return f
	}
	c.mu.files[f.seg.num] = f
	f.elem = c.mu.lru.PushFront(f)
	var idle []*valueFile
	for c.mu.lru.Len() > c.mu.max {
		idle = c.evictLocked(c.mu.lru.Back().Value.(*valueFile), idle)
	}
	c.mu.Unlock()
	c.closeAll(idle)
	return f
}

func (c *valueFiles) refLocked(num FileNum) *valueFile {
	f := c.mu.files[num]
	if f == nil {
		return nil
	}
	f.refs++
	c.mu.lru.MoveToFront(f.elem)
	return f
}

// open opens the file of that generation, verifies its header and loads the top
// of its remap table, if it has one.
func (c *valueFiles) open(s *valueSegment, generation uint32) (*valueFile, error) {
	name := c.v.filePath(s.num, generation)
	// The kernel's own readahead proved faster than advice and prefetching.
	file, err := c.v.fs.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open value segment: %w", err)
	}
	f := &valueFile{seg: s, file: file}
	var h [valueHeaderBytes]byte
	n, err := file.ReadAt(h[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read header of %s: %w", name, err)
	} else if f.header, err = decodeValueHeader(h[:n], s.num, generation); err != nil {
		err = fmt.Errorf("read header of %s: %w", name, err)
	} else if generation > 0 {
		if f.remap, err = openRemap(file, s.num, generation); err != nil {
			err = fmt.Errorf("read remap table of %s: %w", name, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return f, nil
}

func (c *valueFiles) release(f *valueFile) {
	c.mu.Lock()
	f.refs--
	last := f.refs == 0 && f.elem == nil
	c.mu.Unlock()
	if last {
		c.close(f)
	}
}

// evictLocked forgets f and appends it to idle if nobody uses it.
func (c *valueFiles) evictLocked(f *valueFile, idle []*valueFile) []*valueFile {
	c.mu.lru.Remove(f.elem)
	f.elem = nil
	delete(c.mu.files, f.seg.num)
	if f.refs == 0 {
		idle = append(idle, f)
	}
	return idle
}

// evict closes the handle of a segment that is going away.
func (c *valueFiles) evict(num FileNum) {
	c.mu.Lock()
	var idle []*valueFile
	if f := c.mu.files[num]; f != nil {
		idle = c.evictLocked(f, idle)
	}
	c.mu.Unlock()
	c.closeAll(idle)
}

// closeAllIdle closes what nobody uses and keeps nothing from now on; what is
// in use is closed when given back.
func (c *valueFiles) closeAllIdle() {
	c.mu.Lock()
	c.mu.max = 0
	var idle []*valueFile
	for c.mu.lru.Len() > 0 {
		idle = c.evictLocked(c.mu.lru.Back().Value.(*valueFile), idle)
	}
	c.mu.Unlock()
	c.closeAll(idle)
}

func (c *valueFiles) closeAll(idle []*valueFile) {
	for _, f := range idle {
		c.close(f)
	}
}

// close closes a read handle; there is nothing that a failure could lose.
func (c *valueFiles) close(f *valueFile) {
	if err := f.file.Close(); err != nil {
		c.v.o.Logger.Warn("close of a value segment that was read", "file", c.v.filePath(f.seg.num, f.header.generation), "err", err)
	}
}
