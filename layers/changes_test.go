package layers

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"stemma/wal"
)

// changed is what Changes must show: of every key that has a point record above
// an LSN in a hop, the newest of all, unless a range tombstone hides it.
func (vt *versionTest) changed(chain []Hop, lower, upper []byte, above wal.LSN) (recs []Record) {
	users := make(map[string]bool)
	for _, h := range chain {
		for _, r := range vt.points {
			u := r.Key.User()
			if r.Key.Timeline() == h.Timeline && r.Key.Namespace() == testNS && r.LSN > above && r.LSN <= h.UpTo &&
				bytes.Compare(u, lower) >= 0 && (upper == nil || bytes.Compare(u, upper) < 0) {
				users[string(u)] = true
			}
		}
	}
	for u := range users {
		r, ok := vt.newestAbove(chain, []byte(u), above)
		covers := slices.ContainsFunc(vt.stones, func(s Record) bool { return s.LSN == r.LSN && (KeyRange{s.Key, s.End}).Contains(r.Key) })
		point := slices.ContainsFunc(vt.points, func(p Record) bool { return sameKey(&p, &r) })
		if ok && (point || !covers) {
			recs = append(recs, r)
		}
	}
	slices.SortFunc(recs, func(a, b Record) int { return bytes.Compare(a.Key.User(), b.Key.User()) })
	return recs
}

func (vt *versionTest) newestAbove(chain []Hop, user []byte, above wal.LSN) (Record, bool) {
	for _, h := range chain {
		key := MakeKey(h.Timeline, testNS, user)
		var best Record
		for _, r := range vt.points {
			if r.Key.Compare(key) == 0 && r.LSN <= h.UpTo && r.LSN > max(above, best.LSN) {
				best = r
			}
		}
		if cover := coverOf(vt.stones, key, h.UpTo); cover > max(above, best.LSN) {
			return Record{Key: key, LSN: cover, Kind: KindTombstone}, true
		}
		if best.LSN > 0 {
			return best, true
		}
	}
	return Record{}, false
}

// testChain is a chain as there are: what a timeline inherits is older than all
// that it has itself.
func testChain(rng *rand.Rand, timelines int, maxLSN wal.LSN, points, stones []Record) (chain []Hop) {
	upTo := maxLSN + 5
	for t := timelines; t > 0; t-- {
		chain = append(chain, Hop{Timeline: TimelineID(t), UpTo: upTo})
		lowest := upTo + 1
		for _, rs := range [][]Record{points, stones} {
			for i := range rs {
				if rs[i].Key.Timeline() == TimelineID(t) {
					lowest = min(lowest, rs[i].LSN)
				}
			}
		}
		if lowest < 2 {
			break
		}
		upTo = min(upTo, lowest-1-min(lowest-1, wal.LSN(rng.IntN(3))))
	}
	return chain
}

func TestChangesModel(t *testing.T) {
	rng := testRNG(t)
	for range 20 {
		vt := newVersionTest(t)
		timelines, keys := 1+rng.IntN(4), 1+rng.IntN(40)
		vt.randomRecords(rng, 1+rng.IntN(400), timelines, keys)
		if len(vt.points) == 0 {
			continue
		}
		maxLSN := vt.points[len(vt.points)-1].LSN
		// Timelines of a chain wrote one after the other.
		byLSN := func(lsn wal.LSN) TimelineID {
			return TimelineID(1 + int(lsn)*timelines/(int(maxLSN)+1))
		}
		vt.move(byLSN)
		vt.end()
		v := vt.scatter(rng, vt.points, vt.stones)
		for range 20 {
			chain := testChain(rng, timelines, maxLSN, vt.points, vt.stones)
			vt.checkChanges(rng, v, chain, keys, wal.LSN(rng.Uint64N(uint64(maxLSN)+2)))
		}
		vt.close(v)
	}
}

// move gives every record to the timeline that wrote at its LSN.
func (vt *versionTest) move(owner func(wal.LSN) TimelineID) {
	var points []Record
	for _, r := range vt.points {
		r.Key = MakeKey(owner(r.LSN), r.Key.Namespace(), r.Key.User())
		if !slices.ContainsFunc(points, func(o Record) bool { return sameKey(&o, &r) }) {
			points = append(points, r)
		}
	}
	vt.points = points
	for i := range vt.stones {
		r := &vt.stones[i]
		id := owner(r.LSN)
		r.Key, r.End = MakeKey(id, r.Key.Namespace(), r.Key.User()), MakeKey(id, r.End.Namespace(), r.End.User())
	}
}

// end tells every superseded record when it ended; nothing goes.
func (vt *versionTest) end() {
	for i := range vt.points {
		r := &vt.points[i]
		r.Death = coverAbove(vt.stones, r.Key, r.LSN)
		for _, o := range vt.points {
			if o.Key.Compare(r.Key) == 0 && o.LSN > r.LSN && (r.Death == 0 || o.LSN < r.Death) {
				r.Death = o.LSN
			}
		}
	}
}

func (vt *versionTest) checkChanges(rng *rand.Rand, v *Version, chain []Hop, keys int, above wal.LSN) {
	vt.t.Helper()
	lower, upper := randomBounds(rng, keys)
	want := vt.changed(chain, lower, upper, above)
	same := func(got, want *Record) bool {
		return got.Key.Compare(want.Key) == 0 && got.LSN == want.LSN && got.Kind == want.Kind &&
			bytes.Equal(got.Meta, want.Meta) && bytes.Equal(got.Body, want.Body)
	}
	c := v.NewChanges(chain, testNS, lower, upper, above)
	what := fmt.Sprintf("changes [%q, %q) of %v above %d", lower, upper, chain, above)
	ok, i := c.First(), 0
	if rng.IntN(2) == 0 {
		user := testUser(rng, keys)
		what += fmt.Sprintf(" from %q", user)
		ok = c.SeekGE(user)
		for i < len(want) && bytes.Compare(want[i].Key.User(), user) < 0 {
			i++
		}
	}
	for ; ok; ok, i = c.Next(), i+1 {
		if i == len(want) || !same(c.Record(), &want[i]) || !bytes.Equal(c.User(), want[i].Key.User()) {
			vt.t.Fatalf("%s: %s@%d kind %d, want %v", what, c.Record().Key, c.Record().LSN, c.Record().Kind, want[min(i, len(want)-1):])
		}
	}
	if i != len(want) || c.Err() != nil {
		vt.t.Fatalf("%s: end after %d of %d, %v", what, i, len(want), c.Err())
	}
	ranges := c.Ranges()
	for n := range keys {
		user := testUser(rng, n+1)
		if !userRange(1, testNS, lower, upper).Contains(MakeKey(1, testNS, user)) {
			continue
		}
		wantCover := wal.LSN(0)
		for _, h := range chain {
			if cover := coverOf(vt.stones, MakeKey(h.Timeline, testNS, user), h.UpTo); cover > above {
				wantCover = max(wantCover, cover)
			}
		}
		inside := slices.ContainsFunc(ranges, func(r UserRange) bool {
			return bytes.Compare(r.Lower, user) <= 0 && (r.Upper == nil || bytes.Compare(user, r.Upper) < 0)
		})
		if got := c.Covered(user); got != wantCover || inside != (wantCover > 0) {
			vt.t.Fatalf("%s: %q is covered at %d, by ranges %v; want %d", what, user, got, inside, wantCover)
		}
		wantRec, wantOK := vt.newestAbove(chain, user, above)
		rec, found, err := v.NewestAbove(chain, testNS, user, above)
		if err != nil || found != wantOK || found && !same(&rec, &wantRec) {
			vt.t.Fatalf("newest of %q in %v above %d: %s@%d kind %d, %v, %v; want %s@%d, %v", user, chain, above, rec.Key, rec.LSN, rec.Kind, found, err, wantRec.Key, wantRec.LSN, wantOK)
		}
	}
	if err := c.Close(); err != nil {
		vt.t.Fatal(err)
	}
}

func TestJoinRanges(t *testing.T) {
	r := func(lo, hi string) UserRange {
		u := UserRange{Lower: []byte(lo)}
		if hi != "" {
			u.Upper = []byte(hi)
		}
		return u
	}
	got := JoinRanges([]UserRange{r("m", "n"), r("a", "c"), r("b", "d"), r("d", "e"), r("x", ""), r("y", "z"), r("m", "mm")})
	want := []UserRange{r("a", "e"), r("m", "n"), r("x", "")}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("joined %q, want %q", got, want)
	}
}
