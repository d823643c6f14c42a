package layers

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"stemma/wal"
)

// coverAbove is what CoveringAbove must find.
func coverAbove(stones []Record, key Key, lsn wal.LSN) (least wal.LSN) {
	for i := range stones {
		if r := &stones[i]; r.LSN > lsn && (least == 0 || r.LSN < least) && (KeyRange{r.Key, r.End}).Contains(key) {
			least = r.LSN
		}
	}
	return least
}

// coverOf is what CoveringTombstone must find.
func coverOf(stones []Record, key Key, upTo wal.LSN) (lsn wal.LSN) {
	for i := range stones {
		if r := &stones[i]; r.LSN <= upTo && r.LSN > lsn && (KeyRange{r.Key, r.End}).Contains(key) {
			lsn = r.LSN
		}
	}
	return lsn
}

func sameTombstone(a, b Record) bool {
	return a.Key.Compare(b.Key) == 0 && a.End.Compare(b.End) == 0 && a.LSN == b.LSN && a.Kind == b.Kind
}

// sortedTombstones is what RangeTombstones must return.
func sortedTombstones(stones []Record) []Record {
	s := slices.Clone(stones)
	slices.SortFunc(s, func(a, b Record) int {
		return cmp.Or(a.Key.Compare(b.Key), a.End.Compare(b.End), cmp.Compare(b.LSN, a.LSN))
	})
	return slices.CompactFunc(s, sameTombstone)
}

// Sets of any shape, built at once or by merging, against a look at each tombstone.
func TestTombstoneSet(t *testing.T) {
	rng := testRNG(t)
	key := func(n int) Key { return MakeKey(1, 0x20, []byte{byte(n)}) }
	for range 200 {
		width := 1 + rng.IntN(60) // many overlap, or few
		var stones []Record
		sets := []*TombstoneSet{tombstonesOf(nil)}
		for range rng.IntN(5) {
			var some []Record
			for range rng.IntN(20) {
				from := rng.IntN(60)
				some = append(some, Record{Key: key(from), End: key(from + 1 + rng.IntN(width)), LSN: wal.LSN(1 + rng.IntN(20)), Kind: KindRangeTombstone})
			}
			stones = append(stones, some...)
			sets = append(sets, tombstonesFrom(some))
		}
		merged := sets[0]
		for _, s := range sets[1:] {
			merged = mergeTombstones(merged, s)
		}
		want := sortedTombstones(stones)
		given := slices.Clone(stones)
		public := NewTombstoneSet(given)
		if !slices.EqualFunc(given, stones, sameTombstone) {
			t.Fatal("the caller's slice was changed")
		}
		for _, s := range []*TombstoneSet{merged, public} {
			if got := s.appendRecords(nil); s.n != len(want) || !slices.EqualFunc(got, want, sameTombstone) {
				t.Fatalf("%d tombstones %v, want %v", s.n, got, want)
			}
			for k := range 130 {
				for upTo := range wal.LSN(22) {
					if got, ok := s.Covering(key(k), upTo); got != coverOf(stones, key(k), upTo) || ok != (got > 0) {
						t.Fatalf("cover of %d at %d is %d, want %d in %v", k, upTo, got, coverOf(stones, key(k), upTo), stones)
					}
					want := coverAbove(stones, key(k), upTo)
					if got, ok := s.CoveringAbove(key(k), upTo); ok != (want > 0) || ok && got != want {
						t.Fatalf("cover of %d above %d is %d, want %d in %v", k, upTo, got, want, stones)
					}
				}
			}
		}
	}
}

// A prefix that is deleted again and again, and each of its children once: the
// set stays as small as what was put in, and so does what a lookup does.
func TestTombstoneSetNested(t *testing.T) {
	const n = 10_000
	user := func(s string) Key { return MakeKey(1, 0x20, []byte(s)) }
	m := NewMemlayer()
	for i := range n {
		child := fmt.Sprintf("logs/%05d", i)
		m.Add(&Record{Key: user("logs/"), End: user("logs0"), LSN: wal.LSN(2*i + 1), Kind: KindRangeTombstone})
		m.Add(&Record{Key: user(child + "/"), End: user(child + "0"), LSN: wal.LSN(2*i + 2), Kind: KindRangeTombstone})
	}
	if got := len(m.RangeTombstones()); got != 2*n {
		t.Fatalf("%d tombstones, want %d", got, 2*n)
	}
	for _, c := range []struct {
		key        string
		upTo, want wal.LSN
	}{
		{"logs/00007/x", wal.MaxLSN, 2*n - 1}, {"logs/00007/x", 16, 16}, {"logs/00007/x", 15, 15}, {"logs/00007/x", 17, 17},
		{"logs/x", 1000, 999}, {"logs/x", 0, 0}, {"log", 1000, 0}, {"logs0", 1000, 0},
	} {
		if got, _ := m.CoveringTombstone(user(c.key), c.upTo); got != c.want {
			t.Errorf("cover of %s at %d is %d, want %d", c.key, c.upTo, got, c.want)
		}
	}
}

func TestClipTombstone(t *testing.T) {
	key := func(n int) Key { return Key{byte(n)} }
	for _, c := range []struct {
		bounds  KeyRange
		a, b    int
		nothing bool
	}{
		{KeyRange{}, 10, 20, false},
		{KeyRange{key(5), key(30)}, 10, 20, false},
		{KeyRange{key(12), key(15)}, 12, 15, false},
		{KeyRange{key(12), nil}, 12, 20, false},
		{KeyRange{nil, key(12)}, 10, 12, false},
		{KeyRange{key(20), nil}, 0, 0, true},
		{KeyRange{nil, key(10)}, 0, 0, true},
		{KeyRange{key(25), key(30)}, 0, 0, true},
	} {
		r, ok := ClipTombstone(Record{Key: key(10), End: key(20), LSN: 3, Kind: KindRangeTombstone}, c.bounds)
		if ok == c.nothing || ok && (r.Key.Compare(key(c.a)) != 0 || r.End.Compare(key(c.b)) != 0 || r.LSN != 3) {
			t.Errorf("clip to %v: %v %v", c.bounds, r, ok)
		}
	}
}
