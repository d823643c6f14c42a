package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"stemma/benchmarks/internal/engine"
)

// churner is what the churn does to a store.
type churner interface {
	createBucket(ctx context.Context, name string) error
	fork(ctx context.Context, source, name string) error
	deleteBucket(ctx context.Context, name string) error
	// change puts bodies under some keys of a bucket and deletes others.
	change(ctx context.Context, bucket string, put map[string][]byte, del []string) error
}

// churn forks a bucket, changes the forks and the bucket, and deletes the forks.
type churn struct {
	do   churner
	rng  *rand.Rand
	live []string
	made int
	put  int64 // bytes of bodies
}

const elsewhere = "elsewhere"

func newChurn(do churner) *churn { return &churn{do: do, rng: rand.New(rand.NewPCG(3, 3))} }

// fill makes the bucket that is forked.
func (c *churn) fill(ctx context.Context) error {
	if err := c.do.createBucket(ctx, elsewhere); err != nil {
		return err
	}
	for i := 0; i < *others; i += 100 {
		put := make(map[string][]byte)
		for j := i; j < min(i+100, *others); j++ {
			put[key(j)] = c.body()
		}
		if err := c.do.change(ctx, elsewhere, put, nil); err != nil {
			return err
		}
	}
	return nil
}

func (c *churn) body() []byte {
	p := make([]byte, engine.Size(c.rng, 100, *most))
	engine.Fill(p, c.rng.Uint64())
	c.put += int64(len(p))
	return p
}

// run goes on until ctx ends, at a bounded rate.
func (c *churn) run(ctx context.Context) error {
	start, before := time.Now(), c.put
	for ctx.Err() == nil {
		if err := c.once(ctx); err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("churn: %w", err)
		}
		due := time.Duration(float64(c.put-before) / float64(*rate<<20) * float64(time.Second))
		select {
		case <-time.After(due - time.Since(start)):
		case <-ctx.Done():
		}
	}
	return nil
}

// once makes a fork, changes 1 % of it and as much of its source, and deletes a
// fork at random when there are many. What it began it ends.
func (c *churn) once(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	const alive = 8
	name := fmt.Sprintf("fork-%08d", c.made)
	c.made++
	if err := c.do.fork(ctx, elsewhere, name); err != nil {
		return err
	}
	c.live = append(c.live, name)
	for _, bucket := range []string{name, elsewhere} {
		put, del := make(map[string][]byte), []string(nil)
		for n := range max(4, *others/100) {
			k := key(c.rng.IntN(*others))
			if n%4 == 3 && bucket != elsewhere {
				del = append(del, k)
			} else {
				put[k] = c.body()
			}
		}
		if err := c.do.change(ctx, bucket, put, del); err != nil {
			return err
		}
	}
	if len(c.live) <= alive {
		return nil
	}
	i := c.rng.IntN(len(c.live))
	name, c.live[i] = c.live[i], c.live[len(c.live)-1]
	c.live = c.live[:len(c.live)-1]
	return c.do.deleteBucket(ctx, name)
}
