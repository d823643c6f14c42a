package timeline

import (
	"fmt"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// retainer decides, record by record in record order, what a rewrite of layers
// keeps. The rules are those of package gc (docs/gc.md); what lies in layers it
// asks of one Version. Not safe for concurrent use.
type retainer struct {
	s       *Store
	snap    *treeSnapshot
	version *layers.Version
	// inputs are rewritten: what lies in them is not outside.
	inputs map[*layers.Layer]bool
	// prober looks into children; without one they count as reading everything.
	prober gc.Prober
	// maxProbes bounds the reads in children per record; zero: no bound.
	maxProbes int
	// bottom says that what is older of the keys of a main layer lies in the
	// inputs, or in history with its death: tombstones may go.
	bottom bool

	stones *layers.TombstoneSet // range tombstones of the inputs
	key    layers.Key
	// above is the LSN of the next newer version of key that ends what is below it:
	// wal.MaxLSN without one. A page delta ends nothing, a read above it needs both.
	above wal.LSN
}

// verdict is what becomes of a record.
type verdict struct {
	reason gc.Reason // why it is kept; gc.None: it goes
	// death is the LSN that ended the version; wal.MaxLSN: nothing did.
	death wal.LSN
}

func (v verdict) keep() bool { return v.reason != gc.None }

// maxProbes bounds the reads in children that one record of a background
// rewrite may cost. It is kept when they do not suffice.
const maxProbes = 64

func (s *Store) newRetainer(snap *treeSnapshot, v *layers.Version, inputs []*layers.Layer, exact bool) *retainer {
	k := &retainer{s: s, snap: snap, version: v, inputs: make(map[*layers.Layer]bool, len(inputs)), maxProbes: maxProbes}
	k.prober = k
	if exact {
		k.maxProbes = 0
	}
	var stones []layers.Record
	for _, l := range inputs {
		k.inputs[l] = true
		stones = append(stones, l.RangeTombstones()...)
	}
	k.stones = layers.NewTombstoneSet(stones)
	return k
}

// Oldest implements gc.Prober.
func (k *retainer) Oldest(t layers.TimelineID, suffix []byte) (wal.LSN, bool, error) {
	k.s.metrics.probes.Add(1)
	return k.version.Oldest(t, suffix)
}

// death returns the LSN that ended the version that follows in record order;
// wal.MaxLSN: nothing did.
func (k *retainer) death(r *layers.Record) wal.LSN {
	if k.key.Compare(r.Key) != 0 {
		k.key, k.above = append(k.key[:0], r.Key...), wal.MaxLSN
	}
	death := k.above
	if r.Death != 0 {
		death = min(death, r.Death)
	} else if c, ok := k.stones.CoveringAbove(r.Key, r.LSN); ok {
		death = min(death, c)
	}
	if r.Kind != layers.KindDelta {
		k.above = r.LSN
	}
	return death
}

// next decides on the record that follows in record order.
func (k *retainer) next(r *layers.Record) (verdict, error) {
	v := verdict{death: k.death(r)}
	id := r.Key.Timeline()
	switch {
	case id > k.snap.newest, r.LSN > k.snap.last:
		v.reason = gc.Unknown
		return v, nil
	case k.snap.Dead(id):
		return v, nil
	}
	var err error
	v.reason, err = k.snap.Need(id, r.Key.Suffix(), r.LSN, v.death, k.prober, k.maxProbes)
	if line, ok := k.snap.Line(id); err == nil && v.keep() && k.bottom && ok && r.LSN < line.Birth && (v.death != wal.MaxLSN || !line.Readable) {
		if v.death, err = k.endOfRolledUp(r, v.death); err == nil {
			v.reason, err = k.snap.Need(id, r.Key.Suffix(), r.LSN, v.death, k.prober, k.maxProbes)
		}
	}
	if err == nil && v.keep() && r.Kind == layers.KindTombstone && k.bottom {
		var idle bool
		if idle, err = k.hidesNothing(r); idle {
			v.reason = gc.None
		}
	}
	if err != nil {
		return v, fmt.Errorf("decide on %s at %d: %w", r.Key, r.LSN, err)
	}
	return v, nil
}

// endOfRolledUp returns what ended a record that a rollup brought, if that is
// older than end: alone among the records of a timeline it comes to a level
// after newer ones, its own and those of earlier rollups, and some of those may
// lie in history already; all of them, when the newest of a timeline went that is
// not readable any more.
func (k *retainer) endOfRolledUp(r *layers.Record, end wal.LSN) (wal.LSN, error) {
	user := r.Key.User()
	own := k.version.NewHistory(r.Key.Timeline(), r.Key.Namespace(), user, append(user[:len(user):len(user)], 0), r.LSN+1, end-1)
	for ok := own.First(); ok; ok = own.Next() {
		if own.Record().Kind != layers.KindDelta {
			end = min(end, own.Record().LSN)
		}
	}
	for _, t := range own.RangeTombstones() {
		end = min(end, t.LSN)
	}
	return end, firstError(own.Err(), own.Close())
}

// keepRange decides on a range tombstone of the inputs.
func (k *retainer) keepRange(r *layers.Record) (bool, error) {
	id := r.Key.Timeline()
	switch {
	case id > k.snap.newest:
		return true, nil
	case !k.snap.NeedFrom(id, r.LSN):
		return false, nil
	case !k.bottom:
		return true, nil
	}
	idle, err := k.hidesNothing(r)
	return !idle, err
}

// hidesNothing reports whether a tombstone, of a key or a range, can go although
// its timeline is read above it: nothing older of the timeline is left that it
// hides, what the timeline inherits has no value of the key, no difference must
// show it, and no ancestor has a value of the key.
//
// Values that are hidden in an ancestor, by its own tombstone, count: the very
// compaction that asks may drop that one, because nobody falls through to it yet.
func (k *retainer) hidesNothing(r *layers.Record) (bool, error) {
	id := r.Key.Timeline()
	uploads := r.Key.Namespace() == layers.NamespaceUploads // no differences, nothing inherited
	if !uploads && k.snap.DifferenceMayShow(id, r.LSN) {
		return false, nil
	}
	if older, err := k.olderOutside(r); older || err != nil {
		return false, err
	}
	n := k.s.tree.node(id)
	if n == nil || uploads {
		return true, nil
	}
	if nothing, err := k.nothingIn(n.inherited(k.version.Seq), nil, r); !nothing || err != nil {
		return false, err
	}
	relatives, branches := k.relatives(id)
	if k.maxProbes > 0 && len(relatives) > k.maxProbes {
		return false, nil
	}
	return k.nothingIn(relatives, branches, r)
}

// relatives returns the ancestors of a timeline, as the tree was, and where it
// branched from each. A merge may go to them, and a difference with them, or with
// what else branched from them, goes by what either side wrote since: what the
// timeline inherits may not show any more what it deleted, because a rollup has
// copied the rest, and yet the two have come to differ. Whoever verifies a rewrite
// must find the same, so that what is committed or dropped meanwhile does not count.
//
// Where moves led the bucket of an ancestor to a branch of it, from above the
// timeline's own, that is a relative, with what lies between the two.
func (k *retainer) relatives(id layers.TimelineID) (hops []layers.Hop, branches []wal.LSN) {
	branch := wal.MaxLSN
	for l, ok := k.snap.Line(id); ok; {
		up, lsn := l.Ancestor, l.BranchLSN
		next, known := k.snap.Line(up)
		if !known {
			up, lsn = l.ReadAncestor, l.ReadLSN
			next, known = k.snap.Line(up)
		}
		branch = min(branch, lsn)
		if known && next.Written {
			hops, branches = append(hops, layers.Hop{Timeline: up, UpTo: k.snap.last}), append(branches, branch)
		}
		if known && next.Moved != 0 {
			n := len(hops)
			hops = k.movedTo(next.Moved, up, branch, hops)
			for range len(hops) - n {
				branches = append(branches, branch)
			}
		}
		l, ok = next, known
	}
	return hops, branches
}

// movedTo appends the hops of what a bucket was moved to, by way of what it led to
// before, down to and without one of those, if it can be read and sees of that what was
// there at an LSN.
func (k *retainer) movedTo(target, left layers.TimelineID, branch wal.LSN, hops []layers.Hop) []layers.Hop {
	n, upTo := len(hops), k.snap.last
	l, ok := k.snap.Line(target)
	if !ok || !l.Readable {
		return hops
	}
	for ok && l.ID != left && (l.ID == target || l.Moved == target) && l.ReadAncestor != 0 {
		if l.Written {
			hops = append(hops, layers.Hop{Timeline: l.ID, UpTo: upTo})
		}
		upTo = min(upTo, l.BranchLSN)
		l, ok = k.snap.Line(l.Ancestor)
	}
	if !ok || l.ID != left || upTo < branch {
		return hops[:n]
	}
	return hops
}

// nothingIn reports whether no hop has a value, hidden or not, of what a tombstone
// deletes, or, with branches and of a key, anything at all above that of the hop.
func (k *retainer) nothingIn(hops []layers.Hop, branches []wal.LSN, r *layers.Record) (bool, error) {
	if len(hops) == 0 {
		return true, nil
	}
	if r.Kind == layers.KindRangeTombstone {
		return k.noneInRange(hops, r)
	}
	found := false
	err := k.version.Walk(hops, r.Key.Namespace(), r.Key.User(), func(in *layers.Record, hop int) bool {
		found = counts(in, branches, hop)
		return !found
	})
	if found || err != nil || branches == nil {
		return !found && err == nil, err
	}
	return k.neverIn(hops, r)
}

// neverIn reports whether no hop has a value of a key, not even one that has ended. What
// ended it may have gone, as nobody fell through to it past the tombstone: then a
// difference with somebody who reads the old value finds the tombstone alone.
func (k *retainer) neverIn(hops []layers.Hop, r *layers.Record) (bool, error) {
	user := r.Key.User()
	upper := append(user[:len(user):len(user)], 0)
	for _, h := range hops {
		it := k.version.NewHistory(h.Timeline, r.Key.Namespace(), user, upper, 1, h.UpTo)
		found := false
		for ok := it.First(); ok && !found; ok = it.Next() {
			found = counts(it.Record(), nil, 0)
		}
		if err := firstError(it.Err(), it.Close()); found || err != nil {
			return false, err
		}
	}
	return true, nil
}

// counts reports whether a record of a hop keeps a tombstone; see nothingIn.
func counts(in *layers.Record, branches []wal.LSN, hop int) bool {
	return in.Kind == layers.KindValue || in.Kind == layers.KindDelta || branches != nil && in.LSN > branches[hop]
}

// noneInRange is nothingIn for the range of a tombstone. It gives up where there are
// many point tombstones, unless there is no bound on probes.
func (k *retainer) noneInRange(hops []layers.Hop, r *layers.Record) (bool, error) {
	upper := r.End.User()
	if r.End.Namespace() != r.Key.Namespace() {
		upper = nil
	}
	left := k.maxProbes
	for _, h := range hops {
		it := k.version.NewHistory(h.Timeline, r.Key.Namespace(), r.Key.User(), upper, 1, h.UpTo)
		found := false
		for ok := it.First(); ok && !found; ok = it.Next() {
			left--
			found = counts(it.Record(), nil, 0) || left == 0
		}
		if err := firstError(it.Err(), it.Close()); found || err != nil {
			return false, err
		}
	}
	return true, nil
}

// olderOutside reports whether a main layer that is not rewritten may have
// something older that a tombstone hides. Memlayers have only what is newer than
// every input (see aheadOfMemory); history has deaths.
func (k *retainer) olderOutside(r *layers.Record) (bool, error) {
	hull := layers.KeyRange{Start: r.Key, End: r.End}
	hash := layers.HashTimeline(r.Key.Timeline())
	if r.Kind == layers.KindTombstone {
		hull.End, hash = append(r.Key[:len(r.Key):len(r.Key)], 0), layers.HashKey(r.Key)
	}
	for l := range k.version.All() {
		d := l.Desc()
		if k.inputs[l] || d.Kind == layers.HistoryLayer || d.MinLSN >= r.LSN || !d.Range.Overlaps(hull) {
			continue
		}
		if may, err := l.MayContain(hash); may || err != nil {
			return may, err
		}
	}
	return false, nil
}
