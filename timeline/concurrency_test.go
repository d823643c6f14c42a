package timeline_test

import (
	"fmt"
	"testing"

	"stemma/timeline/timelinetest"
)

var swarmMustDo = []string{
	"commit", "update", "exclusive", "create", "fork", "delete-bucket", "rename", "flushes", "compactions",
	"crash", "close and open", "read explained",
}

// Many writers and readers at once, with crashes under them.
func TestSwarm(t *testing.T) {
	var all timelinetest.Coverage
	for _, seed := range modelSeeds(t, 21) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("again with -run TestSwarm -seed %d; what the scheduler did does not repeat", seed)
			w, err := timelinetest.NewSwarm(timelinetest.SwarmConfig{
				Seed: seed, Rounds: max(2, steps(5)), Writers: 6, Readers: 2, Ops: 60,
			})
			if err != nil {
				t.Fatal(err)
			}
			err = w.Run()
			all.Merge(w.Coverage())
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Logf("what was done:\n%s", &all)
	if *modelSteps != 0 || *modelSeed != 0 || testing.Short() || t.Failed() {
		return
	}
	if missing := all.Missing(swarmMustDo); len(missing) > 0 {
		t.Errorf("never done: %q", missing)
	}
}
