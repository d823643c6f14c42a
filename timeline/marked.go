package timeline

import "stemma/wal"

func (id BucketID) less(o BucketID) bool { return id < o }

// Marked returns up to limit visible buckets above after that Options.MarkAttributes tells
// by their attributes, in order of their ids. A limit of zero or less means all. It looks at
// no other bucket, however many there are.
//
// A commit that is on its way to change the attributes may already count.
func (s *Store) Marked(after BucketID, limit int) []Info {
	var found []*bucket
	s.tree.mu.RLock()
	visible := s.log.Visible() // under the lock: no state that it needs was let go before
	s.tree.mu.marked.Ascend(after+1, func(id BucketID) bool {
		if b := s.tree.mu.buckets.get(id); b.created <= visible {
			found = append(found, b)
		}
		return limit <= 0 || len(found) < limit
	})
	s.tree.mu.RUnlock()
	return s.infos(found, visible)
}

// marksBucket reports whether a living bucket is a marked one for the next commit in order.
func (t *tree) marksBucket(b *bucket) bool {
	if t.marks == nil || b.deleted.Load() != 0 {
		return false
	}
	p := b.propertiesAt(wal.MaxLSN)
	return len(p.Attrs) > 0 && t.marks(p.Attrs)
}

// markLocked notes whether b is a marked bucket.
func (t *tree) markLocked(b *bucket) {
	switch {
	case t.mu.marked == nil: // a replay: index makes it
	case t.marksBucket(b):
		t.mu.marked.Set(b.id)
	default:
		t.mu.marked.Delete(b.id)
	}
}
