package layers

import (
	"errors"

	"stemma/wal"
)

// heapItem is an element of a minHeap.
type heapItem[T any] interface{ before(T) bool }

// minHeap is a binary heap; the least item is the first.
type minHeap[T heapItem[T]] []T

func (h minHeap[T]) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

// fixFirst restores the order after the first item has moved, or drops it
// when it stands on nothing any more.
func (h *minHeap[T]) fixFirst(ok bool) {
	s := *h
	if !ok {
		last := len(s) - 1
		s[0] = s[last]
		s = s[:last]
		*h = s
	}
	s.down(0)
}

func (h minHeap[T]) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if h[c].before(h[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// place says where a merging iterator stands.
type place byte

const (
	placeNone   place = iota // not positioned, or failed
	placeOn                  // on a record
	placeBefore              // before the first
	placeAfter               // after the last
)

// mergeIterator walks several iterators as one.
type mergeIterator struct {
	all     []*mergeSource
	heap    minHeap[*mergeSource]
	reverse bool
	place   place
	key     Key // of the present record; our own copy
	lsn     wal.LSN
	err     error
}

type mergeSource struct {
	it      Iterator
	rec     *Record
	index   int // earlier sources win
	reverse bool
}

func (s *mergeSource) before(o *mergeSource) bool {
	c := compareRecords(s.rec.Key, s.rec.LSN, o.rec.Key, o.rec.LSN)
	if s.reverse {
		c = -c
	}
	return c < 0 || c == 0 && s.index < o.index
}

// NewMergeIterator returns the union of iters in record order. Where several
// have a record of the same key and LSN, only that of the first one is seen. It
// owns iters: Close closes them. A record is valid until the next move.
func NewMergeIterator(iters []Iterator) Iterator {
	if len(iters) == 1 {
		return iters[0]
	}
	m := &mergeIterator{all: make([]*mergeSource, len(iters)), heap: make(minHeap[*mergeSource], 0, len(iters))}
	for i, it := range iters {
		m.all[i] = &mergeSource{it: it, index: i}
	}
	return m
}

// position moves every source with move and finds the first of them.
func (m *mergeIterator) position(reverse bool, move func(Iterator) bool) bool {
	m.err, m.reverse, m.heap = nil, reverse, m.heap[:0]
	for _, s := range m.all {
		s.reverse = reverse
		if move(s.it) {
			s.rec = s.it.Record()
			m.heap = append(m.heap, s)
		} else if err := s.it.Err(); err != nil {
			return m.fail(err)
		}
	}
	m.heap.init()
	return m.found()
}

func (m *mergeIterator) fail(err error) bool {
	m.err, m.place, m.heap = err, placeNone, m.heap[:0]
	return false
}

// found notes where the first source stands.
func (m *mergeIterator) found() bool {
	if len(m.heap) == 0 {
		m.place = placeAfter
		if m.reverse {
			m.place = placeBefore
		}
		return false
	}
	rec := m.heap[0].rec
	m.key, m.lsn, m.place = append(m.key[:0], rec.Key...), rec.LSN, placeOn
	return true
}

// advance moves all sources that stand on the present record.
func (m *mergeIterator) advance() bool {
	for len(m.heap) > 0 {
		s := m.heap[0]
		if s.rec.LSN != m.lsn || s.rec.Key.Compare(m.key) != 0 {
			break
		}
		var ok bool
		if m.reverse {
			ok = s.it.Prev()
		} else {
			ok = s.it.Next()
		}
		if ok {
			s.rec = s.it.Record()
		} else if err := s.it.Err(); err != nil {
			return m.fail(err)
		}
		m.heap.fixFirst(ok)
	}
	return m.found()
}

func (m *mergeIterator) SeekGE(key Key, lsn wal.LSN) bool {
	return m.position(false, func(it Iterator) bool { return it.SeekGE(key, lsn) })
}

func (m *mergeIterator) SeekLT(key Key, lsn wal.LSN) bool {
	return m.position(true, func(it Iterator) bool { return it.SeekLT(key, lsn) })
}

func (m *mergeIterator) First() bool { return m.position(false, Iterator.First) }
func (m *mergeIterator) Last() bool  { return m.position(true, Iterator.Last) }

// Next moves on; before the first record it moves there, after the last it stays.
func (m *mergeIterator) Next() bool {
	switch {
	case m.place == placeBefore:
		return m.First()
	case m.place != placeOn:
		return false
	case m.reverse: // the record itself is the first at or after it
		if !m.SeekGE(append(Key(nil), m.key...), m.lsn) {
			return false
		}
	}
	return m.advance()
}

// Prev moves back; after the last record it moves there, before the first it stays.
func (m *mergeIterator) Prev() bool {
	switch {
	case m.place == placeAfter:
		return m.Last()
	case m.place != placeOn:
		return false
	case !m.reverse:
		return m.SeekLT(append(Key(nil), m.key...), m.lsn)
	}
	return m.advance()
}

func (m *mergeIterator) Record() *Record { return m.heap[0].rec }
func (m *mergeIterator) Err() error      { return m.err }

func (m *mergeIterator) Close() error {
	m.heap, m.place = nil, placeNone
	var errs []error
	for _, s := range m.all {
		errs = append(errs, s.it.Close())
	}
	m.all = nil
	return errors.Join(errs...)
}
