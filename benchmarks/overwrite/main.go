// Command overwrite writes the same objects again and again in a bucket without
// history, and follows what the store takes on the disk: against the bytes that
// live, over time, at the peak and in the end, and how much was written for it.
//
//	go run ./benchmarks/overwrite -dir DIR -bytes 4096,262144 -rounds 10
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
	"sync"
	"sync/atomic"
	"time"

	"stemma/benchmarks/internal/engine"
	"stemma/timeline"
)

var (
	dir     = flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	objects = flag.Int("objects", 10_000, "objects in the bucket")
	sizes   = flag.String("bytes", "4096,262144", "sizes of an object, a run for each")
	rounds  = flag.Int("rounds", 10, "times that every object is overwritten")
	writers = flag.Int("writers", 8, "writers at once, one commit at a time each")
	batch   = flag.Int("batch", 1, "objects in a commit")
	sample  = flag.Duration("sample", 250*time.Millisecond, "time between two looks at the disk")
	lines   = flag.Int("lines", 20, "lines of the table over time")
	idle    = flag.Duration("idle", 10*time.Second, "rest of the background work that counts as idle")
	quick   = flag.Bool("quick", false, "a small run that shows that the program works")
	small   = flag.Bool("small-layers", false, "memlayers, layers and segments a 64th of the default, for small runs")
)

func main() {
	flag.Parse()
	if *quick {
		*objects, *rounds, *small, *idle, *lines = 100, 6, true, 5*time.Second, 3
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	root, err := os.MkdirTemp(*dir, "overwrite")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	list, err := engine.Ints(*sizes)
	if err != nil {
		return fmt.Errorf("-bytes: %w", err)
	}
	for _, size := range list {
		data := filepath.Join(root, fmt.Sprint("data", size))
		if err := measure(data, size); err != nil {
			return err
		}
		if err := os.RemoveAll(data); err != nil {
			return err
		}
	}
	return nil
}

// measure is one run with objects of one size.
func measure(data string, size int) (err error) {
	ctx := context.Background()
	o := timeline.Options{Window: engine.Window(0)}
	if *small {
		o = engine.Small(o)
	}
	e, err := engine.Open(data, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if _, err := e.CreateBucket(ctx, timeline.NewBucket{Name: "main"}); err != nil {
		return err
	}
	w := &load{e: e, size: size, hashes: make([]uint64, *objects)}
	if err := w.round(ctx, 0); err != nil {
		return err
	}
	user := int64(*objects) * int64(size) * int64(*rounds)
	live := int64(*objects) * int64(size)
	fmt.Printf("%d objects of %d bytes (%s MiB alive), overwritten %d times by %d writers, no history\n",
		*objects, size, engine.MiB(live), *rounds, *writers)
	before, start := e.Metrics(), time.Now()
	watch := newWatch(e, start)
	for round := range *rounds {
		if err := w.round(ctx, round+1); err != nil {
			return errors.Join(err, watch.stop())
		}
	}
	took := time.Since(start)
	if err := errors.Join(watch.stop(), e.WaitIdle(ctx, *idle)); err != nil {
		return err
	}
	watch.print(live, *lines)
	if err := endReport(ctx, e, watch, live); err != nil {
		return err
	}
	streamed := int64(0)
	if size >= engine.InlineBelow {
		streamed = user
	}
	fmt.Printf("%.0f objects/s, %s MiB/s\n", float64(*objects**rounds)/took.Seconds(), engine.MiB(int64(float64(user)/took.Seconds())))
	engine.WriteAmplification(os.Stdout, before, e.Metrics(), user, streamed)
	fmt.Println()
	return w.verify(ctx)
}

// endReport prints what the disk holds at the peak, when idle, and after a full
// collection.
func endReport(ctx context.Context, e *engine.Engine, w *watch, live int64) error {
	row := func(what string, d engine.Disk) {
		fmt.Printf("%-24s layers %s, values %s: %s MiB, %.3f times; log %s MiB\n", what, engine.MiB(d.Layers), engine.MiB(d.Values),
			engine.MiB(d.Data()), float64(d.Data())/float64(live), engine.MiB(d.WAL))
	}
	row("peak", w.peak)
	atIdle, err := engine.DiskOf(e.Dir)
	if err != nil {
		return err
	}
	row("idle", atIdle)
	if _, err := e.CollectFull(ctx); err != nil {
		return err
	}
	full, err := engine.DiskOf(e.Dir)
	if err != nil {
		return err
	}
	row("after full collection", full)
	return nil
}

// load writes the objects.
type load struct {
	e      *engine.Engine
	size   int
	hashes []uint64 // of what each object holds now
}

func key(i int) []byte { return fmt.Appendf(nil, "object-%09d", i) }

// round overwrites every object once, in an order of its own.
func (l *load) round(ctx context.Context, round int) error {
	order := rand.New(rand.NewPCG(1, uint64(round))).Perm(*objects)
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, *writers)
	for w := range *writers {
		all.Go(func() {
			body := make([]byte, l.size)
			b := l.e.NewBatch("main")
			for errs[w] == nil {
				n := int(next.Add(1)) - 1
				if n >= *objects {
					break
				}
				i := order[n]
				engine.Fill(body, uint64(round**objects+i)+1)
				l.hashes[i] = engine.Hash(key(i), body)
				errs[w] = b.Put(ctx, key(i), body)
				if errs[w] == nil && (n+1)%*batch == 0 {
					errs[w] = b.Commit(ctx)
				}
			}
			errs[w] = errors.Join(errs[w], b.Commit(ctx))
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// verify reads everything.
func (l *load) verify(ctx context.Context) error {
	var want engine.Content
	for _, h := range l.hashes {
		want.Add(l.size, h)
	}
	return l.e.Verify(ctx, "main", want)
}
