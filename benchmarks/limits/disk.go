package limits

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"stemma/benchmarks/load"
)

// ErrNoDirect is what a file system without O_DIRECT answers.
var ErrNoDirect = errors.New("limits: the file system has no direct I/O")

const (
	// sector is the unit of random reads and of alignment.
	sector = 4 << 10
	// sequentialBytes and sequentialDepth are the sequential write's.
	sequentialBytes = 1 << 20
	sequentialDepth = 4
)

// Disk is a file that was written once, for measuring the disk that it is on.
type Disk struct {
	f    *os.File
	size int64
}

// NewDisk writes a file of size bytes, a multiple of 1 MiB, into dir. Error:
// ErrNoDirect.
func NewDisk(ctx context.Context, dir string, size int64) (*Disk, error) {
	f, err := os.OpenFile(filepath.Join(dir, "limits.disk"), os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_DIRECT, 0o600)
	if errors.Is(err, unix.EINVAL) {
		return nil, ErrNoDirect
	}
	if err != nil {
		return nil, err
	}
	d := &Disk{f: f, size: size}
	if err := d.fill(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// fill writes every block, so that no later write allocates.
func (d *Disk) fill(ctx context.Context) error {
	if err := unix.Fallocate(int(d.f.Fd()), 0, 0, d.size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("allocate %d bytes: %w", d.size, err)
	}
	buf, release, err := aligned(sequentialBytes)
	if err != nil {
		return err
	}
	defer release()
	for off := int64(0); off < d.size; off += int64(len(buf)) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := d.f.WriteAt(buf, off); err != nil {
			return err
		}
	}
	return d.f.Sync()
}

// Close closes and removes the file.
func (d *Disk) Close() error { return errors.Join(d.f.Close(), os.Remove(d.f.Name())) }

// aligned returns n random bytes, aligned to a page, and what gives them back.
func aligned(n int) ([]byte, func(), error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	rand.NewChaCha8([32]byte{}).Read(b) //nolint:errcheck // never fails
	return b, func() { _ = unix.Munmap(b) }, nil
}

// buffers gives every worker a buffer of its own while a round runs.
func buffers(w *load.Workload, workers, n int) func(worker int) []byte {
	all := make([][]byte, workers)
	var releases []func()
	w.Before = func(context.Context, int) error {
		for i := range all {
			b, release, err := aligned(n)
			if err != nil {
				return err
			}
			all[i] = b
			releases = append(releases, release)
		}
		return nil
	}
	w.After = func(context.Context, int) error {
		for _, release := range releases {
			release()
		}
		releases = nil
		return nil
	}
	return func(worker int) []byte { return all[worker] }
}

// SequentialWrite is the disk's sequential write, and the number of workers that it
// is for.
func (d *Disk) SequentialWrite() (load.Workload, int) {
	w := load.Workload{Name: "sequential write", Unit: load.UnitMiB}
	buf := buffers(&w, sequentialDepth, sequentialBytes)
	var next atomic.Int64
	w.Op = func(_ context.Context, worker int, _ *rand.Rand) (load.Done, error) {
		off := (next.Add(1) - 1) * sequentialBytes % d.size
		n, err := d.f.WriteAt(buf(worker), off)
		return load.Done{Bytes: int64(n)}, err
	}
	return w, sequentialDepth
}

// WriteSync writes groups of bytes, a multiple of 4 KiB, one after the other and
// each synced before the next. It is for one worker.
func (d *Disk) WriteSync(bytes int) load.Workload {
	return d.WriteSyncMean(WriteSyncName(bytes), func() float64 { return float64(bytes) })
}

// WriteSyncMean is WriteSync of groups of mean bytes on average, which is asked
// for before each round: each group is the multiple of 4 KiB below or above it.
func (d *Disk) WriteSyncMean(name string, mean func() float64) load.Workload {
	var buf []byte
	var release func()
	var bytes, owed float64 // of a group; what the groups so far lack
	var next int64
	return load.Workload{
		Name: name, Unit: "op",
		Before: func(context.Context, int) (err error) {
			bytes, owed = mean(), 0
			most := (int64(bytes)/sector + 1) * sector
			if bytes < sector || most > d.size {
				return fmt.Errorf("groups of %.0f bytes in a file of %d", bytes, d.size)
			}
			buf, release, err = aligned(int(most))
			return err
		},
		Op: func(context.Context, int, *rand.Rand) (load.Done, error) {
			owed += bytes
			group := int64(owed) / sector * sector
			owed -= float64(group)
			if next+group > d.size {
				next = 0
			}
			n, err := d.f.WriteAt(buf[:group], next)
			next += group
			if err == nil {
				err = unix.Fdatasync(int(d.f.Fd()))
			}
			return load.Done{Bytes: int64(n)}, err
		},
		After: func(context.Context, int) error {
			release()
			return nil
		},
	}
}

// RandomRead reads 4 KiB at a time. It is for as many workers as depth.
func (d *Disk) RandomRead(depth int) load.Workload { return d.RandomReadOf(depth, sector) }

// RandomReadOf reads bytes at a time, a multiple of 4 KiB. It is for as many workers as depth.
func (d *Disk) RandomReadOf(depth, bytes int) load.Workload {
	w := load.Workload{Name: RandomReadName(depth, bytes), Unit: "op"}
	buf := buffers(&w, depth, bytes)
	w.Op = func(_ context.Context, worker int, rng *rand.Rand) (load.Done, error) {
		n, err := d.f.ReadAt(buf(worker), rng.Int64N(d.size/int64(bytes))*int64(bytes))
		return load.Done{Bytes: int64(n)}, err
	}
	return w
}

// RandomReadName is the name of what RandomReadOf returns.
func RandomReadName(depth, bytes int) string {
	return fmt.Sprintf("random read %d KiB depth %d", bytes>>10, depth)
}

// WriteSyncName is the name of what WriteSync returns.
func WriteSyncName(bytes int) string { return fmt.Sprintf("write + sync %d KiB", bytes>>10) }
