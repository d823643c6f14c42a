package timeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// Usage is what a store holds, and for whom. All figures are bytes.
type Usage struct {
	LSN       wal.LSN         // as of
	Timelines []TimelineUsage // by id; those that are needed or hold something

	// Live is what somebody needs: the sum over all timelines of Exclusive and
	// Shared. Garbage is the rest of what layers and value segments take.
	Live, Garbage int64

	LayerBytes    int64 // files of layers
	ValueBytes    int64 // value segments, as allocated on disk
	MemlayerBytes int64 // keys, metas and bodies that are not flushed: they lie in the log
	LogBytes      int64 // log that is not released
}

// TimelineUsage is what one timeline holds. All figures are bytes.
type TimelineUsage struct {
	Info
	State TimelineState
	// Logical is the sum of the sizes of the objects at the tip, inherited ones included, by
	// Options.ObjectBytes.
	Logical int64
	// Exclusive is what deleting the timeline would free: what it alone needs,
	// wherever it is stored.
	Exclusive int64
	// Shared is stored in its own records and needed by others, too. A value that
	// records of several timelines refer to counts for the oldest of them.
	Shared int64
	// History is stored in its own records and needed by no tip: by windows and pins only.
	History int64
}

// TimelineState says what became of a timeline.
type TimelineState string

// The states.
const (
	TimelineLive    TimelineState = "live"
	TimelineDeleted TimelineState = "deleted" // can be undeleted
	TimelineDropped TimelineState = "dropped" // only others read it, or pins
)

// Usage adds up what the store holds, as of now. It reads every entry of the
// store, more than once when there are millions of values, and no bodies. What
// it says is dead is what CollectFull would remove; after that the figures add
// up to the files.
//
// Errors: ctx's, ErrClosed, layers.ErrCorrupt, those of the disk.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	u, err := s.usage(ctx, nil, maxValuesInMind)
	if err != nil {
		return Usage{}, fmt.Errorf("add up usage: %w", err)
	}
	return u, nil
}

// usage is Usage by a snapshot (nil: a new one), with so many values in mind.
func (s *Store) usage(ctx context.Context, snap *treeSnapshot, inMind int) (Usage, error) {
	c, err := s.newCensus(ctx, snap)
	if err != nil {
		return Usage{}, err
	}
	defer c.done()
	a := &accounts{census: c, of: make(map[layers.TimelineID]*account)}
	sizes := newSizes(c)
	defer sizes.close()
	table := newValueTable(0, inMind)
	err = c.each(ctx, func(p *part, r *layers.Record) error {
		n, err := a.record(p, r)
		if err != nil {
			return err
		}
		if err := sizes.record(r); err != nil || n.None() {
			return err
		}
		return table.add(ctx, s.values, r.Key.Timeline(), r.Body, n)
	})
	if err == nil {
		err = sizes.finish()
	}
	if err == nil {
		err = a.stones()
	}
	for err == nil {
		table.footprints(s.values)
		a.values(table)
		if table.last() {
			break
		}
		table = newValueTable(table.end, inMind)
		err = c.each(ctx, func(_ *part, r *layers.Record) error { return a.recordAgain(ctx, table, r) })
	}
	if err != nil {
		return Usage{}, err
	}
	return a.usage(sizes), nil
}

// account is what a timeline holds so far, in bytes: fractions add up.
type account struct{ exclusive, shared, history float64 }

type accounts struct {
	census *census
	of     map[layers.TimelineID]*account
	live   float64
	memory int64
}

// add counts bytes of a record or value of holder that n need.
func (a *accounts) add(bytes float64, holder layers.TimelineID, n gc.Needers) {
	if n.None() {
		return
	}
	at := func(id layers.TimelineID) *account {
		acc := a.of[id]
		if acc == nil {
			acc = &account{}
			a.of[id] = acc
		}
		return acc
	}
	a.live += bytes
	if n.Many {
		at(holder).shared += bytes
	} else {
		at(n.Sole).exclusive += bytes
	}
	if !n.Tip {
		at(holder).history += bytes
	}
}

func (a *accounts) record(p *part, r *layers.Record) (gc.Needers, error) {
	n, _, err := a.census.keep.needers(r)
	if err != nil {
		return n, err
	}
	a.add(p.scale*float64(recordBytes(r)), r.Key.Timeline(), n)
	if p.layer == nil {
		a.memory += int64(recordBytes(r))
	}
	return n, nil
}

// recordAgain looks only for the values that did not fit in an earlier pass.
func (a *accounts) recordAgain(ctx context.Context, table *valueTable, r *layers.Record) error {
	n, _, err := a.census.keep.needers(r)
	if err != nil || n.None() {
		return err
	}
	return table.add(ctx, a.census.s.values, r.Key.Timeline(), r.Body, n)
}

// stones counts the range tombstones. Who needs one is not asked key by key.
func (a *accounts) stones() error {
	c := a.census
	for _, p := range c.parts {
		for i := range p.stones {
			r := &p.stones[i]
			keep, err := c.keep.keepRange(r)
			if err != nil {
				return err
			}
			if p.layer == nil {
				a.memory += int64(stoneBytes(r))
			}
			if !keep {
				continue
			}
			id := r.Key.Timeline()
			n := gc.Needers{Sole: id, Tip: true}
			if id <= c.snap.newest {
				if n, err = c.snap.Needers(id, r.Key.Suffix(), r.LSN, wal.MaxLSN, nil, maxProbes); err != nil {
					return err
				}
			}
			a.add(p.scale*float64(stoneBytes(r)), id, n)
		}
	}
	return nil
}

func (a *accounts) values(t *valueTable) {
	for _, seg := range t.segments {
		for _, use := range seg {
			n := gc.Needers{Sole: use.sole, Many: use.many, Tip: use.tip}
			a.add(float64(use.length), use.holder, n)
		}
	}
}

// usage puts the figures together.
func (a *accounts) usage(sizes *sizes) Usage {
	c := a.census
	u := Usage{LSN: c.visible, Live: int64(a.live), MemlayerBytes: a.memory, LogBytes: c.s.log.Size()}
	for l := range c.version.All() {
		u.LayerBytes += l.Desc().Bytes
	}
	for _, seg := range c.s.values.Segments() {
		u.ValueBytes += seg.Allocated
	}
	u.Garbage = max(u.LayerBytes+u.ValueBytes+u.MemlayerBytes-u.Live, 0)
	for line := range c.snap.Lines() {
		n, acc := c.s.tree.node(line.ID), a.of[line.ID]
		if n == nil || line.Birth > c.visible || acc == nil && !line.Readable {
			continue
		}
		t := TimelineUsage{State: n.state()}
		if n.bucket != nil {
			t.Info = c.s.info(n.bucket, n)
		} else {
			t.Timeline = n.id
		}
		if acc != nil {
			t.Exclusive, t.Shared, t.History = int64(acc.exclusive), int64(acc.shared), int64(acc.history)
		}
		if line.Readable {
			t.Logical = sizes.tip(line.ID)
		}
		u.Timelines = append(u.Timelines, t)
	}
	return u
}

func (n *node) state() TimelineState {
	f := n.fate.Load()
	switch {
	case f == nil:
		return TimelineLive
	case f.dropped == 0:
		return TimelineDeleted
	}
	return TimelineDropped
}

// sizes finds the logical bytes of every timeline at its tip. A timeline is seen
// at its tip and where its read children see it; between these points nothing is
// remembered. Each record changes what is seen from some LSN on; what is seen
// without any is what is inherited. So every own version is looked at once, and
// the inherited ones only where own ones hide them.
type sizes struct {
	census *census
	points map[layers.TimelineID]*points // of timelines with records or read children
	base   map[layers.TimelineID]int64   // bytes that a timeline inherits; after finish

	stones *layers.TombstoneSet // over objects
	ranges []layers.Record      // the same, by key
	// of the timeline at hand
	id    layers.TimelineID
	at    *points
	chain []layers.Hop
	scan  *layers.Scan // what it inherits under range tombstones; else nil
	more  bool         // scan stands on a record
	// of the key at hand
	key    layers.Key
	hidden int64   // bytes of the inherited object
	oldest wal.LSN // oldest own version so far
	above  wal.LSN // the one before
	stone  wal.LSN // oldest range tombstone over it; wal.MaxLSN: none
}

// points are the LSNs at which a timeline is looked at, the tip last, and the
// bytes that it has more at each than at the one before.
type points struct {
	lsns  []wal.LSN
	bytes []int64
}

// from adds bytes that are seen from an LSN on.
func (p *points) from(lsn wal.LSN, bytes int64) {
	if lsn < wal.MaxLSN {
		i, _ := slices.BinarySearch(p.lsns, lsn)
		p.bytes[i] += bytes
	}
}

func newSizes(c *census) *sizes {
	z := &sizes{census: c, points: make(map[layers.TimelineID]*points), base: make(map[layers.TimelineID]int64)}
	for _, p := range c.parts {
		for _, r := range p.stones {
			if r.Key.Namespace() == layers.NamespaceObjects {
				z.ranges = append(z.ranges, r)
			}
		}
	}
	z.stones = layers.NewTombstoneSet(z.ranges)
	slices.SortFunc(z.ranges, func(a, b layers.Record) int { return a.Key.Compare(b.Key) })
	return z
}

// of returns the points of a timeline.
func (z *sizes) of(id layers.TimelineID) *points {
	p := z.points[id]
	if p == nil {
		p = &points{}
		for _, lsn := range z.census.snap.Readers(id) {
			if n := len(p.lsns); n == 0 || p.lsns[n-1] != lsn {
				p.lsns = append(p.lsns, lsn)
			}
		}
		p.lsns = append(p.lsns, wal.MaxLSN)
		p.bytes = make([]int64, len(p.lsns))
		z.points[id] = p
	}
	return p
}

// record takes in the next record.
func (z *sizes) record(r *layers.Record) error {
	if r.Key.Namespace() != layers.NamespaceObjects {
		return nil
	}
	if z.key.Compare(r.Key) != 0 {
		z.endKey()
		if err := z.begin(r.Key); err != nil {
			return err
		}
	}
	var bytes int64
	if r.Kind == layers.KindValue {
		n, err := z.census.s.opts.ObjectBytes(r)
		if err != nil {
			return fmt.Errorf("record %s at %d: %w", r.Key, r.LSN, err)
		}
		bytes = int64(n)
	}
	end := z.above
	if r.Death != 0 {
		end = min(end, r.Death)
	}
	if lsn, ok := z.stones.CoveringAbove(r.Key, r.LSN); ok {
		end = min(end, lsn)
	}
	z.at.from(r.LSN, bytes)
	z.at.from(end, -bytes)
	// Behind the death of a version nothing of the timeline is seen, until the next.
	if until := min(z.above, z.stone); end < until {
		z.at.from(end, z.hidden)
		z.at.from(until, -z.hidden)
	}
	z.above, z.oldest = r.LSN, r.LSN
	return nil
}

// begin turns to a key.
func (z *sizes) begin(key layers.Key) error {
	if key.Timeline() != z.id {
		if err := z.turnTo(key.Timeline()); err != nil {
			return err
		}
	}
	if err := z.passInherited(key); err != nil {
		return err
	}
	z.key, z.hidden, z.above = append(z.key[:0], key...), 0, wal.MaxLSN
	z.stone = wal.MaxLSN
	if lsn, ok := z.stones.CoveringAbove(key, 0); ok {
		z.stone = lsn
	}
	if len(z.chain) == 0 {
		return nil
	}
	r, _, ok, err := z.census.version.Get(z.chain, key.Namespace(), key.User())
	if err != nil || !ok {
		return err
	}
	n, err := z.census.s.opts.ObjectBytes(&r)
	z.hidden = int64(n)
	return err
}

// endKey takes away what the oldest own version or range tombstone of the key hides.
func (z *sizes) endKey() {
	if len(z.key) > 0 {
		z.at.from(min(z.oldest, z.stone), -z.hidden)
		z.key = z.key[:0]
	}
}

// turnTo ends the timeline at hand and goes on to another, by way of those in
// between that have nothing but range tombstones.
func (z *sizes) turnTo(id layers.TimelineID) error {
	for {
		z.endKey()
		if err := z.passInherited(nil); err != nil {
			return err
		}
		i, _ := slices.BinarySearchFunc(z.ranges, z.id+1, func(r layers.Record, id layers.TimelineID) int {
			return cmp.Compare(r.Key.Timeline(), id)
		})
		next := id
		if i < len(z.ranges) {
			next = min(next, z.ranges[i].Key.Timeline())
		}
		if next == endOfTimelines {
			return nil
		}
		z.id, z.at, z.chain = next, z.of(next), z.census.inherited(next)
		if i < len(z.ranges) && z.ranges[i].Key.Timeline() == next && len(z.chain) > 0 {
			z.scanUnderStones(z.ranges[i:])
		}
		if next == id {
			return nil
		}
	}
}

// endOfTimelines is above every id.
const endOfTimelines = ^layers.TimelineID(0)

// scanUnderStones begins to walk what the timeline at hand inherits where it has
// range tombstones, the first of rs being its first.
func (z *sizes) scanUnderStones(rs []layers.Record) {
	last := rs[0].End
	for i := range rs {
		if rs[i].Key.Timeline() != z.id {
			break
		}
		if rs[i].End.Compare(last) > 0 {
			last = rs[i].End
		}
	}
	upper := last.User()
	if last.Namespace() != layers.NamespaceObjects || last.Timeline() != z.id {
		upper = nil
	}
	z.scan = z.census.version.NewScan(z.chain, layers.NamespaceObjects, rs[0].Key.User(), upper, layers.ScanOptions{NoFillCache: true})
	z.more = z.scan.First()
}

// passInherited takes away what range tombstones hide of inherited objects that
// the timeline has no versions of its own of, up to a key; nil: to the end.
func (z *sizes) passInherited(key layers.Key) error {
	if z.scan == nil {
		return nil
	}
	for ; z.more; z.more = z.scan.Next() {
		r := z.scan.Record()
		own := layers.MakeKey(z.id, layers.NamespaceObjects, r.Key.User())
		if key != nil {
			if c := own.Compare(key); c > 0 {
				return nil
			} else if c == 0 {
				continue
			}
		}
		lsn, ok := z.stones.CoveringAbove(own, 0)
		if !ok {
			continue
		}
		n, err := z.census.s.opts.ObjectBytes(r)
		if err != nil {
			return err
		}
		z.at.from(lsn, -int64(n))
	}
	err := z.scan.Err()
	if key == nil || err != nil {
		err = firstError(err, z.scan.Close())
		z.scan = nil
	}
	return err
}

// close gives back what a walk that did not come to its end has open.
func (z *sizes) close() {
	if z.scan != nil {
		_ = z.scan.Close() // it only reads
		z.scan = nil
	}
}

// finish works out what every timeline inherits, ancestors first.
func (z *sizes) finish() error {
	if err := z.turnTo(endOfTimelines); err != nil {
		return err
	}
	for _, p := range z.points {
		for i := 1; i < len(p.bytes); i++ {
			p.bytes[i] += p.bytes[i-1]
		}
	}
	for line := range z.census.snap.Lines() { // an ancestor's id is lower
		if line.ReadAncestor != 0 {
			z.base[line.ID] = z.seen(line.ReadAncestor, line.ReadLSN)
		}
	}
	return nil
}

// seen returns the bytes of a timeline at one of its points.
func (z *sizes) seen(id layers.TimelineID, lsn wal.LSN) int64 {
	bytes := z.base[id]
	if p := z.points[id]; p != nil {
		i, _ := slices.BinarySearch(p.lsns, lsn)
		bytes += p.bytes[min(i, len(p.bytes)-1)]
	}
	return bytes
}

func (z *sizes) tip(id layers.TimelineID) int64 { return z.seen(id, wal.MaxLSN) }
