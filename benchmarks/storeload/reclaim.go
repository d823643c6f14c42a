package storeload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/benchmarks/s3load"
)

// Reclaim drops forks that wrote a lot, and watches their bytes come back and what
// requests beside it have to wait.
type Reclaim struct {
	// Forks of a bucket each put Writes objects of Size bytes.
	Forks, Writes, Size int
	// Rate is of the requests beside it, a second: a mixed load of 4 KiB objects.
	Rate float64
	// Round is the length of a round of them; Quiet is how long nothing has to have come
	// back for the end, Limit when it is given up.
	Round, Quiet, Limit time.Duration
}

// Disk: 4 GiB.
var (
	FullReclaim = Reclaim{
		Forks: 400, Writes: 200, Size: 16 << 10, Rate: 300, Round: 3 * time.Second, Quiet: 8 * time.Second, Limit: 90 * time.Second,
	}
	QuickReclaim = Reclaim{
		Forks: 6, Writes: 20, Size: 40 << 10, Rate: 50, Round: 300 * time.Millisecond, Quiet: time.Second, Limit: 8 * time.Second,
	}
)

// Clients that write the forks, and those of the load beside.
const (
	reclaimWriters = 8
	besideClients  = 8
	besideObjects  = 1000
	besideSize     = 4 << 10
)

// Run measures the load alone, drops the forks, and measures it beside the collection.
func (r *Reclaim) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	err = c.inDir(func(data string) error {
		var args []string
		if c.Small {
			args = []string{"--memlayer-bytes", "1MiB"}
		}
		return c.served(data, func(s *server.Server) error {
			rows, err = r.run(ctx, c, s)
			return err
		}, args...)
	})
	return rows, err
}

func (r *Reclaim) run(ctx context.Context, c *Config, s *server.Server) ([]report.Row, error) {
	forks, err := r.write(ctx, c, s)
	if err != nil {
		return nil, err
	}
	t, err := c.target(s, besideClients, besideSize, besideObjects)
	if err != nil {
		return nil, err
	}
	mixed, err := t.Workload("mixed")
	if err != nil {
		return nil, err
	}
	o := load.Options{Workers: besideClients, Rate: r.Rate, Duration: r.Round, Rounds: c.Rounds, Seed: c.Seed, CPU: load.CPUOf(s.Pid())}
	c.Progress.Say("mixed load alone")
	alone, err := load.Run(ctx, mixed, o)
	if err != nil {
		return nil, err
	}
	c.Progress.Say("drop the forks")
	back, err := newGivenBack(ctx, s)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	dropped, err := forks.DropKept(ctx)
	if err != nil {
		return nil, errors.Join(err, back.stop())
	}
	drop := time.Since(start)
	beside := load.Result{Name: mixed.Name + " while bytes are given back", Unit: mixed.Unit}
	for i := 0; time.Since(start) < r.Limit && !back.quiet(r.Quiet); i++ {
		round, err := load.RunRound(ctx, mixed, o, c.Rounds+i)
		if err != nil {
			return nil, errors.Join(err, back.stop())
		}
		beside.Rounds = append(beside.Rounds, round)
	}
	if err := back.stop(); err != nil {
		return nil, err
	}
	alone.Name += " alone"
	quiet, busy := p99Row("reclaim", &alone), p99Row("reclaim", &beside)
	busy.SetLimit("alone", quiet.Value.Median)
	took := max(back.last.Sub(start), 0)
	rate := report.Number("reclaim", "given back", "MiB/s", false, back.bytes/mib/max(took.Seconds(), 1e-3))
	rate.Note = fmt.Sprintf("%.0f MiB of value segments in %.1f s, of %d MiB that %d forks had put, the newest of which lay in the log", back.bytes/mib,
		took.Seconds(), int64(dropped)*int64(r.Writes)*int64(r.Size)/mib, dropped)
	return []report.Row{quiet, busy, rate, secondsRow("reclaim", fmt.Sprintf("drop %d forks", dropped), 0, drop)}, nil
}

// write makes the forks and what they hold.
func (r *Reclaim) write(ctx context.Context, c *Config, s *server.Server) (*s3load.Target, error) {
	c.Progress.Say("%d forks, %d objects of %d bytes put in each", r.Forks, r.Writes, r.Size)
	t, err := c.target(s, reclaimWriters, r.Size, besideObjects)
	if err != nil {
		return nil, err
	}
	base, err := t.Base(ctx, reclaimWriters)
	if err != nil {
		return nil, err
	}
	o := s3load.AgentOptions{Writes: r.Writes, Keep: true}
	agents := t.Agents(base, reclaimWriters, o)
	res, err := load.Run(ctx, agents, load.Options{Workers: reclaimWriters, Ops: int64(r.Forks * o.Steps()), Seed: c.Seed})
	if err != nil {
		return nil, err
	}
	if n, first := res.Errors(); n > int64(r.Forks) {
		return nil, fmt.Errorf("write the forks: %d errors, first %s", n, first)
	}
	return t, nil
}

// givenBack watches what a server gives back of its value segments, until stop.
type givenBack struct {
	s      *server.Server
	before float64
	cancel context.CancelFunc
	ended  chan error

	mu    sync.Mutex
	bytes float64
	last  time.Time // when bytes grew
}

func newGivenBack(ctx context.Context, s *server.Server) (*givenBack, error) {
	b := &givenBack{s: s, last: time.Now(), ended: make(chan error, 1)}
	var err error
	if b.before, err = b.counter(ctx); err != nil {
		return nil, err
	}
	ctx, b.cancel = context.WithCancel(ctx)
	go func() { b.ended <- b.watch(ctx) }()
	return b, nil
}

func (b *givenBack) counter(ctx context.Context) (float64, error) {
	m, err := b.s.Counters(ctx)
	if err != nil {
		return 0, err
	}
	n, ok := m["stemma_gc_value_bytes_reclaimed_total"]
	if !ok {
		return 0, errors.New("the server does not say what it gave back")
	}
	return n, nil
}

// watch looks ten times a second.
func (b *givenBack) watch(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		n, err := b.counter(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		b.mu.Lock()
		if n-b.before > b.bytes {
			b.bytes, b.last = n-b.before, time.Now()
		}
		b.mu.Unlock()
	}
}

// stop ends the watch; bytes and last may be read then.
func (b *givenBack) stop() error {
	b.cancel()
	return <-b.ended
}

// quiet reports whether something came back, and nothing more for d.
func (b *givenBack) quiet(d time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes > 0 && time.Since(b.last) > d
}
