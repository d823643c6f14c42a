package timeline

import (
	"cmp"

	"stemma/wal"
)

// forkKey is an entry of the index of forks: a bucket, and the name of one that was
// forked from it.
type forkKey struct {
	source BucketID
	name   string
}

func (k forkKey) less(o forkKey) bool {
	return cmp.Or(cmp.Compare(k.source, o.source), cmp.Compare(k.name, o.name)) < 0
}

// countForkLocked counts a living fork, or one less, at its source.
func (t *tree) countForkLocked(b *bucket, n int32) {
	if src := t.mu.buckets.get(b.source); src != nil {
		src.forks.Add(n)
	}
}

// Forks returns up to limit visible buckets that were forked from a bucket, deleted
// or not, whose names begin with prefix and sort after after, by name. A limit of
// zero or less means all. It costs what it returns.
func (s *Store) Forks(source BucketID, prefix, after string, limit int) []Info {
	var found []*bucket
	s.tree.mu.RLock()
	visible := s.log.Visible() // under the lock: no state that it needs was let go before
	s.tree.mu.forks.Ascend(forkKey{source, max(prefix, after)}, func(k forkKey) bool {
		if k.source != source || len(k.name) < len(prefix) || k.name[:len(prefix)] != prefix {
			return k.source == source && k.name < prefix
		}
		if st, ok := s.tree.mu.names.Get(k.name); ok && k.name > after {
			if b := st.at(visible); b != nil && b.source == source {
				found = append(found, b)
			}
		}
		return limit <= 0 || len(found) < limit
	})
	s.tree.mu.RUnlock()
	return s.infos(found, visible)
}

// Ancestor is a bucket that another descends from.
type Ancestor struct {
	Bucket BucketID
	Name   string // the present one; empty while it is deleted
	// BranchLSN is what the one before it in the list sees of it.
	BranchLSN wal.LSN
}

// Ancestry returns the buckets that a bucket descends from, its source first, the
// root last, or the last that is known: what was purged has no source any more.
// Errors: ErrNoSuchBucket.
func (s *Store) Ancestry(name string) ([]Ancestor, error) {
	b, visible, err := s.lookup(name)
	if err != nil {
		return nil, err
	}
	var list []Ancestor
	for b != nil && b.source != 0 {
		n := b.at(visible).node
		if n.purged.Load() {
			break
		}
		a := Ancestor{Bucket: b.source, BranchLSN: n.sourceLSN}
		if b = s.tree.bucket(b.source); b != nil && b.deleted.Load() == 0 {
			a.Name = *b.name.Load()
		}
		list = append(list, a)
	}
	return list, nil
}
