package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Soft deletion is a view of history: an object that was deleted, while its bucket had that in its settings, is found
// in what its key was just before, for as many days. A second deletion on top of the first purges it: what the key was
// before that is nothing. Those who can read the past still can, as far back as the bucket's window.

// DeletedList is one page of the objects of a bucket that were deleted and can be brought back, by key.
type DeletedList struct {
	Entries   []DeletedEntry
	Prefixes  []string
	Truncated bool
	Next      string  // After of the next page
	LSN       wal.LSN // what was read at
}

// DeletedEntry is a deleted object as it was. Its id is that of its commit, in a bucket without versions, too.
type DeletedEntry struct {
	ListEntry
	Deleted wal.LSN // the commit
}

// ID returns what names the deleted object among those that its key has been.
func (e *DeletedEntry) ID() VersionID { return VersionID(e.LSN) }

// ListDeletedInput says what ListDeleted lists.
type ListDeletedInput struct {
	Prefix, Delimiter string
	After             string // key or common prefix that the page before ended with
	MaxKeys           int    // capped at MaxListKeys
}

// ListDeleted lists the objects that soft deletion keeps, those with a common prefix rolled up; none of a bucket without it. A
// range of keys that was deleted as one is not listed, and no version of a bucket that keeps versions, but for the last of its key.
// Cost follows what was written since.
//
// Errors: timeline.ErrNoSuchBucket, ErrCorrupt, layers.ErrCorrupt, those of ctx.
func (s *Service) ListDeleted(ctx context.Context, bucket string, in *ListDeletedInput) (_ *DeletedList, err error) {
	v, since, err := s.trash(ctx, bucket)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	g := grouping{prefix: in.Prefix, delimiter: in.Delimiter, max: min(in.MaxKeys, MaxListKeys)}
	list := &DeletedList{LSN: v.LSN()}
	lower, upper, ok := g.bounds(in.After)
	if !ok || since == 0 || g.max <= 0 {
		return list, nil
	}
	c := v.Changes(layers.NamespaceObjects, []byte(lower), bound(upper), since)
	defer func() { err = errors.Join(err, c.Close()) }()
	for ok = c.First(); ok; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rec := c.Record()
		key := bytes.Clone(rec.Key.User())
		e, err := s.deletedBy(ctx, bucket, key, rec)
		if err != nil {
			return nil, err
		}
		if e == nil {
			ok = c.Next()
			continue
		}
		if g.full() {
			list.Truncated, list.Next = true, g.last
			break
		}
		if group := g.group(key); group != "" {
			list.Prefixes = append(list.Prefixes, group)
			g.took(group)
			next := successor(group)
			ok = next != "" && c.SeekGE([]byte(next))
			continue
		}
		list.Entries = append(list.Entries, *e)
		g.took(string(key))
		ok = c.Next()
	}
	return list, c.Err()
}

// DeletedObject returns the object that soft deletion keeps of a key; id zero is any. Errors: ErrKeyTooLong,
// ErrNoSuchVersion, timeline.ErrNoSuchBucket, ErrCorrupt, layers.ErrCorrupt.
func (s *Service) DeletedObject(ctx context.Context, bucket, key string, id VersionID) (*DeletedEntry, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	v, since, err := s.trash(ctx, bucket)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	if since == 0 {
		return nil, fmt.Errorf("deleted object %q: the bucket has no soft deletion: %w", key, ErrNoSuchVersion)
	}
	e, err := s.deletedOf(ctx, v, bucket, []byte(key), since)
	if err == nil && (e == nil || id != 0 && id != e.ID()) {
		err = fmt.Errorf("deleted object %q: %w", key, ErrNoSuchVersion)
	}
	return e, err
}

// PurgeDeleted has the object that soft deletion keeps of a key be kept no more. Errors: those of DeletedObject and of a commit.
func (s *Service) PurgeDeleted(ctx context.Context, bucket, key string, id VersionID) (wal.LSN, error) {
	e, err := s.DeletedObject(ctx, bucket, key, id)
	if err != nil {
		return 0, err
	}
	locks := []timeline.Lock{{NS: layers.NamespaceObjects, Key: []byte(key), Exclusive: true}}
	return s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) error {
		if f, err := getObject(tx, locks[0].Key); f != nil || err != nil {
			if err == nil { // somebody put it meanwhile
				err = fmt.Errorf("deleted object %q of %d: %w", key, e.Deleted, ErrNoSuchVersion)
			}
			return err
		}
		tx.Delete(layers.NamespaceObjects, locks[0].Key)
		return nil
	})
}

// trash returns a view of a bucket at its tip, and the LSN above which what was deleted is kept; zero: nothing is.
func (s *Service) trash(ctx context.Context, bucket string) (*timeline.View, wal.LSN, error) {
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return nil, 0, err
	}
	set, err := s.settings(v)
	if err != nil {
		v.Close()
		return nil, 0, err
	}
	days := set.OfTigris().SoftDeleteDays
	if days == 0 {
		return v, 0, nil
	}
	return v, wal.LSNFromTime(s.now().Add(-time.Duration(days) * 24 * time.Hour)), nil
}

// deletedOf returns what a key was before it was deleted above since; nil: it was not.
func (s *Service) deletedOf(ctx context.Context, v *timeline.View, bucket string, key []byte, since wal.LSN) (e *DeletedEntry, err error) {
	c := v.Changes(layers.NamespaceObjects, key, append(key[:len(key):len(key)], 0), since)
	defer func() { err = errors.Join(err, c.Close()) }()
	if !c.First() {
		return nil, c.Err()
	}
	return s.deletedBy(ctx, bucket, key, c.Record())
}

// deletedBy returns what a key was just before a record, if that deleted it; nil: it did not, or nobody knows any more.
func (s *Service) deletedBy(ctx context.Context, bucket string, key []byte, rec *layers.Record) (*DeletedEntry, error) {
	if rec.Kind != layers.KindTombstone {
		return nil, nil
	}
	deleted := rec.LSN
	v, err := s.store.View(ctx, bucket, deleted-1)
	var gone *timeline.BelowHorizonError
	if errors.As(err, &gone) || errors.Is(err, timeline.ErrNoSuchBucket) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer v.Close()
	f, err := getObject(v, key)
	if err != nil || f == nil || f.marker() {
		return nil, err
	}
	h := &f.head
	if err := s.readHead(h, f.rec.Meta); err != nil {
		return nil, err
	}
	return &DeletedEntry{Deleted: deleted, ListEntry: ListEntry{
		Key: string(key), Size: h.size, ETag: h.tag(f.lsn), StorageClass: h.class, Algorithm: h.algorithm,
		Composite: h.flags&flagComposite != 0, LSN: f.lsn,
	}}, nil
}
