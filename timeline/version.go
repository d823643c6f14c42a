package timeline

import (
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// edit is a change of the current Version.
type edit struct {
	layers []*layers.Layer // of both families, any order
	// horizon is what records were dropped by; zero: none were. That of the
	// Version never goes back.
	horizon wal.LSN
}

// publish swaps in a Version made from the present one by change, which runs
// under mu. The order has already been write, sync, catalog; this is the last step.
func (s *Store) publish(change func(e *edit)) (seq uint64) {
	s.mu.Lock()
	old := s.version.Load()
	if old == nil { // closed
		s.mu.Unlock()
		return 0
	}
	e := &edit{layers: slices.Collect(old.All()), horizon: old.Horizon}
	change(e)
	mem := []*layers.Memlayer{s.mu.active}
	for _, f := range slices.Backward(s.mu.frozen) {
		mem = append(mem, f.mem)
	}
	v := s.newVersion(mem, e.layers, max(e.horizon, old.Horizon))
	v.Seq = old.Seq + 1
	s.version.Store(v)
	s.mu.retired = append(slices.DeleteFunc(s.mu.retired, (*layers.Version).Released), old)
	s.notifyLocked()
	s.mu.Unlock()
	old.Release() // may close and unlink files
	s.mu.Lock()
	s.mu.retired = slices.DeleteFunc(s.mu.retired, (*layers.Version).Released) // with its memlayers
	s.mu.Unlock()
	return v.Seq
}

// publishDrop is publish for an edit that leaves records out.
func (s *Store) publishDrop(change func(e *edit)) {
	s.dropMu.Lock()
	defer s.dropMu.Unlock()
	s.publish(change)
}

// newVersion sorts layers into families and levels: level 0 by age, newest
// first; the others by key.
func (s *Store) newVersion(mem []*layers.Memlayer, all []*layers.Layer, h wal.LSN) *layers.Version {
	var main, history [layers.NumLevels][]*layers.Layer
	for _, l := range all {
		family, level := &main, l.Desc().Level
		if l.Desc().Kind == layers.HistoryLayer {
			family = &history
		}
		family[level] = append(family[level], l)
	}
	for _, family := range []*[layers.NumLevels][]*layers.Layer{&main, &history} {
		slices.SortFunc(family[0], func(a, b *layers.Layer) int { return int(b.Desc().Num) - int(a.Desc().Num) })
		for _, level := range family[1:] {
			slices.SortFunc(level, func(a, b *layers.Layer) int { return a.Desc().Range.Start.Compare(b.Desc().Range.Start) })
		}
	}
	l0 := main[0]
	main[0] = nil
	s.level0.Store(int32(len(l0)))
	return layers.NewVersion(mem, l0, main, history, h, func(err error) { s.opts.Logger.Error("drop layer", "err", err) })
}

// readersBefore reports whether anybody who may read values still uses a Version
// older than seq.
func (s *Store) readersBefore(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.retired = slices.DeleteFunc(s.mu.retired, (*layers.Version).Released)
	return slices.ContainsFunc(s.mu.retired, func(v *layers.Version) bool { return v.Seq < seq && v.HasReaders() })
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
