//go:build !race

package layers

import (
	"testing"

	"stemma/wal"
)

// A point read out of cached blocks allocates once, however many layers and hops
// it goes through; a step of a scan does not.
func TestReadAllocations(t *testing.T) {
	v, chain := benchVersion(t, 4, 10)
	user := benchUser(benchKeys / 2)
	get := func() {
		if _, _, ok, err := v.Get(chain, testNS, user); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	get() // fills the cache
	if n := testing.AllocsPerRun(100, get); n > 1 {
		t.Errorf("a get allocates %v times", n)
	}
	s := v.NewScan(chain, testNS, nil, nil, ScanOptions{})
	defer s.Close()
	for ok := s.First(); ok; {
		ok = s.Next()
	}
	if n := testing.AllocsPerRun(5000, func() {
		if !s.Next() && !s.First() {
			t.Fatal(s.Err())
		}
	}); n > 0 {
		t.Errorf("a step of a scan allocates %v times", n)
	}
	mem := NewMemlayer()
	for _, r := range benchRecords(1, 0, 1, 9) {
		mem.Add(&r)
	}
	key := MakeKey(1, testNS, user)
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := mem.Get(key, wal.MaxLSN); !ok {
			t.Fatal("absent")
		}
	}); n > 0 {
		t.Errorf("a get from a memlayer allocates %v times", n)
	}
}
