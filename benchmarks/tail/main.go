// Command tail measures puts and gets of 8 clients in turns on two stores of one
// machine: one where no compaction and no collection can run, and one where forks
// are made, changed and deleted all the time beside the clients, so that flush,
// compaction and collection run. What counts is how much longer the slowest
// percent takes.
//
//	go run ./benchmarks/tail -dir DIR -through server
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/internal/server"
)

var (
	dir     = flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	through = flag.String("through", "server", "what the clients speak to: server (S3 over the loopback) or engine")
	clients = flag.Int("clients", 8, "clients, one request at a time each, half puts, half gets")
	keys    = flag.Int("keys", 10_000, "objects that they put and get")
	size    = flag.Int("bytes", 4096, "size of an object")
	phases  = flag.Int("phases", 5, "phases of each kind, in turns")
	phase   = flag.Duration("phase", 20*time.Second, "length of a phase")
	warm    = flag.Duration("warm", 5*time.Second, "churn before its phase, and clients before any, not measured")

	others   = flag.Int("churn-objects", 10_000, "objects in the bucket that is forked beside the clients")
	most     = flag.Int("churn-most", 64<<10, "bytes of the largest of them; the smallest has 100")
	rate     = flag.Int("churn-mib", 4, "MiB of bodies that the churn puts per second, at most")
	small    = flag.Bool("small-layers", true, "memlayers, layers and segments a 64th of the default in the churned store, so that all jobs run all the time")
	quick    = flag.Bool("quick", false, "a small run that shows that the program works")
	idle     = flag.Duration("idle", 10*time.Second, "rest of the background work that counts as idle (engine)")
	maxRatio = flag.Float64("max-ratio", 0, "fail if the ratio of the p99 is above; 0: only print it")
)

func main() {
	flag.Parse()
	if *quick {
		*keys, *phases, *phase, *warm, *others, *idle = 200, 1, time.Second, 500*time.Millisecond, 300, 5*time.Second
	}
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// site is one of the two stores.
type site interface {
	// client returns what one client does; each is used by one goroutine.
	client(ctx context.Context, id int) (client, error)
	// settle ends the background work of what came before.
	settle(ctx context.Context) error
	// rest makes the store do nothing until it is woken.
	rest(ctx context.Context) error
	wake() error
	// churner returns what the churn beside the clients does.
	churner() churner
	// counters says what background work was done so far.
	counters(ctx context.Context) (map[string]float64, error)
	close() error
}

// client puts and gets object i.
type client interface {
	put(ctx context.Context, i int, body []byte) error
	get(ctx context.Context, i int) (bytes int, err error)
}

func run(ctx context.Context) (err error) {
	tmp, remove, err := server.TempDir(*dir)
	if err != nil {
		return err
	}
	defer remove()
	var quiet, busy site
	switch *through {
	case "engine":
		quiet, busy, err = engineSites(tmp)
	case "server":
		quiet, busy, err = serverSites(tmp)
	default:
		return fmt.Errorf("-through %q: want server or engine", *through)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, quiet.close(), busy.close()) }()
	for _, s := range []site{quiet, busy} {
		if err := fill(ctx, s); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	c := newChurn(busy.churner())
	if err := c.fill(ctx); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return measure(ctx, quiet, busy, c)
}

// fill puts every object once.
func fill(ctx context.Context, s site) error {
	c, err := s.client(ctx, 0)
	if err != nil {
		return err
	}
	body := make([]byte, *size)
	for i := range *keys {
		engine.Fill(body, uint64(i)+1)
		if err := c.put(ctx, i, body); err != nil {
			return err
		}
	}
	return nil
}

// times are those of the requests of one phase.
type times struct{ puts, gets []time.Duration }

// measure runs the phases in turns and prints the table.
func measure(ctx context.Context, quiet, busy site, c *churn) error {
	fmt.Printf("%d clients through the %s, %d objects of %d bytes, phases of %v\n", *clients, *through, *keys, *size, *phase)
	fmt.Printf("%5s %-6s %10s %10s %10s %10s %10s %10s %10s\n", "phase", "", "puts/s", "p50", "p99", "gets/s", "p50", "p99", "max")
	var p99 [2][2][]time.Duration // quiet, churn; puts, gets
	work := make(map[string]float64)
	for n := range *phases {
		for _, kind := range [2]int{n % 2, 1 - n%2} {
			var t times
			var err error
			if kind == 0 {
				t, err = quietPhase(ctx, quiet, busy, n)
			} else {
				t, err = churnPhase(ctx, quiet, busy, c, n, work)
			}
			if err != nil {
				return err
			}
			print(n, []string{"quiet", "churn"}[kind], &t)
			p99[kind][0] = append(p99[kind][0], engine.Quantile(t.puts, 0.99))
			p99[kind][1] = append(p99[kind][1], engine.Quantile(t.gets, 0.99))
		}
	}
	names := make([]string, 0, len(work))
	for name := range work {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Print("in the churn phases:")
	for _, name := range names {
		fmt.Printf(" %s %.0f,", name, work[name])
	}
	fmt.Printf(" %d forks, %s MiB put by the churn\n", c.made, engine.MiB(c.put))
	over := false
	for i, what := range []string{"put", "get"} {
		q, b := engine.Quantile(p99[0][i], 0.5), engine.Quantile(p99[1][i], 0.5)
		fmt.Printf("%s p99, median of %d phases: quiet %v, churn %v: %.2f times\n", what, *phases, q.Round(time.Microsecond), b.Round(time.Microsecond), engine.Ratio(b, q))
		over = over || *maxRatio > 0 && engine.Ratio(b, q) > *maxRatio
	}
	if over {
		return fmt.Errorf("p99 beside the churn is more than %.2f times that without", *maxRatio)
	}
	return nil
}

func print(n int, kind string, t *times) {
	us := func(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
	perSecond := func(all []time.Duration) float64 { return float64(len(all)) / phase.Seconds() }
	q := engine.Quantile
	fmt.Printf("%5d %-6s %10.0f %10v %10v %10.0f %10v %10v %10v\n", n, kind, perSecond(t.puts), us(q(t.puts, 0.5)), us(q(t.puts, 0.99)),
		perSecond(t.gets), us(q(t.gets, 0.5)), us(q(t.gets, 0.99)), us(max(q(t.puts, 1), q(t.gets, 1))))
}

// quietPhase measures one store while nothing works in the background of either.
func quietPhase(ctx context.Context, quiet, busy site, n int) (times, error) {
	if err := busy.rest(ctx); err != nil {
		return times{}, err
	}
	err := quiet.settle(ctx)
	var t times
	if err == nil {
		syscall.Sync() // what the phase before left to the kernel
		t, err = load(ctx, quiet, n)
	}
	return t, errors.Join(err, busy.wake())
}

// churnPhase measures the other store with churn beside the clients.
func churnPhase(ctx context.Context, quiet, busy site, c *churn, n int, work map[string]float64) (times, error) {
	if err := quiet.rest(ctx); err != nil {
		return times{}, err
	}
	syscall.Sync()
	churning, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- c.run(churning) }()
	time.Sleep(*warm)
	before, err := busy.counters(ctx)
	var t times
	if err == nil {
		t, err = load(ctx, busy, n)
	}
	after, countErr := busy.counters(ctx)
	stop()
	err = errors.Join(err, countErr, <-ended, quiet.wake())
	for name := range after {
		work[name] += after[name] - before[name]
	}
	return t, err
}

// load runs the clients for one phase.
func load(ctx context.Context, s site, n int) (times, error) {
	all := make([]times, *clients)
	errs := make([]error, *clients)
	var wait sync.WaitGroup
	for id := range *clients {
		c, err := s.client(ctx, id)
		if err != nil {
			return times{}, err
		}
		wait.Go(func() { all[id], errs[id] = oneClient(ctx, c, rand.New(rand.NewPCG(uint64(n), uint64(id)))) })
	}
	wait.Wait()
	var sum times
	for i := range all {
		sum.puts = append(sum.puts, all[i].puts...)
		sum.gets = append(sum.gets, all[i].gets...)
	}
	return sum, errors.Join(errs...)
}

func oneClient(ctx context.Context, c client, rng *rand.Rand) (t times, err error) {
	body := make([]byte, *size)
	start := time.Now()
	for time.Since(start) < *warm+*phase {
		i, put := rng.IntN(*keys), rng.IntN(2) == 0
		if put {
			engine.Fill(body, rng.Uint64())
		}
		began := time.Now()
		if put {
			err = c.put(ctx, i, body)
		} else {
			var n int
			if n, err = c.get(ctx, i); err == nil && n != *size {
				err = fmt.Errorf("object %d has %d bytes", i, n)
			}
		}
		took := time.Since(began)
		switch {
		case err != nil:
			return t, err
		case began.Sub(start) < *warm:
		case put:
			t.puts = append(t.puts, took)
		default:
			t.gets = append(t.gets, took)
		}
	}
	return t, nil
}

func key(i int) string { return fmt.Sprintf("object-%09d", i) }
