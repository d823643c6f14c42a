package timeline

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// Plan says what CollectFull would find: what each layer and value segment
// keeps, and why, and what is dead. All sizes are bytes.
type Plan struct {
	LSN, Horizon wal.LSN     // it was decided by
	Layers       []LayerPlan // in the order of the Version: level 0, main levels, history
	// Memlayers are all records that are not flushed: not compressed, bodies included.
	Memlayers LayerPlan
	Segments  []SegmentPlan // by number
	Total     PlanTotal
}

// LayerPlan is what a layer keeps. Shares of a file are by the bytes of its
// records before compression.
type LayerPlan struct {
	Num         layers.FileNum
	Kind        layers.LayerKind
	Level       int
	Bytes       int64
	Records     int64 // range tombstones included
	DeadRecords int64
	Kept        [gc.NumReasons]int64 // by why; of gc.None: nothing
	Dead        int64
	// DeadValues is what dead records refer to in value segments; others may, too.
	DeadValues int64
}

// SegmentPlan is what lives in a value segment.
type SegmentPlan struct {
	Num   layers.FileNum
	Bytes int64 // allocated on disk
	Live  int64 // stored values that a record refers to which is kept
	Dead  int64 // the rest
}

// PlanTotal adds up a Plan, memlayers aside.
type PlanTotal struct {
	LayerBytes, LayerDead    int64
	ValueBytes, ValueDead    int64
	Kept                     [gc.NumReasons]int64
	Records, DeadRecords     int64
	LayersDirty, SegsDirty   int // with anything dead
	TimelinesDead            int // nobody reads them
	TimelinesUndeletable     int // their undo time runs
	LayerCount, SegmentCount int
}

// CollectPlan finds out what CollectFull would do, and writes nothing. It costs
// the entries of the whole store, more than once when there are millions of values.
//
// Errors: ctx's, ErrClosed, layers.ErrCorrupt, those of the disk.
func (s *Store) CollectPlan(ctx context.Context) (Plan, error) {
	p, err := s.collectPlan(ctx)
	if err != nil {
		return Plan{}, fmt.Errorf("plan a collection: %w", err)
	}
	return p, nil
}

func (s *Store) collectPlan(ctx context.Context) (Plan, error) {
	c, err := s.newCensus(ctx, nil)
	if err != nil {
		return Plan{}, err
	}
	defer c.done()
	p := planner{census: c, kept: make(map[*part]*partPlan, len(c.parts))}
	for _, part := range c.parts {
		p.kept[part] = &partPlan{}
	}
	var segments []SegmentPlan
	for table, first := newValueTable(0, maxValuesInMind), true; ; first = false {
		err := c.each(ctx, func(part *part, r *layers.Record) error {
			v, err := c.keep.next(r)
			if err != nil {
				return err
			}
			if first {
				p.record(part, r, v)
			}
			if !v.keep() {
				return nil
			}
			return table.add(ctx, s.values, r.Key.Timeline(), r.Body, gc.Needers{Many: true})
		})
		if err != nil {
			return Plan{}, err
		}
		table.footprints(s.values)
		segments = appendSegmentPlans(segments, s.values.Segments(), table)
		if table.last() {
			break
		}
		table = newValueTable(table.end, maxValuesInMind)
	}
	if err := p.stones(); err != nil {
		return Plan{}, err
	}
	plan := p.plan()
	plan.Segments = segments
	plan.addUp()
	p.timelines(&plan.Total)
	return plan, nil
}

// partPlan is what was found of a part so far, in bytes before compression.
type partPlan struct {
	kept          [gc.NumReasons]int64
	records, dead int64
	deadValues    int64
}

type planner struct {
	census *census
	kept   map[*part]*partPlan
}

func (p *planner) record(part *part, r *layers.Record, v verdict) {
	k := p.kept[part]
	k.records++
	k.kept[v.reason] += int64(recordBytes(r))
	if !v.keep() {
		k.dead++
		k.deadValues += valueBytes(r)
	}
}

func (p *planner) stones() error {
	for _, part := range p.census.parts {
		k := p.kept[part]
		for i := range part.stones {
			r := &part.stones[i]
			keep, err := p.census.keep.keepRange(r)
			if err != nil {
				return err
			}
			k.records++
			if keep {
				k.kept[gc.Tip] += int64(stoneBytes(r))
			} else {
				k.dead++
				k.kept[gc.None] += int64(stoneBytes(r))
			}
		}
	}
	return nil
}

func (p *planner) plan() Plan {
	c := p.census
	plan := Plan{LSN: c.visible, Horizon: c.snap.Horizon()}
	for _, part := range c.parts {
		k := p.kept[part]
		l := LayerPlan{Records: k.records, DeadRecords: k.dead, DeadValues: k.deadValues}
		for reason, raw := range k.kept {
			bytes := int64(math.Round(part.scale * float64(raw)))
			if gc.Reason(reason) == gc.None {
				l.Dead = bytes
			} else {
				l.Kept[reason] = bytes
			}
			l.Bytes += bytes
		}
		if part.layer == nil {
			plan.Memlayers = l
			continue
		}
		d := part.layer.Desc()
		l.Num, l.Kind, l.Level, l.Bytes = d.Num, d.Kind, d.Level, d.Bytes
		plan.Layers = append(plan.Layers, l)
	}
	return plan
}

// appendSegmentPlans adds the segments that a pass had in mind.
func appendSegmentPlans(dst []SegmentPlan, all []layers.SegmentInfo, t *valueTable) []SegmentPlan {
	for _, seg := range all {
		if seg.Num < t.first || seg.Num >= t.end {
			continue
		}
		p := SegmentPlan{Num: seg.Num, Bytes: seg.Allocated}
		for _, use := range t.segments[seg.Num] {
			p.Live += int64(use.length)
		}
		p.Dead = max(p.Bytes-p.Live, 0)
		dst = append(dst, p)
	}
	slices.SortFunc(dst, func(a, b SegmentPlan) int { return cmp.Compare(a.Num, b.Num) })
	return dst
}

func (p *Plan) addUp() {
	t := &p.Total
	for i := range p.Layers {
		l := &p.Layers[i]
		t.LayerCount++
		t.LayerBytes += l.Bytes
		t.LayerDead += l.Dead
		t.Records += l.Records
		t.DeadRecords += l.DeadRecords
		if l.DeadRecords > 0 {
			t.LayersDirty++
		}
		for reason, bytes := range l.Kept {
			t.Kept[reason] += bytes
		}
	}
	for _, seg := range p.Segments {
		t.SegmentCount++
		t.ValueBytes += seg.Bytes
		t.ValueDead += seg.Dead
		if seg.Dead > 0 {
			t.SegsDirty++
		}
	}
}

// timelines counts those that nobody reads, and those that can be undeleted.
func (p *planner) timelines(t *PlanTotal) {
	for line := range p.census.snap.Lines() {
		if p.census.snap.Dead(line.ID) {
			t.TimelinesDead++
		}
		if n := p.census.s.tree.node(line.ID); n != nil && n.fate.Load() != nil && line.Readable {
			t.TimelinesUndeletable++
		}
	}
}
