package timeline_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"stemma/internal/seeds"
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

// soaking says that hours are available: make soak.
var soaking = os.Getenv("STEMMA_SOAK") != ""

// modelSeeds returns the seeds of a test: the one asked for, or those given and
// that of its name, and in a soak many more.
func modelSeeds(t testing.TB, fixed ...uint64) []uint64 {
	if *modelSeed != 0 {
		return []uint64{*modelSeed}
	}
	fixed = append(fixed, 1+seeds.For(t)>>16)
	for i := 0; soaking && i < 200; i++ {
		fixed = append(fixed, 1+rand.Uint64()>>16)
	}
	return fixed
}

// steps returns how long a run is, def unless something else was asked for.
func steps(def int) int {
	switch {
	case *modelSteps != 0:
		return int(*modelSteps)
	case soaking:
		return 5 * def
	case testing.Short():
		return max(def/4, 1)
	}
	return def
}

// modelMustDo is what the runs of TestModel together must have done.
var modelMustDo = []string{
	"commit", "update", "exclusive", "abort a transaction", "create", "delete-bucket", "delete a bucket with living forks",
	"rename", "snapshot", "set-snapshot", "delete-snapshot", "snapshot of several buckets", "page of snapshots", "lease",
	"snapshot: timeline: snapshot exists", "delete-snapshot: timeline: snapshot is held", "delete-bucket: timeline: snapshot is held",
	"fork", "fork at the tip", "fork in the past", "fork below the birth of the source", "fork of a fork", "several forks in one commit",
	"write delta", "deepest stack", "read a stack across a branch point",
	"write delete", "write range delete", "write empty body", "write small inline body", "write inline body to be parted",
	"write extents body", "write spilled body", "copy by handle", "abandon an upload", "commit that is too large",
	"read key", "read missing key", "read key of an ancestor", "read inline body", "read extents body", "read spilled body",
	"read body of several extents", "read range of a body", "scan forward", "scan backward", "scan at random",
	"read above the visible LSN", "read in the future refused", "held view read to its end", "clock jump",
	"flush", "flushes", "compact", "compactions", "layers in level 0, at most", "layers in level 5, at most", "layers in level 6, at most",
	"move: restore", "move: back behind a move", "move: reset", "move: promote", "move: swap", "move: any", "read before a move",
	"committed merge, foretold", "committed rebase, foretold", "committed pick, foretold", "committed revert, foretold", "merge: timeline: merge conflict",
	"step: adopt: version swapped",
	"set-window", "set-properties", "expired", "start across a gap", "page of forks", "page of marked buckets", "fork with records of its own", "undelete", "undelete: timeline: bucket is gone", "detach",
	"collect, busy", "collect, idle", "collect, full", "exact", "exact: values", "exact: tombstones", "exact: range tombstones",
	"exact: copies by rollups", "exact: segment with holes", "exact: rewritten segment", "collections", "purged", "reclaimed bytes",
	"read refused: below the horizon", "read at a pin", "fork: below the horizon",
	"close and open", "crash between operations", "crash during an operation", "crash during recovery", "orphans removed",
	"indeterminate commit is absent", "failure of a file system call", "failure during recovery", "store went read-only",
}

// Random operations, crashes and failures, one at a time, against the oracle. The engine's own goroutines make two runs
// of a seed differ, so a rare thing may be left out by all of them: then more seeds run until all has been done.
func TestModel(t *testing.T) {
	const maxSeeds = 24 // the rarest of it is done by each third
	whole := *modelSteps == 0 && *modelSeed == 0 && !testing.Short()
	var all timelinetest.Coverage
	todo := modelSeeds(t, 1, 2)
	for i := 0; i < len(todo); i++ {
		seed := todo[i]
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("run again with -run TestModel -seed %d -steps %d", seed, steps(600))
			m, err := timelinetest.NewModel(timelinetest.Config{Seed: seed, Steps: steps(600)})
			if err != nil {
				t.Fatal(err)
			}
			err = m.Run()
			all.Merge(m.Coverage())
			if err = errors.Join(err, m.Close()); err != nil {
				t.Fatal(err)
			}
		})
		if i == len(todo)-1 && len(todo) < maxSeeds && whole && !t.Failed() && len(all.Missing(modelMustDo)) > 0 {
			todo = append(todo, seed+1)
		}
	}
	t.Logf("what was done:\n%s", &all)
	if !whole || t.Failed() {
		return
	}
	if missing := all.Missing(modelMustDo); len(missing) > 0 {
		t.Errorf("never done: %q", missing)
	}
}
