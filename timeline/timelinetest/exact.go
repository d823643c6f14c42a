package timelinetest

import (
	"fmt"
	"slices"
	"strings"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Exact compares what a store has after CollectFull, record by record, with what
// somebody can read: every read that is allowed is made on the oracle, through
// the read pairs of the tree, and what none of them finds must be gone. Nothing
// may have been written since, and nobody may read meanwhile.
// restarted says that the store was opened since.
func (c *Checker) Exact(restarted bool) error {
	n, err := newNeeds(c.Oracle, c.Store.TreeLines())
	if err != nil {
		return err
	}
	n.readAll()
	n.findTombstones()
	found, err := n.visit(c.Store)
	if err != nil {
		return err
	}
	if err := n.compare(found); err != nil {
		return err
	}
	if err := n.checkTree(); err != nil {
		return err
	}
	c.Count.Add("exact")
	c.Count.AddN("exact: values", int64(len(n.values)))
	c.Count.AddN("exact: tombstones", int64(found.tombstones))
	c.Count.AddN("exact: range tombstones", int64(len(found.ranges)))
	c.Count.AddN("exact: copies by rollups", int64(found.copies))
	return c.segments(found.handles, restarted)
}

// needs is who reads what.
type needs struct {
	o    *Oracle
	tree []*needLine // by id
	byID map[layers.TimelineID]*needLine
	keys []pointKey // all there ever were

	values     map[physical]bool    // needed
	tombstones map[physical]keep    // needed
	met        map[physical]bool    // tombstones; see readLoosely
	lowest     map[physical]wal.LSN // of the needed values of a key, by timeline; the key's own lsn is zero
}

// keep says what becomes of a needed tombstone.
type keep byte

const (
	goes keep = iota
	// may: it hides nothing, but what it stands above has a value of the key that
	// is hidden there already. Whether that counts is up to the store.
	may
	must
)

// physical names a point record by the timeline under which it lies.
type physical struct {
	id  layers.TimelineID
	key pointKey
	lsn wal.LSN
}

func (p physical) String() string {
	return fmt.Sprintf("%d/%02x/%.40q at %d", p.id, byte(p.key.ns), p.key.key, p.lsn)
}

// needLine is a timeline of the tree.
type needLine struct {
	*line
	state    timeline.TreeLine
	readable bool
	cutoff   wal.LSN
	pins     []wal.LSN // of snapshots and leases
	alive    bool      // somebody reads it
	living   bool      // it or a descendant of either sort is read
	children []*needLine
	// reads are the LSNs at which read children that fall through read a key,
	// loose those of children that would if they had no tombstones.
	reads, loose map[pointKey][]wal.LSN
}

func newNeeds(o *Oracle, tree []timeline.TreeLine) (*needs, error) {
	n := &needs{
		o: o, byID: make(map[layers.TimelineID]*needLine),
		values: make(map[physical]bool), tombstones: make(map[physical]keep), met: make(map[physical]bool),
	}
	for _, t := range tree {
		l := o.timelines[t.ID]
		if l == nil {
			return nil, fmt.Errorf("timeline %d is not known", t.ID)
		}
		nl := &needLine{line: l, state: t, readable: !l.dropped, cutoff: l.cutoff(o.horizon), reads: make(map[pointKey][]wal.LSN), loose: make(map[pointKey][]wal.LSN)}
		n.tree, n.byID[t.ID] = append(n.tree, nl), nl
	}
	for id, l := range o.timelines {
		if !l.dropped && n.byID[id] == nil {
			return nil, fmt.Errorf("timeline %d of %q is not in the tree", id, l.bucket.name)
		}
	}
	for _, p := range o.snaps {
		nl := n.byID[p.Timeline]
		if nl == nil {
			return nil, fmt.Errorf("timeline %d is pinned, but not in the tree", p.Timeline)
		}
		nl.pins = append(nl.pins, p.LSN)
	}
	for k, until := range o.leases {
		if nl := n.byID[k.id]; nl != nil && until >= o.now {
			nl.pins = append(nl.pins, k.lsn)
		}
	}
	keys := make(map[pointKey]bool)
	for _, l := range o.timelines {
		for k := range l.points {
			keys[k] = true
		}
	}
	for k := range keys {
		n.keys = append(n.keys, k)
	}
	slices.SortFunc(n.keys, comparePointKeys)
	// Children have higher ids than what they read, and than their ancestors.
	for _, nl := range slices.Backward(n.tree) {
		nl.alive = nl.alive || nl.readable || len(nl.pins) > 0
		nl.living = nl.living || nl.alive
		if p := n.byID[nl.state.ReadAncestor]; p != nil && nl.alive {
			p.alive = true
			p.children = append(p.children, nl)
		} else if nl.state.ReadAncestor != 0 && p == nil {
			return nil, fmt.Errorf("timeline %d reads on in %d, which is not in the tree", nl.id, nl.state.ReadAncestor)
		}
		for _, id := range []layers.TimelineID{nl.state.ReadAncestor, nl.state.Ancestor} {
			if p := n.byID[id]; p != nil && nl.living {
				p.living = true
			}
		}
	}
	return n, nil
}

// met is a record that a search for a key meets.
type met struct {
	kind layers.Kind
	lsn  wal.LSN
	v    Version
	from *line // whose record it was at first
}

// stack is what a search for a key meets, newest first: all but the last are
// deltas. The search ends unless the last one is a delta, too.
type stack []met

func (s stack) ends() bool { return len(s) > 0 && s[len(s)-1].kind != layers.KindDelta }

// first returns the newest record; its kind is zero when there is none.
func (s stack) first() met {
	if len(s) == 0 {
		return met{}
	}
	return s[0]
}

// own appends what a search for k at or below an LSN meets of l.
func (l *line) own(s stack, k pointKey, at wal.LSN) stack {
	var hidden wal.LSN
	for _, r := range l.ranges {
		if r.ns == k.ns && r.lsn <= at && r.lo <= k.key && k.key < r.hi {
			hidden = max(hidden, r.lsn)
		}
	}
	for _, v := range slices.Backward(l.points[k]) {
		if v.LSN > at {
			continue
		}
		if v.LSN < hidden {
			break
		}
		if s = append(s, met{v.Kind, v.LSN, v, l}); v.Kind != layers.KindDelta {
			return s
		}
	}
	if hidden > 0 {
		s = append(s, met{kind: layers.KindRangeTombstone, lsn: hidden, from: l})
	}
	return s
}

// rolled walks the timelines whose records rollups copied under l.
func (l *needLine) rolled(visit func(from *line, upTo wal.LSN) (more bool)) {
	at := wal.MaxLSN
	for n := l.line; n.ancestor != nil && n.ancestor.id != l.state.ReadAncestor; n = n.ancestor {
		if at = min(at, n.branch); !visit(n.ancestor, at) {
			return
		}
	}
}

// find returns what under l a search for k at or below an LSN meets: of its own, and
// copies. Reads are at or above its birth, copies below.
func (l *needLine) find(k pointKey, at wal.LSN) stack {
	s := l.own(nil, k, at)
	if s.ends() || k.ns == layers.NamespaceUploads {
		return s
	}
	l.rolled(func(from *line, upTo wal.LSN) bool {
		s = from.own(s, k, upTo)
		return !s.ends()
	})
	return s
}

// readAll makes every read there is: children before what they read.
func (n *needs) readAll() {
	for _, l := range slices.Backward(n.tree) {
		for _, k := range n.keys {
			if k.ns == layers.NamespaceUploads {
				n.upload(l, k)
				continue
			}
			through := false
			for _, at := range n.readsOf(l, k) {
				s := l.find(k, at)
				for _, e := range s {
					p := physical{l.id, k, e.lsn}
					switch e.kind {
					case layers.KindValue, layers.KindDelta:
						n.values[p] = true
					case layers.KindTombstone:
						n.tombstones[p] = goes
					}
				}
				through = through || !s.ends()
			}
			if p := n.byID[l.state.ReadAncestor]; through && p != nil {
				p.reads[k] = append(p.reads[k], l.state.ReadLSN)
			}
			n.readLoosely(l, k)
		}
	}
}

// readLoosely finds tombstones that are met only where others, which hide
// nothing, are gone, with values that only they hid: those of a range before a rollup
// copied what they had hidden. What of l is needed is known.
func (n *needs) readLoosely(l *needLine, k pointKey) {
	l.rolled(func(from *line, upTo wal.LSN) bool {
		for _, e := range from.own(nil, k, upTo) {
			if e.kind == layers.KindTombstone {
				n.met[physical{l.id, k, e.lsn}] = true
			}
		}
		return true
	})
	through := false
	for _, at := range append(n.readsOf(l, k), l.loose[k]...) {
		s := l.find(k, at)
		ends := false
		for _, e := range s {
			if e.kind == layers.KindTombstone {
				n.met[physical{l.id, k, e.lsn}] = true
			}
			ends = e.kind == layers.KindValue && n.values[physical{l.id, k, e.lsn}]
		}
		through = through || !ends
	}
	if p := n.byID[l.state.ReadAncestor]; through && p != nil {
		p.loose[k] = append(p.loose[k], l.state.ReadLSN)
	}
}

// readsOf returns the LSNs at which l is read for k: of those that find the same
// one is enough.
func (n *needs) readsOf(l *needLine, k pointKey) []wal.LSN {
	reads := append(slices.Clone(l.pins), l.reads[k]...)
	if !l.readable {
		return reads
	}
	low := max(l.cutoff, l.birth)
	reads = append(reads, low, wal.MaxLSN)
	for _, v := range l.points[k] {
		if v.LSN > low {
			reads = append(reads, v.LSN)
		}
	}
	for _, r := range l.ranges {
		if r.lsn > low {
			reads = append(reads, r.lsn)
		}
	}
	return reads
}

// upload: no history, no pins, no children.
func (n *needs) upload(l *needLine, k pointKey) {
	if !l.readable {
		return
	}
	for i, v := range l.points[k] {
		death := wal.MaxLSN
		if i+1 < len(l.points[k]) {
			death = l.points[k][i+1].LSN
		}
		for _, r := range l.ranges {
			if r.ns == k.ns && r.lsn > v.LSN && r.lo <= k.key && k.key < r.hi {
				death = min(death, r.lsn)
			}
		}
		switch {
		case death <= n.o.horizon:
		case v.Kind == layers.KindValue:
			n.values[physical{l.id, k, v.LSN}] = true
		default:
			n.tombstones[physical{l.id, k, v.LSN}] = goes
		}
	}
}

// differenceMayShow is the third rule of tombstones, word by word.
func (n *needs) differenceMayShow(l *needLine, x wal.LSN) bool {
	if l.readable && x > l.cutoff || slices.ContainsFunc(l.pins, func(p wal.LSN) bool { return p < x }) {
		return true
	}
	return n.movedMayShow(l, x) || slices.ContainsFunc(n.tree, func(c *needLine) bool {
		return c.living && c.state.Ancestor == l.id && c.branch < x || c.alive && c.state.ReadAncestor == l.id && c.state.ReadLSN < x
	})
}

// movedMayShow is the same rule for what a bucket was moved to, as far down as to what
// it led to before: living children of that count, if they branched from what is seen.
func (n *needs) movedMayShow(l *needLine, x wal.LSN) bool {
	target := n.byID[l.bucket.line.id]
	if target == nil || !target.readable {
		return false
	}
	passed := false
	return n.movedWay(target, func(t, child *needLine, seen wal.LSN) bool {
		shows := passed && slices.ContainsFunc(n.tree, func(c *needLine) bool {
			return c != child && c.living && c.state.Ancestor == t.id && c.branch <= seen && c.branch < x
		})
		passed = passed || t == l
		return shows
	})
}

// movedWay walks from a timeline along its lineage for as long as that stays in its
// bucket, and returns whether visit was true of one.
func (n *needs) movedWay(target *needLine, visit func(t, child *needLine, seen wal.LSN) bool) bool {
	seen := wal.MaxLSN
	for child, t := (*needLine)(nil), target; t != nil && t.bucket == target.bucket; {
		if visit(t, child, seen) {
			return true
		}
		if t.ancestor == nil || t.state.ReadAncestor == 0 {
			break
		}
		seen = min(seen, t.branch)
		child, t = t, n.byID[t.ancestor.id]
	}
	return false
}

// readFrom reports whether l is read at or above x.
func (n *needs) readFrom(l *needLine, x wal.LSN) bool {
	return l.readable || slices.ContainsFunc(l.pins, func(p wal.LSN) bool { return p >= x }) ||
		slices.ContainsFunc(l.children, func(c *needLine) bool { return c.state.ReadLSN >= x })
}

// findTombstones decides which of the needed tombstones may not go: those that
// a difference must show or that hide something. What they hide is decided first.
func (n *needs) findTombstones() {
	n.lowest = make(map[physical]wal.LSN)
	for p := range n.values {
		k := physical{id: p.id, key: p.key}
		if lsn, ok := n.lowest[k]; !ok || p.lsn < lsn {
			n.lowest[k] = p.lsn
		}
	}
	byLine := make(map[layers.TimelineID][]physical)
	for p := range n.tombstones {
		byLine[p.id] = append(byLine[p.id], p)
		delete(n.met, p)
	}
	for p := range n.met {
		l := n.byID[p.id]
		if n.tombstones[p] = goes; n.differenceMayShow(l, p.lsn) || n.mayInherit(l, p.key) || n.ended(l, p) || n.mergeMayNeed(l, p.key) {
			n.tombstones[p] = may
		}
	}
	for _, l := range n.tree {
		for _, p := range byLine[l.id] {
			switch {
			case p.key.ns == layers.NamespaceUploads:
				if n.ended(l, p) {
					n.tombstones[p] = may
				}
			case n.differenceMayShow(l, p.lsn), n.inherits(l, p.key), !n.ended(l, p) && n.mergeNeeds(l, p.key):
				n.tombstones[p] = must
			case n.ended(l, p), n.mayInherit(l, p.key), n.mergeMayNeed(l, p.key):
				n.tombstones[p] = may
			}
		}
	}
}

// whyMust says by which rules a tombstone may not go.
func (n *needs) whyMust(p physical) string {
	l := n.byID[p.id]
	var why []string
	for _, rule := range []struct {
		name  string
		holds bool
	}{
		{"inherited", n.inherits(l, p.key)},
		{"in a difference", n.differenceMayShow(l, p.lsn)},
		{"in one from where its bucket was moved", n.movedMayShow(l, p.lsn)},
		{"in a merge into an ancestor", n.mergeNeeds(l, p.key)},
	} {
		if rule.holds {
			why = append(why, rule.name)
		}
	}
	return "needed as " + strings.Join(why, ", ")
}

// inherits reports whether l sees a value of k that it has not itself, by what
// is really there.
func (n *needs) inherits(l *needLine, k pointKey) bool {
	at := wal.MaxLSN
	for l.state.ReadAncestor != 0 {
		at = min(at, l.state.ReadLSN)
		l = n.byID[l.state.ReadAncestor]
		for _, e := range l.find(k, at) {
			p := physical{l.id, k, e.lsn}
			switch {
			case (e.kind == layers.KindValue || e.kind == layers.KindDelta) && n.values[p]:
				return true
			case e.kind == layers.KindTombstone && n.tombstones[p] == must, e.kind == layers.KindRangeTombstone:
				return false
			}
		}
	}
	return false
}

// mayInherit reports whether what l reads on in has any value of k, be it hidden.
func (n *needs) mayInherit(l *needLine, k pointKey) bool {
	at := wal.MaxLSN
	for l.state.ReadAncestor != 0 {
		at = min(at, l.state.ReadLSN)
		l = n.byID[l.state.ReadAncestor]
		if lsn, ok := n.lowest[physical{id: l.id, key: k}]; ok && lsn <= at {
			return true
		}
	}
	return false
}

// relatives walks the ancestors of l, with what it sees of them; and what the buckets of
// ancestors were moved to, with what lies in between, up to the LSN that is seen of that.
func (n *needs) relatives(l *needLine, visit func(t *needLine, branch, upTo wal.LSN) (more bool)) {
	at := wal.MaxLSN
	for {
		next, lsn := n.byID[l.state.ReadAncestor], l.state.ReadLSN
		if l.ancestor != nil && n.byID[l.ancestor.id] != nil {
			next, lsn = n.byID[l.ancestor.id], l.branch
		}
		if l, at = next, min(at, lsn); l == nil || !visit(l, at, wal.MaxLSN) {
			return
		}
		if l.left == 0 || n.byID[l.bucket.line.id] == nil || l.bucket.line.dropped {
			continue
		}
		var way []*needLine
		var seen []wal.LSN
		if !n.movedWay(n.byID[l.bucket.line.id], func(t, _ *needLine, upTo wal.LSN) bool {
			way, seen = append(way, t), append(seen, upTo)
			return t == l && upTo >= at
		}) {
			continue
		}
		for i := range len(way) - 1 {
			if !visit(way[i], at, seen[i]) {
				return
			}
		}
	}
}

// mergeNeeds reports whether an ancestor that l can be merged into had a value of k
// where l branched, and has one now: its tombstone might go.
func (n *needs) mergeNeeds(l *needLine, k pointKey) (needs bool) {
	n.relatives(l, func(t *needLine, branch, upTo wal.LSN) bool {
		_, _, was := t.Get(branch, k)
		e := t.own(nil, k, upTo).first()
		needs = needs || t.readable && k.ns != layers.NamespaceUploads && was && (e.kind == layers.KindValue || e.kind == layers.KindDelta)
		return !needs
	})
	return needs
}

// mergeMayNeed reports whether an ancestor may have anything of k.
func (n *needs) mergeMayNeed(l *needLine, k pointKey) (needs bool) {
	n.relatives(l, func(t *needLine, _, upTo wal.LSN) bool {
		needs = needs || k.ns != layers.NamespaceUploads && len(t.find(k, upTo)) > 0 // copies too: they may be newer than what both have in common
		_, ok := n.lowest[physical{id: t.id, key: k}]
		needs = needs || ok
		return !needs
	})
	return needs
}

// onTheWayToPins returns the timelines through which the lineage of a bucket leads
// to one that a snapshot or a lease of it pins, and those that they read: they
// stay, or the snapshot could not be found.
func (n *needs) onTheWayToPins() (map[layers.TimelineID]bool, error) {
	path := make(map[layers.TimelineID]bool)
	walk := func(from *line, to layers.TimelineID) error {
		for l := from; l != nil && l.id != to; l = l.ancestor {
			at := n.byID[l.id]
			if at == nil {
				return fmt.Errorf("timeline %d was purged, through which timeline %d leads to what is pinned in %d", l.id, from.id, to)
			}
			for ; at != nil; at = n.byID[at.state.ReadAncestor] {
				path[at.id] = true
			}
		}
		return nil
	}
	for _, p := range n.o.snaps {
		b := n.o.buckets[p.Bucket]
		if b == nil || n.byID[b.line.id] == nil {
			continue // nobody can ask for the snapshot any more
		}
		if err := walk(b.at(p.LSN), p.Timeline); err != nil {
			return nil, fmt.Errorf("snapshot %d: %w", p.ID, err)
		}
	}
	for w, until := range n.o.ways {
		if until < n.o.now || w.from.dropped {
			continue
		}
		if err := walk(w.from, w.to.id); err != nil {
			return nil, fmt.Errorf("lease until %d: %w", until, err)
		}
	}
	return path, nil
}

// checkTree looks for timelines that should have been purged, and chains that
// are too long.
func (n *needs) checkTree() error {
	path, err := n.onTheWayToPins()
	if err != nil {
		return err
	}
	for _, l := range n.tree {
		if !l.readable && !l.alive && !path[l.id] {
			return fmt.Errorf("timeline %d is dropped, nobody reads it, and it is still in the tree: %+v; those that read it: %+v\n%s", l.id, l.state, n.readersOf(l), n.draw())
		}
		target, ok := gc.RollupDepth(l.depth)
		if p := n.byID[l.state.ReadAncestor]; ok && p != nil && l.readable && p.depth > target && p.state.ReadAncestor != 0 {
			return fmt.Errorf("timeline %d at depth %d reads on at depth %d, want at most %d", l.id, l.depth, p.depth, target)
		}
	}
	return nil
}

// readersOf returns what reads on in l, dead or alive.
func (n *needs) readersOf(l *needLine) (list []timeline.TreeLine) {
	for _, c := range n.tree {
		if c.state.ReadAncestor == l.id {
			list = append(list, c.state)
		}
	}
	return list
}

// draw shows the tree, a line per timeline.
func (n *needs) draw() (s string) {
	for _, l := range n.tree {
		s += fmt.Sprintf("  %d bucket %d %q: birth %d, ancestor %d at %d, reads %d at %d, left %d, dropped %v, alive %v, living %v, pins %v\n", l.id, l.bucket.id, l.bucket.name, l.birth, l.state.Ancestor, l.branch, l.state.ReadAncestor, l.state.ReadLSN, l.left, l.dropped, l.alive, l.living, l.pins)
	}
	return s
}
