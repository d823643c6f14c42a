package report

import (
	"time"

	"stemma/benchmarks/load"
)

// Row is one figure.
type Row struct {
	// Suite groups rows: "limits", "s3", "forks".
	Suite string `json:"suite"`
	// Name is unique in its suite.
	Name string `json:"name"`
	// Unit is that of Value and Limit: "op/s", "MiB/s", "us", "bytes".
	Unit  string `json:"unit"`
	Value Spread `json:"value"`
	// Lower says that less is better.
	Lower bool `json:"lower_is_better,omitempty"`
	// Limit is what the machine, or a bare part of the system, gives. May be nil.
	Limit   *Limit     `json:"limit,omitempty"`
	Latency *Latency   `json:"latency_us,omitempty"`
	Classes []ClassRow `json:"classes,omitempty"`
	Series  []float64  `json:"series,omitempty"` // the value of each round
	// SeriesAt is when each value of Series was taken, in seconds since the first round
	// began, for rows that are watched over time. Absent, or as long as Series.
	SeriesAt []float64   `json:"series_at_s,omitempty"`
	Curve    []CurveStep `json:"curve,omitempty"` // latency by percentile, for plots
	// CPU is the server's processor time for an operation, in microseconds; 0: unknown.
	CPU float64 `json:"server_cpu_us_per_op,omitempty"`
	// Errors counts operations that failed, FirstError is the first of them.
	Errors     int64  `json:"errors,omitempty"`
	FirstError string `json:"first_error,omitempty"`
	// Note is for the reader.
	Note string `json:"note,omitempty"`
}

// Spread is the median of the rounds and how far they were from each other.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	MAD    float64 `json:"mad"` // median absolute deviation
	Rounds int     `json:"rounds"`
}

// Limit is what a figure cannot pass.
type Limit struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"` // in the row's unit
	// Ratio is the row's median by Value: how much of the limit was reached.
	Ratio float64 `json:"ratio"`
}

// Latency is percentiles in microseconds.
type Latency struct {
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
	Count int64   `json:"count"`
}

// ClassRow is the latency of one kind of operation of a mixed load.
type ClassRow struct {
	Name    string  `json:"name"`
	Latency Latency `json:"latency_us"`
}

// CurveStep is a point of a latency curve.
type CurveStep struct {
	Percentile float64 `json:"percentile"`
	Micros     float64 `json:"us"`
}

// FromResult makes a row of what a workload did: its rate and latencies.
func FromResult(suite string, r *load.Result) Row {
	rates := r.Rates()
	row := Row{Suite: suite, Name: r.Name, Unit: r.Unit + "/s", Value: spread(load.SpreadOf(rates)), Series: rates, CPU: micros(r.CPUPerOp())}
	row.Errors, row.FirstError = r.Errors()
	if p := r.Latency(); p.Count > 0 {
		l := latency(p)
		row.Latency = &l
	}
	for _, c := range r.Classes() {
		row.Classes = append(row.Classes, ClassRow{c.Name, latency(load.PercentilesOf(c.Latency))})
	}
	for _, s := range r.Curve() {
		row.Curve = append(row.Curve, CurveStep{s.Percentile, micros(s.Latency)})
	}
	return row
}

// FromLatency makes a row of how long an operation of a workload took: a percentile
// of each round, in microseconds, and the latencies.
func FromLatency(suite string, r *load.Result, percentile float64) Row {
	row := FromResult(suite, r)
	row.Unit, row.Lower, row.Series = "us", true, nil
	for i := range r.Rounds {
		row.Series = append(row.Series, micros(time.Duration(r.Rounds[i].Latency.ValueAtQuantile(percentile))))
	}
	row.Value = spread(load.SpreadOf(row.Series))
	return row
}

// Number makes a row of one number for each round, such as seconds to recover.
func Number(suite, name, unit string, lower bool, series ...float64) Row {
	return Row{Suite: suite, Name: name, Unit: unit, Lower: lower, Value: spread(load.SpreadOf(series)), Series: series}
}

// SetLimit names the limit of a row and how much of it was reached.
func (r *Row) SetLimit(name string, value float64) {
	r.Limit = &Limit{Name: name, Value: value}
	if value > 0 {
		r.Limit.Ratio = r.Value.Median / value
	}
}

func spread(s load.Spread) Spread {
	return Spread{s.Median, s.Min, s.Max, s.MAD, s.Rounds}
}

func latency(p load.Percentiles) Latency {
	return Latency{micros(p.P50), micros(p.P90), micros(p.P99), micros(p.P999), micros(p.Max), p.Count}
}

// micros returns d in microseconds.
func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
