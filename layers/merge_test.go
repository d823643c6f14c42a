package layers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"stemma/wal"
)

// sliceIterator walks sorted records; after failAt moves it fails.
type sliceIterator struct {
	recs   []Record
	i      int // -1 and len(recs) are the ends
	failAt int // moves left before a failure; below zero: never
	err    error
	closed int
}

var errSlice = fmt.Errorf("slice iterator: injected")

func newSliceIterator(recs []Record) *sliceIterator {
	return &sliceIterator{recs: recs, i: -1, failAt: -1}
}

func (s *sliceIterator) at(i int) bool {
	if s.failAt == 0 {
		s.err = errSlice
		return false
	}
	s.failAt--
	s.i = min(max(i, -1), len(s.recs))
	return s.i >= 0 && s.i < len(s.recs)
}

func (s *sliceIterator) search(key Key, lsn wal.LSN) int {
	return sort.Search(len(s.recs), func(i int) bool {
		return compareRecords(s.recs[i].Key, s.recs[i].LSN, key, lsn) >= 0
	})
}

func (s *sliceIterator) SeekGE(key Key, lsn wal.LSN) bool { return s.at(s.search(key, lsn)) }
func (s *sliceIterator) SeekLT(key Key, lsn wal.LSN) bool { return s.at(s.search(key, lsn) - 1) }
func (s *sliceIterator) First() bool                      { return s.at(0) }
func (s *sliceIterator) Last() bool                       { return s.at(len(s.recs) - 1) }
func (s *sliceIterator) Next() bool                       { return s.at(s.i + 1) }
func (s *sliceIterator) Prev() bool                       { return s.at(s.i - 1) }
func (s *sliceIterator) Err() error                       { return s.err }

// Record returns a copy, so that a stale one is never right by chance.
func (s *sliceIterator) Record() *Record {
	r := s.recs[s.i]
	r.Key = slices.Clone(r.Key)
	return &r
}

func (s *sliceIterator) Close() error {
	s.closed++
	return nil
}

func sortRecords(recs []Record) {
	slices.SortFunc(recs, func(a, b Record) int { return compareRecords(a.Key, a.LSN, b.Key, b.LSN) })
}

func sameRecord(a, b *Record) bool {
	return a.Key.Compare(b.Key) == 0 && a.LSN == b.LSN && a.Death == b.Death && a.Kind == b.Kind && string(a.Meta) == string(b.Meta) && string(a.Body) == string(b.Body)
}

// randomMoves makes the same moves on it and on a slice iterator over want.
func randomMoves(t *testing.T, rng *rand.Rand, it Iterator, want []Record, moves int) {
	t.Helper()
	model := newSliceIterator(want)
	placed := false
	for i := range moves {
		var got, ok bool
		var what string
		key, lsn := MakeKey(TimelineID(rng.IntN(6)), 0x20, []byte(fmt.Sprintf("k%02d", rng.IntN(40)))), wal.LSN(rng.IntN(60))
		if len(want) > 0 && rng.IntN(2) == 0 {
			r := &want[rng.IntN(len(want))]
			key, lsn = r.Key, r.LSN
		}
		switch n := rng.IntN(14); {
		case n == 0:
			what, got, ok = "first", it.First(), model.First()
		case n == 1:
			what, got, ok = "last", it.Last(), model.Last()
		case n == 2:
			what, got, ok = fmt.Sprintf("seekGE %s %d", key, lsn), it.SeekGE(key, lsn), model.SeekGE(key, lsn)
		case n == 3:
			what, got, ok = fmt.Sprintf("seekLT %s %d", key, lsn), it.SeekLT(key, lsn), model.SeekLT(key, lsn)
		case !placed:
			continue
		case n < 9:
			what, got, ok = "next", it.Next(), model.Next()
		default:
			what, got, ok = "prev", it.Prev(), model.Prev()
		}
		placed = true
		if got != ok || it.Err() != nil {
			t.Fatalf("move %d, %s: %v, want %v; err %v", i, what, got, ok, it.Err())
		}
		if ok && !sameRecord(it.Record(), model.Record()) {
			t.Fatalf("move %d, %s: on %s@%d %q, want %s@%d %q", i, what,
				it.Record().Key, it.Record().LSN, it.Record().Meta, model.Record().Key, model.Record().LSN, model.Record().Meta)
		}
	}
}

// Random unions, moved over at random; duplicates come from the first iterator.
func TestMergeIterator(t *testing.T) {
	rng := testRNG(t)
	for range 300 {
		sources := make([][]Record, rng.IntN(6))
		var want []Record
		for n := rng.IntN(80); n > 0 && len(sources) > 0; n-- {
			r := Record{
				Key: MakeKey(TimelineID(1+rng.IntN(3)), 0x20, []byte(fmt.Sprintf("k%02d", rng.IntN(12)))),
				LSN: wal.LSN(1 + rng.IntN(20)), Kind: KindValue,
			}
			first := -1
			for s := range sources {
				if rng.IntN(3) > 0 || slices.ContainsFunc(sources[s], func(o Record) bool { return sameKey(&o, &r) }) {
					continue
				}
				r.Meta = []byte(fmt.Sprint("source ", s))
				sources[s] = append(sources[s], r)
				if first < 0 {
					first = s
				}
			}
			if i := slices.IndexFunc(want, func(o Record) bool { return sameKey(&o, &r) }); i >= 0 {
				want = slices.Delete(want, i, i+1)
			}
			for s := range sources {
				if i := slices.IndexFunc(sources[s], func(o Record) bool { return sameKey(&o, &r) }); i >= 0 {
					want = append(want, sources[s][i])
					break
				}
			}
		}
		sortRecords(want)
		var iters []Iterator
		for _, s := range sources {
			sortRecords(s)
			iters = append(iters, newSliceIterator(s))
		}
		it := NewMergeIterator(iters)
		randomMoves(t, rng, it, want, 60)
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		for _, s := range iters {
			if s.(*sliceIterator).closed != 1 {
				t.Fatal("an iterator was not closed once")
			}
		}
	}
}

func sameKey(a, b *Record) bool { return a.LSN == b.LSN && a.Key.Compare(b.Key) == 0 }

// A failing source is an error, never an end or a gap.
func TestMergeIteratorFailure(t *testing.T) {
	rng := testRNG(t)
	for k := range 40 {
		var iters []Iterator
		total := 0
		for s := range 3 {
			var recs []Record
			for i := range 8 {
				recs = append(recs, Record{Key: MakeKey(1, 0x20, []byte{byte(rng.IntN(200)), byte(i)}), LSN: wal.LSN(1 + s), Kind: KindValue})
			}
			sortRecords(recs)
			total += len(recs)
			iters = append(iters, newSliceIterator(recs))
		}
		iters[k%3].(*sliceIterator).failAt = k / 3
		it := NewMergeIterator(iters)
		n := 0
		for ok := it.First(); ok; ok = it.Next() {
			n++
		}
		if failed := it.Err() != nil; failed != (k/3 < 9) || !failed && n != total {
			t.Fatalf("failure at move %d: %d of %d records, err %v", k/3, n, total, it.Err())
		}
	}
}
