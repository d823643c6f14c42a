package timeline

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// FuzzPayload decodes arbitrary bytes as the payload of a commit: an error, or
// operations that encode to the same bytes.
func FuzzPayload(f *testing.F) {
	var b Batch
	b.Put(layers.NamespaceObjects, []byte("key"), []byte("meta"), layers.AppendInlineBody(nil, []byte("body")))
	b.Delete(layers.NamespaceConfig, nil)
	b.DeleteRange(layers.NamespaceVersions, []byte("a"), []byte("b"))
	f.Add(b.encode(7))
	f.Add(encodeTree([]treeOp{
		{tag: opCreate, bucket: 1, timeline: 1, name: "main", props: Properties{Attrs: []byte("a"), Expires: 5}},
		{tag: opFork, ancestor: 1, lsn: 77, source: 1, bucket: 2, timeline: 2, name: "dev", first: &b, props: Properties{Attrs: []byte("a")}},
		{tag: opProperties, bucket: 2, props: Properties{Attrs: []byte("b"), Expires: wal.MaxLSN}},
		{tag: opProperties, bucket: 1, props: Properties{ReadOnly: true, Protected: true}},
		{tag: opDelete, bucket: 2},
		{tag: opRename, bucket: 1, name: "prod"},
		{tag: opSnapshot, snapshot: 3, bucket: 1, timeline: 1, lsn: 5, name: "snapshot", held: true},
		{tag: opSetSnapshot, snapshot: 3, bucket: 1, name: "renamed", props: Properties{Attrs: []byte("why"), Expires: 7}},
		{tag: opDeleteSnapshot, snapshot: 3, bucket: 1},
		{tag: opDrop, timeline: 1, lsn: 4, bucket: 1},
		{tag: opHorizon, lsn: wal.MaxLSN},
		{tag: opMove, bucket: 2, left: 2, undo: 90, ancestor: 1, lsn: 33, seen: wal.MaxLSN, timeline: 3, window: gc.Forever, name: "dev"},
	}))
	staged := layers.Desc{
		Num: 4, Kind: layers.DeltaLayer, Range: layers.KeyRange{Start: layers.MakeKey(7, 1, []byte("a")), End: layers.MakeKey(7, 2, []byte("b"))},
		Entries: 9, Deletes: 2, RangeTombstones: 1, Bytes: 4096, RawBytes: 700, Segments: []layers.SegmentRef{{Segment: 3, Bytes: 12}},
	}
	f.Add(appendAdopt(appendAdopt(appendPayloadHeader(nil, 2), &staged), &staged))
	f.Fuzz(func(t *testing.T, p []byte) {
		var again, last []byte
		ops := 0
		visitor := payloadVisitor{
			record: func(r *layers.Record) error {
				if r.LSN != 9 {
					t.Errorf("record at LSN %d", r.LSN)
				}
				o := batchOp{kind: r.Kind, ns: r.Key.Namespace(), key: r.Key.User(), meta: r.Meta, body: r.Body}
				if r.Kind == layers.KindRangeTombstone {
					o.end = r.End.User()
				}
				again = appendRecord(again, r.Key.Timeline(), &o, r.Writer)
				ops++
				return nil
			},
			tree: func(o *treeOp) error { again = o.append(again, &last); ops++; return nil },
			adopt: func(d *layers.Desc) error {
				if d.MinLSN != 0 || d.MaxLSN != 0 || d.AdoptedLSN != 0 || d.Level != 0 || d.Range.Start.Timeline() != d.Range.End.Timeline() {
					t.Errorf("adoption of %+v", d)
				}
				again = appendAdopt(again, d)
				ops++
				return nil
			},
		}
		if err := decodePayload(p, 9, visitor); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is not ErrCorrupt: %v", err)
			}
			return
		}
		if again = append(appendPayloadHeader(nil, ops), again...); !bytes.Equal(again, p) {
			t.Fatalf("decodes, but encodes to\n%x, not\n%x", again, p)
		}
	})
}

// FuzzCatalogRow puts arbitrary bytes into a row of a small catalog: what reads
// the catalog reports ErrCorrupt, or the row encodes to the same bytes.
func FuzzCatalogRow(f *testing.F) {
	logger := slog.New(slog.DiscardHandler)
	c, err := openCatalog(vfs.NewMem(), "catalog", logger)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := c.close(); err != nil {
			f.Error(err)
		}
	})
	seedCatalog(f, c)
	for _, letter := range []byte{rowApplied, rowFlushed, rowHorizon} {
		f.Add(letter, uint64(math.MaxUint64), rowValue(f, c, []byte{letter}))
	}
	f.Add(byte(rowTimeline), uint64(2), rowValue(f, c, rowKey(rowTimeline, 2)))
	f.Add(byte(rowBucket), uint64(2), rowValue(f, c, rowKey(rowBucket, 2)))
	for _, letter := range []byte{rowWindow, rowFate, rowReads} {
		f.Add(letter, uint64(2), rowValue(f, c, rowKey(letter, 2)))
	}
	f.Add(byte(rowSegment), uint64(9), rowValue(f, c, rowKey(rowSegment, 9)))
	f.Add(byte(rowProps), uint64(2), rowValue(f, c, rowKey(rowProps, 2)))
	f.Add(byte(rowSnapshot), uint64(1), rowValue(f, c, snapshotKey(1, 1)))
	d := layers.Desc{Num: 4, Kind: layers.DeltaLayer, Range: layers.KeyRange{Start: layers.MakeKey(1, 1, nil), End: layers.MakeKey(2, 1, nil)}, MinLSN: 1, MaxLSN: 2}
	f.Add(byte(rowLayer), uint64(4), d.Append([]byte{catalogVersion}))

	f.Fuzz(func(t *testing.T, letter byte, id uint64, value []byte) {
		key := rowKey(letter, id)
		switch letter {
		case rowApplied, rowFlushed, rowHorizon:
			key = key[:1]
		case rowSnapshot:
			key = snapshotKey(1, SnapshotID(id))
		}
		was := rowValue(t, c, key)
		setRow(t, c, key, value)
		defer setRow(t, c, key, was)
		tr, err := readCatalog(c)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, layers.ErrCorrupt) {
				t.Fatalf("error is not one of corruption: %v", err)
			}
			return
		}
		if again, ok := encodeRow(t, c, tr, letter, id); ok && !bytes.Equal(again, value) {
			t.Fatalf("row %c %d decodes, but encodes to\n%x, not\n%x", letter, id, again, value)
		}
	})
}

// readCatalog reads all that a start reads.
func readCatalog(c *catalog) (*tree, error) {
	tr := newTree()
	_, _, _, err := c.marks()
	if err == nil {
		err = c.loadTree(tr)
	}
	if err == nil {
		_, err = c.layers()
	}
	if err == nil {
		_, err = c.segments()
	}
	return tr, err
}

// encodeRow encodes a row from what was read; ok is false for those without a value.
func encodeRow(tb testing.TB, c *catalog, tr *tree, letter byte, id uint64) (value []byte, ok bool) {
	rows := c.newBatch()
	a, fl, h, err := c.marks()
	if err != nil {
		tb.Fatal(err)
	}
	switch letter {
	case rowApplied:
		return a.row(), true
	case rowFlushed:
		return fl.row(), true
	case rowHorizon:
		return row(uint64(h)), true
	case rowTimeline:
		n := tr.mu.nodes.get(layers.TimelineID(id))
		rows.setTimeline(n)
	case rowWindow:
		rows.setRetention(layers.TimelineID(id), *tr.mu.nodes.get(layers.TimelineID(id)).retention.Load())
	case rowFate:
		rows.setFate(layers.TimelineID(id), tr.mu.nodes.get(layers.TimelineID(id)).fate.Load())
	case rowReads:
		rows.setReads(layers.TimelineID(id), tr.mu.nodes.get(layers.TimelineID(id)).next(math.MaxUint64))
	case rowSegment:
		segs, err := c.segments()
		if err != nil {
			tb.Fatal(err)
		}
		rows.setSegment(layers.FileNum(id), segs[layers.FileNum(id)])
	case rowBucket:
		b := tr.mu.buckets.get(BucketID(id))
		rows.setBucket(b, wal.MaxLSN, *b.name.Load(), wal.LSN(b.deleted.Load()))
	case rowProps:
		rows.setProperties(BucketID(id), tr.mu.buckets.get(BucketID(id)).properties.Load().value)
	case rowSnapshot:
		snap, _ := tr.mu.snapshots[SnapshotID(id)].at(wal.MaxLSN)
		rows.setSnapshot(&snap)
	case rowLayer:
		descs, err := c.layers()
		if err != nil {
			tb.Fatal(err)
		}
		for i := range descs {
			if uint64(descs[i].Num) == id {
				rows.setLayer(&descs[i])
			}
		}
	default:
		return nil, false
	}
	reader := rows.b.Reader()
	_, _, value, ok, err = reader.Next()
	if err != nil || !ok {
		tb.Fatalf("row %c %d was read and is not there: %v", letter, id, err)
	}
	return bytes.Clone(value), true
}

// seedCatalog writes a store's catalog: a bucket, a fork of it, a pin.
func seedCatalog(tb testing.TB, c *catalog) {
	tr := newTree()
	for i, o := range []treeOp{
		{tag: opCreate, bucket: 1, timeline: 1, name: "main"},
		{tag: opFork, ancestor: 1, source: 1, bucket: 2, timeline: 2, name: "dev", props: Properties{Attrs: []byte("attributes"), Expires: 99}},
		{tag: opSnapshot, snapshot: 1, bucket: 1, timeline: 1, lsn: 5, name: "snapshot", held: true},
	} {
		if err := tr.change(&o, wal.LSN(10+i), wal.LSN(10+i)); err != nil {
			tb.Fatal(err)
		}
	}
	rows := c.newBatch()
	for id := range uint64(2) {
		rows.setTimeline(tr.node(layers.TimelineID(id + 1)))
		rows.setRetention(layers.TimelineID(id+1), retention{window: gc.Forever, floor: 7})
		b := tr.bucket(BucketID(id + 1))
		rows.setBucket(b, wal.MaxLSN, *b.name.Load(), 0)
	}
	rows.setFate(2, &fate{deleted: 20, undo: 30})
	rows.setReads(2, readPair{})
	rows.setProperties(2, tr.bucket(2).properties.Load().value)
	rows.setSegment(9, 3)
	snap, _ := tr.mu.snapshots[1].at(wal.MaxLSN)
	rows.setSnapshot(&snap)
	a := appliedMark{lsn: 12, timeline: 2, bucket: 2, snapshot: 1}
	rows.set([]byte{rowApplied}, a.row())
	fl := flushedMark{lsn: 11, fileNum: 3}
	rows.set([]byte{rowFlushed}, fl.row())
	rows.set([]byte{rowHorizon}, row(4))
	if err := rows.commit(false); err != nil {
		tb.Fatal(err)
	}
	if _, err := readCatalog(c); err != nil {
		tb.Fatal(err)
	}
}

// rowValue returns a row's value, nil if there is no such row.
func rowValue(tb testing.TB, c *catalog, key []byte) (value []byte) {
	if err := c.get(key, func(v []byte) error { value = append([]byte{}, v...); return nil }); err != nil {
		tb.Fatal(err)
	}
	return value
}

// setRow writes a row; nil removes it.
func setRow(tb testing.TB, c *catalog, key, value []byte) {
	rows := c.newBatch()
	if value == nil {
		rows.delete(key)
	} else {
		rows.set(key, value)
	}
	if err := rows.commit(false); err != nil {
		tb.Fatal(err)
	}
}
