package object

import (
	"context"
	"errors"
	"fmt"
	"math"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Quota bounds what a bucket may hold; see docs/semantics.md for what counts.
type Quota struct {
	// MaxBytes and MaxObjects are the bounds; zero: none.
	MaxBytes   int64 `json:"quota_bytes,omitempty"`
	MaxObjects int64 `json:"quota_objects,omitempty"`
	// Epoch counts how often the bucket went from no quota to one: what was counted before
	// has missed commits since. The service keeps it.
	Epoch int64 `json:"quota_epoch,omitempty"`
}

// MaxQuota is the highest bound.
const MaxQuota = math.MaxInt64 / 4

// Any reports whether there is a bound.
func (q Quota) Any() bool { return q.MaxBytes != 0 || q.MaxObjects != 0 }

func (q Quota) check() error {
	for _, n := range []int64{q.MaxBytes, q.MaxObjects} {
		if n < 0 || n > MaxQuota {
			return fmt.Errorf("quota of %d, want 0 to %d: %w", n, int64(MaxQuota), ErrBadAttributes)
		}
	}
	return nil
}

// after returns q as it follows old.
func (q Quota) after(old Quota) Quota {
	q.Epoch = old.Epoch
	if q.Any() && !old.Any() {
		q.Epoch++
	}
	return q
}

// quotaOf returns the quota that attributes tell of; nil: none.
func (s *Service) quotaOf(attributes []byte) (*Quota, error) {
	a, err := s.decodedAttributes(attributes)
	if err != nil || !a.Quota.Any() {
		return nil, err
	}
	return &a.Quota, nil
}

// Usage is what counts for a quota, or a change of it.
type Usage struct{ Bytes, Objects int64 }

func (u *Usage) add(o Usage) { u.Bytes, u.Objects = u.Bytes+o.Bytes, u.Objects+o.Objects }

func (u *Usage) sub(o Usage) { u.Bytes, u.Objects = u.Bytes-o.Bytes, u.Objects-o.Objects }

// grown returns what of a change is growth.
func (u Usage) grown() Usage { return Usage{max(u.Bytes, 0), max(u.Objects, 0)} }

// grows reports whether a change needs room in what q bounds.
func (q *Quota) grows(u Usage) bool {
	return q.MaxBytes != 0 && u.Bytes > 0 || q.MaxObjects != 0 && u.Objects > 0
}

// refuses returns why a change is too much on top of used and pending; nil: it is not. What
// does not grow is never too much.
func (q *Quota) refuses(used, pending, change Usage) *QuotaError {
	if q.MaxBytes != 0 && change.Bytes > 0 && used.Bytes+pending.Bytes+change.Bytes > q.MaxBytes {
		return &QuotaError{Of: "bytes", Max: q.MaxBytes, Used: used.Bytes, Pending: pending.Bytes, Growth: change.Bytes}
	}
	if q.MaxObjects != 0 && change.Objects > 0 && used.Objects+pending.Objects+change.Objects > q.MaxObjects {
		return &QuotaError{Of: "objects", Max: q.MaxObjects, Used: used.Objects, Pending: pending.Objects, Growth: change.Objects}
	}
	return nil
}

// ErrQuotaExceeded: QuotaExceeded, 403; comes as *QuotaError.
var ErrQuotaExceeded = errors.New("object: quota exceeded")

// QuotaError says what a bucket has no room for.
type QuotaError struct {
	Of        string // bytes or objects
	Max, Used int64
	Pending   int64 // what commits that are under way have reserved
	Growth    int64 // by the commit that was refused
}

func (e *QuotaError) Error() string {
	s := fmt.Sprintf("%d more %s, %d of %d are used", e.Growth, e.Of, e.Used, e.Max)
	if e.Pending != 0 {
		s += fmt.Sprintf(" and %d reserved", e.Pending)
	}
	return s + ": " + ErrQuotaExceeded.Error()
}

// Unwrap returns ErrQuotaExceeded.
func (e *QuotaError) Unwrap() error { return ErrQuotaExceeded }

// usageOf returns what a record of NamespaceObjects or NamespaceVersions counts that a commit at
// lsn wrote: nothing if it is no version with a body, or if that is not younger than the branch point
// base, and so inherited; of one that goes on from an inherited one what it has grown by. Errors: ErrCorrupt.
func usageOf(ns layers.Namespace, key, meta []byte, lsn, base wal.LSN) (Usage, error) {
	if ns == layers.NamespaceVersions && isNullRecord(key) {
		return Usage{}, nil
	}
	var h metaHead
	fields, err := h.decode(meta, true)
	if err != nil {
		return Usage{}, fmt.Errorf("version of %q at %d: %w", key, lsn, err)
	}
	if h.flags&flagMarker != 0 || h.version(lsn) <= base {
		return Usage{}, nil
	}
	if base != 0 {
		i, err := inheritedBy(fields)
		if err != nil {
			return Usage{}, fmt.Errorf("version of %q at %d: %w", key, lsn, err)
		}
		if i.base == base {
			return Usage{Bytes: int64(h.size - min(h.size, i.size))}, nil
		}
	}
	return Usage{Bytes: int64(h.size), Objects: 1}, nil
}

// counts reports whether records of a namespace count.
func counts(ns layers.Namespace) bool {
	return ns == layers.NamespaceObjects || ns == layers.NamespaceVersions
}

// changeBy returns what a transaction changes of the usage: each record that it writes, less what
// that replaces.
func changeBy(tx *timeline.Tx, base wal.LSN) (Usage, error) {
	var sum Usage
	for w := range tx.Writes() {
		if !counts(w.Namespace) {
			continue
		}
		if w.Kind == layers.KindValue {
			u, err := usageOf(w.Namespace, w.Key, w.Meta, wal.MaxLSN, base)
			if err != nil {
				return sum, err
			}
			sum.add(u)
		} else if w.Kind != layers.KindTombstone {
			panic(fmt.Sprintf("BUG: record of kind %d of an object", w.Kind))
		}
		if w.Stamped {
			continue // its key has never been there
		}
		old, err := tx.Get(w.Namespace, w.Key)
		if errors.Is(err, timeline.ErrNotFound) {
			continue
		}
		if err == nil {
			var u Usage
			u, err = usageOf(w.Namespace, w.Key, old.Meta, old.LSN, base)
			sum.sub(u)
		}
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// admit is the timeline.Admission of the store: it refuses what a quota has no room for. Errors:
// *QuotaError, *timeline.Later while the bucket is not counted, those of reads.
func (s *Service) admit(tx *timeline.Tx) (done func(bool), err error) {
	if !writesObjects(tx) {
		return nil, nil
	}
	known, err := s.known(tx)
	if err != nil || known.quota == nil {
		return nil, err
	}
	change, err := changeBy(tx, tx.BranchLSN())
	if err != nil || change == (Usage{}) {
		return nil, err
	}
	id, _ := tx.Configured()
	if m := s.meters.get(id, known.quota.Epoch); m != nil {
		err := m.admit(known.quota, change)
		if err == nil {
			return func(committed bool) { m.settle(change, committed) }, nil
		}
		if !errors.Is(err, errUncounted) {
			return nil, err
		}
	} else if !known.quota.grows(change) {
		return nil, nil // whoever counts will see it
	}
	name, epoch := tx.Info().Name, known.quota.Epoch
	return nil, &timeline.Later{Wait: func(ctx context.Context) error { return s.awaitCount(ctx, name, id, epoch) }}
}

func writesObjects(tx *timeline.Tx) bool {
	for w := range tx.Writes() {
		if counts(w.Namespace) {
			return true
		}
	}
	return false
}

// checkFits refuses, before the body is there, a body whose size (negative: unknown) cannot fit as things are:
// of a version of a key, or of what goes on from the version old. The commit will look again. Errors:
// *QuotaError, those of reads.
func (s *Service) checkFits(ctx context.Context, bucket string, key []byte, size int64, old *Entry) error {
	if size < 0 {
		return nil
	}
	known, _, err := s.guardedSettings(ctx, bucket)
	if err != nil || known.quota == nil || known.quota.MaxBytes == 0 {
		return err
	}
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return err
	}
	defer v.Close()
	change := Usage{Bytes: size}
	goes, err := replacedBy(v, known.set, key)
	if err != nil {
		return err
	}
	if inPlace := old != nil && (old.pages.paged() || goes != nil && goes.object); !inPlace {
		if old != nil {
			change.Bytes += int64(old.Size)
		}
		if goes != nil {
			was, err := usageOf(layers.NamespaceObjects, key, goes.rec.Meta, goes.rec.LSN, v.BranchLSN())
			if err != nil {
				return err
			}
			change.Bytes -= was.Bytes
		}
	}
	id, _ := v.Configured()
	used := Usage{}
	if m := s.meters.get(id, known.quota.Epoch); m != nil {
		used, _ = m.now()
	}
	if refused := known.quota.refuses(used, Usage{}, change); refused != nil {
		return refused
	}
	return nil
}

// replacedBy returns the version in whose place another one of the key would be; nil: it would be beside all.
func replacedBy(r reader, set *Settings, key []byte) (*found, error) {
	f, err := getObject(r, key)
	if err != nil || f != nil && set.replaces(f) {
		return f, err
	}
	if set.Versioning != Suspended {
		return nil, nil
	}
	f, err = getNull(r, versionsOf(key))
	if err != nil || f == nil || f.marker() {
		return nil, err
	}
	return f, nil
}

// QuotaUsage returns what of a bucket counts for its quota, which it must have, once that is counted;
// zero otherwise. Errors: timeline.ErrNoSuchBucket, ErrSlowDown, those of ctx and of reads.
func (s *Service) QuotaUsage(ctx context.Context, bucket string) (Usage, error) {
	for {
		known, _, err := s.guardedSettings(ctx, bucket)
		if err != nil || known.quota == nil {
			return Usage{}, err
		}
		info, err := s.store.Bucket(bucket, 0)
		if err != nil {
			return Usage{}, err
		}
		if m := s.meters.get(info.Timeline, known.quota.Epoch); m != nil {
			if used, counted := m.now(); counted {
				return used, nil
			}
		}
		if err := s.awaitCount(ctx, bucket, info.Timeline, known.quota.Epoch); err != nil {
			return Usage{}, err
		}
	}
}
