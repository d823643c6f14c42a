package layers

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pierrec/lz4/v4"

	"stemma/wal"
)

// LayerCategory is the category of writes to layer files unless the writer's
// options name another.
const LayerCategory vfs.DiskWriteCategory = "stemma-layer"

const (
	writeBufferBytes = 256 << 10
	// bytesPerSync is how much is written before the kernel is asked to begin
	// writing back, so that Finish does not stall the disk for everyone.
	bytesPerSync = 1 << 20
)

// WriterOptions configures a LayerWriter.
type WriterOptions struct {
	Kind     LayerKind             // zero: DeltaLayer
	Level    int                   // 0 to 255, for the Desc
	Category vfs.DiskWriteCategory // default LayerCategory
	// Adopted makes a file without LSNs: those of its records are ignored, no
	// key may come twice, and readers give every record Desc.AdoptedLSN. For the
	// staged records of a merge, written before their commit has an LSN. Only for
	// delta layers.
	Adopted bool
}

// LayerWriter writes one layer. Not safe for concurrent use. After an error
// only Abort is of use.
type LayerWriter struct {
	fs      vfs.FS
	path    string
	adopted bool
	flags   byte // of every entry, beside its kind
	out     blockOutput
	closed  bool
	err     error // first failure

	points         tree
	lastKey        Key
	lastLSN        wal.LSN
	lastKind       Kind
	hashes         []uint64
	tombstones     []Record
	tombstoneBytes int64 // bytes
	segments       segmentCounter
	value          []byte
	desc           Desc
}

// NewLayerWriter creates the file of layer num in dir. An existing one is replaced.
func NewLayerWriter(fs vfs.FS, dir string, num FileNum, o WriterOptions) (*LayerWriter, error) {
	if o.Level < 0 || o.Level > 255 {
		return nil, fmt.Errorf("create layer %d: level %d, want 0 to 255", num, o.Level)
	}
	if o.Kind == 0 {
		o.Kind = DeltaLayer
	}
	if o.Kind > HistoryLayer || o.Adopted && o.Kind != DeltaLayer {
		return nil, fmt.Errorf("create layer %d: kind %s, adopted %v", num, o.Kind, o.Adopted)
	}
	if o.Category == "" {
		o.Category = LayerCategory
	}
	path := fs.PathJoin(dir, LayerName(num))
	f, err := fs.Create(path, o.Category)
	if err != nil {
		return nil, fmt.Errorf("create layer: %w", err)
	}
	w := &LayerWriter{fs: fs, path: path, adopted: o.Adopted, flags: entryFlags(o.Kind, o.Adopted)}
	w.out.file = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: bytesPerSync, NoSyncOnClose: true})
	w.out.num = num
	w.out.buf = appendLayerHeader(make([]byte, 0, writeBufferBytes+2*blockTargetBytes), num, o.Kind)
	w.points = newTree(&w.out)
	w.desc = Desc{Num: num, Kind: o.Kind, Level: o.Level, MinLSN: wal.MaxLSN}
	return w, nil
}

// Add appends a point record; records come in order, and r may be reused. An
// image layer takes one record of a key, and below a delta the next older one;
// records of a history layer, and no others, have a Death above their LSN. Errors: of the file system; of a body
// that does not decode; disorder and the like, which are bugs.
func (w *LayerWriter) Add(r *Record) error {
	if w.err != nil {
		return w.err
	}
	if err := w.add(r); err != nil {
		w.err = fmt.Errorf("write layer %s: %w", w.path, err)
	}
	return w.err
}

func (w *LayerWriter) add(r *Record) error {
	lsn, err := w.checkRecord(r)
	if err != nil {
		return err
	}
	newKey := w.desc.Entries == 0 || w.lastKey.Compare(r.Key) != 0
	if w.desc.Entries > 0 && compareRecords(w.lastKey, w.lastLSN, r.Key, lsn) >= 0 ||
		!newKey && (w.adopted || w.desc.Kind == ImageLayer && w.lastKind != KindDelta) {
		return fmt.Errorf("record %s at %d after %s at %d: out of order", r.Key, lsn, w.lastKey, w.lastLSN)
	}
	if err := w.segments.count(r.Body); err != nil {
		return fmt.Errorf("record %s at %d: %w", r.Key, lsn, err)
	}
	if newKey {
		if w.desc.Entries == 0 {
			w.desc.Range.Start = slices.Clone(r.Key)
		}
		if t := r.Key.Timeline(); w.desc.Entries == 0 || w.lastKey.Timeline() != t {
			w.hashes = append(w.hashes, HashTimeline(t))
		}
		w.hashes = append(w.hashes, HashSuffix(r.Key.Suffix()), HashKey(r.Key))
		w.lastKey = append(w.lastKey[:0], r.Key...)
	}
	w.lastLSN, w.lastKind = lsn, r.Kind
	w.desc.Entries++
	if r.Kind == KindTombstone {
		w.desc.Deletes++
	}
	w.desc.RawBytes += uint64(len(r.Key) + len(r.Meta) + len(r.Body))
	w.coverLSN(lsn)
	w.desc.MaxDeath = max(w.desc.MaxDeath, r.Death)
	w.value = appendRecordValue(w.value[:0], r, w.flags)
	return w.points.add(r.Key, lsn, w.value)
}

// checkRecord refuses what a layer cannot hold and returns the LSN to store.
func (w *LayerWriter) checkRecord(r *Record) (wal.LSN, error) {
	switch {
	case r.Kind < KindValue || r.Kind > KindTombstone:
		return 0, fmt.Errorf("record %s: kind %d is not of a point record", r.Key, r.Kind)
	case !r.Key.Valid():
		return 0, fmt.Errorf("record: key of %d bytes", len(r.Key))
	case len(r.Key)+len(r.Meta)+len(r.Body) > MaxRecordBytes:
		return 0, fmt.Errorf("record %s: meta of %d and body of %d bytes, want at most %d together", r.Key, len(r.Meta), len(r.Body), MaxRecordBytes)
	case w.desc.Kind == HistoryLayer && (r.Death <= r.LSN || r.Death > wal.MaxLSN), w.desc.Kind != HistoryLayer && r.Death != 0:
		return 0, fmt.Errorf("record %s at %d: death at %d in a layer of kind %s", r.Key, r.LSN, r.Death, w.desc.Kind)
	case w.adopted:
		return 0, nil
	case r.LSN == 0 || r.LSN > wal.MaxLSN:
		return 0, fmt.Errorf("record %s: LSN %d", r.Key, r.LSN)
	}
	return r.LSN, nil
}

func (w *LayerWriter) coverLSN(lsn wal.LSN) {
	w.desc.MinLSN, w.desc.MaxLSN = min(w.desc.MinLSN, lsn), max(w.desc.MaxLSN, lsn)
}

// AddRangeTombstone adds a range tombstone, in any order, repeats allowed; r may
// be reused. The caller has clipped it to the range of the file (ClipTombstone).
// A history layer takes none.
func (w *LayerWriter) AddRangeTombstone(r *Record) error {
	lsn := r.LSN
	if w.adopted {
		lsn = 0
	}
	switch {
	case w.err != nil:
		return w.err
	case w.desc.Kind == HistoryLayer || r.Death != 0:
		w.err = fmt.Errorf("write layer %s: range tombstone [%s, %s), death at %d, in a layer of kind %s", w.path, r.Key, r.End, r.Death, w.desc.Kind)
	case r.Kind != KindRangeTombstone || !r.Key.Valid() || !validEnd(r.Key, r.End):
		w.err = fmt.Errorf("write layer %s: bad range tombstone [%s, %s), kind %d", w.path, r.Key, r.End, r.Kind)
	case !w.adopted && (lsn == 0 || lsn > wal.MaxLSN):
		w.err = fmt.Errorf("write layer %s: range tombstone [%s, %s): LSN %d", w.path, r.Key, r.End, lsn)
	default:
		w.tombstones = append(w.tombstones, Record{Key: slices.Clone(r.Key), End: slices.Clone(r.End), LSN: lsn, Kind: KindRangeTombstone})
		w.tombstoneBytes += int64(len(r.Key) + len(r.End) + 16)
		w.coverLSN(lsn)
	}
	return w.err
}

// EstimatedBytes returns about how large the file would be if it ended now.
func (w *LayerWriter) EstimatedBytes() int64 {
	return int64(w.out.offset()) + w.points.pendingBytes() + w.tombstoneBytes +
		int64(filterBlocks(len(w.hashes)))*filterBlockBytes
}

// Finish writes what is left and syncs the file, then closes it; the caller
// syncs the directory. A layer without records is refused. After an error, and
// also after success when the layer is not wanted, Abort removes the file.
func (w *LayerWriter) Finish() (Desc, error) {
	if w.err == nil {
		w.err = w.finish()
	}
	if w.err != nil {
		return Desc{}, fmt.Errorf("finish layer %s: %w", w.path, w.err)
	}
	return w.desc, nil
}

func (w *LayerWriter) finish() error {
	set := tombstonesFrom(w.tombstones)
	w.desc.RangeTombstones = uint64(set.n)
	if w.closed || w.desc.Entries+w.desc.RangeTombstones == 0 {
		return errors.New("no records, or finished before")
	}
	foot := layerFooter{num: w.desc.Num, kind: w.desc.Kind}
	var err error
	if foot.points, err = w.points.finish(); err != nil {
		return err
	}
	if foot.filter, err = w.writeFilter(); err != nil {
		return err
	}
	if foot.tombstones, err = w.writeTombstones(set); err != nil {
		return err
	}
	w.describe(set)
	if foot.properties, err = w.writeProperties(); err != nil {
		return err
	}
	foot.fileBytes = uint64(w.desc.Bytes)
	w.out.buf = foot.append(w.out.buf)
	if err := w.out.flush(); err != nil {
		return err
	}
	if err := w.out.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	w.closed = true
	return w.out.file.Close()
}

// writeFilter writes the blocks of the filter.
func (w *LayerWriter) writeFilter() (section, error) {
	n := filterBlocks(len(w.hashes))
	if n == 0 {
		return section{}, nil
	}
	s := section{off: w.out.offset(), length: uint64(n) * filterBlockBytes}
	blocks := make([]byte, s.length)
	for _, h := range w.hashes {
		i := filterBlockOf(h, n) * filterBlockBytes
		filterAdd(blocks[i:i+filterBlockBytes], h)
	}
	w.hashes = nil
	for i := range n {
		b := blocks[i*filterBlockBytes:][:filterBlockBytes]
		sealFilter(b, w.out.num, w.out.offset())
		if err := w.out.write(b); err != nil {
			return s, err
		}
	}
	return s, nil
}

// writeTombstones writes the range tombstones as a tree of their own.
func (w *LayerWriter) writeTombstones(set *TombstoneSet) (section, error) {
	t := newTree(&w.out)
	flags := byte(KindRangeTombstone) | w.flags
	for i := range set.spans {
		s := &set.spans[i]
		w.value = append(append(w.value[:0], flags), s.end...)
		for _, lsn := range s.lsns {
			if err := t.add(s.start, lsn, w.value); err != nil {
				return section{}, err
			}
		}
	}
	return t.finish()
}

// describe completes the description but for the size of the file.
func (w *LayerWriter) describe(set *TombstoneSet) {
	d := &w.desc
	if d.Entries > 0 {
		d.Range.End = append(slices.Clone(w.lastKey), 0)
	}
	if set.n > 0 {
		if first := set.spans[0].start; d.Entries == 0 || first.Compare(d.Range.Start) < 0 {
			d.Range.Start = first
		}
		if last := set.maxEnd(); last.Compare(d.Range.End) > 0 {
			d.Range.End = last
		}
	}
	d.Segments = w.segments.refs()
}

// writeProperties sets the size of the file, which is all but the footer after
// this, and writes the description. Its size does not depend on its value.
func (w *LayerWriter) writeProperties() (section, error) {
	s := section{off: w.out.offset()}
	s.length = uint64(len(w.desc.Append(nil)) + 4)
	w.desc.Bytes = int64(s.end() + layerFooterBytes)
	return s, w.out.write(appendCRC(w.desc.Append(nil)))
}

// Abort closes and removes the file; it may be called at any time, again too.
func (w *LayerWriter) Abort() error {
	w.err = errors.New("aborted")
	var errs []error
	if !w.closed {
		w.closed = true
		errs = append(errs, w.out.file.Close())
	}
	if err := w.fs.Remove(w.path); err != nil && !oserror.IsNotExist(err) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("abort layer %s: %w", w.path, err)
	}
	return nil
}

// blockOutput appends to a file through a buffer.
type blockOutput struct {
	file vfs.File
	num  FileNum
	buf  []byte
	done uint64 // bytes written to the file
	lz4  lz4.Compressor
}

// offset returns where the next byte will lie.
func (o *blockOutput) offset() uint64 { return o.done + uint64(len(o.buf)) }

// block writes the stored form of raw and returns where it lies.
func (o *blockOutput) block(raw []byte) (section, error) {
	s := section{off: o.offset()}
	if len(raw) > maxBlockBytes {
		return s, fmt.Errorf("block of %d bytes at %d, want at most %d", len(raw), s.off, maxBlockBytes)
	}
	o.buf = sealBlock(o.buf, raw, o.num, s.off, &o.lz4)
	s.length = o.offset() - s.off
	return s, o.spill()
}

func (o *blockOutput) write(p []byte) error {
	o.buf = append(o.buf, p...)
	return o.spill()
}

func (o *blockOutput) spill() error {
	if len(o.buf) < writeBufferBytes {
		return nil
	}
	return o.flush()
}

func (o *blockOutput) flush() error {
	n, err := o.file.Write(o.buf)
	if err != nil {
		return fmt.Errorf("write at %d: %w", o.done, err)
	}
	o.done += uint64(n)
	o.buf = o.buf[:0]
	return nil
}

// tree writes blocks of entries, then an index of two levels over them.
type tree struct {
	out   *blockOutput
	block level
	index level
	// indexes waits until the last block is written: the index blocks lie together.
	indexes []indexBlock
	bytes   int64 // of indexes
	value   []byte
}

func newTree(out *blockOutput) tree {
	return tree{out: out, block: newLevel(dataRestarts), index: newLevel(indexRestarts)}
}

// level is a block being built and the LSNs in it or below it.
type level struct {
	blockBuilder
	minLSN, maxLSN wal.LSN
	lastLSN        wal.LSN
}

type indexBlock struct {
	raw            []byte
	lastKey        Key
	lastLSN        wal.LSN
	minLSN, maxLSN wal.LSN
}

func newLevel(every int) level { return level{blockBuilder: blockBuilder{every: every}} }

// put adds an entry over the LSNs low to high.
func (l *level) put(key Key, lsn wal.LSN, value []byte, low, high wal.LSN) {
	if l.count == 0 {
		l.minLSN, l.maxLSN = low, high
	}
	l.minLSN, l.maxLSN, l.lastLSN = min(l.minLSN, low), max(l.maxLSN, high), lsn
	l.begin(key, lsn, len(value))
	l.buf = append(l.buf, value...)
}

func (l *level) full(key Key, value []byte) bool {
	return l.count > 0 && l.bytesWith(key, len(value)) > blockTargetBytes
}

// add appends an entry.
func (t *tree) add(key Key, lsn wal.LSN, value []byte) error {
	if t.block.full(key, value) {
		if err := t.cutBlock(); err != nil {
			return err
		}
	}
	t.block.put(key, lsn, value, lsn, lsn)
	return nil
}

// cutBlock writes the present block and adds it to the index.
func (t *tree) cutBlock() error {
	b := &t.block
	s, err := t.out.block(b.finish())
	if err != nil {
		return err
	}
	ref := blockRef{off: s.off, length: s.length, minLSN: b.minLSN, maxLSN: b.maxLSN}
	t.value = ref.appendValue(t.value[:0], b.lastLSN)
	if t.index.full(b.lastKey, t.value) {
		t.cutIndex()
	}
	t.index.put(b.lastKey, b.lastLSN, t.value, b.minLSN, b.maxLSN)
	b.reset()
	return nil
}

func (t *tree) cutIndex() {
	x := &t.index
	t.indexes = append(t.indexes, indexBlock{slices.Clone(x.finish()), slices.Clone(x.lastKey), x.lastLSN, x.minLSN, x.maxLSN})
	t.bytes += int64(len(x.buf))
	x.reset()
}

// pendingBytes returns what is not written yet, before compression.
func (t *tree) pendingBytes() int64 {
	return int64(len(t.block.buf)+len(t.index.buf)) + t.bytes
}

// finish writes the rest, the index blocks and the top index, and returns where
// the top index lies: an empty section if nothing was added.
func (t *tree) finish() (section, error) {
	if t.block.count == 0 {
		return section{}, nil
	}
	if err := t.cutBlock(); err != nil {
		return section{}, err
	}
	t.cutIndex()
	top := newLevel(indexRestarts)
	for i := range t.indexes {
		x := &t.indexes[i]
		s, err := t.out.block(x.raw)
		if err != nil {
			return section{}, err
		}
		ref := blockRef{off: s.off, length: s.length, minLSN: x.minLSN, maxLSN: x.maxLSN}
		t.value = ref.appendValue(t.value[:0], x.lastLSN)
		top.put(x.lastKey, x.lastLSN, t.value, x.minLSN, x.maxLSN)
	}
	t.indexes = nil
	return t.out.block(top.finish())
}
