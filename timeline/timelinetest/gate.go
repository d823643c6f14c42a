package timelinetest

import (
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// gate lets a crash clone wait for the changes that are under way, and hold
// up those to come, so that several clones show one moment.
type gate struct {
	vfs.FS
	mu sync.RWMutex
}

// Unwrap implements vfs.FS.
func (g *gate) Unwrap() vfs.FS { return g.FS }

func (g *gate) change(fn func() error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return fn()
}

func (g *gate) open(open func() (vfs.File, error)) (vfs.File, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	f, err := open()
	if err != nil {
		return nil, err
	}
	return &gatedFile{File: f, gate: g}, nil
}

// Create implements vfs.FS.
func (g *gate) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(func() (vfs.File, error) { return g.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (g *gate) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.open(func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

// ReuseForWrite implements vfs.FS.
func (g *gate) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, c) })
}

// Open implements vfs.FS: a file opened for reading can be synced.
func (g *gate) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	return g.open(func() (vfs.File, error) { return g.FS.Open(name, o...) })
}

// OpenDir implements vfs.FS.
func (g *gate) OpenDir(name string) (vfs.File, error) {
	return g.open(func() (vfs.File, error) { return g.FS.OpenDir(name) })
}

// Link implements vfs.FS.
func (g *gate) Link(from, to string) error {
	return g.change(func() error { return g.FS.Link(from, to) })
}

// Remove implements vfs.FS.
func (g *gate) Remove(name string) error {
	return g.change(func() error { return g.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (g *gate) RemoveAll(name string) error {
	return g.change(func() error { return g.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (g *gate) Rename(from, to string) error {
	return g.change(func() error { return g.FS.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (g *gate) MkdirAll(dir string, perm os.FileMode) error {
	return g.change(func() error { return g.FS.MkdirAll(dir, perm) })
}

type gatedFile struct {
	vfs.File
	gate *gate
}

func (f *gatedFile) Write(p []byte) (int, error) {
	f.gate.mu.RLock()
	defer f.gate.mu.RUnlock()
	return f.File.Write(p)
}

func (f *gatedFile) WriteAt(p []byte, off int64) (int, error) {
	f.gate.mu.RLock()
	defer f.gate.mu.RUnlock()
	return f.File.WriteAt(p, off)
}

func (f *gatedFile) Sync() error     { return f.gate.change(f.File.Sync) }
func (f *gatedFile) SyncData() error { return f.gate.change(f.File.SyncData) }

func (f *gatedFile) SyncTo(n int64) (full bool, err error) {
	f.gate.mu.RLock()
	defer f.gate.mu.RUnlock()
	return f.File.SyncTo(n)
}
