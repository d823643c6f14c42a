package storeload

import (
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

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
	if t == nil {
		return 0, fmt.Errorf("no bucket %s", bucket)
	}
	for ; t != nil; t = byID[t.ReadAncestor] {
		if t.Written {
			hops++
		}
	}
	return hops, nil
}
