package layers

import (
	"fmt"
	"testing"

	"stemma/wal"
)

// historyTest has keys with five versions each: the newest in an image layer, the
// others, which ended one by one, in history layers of level 0 and below.
type historyTest struct {
	*versionTest
	main    *Layer
	history []*Layer
}

const (
	historyKeys = 3000
	historyTip  = wal.LSN(50) // the LSN of the newest versions
)

func newHistoryTest(t testing.TB, cache *BlockCache) *historyTest {
	vt := newVersionTest(t)
	vt.cache = cache
	versions := make([][]Record, 5)
	for i := range historyKeys {
		for n := range versions {
			r := Record{Key: MakeKey(1, testNS, benchUser(i)), LSN: wal.LSN(10 * (n + 1)), Kind: KindValue, Meta: make([]byte, 100)}
			if n < 4 {
				r.Death = r.LSN + 10
			}
			versions[n] = append(versions[n], r)
		}
	}
	half := historyKeys / 2
	return &historyTest{vt, vt.layerOf(ImageLayer, BottomLevel, versions[4], nil), []*Layer{
		vt.layerOf(HistoryLayer, 0, versions[3], nil), vt.layerOf(HistoryLayer, 0, versions[2], nil),
		vt.layerOf(HistoryLayer, 1, versions[1][:half], nil), vt.layerOf(HistoryLayer, 1, versions[0][half:], nil),
		vt.layerOf(HistoryLayer, 2, versions[0][:half], nil), vt.layerOf(HistoryLayer, 2, versions[1][half:], nil),
	}}
}

func (ht *historyTest) version(history bool) *Version {
	var old [NumLevels][]*Layer
	if history {
		old = [NumLevels][]*Layer{0: ht.history[:2], 1: ht.history[2:4], 2: ht.history[4:]}
	}
	return ht.versionWith([]*Memlayer{NewMemlayer()}, nil, [NumLevels][]*Layer{BottomLevel: {ht.main}}, old)
}

// readAll gets some keys and scans all, both ways, at an LSN; it returns the LSN of
// the versions that it saw, which must be the same one.
func (ht *historyTest) readAll(v *Version, chain []Hop) (lsn wal.LSN) {
	ht.t.Helper()
	see := func(r *Record) {
		if lsn == 0 {
			lsn = r.LSN
		}
		if r.LSN != lsn {
			ht.t.Fatalf("read at %v: saw %d and %d", chain, lsn, r.LSN)
		}
	}
	for i := 0; i < historyKeys; i += 100 {
		r, _, ok, err := v.Get(chain, testNS, benchUser(i))
		if err != nil || !ok {
			ht.t.Fatal(ok, err)
		}
		see(&r)
		if _, _, ok, err := v.Get(chain, testNS, append(benchUser(i), 'x')); err != nil || ok {
			ht.t.Fatal(ok, err)
		}
	}
	s := v.NewScan(chain, testNS, nil, nil, ScanOptions{})
	defer s.Close()
	n := 0
	for ok := s.First(); ok; ok = s.Next() {
		see(s.Record())
		n++
	}
	for ok := s.Last(); ok; ok = s.Prev() {
		see(s.Record())
		n++
	}
	if s.Err() != nil || n != 2*historyKeys {
		ht.t.Fatalf("scan at %v: %d keys, %v", chain, n, s.Err())
	}
	return lsn
}

// A read opens only the history layers that have a record which it may see: none
// at the tip, where history costs no block.
func TestHistoryLayersRead(t *testing.T) {
	ht := newHistoryTest(t, nil)
	mainReads := countReads(ht.main)
	reads := make([]*int, len(ht.history))
	for i, l := range ht.history {
		reads[i] = countReads(l)
	}
	with, without := ht.version(true), ht.version(false)
	for _, c := range []struct {
		upTo, want wal.LSN
		opened     string // which history layers
	}{
		{wal.MaxLSN, 50, "[]"}, {historyTip, 50, "[]"},
		{historyTip - 1, 40, "[0]"}, {40, 40, "[0]"}, {39, 30, "[1]"}, {30, 30, "[1]"},
		{29, 20, "[2 5]"}, {20, 20, "[2 5]"}, {19, 10, "[3 4]"}, {10, 10, "[3 4]"},
	} {
		for _, chain := range [][]Hop{{{1, c.upTo}}, {{3, wal.MaxLSN}, {2, historyTip}, {1, c.upTo}}} {
			*mainReads = 0
			for i := range reads {
				*reads[i] = 0
			}
			if got := ht.readAll(with, chain); got != c.want {
				t.Errorf("read at %v: versions of %d, want %d", chain, got, c.want)
			}
			opened := []int{}
			for i := range reads {
				if *reads[i] > 0 {
					opened = append(opened, i)
				}
			}
			if fmt.Sprint(opened) != c.opened {
				t.Errorf("read at %v: opened history layers %v, want %s", chain, opened, c.opened)
			}
			if c.upTo < historyTip {
				continue
			}
			n := *mainReads
			if *mainReads = 0; ht.readAll(without, chain) != c.want || *mainReads != n {
				t.Errorf("read at %v: %d reads of main layers, %d without history", chain, n, *mainReads)
			}
		}
	}
	without.Release()
	ht.close(with)
}

// A superseded record at the LSN of a range tombstone is not hidden by it; one
// below it is; and what has died is gone.
func TestHistoryUnderTombstone(t *testing.T) {
	vt := newVersionTest(t)
	record := func(user string, lsn, death wal.LSN) Record {
		return Record{Key: MakeKey(1, testNS, []byte(user)), LSN: lsn, Death: death, Kind: KindValue}
	}
	mem := NewMemlayer()
	mem.Add(&Record{Key: MakeKey(1, testNS, []byte("a")), End: MakeKey(1, testNS, []byte("c")), LSN: 20, Kind: KindRangeTombstone})
	for level := range 2 {
		l := vt.layerOf(HistoryLayer, level, []Record{record("a", 20, 30), record("b", 19, 30)}, nil)
		var history [NumLevels][]*Layer
		history[level] = []*Layer{l}
		v := vt.versionWith([]*Memlayer{mem}, nil, [NumLevels][]*Layer{}, history)
		for _, c := range []struct {
			user string
			upTo wal.LSN
			want bool
		}{{"a", 20, true}, {"a", 29, true}, {"a", 30, false}, {"a", 19, false}, {"b", 19, true}, {"b", 20, false}, {"b", 29, false}} {
			chain := []Hop{{1, c.upTo}}
			_, _, ok, err := v.Get(chain, testNS, []byte(c.user))
			s := v.NewScan(chain, testNS, []byte(c.user), append([]byte(c.user), 0), ScanOptions{})
			if scanned := s.First(); ok != c.want || scanned != ok || err != nil || s.Err() != nil {
				t.Errorf("level %d, %s at %d: get %v, scan %v, %v, %v", level, c.user, c.upTo, ok, scanned, err, s.Err())
			}
			s.Close()
		}
		vt.close(v)
	}
}

// What history costs: nothing at the tip.
func BenchmarkHistory(b *testing.B) {
	for _, c := range []struct {
		name    string
		history bool
		upTo    wal.LSN
	}{{"tip/without", false, wal.MaxLSN}, {"tip/with", true, wal.MaxLSN}, {"old/with", true, 25}} {
		ht := newHistoryTest(b, NewBlockCache(64<<20))
		v := ht.version(c.history)
		chain := []Hop{{1, c.upTo}}
		b.Run("get/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, _, ok, err := v.Get(chain, testNS, benchUser(i%historyKeys)); !ok || err != nil {
					b.Fatal(ok, err)
				}
				i += 7
			}
		})
		b.Run("scan/"+c.name, func(b *testing.B) {
			s := v.NewScan(chain, testNS, nil, nil, ScanOptions{})
			defer s.Close()
			b.ReportAllocs()
			for b.Loop() {
				if !s.Next() && !s.First() {
					b.Fatal(s.Err())
				}
			}
		})
		v.Release()
	}
}
