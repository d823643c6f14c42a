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

// maxLine bounds one line of a difference: two keys and some numbers.
const maxLine = 1 << 20

// DiffAll returns a whole difference as the server finds it. What fails in the middle is an error at its place.
func (c *Client) DiffAll(ctx context.Context, r DiffRequest) iter.Seq2[DiffChange, error] {
	return func(yield func(DiffChange, error) bool) {
		fail := func(err error) { yield(DiffChange{}, err) }
		res, err := c.open(ctx, "POST", path("diff"), nil, r, linesType)
		if err != nil {
			fail(err)
			return
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			if bytes.HasPrefix(lines.Bytes(), []byte(`{"from_lsn"`)) { // the last line
				var end DiffEnd
				if err := json.Unmarshal(lines.Bytes(), &end); err != nil {
					fail(err)
				} else if end.Error != nil {
					fail(end.Error)
				}
				return
			}
			var d DiffChange
			if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
				fail(fmt.Errorf("unreadable line of a difference: %w", err))
				return
			}
			if !yield(d, nil) {
				return
			}
		}
		if err = lines.Err(); err == nil {
			err = io.ErrUnexpectedEOF
		}
		fail(fmt.Errorf("the difference is cut off: %w", err))
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
