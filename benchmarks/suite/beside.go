package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"stemma/benchmarks/limits"
	"stemma/benchmarks/load"
	"stemma/benchmarks/s3load"
)

const (
	// inlineBelow is the size below which Stemma writes bodies to its log.
	inlineBelow = 32 << 10
	// diskBytes is the size of the file that the disk is measured with.
	diskBytes = 512 << 20
	// maxLimitDuration bounds a round of a limit: they vary less.
	maxLimitDuration = 5 * time.Second
)

// beside measures limits beside the figures of one size. The zero one has none.
type beside struct {
	c      *Config
	size   int
	dir    string
	bare   *limits.Bare
	target *s3load.Target // at bare
	disk   *limits.Disk   // when it was needed
}

// openBeside returns one without limits when none is to be measured.
func (c *Config) openBeside(size int) (*beside, error) {
	b := &beside{c: c, size: size}
	if len(c.Bare) == 0 {
		return b, nil
	}
	var err error
	if b.dir, err = os.MkdirTemp(c.Dir, "limits"); err != nil {
		return nil, err
	}
	if b.bare, err = limits.StartBare(append(c.Bare[:len(c.Bare):len(c.Bare)], fmt.Sprint(size))...); err != nil {
		return nil, errors.Join(err, b.close())
	}
	unverified := *c // the bytes are not those that were put
	unverified.Verify, unverified.Payload = false, s3load.Unsigned
	b.target, err = unverified.target(&Site{Endpoint: b.bare.Endpoint, AccessKey: "bare", SecretKey: "bare-secret", Region: defaultRegion}, size)
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *beside) close() (err error) {
	if b.disk != nil {
		err = b.disk.Close()
	}
	if b.bare != nil {
		err = errors.Join(err, b.bare.Stop())
	}
	if b.dir != "" {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	return err
}

// limit returns the limit of an operation, nil if it has none.
func (b *beside) limit(ctx context.Context, op string) (*load.Contender, error) {
	if b.bare == nil {
		return nil, nil
	}
	o := load.Options{Workers: b.c.Clients, Warmup: b.c.Warmup, Duration: min(b.c.Duration, maxLimitDuration), Seed: b.c.Seed}
	switch {
	case op == "get" || op == "head":
		w, err := b.target.Workload(op)
		w.Name = "bare " + w.Name
		o.CPU = load.CPUOf(b.bare.Pid)
		return &load.Contender{Workload: w, Options: o}, err
	case op == "put" && b.size < inlineBelow:
		return &load.Contender{Workload: limits.Pebble(b.dir, b.size, o.Workers), Options: o}, nil
	case op == "put":
		return b.diskLimit(ctx, o)
	}
	return nil, nil
}

// diskLimit returns nil on a file system without direct I/O.
func (b *beside) diskLimit(ctx context.Context, o load.Options) (*load.Contender, error) {
	if b.disk == nil {
		d, err := limits.NewDisk(ctx, b.dir, diskBytes)
		if errors.Is(err, limits.ErrNoDirect) {
			b.c.Progress.Say("%v: no limit for puts", err)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		b.disk = d
	}
	w, workers := b.disk.SequentialWrite()
	o.Workers = workers
	return &load.Contender{Workload: w, Options: o}, nil
}
