package storefs

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Truncater is a vfs.FS that can change the size of a file.
type Truncater interface {
	Truncate(name string, size int64) error
}

// Puncher is a vfs.FS that can deallocate part of a file.
type Puncher interface {
	PunchHole(name string, off, n int64) error
}

// Truncate makes the named file size bytes long, on fs or the first file system
// that it wraps which can. Durable after a sync of the file. Without one that
// can: errors.ErrUnsupported.
func Truncate(fs vfs.FS, name string, size int64) error {
	t, ok := find[Truncater](fs)
	if !ok {
		return fmt.Errorf("truncate %s: %w", name, errors.ErrUnsupported)
	}
	return t.Truncate(name, size)
}

// PunchHole deallocates bytes [off, off+n) of the named file: they read as
// zeros, the size stays. It finds its way as Truncate does.
func PunchHole(fs vfs.FS, name string, off, n int64) error {
	p, ok := find[Puncher](fs)
	if !ok {
		return fmt.Errorf("punch hole in %s: %w", name, errors.ErrUnsupported)
	}
	return p.PunchHole(name, off, n)
}

// find returns the outermost of fs and what it wraps that is a T.
func find[T any](fs vfs.FS) (T, bool) {
	for fs != nil {
		if t, ok := fs.(T); ok {
			return t, true
		}
		fs = fs.Unwrap()
	}
	var none T
	return none, false
}

// SyncDir makes the names in dir durable: creations, renames, removals.
func SyncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// MakeDir makes dir and what is missing above it, durably: each directory that
// gets a new entry is synced.
func MakeDir(fs vfs.FS, dir string) error {
	var in []string // the directories that get a new entry, deepest first
	for d := dir; ; {
		if _, err := fs.Stat(d); err == nil {
			break
		}
		parent := fs.PathDir(d)
		in = append(in, parent)
		if parent == d {
			break
		}
		d = parent
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range in {
		if err := SyncDir(fs, d); err != nil {
			return err
		}
	}
	return nil
}

// AllocatedBytes returns how much of the size of a file, of which a Stat has said
// info, takes space on the disk: less than the size when it has holes. ok is
// false where the file system cannot tell.
func AllocatedBytes(info vfs.FileInfo) (n int64, ok bool) {
	blocks, ok := statBlocks(info.Sys())
	if !ok {
		return 0, false
	}
	return min(info.Size(), blocks*512), true
}
