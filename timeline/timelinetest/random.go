package timelinetest

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"stemma/layers"
)

// oddKeys are those at which comparisons and successors go wrong.
var oddKeys = []string{
	"", "\x00", "\x00\x00", "\xff", "\xff\xff", "a", "a\x00", "a\xff", "b/", "b//",
	strings.Repeat("k", 1000), strings.Repeat("k", 1000) + "\x00",
}

// randomKey picks one of the few keys of a namespace.
func randomKey(rng *rand.Rand, ns layers.Namespace) string {
	if rng.IntN(6) == 0 {
		return oddKeys[rng.IntN(len(oddKeys))]
	}
	switch ns {
	case layers.NamespaceObjects:
		return fmt.Sprintf("dir%d/sub%d/key-%02d", rng.IntN(2), rng.IntN(2), rng.IntN(12))
	case layers.NamespaceVersions:
		return fmt.Sprintf("v/%02d", rng.IntN(12))
	default:
		return fmt.Sprintf("%02d", rng.IntN(8))
	}
}

// probe returns a key next to k.
func probe(rng *rand.Rand, k string) string {
	switch rng.IntN(3) {
	case 0:
		return k + "\x00"
	case 1:
		return k[:rng.IntN(len(k)+1)]
	default:
		return k + "~"
	}
}

// randomBounds picks lo < hi.
func randomBounds(rng *rand.Rand, ns layers.Namespace) (lo, hi string) {
	for {
		lo, hi = randomKey(rng, ns), randomKey(rng, ns)
		if rng.IntN(2) == 0 {
			hi = probe(rng, lo)
		}
		if lo > hi {
			lo, hi = hi, lo
		}
		if lo < hi {
			return lo, hi
		}
	}
}
