package suite

import (
	"context"
	"errors"
	"os"

	"stemma/benchmarks/limits"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
)

// Limits measures the disk, Pebble and, for each of c.Sizes, the bare server.
func Limits(ctx context.Context, c Config) (rows []report.Row, err error) {
	dir, err := os.MkdirTemp(c.Dir, "limits")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	measure := func(w load.Workload, workers int) error {
		o := load.Options{Workers: workers, Warmup: c.Warmup, Duration: c.Duration, Rounds: c.Rounds, Seed: c.Seed}
		row, err := c.measureLimit(ctx, w, o)
		if err == nil {
			rows = append(rows, row)
		}
		return err
	}
	if err := c.diskLimits(ctx, dir, measure); err != nil {
		return rows, err
	}
	for _, writers := range []int{1, 8, 64} {
		if err := measure(limits.Pebble(dir, 4<<10, writers), writers); err != nil {
			return rows, err
		}
	}
	for _, size := range c.Sizes {
		more, err := c.bareLimits(ctx, size)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func (c *Config) measureLimit(ctx context.Context, w load.Workload, o load.Options) (report.Row, error) {
	c.Progress.Say("%s, %d rounds of %v", w.Name, c.Rounds, c.Duration)
	res, err := load.Run(ctx, w, o)
	return report.FromResult("limits", &res), err
}

func (c *Config) diskLimits(ctx context.Context, dir string, measure func(load.Workload, int) error) (err error) {
	c.Progress.Say("write a file of %d MiB", diskBytes>>20)
	d, err := limits.NewDisk(ctx, dir, diskBytes)
	if errors.Is(err, limits.ErrNoDirect) {
		c.Progress.Say("%v: the disk is not measured", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := measure(d.SequentialWrite()); err != nil {
		return err
	}
	for _, bytes := range []int{4 << 10, 64 << 10, 256 << 10} {
		if err := measure(d.WriteSync(bytes), 1); err != nil {
			return err
		}
	}
	for _, depth := range []int{1, 32} {
		if err := measure(d.RandomRead(depth), depth); err != nil {
			return err
		}
	}
	return nil
}

// bareLimits measures the bare server with puts, gets and heads of one size.
func (c *Config) bareLimits(ctx context.Context, size int) (rows []report.Row, err error) {
	b, err := c.openBeside(size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, op := range []string{"put", "get", "head"} {
		w, err := b.target.Workload(op)
		if err != nil {
			return rows, err
		}
		w.Name = "bare " + w.Name
		o := load.Options{
			Workers: c.Clients, Warmup: c.Warmup, Duration: c.Duration, Rounds: c.Rounds, Seed: c.Seed, CPU: load.CPUOf(b.bare.Pid),
		}
		row, err := c.measureLimit(ctx, w, o)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}
