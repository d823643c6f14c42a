package layers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal/storefs"
)

// ValueRewriter copies the live values of a sealed segment to a new file of the
// same number, with a table from old offsets to new: handles never change. It
// holds the segment. Not safe for concurrent use.
//
//	w, err := values.BeginRewrite(num, category)
//	defer w.Abort()
//	for h in live, ascending by offset { w.Add(h) }
//	info, err := w.Finish()  // durable
//	for h in live { w.Verify(h) }
//	...                      // commit {segment, info.Generation}, synced
//	w.Publish()
type ValueRewriter struct {
	v       *Values
	seg     *valueSegment // being rewritten; held, reclaiming
	out     *valueSegment // the new file; nobody else knows it
	old     *valueFile    // where values are copied from
	made    *valueFile    // the new file as Verify reads it, once it did
	buf     []byte        // accepted, not written out; pooled
	entries []remapEntry
	last    Handle // the last value that was added, if there are entries
	state   rewriteState
	err     error
}

type rewriteState byte

const (
	rewriteOpen rewriteState = iota
	rewriteFinished
	rewriteDone // published or aborted
)

// BeginRewrite starts to rewrite the sealed segment num into a file of that
// category, with a generation above all that there are files of. While it lasts
// the segment cannot be removed, punched or rewritten by others. The caller has
// made sure that nobody can ask for a value that it does not add, as for Remove.
// Always call Abort.
//
// Errors: ErrNoSegment, ErrClosed, ErrHeld for one that is open, or punched or
// rewritten by others; those of the disk.
func (v *Values) BeginRewrite(num FileNum, category vfs.DiskWriteCategory) (*ValueRewriter, error) {
	seg, err := v.reclaim(num)
	if err != nil {
		return nil, fmt.Errorf("rewrite value segment: %w", err)
	}
	w := &ValueRewriter{v: v, seg: seg}
	if err := w.begin(category); err != nil {
		return nil, errors.Join(fmt.Errorf("rewrite value segment: %w", err), w.Abort())
	}
	return w, nil
}

// reclaim takes the sealed segment num for one who punches or rewrites it. It is
// given back with endReclaim.
func (v *Values) reclaim(num FileNum) (*valueSegment, error) {
	s, err := v.holdSegment(num)
	if err != nil {
		return nil, err
	}
	if !s.sealed.Load() || !s.reclaiming.CompareAndSwap(false, true) {
		s.release()
		return nil, fmt.Errorf("%s: %w", v.segmentPath(s), ErrHeld)
	}
	return s, nil
}

func (s *valueSegment) endReclaim() {
	s.reclaiming.Store(false)
	s.release()
}

func (w *ValueRewriter) begin(category vfs.DiskWriteCategory) error {
	generation, err := w.v.nextGeneration(w.seg)
	if err != nil {
		return err
	}
	if w.old, err = w.v.files.acquire(w.seg); err != nil {
		return err
	}
	out := &valueSegment{num: w.seg.num, category: category}
	out.generation.Store(generation)
	if err := w.v.createFile(out, w.old.header.kind); err != nil {
		var left *leftFileError
		if errors.As(err, &left) {
			w.v.addOrphan(out.num, generation)
		}
		return err
	}
	w.out, w.buf = out, getBuffer(maxBufferBytes)
	return nil
}

// nextGeneration returns one above all that there are files of.
func (v *Values) nextGeneration(s *valueSegment) (uint32, error) {
	last := s.generation.Load()
	v.mu.RLock()
	for _, o := range v.mu.orphans {
		if o.num == s.num {
			last = max(last, o.generation)
		}
	}
	v.mu.RUnlock()
	if last == math.MaxUint32 {
		return 0, fmt.Errorf("%s: no generation left", v.segmentPath(s))
	}
	return last + 1, nil
}

// Add copies the value of h, which it verifies. Values come in ascending order of
// their offsets; one that comes again is there already. The first failure is
// returned for ever.
//
// Errors: ErrCorrupt for a value that does not hold; those of the disk.
func (w *ValueRewriter) Add(h Handle) error {
	switch {
	case w.err != nil:
		return w.err
	case w.state != rewriteOpen:
		return errWriterDone
	case h.Segment != w.seg.num:
		return fmt.Errorf("rewrite %s: value of segment %d", w.v.segmentPath(w.seg), h.Segment)
	case h.Length == 0 && h.Raw == 0: // nobody reads anything for it
		return nil
	case len(w.entries) > 0 && h == w.last:
		return nil
	case len(w.entries) > 0 && h.Offset < w.last.Range().end():
		return fmt.Errorf("rewrite %s: value at %d of %d bytes after that at %d of %d: %w",
			w.v.segmentPath(w.seg), h.Offset, h.Length, w.last.Offset, w.last.Length, ErrCorrupt)
	}
	if err := w.copy(h); err != nil {
		w.err = fmt.Errorf("rewrite value: %w", err)
	}
	return w.err
}

func (w *ValueRewriter) copy(h Handle) error {
	e := Extent{Handle: h, Len: h.Raw}
	src := extentSource{v: w.v, e: &e, file: w.old}
	var err error
	if src.at, err = w.old.locate(&e); err != nil {
		return src.wrap(err)
	}
	if w.old.header.kind == valuesStreamed {
		if err := w.align(); err != nil {
			return err
		}
	}
	table, err := src.pooledTable()
	if err != nil {
		return err
	}
	defer putBuffer(table)
	w.entries, w.last = append(w.entries, remapEntry{h.Offset, w.pos()}), h
	for from := uint64(0); from < h.Length; {
		p, err := w.room(int(min(h.Length-from, pieceBytes)))
		if err != nil {
			return err
		}
		if err := src.readChunks(p, from, table); err != nil {
			return err
		}
		w.buf = w.buf[:len(w.buf)+len(p)]
		from += uint64(len(p))
	}
	return w.write(table)
}

// pos returns where the next bytes go.
func (w *ValueRewriter) pos() uint64 { return uint64(w.out.pos) + uint64(len(w.buf)) }

// room returns the next n bytes of the buffer, which count once it is cut longer.
func (w *ValueRewriter) room(n int) ([]byte, error) {
	if cap(w.buf)-len(w.buf) < n {
		if err := w.flush(); err != nil {
			return nil, err
		}
	}
	return w.buf[len(w.buf) : len(w.buf)+n], nil
}

func (w *ValueRewriter) write(p []byte) error {
	if _, err := w.room(len(p)); err != nil {
		return err
	}
	w.buf = append(w.buf, p...)
	return nil
}

func (w *ValueRewriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.v.append(w.out, w.buf)
	w.buf = w.buf[:0]
	return err
}

// align leaves a hole up to the next boundary.
func (w *ValueRewriter) align() error {
	if w.pos()%valueAlign == 0 {
		return nil
	}
	err := w.flush()
	w.out.alignUp()
	return err
}

// Finish writes the table and syncs file and directory: the file survives a
// crash, but counts only once the catalog says so and Publish was called. What
// it returns describes it.
func (w *ValueRewriter) Finish() (SegmentInfo, error) {
	if w.err != nil {
		return SegmentInfo{}, w.err
	}
	if w.state != rewriteOpen {
		return SegmentInfo{}, errWriterDone
	}
	if err := w.finish(); err != nil {
		w.err = fmt.Errorf("rewrite value segment: %w", err)
		return SegmentInfo{}, w.err
	}
	w.state = rewriteFinished
	w.giveUp()
	return SegmentInfo{
		Num: w.out.num, Generation: w.out.generation.Load(), Bytes: w.out.pos, Allocated: w.out.pos,
		Sealed: true, Holds: max(w.seg.holds.Load(), 0),
	}, nil
}

func (w *ValueRewriter) finish() error {
	if err := w.writeTable(); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.v.sync(w.out); err != nil {
		return err
	}
	return w.v.seal(w.out)
}

// Verify reads a value that was added back from the new file, after Finish and
// before Publish puts it in the place of the only copy: through the table, and
// against the checksums of the handle.
//
// Errors: ErrCorrupt for a value that is not as it was; those of the disk.
func (w *ValueRewriter) Verify(h Handle) error {
	switch {
	case w.state != rewriteFinished:
		return errWriterDone
	case h.Length == 0 && h.Raw == 0:
		return nil
	}
	if w.made == nil {
		f, err := w.v.files.open(w.out, w.out.generation.Load())
		if err != nil {
			return fmt.Errorf("verify rewritten value: %w", err)
		}
		w.made = f
	}
	e := Extent{Handle: h, Len: h.Raw}
	src := extentSource{v: w.v, e: &e, file: w.made}
	var err error
	if src.at, err = w.made.locate(&e); err != nil {
		err = src.wrap(err)
	} else {
		err = src.verify()
	}
	if err != nil {
		return fmt.Errorf("verify rewritten value: %w", err)
	}
	return nil
}

// verify reads all stored bytes of the value.
func (s extentSource) verify() error {
	table, err := s.pooledTable()
	if err != nil {
		return err
	}
	defer putBuffer(table)
	buf := getBuffer(int(min(s.e.Length, pieceBytes)))
	defer putBuffer(buf)
	for from := uint64(0); from < s.e.Length; from += pieceBytes {
		if err := s.readChunks(buf[:min(s.e.Length-from, pieceBytes)], from, table); err != nil {
			return err
		}
	}
	return nil
}

// writeTable writes pages, index and footer.
func (w *ValueRewriter) writeTable() error {
	if err := w.align(); err != nil {
		return err
	}
	f := remapFooter{num: w.out.num, generation: w.out.generation.Load(), tableOffset: w.pos(), entries: uint64(len(w.entries))}
	if w.old.remap != nil {
		f.originalBytes = w.old.remap.originalBytes
	} else {
		f.originalBytes = uint64(w.seg.size.Load())
	}
	var page []byte
	for rest := w.entries; len(rest) > 0; {
		n := min(len(rest), remapPageEntries)
		page = appendRemapPage(page[:0], rest[:n], f.num, f.generation, w.pos())
		if err := w.write(page); err != nil {
			return err
		}
		rest = rest[n:]
	}
	var first [8]byte
	for i := 0; i < len(w.entries); i += remapPageEntries {
		binary.LittleEndian.PutUint64(first[:], w.entries[i].old)
		f.indexCRC = crc32.Update(f.indexCRC, castagnoli, first[:])
		if err := w.write(first[:]); err != nil {
			return err
		}
	}
	return w.write(f.append(nil))
}

// giveUp lets go of all that only copying needs.
func (w *ValueRewriter) giveUp() {
	putBuffer(w.buf)
	w.buf, w.entries = nil, nil
	if w.old != nil {
		w.v.files.release(w.old)
		w.old = nil
	}
}

func (w *ValueRewriter) closeMade() {
	if w.made != nil {
		w.v.files.close(w.made)
		w.made = nil
	}
}

// Publish makes the new file the one that counts for whoever opens the segment
// from now on, and unlinks the old one; who has that open reads on in it. The
// catalog's row must be synced before. It is in force whatever the error, which
// says that the old file is still there, as an orphan, or may be after a crash.
func (w *ValueRewriter) Publish() error {
	if w.state != rewriteFinished {
		return errWriterDone
	}
	w.state = rewriteDone
	w.closeMade()
	v, s := w.v, w.seg
	defer s.endReclaim()
	v.mu.Lock()
	before := s.generation.Load()
	s.rewritten.Store(w.out.pos)
	s.saved.Store(0)
	s.generation.Store(w.out.generation.Load())
	s.punched = nil
	v.mu.orphans[ValueFileName(s.num, before)] = orphanFile{s.num, before}
	v.mu.Unlock()
	v.files.evict(s.num)
	if err := v.RemoveOrphan(ValueFileName(s.num, before)); err != nil {
		return fmt.Errorf("publish value segment: %w", err)
	}
	return nil
}

// Abort ends a rewrite that was not published and removes its file; after Publish
// it does nothing. When a commit of the row may have succeeded it must not be
// called: only the next start can tell which file counts.
func (w *ValueRewriter) Abort() error {
	if w.state == rewriteDone {
		return nil
	}
	w.state = rewriteDone
	defer w.seg.endReclaim()
	w.giveUp()
	w.closeMade()
	if w.out == nil {
		return nil
	}
	var errs []error
	if w.out.file != nil {
		errs = append(errs, w.v.seal(w.out))
	}
	generation := w.out.generation.Load()
	w.v.addOrphan(w.out.num, generation)
	errs = append(errs, w.v.RemoveOrphan(ValueFileName(w.out.num, generation)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("abort rewrite: %w", err)
	}
	return nil
}

func (v *Values) addOrphan(num FileNum, generation uint32) {
	v.mu.Lock()
	v.mu.orphans[ValueFileName(num, generation)] = orphanFile{num, generation}
	v.mu.Unlock()
}

// Orphans returns the names, in order, of the files of generations that do not
// count: older ones, and newer ones that were never published.
func (v *Values) Orphans() []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Sorted(maps.Keys(v.mu.orphans))
}

// RemoveOrphan unlinks a file that Orphans has named, and syncs the directory.
// When the unlink fails it stays an orphan; when only the sync fails, it may be
// back after a crash.
func (v *Values) RemoveOrphan(name string) error {
	v.mu.RLock()
	_, ok := v.mu.orphans[name]
	v.mu.RUnlock()
	if !ok {
		return fmt.Errorf("remove %s: not an orphan", v.fs.PathJoin(v.dir, name))
	}
	path := v.fs.PathJoin(v.dir, name)
	if err := v.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	v.mu.Lock()
	delete(v.mu.orphans, name)
	v.mu.Unlock()
	if err := storefs.SyncDir(v.fs, v.dir); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
