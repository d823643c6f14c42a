package pageserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"stemma/pageserver/object"
	"stemma/timeline"
)

// lifecycleEvery is how often the rules of all buckets are followed; more often when
// a day is shorter.
const lifecycleEvery = time.Hour

// lifecycleCounters are what the worker below did since the start.
type lifecycleCounters struct {
	runs, errors, scanned, expired, removed, changed, aborted atomic.Int64
	buckets                                                   atomic.Int64 // with rules, in the last run
}

// followLifecycles is the worker that does what is due by the lifecycle rules, until
// the jobs end.
func (s *Server) followLifecycles() {
	defer s.jobs.end()
	tick := time.NewTicker(max(min(lifecycleEvery, s.o.LifecycleDay/4), 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.jobs.ctx.Done():
			return
		}
		if err := s.followAll(s.jobs.ctx); err != nil && s.jobs.ctx.Err() == nil {
			s.lifecycle.errors.Add(1)
			s.log.Warn("lifecycle rules not followed, trying again", "err", err)
		}
	}
}

// followAll goes through the buckets once. A fork that nothing was ever written to costs a
// look into memory: rules that it inherited are only for its own objects. A bucket that
// fails does not keep the others from being looked into.
func (s *Server) followAll(ctx context.Context) error {
	p := pauser{ctx: ctx, share: s.store.BackgroundShare, since: time.Now()}
	o := object.LifecycleOptions{Calendar: object.Calendar{Day: s.o.LifecycleDay}, Now: s.store.Due().Time(), Pause: p.pause}
	var errs []error
	var withRules int64
	looked := 0
	for info := range s.store.WrittenBuckets() {
		if looked++; looked%1000 == 0 && p.pause() != nil || ctx.Err() != nil {
			break
		}
		if info.ReadOnly {
			continue
		}
		report, err := s.objects.RunLifecycle(ctx, info.Name, &o)
		s.lifecycle.add(&report)
		if report.HasRules {
			withRules++
		}
		if err != nil && !errors.Is(err, timeline.ErrNoSuchBucket) && !errors.Is(err, timeline.ErrReadOnly) && len(errs) < 10 {
			errs = append(errs, err)
		}
	}
	s.lifecycle.runs.Add(1)
	s.lifecycle.buckets.Store(withRules)
	return errors.Join(errs...)
}

func (c *lifecycleCounters) add(r *object.LifecycleReport) {
	c.scanned.Add(r.Scanned)
	c.expired.Add(r.Expired)
	c.removed.Add(r.Removed)
	c.changed.Add(r.Changed)
	c.aborted.Add(r.Aborted)
}

func (c *lifecycleCounters) write(w io.Writer) {
	counter := func(name string, v *atomic.Int64) { metrics.WriteCounterUint64(w, name, uint64(v.Load())) }
	counter("stemma_lifecycle_runs_total", &c.runs)
	counter("stemma_lifecycle_errors_total", &c.errors)
	counter("stemma_lifecycle_keys_scanned_total", &c.scanned)
	for action, v := range map[string]*atomic.Int64{"expired": &c.expired, "removed": &c.removed, "changed": &c.changed, "aborted": &c.aborted} {
		counter(fmt.Sprintf("stemma_lifecycle_actions_total{action=%q}", action), v)
	}
	metrics.WriteGaugeUint64(w, "stemma_lifecycle_buckets", uint64(c.buckets.Load()))
}

// pauser keeps a worker to its share of one processor's time.
type pauser struct {
	ctx   context.Context
	share func() int // percent
	since time.Time  // when the work since the last pause began
}

// maxPause bounds one pause.
const maxPause = time.Second

// pause waits as long as the work that was done asks for. Error: that of ctx.
func (p *pauser) pause() error {
	worked := time.Since(p.since)
	if percent := time.Duration(p.share()); percent < 100 && worked > 0 {
		t := time.NewTimer(min(worked*(100-percent)/percent, maxPause))
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.ctx.Done():
		}
	}
	p.since = time.Now()
	return p.ctx.Err()
}
