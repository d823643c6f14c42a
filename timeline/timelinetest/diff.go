package timelinetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// place is a bucket at an LSN; zero: its tip.
type place struct {
	name string
	at   wal.LSN
}

// view opens a place, and finds it in the oracle.
func (c *Checker) view(p place) (v *timeline.View, l *line, lsn wal.LSN, err error) {
	l, lsn = c.Oracle.names[p.name].line, c.Oracle.Last()
	if p.at != 0 {
		l, lsn = c.Oracle.names[p.name].resolve(p.at)
	}
	v, err = c.Store.View(context.Background(), p.name, p.at)
	return v, l, lsn, err
}

// Diff compares what a store says of the differences between two places with what
// there are: every key whose newest value is not the same commit's.
func (c *Checker) Diff(a, b place) error {
	va, la, lsnA, err := c.view(a)
	if err != nil {
		return c.refused(a, err)
	}
	defer va.Close()
	vb, lb, lsnB, err := c.view(b)
	if err != nil {
		return c.refused(b, err)
	}
	defer vb.Close()
	for _, ns := range []layers.Namespace{layers.NamespaceObjects, layers.NamespaceVersions} {
		lower, upper := "", ""
		if c.Rand.IntN(3) == 0 {
			lower, upper = randomBounds(c.Rand, ns)
		}
		d := c.Store.Diff(context.Background(), va, vb, ns, bound(lower), bound(upper))
		err := c.diff(d, ns, lower, upper, la, lsnA, lb, lsnB)
		if err = errors.Join(err, d.Err(), d.Close()); err != nil {
			return fmt.Errorf("diff %02x [%q, %q) of %q (timeline %d at %d) and %q (timeline %d at %d), related %v: %w",
				byte(ns), lower, upper, a.name, la.id, lsnA, b.name, lb.id, lsnB, d.Related(), err)
		}
		c.Count.Add(fmt.Sprintf("diff, related %v", d.Related()))
	}
	return nil
}

// refused lets pass what may not be read.
func (c *Checker) refused(p place, err error) error {
	if c.Oracle.readable(c.Oracle.names[p.name], p.at, c.Store.CollectedLSN()) != nil {
		return nil
	}
	return err
}

func bound(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func (c *Checker) diff(d *timeline.Diff, ns layers.Namespace, lower, upper string, la *line, lsnA wal.LSN, lb *line, lsnB wal.LSN) error {
	found := func(l *line, lsn wal.LSN) map[string]Found {
		m := make(map[string]Found)
		for _, f := range l.Scan(lsn, ns, lower, upper) {
			m[f.Key] = f
		}
		return m
	}
	as, bs := found(la, lsnA), found(lb, lsnB)
	var keys []string
	for key := range maps.Keys(as) {
		if other, ok := bs[key]; !ok || other.LSN != as[key].LSN {
			keys = append(keys, key)
		}
	}
	for key := range maps.Keys(bs) {
		if _, ok := as[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	one := func(rec *layers.Record, all map[string]Found, key string) error {
		want, ok := all[key]
		switch {
		case ok != (rec != nil):
			return fmt.Errorf("%q: value %v, want %v", key, rec != nil, ok)
		case !ok:
			return nil
		}
		return c.record(rec, pointKey{ns, key}, want.Version, want.owner)
	}
	for _, key := range keys {
		if !d.Next() {
			return errors.Join(d.Err(), fmt.Errorf("ends before %q", key))
		}
		got := d.Difference()
		if string(got.Key) != key {
			return fmt.Errorf("%q, want %q", got.Key, key)
		}
		if err := errors.Join(one(got.A, as, key), one(got.B, bs, key)); err != nil {
			return err
		}
		c.Count.Add("difference")
	}
	if d.Next() {
		return fmt.Errorf("%q, want the end", d.Difference().Key)
	}
	return nil
}

// someDiff compares two random places, most often of one family.
func (c *Checker) someDiff() error {
	names := c.Oracle.Names()
	pick := func() place {
		p := place{name: names[c.Rand.IntN(len(names))]}
		if c.Rand.IntN(2) == 0 {
			p.at = c.RetainedLSN(p.name)
		}
		return p
	}
	a, b := pick(), pick()
	for range 4 {
		if c.Oracle.names[a.name].line.first() == c.Oracle.names[b.name].line.first() {
			break
		}
		b = pick()
	}
	return c.Diff(a, b)
}

// first returns the oldest timeline of the lineage.
func (l *line) first() *line {
	for l.ancestor != nil {
		l = l.ancestor
	}
	return l
}
