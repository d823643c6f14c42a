package storeload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/benchmarks/s3load"
	"stemma/timeline"
)

// Config is what all workloads want.
type Config struct {
	// Dir is on the disk to measure. What is made in it is removed.
	Dir string
	// Binary is the program whose server is measured.
	Binary string
	// Rounds of each figure.
	Rounds int
	Seed   uint64
	// Small makes stores of small parts, so that a little data makes them do all that
	// they do with much, and does not wait for long.
	Small    bool
	Progress report.Progress
}

// Workload is one of those of this package.
type Workload interface {
	// Run returns what was measured, also with an error.
	Run(ctx context.Context, c *Config) ([]report.Row, error)
}

// inDir calls do with the path of a store that is not there, and removes it.
func (c *Config) inDir(do func(data string) error) error {
	dir, err := os.MkdirTemp(c.Dir, "store")
	if err != nil {
		return err
	}
	return errors.Join(do(filepath.Join(dir, "data")), os.RemoveAll(dir))
}

// with opens the store in data for what do does.
func (c *Config) with(data string, o timeline.Options, do func(e *engine.Engine) error) error {
	if c.Small {
		every := o.CollectEvery
		if o = engine.Small(o); every != 0 {
			o.CollectEvery = every
		}
	}
	e, err := engine.Open(data, o)
	if err != nil {
		return err
	}
	return errors.Join(do(e), e.Close())
}

// serve starts a server on data, more variables in its environment, and returns how
// long it took to be ready.
func (c *Config) serve(data string, env []string, args ...string) (*server.Server, time.Duration, error) {
	start := time.Now()
	s, err := server.StartWith(env, c.Binary, data, args...)
	if err != nil {
		return nil, 0, fmt.Errorf("start %s: %w", c.Binary, err)
	}
	return s, time.Since(start), nil
}

// served calls do with a server on data, and stops it.
func (c *Config) served(data string, do func(s *server.Server) error, args ...string) error {
	s, _, err := c.serve(data, nil, args...)
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Stop())
}

// target is a client of a server that has as many sessions as workers.
func (c *Config) target(s *server.Server, workers, size, objects int) (*s3load.Target, error) {
	return s3load.New(s3load.Config{
		Endpoint: s.Endpoint, AccessKey: server.AccessKey, SecretKey: server.SecretKey, Region: "us-east-1",
		Buckets: fmt.Sprintf("bench-%08x", rand.Uint32()), Workers: workers, Size: size,
		Objects: objects, Keys: objects, Deletes: objects, Seed: c.Seed,
	})
}

// single drives a workload with one worker, ops times a round.
func (c *Config) single(w load.Workload, ops int) *load.Contender {
	return &load.Contender{Workload: w, Options: load.Options{Workers: 1, Ops: int64(ops), Seed: c.Seed}}
}

// idle waits until the background work of a store rests.
func (c *Config) idle(ctx context.Context, e *engine.Engine) error {
	quiet := 12 * time.Second
	if c.Small {
		quiet = 5 * time.Second
	}
	return e.WaitIdle(ctx, quiet)
}

const mib = 1 << 20

// count writes a number of things.
func count(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return report.Format(float64(n))
}

// inMiB makes a row of bytes, least is best.
func inMiB(suite, name string, bytes ...float64) report.Row {
	for i := range bytes {
		bytes[i] /= mib
	}
	return report.Number(suite, name, "MiB", true, bytes...)
}

// p99Row makes a row of the 99th percentile of each round.
func p99Row(suite string, r *load.Result) report.Row {
	row := report.FromLatency(suite, r, 99)
	row.Name = "p99 of " + row.Name
	return row
}

// secondsRow makes a row of a duration, beside a target if there is one.
func secondsRow(suite, name string, limit time.Duration, took ...time.Duration) report.Row {
	var all []float64
	for _, d := range took {
		all = append(all, d.Seconds())
	}
	row := report.Number(suite, name, "s", true, all...)
	if limit > 0 {
		row.SetLimit(limit.String(), limit.Seconds())
	}
	return row
}
