package s3load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/valyala/fasthttp"

	"stemma/benchmarks/load"
)

// AgentOptions say what an agent does in its fork.
type AgentOptions struct {
	Reads, Writes int
	// Diff and Merge ask for what a fork changed, and bring it into its base, before the
	// fork is dropped; they are not of S3. Nil: that is left out.
	Diff, Merge func(ctx context.Context, base, fork string) error
	// Keep makes the agents leave their forks behind, neither listed nor dropped; they
	// are dropped by DropKept.
	Keep bool
}

// The steps of an agent, classes of the workload.
const (
	stepFork = iota
	stepGet
	stepPut
	stepList
	stepDrop
	stepDiff
	stepMerge
)

var agentSteps = []string{"fork", "get", "put", "list", "drop", "diff", "merge"}

// classes are those of the workload.
func (o *AgentOptions) classes() []string {
	if o.Diff == nil && o.Merge == nil {
		return agentSteps[:stepDiff]
	}
	return agentSteps
}

// Steps is how many requests one agent makes.
func (o *AgentOptions) Steps() int { return len(o.plan()) }

// plan returns the steps of an agent in their order.
func (o *AgentOptions) plan() []int {
	plan := []int{stepFork}
	for range o.Reads {
		plan = append(plan, stepGet)
	}
	for range o.Writes {
		plan = append(plan, stepPut)
	}
	if o.Keep {
		return plan
	}
	plan = append(plan, stepList)
	if o.Diff != nil {
		plan = append(plan, stepDiff)
	}
	if o.Merge != nil {
		plan = append(plan, stepMerge)
	}
	return append(plan, stepDrop)
}

// agent is where the agent of a worker stands.
type agent struct {
	fork string // "": not made yet
	step int
}

// Base makes a bucket of n objects, for agents to fork.
func (t *Target) Base(ctx context.Context, n int) (string, error) {
	base, err := t.makeBucket("base")
	if err != nil {
		return "", err
	}
	return base, t.fill(ctx, base, 'g', 0, n)
}

// Agents is a swarm of agents, one after the other for each worker: it forks base,
// which Base made with n objects, reads some of them, writes some (half of them
// anew), lists a page, compares, merges and drops the fork. An operation is one request; a round may
// end in the middle of an agent, which goes on in the next.
func (t *Target) Agents(base string, n int, o AgentOptions) load.Workload {
	plan := o.plan()
	agents := make([]agent, t.c.Workers)
	return load.Workload{Name: "agents", Unit: "op", Classes: o.classes(), Op: func(ctx context.Context, worker int, rng *rand.Rand) (load.Done, error) {
		a, s := &agents[worker], t.sessions[worker]
		class := plan[a.step]
		d := load.Done{Class: class}
		var err error
		switch class {
		case stepFork:
			name := fmt.Sprintf("%s-agent-%08d", t.c.Buckets, t.next.Add(1))
			if err := s.fork(base, name); err != nil {
				return d, err
			}
			a.fork = name
			t.forked(name)
		case stepGet:
			i := uint64(rng.IntN(n))
			s.object(a.fork, 'g', i)
			body := t.bodies.body(i)
			d.Bytes = int64(len(body))
			err = s.get(body)
		case stepPut:
			i, kind := uint64(rng.IntN(n)), byte('g')
			if rng.IntN(2) == 0 {
				i, kind = t.next.Add(1), 'a'
			}
			s.object(a.fork, kind, i)
			body := t.bodies.body(i)
			d.Bytes = int64(len(body))
			err = s.put(body)
		case stepList:
			_, _, err = s.list(a.fork, page{}, false)
		case stepDiff:
			err = o.Diff(ctx, base, a.fork)
		case stepMerge:
			err = o.Merge(ctx, base, a.fork)
		case stepDrop:
			if err = s.dropFork(a.fork); err == nil {
				t.dropped(a.fork)
			}
		}
		if a.step++; a.step == len(plan) {
			*a = agent{}
		}
		return d, err
	}}
}

// DropKept drops the forks that agents left behind, and returns how many.
func (t *Target) DropKept(ctx context.Context) (int, error) {
	t.mu.Lock()
	names := slices.Collect(func(yield func(string) bool) {
		for name := range t.mu.forks {
			if !yield(name) {
				return
			}
		}
	})
	t.mu.Unlock()
	err := t.each(ctx, len(names), func(s *session, i int) error {
		if err := s.dropFork(names[i]); err != nil {
			return err
		}
		t.dropped(names[i])
		return nil
	})
	if err != nil {
		return 0, errors.Join(fmt.Errorf("drop %d forks", len(names)), err)
	}
	return len(names), nil
}

func (t *Target) forked(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.forks[name] = struct{}{}
}

func (t *Target) dropped(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.forks, name)
}

// fork makes a bucket as a fork of source.
func (s *session) fork(source, name string) error {
	s.bucket(name)
	s.begin(fasthttp.MethodPut, nil, header{hash: emptySHA256})
	s.req.Header.Set("X-Tigris-Fork-Source-Bucket", source)
	return s.do()
}

// dropFork deletes a fork with what it holds.
func (s *session) dropFork(name string) error {
	s.bucket(name)
	s.begin(fasthttp.MethodDelete, nil, header{hash: emptySHA256})
	s.req.Header.Set("X-Tigris-Force-Delete", "true")
	return s.do()
}
