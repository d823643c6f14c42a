package storefs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Direct is the category of files that bypass the page cache. Memory that is
// not aligned is bounced through pooled aligned buffers; file sizes, and
// offsets and lengths of writes, must be multiples of BlockSize, else the write
// fails with ErrUnaligned. Where the file system refuses O_DIRECT, I/O is
// buffered, after one warning per FS.
const Direct vfs.DiskWriteCategory = "stemma-direct"

// User is the category of files written for users (value segments of uploads).
// They are never served from the ballast.
const User vfs.DiskWriteCategory = "stemma-user"

// ErrDiskFull says that there is no space for the write. Errors of this package
// that match it wrap the system's as well.
var ErrDiskFull = errors.New("storefs: disk full")

// ErrUnaligned says that a write to a Direct file does not start or end at a
// multiple of BlockSize. Nothing was written.
var ErrUnaligned = errors.New("storefs: unaligned direct write")

// IsDiskFull reports whether err means that there is no space, whether it comes
// from an FS of this package or from another.
func IsDiskFull(err error) bool { return errors.Is(err, ErrDiskFull) || isNoSpace(err) }

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// diskFullError makes a system error match ErrDiskFull.
type diskFullError struct{ err error }

func (e *diskFullError) Error() string        { return ErrDiskFull.Error() + ": " + e.err.Error() }
func (e *diskFullError) Unwrap() error        { return e.err }
func (e *diskFullError) Is(target error) bool { return target == ErrDiskFull }

// Options configure an FS.
type Options struct {
	Dir          string       // the store's directory; New makes it
	BallastBytes int64        // 0: the lesser of 1 GiB and 2 % of the disk; below 0: no ballast
	Logger       *slog.Logger // nil: slog.Default()
}

// FS is the operating system's file system. It implements vfs.FS and is safe
// for concurrent use.
type FS struct {
	vfs.FS        // what is not overridden; vfs.Default outside of tests
	logger        *slog.Logger
	ballast       *ballast
	refusesDirect atomic.Bool // O_DIRECT was refused once, and that was logged
}

var _ vfs.FS = (*FS)(nil)

// New makes o.Dir and the ballast, as far as there is space for it, and starts
// the goroutine that keeps it. Close stops that.
func New(o Options) (*FS, error) { return newFS(o, vfs.Default, 0) }

// newFS lets tests choose the base and the size of a piece (0: the default).
func newFS(o Options, base vfs.FS, pieceBytes int64) (*FS, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if err := MakeDir(base, o.Dir); err != nil {
		return nil, fmt.Errorf("make store directory: %w", err)
	}
	b, err := openBallast(o, base, pieceBytes)
	if err != nil {
		return nil, err
	}
	return &FS{FS: base, logger: o.Logger, ballast: b}, nil
}

// Close stops the ballast's goroutine. Open files stay usable; the ballast is
// not given back or regrown any more.
func (fs *FS) Close() error { return fs.ballast.close() }

// BallastBytes returns the size of the reserve when the disk is not full.
func (fs *FS) BallastBytes() int64 { return max(fs.ballast.want, 0) }

// AdmitUserWrite returns nil, or ErrDiskFull while the ballast is not whole or
// less than its size is free beside it. It costs one atomic load.
func (fs *FS) AdmitUserWrite() error {
	if fs.ballast.refusing.Load() {
		return ErrDiskFull
	}
	return nil
}

// admit is AdmitUserWrite for a write of category User: what is under way for
// users must not take the space that the ballast gave back for others.
func (fs *FS) admit(user bool) error {
	if user && fs.ballast.refusing.Load() {
		return &diskFullError{syscall.ENOSPC}
	}
	return nil
}

// Unwrap implements vfs.FS.
func (fs *FS) Unwrap() vfs.FS { return fs.FS }

// Create implements vfs.FS.
func (fs *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.open(category, func() (vfs.File, error) { return fs.FS.Create(name, category) })
}

// OpenReadWrite implements vfs.FS.
func (fs *FS) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	return fs.open(category, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, category, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (fs *FS) ReuseForWrite(
	oldname, newname string, category vfs.DiskWriteCategory,
) (vfs.File, error) {
	return fs.open(category, func() (vfs.File, error) { return fs.FS.ReuseForWrite(oldname, newname, category) })
}

// open opens a file for writing and wraps it as its category wants.
func (fs *FS) open(category vfs.DiskWriteCategory, open func() (vfs.File, error)) (vfs.File, error) {
	if err := fs.admit(category == User); err != nil {
		return nil, err
	}
	try := fs.try(category == User)
	f, err := open()
	for err != nil && try.again(&err) {
		f, err = open()
	}
	if err != nil {
		return nil, err
	}
	w := file{File: f, fs: fs, user: category == User}
	if category != Direct {
		return &w, nil
	}
	return newDirectFile(w), nil
}

// Link implements vfs.FS.
func (fs *FS) Link(oldname, newname string) error {
	return fs.change(func() error { return fs.FS.Link(oldname, newname) })
}

// Remove implements vfs.FS.
func (fs *FS) Remove(name string) error {
	return fs.change(func() error { return fs.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (fs *FS) RemoveAll(name string) error {
	return fs.change(func() error { return fs.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (fs *FS) Rename(oldname, newname string) error {
	return fs.change(func() error { return fs.FS.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (fs *FS) MkdirAll(dir string, perm os.FileMode) error {
	return fs.change(func() error { return fs.FS.MkdirAll(dir, perm) })
}

// Lock implements vfs.FS.
func (fs *FS) Lock(name string) (c io.Closer, err error) {
	err = fs.change(func() error { c, err = fs.FS.Lock(name); return err })
	return c, err
}

// Truncate cuts or extends the named file. The change is durable after a sync
// of the file.
func (fs *FS) Truncate(name string, size int64) error {
	return fs.change(func() error { return os.Truncate(name, size) })
}

// PunchHole gives the named file's bytes [off, off+n) back to the disk; they
// read as zeros and the size stays. Durable after a sync of the file.
func (fs *FS) PunchHole(name string, off, n int64) error {
	return fs.change(func() error { return punchHole(name, off, n) })
}

// change makes a change of the namespace, served from the ballast.
func (fs *FS) change(op func() error) error {
	try := fs.try(false)
	err := op()
	for err != nil && try.again(&err) {
		err = op()
	}
	return err
}

// attempt is one call that may be made again when the ballast gives way.
type attempt struct {
	ballast *ballast
	user    bool
	gen     uint64 // of the ballast when the call was last made
}

func (fs *FS) try(user bool) attempt {
	return attempt{ballast: fs.ballast, user: user, gen: fs.ballast.given.Load()}
}

// again reports whether the call that failed with *err should be made again
// because space was made for it. If not, and space was what it lacked, *err
// matches ErrDiskFull afterwards.
func (t *attempt) again(err *error) bool {
	if !isNoSpace(*err) {
		return false
	}
	if !t.user && t.ballast.give(&t.gen) {
		return true
	}
	*err = &diskFullError{*err}
	return false
}
