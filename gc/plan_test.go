package gc

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"stemma/wal"
)

func TestCutoffAndExpiry(t *testing.T) {
	const end = wal.MaxLSN
	for _, c := range []struct {
		name     string
		h, floor wal.LSN
		window   Window
		want     wal.LSN
	}{
		{"a day", 100 * hour, 0, Window(24 * time.Hour), 76 * hour},
		{"the floor is higher", 100 * hour, 80 * hour, Window(24 * time.Hour), 80 * hour},
		{"no window", 100, 0, 0, 100},
		{"longer than time", 100, 7, 101, 7},
		{"as long as time", 100, 7, 100, 7},
		{"forever", end, 7, Forever, 7},
		{"no horizon yet", 0, 0, 5, 0},
		{"negative counts as none", 100, 0, -5, 100},
	} {
		if got := Cutoff(c.h, c.floor, c.window); got != c.want {
			t.Errorf("%s: cutoff %d, want %d", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		death  wal.LSN
		window Window
		want   wal.LSN
	}{{100, 50, 150}, {100, 0, 100}, {100, -1, 100}, {100, Forever, end}, {end, 0, end}, {end - 1, 1, end}, {end - 2, 1, end - 1}, {0, Forever - 1, end - 1}} {
		if got := Expiry(c.death, c.window); got != c.want {
			t.Errorf("expiry of %d after %d: %d, want %d", c.death, c.window, got, c.want)
		}
		// the horizon that it names is the first whose cutoff reaches the death
		if got := Expiry(c.death, c.window); got < end && c.death > 0 && (Cutoff(got, 0, c.window) < c.death || Cutoff(got-1, 0, c.window) >= c.death) {
			t.Errorf("expiry of %d after %d: the cutoff is %d then, %d before", c.death, c.window, Cutoff(got, 0, c.window), Cutoff(got-1, 0, c.window))
		}
	}
}

func TestRewrite(t *testing.T) {
	for _, c := range []struct {
		name                    string
		total, dead, deadValues int64
		mode                    Mode
		want                    bool
	}{
		{"nothing dead", 1000, 0, 0, Busy, false},
		{"nothing dead, full", 1000, 0, 0, Full, false},
		{"just under a quarter", 1000, 249, 0, Busy, false},
		{"a quarter", 1000, 250, 0, Busy, true},
		{"a quarter rounds up", 1001, 250, 0, Busy, false},
		{"just under a twentieth", 1000, 49, 0, Idle, false},
		{"a twentieth", 1000, 50, 0, Idle, true},
		{"one byte, full", 1000, 1, 0, Full, true},
		{"few entries, heavy values", 1000, 10, 1000, Busy, true},
		{"few entries, lighter values", 1000, 10, 999, Busy, false},
		{"no overflow", math.MaxInt64, math.MaxInt64 / 4, 0, Busy, false},
		{"no overflow, all dead", math.MaxInt64, math.MaxInt64, 0, Idle, true},
	} {
		if got := Rewrite(c.total, c.dead, c.deadValues, c.mode); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestRewriteSegment(t *testing.T) {
	for _, c := range []struct {
		allocated, live int64
		mode            Mode
		want            bool
	}{
		{1000, 500, Busy, false}, {1000, 499, Busy, true}, {1000, 800, Idle, false}, {1000, 799, Idle, true},
		{1000, 1000, Full, false}, {1000, 999, Full, true}, {0, 0, Full, false}, {0, 0, Busy, false}, {0, 0, Idle, false},
		{math.MaxInt64, math.MaxInt64, Idle, false}, {1001, 500, Busy, true}, {1001, 501, Busy, false},
	} {
		if got := RewriteSegment(c.allocated, c.live, c.mode); got != c.want {
			t.Errorf("%d of %d live, %s: %v", c.live, c.allocated, c.mode, got)
		}
	}
}

func TestRollupDepth(t *testing.T) {
	for _, c := range []struct {
		depth, target int
		ok            bool
	}{
		{-16, 0, false}, {0, 0, false}, {1, 0, false}, {15, 0, false}, {16, 0, true}, {17, 0, false}, {32, 16, true}, {240, 224, true},
		{256, 0, true}, {272, 256, true}, {512, 256, true}, {4096, 0, true}, {4096 + 256, 4096, true}, {3 * 65536, 2 * 65536, true},
	} {
		if target, ok := RollupDepth(c.depth); target != c.target || ok != c.ok {
			t.Errorf("depth %d: %d, %v, want %d, %v", c.depth, target, ok, c.target, c.ok)
		}
	}
}

// A chain of any length is a few dozen hops.
func TestRollupsKeepChainsShort(t *testing.T) {
	hops := make([]int, 100_001)
	for d := 1; d < len(hops); d++ {
		next := d - 1
		if target, ok := RollupDepth(d); ok {
			next = target
		}
		if hops[d] = hops[next] + 1; hops[d] > 5*15 {
			t.Fatalf("depth %d is %d hops deep", d, hops[d])
		}
	}
}

func TestRecheck(t *testing.T) {
	for _, c := range []struct {
		name string
		add  [][2]int64 // bytes, when they expire
		want wal.LSN    // zero: never
	}{
		{"nothing", nil, 0},
		{"no bytes", [][2]int64{{0, 1005}, {-3, 1006}}, 0},
		{"one", [][2]int64{{100, 1005}}, 1005},
		{"a quarter is enough", [][2]int64{{25, 1005}, {75, 1010}}, 1005},
		{"less is not", [][2]int64{{24, 1005}, {76, 1010}}, 1010},
		{"in any order", [][2]int64{{75, 1010}, {10, 1007}, {15, 1005}}, 1007},
		{"what lasts for ever counts", [][2]int64{{24, 1005}, {76, int64(wal.MaxLSN)}}, 0},
		{"but does not hide a quarter", [][2]int64{{25, 1005}, {75, int64(wal.MaxLSN)}}, 1005},
		{"already expired", [][2]int64{{25, 3}, {75, 1010}}, 3},
	} {
		r := NewRecheck(1000)
		for _, a := range c.add {
			r.Add(a[0], wal.LSN(a[1]))
		}
		got, ok := r.At()
		if ok != (c.want != 0) || ok && got != c.want {
			t.Errorf("%s: %d, %v, want %d", c.name, got, ok, c.want)
		}
	}
}

// Against a sorted list: a quarter has always expired by then, and the horizon is
// at most an eighth of the way too high.
func TestRecheckAgainstList(t *testing.T) {
	type kept struct {
		bytes   int64
		expires wal.LSN
	}
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		base := wal.LSN(rng.Uint64N(1 << 61))
		r := NewRecheck(base)
		var all []kept
		var total int64
		for range 1 + rng.IntN(200) {
			k := kept{1 + rng.Int64N(1000), base + wal.LSN(rng.Uint64N(1<<(1+rng.IntN(61))))}
			all = append(all, k)
			total += k.bytes
			r.Add(k.bytes, k.expires)
		}
		slices.SortFunc(all, func(a, b kept) int { return cmp.Compare(a.expires, b.expires) })
		exact, gone := wal.LSN(0), int64(0)
		for _, k := range all {
			if gone += k.bytes; 4*gone >= total {
				exact = k.expires
				break
			}
		}
		got, ok := r.At()
		if !ok || got < exact || float64(got-exact) > float64(exact-base)/8 || r.Bytes() != total {
			t.Errorf("seed %d: %d, %v, want %d, base %d", seed, got, ok, exact, base)
		}
	}
}
