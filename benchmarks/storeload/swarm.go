package storeload

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/benchmarks/s3load"
	"stemma/client"
)

// Swarm is agents that each fork a bucket, read, write, list and end the fork.
type Swarm struct {
	// Agents are how many work at once, a figure for each.
	Agents []int
	// Objects are in the bucket, of Size bytes; an agent gets Reads and puts Writes.
	Objects, Size, Reads, Writes int
	Duration                     time.Duration // of a round
	// Ends are how an agent ends, a figure for each: EndDrop, EndMerge.
	Ends []string
}

// How an agent ends: it drops its fork, or asks what it changed, merges that into the
// bucket, and then drops it.
const (
	EndDrop  = "drop"
	EndMerge = "merge"
)

var bothEnds = []string{EndDrop, EndMerge}

// Disk: 3 GiB.
var (
	FullSwarm  = Swarm{Agents: []int{1, 8, 64}, Objects: 10_000, Size: 4 << 10, Reads: 20, Writes: 10, Duration: 5 * time.Second, Ends: bothEnds}
	QuickSwarm = Swarm{Agents: []int{2}, Objects: 50, Size: 1 << 10, Reads: 5, Writes: 3, Duration: 200 * time.Millisecond, Ends: bothEnds}
)

// Run runs all swarms on one server.
func (w *Swarm) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	for _, end := range w.Ends {
		if !slices.Contains(bothEnds, end) {
			return nil, fmt.Errorf("an agent cannot end by %q; it can by %s", end, strings.Join(bothEnds, ", "))
		}
	}
	err = c.inDir(func(data string) error {
		return c.served(data, func(s *server.Server) error {
			for _, agents := range w.Agents {
				for _, end := range w.Ends {
					c.Progress.Say("%d agents, %s", agents, end)
					more, err := w.run(ctx, c, s, agents, end)
					rows = append(rows, more...)
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	return rows, err
}

func (w *Swarm) run(ctx context.Context, c *Config, s *server.Server, agents int, end string) ([]report.Row, error) {
	o, who := s3load.AgentOptions{Reads: w.Reads, Writes: w.Writes}, fmt.Sprintf("%d agents", agents)
	does := fmt.Sprintf("forks, gets %d, puts %d, lists", w.Reads, w.Writes)
	if end == EndMerge {
		cl, err := native(s)
		if err != nil {
			return nil, err
		}
		o.Diff, o.Merge = diffAgent(cl), mergeAgent(cl)
		who += " that merge"
		does += ", compares, merges"
	}
	t, err := c.target(s, agents, w.Size, w.Objects)
	if err != nil {
		return nil, err
	}
	base, err := t.Base(ctx, w.Objects)
	if err != nil {
		return nil, err
	}
	swarm := t.Agents(base, w.Objects, o)
	swarm.Name = "requests of " + who
	res, err := load.Run(ctx, swarm, load.Options{
		Workers: agents, Warmup: w.Duration / 10, Duration: w.Duration, Rounds: c.Rounds, Seed: c.Seed, CPU: load.CPUOf(s.Pid()),
	})
	if err != nil {
		return nil, err
	}
	lives := report.FromResult("swarm", &res)
	for i := range lives.Series {
		lives.Series[i] /= float64(o.Steps())
	}
	all := report.Number("swarm", "lives of "+who, "agent/s", false, lives.Series...)
	all.Note = fmt.Sprintf("an agent %s and drops: %d requests", does, o.Steps())
	return []report.Row{report.FromResult("swarm", &res), all}, t.Close(ctx)
}

// diffAgent counts what a fork and its base differ in.
func diffAgent(cl *client.Client) func(ctx context.Context, base, fork string) error {
	return func(ctx context.Context, base, fork string) error {
		_, err := cl.Diff(ctx, client.DiffRequest{From: base, To: fork, Summary: true})
		return err
	}
}

// mergeAgent merges a fork. What others have merged meanwhile gives way.
func mergeAgent(cl *client.Client) func(ctx context.Context, base, fork string) error {
	return func(ctx context.Context, base, fork string) error {
		_, err := cl.Merge(ctx, base, client.MergeRequest{Source: fork, Strategy: "source-wins"})
		return err
	}
}
