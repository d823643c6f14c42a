package suite

import (
	"context"
	"errors"

	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
)

// contender is one of two workloads whose rounds are interleaved.
type contender struct {
	w    load.Workload
	o    load.Options
	site *Site // that is paused while the other runs; nil: none
}

// interleaved runs the rounds of a and b in turns, a b b a, and returns their
// results. Without a b it runs those of a.
func interleaved(ctx context.Context, a, b *contender, rounds int) (ra, rb load.Result, err error) {
	ra = load.Result{Name: a.w.Name, Unit: a.w.Unit}
	if b == nil {
		a.o.Rounds = rounds
		ra, err = load.Run(ctx, a.w, a.o)
		return ra, rb, err
	}
	rb = load.Result{Name: b.w.Name, Unit: b.w.Unit}
	for _, second := range report.Interleave(rounds) {
		now, other, res := a, b, &ra
		if second {
			now, other, res = b, a, &rb
		}
		r, err := oneRound(ctx, now, other, len(res.Rounds))
		if err != nil {
			return ra, rb, err
		}
		res.Rounds = append(res.Rounds, r)
	}
	return ra, rb, nil
}

// oneRound runs a round of now while other is paused.
func oneRound(ctx context.Context, now, other *contender, round int) (r load.Round, err error) {
	if other.site != nil {
		if err := other.site.pause(); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, other.site.resume()) }()
	}
	return load.RunRound(ctx, now.w, now.o, round)
}
