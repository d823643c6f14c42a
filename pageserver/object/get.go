package object

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/timeline"
)

// Get opens the object at a key, or a range or part of it. The caller closes
// the body, which holds value segments but no layers, however slowly it is read.
//
// Errors: ErrKeyTooLong, ErrNoSuchKey, ErrPreconditionFailed, *NotModifiedError,
// *RangeError, ErrInvalidPartNumber, ErrRangeAndPart, ErrKeyRequired, ErrKeyNotApplicable,
// ErrWrongKey, timeline.ErrNoSuchBucket, ErrFuture and
// *BelowHorizonError, ErrCorrupt, layers.ErrCorrupt.
func (s *Service) Get(ctx context.Context, bucket, key string, in *GetInput) (*Object, error) {
	return s.read(ctx, bucket, key, in, true)
}

// Head is Get without the body.
func (s *Service) Head(ctx context.Context, bucket, key string, in *GetInput) (*Object, error) {
	return s.read(ctx, bucket, key, in, false)
}

func (s *Service) read(ctx context.Context, bucket, key string, in *GetInput, body bool) (*Object, error) {
	if in.Range != "" && in.PartNumber != 0 {
		return nil, ErrRangeAndPart
	}
	v, err := s.store.View(ctx, bucket, in.At)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	e, rec, err := s.find(v, key, in.Version)
	if err != nil {
		return nil, err
	}
	if in.Allow != nil {
		if err := in.Allow(e); err != nil {
			return nil, err
		}
	}
	if in.PartNumber > max(e.PartsCount, 1) {
		return nil, fmt.Errorf("read %q: part %d of %d: %w", key, in.PartNumber, e.PartsCount, ErrInvalidPartNumber)
	}
	if !in.Clear {
		if err := s.unlock(e, in.CustomerKey); err != nil {
			return nil, fmt.Errorf("read %q: %w", key, err)
		}
	}
	if err := in.Cond.checkRead(e); err != nil {
		return nil, notModified(err, e, v.LSN())
	}
	o := &Object{Entry: *e, Length: e.Size, At: v.LSN()}
	if o.ID, err = s.shownID(v, e); err != nil {
		return nil, err
	}
	var ext []layers.Extent
	tail := e.parts.tail > 0 && (in.WithParts || in.PartNumber != 0) // a body brings it anyway
	if (body || tail) && rec.Body.Tag() != layers.BodyInline && !e.pages.paged() {
		if ext, err = s.values.LoadExtents(rec.Body, nil); err != nil {
			return nil, fmt.Errorf("read %q: %w", key, err)
		}
	}
	if err := s.selectBytes(o, in, ext); err != nil {
		return nil, fmt.Errorf("read %q: %w", key, err)
	}
	if body {
		if e.pages.paged() {
			o.Body, err = s.openPages(ctx, v, e, o.Offset, o.Length)
		} else {
			o.Body, err = s.newReader(e, rec.Body, ext, o.Offset, o.Length)
		}
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", key, err)
		}
	}
	return o, nil
}

// find finds a version of a key; zero is the current one. Errors: ErrKeyTooLong, ErrNoSuchKey,
// ErrNoSuchVersion, *MarkerError, ErrCorrupt.
func (s *Service) find(r versionReader, key string, id VersionID) (*Entry, layers.Record, error) {
	if id == 0 {
		e, rec, err := lookup(r, key)
		if errors.Is(err, ErrNoSuchKey) {
			if f, ferr := s.current(r, []byte(key)); ferr != nil {
				err = ferr
			} else if f != nil {
				err = f.errDeleted(err)
			}
		}
		return e, rec, err
	}
	if err := checkKey(key); err != nil {
		return nil, layers.Record{}, err
	}
	f, err := findVersion(r, []byte(key), versionsOf([]byte(key)), id)
	switch {
	case err != nil:
	case f == nil:
		err = fmt.Errorf("version %v of %q: %w", id, key, ErrNoSuchVersion)
	case f.marker():
		err = f.errDeleted(fmt.Errorf("version %v of %q: %w", id, key, ErrMarker))
	}
	if err != nil {
		return nil, layers.Record{}, err
	}
	e, err := f.entry()
	return e, f.rec, err
}

// shownID returns the version id that people are told of; zero in a bucket that never had versioning.
func (s *Service) shownID(r configReader, e *Entry) (VersionID, error) {
	if e.Versioned {
		return e.ID(), nil
	}
	set, err := s.settings(r)
	if err != nil || set.Versioning == Unversioned {
		return 0, err
	}
	return e.ID(), nil
}

// lookup finds the object at a key. Errors: ErrKeyTooLong, ErrNoSuchKey, ErrCorrupt.
func lookup(r reader, key string) (*Entry, layers.Record, error) {
	if err := checkKey(key); err != nil {
		return nil, layers.Record{}, err
	}
	var few [64]byte
	rec, err := r.Get(layers.NamespaceObjects, append(few[:0], key...))
	if err != nil {
		if errors.Is(err, timeline.ErrNotFound) {
			err = fmt.Errorf("%q: %w", key, ErrNoSuchKey)
		}
		return nil, layers.Record{}, err
	}
	e, err := decodeEntry(rec.Meta, rec.LSN)
	if err != nil {
		return nil, layers.Record{}, fmt.Errorf("object %q at %d: %w", key, rec.LSN, err)
	}
	return e, rec, nil
}

// selectBytes sets which bytes of o are served.
func (s *Service) selectBytes(o *Object, in *GetInput, ext []layers.Extent) error {
	var parts []PartInfo
	if in.WithParts || in.PartNumber != 0 {
		var err error
		if parts, err = s.loadParts(&o.Entry, ext); err != nil {
			return err
		}
		if in.WithParts {
			o.Parts = parts
		}
	}
	switch {
	case in.PartNumber != 0:
		return o.selectPart(in.PartNumber, parts)
	case in.Range != "" && in.rangeHolds(&o.Entry):
		off, n, ok, err := parseRange(in.Range, o.Size)
		if err != nil {
			return err
		}
		if ok {
			o.Offset, o.Length, o.Partial = off, n, true
		}
	}
	return nil
}

// rangeHolds evaluates If-Range: whether a range may be served, of what the caller has
// the rest of; else it gets all. A date must be the very second, a tag strong.
func (in *GetInput) rangeHolds(e *Entry) bool {
	switch {
	case in.IfRange == "":
		return true
	case !in.IfRangeTime.IsZero():
		return in.IfRangeTime.Equal(e.Modified().Truncate(time.Second))
	}
	return in.IfRange != "*" && matchTags(in.IfRange, e.ETag, false)
}

// selectPart serves the part with a number, under the tag of the object; one without parts
// is its own part 1. S3 counts parts as they lie, whatever numbers
// they were uploaded with.
func (o *Object) selectPart(number int, parts []PartInfo) error {
	if parts == nil {
		parts = []PartInfo{{Number: 1, Size: o.Size}}
	}
	if number < 1 || number > len(parts) {
		return fmt.Errorf("part %d of %d: %w", number, len(parts), ErrInvalidPartNumber)
	}
	for i := range number - 1 {
		o.Offset += parts[i].Size
	}
	o.Length = parts[number-1].Size
	o.Partial = o.Length > 0
	return nil
}
