package timeline

import (
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// edit is a change of the current Version.
type edit struct {
	layers []*layers.Layer // any order
}

// publish swaps in a Version made from the present one by change, which runs
// under mu. The order has already been write, sync, catalog; this is the last step.
func (s *Store) publish(change func(e *edit)) {
	s.mu.Lock()
	old := s.version.Load()
	if old == nil { // closed
		s.mu.Unlock()
		return
	}
	e := &edit{layers: slices.Collect(old.All())}
	change(e)
	mem := []*layers.Memlayer{s.mu.active}
	for _, f := range slices.Backward(s.mu.frozen) {
		mem = append(mem, f.mem)
	}
	s.version.Store(s.newVersion(mem, e.layers, old.Horizon))
	s.notifyLocked()
	s.mu.Unlock()
	old.Release() // may close and unlink files
}

// newVersion sorts layers into levels: level 0 by age, newest first; the
// others by key.
func (s *Store) newVersion(mem []*layers.Memlayer, all []*layers.Layer, h wal.LSN) *layers.Version {
	var l0 []*layers.Layer
	var levels [layers.NumLevels][]*layers.Layer
	for _, l := range all {
		if level := l.Desc().Level; level == 0 {
			l0 = append(l0, l)
		} else {
			levels[level] = append(levels[level], l)
		}
	}
	slices.SortFunc(l0, func(a, b *layers.Layer) int { return int(b.Desc().Num) - int(a.Desc().Num) })
	for i := range levels {
		slices.SortFunc(levels[i], func(a, b *layers.Layer) int { return a.Desc().Range.Start.Compare(b.Desc().Range.Start) })
	}
	s.level0.Store(int32(len(l0)))
	return layers.NewVersion(mem, l0, levels, h, func(err error) { s.opts.Logger.Error("drop layer", "err", err) })
}

func (s *Store) frozenMemlayers() []*layers.Memlayer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var m []*layers.Memlayer
	for _, f := range s.mu.frozen {
		m = append(m, f.mem)
	}
	return m
}
