// Command merge changes many keys of a fork, merges it, and tells how long that takes, how long
// writers to the target wait meanwhile, and what it needs of memory.
//
//	go run ./benchmarks/merge -dir DIR -keys 1000000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"time"

	"stemma/benchmarks/internal/engine"
	"stemma/layers"
	"stemma/timeline"
)

var (
	dir   = flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	keys  = flag.Int("keys", 1_000_000, "keys that both have and the fork has changed")
	body  = flag.Int("bytes", 100, "size of an object")
	quick = flag.Bool("quick", false, "a small run that shows that the program works")
)

func main() {
	flag.Parse()
	if *quick {
		*keys = 2000
	}
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	root, err := os.MkdirTemp(*dir, "merge")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	o := timeline.Options{}
	if *quick {
		o = engine.Small(o)
		o.MergeBytes = 64 << 10
	}
	e, err := engine.Open(root, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if _, err := e.Store.CreateBucket(ctx, timeline.NewBucket{Name: "main"}); err != nil {
		return err
	}
	if err := fill(ctx, e, "main", 'a'); err != nil {
		return err
	}
	if err := e.Fork(ctx, "main", "dev"); err != nil {
		return err
	}
	if err := fill(ctx, e, "dev", 'b'); err != nil {
		return err
	}
	if err := e.WaitIdle(ctx, 2*time.Second); err != nil {
		return err
	}
	return merge(ctx, e)
}

// fill puts all keys.
func fill(ctx context.Context, e *engine.Engine, bucket string, c byte) error {
	b, value := e.NewBatch(bucket), make([]byte, *body)
	for i := range value {
		value[i] = c
	}
	for i := range *keys {
		if err := b.Put(ctx, fmt.Appendf(nil, "some/folder/of-objects/%09d", i), value); err != nil {
			return err
		}
	}
	return b.Commit(ctx)
}

// merge merges dev into main while one writer puts a key of main again and again.
func merge(ctx context.Context, e *engine.Engine) error {
	stop, waited := make(chan struct{}), make(chan time.Duration)
	go func() {
		var longest time.Duration
		defer func() { waited <- longest }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			var b timeline.Batch
			b.Put(layers.NamespaceObjects, []byte("writer"), []byte("x"), nil)
			began := time.Now()
			if _, err := e.Store.Commit(ctx, "main", &b); err != nil && !errors.Is(err, timeline.ErrSlowDown) {
				log.Print(err)
			}
			longest = max(longest, time.Since(began))
		}
	}()
	peak := watchHeap(stop)
	began := time.Now()
	res, err := e.Store.Merge(ctx, timeline.MergeOptions{Source: "dev", Target: "main"})
	took := time.Since(began)
	close(stop)
	longest, heap := <-waited, <-peak
	if err != nil {
		return err
	}
	if res.Put != int64(*keys) {
		return fmt.Errorf("merged %+v, want %d keys", res, *keys)
	}
	fmt.Printf("%d keys of %d bytes: %v, %.0f keys/s; a writer to the target waited %v at most; %d MiB staged in layers; heap %d MiB more at the peak\n",
		res.Put, *body, took.Round(time.Millisecond), float64(res.Put)/took.Seconds(), longest.Round(time.Millisecond), e.Store.Metrics().AdoptedBytes>>20, heap>>20)
	return nil
}

// watchHeap returns where, after stop, comes by how much the heap has grown at its highest.
func watchHeap(stop chan struct{}) chan uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, peak, done := m.HeapAlloc, m.HeapAlloc, make(chan uint64)
	go func() {
		for {
			select {
			case <-stop:
				done <- peak - before
				return
			case <-time.After(100 * time.Millisecond):
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
		}
	}()
	return done
}
