package timeline_test

import (
	"fmt"
	"testing"

	"stemma/timeline"
	"stemma/timeline/timelinetest"
)

// One history, many ways to run it: sizes, restarts, crashes, where bodies lie.
// Ids, LSNs and everything that can be read must be the same.
func TestMetamorphic(t *testing.T) {
	variants := []timelinetest.Variant{
		{Name: "never flushed", Tune: func(o *timeline.Options) { o.MemlayerBytes, o.WALFlushBytes, o.WALStopBytes = 1<<30, 1<<30, 1<<31 }},
		{Name: "tiny memlayers", Tune: func(o *timeline.Options) { o.MemlayerBytes = 1 << 10 }},
		{Name: "flushed now and then", Flush: 7, Tune: func(o *timeline.Options) { o.MemlayerBytes = 1 << 30 }},
		{Name: "flushed after every operation", Flush: 1, Compact: 3},
		{Name: "one deep level after the other", Compact: 5, Flush: 2, Tune: func(o *timeline.Options) { o.Level1Bytes, o.LayerBytes = 2<<10, 1<<10 }},
		{Name: "many layers in level 0", Flush: 3, Tune: func(o *timeline.Options) { o.L0Layers = 20 }},
		{Name: "restarts", Restart: 5},
		{Name: "crashes", Crash: 6},
		{Name: "crashes and flushes", Crash: 7, Flush: 5, Compact: 11},
		{Name: "hardly any cache", Flush: 10, Tune: func(o *timeline.Options) { o.CacheBytes = 1 << 10; o.Values.MaxOpenFiles = 1 }},
		{Name: "everything parted", Flush: 4, Tune: func(o *timeline.Options) { o.PartBytes = 1 }},
		{Name: "nothing parted", Inline: true, Flush: 4, Tune: func(o *timeline.Options) { o.PartBytes = 1 << 20 }},
		{Name: "everything streamed", Stream: true, Crash: 20},
		{Name: "large value segments", Tune: func(o *timeline.Options) { o.Values.SegmentBytes, o.Values.PackedSegmentBytes = 64<<20, 64<<20 }},
	}
	for _, seed := range modelSeeds(t, 11) {
		m, err := timelinetest.NewModel(timelinetest.Config{Seed: seed, Steps: steps(120), Calm: true})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Run(); err != nil {
			t.Fatal(err)
		}
		for _, v := range variants {
			t.Run(fmt.Sprintf("%d/%s", seed, v.Name), func(t *testing.T) {
				t.Parallel()
				t.Logf("run again with -run TestMetamorphic -seed %d", seed)
				if err := timelinetest.Replay(m.History(), m.Oracle(), v, seed); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
