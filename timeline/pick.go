package timeline

import (
	"context"
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// PickOptions say what to pick; see MergeOptions.
type PickOptions struct {
	Source string
	At     wal.LSN
	Target string
	// Ranges are the keys that are picked, in every namespace of the rules. None: nothing.
	Ranges           []layers.UserRange
	IfUnchangedSince wal.LSN
	Rules            MergeRules
	DryRun           bool
	Visit            func(e *MergeEntry) (more bool, err error)
}

// Pick brings what the source changed of some keys into the target, in one commit: the
// changes since the newest point that both have in common, whoever descends from whom.
// Without such a point all that the source has counts as added. Conflicts are those of
// a merge. Nothing remembers it: a later merge finds that both sides have the same.
//
// Errors: those of Merge, but ErrNotDescendant.
func (s *Store) Pick(ctx context.Context, o PickOptions) (MergeResult, error) {
	res, err := s.pick(ctx, &o)
	if err != nil {
		return MergeResult{}, fmt.Errorf("pick from %q into %q: %w", o.Source, o.Target, err)
	}
	return res, nil
}

func (s *Store) pick(ctx context.Context, o *PickOptions) (res MergeResult, err error) {
	source, err := s.View(ctx, o.Source, o.At)
	if err != nil {
		return res, err
	}
	defer source.Close()
	at, ranges := source.lsn, layers.JoinRanges(o.Ranges)
	plan := func(tx *Tx, p *mergePlan) error {
		base, related, err := findMergeBase(source, tx.view)
		if err != nil {
			return err
		}
		if p.base = base; related {
			p.res.BaseLSN = base.lsn()
		}
		p.source, p.above = source, p.res.BaseLSN
		for _, ns := range p.rules.Namespaces {
			for _, r := range ranges {
				stream := newChangesOf(source, tx.view, ns, r, p.res.BaseLSN)
				stream.live = !related
				if err := firstError(p.run(ns, stream), stream.close()); err != nil {
					return err
				}
			}
		}
		return nil
	}
	res, err = s.integrate(ctx, &integration{target: o.Target, since: o.IfUnchangedSince, rules: o.Rules, visit: o.Visit, dry: o.DryRun}, plan)
	res.SourceLSN = at
	return res, err
}

// RevertOptions say what to revert; see MergeOptions.
type RevertOptions struct {
	Target string
	// From and To bound the commits that are undone: those above From, up to To; a zero To
	// is the tip, as it is at the commit: then the keys become what they were at From,
	// without any conflict.
	From, To wal.LSN
	// Ranges are the keys that are reverted, in every namespace of the rules; nil: all.
	Ranges []layers.UserRange
	// Deleted reverts deletions only: keys that have nothing at To.
	Deleted          bool
	IfUnchangedSince wal.LSN
	Rules            MergeRules
	DryRun           bool
	Visit            func(e *MergeEntry) (more bool, err error)
}

// Revert undoes what the commits of a range of LSNs did to a bucket, in one commit: keys
// become again what they were at From. What was changed after To, too, is a conflict,
// the state at From being theirs; what already is as at From is the same.
//
// Errors: those of Merge, but ErrNotDescendant; ErrBadRange.
func (s *Store) Revert(ctx context.Context, o RevertOptions) (MergeResult, error) {
	res, err := s.revert(ctx, &o)
	if err != nil {
		return MergeResult{}, fmt.Errorf("revert %q from %d to %d: %w", o.Target, o.From, o.To, err)
	}
	return res, nil
}

func (s *Store) revert(ctx context.Context, o *RevertOptions) (res MergeResult, err error) {
	to, err := s.View(ctx, o.Target, o.To)
	if err != nil {
		return res, err
	}
	defer to.Close()
	if o.From == 0 || o.From >= to.lsn {
		return res, ErrBadRange
	}
	from, err := s.View(ctx, o.Target, o.From)
	if err != nil {
		return res, err
	}
	defer from.Close()
	ranges := []layers.UserRange{{}}
	if o.Ranges != nil {
		ranges = layers.JoinRanges(o.Ranges)
	}
	plan := func(tx *Tx, p *mergePlan) error {
		p.source, p.past = from, true
		undone := to
		if o.To == 0 {
			undone = tx.view
		}
		for _, ns := range p.rules.Namespaces {
			for _, r := range ranges {
				stream := &inverse{d: s.Diff(ctx, undone, from, ns, r.Lower, r.Upper), deleted: o.Deleted}
				if err := firstError(p.run(ns, stream), stream.close()); err != nil {
					return err
				}
			}
		}
		return nil
	}
	res, err = s.integrate(ctx, &integration{target: o.Target, since: o.IfUnchangedSince, rules: o.Rules, visit: o.Visit, dry: o.DryRun}, plan)
	res.SourceLSN, res.BaseLSN = from.lsn, to.lsn
	return res, err
}

// inverse walks the way back from one point to an earlier one.
type inverse struct {
	d       *Diff
	deleted bool // only keys that have nothing at the later point
	cur     change
}

func (i *inverse) next() (*change, error) {
	for i.d.Next() {
		if x := i.d.Difference(); x.A == nil || !i.deleted {
			i.cur = change{key: x.Key, theirs: x.B, exact: true, was: x.A}
			return &i.cur, nil
		}
	}
	return nil, i.d.Err()
}

func (i *inverse) close() error { return i.d.Close() }
