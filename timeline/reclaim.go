package timeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
)

// reclaimer knows which value segments may hold something that nothing refers to.
type reclaimer struct {
	mu    sync.Mutex
	dirty map[layers.FileNum]bool // lost a reference since they were last scanned
	// live is what a scan found of each segment; under Store.collectMu.
	live map[layers.FileNum]int64
}

// noteEdit marks the segments that outputs refer to less than inputs do, after
// the Version without the inputs was published.
func (r *reclaimer) noteEdit(inputs, outputs []*layers.Layer) {
	bytes := make(map[layers.FileNum]int64)
	for _, l := range inputs {
		for _, seg := range l.Desc().Segments {
			bytes[seg.Segment] += int64(seg.Bytes)
		}
	}
	for _, l := range outputs {
		for _, seg := range l.Desc().Segments {
			bytes[seg.Segment] -= int64(seg.Bytes)
		}
	}
	for num, n := range bytes {
		if n > 0 {
			r.note(num)
		}
	}
}

// note marks segments that lost a reference in the current Version.
func (r *reclaimer) note(segs ...layers.FileNum) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dirty == nil {
		r.dirty = make(map[layers.FileNum]bool)
	}
	for _, num := range segs {
		r.dirty[num] = true
	}
}

// pending reports whether a segment waits for its scan.
func (r *reclaimer) pending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.dirty) > 0
}

// take empties the set of dirty segments.
func (r *reclaimer) take() map[layers.FileNum]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	dirty := r.dirty
	r.dirty = nil
	return dirty
}

// scanExtents bounds the values that one scan of the references keeps in mind.
var scanExtents = 2 << 20 // a variable for the tests

// reclaimValues gives back what nothing refers to in value segments. The order is
// that of DESIGN 7, and every step of it counts:
//
//  1. The edits that dropped references are synced and published, then noted.
//  2. While no other such edit is published: nobody who may read values uses an
//     older Version any more; then the segments are picked that are sealed and
//     without holds; then a Version is taken. What writers and copiers who let go
//     of a segment before made of it is in that Version. Who takes a hold from
//     here on has found a record that it has, or that was made of such.
//  3. The references of that Version are looked for.
//  4. What none of them names goes.
//
// The caller holds collectMu.
func (s *Store) reclaimValues(ctx context.Context, mode gc.Mode) error {
	v, todo, err := s.segmentsToScan(mode)
	if err != nil {
		return err
	}
	defer v.Release()
	errs := []error{s.removeOrphans()}
	for n := len(todo); len(todo) > 0; n = min(n, len(todo)) {
		err := s.reclaimSegments(ctx, v, todo[:n], mode)
		if errors.Is(err, errManyValues) {
			n = max(n/2, 1)
			continue
		}
		noted := todo[:n]
		todo = todo[n:]
		if ctx.Err() != nil || s.closing.Err() != nil || s.Err() != nil {
			noted, todo = append(noted, todo...), nil
		} else if err == nil {
			continue
		}
		errs = append(errs, err)
		for _, seg := range noted {
			s.reclaim.note(seg.Num)
		}
	}
	return errors.Join(errs...)
}

// removeOrphans removes the files of rewritten segments that do not count and could
// not be unlinked when they ceased to. Only who holds collectMu makes such.
func (s *Store) removeOrphans() error {
	var errs []error
	for _, name := range s.values.Orphans() {
		if err := s.values.RemoveOrphan(name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (r *reclaimer) noteAll(dirty map[layers.FileNum]bool) {
	for num := range dirty {
		r.note(num)
	}
}

const (
	// worthScan is how many dead bytes in a segment are worth a scan for its
	// references while the store is busy.
	worthScan = 4 << 20
	// worthSealing is how many dead bytes open segments may keep while the store is
	// busy: those of streams are sealed by themselves only when they are large.
	worthSealing = 64 << 20
	// worthSealingIdle is how many bytes open segments may keep, while the store is
	// idle, that no record ever referred to: of uploads that died. Alignment
	// leaves some everywhere, so only segments count of which they are a quarter.
	worthSealingIdle = 1 << 20
)

// segmentsToScan picks the segments where something can be gained now, and takes
// the Version in which to look for references to them. Dirty ones that have to
// wait stay noted.
func (s *Store) segmentsToScan(mode gc.Mode) (*layers.Version, []layers.SegmentInfo, error) {
	r := &s.reclaim
	if r.live == nil {
		r.live = make(map[layers.FileNum]int64)
	}
	dirty := r.take()
	v, _, err := s.acquire()
	if err != nil {
		return nil, nil, err
	}
	referred := referredBytes(v)
	v.Release()
	s.sealGarbage(dirty, referred, mode)

	s.dropMu.Lock()
	defer s.dropMu.Unlock()
	var todo []layers.SegmentInfo
	if now := s.version.Load(); now == nil || s.readersBefore(now.Seq) {
		r.noteAll(dirty)
	} else {
		todo = s.pickSegments(dirty, referred, mode)
	}
	v, _, err = s.acquire() // after the look at the holds: see reclaimValues
	return v, todo, err
}

// pickSegments is segmentsToScan at the moment when no record is dropped.
func (s *Store) pickSegments(dirty map[layers.FileNum]bool, referred map[layers.FileNum]int64, mode gc.Mode) []layers.SegmentInfo {
	var todo []layers.SegmentInfo
	exists := make(map[layers.FileNum]bool)
	for _, seg := range s.values.Segments() {
		exists[seg.Num] = true
		live, known := s.reclaim.live[seg.Num]
		if mode != gc.Full && !dirty[seg.Num] && known && !gc.RewriteSegment(seg.Allocated, live, mode) {
			continue
		}
		promising := mode != gc.Busy || seg.Allocated-referred[seg.Num] >= min(seg.Allocated/8, worthScan)
		if promising && seg.Sealed && seg.Holds == 0 {
			todo = append(todo, seg)
		} else if dirty[seg.Num] {
			s.reclaim.note(seg.Num)
		}
	}
	for num := range s.reclaim.live {
		if !exists[num] {
			delete(s.reclaim.live, num)
		}
	}
	return todo
}

// sealGarbage seals the idle open segments when they keep enough that is dead.
func (s *Store) sealGarbage(dirty map[layers.FileNum]bool, referred map[layers.FileNum]int64, mode gc.Mode) {
	// Of segments that are not dirty nothing was dropped, but of what is not
	// referred to by layers memlayers have a part, and uploads that died the rest.
	// What is committed or flushed meanwhile makes it too much; that seals early.
	unnamed := -s.unflushedValues()
	var dead, all int64
	open := false
	for _, seg := range s.values.Segments() {
		all += seg.Allocated
		n := max(seg.Allocated-referred[seg.Num], 0)
		switch {
		case seg.Sealed:
		case dirty[seg.Num]:
			open = true
			dead += n
		case seg.Holds == 0 && n >= seg.Allocated/4:
			unnamed += n
		}
	}
	unnamed = max(unnamed, 0)
	switch mode {
	case gc.Busy:
		open = dead+unnamed >= max(worthSealing, all/16)
	case gc.Idle:
		open = open || unnamed >= worthSealingIdle
	case gc.Full:
		open = true
	}
	if !open {
		return
	}
	if err := s.values.SealIdle(0); err != nil {
		s.opts.Logger.Warn("seal value segments", "err", err)
	}
}

// unflushedValues bounds the bytes in segments that memlayers refer to.
func (s *Store) unflushedValues() int64 {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memValues + int64(len(s.mu.frozen))*s.memValuesMax.Load()
}

// referredBytes adds up what layers say that they refer to, by segment. What
// two records share counts twice: it may be too much, and memlayers are missing.
func referredBytes(v *layers.Version) map[layers.FileNum]int64 {
	sum := make(map[layers.FileNum]int64)
	for l := range v.All() {
		for _, ref := range l.Desc().Segments {
			sum[ref.Segment] += int64(ref.Bytes)
		}
	}
	return sum
}

// errManyValues says that the segments of a scan hold too many values to keep in mind.
var errManyValues = errors.New("timeline: too many values")

// reclaimSegments scans a Version for references to some segments and gives back
// the rest of them. Errors: errManyValues, when there are several segments.
func (s *Store) reclaimSegments(ctx context.Context, v *layers.Version, segs []layers.SegmentInfo, mode gc.Mode) error {
	live, err := s.references(ctx, v, segs, s.newPacer(mode == gc.Full))
	if err != nil {
		return fmt.Errorf("look for references to %d value segments: %w", len(segs), err)
	}
	rowed := make(map[layers.FileNum]bool)
	for l := range v.All() {
		for _, ref := range l.Desc().Segments {
			rowed[ref.Segment] = true
		}
	}
	var errs []error
	for _, seg := range segs {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		if err := s.reclaimSegment(ctx, seg, live[seg.Num], rowed[seg.Num], mode); err != nil {
			errs = append(errs, fmt.Errorf("reclaim value segment %d: %w", seg.Num, err))
		}
	}
	return errors.Join(errs...)
}

// references finds every stored value of the segments that the layers and
// memlayers of a Version refer to: by segment, ascending, each once.
func (s *Store) references(ctx context.Context, v *layers.Version, segs []layers.SegmentInfo, pace *pacer) (map[layers.FileNum][]layers.Handle, error) {
	scan := referenceScan{s: s, wanted: make(map[layers.FileNum]bool, len(segs)), pace: pace, most: scanExtents}
	if len(segs) == 1 {
		scan.most = math.MaxInt
	}
	scan.found = make(map[layers.FileNum][]layers.Handle, len(segs))
	for _, seg := range segs {
		scan.wanted[seg.Num] = true
	}
	for it := range s.referring(v, scan.wanted) {
		if err := scan.collect(ctx, it); err != nil {
			return nil, err
		}
	}
	for num, hs := range scan.found {
		slices.SortFunc(hs, func(a, b layers.Handle) int { return cmp.Compare(a.Offset, b.Offset) })
		scan.found[num] = slices.CompactFunc(hs, func(a, b layers.Handle) bool { return a.Offset == b.Offset })
	}
	return scan.found, nil
}

// referenceScan gathers the handles of some segments.
type referenceScan struct {
	s      *Store
	wanted map[layers.FileNum]bool
	found  map[layers.FileNum][]layers.Handle
	pace   *pacer
	n      int // handles found
	most   int
}

func (c *referenceScan) collect(ctx context.Context, it layers.Iterator) error {
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		c.pace.step()
		if c.s.closing.Err() != nil {
			return ErrClosed
		}
		err := c.s.values.EachHandle(ctx, it.Record().Body, func(h layers.Handle) error {
			if !c.wanted[h.Segment] {
				return nil
			}
			if c.n++; c.n > c.most {
				return errManyValues
			}
			c.found[h.Segment] = append(c.found[h.Segment], h)
			return nil
		})
		if err != nil {
			return fmt.Errorf("record %s at %d: %w", it.Record().Key, it.Record().LSN, err)
		}
	}
	return it.Err()
}

// referring walks the memlayers and the layers that may refer to one of the segments.
func (s *Store) referring(v *layers.Version, wanted map[layers.FileNum]bool) func(yield func(layers.Iterator) bool) {
	return func(yield func(layers.Iterator) bool) {
		for _, m := range v.Mem {
			if !yield(m.NewIter()) {
				return
			}
		}
		for l := range v.All() {
			refers := slices.ContainsFunc(l.Desc().Segments, func(r layers.SegmentRef) bool { return wanted[r.Segment] })
			if refers && !yield(l.NewIter(layers.IterOptions{})) {
				return
			}
		}
	}
}

// reclaimSegment gives back what is dead of one segment, of which live is all
// that lives: the file, or holes in it, or the file for a smaller one. rowed says that a layer
// refers to it, so its row is there: the row of a segment that only memlayers refer to comes with
// their flush, and would undo that of a rewritten file.
func (s *Store) reclaimSegment(ctx context.Context, seg layers.SegmentInfo, live []layers.Handle, rowed bool, mode gc.Mode) error {
	var bytes int64
	ranges := make([]layers.ValueRange, len(live))
	for i, h := range live {
		ranges[i] = h.Range()
		bytes += int64(ranges[i].Length)
	}
	if len(live) == 0 {
		return s.removeSegment(seg)
	}
	s.reclaim.live[seg.Num] = bytes
	streamed, err := s.values.Streamed(seg.Num)
	if err != nil {
		return err
	}
	if streamed {
		freed, err := s.values.Punch(seg.Num, ranges)
		if freed > 0 {
			s.metrics.reclaimedBytes.Add(freed)
			s.at(StepPunched)
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	if !rowed || !gc.RewriteSegment(seg.Allocated-segmentOverhead(seg, len(live)), bytes, mode) {
		return nil
	}
	return s.rewriteSegment(ctx, seg, live, s.outputCategory(bytes))
}

// segmentOverhead bounds what a packed file has beside values: the header, and
// the table of a rewritten one.
func segmentOverhead(seg layers.SegmentInfo, values int) int64 {
	const header, entry, page = 4 << 10, 17, 4 << 10
	if seg.Generation == 0 {
		return header
	}
	return header + int64(values)*entry + 3*page
}

// removeSegment unlinks a segment that nothing refers to: its row goes first, so
// that a crash in between leaves an orphan, not a hole.
func (s *Store) removeSegment(seg layers.SegmentInfo) error {
	if err := s.dropSegmentRow(seg.Num); err != nil {
		return err
	}
	s.at(StepSegmentRowGone)
	err := s.values.Remove(seg.Num)
	if errors.Is(err, layers.ErrHeld) { // by one who will find nothing in it; the next scan comes by again
		s.reclaim.note(seg.Num)
		return s.restoreSegmentRow(seg)
	}
	if err == nil {
		s.metrics.reclaimedBytes.Add(seg.Allocated)
		delete(s.reclaim.live, seg.Num)
		s.at(StepSegmentGone)
	}
	return err
}

// rewriteSegment writes the living values of a segment to a smaller file of the
// same number: file synced and read back, row synced, then readers are given the
// new file.
func (s *Store) rewriteSegment(ctx context.Context, seg layers.SegmentInfo, live []layers.Handle, category vfs.DiskWriteCategory) error {
	w, err := s.values.BeginRewrite(seg.Num, category)
	if err != nil {
		return err
	}
	rowed := false // once a row may name the new file, it stays for the next start to keep or remove
	defer func() {
		if rowed {
			return
		}
		if err := w.Abort(); err != nil {
			s.opts.Logger.Warn("remove unfinished value segment", "segment", uint64(seg.Num), "err", err)
		}
	}()
	for _, h := range live {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.Add(h); err != nil {
			return err
		}
	}
	made, err := w.Finish()
	if err != nil {
		return err
	}
	s.at(StepRewriteWritten)
	for _, h := range live {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.Verify(h); err != nil {
			return err
		}
	}
	rows := s.catalog.newBatch()
	rows.setSegment(seg.Num, made.Generation)
	rowed = true
	if err := s.commitSynced(rows, nil); err != nil {
		return err
	}
	s.at(StepRewriteRow)
	s.metrics.rewrittenBytes.Add(made.Bytes)
	s.metrics.reclaimedBytes.Add(seg.Allocated - made.Bytes)
	err = w.Publish()
	s.at(StepRewriteDone)
	return err
}

// segmentRows knows which value segments have a row. A row is written once, with
// the first layer that refers to the segment; afterwards only a rewrite changes it.
type segmentRows struct {
	mu    sync.Mutex
	known map[layers.FileNum]bool
}

// add adds the rows of the segments that a new layer refers to, unless they are there.
func (r *segmentRows) add(rows rowBatch, d *layers.Desc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, seg := range d.Segments {
		if !r.known[seg.Segment] {
			rows.setSegment(seg.Segment, 0)
			r.known[seg.Segment] = true
		}
	}
}

// restoreSegmentRow brings back the row of a segment that stays after all.
func (s *Store) restoreSegmentRow(seg layers.SegmentInfo) error {
	s.segmentRows.mu.Lock()
	defer s.segmentRows.mu.Unlock()
	rows := s.catalog.newBatch()
	rows.setSegment(seg.Num, seg.Generation)
	if err := s.commitSynced(rows, nil); err != nil {
		return err
	}
	s.segmentRows.known[seg.Num] = true
	return nil
}

// dropSegmentRow deletes the row of a segment, synced.
func (s *Store) dropSegmentRow(num layers.FileNum) error {
	s.segmentRows.mu.Lock()
	defer s.segmentRows.mu.Unlock()
	if !s.segmentRows.known[num] {
		return nil
	}
	rows := s.catalog.newBatch()
	rows.delete(rowKey(rowSegment, uint64(num)))
	if err := s.commitSynced(rows, nil); err != nil {
		return err
	}
	delete(s.segmentRows.known, num)
	return nil
}
