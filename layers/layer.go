package layers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal"
)

// Layer is an open layer file. It is immutable and safe for concurrent use, but
// for Close, which comes when nobody uses it any more. Errors of its methods are
// those of the file system, or wrap ErrCorrupt and name file and offset.
type Layer struct {
	num      FileNum
	fs       vfs.FS
	path     string
	file     vfs.File
	cache    *BlockCache
	obsolete atomic.Bool
	versions atomic.Int64 // Versions that have the layer

	layerContents
}

// layerContents is what OpenLayer reads and keeps: all that is not in blocks.
type layerContents struct {
	desc Desc
	foot layerFooter
	// adopted says that the file holds no LSNs; bias is what to add to those it
	// holds, which are zero.
	adopted bool
	bias    wal.LSN
	flags   byte // of every entry, beside its kind

	top        []byte // top index of the point records; nil: none
	stones     *TombstoneSet
	stoneRecs  []Record
	stoneTop   []byte
	stonesFrom uint64 // offset of the first block of range tombstones
}

// OpenLayer opens the layer file that d describes. It reads header, footer and
// description, which must agree with d (d decides Level and AdoptedLSN), the top
// index and the range tombstones. Blocks are read through c; nil keeps none.
func OpenLayer(fs vfs.FS, dir string, d Desc, c *BlockCache) (*Layer, error) {
	l := &Layer{num: d.Num, fs: fs, path: fs.PathJoin(dir, LayerName(d.Num)), cache: c}
	var err error
	if l.file, err = fs.Open(l.path); err != nil {
		return nil, fmt.Errorf("open layer: %w", err)
	}
	contents, err := l.load()
	if err == nil {
		err = contents.accept(&d)
	}
	if err == nil {
		l.layerContents = *contents
		err = l.loadTombstones()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open layer %s: %w", l.path, err), l.file.Close())
	}
	return l, nil
}

// Adopt gives all records of a layer that was written without LSNs (WriterOptions.Adopted), and
// has none yet, the LSN of the commit that adopts it. Nobody else may use the layer yet.
func (l *Layer) Adopt(lsn wal.LSN) {
	if !l.adopted || l.bias != 0 {
		panic(fmt.Sprintf("layers: adoption of layer %d at %d, which has LSNs", l.num, lsn))
	}
	l.bias = lsn
	l.desc.AdoptedLSN, l.desc.MinLSN, l.desc.MaxLSN = lsn, lsn, lsn
	if l.stones == nil {
		return
	}
	for i := range l.stoneRecs {
		l.stoneRecs[i].LSN = lsn
	}
	l.stones = tombstonesFrom(l.stoneRecs)
}

// ReadDesc reads the description that lies in a layer file: for tools, and for
// when the catalog does not know the file. Level is that of the writer.
func ReadDesc(fs vfs.FS, dir string, num FileNum) (Desc, error) {
	l := &Layer{num: num, path: fs.PathJoin(dir, LayerName(num))}
	var err error
	if l.file, err = fs.Open(l.path); err != nil {
		return Desc{}, fmt.Errorf("open layer: %w", err)
	}
	c, err := l.load()
	if err = errors.Join(err, l.file.Close()); err != nil {
		return Desc{}, fmt.Errorf("read description of layer %s: %w", l.path, err)
	}
	return c.desc, nil
}

// load reads and verifies footer, header, description and top indexes.
func (l *Layer) load() (*layerContents, error) {
	st, err := l.file.Stat()
	if err != nil {
		return nil, err
	}
	size := uint64(st.Size())
	if size < layerHeaderBytes+layerFooterBytes {
		return nil, fmt.Errorf("file of %d bytes: %w", size, ErrCorrupt)
	}
	c := new(layerContents)
	p, err := l.readAt(section{size - layerFooterBytes, layerFooterBytes}, nil)
	if err != nil {
		return nil, err
	}
	if c.foot, err = decodeLayerFooter(p, size); err != nil {
		return nil, fmt.Errorf("at %d: %w", size-layerFooterBytes, err)
	}
	if p, err = l.readAt(section{0, layerHeaderBytes}, nil); err != nil {
		return nil, err
	}
	kind, err := checkLayerHeader(p, l.num)
	switch {
	case err != nil:
		return nil, fmt.Errorf("at 0: %w", err)
	case kind != c.foot.kind || c.foot.num != l.num:
		return nil, fmt.Errorf("at 0: layer %d of kind %s, footer of layer %d of kind %s: %w", l.num, kind, c.foot.num, c.foot.kind, ErrCorrupt)
	}
	if err := l.loadProperties(c); err != nil {
		return nil, err
	}
	if c.top, err = l.loadTop(c.foot.points); err != nil {
		return nil, err
	}
	c.stoneTop, err = l.loadTop(c.foot.tombstones)
	return c, err
}

// loadProperties reads the description and holds it against the footer.
func (l *Layer) loadProperties(c *layerContents) error {
	s := c.foot.properties
	p, err := l.readAt(s, nil)
	if err != nil {
		return err
	}
	fail := func(what any) error { return fmt.Errorf("properties at %d: %v: %w", s.off, what, ErrCorrupt) }
	n := len(p) - 4
	if n < 0 || crc32.Checksum(p[:n], castagnoli) != binary.LittleEndian.Uint32(p[n:]) {
		return fail("bad checksum")
	}
	if c.desc, err = DecodeDesc(p[:n]); err != nil {
		return fail(err)
	}
	d, f := &c.desc, &c.foot
	if d.Num != f.num || d.Kind != f.kind || uint64(d.Bytes) != f.fileBytes || d.AdoptedLSN != 0 ||
		(d.Entries > 0) != (f.points.length > 0) || (d.RangeTombstones > 0) != (f.tombstones.length > 0) {
		return fail("not of this file")
	}
	c.adopted = d.MaxLSN == 0
	c.flags = entryFlags(d.Kind, c.adopted)
	return nil
}

func (l *Layer) loadTop(s section) ([]byte, error) {
	if s.length == 0 {
		return nil, nil
	}
	return l.readBlock(blockRef{off: s.off, length: s.length}, s.end(), false)
}

// accept holds the description in the file against that of the catalog.
func (c *layerContents) accept(d *Desc) error {
	want, have := *d, c.desc
	have.Level = want.Level
	if c.adopted {
		have.AdoptedLSN, have.MinLSN, have.MaxLSN = want.AdoptedLSN, want.AdoptedLSN, want.AdoptedLSN
		want.MinLSN, want.MaxLSN = want.AdoptedLSN, want.AdoptedLSN
	}
	if !bytes.Equal(have.Append(nil), want.Append(nil)) {
		return fmt.Errorf("properties at %d: %+v, want %+v: %w", c.foot.properties.off, have, want, ErrCorrupt)
	}
	c.desc, c.bias = have, have.AdoptedLSN
	return nil
}

// loadTombstones reads the range tombstones.
func (l *Layer) loadTombstones() error {
	if l.stoneTop == nil {
		return nil
	}
	recs, from, err := l.readTombstones(&l.layerContents)
	if err != nil {
		return err
	}
	l.stones, l.stonesFrom = tombstonesFrom(recs), from
	if uint64(l.stones.n) != l.desc.RangeTombstones {
		return fmt.Errorf("range tombstones at %d: %d, want %d: %w", from, l.stones.n, l.desc.RangeTombstones, ErrCorrupt)
	}
	l.stoneRecs = l.stones.appendRecords(nil)
	for i := range l.stoneRecs {
		l.stoneRecs[i].Adopted = l.adopted
	}
	return nil
}

// readTombstones reads the range tombstones and where their blocks begin.
func (l *Layer) readTombstones(c *layerContents) (recs []Record, from uint64, err error) {
	w := treeWalk{l: l, top: c.stoneTop, topAt: c.foot.tombstones, bias: c.bias}
	flags := byte(KindRangeTombstone) | c.flags
	err = w.walk(func(key Key, lsn wal.LSN, value []byte) error {
		if len(value) == 0 || value[0] != flags || !key.Valid() || !validEnd(key, value[1:]) {
			return fmt.Errorf("range tombstone from %s at %d: %w", key, lsn, ErrCorrupt)
		}
		recs = append(recs, Record{Key: bytes.Clone(key), LSN: lsn, Kind: KindRangeTombstone, End: bytes.Clone(value[1:])})
		return nil
	})
	return recs, w.from, err
}

// Desc returns the description that the layer was opened with. Do not change it.
func (l *Layer) Desc() *Desc { return &l.desc }

// RangeTombstones returns all range tombstones, by key, end, then LSN descending;
// nil when there are none. They may overlap. Do not change the slice.
func (l *Layer) RangeTombstones() []Record { return l.stoneRecs }

// CoveringTombstone returns the LSN of the newest range tombstone over key at or
// below upTo: it hides the records of key at lower LSNs.
func (l *Layer) CoveringTombstone(key Key, upTo wal.LSN) (lsn wal.LSN, ok bool) {
	if l.stones == nil {
		return 0, false
	}
	lsn = l.stones.covering(key, upTo)
	return lsn, lsn != 0
}

// MayContain reports whether the layer may have a point record with the hash
// (HashTimeline, HashSuffix, HashKey); false is certain, and one in a hundred
// absent ones is taken for present. It reads at most one block of 4 KiB.
func (l *Layer) MayContain(h uint64) (bool, error) {
	if l.foot.filterBlocks == 0 {
		return false, nil
	}
	off := l.foot.filter.off + uint64(filterBlockOf(h, l.foot.filterBlocks))*filterBlockBytes
	b := l.cache.get(l.num, off)
	if b == nil {
		var err error
		if b, err = l.readFilterBlock(off); err != nil {
			return false, err
		}
		l.cache.put(l.num, off, b)
	}
	return filterHas(b, h), nil
}

// readFilterBlock reads and verifies the filter block at off.
func (l *Layer) readFilterBlock(off uint64) ([]byte, error) {
	b, err := l.readAt(section{off, filterBlockBytes}, nil)
	if err != nil {
		return nil, err
	}
	n := filterBlockBytes - filterTrailerBytes
	if got, want := placedCRC(b[:n], l.num, off), binary.LittleEndian.Uint32(b[n:]); got != want {
		return nil, l.at(off, fmt.Errorf("filter checksum %08x, want %08x: %w", got, want, ErrCorrupt))
	}
	return b[:n], nil
}

// GetBuf is memory that Get uses again. The zero value is ready.
type GetBuf struct{ key Key }

// pointIters are the iterators of one Get.
type pointIters struct{ top, index, data blockIter }

var pointItersPool = sync.Pool{New: func() any { return new(pointIters) }}

// Get returns the newest point record of key at or below upTo. Range tombstones
// are not consulted. The record's Key aliases buf (nil: a new one); Meta and Body
// are immutable and belong to the garbage collector.
func (l *Layer) Get(key Key, upTo wal.LSN, buf *GetBuf) (Record, bool, error) {
	if l.top == nil || upTo < l.desc.MinLSN || !l.desc.Range.Contains(key) {
		return Record{}, false, nil
	}
	if buf == nil {
		buf = new(GetBuf)
	}
	p := pointItersPool.Get().(*pointIters)
	r, ok, err := l.get(key, upTo, p)
	if ok {
		buf.key = append(buf.key[:0], r.Key...)
		r.Key = buf.key
	}
	// The pool must not keep blocks.
	p.top.reset()
	p.index.reset()
	p.data.reset()
	pointItersPool.Put(p)
	return r, ok, err
}

func (l *Layer) get(key Key, upTo wal.LSN, p *pointIters) (r Record, ok bool, err error) {
	if err := p.top.init(l.top, l.bias); err != nil {
		return r, false, l.at(l.foot.points.off, err)
	}
	// The first block whose last record is at or after (key, upTo) is the only
	// one that can hold the first such record; not if all in it is newer.
	ref, ok, err := l.seekRef(&p.top, l.foot.points.off, key, upTo)
	if !ok || ref.minLSN > upTo {
		return r, false, err
	}
	if err := l.openBlock(&p.index, ref, true); err != nil {
		return r, false, err
	}
	indexOff := ref.off
	ref, ok, err = l.seekRef(&p.index, indexOff, key, upTo)
	if !ok || ref.minLSN > upTo {
		return r, false, err
	}
	if err := l.openBlock(&p.data, ref, true); err != nil {
		return r, false, err
	}
	if !p.data.seekGE(key, upTo) || p.data.key.Compare(key) != 0 {
		return r, false, l.at(ref.off, p.data.err)
	}
	if err := decodeRecord(&r, p.data.key, p.data.lsn, p.data.value, l.flags); err != nil {
		return Record{}, false, l.at(ref.off, err)
	}
	return r, true, nil
}

// seekRef finds the first entry of an index block at or after (key, lsn).
func (l *Layer) seekRef(it *blockIter, off uint64, key Key, lsn wal.LSN) (ref blockRef, ok bool, err error) {
	if !it.seekGE(key, lsn) {
		return ref, false, l.at(off, it.err)
	}
	if ref, err = decodeBlockRef(it.value, it.lsn); err != nil {
		return ref, false, l.at(off, err)
	}
	return ref, true, nil
}

// openBlock sets it on the block at ref.
func (l *Layer) openBlock(it *blockIter, ref blockRef, fill bool) error {
	raw, err := l.cachedBlock(ref, fill)
	if err != nil {
		return err
	}
	return l.at(ref.off, it.init(raw, l.bias))
}

// cachedBlock returns the bytes of a block of point records or of their index.
func (l *Layer) cachedBlock(ref blockRef, fill bool) ([]byte, error) {
	if raw := l.cache.get(l.num, ref.off); raw != nil {
		return raw, nil
	}
	raw, err := l.readBlock(ref, l.foot.points.off, true)
	if err == nil && fill {
		l.cache.put(l.num, ref.off, raw)
	}
	return raw, err
}

// storedPool keeps buffers for blocks as they are stored.
var storedPool = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledBytes bounds the buffers that storedPool keeps.
const maxPooledBytes = 64 << 10

// readBlock reads, verifies and expands a block, which must end at or below
// limit. The result is the caller's; pooled says that most are compressed.
func (l *Layer) readBlock(ref blockRef, limit uint64, pooled bool) ([]byte, error) {
	if ref.off < layerHeaderBytes || ref.off > limit || ref.length > limit-ref.off || ref.length > maxBlockBytes+blockTrailer {
		return nil, l.at(ref.off, fmt.Errorf("block of %d bytes, below %d: %w", ref.length, limit, ErrCorrupt))
	}
	var buf *[]byte
	if pooled = pooled && ref.length <= maxPooledBytes; pooled {
		buf = storedPool.Get().(*[]byte)
		defer storedPool.Put(buf)
	} else {
		buf = new([]byte)
	}
	stored, err := l.readAt(section{ref.off, ref.length}, *buf)
	if err != nil {
		return nil, err
	}
	*buf = stored
	raw, err := openBlock(stored, l.num, ref.off)
	if err != nil {
		return nil, l.at(ref.off, err)
	}
	if pooled && stored[len(stored)-blockTrailer] == blockRaw {
		raw = bytes.Clone(raw)
	}
	return raw, nil
}

// readAt reads a section into buf, or a longer one.
func (l *Layer) readAt(s section, buf []byte) ([]byte, error) {
	if uint64(cap(buf)) < s.length {
		buf = make([]byte, s.length)
	}
	buf = buf[:s.length]
	if n, err := l.file.ReadAt(buf, int64(s.off)); n < len(buf) {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("file ends at %d: %w", s.off+uint64(n), ErrCorrupt)
		}
		return nil, l.at(s.off, err)
	}
	return buf, nil
}

// at adds file and offset to an error; nil stays nil.
func (l *Layer) at(off uint64, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s at %d: %w", l.path, off, err)
}

// MarkObsolete makes Close unlink the file.
func (l *Layer) MarkObsolete() { l.obsolete.Store(true) }

// Close closes the file, and unlinks it if it is obsolete. Its blocks stay in
// the cache until they are evicted.
func (l *Layer) Close() error {
	err := l.file.Close()
	if l.obsolete.Load() {
		err = errors.Join(err, l.fs.Remove(l.path))
	}
	if err != nil {
		return fmt.Errorf("close layer: %w", err)
	}
	return nil
}
