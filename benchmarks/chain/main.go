// Command chain measures reads at the end of chains of forks of which every one
// wrote a little, against a bucket that holds the same and is no fork, in turns.
//
//	go run ./benchmarks/chain -dir DIR -depth 1,10,100,1000
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
	"time"

	"stemma/benchmarks/internal/engine"
	"stemma/layers"
	"stemma/timeline"
)

var (
	dir    = flag.String("dir", "", "directory on the disk to measure; default: a temporary one")
	depths = flag.String("depth", "1,10,100,1000", "lengths of the chains, a run for each")
	keys   = flag.Int("keys", 10_000, "objects in the root")
	writes = flag.Int("writes", 10, "objects that each fork writes: half of them new ones")
	size   = flag.Int("bytes", 512, "size of an object")
	rounds = flag.Int("rounds", 31, "rounds of reads, chain and flat bucket in each")
	reads  = flag.Int("reads", 2000, "gets of a kind in a round")
	list   = flag.Int("list", 1000, "objects that are listed from the first on")
	lists  = flag.Int("lists", 5, "listings in a round")
	idle   = flag.Duration("idle", 12*time.Second, "rest of the background work that counts as idle")
	full   = flag.Bool("full", false, "collect in full before the reads, too")
	quick  = flag.Bool("quick", false, "a small run that shows that the program works")
)

func main() {
	flag.Parse()
	if *quick {
		*depths, *keys, *rounds, *reads, *idle = "20", 500, 3, 100, 5*time.Second
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	root, err := os.MkdirTemp(*dir, "chain")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	all, err := engine.Ints(*depths)
	if err != nil {
		return fmt.Errorf("-depth: %w", err)
	}
	fmt.Printf("%d objects of %d bytes in the root, %d written in each fork; medians of %d rounds\n", *keys, *size, *writes, *rounds)
	fmt.Printf("%6s  %-10s %6s %6s  %-16s %12s %12s %8s\n", "depth", "", "hops", "levels", "", "chain", "flat", "ratio")
	for _, depth := range all {
		data := filepath.Join(root, fmt.Sprint("data", depth))
		if err := measure(data, depth); err != nil {
			return fmt.Errorf("depth %d: %w", depth, err)
		}
		if err := os.RemoveAll(data); err != nil {
			return err
		}
	}
	return nil
}

// pair is a chain and the flat bucket that holds the same.
type pair struct {
	e     *engine.Engine
	tip   string
	depth int
	mid   [][]byte // keys that forks in the middle wrote
	flat  map[string][]byte
	// touched are the keys that forks wrote.
	touched map[string]bool
}

const flat = "flat"

func rootKey(i int) []byte { return fmt.Appendf(nil, "object-%09d", i) }

// measure is one run: a store is built and comes to rest; it is read as it is, with
// no background work; and it is read again after it was read so often that the
// background work has done what that calls for.
func measure(data string, depth int) error {
	ctx := context.Background()
	p := &pair{depth: depth, flat: make(map[string][]byte), touched: make(map[string]bool)}
	err := p.with(data, timeline.Options{}, func() error {
		if err := errors.Join(p.build(ctx), p.e.Flush(ctx)); err != nil {
			return fmt.Errorf("build: %w", err)
		}
		return p.rest(ctx)
	})
	if err != nil {
		return err
	}
	if err := p.report(ctx, data, "at rest", timeline.Options{CollectEvery: -1, L0Layers: noCompaction}, false); err != nil {
		return err
	}
	return p.report(ctx, data, "read often", timeline.Options{}, true)
}

// noCompaction is more layers at level 0 than there will be.
const noCompaction = 44

// with opens the store for what do does.
func (p *pair) with(data string, o timeline.Options, do func() error) (err error) {
	if *quick {
		every := o.CollectEvery
		if o = engine.Small(o); every != 0 {
			o.CollectEvery = every
		}
	}
	if p.e, err = engine.Open(data, o); err != nil {
		return err
	}
	return errors.Join(do(), p.e.Close())
}

// rest waits for the background work.
func (p *pair) rest(ctx context.Context) error {
	if err := p.e.WaitIdle(ctx, *idle); err != nil || !*full {
		return err
	}
	_, err := p.e.CollectFull(ctx)
	return err
}

// report reads, after as many reads that do not count if warm, and prints lines
// of the table.
func (p *pair) report(ctx context.Context, data, when string, o timeline.Options, warm bool) error {
	var rows []row
	var levels string
	err := p.with(data, o, func() (err error) {
		if warm {
			if _, err := p.read(ctx); err != nil {
				return err
			}
			if err := p.rest(ctx); err != nil {
				return err
			}
		}
		if err := p.verify(ctx); err != nil {
			return err
		}
		rows, err = p.read(ctx)
		levels = layersOf(p.e)
		return err
	})
	if err != nil {
		return err
	}
	hops, err := hopsOf(data, p.tip)
	if err != nil {
		return err
	}
	for _, r := range rows {
		chain, flat := engine.Quantile(r.chain, 0.5), engine.Quantile(r.flat, 0.5)
		fmt.Printf("%6d  %-10s %6d %6s  %-16s %12v %12v %8.2f\n", p.depth, when, hops, levels, r.what, chain, flat, engine.Ratio(chain, flat))
	}
	return nil
}

// build makes the chain and the flat bucket.
func (p *pair) build(ctx context.Context) error {
	if _, err := p.e.CreateBucket(ctx, "root", nil); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, uint64(p.depth)))
	b := p.e.NewBatch("root")
	put := func(key []byte) error {
		body := make([]byte, *size)
		engine.Fill(body, rng.Uint64())
		p.flat[string(key)] = body
		return b.Put(ctx, key, body)
	}
	for i := range *keys {
		if err := put(rootKey(i)); err != nil {
			return err
		}
	}
	if err := b.Commit(ctx); err != nil {
		return err
	}
	p.tip = "root"
	for level := range p.depth {
		name := fmt.Sprintf("fork-%06d", level)
		if err := p.e.Fork(ctx, p.tip, name); err != nil {
			return err
		}
		p.tip, b = name, p.e.NewBatch(name)
		for w := range *writes {
			key := rootKey(rng.IntN(*keys))
			if w%2 == 1 {
				key = fmt.Appendf(rootKey(rng.IntN(*keys)), "-%06d-%d", level, w)
			}
			p.touched[string(key)] = true
			if level == p.depth/2 {
				p.mid = append(p.mid, key)
			}
			if err := put(key); err != nil {
				return err
			}
		}
		if err := b.Commit(ctx); err != nil {
			return err
		}
	}
	if _, err := p.e.CreateBucket(ctx, flat, nil); err != nil {
		return err
	}
	b = p.e.NewBatch(flat)
	for key, body := range p.flat {
		if err := b.Put(ctx, []byte(key), body); err != nil {
			return err
		}
	}
	return b.Commit(ctx)
}

// verify compares both buckets with what was written.
func (p *pair) verify(ctx context.Context) error {
	var want engine.Content
	for key, body := range p.flat {
		want.Add(len(body), engine.Hash([]byte(key), body))
	}
	return errors.Join(p.e.Verify(ctx, p.tip, want), p.e.Verify(ctx, flat, want))
}

// row is one line of the table: the time of one operation in each round.
type row struct {
	what        string
	chain, flat []time.Duration
}

// read measures, chain and flat bucket in turns.
func (p *pair) read(ctx context.Context) ([]row, error) {
	rng := rand.New(rand.NewPCG(2, uint64(p.depth)))
	rows := []row{{what: "get from root"}, {what: "get from middle"}, {what: "get miss"}, {what: fmt.Sprintf("list %d", *list)}}
	keysOf := [][][]byte{p.untouched(), p.mid, nil}
	for i := range 1000 {
		keysOf[2] = append(keysOf[2], fmt.Appendf(rootKey(i**keys/1000), "-none"))
	}
	for round := range *rounds {
		for i := range rows {
			buckets := []string{p.tip, flat}
			if round%2 == 1 {
				buckets[0], buckets[1] = buckets[1], buckets[0]
			}
			for _, bucket := range buckets {
				took, err := p.time(ctx, bucket, i, keysOf, rng)
				if err != nil {
					return nil, fmt.Errorf("%s of %s: %w", rows[i].what, bucket, err)
				}
				if bucket == flat {
					rows[i].flat = append(rows[i].flat, took)
				} else {
					rows[i].chain = append(rows[i].chain, took)
				}
			}
		}
	}
	return rows, nil
}

// untouched returns keys that no fork wrote, or one that was if there are none.
func (p *pair) untouched() (all [][]byte) {
	for i := range *keys {
		if !p.touched[string(rootKey(i))] {
			all = append(all, rootKey(i))
		}
	}
	if len(all) == 0 {
		all = append(all, rootKey(0))
	}
	return all
}

// time measures one kind of operation on one bucket.
func (p *pair) time(ctx context.Context, bucket string, kind int, keysOf [][][]byte, rng *rand.Rand) (time.Duration, error) {
	if kind == len(keysOf) {
		start := time.Now()
		for range *lists {
			if err := p.listFirst(ctx, bucket); err != nil {
				return 0, err
			}
		}
		return time.Since(start) / time.Duration(*lists), nil
	}
	ks := keysOf[kind]
	order := make([][]byte, *reads)
	for i := range order {
		order[i] = ks[rng.IntN(len(ks))]
	}
	start := time.Now()
	for _, key := range order {
		body, err := p.e.Get(ctx, bucket, key)
		switch {
		case kind == 2 && errors.Is(err, timeline.ErrNotFound):
		case err != nil:
			return 0, err
		case len(body) != *size:
			return 0, fmt.Errorf("%s: %d bytes", key, len(body))
		}
	}
	return time.Since(start) / time.Duration(len(order)), nil
}

// listFirst reads the entries of the first objects.
func (p *pair) listFirst(ctx context.Context, bucket string) error {
	v, err := p.e.View(ctx, bucket, 0)
	if err != nil {
		return err
	}
	defer v.Close()
	scan := v.Scan(layers.NamespaceObjects, nil, nil)
	defer scan.Close()
	n := 0
	for ok := scan.First(); ok && n < *list; ok = scan.Next() {
		n++
	}
	if err := scan.Err(); err != nil || n == min(*list, len(p.flat)) {
		return err
	}
	return fmt.Errorf("%d objects listed, want %d", n, *list)
}
