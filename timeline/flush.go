package timeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
)

// rotateIfFull freezes the active memlayer when it or the log has grown enough.
// The caller holds applyMu.
func (s *Store) rotateIfFull() {
	if s.applied == s.rotated {
		return // nothing new: a log that stays long because of its segments' size is no reason
	}
	full := s.mu.active.Bytes() >= s.opts.MemlayerBytes
	if !full && s.log.Size() >= s.opts.WALFlushBytes {
		s.mu.Lock()
		full = len(s.mu.frozen) == 0 // otherwise a flush is already on its way
		s.mu.Unlock()
	}
	if full {
		s.rotate()
	}
}

// rotate freezes the active memlayer. The caller holds applyMu.
func (s *Store) rotate() {
	s.rotated = s.applied
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
	s.work(s.flushC, "flush", &s.metrics.flushErrors, func() (again bool, err error) {
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

// work runs a worker: do, again for as long as it says so, then wait for wake.
// Failures are logged, counted and retried with a pause of up to retryMax.
func (s *Store) work(wake <-chan struct{}, name string, failures interface{ Add(int64) int64 }, do func() (bool, error)) {
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
	var written []layers.TimelineID
	if f.mem.Len() > 0 {
		l, ids, err := s.writeDelta(f.mem, packer)
		if err != nil {
			return err
		}
		added, written = append(added, l), ids
	}
	rows := s.catalog.newBatch()
	for _, l := range added {
		s.setLayerRows(rows, l.Desc())
	}
	for _, id := range written {
		rows.set(rowKey(rowWritten, uint64(id)), nil)
	}
	// The tree rows of every commit up to lastLSN were written to the catalog
	// before the memlayer was frozen: this sync covers them.
	mark := flushedMark{lsn: f.lastLSN, fileNum: layers.FileNum(s.fileNum.Load())}
	rows.set([]byte{rowFlushed}, mark.row())
	end = packer.Close
	if err := s.commitSynced(rows, added); err != nil {
		return err
	}
	s.publish(func(e *edit) {
		s.mu.frozen = s.mu.frozen[1:]
		e.layers = append(e.layers, added...)
	})
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

// writeDelta writes the records of a memlayer as one synced, verified layer,
// bodies of PartBytes and more parted to the packer's value segments. It
// returns the timelines that were not known to be written before.
func (s *Store) writeDelta(m *layers.Memlayer, packer *layers.Packer) (*layers.Layer, []layers.TimelineID, error) {
	out := s.newOutput(0, flushCategory)
	defer out.abort()
	it := m.NewIter()
	defer it.Close()
	var written []layers.TimelineID
	var last layers.TimelineID
	for ok := it.First(); ok; ok = it.Next() {
		r := *it.Record()
		if id := r.Key.Timeline(); id != last {
			last = id
			written = append(written, id)
		}
		if r.Body.Tag() == layers.BodyInline && len(r.Body.Inline()) >= s.opts.PartBytes {
			h, err := packer.Add(r.Body.Inline())
			if err != nil {
				return nil, nil, fmt.Errorf("part value of %s: %w", r.Key, err)
			}
			r.Body = layers.AppendExtentsBody(nil, []layers.Extent{{Handle: h, Len: h.Raw}})
		}
		if err := out.add(&r); err != nil {
			return nil, nil, err
		}
	}
	if err := it.Err(); err != nil {
		return nil, nil, err
	}
	if _, err := packer.Finish(); err != nil {
		return nil, nil, err
	}
	ls, err := out.finish(m.RangeTombstones())
	if err != nil {
		return nil, nil, err
	}
	for _, r := range m.RangeTombstones() {
		written = append(written, r.Key.Timeline())
	}
	return ls[0], written, nil
}
