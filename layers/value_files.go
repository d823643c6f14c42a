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

// valueFile is a read handle. Its fields are guarded by valueFiles.mu, except
// that file may be read by whoever holds a reference.
type valueFile struct {
	num  FileNum
	file vfs.File
	refs int
	elem *list.Element // nil once evicted: the last reference closes the file
}

func newValueFiles(v *Values, max int) *valueFiles {
	c := &valueFiles{v: v}
	c.mu.max = max
	c.mu.files = make(map[FileNum]*valueFile)
	return c
}

// acquire returns the open file of a segment whose header is sound. The caller
// holds the segment, and gives the file back with release.
func (c *valueFiles) acquire(num FileNum) (*valueFile, error) {
	c.mu.Lock()
	f := c.refLocked(num)
	c.mu.Unlock()
	if f != nil {
		return f, nil
	}
	file, err := c.open(num)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if f = c.refLocked(num); f != nil { // somebody else was faster
		c.mu.Unlock()
		c.close(num, file)
		return f, nil
	}
	f = &valueFile{num: num, file: file, refs: 1}
	c.mu.files[num] = f
	f.elem = c.mu.lru.PushFront(f)
	var idle []*valueFile
	for c.mu.lru.Len() > c.mu.max {
		idle = c.evictLocked(c.mu.lru.Back().Value.(*valueFile), idle)
	}
	c.mu.Unlock()
	c.closeAll(idle)
	return f, nil
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

// open opens a segment and verifies its header.
func (c *valueFiles) open(num FileNum) (vfs.File, error) {
	name := c.v.path(num)
	// The kernel's own readahead proved faster than advice and prefetching.
	file, err := c.v.fs.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open value segment: %w", err)
	}
	var h [valueHeaderBytes]byte
	n, err := file.ReadAt(h[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read header of %s: %w", name, err)
	} else if err = checkValueHeader(h[:n], num); err != nil {
		err = fmt.Errorf("read header of %s: %w", name, err)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (c *valueFiles) release(f *valueFile) {
	c.mu.Lock()
	f.refs--
	last := f.refs == 0 && f.elem == nil
	c.mu.Unlock()
	if last {
		c.close(f.num, f.file)
	}
}

// evictLocked forgets f and appends it to idle if nobody uses it.
func (c *valueFiles) evictLocked(f *valueFile, idle []*valueFile) []*valueFile {
	c.mu.lru.Remove(f.elem)
	f.elem = nil
	delete(c.mu.files, f.num)
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
		c.close(f.num, f.file)
	}
}

// close closes a read handle; there is nothing that a failure could lose.
func (c *valueFiles) close(num FileNum, file vfs.File) {
	if err := file.Close(); err != nil {
		c.v.o.Logger.Warn("close of a value segment that was read", "file", c.v.path(num), "err", err)
	}
}
