package main

import (
	"fmt"
	"time"

	"stemma/benchmarks/internal/engine"
)

// watch looks at the disk every so often until it is stopped.
type watch struct {
	e     *engine.Engine
	start time.Time
	done  chan struct{}
	ended chan error

	looks []look // after stop
	peak  engine.Disk
}

type look struct {
	after time.Duration
	engine.Disk
}

func newWatch(e *engine.Engine, start time.Time) *watch {
	w := &watch{e: e, start: start, done: make(chan struct{}), ended: make(chan error, 1)}
	go func() { w.ended <- w.run() }()
	return w
}

func (w *watch) run() error {
	tick := time.NewTicker(*sample)
	defer tick.Stop()
	for last := false; ; {
		d, err := engine.DiskOf(w.e.Dir)
		if err != nil {
			return err
		}
		w.looks = append(w.looks, look{time.Since(w.start), d})
		if d.Data() > w.peak.Data() {
			w.peak = d
		}
		if last {
			return nil
		}
		select {
		case <-tick.C:
		case <-w.done:
			last = true
		}
	}
}

// stop ends the looking.
func (w *watch) stop() error {
	close(w.done)
	return <-w.ended
}

// print shows up to lines of the looks, evenly spread.
func (w *watch) print(live int64, lines int) {
	fmt.Printf("%10s %12s %12s %12s %8s\n", "after", "layers MiB", "values MiB", "log MiB", "times")
	step := max(1, len(w.looks)/max(lines, 1))
	for i := 0; i < len(w.looks); i += step {
		l := w.looks[i]
		fmt.Printf("%10v %12s %12s %12s %8.3f\n", l.after.Round(10*time.Millisecond), engine.MiB(l.Layers), engine.MiB(l.Values), engine.MiB(l.WAL),
			float64(l.Data())/float64(live))
	}
}
