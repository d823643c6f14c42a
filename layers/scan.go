package layers

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"stemma/wal"
)

// ScanOptions configures a Scan. The zero value is for reads that may come again.
type ScanOptions struct {
	// NoFillCache keeps what is read out of the block cache: for one pass over much data.
	NoFillCache bool
	// Tombstones also shows the keys whose newest record is a point tombstone.
	// Those that a range tombstone hides stay hidden.
	Tombstones bool
}

// Scan walks the visible records of a chain: per user key in [lower, upper) the
// newest value or delta, in the nearest hop that has a record of the key; what
// is deleted is passed over, unless the options say otherwise. It moves both ways. Not safe for concurrent use; the
// Version must stay acquired until Close.
type Scan struct {
	chain   []Hop
	bounds  []KeyRange // of each hop
	all     []*scanSource
	heap    minHeap[*scanSource]
	reverse bool
	deleted bool // ScanOptions.Tombstones
	place   place
	user    []byte // of the present key; our own copy
	err     error

	cover      *lookup // asks for range tombstones
	tombstones []bool  // per hop: there may be some within bounds
	hidden     int     // keys in a row that range tombstones hid
}

// scanSource is one source of one hop. It stands on the newest visible record of
// a key, whatever the direction, or on nothing.
type scanSource struct {
	source
	hop     int
	index   int // sources with equal records: earlier ones win
	upTo    wal.LSN
	bounds  KeyRange
	rec     *Record
	key     Key // of rec; our own copy
	reverse bool
}

func (s *scanSource) user() []byte { return s.key[keyPrefixLen:] }

func (s *scanSource) before(o *scanSource) bool {
	c := bytes.Compare(s.user(), o.user())
	if s.reverse {
		c = -c
	}
	return cmp.Or(c, s.hop-o.hop, cmp.Compare(o.rec.LSN, s.rec.LSN), s.index-o.index) < 0
}

// NewScan returns a scan of the user keys in [lower, upper); a nil upper has no
// end. It is not positioned. The slices are kept until Close.
func (v *Version) NewScan(chain []Hop, ns Namespace, lower, upper []byte, o ScanOptions) *Scan {
	s := &Scan{chain: chain, deleted: o.Tombstones, cover: newLookup(v, ns, nil), tombstones: make([]bool, len(chain)), bounds: make([]KeyRange, len(chain))}
	for i, h := range chain {
		r := userRange(h.Timeline, ns, lower, upper)
		s.bounds[i] = r
		if r.Start.Compare(r.End) >= 0 || h.UpTo == 0 {
			continue
		}
		sources, err := v.sources(r, IterOptions{MaxLSN: h.UpTo, FillCache: !o.NoFillCache}, h.UpTo)
		for _, src := range sources {
			s.all = append(s.all, &scanSource{source: src, hop: i, index: len(s.all), upTo: h.UpTo, bounds: r})
		}
		if err != nil {
			s.err = err
			break
		}
		s.tombstones[i] = v.mayHaveTombstones(r, h.UpTo)
	}
	return s
}

// userRange returns the composite keys of [lower, upper), all from lower on if
// upper is nil.
func userRange(t TimelineID, ns Namespace, lower, upper []byte) KeyRange {
	r := KeyRange{Start: MakeKey(t, ns, lower)}
	if upper != nil {
		r.End = MakeKey(t, ns, upper)
	} else if ns < 0xff {
		r.End = MakeKey(t, ns+1, nil)
	} else {
		r.End = MakeKey(t+1, 0, nil)
	}
	return r
}

// source walks a memlayer, a layer or a level.
type source struct {
	it     Iterator
	maxLSN wal.LSN // no record within the bounds of the read is newer
}

// sourceQuery is what a read wants of its sources.
type sourceQuery struct {
	r     KeyRange // of one timeline
	o     IterOptions
	hash  uint64  // of the timeline
	alive wal.LSN // unless zero, what died at or below it is not wanted
}

// sources returns all sources that may have point records of the one timeline of
// r in r, the newest first. o has a MaxLSN. Unless alive is zero, history layers
// whose records all died at or below it are left out. With an error come those
// that were made before it.
func (v *Version) sources(r KeyRange, o IterOptions, alive wal.LSN) (made []source, err error) {
	q := sourceQuery{r: r, o: o, hash: HashTimeline(r.Start.Timeline()), alive: alive}
	for _, m := range v.Mem {
		if low, high := m.LSNs(); low <= o.MaxLSN && high >= o.MinLSN && m.MayContain(q.hash) {
			made = append(made, source{m.NewIter(), min(high, o.MaxLSN)})
		}
	}
	made, err = q.each(made, v.L0)
	for level := 1; level < NumLevels && err == nil; level++ {
		made, err = q.level(made, v.Levels[level], v.main[level].maxLSN)
	}
	for level, b := range v.history {
		switch {
		case err != nil || b.minLSN > o.MaxLSN || b.maxDeath <= alive:
		case level == 0:
			made, err = q.each(made, v.History[0])
		default:
			made, err = q.level(made, v.History[level], b.maxLSN)
		}
	}
	return made, err
}

// each adds a source for each layer.
func (q *sourceQuery) each(made []source, ls []*Layer) ([]source, error) {
	for _, l := range ls {
		may, err := q.mayHave(l)
		if err != nil {
			return made, err
		}
		if may {
			made = append(made, source{l.NewIter(q.o), l.Desc().MaxLSN})
		}
	}
	return made, nil
}

// level adds one source for all layers of a level.
func (q *sourceQuery) level(made []source, ls []*Layer, maxLSN wal.LSN) ([]source, error) {
	ls = overlapping(ls, q.r)
	if len(ls) < 2 {
		return q.each(made, ls)
	}
	it := &concatIterator{layers: ls, o: q.o, filter: q.hash, alive: q.alive, index: -1}
	return append(made, source{it, maxLSN}), nil
}

// mayHave reports whether l may have what is wanted.
func (q *sourceQuery) mayHave(l *Layer) (bool, error) {
	if !l.mayHave(q.o, q.alive) || !l.desc.Range.Overlaps(q.r) {
		return false, nil
	}
	return l.MayContain(q.hash)
}

// mayHave reports whether l has records within the LSNs of o, and, unless alive
// is zero, of a death LSN above it if any.
func (l *Layer) mayHave(o IterOptions, alive wal.LSN) bool {
	d := &l.desc
	return d.MaxLSN >= o.MinLSN && (o.MaxLSN == 0 || d.MinLSN <= o.MaxLSN) && (d.Kind != HistoryLayer || d.MaxDeath > alive)
}

// mayHaveTombstones reports whether a range tombstone at or below upTo may lie in r.
func (v *Version) mayHaveTombstones(r KeyRange, upTo wal.LSN) bool {
	in := func(l *Layer) bool {
		d := l.Desc()
		return d.RangeTombstones > 0 && d.MinLSN <= upTo && d.Range.Overlaps(r)
	}
	if slices.ContainsFunc(v.Mem, (*Memlayer).hasTombstones) || slices.ContainsFunc(v.l0Tombstones, in) {
		return true
	}
	for level, some := range v.levelTombstones {
		if some && slices.ContainsFunc(overlapping(v.Levels[level], r), in) {
			return true
		}
	}
	return false
}

func (m *Memlayer) hasTombstones() bool { return m.tombstones.Load() != nil }

// SeekGE moves to the first user key at or after user.
func (s *Scan) SeekGE(user []byte) bool {
	return s.position(false, func(src *scanSource) bool { return src.seekGE(user) })
}

// SeekLT moves to the last user key before user.
func (s *Scan) SeekLT(user []byte) bool {
	return s.position(true, func(src *scanSource) bool { return src.seekLT(user) })
}

// First moves to the first user key.
func (s *Scan) First() bool { return s.position(false, (*scanSource).first) }

// Last moves to the last user key.
func (s *Scan) Last() bool { return s.position(true, (*scanSource).last) }

// Next moves on; before the first key it moves there, after the last it stays.
func (s *Scan) Next() bool {
	switch {
	case s.place == placeBefore:
		return s.First()
	case s.place != placeOn:
		return false
	case s.reverse:
		return s.SeekGE(append(bytes.Clone(s.user), 0))
	}
	return s.advance() && s.find()
}

// Prev moves back; after the last key it moves there, before the first it stays.
func (s *Scan) Prev() bool {
	switch {
	case s.place == placeAfter:
		return s.Last()
	case s.place != placeOn:
		return false
	case !s.reverse:
		return s.SeekLT(bytes.Clone(s.user))
	}
	return s.advance() && s.find()
}

// Record returns the record that the scan stands on, its Key that of the hop. It
// is valid until the next move.
func (s *Scan) Record() *Record { return s.heap[0].rec }

// Hop returns the index of the hop that has the record.
func (s *Scan) Hop() int { return s.heap[0].hop }

// Err tells after a move that found nothing whether that was the end (nil).
func (s *Scan) Err() error { return s.err }

// Close ends the scan.
func (s *Scan) Close() error {
	var errs []error
	for _, src := range s.all {
		errs = append(errs, src.it.Close())
	}
	if s.cover != nil {
		s.cover.done()
	}
	*s = Scan{err: s.err}
	return errors.Join(errs...)
}

// position moves every source with move and finds the first visible key.
func (s *Scan) position(reverse bool, move func(*scanSource) bool) bool {
	if s.place = placeNone; s.err != nil {
		return false
	}
	s.reverse, s.heap = reverse, s.heap[:0]
	for _, src := range s.all {
		src.reverse = reverse
		if move(src) {
			s.heap = append(s.heap, src)
		} else if err := src.it.Err(); err != nil {
			return s.fail(err)
		}
	}
	s.heap.init()
	return s.find()
}

// fail ends the scan for good.
func (s *Scan) fail(err error) bool {
	s.err, s.place, s.heap = err, placeNone, s.heap[:0]
	return false
}

// find goes on until the first source stands on a record that is visible. That
// source's record decides for its key: it is of the nearest hop, and the newest.
func (s *Scan) find() bool {
	for len(s.heap) > 0 {
		top := s.heap[0]
		s.user = append(s.user[:0], top.user()...)
		hop, lsn := s.covered(top)
		if lsn == 0 && (s.deleted || top.rec.Kind != KindTombstone) {
			s.place, s.hidden = placeOn, 0
			return true
		}
		if !s.pass(hop, lsn) {
			return false
		}
	}
	s.place = placeAfter
	if s.reverse {
		s.place = placeBefore
	}
	return false
}

// advance moves all sources beyond the present user key.
func (s *Scan) advance() bool {
	for len(s.heap) > 0 && bytes.Equal(s.heap[0].user(), s.user) {
		if !s.moveFirst((*scanSource).step) {
			return false
		}
	}
	return true
}

// moveFirst moves the first source.
func (s *Scan) moveFirst(move func(*scanSource) bool) bool {
	src := s.heap[0]
	ok := move(src)
	if !ok {
		if err := src.it.Err(); err != nil {
			return s.fail(err)
		}
	}
	s.heap.fixFirst(ok)
	return true
}

// covered returns the hop and the LSN of a range tombstone that hides the record
// src stands on; LSN zero when it is visible.
func (s *Scan) covered(src *scanSource) (hop int, lsn wal.LSN) {
	for hop, some := range s.tombstones[:src.hop+1] {
		if !some {
			continue
		}
		s.coverKey(hop, src.user())
		if t := s.cover.covering(s.chain[hop].UpTo); t > 0 && (hop < src.hop || t > src.rec.LSN) {
			return hop, t
		}
	}
	return 0, 0
}

func (s *Scan) coverKey(hop int, user []byte) {
	s.cover.key = append(s.cover.key[:keyPrefixLen], user...)
	s.cover.hop(s.chain[hop].Timeline)
}

// manyHidden is how many keys in a row a range tombstone hides before it is
// worth to look for its end.
const manyHidden = 32

// pass leaves a key that is not visible, hidden by the range tombstone at lsn of
// a hop or, with lsn zero, by its own tombstone. When the same has met many keys
// before, all that the range tombstone hides is left at once.
func (s *Scan) pass(hop int, lsn wal.LSN) bool {
	if lsn == 0 {
		return s.advance()
	}
	if s.hidden++; s.hidden < manyHidden {
		return s.advance()
	}
	s.hidden = 0
	s.coverKey(hop, s.user)
	bounds := s.cover.tombstoneBounds(lsn)
	for i := 0; i < len(s.heap); {
		src := s.heap[i]
		if src.hop < hop || src.hop == hop && src.maxLSN >= lsn || !bounds.containsUser(src.user()) {
			i++
			continue
		}
		ok := s.reverse && src.seekLT(bounds.start) || !s.reverse && src.seekGE(bounds.end)
		if ok {
			i++
		} else if err := src.it.Err(); err != nil {
			return s.fail(err)
		} else {
			s.heap = slices.Delete(s.heap, i, i+1)
		}
	}
	s.heap.init()
	return s.advance()
}

// userBounds are user keys [start, end).
type userBounds struct{ start, end []byte }

func (b userBounds) containsUser(u []byte) bool {
	return bytes.Compare(u, b.start) >= 0 && bytes.Compare(u, b.end) < 0
}

// tombstoneBounds returns the bounds of a range tombstone over the key that has
// the given LSN, which covering has found; failing that, those of the key.
func (q *lookup) tombstoneBounds(lsn wal.LSN) userBounds {
	find := func(rs []Record) (userBounds, bool) {
		for i := range rs {
			if r := &rs[i]; r.LSN == lsn && (KeyRange{Start: r.Key, End: r.End}).Contains(q.key) && bytes.Equal(r.Key[:keyPrefixLen], r.End[:keyPrefixLen]) {
				return userBounds{r.Key.User(), r.End.User()}, true
			}
		}
		return userBounds{}, false
	}
	for _, m := range q.v.Mem {
		if b, ok := find(m.RangeTombstones()); ok {
			return b
		}
	}
	for _, l := range q.v.l0Tombstones {
		if b, ok := find(l.RangeTombstones()); ok {
			return b
		}
	}
	for level, some := range q.v.levelTombstones {
		if l := q.fileOf(level); some && l != nil {
			if b, ok := find(l.RangeTombstones()); ok {
				return b
			}
		}
	}
	user := bytes.Clone(q.key.User())
	return userBounds{user, append(bytes.Clone(user), 0)}
}

// composite puts a user key of the source's timeline into its scratch.
func (s *scanSource) composite(user []byte) Key {
	return append(append(s.key[:0], s.bounds.Start[:keyPrefixLen]...), user...)
}

func (s *scanSource) first() bool {
	return s.it.SeekGE(s.bounds.Start, s.upTo) && s.settleForward()
}

func (s *scanSource) last() bool {
	return s.it.SeekLT(s.bounds.End, wal.MaxLSN) && s.settleReverse()
}

func (s *scanSource) seekGE(user []byte) bool {
	s.key = s.composite(user)
	if s.key.Compare(s.bounds.Start) <= 0 {
		return s.first()
	}
	return s.it.SeekGE(s.key, s.upTo) && s.settleForward()
}

func (s *scanSource) seekLT(user []byte) bool {
	s.key = s.composite(user)
	if s.key.Compare(s.bounds.End) >= 0 {
		return s.last()
	}
	return s.it.SeekLT(s.key, wal.MaxLSN) && s.settleReverse()
}

// fewSteps is how many records a source steps over before it seeks instead: a
// seek costs about as much.
const fewSteps = 4

// step moves to the next key in the direction of the scan.
func (s *scanSource) step() bool {
	if s.reverse {
		return s.it.SeekLT(s.key, wal.MaxLSN) && s.settleReverse()
	}
	return s.leaveKey() && s.settleForward()
}

// leaveKey moves forward, past the records of key, on one of which it stands.
func (s *scanSource) leaveKey() bool {
	for range fewSteps {
		if !s.it.Next() {
			return false
		}
		if !bytes.Equal(s.it.Record().Key, s.key) {
			return true
		}
	}
	s.key = append(s.key, 0) // the next key there can be
	return s.it.SeekGE(s.key, s.upTo)
}

// settleForward goes on to the first record at or below upTo. Reached in record
// order it is the newest such one of its key; if that has died by then, so have
// the others of the key.
func (s *scanSource) settleForward() bool {
	for n := 0; ; n++ {
		rec := s.it.Record()
		if rec.Key.Compare(s.bounds.End) >= 0 {
			return false
		}
		if rec.LSN <= s.upTo {
			if s.take(rec); rec.aliveAt(s.upTo) {
				return true
			}
			if !s.leaveKey() {
				return false
			}
			continue
		}
		if n%(fewSteps+1) < fewSteps {
			if !s.it.Next() {
				return false
			}
			continue
		}
		s.key = append(s.key[:0], rec.Key...)
		if !s.it.SeekGE(s.key, s.upTo) {
			return false
		}
	}
}

// settleReverse goes back to the first key that has a record at or below upTo,
// from the oldest record of a key, and there to the newest such one, unless that
// has died by then.
func (s *scanSource) settleReverse() bool {
	for {
		rec := s.it.Record()
		if rec.Key.Compare(s.bounds.Start) < 0 {
			return false
		}
		s.key = append(s.key[:0], rec.Key...)
		if rec.LSN <= s.upTo {
			if !s.it.SeekGE(s.key, s.upTo) {
				return false
			}
			if rec = s.it.Record(); rec.aliveAt(s.upTo) {
				s.take(rec)
				return true
			}
		}
		if !s.it.SeekLT(s.key, wal.MaxLSN) {
			return false
		}
	}
}

func (s *scanSource) take(rec *Record) {
	s.rec = rec
	s.key = append(s.key[:0], rec.Key...)
}
