package timeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// MergeOptions say what to merge into what.
type MergeOptions struct {
	Source string
	At     wal.LSN // of the source; zero: the tip
	Target string
	// IfUnchangedSince refuses the merge if the target has a record of its own above the
	// LSN in one of the namespaces; zero: no condition.
	IfUnchangedSince wal.LSN
	Rules            MergeRules
	// DryRun decides and commits nothing.
	DryRun bool
	// Visit, if set, sees every entry in the order of namespaces and keys, before the
	// commit. When it returns false a dry run ends; a merge must see all. It may be called
	// again from the first entry on, when the target has moved.
	Visit func(e *MergeEntry) (more bool, err error)
	// After begins behind a key of the first namespace; of a dry run only.
	After []byte

	rebase bool // the source is what the target came from
}

// Merge brings the changes that a descendant of the target has made into the target,
// in one commit: what the source changed since the two parted, or since the source was
// merged last. What both have changed to the same is no conflict, what only one has
// changed is taken from it, the rest is for Rules.Resolve. Records that are taken keep
// their bodies by handle.
//
// It holds the target's gate exclusively: other commits to it wait, so what was decided
// holds at the commit. The source may be written meanwhile; it is read at one LSN.
//
// Errors: ErrNoSuchBucket, ErrFuture, *BelowHorizonError, ErrNotDescendant,
// ErrTargetChanged, *MergeConflictError, those of Rules, Visit
// and Commit. After any of them but *wal.ReadOnlyError nothing has changed.
func (s *Store) Merge(ctx context.Context, o MergeOptions) (MergeResult, error) {
	res, err := s.merge(ctx, &o)
	if err != nil {
		return MergeResult{}, fmt.Errorf("merge %q into %q: %w", o.Source, o.Target, err)
	}
	return res, nil
}

func (s *Store) merge(ctx context.Context, o *MergeOptions) (res MergeResult, err error) {
	source, err := s.View(ctx, o.Source, o.At)
	if err != nil {
		return res, err
	}
	defer source.Close() // keeps what the values lie in until the commit refers to it
	at := source.lsn
	plan := func(tx *Tx, p *mergePlan) error {
		base, ok, err := findMergeBase(source, tx.view)
		if err != nil {
			return err
		}
		if !ok || !o.rebase && !base.leadsInto(tx.view, source) || o.rebase && !base.comesFrom(tx.view, source) {
			return ErrNotDescendant
		}
		p.base, p.res.BaseLSN = base, base.at
		p.source, p.above = source, base.at
		if base.merged() {
			if p.then, err = s.viewIfReadable(source, base.source, base.at); err != nil {
				return err
			}
			if p.then != nil {
				defer p.then.Close()
			}
		}
		for i, ns := range p.rules.Namespaces {
			r := layers.UserRange{}
			if i == 0 && o.After != nil {
				r.Lower = append(slices.Clone(o.After), 0)
			}
			stream := newChangesOf(source, tx.view, ns, r, base.at)
			if err := firstError(p.run(ns, stream), stream.close()); err != nil {
				return err
			}
		}
		if p.any && !p.dry {
			base.putMergePoints(&tx.Batch)
			return s.forgetMerges(tx)
		}
		return nil
	}
	res, err = s.integrate(ctx, &integration{target: o.Target, since: o.IfUnchangedSince, rules: o.Rules, visit: o.Visit, dry: o.DryRun}, plan)
	res.SourceLSN = at
	return res, err
}

// leadsInto reports whether the source branched, itself or by its ancestors, from what
// the target's bucket leads to, or led to before a restore, and the target has all of
// that history.
func (b *mergeBase) leadsInto(target, source *View) bool {
	if b.node == source.node || b.a > b.b {
		return false
	}
	if b.node == target.node {
		return true
	}
	return target.bucket.bindsTo(b.node)
}

// comesFrom reports whether the target branched, itself or by its ancestors, from what the
// source's bucket leads to, or led to before a restore.
func (b *mergeBase) comesFrom(target, source *View) bool {
	if b.node == target.node {
		return false
	}
	if b.node == source.node {
		return true
	}
	return source.bucket.bindsTo(b.node)
}

// Rebase brings what the source, from which the target was forked, has changed since into
// the target, in one commit: the fork is then its parent with the fork's own changes on
// top. A later merge of the fork takes nothing for the fork's own that came by it, and
// nothing that the fork has had so for a change of the parent. The side of the parent is
// theirs. Options and errors are those of Merge; ErrNotDescendant says that the target
// does not come from the source.
func (s *Store) Rebase(ctx context.Context, o MergeOptions) (MergeResult, error) {
	o.rebase = true
	res, err := s.merge(ctx, &o)
	if err != nil {
		return MergeResult{}, fmt.Errorf("rebase %q onto %q: %w", o.Target, o.Source, err)
	}
	return res, nil
}

// viewIfReadable opens a point on the ancestry of a view; nil if it can not be read any more.
func (s *Store) viewIfReadable(of *View, n *node, lsn wal.LSN) (*View, error) {
	version, visible, err := s.acquire()
	if err != nil {
		return nil, err
	}
	var gone *BelowHorizonError
	if err := s.checkReadable(version.Horizon, visible, n, lsn); errors.As(err, &gone) {
		version.Release()
		return nil, nil
	} else if err != nil {
		version.Release()
		return nil, err
	}
	return s.newView(version, of.bucket, n, lsn), nil
}

// integration is what merges, picks and reverts have in common; see MergeOptions.
type integration struct {
	target string
	since  wal.LSN
	rules  MergeRules
	visit  func(e *MergeEntry) (more bool, err error)
	dry    bool
}

// integrate plans under the target's gate, and commits what was planned; what is too much
// for the log, by way of layers. A dry run takes no lock.
func (s *Store) integrate(ctx context.Context, o *integration, plan func(tx *Tx, p *mergePlan) error) (res MergeResult, err error) {
	var p *mergePlan
	fn := func(tx *Tx) error {
		p = &mergePlan{ctx: ctx, rules: o.rules.withDefaults(), tx: tx, visit: o.visit, dry: o.dry}
		p.res.LSN = tx.LSN()
		if err := p.checkUnchanged(o.since); err != nil {
			return err
		}
		if err := plan(tx, p); err != nil {
			return err
		}
		return p.outcome()
	}
	if o.dry {
		v, err := s.View(ctx, o.target, 0)
		if err != nil {
			return res, err
		}
		err = fn(&Tx{view: v})
		v.Close()
		if errors.Is(err, errEnough) {
			err = nil
		}
		if p == nil {
			return res, err
		}
		return p.res, err
	}
	lsn, err := s.ExclusiveLarge(ctx, o.target, fn)
	if err != nil {
		return res, err
	}
	res = p.res
	res.LSN, res.Committed = lsn, !p.tx.empty()
	return res, nil
}

// mergeSlack is what of a commit's limit is left for what a merge writes about itself.
const mergeSlack = 1 << 20

// checkUnchanged refuses a target that has a record of its own above an LSN.
func (p *mergePlan) checkUnchanged(since wal.LSN) error {
	if since == 0 {
		return nil
	}
	return p.tx.view.checkUnchanged(since, p.rules.Namespaces...)
}
