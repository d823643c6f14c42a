package timeline

import (
	"fmt"
	"sync/atomic"
	"time"
)

// throttle keeps background work to a share of one processor's time, so that
// it does not stand in the way of those who read and write.
type throttle struct {
	percent atomic.Int32 // 1 to 100; 100: no limit
	paused  atomic.Int64 // ns that work was held back
}

// SetBackgroundShare sets how much of one processor's time compaction, collection,
// rollups and reclaim may take, 1 to 100 percent, at once. It does not bind them
// while level 0 is twice as full as it should be, nor CollectFull and Detach.
func (s *Store) SetBackgroundShare(percent int) error {
	if percent < 1 || percent > 100 {
		return fmt.Errorf("background share of %d percent, want 1 to 100: %w", percent, ErrBadShare)
	}
	s.throttle.percent.Store(int32(percent))
	return nil
}

// BackgroundShare returns what SetBackgroundShare set, in percent.
func (s *Store) BackgroundShare() int { return int(s.throttle.percent.Load()) }

// pacer holds one background job back. Not safe for concurrent use.
type pacer struct {
	s     *Store
	full  bool // what is waited for is not held back
	steps int
	since time.Time // when the work since the last pause began
}

func (s *Store) newPacer(full bool) *pacer { return &pacer{s: s, full: full, since: time.Now()} }

const (
	pacerSteps = 128                   // records between two looks at the clock
	paceAfter  = 2 * time.Millisecond  // work between two pauses
	maxPause   = 50 * time.Millisecond // of one pause
)

// step is called for every record; now and then it waits.
func (p *pacer) step() {
	if p.steps++; p.full || p.steps%pacerSteps != 0 {
		return
	}
	worked := time.Since(p.since)
	if worked < paceAfter {
		return
	}
	percent := time.Duration(p.s.throttle.percent.Load())
	if percent < 100 && int(p.s.level0.Load()) < 2*p.s.opts.L0Layers {
		pause := min(worked*(100-percent)/percent, maxPause)
		select {
		case <-time.After(pause):
		case <-p.s.closing.Done():
		}
		p.s.throttle.paused.Add(int64(pause))
	}
	p.since = time.Now()
}
