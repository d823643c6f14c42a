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

// Neither a point read of a layer, nor a step or a seek in one, nor a step of the merge
// of several allocates; a memlayer does for each record.
func TestIteratorAllocations(t *testing.T) {
	const parts = 4
	recs := objectRecords(20_000)
	cache := NewBlockCache(256 << 20)
	var iters []Iterator
	for part := range parts {
		var own []Record
		for i := part; i < len(recs); i += parts {
			own = append(own, recs[i])
		}
		iters = append(iters, benchLayer(t, own, cache).NewIter(IterOptions{FillCache: true}))
	}
	merged := NewMergeIterator(iters)
	defer merged.Close()
	layer := benchLayer(t, recs, cache)
	it := layer.NewIter(IterOptions{FillCache: true})
	defer it.Close()
	for ok := it.First(); ok; { // fills the cache
		ok = it.Next()
	}
	for ok := merged.First(); ok; {
		ok = merged.Next()
	}
	var buf GetBuf
	mem, n := NewMemlayer(), 0
	key := func() Key {
		n = (n + 7919) % len(recs)
		return recs[n].Key
	}
	for name, c := range map[string]struct {
		most float64
		do   func() bool
	}{
		"a get of a layer":  {0, func() bool { _, ok, err := layer.Get(key(), wal.MaxLSN, &buf); return ok && err == nil }},
		"a step in a layer": {0, func() bool { return it.Next() || it.First() }},
		"a seek in a layer": {0, func() bool { return it.SeekGE(key(), wal.MaxLSN) }},
		"a step of a merge": {0, func() bool { return merged.Next() || merged.First() }},
		"adding a record": {1, func() bool {
			n = (n + 1) % len(recs)
			mem.Add(&recs[n])
			return true
		}},
	} {
		if got := testing.AllocsPerRun(10_000, func() {
			if !c.do() {
				t.Fatal(name, it.Err(), merged.Err())
			}
		}); got > c.most {
			t.Errorf("%s allocates %v times, at most %v are agreed", name, got, c.most)
		}
	}
}
