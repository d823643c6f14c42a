package timeline

import "stemma/wal"

// HasBucket reports whether there is a bucket with an id, or one that can be undeleted.
func (s *Store) HasBucket(id BucketID) bool {
	b := s.tree.bucket(id)
	if b == nil {
		return false
	}
	if d := b.deleted.Load(); d == 0 || wal.LSN(d) > s.log.Visible() {
		return true
	}
	f := b.last().fate.Load()
	return f != nil && f.undeletable(s.clock.Now())
}
