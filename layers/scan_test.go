package layers

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"stemma/wal"
)

// Real orders too: memlayers frozen, flushed, compacted, over a chain of many forks.
func TestLongChain(t *testing.T) {
	rng := testRNG(t)
	vt := newVersionTest(t)
	const hops = 120
	var chain []Hop
	lsn := wal.LSN(1)
	for i := range hops {
		id := TimelineID(1 + i)
		for range 4 {
			r := Record{Key: MakeKey(id, testNS, testUser(rng, 150)), LSN: lsn, Kind: KindValue, Meta: []byte(fmt.Sprint(lsn))}
			if rng.IntN(6) == 0 {
				r.Kind, r.Meta = KindTombstone, nil
			}
			vt.points = append(vt.points, r)
			lsn++
		}
		if i%40 == 7 {
			vt.stones = append(vt.stones, Record{Key: MakeKey(id, testNS, []byte("1")), End: MakeKey(id, testNS, []byte("2")), LSN: lsn, Kind: KindRangeTombstone})
			lsn++
		}
		chain = append(chain, Hop{Timeline: id, UpTo: lsn - wal.LSN(rng.IntN(3))})
	}
	slices.Reverse(chain)
	v := vt.scatter(rng, vt.points, vt.stones)
	for range 30 {
		vt.checkGet(v, chain, testUser(rng, 150))
	}
	for range 2 {
		vt.checkScan(rng, v, chain, 150)
	}
	vt.close(v)
}

// countingIterator counts the moves over a source.
type countingIterator struct {
	Iterator
	moves *int
}

func (c countingIterator) Next() bool { *c.moves++; return c.Iterator.Next() }

func (c countingIterator) Prev() bool { *c.moves++; return c.Iterator.Prev() }

func (c countingIterator) SeekGE(key Key, lsn wal.LSN) bool {
	*c.moves++
	return c.Iterator.SeekGE(key, lsn)
}

func (c countingIterator) SeekLT(key Key, lsn wal.LSN) bool {
	*c.moves++
	return c.Iterator.SeekLT(key, lsn)
}

// countMoves walks a scan both ways and returns its keys and what it cost.
func countMoves(t *testing.T, s *Scan) (keys, moves int) {
	t.Helper()
	defer s.Close()
	for _, src := range s.all {
		src.it = countingIterator{src.it, &moves}
	}
	for ok := s.First(); ok; ok = s.Next() {
		keys++
	}
	back := 0
	for ok := s.Last(); ok; ok = s.Prev() {
		back++
	}
	if s.Err() != nil || back != keys {
		t.Fatalf("%d keys forward, %d back, %v", keys, back, s.Err())
	}
	return keys, moves
}

// A key with very many versions, and very many keys under one range tombstone,
// are passed with few moves.
func TestScanSkips(t *testing.T) {
	vt := newVersionTest(t)
	const many = 20_000
	var versions, dead []Record
	for i := range many {
		versions = append(versions, Record{Key: MakeKey(1, testNS, []byte("m")), LSN: wal.LSN(10 + i), Kind: KindValue})
		dead = append(dead, Record{Key: MakeKey(1, testNS, []byte(fmt.Sprintf("p%08d", i))), LSN: 5, Kind: KindValue})
	}
	ends := []Record{
		{Key: MakeKey(1, testNS, []byte("a")), LSN: 5, Kind: KindValue},
		{Key: MakeKey(1, testNS, []byte("z")), LSN: 5, Kind: KindValue},
	}
	old := vt.layer(1, append(append(dead, ends...), versions...), nil)
	stone := Record{Key: MakeKey(1, testNS, []byte("p")), End: MakeKey(1, testNS, []byte("q")), LSN: many + 10, Kind: KindRangeTombstone}
	child := Record{Key: MakeKey(2, testNS, []byte("p")), End: MakeKey(2, testNS, []byte("q")), LSN: 3, Kind: KindRangeTombstone}
	mem := NewMemlayer()
	mem.Add(&stone)
	mem.Add(&Record{Key: MakeKey(1, testNS, []byte("p1")), LSN: many + 11, Kind: KindValue})
	l0 := vt.layer(0, nil, []Record{child})
	v := vt.version([]*Memlayer{mem}, []*Layer{l0}, [NumLevels][]*Layer{1: {old}})
	defer vt.close(v)
	for _, c := range []struct {
		what  string
		chain []Hop
		keys  int
		full  bool // every dead key must be looked at
	}{
		{"own tombstone", []Hop{{1, wal.MaxLSN}}, 4, false},
		{"old reading point", []Hop{{1, 20}}, 3 + many, true},
		{"tombstone of a child", []Hop{{2, wal.MaxLSN}, {1, 20}}, 3, false},
	} {
		keys, moves := countMoves(t, v.NewScan(c.chain, testNS, nil, nil, ScanOptions{}))
		if keys != c.keys {
			t.Errorf("%s: %d keys, want %d", c.what, keys, c.keys)
		}
		if (moves > 2*many) != c.full || !c.full && moves > 500 {
			t.Errorf("%s: %d moves", c.what, moves)
		}
	}
	// Within the history an LSN range far from most versions of a key.
	h := v.NewHistory(1, testNS, []byte("m"), []byte("n"), 100, 101)
	defer h.Close()
	n := 0
	for ok := h.First(); ok; ok = h.Next() {
		n++
	}
	for ok := h.Last(); ok; ok = h.Prev() {
		n++
	}
	if n != 4 || h.Err() != nil {
		t.Errorf("history: %d records, %v", n, h.Err())
	}
}

// The layers of a level as one iterator, with and without bounds of LSN.
func TestConcatIterator(t *testing.T) {
	rng := testRNG(t)
	for range 12 {
		vt := newVersionTest(t)
		var all []Record
		for n := 1 + rng.IntN(60); n > 0; n-- {
			r := Record{Key: MakeKey(TimelineID(1+rng.IntN(4)), 0x20, []byte(fmt.Sprintf("k%02d", rng.IntN(40)))), LSN: wal.LSN(1 + rng.IntN(50)), Kind: KindValue}
			if !slices.ContainsFunc(all, func(o Record) bool { return sameKey(&o, &r) }) {
				all = append(all, r)
			}
		}
		sortRecords(all)
		var ls []*Layer
		for rest := all; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			for n < len(rest) && rest[n].Key.Compare(rest[n-1].Key) == 0 {
				n++
			}
			ls = append(ls, vt.layer(1, rest[:n], nil))
			rest = rest[n:]
		}
		v := vt.version(nil, nil, [NumLevels][]*Layer{1: ls})
		low := wal.LSN(rng.IntN(50))
		for _, o := range []IterOptions{{}, {MinLSN: low, MaxLSN: low + wal.LSN(1+rng.IntN(10)), FillCache: true}} {
			want := slices.DeleteFunc(slices.Clone(all), func(r Record) bool {
				return r.LSN < o.MinLSN || o.MaxLSN > 0 && r.LSN > o.MaxLSN
			})
			it := NewConcatIterator(ls, o)
			randomMoves(t, rng, it, want, 80)
			if err := it.Close(); err != nil {
				t.Fatal(err)
			}
		}
		vt.close(v)
	}
}

// Whatever read fails, the answer is that failure or right; and the next one is right.
func TestVersionReadFaults(t *testing.T) {
	rng := testRNG(t)
	var reads, failAt int
	inj := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileReadAt {
			return nil
		}
		if reads++; reads == failAt {
			return errorfs.ErrInjected
		}
		return nil
	})
	vt := newVersionTest(t)
	vt.cache = nil // every block is read again
	vt.randomRecords(rng, 300, 4, 20)
	vt.collect(rng)
	vt.fs = errorfs.Wrap(vt.fs, inj)
	v := vt.scatter(rng, vt.points, vt.stones)
	defer vt.close(v)
	chain := randomChain(rng, 4, vt.points[len(vt.points)-1].LSN)
	want := vt.scan(chain, testNS, nil, nil, false)
	user := vt.points[0].Key.User()
	wantGet, _, wantOK := vt.visible(chain, testNS, user)
	wantWalk := 0
	for _, h := range chain {
		wantWalk += len(vt.walk(h, testNS, user))
	}
	sameUsers := func(got []Record) bool {
		return slices.EqualFunc(got, want, func(a, b Record) bool { return sameRecord(&a, &b) })
	}
	collect := func(first, next func(*Scan) bool) (got []Record, err error) {
		s := v.NewScan(chain, testNS, nil, nil, ScanOptions{})
		for ok := first(s); ok; ok = next(s) {
			r := *s.Record()
			r.Key = slices.Clone(r.Key)
			got = append(got, r)
		}
		err = s.Err()
		if cerr := s.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		return got, err
	}
	ops := map[string]func() (right bool, err error){
		"get": func() (bool, error) {
			r, _, ok, err := v.Get(chain, testNS, user)
			return ok == wantOK && (!ok || sameRecord(&r, &wantGet)), err
		},
		"walk": func() (bool, error) {
			n := 0
			err := v.Walk(chain, testNS, user, func(*Record, int) bool { n++; return true })
			return n == wantWalk, err
		},
		"scan": func() (bool, error) {
			got, err := collect((*Scan).First, (*Scan).Next)
			return sameUsers(got), err
		},
		"reverse": func() (bool, error) {
			got, err := collect((*Scan).Last, (*Scan).Prev)
			slices.Reverse(got)
			return sameUsers(got), err
		},
		"oldest": func() (bool, error) {
			lsn, ok, err := v.Oldest(chain[0].Timeline, MakeKey(1, testNS, user).Suffix())
			wantLSN, wantOK := vt.oldest(chain[0].Timeline, user)
			return ok == wantOK && lsn == wantLSN, err
		},
		"history": func() (bool, error) {
			h := v.NewHistory(1, testNS, nil, nil, 1, wal.MaxLSN)
			defer h.Close()
			n := 0
			for ok := h.First(); ok; ok = h.Next() {
				n++
			}
			own := 0
			for _, r := range vt.points {
				if r.Key.Timeline() == 1 && r.Key.Namespace() == testNS {
					own++
				}
			}
			return n == own, h.Err()
		},
	}
	for name, op := range ops {
		for k := 1; ; k++ {
			reads, failAt = 0, k
			right, err := op()
			if hit := reads >= k; err != nil && !errors.Is(err, errorfs.ErrInjected) || err == nil && (hit || !right) {
				t.Fatalf("%s, failure at read %d (hit %v): right %v, err %v", name, k, hit, right, err)
			}
			if err == nil {
				break
			}
		}
	}
}
