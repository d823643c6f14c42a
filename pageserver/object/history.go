package object

import (
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// HistoryEntry is what one commit made of a key.
type HistoryEntry struct {
	LSN     wal.LSN // of the commit
	Deleted bool    // the key has nothing from then on; the rest is zero
	Size    uint64
	ETag    ETag
	Class   StorageClass
	Version wal.LSN // of the version; another than LSN when only its tags, lock or class changed
	Writer  uint32  // who made the commit, see timeline.WithWriter; zero of a move
}

// History is what a key was, newest first.
type History struct {
	Entries []HistoryEntry
	// Next continues below the last entry, as Before; zero: there is no more.
	Next wal.LSN
	// Cut says that what was before the last entry is not kept any more.
	Cut bool
}

// MaxHistoryEntries is the most that one page of a history has.
const MaxHistoryEntries = 1000

// History returns what was written to a key, and when, as far back as every moment can be read: up to most
// commits at or below before (zero: the tip). A fork's goes on in what it was forked from. A restore, or another
// move of the bucket, is an entry where it made something else of the key.
//
// Errors: ErrKeyTooLong, timeline.ErrNoSuchBucket, ErrFuture, *BelowHorizonError, ErrCorrupt, layers.ErrCorrupt.
func (s *Service) History(ctx context.Context, bucket, key string, before wal.LSN, most int) (*History, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if most <= 0 || most > MaxHistoryEntries {
		most = MaxHistoryEntries
	}
	h := &History{}
	for at, first := before, true; ; first = false {
		e, cut, err := s.historyStep(ctx, bucket, []byte(key), at)
		var gone *timeline.BelowHorizonError
		switch {
		case cut, !first && errors.As(err, &gone):
			h.Cut = true
			return h, nil
		case !first && errors.Is(err, timeline.ErrNoSuchBucket), err == nil && e == nil: // before it was made; nothing was written
			return h, nil
		case err != nil:
			return nil, fmt.Errorf("history of %q: %w", key, err)
		case len(h.Entries) == most:
			h.Next = at
			return h, nil
		}
		h.Entries = append(h.Entries, *e)
		if at = e.LSN - 1; at == 0 {
			return h, nil
		}
	}
}

// historyStep returns the newest commit at or below an LSN that made something else of a key: one
// that wrote it, or a move of the bucket; nil: there is none, or cut, it is not known any more.
func (s *Service) historyStep(ctx context.Context, bucket string, key []byte, at wal.LSN) (e *HistoryEntry, cut bool, err error) {
	for {
		e, moved, err := s.historyAt(ctx, bucket, key, at)
		if err != nil || moved == 0 || e != nil && e.LSN >= moved {
			return e, false, err
		}
		was, _, err := s.historyAt(ctx, bucket, key, moved-1)
		var gone *timeline.BelowHorizonError
		switch {
		case errors.As(err, &gone):
			return e, e == nil, nil
		case err != nil:
			return nil, false, err
		case e.same(was): // the move has changed nothing
			at = moved - 1
			continue
		}
		if e == nil {
			e = &HistoryEntry{Deleted: true}
		}
		e.LSN, e.Writer = moved, 0
		return e, false, nil
	}
}

// same reports whether the key has the same by both.
func (e *HistoryEntry) same(o *HistoryEntry) bool {
	if e == nil || e.Deleted || o == nil || o.Deleted {
		return (e == nil || e.Deleted) && (o == nil || o.Deleted)
	}
	return e.LSN == o.LSN
}

// historyAt returns the newest commit at or below an LSN that wrote a key, nil: none did; and the
// move since which the bucket leads to where that was found, zero: none.
func (s *Service) historyAt(ctx context.Context, bucket string, key []byte, at wal.LSN) (e *HistoryEntry, moved wal.LSN, err error) {
	v, err := s.store.View(ctx, bucket, at)
	if err != nil {
		return nil, 0, err
	}
	defer v.Close()
	e, err = s.newestWrite(v, key)
	return e, v.Moved(), err
}

// newestWrite returns the newest commit that wrote a key, as a view sees it; nil: none did.
func (s *Service) newestWrite(v *timeline.View, key []byte) (e *HistoryEntry, err error) {
	c := v.Changes(layers.NamespaceObjects, key, append(key[:len(key):len(key)], 0), 0)
	defer func() { err = errors.Join(err, c.Close()) }()
	if !c.First() {
		if at := c.Covered(key); c.Err() == nil && at > 0 {
			return &HistoryEntry{LSN: at, Deleted: true}, nil
		}
		return nil, c.Err()
	}
	rec := *c.Record()
	if rec.Kind == layers.KindTombstone {
		return &HistoryEntry{LSN: rec.LSN, Deleted: true, Writer: rec.Writer}, nil
	}
	f, err := asObject(rec)
	if err != nil {
		return nil, err
	}
	etag, err := s.shownETag(f)
	if err != nil {
		return nil, err
	}
	return &HistoryEntry{LSN: rec.LSN, Size: f.head.size, ETag: etag, Class: f.head.class, Version: f.lsn, Writer: rec.Writer}, nil
}

// Distance is what a fork has written since it was made.
type Distance struct {
	From, To wal.LSN // above From, up to To
	// Put and Deleted count keys, PutBytes what the put objects hold. DeletedRanges are deletions
	// of ranges of keys, however many there were.
	Put, Deleted, DeletedRanges int64
	PutBytes                    uint64
}

// Distance tells how far a fork is from what it was forked from; of a bucket that is none, what it holds.
// Cost follows what was written. Errors: timeline.ErrNoSuchBucket, ErrCorrupt, layers.ErrCorrupt, those of ctx.
func (s *Service) Distance(ctx context.Context, bucket string) (d *Distance, err error) {
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	d = &Distance{From: v.Info().BranchLSN, To: v.LSN()}
	c := v.Changes(layers.NamespaceObjects, nil, nil, d.From)
	defer func() { err = errors.Join(err, c.Close()) }()
	for ok, n := c.First(), 0; ok; ok, n = c.Next(), n+1 {
		if n%256 == 255 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		rec := c.Record()
		if rec.Kind == layers.KindTombstone {
			d.Deleted++
			continue
		}
		var h metaHead
		if _, err := h.decode(rec.Meta, true); err != nil {
			return nil, fmt.Errorf("object %q at %d: %w", c.User(), rec.LSN, err)
		}
		d.Put++
		d.PutBytes += h.size
	}
	d.DeletedRanges = int64(len(c.Ranges()))
	return d, c.Err()
}
