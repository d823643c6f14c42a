package pageserver

import (
	"context"
	"errors"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// MergeRequest is the body of the POSTs that merge, rebase, pick and revert. LSNs are
// strings of decimal digits. docs/semantics.md has the rules.
type MergeRequest struct {
	// Source is the other bucket, not of a revert; At is its LSN, zero the tip.
	Source string  `json:"source"`
	At     wal.LSN `json:"at,string"`
	// From and To are the commits that a revert undoes: those above From, up to To.
	From wal.LSN `json:"from,string"`
	To   wal.LSN `json:"to,string"`
	// Keys and Prefixes are what is picked or reverted.
	Keys     []string `json:"keys"`
	Prefixes []string `json:"prefixes"`
	// Strategy is fail, source-wins or dest-wins.
	Strategy  string          `json:"strategy"`
	Overrides []MergeOverride `json:"overrides"`
	IfLSN     wal.LSN         `json:"if_lsn,string"`
	DryRun    bool            `json:"dry_run"`
	After     string          `json:"after"`
	Max       int             `json:"max"`
}

// MergeOverride is another strategy for a key or a prefix.
type MergeOverride struct {
	Key      string `json:"key"`
	Prefix   string `json:"prefix"`
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
	Source   *DiffVersion `json:"source"`
	Target   *DiffVersion `json:"target"`
}

// DiffRequest is the body of POST /v1/diff. LSNs of zero are tips.
type DiffRequest struct {
	From   string  `json:"from"`
	FromAt wal.LSN `json:"from_at,string"`
	To     string  `json:"to"`
	ToAt   wal.LSN `json:"to_at,string"`
	Prefix string  `json:"prefix"`
	Token  string  `json:"token"`
	Max    int     `json:"max"`
}

// DiffAnswer is one page of a difference.
type DiffAnswer struct {
	FromLSN wal.LSN            `json:"from_lsn,string"`
	ToLSN   wal.LSN            `json:"to_lsn,string"`
	Entries []DiffChange       `json:"entries"`
	Summary object.DiffSummary `json:"summary"`
	Next    string             `json:"next,omitempty"`
}

// DiffChange is one key that differs.
type DiffChange struct {
	Kind   string       `json:"kind"`
	Key    string       `json:"key"`
	OldKey string       `json:"old_key,omitempty"`
	Old    *DiffVersion `json:"old"`
	New    *DiffVersion `json:"new"`
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

// diff serves POST /v1/diff.
func (a *admin) diff(ctx context.Context, r *adminRequest, _ string) (any, error) {
	var in DiffRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	page, err := a.server.objects.Diff(ctx, &object.DiffInput{
		From: object.Point{Bucket: in.From, At: in.FromAt}, To: object.Point{Bucket: in.To, At: in.ToAt},
		Prefix: in.Prefix, Token: in.Token, Max: in.Max,
	})
	if err != nil {
		return nil, wordedMerge(err)
	}
	out := &DiffAnswer{FromLSN: page.FromLSN, ToLSN: page.ToLSN, Summary: page.Summary, Next: page.NextToken, Entries: []DiffChange{}}
	for i := range page.Entries {
		e := &page.Entries[i]
		out.Entries = append(out.Entries, DiffChange{Kind: string(e.Kind), Key: e.Key, OldKey: e.OldKey, Old: diffVersion(e.Old), New: diffVersion(e.New)})
	}
	return out, nil
}

func (in *MergeRequest) overrides() (list []object.MergeOverride) {
	for _, o := range in.Overrides {
		list = append(list, object.MergeOverride{Key: o.Key, Prefix: o.Prefix, Strategy: object.MergeStrategy(o.Strategy)})
	}
	return list
}

func (in *MergeRequest) merge(target string) *object.MergeInput {
	return &object.MergeInput{
		Source: object.Point{Bucket: in.Source, At: in.At}, Target: target, Strategy: object.MergeStrategy(in.Strategy),
		Overrides: in.overrides(), IfTargetLSN: in.IfLSN, DryRun: in.DryRun, After: in.After, Max: in.Max,
	}
}

// merging serves a POST whose body is a MergeRequest.
func merging(run func(o *object.Service, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error)) func(*admin, context.Context, *adminRequest, string) (any, error) {
	return func(a *admin, ctx context.Context, r *adminRequest, target string) (any, error) {
		var in MergeRequest
		if err := r.decode(&in); err != nil {
			return nil, err
		}
		rep, err := run(a.server.objects, ctx, target, &in)
		if err != nil {
			return nil, wordedMerge(err)
		}
		out := &MergeAnswer{
			LSN: rep.LSN, SourceLSN: rep.SourceLSN, BaseLSN: rep.BaseLSN, Committed: rep.Committed, Put: rep.Put, Deleted: rep.Deleted,
			Same: rep.Same, Conflicts: rep.Conflicts, Kept: rep.Kept, Open: rep.Open, Next: rep.Next, Entries: []MergeChange{},
		}
		for i := range rep.Entries {
			e := &rep.Entries[i]
			out.Entries = append(out.Entries, MergeChange{Key: e.Key, Action: e.Action, Conflict: e.Conflict, Source: diffVersion(e.Source), Target: diffVersion(e.Target)})
		}
		return out, nil
	}
}

func mergeInto(o *object.Service, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error) {
	return o.Merge(ctx, in.merge(target))
}

func rebaseOnto(o *object.Service, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error) {
	return o.Rebase(ctx, in.merge(target))
}

func pickInto(o *object.Service, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error) {
	return o.CherryPick(ctx, &object.PickInput{
		Source: object.Point{Bucket: in.Source, At: in.At}, Target: target, Keys: in.Keys, Prefixes: in.Prefixes,
		Strategy: object.MergeStrategy(in.Strategy), Overrides: in.overrides(), IfTargetLSN: in.IfLSN, DryRun: in.DryRun, Max: in.Max,
	})
}

func revertIn(o *object.Service, ctx context.Context, target string, in *MergeRequest) (*object.MergeReport, error) {
	return o.Revert(ctx, &object.RevertInput{
		Bucket: target, From: in.From, To: in.To, Keys: in.Keys, Prefixes: in.Prefixes,
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
	{timeline.ErrMergeTooLarge, "MergeTooLarge"},
	{timeline.ErrBadRange, "InvalidArgument"},
	{object.ErrNotInPlace, "InvalidArgument"},
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
			return &AdminError{e.code, err.Error()}
		}
	}
	var gone *timeline.BelowHorizonError
	if errors.As(err, &gone) {
		return &AdminError{"Gone", err.Error()}
	}
	return err
}
