package object

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"stemma/wal"
)

// stepVersioning enables or suspends versioning.
func (m *model) stepVersioning() {
	b := m.anyBucket()
	v := []Versioning{Enabled, Enabled, Suspended}[m.rng.IntN(3)]
	lsn, err := m.SetVersioning(m.ctx, b.name, v)
	m.check(err)
	if v != b.state(wal.MaxLSN) {
		b.versioning = append(b.versioning, naiveVersioning{lsn, v})
		m.saw(lsn)
	}
}

// anyID returns the id of a version that a key has or had, or of none.
func (m *model) anyID(b *naiveBucket, key string) VersionID {
	states := b.keys[key]
	if len(states) == 0 || m.rng.IntN(8) == 0 {
		return []VersionID{NullVersion, unknownVersion, 1}[m.rng.IntN(3)]
	}
	from := 0
	if m.rng.IntN(3) > 0 {
		from = len(states) - 1 // what is there now
	}
	vs := states[from+m.rng.IntN(len(states)-from)].versions
	if len(vs) == 0 {
		return NullVersion
	}
	return vs[m.rng.IntN(len(vs))].id
}

// anyDelete is a delete of a key, with a version id and conditions or without.
func (m *model) anyDelete(b *naiveBucket) DeleteKey {
	k := DeleteKey{Key: m.anyKey()}
	if m.rng.IntN(2) == 0 {
		k.Version = m.anyID(b, k.Key)
	}
	if m.rng.IntN(6) == 0 {
		k.Cond.IfMatch = []string{"*", `"0"`}[m.rng.IntN(2)]
	}
	return k
}

// deleted does to the model what a delete has done, and checks what it says.
func (m *model) deleted(b *naiveBucket, k DeleteKey, res DeleteResult, err error) {
	m.t.Helper()
	var was *naiveVersion
	if k.Version != 0 {
		was = b.find(k.Key, k.Version, wal.MaxLSN)
	} else if vs := b.versions(k.Key, wal.MaxLSN); len(vs) > 0 {
		was = &vs[0]
	}
	want := DeleteResult{LSN: res.LSN, ID: k.Version, Existed: was != nil && (k.Version != 0 || !was.marker)}
	change := want.Existed
	if k.Version != 0 {
		want.Marker = was != nil && was.marker
	} else if b.state(wal.MaxLSN) != Unversioned && (was != nil || k.Cond.IfMatch == "") {
		want.Marker, change = true, true
		if want.ID = VersionID(res.LSN); b.state(wal.MaxLSN) == Suspended {
			want.ID = NullVersion
		}
	}
	if was != nil && k.Cond.IfMatch != "" && k.Cond.IfMatch != "*" {
		wantErr(m.t, err, ErrPreconditionFailed)
		return
	}
	m.check(err)
	if res.Err = nil; res != want {
		m.t.Fatalf("%s: delete of %+v: %+v, want %+v", b.name, k, res, want)
	}
	switch {
	case !change:
		return
	case k.Version != 0:
		b.remove(k.Key, k.Version, res.LSN)
	default:
		b.delete(k.Key, res.LSN)
	}
	m.saw(res.LSN)
}

func (m *model) stepDelete() {
	b := m.anyBucket()
	if m.rng.IntN(2) == 0 {
		k := m.anyDelete(b)
		res, err := m.Delete(m.ctx, b.name, k)
		if err != nil {
			res.ID, res.Existed, res.Marker = 0, false, false
		}
		m.deleted(b, k, res, err)
		return
	}
	var keys []DeleteKey
	for range 1 + m.rng.IntN(12) {
		keys = append(keys, m.anyDelete(b))
	}
	results, _, err := m.DeleteMany(m.ctx, b.name, keys)
	m.check(err)
	order := make([]int, len(keys)) // as they were done
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(keys[a].Key, keys[b].Key) })
	for _, i := range order {
		m.deleted(b, keys[i], results[i], results[i].Err)
	}
}

// stepRelabel changes the tags of a version, which stays what it is.
func (m *model) stepRelabel() {
	b, key := m.anyBucket(), m.anyKey()
	var id VersionID
	if m.rng.IntN(2) == 0 {
		id = m.anyID(b, key)
	}
	label := fmt.Sprint(m.rng.IntN(5))
	o, err := m.SetTags(m.ctx, b.name, key, id, []Field{{"label", label}})
	v := b.at(key, wal.MaxLSN)
	if id != 0 {
		v = b.find(key, id, wal.MaxLSN)
	}
	switch {
	case id == 0 && v == nil:
		wantErr(m.t, err, ErrNoSuchKey)
	case v == nil:
		wantErr(m.t, err, ErrNoSuchVersion)
	case v.marker:
		wantErr(m.t, err, ErrMarker)
	default:
		m.check(err)
		if o.LSN != v.lsn {
			m.t.Fatalf("%q %v became version %d", key, v.id, o.LSN)
		}
		if v.label != label {
			b.relabel(key, v.id, label, o.At)
			m.saw(o.At)
		}
	}
}

// stepReadVersion reads a version by its id, as of some LSN.
func (m *model) stepReadVersion() {
	b, key := m.anyBucket(), m.anyKey()
	in := GetInput{At: m.anyLSN(b), Version: m.anyID(b, key)}
	want := b.find(key, in.Version, tip(in.At))
	o, body, err := m.get(b.name, key, in)
	var met *MarkerError
	switch {
	case want == nil:
		wantErr(m.t, err, ErrNoSuchVersion)
	case want.marker:
		if !errors.As(err, &met) || met.LSN != want.lsn || met.ID != want.id || !errors.Is(err, ErrMarker) {
			m.t.Fatalf("%s %q %v at %d: %v", b.name, key, in.Version, in.At, err)
		}
	default:
		m.check(err)
		m.wantVersion(b, key, in.At, o, body, want)
	}
}

// wantVersion compares what was read with what the model has.
func (m *model) wantVersion(b *naiveBucket, key string, at wal.LSN, o *Object, body []byte, want *naiveVersion) {
	m.t.Helper()
	id := want.id
	if id == NullVersion && b.state(tip(at)) == Unversioned {
		id = 0
	}
	label, user := "", ""
	if len(o.UserMeta) > 0 {
		user = o.UserMeta[0].Value
	}
	if len(o.Tags) > 0 {
		label = o.Tags[0].Value
	}
	if string(body) != string(want.body[o.Offset:o.Offset+o.Length]) || o.LSN != want.lsn || o.ID != id || o.ETag != want.tag || o.Headers.ContentType != want.typ ||
		len(o.UserMeta) > 1 || user != want.user || label != want.label || o.Checksum != want.sum {
		m.t.Fatalf("%s %q at %d: %d bytes of %+v, want version %v of %d", b.name, key, at, len(body), o.Entry, want.id, want.lsn)
	}
}

// stepListVersions lists versions in pages, and compares the whole.
func (m *model) stepListVersions() {
	b := m.anyBucket()
	in := ListVersionsInput{
		At: m.anyLSN(b), MaxKeys: 1 + m.rng.IntN(20), Delimiter: []string{"", "/"}[m.rng.IntN(2)], Prefix: []string{"", "a", "a/", "ü", "\xff"}[m.rng.IntN(5)],
	}
	if in.At == 0 {
		in.At = m.Store().Visible() // of all pages
	}
	var got []string
	first := in
	for {
		res, err := m.ListVersions(m.ctx, b.name, &in)
		m.check(err)
		for _, e := range res.Entries {
			got = append(got, fmt.Sprint(e.Key, " ", e.ID, e.LSN, e.Marker, e.Latest, e.Size, e.ETag))
		}
		got = append(got, res.Prefixes...)
		if !res.Truncated {
			break
		}
		in.KeyMarker, in.VersionMarker = res.NextKeyMarker, res.NextVersionMarker
	}
	var want []string
	seen := map[string]bool{}
	keys := make([]string, 0, len(b.keys))
	for key := range b.keys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, in.Prefix)
		vs := b.versions(key, in.At)
		if !ok || len(vs) == 0 {
			continue
		}
		if i := strings.Index(rest, in.Delimiter); i >= 0 && in.Delimiter != "" {
			if group := in.Prefix + rest[:i+1]; !seen[group] {
				seen[group] = true
				want = append(want, group)
			}
			continue
		}
		for i, v := range vs {
			want = append(want, fmt.Sprint(key, " ", v.id, v.lsn, v.marker, i == 0, uint64(len(v.body)), v.tag))
		}
	}
	if slices.Sort(got); !slices.Equal(got, sortedCopy(want)) {
		m.t.Fatalf("%s: versions by %+v:\n%s\nwant\n%s", b.name, first, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func sortedCopy(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}
