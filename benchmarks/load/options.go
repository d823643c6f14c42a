package load

import (
	"fmt"
	"time"
)

// Options say how a workload is driven.
type Options struct {
	// Workers is how many operations are under way at once, at most.
	Workers int
	// Rate is the operations per second of an open loop; 0 means a closed loop.
	Rate float64
	// Warmup is how long the load runs before it is measured.
	Warmup time.Duration
	// Duration is how long it is measured. Either Duration or Ops is set.
	Duration time.Duration
	// Ops is how many operations are measured.
	Ops int64
	// Rounds is how often all of this is done; 0 counts as 1.
	Rounds int
	// Seed makes the randomness of the workers, which differs between them and rounds.
	Seed uint64
	// CPU returns the processor time that the server has used so far. May be nil.
	CPU func() (time.Duration, error)
}

// validate refuses options that mean nothing.
func (o *Options) validate() error {
	switch {
	case o.Workers < 1:
		return fmt.Errorf("load: %d workers, want at least 1", o.Workers)
	case o.Rate < 0 || o.Warmup < 0 || o.Duration < 0 || o.Ops < 0 || o.Rounds < 0:
		return fmt.Errorf("load: negative option in %+v", *o)
	case (o.Duration == 0) == (o.Ops == 0):
		return fmt.Errorf("load: duration %v and %d operations, want either", o.Duration, o.Ops)
	}
	return nil
}
