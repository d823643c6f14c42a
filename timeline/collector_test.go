package timeline

import (
	"math/rand/v2"
	"slices"
	"testing"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// needs finds what collector.changed finds, with maps.
type needs struct {
	lines map[layers.TimelineID]gc.Line
}

func (o *needs) changed(lines []gc.Line) []layers.TimelineID {
	set := make(map[layers.TimelineID]bool)
	now := make(map[layers.TimelineID]gc.Line)
	up := func(in map[layers.TimelineID]gc.Line, id layers.TimelineID) {
		for ; id != 0; id = in[id].ReadAncestor {
			set[id] = true
		}
	}
	for _, l := range lines {
		now[l.ID] = l
		old, known := o.lines[l.ID]
		if !known && !l.Readable || known && (old.Readable != l.Readable || old.ReadAncestor != l.ReadAncestor || old.ReadLSN != l.ReadLSN || !slices.Equal(old.Pins, l.Pins)) {
			up(o.lines, l.ID)
		}
	}
	for id := range o.lines {
		if _, ok := now[id]; !ok {
			up(o.lines, id)
		}
	}
	for _, l := range lines {
		if set[l.ID] {
			up(now, l.ReadAncestor)
		}
	}
	var ids []layers.TimelineID
	for id := range set {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	o.lines = now
	return ids
}

// What a collection looks at again is found in trees that grow, lose timelines, and
// change who reads whom.
func TestCollectorChanged(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var lines []gc.Line
		var next layers.TimelineID
		c, o, empty := &collector{}, &needs{}, newTree()
		for round := range 30 {
			for range rng.IntN(6) {
				next += layers.TimelineID(1 + rng.IntN(3))
				l := gc.Line{ID: next, Birth: wal.LSN(next), Readable: rng.IntN(4) > 0}
				if len(lines) > 0 && rng.IntN(4) > 0 {
					l.ReadAncestor, l.ReadLSN = lines[rng.IntN(len(lines))].ID, wal.LSN(next)-1
				}
				lines = append(lines, l)
			}
			for i := range lines {
				switch rng.IntN(20) {
				case 0:
					lines[i].Readable = !lines[i].Readable
				case 1:
					lines[i].Pins = append(slices.Clone(lines[i].Pins), wal.LSN(1000+round))
				case 2: // rolled up: it reads on elsewhere
					lines[i].ReadAncestor, lines[i].ReadLSN = 0, 0
					if j := rng.IntN(i + 1); j < i {
						lines[i].ReadAncestor, lines[i].ReadLSN = lines[j].ID, 1
					}
				}
			}
			lines = slices.DeleteFunc(lines, func(l gc.Line) bool {
				read := slices.ContainsFunc(lines, func(r gc.Line) bool { return r.ReadAncestor == l.ID })
				return !read && rng.IntN(10) == 0
			})
			snap := &treeSnapshot{Tree: gc.NewTree(slices.Clone(lines), 0)}
			if got, want := c.changed(snap, empty), o.changed(lines); !slices.Equal(got, want) {
				t.Fatalf("seed %d, round %d: %d, want %d", seed, round, got, want)
			}
			if len(c.known) != len(lines) {
				t.Fatalf("seed %d, round %d: %d timelines are known of %d", seed, round, len(c.known), len(lines))
			}
		}
	}
}

// Forks that can be read as far back as their source share what says so.
func TestSetRetention(t *testing.T) {
	var a, b, c node
	like := a.setRetention(retention{window: 5}, nil)
	if b.setRetention(retention{window: 5}, like) != like || b.retention.Load() != like {
		t.Error("equals are not shared")
	}
	if c.setRetention(retention{window: 5, floor: 1}, like) == like || c.retention.Load().floor != 1 || like.floor != 0 {
		t.Error("others are")
	}
}
