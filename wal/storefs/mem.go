package storefs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
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

	// writtenMu guards the map and refs of what is in it: the files that are open for
	// writing, by their lock. Order: cloneMu, writtenMu, the lock of a file.
	writtenMu sync.Mutex
	written   map[*sync.Mutex]*written
}

// written is the part of a file that was written since it was last synced, so that a sync costs
// what it has to sync and not what the file holds. from and to are guarded by the file's lock.
type written struct {
	refs     int // open handles
	from, to int // to may be past the end
}

func (w *written) add(from, to int) {
	if w.from == w.to {
		w.from, w.to = from, to
		return
	}
	w.from, w.to = min(w.from, from), max(w.to, to)
}

func (w *written) addAll() { w.add(0, math.MaxInt) }

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
	n := nodeOf(f)
	m.writtenMu.Lock()
	defer m.writtenMu.Unlock()
	w := m.written[n.mu]
	if w == nil {
		w = &written{}
		w.addAll() // by whoever wrote it before
		if m.written == nil {
			m.written = make(map[*sync.Mutex]*written)
		}
		m.written[n.mu] = w
	}
	w.refs++
	return &memFile{File: f, fs: m, direct: category == Direct, node: n, written: w}, nil
}

// closed forgets a handle.
func (m *MemFS) closed(f *memFile) {
	m.writtenMu.Lock()
	defer m.writtenMu.Unlock()
	if f.written.refs--; f.written.refs == 0 {
		delete(m.written, f.node.mu)
	}
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
	n := nodeOf(f)
	m.writtenMu.Lock()
	defer m.writtenMu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	edit(n.data)
	if w := m.written[n.mu]; w != nil {
		w.addAll()
	}
	return nil
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
	more := size - len(*data)
	if size > cap(*data) {
		*data = slices.Grow(*data, max(more, len(*data)))
	}
	*data = append(*data, make([]byte, more)...)
}

type memFile struct {
	vfs.File
	fs      *MemFS
	direct  bool
	node    node
	written *written
	at      int // where Read and Write go on
}

// Close implements vfs.File.
func (f *memFile) Close() error {
	f.fs.closed(f)
	return f.File.Close()
}

// Read implements vfs.File.
func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.at += n
	return n, err
}

// Write implements vfs.File.
func (f *memFile) Write(p []byte) (int, error) {
	if f.direct && len(p)%BlockSize != 0 {
		return 0, fmt.Errorf("write %d bytes: %w", len(p), ErrUnaligned)
	}
	f.fs.cloneMu.RLock()
	defer f.fs.cloneMu.RUnlock()
	n, err := f.File.Write(p)
	f.wrote(f.at, n)
	f.at += n
	return n, err
}

// wrote notes what has been written. A sync before that had no duty to it.
func (f *memFile) wrote(at, n int) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	f.written.add(at, at+n)
}

// WriteAt implements vfs.File.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if f.direct && (off%BlockSize != 0 || len(p)%BlockSize != 0) {
		return 0, fmt.Errorf("write %d bytes at %d: %w", len(p), off, ErrUnaligned)
	}
	f.fs.cloneMu.RLock()
	defer f.fs.cloneMu.RUnlock()
	if f.growZeros(int(off), p) {
		return len(p), nil
	}
	n, err := f.File.WriteAt(p, off)
	f.wrote(int(off), n)
	return n, err
}

// growZeros makes the file long enough for p at off; vfs.MemFS does it byte by byte. It reports
// whether that wrote p: zeros behind the end, with which log segments are filled. They count as
// written only by the length of the file: a sync makes zeros of what was not there.
func (f *memFile) growZeros(off int, p []byte) bool {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	size := len(*f.node.data)
	if off+len(p) > size {
		resize(f.node.data, off+len(p))
	}
	return off >= size && allZeros(p)
}

// allZeros reports whether p has no other byte. The race detector would look at each of them.
//
//go:norace
func allZeros(p []byte) bool {
	for ; len(p) >= 8; p = p[8:] {
		if binary.NativeEndian.Uint64(p) != 0 {
			return false
		}
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// Sync implements vfs.File. It does what vfs.MemFS does, which copies the whole file.
func (f *memFile) Sync() error {
	f.fs.cloneMu.RLock()
	defer f.fs.cloneMu.RUnlock()
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	data, synced, w := *f.node.data, *f.node.syncedData, f.written
	resize(&synced, len(data))
	if to := min(w.to, len(data)); w.from < to {
		copy(synced[w.from:to], data[w.from:to])
	}
	*f.node.syncedData = synced
	w.from, w.to = 0, 0
	return nil
}

// SyncData implements vfs.File.
func (f *memFile) SyncData() error { return f.Sync() }
