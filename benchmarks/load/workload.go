package load

import (
	"context"
	"errors"
	"math/rand/v2"
)

// ErrEnd is what Op returns when the workload has nothing left to do: the worker
// stops, nothing is counted, and it is no error.
var ErrEnd = errors.New("load: the workload is at its end")

// UnitMiB is the unit of a workload whose rate is Done.Bytes, in MiB.
const UnitMiB = "MiB"

// Workload is one kind of load.
type Workload struct {
	// Name names it in results, such as "put 4 KiB".
	Name string
	// Unit is what its rate counts: UnitMiB, or the name of what Done.Units counts,
	// such as "op" or "key".
	Unit string
	// Classes names the kinds of operation of a mixed load. Latencies are kept for
	// each of them too. Empty: there is only one kind.
	Classes []string
	// Before makes ready for a round, outside of the measured time. May be nil.
	Before func(ctx context.Context, round int) error
	// Op does one operation. Workers call it concurrently, each with its own number
	// below Options.Workers and its own source of randomness.
	Op func(ctx context.Context, worker int, rng *rand.Rand) (Done, error)
	// After ends a round, outside of the measured time, even when it failed. May be nil.
	After func(ctx context.Context, round int) error
}

// Done is what one operation did.
type Done struct {
	Class int   // index in Workload.Classes
	Units int64 // of Workload.Unit; 0 counts as 1
	Bytes int64 // of payload
}
