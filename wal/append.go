package wal

import (
	"context"
	"fmt"
)

// group is commits that are written together. Guarded by Log.mu until the
// writer has taken it; then it belongs to the writer, then to the applier.
type group struct {
	buf     *groupBuffer
	commits []*Commit
	first   LSN
	last    LSN
	seg     *segment // where it goes, decided when it was opened
	off     int64
	end     bool // the end mark

	done chan struct{} // closed when published or failed
	err  error         // set before done is closed
}

// Append reserves the next LSN for c, copies its payload into the open group
// and returns; Wait waits until that is durable. It never does I/O. It waits,
// until ctx ends, while the groups in memory are full or no segment is ready.
// It allocates once per group, not per commit.
//
// Errors: ErrTooLarge; ErrClosed; *ReadOnlyError; ErrDiskFull or the error for
// which no segment can be made (it may be tried again); what c.Reserve or ctx
// gives. After any of them nothing is reserved or written.
func (l *Log) Append(ctx context.Context, c *Commit) error {
	if len(c.Payload) > l.o.MaxCommitBytes {
		return fmt.Errorf("append %d bytes, at most %d: %w", len(c.Payload), l.o.MaxCommitBytes, ErrTooLarge)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		ok, err := l.makeRoomLocked(int64(frameHeaderBytes + len(c.Payload)))
		if err != nil {
			return err
		}
		if ok {
			break
		}
		if err := l.waitRoomLocked(ctx); err != nil {
			return err
		}
	}
	lsn := l.nextLocked()
	if c.Reserve != nil {
		if err := c.Reserve(lsn); err != nil {
			return err
		}
	}
	l.reserveLocked(c, lsn)
	return nil
}

// reserveLocked adds c to the open group, which has room.
func (l *Log) reserveLocked(c *Commit, lsn LSN) {
	g := l.mu.open
	if len(g.commits) == 0 {
		g.first = lsn
		l.mu.pending = append(l.mu.pending, g)
	}
	g.buf.append(lsn, c.Payload)
	g.commits = append(g.commits, c)
	g.last, g.seg.last, l.mu.last = lsn, lsn, lsn
	c.LSN, c.group = lsn, g
	l.mu.metrics.Commits++
	l.mu.metrics.PayloadBytes += uint64(len(c.Payload))
	l.mu.work.Signal()
}

// makeRoomLocked sees to it that the open group has room for n bytes more of
// payload, in its buffer and in its segment. It reports false when that must be
// waited for.
func (l *Log) makeRoomLocked(n int64) (bool, error) {
	if e := l.failed.Load(); e != nil {
		return false, e
	}
	if l.mu.closing {
		return false, ErrClosed
	}
	if g := l.mu.open; g != nil && len(g.commits) > 0 {
		need := groupBytes(g.buf.payload + n)
		if need <= l.groupCap && need <= g.seg.room(g.off) {
			return true, nil // the buffer holds groupCap
		}
		if l.mu.sealed != nil {
			return false, nil
		}
		g.seg.next = g.off + groupBytes(g.buf.payload)
		l.mu.sealed, l.mu.open = g, nil
	}
	if l.mu.open == nil {
		buf := l.takeBufferLocked()
		if buf == nil {
			return false, nil
		}
		l.mu.open = &group{buf: buf, commits: l.takeSliceLocked(), done: make(chan struct{})}
	}
	return l.placeLocked(l.mu.open, groupBytes(n))
}

// placeLocked gives the empty group g a place for n bytes, in the current
// segment or else in the next.
func (l *Log) placeLocked(g *group, n int64) (bool, error) {
	current := l.mu.segments[len(l.mu.segments)-1]
	if n > current.room(current.next) {
		if len(l.mu.ready) == 0 {
			if err := l.mu.prepareErr; err != nil {
				return false, err
			}
			return false, nil
		}
		next := l.mu.ready[0]
		l.mu.ready = append(l.mu.ready[:0], l.mu.ready[1:]...)
		next.last = l.mu.last
		l.mu.segments = append(l.mu.segments, next)
		l.wakePreparer()
		current = next
	}
	g.seg, g.off = current, current.next
	g.buf.grow(n)
	return true, nil
}

func (l *Log) takeBufferLocked() *groupBuffer {
	if n := len(l.mu.buffers); n > 0 {
		b := l.mu.buffers[n-1]
		l.mu.buffers = l.mu.buffers[:n-1]
		return b
	}
	if l.mu.allBuffers == maxBuffers {
		return nil
	}
	l.mu.allBuffers++
	return newGroupBuffer(l.groupCap)
}

// freeBufferLocked takes back the buffer of a written group. One that grew for
// a large commit is dropped.
func (l *Log) freeBufferLocked(b *groupBuffer) {
	if b.capacity() > l.groupCap {
		l.mu.allBuffers--
		return
	}
	b.reset()
	l.mu.buffers = append(l.mu.buffers, b)
}

func (l *Log) takeSliceLocked() []*Commit {
	n := len(l.mu.slices)
	if n == 0 {
		return nil
	}
	s := l.mu.slices[n-1]
	l.mu.slices = l.mu.slices[:n-1]
	return s
}

// waitRoomLocked waits until there may be room. It unlocks and locks mu.
func (l *Log) waitRoomLocked(ctx context.Context) error {
	if l.mu.room == nil {
		l.mu.room = make(chan struct{})
	}
	room := l.mu.room
	l.mu.metrics.RoomWaits++
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for room in the log: %w", context.Cause(ctx))
	}
}

func (l *Log) wakeAppendsLocked() {
	if l.mu.room != nil {
		close(l.mu.room)
		l.mu.room = nil
	}
}

// Wait waits until the appended commit c is durable, applied and visible. Its
// error is a *ReadOnlyError: the commit is then indeterminate, and the next
// Open tells.
func (l *Log) Wait(c *Commit) error {
	<-c.group.done
	return c.group.err
}

// Skip returns an LSN that no commit has and none will have: all that come later are above it.
func (l *Log) Skip() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.floor = l.nextLocked()
	return l.mu.floor
}

// nextLocked returns the LSN that the next commit would get.
func (l *Log) nextLocked() LSN {
	last := max(l.mu.last, l.mu.floor)
	lsn := l.o.NextLSN(last)
	if lsn <= last || lsn >= MaxLSN {
		panic(fmt.Sprintf("wal: NextLSN(%d) = %d", last, lsn))
	}
	return lsn
}

// Settle makes what is visible at lsn final: no later commit gets an LSN at or
// below it, and it waits, until ctx ends, for the commits reserved at or below
// to become visible. Errors: *ReadOnlyError when one of those failed; of ctx.
// The floor stays in either case.
func (l *Log) Settle(ctx context.Context, lsn LSN) error {
	l.mu.Lock()
	l.mu.floor = max(l.mu.floor, min(lsn, MaxLSN-2))
	var g *group
	for _, p := range l.mu.pending {
		if p.first <= lsn {
			g = p
		}
	}
	failed := l.failed.Load()
	l.mu.Unlock()
	switch {
	case g != nil:
	case failed != nil && lsn > l.Visible():
		// A commit that failed may lie below lsn, and the next Open may find it.
		return failed
	default:
		return nil
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("wait for LSN %d to settle: %w", lsn, context.Cause(ctx))
	}
}
