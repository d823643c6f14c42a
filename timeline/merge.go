package timeline

import (
	"bytes"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// merge is one compaction at work.
type merge struct {
	s       *Store
	c       *compaction
	snap    *treeSnapshot
	version *layers.Version
	main    *output
	history *output // what a bottom merge splits off; else nil
}

func (s *Store) newMerge(v *layers.Version, c *compaction, snap *treeSnapshot) *merge {
	m := &merge{s: s, c: c, snap: snap, version: v}
	category := s.outputCategory(levelBytes(c.inputs))
	m.main = s.newOutput(c.mainKind(), c.level, category)
	if c.bottom() {
		m.history = s.newOutput(layers.HistoryLayer, 0, category)
	}
	return m
}

func (m *merge) retainer() *retainer {
	k := m.s.newRetainer(m.snap, m.version, m.c.inputs, m.c.exact)
	k.bottom = m.c.bottom() || m.c.history
	return k
}

func (m *merge) abort() {
	m.main.abort()
	if m.history != nil {
		m.history.abort()
	}
}

// inputs returns the records of all inputs in order, and their number.
func (m *merge) inputs() (layers.Iterator, uint64) {
	var iters []layers.Iterator
	var n uint64
	var levels [layers.NumLevels][]*layers.Layer // a merge is of one family
	for _, l := range m.c.inputs {
		n += l.Desc().Entries
		if level := l.Desc().Level; level > 0 {
			levels[level] = append(levels[level], l)
		} else {
			iters = append(iters, l.NewIter(layers.IterOptions{}))
		}
	}
	for _, level := range levels {
		iters = appendDisjoint(iters, level)
	}
	return layers.NewMergeIterator(iters), n
}

// appendDisjoint appends one iterator over disjoint layers, which opens one of
// them at a time. It sorts them.
func appendDisjoint(iters []layers.Iterator, ls []*layers.Layer) []layers.Iterator {
	if len(ls) == 0 {
		return iters
	}
	slices.SortFunc(ls, func(a, b *layers.Layer) int { return a.Desc().Range.Start.Compare(b.Desc().Range.Start) })
	return append(iters, layers.NewConcatIterator(ls, layers.IterOptions{}))
}

// run writes the outputs, synced.
func (m *merge) run() (_ []*layers.Layer, err error) {
	if m.main.stones, err = m.keptStones(); err != nil {
		return nil, err
	}
	err = m.each(func(r *layers.Record, v verdict) error {
		if !v.keep() {
			return nil
		}
		w := *r
		w.Death = m.death(v)
		if m.history != nil && w.Death != 0 {
			return m.history.add(&w)
		}
		return m.main.add(&w)
	})
	if err != nil {
		return nil, err
	}
	outputs, err := m.main.finish()
	if err != nil || m.history == nil {
		return outputs, err
	}
	history, err := m.history.finish()
	if err != nil {
		m.s.discard(outputs)
		return nil, err
	}
	return append(outputs, history...), nil
}

// death returns the death LSN that a kept record is written with: zero where
// it is not in a history layer.
func (m *merge) death(v verdict) wal.LSN {
	if v.death == wal.MaxLSN || !m.c.history && !m.c.bottom() {
		return 0
	}
	return v.death
}

// each visits every record of the inputs with what becomes of it.
func (m *merge) each(visit func(r *layers.Record, v verdict) error) error {
	k := m.retainer()
	it, want := m.inputs()
	defer it.Close()
	var got uint64
	pace := m.s.newPacer(m.c.exact)
	for ok := it.First(); ok; ok = it.Next() {
		pace.step()
		if m.s.closing.Err() != nil {
			return ErrClosed
		}
		if m.c.ctx != nil && m.c.ctx.Err() != nil {
			return m.c.ctx.Err()
		}
		v, err := k.next(it.Record())
		if err != nil {
			return err
		}
		if err := visit(it.Record(), v); err != nil {
			return err
		}
		got++
	}
	if err := it.Err(); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("merged %d records of %d: %w", got, want, layers.ErrCorrupt)
	}
	return nil
}

// keptStones returns the range tombstones that stay.
func (m *merge) keptStones() ([]layers.Record, error) {
	k := m.retainer()
	var kept []layers.Record
	for _, l := range m.c.inputs {
		for _, r := range l.RangeTombstones() {
			keep, err := k.keepRange(&r)
			if err != nil {
				return nil, err
			}
			if keep {
				kept = append(kept, r)
			}
		}
	}
	return kept, nil
}

// verify reads inputs and outputs anew and compares them record by record: what
// must be kept is there, as it was, and nothing else is.
func (m *merge) verify(outputs []*layers.Layer) error {
	var history, main []*layers.Layer // the files of either are disjoint
	for _, l := range outputs {
		if l.Desc().Kind == layers.HistoryLayer {
			history = append(history, l)
		} else {
			main = append(main, l)
		}
	}
	out := layers.NewMergeIterator(appendDisjoint(appendDisjoint(nil, main), history))
	defer out.Close()
	ok := out.First()
	err := m.each(func(r *layers.Record, v verdict) error {
		if !v.keep() {
			return nil
		}
		if !ok {
			if err := out.Err(); err != nil {
				return err
			}
			return fmt.Errorf("record %s at %d was lost, it is kept as %s", r.Key, r.LSN, v.reason)
		}
		if err := m.same(r, out.Record(), v); err != nil {
			return err
		}
		ok = out.Next()
		return nil
	})
	if err != nil {
		return err
	}
	if err := out.Err(); err != nil {
		return err
	}
	if ok {
		return fmt.Errorf("record %s at %d should be gone", out.Record().Key, out.Record().LSN)
	}
	return m.verifyStones(outputs)
}

// same compares a record of the inputs with one of the outputs.
func (m *merge) same(in, out *layers.Record, v verdict) error {
	death := m.death(v)
	if in.Key.Compare(out.Key) != 0 || in.LSN != out.LSN || in.Kind != out.Kind || in.Writer != out.Writer || out.Death != death ||
		!bytes.Equal(in.Meta, out.Meta) || !bytes.Equal(in.Body, out.Body) {
		return fmt.Errorf("record %s at %d, death %d, was written as %s at %d, death %d", in.Key, in.LSN, death, out.Key, out.LSN, out.Death)
	}
	return nil
}

// verifyStones decides anew which range tombstones stay, and checks that those of
// the outputs hide the same keys to the same LSNs.
func (m *merge) verifyStones(outputs []*layers.Layer) error {
	want, err := m.keptStones()
	if err != nil {
		return err
	}
	var got []layers.Record
	for _, l := range outputs {
		got = append(got, l.RangeTombstones()...)
	}
	return sameStones(want, got)
}

// sameStones compares range tombstones, however they are cut. It sorts both.
func sameStones(want, got []layers.Record) error {
	want, got = layers.JoinTombstones(want), layers.JoinTombstones(got)
	for i := range max(len(want), len(got)) {
		switch {
		case i == len(got):
			return fmt.Errorf("range tombstone from %s to %s at %d was lost", want[i].Key, want[i].End, want[i].LSN)
		case i == len(want):
			return fmt.Errorf("range tombstone from %s to %s at %d should be gone", got[i].Key, got[i].End, got[i].LSN)
		}
		w, g := &want[i], &got[i]
		if w.LSN != g.LSN || w.Key.Compare(g.Key) != 0 || w.End.Compare(g.End) != 0 {
			return fmt.Errorf("range tombstone from %s to %s at %d was written from %s to %s at %d", w.Key, w.End, w.LSN, g.Key, g.End, g.LSN)
		}
	}
	return nil
}
