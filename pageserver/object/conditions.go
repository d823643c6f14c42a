package object

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// any reports whether a write or delete has a condition.
func (c *Conditions) any() bool {
	return c.IfMatch != "" || c.IfNoneMatch != "" || !c.MatchModified.IsZero() || c.MatchSize != nil || c.unchanged != 0
}

// reader is a View or a Tx.
type reader interface {
	Get(ns layers.Namespace, key []byte) (layers.Record, error)
}

// emptyTag is the value of an If-Match that wants no object to be there.
const emptyTag = `""`

// checkWrite evaluates the conditions of a write against what is at the key.
// Errors: ErrPreconditionFailed, ErrNotImplemented; ErrNoSuchKey when a tag was
// to match and nothing is there.
func (s *Service) checkWrite(c *Conditions, r reader, key []byte) error {
	if !c.any() {
		return nil
	}
	if c.IfNoneMatch == emptyTag {
		return fmt.Errorf("If-None-Match without a tag: %w", ErrNotImplemented)
	}
	var h metaHead
	rec, err := r.Get(layers.NamespaceObjects, key)
	exists := err == nil
	switch {
	case exists:
		if err := s.readHead(&h, rec.Meta); err != nil {
			return err
		}
	case !errors.Is(err, timeline.ErrNotFound):
		return err
	}
	if err := checkUnchanged(rec.LSN, c.unchanged); err != nil {
		return err
	}
	switch {
	case c.IfMatch == emptyTag:
		if exists {
			return ErrPreconditionFailed
		}
	case c.IfMatch != "":
		if !exists {
			return ErrNoSuchKey
		}
		if !matchTags(c.IfMatch, h.tag(rec.LSN), false) {
			return ErrPreconditionFailed
		}
	}
	if exists && c.IfNoneMatch != "" && matchTags(c.IfNoneMatch, h.tag(rec.LSN), true) {
		return ErrPreconditionFailed
	}
	return nil
}

// checkDelete evaluates the conditions of a delete against a version, or a delete marker, which
// has no tag and no bytes. Errors: ErrPreconditionFailed, ErrCorrupt.
func (s *Service) checkDelete(c *Conditions, f *found) error {
	if !c.any() {
		return nil
	}
	h := f.head
	if c.IfMatch != "" {
		if err := s.readHead(&h, f.rec.Meta); err != nil {
			return err
		}
	}
	matches := matchTags(c.IfMatch, h.tag(f.lsn), false)
	if h.flags&flagMarker != 0 {
		matches = strings.TrimSpace(c.IfMatch) == "*"
	}
	switch {
	case c.IfMatch != "" && !matches,
		!c.MatchModified.IsZero() && !f.lsn.Time().Truncate(time.Second).Equal(c.MatchModified.Truncate(time.Second)),
		c.MatchSize != nil && *c.MatchSize != h.size:
		return ErrPreconditionFailed
	}
	return nil
}

// CheckWrite finds out what the conditions of a write would say now. Errors:
// those of Put for its conditions, timeline.ErrNoSuchBucket.
func (s *Service) CheckWrite(ctx context.Context, bucket, key string, cond *Conditions) error {
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return err
	}
	defer v.Close()
	return s.checkWrite(cond, v, []byte(key))
}

// checkRead evaluates the conditions of a read in the order of RFC 9110,
// section 13.2.2, as S3 does: a tag that matches makes IfUnmodifiedSince moot, and a
// tag that must not match makes IfModifiedSince moot. Dates have seconds.
// Errors: ErrPreconditionFailed, ErrNotModified (bare).
func (c *Conditions) checkRead(e *Entry) error {
	modified := e.Modified().Truncate(time.Second)
	switch {
	case c.IfMatch != "":
		if !matchTags(c.IfMatch, e.ETag, false) {
			return ErrPreconditionFailed
		}
	case !c.IfUnmodifiedSince.IsZero():
		if modified.After(c.IfUnmodifiedSince) {
			return ErrPreconditionFailed
		}
	}
	switch {
	case c.IfNoneMatch != "":
		if matchTags(c.IfNoneMatch, e.ETag, true) {
			return ErrNotModified
		}
	case !c.IfModifiedSince.IsZero():
		if !modified.After(c.IfModifiedSince) {
			return ErrNotModified
		}
	}
	return nil
}

// checkSource is checkRead for the source of a copy, where nothing can be not
// modified.
func (c *Conditions) checkSource(e *Entry) error {
	if err := c.checkRead(e); err != nil {
		return fmt.Errorf("source: %w", ErrPreconditionFailed)
	}
	return nil
}

// notModified puts the entry into a bare ErrNotModified.
func notModified(err error, e *Entry, at wal.LSN) error {
	if errors.Is(err, ErrNotModified) {
		return &NotModifiedError{Entry: e, At: at}
	}
	return err
}

// matchTags reports whether a list of tags, or "*", has t. A weak tag matches
// only when weak is set. Tags without quotes are taken as S3 takes them.
func matchTags(list string, t ETag, weak bool) bool {
	var few [64]byte
	tag := t.AppendTo(few[:0])
	for list != "" {
		var item string
		item, list, _ = strings.Cut(list, ",")
		item = strings.TrimSpace(item)
		if item == "*" {
			return true
		}
		if rest, ok := strings.CutPrefix(item, "W/"); ok {
			if !weak {
				continue
			}
			item = rest
		}
		if n := len(item); n >= 2 && item[0] == '"' && item[n-1] == '"' {
			item = item[1 : n-1]
		}
		if string(tag) == item {
			return true
		}
	}
	return false
}
