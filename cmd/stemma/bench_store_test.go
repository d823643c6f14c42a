package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The workloads of the store run in small, say what they are for, leave nothing
// behind, and no request of theirs fails.
func TestBenchStore(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for name, rows := range map[string][]string{ // some of them
		"forks": {
			"fork, 1 objects", "fork, 100 forks", "forks, 20 in a commit", "heap of an idle fork", "start with all forks, after kill -9",
			"memory of a server with all forks", "fork by the API, 1,000 objects, under 8 writers", "p99 of fork by the API, 1,000 objects, under 8 writers",
			"forks by the API, 20 in a request",
		},
		"log": {
			"log alone: commits of 4 KiB, writers: 1", "latency of log alone: commits of 4 KiB, writers: 1", "log alone: commits of 4 KiB, writers: 4",
			"latency of engine: commits of 4 KiB, writers: 1", "engine: commits of 4 KiB, writers: 4",
		},
		"swarm": {"requests of 2 agents", "lives of 2 agents", "requests of 2 agents that merge", "lives of 2 agents that merge"},
		"chain": {
			"depth 20, nothing written: get untouched", "depth 20, at rest: get touched", "depth 20, read often: get miss",
			"depth 20, read often: list 1,000",
		},
		"past": {"get, 1 versions back", "list 1,000, 3 versions back"},
		"pages": {
			"read, hot, depth 0, full: get", "read, hot, depth 3, deltas: batches of 4", "read, cold, depth 3, full: stream, 4 under way",
			"write, depth 0, 8 KiB: patch", "write, depth 3, 128 bytes: commits of 4", "write, depth 3, 8 KiB: stream, 4 under way, an object each",
		},
		"diff":     {"diff, counts, 10 changes", "diff, entries, 100 changes"},
		"merge":    {"merge, dry run, 10 changes", "merge, 100 changes", "rebase, 100 changes", "revert, 100 changes"},
		"list":     {"list of 2,500 objects", "list-dirs of 2,500 objects", "memory after lists and heads of 2,500 objects"},
		"reclaim":  {"p99 of mixed 4 KiB alone", "p99 of mixed 4 KiB while bytes are given back", "given back"},
		"recovery": {"kill -9 to ready, 2 MiB of log"},
		"soak":     {"resident memory", "layers and values on the disk", "p99 of mixed 1 KiB", "agents"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for stores to come to rest, most of the time
			dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out.json")
			cmd := exec.CommandContext(t.Context(), bin, "bench", name, "--quick", "--rounds", "2", "--dir", dir, "--json", out)
			cmd.Env = environment()
			if msg, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, msg)
			}
			r := readReport(t, out)
			seen := make(map[string]bool)
			for _, row := range r.Rows {
				seen[row.Name] = true
				if row.Suite != name || row.Errors > 0 || row.Value.Rounds == 0 {
					t.Errorf("%+v", row)
				}
			}
			for _, row := range rows {
				if !seen[row] {
					t.Errorf("no row %q in %v", row, seen)
				}
			}
			if !strings.Contains(r.Command, "--quick") {
				t.Errorf("command %q", r.Command)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
