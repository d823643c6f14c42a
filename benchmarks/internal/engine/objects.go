package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fill fills p with bytes that follow from the seed and do not compress.
func Fill(p []byte, seed uint64) {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(p) // never fails
}

// Size draws a size between least and most, each order of magnitude equally likely.
func Size(rng *rand.Rand, least, most int) int {
	return int(float64(least) * math.Pow(float64(most)/float64(least), rng.Float64()))
}

// Ints reads a list of numbers, each above zero.
func Ints(list string) (all []int, err error) {
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q: want numbers above zero", list)
		}
		all = append(all, n)
	}
	return all, nil
}

// Quantile returns the q-quantile of durations, which it sorts; zero for none.
func Quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[int(q*float64(len(all)-1))]
}

// Ratio is a over b.
func Ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }
