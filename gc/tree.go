package gc

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"sort"

	"stemma/layers"
	"stemma/wal"
)

// Line is what gc must know of one timeline.
type Line struct {
	ID        layers.TimelineID
	Birth     wal.LSN           // nobody reads the timeline below it, but its read children
	Ancestor  layers.TimelineID // lineage; zero: a root
	BranchLSN wal.LSN

	ReadAncestor layers.TimelineID // zero: a read goes on nowhere
	ReadLSN      wal.LSN           // below Birth and below every own record

	// Moved is the timeline that the bucket of this one leads to since a move; zero: this
	// one, or none.
	Moved layers.TimelineID

	Readable bool // bound, or unbound within its undo time: it is read at every LSN from Cutoff on
	Written  bool // has, or had, records of its own

	Cutoff wal.LSN   // of a readable timeline; see the function
	Pins   []wal.LSN // of snapshots and leases, in any order
}

// never is above every LSN, wal.MaxLSN included.
const never = ^wal.LSN(0)

// Tree is the tree of timelines as one collection sees it: who is read, by
// whom, and where. It is immutable and safe for concurrent use. Of a timeline
// that it does not know it says that nobody reads it; the caller must not ask
// about one that is younger than the tree.
type Tree struct {
	h     wal.LSN
	lines []Line // by id
	nodes []node // as lines, and one more, whose firstKid ends the last
	// kids are the read children that somebody reads, by (read ancestor, read LSN).
	kids []kid
	// free[i] counts the free timelines among kids[:i].
	free []int32
}

// node is what a Tree works out for a line.
type node struct {
	low      wal.LSN // lowest LSN at which the timeline itself is read; never: it is not
	shows    wal.LSN // lowest LSN that a difference may start from; never: none does
	firstKid int32
	alive    bool // read, itself or by a read child
	living   bool // read, itself or by a descendant of either sort
	free     bool // falls through for every key, and no probe is needed to know
}

// kid is a read child.
type kid struct {
	lsn  wal.LSN // its read LSN
	line int32
}

// noLine stands for a timeline that is not in the tree.
const noLine = int32(-1)

// NewTree returns the tree of lines with the horizon h that their cutoffs were
// worked out by. It takes over lines and their pins, and sorts both. It panics
// when two lines have one id.
func NewTree(lines []Line, h wal.LSN) *Tree {
	byID := func(a, b Line) int { return cmp.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(lines, byID) {
		slices.SortFunc(lines, byID)
	}
	t := &Tree{h: h, lines: lines, nodes: make([]node, len(lines)+1)}
	for i := range lines {
		l, n := &lines[i], &t.nodes[i]
		if i > 0 && l.ID == lines[i-1].ID {
			panic(fmt.Sprintf("gc: two timelines %d", l.ID))
		}
		slices.Sort(l.Pins)
		n.low, n.shows = never, never
		if l.Readable {
			n.low, n.shows = max(l.Cutoff, l.Birth), l.Cutoff
		}
		if len(l.Pins) > 0 {
			n.low, n.shows = min(n.low, l.Pins[0]), min(n.shows, l.Pins[0])
		}
	}
	readers, lineage := make([]int32, len(lines)), make([]int32, len(lines))
	for i := range lines {
		readers[i], lineage[i] = t.find(lines[i].ReadAncestor), t.find(lines[i].Ancestor)
	}
	t.markAlive(readers)
	t.markLiving(readers, lineage)
	t.addKids(readers)
	t.addDifferences(lineage)
	t.addMoves(lineage)
	return t
}

// find returns the index of a timeline, or noLine. Ids are given out in order,
// so the gaps in them bound where one can be.
func (t *Tree) find(id layers.TimelineID) int32 {
	n := uint64(len(t.lines))
	if n == 0 || id < t.lines[0].ID || id > t.lines[n-1].ID {
		return noLine
	}
	below, above := uint64(id-t.lines[0].ID), uint64(t.lines[n-1].ID-id)
	lo, hi := uint64(0), min(n-1, below)
	if above < n {
		lo = n - 1 - above
	}
	i := int(lo) + sort.Search(int(hi-lo), func(i int) bool { return t.lines[int(lo)+i].ID >= id })
	if t.lines[i].ID != id {
		return noLine
	}
	return int32(i)
}

// markAlive goes up from all that is read to what it reads on in. What was never
// written and is itself read needs no probe, nor does what it reads on in as far
// as that was never written either.
func (t *Tree) markAlive(parents []int32) {
	for i := range t.lines {
		if t.nodes[i].low == never {
			continue
		}
		for j := int32(i); j != noLine && !t.nodes[j].alive; j = parents[j] {
			t.nodes[j].alive = true
		}
		for j := int32(i); j != noLine && !t.lines[j].Written && !t.nodes[j].free; j = parents[j] {
			t.nodes[j].free = true
		}
	}
}

// markLiving goes up along lineages too.
func (t *Tree) markLiving(parents, lineage []int32) {
	var todo []int32
	for i := range t.lines {
		if t.nodes[i].low != never {
			todo = append(todo, int32(i))
		}
		for len(todo) > 0 {
			j := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if j != noLine && !t.nodes[j].living {
				t.nodes[j].living = true
				todo = append(todo, parents[j], lineage[j])
			}
		}
	}
}

// addKids lays out the read children that somebody reads.
func (t *Tree) addKids(parents []int32) {
	for i, p := range parents {
		if p != noLine && t.nodes[i].alive {
			t.nodes[p+1].firstKid++
		}
	}
	for i := 1; i < len(t.nodes); i++ {
		t.nodes[i].firstKid += t.nodes[i-1].firstKid
	}
	t.kids = make([]kid, t.nodes[len(t.lines)].firstKid)
	filled := make([]int32, len(t.lines))
	for i, p := range parents {
		if p != noLine && t.nodes[i].alive {
			t.kids[t.nodes[p].firstKid+filled[p]] = kid{t.lines[i].ReadLSN, int32(i)}
			filled[p]++
		}
	}
	byLSN := func(a, b kid) int { return cmp.Or(cmp.Compare(a.lsn, b.lsn), cmp.Compare(a.line, b.line)) }
	for i := range t.lines {
		if kids := t.kids[t.nodes[i].firstKid:t.nodes[i+1].firstKid]; len(kids) > 1 {
			slices.SortFunc(kids, byLSN)
		}
	}
	t.free = make([]int32, len(t.kids)+1)
	for i, k := range t.kids {
		t.free[i+1] = t.free[i]
		if t.nodes[k.line].free {
			t.free[i+1]++
		}
	}
}

// addDifferences finds the lowest LSN that a difference may start from. A
// lineage can pass through a timeline that was purged; then the read child
// stands in for it.
func (t *Tree) addDifferences(lineage []int32) {
	for i, p := range lineage {
		if p != noLine && t.nodes[i].living {
			t.nodes[p].shows = min(t.nodes[p].shows, t.lines[i].BranchLSN)
		}
	}
	for i := range t.lines {
		if all := t.children(int32(i)); all.lo < all.hi {
			t.nodes[i].shows = min(t.nodes[i].shows, t.kids[all.lo].lsn)
		}
	}
}

// branches are the two lowest LSNs at which living lineage children branched from a
// timeline, and the child with the lowest.
type branches struct {
	first, second wal.LSN
	child         int32
}

// addMoves lowers what differences may start from for what a bucket was moved to, if
// that branched from what it led to before: forks of that are merged into it, and must
// find the tombstones above their branches. Where the way leads through other buckets
// those may have gone before the move.
func (t *Tree) addMoves(lineage []int32) {
	var low map[int32]*branches // by timelines that moves left
	for i := range t.lines {
		if n := t.find(t.lines[i].Moved); n != noLine && t.lines[n].Readable {
			if low == nil {
				low = make(map[int32]*branches)
			}
			low[int32(i)] = &branches{never, never, noLine}
		}
	}
	if low == nil {
		return
	}
	for i, p := range lineage {
		b := low[p]
		switch lsn := t.lines[i].BranchLSN; {
		case b == nil || !t.nodes[i].living:
		case lsn < b.first:
			*b = branches{lsn, b.first, int32(i)}
		default:
			b.second = min(b.second, lsn)
		}
	}
	done := make(map[layers.TimelineID]bool)
	for i := range low {
		if id := t.lines[i].Moved; !done[id] {
			done[id] = true
			t.lowerMoved(t.find(id), lineage, low)
		}
	}
}

// lowerMoved is addMoves for one target.
func (t *Tree) lowerMoved(target int32, lineage []int32, low map[int32]*branches) {
	way, shows := []int32{target}, []wal.LSN{never}
	seen := t.lines[target].BranchLSN
	for child, i := target, lineage[target]; i != noLine && t.lines[i].Moved == t.lines[target].ID && t.lines[child].ReadAncestor != 0; {
		b := low[i]
		lowest := b.first
		if b.child == child {
			lowest = b.second
		}
		if lowest > seen {
			lowest = never
		}
		way, shows = append(way, i), append(shows, lowest)
		seen = min(seen, t.lines[i].BranchLSN)
		child, i = i, lineage[i]
	}
	lowest := never
	for i, line := range slices.Backward(way) {
		t.nodes[line].shows = min(t.nodes[line].shows, lowest)
		lowest = min(lowest, shows[i])
	}
}

// span is a run of kids: [lo, hi).
type span struct{ lo, hi int32 }

func (t *Tree) children(i int32) span {
	return span{t.nodes[i].firstKid, t.nodes[i+1].firstKid}
}

// childrenIn returns the read children of a timeline that read it at an LSN in
// [from, to).
func (t *Tree) childrenIn(i int32, from, to wal.LSN) span {
	all := t.children(i)
	kids := t.kids[all.lo:all.hi]
	at := func(lsn wal.LSN) int32 {
		return all.lo + int32(sort.Search(len(kids), func(i int) bool { return kids[i].lsn >= lsn }))
	}
	return span{at(from), at(to)}
}

// Horizon returns the horizon that the cutoffs were worked out by.
func (t *Tree) Horizon() wal.LSN { return t.h }

// Len returns the number of timelines.
func (t *Tree) Len() int { return len(t.lines) }

// Line returns a timeline, with its pins sorted. They must not be changed.
func (t *Tree) Line(id layers.TimelineID) (Line, bool) {
	i := t.find(id)
	if i == noLine {
		return Line{}, false
	}
	return t.lines[i], true
}

// Lines walks all timelines by id.
func (t *Tree) Lines() iter.Seq[Line] { return slices.Values(t.lines) }

// Readers walks the read children of a timeline that somebody reads, with the
// LSNs at which they read it, lowest first.
func (t *Tree) Readers(id layers.TimelineID) iter.Seq2[layers.TimelineID, wal.LSN] {
	return func(yield func(layers.TimelineID, wal.LSN) bool) {
		i := t.find(id)
		if i == noLine {
			return
		}
		s := t.children(i)
		for _, k := range t.kids[s.lo:s.hi] {
			if !yield(t.lines[k.line].ID, k.lsn) {
				return
			}
		}
	}
}

// Dead reports whether nobody reads a timeline at all: it is not readable, has
// no pins, and no read child that, itself or by its own, anybody reads. Every
// record of a dead timeline can go.
func (t *Tree) Dead(id layers.TimelineID) bool {
	i := t.find(id)
	return i == noLine || !t.nodes[i].alive
}

// NeedFrom reports whether a timeline is read at any LSN at or above x, by
// itself or by a read child: whether a range tombstone at x hides anything from
// anybody. It asks for no key, so it may say yes where every child has all that
// the range covers.
func (t *Tree) NeedFrom(id layers.TimelineID, x wal.LSN) bool {
	i := t.find(id)
	if i == noLine {
		return false
	}
	l := &t.lines[i]
	if l.Readable || len(l.Pins) > 0 && l.Pins[len(l.Pins)-1] >= x {
		return true
	}
	kids := t.children(i)
	return kids.lo < kids.hi && t.kids[kids.hi-1].lsn >= x
}

// DifferenceMayShow reports whether somebody can ask for a difference that must
// show the tombstone at x of a timeline, which else could go because it hides
// nothing: x is above the cutoff or above a pin, or a living child branched
// below it. A lineage child is living when it, or a descendant of it by lineage
// or by reads, is readable or pinned. Children of what the bucket led to before a move
// count as the timeline's own.
func (t *Tree) DifferenceMayShow(id layers.TimelineID, x wal.LSN) bool {
	i := t.find(id)
	return i != noLine && x > t.nodes[i].shows
}
