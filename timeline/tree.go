package timeline

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"stemma/layers"
	"stemma/wal"
)

// BucketID names a bucket for ever; names and timelines of it come and go.
type BucketID uint64

// node is a timeline in memory. Lineage and birth never change.
type node struct {
	id        layers.TimelineID
	birth     wal.LSN
	ancestor  *node   // nil: a root
	branchLSN wal.LSN // what the fork sees of its ancestor
	source    BucketID
	bucket    *bucket

	// readAncestor and readLSN are where a read goes on: the lineage, until a
	// rollup shortens the way.
	readAncestor *node
	readLSN      wal.LSN

	depth int32
	// forks counts living lineage children; changed under treeMu.
	forks atomic.Int32
	// written says that the timeline has, or had, records of its own. A read
	// passes over timelines without any.
	written atomic.Bool
	// dropped is the LSN at which its bucket was deleted, or zero.
	dropped atomic.Uint64

	// gate is held shared by every commit to the timeline until it is visible,
	// exclusively by what speaks of the timeline as a whole.
	gate sync.RWMutex
}

// bucket carries a name's bindings to timelines.
type bucket struct {
	id       BucketID
	name     atomic.Pointer[string]
	created  wal.LSN
	deleted  atomic.Uint64 // LSN, or zero
	bindings atomic.Pointer[[]binding]
}

// binding says that from LSN since on a bucket leads to a timeline.
type binding struct {
	since wal.LSN
	node  *node
}

// sequenced returns the timeline that the next commit in order would go to,
// nil after the bucket's deletion.
func (b *bucket) sequenced() *node {
	if b.deleted.Load() != 0 {
		return nil
	}
	l := *b.bindings.Load()
	return l[len(l)-1].node
}

// leadsTo reports whether for the next commit in order the bucket still has the
// name and is bound to n.
func (b *bucket) leadsTo(name string, n *node) bool {
	return *b.name.Load() == name && b.sequenced() == n
}

// at returns the binding in force at lsn; the first one for an LSN before it.
func (b *bucket) at(lsn wal.LSN) binding {
	l := *b.bindings.Load()
	for i := len(l) - 1; i > 0; i-- {
		if l[i].since <= lsn {
			return l[i]
		}
	}
	return l[0]
}

// nameState says what a name means from LSN since on. A nil bucket means
// nothing. prev is kept while readers may still be below since.
type nameState struct {
	since  wal.LSN
	bucket *bucket
	prev   *nameState
}

// tree is the sequenced tree of one store. Writers hold Store.treeMu; mu
// covers the maps for readers.
type tree struct {
	mu struct {
		sync.RWMutex
		names   btree.Map[string, *nameState]
		nodes   map[layers.TimelineID]*node
		buckets map[BucketID]*bucket
		pins    map[PinID]*Pin
	}
	// the last ids given out; under Store.treeMu
	lastTimeline layers.TimelineID
	lastBucket   BucketID
	lastPin      PinID
}

func newTree() *tree {
	t := &tree{}
	t.mu.nodes = make(map[layers.TimelineID]*node)
	t.mu.buckets = make(map[BucketID]*bucket)
	t.mu.pins = make(map[PinID]*Pin)
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

func (s *nameState) at(visible wal.LSN) *bucket {
	for s != nil && s.since > visible {
		s = s.prev
	}
	if s == nil {
		return nil
	}
	return s.bucket
}

// sequencedName returns the bucket that name means to the next commit, or nil.
// The caller holds treeMu.
func (t *tree) sequencedName(name string) *bucket {
	return t.lookup(name, wal.MaxLSN)
}

func (t *tree) node(id layers.TimelineID) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.nodes[id]
}

func (t *tree) bucket(id BucketID) *bucket {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.buckets[id]
}

// setNameLocked binds name to b (nil: to nothing) from lsn on. States that no
// reader at or above visible can want are let go.
func (t *tree) setNameLocked(name string, b *bucket, lsn, visible wal.LSN) {
	prev, _ := t.mu.names.Get(name)
	if prev != nil && prev.since <= visible && prev.prev != nil {
		prev = &nameState{since: prev.since, bucket: prev.bucket}
	}
	if prev == nil && b == nil {
		return
	}
	t.mu.names.Set(name, &nameState{since: lsn, bucket: b, prev: prev})
}

// forgetName removes a name that has come to mean nothing for every reader.
// The caller holds treeMu.
func (t *tree) forgetName(name string, visible wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.mu.names.Get(name); ok && s.bucket == nil && s.since <= visible {
		t.mu.names.Delete(name)
	}
}

// forgetNames removes all names that mean nothing, after a replay: there are no
// readers yet.
func (t *tree) forgetNames() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var dead []string
	t.mu.names.Scan(func(name string, s *nameState) bool {
		if s.bucket == nil {
			dead = append(dead, name)
		}
		return true
	})
	for _, name := range dead {
		t.mu.names.Delete(name)
	}
}

// addTimelineLocked makes a timeline and its bucket, born at lsn.
func (t *tree) addTimelineLocked(n *node, id BucketID, name string, visible wal.LSN) {
	b := &bucket{id: id, created: n.birth}
	b.name.Store(&name)
	b.bindings.Store(&[]binding{{since: n.birth, node: n}})
	n.bucket = b
	if a := n.ancestor; a != nil {
		n.readAncestor, n.readLSN, n.depth = a, n.branchLSN, a.depth+1
		a.forks.Add(1)
	}
	t.mu.nodes[n.id] = n
	t.mu.buckets[id] = b
	t.setNameLocked(name, b, n.birth, visible)
	t.lastTimeline = max(t.lastTimeline, n.id)
	t.lastBucket = max(t.lastBucket, id)
}

// change applies one tree operation of the commit at lsn to the sequenced
// tree. Its inputs were validated before they were logged; a reference to what
// does not exist is corruption, reported as an error by the replay.
func (t *tree) change(o *treeOp, lsn, visible wal.LSN) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch o.tag {
	case opCreate:
		t.addTimelineLocked(&node{id: o.timeline, birth: lsn}, o.bucket, o.name, visible)
	case opFork:
		a := t.mu.nodes[o.ancestor]
		if a == nil {
			return o.dangling("timeline", uint64(o.ancestor))
		}
		branch := o.lsn
		if branch == 0 {
			branch = lsn - 1
		}
		n := &node{id: o.timeline, birth: lsn, ancestor: a, branchLSN: branch, source: o.source}
		t.addTimelineLocked(n, o.bucket, o.name, visible)
	case opDelete:
		b := t.mu.buckets[o.bucket]
		if b == nil {
			return o.dangling("bucket", uint64(o.bucket))
		}
		n := b.sequenced()
		b.deleted.Store(uint64(lsn))
		t.setNameLocked(*b.name.Load(), nil, lsn, visible)
		if n != nil {
			n.dropped.Store(uint64(lsn))
			if n.ancestor != nil {
				n.ancestor.forks.Add(-1)
			}
		}
	case opRename:
		b := t.mu.buckets[o.bucket]
		if b == nil {
			return o.dangling("bucket", uint64(o.bucket))
		}
		t.setNameLocked(*b.name.Load(), nil, lsn, visible)
		name := o.name
		b.name.Store(&name)
		t.setNameLocked(name, b, lsn, visible)
	case opPin:
		p := o.newPin(lsn)
		t.mu.pins[o.pin] = &p
		t.lastPin = max(t.lastPin, o.pin)
	case opUnpin:
		if t.mu.pins[o.pin] == nil {
			return o.dangling("pin", uint64(o.pin))
		}
		delete(t.mu.pins, o.pin)
	}
	return nil
}

// resolve follows a read of n at lsn, below n's birth, to the timeline that
// held the data then. It returns nil when no timeline of the lineage existed.
func (n *node) resolve(lsn wal.LSN) (*node, wal.LSN) {
	for lsn < n.birth {
		if n.ancestor == nil {
			return nil, 0
		}
		lsn = min(lsn, n.branchLSN)
		n = n.ancestor
	}
	return n, lsn
}

// appendChain appends the hops of a read of n at lsn, passing over timelines
// that were never written.
func (n *node) appendChain(chain []layers.Hop, lsn wal.LSN) []layers.Hop {
	for n != nil {
		if n.written.Load() {
			chain = append(chain, layers.Hop{Timeline: n.id, UpTo: lsn})
		}
		lsn = min(lsn, n.readLSN)
		n = n.readAncestor
	}
	return chain
}

func (o *treeOp) dangling(what string, id uint64) error {
	return fmt.Errorf("operation %d names %s %d, which does not exist: %w", o.tag, what, id, ErrCorrupt)
}
