package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/pageserver/keyring"
	"stemma/timeline"
)

// ResealReport is what Reseal did and found.
type ResealReport struct {
	Scanned  int64 // records of objects and versions looked at
	Resealed int64 // data keys
	// Unopened are data keys whose master key is not there.
	Unopened int64
}

// resealPage is how many records lie between two views of a bucket.
const resealPage = 1000

// Reseal seals the data keys of a bucket that a former master key sealed by the first one:
// of all versions that are there now, in a fork of those that were written to it. Bodies are not read, and version
// ids, times and ETags stay. Each is a commit of its own; pause is called between pages.
//
// What history, snapshots and forks read of before needs the former key still. Uploads that are open get the
// first one when they are completed.
//
// Errors: timeline.ErrNoSuchBucket, ErrCorrupt, layers.ErrCorrupt, those of pause and of a
// commit; what was done before stays done.
func (s *Service) Reseal(ctx context.Context, bucket string, pause func() error) (ResealReport, error) {
	w := resealing{s: s, bucket: bucket}
	for _, ns := range []layers.Namespace{layers.NamespaceObjects, layers.NamespaceVersions} {
		for from := []byte{}; from != nil; {
			due, next, err := w.page(ctx, ns, from)
			for i := 0; i < len(due) && err == nil; i++ {
				err = w.reseal(ctx, &due[i])
			}
			if err == nil {
				err = pause()
			}
			if err != nil {
				return w.report, fmt.Errorf("reseal bucket %q: %w", bucket, err)
			}
			from = next
		}
	}
	return w.report, nil
}

type resealing struct {
	s      *Service
	bucket string
	report ResealReport
}

// resealDue is a version whose data key is due.
type resealDue struct {
	key string
	id  VersionID
}

// page looks at some records from a key of ns on, and returns those that are due, and
// where the next page begins; nil: nowhere.
func (w *resealing) page(ctx context.Context, ns layers.Namespace, from []byte) (due []resealDue, next []byte, err error) {
	v, err := w.s.store.View(ctx, w.bucket, 0)
	if err != nil {
		return nil, nil, err
	}
	defer v.Close()
	var it keyWalk
	if above := v.Info().BranchLSN; above == 0 {
		scan := v.Scan(ns, nil, nil)
		defer scan.Close()
		it = scan
	} else {
		it = v.Changes(ns, nil, nil, above)
	}
	ok := it.SeekGE(from)
	for n := 0; ok; n++ {
		user := it.Record().Key.User()
		if n == resealPage {
			return due, bytes.Clone(user), nil
		}
		d, err := w.look(v, ns, user)
		if err != nil {
			return nil, nil, err
		}
		if d != nil {
			due = append(due, *d)
		}
		ok = it.Next()
	}
	return due, nil, it.Err()
}

// look returns what is due of a record; nil: nothing.
func (w *resealing) look(v *timeline.View, ns layers.Namespace, user []byte) (*resealDue, error) {
	key := user
	if ns == layers.NamespaceVersions {
		if isNullRecord(user) {
			return nil, nil
		}
		prefix, _, err := splitVersionKey(user)
		if err != nil {
			return nil, err
		}
		if key, err = unescape(prefix); err != nil {
			return nil, err
		}
	}
	rec, err := v.Get(ns, user)
	if errors.Is(err, timeline.ErrNotFound) { // it was deleted in the fork
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	w.report.Scanned++
	if len(rec.Meta) < 2 || rec.Meta[1]&flagEncrypted == 0 || rec.Meta[1]&flagMarker != 0 {
		return nil, nil
	}
	e, err := decodeEntry(rec.Meta, rec.LSN)
	if err != nil {
		return nil, fmt.Errorf("object %q at %d: %w", key, rec.LSN, err)
	}
	former, err := w.former(e.crypt)
	if err != nil || !former {
		return nil, err
	}
	return &resealDue{string(key), e.ID()}, nil
}

// former reports whether a data key was sealed by a master key that is not the first.
func (w *resealing) former(c *crypt) (bool, error) {
	sealed := c.sealed
	if c.Kind == SSEC {
		sealed = c.sealedFields
	}
	if sealed == nil || c.Kind == SSEKMS && w.s.o.KMSKeys != nil {
		return false, nil
	}
	if w.s.o.Keys == nil {
		return false, ErrNoMasterKey
	}
	name, err := keyring.Sealer(sealed)
	if err != nil {
		return false, fmt.Errorf("sealed data key: %w: %w", err, ErrCorrupt)
	}
	return name != w.s.o.Keys.Names()[0], nil
}

// reseal seals one data key anew. What has changed or gone meanwhile is left alone.
func (w *resealing) reseal(ctx context.Context, d *resealDue) error {
	done := false
	_, err := w.s.changeEntry(ctx, w.bucket, d.key, d.id, func(_ *Settings, e *Entry) error {
		done = false
		if e.crypt == nil {
			return nil
		}
		if former, err := w.former(e.crypt); err != nil || !former {
			return err
		}
		if c := e.crypt; c.Kind == SSEC { // its fields stay as they are
			err := w.s.openFields(c)
			if err == nil {
				err = w.s.sealFieldsKey(c)
			}
			done = err == nil
			return err
		}
		if err := w.s.unlock(e, nil); err != nil {
			return err
		}
		c, err := w.s.sealKey(e.crypt.key, e.crypt.SSE, nil)
		if err != nil {
			return err
		}
		c.bodyFirst, c.sealedFor = e.crypt.bodyFirst, e.crypt.sealedFor
		e.crypt, done = c, true
		return nil
	})
	switch {
	case errors.Is(err, keyring.ErrNoKey):
		w.report.Unopened++
	case errors.Is(err, ErrNoSuchKey), errors.Is(err, ErrNoSuchVersion), errors.Is(err, ErrMarker):
	case err != nil:
		return err
	case done:
		w.report.Resealed++
	}
	return nil
}
