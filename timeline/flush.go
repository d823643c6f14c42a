package timeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/wal"
	"stemma/wal/storefs"
)

// rotateIfFull freezes the active memlayer when it or the log has grown enough.
// The caller holds applyMu.
func (s *Store) rotateIfFull() {
	if s.applied == s.rotated {
		return // nothing new: a log that stays long because of its segments' size is no reason
	}
	full := s.mu.active.Bytes() >= s.opts.MemlayerBytes || s.memValues >= s.memValuesMax.Load()
	if !full && s.log.Size() >= s.opts.WALFlushBytes {
		s.mu.Lock()
		full = len(s.mu.frozen) == 0 // otherwise a flush is already on its way
		s.mu.Unlock()
	}
	if full {
		s.rotate()
	}
}

// limitMemValues lets a memlayer refer to a sixteenth of all values.
func (s *Store) limitMemValues() {
	const least = 64 << 20
	var bytes int64
	for _, seg := range s.values.Segments() {
		bytes += seg.Allocated
	}
	s.memValuesMax.Store(max(least, bytes/16))
}

// rotate freezes the active memlayer. The caller holds applyMu.
func (s *Store) rotate() {
	s.rotated, s.memValues = s.applied, 0
	s.publish(func(*edit) {
		s.mu.frozen = append(s.mu.frozen, &frozenMemlayer{mem: s.mu.active, lastLSN: s.applied})
		s.mu.active = layers.NewMemlayer()
	})
	poke(s.flushC)
}

// poke wakes a worker; one wake-up waits at most.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Flush moves everything committed so far into layers and waits for it.
func (s *Store) Flush(ctx context.Context) error {
	s.applyMu.Lock()
	target := s.applied
	s.rotate()
	s.applyMu.Unlock()
	for {
		s.mu.Lock()
		waiting := len(s.mu.frozen) > 0 && s.mu.frozen[0].lastLSN <= target
		changed, err := s.mu.changed, s.mu.failed
		s.mu.Unlock()
		if !waiting || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing.Done():
			return ErrClosed
		}
	}
}

// flushFrozen flushes frozen memlayers, oldest first. A failure is retried with
// growing pauses: the records are safe in the log, and commits slow down.
func (s *Store) flushFrozen() {
	defer s.workers.Done()
	work(s, s.flushC, "flush", &s.metrics.flushErrors, func() (again bool, err error) {
		s.mu.Lock()
		var f *frozenMemlayer
		if len(s.mu.frozen) > 0 {
			f = s.mu.frozen[0]
		}
		s.mu.Unlock()
		if f == nil {
			return false, nil
		}
		return true, s.flush(f)
	})
}

// work runs a worker of s: do, again for as long as it says so, then wait for
// wake. Failures are logged, counted and retried with a pause of up to retryMax.
func work[T any](s *Store, wake <-chan T, name string, failures interface{ Add(int64) int64 }, do func() (bool, error)) {
	const retryMin, retryMax = 100 * time.Millisecond, 10 * time.Second
	pause := retryMin
	for s.closing.Err() == nil {
		again, err := do()
		if err != nil && s.closing.Err() != nil {
			return // it gave way to Close
		}
		if err != nil {
			failures.Add(1)
			s.opts.Logger.Warn(name+" failed, trying again", "err", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-s.closing.Done():
			}
			pause = min(2*pause, retryMax)
			continue
		}
		pause = retryMin
		if again {
			continue
		}
		select {
		case <-wake:
		case <-s.closing.Done():
		}
	}
}

// flush writes one frozen memlayer as a delta layer and value segments, in the
// order of DESIGN 5: values synced, layer synced, catalog synced, Version
// swapped, log released.
func (s *Store) flush(f *frozenMemlayer) error {
	if err := s.flushInOrder(f); err != nil {
		return fmt.Errorf("flush memlayer up to %d: %w", f.lastLSN, err)
	}
	s.metrics.flushes.Add(1)
	poke(s.compactC)
	return nil
}

func (s *Store) flushInOrder(f *frozenMemlayer) error {
	// After a failed catalog the flushed mark would vouch for rows that are not there.
	if err := s.Err(); err != nil {
		return err
	}
	packer, err := s.values.NewPacker(flushCategory)
	if err != nil {
		return err
	}
	// The packer's segments are held until the new Version refers to them. They
	// go if it comes to none; not once a row that names them may be durable.
	end := packer.Discard
	defer func() {
		if err := end(); err != nil {
			s.opts.Logger.Warn("close packed values", "err", err)
		}
	}()
	var added []*layers.Layer
	w := memWriter{s: s, mem: f.mem, packer: packer}
	if f.mem.Len() > 0 {
		if added, err = w.write(); err != nil {
			return err
		}
	}
	rows := s.catalog.newBatch()
	for _, l := range added {
		s.setLayerRows(rows, l.Desc())
	}
	for id := range w.written {
		rows.set(rowKey(rowWritten, uint64(id)), nil)
	}
	// The tree rows of every commit up to lastLSN were written to the catalog
	// before the memlayer was frozen: this sync covers them.
	mark := flushedMark{lsn: f.lastLSN, fileNum: layers.FileNum(s.fileNum.Load())}
	rows.set([]byte{rowFlushed}, mark.row())
	end = packer.Close
	s.at(StepFlushSynced)
	if err := s.commitSynced(rows, added); err != nil {
		return err
	}
	s.at(StepFlushCommitted)
	s.publishDrop(func(e *edit) {
		s.mu.frozen = slices.Delete(s.mu.frozen, 0, 1) // which forgets the memlayer
		e.layers = append(e.layers, added...)
		e.horizon = w.horizon()
	})
	s.reclaim.note(w.dropped...)
	s.at(StepFlushPublished)
	for _, l := range added {
		s.metrics.flushedBytes.Add(l.Desc().Bytes)
	}
	s.metrics.packedBytes.Add(w.packed)
	s.limitMemValues()
	s.log.Release(f.lastLSN)
	s.afterRelease()
	return nil
}

// afterRelease lets in who waited for a shorter log, and freezes the active
// memlayer if the log is still too long: no commit may come to do it, all may be
// waiting for just that.
func (s *Store) afterRelease() {
	s.mu.Lock()
	s.notifyLocked()
	s.mu.Unlock()
	s.applyMu.Lock()
	s.rotateIfFull()
	s.applyMu.Unlock()
}

// commitSynced makes the rows of a flush or compaction durable. After a failure
// nobody knows whether they are: the files of added stay, for the next start to
// keep or to remove, and the store takes no more writes.
func (s *Store) commitSynced(rows rowBatch, added []*layers.Layer) error {
	err := rows.commit(true)
	if err == nil {
		return nil
	}
	s.fail(err)
	for _, l := range added {
		err = errors.Join(err, l.Close())
	}
	return err
}

// flushCategory marks files that a flush writes; the ballast serves them.
const flushCategory vfs.DiskWriteCategory = "stemma-flush"

// collectCategory marks files that removal of garbage writes; the ballast serves
// them, too: that is how a full disk comes to have room again.
const collectCategory vfs.DiskWriteCategory = "stemma-collect"

// outputCategory returns the category of an output of at most so many bytes:
// what might use up half of the ballast waits for room like a user's write.
func (s *Store) outputCategory(most int64) vfs.DiskWriteCategory {
	if most <= s.ballast/2 {
		return collectCategory
	}
	return storefs.User
}

// memWriter writes the records of a memlayer as one synced, verified layer,
// bodies of PartBytes and more parted to the packer's value segments. What the
// newest snapshot knows to be read by nobody is left out.
type memWriter struct {
	s      *Store
	mem    *layers.Memlayer
	packer *layers.Packer

	keep    *retainer                  // nil: no snapshot yet, everything is kept
	written map[layers.TimelineID]bool // timelines with records in the layer
	dropped []layers.FileNum           // value segments that records left out refer to
	packed  int64                      // bytes that went to value segments
}

// horizon is what records were left out by; zero: none were.
func (w *memWriter) horizon() wal.LSN {
	if w.keep == nil {
		return 0
	}
	return w.keep.snap.Horizon()
}

// write returns the layer, none when nothing is left to keep.
func (w *memWriter) write() ([]*layers.Layer, error) {
	w.written = make(map[layers.TimelineID]bool)
	if snap := w.s.anyTreeSnapshot(); snap != nil {
		w.keep = &retainer{snap: snap, stones: layers.NewTombstoneSet(w.mem.RangeTombstones())}
	}
	out := w.s.newOutput(layers.DeltaLayer, 0, flushCategory)
	defer out.abort()
	it := w.mem.NewIter()
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := w.add(it.Record(), out); err != nil {
			return nil, err
		}
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	if _, err := w.packer.Finish(); err != nil {
		return nil, err
	}
	for _, r := range w.mem.RangeTombstones() {
		if w.keep != nil {
			if keep, err := w.keep.keepRange(&r); err != nil {
				return nil, err
			} else if !keep {
				continue
			}
		}
		w.written[r.Key.Timeline()] = true
		out.stones = append(out.stones, r)
	}
	return out.finish()
}

// add writes one record, or notes what it leaves out.
func (w *memWriter) add(rec *layers.Record, out *output) error {
	if w.keep != nil {
		v, err := w.keep.next(rec)
		if err != nil {
			return err
		}
		if !v.keep() {
			w.dropped, err = rec.Body.Segments(w.dropped)
			return err
		}
	}
	w.written[rec.Key.Timeline()] = true
	return w.put(rec, out)
}

// put writes one record, with its body in a value segment if it is large.
func (w *memWriter) put(rec *layers.Record, out *output) error {
	r := *rec
	if r.Body.Tag() == layers.BodyInline && len(r.Body.Inline()) >= w.s.opts.PartBytes {
		h, err := w.packer.Add(r.Body.Inline())
		if err != nil {
			return fmt.Errorf("part value of %s: %w", r.Key, err)
		}
		w.packed += int64(h.Length)
		r.Body = layers.AppendExtentsBody(nil, []layers.Extent{{Handle: h, Len: h.Raw}})
	}
	return out.add(&r)
}
