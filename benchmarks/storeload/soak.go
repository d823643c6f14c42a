package storeload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/benchmarks/s3load"
)

// Soak loads a server for long, and looks at it every so often.
type Soak struct {
	Duration, Sample time.Duration
	// Objects of Size bytes are there at first.
	Objects, Size int
	// Rate is of the mixed load, AgentRate of the requests of agents, a second.
	Rate, AgentRate float64
}

// Disk: 1 GiB, and 1 GiB for each hour at most.
var (
	FullSoak  = Soak{Duration: 20 * time.Minute, Sample: 10 * time.Second, Objects: 10_000, Size: 4 << 10, Rate: 500, AgentRate: 200}
	QuickSoak = Soak{Duration: time.Second, Sample: 250 * time.Millisecond, Objects: 100, Size: 1 << 10, Rate: 100, AgentRate: 50}
)

// Clients of the mixed load, and agents beside it.
const (
	soakClients = 8
	soakAgents  = 4
)

// Run makes a server, and a round of both loads for each sample.
func (k *Soak) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	err = c.inDir(func(data string) error {
		return c.served(data, func(s *server.Server) error {
			rows, err = k.run(ctx, c, s, data)
			return err
		})
	})
	return rows, err
}

func (k *Soak) run(ctx context.Context, c *Config, s *server.Server, data string) ([]report.Row, error) {
	loads, err := k.loads(ctx, c, s)
	if err != nil {
		return nil, err
	}
	var results [2]load.Result
	for i, l := range loads {
		results[i] = load.Result{Name: l.Workload.Name, Unit: l.Workload.Unit}
	}
	var memory, disk, at []float64
	start := time.Now()
	for n := 0; time.Since(start) < k.Duration; n++ {
		if err := both(ctx, loads, &results, n); err != nil {
			return nil, err
		}
		m, err := s.Memory()
		if err != nil {
			return nil, err
		}
		d, err := engine.DiskOf(data)
		if err != nil {
			return nil, err
		}
		memory, disk = append(memory, float64(m.Now)), append(disk, float64(d.Data()))
		at = append(at, time.Since(start).Seconds())
		c.Progress.Say("%v: %d MiB of memory, %d MiB of layers and values", time.Since(start).Round(time.Second), m.Now/mib, d.Data()/mib)
	}
	rows := []report.Row{inMiB("soak", "resident memory", memory...), inMiB("soak", "layers and values on the disk", disk...)}
	for i := range results {
		p99 := p99Row("soak", &results[i])
		p99.Latency, p99.Classes = nil, nil // as in the next row
		rows = append(rows, p99, report.FromResult("soak", &results[i]))
	}
	for i := range rows {
		rows[i].Note, rows[i].SeriesAt = trend(rows[i].Series), at
	}
	return rows, nil
}

// trend compares the ends of a series.
func trend(series []float64) string {
	quarter := max(1, len(series)/4)
	return fmt.Sprintf("first quarter %s, last quarter %s", report.Format(load.Median(series[:quarter])), report.Format(load.Median(series[len(series)-quarter:])))
}

// loads makes what both loads need.
func (k *Soak) loads(ctx context.Context, c *Config, s *server.Server) (both [2]load.Contender, err error) {
	t, err := c.target(s, soakClients, k.Size, k.Objects)
	if err != nil {
		return both, err
	}
	mixed, err := t.Workload("mixed")
	if err != nil {
		return both, err
	}
	swarm, err := c.target(s, soakAgents, k.Size, k.Objects)
	if err != nil {
		return both, err
	}
	base, err := swarm.Base(ctx, k.Objects)
	if err != nil {
		return both, err
	}
	o := load.Options{Duration: k.Sample, Seed: c.Seed, CPU: load.CPUOf(s.Pid())}
	o.Workers, o.Rate = soakClients, k.Rate
	both[0] = load.Contender{Workload: mixed, Options: o}
	o.Workers, o.Rate = soakAgents, k.AgentRate
	both[1] = load.Contender{Workload: swarm.Agents(base, k.Objects, s3load.AgentOptions{Reads: 20, Writes: 10}), Options: o}
	return both, nil
}

// both runs a round of two loads at the same time.
func both(ctx context.Context, loads [2]load.Contender, results *[2]load.Result, n int) error {
	var errs [2]error
	done := make(chan struct{})
	run := func(i int) {
		var r load.Round
		r, errs[i] = load.RunRound(ctx, loads[i].Workload, loads[i].Options, n)
		results[i].Rounds = append(results[i].Rounds, r)
	}
	go func() {
		defer close(done)
		run(1)
	}()
	run(0)
	<-done
	return errors.Join(errs[:]...)
}
