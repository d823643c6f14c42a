package timeline

import (
	"context"
	"fmt"
	"slices"

	"stemma/layers"
)

// compaction is one rewrite of layers: a merge into a level, or, with one input
// of that level, the removal of its garbage.
type compaction struct {
	history bool // of the history family; else of the main one
	level   int  // of the outputs
	inputs  []*layers.Layer
	exact   bool // no bound on what deciding may cost
	// snap is what to decide by; nil: a recent one.
	snap *treeSnapshot
	// ctx ends it early; nil: only Close does.
	ctx context.Context
}

// bottom reports whether the outputs are images.
func (c *compaction) bottom() bool { return !c.history && c.level == layers.BottomLevel }

// mainKind returns the kind of the outputs that are not split off as history.
func (c *compaction) mainKind() layers.LayerKind {
	switch {
	case c.history:
		return layers.HistoryLayer
	case c.bottom():
		return layers.ImageLayer
	}
	return layers.DeltaLayer
}

// compactLayers merges layers while a level is over its target.
func (s *Store) compactLayers() {
	defer s.workers.Done()
	work(s, s.compactC, "compaction", &s.metrics.compactErrors, func() (again bool, err error) {
		return s.compactOnce(s.pickCompaction)
	})
}

// Compact merges until every level is at its target. For tests and tools.
func (s *Store) Compact() error {
	for {
		if again, err := s.compactOnce(s.pickCompaction); !again || err != nil {
			return err
		}
	}
}

// compactOnce runs the compaction that pick wants in the current Version, if any.
func (s *Store) compactOnce(pick func(*layers.Version) *compaction) (ran bool, err error) {
	s.compactMu.Lock()
	defer s.compactMu.Unlock()
	v, _, err := s.acquireLayers()
	if err != nil {
		return false, nil // closing
	}
	defer v.ReleaseLayers()
	c := pick(v)
	if c == nil {
		return false, nil
	}
	return true, s.compact(v, c)
}

// pickCompaction returns the most urgent merge of either family, or nil.
func (s *Store) pickCompaction(v *layers.Version) *compaction {
	l0 := settledLevel0(v)
	if base := s.baseLevel(v); len(l0) >= s.opts.L0Layers || s.heavyLevel0(v, l0, base) {
		return compactionOf(v, false, 0, base, l0)
	}
	if c := s.pickMain(v); c != nil {
		return c
	}
	return s.pickHistory(v)
}

// heavyLevel0 reports whether l0 of level 0 refers to so many values, against all that
// is below, that it should be merged early: what it replaced there, or within
// itself, may be most of the disk. It must not cost much more than level 0 itself.
func (s *Store) heavyLevel0(v *layers.Version, l0 []*layers.Layer, base int) bool {
	const cheap = 1 << 20
	if s.opts.CollectEvery < 0 || len(l0) == 0 || levelBytes(v.Levels[base]) > levelFanout*max(levelBytes(l0), cheap) {
		return false
	}
	var below int64
	for _, level := range v.Levels {
		below += levelWeight(level)
	}
	return levelWeight(l0) > below/4
}

// baseLevel is where level 0 is merged to: the bottom while it is small, then
// the level above it, and so on. Never past a level that has layers: what is older
// would come to lie above what is newer.
func (s *Store) baseLevel(v *layers.Version) int {
	base, size, limit := layers.BottomLevel, levelBytes(v.Levels[layers.BottomLevel]), s.opts.Level1Bytes
	for base > 1 && size > limit {
		base, size, limit = base-1, size/levelFanout, levelFanout*s.opts.Level1Bytes
	}
	for level := 1; level < base; level++ {
		if len(v.Levels[level]) > 0 {
			return level
		}
	}
	return base
}

func levelBytes(ls []*layers.Layer) (n int64) {
	for _, l := range ls {
		n += l.Desc().Bytes
	}
	return n
}

// pickMain merges the level that is most over its target into the next: an
// eighth of the next one's, counted from the bottom.
func (s *Store) pickMain(v *layers.Version) *compaction {
	target := levelBytes(v.Levels[layers.BottomLevel])
	best, bestScore := 0, 1.0
	for level := layers.BottomLevel - 1; level >= 1; level-- {
		target /= levelFanout
		bytes := levelBytes(v.Levels[level])
		score := float64(bytes) / float64(max(target, s.opts.Level1Bytes))
		if score > bestScore {
			best, bestScore = level, score
		}
	}
	if best == 0 {
		return nil
	}
	return compactionOf(v, false, best, best+1, []*layers.Layer{oldestOf(v.Levels[best])})
}

// pickHistory keeps the history family leveled.
func (s *Store) pickHistory(v *layers.Version) *compaction {
	if len(v.History[0]) >= s.opts.L0Layers {
		return compactionOf(v, true, 0, 1, v.History[0])
	}
	target := float64(s.opts.Level1Bytes)
	best, bestScore := 0, 1.0
	for level := 1; level < layers.NumLevels-1; level++ {
		if score := float64(levelBytes(v.History[level])) / target; score > bestScore {
			best, bestScore = level, score
		}
		target *= levelFanout
	}
	if best == 0 {
		return nil
	}
	return compactionOf(v, true, best, best+1, []*layers.Layer{oldestOf(v.History[best])})
}

// oldestOf goes round: the oldest file of a level has waited longest.
func oldestOf(ls []*layers.Layer) *layers.Layer {
	return slices.MinFunc(ls, func(a, b *layers.Layer) int { return int(a.Desc().Num) - int(b.Desc().Num) })
}

// compactionOf merges inputs of one level with all that lies in the target level
// between their first and last key.
func compactionOf(v *layers.Version, history bool, from, to int, inputs []*layers.Layer) *compaction {
	// An output may reach from one input across a gap to the next: what lies in
	// the gap is merged too, or the level would not stay disjoint.
	c := &compaction{history: history, level: to, inputs: slices.Clone(inputs)}
	if from == to {
		return c
	}
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
	target := v.Levels[to]
	if history {
		target = v.History[to]
	}
	for _, l := range target {
		if l.Desc().Range.Overlaps(hull) {
			c.inputs = append(c.inputs, l)
		}
	}
	return c
}

// compact rewrites the inputs without what nobody can read, and swaps the
// outputs in: files synced, verified against the inputs, catalog synced, Version
// swapped; the last reader of the old Version unlinks the inputs. The caller
// holds compactMu, under which v was the current Version's set of layers.
func (s *Store) compact(v *layers.Version, c *compaction) error {
	if err := s.Err(); err != nil {
		return err
	}
	if err := s.compactInOrder(v, c); err != nil {
		return fmt.Errorf("compact %d layers to %s level %d: %w", len(c.inputs), c.mainKind(), c.level, err)
	}
	return nil
}

func (s *Store) compactInOrder(v *layers.Version, c *compaction) error {
	snap := c.snap
	if snap == nil {
		var err error
		if snap, err = s.recentTreeSnapshot(); err != nil {
			return err
		}
	}
	m := s.newMerge(v, c, snap)
	defer m.abort()
	outputs, err := m.run()
	if err != nil {
		return err
	}
	s.at(StepMergeWritten)
	if err := m.verify(outputs); err != nil {
		s.discard(outputs)
		return fmt.Errorf("verify: %w", err)
	}
	s.at(StepMergeVerified)
	rows := s.catalog.newBatch()
	for _, l := range c.inputs {
		rows.delete(rowKey(rowLayer, uint64(l.Desc().Num)))
	}
	for _, l := range outputs {
		s.setLayerRows(rows, l.Desc())
	}
	if err := s.commitSynced(rows, outputs); err != nil {
		return err
	}
	s.at(StepMergeCommitted)
	for _, l := range c.inputs {
		l.MarkObsolete()
	}
	s.publishDrop(func(e *edit) {
		e.layers = slices.DeleteFunc(e.layers, func(l *layers.Layer) bool { return slices.Contains(c.inputs, l) })
		e.layers = append(e.layers, outputs...)
		e.horizon = snap.Horizon()
	})
	s.reclaim.noteEdit(c.inputs, outputs)
	s.at(StepMergePublished)
	s.countCompaction(c, outputs)
	return nil
}

func (s *Store) countCompaction(c *compaction, outputs []*layers.Layer) {
	bytes := levelBytes(outputs)
	s.metrics.replacedBytes.Add(levelBytes(c.inputs))
	if len(c.inputs) == 1 && c.inputs[0].Desc().Level == c.level {
		s.metrics.collections.Add(1)
		s.metrics.collectedBytes.Add(bytes)
		return
	}
	s.metrics.compactions.Add(1)
	s.metrics.compactedBytes.Add(bytes)
}
