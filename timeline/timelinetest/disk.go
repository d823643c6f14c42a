package timelinetest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"stemma/wal/storefs"
)

// Area is a part of a data directory, named as its subdirectory is.
type Area string

// The areas.
const (
	AreaWAL     Area = "wal"
	AreaLayers  Area = "layers"
	AreaValues  Area = "values"
	AreaCatalog Area = "catalog"
)

// dataDir is the data directory on every Disk.
const dataDir = "data"

// ErrInjected marks the failures that a Disk makes up.
var ErrInjected = errors.New("timelinetest: injected")

// Disk is a file system in memory that crashes, fails and lies on demand. FS
// is what a store is opened on. Safe for concurrent use.
type Disk struct {
	mem  *storefs.MemFS
	gate *gate
	fs   vfs.FS

	mu struct {
		sync.Mutex
		rng   *rand.Rand
		crash *trigger
		// clone is what the crash left.
		clone *storefs.MemFS
		fail  *Fault
		hits  int // failures so far
		calls int // that matched fail
	}
}

// trigger fires at the k-th call that changes a file of area.
type trigger struct {
	area    Area
	k       int
	percent int // of unsynced blocks that survive
}

// Fault is a failure to come.
type Fault struct {
	Area  Area
	Reads bool // fail reads; otherwise what changes or syncs files
	After int  // calls that still succeed
	Times int  // calls that fail then
	Err   error
}

// NewDisk returns a disk with the content of mem. The seed decides what crashes
// leave of unsynced data. lie is nil, or changes what lies below the faults.
func NewDisk(mem *storefs.MemFS, seed uint64, lie func(vfs.FS) vfs.FS) *Disk {
	d := &Disk{mem: mem}
	d.mu.rng = rand.New(rand.NewPCG(seed, 0xd15c))
	d.gate = &gate{FS: mem}
	below := vfs.FS(d.gate)
	if lie != nil {
		below = lie(below)
	}
	d.fs = errorfs.Wrap(below, errorfs.InjectorFunc(d.call))
	return d
}

// FS returns the file system for a store.
func (d *Disk) FS() vfs.FS { return d.fs }

// call sees every file system call before it is made.
func (d *Disk) call(op errorfs.Op) error {
	area := areaOf(op.Path)
	write := op.Kind.ReadOrWrite() == errorfs.OpIsWrite
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.mu.crash; c != nil && write && (c.area == "" || c.area == area) {
		if c.k--; c.k < 0 {
			d.mu.clone = d.cloneLocked(c.percent)
			d.mu.crash = nil
		}
	}
	if f := d.mu.fail; f != nil && area == f.Area && write != f.Reads && op.Kind != errorfs.OpLock {
		d.mu.calls++
		if f.After > 0 {
			f.After--
			return nil
		}
		if f.Times > 0 {
			f.Times--
			d.mu.hits++
			return fmt.Errorf("%s: %w: %w", op.Path, ErrInjected, f.Err)
		}
	}
	return nil
}

// areaOf returns the area of a path below dataDir.
func areaOf(p string) Area {
	dir, base := path.Split(path.Clean(p))
	if path.Base(dir) == dataDir {
		return Area(base) // the directory itself
	}
	return Area(path.Base(dir))
}

// CrashAt takes a crash clone right before the k-th call from now on that
// changes or syncs a file of area ("": any).
func (d *Disk) CrashAt(area Area, k, percent int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.crash = &trigger{area, k, percent}
}

// CrashHere takes a crash clone right now, unless there was a crash before. Torn:
// all names survive, and of the unsynced data any sectors.
func (d *Disk) CrashHere(percent int, torn bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.crash = nil
	switch {
	case d.mu.clone != nil:
	case torn:
		d.gate.mu.Lock()
		defer d.gate.mu.Unlock()
		d.mu.clone = d.mem.TornClone(d.mu.rng)
	default:
		d.mu.clone = d.cloneLocked(percent)
	}
}

// Crashed returns what the crash left, nil as long as there was none.
func (d *Disk) Crashed() *storefs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.clone
}

// Crash returns what a crash right now leaves, with percent of the unsynced blocks.
func (d *Disk) Crash(percent int) *storefs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.crash = nil
	return d.cloneLocked(percent)
}

// cloneLocked returns what a crash leaves. Of unsynced entries in a directory
// any may survive, except in the catalog's: Pebble counts on file systems that
// keep the order of changes to one directory, so there it is all or none.
func (d *Disk) cloneLocked(percent int) *storefs.MemFS {
	d.gate.mu.Lock()
	defer d.gate.mu.Unlock()
	clone := d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: d.mu.rng})
	if percent == 0 || percent == 100 {
		return clone
	}
	entries := d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100 * d.mu.rng.IntN(2), RNG: d.mu.rng})
	if err := takeEntries(clone, entries, path.Join(dataDir, string(AreaCatalog))); err != nil {
		panic("BUG: crash clone: " + err.Error())
	}
	return clone
}

// takeEntries gives dir in fs exactly the files that it has in from. The
// content of those that fs lacks comes from there too.
func takeEntries(fs, from *storefs.MemFS, dir string) error {
	names, err := from.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fs.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	have, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range have {
		if !slices.Contains(names, name) {
			if err := fs.Remove(path.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		if slices.Contains(have, name) {
			continue
		}
		if err := copyFile(fs, from, path.Join(dir, name)); err != nil {
			return err
		}
	}
	return errors.Join(storefs.SyncDir(fs, dir), storefs.SyncDir(fs, dataDir), storefs.SyncDir(fs, "/"))
}

func copyFile(to, from *storefs.MemFS, name string) error {
	src, err := from.Open(name)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(src)
	if err = errors.Join(err, src.Close()); err != nil {
		return err
	}
	dst, err := to.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = dst.Write(data)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// Fail arms f in the place of what was armed before.
func (d *Disk) Fail(f Fault) {
	if f.Err == nil {
		f.Err = syscall.EIO
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.fail, d.mu.calls, d.mu.hits = &f, 0, 0
}

// Snapshot returns a copy of the disk with all its files, and those whose
// removal was not synced yet.
func (d *Disk) Snapshot() *storefs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: d.mu.rng})
}

// Heal ends all failures and returns how many there were since Fail, and how
// many calls could have failed.
func (d *Disk) Heal() (hits, calls int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hits, calls = d.mu.hits, d.mu.calls
	d.mu.fail, d.mu.hits, d.mu.calls = nil, 0, 0
	return hits, calls
}

// Hits returns the number of failures since Fail.
func (d *Disk) Hits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.hits
}

// Flip inverts one bit of a file at rest, for negative controls.
func (d *Disk) Flip(area Area, name string, off int64) error {
	f, err := d.mem.MemFS.OpenReadWrite(path.Join(dataDir, string(area), name), "")
	if err != nil {
		return err
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		return errors.Join(err, f.Close())
	}
	b[0] ^= 1
	_, err = f.WriteAt(b[:], off)
	return errors.Join(err, f.Sync(), f.Close())
}

// List returns the names of the files of an area and their sizes.
func (d *Disk) List(area Area) (map[string]int64, error) {
	dir := path.Join(dataDir, string(area))
	names, err := d.mem.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // nothing was ever synced
	}
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int64, len(names))
	for _, name := range names {
		info, err := d.mem.Stat(path.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		sizes[name] = info.Size()
	}
	return sizes, nil
}
