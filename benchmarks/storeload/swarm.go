package storeload

import (
	"context"
	"fmt"
	"time"

	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/benchmarks/s3load"
)

// Swarm is agents that each fork a bucket, read, write, list and drop the fork.
type Swarm struct {
	// Agents are how many work at once, a figure for each.
	Agents []int
	// Objects are in the bucket, of Size bytes; an agent gets Reads and puts Writes.
	Objects, Size, Reads, Writes int
	Duration                     time.Duration // of a round
}

// Disk: 2 GiB.
var (
	FullSwarm  = Swarm{Agents: []int{1, 8, 64}, Objects: 10_000, Size: 4 << 10, Reads: 20, Writes: 10, Duration: 5 * time.Second}
	QuickSwarm = Swarm{Agents: []int{2}, Objects: 50, Size: 1 << 10, Reads: 5, Writes: 3, Duration: 200 * time.Millisecond}
)

// Run runs all swarms on one server.
func (w *Swarm) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	err = c.inDir(func(data string) error {
		return c.served(data, func(s *server.Server) error {
			for _, agents := range w.Agents {
				c.Progress.Say("%d agents", agents)
				more, err := w.run(ctx, c, s, agents)
				rows = append(rows, more...)
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	return rows, err
}

func (w *Swarm) run(ctx context.Context, c *Config, s *server.Server, agents int) ([]report.Row, error) {
	t, err := c.target(s, agents, w.Size, w.Objects)
	if err != nil {
		return nil, err
	}
	base, err := t.Base(ctx, w.Objects)
	if err != nil {
		return nil, err
	}
	o := s3load.AgentOptions{Reads: w.Reads, Writes: w.Writes}
	swarm := t.Agents(base, w.Objects, o)
	swarm.Name = fmt.Sprintf("requests of %d agents", agents)
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
	all := report.Number("swarm", fmt.Sprintf("lives of %d agents", agents), "agent/s", false, lives.Series...)
	all.Note = fmt.Sprintf("an agent forks, gets %d, puts %d, lists and drops: %d requests", w.Reads, w.Writes, o.Steps())
	return []report.Row{report.FromResult("swarm", &res), all}, t.Close(ctx)
}
