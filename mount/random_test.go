package mount

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stemma/internal/seeds"
)

// oracle is a file as plain bytes, and as what it was at times since the last fsync.
type oracle struct {
	name   string
	f      *os.File
	now    []byte
	states [][]byte // since the last fsync, that one first
}

func (o *oracle) changed() { o.states = append(o.states, slices.Clone(o.now)) }
func (o *oracle) synced()  { o.states = [][]byte{slices.Clone(o.now)} }

// Files are written, cut, punched, renamed and replaced at random, and read as plain bytes would, through remounts. When the
// process is killed, each file is whole: as it was at the last fsync or close, or at one moment since.
func TestRandom(t *testing.T) {
	s := serve(t)
	rng := rand.New(rand.NewPCG(seeds.For(t), 0))
	options := Options{MaxDirtyBytes: 1 << 20, WriteBackAfter: 300 * time.Millisecond}
	m := s.mount(options)
	const files, maxSize = 3, 600_000
	all := make([]*oracle, files)
	open := func(o *oracle) {
		t.Helper()
		var err error
		o.f, err = os.OpenFile(m.path(o.name), os.O_RDWR|os.O_CREATE, 0o600)
		m.ok(err)
	}
	for i := range all {
		all[i] = &oracle{name: fmt.Sprintf("f%d", i)}
		open(all[i])
		all[i].synced()
	}
	read := func(o *oracle) {
		t.Helper()
		if _, err := o.f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if p, err := io.ReadAll(o.f); err != nil || !bytes.Equal(p, o.now) {
			t.Fatalf("%s: %d bytes, %v, want %d", o.name, len(p), err, len(o.now))
		}
	}
	rounds := 600
	if testing.Short() {
		rounds = 200
	}
	for round := range rounds {
		o := all[rng.IntN(files)]
		off, n := rng.IntN(maxSize), 1+rng.IntN(2000)
		switch rng.IntN(4) {
		case 0:
			off = len(o.now)
		case 1:
			off, n = off&^4095, 4096*(1+rng.IntN(40))
		}
		grow := func(to int) {
			if to > len(o.now) {
				o.now = append(o.now, make([]byte, to-len(o.now))...)
			}
		}
		switch k := rng.IntN(40); {
		case k < 18:
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			_, err := o.f.WriteAt(p, int64(off))
			m.ok(err)
			grow(off + n)
			copy(o.now[off:], p)
			o.changed()
		case k < 20:
			off = rng.IntN(len(o.now) + 1000)
			m.ok(o.f.Truncate(int64(off)))
			grow(off)
			o.now = o.now[:off:off]
			o.changed()
		case k < 22:
			m.ok(unix.Fallocate(int(o.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n)))
			if off < len(o.now) {
				clear(o.now[off:min(len(o.now), off+n)])
			}
			o.changed()
		case k < 28:
			if len(o.now) > 0 {
				off = rng.IntN(len(o.now))
				p := make([]byte, n)
				got, err := o.f.ReadAt(p, int64(off))
				if want := o.now[off:min(len(o.now), off+n)]; err != nil && err != io.EOF || !bytes.Equal(p[:got], want) {
					t.Fatalf("%d bytes at %d: %v", got, off, err)
				}
			}
		case k < 32:
			m.ok(o.f.Sync())
			o.synced()
		case k < 34:
			m.ok(o.f.Close())
			o.synced()
			open(o)
			read(o)
		case k < 35: // under another name, open
			name := fmt.Sprintf("r%d", round)
			m.ok(os.Rename(m.path(o.name), m.path(name)))
			o.name = name
		case k < 36: // in the place of another one, which goes
			other := all[rng.IntN(files)]
			if other == o {
				continue
			}
			m.ok(os.Rename(m.path(o.name), m.path(other.name)))
			read(other)
			m.ok(other.f.Close())
			o.name, other.name = other.name, fmt.Sprintf("n%d", round)
			open(other)
			other.now = nil
			other.synced()
		case k < 37:
			read(o)
		case k < 38:
			for _, o := range all {
				m.ok(o.f.Close())
				o.synced()
			}
			m.unmount()
			m.start(s, options)
			for _, o := range all {
				open(o)
				read(o)
			}
		case k < 39:
			m.kill()
			for _, o := range all {
				_ = o.f.Close()
			}
			m.start(s, options)
			for _, o := range all {
				p, err := os.ReadFile(m.path(o.name))
				if err != nil || !slices.ContainsFunc(o.states, func(state []byte) bool { return bytes.Equal(state, p) }) {
					t.Fatalf("round %d: %s has %d bytes, %v: none of the %d states since its last fsync", round, o.name, len(p), err, len(o.states))
				}
				o.now = p
				open(o)
				o.synced()
			}
		}
	}
	for _, o := range all {
		read(o)
		m.ok(o.f.Close())
	}
	m.unmount()
}

// Many replace, rename, remove, list and read the same few files and directories at once, through two mounts: who reads
// a file finds one of the texts that it ever had, whole.
func TestManyAtOnce(t *testing.T) {
	s := serve(t)
	mounts := []*mounted{s.mount(Options{}), s.mount(Options{TTL: 20 * time.Millisecond})}
	seed := seeds.For(t)
	rounds := 150
	if testing.Short() {
		rounds = 60
	}
	for _, d := range []string{"a", "b"} {
		mounts[0].ok(os.Mkdir(mounts[0].path(d), 0o700))
	}
	expected := func(err error) bool {
		return err == nil || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESTALE) || errors.Is(err, syscall.ENOTDIR) ||
			errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EISDIR)
	}
	var all sync.WaitGroup
	for w := range 8 {
		m := mounts[w%2]
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			anyDir := func() string { return m.path([]string{"a", "b", "a/c"}[rng.IntN(3)]) }
			anyFile := func() string { return fmt.Sprintf("%s/f%d", anyDir(), rng.IntN(3)) }
			for i := range rounds {
				var err error
				what := rng.IntN(8)
				switch what {
				case 0, 1: // replace
					tmp := fmt.Sprintf("%s/tmp-%d-%d", anyDir(), w, i)
					size := 1 + rng.IntN(300_000)
					if err = os.WriteFile(tmp, bytes.Repeat([]byte{byte('a' + size%26)}, size), 0o600); err == nil {
						err = os.Rename(tmp, anyFile())
					}
				case 2, 3:
					var p []byte
					if p, err = os.ReadFile(anyFile()); err == nil && len(p) > 0 {
						if letter := byte('a' + len(p)%26); bytes.Count(p, []byte{letter}) != len(p) {
							t.Errorf("%d bytes begin with %c and end with %c, want %c only", len(p), p[0], p[len(p)-1], letter)
						}
					}
				case 4:
					err = os.Remove(anyFile())
				case 5:
					_, err = os.ReadDir(anyDir())
				case 6:
					if err = os.Mkdir(m.path("a/c"), 0o700); rng.IntN(2) == 0 {
						err = os.Rename(m.path("a/c"), m.path(fmt.Sprintf("a/moved-%d-%d", w, i)))
					}
				case 7:
					err = os.Rename(anyFile(), anyFile())
				}
				if !expected(err) {
					t.Errorf("%d: %v", what, err)
				}
			}
		})
	}
	all.Wait()
	for _, m := range mounts {
		m.unmount()
	}
}
