// Command churn forks a bucket a thousand times, changes 1 % in each fork, deletes
// the forks in random order, with collection in the background, and compares what
// the store takes on the disk in the end with what the bucket alone took. All that
// is read meanwhile is compared with checksums that were never read from the store.
//
//	go run ./benchmarks/churn -dir DIR -forks 1000 -objects 100000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stemma/benchmarks/internal/engine"
	"stemma/timeline"
)

var (
	dir     = flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	forks   = flag.Int("forks", 1000, "forks of the bucket")
	objects = flag.Int("objects", 100_000, "objects in the bucket")
	change  = flag.Float64("change", 0.01, "part of the objects that each fork changes")
	live    = flag.Int("live", 50, "forks that live at once; when one more is made a random one is deleted")
	keep    = flag.Int("keep", 5, "of them, forks that live to the end")
	least   = flag.Int("least", 100, "bytes of the smallest object")
	most    = flag.Int("most", 64<<10, "bytes of the largest object")
	window  = flag.String("window", "0,24h", "windows of the bucket, a run for each")
	limit   = flag.Float64("limit", 1.05, "disk use in the end over that of the bucket alone that is still good")
	verify  = flag.Int("verify", 100, "forks between two full checks of the bucket and a fork")
	seed    = flag.Uint64("seed", 1, "of every choice")
	idle    = flag.Duration("idle", 10*time.Second, "rest of the background work that counts as idle")
	quick   = flag.Bool("quick", false, "a small run that shows that the program works")
	small   = flag.Bool("small-layers", false, "memlayers, layers and segments a 64th of the default, for small runs")
)

func main() {
	flag.Parse()
	if *quick {
		*forks, *objects, *live, *keep, *verify, *most = 30, 2000, 8, 2, 10, 40<<10
		*small, *idle, *limit = true, 5*time.Second, 1.25
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	root, err := os.MkdirTemp(*dir, "churn")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	var errs []error
	for i, w := range strings.Split(*window, ",") {
		d, err := time.ParseDuration(w)
		if err != nil {
			return fmt.Errorf("-window: %w", err)
		}
		data := filepath.Join(root, fmt.Sprint("data", i))
		if err := churn(data, d); err != nil {
			errs = append(errs, fmt.Errorf("window %s: %w", w, err))
		}
		if err := os.RemoveAll(data); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func options(window time.Duration) timeline.Options {
	o := timeline.Options{Window: engine.Window(window)}
	if *small {
		o = engine.Small(o)
	}
	return o
}

// churn is one run.
func churn(data string, window time.Duration) (err error) {
	ctx := context.Background()
	e, err := engine.Open(data, options(window))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	s := &storm{e: e, ctx: ctx, rng: rand.New(rand.NewPCG(*seed, uint64(window)))}
	fmt.Printf("window %v: %d objects of %d to %d bytes, %d forks, %g %% changed in each, %d alive at once\n",
		window, *objects, *least, *most, *forks, *change*100, *live)
	if err := s.fill(); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	alone, err := s.settle()
	if err != nil {
		return err
	}
	s.alone = alone.Data()
	fmt.Printf("base alone: %s MiB of bodies, layers %s MiB, values %s MiB\n", engine.MiB(s.base.content.Bytes), engine.MiB(alone.Layers), engine.MiB(alone.Values))
	before, start := e.Metrics(), time.Now()
	if err := s.run(); err != nil {
		return err
	}
	took := time.Since(start)
	if err := s.end(); err != nil {
		return err
	}
	if err := e.WaitIdle(ctx, *idle); err != nil {
		return err
	}
	atIdle, err := engine.DiskOf(data)
	if err != nil {
		return err
	}
	full, err := s.settle()
	if err != nil {
		return err
	}
	if err := e.Verify(ctx, base, s.base.content); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	engine.WriteAmplification(os.Stdout, before, e.Metrics(), s.user, s.streamed)
	return s.report(took, atIdle.Data(), full.Data())
}

// report prints the outcome. Errors: the disk use is over the limit.
func (s *storm) report(took time.Duration, atIdle, full int64) error {
	m := s.e.Metrics()
	ratio := func(n int64) float64 { return float64(n) / float64(s.alone) }
	fmt.Printf("%d forks in %v, %s MiB of bodies put, base checked %d times, forks %d times in full, %d objects one by one\n",
		*forks, took.Round(time.Millisecond), engine.MiB(s.user), s.baseChecks, s.forkChecks, s.getChecks)
	fmt.Printf("exclusive bytes of a fork before its deletion (usage): mean of %d: %.0f; put in a fork: mean %d\n",
		s.sampled, float64(s.exclusive)/float64(max(s.sampled, 1)), s.user/int64(*forks))
	fmt.Printf("timelines left %d, purged %d\n", m.Timelines, m.Purged)
	fmt.Printf("%-22s %12s %8s\n", "disk, layers + values", "MiB", "times")
	fmt.Printf("%-22s %12s %8.3f\n", "base alone", engine.MiB(s.alone), 1.0)
	fmt.Printf("%-22s %12s %8.3f\n", "peak", engine.MiB(s.peak), ratio(s.peak))
	fmt.Printf("%-22s %12s %8.3f\n", "all deleted, idle", engine.MiB(atIdle), ratio(atIdle))
	fmt.Printf("%-22s %12s %8.3f\n\n", "after full collection", engine.MiB(full), ratio(full))
	if ratio(atIdle) > *limit || ratio(full) > *limit {
		return fmt.Errorf("disk use is %.3f times that of the base when idle, %.3f after a full collection, at most %.2f was wanted", ratio(atIdle), ratio(full), *limit)
	}
	return nil
}
