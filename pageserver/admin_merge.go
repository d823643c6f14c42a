package pageserver

import (
	"context"
	"errors"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// MergeRequest is the body of the POSTs that merge, rebase, pick and revert.
// docs/semantics.md has the rules.
type MergeRequest struct {
	// Source is the other bucket, not of a revert; At is the point in time of it, absent its tip.
	Source string `json:"source,omitempty"`
	At     string `json:"at,omitempty"`
	// From and To are points in time: a revert undoes what was committed above From, up to To, absent the tip.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Keys and Prefixes are what is picked or reverted.
	Keys     []string `json:"keys,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"`
	// Strategy is fail, source-wins or dest-wins.
	Strategy  string          `json:"strategy,omitempty"`
	Overrides []MergeOverride `json:"overrides,omitempty"`
	// IfLSN is the commit above which no object of the target may have changed.
	IfLSN  wal.LSN `json:"if_lsn,string,omitempty"`
	DryRun bool    `json:"dry_run,omitempty"`
	// After and Max page a dry run: Next of the page before, and how many entries.
	After string `json:"after,omitempty"`
	Max   int    `json:"max,omitempty"`
}

// MergeOverride is another strategy for a key or a prefix.
type MergeOverride struct {
	Key      string `json:"key,omitempty"`
	Prefix   string `json:"prefix,omitempty"`
	Strategy string `json:"strategy"`
}

// MergeAnswer says what was done, or would be.
type MergeAnswer struct {
	LSN       wal.LSN       `json:"lsn,string"`
	SourceLSN wal.LSN       `json:"source_lsn,string"`
	BaseLSN   wal.LSN       `json:"base_lsn,string"`
	Committed bool          `json:"committed"`
	Put       int64         `json:"put"`
	Deleted   int64         `json:"deleted"`
	Same      int64         `json:"same"`
	Conflicts int64         `json:"conflicts"`
	Kept      int64         `json:"kept"`
	Open      int64         `json:"open"`
	Entries   []MergeChange `json:"entries"`
	Next      string        `json:"next,omitempty"`
}

// MergeChange is one key of a merge.
type MergeChange struct {
	Key      string       `json:"key"`
	Action   string       `json:"action"`
	Conflict bool         `json:"conflict"`
	Source   *DiffVersion `json:"source,omitempty"`
	Target   *DiffVersion `json:"target,omitempty"`
}

// DiffVersion is one side of a change.
type DiffVersion struct {
	Size uint64  `json:"size"`
	ETag string  `json:"etag"`
	LSN  wal.LSN `json:"lsn,string"`
}

func diffVersion(v *object.DiffVersion) *DiffVersion {
	if v == nil {
		return nil
	}
	return &DiffVersion{Size: v.Size, ETag: string(v.ETag.AppendTo(nil)), LSN: v.LSN}
}

func (in *MergeRequest) overrides() (list []object.MergeOverride) {
	for _, o := range in.Overrides {
		list = append(list, object.MergeOverride{Key: o.Key, Prefix: o.Prefix, Strategy: object.MergeStrategy(o.Strategy)})
	}
	return list
}

func (in *MergeRequest) merge(target string, at wal.LSN) *object.MergeInput {
	return &object.MergeInput{
		Source: object.Point{Bucket: in.Source, At: at}, Target: target, Strategy: object.MergeStrategy(in.Strategy),
		Overrides: in.overrides(), IfTargetLSN: in.IfLSN, DryRun: in.DryRun, After: in.After, Max: in.Max,
	}
}

// merging serves a POST whose body is a MergeRequest.
func merging(run func(a *admin, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error)) func(*admin, context.Context, *adminRequest, string) (any, error) {
	return func(a *admin, ctx context.Context, r *adminRequest, target string) (any, error) {
		var in MergeRequest
		if err := r.decode(&in); err != nil {
			return nil, err
		}
		rep, err := run(a, ctx, target, &in)
		if err != nil {
			return nil, wordedMerge(err)
		}
		return mergeAnswer(rep), nil
	}
}

func mergeAnswer(rep *object.MergeReport) *MergeAnswer {
	out := &MergeAnswer{
		LSN: rep.LSN, SourceLSN: rep.SourceLSN, BaseLSN: rep.BaseLSN, Committed: rep.Committed, Put: rep.Put, Deleted: rep.Deleted,
		Same: rep.Same, Conflicts: rep.Conflicts, Kept: rep.Kept, Open: rep.Open, Next: rep.Next, Entries: []MergeChange{},
	}
	for i := range rep.Entries {
		e := &rep.Entries[i]
		out.Entries = append(out.Entries, MergeChange{Key: e.Key, Action: e.Action, Conflict: e.Conflict, Source: diffVersion(e.Source), Target: diffVersion(e.Target)})
	}
	return out
}

func mergeInto(a *admin, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error) {
	at, err := a.point(in.Source, in.At)
	if err != nil {
		return nil, err
	}
	return a.server.objects.Merge(ctx, in.merge(target, at))
}

func rebaseOnto(a *admin, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error) {
	at, err := a.point(in.Source, in.At)
	if err != nil {
		return nil, err
	}
	return a.server.objects.Rebase(ctx, in.merge(target, at))
}

func pickInto(a *admin, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error) {
	at, err := a.point(in.Source, in.At)
	if err != nil {
		return nil, err
	}
	return a.server.objects.CherryPick(ctx, &object.PickInput{
		Source: object.Point{Bucket: in.Source, At: at}, Target: target, Keys: in.Keys, Prefixes: in.Prefixes,
		Strategy: object.MergeStrategy(in.Strategy), Overrides: in.overrides(), IfTargetLSN: in.IfLSN, DryRun: in.DryRun, Max: in.Max,
	})
}

func revertIn(a *admin, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error) {
	from, err := a.point(target, in.From)
	if err != nil {
		return nil, err
	}
	to, err := a.point(target, in.To)
	if err != nil {
		return nil, err
	}
	if to == 0 {
		to = a.server.store.Visible()
	}
	return a.server.objects.Revert(ctx, &object.RevertInput{
		Bucket: target, From: from, To: to, Keys: in.Keys, Prefixes: in.Prefixes,
		Strategy: object.MergeStrategy(in.Strategy), Overrides: in.overrides(), IfTargetLSN: in.IfLSN, DryRun: in.DryRun, Max: in.Max,
	})
}

// mergeErrors are the errors of merges and differences with their codes.
var mergeErrors = []struct {
	err  error
	code string
}{
	{timeline.ErrMergeConflict, "MergeConflict"},
	{timeline.ErrNotDescendant, "NotDescendant"},
	{timeline.ErrTargetChanged, "PreconditionFailed"},
	{timeline.ErrBadRange, "InvalidArgument"},
	{timeline.ErrFuture, "InvalidArgument"},
	{object.ErrBadStrategy, "InvalidArgument"},
	{object.ErrInvalidToken, "InvalidArgument"},
	{object.ErrKeyTooLong, "InvalidArgument"},
	{object.ErrTooManyKeys, "InvalidArgument"},
}

// wordedMerge gives an error of a merge or difference its code; others stay.
func wordedMerge(err error) error {
	for _, e := range mergeErrors {
		if errors.Is(err, e.err) {
			return &AdminError{Code: e.code, Message: err.Error()}
		}
	}
	return err
}
