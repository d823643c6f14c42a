package report

import (
	"math/rand/v2"
	"slices"

	"stemma/benchmarks/load"
)

// Comparison is how B did beside A in interleaved rounds.
type Comparison struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Lower bool    `json:"lower_is_better,omitempty"`
	A     Spread  `json:"a"`
	B     Spread  `json:"b"`
	Ratio Ratio   `json:"b_to_a"`
	CPUA  float64 `json:"a_server_cpu_us_per_op,omitempty"`
	CPUB  float64 `json:"b_server_cpu_us_per_op,omitempty"`
	// ErrorsA and ErrorsB count operations that failed.
	ErrorsA int64 `json:"a_errors,omitempty"`
	ErrorsB int64 `json:"b_errors,omitempty"`
}

// Ratio is a ratio of medians with its 95 % confidence interval.
type Ratio struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Differs reports whether the interval leaves out 1.
func (r Ratio) Differs() bool { return r.Low > 1 || (r.High < 1 && r.High > 0) }

const (
	resamples = 10000
	tail      = 0.025 // at either end
)

// RatioOf returns the median of b by that of a; zero when a value is not positive or
// a series is empty, since there is no ratio then. The interval is a percentile
// bootstrap: both series are drawn again, with replacement, 10,000 times; the same
// seed gives the same interval. Series of fewer than four rounds make intervals that
// are too narrow.
func RatioOf(a, b []float64, seed uint64) Ratio {
	if len(a) == 0 || len(b) == 0 || slices.Min(a) <= 0 || slices.Min(b) <= 0 {
		return Ratio{}
	}
	rng := rand.New(rand.NewPCG(seed, 95))
	draw := func(from, to []float64) float64 {
		for i := range to {
			to[i] = from[rng.IntN(len(from))]
		}
		return load.Median(to)
	}
	drawnA, drawnB := make([]float64, len(a)), make([]float64, len(b))
	all := make([]float64, resamples)
	for i := range all {
		all[i] = draw(b, drawnB) / draw(a, drawnA)
	}
	slices.Sort(all)
	at := func(q float64) float64 { return all[int(q*float64(len(all)-1)+0.5)] }
	return Ratio{Median: load.Median(b) / load.Median(a), Low: at(tail), High: at(1 - tail)}
}

// Compare compares two rows of the same name: their series, as RatioOf does.
func Compare(a, b *Row, seed uint64) Comparison {
	return Comparison{
		Name: a.Name, Unit: a.Unit, Lower: a.Lower, A: a.Value, B: b.Value,
		Ratio: RatioOf(a.Series, b.Series, seed), CPUA: a.CPU, CPUB: b.CPU,
		ErrorsA: a.Errors, ErrorsB: b.Errors,
	}
}
