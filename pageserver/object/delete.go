package object

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Delete removes the object at a key, or hides it by a delete marker where the bucket
// has versions; with a version id it removes that version, and what is the newest
// then becomes the current one. What is not there is a success, whatever the
// conditions, and commits nothing, unless a marker without conditions was asked for.
//
// Errors: ErrKeyTooLong, ErrPreconditionFailed, ErrLocked, timeline.ErrNoSuchBucket,
// and those of a commit.
func (s *Service) Delete(ctx context.Context, bucket string, key DeleteKey) (DeleteResult, error) {
	results, _, err := s.deleteKeys(ctx, bucket, []DeleteKey{key})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return DeleteResult{}, fmt.Errorf("delete: %w", err)
	}
	return results[0], nil
}

// DeleteMany is Delete of up to MaxDeleteKeys keys, in as few commits as may be: one,
// unless a bucket with versions has to move much, or a key is named again. The
// slice has one result per key; the LSN is that of the last commit. The error is of the call as a
// whole: then nothing was removed.
//
// Errors per key: those of Delete. Errors: ErrTooManyKeys, timeline.ErrNoSuchBucket,
// and those of a commit.
func (s *Service) DeleteMany(ctx context.Context, bucket string, keys []DeleteKey) ([]DeleteResult, wal.LSN, error) {
	if len(keys) == 0 || len(keys) > MaxDeleteKeys {
		return nil, 0, fmt.Errorf("delete %d keys, at most %d: %w", len(keys), MaxDeleteKeys, ErrTooManyKeys)
	}
	results, lsn, err := s.deleteKeys(ctx, bucket, keys)
	if err != nil {
		return nil, 0, fmt.Errorf("delete %d keys: %w", len(keys), err)
	}
	return results, lsn, nil
}

// deletion deletes keys in one commit or several.
type deletion struct {
	s       *Service
	keys    []DeleteKey
	results []DeleteResult // as keys
	// order is keys by name, those of one name as they were given; rest begins with the
	// next that is to be deleted.
	order, rest []int

	versioned bool // what the locks are for
	metered   bool // the bucket has a quota: the same
	now       time.Time
	holds     holds
	done      int // of rest, by the transaction
}

func (s *Service) deleteKeys(ctx context.Context, bucket string, keys []DeleteKey) ([]DeleteResult, wal.LSN, error) {
	d := deletion{s: s, keys: keys, results: make([]DeleteResult, len(keys)), order: make([]int, len(keys)), now: s.now()}
	for i := range d.order {
		d.order[i] = i
	}
	slices.SortStableFunc(d.order, func(a, b int) int { return strings.Compare(keys[a].Key, keys[b].Key) })
	last := wal.LSN(0)
	for d.rest = d.order; len(d.rest) > 0; {
		lsn, err := d.commit(ctx, bucket)
		switch {
		case errors.Is(err, timeline.ErrConfigChanged):
			continue
		case err != nil && last == 0:
			return nil, 0, err
		case err != nil:
			for _, i := range d.rest {
				d.results[i] = DeleteResult{Err: err}
			}
			return d.results, last, nil
		}
		for _, i := range d.rest[:d.done] {
			r := &d.results[i]
			if r.LSN = lsn; r.Marker && r.ID == 0 {
				r.ID = VersionID(lsn)
			}
		}
		last, d.rest = lsn, d.rest[d.done:]
	}
	return d.results, last, nil
}

// commit deletes the first of the rest, at least one. Errors: ErrConfigChanged when it
// must be tried again.
func (d *deletion) commit(ctx context.Context, bucket string) (wal.LSN, error) {
	known, _, err := d.s.guardedSettings(ctx, bucket)
	if err != nil {
		return 0, err
	}
	d.versioned, d.metered = known.set.Versioning != Unversioned, known.quota != nil
	locks := make([]timeline.Lock, 0, len(d.rest))
	for _, i := range d.rest {
		// Without versions and conditions the shared stripe does: a put that gets in between is
		// older than the tombstone, or comes after a key that was seen absent. With a quota
		// only one may take away what counted.
		k := &d.keys[i]
		locks = append(locks, timeline.Lock{
			NS: layers.NamespaceObjects, Key: []byte(k.Key), Exclusive: d.versioned || d.metered || k.Version != 0 || k.Cond.any(),
		})
	}
	defer d.holds.letGo()
	return d.s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) error { return d.run(tx, locks) })
}

// deleteBytes is how much a commit of deletes moves before the rest is left to another.
const deleteBytes = 1 << 20

func (d *deletion) run(tx *timeline.Tx, locks []timeline.Lock) error {
	d.holds.letGo()
	known, err := d.s.known(tx)
	if err != nil {
		return err
	}
	set := known.set
	if d.versioned != (set.Versioning != Unversioned) || d.metered != (known.quota != nil) {
		return timeline.ErrConfigChanged // other locks are needed
	}
	var w *keyWriter
	for d.done = 0; d.done < len(d.rest); d.done++ {
		i := d.rest[d.done]
		k, r := &d.keys[i], &d.results[i]
		*r = DeleteResult{Err: checkKey(k.Key)}
		if r.Err != nil {
			continue
		}
		switch {
		case w == nil || string(w.key) != k.Key:
			if err := w.settle(); err != nil {
				return err
			}
			if w = nil; tx.Bytes() > deleteBytes {
				return nil
			}
			w = &keyWriter{s: d.s, tx: tx, set: set, holds: &d.holds, key: locks[d.done].Key}
		case w.marked || w.changed() && k.Version == 0:
			return w.settle() // it must see what the one before has done
		}
		if err := d.delete(w, k, r); err != nil {
			return err
		}
	}
	return w.settle()
}

// delete deletes one key. What concerns only that is in its result.
func (d *deletion) delete(w *keyWriter, k *DeleteKey, r *DeleteResult) error {
	if k.Version == 0 {
		return d.deleteCurrent(w, k, r)
	}
	r.ID = k.Version
	f, err := w.find(k.Version)
	if err != nil || f == nil {
		return err
	}
	r.Marker = f.marker()
	if r.Err = d.s.checkDelete(&k.Cond, f); r.Err != nil {
		return nil
	}
	if !r.Marker {
		e, err := f.entry()
		if err != nil {
			return err
		}
		if r.Err = e.Lock.refuses(d.now, k.Bypass); r.Err != nil {
			return nil
		}
	}
	r.Existed = true
	w.remove(f)
	w.endPages(f)
	return nil
}

func (d *deletion) deleteCurrent(w *keyWriter, k *DeleteKey, r *DeleteResult) error {
	f, err := getObject(w.tx, w.key)
	if err != nil {
		return err
	}
	r.Existed = f != nil
	if f == nil && d.versioned && k.Cond.any() {
		if f, err = d.s.current(w.tx, w.key); err != nil { // a marker
			return err
		}
	}
	if f == nil && (!d.versioned || k.Cond.any()) {
		return nil
	}
	if f != nil {
		if r.Err = d.s.checkDelete(&k.Cond, f); r.Err != nil {
			return nil
		}
	}
	if r.Marker = d.versioned; w.set.Versioning == Suspended {
		r.ID = NullVersion
	}
	return w.deleteCurrent()
}
