package storeload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/report"
	"stemma/timeline"
)

// Chain reads at the end of chains of forks, in turns with a bucket that is none.
type Chain struct {
	// Depths of the chains; a store for each.
	Depths []int
	// Objects of 512 bytes are in the root. Writes are the objects that each fork puts,
	// half of them new ones; a second chain of each depth writes nothing.
	Objects, Writes int
	// Gets of a kind and lists of 1,000 objects in a round.
	Gets, Lists int
}

// Disk: 2 GiB.
var (
	FullChain  = Chain{Depths: []int{1, 10, 100, 1000, 10_000}, Objects: 10_000, Writes: 10, Gets: 20_000, Lists: 100}
	QuickChain = Chain{Depths: []int{20}, Objects: 500, Writes: 10, Gets: 100, Lists: 5}
)

// Run builds each chain and reads it at rest, with no background work, and again
// after the reads have made the background work do what they call for.
func (ch *Chain) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	for _, depth := range ch.Depths {
		for _, writes := range []int{0, ch.Writes} {
			c.Progress.Say("chain of %d forks, %d objects written in each", depth, writes)
			p := &pair{Chain: ch, c: c, depth: depth, writes: writes, flat: make(map[string][]byte), touched: make(map[string]bool)}
			err := c.inDir(func(data string) error {
				more, err := p.run(ctx, data)
				rows = append(rows, more...)
				return err
			})
			if err != nil {
				return rows, fmt.Errorf("depth %d: %w", depth, err)
			}
		}
	}
	return rows, nil
}

// pair is a chain and the flat bucket that holds the same.
type pair struct {
	*Chain
	c             *Config
	depth, writes int

	tip     string
	mid     [][]byte          // keys that forks in the middle wrote
	flat    map[string][]byte // what tip and flat hold
	touched map[string]bool   // keys that forks wrote
}

const (
	root      = "root"
	flat      = "flat"
	chainBody = 512
	// noCompaction is more layers at level 0 than there will be.
	noCompaction = 44
)

func rootKey(i int) []byte { return fmt.Appendf(nil, "object-%09d", i) }

func (p *pair) run(ctx context.Context, data string) (rows []report.Row, err error) {
	err = p.c.with(data, timeline.Options{}, func(e *engine.Engine) error {
		if err := errors.Join(p.build(ctx, e), e.Flush(ctx)); err != nil {
			return fmt.Errorf("build: %w", err)
		}
		return p.c.idle(ctx, e)
	})
	if err != nil {
		return nil, err
	}
	if p.writes == 0 {
		return p.report(ctx, data, "nothing written", timeline.Options{})
	}
	rows, err = p.report(ctx, data, "at rest", timeline.Options{CollectEvery: -1, L0Layers: noCompaction})
	if err != nil {
		return rows, err
	}
	err = p.c.with(data, timeline.Options{}, func(e *engine.Engine) error {
		if _, err := p.read(ctx, e, ""); err != nil {
			return err
		}
		return p.c.idle(ctx, e)
	})
	if err != nil {
		return rows, err
	}
	more, err := p.report(ctx, data, "read often", timeline.Options{})
	return append(rows, more...), err
}

// report opens the store, reads, and closes it.
func (p *pair) report(ctx context.Context, data, when string, o timeline.Options) (rows []report.Row, err error) {
	var layers string
	err = p.c.with(data, o, func(e *engine.Engine) error {
		if err := p.verify(ctx, e); err != nil {
			return err
		}
		rows, err = p.read(ctx, e, when)
		layers = layersOf(e)
		return err
	})
	if err != nil {
		return rows, err
	}
	hops, err := hopsOf(data, p.tip)
	if err == nil {
		rows[0].Note = fmt.Sprintf("%d hops, %s layers", hops, layers)
	}
	return rows, err
}

// layersOf returns how many layers the levels of a store have, as "3 + 1": those of
// level 0 and the rest.
func layersOf(e *engine.Engine) string {
	m := e.Metrics()
	below := 0
	for _, l := range m.Levels[1:] {
		below += l.Layers
	}
	return fmt.Sprintf("%d + %d", m.Levels[0].Layers, below)
}

// build makes the chain and the flat bucket.
func (p *pair) build(ctx context.Context, e *engine.Engine) error {
	if _, err := e.CreateBucket(ctx, timeline.NewBucket{Name: root}); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(p.c.Seed, uint64(p.depth)))
	b := e.NewBatch(root)
	put := func(key []byte) error {
		body := make([]byte, chainBody)
		engine.Fill(body, rng.Uint64())
		p.flat[string(key)] = body
		return b.Put(ctx, key, body)
	}
	for i := range p.Objects {
		if err := put(rootKey(i)); err != nil {
			return err
		}
	}
	if err := b.Commit(ctx); err != nil {
		return err
	}
	p.tip = root
	for level := range p.depth {
		name := fmt.Sprintf("fork-%06d", level)
		if err := e.Fork(ctx, p.tip, name); err != nil {
			return err
		}
		p.tip, b = name, e.NewBatch(name)
		for w := range p.writes {
			key := rootKey(rng.IntN(p.Objects))
			if w%2 == 1 {
				key = fmt.Appendf(key, "-%06d-%d", level, w)
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
	if _, err := e.CreateBucket(ctx, timeline.NewBucket{Name: flat}); err != nil {
		return err
	}
	b = e.NewBatch(flat)
	for key, body := range p.flat {
		if err := b.Put(ctx, []byte(key), body); err != nil {
			return err
		}
	}
	return b.Commit(ctx)
}

// verify compares both buckets with what was written.
func (p *pair) verify(ctx context.Context, e *engine.Engine) error {
	var want engine.Content
	for key, body := range p.flat {
		want.Add(len(body), engine.Hash([]byte(key), body))
	}
	return errors.Join(e.Verify(ctx, p.tip, want), e.Verify(ctx, flat, want))
}

// read measures chain and flat bucket in turns; untouched keys beside the root.
func (p *pair) read(ctx context.Context, e *engine.Engine, when string) (rows []report.Row, err error) {
	missing := make([][]byte, 1000)
	for i := range missing {
		missing[i] = fmt.Appendf(rootKey(i*p.Objects/len(missing)), "-none")
	}
	tip, fl, ro := place{e: e, bucket: p.tip}, place{e: e, bucket: flat}, place{e: e, bucket: root}
	name := func(what string) string {
		return fmt.Sprintf("depth %s, %s: %s", count(p.depth), when, what)
	}
	for _, k := range []struct {
		what, other string
		keys        [][]byte
		absent      bool
		beside      place
	}{
		{"get untouched", "in the root", p.untouched(), false, ro},
		{"get touched", "in a flat bucket", p.mid, false, fl},
		{"get miss", "in a flat bucket", missing, true, fl},
	} {
		if len(k.keys) == 0 {
			continue
		}
		a, b := p.c.single(tip.gets(name(k.what), k.keys, k.absent), p.Gets), p.c.single(k.beside.gets(k.other, k.keys, k.absent), p.Gets)
		row, err := p.c.beside(ctx, "chain", a, b, p.c.Rounds)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
	}
	a, b := p.c.single(tip.lists(name("list 1,000"), 1000), p.Lists), p.c.single(fl.lists("in a flat bucket", 1000), p.Lists)
	row, err := p.c.beside(ctx, "chain", a, b, p.c.Rounds)
	return append(rows, row), err
}

// untouched returns keys that no fork wrote.
func (p *pair) untouched() (all [][]byte) {
	for i := range p.Objects {
		if !p.touched[string(rootKey(i))] {
			all = append(all, rootKey(i))
		}
	}
	return all
}
