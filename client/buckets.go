package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"
	"time"
)

// ListOptions say what to list. The zero value is everything.
type ListOptions struct {
	Prefix string // of names
	After  string // only names above it
	Label  string // key=value or key, several with commas: all of them
	Limit  int    // of one page; zero: the server's choice
}

func (o *ListOptions) query() url.Values {
	q := url.Values{}
	for k, v := range map[string]string{"prefix": o.Prefix, "after": o.After, "label": o.Label} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	return q
}

// Buckets returns one page of buckets by name.
func (c *Client) Buckets(ctx context.Context, o ListOptions) (*BucketPage, error) {
	return ask[BucketPage](ctx, c, "GET", path("buckets"), o.query(), nil)
}

// AllBuckets returns all buckets that the options name, page by page.
func (c *Client) AllBuckets(ctx context.Context, o ListOptions) iter.Seq2[Bucket, error] {
	return eachBucket(o, func(o ListOptions) (*BucketPage, error) { return c.Buckets(ctx, o) })
}

func eachBucket(o ListOptions, list func(ListOptions) (*BucketPage, error)) iter.Seq2[Bucket, error] {
	return func(yield func(Bucket, error) bool) {
		for {
			page, err := list(o)
			if err != nil {
				yield(Bucket{}, err)
				return
			}
			for _, b := range page.Buckets {
				if !yield(b, nil) {
					return
				}
			}
			if o.After = page.Next; o.After == "" {
				return
			}
		}
	}
}

// CreateBucket makes an empty bucket.
func (c *Client) CreateBucket(ctx context.Context, b NewBucket) (*MadeBucket, error) {
	return ask[MadeBucket](ctx, c, "POST", path("buckets"), nil, b)
}

// Bucket describes a bucket.
func (c *Client) Bucket(ctx context.Context, name string) (*Bucket, error) {
	return ask[Bucket](ctx, c, "GET", path("buckets", name), nil, nil)
}

// ChangeBucket changes what belongs to a bucket and not to its content.
func (c *Client) ChangeBucket(ctx context.Context, name string, ch BucketChange) (*Bucket, error) {
	return ask[Bucket](ctx, c, "PATCH", path("buckets", name), nil, ch)
}

// RenameBucket gives a bucket another name.
func (c *Client) RenameBucket(ctx context.Context, from, to string) (LSN, error) {
	out, err := ask[Change](ctx, c, "POST", path("buckets", from, "rename"), nil, map[string]string{"name": to})
	if err != nil {
		return 0, err
	}
	return out.LSN, nil
}

// DeleteOptions say how to delete a bucket.
type DeleteOptions struct {
	Force bool           // also one that holds objects, or has forks
	Undo  *time.Duration // for how long it can be undeleted; nil: a day, a fork not at all
}

// DeleteBucket deletes a bucket; its forks live on.
func (c *Client) DeleteBucket(ctx context.Context, name string, o DeleteOptions) error {
	q := url.Values{}
	if o.Force {
		q.Set("force", "true")
	}
	if o.Undo != nil {
		q.Set("undo", o.Undo.String())
	}
	_, err := ask[Change](ctx, c, "DELETE", path("buckets", name), q, nil)
	return err
}

// DeletedBuckets returns the buckets that can be undeleted.
func (c *Client) DeletedBuckets(ctx context.Context) ([]DeletedBucket, error) {
	out, err := ask[deletedAnswer](ctx, c, "GET", path("deleted"), nil, nil)
	if err != nil {
		return nil, err
	}
	return out.Buckets, nil
}

// UndeleteBucket brings a deleted bucket back as it was, under a name.
func (c *Client) UndeleteBucket(ctx context.Context, id uint64, name string) error {
	_, err := ask[undeletedBucket](ctx, c, "POST", path("deleted", strconv.FormatUint(id, 10), "undelete"), nil, map[string]string{"name": name})
	return err
}

// Retention returns how far back a bucket can be read at every moment: a duration, or forever.
func (c *Client) Retention(ctx context.Context, name string) (string, error) {
	out, err := ask[retention](ctx, c, "GET", path("buckets", name, "retention"), nil, nil)
	if err != nil {
		return "", err
	}
	return out.Window, nil
}

// SetRetention sets what Retention returns.
func (c *Client) SetRetention(ctx context.Context, name, window string) error {
	_, err := ask[retention](ctx, c, "PUT", path("buckets", name, "retention"), nil, retention{Window: window})
	return err
}
