package load

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestInterleave(t *testing.T) {
	if got, want := Interleave(4), []bool{false, true, true, false, false, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// Rounds are interleaved, a b b a, and each keeps the results of its own.
func TestInterleaved(t *testing.T) {
	var order []string
	make := func(name string) *Contender {
		w := Workload{Name: name, Unit: "op", Op: func(context.Context, int, *rand.Rand) (Done, error) { return Done{}, nil }}
		w.Before = func(_ context.Context, round int) error {
			order = append(order, name+string(rune('0'+round)))
			return nil
		}
		return &Contender{Workload: w, Options: Options{Workers: 1, Ops: 10}}
	}
	ra, rb, err := Interleaved(t.Context(), make("a"), make("b"), 3)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a0", "b0", "b1", "a1", "a2", "b2"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if len(ra.Rounds) != 3 || len(rb.Rounds) != 3 || ra.Name != "a" || rb.Name != "b" {
		t.Errorf("%+v, %+v", ra, rb)
	}
}
