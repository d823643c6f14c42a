package pageserver

import (
	"context"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// moveRoutes are the routes of what makes buckets, or objects, what they or others were.
var moveRoutes = []adminRoute{
	{"POST", []string{"buckets", "{}", "restore"}, nil, true, (*admin).restore},
	{"POST", []string{"buckets", "{}", "reset"}, nil, true, (*admin).reset},
	{"POST", []string{"buckets", "{}", "promote"}, nil, true, (*admin).promote},
	{"POST", []string{"buckets", "{}", "swap"}, nil, true, (*admin).swap},
	{"POST", []string{"buckets", "{}", "undelete"}, nil, true, (*admin).undeleteObjects},
}

func init() {
	adminRoutes = append(adminRoutes, moveRoutes...)
	adminCodes["NoSource"] = fasthttp.StatusConflict
}

// MoveRequest is the body of the POSTs that restore, reset, promote and swap whole buckets; each takes what it
// has a use for.
type MoveRequest struct {
	// At is a point in time: of the bucket that is restored, or of the source of a fork that is reset. Absent of a reset: the tip.
	At string `json:"at,omitempty"`
	// With is the other bucket of a swap.
	With string `json:"with,omitempty"`
	// IfLSN refuses what would be done if an object of the bucket that becomes another has changed above it; not of a swap.
	IfLSN wal.LSN `json:"if_lsn,string,omitempty"`
	// Undo is how long what was before can be read at least, whatever the bucket's retention: a duration. 0s: no longer than
	// that. Absent: as long as a deleted bucket can be undeleted.
	Undo string `json:"undo,omitempty"`
}

// undo returns Undo as timeline.MoveOptions has it.
func (in *MoveRequest) undo() (time.Duration, error) {
	if in.Undo == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(in.Undo)
	if err != nil || d < 0 {
		return 0, invalid("undo must be a duration such as 24h")
	}
	if d == 0 {
		d = -1
	}
	return d, nil
}

// MoveAnswer says what a move did.
type MoveAnswer struct {
	LSN wal.LSN `json:"lsn,string"` // of the commit
	// BeforeLSN is the last moment before it: a restore to it undoes it.
	BeforeLSN wal.LSN  `json:"before_lsn,string"`
	Buckets   []Bucket `json:"buckets"` // that are now something else
}

// moved runs moves, of the buckets of a request that has been decoded.
func (a *admin) moved(ctx context.Context, in *MoveRequest, moves ...timeline.Move) (any, error) {
	undo, err := in.undo()
	if err != nil {
		return nil, err
	}
	res, err := a.server.objects.Move(ctx, timeline.MoveOptions{Moves: moves, Undo: undo})
	if err != nil {
		return nil, wordedMove(err)
	}
	answer := &MoveAnswer{LSN: res.LSN, BeforeLSN: res.LSN - 1}
	for i := range res.Infos {
		b, err := a.bucketAnswer(&res.Infos[i])
		if err != nil {
			return nil, err
		}
		answer.Buckets = append(answer.Buckets, b)
	}
	return answer, nil
}

// wordedMove gives an error of a move its code; others stay.
func wordedMove(err error) error {
	switch {
	case errors.Is(err, timeline.ErrBadMove):
		return &AdminError{Code: "InvalidArgument", Message: err.Error()}
	case errors.Is(err, object.ErrNoSource):
		return &AdminError{Code: "NoSource", Message: err.Error()}
	}
	return wordedMerge(err)
}

// RestoreRequest is the body of POST /v1/buckets/{name}/restore. With keys or prefixes only these objects become what they were,
// by new writes to the bucket.
type RestoreRequest struct {
	At       string   `json:"at"`
	Keys     []string `json:"keys,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"`
	IfLSN    wal.LSN  `json:"if_lsn,string,omitempty"`
	Undo     string   `json:"undo,omitempty"`    // of a whole bucket; see MoveRequest
	DryRun   bool     `json:"dry_run,omitempty"` // of keys and prefixes
	Max      int      `json:"max,omitempty"`     // entries of the answer; of keys and prefixes
}

// restore serves POST /v1/buckets/{name}/restore. The answer is a MoveAnswer, or with keys or prefixes a MergeAnswer.
func (a *admin) restore(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in RestoreRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.At == "" {
		return nil, invalid("at says to which point in time")
	}
	at, err := a.point(name, in.At)
	if err != nil {
		return nil, wordedMove(err)
	}
	if len(in.Keys)+len(in.Prefixes) == 0 {
		if in.DryRun || in.Max != 0 {
			return nil, invalid("dry_run and max are for keys and prefixes; POST /v1/diff tells what a whole bucket would become")
		}
		return a.moved(ctx, &MoveRequest{Undo: in.Undo}, timeline.Move{Bucket: name, Source: name, At: at, IfUnchangedSince: in.IfLSN})
	}
	if in.Undo != "" {
		return nil, invalid("undo is for a whole bucket; objects that are restored are written anew")
	}
	return a.revertTo(ctx, &object.RevertInput{Bucket: name, From: at, Keys: in.Keys, Prefixes: in.Prefixes, IfTargetLSN: in.IfLSN, DryRun: in.DryRun, Max: in.Max})
}

// revertTo makes objects what they were at From.
func (a *admin) revertTo(ctx context.Context, in *object.RevertInput) (any, error) {
	in.Strategy = object.MergeSourceWins
	rep, err := a.server.objects.Revert(ctx, in)
	if errors.Is(err, timeline.ErrBadRange) && in.From <= a.server.store.Now() && in.IfTargetLSN == 0 {
		// Nothing was committed since From: all is as it was.
		rep, err = &object.MergeReport{MergeResult: timeline.MergeResult{LSN: a.server.store.Visible()}}, nil
	}
	if err != nil {
		return nil, wordedMove(err)
	}
	return mergeAnswer(rep), nil
}

// reset serves POST /v1/buckets/{name}/reset: a fork becomes what its source is.
func (a *admin) reset(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in MoveRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.With != "" {
		return nil, invalid("with is for swaps")
	}
	move, err := a.server.objects.ResetMove(name, 0)
	if err != nil {
		return nil, wordedMove(err)
	}
	if move.At, err = a.point(move.Source, in.At); err != nil {
		return nil, wordedMove(err)
	}
	move.IfUnchangedSince = in.IfLSN
	return a.moved(ctx, &in, move)
}

// promote serves POST /v1/buckets/{name}/promote: the source of a fork becomes what the fork is.
func (a *admin) promote(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in MoveRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.With != "" {
		return nil, invalid("with is for swaps")
	}
	move, err := a.server.objects.PromoteMove(name)
	if err != nil {
		return nil, wordedMove(err)
	}
	if move.At, err = a.point(name, in.At); err != nil {
		return nil, wordedMove(err)
	}
	move.IfUnchangedSince = in.IfLSN
	return a.moved(ctx, &in, move)
}

// swap serves POST /v1/buckets/{name}/swap: two buckets become each other.
func (a *admin) swap(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in MoveRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.With == "" || in.With == name || in.At != "" || in.IfLSN != 0 {
		return nil, invalid("with is the other bucket; neither at nor if_lsn are for swaps")
	}
	return a.moved(ctx, &in, timeline.Move{Bucket: name, Source: in.With}, timeline.Move{Bucket: in.With, Source: name})
}

// UndeleteObjectsRequest is the body of POST /v1/buckets/{name}/undelete. With At those of the keys, and of what has the prefixes,
// that were there at that point in time and are not now; without it each as it was before it was deleted, at most 1,000 of them.
type UndeleteObjectsRequest struct {
	At       string   `json:"at,omitempty"`
	Keys     []string `json:"keys,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"` // "" is all
	DryRun   bool     `json:"dry_run,omitempty"`
	Max      int      `json:"max,omitempty"` // entries of the answer; with at
}

// UndeletedAnswer is the answer without at.
type UndeletedAnswer struct {
	LSN       wal.LSN           `json:"lsn,string"`
	Committed bool              `json:"committed"`
	Objects   []UndeletedObject `json:"objects"` // that came back, or would
}

// UndeletedObject is an object that came back.
type UndeletedObject struct {
	Key   string  `json:"key"`
	Size  uint64  `json:"size"`
	ETag  string  `json:"etag"`
	LSN   wal.LSN `json:"lsn,string"`    // that had made it
	AtLSN wal.LSN `json:"at_lsn,string"` // the last moment at which it was there
}

// undeleteObjects serves POST /v1/buckets/{name}/undelete. The answer is an UndeletedAnswer, or with at a MergeAnswer.
func (a *admin) undeleteObjects(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in UndeleteObjectsRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	switch {
	case len(in.Keys)+len(in.Prefixes) == 0:
		return nil, invalid("keys or prefixes say what to bring back")
	case in.At == "" && in.Max != 0:
		return nil, invalid("max goes with at")
	}
	if in.At != "" {
		at, err := a.point(name, in.At)
		if err != nil {
			return nil, wordedMove(err)
		}
		return a.revertTo(ctx, &object.RevertInput{Bucket: name, From: at, Keys: in.Keys, Prefixes: in.Prefixes, Deleted: true, DryRun: in.DryRun, Max: in.Max})
	}
	below, err := a.server.objects.Deleted(ctx, name, in.Prefixes)
	if err != nil {
		return nil, wordedMove(err)
	}
	rep, err := a.server.objects.Undelete(ctx, name, append(in.Keys, below...), in.DryRun)
	if err != nil {
		return nil, wordedMove(err)
	}
	answer := &UndeletedAnswer{LSN: rep.LSN, Committed: rep.Committed, Objects: []UndeletedObject{}}
	for i := range rep.Objects {
		u := &rep.Objects[i]
		answer.Objects = append(answer.Objects, UndeletedObject{Key: u.Key, Size: u.Size, ETag: u.ETag.String(), LSN: u.LSN, AtLSN: u.At})
	}
	return answer, nil
}
