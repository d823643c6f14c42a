package storeload

import (
	"context"
	"fmt"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/report"
	"stemma/timeline"
	"stemma/wal"
)

// Past reads a bucket as it was, in turns with its tip.
type Past struct {
	// Objects of 512 bytes are all written Versions times.
	Objects, Versions int
	// Gets and lists of 1,000 objects in a round.
	Gets, Lists int
}

// Disk: 1 GiB.
var (
	FullPast  = Past{Objects: 20_000, Versions: 20, Gets: 20_000, Lists: 100}
	QuickPast = Past{Objects: 300, Versions: 4, Gets: 50, Lists: 3}
)

const pastBucket = "main"

// Run writes all versions, lets the store come to rest, and reads one, half of all
// and all but one versions back.
func (p *Past) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	err = c.inDir(func(data string) error {
		return c.with(data, timeline.Options{}, func(e *engine.Engine) error {
			c.Progress.Say("%d versions of %d objects", p.Versions, p.Objects)
			lsns, err := p.write(ctx, e)
			if err != nil {
				return err
			}
			if err := c.idle(ctx, e); err != nil {
				return err
			}
			for _, back := range []int{1, p.Versions / 2, p.Versions - 1} {
				c.Progress.Say("%d versions back", back)
				more, err := p.read(ctx, c, e, back, lsns[len(lsns)-1-back])
				rows = append(rows, more...)
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	return rows, err
}

// write returns the LSN of the end of each version.
func (p *Past) write(ctx context.Context, e *engine.Engine) ([]wal.LSN, error) {
	if _, err := e.CreateBucket(ctx, timeline.NewBucket{Name: pastBucket}); err != nil {
		return nil, err
	}
	var lsns []wal.LSN
	body := make([]byte, 512)
	for v := range p.Versions {
		b := e.NewBatch(pastBucket)
		for i := range p.Objects {
			engine.Fill(body, uint64(v*p.Objects+i))
			if err := b.Put(ctx, rootKey(i), body); err != nil {
				return nil, err
			}
		}
		if err := b.Commit(ctx); err != nil {
			return nil, err
		}
		lsns = append(lsns, e.Visible())
		if err := e.Flush(ctx); err != nil {
			return nil, err
		}
	}
	return lsns, nil
}

func (p *Past) read(ctx context.Context, c *Config, e *engine.Engine, back int, at wal.LSN) (rows []report.Row, err error) {
	keys := make([][]byte, p.Objects)
	for i := range keys {
		keys[i] = rootKey(i)
	}
	past, tip := place{e: e, bucket: pastBucket, at: at}, place{e: e, bucket: pastBucket}
	name := func(what string) string { return fmt.Sprintf("%s, %d versions back", what, back) }
	get, err := c.beside(ctx, "past", c.single(past.gets(name("get"), keys, false), p.Gets), c.single(tip.gets("at the tip", keys, false), p.Gets), c.Rounds)
	if err != nil {
		return nil, err
	}
	list, err := c.beside(ctx, "past", c.single(past.lists(name("list 1,000"), 1000), p.Lists), c.single(tip.lists("at the tip", 1000), p.Lists), c.Rounds)
	return []report.Row{get, list}, err
}
