package suite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/benchmarks/s3load"
)

// Config says what is measured, and how.
type Config struct {
	// Sizes of objects, in bytes.
	Sizes []int
	// Ops are names of s3load.Ops. Empty: for each size those that depend on it.
	Ops []string
	// Clients is how many requests are under way at once.
	Clients int
	// Duration and Warmup are of a round.
	Duration, Warmup time.Duration
	Rounds           int
	// Rate is requests per second in an open loop; 0: a closed loop.
	Rate float64
	// Objects, Keys and Deletes are as in s3load.Config, but that Objects and Deletes are
	// less for large sizes: workingSet bytes of them at most, if these are minObjects.
	Objects, Keys, Deletes int
	Payload                s3load.Payload
	Verify                 bool
	Seed                   uint64
	// Dir is on the disk to measure. What is made in it is removed.
	Dir string
	// Bare is the command of a bare server, to which the size is appended. Empty: no
	// limit is measured.
	Bare []string
	// Progress says what is being done.
	Progress report.Progress
}

const (
	workingSet = 256 << 20
	minObjects = 16
)

// ops returns what is measured at a size.
func (c *Config) ops(size int) []string {
	switch {
	case len(c.Ops) > 0:
		return c.Ops
	case size == c.Sizes[0] && size < 1<<20:
		return s3load.Ops()
	}
	return []string{"put", "get", "head", "delete", "mixed"}
}

// options returns those of a workload against a server.
func (c *Config) options(op string, pid int) load.Options {
	o := load.Options{Workers: c.Clients, Rate: c.Rate, Warmup: c.Warmup, Duration: c.Duration, Seed: c.Seed}
	if strings.HasPrefix(op, "delete") {
		o.Warmup = 0 // it would use up what there is to delete
	}
	if pid != 0 {
		o.CPU = load.CPUOf(pid)
	}
	return o
}

// target returns a target at a site, with buckets of names that nobody has.
func (c *Config) target(s *Site, size int) (*s3load.Target, error) {
	most := max(workingSet/size, minObjects)
	return s3load.New(s3load.Config{
		Endpoint: s.Endpoint, AccessKey: s.AccessKey, SecretKey: s.SecretKey, Region: s.Region,
		Buckets: fmt.Sprintf("bench-%08x", rand.Uint32()), Workers: c.Clients, Size: size,
		Objects: min(c.Objects, most), Keys: c.Keys, Deletes: min(c.Deletes, most),
		Payload: c.Payload, Verify: c.Verify, Seed: c.Seed,
	})
}

// closeTimeout bounds clearing up, also after an interrupt.
const closeTimeout = 2 * time.Minute

// closeTarget clears up at a site, unless it is removed as a whole.
func closeTarget(ctx context.Context, t *s3load.Target, s *Site) error {
	if s.own != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return t.Close(ctx)
}

// S3 measures the sites that open returns, one for each size, and closes them.
func S3(ctx context.Context, c Config, open func() (*Site, error)) ([]report.Row, error) {
	var rows []report.Row
	for _, size := range c.Sizes {
		more, err := c.oneSize(ctx, size, open)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func (c *Config) oneSize(ctx context.Context, size int, open func() (*Site, error)) (rows []report.Row, err error) {
	site, err := open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	t, err := c.target(site, size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeTarget(ctx, t, site)) }()
	beside, err := c.openBeside(size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, beside.close()) }()
	for _, op := range c.ops(size) {
		w, err := t.Workload(op)
		if err != nil {
			return rows, err
		}
		c.Progress.Say("%s, %d rounds of %v", w.Name, c.Rounds, c.Duration)
		limit, err := beside.limit(ctx, op)
		if err != nil {
			return rows, err
		}
		res, lim, err := load.Interleaved(ctx, &load.Contender{Workload: w, Options: c.options(op, site.Pid)}, limit, c.Rounds)
		if err != nil {
			return rows, err
		}
		row := report.FromResult("s3", &res)
		if limit != nil {
			limitRow := report.FromResult("limits", &lim)
			row.SetLimit(limitRow.Name, inUnit(&limitRow, row.Unit, size))
			rows = append(rows, limitRow)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// inUnit returns the median of a limit in another unit: operations of size bytes for
// MiB.
func inUnit(limit *report.Row, unit string, size int) float64 {
	v := limit.Value.Median
	if limit.Unit == load.UnitMiB+"/s" && unit != limit.Unit {
		v *= float64(1<<20) / float64(size)
	}
	return v
}
