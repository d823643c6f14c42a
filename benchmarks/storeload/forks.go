package storeload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/minio/minio-go/v7"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/limits"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/timeline"
)

// Forks makes forks of one bucket.
type Forks struct {
	// Forks is how many there are in the end. At 1, 10, 100 ... of them up to Singles
	// are made one by one; the rest in commits of Bulk.
	Forks, Singles, Bulk int
	// Objects are numbers of objects that a store has when Singles forks are made.
	Objects []int
}

// Disk: 4 GiB with 10 million objects.
var (
	FullForks  = Forks{Forks: 1_000_000, Singles: 2000, Bulk: 10_000, Objects: []int{1, 1_000_000, 10_000_000}}
	QuickForks = Forks{Forks: 100, Singles: 10, Bulk: 20, Objects: []int{1, 1000}}
)

// fewObjects are in the bucket whose forks are counted.
const fewObjects = 10_000

// forkMemory is the target of the memory of a million idle forks.
const forkMemory = 1 << 30

// Run measures first against the number of objects, then through the API, then against the number of forks.
func (f *Forks) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	for _, n := range f.Objects {
		c.Progress.Say("forks of a bucket of %d objects", n)
		err := c.inDir(func(data string) error {
			return c.with(data, timeline.Options{}, func(e *engine.Engine) error {
				if err := errors.Join(fillSmall(ctx, e, "main", n), e.Flush(ctx)); err != nil {
					return err
				}
				storm := &forkStorm{e: e}
				more, err := storm.singles(ctx, c, f.Singles, fmt.Sprintf("fork, %s objects", count(n)))
				rows = append(rows, more)
				return err
			})
		})
		if err != nil {
			return rows, err
		}
	}
	more, err := f.api(ctx, c)
	rows = append(rows, more...)
	if err != nil {
		return rows, err
	}
	err = c.inDir(func(data string) error {
		more, err := f.storm(ctx, c, data)
		rows = append(rows, more...)
		if err == nil {
			more, err = f.restart(ctx, c, data)
			rows = append(rows, more...)
		}
		return err
	})
	return rows, err
}

// forkStorm makes forks of main with names of their own.
type forkStorm struct {
	e    *engine.Engine
	made int
}

func (s *forkStorm) fork(ctx context.Context, n int) error {
	names := make([]string, n)
	for i := range names {
		names[i] = forkName(s.made + i)
	}
	s.made += n
	return s.e.Patiently(func() error {
		_, err := s.e.Store.Fork(ctx, timeline.ForkOptions{Source: "main", Forks: timeline.Named(names...)})
		return err
	})
}

func forkName(i int) string { return fmt.Sprintf("fork-%09d", i) }

// storm makes all forks, and looks at the heap before and after.
func (f *Forks) storm(ctx context.Context, c *Config, data string) (rows []report.Row, err error) {
	err = c.with(data, timeline.Options{}, func(e *engine.Engine) error {
		if err := errors.Join(fillSmall(ctx, e, "main", fewObjects), e.Flush(ctx)); err != nil {
			return err
		}
		s, before := &forkStorm{e: e}, heap()
		var bulk load.Result
		for at := 1; ; at = min(10*at, f.Forks) {
			c.Progress.Say("%d forks", at)
			if missing := at - s.made; missing > 0 {
				bulk, err = f.bulk(ctx, s, missing)
				if err != nil {
					return err
				}
			}
			row, err := s.singles(ctx, c, min(f.Singles, 9*at), fmt.Sprintf("fork, %s forks", count(at)))
			rows = append(rows, row)
			if err != nil {
				return err
			}
			if at == f.Forks {
				break
			}
		}
		per := report.Number("forks", "heap of an idle fork", "bytes", true, float64(heap()-before)/float64(s.made))
		rows = append(rows, report.FromResult("forks", &bulk), per)
		return nil
	})
	return rows, err
}

// bulk makes n forks in commits of f.Bulk.
func (f *Forks) bulk(ctx context.Context, s *forkStorm, n int) (load.Result, error) {
	w := load.Workload{Name: fmt.Sprintf("forks, %s in a commit", count(f.Bulk)), Unit: "fork", Op: func(ctx context.Context, _ int, _ *rand.Rand) (load.Done, error) {
		now := min(n, f.Bulk)
		if now == 0 {
			return load.Done{}, load.ErrEnd
		}
		n -= now
		return load.Done{Units: int64(now)}, s.fork(ctx, now)
	}}
	return load.Run(ctx, w, load.Options{Workers: 1, Duration: time.Hour})
}

// singles makes n forks one by one, beside as many synced writes.
func (s *forkStorm) singles(ctx context.Context, c *Config, n int, name string) (report.Row, error) {
	w := load.Workload{Name: name, Unit: "fork", Op: func(ctx context.Context, _ int, _ *rand.Rand) (load.Done, error) {
		return load.Done{}, s.fork(ctx, 1)
	}}
	rounds := max(1, min(c.Rounds, n))
	return besideSync(ctx, c, w, n/rounds, rounds)
}

// besideSync measures the latency of a workload of one worker that ends with a synced
// commit, beside that of the disk's own write and sync of a block.
func besideSync(ctx context.Context, c *Config, w load.Workload, ops, rounds int) (row report.Row, err error) {
	disk, err := limits.NewDisk(ctx, c.Dir, 16<<20)
	if err != nil && !errors.Is(err, limits.ErrNoDirect) {
		return row, err
	}
	if disk == nil {
		res, _, err := load.Interleaved(ctx, c.single(w, ops), nil, rounds)
		return report.FromLatency("forks", &res, 50), err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	return c.beside(ctx, "forks", c.single(w, ops), c.single(disk.WriteSync(4<<10), ops), rounds)
}

// restart starts a server on the forks, kills it, starts it again, and looks at its
// memory.
func (f *Forks) restart(ctx context.Context, c *Config, data string) (rows []report.Row, err error) {
	for _, kill := range []bool{false, true} {
		name := map[bool]string{false: "start with all forks, after a clean end", true: "start with all forks, after kill -9"}[kill]
		c.Progress.Say("%s", name)
		s, took, err := c.serve(data, nil)
		if err != nil {
			return rows, err
		}
		m, err := c.settledMemory(ctx, s)
		if err == nil {
			_, err = s.S3.PutObject(ctx, forkName(f.Forks/2), "after", nil, 0, minio.PutObjectOptions{})
		}
		if err != nil {
			return rows, errors.Join(err, s.Stop())
		}
		rows = append(rows, secondsRow("forks", name, 0, took))
		if kill {
			return append(rows, memoryRow("forks", "memory of a server with all forks", m, forkMemory)), s.Stop()
		}
		if err := s.Kill(); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// heap returns the bytes of live objects of this process.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
