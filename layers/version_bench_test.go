package layers

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"stemma/wal"
)

const benchKeys = 10_000

func benchUser(i int) []byte { return []byte(fmt.Sprintf("some/path/to/object-%08d", i)) }

// benchRecords returns the records of a timeline for every step-th key from from on.
func benchRecords(t TimelineID, from, step int, lsn wal.LSN) []Record {
	meta := make([]byte, 100)
	var recs []Record
	for i := from; i < benchKeys; i += step {
		recs = append(recs, Record{Key: MakeKey(t, testNS, benchUser(i)), LSN: lsn, Kind: KindValue, Meta: meta})
	}
	return recs
}

// benchVersion has all keys in the root, one in a thousand in every fork, and
// the records spread over so many layers of level 0; one more layer below.
func benchVersion(b testing.TB, layers, hops int) (*Version, []Hop) {
	vt := newVersionTest(b)
	var chain []Hop
	parts := make([][]Record, layers)
	for h := range hops - 1 {
		id := TimelineID(hops - h)
		chain = append(chain, Hop{id, wal.MaxLSN})
		for _, r := range benchRecords(id, h%1000, 1000, wal.LSN(10+hops-h)) {
			i := len(r.Key.User()) % layers
			parts[i] = append(parts[i], r)
		}
	}
	chain = append(chain, Hop{1, wal.MaxLSN})
	for i := range layers {
		parts[i] = append(parts[i], benchRecords(1, i, layers, 9)...)
	}
	var l0 []*Layer
	for _, p := range parts {
		l0 = append(l0, vt.layer(0, p, nil))
	}
	l1 := vt.layer(1, benchRecords(1, 0, 1, 5), nil)
	v := vt.version([]*Memlayer{NewMemlayer()}, l0, [NumLevels][]*Layer{1: {l1}})
	b.Cleanup(func() { vt.close(v) })
	return v, chain
}

// What a Get costs whose key only the root has, the last of the hops.
func BenchmarkGet(b *testing.B) {
	for _, layers := range []int{1, 4, 16} {
		for _, hops := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("layers=%d/hops=%d", layers, hops), func(b *testing.B) {
				v, chain := benchVersion(b, layers, hops)
				rng := rand.New(rand.NewPCG(1, 1))
				users := make([][]byte, 1024)
				for i := range users {
					users[i] = benchUser(rng.IntN(benchKeys))
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					i++
					if _, _, ok, err := v.Get(chain, testNS, users[i%len(users)]); !ok || err != nil {
						b.Fatal(ok, err)
					}
				}
			})
		}
	}
}

func BenchmarkGetMemlayer(b *testing.B) {
	mem := NewMemlayer()
	for _, r := range benchRecords(1, 0, 1, 9) {
		mem.Add(&r)
	}
	v := NewVersion([]*Memlayer{mem}, nil, [NumLevels][]*Layer{}, [NumLevels][]*Layer{}, 0, nil)
	defer v.Release()
	chain := []Hop{{1, wal.MaxLSN}}
	user := benchUser(benchKeys / 2)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok, err := v.Get(chain, testNS, user); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// A key that nobody has: what the filters cost.
func BenchmarkGetAbsent(b *testing.B) {
	for _, hops := range []int{1, 100} {
		b.Run(fmt.Sprintf("layers=16/hops=%d", hops), func(b *testing.B) {
			v, chain := benchVersion(b, 16, hops)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, ok, err := v.Get(chain, testNS, []byte("some/path/to/object-00001234x")); ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkScanNext(b *testing.B) {
	for _, layers := range []int{1, 16} {
		for _, hops := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("layers=%d/hops=%d", layers, hops), func(b *testing.B) {
				v, chain := benchVersion(b, layers, hops)
				s := v.NewScan(chain, testNS, nil, nil, ScanOptions{})
				defer s.Close()
				b.ReportAllocs()
				for b.Loop() {
					if !s.Next() && !s.First() {
						b.Fatal(s.Err())
					}
				}
			})
		}
	}
}

// A listing's page: open, seek, a thousand keys.
func BenchmarkScanPage(b *testing.B) {
	for _, hops := range []int{1, 100} {
		b.Run(fmt.Sprintf("layers=16/hops=%d", hops), func(b *testing.B) {
			v, chain := benchVersion(b, 16, hops)
			rng := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				s := v.NewScan(chain, testNS, nil, nil, ScanOptions{})
				n := 0
				for ok := s.SeekGE(benchUser(rng.IntN(benchKeys - 1000))); ok && n < 1000; ok = s.Next() {
					n++
				}
				if n != 1000 {
					b.Fatal(n, s.Err())
				}
				s.Close()
			}
		})
	}
}
