package main

import (
	"context"
	"errors"
	"path/filepath"

	"stemma/benchmarks/internal/engine"
	"stemma/timeline"
)

// noCompaction is more layers at level 0 than a phase makes, and less than those
// at which the store refuses commits.
const noCompaction = 44

// engineSite is a store in this process.
type engineSite struct{ e *engine.Engine }

const bucket = "objects"

func engineSites(tmp string) (quiet, busy site, err error) {
	q, err := openSite(filepath.Join(tmp, "quiet"), timeline.Options{CollectEvery: -1, L0Layers: noCompaction, Window: engine.Window(0)})
	if err != nil {
		return nil, nil, err
	}
	o := timeline.Options{Window: engine.Window(0)}
	if *small {
		o = churnedOptions(engine.Small(o))
	}
	b, err := openSite(filepath.Join(tmp, "busy"), o)
	if err != nil {
		return nil, nil, errors.Join(err, q.close())
	}
	return q, b, nil
}

// churnedOptions leaves the log as it is by default: a short one makes clients
// wait, which is not what is measured.
func churnedOptions(o timeline.Options) timeline.Options {
	o.WALSegmentBytes, o.WALFlushBytes, o.WALStopBytes = 0, 0, 0
	return o
}

func openSite(dir string, o timeline.Options) (*engineSite, error) {
	e, err := engine.Open(dir, o)
	if err != nil {
		return nil, err
	}
	if _, err := e.CreateBucket(context.Background(), timeline.NewBucket{Name: bucket}); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return &engineSite{e}, nil
}

func (s *engineSite) client(context.Context, int) (client, error) {
	return &engineClient{e: s.e, b: s.e.NewBatch(bucket)}, nil
}

func (s *engineSite) settle(ctx context.Context) error {
	_, err := s.e.CollectFull(ctx)
	return err
}

func (s *engineSite) rest(ctx context.Context) error { return s.e.WaitIdle(ctx, *idle) }
func (s *engineSite) wake() error                    { return nil }
func (s *engineSite) churner() churner               { return &engineChurner{s.e} }
func (s *engineSite) close() error                   { return s.e.Close() }

func (s *engineSite) counters(context.Context) (map[string]float64, error) {
	m := s.e.Metrics()
	return map[string]float64{
		"flushes": float64(m.Flushes), "compactions": float64(m.Compactions), "collections": float64(m.Collections),
		"MiB reclaimed": float64(m.ReclaimedBytes >> 20), "slow-downs": float64(m.SlowDowns), "purged": float64(m.Purged),
	}, nil
}

type engineClient struct {
	e *engine.Engine
	b *engine.Batch
}

func (c *engineClient) put(ctx context.Context, i int, body []byte) error {
	if err := c.b.Put(ctx, []byte(key(i)), body); err != nil {
		return err
	}
	return c.b.Commit(ctx)
}

func (c *engineClient) get(ctx context.Context, i int) (int, error) {
	body, err := c.e.Get(ctx, bucket, 0, []byte(key(i)))
	return len(body), err
}

type engineChurner struct{ e *engine.Engine }

func (c *engineChurner) createBucket(ctx context.Context, name string) error {
	_, err := c.e.CreateBucket(ctx, timeline.NewBucket{Name: name})
	return err
}

func (c *engineChurner) fork(ctx context.Context, source, name string) error {
	return c.e.Fork(ctx, source, name)
}

func (c *engineChurner) deleteBucket(ctx context.Context, name string) error {
	return c.e.Patiently(func() error {
		_, err := c.e.DeleteBucket(ctx, name, timeline.DeleteOptions{Force: true})
		return err
	})
}

func (c *engineChurner) change(ctx context.Context, bucket string, put map[string][]byte, del []string) error {
	b := c.e.NewBatch(bucket)
	for k, body := range put {
		if err := b.Put(ctx, []byte(k), body); err != nil {
			return err
		}
	}
	for _, k := range del {
		if err := b.Delete(ctx, []byte(k)); err != nil {
			return err
		}
	}
	return b.Commit(ctx)
}
