package timeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// Difference is a key whose newest record is not the same at two points. Key and
// the records' keys are valid until the next move, Meta and Body may be kept.
type Difference struct {
	Key  []byte
	A, B *layers.Record // nil: no value; not both
}

// Diff walks, in key order, what differs in one namespace between two views. Where
// both lead back to a common point only what was written above it is read, and what
// that replaced: the cost follows the changes. Of unrelated timelines everything is
// read. A key whose record was written anew with the same content differs, too.
//
// Not safe for concurrent use. The views must stay open until Close.
type Diff struct {
	ctx  context.Context
	ns   layers.Namespace
	a, b diffSide
	// related says that both sides see the same at and below an LSN.
	related bool
	err     error
	present Difference
	moves   int
}

// diffSide is one of the two points.
type diffSide struct {
	view    *View
	changes *layers.Changes // above the common point; nil of unrelated timelines
	// rest are the keys that it has where range tombstones of the other side lie, all
	// keys of unrelated timelines.
	rest *rangedScan

	rec layers.Record
	key layers.Key // of rec; our own copy
}

// Diff returns the difference between the user keys in [lower, upper) of one
// namespace of two views; a nil upper is none. ctx ends it early.
func (s *Store) Diff(ctx context.Context, a, b *View, ns layers.Namespace, lower, upper []byte) *Diff {
	d := &Diff{ctx: ctx, ns: ns, a: diffSide{view: a}, b: diffSide{view: b}}
	c, related := commonPoint(a.node, a.lsn, b.node, b.lsn)
	if d.related = related; !related {
		all := []layers.UserRange{{Lower: lower, Upper: upper}}
		d.a.rest, d.b.rest = newRangedScan(a, ns, all), newRangedScan(b, ns, all)
	} else {
		d.a.changes = a.changes(ns, lower, upper, c.lsn())
		d.b.changes = b.changes(ns, lower, upper, c.lsn())
		d.a.rest = newRangedScan(a, ns, d.b.changes.Ranges())
		d.b.rest = newRangedScan(b, ns, d.a.changes.Ranges())
	}
	d.a.first()
	d.b.first()
	return d
}

// Changes walks what the view sees of a namespace above an LSN. It must end before
// the view is closed.
func (v *View) Changes(ns layers.Namespace, lower, upper []byte, above wal.LSN) *layers.Changes {
	return v.changes(ns, lower, upper, above)
}

// changes returns what the view sees of a namespace above an LSN.
func (v *View) changes(ns layers.Namespace, lower, upper []byte, above wal.LSN) *layers.Changes {
	return v.version.NewChanges(v.hops(ns), ns, lower, upper, above)
}

// Related reports whether the two points have a common one.
func (d *Diff) Related() bool { return d.related }

// Next moves to the next difference; false at the end, or with Err set.
func (d *Diff) Next() bool {
	for d.err == nil {
		key, ok := d.least()
		// A stream that failed may be missing among those that have a key.
		if d.err = firstError(d.a.failure(), d.b.failure()); !ok || d.err != nil {
			return false
		}
		if d.moves++; d.moves%256 == 0 && d.ctx.Err() != nil {
			d.err = d.ctx.Err()
			return false
		}
		d.present.Key = append(d.present.Key[:0], key...)
		d.present.A, d.present.B = d.a.take(d.present.Key, d), d.b.take(d.present.Key, d)
		if a, b := d.present.A, d.present.B; d.err == nil && a != b && (a == nil || b == nil || a.LSN != b.LSN) {
			return true
		}
	}
	return false
}

// Difference returns what Next has found.
func (d *Diff) Difference() *Difference { return &d.present }

// Err tells after Next was false whether that was the end (nil).
func (d *Diff) Err() error {
	if d.err != nil {
		return fmt.Errorf("compare timeline %d at %d with %d at %d: %w", d.a.view.node.id, d.a.view.lsn, d.b.view.node.id, d.b.view.lsn, d.err)
	}
	return nil
}

// Close ends the walk.
func (d *Diff) Close() error { return firstError(d.a.close(), d.b.close()) }

// least returns the first key that any stream stands on.
func (d *Diff) least() (key []byte, ok bool) {
	for _, s := range [...]*diffSide{&d.a, &d.b} {
		for _, at := range [...][]byte{s.changed(), s.rest.user()} {
			if at != nil && (!ok || bytes.Compare(at, key) < 0) {
				key, ok = at, true
			}
		}
	}
	return key, ok
}

func (s *diffSide) first() {
	if s.changes != nil {
		s.changes.First()
	}
	s.rest.first()
}

// changed returns the key of the change that the side stands on, nil for none.
func (s *diffSide) changed() []byte {
	if s.changes == nil {
		return nil
	}
	return s.changes.User()
}

// take returns the value that the side has of a key, and moves past it.
func (s *diffSide) take(key []byte, d *Diff) *layers.Record {
	found, known := false, s.changes == nil
	if at := s.changed(); at != nil && bytes.Equal(at, key) {
		s.keep(s.changes.Record())
		known, found = true, s.rec.Kind != layers.KindTombstone
		s.changes.Next()
	} else if s.changes != nil && s.changes.Covered(key) > 0 {
		known = true
	}
	if at := s.rest.user(); at != nil && bytes.Equal(at, key) {
		if !found {
			s.keep(s.rest.scan.Record())
			known, found = true, true
		}
		s.rest.next()
	}
	if !known { // the same as at the common point
		rec, err := s.view.Get(d.ns, key)
		if s.rec, found = rec, err == nil; err != nil && !errors.Is(err, ErrNotFound) {
			d.err = err
		}
	}
	if !found {
		return nil
	}
	return &s.rec
}

func (s *diffSide) keep(rec *layers.Record) {
	s.rec, s.key = *rec, append(s.key[:0], rec.Key...)
	s.rec.Key = s.key
}

func (s *diffSide) failure() error {
	if s.changes != nil && s.changes.Err() != nil {
		return s.changes.Err()
	}
	return s.rest.err()
}

func (s *diffSide) close() error {
	err := s.rest.close()
	if s.changes != nil {
		err = firstError(s.changes.Close(), err)
	}
	return err
}

// rangedScan walks the keys of a view that have a value and lie in some of the
// given ranges, which are disjoint and sorted.
type rangedScan struct {
	ranges []layers.UserRange
	scan   *layers.Scan // nil without ranges
	on     bool
}

func newRangedScan(v *View, ns layers.Namespace, ranges []layers.UserRange) *rangedScan {
	s := &rangedScan{ranges: ranges}
	if len(ranges) > 0 {
		s.scan = v.Scan(ns, ranges[0].Lower, ranges[len(ranges)-1].Upper)
	}
	return s
}

func (s *rangedScan) first() {
	if s.scan != nil {
		s.settle(s.scan.First())
	}
}

func (s *rangedScan) next() { s.settle(s.scan.Next()) }

// settle goes on from where the scan stands (ok) to a key in a range.
func (s *rangedScan) settle(ok bool) {
	for ok {
		user := s.scan.Record().Key.User()
		for len(s.ranges) > 1 && bytes.Compare(s.ranges[0].Upper, user) <= 0 {
			s.ranges = s.ranges[1:]
		}
		if bytes.Compare(user, s.ranges[0].Lower) >= 0 {
			break // the scan ends with the last range
		}
		ok = s.scan.SeekGE(s.ranges[0].Lower)
	}
	s.on = ok
}

// user returns the key that the scan stands on, nil for none.
func (s *rangedScan) user() []byte {
	if !s.on {
		return nil
	}
	return s.scan.Record().Key.User()
}

func (s *rangedScan) err() error {
	if s.scan == nil {
		return nil
	}
	return s.scan.Err()
}

func (s *rangedScan) close() error {
	if s.scan == nil {
		return nil
	}
	s.on = false
	return s.scan.Close()
}
