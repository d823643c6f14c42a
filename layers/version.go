package layers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"stemma/wal"
)

const (
	// NumLevels is the number of levels of layers, level 0 included.
	NumLevels = 7
	// BottomLevel is the level of the image layers.
	BottomLevel = NumLevels - 1
)

// Version is an immutable set of memlayers and layers: what a reader sees of a
// store. The active memlayer alone still grows; a reader bounds what it sees of
// that by LSN. Safe for concurrent use by whoever has acquired it.
type Version struct {
	Mem []*Memlayer // newest first

	// The main layers. Between level 0 and the bottom lie delta layers.
	L0     []*Layer            // newest first; key ranges overlap
	Levels [NumLevels][]*Layer // by key, disjoint; [0] is unused
	// The history layers: [0] is newest first and overlaps, the others are by key
	// and disjoint. A read looks only at those that have a record that it may see.
	History [NumLevels][]*Layer

	// Horizon is the LSN that the layers were collected at.
	Horizon wal.LSN
	// Seq counts the Versions of a store. Set before the Version is shared.
	Seq uint64

	// refs counts users, and from bit 32 on those of them who read no values.
	refs    atomic.Int64
	dropped func(error)

	// Where range tombstones are; most stores have few.
	l0Tombstones    []*Layer
	levelTombstones [NumLevels]bool

	main, history [NumLevels]levelBounds
}

// levelBounds is what all layers of a level have in common.
type levelBounds struct{ minLSN, maxLSN, maxDeath wal.LSN }

func boundsOf(level []*Layer) (b levelBounds) {
	for i, l := range level {
		d := l.Desc()
		if i == 0 {
			b.minLSN = d.MinLSN
		}
		b = levelBounds{min(b.minLSN, d.MinLSN), max(b.maxLSN, d.MaxLSN), max(b.maxDeath, d.MaxDeath)}
	}
	return b
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
func NewVersion(mem []*Memlayer, l0 []*Layer, levels, history [NumLevels][]*Layer, horizon wal.LSN, dropped func(error)) *Version {
	v := &Version{Mem: mem, L0: l0, Levels: levels, History: history, Horizon: horizon, dropped: dropped}
	v.refs.Store(1)
	for _, l := range l0 {
		if l.Desc().RangeTombstones > 0 {
			v.l0Tombstones = append(v.l0Tombstones, l)
		}
	}
	for i := range NumLevels {
		v.main[i], v.history[i] = boundsOf(levels[i]), boundsOf(history[i])
		v.levelTombstones[i] = slices.ContainsFunc(levels[i], func(l *Layer) bool { return l.Desc().RangeTombstones > 0 })
	}
	for l := range v.All() {
		l.versions.Add(1)
	}
	return v
}

// All walks the layers of all levels, those of the history last.
func (v *Version) All() iter.Seq[*Layer] {
	return func(yield func(*Layer) bool) {
		for _, l := range v.L0 {
			if !yield(l) {
				return
			}
		}
		for _, family := range [...]*[NumLevels][]*Layer{&v.Levels, &v.History} {
			for _, level := range family {
				for _, l := range level {
					if !yield(l) {
						return
					}
				}
			}
		}
	}
}

const (
	oneUser      = 1
	oneLayerUser = 1<<32 | oneUser
	usersMask    = 1<<32 - 1
)

// Acquire counts one more user. It is false when the last one has gone already:
// then there is a newer Version.
func (v *Version) Acquire() bool { return v.acquire(oneUser) }

// AcquireLayers is Acquire for one who reads layers and no values: background
// work, which may hold a Version for long, and whom the reclaim of values need
// not wait for. ReleaseLayers ends it.
func (v *Version) AcquireLayers() bool { return v.acquire(oneLayerUser) }

func (v *Version) acquire(user int64) bool {
	for {
		n := v.refs.Load()
		if n&usersMask == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+user) {
			return true
		}
	}
}

// HasReaders reports whether somebody uses the Version who may read values that
// it refers to.
func (v *Version) HasReaders() bool {
	n := v.refs.Load()
	return n&usersMask > n>>32
}

// Released reports whether the last user has gone: no reader has what only this
// Version had.
func (v *Version) Released() bool { return v.refs.Load() == 0 }

// ReleaseLayers ends an AcquireLayers.
func (v *Version) ReleaseLayers() { v.release(oneLayerUser) }

// Release ends a use. The last one closes the layers that no other Version has,
// which unlinks those marked obsolete; no lock is held meanwhile.
func (v *Version) Release() { v.release(oneUser) }

func (v *Version) release(user int64) {
	switch n := v.refs.Add(-user); {
	case n > 0:
		return
	case n < 0:
		panic("layers: release of a version that nobody holds")
	}
	for l := range v.All() {
		if l.versions.Add(-1) > 0 {
			continue
		}
		if err := l.Close(); err != nil {
			v.dropped(fmt.Errorf("close layer %s: %w", LayerName(l.Desc().Num), err))
		}
	}
}

// find returns the one of disjoint layers whose range has key, or nil.
func find(ls []*Layer, key Key) *Layer {
	i := sort.Search(len(ls), func(i int) bool { return ls[i].Desc().Range.End.Compare(key) > 0 })
	if i == len(ls) || ls[i].Desc().Range.Start.Compare(key) > 0 {
		return nil
	}
	return ls[i]
}

// overlapping returns those of disjoint layers that have keys in r.
func overlapping(ls []*Layer, r KeyRange) []*Layer {
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
		rec, ok, err := q.newest(h.UpTo, h.UpTo, hidden)
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
// key), behind a point record of the same LSN. What visit gets may be kept. A
// record of a history layer is visited if it was visible at the hop's LSN or just
// below a record that is visited, and at that one if it is a delta: what lies behind a
// tombstone that was collected is not.
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

	main, history [NumLevels]levelFile // [0] is unused
	history0      []levelFile          // of each layer of level 0 of the history, once one was asked

	memScratch []*Memlayer
	l0Scratch  []*Layer
}

// levelFile is what a lookup knows of a level whose layers are disjoint.
type levelFile struct {
	found bool   // whether file is known for the present hop
	file  *Layer // whose range has key, or nil
	asked *Layer // the last file asked for the suffix
	may   bool   // what it said
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
	clear(q.history0)
	*q = lookup{key: q.key, buf: q.buf, history0: q.history0[:0], memScratch: q.memScratch[:0], l0Scratch: q.l0Scratch[:0]}
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
	for i := range NumLevels {
		q.main[i].found, q.history[i].found = false, false
	}
}

func (q *lookup) keyHash() uint64 {
	if !q.hashed {
		q.hash, q.hashed = HashKey(q.key), true
	}
	return q.hash
}

// fileOf returns the layer of a main level whose range has the key, or nil.
func (q *lookup) fileOf(level int) *Layer { return q.main[level].of(q.v.Levels[level], q.key) }

// of returns the one of a level's layers whose range has the key, or nil.
func (f *levelFile) of(ls []*Layer, key Key) *Layer {
	if !f.found {
		f.found, f.file = true, find(ls, key)
	}
	return f.file
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

// newest returns the newest point record of the key with an LSN from least to upTo
// that no death hides from a read at alive, which is at or above upTo. No order of LSNs among sources is taken for granted: a source is
// passed over only when its own range of LSNs says that it has nothing newer, or
// when all it has was superseded at or below upTo.
func (q *lookup) newest(upTo, alive, least wal.LSN) (best Record, ok bool, err error) {
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
		if least, err = q.newestIn(l, upTo, alive, least, &best); err != nil {
			return Record{}, false, err
		}
	}
	for level := 1; level < NumLevels; level++ {
		if len(q.v.Levels[level]) == 0 || q.v.main[level].maxLSN < least {
			continue
		}
		if least, err = q.newestOf(&q.main[level], q.fileOf(level), upTo, alive, least, &best); err != nil {
			return Record{}, false, err
		}
	}
	if least, err = q.newestInHistory(upTo, alive, least, &best); err != nil {
		return Record{}, false, err
	}
	if least > inMem { // from a layer: its key lies in memory that is used again
		best.Key, ok = bytes.Clone(q.key), true
	}
	return best, ok, nil
}

// newestInHistory is newestOf for all history layers.
func (q *lookup) newestInHistory(upTo, alive, least wal.LSN, best *Record) (_ wal.LSN, err error) {
	for level := range q.v.History {
		b := &q.v.history[level]
		if b.maxDeath <= alive || b.minLSN > upTo || b.maxLSN < least {
			continue
		}
		if level > 0 {
			f := &q.history[level]
			if least, err = q.newestOf(f, f.of(q.v.History[level], q.key), upTo, alive, least, best); err != nil {
				return least, err
			}
			continue
		}
		if len(q.history0) == 0 {
			q.history0 = append(q.history0, make([]levelFile, len(q.v.History[0]))...)
		}
		for i, l := range q.v.History[0] {
			if least, err = q.newestOf(&q.history0[i], l, upTo, alive, least, best); err != nil {
				return least, err
			}
		}
	}
	return least, nil
}

// newestOf is newestIn for l, nil for none, whose filter f knows about the user key.
func (q *lookup) newestOf(f *levelFile, l *Layer, upTo, alive, least wal.LSN, best *Record) (wal.LSN, error) {
	if l == nil || !l.mayShow(upTo, alive, least) || !l.desc.Range.Contains(q.key) {
		return least, nil
	}
	if q.chained {
		if f.asked != l {
			may, err := l.MayContain(q.suffix)
			if err != nil {
				return least, err
			}
			f.asked, f.may = l, may
		}
		if !f.may {
			return least, nil
		}
	}
	return q.newestIn(l, upTo, alive, least, best)
}

// mayShow reports whether a record that l may have can have an LSN from least to
// upTo and be visible at alive.
func (l *Layer) mayShow(upTo, alive, least wal.LSN) bool {
	d := &l.desc
	return d.MinLSN <= upTo && d.MaxLSN >= least && (d.Kind != HistoryLayer || d.MaxDeath > alive)
}

// newestIn replaces best by a record of l that is newer and visible at alive, and
// returns the least LSN that would beat it. A layer's newest record of the key at
// or below upTo decides: those before it ended when it began.
func (q *lookup) newestIn(l *Layer, upTo, alive, least wal.LSN, best *Record) (wal.LSN, error) {
	if !l.mayShow(upTo, alive, least) || !l.desc.Range.Contains(q.key) {
		return least, nil
	}
	may, err := l.MayContain(q.keyHash())
	if err != nil || !may {
		return least, err
	}
	r, found, err := l.Get(q.key, upTo, &q.buf)
	if err != nil || !found || r.LSN < least || !r.aliveAt(alive) {
		return least, err
	}
	*best = r
	return r.LSN + 1, nil
}

// aliveAt reports whether no death LSN hides a record from a read at lsn.
func (r *Record) aliveAt(lsn wal.LSN) bool { return r.Death == 0 || r.Death > lsn }

// walk visits what the present hop has of the key, newest first.
func (q *lookup) walk(upTo wal.LSN, visit func(*Record) bool) (more bool, err error) {
	rec, ok, err := q.newest(upTo, upTo, 0)
	cover := q.covering(upTo)
	for err == nil && (ok || cover > 0) {
		if ok && rec.LSN >= cover {
			if r := rec; !visit(&r) {
				return false, nil
			}
			below := rec.LSN - 1
			alive := below
			if rec.Kind == KindDelta { // it ends nothing: what ended at its LSN, the same commit deleted before
				alive = rec.LSN
			}
			rec, ok, err = q.newest(below, alive, 0)
			continue
		}
		key := MakeKey(q.key.Timeline(), q.key.Namespace(), q.key.User())
		if !visit(&Record{Key: key, LSN: cover, Kind: KindRangeTombstone, End: append(key[:len(key):len(key)], 0)}) {
			return false, nil
		}
		// What ended at the tombstone was not visible after it.
		rec, ok, err = q.newest(cover-1, cover-1, 0)
		cover = q.covering(cover - 1)
	}
	return err == nil, err
}
