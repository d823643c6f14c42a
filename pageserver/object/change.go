package object

import (
	"context"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
)

// changeEntry changes what a version carries but is not made of, such as its tags:
// change gets the settings of the bucket, and the entry to work on. Body, ETag, time
// and version id stay. id zero is the current version. It returns the entry as it is
// now, with the commit as its At; when change changes nothing, nothing is written, and
// At is what was read at.
//
// Errors: ErrKeyTooLong, ErrNoSuchKey, ErrNoSuchVersion, *MarkerError, ErrMarker of the
// current version, timeline.ErrNoSuchBucket, those of change and of a commit.
func (s *Service) changeEntry(ctx context.Context, bucket, key string, id VersionID, change func(*Settings, *Entry) error) (*Object, error) {
	o := &Object{}
	var h holds // the handles move to a new record: their segments are held until it is there
	defer h.letGo()
	locks := []timeline.Lock{{NS: layers.NamespaceObjects, Key: []byte(key), Exclusive: true}}
	lsn, err := s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) error {
		h.letGo()
		set, err := s.settings(tx)
		if err != nil {
			return err
		}
		e, rec, err := s.find(tx, key, id)
		if err != nil {
			return err
		}
		if err := change(set, e); err != nil {
			return err
		}
		o.Entry = *e
		if o.ID, err = s.shownID(tx, e); err != nil {
			return err
		}
		w := keyWriter{s: s, tx: tx, set: set, holds: &h, key: locks[0].Key}
		return w.change(&rec, e)
	})
	if err != nil {
		return nil, fmt.Errorf("change %q: %w", key, err)
	}
	o.At = lsn
	return o, nil
}
