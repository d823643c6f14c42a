package timeline

import (
	"context"
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// Log is what was written to a bucket between two LSNs: the own records of the timelines that
// the bucket led to, one after the other, and of those that they descend from. It keeps the
// layers that it reads from being removed until Close. Not safe for concurrent use.
type Log struct {
	version   *layers.Version
	stretches []stretch // newest first
	moves     []wal.LSN // newest first
	to, since wal.LSN
	cut       bool
}

// stretch is what one timeline has of a log: its records above one LSN, up to another.
type stretch struct {
	node      *node
	above, to wal.LSN
}

// Log returns the log of a bucket above from, up to to; zero is what is visible now. It reaches
// as far back as every moment can be read, see Since. A fork's goes on in what it was forked from.
//
// Errors: ErrNoSuchBucket, ErrFuture, *BelowHorizonError when to itself cannot be read.
func (s *Store) Log(ctx context.Context, name string, from, to wal.LSN) (*Log, error) {
	if to != 0 && to > s.log.Visible() {
		if err := s.settle(ctx, to); err != nil {
			return nil, err
		}
	}
	version, visible, b, err := s.acquireBucket(name)
	if err != nil {
		return nil, err
	}
	if to == 0 {
		to = visible
	}
	l := &Log{version: version, to: to, since: from}
	if err := s.traceLog(l, b, from, visible); err != nil {
		version.Release()
		return nil, fmt.Errorf("log of %q: %w", name, err)
	}
	return l, nil
}

// traceLog finds the stretches of a log, from its end backwards.
func (s *Store) traceLog(l *Log, b *bucket, from, visible wal.LSN) error {
	for at := l.to; at > from; {
		n, lsn := b.resolve(at)
		switch {
		case n == nil && at == l.to:
			return fmt.Errorf("nothing of it was there at %d: %w", at, ErrNoSuchBucket)
		case n == nil: // the way leads through what was purged
			l.cut, l.since = true, at
			return nil
		}
		cutoff := n.cutoffAt(l.version.Horizon, visible)
		if cutoff >= n.birth && cutoff >= lsn {
			if at == l.to && lsn < cutoff && !s.pinned(n, lsn) {
				return &BelowHorizonError{LSN: lsn, Cutoff: cutoff}
			}
			l.cut, l.since = true, at
			return nil
		}
		at = l.add(b, n, stretch{node: n, above: from, to: lsn}, at, cutoff)
	}
	return nil
}

// add adds what a timeline has of the log, and returns up to where it goes on: zero for nowhere.
func (l *Log) add(b *bucket, n *node, st stretch, at, cutoff wal.LSN) wal.LSN {
	from := st.above
	if cutoff >= n.birth {
		if cutoff > from {
			l.cut, l.since, st.above = true, cutoff, cutoff
		}
		l.stretches = append(l.stretches, st)
		return 0
	}
	// What lies below its birth in a timeline, a rollup brought: the ancestors have it, too.
	st.above = max(from, n.birth-1)
	l.stretches = append(l.stretches, st)
	first := b.first()
	if bound := b.at(at); bound.node == n && n != first.node {
		if bound.since > from {
			l.moves = append(l.moves, bound.since)
		}
		return bound.since - 1
	}
	return n.branchLSN // zero of a root
}

// To returns the newest LSN of the log.
func (l *Log) To() wal.LSN { return l.to }

// Since returns the LSN above which the log has everything; cut says that this is more than
// was asked for, because what was before is not kept any more.
func (l *Log) Since() (lsn wal.LSN, cut bool) { return l.since, l.cut }

// Moves returns the LSNs at which the bucket became something else as a whole, newest first.
func (l *Log) Moves() []wal.LSN { return l.moves }

// Records visits what was written to the user keys of [lower, upper) of a namespace, a nil upper
// being none, above one LSN and up to another: values, deltas and tombstones, without range
// tombstones, per timeline in record order. A record is valid until the visit returns; its Meta and
// Body may be kept. Blocks that have nothing of these LSNs are not read.
//
// Errors: those of visit and ctx, layers.ErrCorrupt.
func (l *Log) Records(ctx context.Context, ns layers.Namespace, lower, upper []byte, above, to wal.LSN, visit func(*layers.Record) error) error {
	for i := range l.stretches {
		st := &l.stretches[i]
		low, high := max(st.above, above), min(st.to, to)
		if low >= high || !st.node.written.Load() {
			continue
		}
		it := l.version.NewHistory(st.node.id, ns, lower, upper, low+1, high)
		err := visitAll(ctx, it, visit)
		if err = firstError(err, it.Close()); err != nil {
			return fmt.Errorf("log of timeline %d above %d up to %d: %w", st.node.id, low, high, err)
		}
	}
	return nil
}

func visitAll(ctx context.Context, it *layers.History, visit func(*layers.Record) error) error {
	for ok, n := it.First(), 1; ok; ok, n = it.Next(), n+1 {
		if err := visit(it.Record()); err != nil {
			return err
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return it.Err()
}

// Close lets go of the layers. It may be called twice.
func (l *Log) Close() {
	if l.version != nil {
		l.version.Release()
		l.version = nil
	}
}
