package timeline

import "stemma/wal"

// Due returns the store time up to which what ends at a time has ended: the store
// clock, but for the first hour after a long gap that of the last commit before it, so
// that a clock that was set forward while the store was down ends nothing at once.
func (s *Store) Due() wal.LSN { return s.due() }
