package timeline

import "iter"

// writtenPage is how many names are looked at under the lock of the tree at a time.
const writtenPage = 1000

// WrittenBuckets goes through the visible buckets that have, or had, records of their own, by
// name: a fork that nobody wrote to has none, and most have none. What comes or goes meanwhile
// may be among them or not.
func (s *Store) WrittenBuckets() iter.Seq[Info] {
	return func(yield func(Info) bool) {
		for after, more := "", true; more; {
			var found []Info
			found, after, more = s.writtenAfter(after)
			for i := range found {
				if !yield(found[i]) {
					return
				}
			}
		}
	}
}

// writtenAfter looks at the next names above after, and returns the written buckets of those,
// the last name it looked at, and whether there may be more.
func (s *Store) writtenAfter(after string) (found []Info, last string, more bool) {
	var written []*bucket
	looked := 0
	s.tree.mu.RLock()
	visible := s.log.Visible() // under the lock: no state that it needs was let go before
	s.tree.mu.names.Ascend(after, func(name string, st *nameState) bool {
		if name == after {
			return true
		}
		if b := st.at(visible); b != nil && b.at(visible).node.written.Load() {
			written = append(written, b)
		}
		last = name
		looked++
		return looked < writtenPage
	})
	s.tree.mu.RUnlock()
	return s.infos(written, visible), last, looked == writtenPage
}
