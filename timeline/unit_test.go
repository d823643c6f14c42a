package timeline

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"stemma/layers"
	"stemma/wal"
)

// fakeClocks are a wall clock and an uptime that a test moves.
type fakeClocks struct {
	wall time.Time
	up   time.Duration
}

func (f *fakeClocks) pass(wall, up time.Duration) {
	f.wall = f.wall.Add(wall)
	f.up += up
}

func newFakeClocks() *fakeClocks { return &fakeClocks{wall: time.Unix(1_000_000, 0)} }

func (f *fakeClocks) store(last wal.LSN) *storeClock {
	return newStoreClock(func() time.Time { return f.wall }, func() time.Duration { return f.up }, last)
}

func TestClockStartsAtTheLaterOfWallAndLastLSN(t *testing.T) {
	f := newFakeClocks()
	if got, want := f.store(5).Now(), wal.LSNFromTime(f.wall); got != want {
		t.Errorf("after a last LSN in the past: %d, want the wall clock %d", got, want)
	}
	ahead := wal.LSNFromTime(f.wall.Add(time.Hour))
	if got := f.store(ahead).Now(); got != ahead {
		t.Errorf("after a last LSN in the future: %d, want it, %d", got, ahead)
	}
}

func TestClockIsNeverStepped(t *testing.T) {
	f := newFakeClocks()
	c := f.store(0)
	start := c.Now()

	f.pass(-time.Hour, time.Second) // somebody set the wall clock back
	if got := c.Now() - start; got != wal.LSN(time.Second) {
		t.Errorf("wall clock set back: the store clock moved by %v in a second", time.Duration(got))
	}
	f.pass(3*time.Hour, 10*time.Second) // and far ahead: slewed by a tenth
	if got := c.Now() - start; got != wal.LSN(12*time.Second) {
		t.Errorf("wall clock set ahead: the store clock moved by %v, want 1 s + 10 s + 10 %%", time.Duration(got))
	}
	f.pass(0, 0)
	if a, b := c.next(c.Now()+100), c.Now(); a != b+101 {
		t.Errorf("next after a last LSN ahead of the clock: %d, want %d", a, b+101)
	}
}

func TestClockCatchesUpExactly(t *testing.T) {
	f := newFakeClocks()
	c := f.store(0)
	f.pass(time.Minute+time.Second, time.Minute) // one second to catch up: takes ten
	for range 100 {
		f.pass(100*time.Millisecond, 100*time.Millisecond)
		c.Now()
	}
	if got, want := c.Now(), wal.LSNFromTime(f.wall); got != want {
		t.Errorf("store clock %d, wall clock %d", got, want)
	}
}

func TestBatchLastWriteOfAKeyWins(t *testing.T) {
	for _, n := range []int{1, 3, indexFrom, 10 * indexFrom} {
		var b Batch
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		want := map[string]string{}
		for i := range 4 * n {
			k, v := fmt.Sprint("k", rng.IntN(n)), fmt.Sprint("v", i)
			b.Put(layers.NamespaceObjects, []byte(k), []byte(v), layers.AppendInlineBody(nil, []byte(v)))
			want[k] = v
		}
		b.DeleteRange(layers.NamespaceObjects, []byte("k"), []byte("l"))
		b.Put(layers.NamespaceConfig, []byte("k0"), nil, nil) // another key: another namespace
		p := b.encode(7)
		if max := b.bytes + 20; len(p) > max {
			t.Errorf("payload of %d bytes, estimated at most %d", len(p), max)
		}
		got := map[string]string{}
		var ranges, config int
		err := decodePayload(p, 9, payloadVisitor{record: func(r *layers.Record) error {
			switch {
			case r.Kind == layers.KindRangeTombstone:
				ranges++
			case r.Key.Namespace() == layers.NamespaceConfig:
				config++
			default:
				got[string(r.Key.User())] = string(r.Body.Inline())
			}
			if r.LSN != 9 || r.Key.Timeline() != 7 {
				t.Errorf("record of timeline %d at %d", r.Key.Timeline(), r.LSN)
			}
			return nil
		}})
		if err != nil || ranges != 1 || config != 1 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("n=%d: got %v, %d ranges, %d config records, %v; want %v", n, got, ranges, config, err, want)
		}
	}
}

func TestStripeSetsAreOrderedAndStrongest(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		var set stripeSet
		want := map[uint32]bool{}
		for range rng.IntN(50) {
			i, exclusive := rng.Uint32N(20), rng.IntN(2) == 0
			e := i << 1
			if exclusive {
				e |= 1
			}
			set = append(set, e)
			want[i] = want[i] || exclusive
		}
		set = set.sorted()
		if len(set) != len(want) {
			t.Fatalf("%d stripes, want %d", len(set), len(want))
		}
		for i, e := range set {
			if i > 0 && set[i-1]>>1 >= e>>1 {
				t.Fatalf("stripes %v are not ascending", set)
			}
			if (e&1 != 0) != want[e>>1] {
				t.Fatalf("stripe %d: exclusive %v, want %v", e>>1, e&1 != 0, want[e>>1])
			}
		}
	}
}

func TestTreeOperationsRoundTrip(t *testing.T) {
	ops := []treeOp{
		{tag: opCreate, bucket: 1, timeline: 1, name: "main"},
		{tag: opFork, ancestor: 1, lsn: 77, source: 1, bucket: 2, timeline: 2, name: "dev"},
		{tag: opDelete, bucket: 2},
		{tag: opRename, bucket: 1, name: "prod"},
		{tag: opProperties, bucket: 1, props: Properties{Attrs: []byte("owner"), Expires: 99}},
		{tag: opProperties, bucket: 2, props: Properties{Attrs: []byte("owner"), ReadOnly: true, Protected: true}},
		{tag: opSnapshot, snapshot: 3, bucket: 1, timeline: 1, lsn: 5, name: "before the change", held: true},
		{tag: opSetSnapshot, snapshot: 3, bucket: 1, name: "renamed", props: Properties{Attrs: []byte("why"), Expires: 7}},
		{tag: opDeleteSnapshot, snapshot: 3, bucket: 1},
		{tag: opHorizon, lsn: 1 << 60},
		{tag: opMove, bucket: 2, left: 2, undo: 90, ancestor: 1, seen: wal.MaxLSN, timeline: 3, window: 5, name: "dev"},
	}
	p := encodeTree(ops)
	var got []treeOp
	visit := payloadVisitor{tree: func(o *treeOp) error { got = append(got, *o); return nil }}
	if err := decodePayload(p, 1, visit); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(ops) {
		t.Errorf("got  %+v\nwant %+v", got, ops)
	}
	for i := range p {
		if err := decodePayload(p[:i], 1, payloadVisitor{}); err == nil {
			t.Errorf("a payload cut at byte %d of %d decodes", i, len(p))
		}
	}
	if err := decodePayload(append(bytes.Clone(p), 0), 1, payloadVisitor{}); err == nil {
		t.Error("a payload with a byte too many decodes")
	}
}

func TestReadsBelowBirthGoToTheAncestor(t *testing.T) {
	tr := newTree()
	must := func(o treeOp, lsn wal.LSN) {
		t.Helper()
		if err := tr.change(&o, lsn, lsn); err != nil {
			t.Fatal(err)
		}
	}
	must(treeOp{tag: opCreate, bucket: 1, timeline: 1, name: "main"}, 100)
	must(treeOp{tag: opFork, ancestor: 1, source: 1, bucket: 2, timeline: 2, name: "dev"}, 200)           // at 199
	must(treeOp{tag: opFork, ancestor: 2, lsn: 250, source: 2, bucket: 3, timeline: 3, name: "exp"}, 300) // at 250
	for _, c := range []struct {
		from, at, timeline, lsn uint64
	}{
		{3, 400, 3, 400}, {3, 300, 3, 300},
		{3, 299, 2, 250}, {3, 251, 2, 250}, {3, 230, 2, 230},
		{3, 200, 2, 200}, {3, 199, 1, 199}, {3, 100, 1, 100}, {3, 99, 0, 0},
		{2, 150, 1, 150}, {1, 99, 0, 0},
	} {
		n, lsn := tr.node(layers.TimelineID(c.from)).resolve(wal.LSN(c.at))
		var id layers.TimelineID
		if n != nil {
			id = n.id
		}
		if id != layers.TimelineID(c.timeline) || lsn != wal.LSN(c.lsn) {
			t.Errorf("timeline %d at %d: timeline %d at %d, want %d at %d", c.from, c.at, id, lsn, c.timeline, c.lsn)
		}
	}
	for _, id := range []layers.TimelineID{1, 3} {
		tr.node(id).written.Store(true)
	}
	if got := fmt.Sprint(tr.node(3).appendChain(nil, 400, 0)); got != "[{3 400} {1 199}]" {
		t.Errorf("chain of exp at 400: %s; dev was never written and is no hop", got)
	}
}
