// Package seeds gives tests the seeds of their random choices.
//
// The same code gets the same seeds in every run, so that a failure here is one
// everywhere, and a change is not judged by the luck of the day. With
// STEMMA_RANDOM_SEEDS set, as in make soak, each run draws new ones.
package seeds

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"testing"
)

// For returns the seed for a test, by its name, and logs it.
func For(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if os.Getenv("STEMMA_RANDOM_SEEDS") == "" {
		h := fnv.New64a()
		h.Write([]byte(t.Name())) // never fails
		seed = h.Sum64()
	}
	t.Logf("seed %d", seed)
	return seed
}
