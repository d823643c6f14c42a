package layers

import (
	"encoding/binary"

	"stemma/wal"
)

// Oldest returns the LSN of the oldest record that timeline t itself has of a key
// (namespace and user key) and that ends a search there: a value, a tombstone or
// a range tombstone over it, but no delta; whatever has superseded it. It is false
// without any. It seeks once in each source whose range, filter and LSNs do not
// rule it out.
//
// Errors: ErrCorrupt, those of the disk.
func (v *Version) Oldest(t TimelineID, suffix []byte) (lsn wal.LSN, ok bool, err error) {
	key := append(binary.BigEndian.AppendUint64(make(Key, 0, 8+len(suffix)), uint64(t)), suffix...)
	s := oldestSearch{key: key, after: append(key[:len(key):len(key)], 0), hash: HashKey(key), least: wal.MaxLSN + 1}
	// The oldest ones are most likely where layers are oldest: found first, they
	// rule out the others.
	for level := BottomLevel; level > 0; level-- {
		for _, ls := range [...][]*Layer{v.History[level], v.Levels[level]} {
			if l := find(ls, key); l != nil {
				s.layer(l)
			}
		}
	}
	for _, ls := range [...][]*Layer{v.History[0], v.L0} {
		for i := len(ls) - 1; i >= 0; i-- {
			s.layer(ls[i])
		}
	}
	for i := len(v.Mem) - 1; i >= 0; i-- {
		s.memlayer(v.Mem[i])
	}
	if s.err != nil || s.least > wal.MaxLSN {
		return 0, false, s.err
	}
	return s.least, true, nil
}

// oldestSearch is the search for the oldest record that ends a search for key.
type oldestSearch struct {
	key, after Key // after is the next key there can be
	hash       uint64
	least      wal.LSN // found so far; above MaxLSN: none
	err        error   // the first failure, after which nothing more is asked
}

func (s *oldestSearch) layer(l *Layer) {
	d := l.Desc()
	if s.err != nil || d.MinLSN >= s.least || !d.Range.Contains(s.key) {
		return
	}
	if l.stones != nil {
		s.tombstones(l.stones)
	}
	may, err := l.MayContain(s.hash)
	if s.err = err; may && err == nil {
		s.points(l.NewIter(IterOptions{FillCache: true}))
	}
}

func (s *oldestSearch) memlayer(m *Memlayer) {
	if low, _ := m.LSNs(); s.err != nil || low >= s.least {
		return
	}
	if t := m.tombstones.Load(); t != nil {
		for _, set := range t.runs {
			s.tombstones(set)
		}
	}
	if m.MayContain(s.hash) {
		s.points(m.NewIter())
	}
}

func (s *oldestSearch) tombstones(set *TombstoneSet) {
	if lsn, ok := set.CoveringAbove(s.key, 0); ok {
		s.least = min(s.least, lsn)
	}
}

// points looks at the records of the key from the oldest on; it closes it.
func (s *oldestSearch) points(it Iterator) {
	for ok := it.SeekLT(s.after, wal.MaxLSN); ok; ok = it.Prev() {
		r := it.Record()
		if r.LSN >= s.least || r.Key.Compare(s.key) != 0 {
			break
		}
		if r.Kind != KindDelta {
			s.least = r.LSN
			break
		}
	}
	err := it.Err()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	s.err = err
}
