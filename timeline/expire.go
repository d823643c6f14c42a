package timeline

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"stemma/wal"
)

// expiry says that a bucket, or a snapshot of one, expires at an LSN.
type expiry struct {
	at       wal.LSN
	bucket   BucketID
	snapshot SnapshotID // zero: the bucket itself
}

func (e expiry) less(o expiry) bool {
	return cmp.Or(cmp.Compare(e.at, o.at), cmp.Compare(e.bucket, o.bucket), cmp.Compare(e.snapshot, o.snapshot)) < 0
}

// due returns the store time up to which what has a time to end has ended: the
// store clock, but that of the last commit for the first hour after a long gap.
func (s *Store) due() wal.LSN {
	return s.horizon.hold.Cap(s.clock.Now(), s.opts.Uptime())
}

// expireDue is the worker that ends what has expired.
func (s *Store) expireDue() {
	defer s.workers.Done()
	if s.opts.CollectEvery < 0 {
		return
	}
	tick := time.NewTicker(s.opts.CollectEvery)
	defer tick.Stop()
	work(s, tick.C, "expiry", &s.metrics.expiryErrors, func() (again bool, err error) {
		return false, s.expire(s.closing)
	})
}

// expire deletes buckets and snapshots that have expired, and drops timelines whose
// undo time is over. All of it costs nothing when there are none.
func (s *Store) expire(ctx context.Context) error {
	for {
		n, err := s.expireSome(ctx)
		if err != nil {
			return fmt.Errorf("delete what has expired: %w", err)
		}
		if n < maxExpiriesEach {
			return s.dropExpired(ctx)
		}
	}
}

// maxExpiriesEach bounds what one commit deletes.
const maxExpiriesEach = 1000

// expireSome deletes some of the buckets that have expired, as DeleteBucket with Force
// does, and of the snapshots, and returns how many.
func (s *Store) expireSome(ctx context.Context) (int, error) {
	s.expiring.mu.Lock()
	defer s.expiring.mu.Unlock()
	now := s.due()
	admitted, err := s.admitExpiries(now)
	if err != nil {
		return 0, err
	}
	n, err := s.expireAdmitted(ctx, now, admitted)
	admitted.letGo()
	for _, b := range admitted.busy {
		if err == nil {
			err = s.expireAlone(ctx, b, now)
		}
	}
	return n + len(admitted.busy), err
}

// expireAdmitted deletes in one commit what has expired, of the buckets those that may go.
func (s *Store) expireAdmitted(ctx context.Context, now wal.LSN, admitted *admittedExpiries) (int, error) {
	s.treeMu.Lock()
	var ops, buckets []treeOp
	s.tree.mu.RLock()
	s.tree.mu.expiries.Scan(func(e expiry) bool {
		if e.at > now || len(ops)+len(buckets) == maxExpiriesEach {
			return false
		}
		b := s.tree.mu.buckets.get(e.bucket)
		switch {
		case e.snapshot != 0:
			ops = append(ops, treeOp{tag: opDeleteSnapshot, snapshot: e.snapshot, bucket: e.bucket})
			return true
		case s.tree.heldSnapshotsLocked(e.bucket) > 0, !admitted.has(b): // it ends when they are let go
			return true
		}
		buckets = append(buckets, treeOp{tag: opDelete, bucket: b.id, timeline: b.last().id, lsn: s.undoUntil(b, 0), name: *b.name.Load()})
		return true
	})
	s.tree.mu.RUnlock()
	ops = append(ops, buckets...) // the end of a bucket can be that of its snapshots, which end once
	if len(ops) == 0 {
		s.treeMu.Unlock()
		return 0, nil
	}
	lsn, err := s.changeTree(ctx, ops)
	if err != nil {
		return len(ops), err
	}
	s.at(StepExpireLogged)
	s.metrics.expired.Add(int64(len(ops)))
	s.treeMu.Lock()
	defer s.treeMu.Unlock()
	for i := range ops {
		if ops[i].tag == opDelete {
			s.tree.forgetName(ops[i].name, ops[i].bucket, lsn)
		}
	}
	s.tree.settleSnapshotsOf(ops, lsn)
	return len(ops), nil
}

// setExpiryLocked says when something expires that would have expired at e; zero:
// never.
func (t *tree) setExpiryLocked(e expiry, at wal.LSN) {
	if t.mu.expiries == nil || e.at == at {
		return // a replay: index makes it
	}
	if e.at != 0 {
		t.mu.expiries.Delete(e)
	}
	if e.at = at; at != 0 {
		t.mu.expiries.Set(e)
	}
}
