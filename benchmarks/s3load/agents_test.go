package s3load

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"stemma/benchmarks/load"
)

// Agents do every step of theirs, read what is to be read in a fork, and leave
// nothing behind: neither those that keep their forks nor those cut off in the middle.
func TestAgents(t *testing.T) {
	tg := target(t, Config{Endpoint: start(t), Buckets: "swarm", Workers: 3, Size: 300, Objects: 1, Deletes: 1, Keys: 1})
	base, err := tg.Base(t.Context(), 20)
	if err != nil {
		t.Fatal(err)
	}
	o := AgentOptions{Reads: 5, Writes: 4}
	if o.Steps() != 12 {
		t.Errorf("%d steps", o.Steps())
	}
	run := func(o AgentOptions, ops int64, want ...int64) {
		t.Helper()
		res, err := load.Run(t.Context(), tg.Agents(base, 20, o), load.Options{Workers: 3, Ops: ops})
		if err != nil {
			t.Fatal(err)
		}
		if n, first := res.Errors(); n != 0 {
			t.Errorf("%d errors, first %s", n, first)
		}
		for i, c := range res.Classes() {
			if got := c.Latency.TotalCount(); want != nil && got != want[i] {
				t.Errorf("%s: %d times, want %d", c.Name, got, want[i])
			}
		}
	}
	run(AgentOptions{Writes: 1, Keep: true}, 1, 1, 0, 0, 0, 0)
	run(o, 200)
	if n := len(tg.mu.forks); n < 1 || n > 4 {
		t.Errorf("%d forks live", n)
	}
	kept, err := tg.DropKept(t.Context())
	if err != nil || kept < 1 || len(tg.mu.forks) != 0 {
		t.Errorf("dropped %d forks, %d are left, %v", kept, len(tg.mu.forks), err)
	}
	run(AgentOptions{Reads: 1, Keep: true}, 10)
	var diffs, merges atomic.Int64
	note := func(n *atomic.Int64) func(context.Context, string, string) error {
		return func(_ context.Context, from, fork string) error {
			tg.mu.Lock()
			defer tg.mu.Unlock()
			if _, lives := tg.mu.forks[fork]; from != base || !lives {
				t.Errorf("fork %q of %q", fork, from)
			}
			n.Add(1)
			return nil
		}
	}
	if o = (AgentOptions{Writes: 1, Diff: note(&diffs), Merge: note(&merges)}); o.Steps() != 6 {
		t.Errorf("%d steps", o.Steps())
	}
	run(o, 60)
	if diffs.Load() < 8 || merges.Load() < 8 {
		t.Errorf("%d differences and %d merges", diffs.Load(), merges.Load())
	}
	if err := tg.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s := tg.newSession()
	s.path = []byte("/")
	s.begin("GET", nil, header{hash: emptySHA256})
	if err := s.do(); err != nil || strings.Contains(string(s.res.Body()), "<Bucket>") {
		t.Errorf("buckets are left: %v %s", err, s.res.Body())
	}
}

// List lists a bucket that another one filled.
func TestListOfAnother(t *testing.T) {
	tg := target(t, Config{Endpoint: start(t), Buckets: "another", Workers: 2, Size: 10, Objects: 1, Deletes: 1, Keys: 1})
	base, err := tg.Base(t.Context(), 1500)
	if err != nil {
		t.Fatal(err)
	}
	for _, delimiter := range []bool{false, true} {
		res, err := load.Run(t.Context(), tg.List(base, delimiter), load.Options{Workers: 2, Ops: 10})
		if err != nil {
			t.Fatal(err)
		}
		if n, first := res.Errors(); n != 0 || res.Rounds[0].Units < 1000 {
			t.Errorf("delimiter %v: %d errors, first %s, %d results", delimiter, n, first, res.Rounds[0].Units)
		}
	}
	res, err := load.Run(t.Context(), tg.Heads(base, 'g', 1500), load.Options{Workers: 2, Ops: 10})
	if n, first := res.Errors(); err != nil || n != 0 {
		t.Errorf("heads: %v, %d errors, first %s", err, n, first)
	}
	if err := tg.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
