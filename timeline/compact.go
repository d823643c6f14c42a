package timeline

import (
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/wal/storefs"
)

// compaction is one merge of layers into the level below.
type compaction struct {
	level  int // of the outputs
	inputs []*layers.Layer
}

// compactLayers merges layers while a level is over its target.
func (s *Store) compactLayers() {
	defer s.workers.Done()
	s.work(s.compactC, "compaction", &s.metrics.compactErrors, func() (again bool, err error) {
		v, _, err := s.acquire()
		if err != nil {
			return false, nil // closing
		}
		defer v.Release()
		c := s.pickCompaction(v)
		if c == nil {
			return false, nil
		}
		return true, s.compact(c)
	})
}

// Compact merges until every level is at its target. For tests and tools.
func (s *Store) Compact() error {
	for {
		v, _, err := s.acquire()
		if err != nil {
			return err
		}
		c := s.pickCompaction(v)
		if c == nil {
			v.Release()
			return nil
		}
		err = s.compact(c)
		v.Release()
		if err != nil {
			return err
		}
	}
}

// pickCompaction returns the most urgent merge: level 0 when it has enough
// layers, else the level that is most over its target, or nil.
func (s *Store) pickCompaction(v *layers.Version) *compaction {
	if len(v.L0) >= s.opts.L0Layers {
		return s.compactionOf(v, 0, slices.Clone(v.L0))
	}
	target := float64(s.opts.Level1Bytes)
	best, bestScore := 0, 1.0
	for level := 1; level < layers.NumLevels-1; level++ {
		var bytes int64
		for _, l := range v.Levels[level] {
			bytes += l.Desc().Bytes
		}
		if score := float64(bytes) / target; score > bestScore {
			best, bestScore = level, score
		}
		target *= levelFanout
	}
	if best == 0 {
		return nil
	}
	// Round-robin by age: the oldest file of the level has waited longest.
	oldest := slices.MinFunc(v.Levels[best], func(a, b *layers.Layer) int { return int(a.Desc().Num) - int(b.Desc().Num) })
	return s.compactionOf(v, best, []*layers.Layer{oldest})
}

// compactionOf merges inputs of one level with all that lies in the next between
// their first and last key.
func (s *Store) compactionOf(v *layers.Version, level int, inputs []*layers.Layer) *compaction {
	// An output may reach from one input across a gap to the next: what lies in
	// the gap is merged too, or the level would not stay disjoint.
	hull := inputs[0].Desc().Range
	for _, in := range inputs[1:] {
		r := in.Desc().Range
		if r.Start.Compare(hull.Start) < 0 {
			hull.Start = r.Start
		}
		if r.End.Compare(hull.End) > 0 {
			hull.End = r.End
		}
	}
	c := &compaction{level: level + 1, inputs: inputs}
	for _, l := range v.Levels[level+1] {
		if l.Desc().Range.Overlaps(hull) {
			c.inputs = append(c.inputs, l)
		}
	}
	return c
}

// compact writes the merge of its inputs, then swaps it in: files synced,
// catalog synced, Version swapped; the last reader of the old Version unlinks
// the inputs. Every version of every key is kept.
func (s *Store) compact(c *compaction) error {
	s.compactMu.Lock()
	defer s.compactMu.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	if !s.current(c.inputs) {
		return nil // another compaction was faster; the caller picks again
	}
	outputs, err := s.mergeLayers(c)
	if err != nil {
		return fmt.Errorf("compact %d layers to level %d: %w", len(c.inputs), c.level, err)
	}
	rows := s.catalog.newBatch()
	for _, l := range c.inputs {
		rows.delete(rowKey(rowLayer, uint64(l.Desc().Num)))
	}
	for _, l := range outputs {
		s.setLayerRows(rows, l.Desc())
	}
	if err := s.commitSynced(rows, outputs); err != nil {
		return fmt.Errorf("compact %d layers to level %d: %w", len(c.inputs), c.level, err)
	}
	for _, l := range c.inputs {
		l.MarkObsolete()
	}
	s.publish(func(e *edit) {
		e.layers = slices.DeleteFunc(e.layers, func(l *layers.Layer) bool { return slices.Contains(c.inputs, l) })
		e.layers = append(e.layers, outputs...)
	})
	s.metrics.compactions.Add(1)
	for _, l := range outputs {
		s.metrics.compactedBytes.Add(l.Desc().Bytes)
	}
	return nil
}

// current reports whether all of ls are in the current Version.
func (s *Store) current(ls []*layers.Layer) bool {
	have := slices.Collect(s.version.Load().All())
	for _, l := range ls {
		if !slices.Contains(have, l) {
			return false
		}
	}
	return true
}

func (s *Store) mergeLayers(c *compaction) ([]*layers.Layer, error) {
	// Not served from the ballast: an output may be larger than all of it.
	out := s.newOutput(c.level, storefs.User)
	defer out.abort()
	var iters []layers.Iterator
	var tombstones []layers.Record
	var want uint64
	for _, l := range c.inputs {
		iters = append(iters, l.NewIter(layers.IterOptions{}))
		tombstones = append(tombstones, l.RangeTombstones()...)
		want += l.Desc().Entries
	}
	it := layers.NewMergeIterator(iters)
	defer it.Close()
	var got uint64
	for ok := it.First(); ok; ok = it.Next() {
		if s.closing.Err() != nil {
			return nil, ErrClosed
		}
		if err := out.add(it.Record()); err != nil {
			return nil, err
		}
		got++
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	if got != want {
		return nil, fmt.Errorf("merged %d records of %d: %w", got, want, layers.ErrCorrupt)
	}
	return out.finish(tombstones)
}
