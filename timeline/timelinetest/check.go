package timelinetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// namespaces are those that the tests write.
var namespaces = []layers.Namespace{
	layers.NamespaceConfig, layers.NamespaceObjects, layers.NamespaceVersions,
	layers.NamespacePages, layers.NamespaceK2V, layers.NamespaceUploads,
}

// Checker compares what a store answers with an Oracle.
type Checker struct {
	Store  *timeline.Store
	Oracle *Oracle
	Rand   *rand.Rand
	Count  *Coverage
}

// Tree compares all names, buckets and snapshots.
func (c *Checker) Tree() error {
	infos := c.Store.Buckets("", "", 0)
	var names []string
	for i := range infos {
		names = append(names, infos[i].Name)
	}
	if want := c.Oracle.Names(); !slices.Equal(names, want) {
		return fmt.Errorf("buckets are %q, want %q", names, want)
	}
	for i := range infos {
		b := c.Oracle.names[infos[i].Name]
		if err := c.Oracle.checkInfo(b, &infos[i], true); err != nil {
			return err
		}
		got, err := c.Store.Bucket(b.name, 0)
		if err != nil {
			return err
		}
		if err := c.Oracle.checkInfo(b, &got, true); err != nil {
			return err
		}
	}
	if err := c.family(); err != nil {
		return err
	}
	if err := c.marked(); err != nil {
		return err
	}
	if err := c.snapshots(); err != nil {
		return err
	}
	return c.deleted()
}

// marked compares which buckets are marked by their attributes.
func (c *Checker) marked() error {
	var got, want []timeline.BucketID
	for _, b := range c.Oracle.names {
		if len(b.props.Attrs) > 0 && marks(b.props.Attrs) {
			want = append(want, b.id)
		}
	}
	slices.Sort(want)
	limit := len(want) % 3 // no random number: the runs of a seed stay what they were
	for after := timeline.BucketID(0); ; after = got[len(got)-1] {
		page := c.Store.Marked(after, limit)
		for i := range page {
			if err := c.Oracle.checkInfo(c.Oracle.names[page[i].Name], &page[i], true); err != nil {
				return err
			}
			got = append(got, page[i].Bucket)
		}
		if limit == 0 || len(page) < limit {
			break
		}
		c.Count.Add("page of marked buckets")
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("marked buckets are %v, want %v", got, want)
	}
	return nil
}

// family compares which buckets were forked from which.
func (c *Checker) family() error {
	forks := make(map[timeline.BucketID][]string)
	for _, name := range c.Oracle.Names() {
		b := c.Oracle.names[name]
		if b.source == nil {
			continue
		}
		forks[b.source.id] = append(forks[b.source.id], name)
		got, err := c.Store.Ancestry(name)
		if err != nil {
			return err
		}
		if err := b.checkAncestry(got); err != nil {
			return fmt.Errorf("ancestry of %q: %w", name, err)
		}
	}
	for id := range c.Oracle.buckets {
		var got []string
		limit := c.Rand.IntN(3)
		for after := ""; ; after = got[len(got)-1] {
			page := c.Store.Forks(id, "", after, limit)
			for i := range page {
				got = append(got, page[i].Name)
			}
			if limit == 0 || len(page) < limit {
				break
			}
			c.Count.Add("page of forks")
		}
		if !slices.Equal(got, forks[id]) {
			return fmt.Errorf("forks of bucket %d are %q, want %q", id, got, forks[id])
		}
	}
	return nil
}

// checkAncestry compares the way from b to its root. What was purged ends it.
func (b *bucket) checkAncestry(got []timeline.Ancestor) error {
	for ; b.source != nil; b = b.source {
		want := timeline.Ancestor{Bucket: b.source.id, BranchLSN: b.line.seen}
		if !b.source.deleted {
			want.Name = b.source.name
		}
		if len(got) == 0 && b.deleted {
			return nil
		}
		if len(got) == 0 || got[0] != want {
			return fmt.Errorf("%+v, want %+v first", got, want)
		}
		got = got[1:]
	}
	if len(got) != 0 {
		return fmt.Errorf("%+v is too much", got)
	}
	return nil
}

// deleted compares what can be undeleted.
func (c *Checker) deleted() error {
	got := make(map[timeline.BucketID]bool)
	for _, d := range c.Store.DeletedBuckets() {
		b := c.Oracle.buckets[d.Bucket]
		// A loose oracle may have dropped a timeline, at a later time than the store has come to.
		can := b != nil && (b.line.undeletable(c.Oracle.due) || c.Oracle.loose && c.Oracle.due < b.line.undo)
		if !can || !b.deleted || b.line.undo != d.Until {
			return fmt.Errorf("bucket %+v cannot be undeleted until then", d)
		}
		got[b.id] = true
	}
	for id, b := range c.Oracle.buckets {
		if b.deleted && b.line.undeletable(c.Oracle.due) && !got[id] {
			return fmt.Errorf("bucket %d (%q) can be undeleted, but is not among %v", id, b.name, got)
		}
	}
	return nil
}

// Everything compares the tree, and every living bucket at its tip, at its pins
// and leases, and at some LSNs of the past.
func (c *Checker) Everything(pastEach int) error {
	if err := c.Tree(); err != nil {
		return err
	}
	if err := c.Reads(pastEach); err != nil {
		return err
	}
	return c.Pinned()
}

// Reads compares every living bucket at its tip, at the oldest LSN that its
// window keeps and at some LSNs of the past.
func (c *Checker) Reads(pastEach int) error {
	for _, name := range c.Oracle.Names() {
		if err := c.Whole(name, 0); err != nil {
			return err
		}
		b := c.Oracle.names[name]
		if low := max(b.line.cutoff(c.Oracle.horizon), b.line.birth); low <= c.Oracle.Last() {
			if err := c.Whole(name, low); err != nil {
				return err
			}
		}
		for _, l := range b.earlier { // as it was when it was left, at least
			if l.dropped {
				continue
			}
			if err := errors.Join(c.Whole(name, max(l.cutoff(c.Oracle.horizon), l.birth)), c.Whole(name, l.left-1)); err != nil {
				return fmt.Errorf("before a move: %w", err)
			}
			c.Count.Add("read before a move")
		}
		for range pastEach {
			if err := c.Whole(name, c.SomeLSN(name)); err != nil {
				return err
			}
			if err := c.Whole(name, c.RetainedLSN(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Pinned compares what pins and leases keep, through a bucket that leads there.
func (c *Checker) Pinned() error {
	at := make(map[leaseKey]bool)
	for _, p := range c.Oracle.snaps {
		at[leaseKey{p.Timeline, p.LSN}] = true
	}
	for k, until := range c.Oracle.leases {
		if until >= c.Oracle.now {
			at[k] = true
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(at), func(a, b leaseKey) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.lsn, b.lsn)) }) {
		for _, name := range c.Oracle.Names() {
			if l, lsn := c.Oracle.names[name].resolve(k.lsn); l == nil || l.id != k.id || lsn != k.lsn {
				continue
			}
			if err := c.Whole(name, k.lsn); err != nil {
				return fmt.Errorf("pinned: %w", err)
			}
			c.Count.Add("read at a pin")
			break
		}
	}
	return nil
}

// RetainedLSN picks an LSN at which a bucket can be read; zero, the tip, if that
// is hard to find.
func (c *Checker) RetainedLSN(name string) wal.LSN {
	b := c.Oracle.names[name]
	l := b.line
	for range 6 {
		if at := c.SomeLSN(name); c.Oracle.readable(b, at, c.Oracle.horizon) == nil {
			return at
		}
	}
	var at []wal.LSN
	for _, p := range c.Oracle.snapshotsOf(c.Oracle.names[name].id) {
		if c.Oracle.readable(b, p.LSN, c.Oracle.horizon) == nil {
			at = append(at, p.LSN)
		}
	}
	if low := max(l.cutoff(c.Oracle.horizon), l.birth); low <= c.Oracle.Last() {
		at = append(at, low)
	}
	if len(at) == 0 {
		return 0
	}
	return at[c.Rand.IntN(len(at))]
}

// SomeLSN picks an LSN since a bucket was there: of a commit, next to one, or
// between two. It may be below the horizon.
func (c *Checker) SomeLSN(name string) wal.LSN {
	root := c.Oracle.names[name].root()
	all := c.Oracle.lsns
	from, _ := slices.BinarySearch(all, root)
	i := from + c.Rand.IntN(len(all)-from)
	switch at := all[i]; {
	case i > from && c.Rand.IntN(4) == 0:
		return at - 1
	case i > from && c.Rand.IntN(8) == 0:
		return all[i-1] + wal.LSN(c.Rand.Int64N(int64(at-all[i-1])))
	default:
		return at
	}
}

// Whole compares the whole content of a bucket at an LSN, bodies included.
func (c *Checker) Whole(name string, at wal.LSN) error {
	return c.at(name, at, func(v *timeline.View, l *line, lsn wal.LSN) error {
		for _, ns := range namespaces {
			if c.skips(ns, lsn) {
				continue
			}
			want := l.Scan(lsn, ns, "", "")
			if err := c.walk(v, ns, want, "", "", true); err != nil {
				return err
			}
			for i := range want {
				if err := c.point(v, l, lsn, pointKey{ns, want[i].Key}, true); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// skips tells where the past of a namespace is not defined: uploads have none.
func (c *Checker) skips(ns layers.Namespace, lsn wal.LSN) bool {
	return ns == layers.NamespaceUploads && lsn < c.Oracle.Last()
}

// Sample compares a few keys and at times a scan of a bucket at an LSN.
func (c *Checker) Sample(name string, at wal.LSN) error {
	return c.at(name, at, c.sampleView)
}

func (c *Checker) sampleView(v *timeline.View, l *line, lsn wal.LSN) error {
	for range 4 {
		ns := namespaces[c.Rand.IntN(len(namespaces))]
		if c.skips(ns, lsn) {
			continue
		}
		if err := c.point(v, l, lsn, pointKey{ns, randomKey(c.Rand, ns)}, c.Rand.IntN(2) == 0); err != nil {
			return err
		}
	}
	if c.Rand.IntN(3) != 0 {
		return nil
	}
	ns := namespaces[c.Rand.IntN(len(namespaces))]
	if c.skips(ns, lsn) {
		return nil
	}
	lo, hi := randomBounds(c.Rand, ns)
	if c.Rand.IntN(4) == 0 {
		lo = ""
	}
	if c.Rand.IntN(4) == 0 {
		hi = ""
	}
	return c.walk(v, ns, l.Scan(lsn, ns, lo, hi), lo, hi, false)
}

// at opens a bucket at an LSN and finds what the oracle has there.
func (c *Checker) at(name string, at wal.LSN, check func(v *timeline.View, l *line, lsn wal.LSN) error) error {
	b := c.Oracle.names[name]
	l, lsn := b.line, c.Oracle.Last()
	if at != 0 {
		l, lsn = b.resolve(at)
	}
	before := c.Store.CollectedLSN()
	v, err := c.Store.View(context.Background(), name, at)
	if err == nil {
		defer v.Close()
		want := error(nil)
		if at != 0 {
			want = c.Oracle.readable(b, at, before)
		}
		switch {
		case !meets(nil, want) && !c.Oracle.loose:
			err = fmt.Errorf("view opened at %d, want: %w", v.LSN(), want)
		case v.LSN() != lsn:
			err = fmt.Errorf("view reads at %d, want %d", v.LSN(), lsn)
		default:
			err = check(v, l, lsn)
		}
	} else if want := c.Oracle.readable(b, at, max(before, c.Store.CollectedLSN())); at != 0 && want != nil && meets(err, want) {
		c.Count.Add("read refused: " + want.Error())
		return nil
	}
	if err != nil {
		return fmt.Errorf("%q (timeline %d) at %d: %w", name, b.line.id, at, err)
	}
	return nil
}

// reader is a View or a Tx.
type reader interface {
	Get(ns layers.Namespace, key []byte) (layers.Record, error)
	Scan(ns layers.Namespace, lower, upper []byte) *layers.Scan
	Stack(ns layers.Namespace, key []byte, dst []layers.Record) ([]layers.Record, error)
}

// point compares one key, with its body or without.
func (c *Checker) point(v reader, l *line, lsn wal.LSN, k pointKey, body bool) error {
	want, owner, ok := l.Get(lsn, k)
	got, err := v.Get(k.ns, []byte(k.key))
	switch {
	case !ok && errors.Is(err, timeline.ErrNotFound):
		c.Count.Add("read missing key")
		return nil
	case err != nil && ok:
		return fmt.Errorf("get %02x %q: %w; want %s of timeline %d", byte(k.ns), k.key, err, want.brief(), owner.id)
	case err != nil:
		return fmt.Errorf("get %02x %q: %w; want none", byte(k.ns), k.key, err)
	case !ok:
		return fmt.Errorf("get %02x %q: found %.40q at %d of timeline %d, want none", byte(k.ns), k.key, got.Meta, got.LSN, got.Key.Timeline())
	}
	c.Count.Add("read key")
	if owner != l {
		c.Count.Add("read key of an ancestor")
	}
	if err := c.record(&got, k, want, owner); err != nil {
		return fmt.Errorf("get %w", err)
	}
	if k.ns == layers.NamespacePages {
		if err := c.stack(v, l, lsn, k, body); err != nil {
			return fmt.Errorf("stack of %q: %w", k.key, err)
		}
	}
	if body {
		return c.body(&got, k, want)
	}
	return nil
}

// stack compares all that a page consists of.
func (c *Checker) stack(v reader, l *line, lsn wal.LSN, k pointKey, body bool) error {
	want := l.Stack(lsn, k)
	got, err := v.Stack(k.ns, []byte(k.key), nil)
	if err != nil {
		return err
	}
	if len(got) != len(want) {
		return fmt.Errorf("%s, want %s", briefStack(got), briefFound(want))
	}
	c.Count.Max("deepest stack", int64(len(want)))
	for i := range want {
		if err := c.record(&got[i], k, want[i].Version, want[i].owner); err != nil {
			return err
		}
		if body {
			if err := c.body(&got[i], k, want[i].Version); err != nil {
				return err
			}
		}
		if want[i].owner != want[0].owner {
			c.Count.Add("read a stack across a branch point")
		}
	}
	return nil
}

func briefStack(rs []layers.Record) string {
	var s strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&s, "[kind %d at %d of timeline %d, death %d]", r.Kind, r.LSN, r.Key.Timeline(), r.Death)
	}
	return s.String()
}

func briefFound(fs []Found) string {
	var s strings.Builder
	for _, f := range fs {
		fmt.Fprintf(&s, "[kind %d at %d of timeline %d]", f.Kind, f.LSN, f.owner.id)
	}
	return s.String()
}

func (v *Version) brief() string { return fmt.Sprintf("%.40q at %d", v.Meta, v.LSN) }

// record compares all of a record but the bytes of its body.
func (c *Checker) record(got *layers.Record, k pointKey, want Version, owner *line) error {
	// A rollup moves it to a descendant.
	key := layers.MakeKey(owner.id, k.ns, []byte(k.key))
	if got.Kind != want.Kind || !bytes.Equal(got.Key.Suffix(), key.Suffix()) || !c.Oracle.descends(got.Key.Timeline(), owner) || got.LSN != want.LSN || string(got.Meta) != want.Meta {
		return fmt.Errorf("%02x %q: kind %d of %s, %.40q at %d; want %s of timeline %d",
			byte(k.ns), k.key, got.Kind, got.Key, got.Meta, got.LSN, want.brief(), owner.id)
	}
	n, err := got.Body.Len()
	if err != nil {
		return fmt.Errorf("%s: %w", got.Key, err)
	}
	if int64(n) != want.Body.Len() {
		return fmt.Errorf("%s at %d: body of %d bytes, want %d", got.Key, got.LSN, n, want.Body.Len())
	}
	return nil
}

// descends reports whether a timeline is l or a descendant of it.
func (o *Oracle) descends(id layers.TimelineID, l *line) bool {
	n := o.timelines[id]
	for n != nil && n != l {
		n = n.ancestor
	}
	return n != nil
}

// body compares the bytes of a body, read in one of the ways there are.
func (c *Checker) body(got *layers.Record, k pointKey, want Version) error {
	if err := c.readBody(got, want.Body); err != nil {
		return fmt.Errorf("body of %s at %d: %w", got.Key, got.LSN, err)
	}
	return nil
}

func (c *Checker) readBody(got *layers.Record, want Content) error {
	switch got.Body.Tag() {
	case layers.BodyEmpty:
		return want.MatchBytes(nil)
	case layers.BodyInline:
		c.Count.Add("read inline body")
		return want.MatchBytes(got.Body.Inline())
	case layers.BodySpilled:
		c.Count.Add("read spilled body")
	default:
		c.Count.Add("read extents body")
	}
	ext, err := c.Store.Values().LoadExtents(got.Body, nil)
	if err != nil {
		return err
	}
	if len(ext) > 1 {
		c.Count.Add("read body of several extents")
	}
	if c.Rand.IntN(4) == 0 {
		var all []byte
		for i := range ext {
			if all, err = c.Store.Values().ReadAll(all, ext[i]); err != nil {
				return err
			}
		}
		return want.MatchBytes(all)
	}
	off, n := int64(0), want.Len()
	if n > 1 && c.Rand.IntN(4) == 0 {
		c.Count.Add("read range of a body")
		off = c.Rand.Int64N(n)
		n = 1 + c.Rand.Int64N(n-off)
	}
	r, err := c.Store.Values().NewReader(ext, uint64(off), uint64(n))
	if err != nil {
		return err
	}
	return errors.Join(want.Slice(off, n).Match(onlyReader{r}), r.Close())
}

// onlyReader hides WriteTo.
type onlyReader struct{ io.Reader }

// scan is what walk needs of a layers.Scan.
type scan interface {
	First() bool
	Last() bool
	Next() bool
	Prev() bool
	SeekGE(user []byte) bool
	SeekLT(user []byte) bool
	Record() *layers.Record
	Err() error
	Close() error
}

// walk compares a scan of [lo, hi) with what must be found: forward and
// backward in full, or with whole unset by a random walk.
func (c *Checker) walk(v reader, ns layers.Namespace, want []Found, lo, hi string, whole bool) error {
	var lower, upper []byte
	if lo != "" {
		lower = []byte(lo)
	}
	if hi != "" {
		upper = []byte(hi)
	}
	s := v.Scan(ns, lower, upper)
	w := walker{c: c, s: s, ns: ns, want: want}
	var err error
	if whole {
		err = w.forward()
		if err == nil && c.Rand.IntN(2) == 0 {
			err = w.backward()
		}
	} else {
		err = w.random()
	}
	if err == nil {
		err = s.Err()
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("scan %02x [%q, %q)%s: %w", byte(ns), lo, hi, w.steps.String(), err)
	}
	return nil
}

type walker struct {
	c     *Checker
	s     scan
	ns    layers.Namespace
	want  []Found
	steps strings.Builder
}

// expect compares where the scan stands with want[i].
func (w *walker) expect(i int, ok bool) error {
	inside := i >= 0 && i < len(w.want)
	if !ok {
		if err := w.s.Err(); err != nil {
			return err
		}
		if inside {
			return fmt.Errorf("ended, want %q, %s", w.want[i].Key, w.want[i].brief())
		}
		return nil
	}
	got := w.s.Record()
	if !inside {
		return fmt.Errorf("found %s at %d, want the end", got.Key, got.LSN)
	}
	f := &w.want[i]
	return w.c.record(got, pointKey{w.ns, f.Key}, f.Version, f.owner)
}

func (w *walker) forward() error {
	w.c.Count.Add("scan forward")
	w.steps.WriteString(" forward")
	ok := w.s.First()
	for i := range w.want {
		if err := w.expect(i, ok); err != nil {
			return err
		}
		ok = w.s.Next()
	}
	return w.expect(len(w.want), ok)
}

func (w *walker) backward() error {
	w.c.Count.Add("scan backward")
	w.steps.WriteString(" backward")
	ok := w.s.Last()
	for i := len(w.want) - 1; i >= 0; i-- {
		if err := w.expect(i, ok); err != nil {
			return err
		}
		ok = w.s.Prev()
	}
	return w.expect(-1, ok)
}

// random seeks and turns around.
func (w *walker) random() error {
	w.c.Count.Add("scan at random")
	i := -1
	for step := range 3 + w.c.Rand.IntN(12) {
		on := i >= 0 && i < len(w.want)
		var ok bool
		switch n := w.c.Rand.IntN(10); {
		case step > 0 && on && n < 4:
			w.steps.WriteString(" next")
			ok, i = w.s.Next(), i+1
		case step > 0 && on && n < 7:
			w.steps.WriteString(" prev")
			ok, i = w.s.Prev(), i-1
		case n == 7:
			w.steps.WriteString(" first")
			ok, i = w.s.First(), 0
		case n == 8:
			w.steps.WriteString(" last")
			ok, i = w.s.Last(), len(w.want)-1
		default:
			k := randomKey(w.c.Rand, w.ns)
			if w.c.Rand.IntN(2) == 0 {
				k = probe(w.c.Rand, k)
			}
			at, _ := slices.BinarySearchFunc(w.want, k, func(f Found, k string) int { return strings.Compare(f.Key, k) })
			if w.c.Rand.IntN(2) == 0 {
				fmt.Fprintf(&w.steps, " ge(%.20q)", k)
				ok, i = w.s.SeekGE([]byte(k)), at
			} else {
				fmt.Fprintf(&w.steps, " lt(%.20q)", k)
				ok, i = w.s.SeekLT([]byte(k)), at-1
			}
		}
		if err := w.expect(i, ok); err != nil {
			return err
		}
	}
	return nil
}

// digest reads a whole scan into a checksum of keys, LSNs and metas.
func digest(s scan) (uint64, error) {
	h := fnv.New64a()
	for ok := s.First(); ok; ok = s.Next() {
		r := s.Record()
		digestOne(h, string(r.Key.User()), r.LSN, string(r.Meta))
	}
	return h.Sum64(), s.Err()
}

func digestOne(w io.Writer, key string, lsn wal.LSN, meta string) {
	fmt.Fprintf(w, "%d:%s %d %d:%s\n", len(key), key, lsn, len(meta), meta)
}

// digestOf is the digest that a scan of what was found must have.
func digestOf(found []Found) uint64 {
	h := fnv.New64a()
	for i := range found {
		digestOne(h, found[i].Key, found[i].LSN, found[i].Meta)
	}
	return h.Sum64()
}
