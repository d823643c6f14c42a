package storefs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

const (
	testPiece   = 1 << 20
	testBallast = 4 * testPiece
)

// fullDisk is a disk that refuses every operation of a kind in ops until the
// ballast in dir is at most limit bytes. It counts refusals.
type fullDisk struct {
	dir     string
	limit   atomic.Int64 // <0: the disk has space
	refused atomic.Int64
	free    atomic.Int64
	errno   error
	ops     map[errorfs.OpKind]bool
}

func (d *fullDisk) MaybeError(op errorfs.Op) error {
	limit := d.limit.Load()
	if limit < 0 || !d.ops[op.Kind] {
		return nil
	}
	if fi, err := os.Stat(filepath.Join(d.dir, ballastName)); err == nil && fi.Size() <= limit {
		return nil
	}
	d.refused.Add(1)
	return &os.PathError{Op: "write", Path: op.Path, Err: d.errno}
}

func (d *fullDisk) String() string { return "full disk" }

var writeOps = map[errorfs.OpKind]bool{
	errorfs.OpCreate: true, errorfs.OpRename: true, errorfs.OpMkdirAll: true, errorfs.OpLink: true, errorfs.OpLock: true,
	errorfs.OpFileWrite: true, errorfs.OpFileWriteAt: true, errorfs.OpFilePreallocate: true, errorfs.OpReuseForWrite: true,
	errorfs.OpOpen: true,
}

func openFull(t *testing.T) (*FS, *fullDisk) {
	t.Helper()
	d := &fullDisk{dir: t.TempDir(), errno: syscall.ENOSPC, ops: writeOps}
	d.limit.Store(-1)
	d.free.Store(1 << 40)
	base := errorfs.Wrap(vfs.Default, d)
	fs, _ := openFS(t, Options{Dir: d.dir, BallastBytes: testBallast}, base, testPiece)
	// The goroutine polls as well; the tests' answers do not depend on it.
	fs.ballast.mu.Lock()
	fs.ballast.free = func() (int64, error) { return d.free.Load(), nil }
	fs.ballast.mu.Unlock()
	fs.ballast.poll()
	if got := d.held(t); got != testBallast {
		t.Fatalf("ballast of %d bytes, want %d", got, testBallast)
	}
	return fs, d
}

func (d *fullDisk) held(t *testing.T) int64 {
	t.Helper()
	fi, err := os.Stat(filepath.Join(d.dir, ballastName))
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

// TestBallastServes fails every kind of call until two pieces are given.
func TestBallastServes(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		calls := map[string]func(fs *FS, f, direct vfs.File, path func(string) string) error{
			"create": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				g, err := fs.Create(path("new"), vfs.WriteCategoryUnspecified)
				if err == nil {
					g.Close()
				}
				return err
			},
			"open": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				g, err := fs.OpenReadWrite(path("new"), Direct)
				if err == nil {
					g.Close()
				}
				return err
			},
			"reuse": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				g, err := fs.ReuseForWrite(path("f"), path("new"), vfs.WriteCategoryUnspecified)
				if err == nil {
					g.Close()
				}
				return err
			},
			"lock": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				c, err := fs.Lock(path("lock"))
				if err == nil {
					c.Close()
				}
				return err
			},
			"rename": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				return fs.Rename(path("f"), path("new"))
			},
			"link": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				return fs.Link(path("f"), path("new"))
			},
			"mkdir": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				return fs.MkdirAll(path("new"), 0o755)
			},
			"write": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				_, err := f.Write([]byte("abc"))
				return err
			},
			"writeat": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				_, err := f.WriteAt([]byte("abc"), 10)
				return err
			},
			"direct": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				_, err := direct.WriteAt(make([]byte, BlockSize), 0)
				return err
			},
			"preallocate": func(fs *FS, f, direct vfs.File, path func(string) string) error {
				return f.Preallocate(0, BlockSize)
			},
		}
		for name, call := range calls {
			t.Run(name, func(t *testing.T) {
				fs, d := openFull(t)
				d.errno = errno
				path := func(s string) string { return filepath.Join(d.dir, s) }
				f, err := fs.Create(path("f"), vfs.WriteCategoryUnspecified)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				direct, err := fs.Create(path("direct"), Direct)
				if err != nil {
					t.Fatal(err)
				}
				defer direct.Close()
				if err := fs.AdmitUserWrite(); err != nil {
					t.Fatal(err)
				}

				d.free.Store(0)
				d.limit.Store(testBallast - 2*testPiece)
				if err := call(fs, f, direct, path); err != nil {
					t.Fatalf("not served: %v", err)
				}
				if n := d.refused.Load(); n != 2 {
					t.Fatalf("%d refusals, want 2", n)
				}
				if err := fs.AdmitUserWrite(); !errors.Is(err, ErrDiskFull) {
					t.Fatalf("user write: %v, want ErrDiskFull", err)
				}
				d.limit.Store(-1)
				fs.ballast.poll()
				if err := fs.AdmitUserWrite(); !errors.Is(err, ErrDiskFull) {
					t.Fatalf("user write without space: %v, want ErrDiskFull", err)
				}
				d.free.Store(1 << 40)
				fs.ballast.poll()
				if err := fs.AdmitUserWrite(); err != nil || d.held(t) != testBallast {
					t.Fatalf("after space came back: %v, ballast %d", err, d.held(t))
				}
			})
		}
	}
}

// TestBallastRunsOut gives all of it and then fails with the system's error.
func TestBallastRunsOut(t *testing.T) {
	fs, d := openFull(t)
	f, err := fs.Create(filepath.Join(d.dir, "f"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d.free.Store(0)
	d.limit.Store(0)
	d.ops = map[errorfs.OpKind]bool{errorfs.OpFileWrite: true, errorfs.OpFileSync: true, errorfs.OpFileSyncData: true}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatalf("the last piece did not serve: %v", err)
	}
	if got := d.held(t); got != 0 {
		t.Fatalf("%d bytes left", got)
	}
	os.Remove(filepath.Join(d.dir, ballastName)) // the disk refuses from now on
	_, err = f.Write([]byte("x"))
	if !errors.Is(err, ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) || !IsDiskFull(err) {
		t.Fatalf("got %v, want ErrDiskFull and ENOSPC", err)
	}
	for _, sync := range []func() error{f.Sync, f.SyncData} {
		if err := sync(); !errors.Is(err, ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("sync: %v, want ErrDiskFull and ENOSPC", err)
		}
	}
}

// TestBallastIsNotForUsers leaves the ballast whole. Its twin with another
// category, TestBallastServes, uses it.
func TestBallastIsNotForUsers(t *testing.T) {
	fs, d := openFull(t)
	f, err := fs.Create(filepath.Join(d.dir, "f"), User)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d.limit.Store(0)
	if _, err := f.Write([]byte("x")); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("write: %v, want ErrDiskFull", err)
	}
	if err := f.Preallocate(0, 10); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("preallocate: %v, want ErrDiskFull", err)
	}
	if _, err := fs.Create(filepath.Join(d.dir, "g"), User); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("create: %v, want ErrDiskFull", err)
	}
	if got := d.held(t); got != testBallast {
		t.Fatalf("ballast of %d bytes, want %d", got, testBallast)
	}
}

// TestWatermark refuses users while the ballast is whole but little is beside it.
func TestWatermark(t *testing.T) {
	fs, d := openFull(t)
	for _, c := range []struct {
		free  int64
		admit bool
	}{{testBallast, true}, {testBallast - 1, false}, {0, false}, {testBallast + 1, true}} {
		d.free.Store(c.free)
		fs.ballast.poll()
		if err := fs.AdmitUserWrite(); (err == nil) != c.admit {
			t.Fatalf("%d bytes free: %v", c.free, err)
		}
	}
}

// TestBallastConcurrent has many writers fail at once; they must not give more
// than is needed by much, nor hang.
func TestBallastConcurrent(t *testing.T) {
	fs, d := openFull(t)
	d.free.Store(0)
	d.limit.Store(testBallast - testPiece)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			f, err := fs.Create(filepath.Join(d.dir, string(rune('a'+i))), vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if _, err := f.Write([]byte("x")); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if got := d.held(t); got != testBallast-testPiece {
		t.Fatalf("ballast of %d bytes, want %d: one piece serves all", got, testBallast-testPiece)
	}
}

func TestBallastOptions(t *testing.T) {
	dir := t.TempDir()
	stat := func() int64 {
		fi, err := os.Stat(filepath.Join(dir, ballastName))
		if errors.Is(err, os.ErrNotExist) {
			return -1
		}
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	for _, c := range []struct{ option, want int64 }{
		{testBallast, testBallast}, {2 * testPiece, 2 * testPiece}, {testBallast + 1, testBallast + BlockSize}, {-1, -1},
	} {
		fs, err := newFS(Options{Dir: dir, BallastBytes: c.option}, vfs.Default, testPiece)
		if err != nil {
			t.Fatal(err)
		}
		if got := stat(); got != c.want {
			t.Fatalf("option %d: %d bytes, want %d", c.option, got, c.want)
		}
		if err := errors.Join(fs.Close(), fs.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// A file of the right size that holds nothing is filled.
	if err := os.WriteFile(filepath.Join(dir, ballastName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, ballastName), testBallast); err != nil {
		t.Fatal(err)
	}
	fs, l := openFS(t, Options{Dir: dir, BallastBytes: testBallast}, vfs.Default, testPiece)
	fs.ballast.mu.Lock()
	held, err := allocated(fs.ballast.mu.f)
	fs.ballast.mu.Unlock()
	if err != nil || held != testBallast {
		t.Fatalf("holds %d bytes (%v), want %d", held, err, testBallast)
	}
	if strings.Contains(l.String(), "WARN") {
		t.Fatal(l)
	}
}
