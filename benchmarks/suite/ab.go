package suite

import (
	"context"
	"errors"

	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/benchmarks/s3load"
)

// AB measures two sites in interleaved rounds and says how b did beside a. Both are
// opened for each size, and closed.
func AB(ctx context.Context, c Config, openA, openB func() (*Site, error)) ([]report.Comparison, error) {
	var all []report.Comparison
	for _, size := range c.Sizes {
		more, err := c.compareSize(ctx, size, openA, openB)
		all = append(all, more...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (c *Config) compareSize(ctx context.Context, size int, openA, openB func() (*Site, error)) (all []report.Comparison, err error) {
	a, err := openA()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := openB()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var targets [2]*s3load.Target
	for i, s := range []*Site{a, b} {
		t, err := c.target(s, size)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, closeTarget(ctx, t, s)) }()
		targets[i] = t
	}
	for _, op := range c.ops(size) {
		var both [2]*load.Contender
		for i, s := range []*Site{a, b} {
			w, err := targets[i].Workload(op)
			if err != nil {
				return all, err
			}
			both[i] = &load.Contender{Workload: w, Options: c.options(op, s.Pid), Pause: s.pause, Resume: s.resume}
		}
		c.Progress.Say("%s, %d rounds of %v each", both[0].Workload.Name, c.Rounds, c.Duration)
		ra, rb, err := load.Interleaved(ctx, both[0], both[1], c.Rounds)
		if err != nil {
			return all, err
		}
		all = append(all, c.compare(&ra, &rb))
	}
	return all, nil
}

func (c *Config) compare(ra, rb *load.Result) report.Comparison {
	a, b := report.FromResult("a", ra), report.FromResult("b", rb)
	return report.Compare(&a, &b, c.Seed)
}
