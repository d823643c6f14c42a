package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Round is what one round did.
type Round struct {
	Elapsed time.Duration // of what is measured
	Ops     int64         // that succeeded
	Units   int64         // of Workload.Unit, that they did
	Bytes   int64
	Errors  int64 // operations that failed
	// Unsent counts operations of an open loop that no worker was free for before the
	// round was given up; Latency has how long they had waited.
	Unsent     int64
	FirstError string
	CPU        time.Duration // of the server; 0 when unknown
	// Latency holds nanoseconds.
	Latency *hdrhistogram.Histogram
	// Classes is empty unless the workload has classes.
	Classes []Class
}

// Class is one kind of operation of a mixed load.
type Class struct {
	Name    string
	Latency *hdrhistogram.Histogram // nanoseconds
}

func newRound(w *Workload) Round {
	r := Round{Latency: newHistogram()}
	for _, name := range w.Classes {
		r.Classes = append(r.Classes, Class{name, newHistogram()})
	}
	return r
}

// add enters what a shard has gathered.
func (r *Round) add(s *shard) {
	r.Ops += s.ops
	r.Units += s.units
	r.Bytes += s.bytes
	r.Errors += s.errors
	if r.FirstError == "" {
		r.FirstError = s.first
	}
	r.Latency.Merge(s.all)
	for i := range r.Classes {
		r.Classes[i].Latency.Merge(s.classes[i])
	}
}

// Rate returns what the round did in a second, in the unit.
func (r *Round) Rate(unit string) float64 {
	n := float64(r.Units)
	if unit == UnitMiB {
		n = float64(r.Bytes) / (1 << 20)
	}
	return perSecond(n, r.Elapsed)
}

// CPUPerOp returns the server's processor time for an operation; 0 when unknown.
func (r *Round) CPUPerOp() time.Duration {
	if r.Ops == 0 {
		return 0
	}
	return time.Duration(float64(r.CPU) / float64(r.Ops))
}

func perSecond(n float64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return n / d.Seconds()
}

// Result is what all rounds of a workload did.
type Result struct {
	Name, Unit string
	Rounds     []Round
}

// Rates returns the rate of each round, in Unit a second.
func (r *Result) Rates() []float64 {
	return r.each(func(x *Round) float64 { return x.Rate(r.Unit) })
}

// Rate returns the rates in short, in Unit a second.
func (r *Result) Rate() Spread { return SpreadOf(r.Rates()) }

// OpsPerSecond returns operations a second, whatever the unit.
func (r *Result) OpsPerSecond() Spread {
	return SpreadOf(r.each(func(x *Round) float64 { return perSecond(float64(x.Ops), x.Elapsed) }))
}

// BytesPerSecond returns bytes of payload a second.
func (r *Result) BytesPerSecond() Spread {
	return SpreadOf(r.each(func(x *Round) float64 { return perSecond(float64(x.Bytes), x.Elapsed) }))
}

// CPUPerOp returns the median over the rounds of the server's processor time for
// an operation; 0 when unknown.
func (r *Result) CPUPerOp() time.Duration {
	s := SpreadOf(r.each(func(x *Round) float64 { return float64(x.CPUPerOp()) }))
	return time.Duration(s.Median)
}

func (r *Result) each(f func(*Round) float64) []float64 {
	all := make([]float64, len(r.Rounds))
	for i := range r.Rounds {
		all[i] = f(&r.Rounds[i])
	}
	return all
}

// Errors returns how many operations failed or were never started, and the first
// error.
func (r *Result) Errors() (n int64, first string) {
	for i := range r.Rounds {
		n += r.Rounds[i].Errors + r.Rounds[i].Unsent
		if first == "" {
			first = r.Rounds[i].FirstError
		}
	}
	return n, first
}

// Latency returns the percentiles over the operations of all rounds together.
func (r *Result) Latency() Percentiles { return PercentilesOf(r.merged()) }

// merged returns the latencies of all rounds.
func (r *Result) merged() *hdrhistogram.Histogram {
	h := newHistogram()
	for i := range r.Rounds {
		h.Merge(r.Rounds[i].Latency)
	}
	return h
}

// Classes returns the latencies of each class over all rounds together, in the order
// of Workload.Classes.
func (r *Result) Classes() []Class {
	if len(r.Rounds) == 0 {
		return nil
	}
	var all []Class
	for i, c := range r.Rounds[0].Classes {
		h := newHistogram()
		for j := range r.Rounds {
			h.Merge(r.Rounds[j].Classes[i].Latency)
		}
		all = append(all, Class{c.Name, h})
	}
	return all
}

// Step is a point of a latency curve.
type Step struct {
	Percentile float64
	Latency    time.Duration
}

// Curve returns latency by percentile over all rounds together, in steps that halve
// the distance to 100 % until fewer than ten operations are beyond; nothing if
// there was no operation.
func (r *Result) Curve() []Step {
	h := r.merged()
	var all []Step
	for away := 100.0; float64(h.TotalCount())*away/100 >= 10; away /= 2 {
		p := 100 - away
		all = append(all, Step{p, time.Duration(h.ValueAtQuantile(p))})
	}
	return all
}
