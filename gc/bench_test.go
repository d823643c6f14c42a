package gc

import (
	"math/rand/v2"
	"slices"
	"testing"

	"stemma/layers"
	"stemma/wal"
)

// millionLines returns a base with half a million forks, which are forked once
// more each, in the order of a map.
func millionLines(shuffled bool) []Line {
	const n = 1_000_000
	lines := make([]Line, 0, n)
	lines = append(lines, forkOf(1, 0, 0, 1, 0))
	for id := layers.TimelineID(2); id <= n; id++ {
		ancestor := layers.TimelineID(1)
		if id > n/2 {
			ancestor = id - n/2
		}
		lines = append(lines, forkOf(id, ancestor, wal.LSN(2*id-1), wal.LSN(2*id), 0))
	}
	if shuffled {
		rng := rand.New(rand.NewPCG(1, 0))
		rng.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	}
	return lines
}

func BenchmarkNewTree(b *testing.B) {
	for _, c := range []struct {
		name     string
		shuffled bool
	}{{"lines=1000000/sorted", false}, {"lines=1000000/shuffled", true}} {
		b.Run(c.name, func(b *testing.B) {
			lines := millionLines(c.shuffled)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				again := slices.Clone(lines)
				b.StartTimer()
				NewTree(again, 1<<40)
			}
		})
	}
}

// BenchmarkNeed asks about a version of a base with a thousand children.
func BenchmarkNeed(b *testing.B) {
	const children = 1000
	lines := []Line{dropped(forkOf(1, 0, 0, 1, 0))}
	all := &stubProber{oldest: make(map[layers.TimelineID]wal.LSN)}
	for i := range layers.TimelineID(children) {
		lines = append(lines, forkOf(2+i, 1, 150+wal.LSN(i), 2000+wal.LSN(i), 5000))
		all.oldest[2+i] = 2000
	}
	tree := NewTree(lines, 10_000)
	for _, c := range []struct {
		name         string
		p            *stubProber
		birth, death wal.LSN
		maxProbes    int
		want         Reason
	}{
		{"children=1000/one falls through", &stubProber{}, 100, wal.MaxLSN, 64, Child},
		{"children=1000/none does/64 probes", all, 100, wal.MaxLSN, 64, ProbeLimit},
		{"children=1000/none does/no bound", all, 100, wal.MaxLSN, 0, None},
		{"children=1000/none in the interval", all, 10, 100, 64, None},
	} {
		b.Run(c.name, func(b *testing.B) {
			suffix := suffixOf("k")
			c.p.probes = 0
			b.ReportAllocs()
			for b.Loop() {
				if got, err := tree.Need(1, suffix, c.birth, c.death, c.p, c.maxProbes); got != c.want || err != nil {
					b.Fatal(got, err)
				}
			}
			b.ReportMetric(float64(c.p.probes)/float64(b.N), "probes/op")
		})
	}
}
