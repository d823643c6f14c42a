package storeload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/limits"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// Log makes durable commits by several writers at once, in turns with the disk's own
// synced writes of groups as large as those that the log gathered.
type Log struct {
	Writers  []int
	Size     int           // bytes that a commit puts
	Duration time.Duration // of a round
}

// Disk: 3 GiB.
var (
	FullLog  = Log{Writers: []int{1, 8, 64}, Size: 4 << 10, Duration: 2 * time.Second}
	QuickLog = Log{Writers: []int{1, 4}, Size: 4 << 10, Duration: 100 * time.Millisecond}
)

const (
	// logDisk is the size of the file that the disk overwrites: that of two log segments.
	logDisk = 64 << 20
	// logKeys are the keys that commits on the engine put, at random.
	logKeys = 100_000
)

// committer is what commits are made on.
type committer struct {
	name    string
	commit  func(ctx context.Context, worker int, rng *rand.Rand) error
	metrics func() wal.Metrics
	rest    func(ctx context.Context) error // waits for what a round has left to do
}

// Run measures the log alone, and the engine.
func (l *Log) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	disk, err := limits.NewDisk(ctx, c.Dir, logDisk)
	if err != nil && !errors.Is(err, limits.ErrNoDirect) {
		return nil, err
	}
	if disk != nil {
		defer func() { err = errors.Join(err, disk.Close()) }()
	}
	for _, writers := range l.Writers {
		for _, on := range []func(context.Context, *Config, string, int, func(*committer) error) error{l.alone, l.engine} {
			err := c.inDir(func(data string) error {
				return on(ctx, c, data, writers, func(to *committer) error {
					more, err := l.measure(ctx, c, disk, to, writers)
					rows = append(rows, more...)
					return err
				})
			})
			if err != nil {
				return rows, fmt.Errorf("%d writers: %w", writers, err)
			}
		}
	}
	return rows, nil
}

// alone commits to a log without a store, whose segments are released as it goes.
func (l *Log) alone(_ context.Context, _ *Config, data string, _ int, do func(*committer) error) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	fs, err := storefs.New(storefs.Options{Dir: data, BallastBytes: -1, Logger: logger})
	if err != nil {
		return err
	}
	log, _, err := wal.Open(wal.Options{FS: fs, Dir: fs.PathJoin(data, "wal"), Logger: logger}, func(wal.LSN, []byte) error { return nil })
	if err != nil {
		return errors.Join(err, fs.Close())
	}
	payload := l.payload()
	commit := func(ctx context.Context, _ int, _ *rand.Rand) error {
		one := wal.Commit{Payload: payload}
		if err := log.Append(ctx, &one); err != nil {
			return err
		}
		if err := log.Wait(&one); err != nil {
			return err
		}
		const releaseEvery = 1000
		if one.LSN%releaseEvery == 0 {
			log.Release(one.LSN)
		}
		return nil
	}
	to := &committer{name: "log alone", commit: commit, metrics: log.Metrics, rest: func(context.Context) error { return nil }}
	return errors.Join(do(to), log.Close(), fs.Close())
}

// engine commits objects to a store, which flushes and compacts beside.
func (l *Log) engine(ctx context.Context, c *Config, data string, writers int, do func(*committer) error) error {
	return c.with(data, timeline.Options{}, func(e *engine.Engine) error {
		const bucket = "main"
		if _, err := e.CreateBucket(ctx, timeline.NewBucket{Name: bucket}); err != nil {
			return err
		}
		body, meta := layers.AppendInlineBody(nil, l.payload()), make([]byte, 80) // stands for the entry of an object
		batches := make([]timeline.Batch, writers)
		commit := func(ctx context.Context, worker int, rng *rand.Rand) error {
			b := &batches[worker]
			b.Reset()
			b.Put(layers.NamespaceObjects, rootKey(rng.IntN(logKeys)), meta, body)
			return e.Patiently(func() error {
				_, err := e.Commit(ctx, bucket, b)
				return err
			})
		}
		rest := func(ctx context.Context) error {
			quiet := 2 * time.Second
			if c.Small {
				quiet /= 10
			}
			return errors.Join(e.Flush(ctx), e.WaitIdle(ctx, quiet))
		}
		return do(&committer{name: "engine", commit: commit, metrics: func() wal.Metrics { return e.Metrics().Log }, rest: rest})
	})
}

func (l *Log) payload() []byte {
	p := make([]byte, l.Size)
	engine.Fill(p, 1)
	return p
}

// gathered is what the log made of the commits of all rounds.
type gathered struct{ commits, groups, bytes float64 }

func (g *gathered) add(from, to wal.Metrics) {
	g.commits += float64(to.Commits - from.Commits)
	g.groups += float64(to.Groups - from.Groups)
	g.bytes += float64(to.WrittenBytes - from.WrittenBytes)
}

func (g *gathered) commitsPerGroup() float64 { return g.commits / g.groups }
func (g *gathered) bytesPerGroup() float64   { return g.bytes / g.groups }

// measure makes rows of commits a second and, for one writer, of the latency of a commit.
func (l *Log) measure(ctx context.Context, c *Config, disk *limits.Disk, to *committer, writers int) ([]report.Row, error) {
	var g gathered
	var before wal.Metrics
	commits := load.Workload{
		Name: fmt.Sprintf("%s: commits of %d KiB, writers: %d", to.name, l.Size>>10, writers), Unit: "op",
		Before: func(context.Context, int) error {
			before = to.metrics()
			return nil
		},
		Op: func(ctx context.Context, worker int, rng *rand.Rand) (load.Done, error) {
			return load.Done{Bytes: int64(l.Size)}, to.commit(ctx, worker, rng)
		},
		After: func(ctx context.Context, _ int) error {
			g.add(before, to.metrics())
			return to.rest(ctx)
		},
	}
	c.Progress.Say("%s", commits.Name)
	o := load.Options{Workers: writers, Warmup: l.Duration / 10, Duration: l.Duration, Seed: c.Seed}
	a := &load.Contender{Workload: commits, Options: o}
	var b *load.Contender
	var perGroup []float64 // commits, for each round of the disk
	if disk != nil {
		o.Workers = 1
		// The first round is one of commits, so that there are groups to go by.
		b = &load.Contender{Options: o, Workload: disk.WriteSyncMean("write + sync of such groups", func() float64 {
			perGroup = append(perGroup, g.commitsPerGroup())
			return g.bytesPerGroup()
		})}
	}
	ra, rb, err := load.Interleaved(ctx, a, b, c.Rounds)
	if err != nil {
		return nil, err
	}
	rate, p50 := report.FromResult("log", &ra), report.FromLatency("log", &ra, 50)
	p50.Name = "latency of " + p50.Name
	rate.Note = fmt.Sprintf("%.1f commits and %.1f KiB in a group", g.commitsPerGroup(), g.bytesPerGroup()/1024)
	if b != nil {
		writes, one := rb.Rates(), report.FromLatency("log", &rb, 50)
		rate.Note += fmt.Sprintf("; the disk: %s writes of them a second", report.Format(load.Median(writes)))
		for i := range writes {
			writes[i] *= perGroup[i]
		}
		rate.SetLimit(rb.Name, load.Median(writes))
		p50.SetLimit(rb.Name, one.Value.Median)
	}
	if writers > 1 {
		return []report.Row{rate}, nil
	}
	return []report.Row{rate, p50}, nil
}
