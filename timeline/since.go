package timeline

import "stemma/wal"

// since is a value that holds from LSN from on. prev is kept while readers may
// still be below from: the sequenced tree is ahead of what is visible. A nil
// since holds the zero value.
type since[T any] struct {
	from  wal.LSN
	value T
	prev  *since[T]
}

// at returns the value as one sees it who sees the commits up to visible.
func (s *since[T]) at(visible wal.LSN) (v T) {
	for s != nil && s.from > visible {
		s = s.prev
	}
	if s != nil {
		v = s.value
	}
	return v
}

// then returns the value that v follows from lsn on. What no reader at or above
// visible can want is let go.
func (s *since[T]) then(v T, lsn, visible wal.LSN) *since[T] {
	return &since[T]{from: lsn, value: v, prev: s.settled(visible)}
}

// settled returns the value without what no reader at or above visible can want.
func (s *since[T]) settled(visible wal.LSN) *since[T] {
	if s != nil && s.from <= visible && s.prev != nil {
		return &since[T]{from: s.from, value: s.value}
	}
	return s
}
