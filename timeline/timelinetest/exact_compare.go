package timelinetest

import (
	"context"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// present is what a store has.
type present struct {
	points     map[physical]layers.Kind
	where      map[physical]string
	ranges     []layers.Record
	handles    map[layers.Handle]bool
	tombstones int
	copies     int
}

func (n *needs) visit(s *timeline.Store) (*present, error) {
	found := &present{points: make(map[physical]layers.Kind), where: make(map[physical]string), handles: make(map[layers.Handle]bool)}
	err := s.VisitRecords(func(d *layers.Desc, r *layers.Record) error {
		if r.Kind == layers.KindRangeTombstone {
			c := *r
			c.Key, c.End = slices.Clone(r.Key), slices.Clone(r.End)
			found.ranges = append(found.ranges, c)
			return nil
		}
		if d == nil {
			return fmt.Errorf("record %s at %d is in a memlayer", r.Key, r.LSN)
		}
		p := physical{r.Key.Timeline(), pointKey{r.Key.Namespace(), string(r.Key.User())}, r.LSN}
		if _, twice := found.points[p]; twice {
			return fmt.Errorf("record %v is there twice", p)
		}
		found.points[p] = r.Kind
		found.where[p] = fmt.Sprintf("%s layer %d of level %d, death %d", d.Kind, d.Num, d.Level, r.Death)
		if err := s.Values().EachHandle(context.Background(), r.Body, func(h layers.Handle) error {
			found.handles[h] = true
			return nil
		}); err != nil {
			return fmt.Errorf("record %v: %w", p, err)
		}
		return n.same(p, r)
	})
	return found, err
}

// same compares a record with the one that was written.
func (n *needs) same(p physical, r *layers.Record) error {
	l := n.byID[p.id]
	if l == nil {
		return fmt.Errorf("record %v of a timeline that is not in the tree", p)
	}
	e := l.find(p.key, p.lsn).first()
	if p.lsn < l.birth { // a copy
		l.rolled(func(from *line, upTo wal.LSN) bool {
			for _, c := range from.own(nil, p.key, upTo) {
				if e = c; e.lsn == p.lsn {
					return false
				}
			}
			return true
		})
	}
	if e.kind != r.Kind || e.lsn != p.lsn || e.v.Meta != string(r.Meta) {
		return fmt.Errorf("record %v, kind %d, %.40q: nobody wrote that; there is kind %d, %.40q at %d", p, r.Kind, r.Meta, e.kind, e.v.Meta, e.lsn)
	}
	return nil
}

func (n *needs) compare(found *present) error {
	var wrong []string
	say := func(p physical, format string, args ...any) {
		l := n.byID[p.id]
		wrong = append(wrong, fmt.Sprintf("%v %s ", p, found.where[p])+fmt.Sprintf(format, args...)+
			fmt.Sprintf("; timeline of %q: deleted %v, readable %v from %d, birth %d, pins %d, reads on in %d at %d, read at %d",
				l.bucket.name, l.bucket.deleted, l.readable, l.cutoff, l.birth, l.pins, l.state.ReadAncestor, l.state.ReadLSN, l.reads[p.key]))
	}
	for p, kind := range found.points {
		why, needed := n.tombstones[p]
		l := n.byID[p.id]
		switch {
		case kind != layers.KindTombstone && !n.values[p]:
			say(p, "is there, and nobody can read it")
		case kind == layers.KindTombstone && !needed:
			say(p, "is a tombstone that nobody meets")
		case kind == layers.KindTombstone && why == goes:
			say(p, "is a tombstone that hides nothing")
		}
		if kind == layers.KindTombstone {
			found.tombstones++
		}
		if p.lsn < l.birth {
			found.copies++
		}
	}
	for p := range n.values {
		if kind := found.points[p]; kind != layers.KindValue && kind != layers.KindDelta {
			say(p, "is lost")
		}
	}
	for p, why := range n.tombstones {
		if why == must && found.points[p] != layers.KindTombstone && p.lsn >= n.byID[p.id].birth {
			say(p, "is a tombstone that is lost, %s", n.whyMust(p))
		}
	}
	if err := n.compareRanges(found); err != nil {
		wrong = append(wrong, err.Error())
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("horizon %d: %d records too many or too few:\n%s", n.o.horizon, len(wrong), joinFew(wrong))
}

func joinFew(lines []string) (s string) {
	for _, l := range lines[:min(len(lines), 8)] {
		s += "  " + l + "\n"
	}
	return s
}

// ended reports whether a tombstone was superseded: it lies in a history layer,
// and stays there as long as a main layer may have the key.
func (n *needs) ended(l *needLine, p physical) bool {
	s := l.find(p.key, wal.MaxLSN)
	return s.ends() && s[len(s)-1].lsn > p.lsn
}

// compareRanges looks for range tombstones that hide nothing. What they are cut
// at is up to the store.
func (n *needs) compareRanges(found *present) error {
	for i := range found.ranges {
		r := &found.ranges[i]
		l := n.byID[r.Key.Timeline()]
		if l == nil {
			return fmt.Errorf("range tombstone from %s of a timeline that is not in the tree", r.Key)
		}
		k, end := pointKey{r.Key.Namespace(), string(r.Key.User())}, string(r.End.User())
		if !l.wrote(k, end, r.LSN) {
			return fmt.Errorf("range tombstone [%s, %s) at %d: nobody wrote that; it was written to %v, and below it is %+v, birth %d", r.Key, r.End, r.LSN, n.writers(r.LSN), l.state, l.birth)
		}
		if !n.readFrom(l, r.LSN) {
			return fmt.Errorf("range tombstone [%s, %s) at %d: nobody reads the timeline there", r.Key, r.End, r.LSN)
		}
		hides := n.differenceMayShow(l, r.LSN) || slices.ContainsFunc(n.keys, func(have pointKey) bool {
			return have.ns == k.ns && have.ns != layers.NamespaceUploads && have.key >= k.key && have.key < end && (n.mayInherit(l, have) || n.mergeMayNeed(l, have))
		})
		if !hides {
			return fmt.Errorf("range tombstone [%s, %s) at %d hides nothing", r.Key, r.End, r.LSN)
		}
	}
	return nil
}

// writers returns who deleted ranges at an LSN.
func (n *needs) writers(lsn wal.LSN) (list []string) {
	for id, l := range n.o.timelines {
		for _, r := range l.ranges {
			if r.lsn == lsn {
				list = append(list, fmt.Sprintf("%d: %02x [%q, %q)", id, byte(r.ns), r.lo, r.hi))
			}
		}
	}
	return list
}

// wrote reports whether [k, end) lies in a range that l, or what was rolled up
// under it, deleted at an LSN.
func (l *needLine) wrote(k pointKey, end string, lsn wal.LSN) bool {
	// Pieces of one commit that lie side by side are as good as one.
	in := func(n *line) bool {
		at := k.key
		for reached := true; reached && at < end; {
			reached = false
			for _, r := range n.ranges {
				if r.lsn == lsn && r.ns == k.ns && r.lo <= at && at < r.hi {
					at, reached = r.hi, true
				}
			}
		}
		return at >= end
	}
	ok := in(l.line)
	l.rolled(func(from *line, upTo wal.LSN) bool {
		ok = ok || lsn <= upTo && in(from)
		return !ok
	})
	return ok
}
