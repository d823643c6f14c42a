package load

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sleeper is a workload whose operations take d.
func sleeper(d time.Duration) Workload {
	return Workload{Name: "sleep", Unit: "op", Op: func(context.Context, int, *rand.Rand) (Done, error) {
		time.Sleep(d)
		return Done{Bytes: 10}, nil
	}}
}

func TestOpsMode(t *testing.T) {
	var ops atomic.Int64
	w := Workload{Name: "count", Unit: "key", Classes: []string{"even", "odd"}, Op: func(context.Context, int, *rand.Rand) (Done, error) {
		n := ops.Add(1)
		return Done{Class: int(n % 2), Units: 3, Bytes: 2}, nil
	}}
	res, err := Run(t.Context(), w, Options{Workers: 4, Ops: 1000, Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	if ops.Load() != 3000 || len(res.Rounds) != 3 {
		t.Errorf("%d operations in %d rounds", ops.Load(), len(res.Rounds))
	}
	for _, r := range res.Rounds {
		if r.Ops != 1000 || r.Units != 3000 || r.Bytes != 2000 || r.Errors != 0 || r.Latency.TotalCount() != 1000 || r.Elapsed <= 0 {
			t.Errorf("round %+v", r)
		}
	}
	classes := res.Classes()
	if len(classes) != 2 || classes[0].Name != "even" || classes[0].Latency.TotalCount() != 1500 || classes[1].Latency.TotalCount() != 1500 {
		t.Errorf("classes %+v", classes)
	}
	curve := res.Curve()
	if last := curve[len(curve)-1]; curve[0].Percentile != 0 || last.Percentile < 99 || last.Latency < curve[0].Latency {
		t.Errorf("curve %+v", curve)
	}
	if got, ops := res.Rate().Median, res.OpsPerSecond().Median; math.Abs(got/ops-3) > 1e-9 {
		t.Errorf("%v keys/s for %v op/s", got, ops)
	}
}

func TestDurationMode(t *testing.T) {
	res, err := Run(t.Context(), sleeper(time.Millisecond), Options{Workers: 2, Warmup: 20 * time.Millisecond, Duration: 60 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r := res.Rounds[0]
	if r.Elapsed != 60*time.Millisecond || r.Ops == 0 || r.Ops > 120 || r.Bytes != 10*r.Ops {
		t.Errorf("%+v", r)
	}
	if p := res.Latency(); p.P50 < time.Millisecond || p.Max < p.P999 || p.P999 < p.P50 {
		t.Errorf("%+v", p)
	}
}

// An operation that is longer than the round is waited for, and its latency counts.
func TestLongOperationCounts(t *testing.T) {
	res, err := Run(t.Context(), sleeper(100*time.Millisecond), Options{Workers: 1, Duration: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if p := res.Latency(); p.Count != 1 || p.Max < 99*time.Millisecond {
		t.Errorf("%+v", p)
	}
}

func TestErrors(t *testing.T) {
	boom := errors.New("boom")
	var n atomic.Int64
	w := Workload{Name: "fails", Unit: "op", Op: func(context.Context, int, *rand.Rand) (Done, error) {
		if n.Add(1)%2 == 0 {
			return Done{}, boom
		}
		return Done{}, nil
	}}
	res, err := Run(t.Context(), w, Options{Workers: 1, Ops: 100})
	if err != nil {
		t.Fatal(err)
	}
	if n, first := res.Errors(); n != 50 || first != "boom" || res.Rounds[0].Ops != 50 || res.Latency().Count != 50 {
		t.Errorf("%d errors, first %q, %+v", n, first, res.Rounds[0])
	}
	w.Op = func(context.Context, int, *rand.Rand) (Done, error) { return Done{}, boom }
	if _, err := Run(t.Context(), w, Options{Workers: 1, Ops: 10}); err == nil {
		t.Error("a load of nothing but errors is no error")
	}
}

func TestEnd(t *testing.T) {
	for name, rate := range map[string]float64{"closed": 0, "open": 100000} {
		t.Run(name, func(t *testing.T) {
			var left atomic.Int64
			var before, after []int
			w := Workload{
				Name: "drain", Unit: "op",
				Before: func(_ context.Context, round int) error { before = append(before, round); left.Store(50); return nil },
				After:  func(_ context.Context, round int) error { after = append(after, round); return nil },
				Op: func(context.Context, int, *rand.Rand) (Done, error) {
					if left.Add(-1) < 0 {
						return Done{}, ErrEnd
					}
					return Done{}, nil
				},
			}
			res, err := Run(t.Context(), w, Options{Workers: 3, Rate: rate, Duration: time.Hour, Rounds: 2})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range res.Rounds {
				if r.Ops != 50 || r.Errors != 0 || r.Elapsed > time.Minute || r.Unsent != 0 {
					t.Errorf("%+v", r)
				}
			}
			if len(before) != 2 || len(after) != 2 || after[1] != 1 {
				t.Errorf("before %v, after %v", before, after)
			}
		})
	}
}

// A server that stalls once for 300 ms: a closed loop sees one slow operation,
// an open loop sees all that should have started in that time.
func TestCoordinatedOmission(t *testing.T) {
	const stall = 300 * time.Millisecond
	run := func(rate float64) Percentiles {
		var server sync.Mutex
		served := 0
		w := Workload{Name: "stall", Unit: "op", Op: func(context.Context, int, *rand.Rand) (Done, error) {
			server.Lock()
			defer server.Unlock()
			if served++; served == 50 {
				time.Sleep(stall)
			}
			return Done{}, nil
		}}
		res, err := Run(t.Context(), w, Options{Workers: 2, Rate: rate, Ops: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return res.Latency()
	}
	if p := run(0); p.P99 > stall/10 || p.Max < stall {
		t.Errorf("closed loop %+v", p)
	}
	// At 1,000 a second about 300 of 1,000 operations were meant to start in the stall.
	if p := run(1000); p.P99 < stall*8/10 || p.P90 < stall/3 || p.Count != 1000 {
		t.Errorf("open loop %+v", p)
	}
}

// What is never started is reported, with how long it has waited.
func TestUnsent(t *testing.T) {
	block := make(chan struct{})
	time.AfterFunc(drainAtLeast+200*time.Millisecond, func() { close(block) })
	w := Workload{Name: "block", Unit: "op", Op: func(context.Context, int, *rand.Rand) (Done, error) {
		<-block
		return Done{}, nil
	}}
	res, err := Run(t.Context(), w, Options{Workers: 1, Rate: 100, Duration: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r := res.Rounds[0]
	if r.Unsent != 9 || r.Latency.TotalCount() != 10 || r.Latency.Min() < int64(drainAtLeast-time.Second) {
		t.Errorf("%+v, %d latencies, least %v", r, r.Latency.TotalCount(), time.Duration(r.Latency.Min()))
	}
}

func TestCancel(t *testing.T) {
	for _, rate := range []float64{0, 1000} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if _, err := Run(ctx, sleeper(time.Millisecond), Options{Workers: 2, Rate: rate, Duration: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("rate %v: %v", rate, err)
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	for _, o := range []Options{{}, {Workers: 1}, {Workers: 1, Ops: 1, Duration: 1}, {Workers: 1, Ops: 1, Rate: -1}} {
		if _, err := Run(t.Context(), sleeper(0), o); err == nil {
			t.Errorf("%+v accepted", o)
		}
	}
}

func TestSpread(t *testing.T) {
	if s := SpreadOf([]float64{9, 1, 2, 4}); s != (Spread{Median: 3, Min: 1, Max: 9, MAD: 1.5, Rounds: 4}) {
		t.Errorf("%+v", s)
	}
	if s := SpreadOf([]float64{7}); s != (Spread{Median: 7, Min: 7, Max: 7, Rounds: 1}) {
		t.Errorf("%+v", s)
	}
}

func TestCPU(t *testing.T) {
	used, err := parseStat([]byte("7 (a) (b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 5 0 100 1 1"))
	if err != nil || used != 3*time.Second {
		t.Errorf("%v, %v", used, err)
	}
	if _, err := parseStat([]byte("7 (a) S 1")); err == nil {
		t.Error("a short line was accepted")
	}
	busy := Workload{Name: "busy", Unit: "op", Op: func(context.Context, int, *rand.Rand) (Done, error) {
		for begin := time.Now(); time.Since(begin) < 10*time.Millisecond; {
		}
		return Done{}, nil
	}}
	res, err := Run(t.Context(), busy, Options{Workers: 1, Ops: 30, CPU: CPUOf(os.Getpid())})
	if err != nil || res.CPUPerOp() == 0 {
		t.Errorf("%v an operation, %v", res.CPUPerOp(), err)
	}
}
