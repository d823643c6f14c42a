package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"stemma/internal/seeds"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// merging is a bucket and a fork of it, which change keys of their own and are merged both ways.
type merging struct {
	*harness
	t     *testing.T
	fs    *storefs.MemFS
	tune  []func(*timeline.Options)
	rng   *rand.Rand
	sides map[string]*mergeSide
}

// mergeSide is what one of the two holds.
type mergeSide struct {
	name    string
	bodies  map[string][]byte
	changed map[string]bool // since the other side has had it
	past    []mergePast
}

type mergePast struct {
	lsn    wal.LSN
	bodies map[string][]byte
}

func (m *merging) did(s *mergeSide, lsn wal.LSN) {
	s.past = append(s.past, mergePast{lsn, maps.Clone(s.bodies)})
}

// change does something to a key that the other side has not changed.
func (m *merging) change(s, other *mergeSide) {
	m.t.Helper()
	key := fmt.Sprint("k", m.rng.IntN(12))
	if other.changed[key] {
		return
	}
	body, there := s.bodies[key]
	var lsn wal.LSN
	switch what := m.rng.IntN(10); {
	case what == 0 && there:
		r, err := m.Delete(m.ctx, s.name, DeleteKey{Key: key})
		if err != nil {
			m.t.Fatal(err)
		}
		lsn = r.LSN
		delete(s.bodies, key)
	case what <= 2:
		body = random(m.rng.Uint64(), m.rng.IntN(100<<10))
		lsn, s.bodies[key] = m.put(s.name, key, body).LSN, body
	case what == 3 && there:
		to := fmt.Sprint("k", m.rng.IntN(12))
		if to == key || other.changed[to] {
			return
		}
		var err error
		if lsn, err = m.Rename(m.ctx, s.name, to, &RenameInput{Source: key}); err != nil {
			m.t.Fatal(err)
		}
		s.bodies[to], s.changed[to] = body, true
		delete(s.bodies, key)
	default:
		in := &PageInput{Create: &PageCreate{}, PageBytes: MinPageBytes << (2 * m.rng.IntN(3)), Ops: randomOps(m.rng, len(body))}
		r, err := m.WritePages(m.ctx, s.name, key, in)
		if err != nil {
			m.t.Fatal(err)
		}
		lsn, s.bodies[key] = r.LSN, inPlace(body, in.Ops)
	}
	s.changed[key] = true
	m.did(s, lsn)
}

// bring has to take what from has changed, by a merge or a rebase.
func (m *merging) bring(from, to *mergeSide) {
	m.t.Helper()
	run := m.Merge
	if to.name != "home" {
		run = m.Rebase
	}
	versions := m.versions(to.name)
	r, err := run(m.ctx, &MergeInput{Source: Point{Bucket: from.name}, Target: to.name})
	if err != nil {
		m.t.Fatal(err)
	}
	if r.Conflicts != 0 {
		m.t.Errorf("%d conflicts from %s to %s", r.Conflicts, from.name, to.name)
	}
	for key := range from.changed {
		if body, there := from.bodies[key]; there {
			to.bodies[key] = body
		} else {
			delete(to.bodies, key)
		}
	}
	from.changed = map[string]bool{}
	m.did(to, r.LSN)
	m.wantSide(to)
	for key := range to.bodies {
		a, err := m.Head(m.ctx, from.name, key, &GetInput{})
		if err != nil {
			continue // it is the target's own
		}
		b, err := m.Head(m.ctx, to.name, key, &GetInput{})
		if err != nil {
			m.t.Fatal(err)
		}
		if bytes.Equal(from.bodies[key], to.bodies[key]) && !to.changed[key] && a.ETag != b.ETag {
			m.t.Errorf("%s has ETag %v in %s, %v in %s", key, a.ETag, from.name, b.ETag, to.name)
		}
	}
	// What the target keeps of versions it has as before.
	now := m.versions(to.name)
	for id, was := range versions {
		if is, there := now[id]; (!there || !bytes.Equal(is, was)) && id.id != NullVersion {
			m.t.Errorf("version %v of %q in %s: there %v, or changed by a merge", id.id, id.key, to.name, there)
		}
	}
}

type versionName struct {
	key string
	id  VersionID
}

// versions returns the versions of a bucket that have ids.
func (m *merging) versions(bucket string) map[versionName][]byte {
	m.t.Helper()
	all := map[versionName][]byte{}
	list, err := m.ListVersions(m.ctx, bucket, &ListVersionsInput{MaxKeys: 1000})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range list.Entries {
		if e.Marker || e.ID == NullVersion {
			continue
		}
		o, body, err := m.get(bucket, e.Key, GetInput{Version: e.ID})
		if err != nil || o.ETag != e.ETag || uint64(len(body)) != e.Size {
			m.t.Fatalf("version %v of %q: %v, %v", e.ID, e.Key, o, err)
		}
		all[versionName{e.Key, e.ID}] = body
	}
	return all
}

func (m *merging) wantSide(s *mergeSide) {
	m.t.Helper()
	for i := range 12 {
		key := fmt.Sprint("k", i)
		if body, there := s.bodies[key]; there {
			m.want(s.name, key, 0, body)
		} else {
			m.wantAbsent(s.name, key, 0)
		}
	}
	m.noOrphans(s.name)
}

// wantPast compares some moments of both sides.
func (m *merging) wantPast() {
	m.t.Helper()
	for _, s := range m.sides {
		for range min(4, len(s.past)) {
			p := s.past[m.rng.IntN(len(s.past))]
			for key, body := range p.bodies {
				m.want(s.name, key, p.lsn, body)
			}
		}
	}
}

// Two sides change objects, in place and otherwise, and are merged both ways again and again: each has what it should have,
// and had, at every LSN, with flushes, collections and crashes between; versions stay.
func TestMergePages(t *testing.T) {
	skipLong(t)
	gone := func(o *timeline.Options) { o.Window, o.HorizonEvery = -1, time.Millisecond }
	cases := []struct {
		name       string
		versioning Versioning
		tune       []func(*timeline.Options)
		keeps      bool
		encrypted  bool
	}{
		{"plain", Unversioned, nil, true, false},
		{"staged", Unversioned, []func(*timeline.Options){small, staged}, true, false},
		{"versions", Enabled, []func(*timeline.Options){small}, true, false},
		{"versions staged", Enabled, []func(*timeline.Options){small, staged}, true, false},
		{"suspended", Suspended, []func(*timeline.Options){small, staged}, true, false},
		{"collected", Unversioned, []func(*timeline.Options){small, staged, gone}, false, false},
		{"versions collected", Enabled, []func(*timeline.Options){small, gone}, false, false},
		{"encrypted", Unversioned, []func(*timeline.Options){small, staged}, true, true},
		{"encrypted versions", Enabled, []func(*timeline.Options){small, staged}, true, true},
		{"encrypted suspended collected", Suspended, []func(*timeline.Options){small, gone}, false, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := &merging{t: t, fs: storefs.NewMem(), tune: c.tune, rng: rand.New(rand.NewPCG(seeds.For(t), 2)), sides: map[string]*mergeSide{}}
			m.harness = open(t, m.fs, c.tune...)
			m.o.EncryptAll = c.encrypted
			m.bucket("home")
			if c.versioning == Suspended {
				m.versioning("home", Enabled)
			}
			m.versioning("home", c.versioning)
			for _, name := range []string{"home", "dev"} {
				m.sides[name] = &mergeSide{name: name, bodies: map[string][]byte{}, changed: map[string]bool{}}
			}
			home, dev := m.sides["home"], m.sides["dev"]
			nobody := &mergeSide{}
			for range 25 {
				m.change(home, nobody)
			}
			m.fork("home", "dev")
			dev.bodies, home.changed = maps.Clone(home.bodies), map[string]bool{}
			for range 12 {
				for range m.rng.IntN(12) {
					m.change(dev, home)
				}
				for range m.rng.IntN(6) {
					m.change(home, dev)
				}
				switch m.rng.IntN(6) {
				case 0:
					m.flush()
				case 1:
					if _, err := m.store.CollectFull(m.ctx); err != nil {
						t.Fatal(err)
					}
				case 2:
					m.fs = m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: m.rng.IntN(101), RNG: m.rng})
					m.harness = open(t, m.fs, c.tune...)
					m.o.EncryptAll = c.encrypted
				}
				if m.rng.IntN(3) > 0 {
					m.bring(dev, home)
				} else {
					m.bring(home, dev)
				}
				m.wantSide(home)
				m.wantSide(dev)
				if c.keeps {
					m.wantPast()
				}
			}
		})
	}
}

func (h *harness) write(bucket, key string, off uint64, data []byte) *PageResult {
	h.t.Helper()
	r, err := h.WritePages(h.ctx, bucket, key, &PageInput{Ops: []PageOp{{Kind: PageWrite, Off: off, Data: data}}, Create: &PageCreate{}})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// A merge of what both sides have of one file costs what was written; the file stays the same to who writes it.
func TestMergePagesCost(t *testing.T) {
	h := start(t)
	h.write("home", "k", 0, random(1, 4<<20))
	body := random(1, 4<<20)
	h.fork("home", "dev")
	h.write("dev", "k", 1<<20, []byte("page"))
	h.write("dev", "k", 2<<20, random(2, 64<<10))
	copy(body[1<<20:], "page")
	copy(body[2<<20:], random(2, 64<<10))
	before, err := h.Head(h.ctx, "home", "k", &GetInput{})
	if err != nil {
		t.Fatal(err)
	}
	streamed := h.StreamedBytes()
	r, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home"})
	if err != nil || r.Put != 1 || r.Conflicts != 0 {
		t.Fatal(r, err)
	}
	o := h.want("home", "k", 0, body)
	if o.File() != before.File() {
		t.Error("the file is another one")
	}
	if n := h.StreamedBytes() - streamed; n != 0 {
		t.Errorf("%d bytes were written", n)
	}
	c, err := h.ChangedPages(h.ctx, "home", "k", before.LSN, r.LSN, 0)
	if err != nil || c.Whole || !slices.Equal(c.Ranges, []PageRange{{1 << 20, 4 << 10}, {2 << 20, 64 << 10}}) {
		t.Errorf("%+v, %v", c, err)
	}
	// Nothing is left to merge, and the other way all is the fork's own.
	if r, err = h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home"}); err != nil || r.Committed {
		t.Errorf("%+v, %v", r, err)
	}
	// Picked, it is the same, and no conflict.
	p, err := h.CherryPick(h.ctx, &PickInput{Source: Point{Bucket: "dev"}, Target: "home", Keys: []string{"k"}})
	if err != nil || p.Same != 1 || p.Conflicts != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Both sides have changed the object in place: a conflict, which somebody wins, and a dry run tells.
func TestMergePagesConflict(t *testing.T) {
	for _, v := range []Versioning{Unversioned, Enabled} {
		for _, strategy := range []MergeStrategy{MergeFail, MergeSourceWins, MergeTargetWins} {
			t.Run(fmt.Sprint(v, strategy), func(t *testing.T) {
				h := start(t, small, staged)
				h.versioning("home", v)
				base := random(1, 300<<10)
				h.put("home", "k", base)
				h.write("home", "k", 0, []byte("both"))
				h.fork("home", "dev")
				h.write("home", "k", 100<<10, []byte("home"))
				h.write("dev", "k", 200<<10, []byte("dev"))
				h.write("dev", "k", 400<<10, []byte("dev"))
				copy(base, "both")
				home, dev := slices.Clone(base), append(slices.Clone(base), make([]byte, 100<<10+3)...)
				copy(home[100<<10:], "home")
				copy(dev[200<<10:], "dev")
				copy(dev[400<<10:], "dev")
				mine := h.newest("home", "k")
				in := MergeInput{Source: Point{Bucket: "dev"}, Target: "home", Strategy: strategy, DryRun: true}
				r, err := h.Merge(h.ctx, &in)
				if err != nil || r.Conflicts != 1 || len(r.Entries) != 1 || r.Entries[0].Source.Size != uint64(len(dev)) || r.Committed {
					t.Fatalf("dry run: %+v, %v", r, err)
				}
				h.want("home", "k", 0, home)
				in.DryRun = false
				_, err = h.Merge(h.ctx, &in)
				switch strategy {
				case MergeFail:
					if _, ok := err.(interface{ Unwrap() error }); !ok {
						t.Fatal(err)
					}
					h.want("home", "k", 0, home)
					h.noOrphans("home")
					return
				case MergeSourceWins:
					home = dev
				}
				if err != nil {
					t.Fatal(err)
				}
				h.want("home", "k", 0, home)
				h.noOrphans("home")
				if v == Enabled {
					was := append([]byte{}, base...)
					copy(was[100<<10:], "home")
					h.wantBody("home", "k", mine, string(was))
				}
			})
		}
	}
}

// A revert, and an undelete, bring back what was written in place, of whatever size, where that was deleted, replaced and
// written on.
func TestRevertAndUndeletePages(t *testing.T) {
	for i, v := range []Versioning{Unversioned, Enabled, Suspended, Unversioned, Enabled, Suspended} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			h := start(t, small, staged)
			h.o.EncryptAll = i >= 3
			if v == Suspended {
				h.versioning("home", Enabled)
			}
			h.versioning("home", v)
			bodies := map[string][]byte{}
			for i, key := range []string{"gone", "on", "other", "kept"} {
				bodies[key] = random(uint64(i), 300<<10)
				h.put("home", key, bodies[key])
				h.write("home", key, 5000, []byte("a delta"))
				h.write("home", key, 200<<10, random(9, 40<<10))
				copy(bodies[key][5000:], "a delta")
				copy(bodies[key][200<<10:], random(9, 40<<10))
			}
			at := h.store.Visible()
			h.write("home", "on", 100<<10, []byte("more"))
			h.write("home", "on", 350<<10, []byte("more"))
			h.put("home", "other", []byte("other"))
			h.del("home", "gone")
			r, err := h.Revert(h.ctx, &RevertInput{Bucket: "home", From: at})
			if err != nil || r.Put != 3 {
				t.Fatalf("%+v, %v", r, err)
			}
			for key, body := range bodies {
				h.want("home", key, 0, body)
			}
			h.noOrphans("home")
			for key := range bodies {
				h.del("home", key)
			}
			h.noOrphans("home")
			u, err := h.Undelete(h.ctx, "home", slices.Sorted(maps.Keys(bodies)), false)
			if err != nil || len(u.Objects) != 4 || !u.Committed {
				t.Fatalf("%+v, %v", u, err)
			}
			for key, body := range bodies {
				h.want("home", key, 0, body)
			}
			h.noOrphans("home")
			h.write("home", "gone", 0, []byte("and on"))
			copy(bodies["gone"], "and on")
			h.want("home", "gone", 0, bodies["gone"])
			h.want("home", "kept", at, bodies["kept"])
			if h.store.Metrics().AdoptedBytes == 0 {
				t.Error("nothing was staged")
			}
		})
	}
}

// A fork of strangers, and of a bucket that has no such objects yet: pick into another bucket, and merge of a first one.
func TestMergeFirstPages(t *testing.T) {
	h := start(t)
	h.bucket("other")
	body := random(1, 200<<10)
	h.fork("home", "dev")
	h.write("dev", "k", 0, body)
	for range 2 {
		if _, err := h.CherryPick(h.ctx, &PickInput{Source: Point{Bucket: "dev"}, Target: "other", Keys: []string{"k"}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.DeleteBucket(h.ctx, "dev", timeline.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.CollectFull(h.ctx); err != nil {
		t.Fatal(err)
	}
	for _, bucket := range []string{"home", "other"} {
		h.want(bucket, "k", 0, body)
		h.write(bucket, "k", 1000, []byte("on"))
		h.put(bucket, "k", []byte("replaced"))
		h.noOrphans(bucket)
	}
}

// One commit copies and renames what was written in place, whatever becomes of it there, and where the bucket keeps
// versions these keep what they were.
func TestCommitPages(t *testing.T) {
	for i, v := range []Versioning{Unversioned, Enabled, Suspended, Unversioned, Enabled, Suspended} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			h := start(t, small)
			h.o.EncryptAll = i >= 3
			h.bucket("other")
			if v == Suspended {
				h.versioning("home", Enabled)
				h.write("home", "d/versioned", 1<<20, []byte("it has an id"))
			}
			h.versioning("home", v)
			body := func(key string) []byte {
				b := make([]byte, 150<<10)
				copy(b[50<<10:], key)
				copy(b[70<<10:], random(3, 60<<10))
				return b[:130<<10]
			}
			for _, key := range []string{"a", "b", "c", "d/1", "d/2"} {
				h.write("home", key, 50<<10, []byte(key))
				h.write("home", key, 70<<10, random(3, 60<<10))
			}
			h.write("other", "k", 70<<10, random(3, 60<<10))
			h.write("other", "k", 50<<10, []byte("k"))
			at, ids := h.store.Visible(), map[string]VersionID{}
			if v == Enabled {
				for _, key := range []string{"a", "b", "c", "d/1"} {
					ids[key] = h.newest("home", key)
				}
			}
			h.write("other", "k", 0, []byte("later"))
			r, err := h.Commit(h.ctx, "home", &CommitInput{Ops: []CommitOp{
				{Kind: CommitRename, Source: "a", Key: "b"},
				{Kind: CommitRename, Source: "b", Key: "a"},
				{Kind: CommitCopy, Source: "a", Key: "a2"},
				{Kind: CommitRename, Source: "c", Key: "c2"},
				{Kind: CommitPut, Key: "c", Data: []byte("c anew")},
				{Kind: CommitRenamePrefix, Source: "d/", Key: "e/"},
				{Kind: CommitCopy, Source: "k", SrcBucket: "other", SrcAt: at, Key: "k"},
			}})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]byte{
				"a": body("b"), "b": body("a"), "a2": body("a"), "c2": body("c"), "c": []byte("c anew"), "e/1": body("d/1"), "e/2": body("d/2"), "k": body("k"),
			}
			check := func() {
				t.Helper()
				for key, body := range want {
					h.want("home", key, 0, body)
				}
				h.wantAbsent("home", "d/1", 0)
				h.noOrphans("home")
				for key, id := range ids {
					h.wantBody("home", key, id, string(body(key)))
				}
				h.want("home", "a", at, body("a"))
			}
			check()
			for i, key := range []string{"b", "a", "a2", "c2"} {
				o, err := h.Head(h.ctx, "home", key, &GetInput{})
				if err != nil || o.ETag != r.Ops[i].Entry.ETag || o.LSN != r.LSN {
					t.Errorf("%q: %+v, %v, want %+v", key, o, err, r.Ops[i].Entry)
				}
			}
			if v == Suspended {
				h.want("home", "e/versioned", 0, append(make([]byte, 1<<20), "it has an id"...))
			}
			// Each is a file of its own from now on.
			for key, body := range want {
				h.write("home", key, 10, []byte("on"))
				copy(body[min(len(body), 10):], "on")
				if len(body) < 12 {
					want[key] = append(make([]byte, 0), "c anew\x00\x00\x00\x00on"...)
				}
			}
			check()
			if _, err := h.Rename(h.ctx, "home", "moved", &RenameInput{Source: "a2"}); err != nil {
				t.Fatal(err)
			}
			want["moved"] = want["a2"]
			delete(want, "a2")
			check()
			if _, err := h.Commit(h.ctx, "other", &CommitInput{Ops: []CommitOp{{Kind: CommitCopy, Source: "moved", SrcBucket: "home", Key: "new"}}}); err != nil {
				t.Fatal(err)
			}
			h.want("other", "new", 0, want["moved"])
		})
	}
}

// A commit brings the first object that is written in place to a bucket.
func TestCommitFirstPages(t *testing.T) {
	h := start(t)
	h.bucket("other")
	h.write("home", "k", 5000, []byte("x"))
	if _, err := h.Commit(h.ctx, "other", &CommitInput{Ops: []CommitOp{{Kind: CommitCopy, Source: "k", SrcBucket: "home", Key: "k"}}}); err != nil {
		t.Fatal(err)
	}
	h.want("other", "k", 0, append(make([]byte, 5000), 'x'))
	h.put("other", "k", []byte("y"))
	h.noOrphans("other")
}

// What a fork has made is noted anew by the first merge; what it writes on after that costs what it writes, however often that is
// merged, unless the target has written, too.
func TestMergePagesAgain(t *testing.T) {
	h := start(t)
	h.fork("home", "dev")
	body := random(1, 4<<20)
	for off := 0; off < len(body); off += 64 << 10 {
		h.write("dev", "k", uint64(off), body[off:off+64<<10])
	}
	merge := func(pages int) {
		t.Helper()
		before, err := h.store.View(h.ctx, "home", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		if _, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home", Strategy: MergeSourceWins}); err != nil {
			t.Fatal(err)
		}
		h.want("home", "k", 0, body)
		h.noOrphans("home")
		after, err := h.store.View(h.ctx, "home", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer after.Close()
		c := after.Changes(layers.NamespacePages, nil, nil, before.LSN())
		n := 0
		for ok := c.First(); ok; ok = c.Next() {
			n++
		}
		if err := errors.Join(c.Err(), c.Close()); err != nil {
			t.Fatal(err)
		}
		if n != pages {
			t.Errorf("%d records of pages were written, want %d", n, pages)
		}
	}
	change := func(bucket string, off uint64, what string) {
		h.write(bucket, "k", off, []byte(what))
		if bucket == "dev" {
			copy(body[off:], what)
		}
	}
	merge(len(body) >> 12)
	for i := range 3 {
		change("dev", uint64(i)<<20+4090, "over two pages")
		change("dev", uint64(i)<<20+70_000, "one")
		if _, err := h.SetTags(h.ctx, "home", "k", 0, []Field{{"k", fmt.Sprint(i)}}); err != nil { // what the bytes are is not changed
			t.Fatal(err)
		}
		merge(3)
	}
	if _, err := h.WritePages(h.ctx, "dev", "k", &PageInput{Ops: []PageOp{{Kind: PageResize, Off: 1 << 20}}}); err != nil {
		t.Fatal(err)
	}
	body = body[:1<<20]
	merge(3 << 8)
	change("home", 5, "lost")
	change("dev", 100_000, "won")
	merge(1 << 8) // anew
}

// Parts that are copied of what has holes do not wait for each other's writers, however many there are at once.
func TestCopyPartsOfHoles(t *testing.T) {
	h := start(t)
	h.write("home", "k", 100, []byte("some"))
	h.write("home", "k", 2<<20, []byte("more"))
	want := make([]byte, 2<<20+4)
	copy(want[100:], "some")
	copy(want[2<<20:], "more")
	ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
	defer cancel()
	var group errgroup.Group
	for i := range 100 {
		key := fmt.Sprint("copy", i)
		u := h.upload("home", key, UploadInput{})
		group.Go(func() error {
			p, err := h.CopyPart(ctx, "home", key, u.ID, 1, &CopyPartInput{SrcBucket: "home", SrcKey: "k"})
			if err == nil {
				_, err = h.CompleteUpload(ctx, "home", key, u.ID, &CompleteInput{Parts: []CompletePart{{Number: 1, ETag: p.ETag.String()}}, Size: -1})
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		h.want("home", fmt.Sprint("copy", i), 0, want)
	}
}

// Versions that a fork has made in place and then replaced come along with their ids and ETags, once; what both had before stays one.
func TestMergeVersionsOfPages(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprint(encrypted), func(t *testing.T) {
			h := start(t, small, staged)
			h.o.EncryptAll = encrypted
			h.versioning("home", Enabled)
			first, second := random(1, 200<<10), random(2, 300<<10)
			h.write("home", "k", 0, first)
			common := h.newest("home", "k")
			h.fork("home", "dev")
			h.put("dev", "k", []byte("replaced"))
			h.write("dev", "k", 0, second) // it takes the place of what was put
			h.write("dev", "k", 7, []byte("a delta"))
			copy(second[7:], "a delta")
			made := h.newest("dev", "k")
			h.put("dev", "k", []byte("the last"))
			tag := func(bucket string, id VersionID) ETag {
				t.Helper()
				o, err := h.Head(h.ctx, bucket, "k", &GetInput{Version: id})
				if err != nil {
					t.Fatal(err)
				}
				return o.ETag
			}
			merge := func() {
				t.Helper()
				if _, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home"}); err != nil {
					t.Fatal(err)
				}
				h.noOrphans("home")
				h.wantBody("home", "k", made, string(second))
				h.wantBody("home", "k", common, string(first))
				if a, b := tag("home", made), tag("dev", made); a != b {
					t.Errorf("ETag %v, want %v", a, b)
				}
			}
			merge()
			h.want("home", "k", 0, []byte("the last"))
			if _, err := h.SetTags(h.ctx, "dev", "k", made, []Field{{"k", "v"}}); err != nil {
				t.Fatal(err)
			}
			h.del("dev", "k")
			merge()
			h.wantAbsent("home", "k", 0)
			o, err := h.Head(h.ctx, "home", "k", &GetInput{Version: made})
			if err != nil || len(o.Tags) != 1 {
				t.Errorf("%+v, %v", o, err)
			}
			h.delete("dev", DeleteKey{Key: "k", Version: made})
			if _, err := h.DeleteBucket(h.ctx, "dev", timeline.DeleteOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			h.wantBody("home", "k", made, string(second))
		})
	}
}
