package gc

import (
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// Prober answers what lies in layers and memlayers.
type Prober interface {
	// Oldest returns the LSN of the oldest own full value, tombstone or range
	// tombstone of a key in a timeline, history included; false when there is
	// none. An answer that is too high, or a false one, only keeps more. suffix
	// is the namespace byte and the user key.
	Oldest(t layers.TimelineID, suffix []byte) (lsn wal.LSN, ok bool, err error)
}

// Need says whether anybody can read the version [birth, death) of a key of a
// timeline, and who; None when nobody can. birth is the version's LSN, death
// that of what superseded it: wal.MaxLSN when nothing did. An interval that is
// too long only keeps more; an empty one is read by nobody. suffix is the
// namespace byte and the user key.
//
// Who reads through children is found by probes; with a nil Prober every child
// that could counts as one that does. maxProbes above zero bounds the children
// that are looked at: then the answer is ProbeLimit, which keeps.
//
// Errors are those of p; the reason keeps the version then, too.
func (t *Tree) Need(id layers.TimelineID, suffix []byte, birth, death wal.LSN, p Prober, maxProbes int) (Reason, error) {
	i := t.find(id)
	if i == noLine || death <= birth {
		return None, nil
	}
	if isUpload(suffix) {
		return t.needUpload(i, death), nil
	}
	if r := t.readsDirectly(i, birth, death); r != None {
		return r, nil
	}
	return t.anyFallsThrough(t.childrenIn(i, birth, death), suffix, p, maxProbes)
}

// FallsThrough says whether a timeline, at an LSN at which it is read by itself
// or by its read children, looks for a key in its read ancestor: Child or None,
// and ProbeLimit when maxProbes did not suffice to know. Arguments and errors are
// as with Need.
func (t *Tree) FallsThrough(id layers.TimelineID, suffix []byte, p Prober, maxProbes int) (Reason, error) {
	i := t.find(id)
	switch {
	case i == noLine, !t.nodes[i].alive, isUpload(suffix):
		return None, nil
	case t.nodes[i].free, p == nil:
		return Child, nil
	}
	w := newWalk(t, suffix, p, maxProbes)
	return w.firstHit(i)
}

func isUpload(suffix []byte) bool {
	return len(suffix) > 0 && layers.Namespace(suffix[0]) == layers.NamespaceUploads
}

// needUpload: uploads have no history, and neither pins nor children read them.
func (t *Tree) needUpload(i int32, death wal.LSN) Reason {
	switch {
	case !t.lines[i].Readable || death <= t.h:
		return None
	case death == wal.MaxLSN:
		return Tip
	default:
		return InWindow // ended above the horizon: not yet for good
	}
}

// readsDirectly returns why a timeline itself reads [birth, death).
func (t *Tree) readsDirectly(i int32, birth, death wal.LSN) Reason {
	l := &t.lines[i]
	if l.Readable && death > max(l.Cutoff, l.Birth) {
		if death == wal.MaxLSN {
			return Tip
		}
		return InWindow
	}
	if len(l.Pins) > 0 && pinned(l.Pins, birth, death) {
		return Pin
	}
	return None
}

// anyFallsThrough says whether one of the read children in s falls through.
func (t *Tree) anyFallsThrough(s span, suffix []byte, p Prober, maxProbes int) (Reason, error) {
	switch {
	case s.lo >= s.hi:
		return None, nil
	case p == nil, t.hasFree(s):
		return Child, nil
	}
	w := newWalk(t, suffix, p, maxProbes)
	w.push(s)
	return w.firstHit(noLine)
}

func (t *Tree) hasFree(s span) bool { return t.free[s.hi] > t.free[s.lo] }

// walk visits the timelines that a read of one key reaches from children of a
// timeline: children, and below each the children that read it where it has
// nothing of the key yet. All that matters is what can be reached: a timeline
// that is reached, and itself read below its oldest record, reads what the walk
// started from, however long the way. So no recursion is needed.
type walk struct {
	t      *Tree
	suffix []byte
	p      Prober // nil: no timeline has anything
	left   int    // visits that are left
	todo   []span // none empty
	first  [8]span
}

// newWalk returns a walk that ends after limit visits; zero or less: when all
// timelines were visited. More would mean that reads go in a circle.
func newWalk(t *Tree, suffix []byte, p Prober, limit int) *walk {
	if limit <= 0 {
		limit = len(t.lines)
	}
	w := &walk{t: t, suffix: suffix, p: p, left: limit}
	w.todo = w.first[:0]
	return w
}

func (w *walk) push(s span) {
	if s.lo < s.hi {
		w.todo = append(w.todo, s)
	}
}

// pop returns the next timeline to visit; noLine at the end.
func (w *walk) pop() int32 {
	if len(w.todo) == 0 {
		return noLine
	}
	top := &w.todo[len(w.todo)-1]
	i := w.t.kids[top.lo].line
	if top.lo++; top.lo == top.hi {
		w.todo = w.todo[:len(w.todo)-1]
	}
	return i
}

// visit returns the LSN below which reads of a timeline fall through.
func (w *walk) visit(i int32) (wal.LSN, error) {
	w.left--
	if w.p == nil || !w.t.lines[i].Written {
		return never, nil
	}
	id := w.t.lines[i].ID
	oldest, ok, err := w.p.Oldest(id, w.suffix)
	switch {
	case err != nil:
		return 0, fmt.Errorf("look for the oldest version in timeline %d: %w", id, err)
	case !ok:
		return never, nil
	}
	return oldest, nil
}

// firstHit visits start, unless it is noLine, and what is to do until one falls
// through.
func (w *walk) firstHit(start int32) (Reason, error) {
	if start == noLine {
		start = w.pop()
	}
	for i := start; i != noLine; i = w.pop() {
		if w.left == 0 {
			return ProbeLimit, nil
		}
		oldest, err := w.visit(i)
		if err != nil {
			return ProbeLimit, err
		}
		below := w.t.childrenIn(i, 0, oldest)
		if w.t.nodes[i].low < oldest || w.t.hasFree(below) {
			return Child, nil
		}
		w.push(below)
	}
	return None, nil
}

// pinned reports whether one of the sorted pins lies in [from, to).
func pinned(pins []wal.LSN, from, to wal.LSN) bool {
	i, _ := slices.BinarySearch(pins, from)
	return i < len(pins) && pins[i] < to
}
