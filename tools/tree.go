package tools

import (
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// drawTree draws each root with its forks below it. A branch that reads on
// elsewhere than its lineage says so.
//
//	1 data (born 100)
//	├─ 2 fork (born 120) at 119
//	│  └─ 4 deeper (born 150) at 149, nothing written
//	└─ 3 other (born 130) at 110, dropped at 140
func drawTree(s *timeline.Offline, _ vfs.FS, out io.Writer) error {
	st, err := s.Recover(nil)
	if err != nil {
		return err
	}
	d := drawing{out: out, children: make(map[layers.TimelineID][]timeline.OfflineTimeline), snapshots: make(map[layers.TimelineID][]timeline.Snapshot)}
	for _, t := range st.Timelines {
		d.children[t.Ancestor] = append(d.children[t.Ancestor], t)
	}
	for _, p := range st.Snapshots {
		d.snapshots[p.Timeline] = append(d.snapshots[p.Timeline], p)
	}
	fmt.Fprintf(out, "%d timelines, last LSN %d, horizon %d\n", len(st.Timelines), st.Log.LastLSN, st.Horizon)
	for _, root := range d.children[0] {
		d.draw(root)
	}
	return nil
}

type drawing struct {
	out       io.Writer
	children  map[layers.TimelineID][]timeline.OfflineTimeline
	snapshots map[layers.TimelineID][]timeline.Snapshot
}

// draw writes a root and all below it. Chains are as long as a user makes them,
// so the path is a list and not the stack.
func (d *drawing) draw(root timeline.OfflineTimeline) {
	type level struct {
		rest   []timeline.OfflineTimeline
		indent string
	}
	d.line("", "", &root)
	path := []level{{d.children[root.ID], ""}}
	for len(path) > 0 {
		top := &path[len(path)-1]
		if len(top.rest) == 0 {
			path = path[:len(path)-1]
			continue
		}
		t, indent := top.rest[0], top.indent
		top.rest = top.rest[1:]
		branch, below := "├─ ", indent+"│  "
		if len(top.rest) == 0 {
			branch, below = "└─ ", indent+"   "
		}
		d.line(indent+branch, below, &t)
		path = append(path, level{d.children[t.ID], below})
	}
}

func (d *drawing) line(indent, below string, t *timeline.OfflineTimeline) {
	fmt.Fprintf(d.out, "%s%d %s (born %d)", indent, t.ID, t.Bucket, t.Birth)
	if t.Ancestor != 0 {
		fmt.Fprintf(d.out, " at %d", t.BranchLSN)
	}
	if t.ReadAncestor != t.Ancestor || t.ReadLSN != t.BranchLSN {
		fmt.Fprintf(d.out, ", reads on in %d at %d", t.ReadAncestor, t.ReadLSN)
	}
	if !t.Written {
		fmt.Fprint(d.out, ", nothing written")
	}
	if t.Dropped != wal.LSN(0) {
		fmt.Fprintf(d.out, ", dropped at %d", t.Dropped)
	}
	fmt.Fprintln(d.out)
	for _, p := range d.snapshots[t.ID] {
		fmt.Fprintf(d.out, "%s  snapshot %d %q at %d\n", below, p.ID, p.Name, p.LSN)
	}
}
