package gc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"stemma/layers"
	"stemma/wal"
)

// stubProber has the oldest record of one key by timeline.
type stubProber struct {
	oldest map[layers.TimelineID]wal.LSN
	err    error
	probes int
}

func (p *stubProber) Oldest(id layers.TimelineID, _ []byte) (wal.LSN, bool, error) {
	p.probes++
	lsn, ok := p.oldest[id]
	return lsn, ok, p.err
}

// forkOf returns a bound, written fork with the lineage as read pair.
func forkOf(id, ancestor layers.TimelineID, branch, birth, cutoff wal.LSN) Line {
	return Line{
		ID: id, Birth: birth, Ancestor: ancestor, BranchLSN: branch, ReadAncestor: ancestor, ReadLSN: branch,
		Readable: true, Written: true, Cutoff: cutoff,
	}
}

// dropped returns l after its bucket was deleted and its undo time is over.
func dropped(l Line) Line {
	l.Readable, l.Cutoff = false, 0
	return l
}

func pinnedAt(l Line, pins ...wal.LSN) Line {
	l.Pins = pins
	return l
}

func neverWritten(l Line) Line {
	l.Written = false
	return l
}

func TestNeed(t *testing.T) {
	const end = wal.MaxLSN
	object, upload := suffixOf("k"), []byte{byte(layers.NamespaceUploads), 'k'}
	root := forkOf(1, 0, 0, 10, 800) // the horizon is 1000, the window 200
	gone := dropped(root)
	for _, c := range []struct {
		story        string
		lines        []Line
		oldest       map[layers.TimelineID]wal.LSN
		suffix       []byte
		birth, death wal.LSN
		want         Reason
	}{
		{"the newest version of a bucket", []Line{root}, nil, object, 100, end, Tip},
		{"superseded within the window", []Line{root}, nil, object, 100, 801, InWindow},
		{"superseded at the cutoff: a read there finds the newer one", []Line{root}, nil, object, 100, 800, None},
		{"not superseded, but nobody can read the timeline", []Line{gone}, nil, object, 100, end, None},
		{"unbound within its undo time", []Line{{ID: 1, Birth: 10, Readable: true, Cutoff: 800}}, nil, object, 100, 801, InWindow},

		{"a snapshot at the birth", []Line{pinnedAt(root, 700, 100)}, nil, object, 100, 200, Pin},
		{"a snapshot at the last LSN before the death", []Line{pinnedAt(root, 199, 700)}, nil, object, 100, 200, Pin},
		{"its twin: a snapshot at the death", []Line{pinnedAt(root, 200)}, nil, object, 100, 200, None},
		{"its twin: a snapshot before the birth", []Line{pinnedAt(root, 99)}, nil, object, 100, 200, None},
		{"a snapshot outlives its bucket", []Line{pinnedAt(gone, 150)}, nil, object, 100, end, Pin},

		{"a fork that never wrote the key", []Line{gone, forkOf(2, 1, 150, 160, 800)}, nil, object, 100, 200, Child},
		{"its twin: the fork was dropped", []Line{gone, dropped(forkOf(2, 1, 150, 160, 800))}, nil, object, 100, 200, None},
		{"a fork of a later point", []Line{gone, forkOf(2, 1, 200, 210, 800)}, nil, object, 100, 200, None},
		{"a fork of an earlier point", []Line{gone, forkOf(2, 1, 99, 210, 800)}, nil, object, 100, 200, None},
		{
			"a fork whose window begins before it wrote the key", []Line{gone, forkOf(2, 1, 150, 160, 800)},
			map[layers.TimelineID]wal.LSN{2: 801}, object, 100, 200, Child,
		},
		{
			"its twin: the window has passed what it wrote", []Line{gone, forkOf(2, 1, 150, 160, 800)},
			map[layers.TimelineID]wal.LSN{2: 800}, object, 100, 200, None,
		},
		{
			"a fork that wrote the key in the commit that made it", []Line{gone, forkOf(2, 1, 150, 160, 0)},
			map[layers.TimelineID]wal.LSN{2: 160}, object, 100, 200, None,
		},
		{
			"a snapshot of the fork from before it wrote the key", []Line{gone, pinnedAt(forkOf(2, 1, 150, 160, 800), 170)},
			map[layers.TimelineID]wal.LSN{2: 171}, object, 100, 200, Child,
		},
		{
			"a dropped fork between", []Line{gone, dropped(forkOf(2, 1, 150, 160, 0)), forkOf(3, 2, 300, 310, 800)},
			map[layers.TimelineID]wal.LSN{2: 301}, object, 100, 200, Child,
		},
		{
			"its twin: the dropped one had the key when it was forked", []Line{gone, dropped(forkOf(2, 1, 150, 160, 0)), forkOf(3, 2, 300, 310, 800)},
			map[layers.TimelineID]wal.LSN{2: 300}, object, 100, 200, None,
		},
		{
			// 3 reads on in 1 since its rollup: what the ancestor between reads is nothing to it.
			"a fork that was rolled up", []Line{gone, dropped(forkOf(2, 1, 150, 160, 0)), func() Line {
				l := forkOf(3, 2, 300, 310, 800)
				l.ReadAncestor, l.ReadLSN = 1, 150
				return l
			}()},
			map[layers.TimelineID]wal.LSN{2: 200}, object, 100, 200, Child,
		},
		{
			"its twin: the rollup brought the key, older than its fork", []Line{gone, dropped(forkOf(2, 1, 150, 160, 0)), func() Line {
				l := forkOf(3, 2, 300, 310, 800)
				l.ReadAncestor, l.ReadLSN = 1, 150
				return l
			}()},
			map[layers.TimelineID]wal.LSN{2: 200, 3: 200}, object, 100, 200, None,
		},
		{"a read ancestor that is no longer there", []Line{forkOf(3, 2, 300, 310, 800)}, nil, object, 305, end, Tip},

		{"an open upload", []Line{root}, nil, upload, 100, end, Tip},
		{"an upload that ended above the horizon", []Line{root}, nil, upload, 100, 1001, InWindow},
		{"an upload that ended: no window keeps it", []Line{root}, nil, upload, 100, 1000, None},
		{"an upload under a snapshot", []Line{pinnedAt(root, 150)}, nil, upload, 100, 200, None},
		{"an upload of an ancestor", []Line{gone, forkOf(2, 1, 150, 160, 800)}, nil, upload, 100, end, None},
		{"an upload of a bucket that can be undeleted", []Line{{ID: 1, Birth: 10, Readable: true, Cutoff: 800}}, nil, upload, 100, end, Tip},

		{"a timeline that the tree does not know", []Line{forkOf(2, 0, 0, 10, 0)}, nil, object, 100, end, None},
		{"no tree at all", nil, nil, object, 100, end, None},
	} {
		tree := NewTree(slices.Clone(c.lines), 1000)
		id := layers.TimelineID(1)
		if strings.HasPrefix(c.story, "a read ancestor") {
			id = 3
		}
		p := &stubProber{oldest: c.oldest}
		if got, err := tree.Need(id, c.suffix, c.birth, c.death, p, 0); got != c.want || err != nil {
			t.Errorf("%s: %v, %v, want %v", c.story, got, err, c.want)
		}
		if got, err := tree.Need(id, c.suffix, c.birth, c.death, nil, 0); c.want != None && got != c.want || err != nil {
			t.Errorf("%s, without a prober: %v, %v, want %v", c.story, got, err, c.want)
		}
	}
}

// A thousand forks were made and never written; one more wrote everything. None
// of them is worth a probe, nor are a thousand forks of a fork.
func TestForksThatNeverWroteNeedNoProbe(t *testing.T) {
	lines := []Line{dropped(forkOf(1, 0, 0, 10, 0)), forkOf(2, 1, 150, 160, 800)}
	for i := range layers.TimelineID(1000) {
		lines = append(lines, neverWritten(forkOf(3+i, 1, 150, 161+wal.LSN(i), 800)))
	}
	p := &stubProber{oldest: map[layers.TimelineID]wal.LSN{2: 160}}
	got, err := NewTree(lines, 1000).Need(1, suffixOf("k"), 100, 200, p, 1)
	if got != Child || err != nil || p.probes != 0 {
		t.Errorf("%v, %v after %d probes", got, err, p.probes)
	}

	lines = []Line{dropped(forkOf(1, 0, 0, 10, 0)), dropped(forkOf(2, 1, 150, 160, 0)), forkOf(3, 2, 170, 180, 800)}
	for i := range layers.TimelineID(1000) {
		lines = append(lines, neverWritten(forkOf(4+i, 2, 190, 200+wal.LSN(i), 800)))
	}
	p = &stubProber{oldest: map[layers.TimelineID]wal.LSN{3: 180}}
	got, err = NewTree(lines, 1000).Need(1, suffixOf("k"), 100, 200, p, 1)
	if got != Child || err != nil || p.probes != 1 {
		t.Errorf("forks of a fork: %v, %v after %d probes", got, err, p.probes)
	}
}

// Seventy forks all wrote the key: with 64 probes nobody knows that the base's
// version is dead, with 70 one does.
func TestProbeLimit(t *testing.T) {
	lines := []Line{dropped(forkOf(1, 0, 0, 10, 0))}
	p := &stubProber{oldest: make(map[layers.TimelineID]wal.LSN)}
	for i := range layers.TimelineID(70) {
		birth := 160 + wal.LSN(i)
		lines = append(lines, forkOf(2+i, 1, 150, birth, 800))
		p.oldest[2+i] = birth
	}
	tree := NewTree(lines, 1000)
	for _, c := range []struct {
		limit, probes int
		want          Reason
	}{{64, 64, ProbeLimit}, {69, 69, ProbeLimit}, {70, 70, None}, {0, 70, None}, {-1, 70, None}} {
		p.probes = 0
		if got, err := tree.Need(1, suffixOf("k"), 100, 200, p, c.limit); got != c.want || err != nil || p.probes != c.probes {
			t.Errorf("limit %d: %v, %v after %d probes", c.limit, got, err, p.probes)
		}
		n, err := tree.Needers(1, suffixOf("k"), 100, 200, p, c.limit)
		if want := (Needers{Many: c.want == ProbeLimit, Limited: c.want == ProbeLimit}); n != want || err != nil {
			t.Errorf("limit %d: needers %+v, %v", c.limit, n, err)
		}
	}
}

func TestProbeErrorKeeps(t *testing.T) {
	bad := errors.New("bad block")
	tree := NewTree([]Line{dropped(forkOf(1, 0, 0, 10, 0)), forkOf(2, 1, 150, 160, 800)}, 1000)
	p := &stubProber{err: bad}
	if got, err := tree.Need(1, suffixOf("k"), 100, 200, p, 0); got == None || !errors.Is(err, bad) {
		t.Errorf("need: %v, %v", got, err)
	}
	if got, err := tree.FallsThrough(2, suffixOf("k"), p, 0); got == None || !errors.Is(err, bad) {
		t.Errorf("falls through: %v, %v", got, err)
	}
	if got, err := tree.Needers(1, suffixOf("k"), 100, 200, p, 0); got.None() || !errors.Is(err, bad) {
		t.Errorf("needers: %+v, %v", got, err)
	}
}

// A chain of a hundred thousand forks, each written and dropped, but the last:
// its one read goes all the way down, or ends half-way.
func TestLongChain(t *testing.T) {
	const n = 100_000
	lines := []Line{dropped(forkOf(1, 0, 0, 1, 0))}
	for id := layers.TimelineID(2); id <= n; id++ {
		l := forkOf(id, id-1, wal.LSN(10*id-10), wal.LSN(10*id), 0)
		if id < n {
			l = dropped(l)
		}
		lines = append(lines, l)
		// a sibling on the way that keeps a span open at every step
		side := forkOf(n+id, id-1, wal.LSN(10*id-9), wal.LSN(10*id), 0)
		lines = append(lines, side)
	}
	p := &stubProber{oldest: make(map[layers.TimelineID]wal.LSN)}
	for id := layers.TimelineID(2); id <= n; id++ {
		p.oldest[n+id] = wal.LSN(10 * id) // the siblings have the key from their birth on
	}
	tree := NewTree(lines, 10*n)
	for _, c := range []struct {
		story string
		half  wal.LSN // when the one in the middle wrote the key
		want  Reason
	}{
		{"to the root", wal.MaxLSN, Child},
		{"after the next fork", 10*n/2 + 2, Child},
		{"before the next fork", 10 * n / 2, None},
	} {
		p.oldest[n/2] = c.half
		if got, err := tree.Need(1, suffixOf("k"), 5, wal.MaxLSN, p, 0); got != c.want || err != nil {
			t.Errorf("%s: %v, %v, want %v", c.story, got, err, c.want)
		}
		want := layers.TimelineID(0)
		if c.want == Child {
			want = n
		}
		if got, err := tree.Needers(1, suffixOf("k"), 5, wal.MaxLSN, p, 0); got.Sole != want || got.Many || err != nil {
			t.Errorf("%s: needers %+v, %v, want %d", c.story, got, err, want)
		}
	}
	if tree.Dead(1) || tree.Dead(n/2) || !tree.Dead(2*n+1) {
		t.Error("who is dead does not follow the chain")
	}
}

// main deleted "k" at 500, and the cutoff has passed that. Whether the deletion
// must stay is a matter of who may still compare main with what it was before.
func TestDifferenceMayShow(t *testing.T) {
	root := forkOf(1, 0, 0, 10, 800)
	fork := forkOf(2, 1, 499, 510, 800)
	leaf := forkOf(3, 2, 600, 610, 800)
	for _, c := range []struct {
		story string
		lines []Line
		x     wal.LSN
		want  bool
	}{
		{"nobody", []Line{root}, 500, false},
		{"at the cutoff", []Line{root}, 800, false},
		{"above the cutoff", []Line{root}, 801, true},
		{"a snapshot from before", []Line{pinnedAt(root, 900, 499)}, 500, true},
		{"a snapshot of the deletion itself", []Line{pinnedAt(root, 500)}, 500, false},
		{"a fork from before, to be merged", []Line{root, fork}, 500, true},
		{"its twin: the fork was dropped", []Line{root, dropped(fork)}, 500, false},
		{"its twin: a fork of the deletion", []Line{root, forkOf(2, 1, 500, 510, 800)}, 500, false},
		{"a dropped fork with a snapshot", []Line{root, pinnedAt(dropped(fork), 700)}, 500, true},
		{"a dropped fork with a living fork", []Line{root, dropped(fork), leaf}, 500, true},
		{"its twin: that was dropped too", []Line{root, dropped(fork), dropped(leaf)}, 500, false},
		{"a fork that was detached still merges", []Line{root, func() Line {
			l := fork
			l.ReadAncestor, l.ReadLSN = 0, 0
			return l
		}()}, 500, true},
		{"a fork of a purged fork, which reads on here", []Line{root, func() Line {
			l := leaf
			l.ReadAncestor, l.ReadLSN = 1, 499
			return l
		}()}, 500, true},
		{"a dropped, detached fork, which a fork of a purged one reads", []Line{root, func() Line {
			l := dropped(fork)
			l.ReadAncestor, l.ReadLSN = 0, 0
			return l
		}(), func() Line {
			l := forkOf(5, 4, 700, 710, 800) // 4 is gone
			l.ReadAncestor, l.ReadLSN = 2, 600
			return l
		}()}, 500, true},
		{"a dropped root that a fork reads", []Line{dropped(root), fork}, 499, false},
	} {
		if got := NewTree(slices.Clone(c.lines), 1000).DifferenceMayShow(1, c.x); got != c.want {
			t.Errorf("%s: %v", c.story, got)
		}
	}
}

func TestDeadAndNeedFrom(t *testing.T) {
	root, fork, leaf := forkOf(1, 0, 0, 10, 800), forkOf(2, 1, 150, 160, 800), forkOf(3, 2, 300, 310, 800)
	gone := dropped(root)
	for _, c := range []struct {
		story string
		lines []Line
		from  wal.LSN // NeedFrom is true up to here; zero: nowhere
	}{
		{"bound", []Line{root}, wal.MaxLSN},
		{"dropped", []Line{gone}, 0},
		{"dropped under snapshots", []Line{pinnedAt(gone, 400, 200)}, 400},
		{"dropped under forks", []Line{gone, fork, forkOf(4, 1, 250, 260, 0)}, 250},
		{"dropped under a dropped fork", []Line{gone, dropped(fork)}, 0},
		{"dropped under a dropped fork that is read on in", []Line{gone, dropped(fork), leaf}, 150},
		{"dropped under a dropped fork with a snapshot", []Line{gone, pinnedAt(dropped(fork), 170)}, 150},
		{"dropped under a fork that was detached", []Line{gone, func() Line {
			l := fork
			l.ReadAncestor, l.ReadLSN = 0, 0
			return l
		}()}, 0},
	} {
		tree := NewTree(slices.Clone(c.lines), 1000)
		if got := tree.Dead(1); got != (c.from == 0) {
			t.Errorf("%s: dead: %v", c.story, got)
		}
		for _, x := range []wal.LSN{1, 150, 151, 250, 251, 400, 401, wal.MaxLSN} {
			if got := tree.NeedFrom(1, x); got != (x <= c.from) {
				t.Errorf("%s: read from %d on: %v", c.story, x, got)
			}
		}
	}
}

func TestReaders(t *testing.T) {
	tree := NewTree([]Line{
		forkOf(5, 1, 300, 310, 0), forkOf(3, 1, 200, 210, 0), dropped(forkOf(4, 1, 100, 220, 0)), forkOf(1, 0, 0, 10, 0), forkOf(6, 3, 250, 320, 0),
	}, 1000)
	var got []string
	for id, lsn := range tree.Readers(1) {
		got = append(got, fmt.Sprint(id, "@", lsn))
	}
	if want := []string{"3@200", "5@300"}; !slices.Equal(got, want) {
		t.Errorf("readers %v, want %v", got, want)
	}
	for range tree.Readers(7) {
		t.Error("an unknown timeline has readers")
	}
	var ids []layers.TimelineID
	for l := range tree.Lines() {
		ids = append(ids, l.ID)
	}
	if !slices.Equal(ids, []layers.TimelineID{1, 3, 4, 5, 6}) || tree.Len() != 5 || tree.Horizon() != 1000 {
		t.Errorf("%v, %d lines at %d", ids, tree.Len(), tree.Horizon())
	}
}

func TestTwoLinesOfOneIDPanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewTree([]Line{{ID: 1}, {ID: 1}}, 0)
}

func TestReasonString(t *testing.T) {
	seen := make(map[string]bool)
	for r := range Reason(NumReasons) {
		if s := r.String(); s == "" || seen[s] || strings.HasPrefix(s, "reason_") {
			t.Errorf("reason %d is %q", r, s)
		} else {
			seen[s] = true
		}
	}
	if s := Reason(200).String(); s != "reason_200" {
		t.Error(s)
	}
}
