package storeload

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/timeline"
)

// List lists buckets of many small objects, whose processes have a limit of memory.
type List struct {
	// Keys are sizes of a bucket; a store for each.
	Keys []int
	// Clients list at once.
	Clients  int
	Duration time.Duration // of a round
	// Rest is how long the store may work after it was filled.
	Rest time.Duration
}

// Disk: 4 GiB with 10 million keys.
var (
	FullList  = List{Keys: []int{1_000_000, 10_000_000}, Clients: 8, Duration: 5 * time.Second, Rest: time.Minute}
	QuickList = List{Keys: []int{2500}, Clients: 2, Duration: 200 * time.Millisecond, Rest: 6 * time.Second}
)

// memoryLimit is that of the Go runtime of a process with many objects, and the target
// of its memory.
const memoryLimit = 1 << 30

const manyBucket = "many"

// Run fills the buckets in this process and lists them on a server.
func (l *List) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	for _, n := range l.Keys {
		err := c.inDir(func(data string) error {
			row, err := l.fill(ctx, c, data, n)
			rows = append(rows, row...)
			if err != nil {
				return err
			}
			row, err = l.serve(ctx, c, data, n)
			rows = append(rows, row...)
			return err
		})
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func objectsName(n int) string { return count(n) + " objects" }

// fill fills a bucket under the limit of memory.
func (l *List) fill(ctx context.Context, c *Config, data string, n int) (rows []report.Row, err error) {
	c.Progress.Say("put %d objects", n)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryLimit))
	debug.FreeOSMemory()
	memory := ownMemory()
	err = c.with(data, timeline.Options{}, func(e *engine.Engine) error {
		start := time.Now()
		if err := fillSmall(ctx, e, manyBucket, n); err != nil {
			return err
		}
		rows = append(rows, report.Number("list", "put "+objectsName(n), "key/s", false, float64(n)/time.Since(start).Seconds()))
		if err := e.Flush(ctx); err != nil {
			return err
		}
		if err := l.rest(ctx, c, e); err != nil {
			return err
		}
		m, err := memory()
		row := memoryRow("list", "memory while "+objectsName(n)+" were put", server.Memory{Now: m.Peak, Peak: m.Peak}, memoryLimit)
		disk, derr := engine.DiskOf(data)
		rows = append(rows, row, inMiB("list", "disk of "+objectsName(n), float64(disk.Data())))
		return errors.Join(err, derr)
	})
	return rows, err
}

// rest waits for the background work, but not longer than l.Rest.
func (l *List) rest(ctx context.Context, c *Config, e *engine.Engine) error {
	bounded, cancel := context.WithTimeout(ctx, l.Rest)
	defer cancel()
	if err := c.idle(bounded, e); err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		return err
	}
	return nil
}

// serve starts a server under the limit of memory, and lists and reads.
func (l *List) serve(ctx context.Context, c *Config, data string, n int) (rows []report.Row, err error) {
	s, took, err := c.serve(data, []string{fmt.Sprintf("GOMEMLIMIT=%d", memoryLimit)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	rows = append(rows, secondsRow("list", "start with "+objectsName(n), 0, took))
	m, err := c.settledMemory(ctx, s)
	if err != nil {
		return rows, err
	}
	rows = append(rows, memoryRow("list", "memory after the start with "+objectsName(n), m, memoryLimit))
	t, err := c.target(s, l.Clients, len(smallValue), n)
	if err != nil {
		return rows, err
	}
	for _, w := range []load.Workload{t.List(manyBucket, false), t.List(manyBucket, true), t.Heads(manyBucket, smallKind, n)} {
		w.Name += " of " + objectsName(n)
		c.Progress.Say("%s", w.Name)
		res, err := load.Run(ctx, w, load.Options{
			Workers: l.Clients, Warmup: l.Duration / 10, Duration: l.Duration, Rounds: c.Rounds, Seed: c.Seed, CPU: load.CPUOf(s.Pid()),
		})
		if err != nil {
			return rows, err
		}
		rows = append(rows, report.FromResult("list", &res))
	}
	m, err = s.Memory()
	return append(rows, memoryRow("list", "memory after lists and heads of "+objectsName(n), m, memoryLimit)), err
}
