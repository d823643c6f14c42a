package load

import (
	"math"
	"slices"
)

// Spread says in short what several rounds gave. MAD is the median of the
// absolute deviations from the median, not scaled.
type Spread struct {
	Median, Min, Max, MAD float64
	Rounds                int
}

// SpreadOf returns the spread of all, zero if there are none.
func SpreadOf(all []float64) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	s := Spread{Median: Median(all), Min: slices.Min(all), Max: slices.Max(all), Rounds: len(all)}
	away := make([]float64, len(all))
	for i, v := range all {
		away[i] = math.Abs(v - s.Median)
	}
	s.MAD = Median(away)
	return s
}

// Median returns the middle one of all, or the mean of the middle two; NaN if there
// are none. all is left as it is.
func Median(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(all))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
