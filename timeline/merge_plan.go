package timeline

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// MergeResult says what a merge did, or would do. Counts are of keys.
type MergeResult struct {
	// LSN is the commit of the merge; without one, as when there was nothing to do, or
	// of a dry run, the LSN at which the target was looked at.
	LSN       wal.LSN
	Committed bool
	SourceLSN wal.LSN // what was merged, as of
	BaseLSN   wal.LSN // newest point of the source that the target had had before

	Put, Deleted, Same int64
	// Conflicts were decided for the source (and count as Put or Deleted), for the target
	// (Kept), or by nobody (Open).
	Conflicts, Kept, Open int64
}

// change is one key as the other side has it: the unit of merges, picks, reverts.
type change struct {
	key    []byte
	theirs *layers.Record // nil: deleted
	lsn    wal.LSN        // of the change; zero: unknown
	// exact says that was is what the target must have now to be unchanged.
	exact bool
	was   *layers.Record
}

// changeStream walks changes in key order. What it returns is valid until the next call.
type changeStream interface {
	next() (*change, error) // nil at the end
	close() error
}

// mergePlan applies the changes of one side to the target, key by key.
type mergePlan struct {
	ctx   context.Context
	rules MergeRules
	tx    *Tx
	base  mergeBase
	// source is the other side. Unless it is the past of the target, it has changed what it
	// has above an LSN.
	source *View
	past   bool
	above  wal.LSN
	// then is the source at the base, if earlier merges moved that and it can still be
	// read; nil otherwise.
	then *View
	// visit, if set, sees every entry. It ends a dry run by returning false.
	visit     func(e *MergeEntry) (more bool, err error)
	dry       bool
	res       MergeResult
	conflicts []Conflict
	any       bool
}

// errEnough ends a plan that its visitor has seen enough of.
var errEnough = errors.New("timeline: enough")

// run plans all changes of a namespace.
func (p *mergePlan) run(ns layers.Namespace, stream changeStream) error {
	for n := 1; ; n++ {
		c, err := stream.next()
		if c == nil || err != nil {
			return err
		}
		if n%256 == 0 && p.ctx.Err() != nil {
			return p.ctx.Err()
		}
		p.any = true
		if _, had := slices.BinarySearch(p.base.theirs, c.lsn); had {
			continue // it came from the target
		}
		e := &MergeEntry{NS: ns, Key: c.key, Source: p.source, Theirs: c.theirs, plan: p}
		if err := p.decide(e, c); err != nil {
			return err
		}
		if err := p.do(e); err != nil {
			return err
		}
	}
}

// decide fills in what the target has, and what follows.
func (p *mergePlan) decide(e *MergeEntry, c *change) error {
	ours, err := p.tx.view.Get(e.NS, e.Key)
	switch {
	case err == nil:
		e.Ours = &ours
	case !errors.Is(err, ErrNotFound):
		return err
	}
	same := e.Ours == nil && e.Theirs == nil
	if e.Ours != nil && e.Theirs != nil {
		if same, err = p.rules.Same(e.Ours, e.Theirs); err != nil {
			return err
		}
	}
	if same {
		e.Action = MergeSame
		return nil
	}
	if c.exact {
		e.Conflict = (e.Ours == nil) != (c.was == nil) || c.was != nil && c.was.LSN != e.Ours.LSN
	} else if e.Conflict, err = p.targetChanged(e); err != nil {
		return err
	}
	e.Action = MergePut
	if e.Theirs == nil {
		e.Action = MergeDelete
	}
	if !e.Conflict {
		return nil
	}
	side, err := p.rules.Resolve(e)
	switch side {
	case Ours:
		e.Action = MergeKeep
	case Neither:
		e.Action = MergeConflict
	}
	return err
}

// targetChanged reports whether the target has something of a key since the base
// that no merge from the source's ancestry wrote.
func (p *mergePlan) targetChanged(e *MergeEntry) (bool, error) {
	v := p.tx.view
	newest, ok, err := v.version.NewestAbove(v.hops(e.NS), e.NS, e.Key, p.base.targetAt)
	if !ok || err != nil {
		return false, err
	}
	if _, merged := slices.BinarySearch(p.base.ours, newest.LSN); merged {
		return false, nil
	}
	if p.then == nil {
		return true, nil
	}
	was, err := p.then.Get(e.NS, e.Key)
	switch {
	case errors.Is(err, ErrNotFound):
		return e.Ours != nil, nil
	case err != nil:
		return false, err
	case e.Ours == nil:
		return true, nil
	}
	same, err := p.rules.Same(e.Ours, &was)
	return !same, err
}

// do carries out what was decided.
func (p *mergePlan) do(e *MergeEntry) error {
	if p.visit != nil {
		if more, err := p.visit(e); err != nil {
			return err
		} else if !more {
			return errEnough
		}
	}
	if e.Conflict {
		p.res.Conflicts++
	}
	switch e.Action {
	case MergeSame:
		p.res.Same++
		return nil
	case MergeKeep:
		p.res.Kept++
		return nil
	case MergeConflict:
		p.res.Open++
		if len(p.conflicts) < maxConflicts {
			p.conflicts = append(p.conflicts, e.conflict())
		}
		return nil
	case MergeDelete:
		p.res.Deleted++
	default:
		p.res.Put++
	}
	if p.dry || p.res.Open > 0 {
		return nil // nothing will be written
	}
	if err := p.rules.Take(p.tx, e); err != nil {
		return err
	}
	return p.tx.MakeRoom()
}

func (e *MergeEntry) conflict() Conflict {
	c := Conflict{NS: e.NS, Key: bytes.Clone(e.Key)}
	if e.Theirs != nil {
		c.Theirs = e.Theirs.LSN
	}
	if e.Ours != nil {
		c.Ours = e.Ours.LSN
	}
	return c
}

// outcome returns why there can be no commit, or nil.
func (p *mergePlan) outcome() error {
	if !p.dry && p.res.Open > 0 {
		return &MergeConflictError{Conflicts: p.conflicts, Count: p.res.Open}
	}
	return nil
}

// changesOf walks what a view has above an LSN. The keys that its range tombstones
// hide are those that another view has there.
type changesOf struct {
	ns      layers.Namespace
	changes *layers.Changes
	rest    *rangedScan
	// live leaves deletions out: of strangers nothing says that they are any.
	live    bool
	started bool
	cur     change
	key     []byte
	rec     layers.Record
}

func newChangesOf(source, target *View, ns layers.Namespace, r layers.UserRange, above wal.LSN) *changesOf {
	c := &changesOf{ns: ns, changes: source.changes(ns, r.Lower, r.Upper, above)}
	c.rest = newRangedScan(target, ns, c.changes.Ranges())
	return c
}

func (c *changesOf) next() (*change, error) {
	if !c.started {
		c.started = true
		c.changes.First()
		c.rest.first()
	}
	for {
		changed, rest := c.changes.User(), c.rest.user()
		if err := firstError(c.changes.Err(), c.rest.err()); err != nil || changed == nil && rest == nil {
			return nil, err
		}
		c.cur.theirs, c.cur.lsn = nil, 0
		if changed != nil && (rest == nil || bytes.Compare(changed, rest) <= 0) {
			c.key = append(c.key[:0], changed...)
			c.rec, c.cur.lsn = *c.changes.Record(), c.changes.Record().LSN
			if c.rec.Key = c.key; c.rec.Kind != layers.KindTombstone {
				c.cur.theirs = &c.rec
			}
			if rest != nil && bytes.Equal(changed, rest) {
				c.rest.next()
			}
			c.changes.Next()
		} else {
			c.key = append(c.key[:0], rest...)
			c.rest.next()
		}
		if c.cur.key = c.key; c.cur.theirs != nil || !c.live {
			return &c.cur, nil
		}
	}
}

func (c *changesOf) close() error { return firstError(c.changes.Close(), c.rest.close()) }
