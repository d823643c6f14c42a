package gc

import (
	"stemma/layers"
	"stemma/wal"
)

// Needers says which timelines need a version: those that read it at an LSN of
// their own, by the window or by a pin, directly or through what they read on
// in.
type Needers struct {
	// Sole is the only timeline that does; zero when none does, or several do.
	Sole layers.TimelineID
	// Many says that several do, or that the bound was hit before one could know.
	Many bool
	// Tip says that the newest LSN of one of them reads it: it is no history.
	Tip bool
	// Limited says that the bound on probes was hit: Many is a guess then, and
	// Tip may be false where it should be true.
	Limited bool
}

// None reports whether nobody needs the version.
func (n Needers) None() bool { return n.Sole == 0 && !n.Many }

func (n *Needers) add(id layers.TimelineID, tip bool) {
	n.Tip = n.Tip || tip
	switch {
	case n.Many || n.Sole == id:
	case n.Sole == 0:
		n.Sole = id
	default:
		n.Sole, n.Many = 0, true
	}
}

// full reports whether nothing can be added.
func (n *Needers) full() bool { return n.Many && n.Tip }

// Needers returns who needs the version [birth, death) of a key of a timeline.
// Arguments and errors are as with Need. It stops at two timelines one of which
// reads the version at its tip.
func (t *Tree) Needers(id layers.TimelineID, suffix []byte, birth, death wal.LSN, p Prober, maxProbes int) (Needers, error) {
	var n Needers
	i := t.find(id)
	if i == noLine || death <= birth {
		return n, nil
	}
	if isUpload(suffix) {
		if r := t.needUpload(i, death); r != None {
			n.add(id, r == Tip)
		}
		return n, nil
	}
	if r := t.readsDirectly(i, birth, death); r != None {
		n.add(id, r == Tip)
	}
	s := t.childrenIn(i, birth, death)
	if s.lo == s.hi {
		return n, nil
	}
	w := newWalk(t, suffix, p, maxProbes)
	w.push(s)
	err := w.allHits(&n)
	return n, err
}

// allHits adds every timeline that falls through at an LSN of its own.
func (w *walk) allHits(n *Needers) error {
	for !n.full() {
		i := w.pop()
		if i == noLine {
			return nil
		}
		if w.left == 0 {
			n.Sole, n.Many, n.Limited = 0, true, true
			return nil
		}
		oldest, err := w.visit(i)
		if err != nil {
			n.Sole, n.Many, n.Limited = 0, true, true
			return err
		}
		if w.t.nodes[i].low < oldest {
			n.add(w.t.lines[i].ID, oldest == never && w.t.lines[i].Readable)
		}
		w.push(w.t.childrenIn(i, 0, oldest))
	}
	return nil
}
