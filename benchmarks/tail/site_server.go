package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/valyala/fasthttp"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/internal/server"
	"stemma/timeline"
)

// serverSite is a server in a process of its own.
type serverSite struct {
	bin, data string
	env, args []string
	s         *server.Server

	puts, gets []string // signed URLs, by object
}

func serverSites(tmp string) (quiet, busy site, err error) {
	bin, err := server.Build(tmp)
	if err != nil {
		return nil, nil, err
	}
	q := &serverSite{bin: bin, data: filepath.Join(tmp, "quiet")}
	if q.env, err = testOptions(map[string]any{"CollectEvery": -1, "L0Layers": noCompaction, "Window": 0}); err != nil {
		return nil, nil, err
	}
	b := &serverSite{bin: bin, data: filepath.Join(tmp, "busy")}
	options := map[string]any{"Window": 0}
	if *small {
		o := engine.Small(timeline.Options{})
		b.args = []string{fmt.Sprint("--memlayer-bytes=", o.MemlayerBytes)}
		options["LayerBytes"], options["Level1Bytes"] = o.LayerBytes, o.Level1Bytes
		options["SegmentBytes"], options["PackedSegmentBytes"] = o.Values.SegmentBytes, o.Values.PackedSegmentBytes
		options["CollectEvery"], options["HorizonEvery"] = o.CollectEvery, o.HorizonEvery
	}
	if b.env, err = testOptions(options); err != nil {
		return nil, nil, err
	}
	if err := q.create(); err != nil {
		return nil, nil, err
	}
	if err := b.create(); err != nil {
		return nil, nil, errors.Join(err, q.close())
	}
	return q, b, nil
}

// testOptions sets what cmd/stemma takes from the environment of a test.
func testOptions(o map[string]any) ([]string, error) {
	p, err := json.Marshal(o)
	return []string{"STEMMA_TEST_OPTIONS=" + string(p)}, err
}

func (s *serverSite) create() error {
	if err := s.start(); err != nil {
		return err
	}
	if err := s.s.S3.MakeBucket(context.Background(), bucket, minio.MakeBucketOptions{}); err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

func (s *serverSite) start() (err error) {
	s.puts, s.gets = nil, nil
	s.s, err = server.StartWith(s.env, s.bin, s.data, s.args...)
	return err
}

// client signs the URLs of all objects when it is asked for the first time.
func (s *serverSite) client(ctx context.Context, _ int) (client, error) {
	for i := len(s.puts); i < *keys; i++ {
		put, err := s.s.PresignedPut(ctx, bucket, key(i))
		if err != nil {
			return nil, err
		}
		get, err := s.s.PresignedGet(ctx, bucket, key(i))
		if err != nil {
			return nil, err
		}
		s.puts, s.gets = append(s.puts, put), append(s.gets, get)
	}
	return &serverClient{s: s}, nil
}

// settle stops the server, collects in full what it left, and starts it again.
func (s *serverSite) settle(ctx context.Context) error {
	if err := s.s.Stop(); err != nil {
		return err
	}
	e, err := engine.Open(s.data, timeline.Options{CollectEvery: -1, Window: engine.Window(0)})
	if err != nil {
		return err
	}
	_, err = e.CollectFull(ctx)
	if err := errors.Join(err, e.Close()); err != nil {
		return err
	}
	return s.start()
}

func (s *serverSite) rest(context.Context) error { return s.s.Pause() }
func (s *serverSite) wake() error                { return s.s.Resume() }
func (s *serverSite) churner() churner           { return &serverChurner{s} }

func (s *serverSite) close() error { return s.s.Stop() }

func (s *serverSite) counters(ctx context.Context) (map[string]float64, error) {
	all, err := s.s.Counters(ctx)
	some := make(map[string]float64)
	for name, n := range all {
		name = strings.TrimPrefix(name, "stemma_")
		if strings.HasPrefix(name, "gc_") && strings.HasSuffix(name, "_total") || slices.Contains([]string{"flushes_total", "compactions_total", "slow_downs_total"}, name) {
			some[strings.TrimSuffix(name, "_total")] = n
		}
	}
	return some, err
}

// serverClient is one connection.
type serverClient struct {
	s    *serverSite
	http fasthttp.Client
}

func (c *serverClient) put(_ context.Context, i int, body []byte) error {
	_, err := c.request(fasthttp.MethodPut, c.s.puts[i], body)
	return err
}

func (c *serverClient) get(_ context.Context, i int) (int, error) {
	return c.request(fasthttp.MethodGet, c.s.gets[i], nil)
}

func (c *serverClient) request(method, url string, body []byte) (int, error) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI(url)
	req.Header.SetMethod(method)
	req.SetBodyRaw(body)
	for {
		if err := c.http.Do(req, res); err != nil {
			return 0, fmt.Errorf("%s: %w", method, err)
		}
		switch res.StatusCode() {
		case fasthttp.StatusOK:
			return len(res.Body()), nil
		case fasthttp.StatusServiceUnavailable: // it counts: the request is not done
		default:
			return 0, fmt.Errorf("%s: status %d: %s", method, res.StatusCode(), res.Body())
		}
	}
}

type serverChurner struct{ *serverSite }

func (c *serverChurner) createBucket(ctx context.Context, name string) error {
	return c.s.S3.MakeBucket(ctx, name, minio.MakeBucketOptions{})
}

func (c *serverChurner) fork(ctx context.Context, source, name string) error {
	return c.s.Fork(ctx, c.bin, source, name)
}

func (c *serverChurner) deleteBucket(ctx context.Context, name string) error {
	return c.s.Command(ctx, c.bin, "bucket", "delete", "--force", name)
}

func (c *serverChurner) change(ctx context.Context, bucket string, put map[string][]byte, del []string) error {
	for k, body := range put {
		if _, err := c.s.S3.PutObject(ctx, bucket, k, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{}); err != nil {
			return err
		}
	}
	for _, k := range del {
		if err := c.s.S3.RemoveObject(ctx, bucket, k, minio.RemoveObjectOptions{}); err != nil {
			return err
		}
	}
	return nil
}
