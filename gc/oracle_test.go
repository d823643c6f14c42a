package gc

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"stemma/layers"
	"stemma/wal"
)

// world is a store in miniature: every record, and the tree that gc sees.
type world struct {
	rng   *rand.Rand
	now   wal.LSN
	lines []*worldLine
}

type worldLine struct {
	Line
	window Window
	floor  wal.LSN
	keys   map[string][]worldRecord // newest first
}

type worldRecord struct {
	lsn   wal.LSN
	delta bool // does not end the search for the key
}

var worldKeys = []string{"a", "b", "c"}

func suffixOf(key string) []byte { return append([]byte{byte(layers.NamespaceObjects)}, key...) }

// newWorld plays a random life: writes, forks of forks at any LSN, rollups, pins,
// windows, deletions, purges.
func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0))}
	w.create()
	for range 10 + w.rng.IntN(50) {
		l := w.lines[w.rng.IntN(len(w.lines))]
		switch n := w.rng.IntN(100); {
		case n < 3:
			w.create()
		case n < 45:
			w.write(l)
		case n < 70:
			w.fork(l)
		case n < 82:
			w.rollUp(l)
		case n < 87:
			l.Pins = append(l.Pins, l.Birth+wal.LSN(w.rng.Uint64N(uint64(w.now-l.Birth)+1)))
		case n < 95:
			l.Readable = n < 88
		default:
			l.window, l.floor = Window(w.rng.IntN(20)), wal.LSN(w.rng.IntN(int(w.now)+1))
		}
	}
	return w
}

func (w *world) add(l *worldLine) {
	w.now++
	l.ID, l.Birth, l.Readable = layers.TimelineID(10+3*len(w.lines)), w.now, true
	l.window, l.keys = Window(w.rng.IntN(30)), make(map[string][]worldRecord)
	if w.rng.IntN(10) == 0 {
		l.window = Forever
	}
	w.lines = append(w.lines, l)
	if w.rng.IntN(3) == 0 { // records of its own in the commit that makes it
		w.now--
		w.write(l)
	}
}

func (w *world) create() { w.add(&worldLine{}) }

// fork forks l, or, at an LSN before its birth, what l was then.
func (w *world) fork(l *worldLine) {
	at := wal.LSN(w.rng.Uint64N(uint64(w.now))) + 1
	if w.rng.IntN(2) == 0 {
		at = w.now
	}
	for at < l.Birth {
		at = min(at, l.BranchLSN)
		if l = w.line(l.Ancestor); l == nil {
			return
		}
	}
	w.add(&worldLine{Line: Line{Ancestor: l.ID, BranchLSN: at, ReadAncestor: l.ID, ReadLSN: at}})
}

func (w *world) write(l *worldLine) {
	w.now++
	for _, k := range worldKeys {
		if w.rng.IntN(2) == 0 {
			l.Written = true
			l.keys[k] = slices.Insert(l.keys[k], 0, worldRecord{w.now, w.rng.IntN(5) == 0})
		}
	}
}

// rollUp copies into l what it reads in its read ancestor, down to the newest
// record that ends the search, and lets it read on where that one does.
func (w *world) rollUp(l *worldLine) {
	a := w.line(l.ReadAncestor)
	if a == nil {
		return
	}
	for _, k := range worldKeys {
		i := slices.IndexFunc(a.keys[k], func(r worldRecord) bool { return r.lsn <= l.ReadLSN })
		for ; i >= 0 && i < len(a.keys[k]); i++ {
			l.keys[k] = append(l.keys[k], a.keys[k][i])
			if !a.keys[k][i].delta {
				break
			}
		}
	}
	l.Written = l.Written || a.Written
	l.ReadAncestor, l.ReadLSN = a.ReadAncestor, a.ReadLSN
}

func (w *world) line(id layers.TimelineID) *worldLine {
	i := slices.IndexFunc(w.lines, func(l *worldLine) bool { return l.ID == id })
	if i < 0 {
		return nil
	}
	return w.lines[i]
}

// purge forgets dropped timelines that nothing reads on in.
func (w *world) purge() {
	w.lines = slices.DeleteFunc(w.lines, func(l *worldLine) bool {
		read := slices.ContainsFunc(w.lines, func(c *worldLine) bool { return c != nil && c.ReadAncestor == l.ID })
		return !read && !l.Readable && len(l.Pins) == 0 && w.rng.IntN(2) == 0
	})
}

// tree returns what gc sees at a horizon, in random order.
func (w *world) tree() *Tree {
	h := wal.LSN(w.rng.Uint64N(uint64(w.now) + 1))
	lines := make([]Line, 0, len(w.lines))
	for _, l := range w.lines {
		l.Cutoff = 0
		if l.Readable {
			l.floor = min(l.floor, w.now)
			l.Cutoff = Cutoff(h, l.floor, l.window)
		}
		c := l.Line
		c.Pins = slices.Clone(l.Pins)
		lines = append(lines, c)
	}
	w.rng.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return NewTree(lines, h)
}

// version names a record.
type version struct {
	line *worldLine
	key  string
	lsn  wal.LSN
}

// truth is what the oracle saw.
type truth struct {
	hits  map[version]map[layers.TimelineID]bool // the newest record that a read found in a timeline, and whose read
	tips  map[version]bool
	bases map[version]bool // a delta that a read found applies over it
	falls map[version]bool // lsn zero: a read of the key left the timeline for its read ancestor
	seen  map[layers.TimelineID][]wal.LSN
}

// tipLSN is where a read of the tip looks.
const tipLSN = wal.MaxLSN - 1

// oracle does every read that is allowed, hop by hop.
func (w *world) oracle() *truth {
	t := &truth{make(map[version]map[layers.TimelineID]bool), make(map[version]bool), make(map[version]bool),
		make(map[version]bool), make(map[layers.TimelineID][]wal.LSN)}
	for _, l := range w.lines {
		at := slices.Clone(l.Pins)
		if l.Readable {
			for lsn := max(l.Cutoff, l.Birth); lsn <= w.now; lsn++ {
				at = append(at, lsn)
			}
			at = append(at, tipLSN)
		}
		for _, lsn := range at {
			for _, k := range worldKeys {
				w.read(t, l, k, lsn)
			}
			for hop, lsn := l, lsn; hop != nil; hop = w.line(hop.ReadAncestor) { // a key that nobody has
				if hop != l {
					lsn = min(lsn, w.childOnWay(l, hop).ReadLSN)
				}
				t.seen[hop.ID] = append(t.seen[hop.ID], lsn)
			}
		}
	}
	return t
}

// childOnWay returns the hop of a read of l that leads to hop.
func (w *world) childOnWay(l, hop *worldLine) *worldLine {
	for l.ReadAncestor != hop.ID {
		l = w.line(l.ReadAncestor)
	}
	return l
}

func (w *world) read(t *truth, l *worldLine, key string, at wal.LSN) {
	tip := at == tipLSN
	for hop := l; hop != nil; {
		found := false
		for _, r := range hop.keys[key] {
			if r.lsn > at {
				continue
			}
			v := version{hop, key, r.lsn}
			if found {
				t.bases[v] = true
			} else {
				found = true
				if t.hits[v] == nil {
					t.hits[v] = make(map[layers.TimelineID]bool)
				}
				t.hits[v][l.ID] = true
				t.tips[v] = t.tips[v] || tip
			}
			if !r.delta {
				return
			}
		}
		t.falls[version{hop, key, 0}] = true
		at, hop = min(at, hop.ReadLSN), w.line(hop.ReadAncestor)
	}
}

// worldProber answers from the records of a world.
type worldProber struct {
	w      *world
	probes int
}

func (p *worldProber) Oldest(id layers.TimelineID, suffix []byte) (wal.LSN, bool, error) {
	p.probes++
	l := p.w.line(id)
	if !l.Written {
		return 0, false, fmt.Errorf("timeline %d was never written", id)
	}
	for _, r := range slices.Backward(l.keys[string(suffix[1:])]) {
		if !r.delta {
			return r.lsn, true, nil
		}
	}
	return 0, false, nil
}

// tally counts what a run met: a property that never came up proves nothing.
type tally struct {
	reasons                     [NumReasons]int
	limited, sole, many, purged int
	history, nilKeepsMore       int
	shows, hides                int
}

// TestTreeAgainstOracle compares every decision with a reader that does every
// read there is.
func TestTreeAgainstOracle(t *testing.T) {
	var n tally
	for seed := range uint64(3000) {
		checkWorld(t, seed, &n)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for r, c := range n.reasons[:Unknown] {
		if c == 0 {
			t.Errorf("reason %s never came up", Reason(r))
		}
	}
	for name, c := range map[string]int{"limited": n.limited, "sole": n.sole, "many": n.many, "purged": n.purged,
		"history": n.history, "a nil prober keeps more": n.nilKeepsMore, "shows": n.shows, "hides": n.hides} {
		if c == 0 {
			t.Errorf("%s never came up", name)
		}
	}
	t.Logf("%+v", n)
}

func FuzzTree(f *testing.F) {
	for seed := range uint64(10) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], 1<<40+seed)
		f.Add(b[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var seed [8]byte
		copy(seed[:], b)
		checkWorld(t, binary.LittleEndian.Uint64(seed[:]), new(tally))
	})
}

func checkWorld(t *testing.T, seed uint64, n *tally) {
	w := newWorld(seed)
	before := len(w.lines)
	w.purge()
	n.purged += before - len(w.lines)
	tree := w.tree()
	truth := w.oracle()
	for _, l := range w.lines {
		for _, k := range worldKeys {
			checkFalls(t, w, tree, truth, l, k)
			death := wal.MaxLSN
			for _, r := range l.keys[k] {
				checkVersion(t, w, tree, truth, version{l, k, r.lsn}, death, n)
				death = r.lsn
			}
		}
		checkLine(t, w, tree, truth, l, n)
	}
}

func checkVersion(t *testing.T, w *world, tree *Tree, truth *truth, v version, death wal.LSN, n *tally) {
	id, suffix, hits := v.line.ID, suffixOf(v.key), truth.hits[v]
	needed := len(hits) > 0
	reason, err := tree.Need(id, suffix, v.lsn, death, &worldProber{w: w}, 0)
	if err != nil || (reason != None) != needed || reason == ProbeLimit {
		t.Errorf("%d %s [%d, %d): %v, %v; read by %v", id, v.key, v.lsn, death, reason, err, hits)
	}
	n.reasons[reason]++
	for _, limit := range []int{1, 2, 4} {
		p := &worldProber{w: w}
		got, err := tree.Need(id, suffix, v.lsn, death, p, limit)
		if err != nil || got != reason && got != ProbeLimit || p.probes > limit {
			t.Errorf("%d %s [%d, %d) in %d probes: %v after %d, %v; want %v", id, v.key, v.lsn, death, limit, got, p.probes, err, reason)
		}
		n.reasons[got]++
	}
	if got, err := tree.Need(id, suffix, v.lsn, death, nil, 0); err != nil || needed && got == None {
		t.Errorf("%d %s [%d, %d) without a prober: %v, %v; read by %v", id, v.key, v.lsn, death, got, err, hits)
	} else if !needed && got != None {
		n.nilKeepsMore++
	}
	if longer, _ := tree.Need(id, suffix, v.lsn, min(death+3, wal.MaxLSN), &worldProber{w: w}, 0); needed && longer == None {
		t.Errorf("%d %s [%d, %d + 3) is not needed, but a shorter interval is", id, v.key, v.lsn, death)
	}
	if got, _ := tree.Need(id, suffix, v.lsn, v.lsn, &worldProber{w: w}, 0); got != None {
		t.Errorf("%d %s: an empty interval is read: %v", id, v.key, got)
	}
	checkNeeders(t, w, tree, truth, v, death, n)
}

func checkNeeders(t *testing.T, w *world, tree *Tree, truth *truth, v version, death wal.LSN, n *tally) {
	id, suffix, hits := v.line.ID, suffixOf(v.key), truth.hits[v]
	want := Needers{Many: len(hits) > 1, Tip: truth.tips[v]}
	if len(hits) == 1 {
		for want.Sole = range hits {
		}
	}
	got, err := tree.Needers(id, suffix, v.lsn, death, &worldProber{w: w}, 0)
	if err != nil || got != want || got.None() != (len(hits) == 0) {
		t.Errorf("needers of %d %s [%d, %d): %+v, %v; want %+v, %v", id, v.key, v.lsn, death, got, err, want, hits)
	}
	p := &worldProber{w: w}
	few, err := tree.Needers(id, suffix, v.lsn, death, p, 2)
	if err != nil || p.probes > 2 || !few.Limited && few != want || few.Limited && (!few.Many || few.Tip && !want.Tip) {
		t.Errorf("needers of %d %s [%d, %d) in 2 probes: %+v, %v; want %+v", id, v.key, v.lsn, death, few, err, want)
	}
	switch {
	case few.Limited:
		n.limited++
	case want.Many:
		n.many++
	case want.Sole != 0:
		n.sole++
	}
	if !want.Tip && !want.None() {
		n.history++
	}
}

func checkFalls(t *testing.T, w *world, tree *Tree, truth *truth, l *worldLine, key string) {
	want := None
	if truth.falls[version{l, key, 0}] {
		want = Child
	}
	got, err := tree.FallsThrough(l.ID, suffixOf(key), &worldProber{w: w}, 0)
	if got != want || err != nil {
		t.Errorf("%d falls through for %s: %v, %v, want %v", l.ID, key, got, err, want)
	}
	if few, err := tree.FallsThrough(l.ID, suffixOf(key), &worldProber{w: w}, 1); err != nil || few != want && few != ProbeLimit {
		t.Errorf("%d falls through for %s in one probe: %v, %v, want %v", l.ID, key, few, err, want)
	}
	if guess, err := tree.FallsThrough(l.ID, suffixOf(key), nil, 0); err != nil || want != None && guess == None {
		t.Errorf("%d falls through for %s without a prober: %v, %v, want %v", l.ID, key, guess, err, want)
	}
}

// checkLine checks what is said without a key.
func checkLine(t *testing.T, w *world, tree *Tree, truth *truth, l *worldLine, n *tally) {
	seen := truth.seen[l.ID]
	if got := tree.Dead(l.ID); got != (len(seen) == 0) {
		t.Errorf("%d is dead: %v; read at %v", l.ID, got, seen)
	}
	for x := wal.LSN(0); x <= w.now+2; x++ {
		want := slices.ContainsFunc(seen, func(at wal.LSN) bool { return at >= x })
		if got := tree.NeedFrom(l.ID, x); got != want {
			t.Errorf("%d is read from %d on: %v; read at %v", l.ID, x, got, seen)
		}
		shows := w.differenceMayShow(l, x)
		if got := tree.DifferenceMayShow(l.ID, x); got != shows {
			t.Errorf("a difference in %d may show %d: %v, want %v", l.ID, x, got, shows)
		}
		if shows {
			n.shows++
		} else {
			n.hides++
		}
	}
	for id, lsn := range tree.Readers(l.ID) {
		if c := w.line(id); c.ReadAncestor != l.ID || c.ReadLSN != lsn || tree.Dead(id) {
			t.Errorf("%d reads %d at %d: %+v", id, l.ID, lsn, c.Line)
		}
	}
	if got, ok := tree.Line(l.ID); !ok || got.Birth != l.Birth {
		t.Errorf("line of %d: %+v, %v", l.ID, got, ok)
	}
	for _, id := range []layers.TimelineID{l.ID - 1, l.ID + 1} { // ids have gaps
		if !tree.Dead(id) || tree.NeedFrom(id, 0) || tree.DifferenceMayShow(id, wal.MaxLSN) {
			t.Errorf("somebody reads %d, which is no timeline", id)
		}
	}
}

// differenceMayShow is rule 3 of tombstones, word by word.
func (w *world) differenceMayShow(l *worldLine, x wal.LSN) bool {
	if l.Readable && x > l.Cutoff || slices.ContainsFunc(l.Pins, func(pin wal.LSN) bool { return pin < x }) {
		return true
	}
	return slices.ContainsFunc(w.lines, func(c *worldLine) bool {
		lineage := c.Ancestor == l.ID && c.BranchLSN < x
		reads := c.ReadAncestor == l.ID && c.ReadLSN < x // of a lineage that has lost a purged timeline
		return (lineage || reads) && w.living(c)
	})
}

func (w *world) living(l *worldLine) bool {
	return l.Readable || len(l.Pins) > 0 || slices.ContainsFunc(w.lines, func(c *worldLine) bool {
		return (c.Ancestor == l.ID || c.ReadAncestor == l.ID) && w.living(c)
	})
}
