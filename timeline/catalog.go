package timeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/wal"
)

// The catalog holds the rows that the log alone cannot tell after its segments
// were recycled. Keys are a letter and an 8-byte big-endian id; numbers in
// values are uvarints, after a version byte (docs/format.md):
//
//	'a'            applied: LSN up to which the rows derived from the log are here,
//	               then the last timeline, bucket and snapshot ids given out
//	'h'            the horizon
//	'f'            flushed: LSN up to which records are in layers, then the last file number
//	't' timeline   ancestor, branch LSN, birth, LSN of the source that its bucket sees, depth
//	'o' timeline   window, floor
//	'd' timeline   LSNs: its bucket deleted, undelete possible until (0: not), dropped (0: not yet); no row: live
//	'r' timeline   read ancestor (0: none), read LSN; no row: the lineage
//	'w' timeline   the timeline has records of its own; no value
//	'b' bucket     created, deleted, source bucket (0: a root), name, count, then per binding: since, timeline
//	'e' bucket     properties: expires (0: never), flags (byte), attributes; no row: none
//	'p' bucket, snapshot   timeline, LSN, created, name, held, expires (0: never), attributes
//	'l' layer      layers.Desc
//	's' segment    generation of a value segment that layers refer to
//
// Rows under t, o, d, b, e, p and the applied mark are derived from the log; rows
// under l, s, w, r and the flushed mark are written by flush, compaction, rollup
// and reclaim. A purge deletes those of a timeline or bucket under every letter.
type catalog struct {
	db *pebble.DB
}

const catalogVersion = 1

const (
	rowApplied  = 'a'
	rowFlushed  = 'f'
	rowHorizon  = 'h'
	rowTimeline = 't'
	rowWindow   = 'o'
	rowFate     = 'd'
	rowReads    = 'r'
	rowWritten  = 'w'
	rowBucket   = 'b'
	rowProps    = 'e'
	rowSnapshot = 'p'
	rowLayer    = 'l'
	rowSegment  = 's'
)

func openCatalog(fs vfs.FS, dir string, logger *slog.Logger) (*catalog, error) {
	cache := pebble.NewCache(16 << 20)
	defer cache.Unref()
	db, err := pebble.Open(dir, &pebble.Options{
		FS:                 fs,
		Cache:              cache,
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       8 << 20,
		MaxOpenFiles:       64,
		Logger:             pebbleLogger{logger},
	})
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	return &catalog{db: db}, nil
}

func (c *catalog) close() error {
	if err := c.db.Close(); err != nil {
		return fmt.Errorf("close catalog: %w", err)
	}
	return nil
}

// pebbleLogger passes on what Pebble reports as an error. Pebble calls Fatalf
// when its own log cannot be written; it must not return, and going on without
// a catalog is no choice: the log has everything for the next start.
type pebbleLogger struct{ *slog.Logger }

func (l pebbleLogger) Infof(string, ...any) {}
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.Error("catalog", "err", fmt.Sprintf(format, args...))
}
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.Error("catalog failed, the process ends", "err", fmt.Sprintf(format, args...))
	panic("catalog: " + fmt.Sprintf(format, args...))
}

func rowKey(letter byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{letter}, id)
}

func row(nums ...uint64) []byte {
	p := []byte{catalogVersion}
	for _, n := range nums {
		p = binary.AppendUvarint(p, n)
	}
	return p
}

// appliedMark is the row under 'a'.
type appliedMark struct {
	lsn      wal.LSN
	timeline layers.TimelineID
	bucket   BucketID
	snapshot SnapshotID
}

func (m *appliedMark) row() []byte {
	return row(uint64(m.lsn), uint64(m.timeline), uint64(m.bucket), uint64(m.snapshot))
}

// flushedMark is the row under 'f'.
type flushedMark struct {
	lsn     wal.LSN
	fileNum layers.FileNum
}

func (m *flushedMark) row() []byte { return row(uint64(m.lsn), uint64(m.fileNum)) }

// rowBatch gathers rows for one atomic Pebble batch.
type rowBatch struct{ b *pebble.Batch }

func (c *catalog) newBatch() rowBatch { return rowBatch{c.db.NewBatch()} }

func (r rowBatch) set(key, value []byte) {
	if err := r.b.Set(key, value, nil); err != nil {
		panic("BUG: " + err.Error()) // only a closed batch refuses
	}
}

func (r rowBatch) delete(key []byte) {
	if err := r.b.Delete(key, nil); err != nil {
		panic("BUG: " + err.Error())
	}
}

func (r rowBatch) empty() bool { return r.b.Empty() }

// commit writes the batch; synced, it and every batch before it survive a crash.
func (r rowBatch) commit(sync bool) error {
	o := pebble.NoSync
	if sync {
		o = pebble.Sync
	}
	err := r.b.Commit(o)
	if err = firstError(err, r.b.Close()); err != nil {
		return fmt.Errorf("commit to catalog: %w", err)
	}
	return nil
}

// setTimeline writes what of n never changes.
func (r rowBatch) setTimeline(n *node) {
	r.set(rowKey(rowTimeline, uint64(n.id)), row(uint64(n.ancestorID), uint64(n.branchLSN),
		uint64(n.birth), uint64(n.sourceLSN), uint64(n.depth)))
}

func (r rowBatch) setRetention(id layers.TimelineID, ret retention) {
	r.set(rowKey(rowWindow, uint64(id)), row(uint64(ret.window), uint64(ret.floor)))
}

func (r rowBatch) setFate(id layers.TimelineID, f *fate) {
	r.set(rowKey(rowFate, uint64(id)), row(uint64(f.deleted), uint64(f.undo), uint64(f.dropped)))
}

// setReads writes where a timeline reads on, after a rollup.
func (r rowBatch) setReads(id layers.TimelineID, p readPair) {
	var on layers.TimelineID // zero: nowhere
	if p.node != nil {
		on = p.node.id
	}
	r.set(rowKey(rowReads, uint64(id)), row(uint64(on), uint64(p.lsn)))
}

// purge deletes the rows of a timeline that nobody reads and no layer knows.
func (r rowBatch) purge(id layers.TimelineID) {
	for _, letter := range []byte{rowTimeline, rowWindow, rowFate, rowReads, rowWritten} {
		r.delete(rowKey(letter, uint64(id)))
	}
}

// setBucket writes the row of b as of lsn, with the name and the LSN of the
// deletion (zero: living) that it had then.
func (r rowBatch) setBucket(b *bucket, lsn wal.LSN, name string, deleted wal.LSN) {
	var l []*binding
	for bound := range b.bound() {
		if bound.since <= lsn {
			l = append(l, bound)
		}
	}
	slices.Reverse(l)
	p := row(uint64(b.created), uint64(deleted), uint64(b.source))
	p = appendBytes(p, name)
	p = binary.AppendUvarint(p, uint64(len(l)))
	for _, bound := range l {
		p = binary.AppendUvarint(p, uint64(bound.since))
		p = binary.AppendUvarint(p, uint64(bound.node.id))
	}
	r.set(rowKey(rowBucket, uint64(b.id)), p)
}

// setProperties writes the properties of a bucket.
func (r rowBatch) setProperties(id BucketID, p *Properties) {
	if p.none() {
		r.delete(rowKey(rowProps, uint64(id)))
		return
	}
	r.set(rowKey(rowProps, uint64(id)), appendBytes(append(row(uint64(p.Expires)), p.flags()), p.Attrs))
}

// snapshotKey is the key of the row of a snapshot: after those of its bucket's others.
func snapshotKey(b BucketID, id SnapshotID) []byte {
	return binary.BigEndian.AppendUint64(rowKey(rowSnapshot, uint64(b)), uint64(id))
}

func (r rowBatch) setSnapshot(s *Snapshot) {
	v := appendBytes(row(uint64(s.Timeline), uint64(s.LSN), uint64(s.Created)), s.Name)
	v = binary.AppendUvarint(append(v, boolByte(s.Held)), uint64(s.Expires))
	r.set(snapshotKey(s.Bucket, s.ID), appendBytes(v, s.Attrs))
}

// deleteSnapshots deletes the rows of all snapshots of a bucket.
func (r rowBatch) deleteSnapshots(b BucketID) {
	if err := r.b.DeleteRange(rowKey(rowSnapshot, uint64(b)), rowKey(rowSnapshot, uint64(b)+1), nil); err != nil {
		panic("BUG: " + err.Error())
	}
}

func (r rowBatch) setLayer(d *layers.Desc) {
	r.set(rowKey(rowLayer, uint64(d.Num)), d.Append([]byte{catalogVersion}))
}

func (r rowBatch) setSegment(num layers.FileNum, generation uint32) {
	r.set(rowKey(rowSegment, uint64(num)), row(uint64(generation)))
}

// rowDecoder checks a row's version byte.
func rowDecoder(v []byte) *decoder {
	d := new(decoder)
	d.row(v)
	return d
}

// row goes on with another row. There are millions: who reads all has one decoder for them.
func (d *decoder) row(v []byte) {
	*d = decoder{p: v}
	if ver := d.byte(); d.err == nil && ver != catalogVersion {
		d.fail(fmt.Sprintf("version %d, want %d", ver, catalogVersion))
	}
}

func (d *decoder) end(what string) error {
	if d.err == nil && len(d.p) != 0 {
		d.fail("bytes left over")
	}
	if d.err != nil {
		return fmt.Errorf("decode catalog row of %s: %w", what, d.err)
	}
	return nil
}

// endOf is end of the row of what has an id.
func (d *decoder) endOf(what string, id uint64) error {
	if d.err == nil && len(d.p) == 0 {
		return nil
	}
	return d.end(fmt.Sprintf("%s %d", what, id))
}

// marks reads both marks and the horizon; a new catalog has none of them.
func (c *catalog) marks() (a appliedMark, f flushedMark, h wal.LSN, err error) {
	err = c.get([]byte{rowApplied}, func(v []byte) error {
		d := rowDecoder(v)
		a.lsn, a.timeline, a.bucket = d.lsn(), layers.TimelineID(d.uvarint()), BucketID(d.uvarint())
		a.snapshot = SnapshotID(d.uvarint())
		return d.end("the applied mark")
	})
	if err != nil {
		return a, f, h, err
	}
	err = c.get([]byte{rowHorizon}, func(v []byte) error {
		d := rowDecoder(v)
		h = d.lsn()
		return d.end("the horizon")
	})
	if err != nil {
		return a, f, h, err
	}
	err = c.get([]byte{rowFlushed}, func(v []byte) error {
		d := rowDecoder(v)
		f.lsn, f.fileNum = d.lsn(), layers.FileNum(d.uvarint())
		return d.end("the flushed mark")
	})
	return a, f, h, err
}

func (c *catalog) get(key []byte, fn func(v []byte) error) error {
	v, closer, err := c.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	return firstError(fn(v), closer.Close())
}

// each calls fn for every row under letter, by id.
func (c *catalog) each(letter byte, fn func(id uint64, v []byte) error) error {
	return c.eachKey(letter, func(k, v []byte) error {
		if len(k) != 8 {
			return fmt.Errorf("catalog key %c %x: %w", letter, k, ErrCorrupt)
		}
		return fn(binary.BigEndian.Uint64(k), v)
	})
}

// eachKey calls fn for every row under letter, in the order of what follows it.
func (c *catalog) eachKey(letter byte, fn func(k, v []byte) error) error {
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: []byte{letter, 0}, UpperBound: []byte{letter + 1}})
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	for it.First(); it.Valid(); it.Next() {
		k := it.Key()
		v, err := it.ValueAndErr()
		if err == nil {
			err = fn(k[1:], v)
		}
		if err != nil {
			return firstError(err, it.Close())
		}
	}
	return firstError(it.Error(), it.Close())
}

// loadTree reads timelines, buckets, names and pins.
func (c *catalog) loadTree(t *tree) error {
	var lines []*node
	var d decoder
	none, like := new(retention), (*retention)(nil)
	err := c.each(rowTimeline, func(id uint64, v []byte) error {
		d.row(v)
		n := &node{id: layers.TimelineID(id)}
		n.ancestorID, n.branchLSN = layers.TimelineID(d.uvarint()), d.lsn()
		n.birth, n.sourceLSN = d.lsn(), d.lsn()
		depth := d.uvarint()
		if depth > math.MaxInt32 || n.ancestorID >= n.id {
			d.fail("bad depth or ancestor")
		}
		n.depth = int32(depth)
		n.retention.Store(none) // until its row is read
		t.mu.nodes.set(n.id, n)
		lines = append(lines, n)
		return d.endOf("timeline", id)
	})
	if err != nil {
		return err
	}
	for _, n := range lines {
		n.ancestor = t.mu.nodes.get(n.ancestorID) // nil, too, when it was purged
	}
	for letter, load := range map[byte]func(n *node, d *decoder){
		rowWindow: func(n *node, d *decoder) {
			like = n.setRetention(retention{window: d.window(), floor: d.lsn()}, like)
		},
		rowFate: func(n *node, d *decoder) {
			t.setFateLocked(n, &fate{deleted: d.lsn(), undo: d.lsn(), dropped: d.lsn()})
		},
		rowReads:   func(n *node, d *decoder) { n.loadReads(t, d) },
		rowWritten: func(n *node, _ *decoder) { n.written.Store(true) },
	} {
		if err := c.eachTimeline(letter, t, load); err != nil {
			return err
		}
	}
	for _, n := range lines {
		// A purged ancestor is one in which nobody reads on.
		if n.ancestor == nil && n.ancestorID != 0 && n.reads.Load() == nil {
			return fmt.Errorf("timeline %d reads on in %d, which is missing: %w", n.id, n.ancestorID, ErrCorrupt)
		}
		if n.ancestor != nil && n.fate.Load() == nil {
			n.ancestor.forks.Add(1)
		}
	}
	if err := c.loadBuckets(t); err != nil {
		return err
	}
	for b := range t.mu.buckets.all() {
		if b.deleted.Load() == 0 {
			t.countForkLocked(b, 1)
		}
	}
	if err := c.loadProperties(t); err != nil {
		return err
	}
	return c.loadSnapshots(t)
}

func (c *catalog) loadSnapshots(t *tree) error {
	return c.eachKey(rowSnapshot, func(k, v []byte) error {
		if len(k) != 16 {
			return fmt.Errorf("catalog key of snapshot %x: %w", k, ErrCorrupt)
		}
		s := Snapshot{Bucket: BucketID(binary.BigEndian.Uint64(k)), ID: SnapshotID(binary.BigEndian.Uint64(k[8:]))}
		d := rowDecoder(v)
		s.Timeline, s.LSN, s.Created, s.Name = layers.TimelineID(d.uvarint()), d.lsn(), d.lsn(), d.name()
		s.Held, s.Expires, s.Attrs = d.bool(), d.lsn(), d.bytes()
		switch {
		case d.err != nil:
		case t.mu.buckets.get(s.Bucket) == nil || t.mu.nodes.get(s.Timeline) == nil || t.mu.snapshots[s.ID] != nil || s.check() != nil:
			d.fail("of no bucket or timeline, twice, or bad")
		default:
			s.Properties = s.Properties.clone()
			t.addSnapshotLocked(&s, 0, 0)
		}
		return d.end(fmt.Sprintf("snapshot %d of bucket %d", s.ID, s.Bucket))
	})
}

// eachTimeline calls load for every row under a letter whose rows belong to timelines.
func (c *catalog) eachTimeline(letter byte, t *tree, load func(n *node, d *decoder)) error {
	var d decoder
	what := fmt.Sprintf("%c of timeline", letter)
	return c.each(letter, func(id uint64, v []byte) error {
		n := t.mu.nodes.get(layers.TimelineID(id))
		if n == nil {
			return fmt.Errorf("decode catalog row of %s %d, which does not exist: %w", what, id, ErrCorrupt)
		}
		if d = (decoder{}); letter != rowWritten {
			d.row(v)
		}
		load(n, &d)
		return d.endOf(what, id)
	})
}

// loadReads reads the row of a read pair.
func (n *node) loadReads(t *tree, d *decoder) {
	id, lsn := layers.TimelineID(d.uvarint()), d.lsn()
	if id == 0 {
		if lsn != 0 {
			d.fail("nowhere to read on, and an LSN")
		}
		n.reads.Store(&shortWay{})
		return
	}
	a := t.mu.nodes.get(id)
	if a == nil || id >= n.id {
		d.fail(fmt.Sprintf("read ancestor %d is missing or younger", id))
		return
	}
	n.reads.Store(&shortWay{readPair: readPair{a, lsn}})
}

// purgedNode stands for a timeline that was purged in the bindings of its bucket.
func purgedNode(id layers.TimelineID, since wal.LSN) *node {
	n := &node{id: id, birth: since}
	n.purged.Store(true)
	n.retention.Store(&retention{})
	n.fate.Store(&fate{deleted: since, dropped: since})
	return n
}

func (c *catalog) loadBuckets(t *tree) error {
	var d decoder
	return c.each(rowBucket, func(id uint64, v []byte) error {
		d.row(v)
		b := &bucket{id: BucketID(id), created: d.lsn()}
		b.deleted.Store(uint64(d.lsn()))
		b.source = BucketID(d.uvarint())
		name := d.name()
		b.name.Store(&name)
		count := d.uvarint()
		if count == 0 || count > uint64(len(d.p)) {
			d.fail("bad count of bindings")
			return d.endOf("bucket", id)
		}
		var l *binding
		known := 0
		for range count {
			since, id := d.lsn(), layers.TimelineID(d.uvarint())
			n := t.mu.nodes.get(id)
			if n == nil { // it was purged
				n = purgedNode(id, since)
			} else if known++; n.bucket != nil {
				d.fail("bound to a timeline of another bucket")
			}
			if l != nil && since <= l.since {
				d.fail("bindings out of order")
			}
			n.bucket, l = b, &binding{since, n, l}
		}
		if d.err == nil && (known == 0 || b.deleted.Load() == 0 && l.node.purged.Load()) {
			d.fail("bound to a timeline that does not exist")
		}
		if err := d.endOf("bucket", id); err != nil {
			return err
		}
		b.bindings.Store(l)
		t.mu.buckets.set(b.id, b)
		if b.deleted.Load() == 0 {
			t.mu.names.Set(name, &nameState{from: b.created, value: b})
		}
		return nil
	})
}

func (c *catalog) loadProperties(t *tree) error {
	var d decoder
	return c.each(rowProps, func(id uint64, v []byte) error {
		d.row(v)
		p := Properties{Expires: d.lsn()}
		if !p.setFlags(d.byte()) {
			d.fail("unknown flags")
		}
		p.Attrs = d.bytes()
		b := t.mu.buckets.get(BucketID(id))
		if d.err == nil && (b == nil || p.none() || p.check() != nil) {
			d.fail("of no bucket, or bad")
		}
		if d.err == nil {
			t.setPropertiesLocked(b, &p, 0, 0)
		}
		return d.endOf("properties of bucket", id)
	})
}

// layers reads the rows of the layer files.
func (c *catalog) layers() ([]layers.Desc, error) {
	var descs []layers.Desc
	err := c.each(rowLayer, func(id uint64, v []byte) error {
		if len(v) == 0 || v[0] != catalogVersion {
			return fmt.Errorf("catalog row of layer %d: bad version: %w", id, ErrCorrupt)
		}
		d, err := layers.DecodeDesc(v[1:])
		if err != nil {
			return fmt.Errorf("catalog row of layer %d: %w", id, err)
		}
		if uint64(d.Num) != id {
			return fmt.Errorf("catalog row of layer %d names layer %d: %w", id, d.Num, ErrCorrupt)
		}
		if d.Level >= layers.NumLevels {
			return fmt.Errorf("catalog row of layer %d: level %d of %d: %w", id, d.Level, layers.NumLevels, ErrCorrupt)
		}
		descs = append(descs, d)
		return nil
	})
	return descs, err
}

// segments reads which value segments the layers refer to, and the generation
// of each.
func (c *catalog) segments() (map[layers.FileNum]uint32, error) {
	segs := make(map[layers.FileNum]uint32)
	err := c.each(rowSegment, func(id uint64, v []byte) error {
		d := rowDecoder(v)
		g := d.uvarint()
		if g > math.MaxUint32 {
			d.fail("generation out of range")
		}
		segs[layers.FileNum(id)] = uint32(g)
		return d.end(fmt.Sprintf("value segment %d", id))
	})
	return segs, err
}
