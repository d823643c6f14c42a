package wal

import (
	"fmt"
	"io"
	"runtime"
	"time"
)

// write is the writer goroutine: it writes and syncs group after group until
// the log is closed and empty, or fails.
func (l *Log) write() {
	defer l.wg.Done()
	defer close(l.durable)
	for {
		g := l.nextGroup()
		if g == nil || !l.writeGroup(g) || g.end {
			return
		}
		l.durable <- g
		// Let the committers of g come back first: with the next group taken at
		// once, half of them share each sync (measured: 4.0 of 8 in a group, 7.5
		// with this line).
		runtime.Gosched()
	}
}

// nextGroup waits for commits and returns their group. The last one of a closed
// log is the end mark. It returns nil when the log has failed.
func (l *Log) nextGroup() *group {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch g := l.mu.open; {
		case l.failed.Load() != nil:
			return nil
		case l.mu.sealed != nil:
			g = l.mu.sealed
			l.mu.sealed = nil
			l.wakeAppendsLocked()
			return g
		case g != nil && len(g.commits) > 0:
			l.mu.open = nil
			g.seg.next = g.off + groupBytes(g.buf.payload)
			return g
		case l.mu.closing:
			// A block of each segment is kept free for the end mark. An open
			// group without commits has a place, but nothing in it.
			current := l.mu.segments[len(l.mu.segments)-1]
			return &group{end: true, first: l.mu.last, last: l.mu.last, seg: current, off: current.next,
				buf: newGroupBuffer(blockBytes)}
		}
		l.mu.work.Wait()
	}
}

// writeGroup makes g durable: one write, one sync. It reports false after a
// failure, which poisons the log.
func (l *Log) writeGroup(g *group) bool {
	h := groupHeader{
		end:         g.end,
		commits:     uint32(len(g.commits)),
		incarnation: l.incarnation,
		sequence:    l.tail.sequence + 1,
		durable:     l.tail.sequence,
		first:       g.first,
		last:        g.last,
		prevCRC:     l.tail.crc,
	}
	p, off := g.buf.seal(&h), g.off
	n := int64(len(p))
	if !g.seg.started {
		sh := l.tail.header(g.seg.number, l.incarnation)
		sh.encode(g.buf.mem)
		p, off = g.buf.mem[:segmentHeaderBytes+n], 0
	}
	start := time.Now()
	if err := writeAll(g.seg, p, off); err != nil {
		l.poison(g, fmt.Sprintf("write %d bytes to %s at offset %d", len(p), g.seg.name, off), err)
		return false
	}
	written := time.Now()
	if err := g.seg.file.SyncData(); err != nil {
		l.poison(g, "sync "+g.seg.name, err)
		return false
	}
	l.tail = chain{sequence: h.sequence, crc: h.crc, incarnation: h.incarnation, last: h.last}
	l.written(g, n, len(p), written.Sub(start), time.Since(written))
	return true
}

// header returns the header of a segment that continues the chain.
func (c *chain) header(number, incarnation uint64) segmentHeader {
	return segmentHeader{
		number:          number,
		incarnation:     incarnation,
		prevIncarnation: c.incarnation,
		firstSequence:   c.sequence + 1,
		firstLSN:        c.last + 1,
		prevCRC:         c.crc,
	}
}

// writeAll writes p, all or an error.
func writeAll(s *segment, p []byte, off int64) error {
	n, err := s.file.WriteAt(p, off)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	return err
}

// written accounts for the durable group g of n bytes.
func (l *Log) written(g *group, n int64, bytes int, write, sync time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.mu.metrics
	m.Groups++
	m.WrittenBytes += uint64(bytes)
	m.WriteTime += write
	m.SyncTime += sync
	m.MaxSyncTime = max(m.MaxSyncTime, sync)
	g.seg.bytes += n
	l.size.Add(n)
	if !g.end {
		l.freeBufferLocked(g.buf)
		g.buf = nil
		l.wakeAppendsLocked()
	}
	if !g.seg.started {
		g.seg.started = true
		l.releaseLocked()
	}
}

// poison makes the log read-only: g and all groups after it fail, and so does
// every later Append. Nothing is written or synced again.
func (l *Log) poison(g *group, reason string, err error) {
	e := &ReadOnlyError{Reason: reason, Err: err}
	l.o.Logger.Error("log has failed and is read-only", "reason", reason, "err", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed.Store(e)
	keep := len(l.mu.pending)
	for keep > 0 && !g.end && l.mu.pending[keep-1].first >= g.first {
		keep--
	}
	for _, p := range l.mu.pending[keep:] {
		p.err = e
		close(p.done)
	}
	clear(l.mu.pending[keep:])
	l.mu.pending = l.mu.pending[:keep]
	l.mu.open, l.mu.sealed = nil, nil
	l.wakeAppendsLocked()
}

// apply is the applier goroutine: it applies and publishes durable groups until
// the writer has ended.
func (l *Log) apply() {
	defer l.wg.Done()
	for g := range l.durable {
		start := time.Now()
		if l.o.Apply != nil {
			l.o.Apply(g.commits)
		}
		l.publish(g, time.Since(start))
	}
}

// publish makes g visible and wakes those who wait for it.
func (l *Log) publish(g *group, applied time.Duration) {
	l.visible.Store(uint64(g.last))
	l.mu.Lock()
	l.mu.metrics.ApplyTime += applied
	n := copy(l.mu.pending, l.mu.pending[1:])
	l.mu.pending[n] = nil
	l.mu.pending = l.mu.pending[:n]
	if len(l.mu.slices) < maxBuffers+applyQueue {
		clear(g.commits)
		l.mu.slices = append(l.mu.slices, g.commits[:0])
	}
	g.commits = nil
	l.mu.Unlock()
	close(g.done)
}
