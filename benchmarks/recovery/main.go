// Command recovery measures how long a store takes to open after its process
// died with a given amount of log that no flush had released.
//
//	go run ./benchmarks/recovery -dir DIR -log 512 -body 4096
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

var (
	dir  = flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	logs = flag.String("log", "64,128,256,512", "MiB of log to replay, a list")
	body = flag.Int("body", 4096, "bytes of each object")
	fill = flag.Int64("fill", 0, "(internal) fill a store with so many MiB of log and die")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	if *fill > 0 {
		return fillAndDie()
	}
	root := *dir
	if root == "" {
		d, err := os.MkdirTemp("", "recovery")
		if err != nil {
			return err
		}
		defer os.RemoveAll(d)
		root = d
	}
	fmt.Printf("%10s %12s %12s %12s\n", "log MiB", "commits", "open", "first read")
	var mib int64
	for rest := *logs; rest != ""; {
		n, err := fmt.Sscanf(rest, "%d", &mib)
		if n != 1 {
			return fmt.Errorf("-log %q: %w", *logs, err)
		}
		rest = rest[min(len(fmt.Sprint(mib))+1, len(rest)):]
		data := filepath.Join(root, fmt.Sprint("data", mib))
		if err := measure(data, mib); err != nil {
			return err
		}
		if err := os.RemoveAll(data); err != nil {
			return err
		}
	}
	return nil
}

// measure fills a store in a process of its own, which dies, and opens it.
func measure(data string, mib int64) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := exec.Command(self, "-fill", fmt.Sprint(mib), "-dir", data, "-body", fmt.Sprint(*body)).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != diedAsMeant {
		return fmt.Errorf("fill: %w: %s", err, out)
	}
	fs, err := storefs.New(storefs.Options{Dir: data, BallastBytes: -1})
	if err != nil {
		return err
	}
	defer fs.Close()
	start := time.Now()
	s, err := timeline.Open(timeline.Options{FS: fs, Dir: data})
	if err != nil {
		return err
	}
	opened := time.Since(start)
	v, err := s.View(context.Background(), "main", 0)
	if err != nil {
		return err
	}
	scan := v.Scan(layers.NamespaceObjects, nil, nil)
	scan.First()
	read := time.Since(start)
	if err := errors.Join(scan.Err(), scan.Close()); err != nil {
		return err
	}
	v.Close()
	fmt.Printf("%10d %12s %12v %12v\n", mib, string(out), opened.Round(time.Millisecond), read.Round(time.Millisecond))
	return s.Close()
}

const diedAsMeant = 7

// fillAndDie writes objects until the log is as long as asked for, and ends
// without a word to the store.
func fillAndDie() error {
	fs, err := storefs.New(storefs.Options{Dir: *dir, BallastBytes: -1})
	if err != nil {
		return err
	}
	const never = 1 << 40
	s, err := timeline.Open(timeline.Options{FS: fs, Dir: *dir, MemlayerBytes: never, WALFlushBytes: never, WALStopBytes: never})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := s.CreateBucket(ctx, "main", nil); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 1))
	raw := make([]byte, *body)
	commits := 0
	for ; s.Metrics().LogBytes < *fill<<20; commits++ {
		var b timeline.Batch
		for range 16 { // as a group of 16 clients would
			for i := range raw {
				raw[i] = byte(rng.Uint32())
			}
			b.Put(layers.NamespaceObjects, fmt.Appendf(nil, "key-%016x", rng.Uint64()), make([]byte, 80), layers.AppendInlineBody(nil, raw))
		}
		if _, err := s.Commit(ctx, "main", &b); err != nil {
			return err
		}
	}
	fmt.Print(commits)
	os.Exit(diedAsMeant)
	return nil
}
