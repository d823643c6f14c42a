// Command listing measures listings of a bucket with many keys, on the engine
// and over S3: all pages of 1,000, in the root and in a fork; checks that every
// key comes once and in order.
//
//	go run ./benchmarks/listing -dir DIR -keys 1000000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"stemma/benchmarks/internal/server"
	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal/storefs"
)

var (
	dir     = flag.String("dir", "", "directory on the disk to measure; default: the one for temporary files")
	keys    = flag.Int("keys", 1_000_000, "objects in the bucket")
	writers = flag.Int("writers", 256, "concurrent puts while the bucket is filled")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// key returns the i-th key: folders of 1,000.
func key(i int) string { return fmt.Sprintf("folder-%06d/object-%06d", i/1000, i) }

func run(ctx context.Context) error {
	tmp, remove, err := server.TempDir(*dir)
	if err != nil {
		return err
	}
	defer remove()
	data := filepath.Join(tmp, "data")
	if err := onEngine(ctx, data); err != nil {
		return err
	}
	bin, err := server.Build(tmp)
	if err != nil {
		return err
	}
	start := time.Now()
	s, err := server.Start(bin, data)
	if err != nil {
		return err
	}
	fmt.Printf("server start: %v\n", time.Since(start).Round(time.Millisecond))
	err = overS3(ctx, s)
	m, memErr := s.Memory()
	fmt.Printf("server memory: %d MiB, peak %d MiB\n", m.Now>>20, m.Peak>>20)
	return errors.Join(err, memErr, s.Stop())
}

// onEngine fills the bucket, forks it, and lists both.
func onEngine(ctx context.Context, data string) error {
	fs, err := storefs.New(storefs.Options{Dir: data, BallastBytes: -1})
	if err != nil {
		return err
	}
	store, err := timeline.Open(timeline.Options{FS: fs, Dir: data})
	if err != nil {
		return errors.Join(err, fs.Close())
	}
	svc := object.New(store, object.Options{})
	if err = fill(ctx, svc); err == nil {
		_, err = svc.Fork(ctx, "many", 0, []string{"fork"})
	}
	for _, bucket := range []string{"many", "fork"} {
		if err == nil {
			err = listAll("engine "+bucket, func(page func(string) error) error { return pages(ctx, svc, bucket, page) })
		}
	}
	return errors.Join(err, store.Close(), fs.Close())
}

func fill(ctx context.Context, svc *object.Service) error {
	if _, err := svc.CreateBucket(ctx, "many"); err != nil {
		return err
	}
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, *writers)
	for w := range *writers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= *keys {
					return
				}
				_, err := svc.Put(ctx, "many", key(i), &object.PutInput{Body: strings.NewReader("value"), Size: 5})
				for errors.Is(err, timeline.ErrSlowDown) {
					time.Sleep(10 * time.Millisecond)
					_, err = svc.Put(ctx, "many", key(i), &object.PutInput{Body: strings.NewReader("value"), Size: 5})
				}
				if err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	fmt.Printf("fill: %d synced puts from %d writers in %v, %.0f/s\n", *keys, *writers, took.Round(time.Millisecond), float64(*keys)/took.Seconds())
	return errors.Join(errs...)
}

// pages lists a bucket page by page on the engine.
func pages(ctx context.Context, svc *object.Service, bucket string, visit func(key string) error) error {
	in := object.ListInput{MaxKeys: 1000}
	for {
		res, err := svc.List(ctx, bucket, &in)
		if err != nil {
			return err
		}
		for i := range res.Entries {
			if err := visit(res.Entries[i].Key); err != nil {
				return err
			}
		}
		if !res.Truncated {
			return nil
		}
		in.Token = res.NextToken
	}
}

// listAll times a listing and checks it.
func listAll(what string, list func(visit func(key string) error) error) error {
	n, start := 0, time.Now()
	err := list(func(k string) error {
		if n >= *keys || k != key(n) {
			return fmt.Errorf("key %d of the listing is %q", n, k)
		}
		n++
		return nil
	})
	if err == nil && n != *keys {
		err = fmt.Errorf("%d keys, want %d", n, *keys)
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", what, err)
	}
	took := time.Since(start)
	fmt.Printf("list %-12s %d keys in %v, %.0f keys/s\n", what, n, took.Round(time.Millisecond), float64(n)/took.Seconds())
	return nil
}

// overS3 lists root and fork with a real client, and the folders only.
func overS3(ctx context.Context, s *server.Server) error {
	for _, bucket := range []string{"many", "fork"} {
		err := listAll("S3 "+bucket, func(visit func(string) error) error {
			for o := range s.S3.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
				if o.Err != nil {
					return o.Err
				}
				if err := visit(o.Key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	start, n := time.Now(), 0
	for o := range s.S3.ListObjectsIter(ctx, "many", minio.ListObjectsOptions{}) {
		if o.Err != nil {
			return o.Err
		}
		n++
	}
	fmt.Printf("list S3 folders  %d prefixes over %d keys in %v\n", n, *keys, time.Since(start).Round(time.Millisecond))
	return nil
}
