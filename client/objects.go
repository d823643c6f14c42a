package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strconv"
)

// Commit does many changes at one LSN, or none of them.
func (c *Client) Commit(ctx context.Context, bucket string, r CommitRequest) (*Committed, error) {
	return ask[Committed](ctx, c, "POST", path("buckets", bucket, "commit"), nil, r)
}

// History returns what commits made of a key, newest first, from a point in time on; it continues with Next as before.
func (c *Client) History(ctx context.Context, bucket, key, before string, limit int) (*History, error) {
	q := url.Values{"key": {key}}
	if before != "" {
		q.Set("before", before)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return ask[History](ctx, c, "GET", path("buckets", bucket, "history"), q, nil)
}

// UndeleteKeys brings keys back, each as it was before it was deleted.
func (c *Client) UndeleteKeys(ctx context.Context, bucket string, keys ...string) (*Undeleted, error) {
	return ask[Undeleted](ctx, c, "POST", path("buckets", bucket, "undelete"), nil, UndeleteRequest{Keys: keys})
}

// UndeletePrefixes brings back the keys of r, and what was deleted of its prefixes, each as it was before that. r.At must
// be empty.
func (c *Client) UndeletePrefixes(ctx context.Context, bucket string, r UndeleteRequest) (*Undeleted, error) {
	return ask[Undeleted](ctx, c, "POST", path("buckets", bucket, "undelete"), nil, r)
}

// UndeleteAt brings back what was there at r.At and is not now.
func (c *Client) UndeleteAt(ctx context.Context, bucket string, r UndeleteRequest) (*Merged, error) {
	return ask[Merged](ctx, c, "POST", path("buckets", bucket, "undelete"), nil, r)
}

// Diff returns one page of a difference.
func (c *Client) Diff(ctx context.Context, r DiffRequest) (*DiffPage, error) {
	return ask[DiffPage](ctx, c, "POST", path("diff"), nil, r)
}

// linesType is the type of an answer of one JSON value per line.
const linesType = "application/x-ndjson"

// maxLine bounds one line of an answer: two keys and some numbers.
const maxLine = 1 << 20

// DiffAll returns a whole difference as the server finds it. What fails in the middle is an error at its place.
func (c *Client) DiffAll(ctx context.Context, r DiffRequest) iter.Seq2[DiffChange, error] {
	return lines[DiffChange](c, ctx, "POST", path("diff"), nil, r, `{"from_lsn"`, func(last []byte) error {
		var end DiffEnd
		return ended(last, &end, &end.Error)
	})
}

// LogOptions say which part of a log is wanted. From and To are points in time.
type LogOptions struct {
	From, To, Prefix string
	Oldest           bool // oldest first, else newest
}

func (o *LogOptions) query() url.Values {
	q := url.Values{}
	for name, v := range map[string]string{"from": o.From, "to": o.To, "prefix": o.Prefix} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if o.Oldest {
		q.Set("oldest", "true")
	}
	return q
}

// Log returns one page of what was done to the objects of a bucket; it continues with Next as the token.
func (c *Client) Log(ctx context.Context, bucket string, o LogOptions, token string, limit int) (*LogPage, error) {
	q := o.query()
	if token != "" {
		q.Set("token", token)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return ask[LogPage](ctx, c, "GET", path("buckets", bucket, "log"), q, nil)
}

// LogAll returns a whole log as the server finds it. What fails in the middle is an error at its place, and so is
// at last a *LogCutError when the log does not reach back to o.From.
func (c *Client) LogAll(ctx context.Context, bucket string, o LogOptions) iter.Seq2[LogEntry, error] {
	return lines[LogEntry](c, ctx, "GET", path("buckets", bucket, "log"), o.query(), nil, `{"to_lsn"`, func(last []byte) error {
		var end logEnd
		if err := ended(last, &end, &end.Error); err != nil || !end.Cut {
			return err
		}
		return &LogCutError{Since: end.SinceLSN}
	})
}

// LogCutError says that a log is complete only above an LSN.
type LogCutError struct{ Since LSN }

func (e *LogCutError) Error() string {
	return "what was at and before " + e.Since.String() + " is not kept any more"
}

// ended decodes the last line of an answer, which may say that something failed.
func ended(line []byte, end any, failed **Error) error {
	if err := json.Unmarshal(line, end); err != nil {
		return err
	}
	if *failed != nil {
		return *failed
	}
	return nil
}

// lines returns an answer of one value per line. The last line begins as last says, and end takes it.
func lines[T any](c *Client, ctx context.Context, method, path string, query url.Values, in any, last string, end func(line []byte) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		res, err := c.open(ctx, method, path, query, in, linesType)
		if err != nil {
			yield(none, err)
			return
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			if bytes.HasPrefix(lines.Bytes(), []byte(last)) {
				if err := end(lines.Bytes()); err != nil {
					yield(none, err)
				}
				return
			}
			var v T
			if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
				yield(none, fmt.Errorf("unreadable line of an answer: %w", err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err = lines.Err(); err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(none, fmt.Errorf("the answer is cut off: %w", err))
	}
}

// Merge brings what r.Source has changed into a bucket that it descends from.
func (c *Client) Merge(ctx context.Context, target string, r MergeRequest) (*Merged, error) {
	return ask[Merged](ctx, c, "POST", path("buckets", target, "merge"), nil, r)
}

// Rebase brings what r.Source has changed into a fork of it.
func (c *Client) Rebase(ctx context.Context, fork string, r MergeRequest) (*Merged, error) {
	return ask[Merged](ctx, c, "POST", path("buckets", fork, "rebase"), nil, r)
}

// CherryPick brings the keys and prefixes of r from r.Source into a bucket.
func (c *Client) CherryPick(ctx context.Context, target string, r MergeRequest) (*Merged, error) {
	return ask[Merged](ctx, c, "POST", path("buckets", target, "cherry-pick"), nil, r)
}

// Revert undoes what was committed to a bucket above r.From, up to r.To.
func (c *Client) Revert(ctx context.Context, bucket string, r MergeRequest) (*Merged, error) {
	return ask[Merged](ctx, c, "POST", path("buckets", bucket, "revert"), nil, r)
}
