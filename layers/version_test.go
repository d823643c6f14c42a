package layers

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal"
	"stemma/wal/storefs"
)

// versionTest builds Versions whose records it remembers as a flat list: the
// oracle looks at every record for every question.
type versionTest struct {
	t       testing.TB
	fs      vfs.FS
	cache   *BlockCache
	next    FileNum
	points  []Record
	stones  []Record
	dropped []error
}

func newVersionTest(t testing.TB) *versionTest {
	vt := &versionTest{t: t, fs: storefs.NewMem(), cache: NewBlockCache(8 << 20)}
	if err := vt.fs.MkdirAll("layers", 0o755); err != nil {
		t.Fatal(err)
	}
	return vt
}

// layer writes records, in any order, as one delta layer.
func (vt *versionTest) layer(level int, points, stones []Record) *Layer {
	vt.t.Helper()
	return vt.layerOf(DeltaLayer, level, points, stones)
}

func (vt *versionTest) layerOf(kind LayerKind, level int, points, stones []Record) *Layer {
	vt.t.Helper()
	vt.next++
	w, err := NewLayerWriter(vt.fs, "layers", vt.next, WriterOptions{Kind: kind, Level: level})
	if err != nil {
		vt.t.Fatal(err)
	}
	points = slices.Clone(points)
	sortRecords(points)
	for i := range points {
		if err := w.Add(&points[i]); err != nil {
			vt.t.Fatal(err)
		}
	}
	for i := range stones {
		if err := w.AddRangeTombstone(&stones[i]); err != nil {
			vt.t.Fatal(err)
		}
	}
	d, err := w.Finish()
	if err != nil {
		vt.t.Fatal(err)
	}
	l, err := OpenLayer(vt.fs, "layers", d, vt.cache)
	if err != nil {
		vt.t.Fatal(err)
	}
	return l
}

func (vt *versionTest) version(mem []*Memlayer, l0 []*Layer, levels [NumLevels][]*Layer) *Version {
	return vt.versionWith(mem, l0, levels, [NumLevels][]*Layer{})
}

func (vt *versionTest) versionWith(mem []*Memlayer, l0 []*Layer, levels, history [NumLevels][]*Layer) *Version {
	return NewVersion(mem, l0, levels, history, 0, func(err error) { vt.dropped = append(vt.dropped, err) })
}

// close ends v and checks that its layers could be closed.
func (vt *versionTest) close(v *Version) {
	v.Release()
	if len(vt.dropped) > 0 {
		vt.t.Fatal(vt.dropped)
	}
}

const testNS = NamespaceObjects

func testUser(rng *rand.Rand, keys int) []byte {
	n := rng.IntN(keys)
	return []byte(strings.Repeat("d/", n%3) + fmt.Sprintf("%03d", n))
}

// randomRecords makes a history: every commit has its own LSN.
func (vt *versionTest) randomRecords(rng *rand.Rand, n, timelines, keys int) {
	for lsn := wal.LSN(10); n > 0; lsn += wal.LSN(1 + rng.IntN(2)) {
		t := TimelineID(1 + rng.IntN(timelines))
		for range 1 + rng.IntN(3) {
			n--
			ns := testNS
			if rng.IntN(10) == 0 {
				ns = NamespacePages
			}
			r := Record{Key: MakeKey(t, ns, testUser(rng, keys)), LSN: lsn, Kind: KindValue}
			r.Meta = []byte(fmt.Sprintf("%s@%d", r.Key, lsn))
			r.Body = AppendInlineBody(nil, bytes.Repeat([]byte{byte(lsn)}, rng.IntN(40)))
			switch rng.IntN(12) {
			case 0, 1:
				r.Kind, r.Meta, r.Body = KindTombstone, nil, nil
			case 2:
				r.Kind = KindDelta
			case 3:
				end := MakeKey(t, ns, testUser(rng, keys))
				if c := end.Compare(r.Key); c < 0 {
					r.Key, end = end, r.Key
				} else if c == 0 {
					end = append(end, 0)
				}
				vt.stones = append(vt.stones, Record{Key: r.Key, LSN: lsn, Kind: KindRangeTombstone, End: end})
				continue
			}
			if !slices.ContainsFunc(vt.points, func(o Record) bool { return sameKey(&o, &r) }) {
				vt.points = append(vt.points, r)
			}
		}
	}
}

// collect is a garbage collector with a die: some superseded records learn when
// they ended, and with that belong into history layers; some records go.
func (vt *versionTest) collect(rng *rand.Rand) {
	deaths := make([]wal.LSN, len(vt.points))
	for i, r := range vt.points {
		end := func(lsn wal.LSN) {
			if lsn > r.LSN && (deaths[i] == 0 || lsn < deaths[i]) {
				deaths[i] = lsn
			}
		}
		for _, o := range vt.points {
			if o.Key.Compare(r.Key) == 0 {
				end(o.LSN)
			}
		}
		end(coverAbove(vt.stones, r.Key, r.LSN))
	}
	var kept []Record
	for i, r := range vt.points {
		if rng.IntN(3) > 0 {
			r.Death = deaths[i]
		}
		if rng.IntN(8) > 0 {
			kept = append(kept, r)
		}
	}
	vt.points = kept
}

// testFile is what will be a layer.
type testFile struct{ points, stones []Record }

// testLevel is disjoint layers, cut at keys.
type testLevel struct {
	cuts  []Key
	files []testFile
}

func randomLevel(rng *rand.Rand, points []Record) *testLevel {
	l := new(testLevel)
	for range rng.IntN(4) {
		l.cuts = append(l.cuts, points[rng.IntN(len(points))].Key)
	}
	slices.SortFunc(l.cuts, Key.Compare)
	l.cuts = slices.CompactFunc(l.cuts, func(a, b Key) bool { return a.Compare(b) == 0 })
	l.files = make([]testFile, len(l.cuts)+1)
	return l
}

// file returns where key belongs.
func (l *testLevel) file(key Key) *testFile {
	return &l.files[sort.Search(len(l.cuts), func(j int) bool { return l.cuts[j].Compare(key) > 0 })]
}

func (l *testLevel) addStone(r Record) {
	for f := range l.files {
		var b KeyRange
		if f > 0 {
			b.Start = l.cuts[f-1]
		}
		if f < len(l.cuts) {
			b.End = l.cuts[f]
		}
		if c, ok := ClipTombstone(r, b); ok {
			l.files[f].stones = append(l.files[f].stones, c)
		}
	}
}

// write makes layers of the files that hold something.
func (vt *versionTest) write(kind LayerKind, level int, files []testFile) (ls []*Layer) {
	for _, f := range files {
		if len(f.points)+len(f.stones) > 0 {
			ls = append(ls, vt.layerOf(kind, level, f.points, f.stones))
		}
	}
	return ls
}

// scatter puts the records into sources at random, whatever their LSNs: a
// Version takes no order for granted, and adopted LSNs and rollups break the usual
// one. Those that have a death LSN go to history layers.
func (vt *versionTest) scatter(rng *rand.Rand, points, stones []Record) *Version {
	mem := make([]*Memlayer, 1+rng.IntN(3))
	for i := range mem {
		mem[i] = NewMemlayer()
	}
	l0 := make([]testFile, rng.IntN(4))
	history0 := make([]testFile, 1+rng.IntN(3))
	main, history := make(map[int]*testLevel), make(map[int]*testLevel)
	for _, level := range []int{1, 2, 5, BottomLevel} {
		if rng.IntN(4) > 0 {
			main[level] = randomLevel(rng, points)
		}
	}
	for _, level := range []int{1, 3} {
		if rng.IntN(4) > 0 {
			history[level] = randomLevel(rng, points)
		}
	}
	put := func(r Record) {
		if r.Death > 0 {
			i := rng.IntN(len(history0) + 2)
			if level := history[2*(i-len(history0))+1]; i >= len(history0) && level != nil {
				f := level.file(r.Key)
				f.points = append(f.points, r)
			} else {
				f := &history0[i%len(history0)]
				f.points = append(f.points, r)
			}
			return
		}
		i := rng.IntN(len(mem) + len(l0) + 4)
		j := i - len(mem)
		if j >= len(l0) {
			number := []int{1, 2, 5, BottomLevel}[j-len(l0)]
			if level := main[number]; level == nil {
				i = 0
			} else if r.Kind == KindRangeTombstone {
				level.addStone(r)
				return
			} else if f := level.file(r.Key); number == BottomLevel && slices.ContainsFunc(f.points, func(o Record) bool { return o.Key.Compare(r.Key) == 0 }) {
				i = 0
			} else {
				f.points = append(f.points, r)
				return
			}
		}
		switch {
		case i < len(mem):
			mem[i].Add(&r)
		case r.Kind == KindRangeTombstone:
			l0[j].stones = append(l0[j].stones, r)
		default:
			l0[j].points = append(l0[j].points, r)
		}
	}
	for _, r := range points {
		put(r)
	}
	for _, r := range stones {
		put(r)
	}
	var levels, old [NumLevels][]*Layer
	for number, l := range main {
		kind := DeltaLayer
		if number == BottomLevel {
			kind = ImageLayer
		}
		levels[number] = vt.write(kind, number, l.files)
	}
	for number, l := range history {
		old[number] = vt.write(HistoryLayer, number, l.files)
	}
	old[0] = vt.write(HistoryLayer, 0, history0)
	return vt.versionWith(mem, vt.write(DeltaLayer, 0, l0), levels, old)
}

// walk is what Walk must visit of one hop: from the top, always the newest record
// that is visible just below the last one, and at a delta itself.
func (vt *versionTest) walk(h Hop, ns Namespace, user []byte) (got []Record) {
	key := MakeKey(h.Timeline, ns, user)
	below, alive, belowStone := h.UpTo, h.UpTo, h.UpTo
	for {
		var best Record
		for _, r := range vt.points {
			if r.Key.Compare(key) == 0 && r.LSN <= below && (r.Death == 0 || r.Death > alive) && r.LSN > best.LSN {
				best = r
			}
		}
		cover := coverOf(vt.stones, key, belowStone)
		switch {
		case best.LSN > 0 && best.LSN >= cover:
			got = append(got, best)
			if below, alive = best.LSN-1, best.LSN-1; best.Kind == KindDelta {
				alive = best.LSN
			}
		case cover > 0:
			got = append(got, Record{Key: key, LSN: cover, Kind: KindRangeTombstone, End: append(slices.Clone(key), 0)})
			below, alive, belowStone = cover-1, cover-1, cover-1
		default:
			return got
		}
	}
}

// visible is what Get must return.
func (vt *versionTest) visible(chain []Hop, ns Namespace, user []byte) (Record, int, bool) {
	r, hop := vt.newest(chain, ns, user)
	return r, hop, r.Kind == KindValue || r.Kind == KindDelta
}

// newest is the record of the key that decides, of whatever kind; none: 0.
func (vt *versionTest) newest(chain []Hop, ns Namespace, user []byte) (Record, int) {
	for i, h := range chain {
		if all := vt.walk(h, ns, user); len(all) > 0 {
			return all[0], i
		}
	}
	return Record{}, 0
}

// scan is what a Scan must show, deleted keys too or not.
func (vt *versionTest) scan(chain []Hop, ns Namespace, lower, upper []byte, deleted bool) (recs []Record) {
	users := make(map[string]bool)
	for _, r := range vt.points {
		u := r.Key.User()
		if r.Key.Namespace() == ns && bytes.Compare(u, lower) >= 0 && (upper == nil || bytes.Compare(u, upper) < 0) {
			users[string(u)] = true
		}
	}
	for u := range users {
		switch r, _ := vt.newest(chain, ns, []byte(u)); {
		case r.Kind == KindValue, r.Kind == KindDelta, r.Kind == KindTombstone && deleted:
			recs = append(recs, r)
		}
	}
	slices.SortFunc(recs, func(a, b Record) int { return bytes.Compare(a.Key.User(), b.Key.User()) })
	return recs
}

func randomChain(rng *rand.Rand, timelines int, maxLSN wal.LSN) []Hop {
	var chain []Hop
	for _, t := range rng.Perm(timelines)[:1+rng.IntN(timelines)] {
		upTo := maxLSN + 5
		if rng.IntN(4) > 0 {
			upTo = wal.LSN(rng.Uint64N(uint64(maxLSN) + 5))
		}
		chain = append(chain, Hop{Timeline: TimelineID(1 + t), UpTo: upTo})
	}
	return chain
}

// Random histories of many timelines in random sources, asked at random.
func TestVersionModel(t *testing.T) {
	rng := testRNG(t)
	for range 20 {
		vt := newVersionTest(t)
		timelines, keys := 1+rng.IntN(8), 1+rng.IntN(40)
		vt.randomRecords(rng, 1+rng.IntN(400), timelines, keys)
		if rng.IntN(4) > 0 {
			vt.collect(rng)
		}
		if len(vt.points) == 0 {
			continue
		}
		v := vt.scatter(rng, vt.points, vt.stones)
		maxLSN := vt.points[len(vt.points)-1].LSN
		for range 30 {
			chain := randomChain(rng, timelines, maxLSN)
			vt.checkGet(v, chain, testUser(rng, keys))
		}
		for range 4 {
			vt.checkScan(rng, v, randomChain(rng, timelines, maxLSN), keys)
			vt.checkHistory(rng, v, TimelineID(1+rng.IntN(timelines)), keys, maxLSN)
			vt.checkOldest(v, TimelineID(1+rng.IntN(timelines)), testUser(rng, keys))
		}
		// One key at every LSN there is.
		user := vt.points[rng.IntN(len(vt.points))].Key.User()
		chain := randomChain(rng, timelines, maxLSN)
		for lsn := range maxLSN + 2 {
			chain[rng.IntN(len(chain))].UpTo = lsn
			vt.checkGet(v, chain, user)
		}
		vt.close(v)
	}
}

func (vt *versionTest) checkGet(v *Version, chain []Hop, user []byte) {
	vt.t.Helper()
	for _, ns := range []Namespace{testNS, NamespacePages} {
		want, wantHop, wantOK := vt.visible(chain, ns, user)
		got, hop, ok, err := v.Get(chain, ns, user)
		if err != nil || ok != wantOK || ok && (hop != wantHop || !sameRecord(&got, &want)) {
			vt.t.Fatalf("get %q in %v: %s@%d hop %d, %v, %v; want %s@%d hop %d, %v", user, chain, got.Key, got.LSN, hop, ok, err, want.Key, want.LSN, wantHop, wantOK)
		}
		var all []Record
		var hops []int
		for i, h := range chain {
			for _, r := range vt.walk(h, ns, user) {
				all, hops = append(all, r), append(hops, i)
			}
		}
		stop, n := len(all)+1, 0
		if len(all) > 0 && len(all)%2 == 0 {
			stop = len(all) / 2
		}
		err = v.Walk(chain, ns, user, func(r *Record, hop int) bool {
			if n == len(all) || hop != hops[n] || !sameRecord(r, &all[n]) || r.End.Compare(all[n].End) != 0 {
				vt.t.Fatalf("walk %q in %v, visit %d: %s@%d kind %d of hop %d; want %v", user, chain, n, r.Key, r.LSN, r.Kind, hop, all)
			}
			n++
			return n < stop
		})
		if want := min(stop, len(all)); err != nil || n != want {
			vt.t.Fatalf("walk %q in %v: %d visits, want %d, %v", user, chain, n, want, err)
		}
	}
}

// oldest is what Oldest must find.
func (vt *versionTest) oldest(timeline TimelineID, user []byte) (lsn wal.LSN, ok bool) {
	key := MakeKey(timeline, testNS, user)
	lsn = coverAbove(vt.stones, key, 0)
	for _, r := range vt.points {
		if r.Key.Compare(key) == 0 && r.Kind != KindDelta && (lsn == 0 || r.LSN < lsn) {
			lsn = r.LSN
		}
	}
	return lsn, lsn > 0
}

func (vt *versionTest) checkOldest(v *Version, timeline TimelineID, user []byte) {
	vt.t.Helper()
	want, wantOK := vt.oldest(timeline, user)
	if lsn, ok, err := v.Oldest(timeline, MakeKey(timeline, testNS, user).Suffix()); err != nil || ok != wantOK || lsn != want {
		vt.t.Fatalf("oldest of %q in %d: %d, %v, %v, want %d", user, timeline, lsn, ok, err, want)
	}
}

func randomBounds(rng *rand.Rand, keys int) (lower, upper []byte) {
	if rng.IntN(3) > 0 {
		lower = testUser(rng, keys)
	}
	if rng.IntN(3) > 0 {
		upper = testUser(rng, keys)
	}
	return lower, upper
}

// checkScan moves over a scan at random, comparing with the list.
func (vt *versionTest) checkScan(rng *rand.Rand, v *Version, chain []Hop, keys int) {
	vt.t.Helper()
	lower, upper := randomBounds(rng, keys)
	deleted := rng.IntN(3) == 0
	want := vt.scan(chain, testNS, lower, upper, deleted)
	s := v.NewScan(chain, testNS, lower, upper, ScanOptions{NoFillCache: rng.IntN(2) == 0, Tombstones: deleted})
	i := -1 // -1 and len(want) are the ends
	for move := range 80 {
		var ok bool
		var what string
		user := testUser(rng, keys)
		search := sort.Search(len(want), func(i int) bool { return bytes.Compare(want[i].Key.User(), user) >= 0 })
		switch n := rng.IntN(16); {
		case n == 0 || move == 0 && n < 8:
			what, ok, i = "first", s.First(), 0
		case n == 1 || move == 0:
			what, ok, i = "last", s.Last(), len(want)-1
		case n == 2:
			what, ok, i = fmt.Sprintf("seekGE %q", user), s.SeekGE(user), search
		case n == 3:
			what, ok, i = fmt.Sprintf("seekLT %q", user), s.SeekLT(user), search-1
		case n < 11:
			what, ok, i = "next", s.Next(), min(i+1, len(want))
		default:
			what, ok, i = "prev", s.Prev(), max(i-1, -1)
		}
		if on := i >= 0 && i < len(want); ok != on || s.Err() != nil {
			vt.t.Fatalf("scan [%q, %q) of %v, move %d %s: %v, want %v; err %v", lower, upper, chain, move, what, ok, on, s.Err())
		}
		if ok && (!sameRecord(s.Record(), &want[i]) || chain[s.Hop()].Timeline != want[i].Key.Timeline()) {
			vt.t.Fatalf("scan [%q, %q) of %v, move %d %s: on %s@%d, want %s@%d", lower, upper, chain, move, what, s.Record().Key, s.Record().LSN, want[i].Key, want[i].LSN)
		}
	}
	if err := s.Close(); err != nil {
		vt.t.Fatal(err)
	}
}

func (vt *versionTest) checkHistory(rng *rand.Rand, v *Version, timeline TimelineID, keys int, maxLSN wal.LSN) {
	vt.t.Helper()
	lower, upper := randomBounds(rng, keys)
	low := wal.LSN(rng.Uint64N(uint64(maxLSN) + 2))
	high := low + wal.LSN(rng.Uint64N(uint64(maxLSN)))
	bounds := userRange(timeline, testNS, lower, upper)
	var want []Record
	for _, r := range vt.points {
		if bounds.Contains(r.Key) && r.LSN >= low && r.LSN <= high {
			want = append(want, r)
		}
	}
	sortRecords(want)
	h := v.NewHistory(timeline, testNS, lower, upper, low, high)
	randomMoves(vt.t.(*testing.T), rng, h, want, 60)
	// Every key of the range is covered by the same LSNs as in the oracle.
	covered := func(stones []Record, key Key) (lsns []wal.LSN) {
		for _, r := range stones {
			if (KeyRange{r.Key, r.End}).Contains(key) && r.LSN >= low && r.LSN <= high {
				lsns = append(lsns, r.LSN)
			}
		}
		slices.Sort(lsns)
		return slices.Compact(lsns)
	}
	for n := range keys {
		key := MakeKey(timeline, testNS, []byte(strings.Repeat("d/", n%3)+fmt.Sprintf("%03d", n)))
		var want []wal.LSN
		if bounds.Contains(key) {
			want = covered(vt.stones, key)
		}
		if got := covered(h.RangeTombstones(), key); !slices.Equal(got, want) {
			vt.t.Fatalf("history [%q, %q) of %d, %d to %d: tombstones over %s at %v, want %v", lower, upper, timeline, low, high, key, got, want)
		}
	}
	if err := h.Close(); err != nil {
		vt.t.Fatal(err)
	}
}

// A layer lives as long as a Version has it; then it is closed, and unlinked if
// it is obsolete. What fails is told.
func TestVersionLifetime(t *testing.T) {
	vt := newVersionTest(t)
	one := Record{Key: MakeKey(1, testNS, []byte("a")), LSN: 1, Kind: KindValue}
	a, b := vt.layer(0, []Record{one}, nil), vt.layer(0, []Record{one}, nil)
	names := func() string {
		list, err := vt.fs.List("layers")
		if err != nil {
			t.Fatal(err)
		}
		sort.Strings(list)
		return strings.Join(list, " ")
	}
	both := LayerName(1) + " " + LayerName(2)
	v1 := vt.version([]*Memlayer{NewMemlayer()}, []*Layer{b, a}, [NumLevels][]*Layer{})
	v2 := vt.version([]*Memlayer{NewMemlayer()}, []*Layer{b}, [NumLevels][]*Layer{})
	a.MarkObsolete()
	if !v1.Acquire() {
		t.Fatal("a live version was refused")
	}
	v1.Release()
	if got := names(); got != both {
		t.Fatalf("files %q while a version has the layer", got)
	}
	if _, _, ok, err := v1.Get([]Hop{{1, 5}}, testNS, []byte("a")); !ok || err != nil {
		t.Fatalf("get: %v, %v", ok, err)
	}
	v1.Release()
	if got := names(); got != LayerName(2) {
		t.Fatalf("files %q after the last version", got)
	}
	if v1.Acquire() {
		t.Fatal("a dead version was acquired")
	}
	if _, _, ok, err := v2.Get([]Hop{{1, 5}}, testNS, []byte("a")); !ok || err != nil {
		t.Fatalf("get: %v, %v", ok, err)
	}
	v2.Release()
	if got := names(); got != LayerName(2) || len(vt.dropped) > 0 {
		t.Fatalf("files %q, dropped %v", got, vt.dropped)
	}
	if a.versions.Load() != 0 || b.versions.Load() != 0 {
		t.Fatal("a layer is still counted")
	}
}

// Readers run while the active memlayer grows and Versions are swapped.
func TestVersionConcurrent(t *testing.T) {
	vt := newVersionTest(t)
	mem := NewMemlayer()
	key := func(i int) []byte { return []byte(fmt.Sprintf("%04d", i%100)) }
	var mu sync.Mutex
	var visible wal.LSN
	current := vt.version([]*Memlayer{mem}, nil, [NumLevels][]*Layer{})
	acquire := func() (*Version, wal.LSN) {
		mu.Lock()
		defer mu.Unlock()
		current.Acquire()
		return current, visible
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for {
				select {
				case <-done:
					return
				default:
				}
				v, at := acquire()
				chain := []Hop{{2, at}, {1, at}}
				if at >= 100 {
					// The newest record of a key at or below at is one of the last 100.
					i := rng.IntN(100)
					rec, _, ok, err := v.Get(chain, testNS, key(i))
					if err != nil || !ok || rec.LSN > at || rec.LSN+100 <= at {
						t.Errorf("get at %d: %d, %v, %v", at, rec.LSN, ok, err)
					}
					n := 0
					s := v.NewScan(chain, testNS, nil, nil, ScanOptions{})
					for ok := s.First(); ok; ok = s.Next() {
						n++
					}
					for ok := s.Last(); ok; ok = s.Prev() {
						n++
					}
					if s.Err() != nil || n != 200 {
						t.Errorf("scan at %d: %d keys, %v", at, n, s.Err())
					}
					s.Close()
				}
				v.Release()
			}
		})
	}
	var recent []Record
	for i := range 3000 {
		r := Record{Key: MakeKey(1, testNS, key(i)), LSN: wal.LSN(i + 1), Kind: KindValue}
		mem.Add(&r)
		recent = append(recent, r)
		mu.Lock()
		visible = r.LSN
		mu.Unlock()
		if len(recent) == 500 {
			l := vt.layer(0, recent, nil)
			recent, mem = nil, NewMemlayer()
			mu.Lock()
			old := current
			current = vt.version([]*Memlayer{mem}, append([]*Layer{l}, old.L0...), old.Levels)
			mu.Unlock()
			old.Release()
		}
	}
	close(done)
	wg.Wait()
	vt.close(current)
}
