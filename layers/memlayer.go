package layers

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"

	"stemma/wal"
)

// Memlayer holds the records of the newest part of the log in order. One
// goroutine at a time may add; any number read meanwhile, without locks. What a
// reader sees of the commits that are being added is for it to bound by LSN.
type Memlayer struct {
	head   memNode
	height atomic.Int32 // of the tallest tower, at least 1

	filter     memFilter
	tombstones atomic.Pointer[memTombstones] // nil: none

	bytes, count   atomic.Int64
	minLSN, maxLSN atomic.Uint64

	// What follows belongs to the one who adds.
	rng   uint64
	nodes []memNode                 // unused ones of the newest slab
	links []atomic.Pointer[memNode] // unused ones
	slab  int                       // length of the newest slab of nodes
}

// memNode is one record in the skiplist. Nodes and towers are cut from slabs, so
// that the garbage collector meets few objects.
type memNode struct {
	rec  Record
	next atomic.Pointer[memNode]
	up   []atomic.Pointer[memNode] // links of the levels above the first
}

const (
	maxHeight = 12 // levels with a fan-out of 4: 16 million records
	firstSlab = 16
	maxSlab   = 1024
	// memRecordOverhead is what a record costs beyond its bytes: the node, a
	// third of a link, and its share of the filter.
	memRecordOverhead = 160
)

// NewMemlayer returns an empty memlayer. It costs 2 MiB: its filter.
func NewMemlayer() *Memlayer {
	m := &Memlayer{rng: 0x9e3779b97f4a7c15}
	m.head.up = make([]atomic.Pointer[memNode], maxHeight-1)
	m.height.Store(1)
	return m
}

// compareRecords orders by key ascending, then LSN descending.
func compareRecords(ak Key, al wal.LSN, bk Key, bl wal.LSN) int {
	if c := ak.Compare(bk); c != 0 {
		return c
	}
	return cmp.Compare(bl, al)
}

// link returns the link of n at a level.
func (n *memNode) link(level int) *atomic.Pointer[memNode] {
	if level == 0 {
		return &n.next
	}
	return &n.up[level-1]
}

// Add adds a record and keeps its slices, which must not change any more. One
// caller at a time. It panics if there is a point record of that key and LSN.
func (m *Memlayer) Add(r *Record) {
	if r.Kind == KindRangeTombstone {
		m.addTombstone(r)
	} else {
		m.insert(r)
		m.filter.add(HashTimeline(r.Key.Timeline()))
		m.filter.add(HashSuffix(r.Key.Suffix()))
		m.filter.add(HashKey(r.Key))
	}
	if l := m.minLSN.Load(); l == 0 || uint64(r.LSN) < l {
		m.minLSN.Store(uint64(r.LSN))
	}
	if uint64(r.LSN) > m.maxLSN.Load() {
		m.maxLSN.Store(uint64(r.LSN))
	}
	m.count.Add(1)
	m.bytes.Add(int64(len(r.Key) + len(r.Meta) + len(r.Body) + len(r.End) + memRecordOverhead))
}

func (m *Memlayer) insert(r *Record) {
	var before [maxHeight]*memNode
	height := int(m.height.Load())
	n, next := &m.head, (*memNode)(nil)
	for level := height - 1; level >= 0; level-- {
		n, next = n.before(level, r.Key, r.LSN, next)
		before[level] = n
	}
	if next != nil && next.rec.LSN == r.LSN && next.rec.Key.Compare(r.Key) == 0 {
		panic(fmt.Sprintf("layers: second record of %s at %d", r.Key, r.LSN))
	}
	h := m.randomHeight()
	n = m.newNode(h)
	n.rec = *r
	for ; height < h; height++ {
		before[height] = &m.head
	}
	// A reader that sees the node at a level finds it at those below.
	for level := range h {
		n.link(level).Store(before[level].link(level).Load())
		before[level].link(level).Store(n)
	}
	if h > int(m.height.Load()) {
		m.height.Store(int32(h))
	}
}

// before returns the last node of a level, from n on, that lies before (key, lsn),
// and the one after it; end is a node that is known not to, or nil.
func (n *memNode) before(level int, key Key, lsn wal.LSN, end *memNode) (last, next *memNode) {
	for {
		next = n.link(level).Load()
		if next == end || next == nil || compareRecords(next.rec.Key, next.rec.LSN, key, lsn) >= 0 {
			return n, next
		}
		n = next
	}
}

// randomHeight returns 1 with probability 3/4, 2 with 3/16, and so on.
func (m *Memlayer) randomHeight() int {
	m.rng ^= m.rng << 13
	m.rng ^= m.rng >> 7
	m.rng ^= m.rng << 17
	h := 1
	for r := m.rng >> 20; h < maxHeight && r&3 == 0; r >>= 2 {
		h++
	}
	return h
}

func (m *Memlayer) newNode(height int) *memNode {
	if len(m.nodes) == 0 {
		m.slab = min(max(2*m.slab, firstSlab), maxSlab)
		m.nodes = make([]memNode, m.slab)
	}
	n := &m.nodes[0]
	m.nodes = m.nodes[1:]
	if up := height - 1; up > 0 {
		if len(m.links) < up {
			m.links = make([]atomic.Pointer[memNode], max(m.slab/2, maxHeight))
		}
		n.up, m.links = m.links[:up:up], m.links[up:]
	}
	return n
}

// around returns the last node before (key, lsn), the head if there is none, and
// the first that is not, nil if there is none.
func (m *Memlayer) around(key Key, lsn wal.LSN) (n, next *memNode) {
	n = &m.head
	for level := int(m.height.Load()) - 1; level >= 0; level-- {
		n, next = n.before(level, key, lsn, next)
	}
	return n, next
}

// Get returns the newest point record of key at or below upTo. It stays valid
// as long as the memlayer. Range tombstones are not consulted.
func (m *Memlayer) Get(key Key, upTo wal.LSN) (*Record, bool) {
	_, n := m.around(key, upTo)
	if n == nil || n.rec.Key.Compare(key) != 0 {
		return nil, false
	}
	return &n.rec, true
}

// MayContain reports whether a point record with the hash (HashTimeline,
// HashSuffix, HashKey) may have been added; false is certain. Up to 1.5 million
// hashes, about one in fifty absent ones is taken for present.
func (m *Memlayer) MayContain(h uint64) bool { return m.filter.has(h) }

// Bytes returns what the records hold of memory, keys, metas, bodies and
// overhead; the filter is not counted.
func (m *Memlayer) Bytes() int64 { return m.bytes.Load() }

// Len returns the number of records, range tombstones included.
func (m *Memlayer) Len() int { return int(m.count.Load()) }

// LSNs returns the lowest and the highest LSN added; zeros when empty.
func (m *Memlayer) LSNs() (low, high wal.LSN) {
	return wal.LSN(m.minLSN.Load()), wal.LSN(m.maxLSN.Load())
}

// memTombstones is an immutable set of range tombstones, as sets of falling
// size: adding one merges what has become alike in size, as a binary counter
// carries, so that n additions cost n·log n.
type memTombstones struct {
	runs []*TombstoneSet

	once sync.Once
	all  []Record // of all runs, made when first asked for
}

func (m *Memlayer) addTombstone(r *Record) {
	var runs []*TombstoneSet
	if old := m.tombstones.Load(); old != nil {
		runs = append(runs, old.runs...)
	}
	last := tombstonesFrom([]Record{*r})
	for len(runs) > 0 && runs[len(runs)-1].n <= last.n {
		last = mergeTombstones(runs[len(runs)-1], last)
		runs = runs[:len(runs)-1]
	}
	m.tombstones.Store(&memTombstones{runs: append(runs, last)})
}

// RangeTombstones returns all range tombstones, by key, end, then LSN descending;
// nil when there are none, which costs one atomic load. They may overlap. The
// slice is shared: do not change it.
func (m *Memlayer) RangeTombstones() []Record {
	t := m.tombstones.Load()
	if t == nil {
		return nil
	}
	t.once.Do(func() {
		all := t.runs[0]
		for _, s := range t.runs[1:] {
			all = mergeTombstones(all, s)
		}
		t.all = all.appendRecords(nil)
	})
	return t.all
}

// CoveringTombstone returns the LSN of the newest range tombstone over key at or
// below upTo: it hides the records of key at lower LSNs.
func (m *Memlayer) CoveringTombstone(key Key, upTo wal.LSN) (lsn wal.LSN, ok bool) {
	t := m.tombstones.Load()
	if t == nil {
		return 0, false
	}
	for _, s := range t.runs {
		lsn = max(lsn, s.covering(key, upTo))
	}
	return lsn, lsn != 0
}

// NewIter returns an iterator over the point records. Those added meanwhile may
// or may not be met. Its records stay valid as long as the memlayer. After the
// end, Prev goes to the last record, and before the start, Next to the first.
func (m *Memlayer) NewIter() Iterator { return &memIter{m: m, n: &m.head} }

// memIter stands on n; nil is past the end, the head before the start.
type memIter struct {
	m *Memlayer
	n *memNode
}

func (it *memIter) at(n *memNode) bool {
	it.n = n
	return n != nil && n != &it.m.head
}

func (it *memIter) SeekGE(key Key, lsn wal.LSN) bool {
	_, n := it.m.around(key, lsn)
	return it.at(n)
}

func (it *memIter) SeekLT(key Key, lsn wal.LSN) bool {
	n, _ := it.m.around(key, lsn)
	return it.at(n)
}

func (it *memIter) First() bool { return it.at(it.m.head.next.Load()) }

func (it *memIter) Last() bool {
	n := &it.m.head
	for level := int(it.m.height.Load()) - 1; level >= 0; level-- {
		for next := n.link(level).Load(); next != nil; next = n.link(level).Load() {
			n = next
		}
	}
	return it.at(n)
}

func (it *memIter) Next() bool {
	if it.n == nil {
		return false
	}
	return it.at(it.n.next.Load())
}

func (it *memIter) Prev() bool {
	switch it.n {
	case nil:
		return it.Last()
	case &it.m.head:
		return false
	}
	return it.SeekLT(it.n.rec.Key, it.n.rec.LSN)
}

func (it *memIter) Record() *Record { return &it.n.rec }
func (it *memIter) Err() error      { return nil }

func (it *memIter) Close() error {
	it.n = &it.m.head
	return nil
}
