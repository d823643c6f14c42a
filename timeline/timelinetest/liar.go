package timelinetest

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Liar is a file system that does not do what it says, in one area. For
// negative controls: a check that such a disk passes is no check.
type Liar struct {
	vfs.FS
	Area Area
	// IgnoreSyncs says that nothing is synced.
	IgnoreSyncs bool
	// DropWrite, when positive, counts down the calls of WriteAt and Write; the
	// one that makes it zero writes nothing and reports success.
	DropWrite int
	mu        sync.Mutex
}

// Unwrap implements vfs.FS.
func (l *Liar) Unwrap() vfs.FS { return l.FS }

func (l *Liar) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || areaOf(name) != l.Area {
		return f, err
	}
	return &lyingFile{File: f, liar: l}, nil
}

// Create implements vfs.FS.
func (l *Liar) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, c)
	return l.wrap(name, f, err)
}

// OpenReadWrite implements vfs.FS.
func (l *Liar) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := l.FS.OpenReadWrite(name, c, o...)
	return l.wrap(name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (l *Liar) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(from, to, c)
	return l.wrap(to, f, err)
}

func (l *Liar) drops() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.DropWrite == 0 {
		return false
	}
	l.DropWrite--
	return l.DropWrite == 0
}

type lyingFile struct {
	vfs.File
	liar *Liar
}

func (f *lyingFile) Write(p []byte) (int, error) {
	if f.liar.drops() {
		return len(p), nil
	}
	return f.File.Write(p)
}

func (f *lyingFile) WriteAt(p []byte, off int64) (int, error) {
	if f.liar.drops() {
		return len(p), nil
	}
	return f.File.WriteAt(p, off)
}

func (f *lyingFile) Sync() error {
	if f.liar.IgnoreSyncs {
		return nil
	}
	return f.File.Sync()
}

func (f *lyingFile) SyncData() error {
	if f.liar.IgnoreSyncs {
		return nil
	}
	return f.File.SyncData()
}

func (f *lyingFile) SyncTo(n int64) (bool, error) {
	if f.liar.IgnoreSyncs {
		return false, nil
	}
	return f.File.SyncTo(n)
}
