package object

import (
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
)

// Put stores an object under a key, in place of what was there, once the body
// was read to its end. On return it is durable and visible; on an error nothing
// is visible, unless the error is a *wal.ReadOnlyError.
//
// Errors: ErrKeyTooLong, ErrMetadataTooLarge, ErrInvalidStorageClass,
// ErrEntityTooLarge, ErrIncompleteBody, ErrInvalidDigest, ErrInvalidChecksum,
// ErrBadDigest, ErrPreconditionFailed, ErrNoSuchKey (of IfMatch), *QuotaError,
// timeline.ErrNoSuchBucket, those of the reader and of a commit.
//
// Holds at most a few hundred KiB of the body in memory.
func (s *Service) Put(ctx context.Context, bucket, key string, in *PutInput) (*Entry, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if err := checkDescription(&in.Headers, in.UserMeta, in.Tags); err != nil {
		return nil, err
	}
	if in.StorageClass >= numStorageClasses {
		return nil, ErrInvalidStorageClass
	}
	if err := CheckACL(in.ACL); err != nil {
		return nil, err
	}
	sc := getScratch()
	defer sc.put()
	sc.key = append(sc.key[:0], key...)
	// Bad news before the body was sent saves the sender's time.
	if err := s.precheck(ctx, bucket, sc.key, in); err != nil {
		return nil, err
	}
	crypt, err := s.cryptFor(ctx, bucket, in.SSE, in.CustomerKey)
	if err != nil {
		return nil, fmt.Errorf("put: %w", err)
	}
	var st stored
	defer st.done()
	r, err := s.receive(ctx, sc, &st, &incoming{
		body: in.Body, size: in.Size, maximum: s.o.MaxPutBytes, md5: in.ContentMD5, expect: &in.Checksum,
		algorithm: defaultAlgorithm(in.Checksum.Algorithm), inlineBelow: s.o.MaxInlineBytes,
		crypt: crypt,
	})
	if err != nil {
		return nil, fmt.Errorf("put: %w", err)
	}
	e := &Entry{
		Size: r.size, ETag: ETag{Sum: crypt.tag(r.md5)}, StorageClass: in.StorageClass, Checksum: r.sum,
		Headers: in.Headers, UserMeta: in.UserMeta, Tags: in.Tags, Lock: in.Lock, Access: in.Access, crypt: crypt,
	}
	body := r.body
	if r.ext != nil {
		if body, err = s.appendBody(ctx, &st, nil, r.ext); err != nil {
			return nil, fmt.Errorf("put: %w", err)
		}
	}
	if err := s.commitEntry(ctx, sc, bucket, &in.Cond, e, body); err != nil {
		return nil, fmt.Errorf("put: %w", err)
	}
	return e, nil
}

// defaultAlgorithm is what S3 computes when it was not told otherwise.
func defaultAlgorithm(a Algorithm) Algorithm {
	if a == NoChecksum {
		return CRC64NVME
	}
	return a
}

// precheck refuses early what the commit would refuse anyway. It looks only
// where the answer can spare a large body, or a condition asks for it.
func (s *Service) precheck(ctx context.Context, bucket string, key []byte, in *PutInput) error {
	if in.Lock != (Lock{}) {
		if err := s.checkLock(ctx, bucket, &in.Lock); err != nil {
			return err
		}
	}
	cond, large := &in.Cond, in.Size < 0 || in.Size >= int64(s.o.MaxInlineBytes)
	if large {
		if err := s.store.AdmitWrite(ctx); err != nil {
			return err
		}
		if err := s.checkFits(ctx, bucket, key, in.Size, nil); err != nil {
			return err
		}
	}
	switch {
	case cond.any():
		v, err := s.store.View(ctx, bucket, 0)
		if err != nil {
			return err
		}
		defer v.Close()
		return s.checkWrite(cond, v, key)
	case large:
		_, err := s.store.Bucket(bucket, 0)
		return err
	}
	return nil
}

// commitEntry makes e the current version of sc.key, and fills its LSN. e.Lock is what was
// asked for. Where there are neither versions nor conditions nor a quota, it is a blind write.
func (s *Service) commitEntry(ctx context.Context, sc *scratch, bucket string, cond *Conditions, e *Entry, body layers.Body) error {
	for {
		known, guard, err := s.guardedSettings(ctx, bucket)
		if err == nil {
			err = s.checkMeant(bucket, cond) // the guard holds that, too
		}
		if err != nil {
			return err
		}
		if set := known.set; set.Versioning != Unversioned || set.Pages || known.quota != nil || e.pages.paged() || cond.any() || e.Lock != (Lock{}) {
			err := s.commitVersion(ctx, sc, bucket, cond, e, body)
			if !errors.Is(err, errNoPages) {
				return err
			}
			if err := s.announcePages(ctx, bucket); err != nil {
				return err
			}
			continue
		}
		sc.meta = e.append(sc.meta[:0])
		sc.batch.Reset()
		sc.batch.Guard(guard)
		sc.batch.Put(layers.NamespaceObjects, sc.key, sc.meta, body)
		e.LSN, err = s.store.Commit(ctx, bucket, &sc.batch)
		if !errors.Is(err, timeline.ErrConfigChanged) {
			return err
		}
	}
}

// checkMeant refuses a write when the name leads to another bucket than is meant.
func (s *Service) checkMeant(bucket string, cond *Conditions) error {
	if cond.Bucket == 0 {
		return nil
	}
	info, err := s.store.Bucket(bucket, 0)
	if err == nil && info.Bucket != cond.Bucket {
		err = fmt.Errorf("bucket %q is another now: %w", bucket, timeline.ErrNoSuchBucket)
	}
	return err
}

// commitVersion is commitEntry by one who looks at what is there.
func (s *Service) commitVersion(ctx context.Context, sc *scratch, bucket string, cond *Conditions, e *Entry, body layers.Body) error {
	sc.locks = append(sc.locks[:0], timeline.Lock{NS: layers.NamespaceObjects, Key: sc.key, Exclusive: true})
	asked := e.Lock
	var h holds
	defer h.letGo()
	var err error
	e.LSN, err = s.store.Update(ctx, bucket, sc.locks, func(tx *timeline.Tx) error {
		h.letGo()
		if cond.Bucket != 0 && tx.Info().Bucket != cond.Bucket {
			return timeline.ErrNoSuchBucket
		}
		set, err := s.settings(tx)
		if err != nil {
			return err
		}
		if err := asked.check(set, s.now()); err != nil {
			return err
		}
		if e.pages.paged() && !set.Pages {
			return errNoPages
		}
		if err := s.checkWrite(cond, tx, sc.key); err != nil {
			return err
		}
		e.Lock, e.inherited = asked.orDefault(set, s.now()), inheritance{}
		if cond.unchanged != 0 {
			f, err := getObject(tx, sc.key)
			if err == nil {
				err = e.goesOn(set, f, tx.BranchLSN())
			}
			if err != nil {
				return err
			}
		}
		w := keyWriter{s: s, tx: tx, set: set, holds: &h, key: sc.key}
		e.putBase(tx)
		return w.put(e, body)
	})
	if e.pages.paged() {
		e.ETag = e.pages.tag(e.LSN)
	}
	return err
}
