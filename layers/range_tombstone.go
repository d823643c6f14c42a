package layers

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"stemma/wal"
)

// ClipTombstone returns the part of a range tombstone that lies in bounds; ok is
// false when none does. The keys of the result alias those of r and bounds.
func ClipTombstone(r Record, bounds KeyRange) (_ Record, ok bool) {
	if r.Key.Compare(bounds.Start) < 0 {
		r.Key = bounds.Start
	}
	if bounds.End != nil && r.End.Compare(bounds.End) > 0 {
		r.End = bounds.End
	}
	return r, r.Key.Compare(r.End) < 0
}

// JoinTombstones sorts range tombstones by LSN, then key, and makes one of those
// that have the same LSN and overlap or touch: what hides the same keys to the same
// LSNs comes out the same, however it was cut. It uses the slice of records again.
func JoinTombstones(records []Record) []Record {
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.LSN, b.LSN), a.Key.Compare(b.Key), a.End.Compare(b.End))
	})
	joined := records[:0]
	for _, r := range records {
		if n := len(joined) - 1; n >= 0 && joined[n].LSN == r.LSN && joined[n].End.Compare(r.Key) >= 0 {
			if joined[n].End.Compare(r.End) < 0 {
				joined[n].End = r.End
			}
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// tombstoneSpan is all range tombstones with the same bounds.
type tombstoneSpan struct {
	start, end Key
	lsns       []wal.LSN // descending, no repeats, at least one
}

// compare orders spans by start, then end.
func (s *tombstoneSpan) compare(o *tombstoneSpan) int {
	if c := s.start.Compare(o.start); c != 0 {
		return c
	}
	return s.end.Compare(o.end)
}

// TombstoneSet is an immutable set of range tombstones that finds those over a
// key. Safe for concurrent use. It is an interval tree, implicit in a sorted
// slice. Spans may overlap. (Cut into disjoint fragments, n tombstones could become
// n²: 10,000 deletions of a prefix and one of each of 10,000 longer ones make 100
// million.)
type TombstoneSet struct {
	n     int             // tombstones
	spans []tombstoneSpan // by start, then end
	// tree[m] covers the subtree whose root is spans[m]; that of spans[lo:hi] is (lo+hi)/2.
	tree []tombstoneNode
}

type tombstoneNode struct {
	maxEnd         Key
	minLSN, maxLSN wal.LSN
}

// NewTombstoneSet makes the set of range tombstones in any order, repeats
// allowed. It aliases their keys.
func NewTombstoneSet(records []Record) *TombstoneSet {
	return tombstonesFrom(slices.Clone(records))
}

// tombstonesOf makes the set of spans, which must be in order.
func tombstonesOf(spans []tombstoneSpan) *TombstoneSet {
	s := &TombstoneSet{spans: spans, tree: make([]tombstoneNode, len(spans))}
	for i := range spans {
		s.n += len(spans[i].lsns)
	}
	s.build(0, len(spans))
	return s
}

// mergeTombstones makes the set of both.
func mergeTombstones(a, b *TombstoneSet) *TombstoneSet {
	spans := make([]tombstoneSpan, 0, len(a.spans)+len(b.spans))
	x, y := a.spans, b.spans
	for len(x) > 0 && len(y) > 0 {
		switch c := x[0].compare(&y[0]); {
		case c < 0:
			spans, x = append(spans, x[0]), x[1:]
		case c > 0:
			spans, y = append(spans, y[0]), y[1:]
		default:
			l := slices.Concat(x[0].lsns, y[0].lsns)
			slices.SortFunc(l, func(a, b wal.LSN) int { return cmp.Compare(b, a) })
			spans = append(spans, tombstoneSpan{start: x[0].start, end: x[0].end, lsns: slices.Compact(l)})
			x, y = x[1:], y[1:]
		}
	}
	return tombstonesOf(append(append(spans, x...), y...))
}

// tombstonesFrom makes the set of records in any order, repeats allowed. It sorts
// them and aliases their keys.
func tombstonesFrom(records []Record) *TombstoneSet {
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(a.Key.Compare(b.Key), a.End.Compare(b.End), cmp.Compare(b.LSN, a.LSN))
	})
	var spans []tombstoneSpan
	for i := range records {
		r := &records[i]
		one := tombstoneSpan{start: r.Key, end: r.End}
		if n := len(spans); n == 0 || spans[n-1].compare(&one) != 0 {
			one.lsns = []wal.LSN{r.LSN}
			spans = append(spans, one)
		} else if l := spans[n-1].lsns; l[len(l)-1] != r.LSN {
			spans[n-1].lsns = append(l, r.LSN)
		}
	}
	return tombstonesOf(spans)
}

// build fills the tree over spans[lo:hi] and returns its root.
func (s *TombstoneSet) build(lo, hi int) *tombstoneNode {
	if lo == hi {
		return nil
	}
	m := int(uint(lo+hi) / 2)
	n, sp := &s.tree[m], &s.spans[m]
	n.maxEnd, n.minLSN, n.maxLSN = sp.end, sp.lsns[len(sp.lsns)-1], sp.lsns[0]
	for _, child := range [2]*tombstoneNode{s.build(lo, m), s.build(m+1, hi)} {
		if child == nil {
			continue
		}
		if child.maxEnd.Compare(n.maxEnd) > 0 {
			n.maxEnd = child.maxEnd
		}
		n.minLSN, n.maxLSN = min(n.minLSN, child.minLSN), max(n.maxLSN, child.maxLSN)
	}
	return n
}

// Covering returns the highest LSN at or below upTo of a tombstone over key; it
// hides the records of key at lower LSNs.
func (s *TombstoneSet) Covering(key Key, upTo wal.LSN) (lsn wal.LSN, ok bool) {
	lsn = s.covering(key, upTo)
	return lsn, lsn != 0
}

// CoveringAbove returns the lowest LSN strictly above lsn of a tombstone over
// key: what ends a record of key at lsn, unless another record does before.
func (s *TombstoneSet) CoveringAbove(key Key, lsn wal.LSN) (_ wal.LSN, ok bool) {
	best := s.searchAbove(0, len(s.spans), key, lsn, math.MaxUint64)
	return best, best != math.MaxUint64
}

// searchAbove is CoveringAbove in spans[lo:hi]; best was found elsewhere.
func (s *TombstoneSet) searchAbove(lo, hi int, key Key, lsn, best wal.LSN) wal.LSN {
	for lo < hi {
		m := int(uint(lo+hi) / 2)
		n, sp := &s.tree[m], &s.spans[m]
		if n.maxLSN <= lsn || n.minLSN >= best || n.maxEnd.Compare(key) <= 0 {
			return best
		}
		if sp.start.Compare(key) > 0 {
			hi = m
			continue
		}
		if sp.end.Compare(key) > 0 {
			if i := sort.Search(len(sp.lsns), func(i int) bool { return sp.lsns[i] <= lsn }); i > 0 {
				best = min(best, sp.lsns[i-1])
			}
		}
		best = s.searchAbove(lo, m, key, lsn, best)
		lo = m + 1
	}
	return best
}

// covering returns the greatest LSN at or below upTo of a tombstone over key,
// or zero.
func (s *TombstoneSet) covering(key Key, upTo wal.LSN) wal.LSN {
	return s.search(0, len(s.spans), key, upTo, 0)
}

// search is covering in spans[lo:hi]; best was found elsewhere.
func (s *TombstoneSet) search(lo, hi int, key Key, upTo, best wal.LSN) wal.LSN {
	for lo < hi {
		m := int(uint(lo+hi) / 2)
		n, sp := &s.tree[m], &s.spans[m]
		if n.minLSN > upTo || n.maxLSN <= best || n.maxEnd.Compare(key) <= 0 {
			return best
		}
		if sp.start.Compare(key) > 0 {
			hi = m
			continue
		}
		if sp.end.Compare(key) > 0 {
			if i := sort.Search(len(sp.lsns), func(i int) bool { return sp.lsns[i] <= upTo }); i < len(sp.lsns) {
				best = max(best, sp.lsns[i])
			}
		}
		best = s.search(lo, m, key, upTo, best)
		lo = m + 1
	}
	return best
}

// maxEnd returns the greatest end of a set that is not empty.
func (s *TombstoneSet) maxEnd() Key { return s.tree[len(s.spans)/2].maxEnd }

// appendRecords appends the tombstones as records, in order.
func (s *TombstoneSet) appendRecords(dst []Record) []Record {
	for i := range s.spans {
		sp := &s.spans[i]
		for _, l := range sp.lsns {
			dst = append(dst, Record{Key: sp.start, End: sp.end, LSN: l, Kind: KindRangeTombstone})
		}
	}
	return dst
}
