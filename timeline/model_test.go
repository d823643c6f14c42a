package timeline_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"stemma/timeline/timelinetest"
)

// The seed and length of the model and swarm tests: by flag, or by the
// variables STEMMA_MODEL_SEED and STEMMA_MODEL_STEPS. Zero: some fixed seeds
// and a random one.
var (
	modelSeed  = flag.Uint64("seed", envUint("STEMMA_MODEL_SEED"), "seed of the model test")
	modelSteps = flag.Uint64("steps", envUint("STEMMA_MODEL_STEPS"), "steps of the model test")
)

func envUint(name string) uint64 {
	s := os.Getenv(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s=%q: %v", name, s, err))
	}
	return n
}

// seeds returns the seeds of a test: the one asked for, or fixed ones and a
// random one.
func seeds(fixed ...uint64) []uint64 {
	if *modelSeed != 0 {
		return []uint64{*modelSeed}
	}
	return append(fixed, 1+rand.Uint64()>>16)
}

func steps(def int) int {
	if *modelSteps != 0 {
		return int(*modelSteps)
	}
	if testing.Short() {
		return def / 4
	}
	return def
}

// modelMustDo is what the runs of TestModel together must have done.
var modelMustDo = []string{
	"commit", "update", "exclusive", "create", "fork", "delete-bucket", "rename", "pin", "unpin", "lease",
	"flush", "compact", "flushes", "compactions",
}

func TestModel(t *testing.T) {
	var all timelinetest.Coverage
	for _, seed := range seeds(1, 2, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("run again with -run %s -seed %d -steps %d", t.Name(), seed, steps(1500))
			m, err := timelinetest.NewModel(timelinetest.Config{Seed: seed, Steps: steps(1500)})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			err = m.Run()
			all.Merge(m.Coverage())
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Logf("what was done:\n%s", &all)
	if missing := all.Missing(modelMustDo); *modelSteps == 0 && len(missing) > 0 {
		t.Errorf("never done: %q", missing)
	}
}
