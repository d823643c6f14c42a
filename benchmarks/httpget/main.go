// Command httpget measures reads over HTTP in a root and in a fork of a fork of
// a fork that wrote nothing, in turns.
//
//	go run ./benchmarks/httpget -dir DIR -depth 100
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/valyala/fasthttp"

	"stemma/benchmarks/internal/server"
)

var (
	dir    = flag.String("dir", "", "directory on the disk to measure; default: the one for temporary files")
	depth  = flag.Int("depth", 100, "length of the chain of forks")
	keys   = flag.Int("keys", 1000, "objects in the bucket")
	size   = flag.Int("bytes", 4096, "size of an object")
	rounds = flag.Int("rounds", 21, "rounds of reads, root and fork in each")
	reads  = flag.Int("reads", 2000, "reads of a round")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	tmp, remove, err := server.TempDir(*dir)
	if err != nil {
		return err
	}
	defer remove()
	bin, err := server.Build(tmp)
	if err != nil {
		return err
	}
	s, err := server.Start(bin, filepath.Join(tmp, "data"))
	if err != nil {
		return err
	}
	return errors.Join(measure(ctx, s, bin), s.Stop())
}

func key(i int) string { return fmt.Sprintf("key-%06d", i) }

func measure(ctx context.Context, s *server.Server, bin string) error {
	if err := s.S3.MakeBucket(ctx, "root", minio.MakeBucketOptions{}); err != nil {
		return err
	}
	body := strings.Repeat("x", *size)
	for i := range *keys {
		if _, err := s.S3.PutObject(ctx, "root", key(i), strings.NewReader(body), int64(*size), minio.PutObjectOptions{}); err != nil {
			return err
		}
	}
	last := "root"
	for i := range *depth {
		name := fmt.Sprintf("fork-%06d", i)
		if err := s.Fork(ctx, bin, last, name); err != nil {
			return err
		}
		last = name
	}
	took := make(map[string][]time.Duration)
	for round := range *rounds {
		for _, bucket := range []string{"root", last} {
			all, err := readMany(ctx, s, bucket, uint64(round))
			if err != nil {
				return err
			}
			took[bucket] = append(took[bucket], all...)
		}
	}
	root, fork := report("root", took["root"]), report(fmt.Sprintf("depth %d", *depth), took[last])
	fmt.Printf("median of the fork / median of the root: %.2f\n", float64(fork)/float64(root))
	return nil
}

// readMany reads random keys of a bucket one after the other.
func readMany(ctx context.Context, s *server.Server, bucket string, seed uint64) ([]time.Duration, error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	urls := make([]string, 64)
	for i := range urls {
		var err error
		if urls[i], err = s.PresignedGet(ctx, bucket, key(rng.IntN(*keys))); err != nil {
			return nil, err
		}
	}
	var client fasthttp.Client
	all := make([]time.Duration, *reads)
	for i := range all {
		start := time.Now()
		code, body, err := client.Get(nil, urls[i%len(urls)])
		if err != nil {
			return nil, fmt.Errorf("get from %s: %w", bucket, err)
		}
		if code != fasthttp.StatusOK || len(body) != *size {
			return nil, fmt.Errorf("get from %s: status %d, %d bytes", bucket, code, len(body))
		}
		all[i] = time.Since(start)
	}
	client.CloseIdleConnections()
	return all, nil
}

func report(what string, all []time.Duration) time.Duration {
	slices.Sort(all)
	p := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(time.Microsecond) }
	fmt.Printf("%-10s %d reads of %d bytes: p50 %v, p90 %v, p99 %v\n", what, len(all), *size, p(0.5), p(0.9), p(0.99))
	return all[len(all)/2]
}
