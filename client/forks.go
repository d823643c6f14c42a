package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"
)

// Fork makes forks of a bucket in one commit, each with an access key of its own if the request wants that.
func (c *Client) Fork(ctx context.Context, source string, r ForkRequest) (*Forked, error) {
	return ask[Forked](ctx, c, "POST", path("buckets", source, "forks"), nil, r)
}

// Forks returns one page of the forks of a bucket, by name.
func (c *Client) Forks(ctx context.Context, source string, o ListOptions) (*BucketPage, error) {
	return ask[BucketPage](ctx, c, "GET", path("buckets", source, "forks"), o.query(), nil)
}

// AllForks returns all forks of a bucket that the options name, page by page.
func (c *Client) AllForks(ctx context.Context, source string, o ListOptions) iter.Seq2[Bucket, error] {
	return eachBucket(o, func(o ListOptions) (*BucketPage, error) { return c.Forks(ctx, source, o) })
}

// Ancestry returns what a bucket descends from, its source first.
func (c *Client) Ancestry(ctx context.Context, bucket string) ([]Origin, error) {
	out, err := ask[Ancestry](ctx, c, "GET", path("buckets", bucket, "ancestry"), nil, nil)
	if err != nil {
		return nil, err
	}
	return out.Ancestors, nil
}

// Tree returns what descends from a bucket, or its whole family; limit zero is the server's choice.
func (c *Client) Tree(ctx context.Context, bucket string, whole bool, limit int) (*Tree, error) {
	q := url.Values{}
	if whole {
		q.Set("root", "true")
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return ask[Tree](ctx, c, "GET", path("buckets", bucket, "tree"), q, nil)
}

// Distance tells what a fork has written since it was made.
func (c *Client) Distance(ctx context.Context, bucket string) (*Distance, error) {
	return ask[Distance](ctx, c, "GET", path("buckets", bucket, "distance"), nil, nil)
}

// Restore makes a bucket what it was, in one commit: the whole of it with Moved as the answer, or keys and prefixes with Merged.
func (c *Client) Restore(ctx context.Context, bucket string, r RestoreRequest) (*Moved, *Merged, error) {
	if len(r.Keys)+len(r.Prefixes) > 0 {
		out, err := ask[Merged](ctx, c, "POST", path("buckets", bucket, "restore"), nil, r)
		return nil, out, err
	}
	out, err := ask[Moved](ctx, c, "POST", path("buckets", bucket, "restore"), nil, r)
	return out, nil, err
}

// Reset makes a fork what its source is.
func (c *Client) Reset(ctx context.Context, fork string, r MoveRequest) (*Moved, error) {
	return ask[Moved](ctx, c, "POST", path("buckets", fork, "reset"), nil, r)
}

// Promote makes the source of a fork what the fork is.
func (c *Client) Promote(ctx context.Context, fork string, r MoveRequest) (*Moved, error) {
	return ask[Moved](ctx, c, "POST", path("buckets", fork, "promote"), nil, r)
}

// Swap makes two buckets each other.
func (c *Client) Swap(ctx context.Context, bucket, with string) (*Moved, error) {
	return ask[Moved](ctx, c, "POST", path("buckets", bucket, "swap"), nil, MoveRequest{With: with})
}
