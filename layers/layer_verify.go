package layers

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"stemma/wal"
)

// treeWalk reads a tree of blocks from the file, past the cache, and checks that
// its index says what its blocks hold.
type treeWalk struct {
	l     *Layer
	top   []byte
	topAt section
	bias  wal.LSN

	from, at uint64 // the first block; where the next one must lie
	visit    func(key Key, lsn wal.LSN, value []byte) error
}

// walk visits all entries in order. What it passes is valid during the call.
func (w *treeWalk) walk(visit func(key Key, lsn wal.LSN, value []byte) error) error {
	w.visit = visit
	var top blockIter
	if err := top.init(w.top, w.bias); err != nil {
		return w.l.at(w.topAt.off, err)
	}
	var indexes []blockRef
	for n := 0; top.step(); n++ {
		if err := top.checkRestart(n, indexRestarts); err != nil {
			return w.l.at(w.topAt.off, err)
		}
		ref, err := decodeBlockRef(top.value, top.lsn)
		if err != nil {
			return w.l.at(w.topAt.off, err)
		}
		if err := w.index(&top, ref); err != nil {
			return err
		}
		indexes = append(indexes, ref)
	}
	if top.err != nil {
		return w.l.at(w.topAt.off, top.err)
	}
	for _, ref := range indexes {
		if err := w.follows(ref.off, ref.length); err != nil {
			return err
		}
	}
	return w.follows(w.topAt.off, w.topAt.length)
}

// follows checks that a block lies where the last one ended.
func (w *treeWalk) follows(off, length uint64) error {
	if off != w.at {
		return w.l.at(off, fmt.Errorf("block out of place, want it at %d: %w", w.at, ErrCorrupt))
	}
	w.at += length
	return nil
}

// index walks the blocks of the index block at ref, which parent stands on.
func (w *treeWalk) index(parent *blockIter, ref blockRef) error {
	it, err := w.open(ref)
	if err != nil {
		return err
	}
	var seen blockRef
	for n := 0; it.step(); n++ {
		if err := it.checkRestart(n, indexRestarts); err != nil {
			return w.l.at(ref.off, err)
		}
		child, err := decodeBlockRef(it.value, it.lsn)
		if err != nil {
			return w.l.at(ref.off, err)
		}
		if w.at == 0 {
			w.from, w.at = child.off, child.off
		}
		if err := w.follows(child.off, child.length); err != nil {
			return err
		}
		if err := w.data(it, child); err != nil {
			return err
		}
		seen.cover(n == 0, child.minLSN, child.maxLSN)
	}
	return w.agrees(parent, it, ref, seen)
}

// data visits the entries of the block at ref, which parent stands on.
func (w *treeWalk) data(parent *blockIter, ref blockRef) error {
	it, err := w.open(ref)
	if err != nil {
		return err
	}
	var seen blockRef
	for n := 0; it.step(); n++ {
		if err := it.checkRestart(n, dataRestarts); err != nil {
			return w.l.at(ref.off, err)
		}
		if err := w.visit(it.key, it.lsn, it.value); err != nil {
			return w.l.at(ref.off, err)
		}
		seen.cover(n == 0, it.lsn, it.lsn)
	}
	return w.agrees(parent, it, ref, seen)
}

func (w *treeWalk) open(ref blockRef) (*blockIter, error) {
	raw, err := w.l.readBlock(ref, w.topAt.off, true)
	if err != nil {
		return nil, err
	}
	it := new(blockIter)
	return it, w.l.at(ref.off, it.init(raw, w.bias))
}

// cover widens the LSNs of b.
func (b *blockRef) cover(first bool, low, high wal.LSN) {
	if first {
		b.minLSN, b.maxLSN = low, high
	}
	b.minLSN, b.maxLSN = min(b.minLSN, low), max(b.maxLSN, high)
}

// agrees checks the end of a block, and what was seen in it, against its index entry.
func (w *treeWalk) agrees(parent, it *blockIter, ref, seen blockRef) error {
	if it.err != nil {
		return w.l.at(ref.off, it.err)
	}
	if parent.lsn != it.lsn || !bytes.Equal(parent.key, it.key) || seen.minLSN != ref.minLSN || seen.maxLSN != ref.maxLSN {
		return w.l.at(ref.off, fmt.Errorf("block ends with %s at %d, LSNs %d to %d; index says %s at %d, LSNs %d to %d: %w",
			it.key, it.lsn, seen.minLSN, seen.maxLSN, parent.key, parent.lsn, ref.minLSN, ref.maxLSN, ErrCorrupt))
	}
	return nil
}

// checkRestart checks that the n-th entry, which it stands on, is a restart if
// and only if one comes every so many entries.
func (it *blockIter) checkRestart(n, every int) error {
	count, i := len(it.restarts)/4, n/every
	isLast := it.next == len(it.entries)
	if i >= count || isLast && i != count-1 || n%every == 0 && it.restart(i) != it.off {
		return it.corrupt("entry %d at %d of block: no restart there, or one too many", n, it.off)
	}
	return nil
}

// Verify reads the whole file, past the cache, and checks every block, the
// order and number of records, what the kind asks of them, every index entry,
// the filter, and the description. It takes the time of a sequential read.
func (l *Layer) Verify() error {
	c, err := l.load()
	if err == nil {
		err = c.accept(&l.desc)
	}
	if err != nil {
		return fmt.Errorf("verify layer %s: %w", l.path, err)
	}
	v := layerVerifier{l: l, c: c}
	if err := v.verify(); err != nil {
		return fmt.Errorf("verify layer: %w", err)
	}
	return nil
}

// layerVerifier describes a layer anew from its records.
type layerVerifier struct {
	l      *Layer
	c      *layerContents
	got    Desc
	segs   segmentCounter
	filter []byte
	last   Record // only Key, LSN and Kind
	rec    Record
}

func (v *layerVerifier) verify() error {
	v.got = Desc{Num: v.c.desc.Num, Kind: v.c.desc.Kind, Level: v.c.desc.Level, Bytes: v.c.desc.Bytes,
		AdoptedLSN: v.c.desc.AdoptedLSN, MinLSN: wal.MaxLSN}
	foot := &v.c.foot
	for off := foot.filter.off; off < foot.filter.end(); off += filterBlockBytes {
		b, err := v.l.readFilterBlock(off)
		if err != nil {
			return err
		}
		v.filter = append(v.filter, b...)
	}
	at := uint64(layerHeaderBytes)
	if v.c.top != nil {
		w := treeWalk{l: v.l, top: v.c.top, topAt: foot.points, bias: v.c.bias}
		if err := w.walk(v.point); err != nil {
			return err
		}
		if w.from != at {
			return v.l.at(at, fmt.Errorf("first block at %d: %w", w.from, ErrCorrupt))
		}
		at = foot.filter.end()
		v.got.Range.End = append(v.last.Key, 0)
	}
	if v.c.stoneTop != nil {
		if err := v.tombstones(at); err != nil {
			return err
		}
	}
	v.got.Segments = v.segs.refs()
	if !bytes.Equal(v.got.Append(nil), v.c.desc.Append(nil)) {
		return v.l.at(foot.properties.off, fmt.Errorf("properties %+v, records are %+v: %w", v.c.desc, v.got, ErrCorrupt))
	}
	return nil
}

// point checks one point record.
func (v *layerVerifier) point(key Key, lsn wal.LSN, value []byte) error {
	r, d := &v.rec, &v.got
	if err := decodeRecord(r, key, lsn, value, v.c.flags); err != nil {
		return err
	}
	if !key.Valid() || d.Entries > 0 && compareRecords(v.last.Key, v.last.LSN, key, lsn) >= 0 ||
		d.Kind == ImageLayer && d.Entries > 0 && v.last.Kind != KindDelta && bytes.Equal(v.last.Key, key) {
		return fmt.Errorf("record %s at %d after %s at %d: %w", key, lsn, v.last.Key, v.last.LSN, ErrCorrupt)
	}
	if err := v.segs.count(r.Body); err != nil {
		return fmt.Errorf("record %s at %d: %w", key, lsn, err)
	}
	if d.Entries == 0 {
		d.Range.Start = slices.Clone(key)
	}
	if d.Entries == 0 || !bytes.Equal(v.last.Key, key) {
		for _, h := range [...]uint64{HashTimeline(key.Timeline()), HashSuffix(key.Suffix()), HashKey(key)} {
			const n = filterBlockBytes - filterTrailerBytes
			if i := filterBlockOf(h, v.c.foot.filterBlocks); !filterHas(v.filter[i*n:][:n], h) {
				return fmt.Errorf("record %s at %d is not in the filter: %w", key, lsn, ErrCorrupt)
			}
		}
	}
	v.last.Key, v.last.LSN, v.last.Kind = append(v.last.Key[:0], key...), lsn, r.Kind
	d.Entries++
	if r.Kind == KindTombstone {
		d.Deletes++
	}
	d.RawBytes += uint64(len(key) + len(r.Meta) + len(r.Body))
	d.MinLSN, d.MaxLSN, d.MaxDeath = min(d.MinLSN, lsn), max(d.MaxLSN, lsn), max(d.MaxDeath, r.Death)
	return nil
}

// tombstones checks the range tombstones, whose first block must lie at at.
func (v *layerVerifier) tombstones(at uint64) error {
	recs, from, err := v.l.readTombstones(v.c)
	if err != nil {
		return err
	}
	if from != at {
		return v.l.at(from, fmt.Errorf("first block of range tombstones, want it at %d: %w", at, ErrCorrupt))
	}
	d := &v.got
	for i := range recs {
		r := &recs[i]
		if i > 0 && cmp.Or(recs[i-1].Key.Compare(r.Key), recs[i-1].End.Compare(r.End), cmp.Compare(r.LSN, recs[i-1].LSN)) >= 0 {
			return v.l.at(from, fmt.Errorf("range tombstone [%s, %s) at %d out of order: %w", r.Key, r.End, r.LSN, ErrCorrupt))
		}
		if d.Entries+d.RangeTombstones == 0 || r.Key.Compare(d.Range.Start) < 0 {
			d.Range.Start = r.Key
		}
		if r.End.Compare(d.Range.End) > 0 {
			d.Range.End = r.End
		}
		d.RangeTombstones++
		d.MinLSN, d.MaxLSN = min(d.MinLSN, r.LSN), max(d.MaxLSN, r.LSN)
	}
	return nil
}
