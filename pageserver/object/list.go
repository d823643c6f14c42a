package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// leaseFor is how long the LSN of a listing stays readable after a page.
const leaseFor = 60 * time.Second

// List returns one page of the keys of a bucket, those with a common prefix
// rolled up. All pages of one listing read at one LSN, as long as the next page
// is asked for within a minute; after that the listing goes on at the tip. Cost
// follows what is returned, not what is rolled up.
//
// Errors: ErrInvalidToken, timeline.ErrNoSuchBucket, ErrFuture and
// *BelowHorizonError (both of ListInput.At only), ErrCorrupt, layers.ErrCorrupt.
func (s *Service) List(ctx context.Context, bucket string, in *ListInput) (*ListResult, error) {
	after, at := in.After, in.At
	if in.Token != "" {
		t, err := parseToken(in.Token)
		if err != nil {
			return nil, err
		}
		after = t.after
		if at == 0 {
			at = t.lsn
		}
	}
	v, err := s.listView(ctx, bucket, in, at)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	res := &ListResult{LSN: v.LSN()}
	g := grouping{prefix: in.Prefix, delimiter: in.Delimiter, max: min(in.MaxKeys, MaxListKeys)}
	if g.max <= 0 {
		return res, nil
	}
	lower, upper, ok := g.bounds(after)
	if !ok {
		return res, nil
	}
	if err := s.listPage(v, &g, lower, upper, in.Full, res); err != nil {
		return nil, fmt.Errorf("list %q: %w", bucket, err)
	}
	if res.Truncated {
		res.NextMarker = g.last
		res.NextToken = listToken{lsn: res.LSN, after: g.last}.String()
		// Refused or lost, the lease only costs the cut: the next page reads the tip.
		_ = s.store.Lease(bucket, res.LSN, leaseFor)
	}
	return res, nil
}

// listView opens the view of a page. What a token says is not a demand.
func (s *Service) listView(ctx context.Context, bucket string, in *ListInput, at wal.LSN) (*timeline.View, error) {
	v, err := s.store.View(ctx, bucket, at)
	if err == nil || at == 0 || in.At != 0 {
		return v, err
	}
	var gone *timeline.BelowHorizonError
	if errors.As(err, &gone) || errors.Is(err, timeline.ErrFuture) || errors.Is(err, timeline.ErrNoSuchBucket) {
		return s.store.View(ctx, bucket, 0)
	}
	return nil, err
}

// listPage fills res from [lower, upper).
func (s *Service) listPage(v *timeline.View, g *grouping, lower, upper string, full bool, res *ListResult) error {
	scan := v.Scan(layers.NamespaceObjects, []byte(lower), bound(upper))
	defer scan.Close()
	for ok := scan.First(); ok; {
		rec := scan.Record()
		user := rec.Key.User()
		if g.full() {
			res.Truncated = true
			break
		}
		if group := g.group(user); group != "" {
			res.Prefixes = append(res.Prefixes, group)
			g.took(group)
			ok = skipGroup(scan, group)
			continue
		}
		var h metaHead
		err := s.readHead(&h, rec.Meta)
		var owner string
		if err == nil && h.owned {
			owner, err = ownerOf(rec.Meta)
		}
		if err != nil {
			return fmt.Errorf("object %q at %d: %w", user, rec.LSN, err)
		}
		if res.Entries == nil {
			res.Entries = make([]ListEntry, 0, min(g.max, 32))
		}
		res.Entries = append(res.Entries, ListEntry{
			Key: string(user), Size: h.size, ETag: h.tag(rec.LSN), StorageClass: h.class,
			Algorithm: h.algorithm, Composite: h.flags&flagComposite != 0, LSN: h.version(rec.LSN), Owner: owner,
		})
		last := &res.Entries[len(res.Entries)-1]
		if full {
			if last.Entry, err = decodeEntry(rec.Meta, rec.LSN); err != nil {
				return fmt.Errorf("object %q at %d: %w", user, rec.LSN, err)
			}
			s.show(last.Entry)
		}
		g.took(last.Key)
		ok = scan.Next()
	}
	return scan.Err()
}

// grouping rolls up keys for listings of objects and of uploads.
type grouping struct {
	prefix, delimiter string
	max               int
	count             int
	last              string // key or group taken last
}

func (g *grouping) full() bool { return g.count == g.max }

func (g *grouping) took(item string) { g.count, g.last = g.count+1, item }

// group returns the common prefix that a key with the prefix is rolled up in,
// empty if it is not.
func (g *grouping) group(key []byte) string {
	if g.delimiter == "" {
		return ""
	}
	i := bytes.Index(key[len(g.prefix):], []byte(g.delimiter))
	if i < 0 {
		return ""
	}
	return string(key[:len(g.prefix)+i+len(g.delimiter)])
}

// bounds returns the range of keys to look at: those with the prefix, above
// after, and above all of the group that after is or lies in. An empty upper
// bound is none. It is not ok when there can be no such key.
func (g *grouping) bounds(after string) (lower, upper string, ok bool) {
	if len(g.prefix) > MaxKeyBytes {
		return "", "", false
	}
	lower, upper = g.prefix, successor(g.prefix)
	if after != "" {
		// No key is longer, so the rest of after decides nothing.
		after = after[:min(len(after), MaxKeyBytes)]
		next := after + "\x00"
		if strings.HasPrefix(after, g.prefix) {
			if group := g.group([]byte(after)); group != "" {
				if next = successor(group); next == "" {
					return "", "", false
				}
			}
		}
		lower = max(lower, next)
	}
	return lower, upper, upper == "" || lower < upper
}

// skipGroup moves the scan past the keys that begin with group. Most often
// there is no second one, which is cheaper to see than to seek past.
func skipGroup(scan *layers.Scan, group string) bool {
	if !scan.Next() {
		return false
	}
	if !bytes.HasPrefix(scan.Record().Key.User(), []byte(group)) {
		return true
	}
	next := successor(group)
	return next != "" && scan.SeekGE([]byte(next))
}

// successor returns the first string above all that begin with prefix; empty if
// there is none, or no prefix.
func successor(prefix string) string {
	for n := len(prefix); n > 0; n-- {
		if c := prefix[n-1]; c != 0xff {
			return prefix[:n-1] + string([]byte{c + 1})
		}
	}
	return ""
}

// bound returns a scan bound; the empty string is none.
func bound(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
