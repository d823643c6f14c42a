package layers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"stemma/wal"
)

// All that can be asked of a memlayer, against the records that were added, in
// any order.
func TestMemlayerModel(t *testing.T) {
	rng := testRNG(t)
	for _, n := range []int{0, 1, 20, 500, 5000} {
		m := NewMemlayer()
		recs, stones := layerRecords(rng, n), layerTombstones(rng, rng.IntN(200))
		added := sortedTombstones(stones)
		added = append(added, recs...)
		rng.Shuffle(len(added), func(i, j int) { added[i], added[j] = added[j], added[i] })
		var bytes int64
		low, high := wal.LSN(0), wal.LSN(0)
		for i := range added {
			r := added[i]
			m.Add(&r)
			r.Key = nil // the memlayer has its own
			r = added[i]
			bytes += int64(len(r.Key) + len(r.End) + len(r.Meta) + len(r.Body) + memRecordOverhead)
			if low == 0 || r.LSN < low {
				low = r.LSN
			}
			high = max(high, r.LSN)
		}
		if gotLow, gotHigh := m.LSNs(); gotLow != low || gotHigh != high || m.Len() != len(added) || m.Bytes() != bytes {
			t.Fatalf("LSNs %d to %d, %d records, %d bytes; want %d to %d, %d, %d", gotLow, gotHigh, m.Len(), m.Bytes(), low, high, len(added), bytes)
		}
		randomMoves(t, rng, m.NewIter(), recs, 1000)
		if got, want := m.RangeTombstones(), sortedTombstones(stones); !slices.EqualFunc(got, want, sameTombstone) {
			t.Fatalf("%d range tombstones, want %d", len(got), len(want))
		}
		for range min(n, 1000) {
			r := recs[rng.IntN(len(recs))]
			key, upTo := r.Key, r.LSN+wal.LSN(rng.IntN(3))-1
			if rng.IntN(5) == 0 {
				key = append(slices.Clone(key), 1)
			}
			got, ok := m.Get(key, upTo)
			want, wantOK := newestOf(recs, key, upTo)
			if ok != wantOK || ok && !sameRecord(got, &want) {
				t.Fatalf("get %s at %d: %v %v, want %v", key, upTo, got, ok, want)
			}
			for _, h := range []uint64{HashTimeline(r.Key.Timeline()), HashSuffix(r.Key.Suffix()), HashKey(r.Key)} {
				if !m.MayContain(h) {
					t.Fatalf("filter says that %s is absent", r.Key)
				}
			}
			if cover, ok := m.CoveringTombstone(key, upTo); cover != coverOf(stones, key, upTo) || ok != (cover > 0) {
				t.Fatalf("cover of %s at %d: %d, want %d", key, upTo, cover, coverOf(stones, key, upTo))
			}
		}
	}
}

// A memlayer keeps records, not the caller's Record; two of one version are a bug.
func TestMemlayerAdd(t *testing.T) {
	m := NewMemlayer()
	if m.RangeTombstones() != nil || m.Len() != 0 || m.NewIter().First() || m.NewIter().Last() || m.NewIter().Next() {
		t.Error("an empty memlayer has something")
	}
	r := Record{Key: MakeKey(1, 0x20, []byte("a")), LSN: 5, Kind: KindValue, Meta: []byte("m")}
	m.Add(&r)
	got, _ := m.Get(MakeKey(1, 0x20, []byte("a")), 5)
	if &got.Meta[0] != &r.Meta[0] || &got.Key[0] != &r.Key[0] {
		t.Error("the record's slices were copied")
	}
	r.LSN = 6
	if got.LSN != 5 {
		t.Error("the caller's record is kept")
	}
	r.LSN = 5
	defer func() {
		if recover() == nil {
			t.Error("two records of one key and LSN")
		}
	}()
	m.Add(&r)
}

// One writer and many readers: whoever knows that an LSN was added finds all of
// it, in order, and nothing of it is ever half there.
func TestMemlayerConcurrent(t *testing.T) {
	const commits, perCommit, keys = 3000, 4, 50
	m := NewMemlayer()
	key := func(n int) Key { return MakeKey(TimelineID(n%3), 0x20, fmt.Appendf(nil, "k%03d", n)) }
	var visible atomic.Uint64
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for done := false; !done; {
				upTo := wal.LSN(visible.Load())
				done = upTo == commits
				// LSN l writes the keys (l*7+j)%keys, and covers key l%keys.
				for range 20 {
					if upTo == 0 {
						break
					}
					l := 1 + wal.LSN(rng.Uint64N(uint64(upTo)))
					n := (int(l)*7 + rng.IntN(perCommit)) % keys
					r, ok := m.Get(key(n), l)
					if !ok || r.LSN != l || string(r.Meta) != l.String() || !m.MayContain(HashKey(key(n))) {
						t.Errorf("key %d at %d: %v %v", n, l, r, ok)
						return
					}
					if c, ok := m.CoveringTombstone(key(int(l)%keys), l); l%10 == 0 && (!ok || c != l) {
						t.Errorf("cover at %d is %d", l, c)
						return
					}
				}
				it := m.NewIter()
				walk, start, sign := it.Next, it.First, -1
				if rng.IntN(2) == 0 {
					walk, start, sign = it.Prev, it.Last, 1
				}
				var seen int
				var last *Record
				for ok := start(); ok; ok = walk() {
					r := it.Record()
					if r.LSN <= upTo {
						seen++
					}
					if last != nil && compareRecords(last.Key, last.LSN, r.Key, r.LSN) != sign {
						t.Error("out of order")
						return
					}
					last = r
				}
				if seen != int(upTo)*perCommit {
					t.Errorf("%d records up to %d, want %d", seen, upTo, int(upTo)*perCommit)
					return
				}
			}
		})
	}
	for l := wal.LSN(1); l <= commits; l++ {
		for j := range perCommit {
			m.Add(&Record{Key: key((int(l)*7 + j) % keys), LSN: l, Kind: KindValue, Meta: []byte(l.String())})
		}
		if k := key(int(l) % keys); l%10 == 0 {
			m.Add(&Record{Key: k, End: append(slices.Clone(k), 0), LSN: l, Kind: KindRangeTombstone})
		}
		visible.Store(uint64(l))
	}
	readers.Wait()
}
