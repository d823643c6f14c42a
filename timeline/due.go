package timeline

import "stemma/wal"

// Due returns the store time up to which what ends at a time has ended: the store
// clock, but for the first hour after a long gap that of the last commit before it, so
// that a clock that was set forward while the store was down ends nothing at once.
func (s *Store) Due() wal.LSN { return s.due() }

// Written reports whether a bucket has, or had, records of its own: a fork that nobody
// wrote to has none. Errors: ErrNoSuchBucket.
func (s *Store) Written(name string) (bool, error) {
	b, visible, err := s.lookup(name)
	if err != nil {
		return false, err
	}
	return b.at(visible).node.written.Load(), nil
}
