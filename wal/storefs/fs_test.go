package storefs

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// logs is a log that a test reads.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func openFS(t *testing.T, o Options, base vfs.FS, piece int64) (*FS, *logs) {
	t.Helper()
	l := new(logs)
	o.Logger = l.logger()
	fs, err := newFS(o, base, piece)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return fs, l
}

func patterned(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

// testDirect writes and reads a Direct file with aligned and unaligned memory.
func testDirect(t *testing.T, fs vfs.FS, dir string) {
	t.Helper()
	name := fs.PathJoin(dir, "direct")
	f, err := fs.Create(name, Direct)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { f.Close() }()
	want := patterned(bounceBytes + 3*BlockSize)
	block := AlignedBlock(len(want) + BlockSize)
	copy(block, want)
	if n, err := f.WriteAt(block[:len(want)], 0); err != nil || n != len(want) {
		t.Fatalf("aligned write: %d, %v", n, err)
	}
	odd := append([]byte{0}, want...)[1:]
	if n, err := f.WriteAt(odd, int64(len(want))); err != nil || n != len(want) {
		t.Fatalf("unaligned write: %d, %v", n, err)
	}
	if _, err := f.WriteAt(block[:BlockSize], 100); !errors.Is(err, ErrUnaligned) {
		t.Fatalf("write at 100: %v, want ErrUnaligned", err)
	}
	if _, err := f.WriteAt(block[:100], 0); !errors.Is(err, ErrUnaligned) {
		t.Fatalf("write of 100: %v, want ErrUnaligned", err)
	}
	if _, err := f.Write(block[:100]); !errors.Is(err, ErrUnaligned) {
		t.Fatalf("sequential write of 100: %v, want ErrUnaligned", err)
	}
	if err := f.SyncData(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if f, err = fs.OpenReadWrite(name, Direct); err != nil {
		t.Fatal(err)
	}
	all := append(bytes.Clone(want), want...)
	for _, c := range []struct{ off, n int }{
		{0, len(all)}, {0, BlockSize}, {1, 1}, {BlockSize - 1, 2}, {777, bounceBytes},
		{len(all) - 10, 10}, {len(want) - 5, 2*BlockSize + 10},
	} {
		got := make([]byte, c.n)
		if n, err := f.ReadAt(got, int64(c.off)); n != c.n || (err != nil && err != io.EOF) {
			t.Fatalf("read %d at %d: %d, %v", c.n, c.off, n, err)
		}
		if !bytes.Equal(got, all[c.off:c.off+c.n]) {
			t.Fatalf("read %d at %d: wrong bytes", c.n, c.off)
		}
	}
	if n, err := f.ReadAt(make([]byte, 20), int64(len(all))-10); n != 10 || err != io.EOF {
		t.Fatalf("read across the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(block[:BlockSize], int64(len(all))); n != 0 || err != io.EOF {
		t.Fatalf("read at the end: %d, %v", n, err)
	}
	buffered, err := os.ReadFile(name)
	if err == nil && !bytes.Equal(buffered, all) {
		t.Fatal("a buffered read sees other bytes")
	}
}

func TestDirect(t *testing.T) {
	dir := t.TempDir()
	fs, l := openFS(t, Options{Dir: dir, BallastBytes: -1}, vfs.Default, 0)
	testDirect(t, fs, dir)
	t.Logf("log: %q", l)
}

func TestDirectInMemory(t *testing.T) {
	fs := NewMem()
	f, err := fs.OpenReadWrite("x", Direct)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ off, n int }{{1, BlockSize}, {0, 1}} {
		if _, err := f.WriteAt(make([]byte, c.n), int64(c.off)); !errors.Is(err, ErrUnaligned) {
			t.Fatalf("write %d at %d: %v, want ErrUnaligned", c.n, c.off, err)
		}
	}
	if _, err := f.Write(make([]byte, 5)); !errors.Is(err, ErrUnaligned) {
		t.Fatalf("got %v, want ErrUnaligned", err)
	}
	if _, err := f.WriteAt(patterned(BlockSize), 8<<20); err != nil {
		t.Fatal(err)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != 8<<20+BlockSize {
		t.Fatalf("size %v, %v", fi, err)
	}
}

// TestDirectOnTmpfs runs where O_DIRECT may be refused at open.
func TestDirectOnTmpfs(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "storefs")
	if err != nil {
		t.Skip("no tmpfs: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	fs, l := openFS(t, Options{Dir: dir, BallastBytes: -1}, vfs.Default, 0)
	testDirect(t, fs, dir)
	testDirect(t, fs, dir)
	if n := strings.Count(l.String(), "level=WARN"); n > 1 {
		t.Fatalf("%d warnings, want at most one:\n%s", n, l)
	}
}

// TestDirectRefusedAtFirstUse has a disk that takes the flag and then fails the
// I/O.
func TestDirectRefusedAtFirstUse(t *testing.T) {
	dir := t.TempDir()
	failed := map[string]bool{}
	var mu sync.Mutex
	base := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind != errorfs.OpFileWriteAt || failed[op.Path] {
			return nil
		}
		failed[op.Path] = true
		return &os.PathError{Op: "write", Path: op.Path, Err: syscall.EINVAL}
	}))
	fs, l := openFS(t, Options{Dir: dir, BallastBytes: -1}, base, 0)
	testDirect(t, fs, dir)
	if n := strings.Count(l.String(), "level=WARN"); n != 1 {
		t.Fatalf("%d warnings, want one:\n%s", n, l)
	}
	f, err := fs.Create(filepath.Join(dir, "next"), Direct)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.(*directFile).direct.Load() {
		t.Fatal("the next file tries O_DIRECT again")
	}
}

func TestFilesDelegate(t *testing.T) {
	dir := t.TempDir()
	fs, _ := openFS(t, Options{Dir: dir, BallastBytes: -1}, vfs.Default, 0)
	for _, category := range []vfs.DiskWriteCategory{Direct, User, vfs.WriteCategoryUnspecified} {
		f, err := fs.Create(filepath.Join(dir, "f"), category)
		if err != nil {
			t.Fatal(err)
		}
		if f.Fd() == vfs.InvalidFd || f.Fd() == 0 {
			t.Fatalf("%s: no descriptor", category)
		}
		if err := f.Preallocate(0, BlockSize); err != nil {
			t.Fatal(err)
		}
		if _, err := f.SyncTo(0); err != nil {
			t.Fatal(err)
		}
		_ = f.Prefetch(0, BlockSize) // Pebble returns errno 0 as an error
		if fi, err := f.Stat(); err != nil || fi.Size() != 0 {
			t.Fatal(fi, err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if vfs.Root(fs) != vfs.Default {
		t.Fatal("FS does not unwrap")
	}
}

// testEdit truncates and punches through a wrapper.
func testEdit(t *testing.T, inner vfs.FS, dir string) {
	t.Helper()
	fs := errorfs.Wrap(inner, errorfs.InjectorFunc(func(errorfs.Op) error { return nil }))
	name := fs.PathJoin(dir, "edit")
	want := patterned(5 * BlockSize)
	f, err := fs.Create(name, User)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(bytes.Clone(want)); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if fi, err := f.Stat(); err != nil || fi.Size() != int64(len(want)) {
			t.Fatalf("size %d, want %d (%v)", fi.Size(), len(want), err)
		}
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatal("wrong bytes")
		}
	}
	check()
	if err := PunchHole(fs, name, BlockSize, 2*BlockSize); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	clear(want[BlockSize : 3*BlockSize])
	check()
	for _, size := range []int{4*BlockSize + 7, 100, 3 * BlockSize} {
		if err := Truncate(fs, name, int64(size)); err != nil {
			t.Fatal(err)
		}
		want = append(want[:min(size, len(want))], make([]byte, max(0, size-len(want)))...)
		check()
	}
	if err := Truncate(fs, fs.PathJoin(dir, "absent"), 0); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("truncate an absent file: %v", err)
	}
	if err := SyncDir(fs, dir); err != nil {
		t.Fatal(err)
	}
	if err := SyncDir(fs, fs.PathJoin(dir, "absent")); err == nil {
		t.Fatal("synced an absent directory")
	}
}

func TestEdit(t *testing.T) {
	dir := t.TempDir()
	fs, _ := openFS(t, Options{Dir: dir, BallastBytes: -1}, vfs.Default, 0)
	testEdit(t, fs, dir)
	if err := Truncate(vfs.NewMem(), "x", 0); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("truncate on a bare MemFS: %v", err)
	}
	if err := PunchHole(vfs.NewMem(), "x", 0, 1); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("punch on a bare MemFS: %v", err)
	}
}

func TestEditInMemory(t *testing.T) { testEdit(t, NewMem(), "/") }

// TestMemTruncate pins what a crash makes of a truncation: undone before the
// sync, done after it.
func TestMemTruncate(t *testing.T) {
	fs := NewMem()
	f, err := fs.Create("f", User)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(patterned(3 * BlockSize)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), SyncDir(fs, "/")); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		fi, err := fs.CrashClone(vfs.CrashCloneCfg{}).Stat("f")
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	if err := fs.Truncate("f", BlockSize); err != nil {
		t.Fatal(err)
	}
	if got := size(); got != 3*BlockSize {
		t.Fatalf("unsynced truncation survived the crash: %d bytes", got)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := size(); got != BlockSize {
		t.Fatalf("after sync and crash: %d bytes, want %d", got, BlockSize)
	}
}

// TestTornClone has a synced file with unsynced blocks over it: of each sector
// the clone has the old bytes, the new ones or others, and of the synced rest
// what it was.
func TestTornClone(t *testing.T) {
	fs := NewMem()
	if err := fs.MkdirAll("d", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create("d/f", User)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	old, now := bytes.Repeat([]byte{1}, 64<<10), bytes.Repeat([]byte{2}, 32<<10)
	if _, err := f.WriteAt(bytes.Clone(old), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Clone(now), 0); err != nil {
		t.Fatal(err)
	}
	clone := fs.TornClone(rand.New(rand.NewPCG(1, 1)))
	for _, fs := range []*MemFS{clone, clone.CrashClone(vfs.CrashCloneCfg{})} {
		g, err := fs.Open("d/f")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(g)
		g.Close()
		if err != nil || len(got) != len(old) {
			t.Fatal(len(got), err)
		}
		kinds := map[string]int{}
		for off := 0; off < len(now); off += sectorBytes {
			switch sector := got[off : off+sectorBytes]; {
			case bytes.Equal(sector, old[:sectorBytes]):
				kinds["old"]++
			case bytes.Equal(sector, now[:sectorBytes]):
				kinds["new"]++
			default:
				kinds["garbage"]++
			}
		}
		if kinds["old"] == 0 || kinds["new"] == 0 || kinds["garbage"] == 0 || !bytes.Equal(got[len(now):], old[len(now):]) {
			t.Fatalf("sectors %v", kinds)
		}
	}
}

// TestMemSync has several handles of a file write, cut, punch and sync it at random: a crash
// leaves what the file held when it was last synced.
func TestMemSync(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 50 {
		fs := NewMem()
		f, err := fs.Create("f", User)
		if err := errors.Join(err, SyncDir(fs, "/")); err != nil {
			t.Fatal(err)
		}
		type handle struct {
			vfs.File
			at int // where it goes on
		}
		open := []*handle{{File: f}}
		var now, synced []byte
		put := func(p []byte, at int) {
			resize(&now, max(len(now), at+len(p)))
			copy(now[at:], p)
		}
		for range 200 {
			p := make([]byte, rng.IntN(3000))
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			if rng.IntN(4) == 0 {
				clear(p)
			}
			i := rng.IntN(len(open))
			h := open[i]
			var err error
			switch op := rng.IntN(20); {
			case op < 4:
				put(p, h.at)
				h.at += len(p)
				_, err = h.Write(bytes.Clone(p))
			case op < 9:
				at := rng.IntN(len(now) + 1000)
				if rng.IntN(2) == 0 {
					at = len(now)
				}
				put(p, at)
				_, err = h.WriteAt(bytes.Clone(p), int64(at))
			case op < 11:
				want := now[min(h.at, len(now)):]
				want = want[:min(len(want), len(p))]
				h.at += len(want)
				if n, rerr := h.Read(p); !bytes.Equal(p[:n], want) {
					t.Fatalf("read %d bytes of %d, %v", n, len(want), rerr)
				}
			case op < 12:
				size := rng.IntN(len(now) + 1)
				now = now[:size]
				err = fs.Truncate("f", int64(size))
			case op < 13:
				at := rng.IntN(len(now) + 1)
				clear(now[at:min(at+1000, len(now))])
				err = fs.PunchHole("f", int64(at), 1000)
			case op < 14:
				g, oerr := fs.OpenReadWrite("f", User)
				open, err = append(open, &handle{File: g}), oerr
			case op < 15 && len(open) > 1:
				open = append(open[:i], open[i+1:]...)
				err = h.Close()
			default:
				synced = bytes.Clone(now)
				err = h.Sync()
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := contentOf(t, fs.CrashClone(vfs.CrashCloneCfg{})); !bytes.Equal(got, synced) {
				t.Fatalf("a crash leaves %d bytes, others than the %d that were synced", len(got), len(synced))
			}
		}
		if got := contentOf(t, fs); !bytes.Equal(got, now) {
			t.Fatalf("%d bytes, want %d", len(got), len(now))
		}
		for _, h := range open {
			h.Close()
		}
		if len(fs.written) != 0 {
			t.Errorf("%d files are remembered", len(fs.written))
		}
	}
}

// contentOf returns what the file f holds.
func contentOf(t *testing.T, fs *MemFS) []byte {
	t.Helper()
	f, err := fs.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
