package storefs

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ncw/directio"
)

// BlockSize is the unit of direct I/O in bytes: of memory addresses, offsets
// and lengths.
const BlockSize = 4096

// AlignedBlock returns n zero bytes, n rounded up to a multiple of BlockSize,
// at an address that direct I/O accepts.
func AlignedBlock(n int) []byte {
	n = (n + BlockSize - 1) &^ (BlockSize - 1)
	return directio.AlignedBlock(n)[:n:n]
}

// file is a file opened for writing. All but what can lack space goes straight
// to the File below.
type file struct {
	vfs.File
	fs   *FS
	user bool
}

// Write implements vfs.File.
func (f *file) Write(p []byte) (int, error) {
	if err := f.fs.admit(f.user); err != nil {
		return 0, err
	}
	try := f.fs.try(f.user)
	n, err := f.File.Write(p)
	for err != nil && try.again(&err) {
		var m int
		m, err = f.File.Write(p[n:])
		n += m
	}
	return n, err
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.admit(f.user); err != nil {
		return 0, err
	}
	try := f.fs.try(f.user)
	n, err := f.File.WriteAt(p, off)
	for err != nil && try.again(&err) {
		var m int
		m, err = f.File.WriteAt(p[n:], off+int64(n))
		n += m
	}
	return n, err
}

// Preallocate implements vfs.File.
func (f *file) Preallocate(off, n int64) error {
	if err := f.fs.admit(f.user); err != nil {
		return err
	}
	try := f.fs.try(f.user)
	err := f.File.Preallocate(off, n)
	for err != nil && try.again(&err) {
		err = f.File.Preallocate(off, n)
	}
	return err
}

// Sync implements vfs.File. A sync that lacks space is not tried again: the
// kernel may have dropped what it could not write.
func (f *file) Sync() error { return f.synced(f.File.Sync()) }

// SyncData implements vfs.File: fdatasync.
func (f *file) SyncData() error { return f.synced(f.File.SyncData()) }

func (f *file) synced(err error) error {
	if err != nil && isNoSpace(err) {
		return &diskFullError{err}
	}
	return err
}

// directFile is a file of category Direct.
type directFile struct {
	file
	direct atomic.Bool // false: O_DIRECT was refused, I/O is buffered
}

func newDirectFile(w file) *directFile {
	f := &directFile{file: w}
	if w.fs.refusesDirect.Load() {
		return f
	}
	if err := setDirect(f.Fd(), true); err != nil {
		w.fs.warnBuffered(err)
		return f
	}
	f.direct.Store(true)
	return f
}

// warnBuffered logs, once per FS, that O_DIRECT was refused with err.
func (fs *FS) warnBuffered(err error) {
	if fs.refusesDirect.CompareAndSwap(false, true) {
		fs.logger.Warn("file system refuses direct I/O, using buffered I/O", "err", err)
	}
}

// refused reports whether I/O that was attempted with O_DIRECT (was) failed
// with err because the file system refuses that on first use; the file is
// buffered then, and the I/O is to be made again.
func (f *directFile) refused(was bool, err error) bool {
	if !was || !errors.Is(err, syscall.EINVAL) {
		return false
	}
	if f.direct.CompareAndSwap(true, false) {
		if e := setDirect(f.Fd(), false); e != nil {
			return false
		}
		f.fs.warnBuffered(err)
	}
	return true
}

// bounceBytes is the size of the pooled buffers behind unaligned memory.
const bounceBytes = 256 << 10

var bouncePool = sync.Pool{New: func() any { b := AlignedBlock(bounceBytes); return &b }}

// Write implements vfs.File. Errors: ErrUnaligned, ErrDiskFull.
func (f *directFile) Write(p []byte) (int, error) {
	if len(p)%BlockSize != 0 {
		return 0, fmt.Errorf("write %d bytes: %w", len(p), ErrUnaligned)
	}
	return f.write(p, func(p []byte, _ int) (int, error) { return f.file.Write(p) })
}

// WriteAt implements vfs.File. Errors: ErrUnaligned, ErrDiskFull.
func (f *directFile) WriteAt(p []byte, off int64) (int, error) {
	if off%BlockSize != 0 || len(p)%BlockSize != 0 {
		return 0, fmt.Errorf("write %d bytes at %d: %w", len(p), off, ErrUnaligned)
	}
	return f.write(p, func(p []byte, done int) (int, error) { return f.file.WriteAt(p, off+int64(done)) })
}

// write writes p with one call when its memory is aligned, else in pieces. The
// call gets a piece and how much of p lies before it.
func (f *directFile) write(p []byte, call func(p []byte, done int) (int, error)) (int, error) {
	if !f.direct.Load() || aligned(p) {
		return f.writePiece(p, 0, call)
	}
	b := bouncePool.Get().(*[]byte)
	defer bouncePool.Put(b)
	n := 0
	for n < len(p) {
		m, err := f.writePiece((*b)[:copy(*b, p[n:])], n, call)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (f *directFile) writePiece(p []byte, done int, call func([]byte, int) (int, error)) (int, error) {
	was := f.direct.Load()
	n, err := call(p, done)
	if err != nil && f.refused(was, err) {
		var m int
		m, err = call(p[n:], done+n)
		n += m
	}
	return n, err
}

// Read implements vfs.File. Sequential reads of a Direct file need aligned
// memory.
func (f *directFile) Read(p []byte) (int, error) {
	was := f.direct.Load()
	n, err := f.File.Read(p)
	if err != nil && f.refused(was, err) {
		n, err = f.File.Read(p)
	}
	return n, err
}

// ReadAt implements vfs.File. Offset, length and memory may be unaligned; they
// cost a copy then.
func (f *directFile) ReadAt(p []byte, off int64) (int, error) {
	if !f.direct.Load() || (aligned(p) && off%BlockSize == 0 && len(p)%BlockSize == 0) {
		return f.readPiece(p, off)
	}
	b := bouncePool.Get().(*[]byte)
	defer bouncePool.Put(b)
	n := 0
	for n < len(p) {
		at := off + int64(n)
		start := at &^ (BlockSize - 1)
		skip := int(at - start)
		want := min(skip+len(p)-n, bounceBytes)
		m, err := f.readPiece((*b)[:(want+BlockSize-1)&^(BlockSize-1)], start)
		if m > skip {
			n += copy(p[n:], (*b)[skip:m])
		}
		if n == len(p) {
			break // an end of file behind what was asked for does not matter
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (f *directFile) readPiece(p []byte, off int64) (int, error) {
	was := f.direct.Load()
	n, err := f.File.ReadAt(p, off)
	if err != nil && f.refused(was, err) {
		n, err = f.File.ReadAt(p, off)
	}
	return n, err
}
