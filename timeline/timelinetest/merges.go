package timelinetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// The ways of bringing changes of one bucket, or of a bucket's past, into another.
const (
	howMerge  = "merge"
	howRebase = "rebase"
	howPick   = "pick"
	howRevert = "revert"
)

// outcomes are what may become of a key.
type outcomes byte

const (
	keeps outcomes = 1 << iota
	takes
	conflicts
)

// mergeKey is a key that both sides do not have alike.
type mergeKey struct {
	theirs, ours *Version // nil: nothing
	may          outcomes
}

// mergeExpectation is what a merge may do: three-way, by everything that was ever written.
// Where tombstones that hide nothing decide, which may have gone, and after earlier merges,
// more than one thing may become of a key.
type mergeExpectation struct {
	must  error   // it cannot succeed; see meets
	may   []error // with which it may be refused
	keys  map[string]mergeKey
	blind bool // the ways are not known for certain: any key may become what the source has
}

// side is one side of a merge: a line as of an LSN.
type side struct {
	line *line
	at   wal.LSN
	// ways are the lines down from it, with what it sees of each.
	ways []way
}

type way struct {
	line *line
	seen wal.LSN
}

func newSide(l *line, at wal.LSN) side {
	s := side{line: l, at: at}
	for ; l != nil; at, l = min(at, l.branch), l.ancestor {
		s.ways = append(s.ways, way{l, at})
	}
	return s
}

// changed reports whether the side has a record of a key above an LSN.
func (s *side) changed(k pointKey, above wal.LSN) bool {
	for _, w := range s.ways {
		if slices.ContainsFunc(w.line.points[k], func(v Version) bool { return v.LSN > above && v.LSN <= w.seen }) ||
			slices.ContainsFunc(w.line.ranges, func(r rangeDelete) bool {
				return r.ns == k.ns && r.lsn > above && r.lsn <= w.seen && r.lo <= k.key && k.key < r.hi
			}) {
			return true
		}
	}
	return false
}

func (s *side) get(k pointKey) *Version {
	if v, _, ok := s.line.Get(s.at, k); ok {
		return &v
	}
	return nil
}

// expectMerge says what a merge must meet.
func (o *Oracle) expectMerge(op *Op, detached map[layers.TimelineID]bool) *mergeExpectation {
	e := &mergeExpectation{keys: make(map[string]mergeKey)}
	target, source := o.names[op.Bucket], o.names[op.To]
	if target == nil || source == nil {
		e.must = timeline.ErrNoSuchBucket
		return e
	}
	if op.How == howRevert && (op.At == 0 || op.At >= o.Last()) {
		e.must = timeline.ErrBadRange
		return e
	}
	l, at := source.line, o.Last()
	if op.At != 0 {
		// Collections may not have come as far as the horizon.
		if err := o.readable(source, op.At, o.horizon); err == timeline.ErrNoSuchBucket {
			e.must = err
			return e
		} else if err != nil {
			e.may = append(e.may, err)
		}
		if l, at = source.resolve(op.At); l == nil {
			e.must = errUnsure
			return e
		}
	}
	theirs, ours := newSide(l, at), newSide(target.line, wal.MaxLSN)
	if op.How == howRevert {
		o.expectRevert(e, op, &theirs, &ours)
		return e
	}
	o.expectChanges(e, op, source, target, &theirs, &ours, detached)
	return e
}

// eachKey calls visit for the objects that either side has had, in the range of op.
func (o *Oracle) eachKey(op *Op, visit func(k pointKey)) {
	keys := make(map[string]bool)
	for _, l := range o.timelines {
		for k := range l.points {
			if k.ns == layers.NamespaceObjects && k.key >= op.Range[0] && (op.Range[1] == "" || k.key < op.Range[1]) {
				keys[k.key] = true
			}
		}
	}
	for key := range keys {
		visit(pointKey{layers.NamespaceObjects, key})
	}
}

func same(a, b *Version) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Meta == b.Meta
}

// expectRevert: every key becomes what it was.
func (o *Oracle) expectRevert(e *mergeExpectation, op *Op, theirs, ours *side) {
	o.eachKey(op, func(k pointKey) {
		if t, u := theirs.get(k), ours.get(k); !same(t, u) {
			e.keys[k.key] = mergeKey{t, u, takes}
		}
	})
}

// expectChanges is the three-way merge.
func (o *Oracle) expectChanges(e *mergeExpectation, op *Op, source, target *bucket, theirs, ours *side, detached map[layers.TimelineID]bool) {
	common, la, lb, clean := findCommon(theirs, ours, detached)
	base := min(la, lb)
	e.blind = !clean
	related := common != nil
	ok := related
	switch op.How {
	case howMerge:
		ok = ok && common != theirs.line && la <= lb && (common == target.line || slices.Contains(target.earlier, common))
	case howRebase:
		ok = ok && common != ours.line && (common == theirs.line || common == source.line || slices.Contains(source.earlier, common))
	default:
		ok = true
	}
	switch {
	case !ok && clean:
		e.must = timeline.ErrNotDescendant
		return
	case !ok, e.blind && op.How != howPick:
		e.may = append(e.may, timeline.ErrNotDescendant)
	}
	if !related {
		base = 0
	}
	sure := op.How == howMerge && common == target.line // tombstones are kept for it
	o.eachKey(op, func(k pointKey) {
		t, u := theirs.get(k), ours.get(k)
		if same(t, u) {
			return
		}
		if e.blind {
			e.keys[k.key] = mergeKey{t, u, keeps | takes | conflicts}
			return
		}
		if !theirs.changed(k, base) || t == nil && !related {
			return // of strangers nothing counts as deleted
		}
		was := false
		if related {
			_, _, was = common.Get(base, k)
		}
		may := outcomes(0)
		switch {
		case u != nil && u.LSN > base:
			may = conflicts
		case u != nil:
			may = takes
		case !ours.changed(k, base):
			may = takes
		case was && sure:
			may = conflicts
		default:
			may = takes | conflicts
		}
		if t == nil && !(was && sure) { // nobody may know any more that it was deleted
			may |= keeps
		}
		e.keys[k.key] = mergeKey{t, u, may}
	})
}

// findCommon returns the newest line that two sides have in common, and what each sees of
// it. clean says that a store knows it so for certain, and that no merge was made on the way.
func findCommon(a, b *side, detached map[layers.TimelineID]bool) (c *line, la, lb wal.LSN, clean bool) {
	clean = true
	for _, w := range a.ways {
		if i := slices.IndexFunc(b.ways, func(v way) bool { return v.line == w.line }); i >= 0 {
			c, la, lb = w.line, w.seen, b.ways[i].seen
			break
		}
	}
	for _, s := range []*side{a, b} {
		for _, w := range s.ways {
			clean = clean && !w.line.purged && !w.line.merged
			if w.line == c {
				break
			}
			clean = clean && !detached[w.line.id]
		}
	}
	return c, la, lb, clean
}

// allows reports whether the merge may fail so.
func (e *mergeExpectation) allows(op *Op, err error) bool {
	switch {
	case e.must != nil && meets(err, e.must):
		return true
	case errors.Is(err, timeline.ErrMergeConflict):
		return op.Side == timeline.Neither && slices.ContainsFunc(slices.Collect(maps.Values(e.keys)), func(k mergeKey) bool { return k.may&conflicts != 0 })
	}
	return slices.ContainsFunc(e.may, func(may error) bool { return meets(err, may) })
}

// check compares what a merge wrote with what it may write.
func (e *mergeExpectation) check(op *Op) error {
	if e.must != nil && e.must != errUnsure {
		return fmt.Errorf("want %w", e.must)
	}
	may := func(k mergeKey, plain outcomes, decided timeline.Side) bool {
		return k.may&plain != 0 || k.may&conflicts != 0 && op.Side == decided
	}
	written := make(map[string]bool)
	for i := range op.Writes {
		w := &op.Writes[i]
		if w.NS != layers.NamespaceObjects {
			continue
		}
		k, ok := e.keys[w.Key]
		written[w.Key] = true
		switch {
		case !ok || !may(k, takes, timeline.Theirs):
			return fmt.Errorf("wrote %q, which it must keep: %+v", w.Key, k)
		case (k.theirs == nil) != (w.Kind == layers.KindTombstone) || k.theirs != nil && k.theirs.Meta != w.Meta:
			return fmt.Errorf("wrote %q, kind %d, %.40q; the source has %+v", w.Key, w.Kind, w.Meta, k.theirs)
		case k.theirs != nil:
			w.Body = k.theirs.Body
		}
	}
	for key, k := range e.keys {
		if !written[key] && !may(k, keeps, timeline.Ours) {
			return fmt.Errorf("did not write %q: theirs %+v, ours %+v, outcomes %03b", key, k.theirs, k.ours, k.may)
		}
	}
	return nil
}

// merge takes in what a merge wrote.
func (o *Oracle) merge(op *Op) error {
	if err := op.expected.check(op); err != nil {
		return err
	}
	l := o.names[op.Bucket].line
	l.write(op)
	l.merged = l.merged || op.How == howMerge || op.How == howRebase
	return nil
}

// learnMerge asks the store what a merge wrote.
func learnMerge(s *timeline.Store, op *Op) (err error) {
	v, err := s.View(context.Background(), op.Bucket, op.LSN)
	if err != nil {
		return err
	}
	defer v.Close()
	op.Writes = nil
	for _, ns := range []layers.Namespace{layers.NamespaceObjects, layers.NamespaceMerges} {
		c := v.Changes(ns, nil, nil, op.LSN-1)
		for ok := c.First(); ok; ok = c.Next() {
			r := c.Record()
			op.Writes = append(op.Writes, Write{Kind: r.Kind, NS: ns, Key: string(c.User()), Meta: string(r.Meta)})
		}
		if err := errors.Join(c.Err(), c.Close()); err != nil {
			return err
		}
	}
	return nil
}

// runMerge makes a merge.
func runMerge(s *timeline.Store, op *Op) {
	ctx := context.Background()
	rules := timeline.MergeRules{
		Same:    func(a, b *layers.Record) (bool, error) { return string(a.Meta) == string(b.Meta), nil },
		Resolve: func(*timeline.MergeEntry) (timeline.Side, error) { return op.Side, nil },
	}
	ranges := []layers.UserRange{{Lower: bound(op.Range[0]), Upper: bound(op.Range[1])}}
	var res timeline.MergeResult
	switch o := (timeline.MergeOptions{Source: op.To, At: op.At, Target: op.Bucket, Rules: rules}); op.How {
	case howMerge:
		res, op.Err = s.Merge(ctx, o)
	case howRebase:
		res, op.Err = s.Rebase(ctx, o)
	case howPick:
		res, op.Err = s.Pick(ctx, timeline.PickOptions{Source: op.To, At: op.At, Target: op.Bucket, Ranges: ranges, Rules: rules})
	default:
		res, op.Err = s.Revert(ctx, timeline.RevertOptions{Target: op.Bucket, From: op.At, Ranges: ranges, Rules: rules})
	}
	op.LSN, op.Committed = 0, res.Committed
	if res.Committed {
		op.LSN = res.LSN
	}
}

// stepMerge merges, rebases, picks or reverts.
func (m *Model) stepMerge() error {
	name := m.bucket()
	var forks []string // that descend from what their source is now
	for _, name := range m.oracle.Names() {
		if b := m.oracle.names[name]; b.source != nil && !b.source.deleted && b.line.sees(b.source.line.bucket, 1) > 0 {
			forks = append(forks, name)
		}
	}
	if len(forks) > 0 && m.rng.IntN(8) != 0 {
		name = forks[m.rng.IntN(len(forks))]
	}
	op := &Op{Kind: OpMerge, Bucket: name, To: name, Side: []timeline.Side{timeline.Neither, timeline.Theirs, timeline.Theirs, timeline.Ours}[m.rng.IntN(4)]}
	b := m.oracle.names[name]
	family := b != nil && b.source != nil && !b.source.deleted
	switch n := m.rng.IntN(20); {
	case n < 9 && family:
		op.How, op.Bucket = howMerge, b.source.name
	case n < 13 && family:
		op.How, op.To = howRebase, b.source.name
	case n < 14:
		op.How, op.To = howMerge, m.bucket()
	case n < 17:
		op.How, op.To = howPick, m.bucket()
		if family && m.rng.IntN(4) != 0 { // else they are seldom related
			op.Bucket, op.To = b.source.name, name
		}
	default:
		op.How = howRevert
	}
	if op.How == howRevert || m.rng.IntN(4) == 0 {
		op.At = m.retained(op.To)
	}
	if (op.How == howPick || op.How == howRevert) && m.rng.IntN(2) == 0 {
		op.Range[0], op.Range[1] = randomBounds(m.rng, layers.NamespaceObjects)
	}
	return m.bring(op)
}

// Merge merges a bucket into another one and checks what that did.
func (m *Model) Merge(source, target string) error {
	m.step++
	m.clocks.Pass(time.Millisecond, time.Millisecond)
	err := m.bring(&Op{Kind: OpMerge, How: howMerge, Bucket: target, To: source, Side: timeline.Theirs})
	return m.explain(errors.Join(err, m.follow(), m.watch.Err()))
}

// bring makes one merge, rebase, pick or revert.
func (m *Model) bring(op *Op) error {
	detached := make(map[layers.TimelineID]bool)
	for _, t := range m.store.TreeLines() {
		detached[t.ID] = t.ReadAncestor == 0
	}
	op.expected = m.oracle.expectMerge(op, detached)
	err := m.do(op, nil)
	if op.Err != nil {
		for _, why := range []error{timeline.ErrMergeConflict, timeline.ErrNotDescendant} {
			if errors.Is(op.Err, why) {
				m.count.Add(fmt.Sprintf("%s: %v", op.How, why))
			}
		}
	}
	return err
}

// merged follows a merge that did not fail.
func (m *Model) merged(op *Op) error {
	if op.Committed {
		if err := learnMerge(m.store, op); err != nil {
			return err
		}
		m.count.Add("committed " + op.How)
		if !op.expected.blind {
			m.count.Add("committed " + op.How + ", foretold")
		}
		return nil
	}
	if err := op.expected.check(op); err != nil {
		return fmt.Errorf("%s committed nothing: %w", op, err)
	}
	return m.unchanged(op.How)
}
