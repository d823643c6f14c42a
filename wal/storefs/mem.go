package storefs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// MemFS is a file system in memory for tests. It is vfs.MemFS, crashable, with
// what that lacks: it truncates and punches, writes far past the end of a file
// in reasonable time, and refuses unaligned writes to Direct files as the
// production FS does. Safe for concurrent use.
type MemFS struct {
	*vfs.MemFS
	// cloneMu keeps the clones away from changes of which vfs.MemFS does not
	// know, and TornClone from all changes of names and content.
	cloneMu sync.RWMutex
}

var _ vfs.FS = (*MemFS)(nil)

// NewMem returns an empty MemFS.
func NewMem() *MemFS { return &MemFS{MemFS: vfs.NewCrashableMem()} }

// CrashClone returns what a crash at this moment may leave: all that was
// synced, and of what was not, each block and each directory entry with the
// probability that cfg has. Handles of the old file system do not touch it.
func (m *MemFS) CrashClone(cfg vfs.CrashCloneCfg) *MemFS {
	m.cloneMu.Lock()
	defer m.cloneMu.Unlock()
	return &MemFS{MemFS: m.MemFS.CrashClone(cfg)}
}

// sectorBytes is what a disk writes at once or not at all.
const sectorBytes = 512

// TornClone returns what a crash at this moment may leave on a disk that tears
// writes: every name is there, and each sector of 512 bytes that was written
// and not synced is old, new or, rarely, garbage.
func (m *MemFS) TornClone(rng *rand.Rand) *MemFS {
	m.cloneMu.Lock()
	defer m.cloneMu.Unlock()
	all := &MemFS{MemFS: m.MemFS.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})}
	m.tear(all, "/", rng)
	return all
}

// tear tears the files of m in dir and below into clone, where all is new and
// synced.
func (m *MemFS) tear(clone *MemFS, dir string, rng *rand.Rand) {
	names, err := clone.List(dir)
	if err != nil {
		panic(err) // of a clone that nobody else has
	}
	slices.Sort(names)
	for _, name := range names {
		path := m.PathJoin(dir, name)
		from, err := m.MemFS.Open(path)
		if err != nil {
			continue // a name that is gone, and whose removal is not synced
		}
		if info, err := from.Stat(); err == nil && info.IsDir() {
			m.tear(clone, path, rng)
		} else {
			to, err := clone.MemFS.Open(path)
			if err != nil {
				panic(err)
			}
			old := nodeOf(from)
			torn := nodeOf(to)
			tearSectors(*torn.data, *old.syncedData, rng)
			*torn.syncedData = slices.Clone(*torn.data)
			to.Close()
		}
		from.Close()
	}
}

// tearSectors makes now what a crash may leave between old and it.
func tearSectors(now, old []byte, rng *rand.Rand) {
	for off := 0; off < len(now); off += sectorBytes {
		sector := now[off:min(off+sectorBytes, len(now))]
		was := make([]byte, len(sector))
		copy(was, old[min(off, len(old)):])
		switch {
		case bytes.Equal(was, sector) || rng.IntN(2) == 0:
		case rng.IntN(8) > 0:
			copy(sector, was)
		default:
			for i := range sector {
				sector[i] = byte(rng.Uint32())
			}
		}
	}
}

// Rename implements vfs.FS.
func (m *MemFS) Rename(oldname, newname string) error {
	m.cloneMu.RLock()
	defer m.cloneMu.RUnlock()
	return m.MemFS.Rename(oldname, newname)
}

// Remove implements vfs.FS.
func (m *MemFS) Remove(name string) error {
	m.cloneMu.RLock()
	defer m.cloneMu.RUnlock()
	return m.MemFS.Remove(name)
}

// Create implements vfs.FS.
func (m *MemFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	m.cloneMu.RLock()
	defer m.cloneMu.RUnlock()
	f, err := m.MemFS.Create(name, category)
	return m.wrap(f, category, err)
}

// OpenReadWrite implements vfs.FS.
func (m *MemFS) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	f, err := m.MemFS.OpenReadWrite(name, category, opts...)
	return m.wrap(f, category, err)
}

// ReuseForWrite implements vfs.FS.
func (m *MemFS) ReuseForWrite(
	oldname, newname string, category vfs.DiskWriteCategory,
) (vfs.File, error) {
	f, err := m.MemFS.ReuseForWrite(oldname, newname, category)
	return m.wrap(f, category, err)
}

func (m *MemFS) wrap(f vfs.File, category vfs.DiskWriteCategory, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &memFile{File: f, fs: m, direct: category == Direct}, nil
}

// Truncate implements Truncater. Until the file is synced, a crash may undo it.
func (m *MemFS) Truncate(name string, size int64) error {
	return m.edit(name, func(data *[]byte) { resize(data, int(size)) })
}

// PunchHole implements Puncher. Until the file is synced, a crash may undo it.
func (m *MemFS) PunchHole(name string, off, n int64) error {
	return m.edit(name, func(data *[]byte) {
		end := min(off+n, int64(len(*data)))
		clear((*data)[min(off, end):end])
	})
}

func (m *MemFS) edit(name string, edit func(data *[]byte)) error {
	f, err := m.MemFS.Open(name)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	m.cloneMu.RLock()
	defer m.cloneMu.RUnlock()
	editFile(f, edit)
	return nil
}

// editFile lets edit change the content of f, which must be of vfs.MemFS. The
// caller holds cloneMu.
func editFile(f vfs.File, edit func(data *[]byte)) {
	n := nodeOf(f)
	n.mu.Lock()
	defer n.mu.Unlock()
	edit(n.data)
}

// node is the content of a file of vfs.MemFS.
type node struct {
	mu         *sync.Mutex
	data       *[]byte
	syncedData *[]byte
}

// nodeOf returns the content of f, which must be of vfs.MemFS. That has no way
// to shorten a file that keeps open handles and unsynced state as they are, nor
// to see that state, so this reaches into it; the fields are those of the
// pinned Pebble, and TestMemTruncate and TestTornClone stand guard.
func nodeOf(f vfs.File) node {
	mu := reflect.ValueOf(f).Elem().FieldByName("n").Elem().FieldByName("mu")
	at := func(field string) unsafe.Pointer { return unsafe.Pointer(mu.FieldByName(field).UnsafeAddr()) }
	return node{mu: (*sync.Mutex)(at("Mutex")), data: (*[]byte)(at("data")), syncedData: (*[]byte)(at("syncedData"))}
}

func resize(data *[]byte, size int) {
	if size <= len(*data) {
		*data = (*data)[:size]
		return
	}
	*data = append(*data, make([]byte, size-len(*data))...)
}

type memFile struct {
	vfs.File
	fs     *MemFS
	direct bool
}

// Write implements vfs.File.
func (f *memFile) Write(p []byte) (int, error) {
	if f.direct && len(p)%BlockSize != 0 {
		return 0, fmt.Errorf("write %d bytes: %w", len(p), ErrUnaligned)
	}
	f.fs.cloneMu.RLock()
	defer f.fs.cloneMu.RUnlock()
	return f.File.Write(p)
}

// WriteAt implements vfs.File.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if f.direct && (off%BlockSize != 0 || len(p)%BlockSize != 0) {
		return 0, fmt.Errorf("write %d bytes at %d: %w", len(p), off, ErrUnaligned)
	}
	f.fs.cloneMu.RLock()
	defer f.fs.cloneMu.RUnlock()
	// vfs.MemFS grows a file byte by byte.
	editFile(f.File, func(data *[]byte) {
		if end := int(off) + len(p); end > len(*data) {
			resize(data, end)
		}
	})
	return f.File.WriteAt(p, off)
}

// Sync implements vfs.File.
func (f *memFile) Sync() error {
	f.fs.cloneMu.RLock()
	defer f.fs.cloneMu.RUnlock()
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f *memFile) SyncData() error { return f.Sync() }
