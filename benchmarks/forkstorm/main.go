// Command forkstorm measures forks of one bucket on the engine: what one costs
// as their number grows, what an idle one keeps in memory, how long a restart
// takes with all of them, and what a read costs in a fork of a fork of a fork.
//
//	go run ./benchmarks/forkstorm -dir DIR -forks 100000 -depth 100
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

var (
	dir    = flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	forks  = flag.Int("forks", 100_000, "forks of one bucket, one commit each")
	bulk   = flag.Int("bulk", 10_000, "forks made by one further commit")
	depth  = flag.Int("depth", 100, "length of the chain of forks that is read")
	keys   = flag.Int("keys", 10_000, "objects in the bucket")
	report = flag.Int("report", 10, "lines of the creation table")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	if *dir == "" {
		d, err := os.MkdirTemp("", "forkstorm")
		if err != nil {
			return err
		}
		defer os.RemoveAll(d)
		*dir = d
	}
	data := filepath.Join(*dir, "data")
	fs, err := storefs.New(storefs.Options{Dir: data, BallastBytes: -1})
	if err != nil {
		return err
	}
	defer fs.Close()
	open := func() (*timeline.Store, error) { return timeline.Open(timeline.Options{FS: fs, Dir: data}) }
	s, err := open()
	if err != nil {
		return err
	}
	if err := fill(s); err != nil {
		return err
	}
	before := heap()
	if err := storm(s); err != nil {
		return err
	}
	fmt.Printf("heap per idle fork: %d bytes\n", (heap()-before)/int64(*forks))
	if err := bulkFork(s); err != nil {
		return err
	}
	if err := chain(s); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	start := time.Now()
	if s, err = open(); err != nil {
		return err
	}
	fmt.Printf("restart with %d timelines: %v\n", s.Metrics().Timelines, time.Since(start).Round(time.Millisecond))
	return s.Close()
}

func fill(s *timeline.Store) error {
	ctx := context.Background()
	if _, err := s.CreateBucket(ctx, "main", nil); err != nil {
		return err
	}
	for i := 0; i < *keys; i += 1000 {
		var b timeline.Batch
		for j := i; j < min(i+1000, *keys); j++ {
			b.Put(layers.NamespaceObjects, fmt.Appendf(nil, "key-%09d", j), make([]byte, 80), layers.AppendInlineBody(nil, make([]byte, 512)))
		}
		if _, err := s.Commit(ctx, "main", &b); err != nil {
			return err
		}
	}
	return s.Flush(ctx)
}

// storm makes the forks one after the other and prints a table.
func storm(s *timeline.Store) error {
	each := max(*forks / *report, 1)
	took := make([]time.Duration, 0, each)
	fmt.Printf("%10s %12s %12s %12s\n", "forks", "p50", "p99", "max")
	for i := range *forks {
		start := time.Now()
		if _, err := s.Fork(context.Background(), timeline.ForkOptions{Source: "main", Names: []string{fmt.Sprintf("fork-%09d", i)}}); err != nil {
			return err
		}
		took = append(took, time.Since(start))
		if len(took) == each {
			slices.Sort(took)
			us := func(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
			fmt.Printf("%10d %12v %12v %12v\n", i+1, us(took[each/2]), us(took[each*99/100]), us(took[each-1]))
			took = took[:0]
		}
	}
	return nil
}

func bulkFork(s *timeline.Store) error {
	names := make([]string, *bulk)
	for i := range names {
		names[i] = fmt.Sprintf("bulk-%09d", i)
	}
	start := time.Now()
	if _, err := s.Fork(context.Background(), timeline.ForkOptions{Source: "main", Names: names}); err != nil {
		return err
	}
	fmt.Printf("%d forks in one commit: %v\n", *bulk, time.Since(start).Round(time.Millisecond))
	return nil
}

// chain forks a fork of a fork ..., none of which writes, and reads an old key
// in the root and in the last, in turns.
func chain(s *timeline.Store) error {
	ctx := context.Background()
	last := "main"
	for i := range *depth {
		name := fmt.Sprintf("deep-%05d", i)
		if _, err := s.Fork(ctx, timeline.ForkOptions{Source: last, Names: []string{name}}); err != nil {
			return err
		}
		last = name
	}
	const rounds, reads = 21, 20_000
	var root, deep []time.Duration
	for range rounds {
		for _, m := range []struct {
			bucket string
			into   *[]time.Duration
		}{{"main", &root}, {last, &deep}} {
			start := time.Now()
			for i := range reads {
				if err := get(ctx, s, m.bucket, fmt.Appendf(nil, "key-%09d", i*7919%*keys)); err != nil {
					return err
				}
			}
			*m.into = append(*m.into, time.Since(start)/reads)
		}
	}
	slices.Sort(root)
	slices.Sort(deep)
	fmt.Printf("get in the root %v, in a fork of depth %d that wrote nothing %v: %.2f times (medians of %d rounds)\n",
		root[rounds/2], *depth, deep[rounds/2], float64(deep[rounds/2])/float64(root[rounds/2]), rounds)
	return nil
}

func get(ctx context.Context, s *timeline.Store, bucket string, key []byte) error {
	v, err := s.View(ctx, bucket, 0)
	if err != nil {
		return err
	}
	defer v.Close()
	_, err = v.Get(layers.NamespaceObjects, key)
	return err
}

// heap returns the bytes of live objects.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
