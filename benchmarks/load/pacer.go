package load

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// drainAtLeast is how long a backlog may take to be worked off after a round, if
// the round itself was shorter.
const drainAtLeast = 2 * time.Second

// pacer says when the operations of an open loop are meant to start. It hands the
// intended start to the next free worker; when none is free it waits and, since
// the starts are a fixed series, it then catches up.
type pacer struct {
	due      chan time.Time
	begin    time.Time     // of the series: the warm-up
	start    time.Time     // of what is measured
	interval time.Duration // between starts
	count    int64         // operations of the series
	giveUp   time.Time     // when the backlog is not worked off any more; zero: never
	ended    chan struct{} // closed by end
	endOnce  sync.Once

	done chan struct{} // closed when run has returned
	// Set by run.
	sent   int64     // operations that a worker took
	leftAt time.Time // when the backlog was given up; zero: it was not
}

func newPacer(r *runner) *pacer {
	p := &pacer{
		due: make(chan time.Time), ended: make(chan struct{}), done: make(chan struct{}),
		begin: r.start.Add(-r.o.Warmup), start: r.start, interval: time.Duration(float64(time.Second) / r.o.Rate),
	}
	p.interval = max(p.interval, 1)
	warm := int64((r.o.Warmup + p.interval - 1) / p.interval)
	if r.stop.IsZero() {
		p.count = warm + r.o.Ops
	} else {
		p.count = int64((r.stop.Sub(p.begin) + p.interval - 1) / p.interval)
		p.giveUp = r.stop.Add(max(r.o.Duration, drainAtLeast))
	}
	return p
}

// end makes run return: the workload has ended.
func (p *pacer) end() { p.endOnce.Do(func() { close(p.ended) }) }

// run hands out the starts until all are taken, ctx or the workload ends, or the
// backlog was not worked off in time.
func (p *pacer) run(ctx context.Context) {
	// The timers of the Go runtime may be a millisecond late when the process is
	// idle, more than many operations take. A thread of its own that sleeps in the
	// kernel is late by some ten microseconds.
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its slack with it
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	var late <-chan time.Time
	if !p.giveUp.IsZero() {
		t := time.NewTimer(time.Until(p.giveUp))
		defer t.Stop()
		late = t.C
	}
	defer close(p.done)
	defer close(p.due)
	for ; p.sent < p.count; p.sent++ {
		at := p.at(p.sent)
		if !p.sleepUntil(ctx, at) {
			return
		}
		select {
		case p.due <- at:
		case <-late:
			p.leftAt = time.Now()
			return
		case <-p.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// at is when operation i is meant to start.
func (p *pacer) at(i int64) time.Time { return p.begin.Add(time.Duration(i) * p.interval) }

// sleepUntil reports whether t came before ctx ended.
func (p *pacer) sleepUntil(ctx context.Context, t time.Time) bool {
	const slice = 10 * time.Millisecond // after which ctx is looked at
	for ctx.Err() == nil {
		d := time.Until(t)
		if d <= 0 {
			return true
		}
		ts := unix.NsecToTimespec(int64(min(d, slice)))
		_ = unix.Nanosleep(&ts, nil) // an interrupted sleep goes on in the next turn
	}
	return false
}

// unsent returns how many operations of the measured time were never started
// because the backlog was not worked off, and enters how long they had waited by
// then into h: no less than their latency would have been.
//
// It waits for run.
func (p *pacer) unsent(h *hdrhistogram.Histogram) (n int64) {
	<-p.done
	if p.leftAt.IsZero() {
		return 0
	}
	for i := p.sent; i < p.count; i++ {
		if at := p.at(i); !at.Before(p.start) {
			recordLatency(h, p.leftAt.Sub(at))
			n++
		}
	}
	return n
}
