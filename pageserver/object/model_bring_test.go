package object

import (
	"errors"

	"stemma/wal"
)

// goesOn returns what a version inherits that takes the place of old, if it does.
func (b *naiveBucket) goesOn(old *naiveVersion) inheritance {
	switch s := b.state(wal.MaxLSN); {
	case b.base == 0 || s == Enabled || s == Suspended && old.id != NullVersion:
		return inheritance{}
	case old.lsn <= b.base:
		return inheritance{base: b.base, size: uint64(len(old.body))}
	case old.kept.base == b.base:
		return old.kept
	}
	return inheritance{}
}

// stepRename gives an object another key.
func (m *model) stepRename() {
	b, from, to := m.anyBucket(), m.anyKey(), m.anyKey()
	lsn, err := m.Rename(m.ctx, b.name, to, &RenameInput{Source: from})
	old := b.at(from, wal.MaxLSN)
	switch {
	case from == to:
		wantErr(m.t, err, ErrSelfCopy)
		return
	case old == nil:
		wantErr(m.t, err, ErrNoSuchKey)
		return
	}
	v := *old
	v.lsn, v.kept = unmade, b.goesOn(old)
	change := func(b *naiveBucket) {
		b.add(to, v)
		b.delete(from, v.lsn)
	}
	if m.refused(b, err, change) {
		return
	}
	m.check(err)
	if v.lsn = lsn; v.paged { // the ETag is of the LSN
		o, err := m.Head(m.ctx, b.name, to, &GetInput{})
		m.check(err)
		v.tag = o.ETag
	}
	change(b)
	m.saw(lsn)
}

// stepPick brings what another bucket has of some keys, where that leaves no versions of the source to be thought of.
func (m *model) stepPick() {
	from, b, prefix := m.anyBucket(), m.anyBucket(), []string{"a/", "b/", "", "\xff"}[m.rng.IntN(4)]
	if from == b || b.state(wal.MaxLSN) == Enabled {
		return
	}
	was := map[string]string{}
	for key := range from.keys {
		was[key] = m.file(b, key)
	}
	r, err := m.CherryPick(m.ctx, &PickInput{Source: Point{Bucket: from.name}, Target: b.name, Prefixes: []string{prefix}, Strategy: MergeSourceWins})
	if b.quota.Any() && errors.Is(err, ErrQuotaExceeded) {
		return
	}
	m.check(err)
	for _, e := range r.Entries {
		old, theirs := b.at(e.Key, wal.MaxLSN), from.at(e.Key, wal.MaxLSN)
		if (theirs == nil) != (e.Action == "delete" || e.Action == "same" && old == nil) {
			m.t.Fatalf("%s of %q from %s to %s", e.Action, e.Key, from.name, b.name)
		}
		switch e.Action {
		case "put":
			v := *theirs
			v.lsn, v.kept = r.LSN, inheritance{}
			if is := m.file(b, e.Key); is != "" && is == was[e.Key] { // it was written onto what was there
				v.kept = b.goesOn(old)
			}
			b.add(e.Key, v)
		case "delete":
			b.delete(e.Key, r.LSN)
		case "same":
			if old != nil && old.tag != theirs.tag {
				m.t.Fatalf("%q is %v in %s, %v in %s", e.Key, old.tag, b.name, theirs.tag, from.name)
			}
		}
	}
	if r.Committed {
		m.saw(r.LSN)
	}
}

// file returns the file of an object; empty: it has none.
func (m *model) file(b *naiveBucket, key string) string {
	m.t.Helper()
	o, err := m.Head(m.ctx, b.name, key, &GetInput{})
	if errors.Is(err, ErrNoSuchKey) {
		return ""
	}
	m.check(err)
	return o.File()
}
