package storefs

import (
	"fmt"
	"reflect"
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
	// cloneMu keeps CrashClone away from resizes, of which vfs.MemFS does not
	// know.
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

// Create implements vfs.FS.
func (m *MemFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
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
	m.editFile(f, edit)
	return nil
}

// editFile lets edit change the content of f, which must be of vfs.MemFS. That
// has no way to shorten a file that keeps open handles and unsynced state as
// they are, so this reaches into its node; the fields are those of the pinned
// Pebble, and TestMemTruncate stands guard.
func (m *MemFS) editFile(f vfs.File, edit func(data *[]byte)) {
	m.cloneMu.RLock()
	defer m.cloneMu.RUnlock()
	node := reflect.ValueOf(f).Elem().FieldByName("n").Elem().FieldByName("mu")
	mu := (*sync.Mutex)(unsafe.Pointer(node.FieldByName("Mutex").UnsafeAddr()))
	data := (*[]byte)(unsafe.Pointer(node.FieldByName("data").UnsafeAddr()))
	mu.Lock()
	defer mu.Unlock()
	edit(data)
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
	return f.File.Write(p)
}

// WriteAt implements vfs.File.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if f.direct && (off%BlockSize != 0 || len(p)%BlockSize != 0) {
		return 0, fmt.Errorf("write %d bytes at %d: %w", len(p), off, ErrUnaligned)
	}
	// vfs.MemFS grows a file byte by byte.
	f.fs.editFile(f.File, func(data *[]byte) {
		if end := int(off) + len(p); end > len(*data) {
			resize(data, end)
		}
	})
	return f.File.WriteAt(p, off)
}
