package timeline_test

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/timeline"
	"stemma/timeline/timelinetest"
)

// faultRun makes a fixed workload while call k of an area fails, and returns
// the number of calls there were.
func faultRun(seed uint64, area timelinetest.Area, reads bool, k int, errno error) (hits, calls int, err error) {
	f := timelinetest.Fault{Area: area, Reads: reads, After: k, Times: 1, Err: errno}
	m, err := timelinetest.NewModel(timelinetest.Config{
		Seed: seed, Steps: 60, Calm: true, Fault: &f,
		Tune: func(o *timeline.Options) { o.MemlayerBytes, o.CacheBytes = 4<<10, 1<<10 },
	})
	if err != nil {
		return 0, 0, err
	}
	err = m.Run()
	hits, calls = m.Faults()
	return hits, calls, errors.Join(err, m.Close())
}

// Fail every call of the log, the layers and the value segments, one per run.
// Each operation fails or does what it should, what was acknowledged is there
// after the next start, and the start succeeds.
func TestEveryCallFails(t *testing.T) {
	const most = 8 // runs per area, spread evenly
	for _, area := range []timelinetest.Area{timelinetest.AreaWAL, timelinetest.AreaLayers, timelinetest.AreaValues} {
		for _, reads := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/reads=%v", area, reads), func(t *testing.T) {
				t.Parallel()
				_, calls, err := faultRun(31, area, reads, math.MaxInt, nil)
				if err != nil {
					t.Fatal(err)
				}
				stride, struck := max(1, calls/steps(most)), 0
				for k := 0; k < calls; k += stride {
					errno := []error{syscall.EIO, syscall.ENOSPC}[k/stride%2]
					hits, _, err := faultRun(31, area, reads, k, errno)
					if err != nil {
						t.Fatalf("call %d of %d fails with %v: %v", k, calls, errno, err)
					}
					struck += hits
				}
				t.Logf("%d calls, %d failed", calls, struck)
				if calls > 0 && struck == 0 {
					t.Error("nothing failed")
				}
			})
		}
	}
}

// A disk that lies must be found out, or the checks above are worth nothing.
func TestLyingDiskIsFoundOut(t *testing.T) {
	for name, lie := range map[string]func(vfs.FS) vfs.FS{
		"log not synced": func(fs vfs.FS) vfs.FS {
			return &timelinetest.Liar{FS: fs, Area: timelinetest.AreaWAL, IgnoreSyncs: true}
		},
		"layers not synced": func(fs vfs.FS) vfs.FS {
			return &timelinetest.Liar{FS: fs, Area: timelinetest.AreaLayers, IgnoreSyncs: true}
		},
		"values not synced": func(fs vfs.FS) vfs.FS {
			return &timelinetest.Liar{FS: fs, Area: timelinetest.AreaValues, IgnoreSyncs: true}
		},
		"a write to the log is lost": func(fs vfs.FS) vfs.FS { return &timelinetest.Liar{FS: fs, Area: timelinetest.AreaWAL, DropWrite: 30} },
		"a write of values is lost":  func(fs vfs.FS) vfs.FS { return &timelinetest.Liar{FS: fs, Area: timelinetest.AreaValues, DropWrite: 9} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 8; seed++ {
				m, err := timelinetest.NewModel(timelinetest.Config{Seed: seed, Steps: 300, Lie: lie})
				if err == nil {
					err = m.Run()
					if closeErr := m.Close(); err == nil {
						err = closeErr
					}
				}
				if err != nil {
					t.Logf("found out: %.200s", err)
					return
				}
			}
			t.Error("nothing was noticed")
		})
	}
}

// An oracle that is wrong in one key must be contradicted.
func TestWrongAnswerIsFoundOut(t *testing.T) {
	for _, wrong := range []string{"lost", "changed", "revived"} {
		t.Run(wrong, func(t *testing.T) {
			m, err := timelinetest.NewModel(timelinetest.Config{Seed: 5, Steps: 150, Calm: true})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := m.Run(); err != nil {
				t.Fatal(err)
			}
			if !m.Oracle().Falsify(wrong) {
				t.Fatal("no key to be wrong about")
			}
			if err := m.Check(); err == nil {
				t.Error("nothing was noticed")
			} else {
				t.Logf("found out: %.200s", err)
			}
		})
	}
}

// One bit that flips in a file at rest must be noticed, not served.
func TestFlippedBitIsFoundOut(t *testing.T) {
	for _, area := range []timelinetest.Area{timelinetest.AreaLayers, timelinetest.AreaValues} {
		t.Run(string(area), func(t *testing.T) {
			m, err := timelinetest.NewModel(timelinetest.Config{Seed: 6, Steps: 120, Calm: true})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := m.Run(); err != nil {
				t.Fatal(err)
			}
			off, err := m.FlipSomewhere(area)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Reread(); err == nil {
				t.Errorf("bit at %s was not noticed", off)
			} else {
				t.Logf("%s, found out: %.200s", off, err)
			}
		})
	}
}
