package object

import (
	"bytes"
	"context"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// changeEntry changes what a version carries but is not made of, such as its tags:
// change gets the entry to work on. Body, ETag, time and version id stay. It
// returns the entry as it is now and the commit; when change changes nothing, nothing is
// written, and the LSN is what was read at.
//
// Errors: ErrKeyTooLong, ErrNoSuchKey, timeline.ErrNoSuchBucket, those of change and of a commit.
func (s *Service) changeEntry(ctx context.Context, bucket, key string, change func(*Entry) error) (*Entry, wal.LSN, error) {
	if err := checkKey(key); err != nil {
		return nil, 0, err
	}
	var e *Entry
	release := func() {}
	defer func() { release() }() // the handles move to a new record: their segments are held until it is there
	locks := []timeline.Lock{{NS: layers.NamespaceObjects, Key: []byte(key), Exclusive: true}}
	lsn, err := s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) error {
		release()
		release = func() {}
		var rec layers.Record
		var err error
		if e, rec, err = lookup(tx, key); err != nil {
			return err
		}
		if err := change(e); err != nil {
			return err
		}
		if bytes.Equal(e.append(nil), rec.Meta) {
			return nil
		}
		if release, err = s.holdBody(rec.Body); err != nil {
			return err
		}
		e.made = e.LSN
		tx.Put(layers.NamespaceObjects, locks[0].Key, e.append(nil), rec.Body)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("change %q: %w", key, err)
	}
	return e, lsn, nil
}

// holdBody keeps the segments of a body from removal until release is called.
func (s *Service) holdBody(body layers.Body) (release func(), err error) {
	if tag := body.Tag(); tag == layers.BodyInline || tag == layers.BodyEmpty {
		return func() {}, nil
	}
	segs, err := body.Segments(nil)
	if err != nil {
		return func() {}, err
	}
	release, err = s.values.Hold(segs)
	if err != nil {
		return func() {}, err
	}
	return release, nil
}
