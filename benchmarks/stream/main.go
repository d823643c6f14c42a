// Command stream measures one large object on its way in and out over S3 and
// the memory that the server needs for it: in one PUT, in parts, and both out
// again, verified.
//
//	go run ./benchmarks/stream -dir DIR -bytes 5368709120
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/zeebo/xxh3"

	"stemma/benchmarks/internal/server"
)

var (
	dir   = flag.String("dir", "", "directory on the disk to measure; default: the one for temporary files")
	size  = flag.Int64("bytes", 5<<30, "size of the object; S3 ends one PUT at 5 GiB")
	part  = flag.Uint64("part", 64<<20, "size of the parts of the multipart upload")
	limit = flag.Int64("limit", 512<<20, "fail when the server's memory was above this at any time")
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
	if err := measure(ctx, s); err != nil {
		return errors.Join(err, s.Stop())
	}
	m, err := s.Memory()
	if err := errors.Join(err, s.Stop()); err != nil {
		return err
	}
	if m.Peak > *limit {
		return fmt.Errorf("peak of %d MiB, at most %d MiB wanted", m.Peak>>20, *limit>>20)
	}
	return nil
}

func measure(ctx context.Context, s *server.Server) error {
	if err := s.S3.MakeBucket(ctx, "stream", minio.MakeBucketOptions{}); err != nil {
		return err
	}
	if err := report(s, "idle", 0, 0); err != nil {
		return err
	}
	for _, w := range []struct {
		name string
		do   func(context.Context, *server.Server) error
	}{
		{"one PUT", put}, {"GET", func(ctx context.Context, s *server.Server) error { return get(ctx, s, "one") }},
		{"multipart PUT", putParts}, {"GET", func(ctx context.Context, s *server.Server) error { return get(ctx, s, "parts") }},
	} {
		start := time.Now()
		if err := w.do(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if err := report(s, w.name, *size, time.Since(start)); err != nil {
			return err
		}
	}
	return nil
}

func report(s *server.Server, what string, n int64, took time.Duration) error {
	m, err := s.Memory()
	if err != nil {
		return err
	}
	rate := ""
	if took > 0 {
		rate = fmt.Sprintf("%d MiB in %v, %.0f MiB/s", n>>20, took.Round(time.Millisecond), float64(n)/took.Seconds()/(1<<20))
	}
	fmt.Printf("%-14s memory %4d MiB, peak so far %4d MiB   %s\n", what, m.Now>>20, m.Peak>>20, rate)
	return nil
}

// contents returns the bytes of the object and a hash that takes part in reading.
func contents() (io.Reader, hash.Hash64) {
	h := xxh3.New()
	return io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), *size), h), h
}

// want is the hash of the object, known after put.
var want uint64

// put sends the object in one request without a signature of its bytes.
func put(ctx context.Context, s *server.Server) error {
	u, err := s.S3.PresignedPutObject(ctx, "stream", "one", time.Hour)
	if err != nil {
		return err
	}
	body, h := contents()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), body)
	if err != nil {
		return err
	}
	req.ContentLength = *size
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		msg, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return fmt.Errorf("%s: %s", res.Status, msg)
	}
	want = h.Sum64()
	return nil
}

// putParts sends the object in parts, four at a time.
func putParts(ctx context.Context, s *server.Server) error {
	body, _ := contents()
	_, err := s.S3.PutObject(ctx, "stream", "parts", body, *size, minio.PutObjectOptions{PartSize: *part, NumThreads: 4, ConcurrentStreamParts: true})
	return err
}

// get reads the object and compares it.
func get(ctx context.Context, s *server.Server, key string) error {
	o, err := s.S3.GetObject(ctx, "stream", key, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	h := xxh3.New()
	n, err := io.Copy(h, o)
	if err := errors.Join(err, o.Close()); err != nil {
		return err
	}
	if n != *size || h.Sum64() != want {
		return fmt.Errorf("read %d bytes that are not what was put", n)
	}
	return nil
}
