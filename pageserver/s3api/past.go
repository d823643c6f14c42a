package s3api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// Clients that can set no header read the past under a prefix that no key has:
//
//	.snapshot/POINT/KEY
//
// POINT is the name of a snapshot of the bucket, an LSN, or a time in RFC 3339. It is the KEY as of then, for whoever
// may read the bucket's past. Listings show nothing of it unless they ask for the prefix.

// errPastReadOnly refuses what would write below the prefix.
var errPastReadOnly = &apiError{code: "MethodNotAllowed", message: "What begins with .snapshot/ is the past of the bucket, and cannot be written"}

// splitPast takes a key below the prefix apart; false: it is none. Without a slash after the point the key is empty.
func splitPast(key string) (point, rest string, ok bool) {
	tail, ok := strings.CutPrefix(key, object.PastPrefix)
	if !ok {
		return "", "", false
	}
	point, rest, _ = strings.Cut(tail, "/")
	return point, rest, true
}

// enterPast makes a request below the prefix one of the key that it means, as of the point. Errors: MethodNotAllowed,
// NoSuchKey.
func (r *request) enterPast() error {
	if point, key, ok := splitPast(r.key); ok {
		switch {
		case !r.op.reads:
			return errPastReadOnly
		case point == "" || key == "":
			return object.ErrNoSuchKey
		}
		r.past, r.key = point, key
		return nil
	}
	if r.op.name != "ListObjects" && r.op.name != "ListObjectsV2" {
		return nil
	}
	for i := range r.target.Params {
		// Permissions are for the prefix that is meant. A prefix that ends within the point lists
		// the points there are, and is left as it is.
		if p := &r.target.Params[i]; p.Name == "prefix" {
			if point, rest, ok := splitPast(p.Value); ok && len(p.Value) > len(object.PastPrefix)+len(point) && point != "" {
				r.past, p.Value = point, rest
			}
			break
		}
	}
	return nil
}

// pastLSN returns the LSN of a point in the past of a bucket; at is what headers say, and stays without a point. Errors:
// InvalidArgument when both are there, ErrNoSuchKey, those of parseAt.
func (r *request) pastLSN(at wal.LSN, bucket, point string) (wal.LSN, error) {
	switch {
	case point == "":
		return at, nil
	case at != 0:
		return 0, invalidArgument("x-stemma-at", at.String(), "The request names two points in time")
	}
	if lsn, err := r.parseAt(".snapshot", point); err == nil || errorCode(err) != "InvalidArgument" {
		return lsn, err
	}
	info, err := r.srv.objects.Bucket(bucket, 0)
	if err != nil {
		return 0, err
	}
	snap, err := r.srv.objects.Store().SnapshotNamed(info.Bucket, point)
	if errors.Is(err, timeline.ErrNoSuchSnapshot) {
		return 0, fmt.Errorf("%w: %w", object.ErrNoSuchKey, err) // nor is there anything below it
	}
	return snap.LSN, err
}

// errorCode returns the code of an *apiError, empty of others.
func errorCode(err error) string {
	if e, ok := err.(*apiError); ok {
		return e.code
	}
	return ""
}

// list lists the bucket, now or in the past, or the points in time below the prefix.
func (r *request) list(ctx context.Context, l *listing, in *object.ListInput) (*object.ListResult, error) {
	in.Prefix, in.Delimiter, in.MaxKeys = l.prefix, l.delimiter, l.max
	if r.past == "" {
		if strings.HasPrefix(l.prefix, object.PastPrefix) {
			return r.listPoints(l, in)
		}
		return r.srv.objects.List(ctx, r.bucket, in)
	}
	under := object.PastPrefix + r.past + "/"
	if after, ok := strings.CutPrefix(in.After, under); ok {
		in.After = after
	} else if in.After > under {
		in.MaxKeys = 0
	} else {
		in.After = ""
	}
	res, err := r.srv.objects.List(ctx, r.bucket, in)
	if err != nil {
		return nil, err
	}
	l.prefix = under + l.prefix
	for i := range res.Entries {
		res.Entries[i].Key = under + res.Entries[i].Key
	}
	for i := range res.Prefixes {
		res.Prefixes[i] = under + res.Prefixes[i]
	}
	if res.NextMarker != "" {
		res.NextMarker = under + res.NextMarker
	}
	return res, nil
}

// listPoints lists the snapshots of the bucket, by their names or else their versions, as common prefixes: there are as many
// other points as moments. So without the delimiter / it lists nothing.
func (r *request) listPoints(l *listing, in *object.ListInput) (*object.ListResult, error) {
	info, err := r.srv.objects.Bucket(r.bucket, 0)
	if err != nil {
		return nil, err
	}
	store := r.srv.objects.Store()
	res := &object.ListResult{LSN: store.Visible()}
	if l.delimiter != "/" || l.max == 0 {
		return res, nil
	}
	for _, s := range store.Snapshots(info.Bucket, timeline.SnapshotCursor{}, 0) {
		name := s.Name
		if name == "" {
			name = s.LSN.String()
		}
		if p := object.PastPrefix + name + "/"; strings.HasPrefix(p, l.prefix) && p > max(in.After, in.Token) {
			res.Prefixes = append(res.Prefixes, p)
		}
	}
	slices.Sort(res.Prefixes)
	res.Prefixes = slices.Compact(res.Prefixes)
	if len(res.Prefixes) > l.max {
		res.Prefixes, res.Truncated = res.Prefixes[:l.max], true
		res.NextMarker = res.Prefixes[l.max-1]
		res.NextToken = res.NextMarker
	}
	return res, nil
}
