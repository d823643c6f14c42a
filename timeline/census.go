package timeline

import (
	"cmp"
	"container/heap"
	"context"
	"math"
	"slices"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// census walks the records of all layers and memlayers of one Version as one, in
// record order: of each it is known what ended it, as in a merge of everything.
// What it says is dead is what CollectFull would remove. Not safe for concurrent use.
type census struct {
	s       *Store
	snap    *treeSnapshot
	version *layers.Version
	visible wal.LSN // what was committed later is not looked at
	keep    *retainer
	parts   []*part
}

// part is a layer, or all memlayers.
type part struct {
	layer *layers.Layer // nil: memlayers
	// scale turns the bytes of a record into what it takes in the file: by
	// compression, and its share of filter and index.
	scale  float64
	stones []layers.Record
}

// newCensus acquires a Version; done must be called. A nil tree: the present one.
func (s *Store) newCensus(ctx context.Context, snap *treeSnapshot) (*census, error) {
	if snap == nil {
		var err error
		if snap, err = s.takeTreeSnapshot(ctx); err != nil {
			return nil, err
		}
	}
	// Read pairs are published after the Version that has their layer: one that is
	// acquired after the snapshot has what its read pairs skip.
	v, visible, err := s.acquire()
	if err != nil {
		return nil, err
	}
	c := &census{s: s, snap: snap, version: v, visible: visible}
	mem := &part{scale: 1}
	for _, m := range v.Mem {
		for _, r := range m.RangeTombstones() {
			if r.LSN <= visible {
				mem.stones = append(mem.stones, r)
			}
		}
	}
	c.parts = append(c.parts, mem)
	stones := slices.Clone(mem.stones)
	for l := range v.All() {
		p := &part{layer: l, stones: l.RangeTombstones()}
		raw := float64(l.Desc().RawBytes)
		for i := range p.stones {
			raw += float64(stoneBytes(&p.stones[i]))
		}
		p.scale = float64(l.Desc().Bytes) / max(raw, 1)
		stones = append(stones, p.stones...)
		c.parts = append(c.parts, p)
	}
	c.keep = s.newRetainer(snap, v, slices.Collect(v.All()), true)
	c.keep.bottom, c.keep.stones = true, layers.NewTombstoneSet(stones)
	return c, nil
}

func (c *census) done() { c.version.Release() }

// recordBytes is what a record weighs before compression.
func recordBytes(r *layers.Record) int { return len(r.Key) + len(r.Meta) + len(r.Body) }

func stoneBytes(r *layers.Record) int { return len(r.Key) + len(r.End) }

// each visits the point records up to the visible LSN. A record is valid until
// visit returns. Errors: those of visit, ctx's, ErrClosed, those of the disk.
func (c *census) each(ctx context.Context, visit func(p *part, r *layers.Record) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.keep.key = c.keep.key[:0]
	h := c.cursors()
	defer func() {
		for _, cur := range h {
			cur.close()
		}
	}()
	for _, cur := range h {
		if err := cur.next(); err != nil {
			return err
		}
	}
	h = slices.DeleteFunc(h, func(cur *cursor) bool { return cur.rec == nil })
	heap.Init(&h)
	for n := 1; len(h) > 0; n++ {
		if n%1024 == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if c.s.closing.Err() != nil {
				return ErrClosed
			}
		}
		cur := h[0]
		if cur.rec.LSN <= c.visible {
			if err := visit(cur.part(), cur.rec); err != nil {
				return err
			}
		}
		if err := cur.next(); err != nil {
			return err
		}
		if cur.rec == nil {
			heap.Pop(&h)
		} else {
			heap.Fix(&h, 0)
		}
	}
	return nil
}

// cursors returns one for each memlayer, layer of a level 0, and other level.
func (c *census) cursors() cursors {
	var h cursors
	for _, m := range c.version.Mem {
		h = append(h, &cursor{it: m.NewIter(), parts: c.parts[:1]})
	}
	// The layers are in the order of Version.All.
	left := c.parts[1:]
	run := func(n int) {
		if n > 0 {
			h = append(h, &cursor{parts: left[:n:n]})
		}
		left = left[n:]
	}
	for range c.version.L0 {
		run(1)
	}
	for _, level := range c.version.Levels {
		run(len(level))
	}
	for range c.version.History[0] {
		run(1)
	}
	for _, level := range c.version.History[1:] {
		run(len(level))
	}
	return h
}

// cursor walks disjoint parts one after the other, with one of them open.
type cursor struct {
	parts   []*part
	at      int // of the open one
	it      layers.Iterator
	started bool
	rec     *layers.Record // nil: at the end
}

func (c *cursor) part() *part { return c.parts[c.at] }

func (c *cursor) next() error {
	for c.rec = nil; ; {
		if c.it == nil {
			c.it = c.parts[c.at].layer.NewIter(layers.IterOptions{})
		}
		ok := false
		if c.started {
			ok = c.it.Next()
		} else {
			ok, c.started = c.it.First(), true
		}
		if ok {
			c.rec = c.it.Record()
			return nil
		}
		if err := c.it.Err(); err != nil || c.at+1 == len(c.parts) {
			return err
		}
		if err := c.it.Close(); err != nil {
			return err
		}
		c.at, c.it, c.started = c.at+1, nil, false
	}
}

func (c *cursor) close() {
	if c.it != nil {
		_ = c.it.Close() // it only reads
		c.it, c.rec = nil, nil
	}
}

// cursors is a heap by record order.
type cursors []*cursor

func (h cursors) Len() int { return len(h) }
func (h cursors) Less(i, j int) bool {
	a, b := h[i].rec, h[j].rec
	return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(b.LSN, a.LSN)) < 0
}
func (h cursors) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *cursors) Push(x any)   { *h = append(*h, x.(*cursor)) }
func (h *cursors) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// inherited returns the hops of what a timeline sees of others, by the snapshot.
func (c *census) inherited(id layers.TimelineID) []layers.Hop {
	var chain []layers.Hop
	lsn := wal.MaxLSN
	line, ok := c.snap.Line(id)
	for ok && line.ReadAncestor != 0 {
		lsn = min(lsn, line.ReadLSN)
		if line, ok = c.snap.Line(line.ReadAncestor); ok && line.Written {
			chain = append(chain, layers.Hop{Timeline: line.ID, UpTo: lsn})
		}
	}
	return chain
}

// needers says who needs the record that follows in record order: nobody iff next
// says that it goes.
func (k *retainer) needers(r *layers.Record) (n gc.Needers, death wal.LSN, err error) {
	death = k.death(r)
	id := r.Key.Timeline()
	switch {
	case id > k.snap.newest:
		return gc.Needers{Sole: id, Tip: true}, death, nil
	case k.snap.Dead(id):
		return gc.Needers{}, death, nil
	}
	n, err = k.snap.Needers(id, r.Key.Suffix(), r.LSN, death, k.prober, k.maxProbes)
	switch {
	case err != nil:
	case r.Kind == layers.KindTombstone && !n.None() && k.bottom:
		var idle bool
		if idle, err = k.hidesNothing(r); idle {
			n = gc.Needers{}
		}
	}
	return n, death, err
}

// maxValuesInMind bounds the values that one pass over the records keeps in
// mind: about 100 MiB.
const maxValuesInMind = 1 << 21

// valueTable knows of each stored value who refers to it, for as many segments
// as fit: those from first on and below end. What does not fit is left for
// another pass.
type valueTable struct {
	first, end layers.FileNum
	segments   map[layers.FileNum]map[uint64]valueUse
	n, limit   int
}

// valueUse is what is known of a stored value.
type valueUse struct {
	length uint64            // bytes that it takes, chunk table included; see footprints
	sole   layers.TimelineID // the only one that needs it, unless many
	holder layers.TimelineID // the first one whose record refers to it
	many   bool
	tip    bool // a tip needs it
}

func newValueTable(first layers.FileNum, limit int) *valueTable {
	return &valueTable{first: first, end: math.MaxUint64, segments: make(map[layers.FileNum]map[uint64]valueUse), limit: limit}
}

// last reports whether no segment was left for another pass.
func (t *valueTable) last() bool { return t.end == math.MaxUint64 }

// add notes that a record of holder, needed by n, refers to what body does.
func (t *valueTable) add(ctx context.Context, values *layers.Values, holder layers.TimelineID, body layers.Body, n gc.Needers) error {
	if tag := body.Tag(); tag == layers.BodyEmpty || tag == layers.BodyInline {
		return nil
	}
	var few [8]layers.FileNum
	segs, err := body.Segments(few[:0])
	if err != nil || !slices.ContainsFunc(segs, func(s layers.FileNum) bool { return s >= t.first && s < t.end }) {
		return err
	}
	return values.EachHandle(ctx, body, func(h layers.Handle) error {
		if h.Segment >= t.first && h.Segment < t.end {
			t.note(h, holder, n)
		}
		return nil
	})
}

func (t *valueTable) note(h layers.Handle, holder layers.TimelineID, n gc.Needers) {
	seg := t.segments[h.Segment]
	if seg == nil {
		seg = make(map[uint64]valueUse)
		t.segments[h.Segment] = seg
	}
	use, known := seg[h.Offset]
	if !known {
		use = valueUse{length: h.Range().Length, sole: n.Sole, holder: holder}
		t.n++
	}
	use.many = use.many || n.Many || n.Sole != use.sole
	use.tip = use.tip || n.Tip
	seg[h.Offset] = use
	for t.n > t.limit && len(t.segments) > 1 {
		t.leaveOut()
	}
}

// footprints makes the lengths of values those that they cost their files. A
// segment that cannot be read is left as it is; who reads it reports it.
func (t *valueTable) footprints(values *layers.Values) {
	for num, seg := range t.segments {
		of, err := values.Footprint(num)
		if err != nil {
			continue
		}
		for at, use := range seg {
			use.length = of(use.length)
			seg[at] = use
		}
	}
}

// leaveOut leaves the highest segment, and all above it, for another pass.
func (t *valueTable) leaveOut() {
	var highest layers.FileNum
	for num := range t.segments {
		highest = max(highest, num)
	}
	t.n -= len(t.segments[highest])
	delete(t.segments, highest)
	t.end = highest
}
