package timeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// Offline is a stopped store, opened for reading by the tools. It changes
// nothing on disk and starts no goroutine of its own.
type Offline struct {
	fs      vfs.FS
	dir     string
	lock    io.Closer
	catalog *catalog
}

// OpenOffline opens the store in dir. Errors: no store is there; a process has
// it open; the catalog cannot be read.
func OpenOffline(fs vfs.FS, dir string) (_ *Offline, err error) {
	o := &Offline{fs: fs, dir: dir}
	for _, name := range []string{lockFile, catalogDir, walDir, layersDir, valuesDir} {
		if _, err := fs.Stat(o.path(name)); err != nil {
			return nil, fmt.Errorf("%s holds no store: %w", dir, err)
		}
	}
	if o.lock, err = fs.Lock(o.path(lockFile)); err != nil {
		return nil, fmt.Errorf("lock %s (is another process using it?): %w", dir, err)
	}
	db, err := pebble.Open(o.path(catalogDir), &pebble.Options{FS: fs, ReadOnly: true, Logger: pebbleLogger{slog.New(slog.DiscardHandler)}})
	if err != nil {
		return nil, firstError(fmt.Errorf("open catalog: %w", err), o.lock.Close())
	}
	o.catalog = &catalog{db: db}
	return o, nil
}

// Close lets go of the store.
func (o *Offline) Close() error {
	return errors.Join(o.catalog.close(), o.lock.Close())
}

func (o *Offline) path(name string) string { return o.fs.PathJoin(o.dir, name) }

// WALDir, LayersDir and ValuesDir are the folders of the store.
func (o *Offline) WALDir() string    { return o.path(walDir) }
func (o *Offline) LayersDir() string { return o.path(layersDir) }
func (o *Offline) ValuesDir() string { return o.path(valuesDir) }

// Layers returns the rows of the layer files, by number.
func (o *Offline) Layers() ([]layers.Desc, error) { return o.catalog.layers() }

// Segments returns the value segments that have a row, with the generation of
// each that counts.
func (o *Offline) Segments() (map[layers.FileNum]uint32, error) { return o.catalog.segments() }

// OfflineTimeline describes a timeline.
type OfflineTimeline struct {
	ID, Ancestor, ReadAncestor layers.TimelineID // zero: none
	BranchLSN, ReadLSN, Birth  wal.LSN
	Deleted                    wal.LSN // of its bucket; zero: not
	Dropped                    wal.LSN // when that could not be undone any more; zero: not
	Window                     gc.Window
	Floor                      wal.LSN
	Depth                      int
	Written                    bool   // has records of its own
	Bucket                     string // name of the bucket that it belongs to
}

// OfflineState is what a start of the store would find.
type OfflineState struct {
	Applied, Flushed, Horizon wal.LSN
	Log                       wal.Recovery
	Timelines                 []OfflineTimeline // by id
	Snapshots                 []Snapshot        // by id
	// Adopted are layers that the log names and the catalog does not yet, as their rows will be.
	Adopted []layers.Desc
}

// Recover reads the catalog and replays the log as Open does, in memory. It
// calls record, if not nil, for every record that is in the log only.
func (o *Offline) Recover(record func(*layers.Record) error) (OfflineState, error) {
	var st OfflineState
	applied, flushed, horizon, err := o.catalog.marks()
	if err != nil {
		return st, err
	}
	st.Applied, st.Flushed, st.Horizon = max(applied.lsn, flushed.lsn), flushed.lsn, horizon
	t := newTree()
	if err := o.catalog.loadTree(t); err != nil {
		return st, err
	}
	st.Log, err = o.checkLog(applied, flushed, func(lsn wal.LSN, payload []byte) error {
		v := payloadVisitor{record: func(r *layers.Record) error {
			n := t.mu.nodes.get(r.Key.Timeline())
			if n == nil {
				return fmt.Errorf("record of timeline %d, which does not exist: %w", r.Key.Timeline(), ErrCorrupt)
			}
			n.written.Store(true)
			if record == nil {
				return nil
			}
			return record(r)
		}}
		if lsn > st.Applied {
			v.tree = func(op *treeOp) error {
				if op.tag == opHorizon {
					st.Horizon = op.lsn
				}
				return t.change(op, lsn, lsn)
			}
			v.adopt = func(d *layers.Desc) error {
				n := t.mu.nodes.get(d.Range.Start.Timeline())
				if n == nil {
					return fmt.Errorf("layer of timeline %d, which does not exist: %w", d.Range.Start.Timeline(), ErrCorrupt)
				}
				n.written.Store(true)
				d.AdoptedLSN, d.MinLSN, d.MaxLSN = lsn, lsn, lsn
				st.Adopted = append(st.Adopted, *d)
				return nil
			}
		}
		return decodePayload(payload, lsn, v)
	})
	if err != nil {
		return st, err
	}
	st.Timelines, st.Snapshots = describeTree(t)
	return st, nil
}

// Commits calls visit with every commit that a start would replay, in order. It
// does not look into the payloads, which alias a buffer.
func (o *Offline) Commits(visit func(lsn wal.LSN, payload []byte) error) error {
	applied, flushed, _, err := o.catalog.marks()
	if err != nil {
		return err
	}
	_, err = o.checkLog(applied, flushed, visit)
	return err
}

func (o *Offline) checkLog(applied appliedMark, flushed flushedMark, visit func(lsn wal.LSN, payload []byte) error) (wal.Recovery, error) {
	return wal.Check(wal.Options{
		FS: o.fs, Dir: o.WALDir(),
		NextLSN: func(last wal.LSN) wal.LSN { return last + 1 }, Apply: func([]*wal.Commit) {}, // not called: nothing is written
		ReplayFrom: flushed.lsn, DurableLSN: max(applied.lsn, flushed.lsn),
	}, visit)
}

func describeTree(t *tree) (lines []OfflineTimeline, snaps []Snapshot) {
	for n := range t.mu.nodes.all() {
		r := n.retention.Load()
		l := OfflineTimeline{ID: n.id, Ancestor: n.ancestorID, BranchLSN: n.branchLSN, Birth: n.birth,
			Window: r.window, Floor: r.floor, Depth: int(n.depth), Written: n.written.Load()}
		if f := n.fate.Load(); f != nil {
			l.Deleted, l.Dropped = f.deleted, f.dropped
		}
		if p := n.next(0); p.node != nil {
			l.ReadAncestor, l.ReadLSN = p.node.id, p.lsn
		}
		if n.bucket != nil {
			l.Bucket = *n.bucket.name.Load()
		}
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b OfflineTimeline) int { return int(a.ID) - int(b.ID) })
	for _, e := range t.mu.snapshots {
		if snap, ok := e.at(wal.MaxLSN); ok {
			snaps = append(snaps, snap)
		}
	}
	slices.SortFunc(snaps, func(a, b Snapshot) int { return int(a.ID) - int(b.ID) })
	return lines, snaps
}

// Rows calls visit with the text of every row of the catalog in key order, and
// with what is wrong with it, if anything.
func (o *Offline) Rows(visit func(text string, err error) error) error {
	it, err := o.catalog.db.NewIter(nil)
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = visit(describeRow(it.Key(), v))
		}
		if err != nil {
			return firstError(err, it.Close())
		}
	}
	return firstError(it.Error(), it.Close())
}

// describeRow returns one row as a line of text. The text of a bad row is its key.
func describeRow(key, v []byte) (string, error) {
	bad := fmt.Sprintf("row %x", key)
	if len(key) == 17 && key[0] == rowSnapshot {
		return describeSnapshot(key, v)
	}
	if len(key) != 1 && len(key) != 9 {
		return bad, fmt.Errorf("key of %d bytes: %w", len(key), ErrCorrupt)
	}
	var id uint64
	if len(key) == 9 {
		id = binary.BigEndian.Uint64(key[1:])
	}
	if (len(key) == 1) != slices.Contains([]byte{rowApplied, rowFlushed, rowHorizon}, key[0]) {
		return bad, fmt.Errorf("key of %d bytes: %w", len(key), ErrCorrupt)
	}
	switch key[0] {
	case rowWritten:
		return fmt.Sprintf("written timeline=%d", id), nil
	case rowLayer:
		if len(v) == 0 || v[0] != catalogVersion {
			return bad, fmt.Errorf("bad version: %w", ErrCorrupt)
		}
		d, err := layers.DecodeDesc(v[1:])
		if err != nil {
			return bad, err
		}
		return fmt.Sprintf("layer %d kind=%s level=%d lsn=%d..%d bytes=%d entries=%d deletes=%d range_tombstones=%d from=%s",
			id, d.Kind, d.Level, d.MinLSN, d.MaxLSN, d.Bytes, d.Entries, d.Deletes, d.RangeTombstones, d.Range.Start), nil
	}
	d := rowDecoder(v)
	text := describeNumbers(key[0], id, d)
	if err := d.end(bad); err != nil {
		return bad, err
	}
	return text, nil
}

func describeSnapshot(key, v []byte) (string, error) {
	d := rowDecoder(v)
	text := fmt.Sprintf("snapshot %d bucket=%d timeline=%d lsn=%d created=%d name=%q held=%v expires=%d attrs=%x",
		binary.BigEndian.Uint64(key[9:]), binary.BigEndian.Uint64(key[1:]), d.uvarint(), d.uvarint(), d.uvarint(), d.name(), d.bool(), d.uvarint(), d.bytes())
	if err := d.end("a snapshot"); err != nil {
		return fmt.Sprintf("row %x", key), err
	}
	return text, nil
}

// describeNumbers reads the fields of rows that are numbers and names.
func describeNumbers(letter byte, id uint64, d *decoder) string {
	num := d.uvarint
	switch letter {
	case rowApplied:
		return fmt.Sprintf("applied lsn=%d timeline=%d bucket=%d snapshot=%d", num(), num(), num(), num())
	case rowFlushed:
		return fmt.Sprintf("flushed lsn=%d file=%d", num(), num())
	case rowHorizon:
		return fmt.Sprintf("horizon lsn=%d", num())
	case rowTimeline:
		return fmt.Sprintf("timeline %d ancestor=%d branch=%d birth=%d source_lsn=%d depth=%d", id, num(), num(), num(), num(), num())
	case rowWindow:
		return fmt.Sprintf("window timeline=%d ns=%d floor=%d", id, num(), num())
	case rowFate:
		return fmt.Sprintf("fate timeline=%d deleted=%d undo=%d dropped=%d", id, num(), num(), num())
	case rowReads:
		return fmt.Sprintf("reads timeline=%d in=%d lsn=%d", id, num(), num())
	case rowSegment:
		return fmt.Sprintf("segment %d generation=%d", id, num())
	case rowBucket:
		var s strings.Builder
		fmt.Fprintf(&s, "bucket %d created=%d deleted=%d source=%d name=%q", id, num(), num(), num(), d.name())
		for n := num(); n > 0 && d.err == nil; n-- {
			fmt.Fprintf(&s, " since=%d:timeline=%d", num(), num())
		}
		return s.String()
	case rowProps:
		return fmt.Sprintf("properties bucket=%d expires=%d flags=%d attrs=%x", id, num(), d.byte(), d.bytes())
	}
	d.fail("unknown row")
	return ""
}

// DescribeCommit calls visit with the text of every operation in the payload of
// the commit at lsn. Errors wrap ErrCorrupt, or are those of visit.
func DescribeCommit(lsn wal.LSN, payload []byte, visit func(text string) error) error {
	return decodePayload(payload, lsn, payloadVisitor{
		record: func(r *layers.Record) error { return visit(DescribeRecord(r)) },
		tree:   func(o *treeOp) error { return visit(o.describe()) },
		adopt: func(d *layers.Desc) error {
			return visit(fmt.Sprintf("adopt layer=%d bytes=%d entries=%d deletes=%d range_tombstones=%d from=%s",
				d.Num, d.Bytes, d.Entries, d.Deletes, d.RangeTombstones, d.Range.Start))
		},
	})
}

// DescribeRecord returns a record as a line of text.
func DescribeRecord(r *layers.Record) string {
	kind := map[layers.Kind]string{layers.KindValue: "value", layers.KindDelta: "delta", layers.KindTombstone: "tombstone",
		layers.KindRangeTombstone: "range-tombstone"}[r.Kind]
	switch r.Kind {
	case layers.KindTombstone:
		return fmt.Sprintf("%s %s", kind, r.Key)
	case layers.KindRangeTombstone:
		return fmt.Sprintf("%s %s to %s", kind, r.Key, r.End)
	}
	s := fmt.Sprintf("%s %s meta=%d", kind, r.Key, len(r.Meta))
	n, err := r.Body.Len()
	if err != nil {
		return fmt.Sprintf("%s body: %v", s, err)
	}
	switch r.Body.Tag() {
	case layers.BodyExtents:
		ext, err := r.Body.Extents(nil)
		if err != nil {
			return fmt.Sprintf("%s body: %v", s, err)
		}
		s = fmt.Sprintf("%s extents=%d", s, n)
		const shown = 8
		for _, e := range ext[:min(shown, len(ext))] {
			s += fmt.Sprintf(" %d@%d:%d", e.Segment, e.Offset, e.Len)
		}
		if more := len(ext) - shown; more > 0 {
			s += fmt.Sprintf(" and %d more", more)
		}
		return s
	case layers.BodySpilled:
		return fmt.Sprintf("%s spilled=%d", s, n)
	}
	return fmt.Sprintf("%s inline=%d", s, n)
}

func (o *treeOp) describe() string {
	switch o.tag {
	case opCreate:
		return fmt.Sprintf("create bucket=%d timeline=%d name=%q", o.bucket, o.timeline, o.name)
	case opFork:
		return fmt.Sprintf("fork bucket=%d timeline=%d name=%q ancestor=%d branch=%d source=%d", o.bucket, o.timeline, o.name, o.ancestor, o.lsn, o.source)
	case opMove:
		return fmt.Sprintf("move bucket=%d name=%q timeline=%d ancestor=%d branch=%d seen=%d left=%d undo=%d", o.bucket, o.name, o.timeline, o.ancestor, o.lsn, o.seen, o.left, o.undo)
	case opProperties:
		return fmt.Sprintf("properties bucket=%d expires=%d flags=%d attrs=%x", o.bucket, o.props.Expires, o.props.flags(), o.props.Attrs)
	case opDelete:
		return fmt.Sprintf("delete bucket=%d timeline=%d undo=%d", o.bucket, o.timeline, o.lsn)
	case opUndelete:
		return fmt.Sprintf("undelete bucket=%d timeline=%d name=%q", o.bucket, o.timeline, o.name)
	case opDrop:
		return fmt.Sprintf("drop timeline=%d deleted=%d snapshots_of=%d", o.timeline, o.lsn, o.bucket)
	case opWindow:
		return fmt.Sprintf("window timeline=%d ns=%d floor=%d", o.timeline, o.window, o.lsn)
	case opRename:
		return fmt.Sprintf("rename bucket=%d name=%q", o.bucket, o.name)
	case opSnapshot:
		return fmt.Sprintf("snapshot %d bucket=%d timeline=%d lsn=%d name=%q held=%v expires=%d attrs=%x", o.snapshot, o.bucket, o.timeline, o.lsn, o.name, o.held, o.props.Expires, o.props.Attrs)
	case opSetSnapshot:
		return fmt.Sprintf("set snapshot %d bucket=%d name=%q held=%v expires=%d attrs=%x", o.snapshot, o.bucket, o.name, o.held, o.props.Expires, o.props.Attrs)
	case opDeleteSnapshot:
		return fmt.Sprintf("delete snapshot %d bucket=%d", o.snapshot, o.bucket)
	case opHorizon:
		return fmt.Sprintf("horizon lsn=%d", o.lsn)
	}
	return fmt.Sprintf("operation %d", o.tag)
}
