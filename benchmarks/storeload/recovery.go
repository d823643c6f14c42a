package storeload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
)

// Recovery kills servers that have a long log, and starts them again.
type Recovery struct {
	// LogMiB are lengths of the log when the server is killed; the last is the longest
	// that a server with default settings lets it become.
	LogMiB []int
	// Size of the objects that were put, in bytes.
	Size int
}

// Disk: 2 GiB.
var (
	FullRecovery  = Recovery{LogMiB: []int{64, 128, 256, 512}, Size: 4 << 10}
	QuickRecovery = Recovery{LogMiB: []int{2}, Size: 4 << 10}
)

// maxRecovery is the target of the time to ready with a full window of log.
const maxRecovery = 3 * time.Second

// recoveryClients put the objects, and read some of them in the end.
const recoveryClients = 8

// Run fills, kills and starts once for each length.
func (r *Recovery) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	for _, n := range r.LogMiB {
		c.Progress.Say("%d MiB of log", n)
		err := c.inDir(func(data string) error {
			row, err := r.measure(ctx, c, data, n)
			rows = append(rows, row...)
			return err
		})
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// measure makes a log of some MiB in a server that never flushes, kills it, and
// starts one with default settings.
func (r *Recovery) measure(ctx context.Context, c *Config, data string, logMiB int) ([]report.Row, error) {
	s, _, err := c.serve(data, nil, "--memlayer-bytes", "4GiB", "--wal-flush-bytes", "4GiB", "--wal-stop-bytes", "8GiB")
	if err != nil {
		return nil, err
	}
	const perObject = 300 // key, entry and framing, about
	n := (logMiB << 20) / (r.Size + perObject)
	t, err := c.target(s, recoveryClients, r.Size, n)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	base, err := t.Base(ctx, n)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	counters, err := s.Counters(ctx)
	if err := errors.Join(err, s.Kill()); err != nil {
		return nil, err
	}
	s, took, err := c.serve(data, nil)
	if err != nil {
		return nil, err
	}
	row := secondsRow("recovery", fmt.Sprintf("kill -9 to ready, %d MiB of log", logMiB), maxRecovery, took)
	row.Note = fmt.Sprintf("%d objects, %.0f MiB of log to replay", n, counters["stemma_wal_bytes"]/mib)
	return []report.Row{row}, errors.Join(r.check(ctx, c, s, base, n), s.Stop())
}

// check looks for some of the objects.
func (r *Recovery) check(ctx context.Context, c *Config, s *server.Server, bucket string, n int) error {
	t, err := c.target(s, recoveryClients, r.Size, n)
	if err != nil {
		return err
	}
	res, err := load.Run(ctx, t.Heads(bucket, 'g', n), load.Options{Workers: recoveryClients, Ops: 500, Seed: c.Seed})
	if err != nil {
		return err
	}
	if n, first := res.Errors(); n > 0 {
		return fmt.Errorf("after recovery %d of 500 objects cannot be read: %s", n, first)
	}
	return nil
}
