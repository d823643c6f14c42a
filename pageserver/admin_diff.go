package pageserver

import (
	"bufio"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/object"
	"stemma/wal"
)

// linesType is the type of an answer of one JSON value per line.
const linesType = "application/x-ndjson"

// DiffRequest is the body of POST /v1/diff. From is the old side. Points in time that are absent are tips.
type DiffRequest struct {
	// From may be absent when To is a fork: what it was forked from, at the branch point unless
	// FromAt says otherwise.
	From   string `json:"from,omitempty"`
	FromAt string `json:"from_at,omitempty"`
	To     string `json:"to"`
	ToAt   string `json:"to_at,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	// Token continues a difference: Next of the page before.
	Token string `json:"token,omitempty"`
	Max   int    `json:"max,omitempty"`
	// Summary asks for the counts of the whole difference, and no entries.
	Summary bool `json:"summary,omitempty"`
}

// DiffAnswer is one page of a difference.
type DiffAnswer struct {
	FromLSN wal.LSN      `json:"from_lsn,string"`
	ToLSN   wal.LSN      `json:"to_lsn,string"`
	Entries []DiffChange `json:"entries"`
	Summary DiffSummary  `json:"summary"` // of the page, or of all if that was asked for
	Next    string       `json:"next,omitempty"`
}

// DiffSummary counts the entries of a difference, and bytes of their objects.
type DiffSummary struct {
	Added    int64 `json:"added"`
	Removed  int64 `json:"removed"`
	Modified int64 `json:"modified"`
	Metadata int64 `json:"metadata"`
	Renamed  int64 `json:"renamed"`
	// BytesAdded are those of what was added and of the new side of what was modified,
	// BytesRemoved those of what was removed and of the old side.
	BytesAdded   uint64 `json:"bytes_added"`
	BytesRemoved uint64 `json:"bytes_removed"`
}

func (s *DiffSummary) add(o *object.DiffSummary) {
	s.Added, s.Removed, s.Modified = s.Added+o.Added, s.Removed+o.Removed, s.Modified+o.Modified
	s.Metadata, s.Renamed = s.Metadata+o.Metadata, s.Renamed+o.Renamed
	s.BytesAdded, s.BytesRemoved = s.BytesAdded+o.BytesAdded, s.BytesRemoved+o.BytesRemoved
}

// DiffChange is one key that differs.
type DiffChange struct {
	Kind   string       `json:"kind"` // added, removed, modified, metadata, renamed
	Key    string       `json:"key"`
	OldKey string       `json:"old_key,omitempty"` // of what was renamed
	Old    *DiffVersion `json:"old,omitempty"`
	New    *DiffVersion `json:"new,omitempty"`
}

// DiffEnd is the last line of a difference that is answered line by line.
type DiffEnd struct {
	FromLSN wal.LSN      `json:"from_lsn,string"`
	ToLSN   wal.LSN      `json:"to_lsn,string"`
	Summary *DiffSummary `json:"summary,omitempty"`
	Error   *AdminError  `json:"error,omitempty"` // the lines before it are not all
}

func diffChanges(list []object.DiffEntry) []DiffChange {
	out := make([]DiffChange, len(list))
	for i := range list {
		e := &list[i]
		out[i] = DiffChange{Kind: string(e.Kind), Key: e.Key, OldKey: e.OldKey, Old: diffVersion(e.Old), New: diffVersion(e.New)}
	}
	return out
}

// points returns what is compared.
func (in *DiffRequest) points(a *admin) (*object.DiffInput, error) {
	out := &object.DiffInput{From: object.Point{Bucket: in.From}, To: object.Point{Bucket: in.To}, Prefix: in.Prefix, Token: in.Token, Max: in.Max}
	if in.Max < 0 {
		return nil, invalid("max must not be negative")
	}
	if in.From == "" {
		info, err := a.server.objects.Bucket(in.To, 0)
		if err != nil {
			return nil, err
		}
		if info.SourceName == "" {
			return nil, invalid("from must name a bucket: " + in.To + " is no fork of one that there is")
		}
		out.From = object.Point{Bucket: info.SourceName, At: info.BranchLSN}
	}
	from, err := a.point(out.From.Bucket, in.FromAt)
	if err != nil {
		return nil, err
	}
	if in.FromAt != "" {
		out.From.At = from
	}
	out.To.At, err = a.point(in.To, in.ToAt)
	return out, err
}

// diff serves POST /v1/diff.
func (a *admin) diff(ctx context.Context, r *adminRequest, _ string) (any, error) {
	var in DiffRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	d, err := in.points(a)
	if err != nil {
		return nil, err
	}
	page, err := a.server.objects.Diff(ctx, d)
	if err != nil {
		return nil, wordedMerge(err)
	}
	if !in.Summary && strings.Contains(r.accept, linesType) {
		return &streamed{run: func(ctx context.Context, line func(any) error) { a.diffLines(ctx, d, page, line) }}, nil
	}
	out := &DiffAnswer{FromLSN: page.FromLSN, ToLSN: page.ToLSN, Next: page.NextToken, Entries: []DiffChange{}}
	out.Summary.add(&page.Summary)
	if !in.Summary {
		out.Entries = diffChanges(page.Entries)
		return out, nil
	}
	for out.Next != "" {
		d.Token = out.Next
		if page, err = a.server.objects.Diff(ctx, d); err != nil {
			return nil, wordedMerge(err)
		}
		out.Summary.add(&page.Summary)
		out.Next = page.NextToken
	}
	return out, nil
}

// diffLines sends the first page and all that follow, and a DiffEnd.
func (a *admin) diffLines(ctx context.Context, d *object.DiffInput, page *object.DiffPage, line func(any) error) {
	end := DiffEnd{FromLSN: page.FromLSN, ToLSN: page.ToLSN, Summary: &DiffSummary{}}
	for {
		for _, c := range diffChanges(page.Entries) {
			if line(&c) != nil {
				return // nobody reads any more
			}
		}
		end.Summary.add(&page.Summary)
		if d.Token = page.NextToken; d.Token == "" {
			break
		}
		var err error
		if page, err = a.server.objects.Diff(ctx, d); err != nil {
			end.Summary, end.Error = nil, a.worded(wordedMerge(err))
			break
		}
	}
	_ = line(&end)
}

// streamed is an answer of many lines. run ends when line fails.
type streamed struct {
	refused func() error // is called instead of run when the server shuts down; may be nil
	run     func(ctx context.Context, line func(any) error)
}

// lineTimeout is how long a reader may take for what is written at once.
const lineTimeout = 30 * time.Second

// sendLines answers 200, and then the lines as they come.
func (a *admin) sendLines(ctx *fasthttp.RequestCtx, s *streamed) {
	if !a.server.jobs.begin() {
		if s.refused != nil {
			_ = s.refused()
		}
		sendError(ctx, &AdminError{Code: "ServiceUnavailable", Message: "shutting down"})
		return
	}
	conn := ctx.Conn()
	ctx.SetContentType(linesType)
	ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		defer a.server.jobs.end()
		stop := context.AfterFunc(a.server.jobs.ctx, func() { _ = conn.SetWriteDeadline(time.Now().Add(adminShutdown)) })
		defer stop()
		n := 0
		s.run(a.server.jobs.ctx, func(v any) error {
			if n%64 == 0 && a.server.jobs.ctx.Err() == nil { // the deadline of the listener is for whole answers
				if err := conn.SetWriteDeadline(time.Now().Add(lineTimeout)); err != nil {
					return err
				}
			}
			n++
			p, err := json.Marshal(v)
			if err != nil {
				panic("BUG: " + err.Error()) // plain structs
			}
			if _, err := w.Write(append(p, '\n')); err != nil {
				return err
			}
			if n%1000 == 0 {
				return w.Flush()
			}
			return nil
		})
	})
}
