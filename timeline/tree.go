package timeline

import (
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// BucketID names a bucket for ever; names and timelines of it come and go.
type BucketID uint64

// node is a timeline in memory. Lineage and birth never change.
type node struct {
	id    layers.TimelineID
	birth wal.LSN
	// ancestor is the timeline that this one branched from; nil for a root, and
	// for a fork whose ancestor was purged before the store was opened.
	ancestor   *node
	ancestorID layers.TimelineID // zero: a root
	branchLSN  wal.LSN           // what the fork sees of its ancestor
	depth      int32             // of the lineage
	sourceLSN  wal.LSN           // what a fork's bucket sees of its source
	bucket     *bucket

	// reads is where a read goes on once a rollup has shortened the way; nil: the lineage.
	reads atomic.Pointer[shortWay]
	// forks counts living lineage children; changed under treeMu.
	forks atomic.Int32
	// written says that the timeline has, or had, records of its own. A read
	// passes over timelines without any.
	written atomic.Bool
	// retention is how far back the timeline can be read.
	retention atomic.Pointer[retention]
	// purged says that the tree does not know the timeline any more, or is about to
	// forget it: no way leads through it.
	purged atomic.Bool
	// fate is nil while the timeline is bound to its bucket.
	fate atomic.Pointer[fate]
	// busy is nil until something works with the timeline; see use.
	busy atomic.Pointer[usedNode]
}

// usedNode is what a timeline has in memory since it was first written to, or read
// often: most forks are idle, and there are many.
type usedNode struct {
	// gate is held shared by every commit to the timeline until it is visible,
	// exclusively by what speaks of the timeline as a whole.
	gate sync.RWMutex
	// strain counts hops that reads made beyond fewHops since the last rollup of
	// the timeline; patience is what a rollup waits for, in records that it may copy.
	strain, patience atomic.Int64
	// configured is the LSN of the last commit in order that wrote to the
	// NamespaceConfig of the timeline, or changed the attributes of its bucket, since the
	// store was opened; written under the log's sequencing lock.
	configured atomic.Uint64
}

// use returns what n has in memory for those who work with it.
func (n *node) use() *usedNode {
	if u := n.busy.Load(); u != nil {
		return u
	}
	n.busy.CompareAndSwap(nil, new(usedNode))
	return n.busy.Load()
}

// readPair says that a read goes on in a timeline as of an LSN; without a node
// it goes on nowhere.
type readPair struct {
	node *node
	lsn  wal.LSN
}

// shortWay is the way of reads since a rollup.
type shortWay struct {
	readPair
	since uint64    // the first Version that has the layer of the rollup
	prev  *shortWay // holds in older ones; nil: the lineage
}

// next returns where a read of n goes on in a Version.
func (n *node) next(version uint64) readPair {
	r := n.reads.Load()
	for r != nil && r.since > version {
		r = r.prev
	}
	if r == nil {
		return readPair{n.ancestor, n.branchLSN}
	}
	return r.readPair
}

// retention says how far back a timeline can be read: every LSN at or above
// max(floor, horizon - window).
type retention struct {
	window gc.Window
	floor  wal.LSN
}

// setRetention says how far back the timeline can be read, and returns what it keeps
// of that: like, if that says the same. Forks are many, and most are as their source.
func (n *node) setRetention(r retention, like *retention) *retention {
	if like == nil || *like != r {
		like = new(retention)
		*like = r
	}
	n.retention.Store(like)
	return like
}

// fate is what became of a timeline whose bucket was deleted: until the LSN undo
// (by the store clock) it may be undeleted, then it is dropped. One that its bucket
// was moved away from, at the LSN deleted, is kept until undo and for as long as its
// window reaches back to before the move; see move.go.
type fate struct {
	deleted wal.LSN
	undo    wal.LSN // zero when it cannot be undeleted
	dropped wal.LSN // LSN of the commit that dropped it; zero: unbound
}

// window returns how far back the timeline can be read; zero for no timeline.
func (n *node) window() gc.Window {
	if n == nil {
		return 0
	}
	return n.retention.Load().window
}

// cutoff returns the oldest LSN that the window keeps readable, by a horizon.
func (n *node) cutoff(h wal.LSN) wal.LSN {
	c := n.windowCutoff(h)
	if f := n.fate.Load(); f != nil && f.dropped == 0 && n.left() {
		c = min(c, f.deleted-1) // its last state
	}
	return c
}

// windowCutoff is cutoff without regard to a move.
func (n *node) windowCutoff(h wal.LSN) wal.LSN {
	r := n.retention.Load()
	return gc.Cutoff(h, r.floor, r.window)
}

// left reports whether a move has led the timeline's bucket to another one.
func (n *node) left() bool { return n.bucket != nil && n.bucket.last() != n }

// cutoffAt returns the oldest LSN that can be read without a pin, by a horizon, by
// one who sees the commits up to visible: wal.MaxLSN when none can.
func (n *node) cutoffAt(h, visible wal.LSN) wal.LSN {
	if !n.readable(visible) {
		return wal.MaxLSN
	}
	return n.cutoff(h)
}

// readable reports whether more than pins keep the timeline readable, to one who
// sees the commits up to visible.
func (n *node) readable(visible wal.LSN) bool {
	f := n.fate.Load()
	return f == nil || f.dropped == 0 || f.dropped > visible
}

// bucket carries a name's bindings to timelines.
type bucket struct {
	id       BucketID
	source   BucketID // that it was forked from; zero: a root
	name     atomic.Pointer[string]
	created  wal.LSN
	deleted  atomic.Uint64           // LSN, or zero
	forks    atomic.Int32            // living buckets that were forked from it
	bindings atomic.Pointer[binding] // the newest one
	// properties are nil for as long as there never were any.
	properties atomic.Pointer[since[*Properties]]
}

// binding says that from LSN since on a bucket leads to a timeline.
type binding struct {
	since wal.LSN
	node  *node
	prev  *binding // held before; nil: this is the first one
}

// bound goes through the bucket's bindings, the newest first.
func (b *bucket) bound() iter.Seq[*binding] {
	return func(yield func(*binding) bool) {
		for l := b.bindings.Load(); l != nil && yield(l); l = l.prev {
		}
	}
}

// first returns the oldest binding that is remembered.
func (b *bucket) first() *binding {
	l := b.bindings.Load()
	for l.prev != nil {
		l = l.prev
	}
	return l
}

// bindsTo reports whether one of the bindings leads to n.
func (b *bucket) bindsTo(n *node) bool {
	for l := range b.bound() {
		if l.node == n {
			return true
		}
	}
	return false
}

// sequenced returns the timeline that the next commit in order would go to,
// nil after the bucket's deletion.
func (b *bucket) sequenced() *node {
	if b.deleted.Load() != 0 {
		return nil
	}
	return b.last()
}

// leadsTo reports whether for the next commit in order the bucket still has the
// name and is bound to n.
func (b *bucket) leadsTo(name string, n *node) bool {
	return *b.name.Load() == name && b.sequenced() == n
}

// at returns the binding in force at lsn; the first one for an LSN before it.
func (b *bucket) at(lsn wal.LSN) *binding {
	l := b.bindings.Load()
	for l.since > lsn && l.prev != nil {
		l = l.prev
	}
	return l
}

// resolve returns the timeline that has what the bucket was at lsn, and as of when:
// nil when there was nothing of it. A timeline that was purged stands for what nobody
// can read any more.
func (b *bucket) resolve(lsn wal.LSN) (*node, wal.LSN) {
	n := b.at(lsn).node
	if n.purged.Load() && b.last() != n {
		return n, lsn
	}
	return n.resolve(lsn)
}

// nameState says what a name means; a nil bucket means nothing.
type nameState = since[*bucket]

// tree is the sequenced tree of one store. Writers hold Store.treeMu; mu
// covers the maps for readers.
type tree struct {
	mu struct {
		sync.RWMutex
		names   btree.Map[string, *nameState]
		nodes   idTable[layers.TimelineID, node]
		buckets idTable[BucketID, bucket]
		// snapshots are all, snapshotsOf those of each bucket that has some, pinned how many
		// there are of each LSN of a timeline, for the next commit in order.
		snapshots   map[SnapshotID]*snapshotEntry
		snapshotsOf map[BucketID]*bucketSnapshots
		pinned      map[lease]int
		unbound     map[layers.TimelineID]*node // can be undeleted, or wait to be dropped

		// forks has the names of the forks of each bucket, expiries when living buckets
		// expire, marked the living buckets that Options.MarkAttributes tells; index makes
		// them when all is read.
		forks    *btree.BTreeG[forkKey]
		expiries *btree.BTreeG[expiry]
		marked   *btree.BTreeG[BucketID]
	}
	// marks is Options.MarkAttributes; nil: none.
	marks func(attrs []byte) bool
	// the last ids given out; under Store.treeMu
	lastTimeline layers.TimelineID
	lastBucket   BucketID
	lastSnapshot SnapshotID
	// lastProperties are those that were given last, to share them.
	lastProperties *since[*Properties]
}

func newTree() *tree {
	t := &tree{}
	t.mu.snapshots = make(map[SnapshotID]*snapshotEntry)
	t.mu.snapshotsOf = make(map[BucketID]*bucketSnapshots)
	t.mu.pinned = make(map[lease]int)
	t.mu.unbound = make(map[layers.TimelineID]*node)
	return t
}

// lookup returns the bucket that name means to a reader at visible, or nil. Nil
// may also mean that visible has become too old to tell: states below a newer
// visible LSN are let go. The caller looks whether it is still the newest.
func (t *tree) lookup(name string, visible wal.LSN) *bucket {
	t.mu.RLock()
	s, ok := t.mu.names.Get(name)
	t.mu.RUnlock()
	if !ok {
		return nil
	}
	return s.at(visible)
}

// sequencedName returns the bucket that name means to the next commit, or nil.
// The caller holds treeMu.
func (t *tree) sequencedName(name string) *bucket {
	return t.lookup(name, wal.MaxLSN)
}

func (t *tree) node(id layers.TimelineID) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.nodes.get(id)
}

// len returns the number of timelines.
func (t *tree) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.nodes.len()
}

func (t *tree) bucket(id BucketID) *bucket {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.buckets.get(id)
}

// wasBucket reports whether the id of a bucket was given out: one that is not in
// the tree any more was purged.
func (t *tree) wasBucket(id BucketID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return id > 0 && id <= t.lastBucket
}

// setNameLocked binds name to b (nil: to nothing) from lsn on. States that no
// reader at or above visible can want are let go.
func (t *tree) setNameLocked(name string, b *bucket, lsn, visible wal.LSN) {
	prev, _ := t.mu.names.Get(name)
	if prev == nil && b == nil {
		return
	}
	t.mu.names.Set(name, prev.then(b, lsn, visible))
	if b != nil && b.source != 0 && t.mu.forks != nil {
		t.mu.forks.Set(forkKey{b.source, name})
	}
}

// forgetName removes a name that has come to mean nothing for every reader, of a
// bucket that had it. The caller holds treeMu.
func (t *tree) forgetName(name string, id BucketID, visible wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.mu.names.Get(name)
	if ok && s.value == nil && s.from <= visible {
		t.mu.names.Delete(name)
	}
	b := t.mu.buckets.get(id)
	if b != nil && b.source != 0 && (!ok || s.value == nil || s.value.source != b.source) {
		t.mu.forks.Delete(forkKey{b.source, name})
	}
}

// index removes all names that mean nothing, after a replay, when there are no
// readers yet, and makes what leads to buckets by other ways.
func (t *tree) index() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var dead []string
	forks := make([]forkKey, 0, t.mu.names.Len())
	var expiries []expiry
	var marked []BucketID
	t.mu.names.Scan(func(name string, s *nameState) bool {
		b := s.value
		if b == nil {
			dead = append(dead, name)
			return true
		}
		if b.source != 0 {
			forks = append(forks, forkKey{b.source, name})
		}
		if at := b.expires(); at != 0 {
			expiries = append(expiries, expiry{at, b.id, 0})
		}
		if t.marksBucket(b) {
			marked = append(marked, b.id)
		}
		return true
	})
	for _, e := range t.mu.snapshots {
		if at := e.settings.value.expires(); at != 0 {
			expiries = append(expiries, expiry{at, e.bucket, e.id})
		}
	}
	for _, name := range dead {
		t.mu.names.Delete(name)
	}
	t.mu.forks, t.mu.expiries, t.mu.marked = indexOf(forks, forkKey.less), indexOf(expiries, expiry.less), indexOf(marked, BucketID.less)
}

// indexOf makes a tree of items; the caller locks it.
func indexOf[T any](items []T, less func(a, b T) bool) *btree.BTreeG[T] {
	slices.SortFunc(items, func(a, b T) int {
		if less(a, b) {
			return -1
		}
		return 1
	})
	tr := btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
	for _, item := range items {
		tr.Load(item)
	}
	return tr
}

// addTimelineLocked makes a timeline and its bucket, born at lsn.
func (t *tree) addTimelineLocked(n *node, o *treeOp, visible wal.LSN) {
	b, name := &bucket{id: o.bucket, created: n.birth, source: o.source}, o.name
	b.name.Store(&name)
	t.setPropertiesLocked(b, &o.props, n.birth, visible)
	b.bindings.Store(&binding{since: n.birth, node: n})
	t.addNodeLocked(n, b)
	t.countForkLocked(b, 1)
	t.mu.buckets.set(b.id, b)
	t.setNameLocked(name, b, n.birth, visible)
	t.lastBucket = max(t.lastBucket, b.id)
}

// addNodeLocked takes in a timeline of a bucket.
func (t *tree) addNodeLocked(n *node, b *bucket) {
	n.bucket = b
	if a := n.ancestor; a != nil {
		n.ancestorID, n.depth = a.id, a.depth+1
		a.forks.Add(1)
	}
	t.mu.nodes.set(n.id, n)
	t.lastTimeline = max(t.lastTimeline, n.id)
}

// change applies one tree operation of the commit at lsn to the sequenced
// tree. Its inputs were validated before they were logged; a reference to what
// does not exist is corruption, reported as an error by the replay.
func (t *tree) change(o *treeOp, lsn, visible wal.LSN) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch o.tag {
	case opCreate:
		n := &node{id: o.timeline, birth: lsn}
		n.retention.Store(&retention{window: o.window})
		t.addTimelineLocked(n, o, visible)
	case opFork:
		a := t.mu.nodes.get(o.ancestor)
		if a == nil {
			return o.dangling("timeline", uint64(o.ancestor))
		}
		branch := o.lsn
		if branch == 0 {
			branch = lsn - 1
		}
		n := &node{id: o.timeline, birth: lsn, ancestor: a, branchLSN: branch, sourceLSN: branch}
		n.setRetention(retention{window: o.window}, a.retention.Load())
		t.addTimelineLocked(n, o, visible)
	case opDelete:
		b := t.mu.buckets.get(o.bucket)
		if b == nil {
			return o.dangling("bucket", uint64(o.bucket))
		}
		n := b.sequenced()
		t.setExpiryLocked(expiry{b.expires(), b.id, 0}, 0)
		if o.lsn == 0 {
			t.deleteSnapshotsLocked(b.id, lsn, visible)
		}
		b.deleted.Store(uint64(lsn))
		t.markLocked(b)
		t.setNameLocked(*b.name.Load(), nil, lsn, visible)
		t.countForkLocked(b, -1)
		if n == nil {
			break
		}
		t.setFateLocked(n, o.fate(lsn))
		if n.ancestor != nil {
			n.ancestor.forks.Add(-1)
		}
	case opUndelete:
		b := t.mu.buckets.get(o.bucket)
		if b == nil {
			return o.dangling("bucket", uint64(o.bucket))
		}
		name := o.name
		b.deleted.Store(0)
		t.markLocked(b)
		t.setExpiryLocked(expiry{0, b.id, 0}, b.expires())
		t.countForkLocked(b, 1)
		b.name.Store(&name)
		t.setNameLocked(name, b, lsn, visible)
		n := b.sequenced()
		t.setFateLocked(n, nil)
		if n.ancestor != nil {
			n.ancestor.forks.Add(1)
		}
	case opDrop:
		n := t.mu.nodes.get(o.timeline)
		if n == nil {
			return o.dangling("timeline", uint64(o.timeline))
		}
		t.setFateLocked(n, o.fate(lsn))
		if o.bucket != 0 {
			t.deleteSnapshotsLocked(o.bucket, lsn, visible)
		}
	case opWindow:
		n := t.mu.nodes.get(o.timeline)
		if n == nil {
			return o.dangling("timeline", uint64(o.timeline))
		}
		n.retention.Store(&retention{window: o.window, floor: o.lsn})
	case opRename:
		b := t.mu.buckets.get(o.bucket)
		if b == nil {
			return o.dangling("bucket", uint64(o.bucket))
		}
		t.setNameLocked(*b.name.Load(), nil, lsn, visible)
		name := o.name
		b.name.Store(&name)
		t.setNameLocked(name, b, lsn, visible)
	case opMove:
		return t.moveLocked(o, lsn)
	case opProperties:
		b := t.mu.buckets.get(o.bucket)
		if b == nil {
			return o.dangling("bucket", uint64(o.bucket))
		}
		t.setPropertiesLocked(b, &o.props, lsn, visible)
	case opSnapshot:
		snap := o.newSnapshot(lsn)
		t.addSnapshotLocked(&snap, lsn, visible)
	case opSetSnapshot, opDeleteSnapshot:
		e := t.mu.snapshots[o.snapshot]
		if e == nil || e.bucket != o.bucket || e.settings.at(wal.MaxLSN) == nil {
			return o.dangling("snapshot", uint64(o.snapshot))
		}
		var settings *SnapshotSettings
		if o.tag == opSetSnapshot {
			settings = o.snapshotSettings()
		}
		t.setSnapshotLocked(e, settings, lsn, visible)
	}
	return nil
}

// setFateLocked says what became of a timeline; nil: it is bound.
func (t *tree) setFateLocked(n *node, f *fate) {
	n.fate.Store(f)
	if f != nil && f.dropped == 0 {
		t.mu.unbound[n.id] = n
	} else {
		delete(t.mu.unbound, n.id)
	}
}

// resolve follows a read of n at lsn, below n's birth, to the timeline that
// held the data then. It returns nil when no timeline of the lineage existed, or
// the way leads through one that was purged.
func (n *node) resolve(lsn wal.LSN) (*node, wal.LSN) {
	for lsn < n.birth {
		if n.ancestor == nil || n.ancestor.purged.Load() {
			return nil, 0
		}
		lsn = min(lsn, n.branchLSN)
		n = n.ancestor
	}
	return n, lsn
}

// appendChain appends the hops of a read of n at lsn in a Version, passing over
// timelines that were never written.
func (n *node) appendChain(chain []layers.Hop, lsn wal.LSN, version uint64) []layers.Hop {
	for {
		if n.written.Load() {
			chain = append(chain, layers.Hop{Timeline: n.id, UpTo: lsn})
		}
		p := n.next(version)
		if p.node == nil {
			return chain
		}
		n, lsn = p.node, min(lsn, p.lsn)
	}
}

// inherited returns the hops of what n sees of others.
func (n *node) inherited(version uint64) []layers.Hop {
	if p := n.next(version); p.node != nil {
		return p.node.appendChain(nil, p.lsn, version)
	}
	return nil
}

// last returns the timeline that the bucket led to last.
func (b *bucket) last() *node {
	return b.bindings.Load().node
}

func (o *treeOp) dangling(what string, id uint64) error {
	return fmt.Errorf("operation %d names %s %d, which does not exist: %w", o.tag, what, id, ErrCorrupt)
}
