package load

import (
	"context"
	"errors"
)

// Contender is one of two workloads whose rounds are interleaved.
type Contender struct {
	Workload Workload
	Options  Options
	// Pause stops its server while the other one runs, Resume lets it go on. May be nil.
	Pause, Resume func() error
}

// Interleave returns the order of rounds of each of A and B: A B B A A B B A ...,
// so that a drift of the machine falls on both alike. True stands for B.
func Interleave(rounds int) []bool {
	order := make([]bool, 0, 2*rounds)
	for i := range rounds {
		order = append(order, i%2 == 1, i%2 == 0)
	}
	return order
}

// Interleaved runs the rounds of a and b in turns and returns their results. Without
// a b it runs those of a. Errors: as of Run.
func Interleaved(ctx context.Context, a, b *Contender, rounds int) (ra, rb Result, err error) {
	ra = Result{Name: a.Workload.Name, Unit: a.Workload.Unit}
	if b == nil {
		a.Options.Rounds = rounds
		ra, err = Run(ctx, a.Workload, a.Options)
		return ra, rb, err
	}
	rb = Result{Name: b.Workload.Name, Unit: b.Workload.Unit}
	for _, second := range Interleave(rounds) {
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
func oneRound(ctx context.Context, now, other *Contender, round int) (r Round, err error) {
	if other.Pause != nil {
		if err := other.Pause(); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, other.Resume()) }()
	}
	return RunRound(ctx, now.Workload, now.Options, round)
}
