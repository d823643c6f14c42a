package layers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"sort"
	"sync"
	"sync/atomic"

	"stemma/wal"
)

// NumLevels is the number of levels of layers, level 0 included.
const NumLevels = 7

// Version is an immutable set of memlayers and layers: what a reader sees of a
// store. The active memlayer alone still grows; a reader bounds what it sees of
// that by LSN. Safe for concurrent use by whoever has acquired it.
type Version struct {
	Mem    []*Memlayer         // newest first
	L0     []*Layer            // newest first; key ranges overlap
	Levels [NumLevels][]*Layer // by key, disjoint; [0] is unused
	// Horizon is the LSN that the layers were collected at.
	Horizon wal.LSN

	refs    atomic.Int64
	dropped func(error)

	// Where range tombstones are; most stores have few.
	l0Tombstones    []*Layer
	levelTombstones [NumLevels]bool
	maxLSN          [NumLevels]wal.LSN // of a level
}

// Hop is one timeline of a read, with the LSN that it is read at. A chain of
// hops is the ancestry of a read, nearest first: what one has of a key, a
// tombstone included, hides what the next ones have.
type Hop struct {
	Timeline TimelineID
	UpTo     wal.LSN // inclusive
}

// NewVersion returns a Version with one count, for the caller. It keeps the
// slices. Each layer is closed when the last Version that has it goes; dropped is
// told what fails then, on the goroutine of that Release.
func NewVersion(mem []*Memlayer, l0 []*Layer, levels [NumLevels][]*Layer, horizon wal.LSN, dropped func(error)) *Version {
	v := &Version{Mem: mem, L0: l0, Levels: levels, Horizon: horizon, dropped: dropped}
	v.refs.Store(1)
	for _, l := range l0 {
		if l.Desc().RangeTombstones > 0 {
			v.l0Tombstones = append(v.l0Tombstones, l)
		}
	}
	for i, level := range levels {
		for _, l := range level {
			d := l.Desc()
			v.levelTombstones[i] = v.levelTombstones[i] || d.RangeTombstones > 0
			v.maxLSN[i] = max(v.maxLSN[i], d.MaxLSN)
		}
	}
	versionRefs.add(v.All())
	return v
}

// All walks the layers of all levels.
func (v *Version) All() iter.Seq[*Layer] {
	return func(yield func(*Layer) bool) {
		for _, l := range v.L0 {
			if !yield(l) {
				return
			}
		}
		for _, level := range v.Levels {
			for _, l := range level {
				if !yield(l) {
					return
				}
			}
		}
	}
}

// Acquire counts one more user. It is false when the last one has gone already:
// then there is a newer Version.
func (v *Version) Acquire() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release ends a use. The last one closes the layers that no other Version has,
// which unlinks those marked obsolete; no lock is held meanwhile.
func (v *Version) Release() {
	switch n := v.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("layers: release of a version that nobody holds")
	}
	for _, l := range versionRefs.remove(v.All()) {
		if err := l.Close(); err != nil {
			v.dropped(fmt.Errorf("close layer %s: %w", LayerName(l.Desc().Num), err))
		}
	}
}

// versionRefs counts the Versions that have a layer.
var versionRefs layerRefs

type layerRefs struct {
	mu struct {
		sync.Mutex
		n map[*Layer]int
	}
}

func (r *layerRefs) add(layers iter.Seq[*Layer]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.n == nil {
		r.mu.n = make(map[*Layer]int)
	}
	for l := range layers {
		r.mu.n[l]++
	}
}

// remove returns the layers that no Version has any more.
func (r *layerRefs) remove(layers iter.Seq[*Layer]) (gone []*Layer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range layers {
		if r.mu.n[l]--; r.mu.n[l] == 0 {
			delete(r.mu.n, l)
			gone = append(gone, l)
		}
	}
	return gone
}

// find returns the layer of a level, from 1 on, whose range has key, or nil.
func (v *Version) find(level int, key Key) *Layer {
	ls := v.Levels[level]
	i := sort.Search(len(ls), func(i int) bool { return ls[i].Desc().Range.End.Compare(key) > 0 })
	if i == len(ls) || ls[i].Desc().Range.Start.Compare(key) > 0 {
		return nil
	}
	return ls[i]
}

// overlapping returns the layers of a level that have keys in r.
func (v *Version) overlapping(level int, r KeyRange) []*Layer {
	ls := v.Levels[level]
	i := sort.Search(len(ls), func(i int) bool { return ls[i].Desc().Range.End.Compare(r.Start) > 0 })
	n := sort.Search(len(ls)-i, func(j int) bool { return ls[i+j].Desc().Range.Start.Compare(r.End) >= 0 })
	return ls[i : i+n]
}

// Get returns the newest value or delta of a key along the chain, and the hop
// that has it. It is false when the key is absent or deleted. The record's
// slices are immutable and may be kept.
//
// Errors: ErrCorrupt, those of the disk.
func (v *Version) Get(chain []Hop, ns Namespace, user []byte) (_ Record, hop int, ok bool, err error) {
	q := newLookup(v, ns, user)
	defer q.done()
	if err := q.prefilter(len(chain)); err != nil {
		return Record{}, 0, false, err
	}
	for i, h := range chain {
		q.hop(h.Timeline)
		hidden := q.covering(h.UpTo)
		rec, ok, err := q.newest(h.UpTo, hidden)
		if err != nil {
			return Record{}, 0, false, err
		}
		if ok && rec.Kind != KindTombstone {
			return rec, i, true, nil
		}
		if ok || hidden > 0 {
			break
		}
	}
	return Record{}, 0, false, nil
}

// Walk visits all records of a key along the chain, hop by hop, newest first,
// tombstones and what they hide included, until visit wants no more. A range
// tombstone over the key comes as a record of that key alone (End is the next
// key), behind a point record of the same LSN. What visit gets may be kept.
//
// Errors: ErrCorrupt, those of the disk.
func (v *Version) Walk(chain []Hop, ns Namespace, user []byte, visit func(r *Record, hop int) (more bool)) error {
	q := newLookup(v, ns, user)
	defer q.done()
	if err := q.prefilter(len(chain)); err != nil {
		return err
	}
	for i, h := range chain {
		q.hop(h.Timeline)
		more, err := q.walk(h.UpTo, func(r *Record) bool { return visit(r, i) })
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// lookup is the search for one user key in a chain of timelines. What the
// filters say of the key whatever the timeline is asked once.
type lookup struct {
	v       *Version
	key     Key  // its timeline is that of the present hop
	chained bool // more than one hop: worth to ask for the suffix first
	suffix  uint64
	hash    uint64 // of key, if hashed
	hashed  bool

	buf GetBuf

	mem []*Memlayer // those that may have the suffix
	l0  []*Layer

	found [NumLevels]bool   // whether file is known for the present hop
	file  [NumLevels]*Layer // whose range has key, or nil
	asked [NumLevels]*Layer // the last file asked for the suffix
	may   [NumLevels]bool   // what it said

	memScratch []*Memlayer
	l0Scratch  []*Layer
}

var lookups = sync.Pool{New: func() any { return new(lookup) }}

func newLookup(v *Version, ns Namespace, user []byte) *lookup {
	q := lookups.Get().(*lookup)
	q.v, q.key = v, AppendKey(q.key[:0], 0, ns, user)
	q.mem, q.l0 = v.Mem, v.L0
	return q
}

// done gives q back; what it found stays valid.
func (q *lookup) done() {
	clear(q.memScratch)
	clear(q.l0Scratch)
	*q = lookup{key: q.key, buf: q.buf, memScratch: q.memScratch[:0], l0Scratch: q.l0Scratch[:0]}
	lookups.Put(q)
}

// prefilter drops the memlayers and layers that no timeline's record of the user
// key is in.
func (q *lookup) prefilter(hops int) error {
	if hops < 2 {
		return nil
	}
	q.chained, q.suffix = true, HashSuffix(q.key.Suffix())
	for _, m := range q.mem {
		if m.MayContain(q.suffix) {
			q.memScratch = append(q.memScratch, m)
		}
	}
	for _, l := range q.l0 {
		may, err := l.MayContain(q.suffix)
		if err != nil {
			return err
		}
		if may {
			q.l0Scratch = append(q.l0Scratch, l)
		}
	}
	q.mem, q.l0 = q.memScratch, q.l0Scratch
	return nil
}

// hop turns to another timeline.
func (q *lookup) hop(t TimelineID) {
	binary.BigEndian.PutUint64(q.key, uint64(t))
	q.hashed = false
	q.found = [NumLevels]bool{}
}

func (q *lookup) keyHash() uint64 {
	if !q.hashed {
		q.hash, q.hashed = HashKey(q.key), true
	}
	return q.hash
}

// fileOf returns the layer of a level whose range has the key, or nil.
func (q *lookup) fileOf(level int) *Layer {
	if !q.found[level] {
		q.found[level], q.file[level] = true, q.v.find(level, q.key)
	}
	return q.file[level]
}

// covering returns the LSN of the newest range tombstone over the key at or
// below upTo, zero without one.
func (q *lookup) covering(upTo wal.LSN) (lsn wal.LSN) {
	for _, m := range q.v.Mem {
		if t, ok := m.CoveringTombstone(q.key, upTo); ok {
			lsn = max(lsn, t)
		}
	}
	for _, l := range q.v.l0Tombstones {
		lsn = max(lsn, coveringIn(l, q.key, upTo))
	}
	for level, some := range q.v.levelTombstones {
		if some {
			if l := q.fileOf(level); l != nil {
				lsn = max(lsn, coveringIn(l, q.key, upTo))
			}
		}
	}
	return lsn
}

func coveringIn(l *Layer, key Key, upTo wal.LSN) wal.LSN {
	d := l.Desc()
	if d.RangeTombstones == 0 || d.MinLSN > upTo || !d.Range.Contains(key) {
		return 0
	}
	lsn, _ := l.CoveringTombstone(key, upTo)
	return lsn
}

// newest returns the newest point record of the key with an LSN from least to
// upTo. No order of LSNs among sources is taken for granted: a source is passed
// over only when its own range of LSNs says that it has nothing newer.
func (q *lookup) newest(upTo, least wal.LSN) (best Record, ok bool, err error) {
	for _, m := range q.mem {
		low, high := m.LSNs()
		if low > upTo || high < least || !m.MayContain(q.keyHash()) {
			continue
		}
		if r, found := m.Get(q.key, upTo); found && r.LSN >= least {
			best, ok, least = *r, true, r.LSN+1
		}
	}
	inMem := least
	for _, l := range q.l0 {
		if least, err = q.newestIn(l, upTo, least, &best); err != nil {
			return Record{}, false, err
		}
	}
	for level := 1; level < NumLevels; level++ {
		if len(q.v.Levels[level]) == 0 || q.v.maxLSN[level] < least {
			continue
		}
		l := q.fileOf(level)
		if l == nil {
			continue
		}
		if may, err := q.mayHaveSuffix(level, l); err != nil {
			return Record{}, false, err
		} else if !may {
			continue
		}
		if least, err = q.newestIn(l, upTo, least, &best); err != nil {
			return Record{}, false, err
		}
	}
	if least > inMem { // from a layer: its key lies in memory that is used again
		best.Key, ok = bytes.Clone(q.key), true
	}
	return best, ok, nil
}

// newestIn replaces best by a record of l that is newer, and returns the least
// LSN that would beat it.
func (q *lookup) newestIn(l *Layer, upTo, least wal.LSN, best *Record) (wal.LSN, error) {
	d := l.Desc()
	if d.MinLSN > upTo || d.MaxLSN < least || !d.Range.Contains(q.key) {
		return least, nil
	}
	may, err := l.MayContain(q.keyHash())
	if err != nil || !may {
		return least, err
	}
	r, found, err := l.Get(q.key, upTo, &q.buf)
	if err != nil || !found || r.LSN < least {
		return least, err
	}
	*best = r
	return r.LSN + 1, nil
}

// mayHaveSuffix asks the filter of a level's file for the user key in any timeline.
func (q *lookup) mayHaveSuffix(level int, l *Layer) (bool, error) {
	if !q.chained {
		return true, nil
	}
	if q.asked[level] != l {
		may, err := l.MayContain(q.suffix)
		if err != nil {
			return false, err
		}
		q.asked[level], q.may[level] = l, may
	}
	return q.may[level], nil
}

// walk visits what the present hop has of the key, newest first.
func (q *lookup) walk(upTo wal.LSN, visit func(*Record) bool) (more bool, err error) {
	rec, ok, err := q.newest(upTo, 0)
	cover := q.covering(upTo)
	for err == nil && (ok || cover > 0) {
		if ok && rec.LSN >= cover {
			if r := rec; !visit(&r) {
				return false, nil
			}
			rec, ok, err = q.newest(rec.LSN-1, 0)
			continue
		}
		key := MakeKey(q.key.Timeline(), q.key.Namespace(), q.key.User())
		if !visit(&Record{Key: key, LSN: cover, Kind: KindRangeTombstone, End: append(key[:len(key):len(key)], 0)}) {
			return false, nil
		}
		cover = q.covering(cover - 1)
	}
	return err == nil, err
}
