package storeload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// place is a bucket as of an LSN; zero is the tip.
type place struct {
	e      *engine.Engine
	bucket string
	at     wal.LSN
}

// gets is a workload of gets of random ones of keys, which are all there or all absent.
func (p place) gets(name string, keys [][]byte, absent bool) load.Workload {
	return load.Workload{Name: name, Unit: "op", Op: func(ctx context.Context, _ int, rng *rand.Rand) (load.Done, error) {
		key := keys[rng.IntN(len(keys))]
		body, err := p.e.Get(ctx, p.bucket, p.at, key)
		switch {
		case absent && errors.Is(err, timeline.ErrNotFound):
			return load.Done{}, nil
		case err != nil:
			return load.Done{}, fmt.Errorf("%s: %w", key, err)
		case absent || len(body) == 0:
			return load.Done{}, fmt.Errorf("%s: %d bytes", key, len(body))
		}
		return load.Done{Bytes: int64(len(body))}, nil
	}}
}

// lists is a workload of lists of the first n keys.
func (p place) lists(name string, n int) load.Workload {
	return load.Workload{Name: name, Unit: "op", Op: func(ctx context.Context, _ int, _ *rand.Rand) (load.Done, error) {
		v, err := p.e.View(ctx, p.bucket, p.at)
		if err != nil {
			return load.Done{}, err
		}
		defer v.Close()
		scan := v.Scan(layers.NamespaceObjects, nil, nil)
		seen := 0
		for ok := scan.First(); ok && seen < n; ok = scan.Next() {
			seen++
		}
		err = errors.Join(scan.Err(), scan.Close())
		if err == nil && seen == 0 {
			err = fmt.Errorf("nothing is listed in %s", p.bucket)
		}
		return load.Done{Units: int64(seen)}, err
	}}
}

// beside measures the latency of a beside that of b, in turns.
func (c *Config) beside(ctx context.Context, suite string, a, b *load.Contender, rounds int) (report.Row, error) {
	ra, rb, err := load.Interleaved(ctx, a, b, rounds)
	if err != nil {
		return report.Row{}, err
	}
	row, limit := report.FromLatency(suite, &ra, 50), report.FromLatency(suite, &rb, 50)
	row.SetLimit(limit.Name, limit.Value.Median)
	return row, nil
}
