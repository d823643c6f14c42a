package object

import (
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Delete removes the object at a key. A key that has none is a success, whatever
// the conditions, and commits nothing.
//
// Errors: ErrKeyTooLong, ErrPreconditionFailed, timeline.ErrNoSuchBucket, and
// those of a commit.
func (s *Service) Delete(ctx context.Context, bucket, key string, cond Conditions) (DeleteResult, error) {
	var existed [1]bool
	errs, lsn, err := s.deleteKeys(ctx, bucket, []DeleteKey{{Key: key, Cond: cond}}, existed[:])
	if err == nil {
		err = errs[0]
	}
	if err != nil {
		return DeleteResult{}, fmt.Errorf("delete: %w", err)
	}
	return DeleteResult{LSN: lsn, Existed: existed[0]}, nil
}

// DeleteMany removes up to MaxDeleteKeys objects in one commit. The slice has
// one error per key, nil for those that are gone now; the last error is of the
// call as a whole: then nothing was removed.
//
// Errors per key: ErrKeyTooLong, ErrPreconditionFailed. Errors: ErrTooManyKeys,
// timeline.ErrNoSuchBucket, and those of a commit.
func (s *Service) DeleteMany(ctx context.Context, bucket string, keys []DeleteKey) ([]error, wal.LSN, error) {
	if len(keys) == 0 || len(keys) > MaxDeleteKeys {
		return nil, 0, fmt.Errorf("delete %d keys, at most %d: %w", len(keys), MaxDeleteKeys, ErrTooManyKeys)
	}
	errs, lsn, err := s.deleteKeys(ctx, bucket, keys, make([]bool, len(keys)))
	if err != nil {
		return nil, 0, fmt.Errorf("delete %d keys: %w", len(keys), err)
	}
	return errs, lsn, nil
}

// deleteKeys deletes what is there of keys. Without a condition the shared
// stripe does: a put that gets in between is older than the tombstone, or comes
// after a key that was seen absent.
func (s *Service) deleteKeys(ctx context.Context, bucket string, keys []DeleteKey, existed []bool) ([]error, wal.LSN, error) {
	errs := make([]error, len(keys))
	locks := make([]timeline.Lock, 0, len(keys))
	for i := range keys {
		if errs[i] = checkKey(keys[i].Key); errs[i] == nil {
			locks = append(locks, timeline.Lock{
				NS: layers.NamespaceObjects, Key: []byte(keys[i].Key), Exclusive: keys[i].Cond.any(),
			})
		}
	}
	lsn, err := s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) error {
		next := 0
		clear(existed)
		for i := range keys {
			if checkKey(keys[i].Key) != nil {
				continue
			}
			key := locks[next].Key
			next++
			errs[i] = nil // of a run on where the name led before
			rec, err := tx.Get(layers.NamespaceObjects, key)
			if errors.Is(err, timeline.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			if errs[i] = keys[i].Cond.checkDelete(&rec); errs[i] == nil {
				existed[i] = true
				tx.Delete(layers.NamespaceObjects, key)
			} else if !errors.Is(errs[i], ErrPreconditionFailed) {
				return errs[i]
			}
		}
		return nil
	})
	return errs, lsn, err
}
