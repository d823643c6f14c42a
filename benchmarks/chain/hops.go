package main

import (
	"errors"
	"fmt"

	"stemma/benchmarks/internal/engine"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

// layersOf returns how many layers the levels of a store have, as "3/1": those of
// level 0 and the rest.
func layersOf(e *engine.Engine) string {
	m := e.Metrics()
	below := 0
	for _, l := range m.Levels[1:] {
		below += l.Layers
	}
	return fmt.Sprintf("%d/%d", m.Levels[0].Layers, below)
}

// hopsOf returns how many timelines with records of their own a read at the tip
// of a bucket of a closed store goes through.
func hopsOf(dir, bucket string) (hops int, err error) {
	fs, err := storefs.New(storefs.Options{Dir: dir, BallastBytes: -1})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, fs.Close()) }()
	off, err := timeline.OpenOffline(fs, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, off.Close()) }()
	st, err := off.Recover(nil)
	if err != nil {
		return 0, err
	}
	byID := make(map[layers.TimelineID]*timeline.OfflineTimeline, len(st.Timelines))
	var t *timeline.OfflineTimeline
	for i := range st.Timelines {
		byID[st.Timelines[i].ID] = &st.Timelines[i]
		if st.Timelines[i].Bucket == bucket {
			t = &st.Timelines[i]
		}
	}
	for ; t != nil; t = byID[t.ReadAncestor] {
		if t.Written {
			hops++
		}
	}
	return hops, nil
}
