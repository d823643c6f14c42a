package object

import (
	"slices"

	"stemma/wal"
)

// naiveVersion is one version of a key of the model, or a delete marker.
type naiveVersion struct {
	id     VersionID
	lsn    wal.LSN // that made it
	marker bool
	body   []byte
	tag    ETag
	typ    string // Content-Type
	user   string // value of the one user metadata
	label  string // value of the one tag; empty: none
	sum    Checksum
	paged  bool // it was written in place
	kept   inheritance
}

// naiveState is what a key has from an LSN on: all of its versions, the newest first.
type naiveState struct {
	lsn      wal.LSN
	versions []naiveVersion
}

// naiveBucket is a bucket of the model: all that its keys ever had, what its
// ancestors had up to the branch included.
type naiveBucket struct {
	name       string
	created    wal.LSN
	parent     *naiveBucket // of the lineage; nil: a root
	dropped    bool         // deleted for good: nobody reads it by name or below the birth of a fork
	keys       map[string][]naiveState
	versioning []naiveVersioning
	base       wal.LSN // branch point; zero of a root
	quota      Quota
}

// naiveVersioning is the state of versioning from an LSN on.
type naiveVersioning struct {
	lsn   wal.LSN
	state Versioning
}

// first is the lowest LSN from which on all of its history can be read: below
// a fork's birth that is the ancestor's, as long as there is one.
func (b *naiveBucket) first() wal.LSN {
	for b.parent != nil && !b.parent.dropped {
		b = b.parent
	}
	return b.created
}

// fork returns a bucket with what b had at an LSN.
func (b *naiveBucket) fork(name string, created, at wal.LSN, parent *naiveBucket) *naiveBucket {
	f := &naiveBucket{name: name, created: created, parent: parent, keys: map[string][]naiveState{}}
	for k, states := range b.keys {
		n := newestAt(states, at)
		f.keys[k] = slices.Clone(states[:n])
	}
	for _, v := range b.versioning {
		if v.lsn <= at {
			f.versioning = append(f.versioning, v)
		}
	}
	return f
}

// newestAt returns how many states there were at an LSN.
func newestAt(states []naiveState, at wal.LSN) int {
	n := len(states)
	for n > 0 && states[n-1].lsn > at {
		n--
	}
	return n
}

// usage is what counts for a quota.
func (b *naiveBucket) usage() (u Usage) {
	for key := range b.keys {
		for _, v := range b.versions(key, wal.MaxLSN) {
			switch {
			case v.marker || v.lsn <= b.base:
			case b.base != 0 && v.kept.base == b.base:
				u.Bytes += max(0, int64(len(v.body))-int64(v.kept.size))
			default:
				u.Bytes, u.Objects = u.Bytes+int64(len(v.body)), u.Objects+1
			}
		}
	}
	return u
}

// exceeds reports whether the quota refuses what change does to the bucket.
func (b *naiveBucket) exceeds(change func(b *naiveBucket)) bool {
	if !b.quota.Any() {
		return false
	}
	after := *b
	after.keys = make(map[string][]naiveState, len(b.keys))
	for key, states := range b.keys {
		after.keys[key] = slices.Clip(states)
	}
	change(&after)
	was, is := b.usage(), after.usage()
	over := func(bound, was, is int64) bool { return bound != 0 && is > was && is > bound }
	return over(b.quota.MaxBytes, was.Bytes, is.Bytes) || over(b.quota.MaxObjects, was.Objects, is.Objects)
}

func (b *naiveBucket) state(at wal.LSN) (v Versioning) {
	for _, s := range b.versioning {
		if s.lsn <= at {
			v = s.state
		}
	}
	return v
}

// versions returns what a key had, the newest first.
func (b *naiveBucket) versions(key string, at wal.LSN) []naiveVersion {
	states := b.keys[key]
	if n := newestAt(states, at); n > 0 {
		return states[n-1].versions
	}
	return nil
}

// at returns the current version of a key; nil: none, or a marker.
func (b *naiveBucket) at(key string, at wal.LSN) *naiveVersion {
	if vs := b.versions(key, at); len(vs) > 0 && !vs[0].marker {
		return &vs[0]
	}
	return nil
}

// find returns a version or marker by its id.
func (b *naiveBucket) find(key string, id VersionID, at wal.LSN) *naiveVersion {
	vs := b.versions(key, at)
	if i := slices.IndexFunc(vs, func(v naiveVersion) bool { return v.id == id }); i >= 0 {
		return &vs[i]
	}
	return nil
}

func (b *naiveBucket) listed(at wal.LSN) []string {
	set := map[string]bool{}
	for k := range b.keys {
		if b.at(k, at) != nil {
			set[k] = true
		}
	}
	return sorted(set)
}

// add makes v, made by v.lsn, the newest version of a key.
func (b *naiveBucket) add(key string, v naiveVersion) {
	v.id = NullVersion
	old := b.versions(key, wal.MaxLSN)
	if b.state(wal.MaxLSN) == Enabled {
		v.id = VersionID(v.lsn)
	} else {
		old = without(old, NullVersion)
	}
	b.set(key, v.lsn, append([]naiveVersion{v}, old...))
}

// replace writes the current version of a key in place: it is another version since.
func (b *naiveBucket) replace(key string, v naiveVersion) {
	vs := slices.Clone(b.versions(key, wal.MaxLSN))
	if v.id = NullVersion; vs[0].id != NullVersion {
		v.id = VersionID(v.lsn)
	}
	vs[0] = v
	b.set(key, v.lsn, vs)
}

// remove removes a version.
func (b *naiveBucket) remove(key string, id VersionID, lsn wal.LSN) {
	b.set(key, lsn, without(b.versions(key, wal.MaxLSN), id))
}

// delete is a delete without a version id.
func (b *naiveBucket) delete(key string, lsn wal.LSN) {
	if b.state(wal.MaxLSN) == Unversioned {
		b.remove(key, NullVersion, lsn)
	} else {
		b.add(key, naiveVersion{lsn: lsn, marker: true})
	}
}

// relabel changes the tag of a version.
func (b *naiveBucket) relabel(key string, id VersionID, label string, lsn wal.LSN) {
	vs := slices.Clone(b.versions(key, wal.MaxLSN))
	for i := range vs {
		if vs[i].id == id {
			vs[i].label = label
		}
	}
	b.set(key, lsn, vs)
}

func (b *naiveBucket) set(key string, lsn wal.LSN, versions []naiveVersion) {
	b.keys[key] = append(b.keys[key], naiveState{lsn: lsn, versions: versions})
}

func without(vs []naiveVersion, id VersionID) []naiveVersion {
	return slices.DeleteFunc(slices.Clone(vs), func(v naiveVersion) bool { return v.id == id })
}
