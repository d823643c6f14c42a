package client

import (
	"context"
	"net/url"
	"strconv"
)

// Snapshot takes a snapshot of a bucket.
func (c *Client) Snapshot(ctx context.Context, bucket string, s NewSnapshot) (*Snapshot, error) {
	out, err := ask[SnapshotPage](ctx, c, "POST", path("buckets", bucket, "snapshots"), nil, s)
	if err != nil {
		return nil, err
	}
	return &out.Snapshots[0], nil
}

// SnapshotAll takes snapshots of the Buckets that s names, all of one LSN.
func (c *Client) SnapshotAll(ctx context.Context, s NewSnapshot) ([]Snapshot, error) {
	out, err := ask[SnapshotPage](ctx, c, "POST", path("snapshots"), nil, s)
	if err != nil {
		return nil, err
	}
	return out.Snapshots, nil
}

// Snapshots returns one page of the snapshots of a bucket, newest first; after is the Next of the page before.
func (c *Client) Snapshots(ctx context.Context, bucket, after string, limit int) (*SnapshotPage, error) {
	q := url.Values{}
	if after != "" {
		q.Set("after", after)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return ask[SnapshotPage](ctx, c, "GET", path("buckets", bucket, "snapshots"), q, nil)
}

// GetSnapshot describes a snapshot, by its name or its version.
func (c *Client) GetSnapshot(ctx context.Context, bucket, which string) (*Snapshot, error) {
	return ask[Snapshot](ctx, c, "GET", path("buckets", bucket, "snapshots", which), nil, nil)
}

// ChangeSnapshot changes a snapshot, by its name or its version.
func (c *Client) ChangeSnapshot(ctx context.Context, bucket, which string, ch SnapshotChange) (*Snapshot, error) {
	return ask[Snapshot](ctx, c, "PATCH", path("buckets", bucket, "snapshots", which), nil, ch)
}

// DeleteSnapshot deletes a snapshot, by its name or its version.
func (c *Client) DeleteSnapshot(ctx context.Context, bucket, which string) error {
	_, err := ask[Change](ctx, c, "DELETE", path("buckets", bucket, "snapshots", which), nil, nil)
	return err
}
