package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Run drives w for all rounds. Errors of single operations are counted in the
// result; an error is returned when a round could not be prepared, when ctx
// ended, when the CPU could not be read, or when no operation succeeded.
func Run(ctx context.Context, w Workload, o Options) (Result, error) {
	res := Result{Name: w.Name, Unit: w.Unit}
	for i := range max(o.Rounds, 1) {
		r, err := RunRound(ctx, w, o, i)
		if err != nil {
			return res, err
		}
		res.Rounds = append(res.Rounds, r)
	}
	return res, nil
}

// RunRound drives w for one round: what Run does Options.Rounds times, for those
// who interleave the rounds of several workloads. Errors: as of Run.
func RunRound(ctx context.Context, w Workload, o Options, round int) (Round, error) {
	if err := o.validate(); err != nil {
		return Round{}, err
	}
	if w.Before != nil {
		if err := w.Before(ctx, round); err != nil {
			return Round{}, fmt.Errorf("prepare round %d of %s: %w", round, w.Name, err)
		}
	}
	r, err := drive(ctx, &w, &o, round)
	if w.After != nil {
		err = errors.Join(err, w.After(ctx, round))
	}
	if err == nil && r.Ops == 0 && r.FirstError != "" {
		err = fmt.Errorf("no operation of %s succeeded: %s", w.Name, r.FirstError)
	}
	return r, err
}

// runner is one round that is being driven.
type runner struct {
	w           *Workload
	o           *Options
	start, stop time.Time // of what is measured; stop is zero when Options.Ops counts
	shards      []*shard
	tickets     atomic.Int64 // operations begun since start, when Options.Ops counts
}

func drive(ctx context.Context, w *Workload, o *Options, round int) (Round, error) {
	start := time.Now().Add(o.Warmup)
	r := &runner{w: w, o: o, start: start}
	if o.Duration > 0 {
		r.stop = start.Add(o.Duration)
	}
	for range min(o.Workers, maxShards) {
		r.shards = append(r.shards, newShard(len(w.Classes)))
	}
	ended := make(chan struct{}) // closed when all workers have ended
	meter := meterCPU(o.CPU, r.start, r.stop, ended)
	work := r.closedLoop
	var p *pacer
	if o.Rate > 0 {
		p = newPacer(r)
		go p.run(ctx)
		work = func(ctx context.Context, worker int, rng *rand.Rand) { r.openLoop(ctx, p, worker, rng) }
	}
	var workers sync.WaitGroup
	for i := range o.Workers {
		rng := rand.New(rand.NewPCG(o.Seed, uint64(round)<<32|uint64(i)))
		workers.Go(func() { work(ctx, i, rng) })
	}
	workers.Wait()
	end := time.Now()
	close(ended)
	res := newRound(w)
	for _, s := range r.shards {
		res.add(s)
	}
	if p != nil {
		res.Unsent = p.unsent(res.Latency)
	}
	if !r.stop.IsZero() && end.After(r.stop) {
		end = r.stop
	}
	res.Elapsed = max(end.Sub(start), 0)
	used, err := meter()
	res.CPU = used
	return res, errors.Join(err, ctx.Err())
}

// closedLoop does one operation after the other.
func (r *runner) closedLoop(ctx context.Context, worker int, rng *rand.Rand) {
	for ctx.Err() == nil {
		begin := time.Now()
		if begin.Before(r.start) {
			// warm-up
		} else if r.stop.IsZero() {
			if r.tickets.Add(1) > r.o.Ops {
				return
			}
		} else if !begin.Before(r.stop) {
			return
		}
		if !r.once(ctx, worker, rng, begin) {
			return
		}
	}
}

// openLoop does what the pacer says is due.
func (r *runner) openLoop(ctx context.Context, p *pacer, worker int, rng *rand.Rand) {
	for begin := range p.due {
		if !r.once(ctx, worker, rng, begin) {
			p.end()
			return
		}
	}
}

// once does one operation that began, or was meant to begin, at begin. It reports
// whether the workload goes on.
func (r *runner) once(ctx context.Context, worker int, rng *rand.Rand, begin time.Time) bool {
	done, err := r.w.Op(ctx, worker, rng)
	end := time.Now()
	if errors.Is(err, ErrEnd) || (err != nil && ctx.Err() != nil) {
		return false
	}
	timed := !begin.Before(r.start)
	counted := timed
	if !r.stop.IsZero() {
		counted = !end.Before(r.start) && end.Before(r.stop)
	}
	r.shards[worker%len(r.shards)].record(done, err, end.Sub(begin), timed, counted)
	return true
}
