package object

import (
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
)

// CreateUpload begins a multipart upload of a key. Uploads are not inherited by
// forks.
//
// Errors: ErrKeyTooLong, ErrMetadataTooLarge, ErrInvalidStorageClass,
// ErrChecksumType, timeline.ErrNoSuchBucket, and those of a commit.
func (s *Service) CreateUpload(ctx context.Context, bucket, key string, in *UploadInput) (*Upload, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if err := checkDescription(&in.Headers, in.UserMeta, in.Tags); err != nil {
		return nil, err
	}
	if in.StorageClass >= numStorageClasses {
		return nil, ErrInvalidStorageClass
	}
	if in.Lock != (Lock{}) {
		if err := s.checkLock(ctx, bucket, &in.Lock); err != nil {
			return nil, err
		}
	}
	if err := CheckACL(in.ACL); err != nil {
		return nil, err
	}
	u := uploadRecord{lock: in.Lock, access: in.Access, initiator: in.Initiator, class: in.StorageClass, headers: in.Headers, userMeta: in.UserMeta, tags: in.Tags}
	var err error
	if u.algorithm, u.composite, u.implicit, err = in.checksumTypeOf(); err != nil {
		return nil, err
	}
	if u.crypt, err = s.cryptFor(ctx, bucket, in.SSE, in.CustomerKey); err != nil {
		return nil, fmt.Errorf("create upload: %w", err)
	}
	if u.crypt != nil && u.crypt.Kind == SSEC {
		if err = s.addFieldsKey(u.crypt); err != nil {
			return nil, fmt.Errorf("create upload: %w", err)
		}
	}
	id := newUploadID(s.store.Now())
	var b timeline.Batch
	b.Put(layers.NamespaceUploads, uploadKey(key, id), u.append(nil), nil)
	lsn, err := s.store.Commit(ctx, bucket, &b)
	if err != nil {
		return nil, fmt.Errorf("create upload: %w", err)
	}
	up := u.describe(key, id, lsn)
	return &up, nil
}

// openUpload is a handle to the record of an upload.
type openUpload struct {
	key  string
	id   uploadID
	user []byte // key of the record
}

// parseUpload checks what names an upload. Errors: ErrNoSuchUpload.
func parseUpload(key, id string) (openUpload, error) {
	u, ok := parseUploadID(id)
	if !ok || checkKey(key) != nil {
		return openUpload{}, fmt.Errorf("upload %q of %q: %w", id, key, ErrNoSuchUpload)
	}
	return openUpload{key: key, id: u, user: uploadKey(key, u)}, nil
}

// load reads the record of the upload. Errors: ErrNoSuchUpload, ErrCorrupt.
func (o *openUpload) load(r reader) (*uploadRecord, layers.Record, error) {
	rec, err := r.Get(layers.NamespaceUploads, o.user)
	if err != nil {
		if errors.Is(err, timeline.ErrNotFound) {
			err = fmt.Errorf("upload %v of %q: %w", o.id, o.key, ErrNoSuchUpload)
		}
		return nil, layers.Record{}, err
	}
	u, err := decodeUpload(rec.Meta)
	if err != nil {
		return nil, layers.Record{}, fmt.Errorf("upload %v of %q: %w", o.id, o.key, err)
	}
	return u, rec, nil
}

// peek reads the record at the tip, for what must be known before the locks are
// taken. What it says never changes; only the upload may end.
func (s *Service) peek(ctx context.Context, bucket string, o *openUpload) (*uploadRecord, error) {
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	u, _, err := o.load(v)
	return u, err
}

// scanner is a View or a Tx.
type scanner interface {
	Scan(ns layers.Namespace, lower, upper []byte) *layers.Scan
}

// eachPart visits the parts of an upload with numbers above after, in order,
// until visit wants no more.
func (o *openUpload) eachPart(r scanner, after int, visit func(number int, rec *layers.Record) (more bool, err error)) error {
	scan := r.Scan(layers.NamespaceUploads, partKey(o.id, after+1), partKey(o.id, MaxPartNumber+1))
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		rec := scan.Record()
		user := rec.Key.User()
		if len(user) != len(partKey(o.id, 0)) {
			return corrupt("part key %q", user)
		}
		number := int(user[len(user)-2])<<8 | int(user[len(user)-1])
		more, err := visit(number, rec)
		if err != nil || !more {
			return err
		}
	}
	return scan.Err()
}

// AbortUpload ends an upload and forgets its parts. Errors: ErrNoSuchUpload,
// timeline.ErrNoSuchBucket, and those of a commit.
func (s *Service) AbortUpload(ctx context.Context, bucket, key, id string) error {
	o, err := parseUpload(key, id)
	if err != nil {
		return err
	}
	locks := []timeline.Lock{{NS: layers.NamespaceUploads, Key: o.user, Exclusive: true}}
	_, err = s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) error {
		if _, _, err := o.load(tx); err != nil {
			return err
		}
		return o.forget(tx)
	})
	if err != nil {
		return fmt.Errorf("abort upload: %w", err)
	}
	return nil
}

// forget deletes the upload and all of its parts. They have no stripes of their
// own: whoever writes one holds the stripe of the upload.
func (o *openUpload) forget(tx *timeline.Tx) error {
	tx.Delete(layers.NamespaceUploads, o.user)
	return o.eachPart(tx, 0, func(number int, _ *layers.Record) (bool, error) {
		tx.Delete(layers.NamespaceUploads, partKey(o.id, number))
		return true, nil
	})
}
