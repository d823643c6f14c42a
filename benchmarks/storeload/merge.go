package storeload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/benchmarks/s3load"
	"stemma/client"
	"stemma/layers"
	"stemma/timeline"
)

// Diff tells a fork from its source, by how much was changed in the fork.
type Diff struct{ Changed }

// Merge merges forks, rebases them, and reverts what was done in them, by how much was changed.
type Merge struct{ Changed }

// Changed are forks of a bucket of many objects, each with another number of changes.
type Changed struct {
	// Objects of a few bytes are in the bucket.
	Objects int
	// Changes are how many objects a fork replaces, spread over all.
	Changes []int
}

// Disk: 1 GiB.
var (
	FullDiff   = Diff{Changed{Objects: 1_000_000, Changes: []int{10, 1000, 100_000}}}
	QuickDiff  = Diff{Changed{Objects: 2000, Changes: []int{10, 100}}}
	FullMerge  = Merge(FullDiff)
	QuickMerge = Merge(QuickDiff)
)

// changedFork stands for forks of main, and a fork with changes of each of them.
type changedFork struct {
	changes int
	before  client.LSN // of the first fork without the changes
}

// target and source name the forks of a round.
func (f *changedFork) target(round int) string { return fmt.Sprintf("target-%d-%d", f.changes, round) }
func (f *changedFork) source(round int) string { return fmt.Sprintf("source-%d-%d", f.changes, round) }

// Run asks for summaries and for all entries.
func (d *Diff) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	err = d.served(ctx, c, 1, func(cl *client.Client, s *server.Server, f *changedFork) error {
		summary := func(ctx context.Context, _ int) error {
			p, err := cl.Diff(ctx, client.DiffRequest{From: f.target(0), To: f.source(0), Summary: true})
			if err == nil && p.Summary.Modified != int64(f.changes) {
				err = fmt.Errorf("%d changes, want %d", p.Summary.Modified, f.changes)
			}
			return err
		}
		entries := func(ctx context.Context, _ int) error {
			n := 0
			for _, err := range cl.DiffAll(ctx, client.DiffRequest{From: f.target(0), To: f.source(0)}) {
				if err != nil {
					return err
				}
				n++
			}
			if n != f.changes {
				return fmt.Errorf("%d entries, want %d", n, f.changes)
			}
			return nil
		}
		for _, way := range []changedWay{{"diff, counts", nil, summary}, {"diff, entries", nil, entries}} {
			row, err := way.measure(ctx, c, "diff", s, f)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

// Run merges a pair of forks in each round, and rebases and reverts a fork that was made for it.
func (m *Merge) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	err = m.served(ctx, c, c.Rounds, func(cl *client.Client, s *server.Server, f *changedFork) error {
		// fork makes a fork of the first source for a round.
		name := func(of string, round int) string { return fmt.Sprintf("%s-%d-%d", of, f.changes, round) }
		fork := func(as, at string) func(context.Context, int) error {
			return func(ctx context.Context, round int) error {
				_, err := cl.Fork(ctx, f.source(0), client.ForkRequest{Name: name(as, round), At: at})
				return err
			}
		}
		done := func(r *client.Merged, err error) error {
			if err == nil && r.Put != int64(f.changes) {
				err = fmt.Errorf("%d objects put, want %d: %+v", r.Put, f.changes, *r)
			}
			return err
		}
		before := f.before.String()
		for _, way := range []changedWay{
			{"merge, dry run", nil, func(ctx context.Context, round int) error {
				return done(dryRun(ctx, cl, f.target(round), f.source(round)))
			}},
			{"merge", nil, func(ctx context.Context, round int) error {
				return done(cl.Merge(ctx, f.target(round), client.MergeRequest{Source: f.source(round)}))
			}},
			{"rebase", fork("rebased", before), func(ctx context.Context, round int) error {
				return done(cl.Rebase(ctx, name("rebased", round), client.MergeRequest{Source: f.source(0)}))
			}},
			{"revert", fork("reverted", ""), func(ctx context.Context, round int) error {
				return done(cl.Revert(ctx, name("reverted", round), client.MergeRequest{From: before}))
			}},
		} {
			row, err := way.measure(ctx, c, "merge", s, f)
			if client.IsCode(err, "MergeTooLarge") {
				c.Progress.Say("%v", err)
				row = report.Number("merge", way.name+changesName(f.changes), "us", true)
				row.Note = "refused: " + err.Error()
				err = nil
			}
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

// dryRun asks for all pages of a dry run of a merge.
func dryRun(ctx context.Context, cl *client.Client, target, source string) (*client.Merged, error) {
	r := client.MergeRequest{Source: source, DryRun: true, Max: 10_000}
	var all client.Merged
	for {
		m, err := cl.Merge(ctx, target, r)
		if err != nil {
			return nil, err
		}
		if all.Put += m.Put; m.Next == "" {
			return &all, nil
		}
		r.After = m.Next
	}
}

func changesName(n int) string { return fmt.Sprintf(", %s changes", count(n)) }

// changedWay is something that is done once in each round.
type changedWay struct {
	name   string
	before func(ctx context.Context, round int) error // may be nil
	do     func(ctx context.Context, round int) error
}

func (w *changedWay) measure(ctx context.Context, c *Config, suite string, s *server.Server, f *changedFork) (report.Row, error) {
	name := w.name + changesName(f.changes)
	c.Progress.Say("%s", name)
	var failed error
	now := 0
	before := func(ctx context.Context, round int) error {
		if now = round; w.before == nil {
			return nil
		}
		return w.before(ctx, round)
	}
	one := load.Workload{Name: name, Unit: "op", Before: before, Op: func(ctx context.Context, _ int, _ *rand.Rand) (load.Done, error) {
		err := w.do(ctx, now)
		failed = errors.Join(failed, err)
		return load.Done{Units: int64(f.changes)}, err
	}}
	res, err := load.Run(ctx, one, load.Options{Workers: 1, Ops: 1, Rounds: c.Rounds, Seed: c.Seed, CPU: load.CPUOf(s.Pid())})
	if failed != nil {
		return report.Row{}, failed
	}
	row := report.FromLatency(suite, &res, 50)
	row.Note = fmt.Sprintf("%.1f us a change", row.Value.Median/float64(f.changes))
	return row, err
}

// served fills the bucket, makes the forks for some rounds, and calls do with each of them and a server.
func (ch *Changed) served(ctx context.Context, c *Config, rounds int, do func(*client.Client, *server.Server, *changedFork) error) error {
	return c.inDir(func(data string) error {
		var forks []changedFork
		c.Progress.Say("%d objects, forks with %v changes", ch.Objects, ch.Changes)
		err := c.with(data, timeline.Options{}, func(e *engine.Engine) (err error) {
			if err := fillSmall(ctx, e, "main", ch.Objects); err != nil {
				return err
			}
			forks, err = ch.change(ctx, e, rounds)
			return errors.Join(err, e.Flush(ctx))
		})
		if err != nil {
			return err
		}
		return c.served(data, func(s *server.Server) error {
			cl, err := native(s)
			if err != nil {
				return err
			}
			for i := range forks {
				if err := do(cl, s, &forks[i]); err != nil {
					return fmt.Errorf("%d changes: %w", forks[i].changes, err)
				}
			}
			return nil
		})
	})
}

// change makes the forks. What they put are copies of one object that is another one than those of the bucket.
func (ch *Changed) change(ctx context.Context, e *engine.Engine, rounds int) ([]changedFork, error) {
	const aside = "other"
	if err := fillWith(ctx, e, aside, 1, "other"); err != nil {
		return nil, err
	}
	other, err := record(ctx, e, aside, s3load.AppendKey(nil, smallKind, 0))
	if err != nil {
		return nil, err
	}
	var forks []changedFork
	for _, n := range ch.Changes {
		f := changedFork{changes: n}
		for round := range rounds {
			if err := errors.Join(e.Fork(ctx, "main", f.target(round)), e.Fork(ctx, f.target(round), f.source(round))); err != nil {
				return nil, err
			}
			if round == 0 {
				f.before = client.LSN(e.Visible())
			}
			if err := ch.changeOne(ctx, e, f.source(round), n, &other); err != nil {
				return nil, err
			}
		}
		forks = append(forks, f)
	}
	return forks, nil
}

// changeOne replaces n objects of a fork by another one.
func (ch *Changed) changeOne(ctx context.Context, e *engine.Engine, fork string, n int, other *layers.Record) error {
	var b timeline.Batch
	for i := range n {
		b.Put(layers.NamespaceObjects, s3load.AppendKey(nil, smallKind, uint64(i*(ch.Objects/n))), other.Meta, other.Body)
		if b.Len() < 1000 && i < n-1 {
			continue
		}
		err := e.Patiently(func() error {
			_, err := e.Commit(ctx, fork, &b)
			return err
		})
		if err != nil {
			return err
		}
		b.Reset()
	}
	return nil
}
