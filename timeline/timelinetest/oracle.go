package timelinetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Oracle is what a store must answer, in the plainest form: per timeline a map
// from key to versions, names and buckets as they are at the end of the order.
// It forgets nothing. Not safe for concurrent use.
type Oracle struct {
	timelines map[layers.TimelineID]*line
	buckets   map[timeline.BucketID]*bucket
	names     map[string]*bucket // the living ones
	snaps     map[timeline.SnapshotID]timeline.Snapshot
	lsns      []wal.LSN // of all commits, ascending
	// segments are those that bodies of present commits were made of.
	segments map[layers.FileNum]bool
	retained
}

// line is one timeline.
type line struct {
	id       layers.TimelineID
	birth    wal.LSN
	ancestor *line
	branch   wal.LSN
	seen     wal.LSN // of its bucket's source
	merged   bool    // a merge or rebase wrote to it
	left     wal.LSN // a move led its bucket to another one; zero: it is the last
	depth    int
	bucket   *bucket
	life
	points map[pointKey][]Version
	ranges []rangeDelete
}

type pointKey struct {
	ns  layers.Namespace
	key string
}

// Version is one version of one key; a tombstone has Kind KindTombstone.
type Version struct {
	LSN  wal.LSN
	Kind layers.Kind
	Meta string
	Body Content
}

type rangeDelete struct {
	lsn    wal.LSN
	ns     layers.Namespace
	lo, hi string
}

type bucket struct {
	id      timeline.BucketID
	name    string
	line    *line   // the last one
	earlier []*line // that moves have left, oldest first
	created wal.LSN
	deleted bool
	source  *bucket
	forks   int // living buckets that were forked from it
	props   timeline.Properties
}

// NewOracle returns the oracle of an empty store.
func NewOracle() *Oracle {
	return &Oracle{
		timelines: make(map[layers.TimelineID]*line),
		buckets:   make(map[timeline.BucketID]*bucket),
		names:     make(map[string]*bucket),
		snaps:     make(map[timeline.SnapshotID]timeline.Snapshot),
		segments:  make(map[layers.FileNum]bool),
		retained:  newRetained(),
	}
}

// Last returns the newest LSN that it knows, or zero.
func (o *Oracle) Last() wal.LSN {
	if len(o.lsns) == 0 {
		return 0
	}
	return o.lsns[len(o.lsns)-1]
}

// Names returns the names of living buckets, sorted.
func (o *Oracle) Names() []string { return slices.Sorted(maps.Keys(o.names)) }

// resolve follows a read below a timeline's birth up its lineage; nil when
// nothing of it existed yet.
func (l *line) resolve(at wal.LSN) (*line, wal.LSN) {
	for l != nil && at < l.birth {
		at = min(at, l.branch)
		l = l.ancestor
	}
	return l, at
}

func (l *line) ancestorID() layers.TimelineID {
	if l.ancestor == nil {
		return 0
	}
	return l.ancestor.id
}

// root returns the LSN at which the oldest timeline of the lineage began.
func (l *line) root() wal.LSN {
	for l.ancestor != nil {
		l = l.ancestor
	}
	return l.birth
}

// Get returns the newest value of a key as a read of l at lsn must find it,
// and the timeline that it is a record of.
func (l *line) Get(at wal.LSN, k pointKey) (Version, *line, bool) {
	for n := l; n != nil; at, n = min(at, n.branch), n.ancestor {
		var hidden wal.LSN
		for _, r := range n.ranges {
			if r.ns == k.ns && r.lsn <= at && r.lo <= k.key && k.key < r.hi {
				hidden = max(hidden, r.lsn)
			}
		}
		versions := n.points[k]
		i := sort.Search(len(versions), func(i int) bool { return versions[i].LSN > at })
		if i > 0 && versions[i-1].LSN >= hidden {
			v := versions[i-1]
			return v, n, v.Kind != layers.KindTombstone
		}
		if hidden != 0 || k.ns == layers.NamespaceUploads {
			break
		}
	}
	return Version{}, nil, false
}

// Stack returns what a read of a page at lsn must find, newest first.
func (l *line) Stack(at wal.LSN, k pointKey) (found []Found) {
	for {
		v, owner, ok := l.Get(at, k)
		if !ok {
			return found
		}
		found = append(found, Found{k.key, v, owner})
		if v.Kind != layers.KindDelta || v.LSN == 1 || owner.deletedAt(v.LSN, k) {
			return found
		}
		// A read just below the delta finds what it applies to.
		for l != owner {
			l = l.ancestor
		}
		at = v.LSN - 1
	}
}

// deletedAt reports whether a range delete at an LSN hides what is older of a key.
func (l *line) deletedAt(at wal.LSN, k pointKey) bool {
	return slices.ContainsFunc(l.ranges, func(r rangeDelete) bool {
		return r.lsn == at && r.ns == k.ns && r.lo <= k.key && k.key < r.hi
	})
}

// Found is one key of a scan.
type Found struct {
	Key string
	Version
	owner *line
}

// Scan returns what a scan of [lo, hi) must find; an empty hi is no bound.
func (l *line) Scan(at wal.LSN, ns layers.Namespace, lo, hi string) []Found {
	keys := make(map[string]bool)
	for n := l; n != nil; n = n.ancestor {
		for k := range n.points {
			if k.ns == ns && k.key >= lo && (hi == "" || k.key < hi) {
				keys[k.key] = true
			}
		}
	}
	var found []Found
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if v, owner, ok := l.Get(at, pointKey{ns, key}); ok {
			found = append(found, Found{key, v, owner})
		}
	}
	return found
}

// empty reports whether the timeline holds no objects at its end.
func (l *line) empty() bool {
	return len(l.Scan(wal.MaxLSN, layers.NamespaceObjects, "", "")) == 0 &&
		len(l.Scan(wal.MaxLSN, layers.NamespaceVersions, "", "")) == 0
}

// at returns the timeline that the bucket led to at an LSN; the first one before.
func (b *bucket) at(lsn wal.LSN) *line {
	for _, l := range b.earlier {
		if lsn < l.left {
			return l
		}
	}
	return b.line
}

// resolve returns the timeline that has what the bucket was at an LSN, and as of when.
func (b *bucket) resolve(at wal.LSN) (*line, wal.LSN) { return b.at(at).resolve(at) }

// root returns the LSN at which the oldest timeline began that the bucket comes from.
func (b *bucket) root() wal.LSN { return b.at(0).root() }

// Expect returns the error that op must meet if it is the next in the order,
// nil for success.
func (o *Oracle) Expect(op *Op) error {
	b := o.names[op.Bucket]
	switch op.Kind {
	case OpCreate:
		if b != nil {
			return timeline.ErrBucketExists
		}
		return nil
	case OpFork:
		if len(op.Names) == 0 {
			return timeline.ErrBadName
		}
	case OpSnapshot:
		return o.expectSnapshot(op)
	case OpSetSnapshot, OpDeleteSnapshot:
		return o.expectSnapshotChange(op)
	case OpUndelete:
		return o.expectUndelete(op)
	case OpMove:
		return o.expectMove(op)
	case OpMerge:
		return nil // see expected
	}
	if b == nil {
		return timeline.ErrNoSuchBucket
	}
	switch op.Kind {
	case OpFork:
		return o.expectFork(b, op)
	case OpDelete:
		if !op.Force && !b.line.empty() {
			return timeline.ErrBucketNotEmpty
		}
		if o.held(b) {
			return timeline.ErrSnapshotHeld
		}
	case OpRename:
		if o.names[op.To] != nil {
			return timeline.ErrBucketExists
		}
	}
	return nil
}

func (o *Oracle) expectFork(b *bucket, op *Op) error {
	if err := o.expectAt(b, op.At); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, name := range op.Names {
		if o.names[name] != nil || seen[name] {
			return timeline.ErrBucketExists
		}
		seen[name] = true
	}
	return nil
}

// Apply puts op, which took place at op.LSN, into the order, and checks what the
// store reported of it.
func (o *Oracle) Apply(op *Op) error {
	want := op.want
	if !op.asked {
		want = o.Expect(op)
	}
	if want != nil && want != errUnsure {
		return fmt.Errorf("%s succeeded, want %w", op, want)
	}
	if op.LSN <= o.Last() {
		return fmt.Errorf("%s: LSN is not above %d", op, o.Last())
	}
	b := o.names[op.Bucket]
	o.lsns = append(o.lsns, op.LSN)
	var err error
	switch op.Kind {
	case OpCreate:
		if len(op.Infos) != 1 {
			return fmt.Errorf("%s: %d infos", op, len(op.Infos))
		}
		l := &line{birth: op.LSN, life: life{window: o.window}}
		err = o.add(op.Bucket, l, nil, &op.Infos[0], op)
	case OpFork:
		err = o.fork(b, op)
	case OpDelete:
		o.end(b, op)
	case OpRename:
		delete(o.names, b.name)
		b.name = op.To
		o.names[op.To] = b
	case OpSnapshot:
		err = o.snapshot(op)
	case OpSetSnapshot:
		s := o.snaps[op.Snapshot]
		s.SnapshotSettings = op.Settings
		o.snaps[op.Snapshot] = s
	case OpDeleteSnapshot:
		delete(o.snaps, op.Snapshot)
	case OpProperties:
		b.props = op.Props
	case OpWindow:
		for _, l := range append(slices.Clone(b.earlier), b.line) {
			if !l.dropped {
				l.floor, l.window = l.cutoff(o.horizon), op.Window
			}
		}
	case OpMove:
		err = o.move(op)
	case OpMerge:
		err = o.merge(op)
	case OpUndelete:
		err = o.undelete(op)
	default:
		b.line.write(op)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	for i := range op.Writes {
		for _, s := range op.Writes[i].segments {
			o.segments[s] = true
		}
	}
	return nil
}

// add makes a bucket on l with the ids that the store has given out.
func (o *Oracle) add(name string, l *line, source *bucket, info *timeline.Info, op *Op) error {
	if o.timelines[info.Timeline] != nil || o.buckets[info.Bucket] != nil || info.Timeline == 0 || info.Bucket == 0 {
		return fmt.Errorf("ids of timeline %d and bucket %d are not new", info.Timeline, info.Bucket)
	}
	l.id, l.points = info.Timeline, make(map[pointKey][]Version)
	b := &bucket{id: info.Bucket, name: name, line: l, created: op.LSN, source: source, props: op.Props}
	l.bucket = b
	o.timelines[l.id], o.buckets[b.id], o.names[name] = l, b, b
	b.countFork(1)
	l.write(op)
	return o.checkInfo(b, info, true)
}

func (o *Oracle) fork(src *bucket, op *Op) error {
	if len(op.Infos) != len(op.Names) {
		return fmt.Errorf("%d forks, want %d", len(op.Infos), len(op.Names))
	}
	a, branch := src.line, op.LSN-1
	if op.At != 0 {
		a, branch = src.resolve(op.At)
	}
	var errs []error
	for i, name := range op.Names {
		l := &line{birth: op.LSN, ancestor: a, branch: branch, seen: branch, depth: a.depth + 1, life: life{window: src.line.window}}
		errs = append(errs, o.add(name, l, src, &op.Infos[i], op))
	}
	return errors.Join(errs...)
}

// countFork counts b, or one less, among the living forks of its source.
func (b *bucket) countFork(n int) {
	if b.source != nil {
		b.source.forks += n
	}
}

// write applies the records of op.
func (l *line) write(op *Op) {
	for i := range op.Writes {
		w := &op.Writes[i]
		if w.Kind == layers.KindRangeTombstone {
			l.ranges = append(l.ranges, rangeDelete{op.LSN, w.NS, w.Key, w.End})
			continue
		}
		k := pointKey{w.NS, w.Key}
		v := Version{LSN: op.LSN, Kind: w.Kind, Meta: w.Meta, Body: w.Body}
		versions := l.points[k]
		if n := len(versions); n > 0 && versions[n-1].LSN == op.LSN { // the last write of a batch wins
			versions = versions[:n-1]
		}
		l.points[k] = append(versions, v)
	}
}

// checkInfo compares what a store says of a bucket with what is known. With
// fresh set, the bucket's name and forks are compared too: they are the newest
// ones, which the answer of an older operation need not show.
func (o *Oracle) checkInfo(b *bucket, got *timeline.Info, fresh bool) error {
	want := timeline.Info{Name: b.name, Bucket: b.id, Timeline: b.line.id, Created: b.created, Ancestor: b.line.ancestorID(), Depth: b.line.depth, HasForks: b.forks > 0, Properties: b.props}
	if b.source != nil {
		want.SourceBucket, want.BranchLSN = b.source.id, b.line.seen
		if !b.source.deleted {
			want.SourceName = b.source.name
		}
	}
	g := *got
	if !fresh {
		g.Name, g.SourceName, g.HasForks, g.Properties = want.Name, want.SourceName, want.HasForks, want.Properties
	}
	if !sameInfo(&g, &want) {
		return fmt.Errorf("bucket is %+v, want %+v", *got, want)
	}
	return nil
}

func sameInfo(a, b *timeline.Info) bool {
	x, y := *a, *b
	x.Attrs, y.Attrs = nil, nil
	return bytes.Equal(a.Attrs, b.Attrs) && reflect.DeepEqual(x, y)
}
