package object

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// MergeStrategy says who wins a key that both sides of a merge have changed.
type MergeStrategy string

// The strategies. The empty one is MergeFail.
const (
	MergeFail       MergeStrategy = "fail"
	MergeSourceWins MergeStrategy = "source-wins"
	MergeTargetWins MergeStrategy = "dest-wins"
)

// side returns whose version the strategy takes; false for a strategy that there is not.
func (m MergeStrategy) side() (timeline.Side, bool) {
	switch m {
	case "", MergeFail:
		return timeline.Neither, true
	case MergeSourceWins:
		return timeline.Theirs, true
	case MergeTargetWins:
		return timeline.Ours, true
	}
	return timeline.Neither, false
}

// MergeOverride is another strategy for a key, or for the keys with a prefix. That of
// the key decides, then the longest prefix, then Strategy.
type MergeOverride struct {
	Key      string // or
	Prefix   string
	Strategy MergeStrategy
}

// MergeInput says what Merge merges.
type MergeInput struct {
	Source    Point
	Target    string
	Strategy  MergeStrategy
	Overrides []MergeOverride
	// IfTargetLSN refuses the merge when an object of the target has changed above it; zero: no condition.
	IfTargetLSN wal.LSN
	DryRun      bool
	// After begins a dry run behind a key: Next of the report before.
	After string
	// Max bounds the entries of the report, of a dry run the keys that are looked at; zero
	// or more than MaxDiffEntries: that many.
	Max int
}

// MergeEntry is what a merge does, or would do, with one key.
type MergeEntry struct {
	Key      string
	Action   string // put, delete, same, keep, conflict
	Conflict bool   // both sides have changed it; Action says who won, conflict that nobody did
	Source   *DiffVersion
	Target   *DiffVersion // what is there; nil: nothing
}

// MergeReport says what a merge did, or would do.
type MergeReport struct {
	timeline.MergeResult
	Entries []MergeEntry // as many as Max
	// Next is the last key of a dry run that has more; empty: it has seen all. Counts are of
	// the keys that were looked at.
	Next string
}

// Merge brings what a fork has changed into what it came from, in one commit: objects with
// their metadata and tags, deletions, and where the target keeps versions, those that the
// fork has made. docs/semantics.md has the rules.
//
// Errors: ErrBadStrategy, timeline.ErrNoSuchBucket, ErrFuture, *BelowHorizonError,
// ErrNotDescendant, ErrTargetChanged, *MergeConflictError, and those of
// a commit. After an error nothing has changed, but see *wal.ReadOnlyError.
func (s *Service) Merge(ctx context.Context, in *MergeInput) (*MergeReport, error) {
	return s.merge(ctx, in, s.store.Merge)
}

func (s *Service) merge(ctx context.Context, in *MergeInput, run func(context.Context, timeline.MergeOptions) (timeline.MergeResult, error)) (*MergeReport, error) {
	m, err := s.newMerger(ctx, in.Strategy, in.Overrides, in.Max, in.DryRun)
	if err != nil {
		return nil, err
	}
	var after []byte
	if in.DryRun && in.After != "" {
		after = []byte(in.After)
	}
	return m.run(in.Target, func() (timeline.MergeResult, error) {
		return run(ctx, timeline.MergeOptions{
			Source: in.Source.Bucket, At: in.Source.At, Target: in.Target, IfUnchangedSince: in.IfTargetLSN,
			Rules: m.rules(), DryRun: in.DryRun, Visit: m.visit, After: after,
		})
	})
}

// Rebase brings what the bucket that a fork came from has changed into the fork, in one
// commit: the fork is then its parent with the fork's own changes on top. In is as for
// Merge, with the parent as the Source and the fork as the Target.
//
// Errors: those of Merge; ErrNotDescendant says that the target is no fork of the source.
func (s *Service) Rebase(ctx context.Context, in *MergeInput) (*MergeReport, error) {
	return s.merge(ctx, in, s.store.Rebase)
}

// PickInput says what CherryPick picks; see MergeInput.
type PickInput struct {
	Source      Point
	Target      string
	Keys        []string
	Prefixes    []string
	Strategy    MergeStrategy
	Overrides   []MergeOverride
	IfTargetLSN wal.LSN
	DryRun      bool
	Max         int
}

// CherryPick brings what the source has changed of some keys, or of the keys with some
// prefixes, into the target, whoever descends from whom. Errors: those of Merge but
// ErrNotDescendant; ErrKeyTooLong, ErrTooManyKeys.
func (s *Service) CherryPick(ctx context.Context, in *PickInput) (*MergeReport, error) {
	ranges, err := keyRanges(in.Keys, in.Prefixes)
	if err != nil {
		return nil, fmt.Errorf("pick: %w", err)
	}
	m, err := s.newMerger(ctx, in.Strategy, in.Overrides, in.Max, in.DryRun)
	if err != nil {
		return nil, err
	}
	return m.run(in.Target, func() (timeline.MergeResult, error) {
		return s.store.Pick(ctx, timeline.PickOptions{
			Source: in.Source.Bucket, At: in.Source.At, Target: in.Target, Ranges: ranges, IfUnchangedSince: in.IfTargetLSN,
			Rules: m.rules(), DryRun: in.DryRun, Visit: m.visit,
		})
	})
}

// RevertInput says what Revert undoes; see MergeInput. The side of the source is the
// bucket as it was at From.
type RevertInput struct {
	Bucket string
	// From and To bound the commits that are undone: those above From, up to To; a zero To
	// is the tip.
	From, To       wal.LSN
	Keys, Prefixes []string // none: all
	Deleted        bool     // only objects that are not there at To
	Strategy       MergeStrategy
	Overrides      []MergeOverride
	IfTargetLSN    wal.LSN
	DryRun         bool
	Max            int
}

// Revert undoes what the commits of a range of LSNs did to the objects of a bucket, in one
// commit. Errors: those of Merge but ErrNotDescendant; timeline.ErrBadRange.
func (s *Service) Revert(ctx context.Context, in *RevertInput) (*MergeReport, error) {
	ranges, err := keyRanges(in.Keys, in.Prefixes)
	if err != nil {
		return nil, fmt.Errorf("revert: %w", err)
	}
	m, err := s.newMerger(ctx, in.Strategy, in.Overrides, in.Max, in.DryRun)
	if err != nil {
		return nil, err
	}
	return m.run(in.Bucket, func() (timeline.MergeResult, error) {
		return s.store.Revert(ctx, timeline.RevertOptions{
			Target: in.Bucket, From: in.From, To: in.To, Ranges: ranges, Deleted: in.Deleted, IfUnchangedSince: in.IfTargetLSN,
			Rules: m.rules(), DryRun: in.DryRun, Visit: m.visit,
		})
	})
}

// maxPicked bounds the keys and prefixes of one pick or revert.
const maxPicked = 10_000

// keyRanges returns the ranges of keys and of prefixes; nil for none.
func keyRanges(keys, prefixes []string) ([]layers.UserRange, error) {
	if len(keys)+len(prefixes) > maxPicked {
		return nil, fmt.Errorf("%d keys and prefixes, at most %d: %w", len(keys)+len(prefixes), maxPicked, ErrTooManyKeys)
	}
	var ranges []layers.UserRange
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return nil, err
		}
		ranges = append(ranges, layers.UserRange{Lower: []byte(k), Upper: append([]byte(k), 0)})
	}
	for _, p := range prefixes {
		ranges = append(ranges, layers.UserRange{Lower: []byte(p), Upper: bound(successor(p))})
	}
	return ranges, nil
}

// merger decides and writes for one merge, and gathers its report.
type merger struct {
	s        *Service
	ctx      context.Context
	side     timeline.Side
	keys     map[string]timeline.Side
	prefixes map[string]timeline.Side
	most     int
	dry      bool
	holds    holds
	report   MergeReport
	looked   int
	last     string
}

func (s *Service) newMerger(ctx context.Context, strategy MergeStrategy, overrides []MergeOverride, most int, dry bool) (*merger, error) {
	m := &merger{s: s, ctx: ctx, keys: make(map[string]timeline.Side), prefixes: make(map[string]timeline.Side), most: most, dry: dry}
	if most <= 0 || most > MaxDiffEntries {
		m.most = MaxDiffEntries
	}
	var ok bool
	if m.side, ok = strategy.side(); !ok {
		return nil, fmt.Errorf("strategy %q is none of fail, source-wins and dest-wins: %w", strategy, ErrBadStrategy)
	}
	for _, o := range overrides {
		side, ok := o.Strategy.side()
		switch {
		case !ok:
			return nil, fmt.Errorf("strategy %q is none of fail, source-wins and dest-wins: %w", o.Strategy, ErrBadStrategy)
		case o.Key != "" && o.Prefix != "":
			return nil, fmt.Errorf("strategy for both key %q and prefix %q: %w", o.Key, o.Prefix, ErrBadStrategy)
		case o.Key != "":
			m.keys[o.Key] = side
		default:
			m.prefixes[o.Prefix] = side
		}
	}
	return m, nil
}

func (m *merger) rules() timeline.MergeRules {
	return timeline.MergeRules{Same: m.s.sameObject, Resolve: m.resolve, Take: m.take}
}

// resolve finds the strategy of a key.
func (m *merger) resolve(e *timeline.MergeEntry) (timeline.Side, error) {
	if side, ok := m.keys[string(e.Key)]; ok {
		return side, nil
	}
	if len(m.prefixes) > 0 {
		for n := len(e.Key); n >= 0; n-- {
			if side, ok := m.prefixes[string(e.Key[:n])]; ok {
				return side, nil
			}
		}
	}
	return m.side, nil
}

// visit adds an entry to the report. A dry run ends with its page.
func (m *merger) visit(e *timeline.MergeEntry) (bool, error) {
	if m.dry && m.looked == m.most {
		m.report.Next = m.last
		return false, nil
	}
	key := string(e.Key)
	if m.last != "" && strings.Compare(key, m.last) <= 0 { // the target has moved: from the first key on again
		m.looked, m.report.Entries = 0, nil
	}
	m.looked, m.last = m.looked+1, key
	if len(m.report.Entries) == m.most {
		return true, nil
	}
	r := MergeEntry{Key: key, Action: e.Action.String(), Conflict: e.Conflict}
	var err error
	if r.Source, err = m.s.diffVersion(e.Theirs); err == nil {
		r.Target, err = m.s.diffVersion(e.Ours)
	}
	m.report.Entries = append(m.report.Entries, r)
	return true, err
}

// run merges into a bucket, and reports.
func (m *merger) run(target string, merge func() (timeline.MergeResult, error)) (*MergeReport, error) {
	defer m.holds.letGo()
	err := m.s.withPages(m.ctx, target, func() (err error) {
		m.report, m.looked, m.last = MergeReport{}, 0, ""
		m.report.MergeResult, err = merge()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &m.report, nil
}

// take makes the source's side of a key that of the target, as a put or a delete there
// would: what was current becomes a version where the target keeps versions, and so do the
// versions that the source has made.
func (m *merger) take(tx *timeline.Tx, e *timeline.MergeEntry) error {
	set, err := m.s.settings(tx)
	if err != nil {
		return err
	}
	w := keyWriter{s: m.s, tx: tx, set: set, holds: &m.holds, key: bytes.Clone(e.Key)}
	if set.Versioning == Enabled {
		if err := m.carry(tx, &w, e); err != nil {
			return err
		}
	}
	if e.Theirs == nil {
		return w.deleteCurrent()
	}
	entry, err := decodeEntry(e.Theirs.Meta, e.Theirs.LSN)
	if err != nil {
		return fmt.Errorf("object %q at %d: %w", e.Key, e.Theirs.LSN, err)
	}
	entry.pages.keep(entry.LSN)
	entry.LSN, entry.made, entry.uploadID, entry.renamed, entry.inherited = 0, 0, uploadID{}, renameToken{}, inheritance{}
	if set.Lock == nil {
		entry.Lock = Lock{}
	}
	entry.Lock = entry.Lock.orDefault(set, m.s.now())
	if entry.pages.paged() { // its pages are records of the source
		return m.takePages(&w, e, entry)
	}
	return w.put(entry, e.Theirs.Body)
}

// carry writes the versions that the source has made of a key and that are not current
// there. They keep their ids. Null versions, of which a key can have but one, stay behind, and so do the marker that the
// delete of the target will write anew, and what is current there, which goes beside by itself.
func (m *merger) carry(tx *timeline.Tx, w *keyWriter, e *timeline.MergeEntry) error {
	prefix := w.versions()
	upper := append(prefix[:len(prefix)-1:len(prefix)-1], prefix[len(prefix)-1]+1)
	changes := e.Changes(layers.NamespaceVersions, stamped(prefix, wal.MaxLSN), upper)
	if changes == nil {
		return nil
	}
	defer changes.Close()
	current, err := getObject(tx, w.key)
	if err != nil {
		return err
	}
	newest := true
	for ok := changes.First(); ok; ok = changes.Next() {
		rec := changes.Record()
		if rec.Kind != layers.KindValue {
			continue
		}
		_, lsn, err := splitVersionKey(changes.User())
		if err != nil {
			return err
		}
		f, err := asVersion(*rec, lsn)
		if err != nil {
			return err
		}
		marks := newest && e.Theirs == nil && f.marker()
		if newest = false; marks || f.id() == NullVersion || current != nil && current.lsn == lsn {
			continue
		}
		if f.head.pages.paged() {
			if err := m.carryPages(w, e.Source, f, lsn); err != nil {
				return err
			}
			continue
		}
		meta, err := withVersion(f)
		if err != nil {
			return err
		}
		tx.Put(layers.NamespaceVersions, stamped(prefix, lsn), bytes.Clone(meta), rec.Body)
	}
	return changes.Err()
}
