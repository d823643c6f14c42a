package timeline

import (
	"fmt"
	"slices"
	"sync"

	"stemma/layers"
	"stemma/wal"
)

// stagedLayers are open layers that wait for the commit that adopts them.
type stagedLayers struct {
	mu    sync.Mutex
	byNum map[layers.FileNum]*layers.Layer
}

// take removes a layer and returns it; nil if it is not there.
func (s *stagedLayers) take(num layers.FileNum) *layers.Layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.byNum[num]
	delete(s.byNum, num)
	return l
}

// adopt gives a staged layer the LSN of its commit, and the catalog its rows. They are as
// durable as rows of the tree: in the log until a flush has synced them. publishAdopted must
// follow. The caller holds applyMu, or recovers.
func (s *Store) adopt(d *layers.Desc, lsn wal.LSN, rows rowBatch) error {
	id := d.Range.Start.Timeline()
	n := s.tree.node(id)
	if n == nil {
		return fmt.Errorf("layer of timeline %d, which does not exist: %w", id, ErrCorrupt)
	}
	l := s.staged.take(d.Num)
	if l != nil {
		s.at(StepAdoptLogged)
		l.Adopt(lsn)
	} else { // of a commit that is replayed
		desc := *d
		desc.AdoptedLSN = lsn
		var err error
		if l, err = layers.OpenLayer(s.opts.FS, s.path(layersDir), desc, s.cache); err != nil {
			return fmt.Errorf("adopt layer: %w", err)
		}
	}
	s.setLayerRows(rows, l.Desc())
	rows.set(rowKey(rowWritten, uint64(id)), nil)
	n.written.Store(true)
	s.adopted = append(s.adopted, l)
	return nil
}

// publishAdopted puts layers that were adopted into the Version, once the catalog has
// their rows. The caller holds applyMu.
func (s *Store) publishAdopted() {
	if len(s.adopted) == 0 {
		return
	}
	added := s.adopted
	s.adopted = nil
	s.at(StepAdoptRows)
	s.publish(func(e *edit) { e.layers = append(e.layers, added...) })
	for _, l := range added {
		s.metrics.adoptedBytes.Add(l.Desc().Bytes)
	}
	s.rotateBehindAdopted()
	s.at(StepAdoptPublished)
	poke(s.compactC)
}

// rotateBehindAdopted freezes the active memlayer if it has something older than a layer of
// the Version, which must wait for that; see aheadOfMemory. The caller holds applyMu.
func (s *Store) rotateBehindAdopted() {
	v := s.version.Load()
	if v == nil {
		return
	}
	low, _ := s.mu.active.LSNs()
	if low != 0 && slices.ContainsFunc(v.L0, func(l *layers.Layer) bool { return l.Desc().AdoptedLSN > low }) {
		s.rotate()
	}
}

// aheadOfMemory reports whether a memlayer of v has something older than an adopted layer. Such a
// layer stays as it is in level 0 until that was flushed: all else of the store may take it that
// memlayers have only what is newer than the layers of a merge.
func aheadOfMemory(v *layers.Version, l *layers.Layer) bool {
	adopted := l.Desc().AdoptedLSN
	return adopted != 0 && slices.ContainsFunc(v.Mem, func(m *layers.Memlayer) bool {
		low, _ := m.LSNs()
		return low != 0 && low < adopted
	})
}

// settledLevel0 returns the layers of level 0 that may be merged. What it leaves out is newer.
func settledLevel0(v *layers.Version) []*layers.Layer {
	return slices.DeleteFunc(slices.Clone(v.L0), func(l *layers.Layer) bool { return aheadOfMemory(v, l) })
}
