package timeline

import (
	"context"
	"fmt"
	"slices"

	"stemma/gc"
	"stemma/layers"
)

// CollectReport is what a CollectFull gave back. Sizes are bytes of files.
type CollectReport struct {
	LayersRewritten int64 // by merges and for their garbage
	// LayerBytesFreed is what the layers took that went, less what replaced them;
	// below zero when records were rolled up.
	LayerBytesFreed int64
	ValueBytesFreed int64 // of value segments
	TimelinesPurged int64
	// Timelines are those that were dropped and still held something when the
	// collection began.
	Timelines []DroppedTimeline
}

// DroppedTimeline is a timeline whose bytes a collection gave back.
type DroppedTimeline struct {
	Timeline layers.TimelineID
	Name     string // the last one of its bucket
	// Exclusive is what it alone needed until it was dropped, in bytes. What only
	// several dropped ones shared counts for none of them.
	Exclusive int64
}

// freed reads the counters that a report is made of.
func (c *counters) freed() CollectReport {
	made := c.compactedBytes.Load() + c.collectedBytes.Load() + c.rollupBytes.Load()
	return CollectReport{
		LayersRewritten: c.compactions.Load() + c.collections.Load(),
		LayerBytesFreed: c.replacedBytes.Load() - made,
		ValueBytesFreed: c.reclaimedBytes.Load(),
		TimelinesPurged: c.purged.Load(),
	}
}

func (r CollectReport) since(before CollectReport) CollectReport {
	return CollectReport{
		LayersRewritten: r.LayersRewritten - before.LayersRewritten,
		LayerBytesFreed: r.LayerBytesFreed - before.LayerBytesFreed,
		ValueBytesFreed: r.ValueBytesFreed - before.ValueBytesFreed,
		TimelinesPurged: r.TimelinesPurged - before.TimelinesPurged,
	}
}

// droppedUsage says what the dropped timelines hold alone: what they would if
// they were read as before. It is free when there are none.
func (s *Store) droppedUsage(ctx context.Context) ([]DroppedTimeline, error) {
	snap, err := s.takeTreeSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	dropped := make(map[layers.TimelineID]bool)
	var lines []gc.Line
	for line := range snap.Lines() {
		line.Pins = slices.Clone(line.Pins) // a tree sorts them
		if n := s.tree.node(line.ID); n != nil && !line.Readable && snap.dead(line.ID) {
			dropped[line.ID] = true
			line.Readable, line.Cutoff = true, n.cutoff(snap.Horizon())
		}
		lines = append(lines, line)
	}
	if len(dropped) == 0 {
		return nil, nil
	}
	u, err := s.usage(ctx, &treeSnapshot{gc.NewTree(lines, snap.Horizon()), snap.newest, snap.last}, maxValuesInMind)
	if err != nil {
		return nil, fmt.Errorf("add up what dropped timelines hold: %w", err)
	}
	var list []DroppedTimeline
	for i := range u.Timelines {
		t := &u.Timelines[i]
		if dropped[t.Timeline] && t.Exclusive > 0 {
			list = append(list, DroppedTimeline{Timeline: t.Timeline, Name: t.Name, Exclusive: t.Exclusive})
		}
	}
	return list, nil
}

// countKept sums what the last assessments found. The caller holds collectMu.
func (s *Store) countKept() {
	var kept [gc.NumReasons]int64
	for _, a := range s.collector.assessed {
		for reason, bytes := range a.kept {
			kept[reason] += bytes
		}
	}
	for reason, bytes := range kept {
		s.metrics.kept[reason].Store(bytes)
	}
}
