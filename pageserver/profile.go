package pageserver

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strconv"
	"time"
)

// maxProfileSeconds bounds how long a profile is gathered.
const maxProfileSeconds = 300

// Rates of the profiles that cost something while they are gathered.
const (
	blockProfileNanos    = 10_000 // one sample for so long a wait
	mutexProfileFraction = 10     // one contention of so many
)

// ProfileAnswer is a profile of the server's process, as `go tool pprof` reads it.
type ProfileAnswer struct {
	Kind    string `json:"kind"`
	Profile []byte `json:"profile"`
}

// profile serves GET /v1/profile?kind=cpu|block|mutex|heap|allocs|goroutine&seconds=N.
// One runs at a time.
func (a *admin) profile(ctx context.Context, r *adminRequest, _ string) (any, error) {
	kind, _ := r.target.Get("kind")
	wait := 10 * time.Second
	if text, ok := r.target.Get("seconds"); ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxProfileSeconds {
			return nil, invalid(fmt.Sprintf("seconds must be a number from 1 to %d", maxProfileSeconds))
		}
		wait = time.Duration(n) * time.Second
	}
	select {
	case a.profiling <- struct{}{}:
		defer func() { <-a.profiling }()
	default:
		return nil, &AdminError{Code: "ProfileRunning", Message: "a profile is being gathered already"}
	}
	var b bytes.Buffer
	switch kind {
	case "cpu":
		if err := pprof.StartCPUProfile(&b); err != nil {
			return nil, &AdminError{Code: "ProfileRunning", Message: err.Error()}
		}
		err := sleep(ctx, wait)
		pprof.StopCPUProfile()
		return &ProfileAnswer{kind, b.Bytes()}, err
	case "block":
		runtime.SetBlockProfileRate(blockProfileNanos)
		defer runtime.SetBlockProfileRate(0)
	case "mutex":
		defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(mutexProfileFraction))
	case "heap", "allocs", "goroutine":
		wait = 0 // they tell what is, or was since the start
	default:
		return nil, invalid("kind must be cpu, block, mutex, heap, allocs or goroutine")
	}
	if err := sleep(ctx, wait); err != nil {
		return nil, err
	}
	if err := pprof.Lookup(kind).WriteTo(&b, 0); err != nil {
		return nil, fmt.Errorf("profile %s: %w", kind, err)
	}
	return &ProfileAnswer{kind, b.Bytes()}, nil
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
