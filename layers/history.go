package layers

import (
	"cmp"
	"slices"

	"stemma/wal"
)

// History walks the own records of one timeline in a key range and an LSN range,
// tombstones and superseded ones included, those of history layers too, in record
// order. It is an Iterator of
// point records; range tombstones are listed apart. The Version must stay
// acquired until Close.
type History struct {
	it       Iterator
	bounds   KeyRange
	min, max wal.LSN
	stones   []Record
	err      error
}

// NewHistory returns the history of the user keys in [lower, upper), a nil upper
// being none, with LSNs from minLSN to maxLSN inclusive. Blocks outside of the
// LSN range are not read. It is not positioned.
func (v *Version) NewHistory(t TimelineID, ns Namespace, lower, upper []byte, minLSN, maxLSN wal.LSN) *History {
	return v.newHistory(userRange(t, ns, lower, upper), IterOptions{MinLSN: minLSN, MaxLSN: maxLSN}, 0)
}

// newHistory is NewHistory of a key range. Unless alive is zero, history layers
// whose records all died at or below it are left out.
func (v *Version) newHistory(r KeyRange, o IterOptions, alive wal.LSN) *History {
	h := &History{bounds: r, min: o.MinLSN, max: o.MaxLSN}
	var iters []Iterator
	if r.Start.Compare(r.End) < 0 && o.MinLSN <= o.MaxLSN && o.MaxLSN > 0 {
		var sources []source
		sources, h.err = v.sources(r, o, alive)
		for _, s := range sources {
			iters = append(iters, s.it)
		}
		h.stones = v.rangeTombstones(r, o.MinLSN, o.MaxLSN)
	}
	h.it = NewMergeIterator(iters)
	return h
}

// RangeTombstones lists the range tombstones in the range of LSNs, clipped to the
// range of keys, by key, end, then LSN descending. They may overlap.
func (h *History) RangeTombstones() []Record { return h.stones }

// rangeTombstones collects what lies in r; pieces of one that was cut between
// files are joined again.
func (v *Version) rangeTombstones(r KeyRange, minLSN, maxLSN wal.LSN) []Record {
	var all []Record
	add := func(rs []Record) {
		for i := range rs {
			if rs[i].LSN < minLSN || rs[i].LSN > maxLSN {
				continue
			}
			if c, ok := ClipTombstone(rs[i], r); ok {
				all = append(all, c)
			}
		}
	}
	for _, m := range v.Mem {
		add(m.RangeTombstones())
	}
	for _, l := range v.l0Tombstones {
		if l.Desc().Range.Overlaps(r) {
			add(l.RangeTombstones())
		}
	}
	for level, some := range v.levelTombstones {
		if some {
			for _, l := range overlapping(v.Levels[level], r) {
				add(l.RangeTombstones())
			}
		}
	}
	joined := JoinTombstones(all)
	slices.SortFunc(joined, func(a, b Record) int {
		return cmp.Or(a.Key.Compare(b.Key), a.End.Compare(b.End), cmp.Compare(b.LSN, a.LSN))
	})
	return joined
}

// SeekGE implements Iterator.
func (h *History) SeekGE(key Key, lsn wal.LSN) bool {
	if key.Compare(h.bounds.Start) < 0 {
		return h.First()
	}
	return h.forward(h.ok() && h.it.SeekGE(key, lsn))
}

// SeekLT implements Iterator.
func (h *History) SeekLT(key Key, lsn wal.LSN) bool {
	if key.Compare(h.bounds.End) >= 0 {
		return h.Last()
	}
	return h.backward(h.ok() && h.it.SeekLT(key, lsn))
}

// First implements Iterator.
func (h *History) First() bool { return h.forward(h.ok() && h.it.SeekGE(h.bounds.Start, wal.MaxLSN)) }

// Last implements Iterator.
func (h *History) Last() bool { return h.backward(h.ok() && h.it.SeekLT(h.bounds.End, wal.MaxLSN)) }

// Next implements Iterator.
func (h *History) Next() bool { return h.forward(h.ok() && h.it.Next()) }

// Prev implements Iterator.
func (h *History) Prev() bool { return h.backward(h.ok() && h.it.Prev()) }

// ok reports whether nothing failed when the history was made.
func (h *History) ok() bool { return h.err == nil }

// forward goes on from where the merge stands (ok) to a record within the bounds.
func (h *History) forward(ok bool) bool {
	for n := 1; ok; n++ {
		rec := h.it.Record()
		switch {
		case rec.Key.Compare(h.bounds.End) >= 0:
			return false
		case rec.Key.Compare(h.bounds.Start) < 0:
			ok = h.it.SeekGE(h.bounds.Start, h.max)
		case rec.LSN >= h.min && rec.LSN <= h.max:
			return true
		case n%fewSteps != 0:
			ok = h.it.Next()
		case rec.LSN > h.max:
			ok = h.it.SeekGE(slices.Clone(rec.Key), h.max)
		default: // the rest of the key is older still
			ok = h.it.SeekGE(append(slices.Clone(rec.Key), 0), h.max)
		}
	}
	return false
}

// backward is forward in the other direction.
func (h *History) backward(ok bool) bool {
	for n := 1; ok; n++ {
		rec := h.it.Record()
		switch {
		case rec.Key.Compare(h.bounds.Start) < 0:
			return false
		case rec.Key.Compare(h.bounds.End) >= 0:
			ok = h.it.SeekLT(h.bounds.End, wal.MaxLSN)
		case rec.LSN >= h.min && rec.LSN <= h.max:
			return true
		case n%fewSteps != 0:
			ok = h.it.Prev()
		case rec.LSN > h.max: // what lies before of the key is newer still
			ok = h.it.SeekLT(slices.Clone(rec.Key), wal.MaxLSN)
		default:
			ok = h.it.SeekLT(slices.Clone(rec.Key), h.min-1)
		}
	}
	return false
}

// Record implements Iterator.
func (h *History) Record() *Record { return h.it.Record() }

// Err implements Iterator.
func (h *History) Err() error {
	if h.err != nil {
		return h.err
	}
	return h.it.Err()
}

// Close implements Iterator.
func (h *History) Close() error { return h.it.Close() }
