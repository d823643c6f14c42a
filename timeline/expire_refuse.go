package timeline

import (
	"context"
	"errors"
	"sync"
	"time"

	"stemma/wal"
)

// refusedFor is how long a bucket that may not expire is not looked at again.
const refusedFor = time.Minute

var errNotExpired = errors.New("timeline: bucket has not expired")

// expiring is the state of expiry.
type expiring struct {
	// mu is held by whoever deletes what has expired; before gates and treeMu.
	mu sync.Mutex
	// refused says until when buckets that may not expire are let be.
	refused map[BucketID]wal.LSN
}

// admittedExpiries are the buckets that may expire now, with their gates held: what was
// looked at stays so until they have gone. Nil: all may, and nobody looks.
type admittedExpiries struct {
	nodes map[BucketID]*node
	// busy are those whose gate somebody held. Each is to be deleted by itself: nobody waits
	// for a gate with the gates of others in hand.
	busy []*bucket
}

// has reports whether a bucket may expire. The caller holds treeMu.
func (a *admittedExpiries) has(b *bucket) bool {
	return a.nodes == nil || a.nodes[b.id] == b.last()
}

func (a *admittedExpiries) letGo() {
	for _, n := range a.nodes {
		n.use().gate.Unlock()
	}
}

// admitExpiries asks Options.RefuseExpiry about buckets that have expired. The caller holds
// expiring.mu, and lets go of what is returned.
func (s *Store) admitExpiries(now wal.LSN) (*admittedExpiries, error) {
	if s.opts.RefuseExpiry == nil {
		return &admittedExpiries{}, nil
	}
	a := &admittedExpiries{nodes: make(map[BucketID]*node)}
	for _, b := range s.expiredBuckets(now) {
		n := b.last()
		if !n.use().gate.TryLock() {
			a.busy = append(a.busy, b)
			continue
		}
		if err := s.refusesExpiry(b, n, now); err != nil {
			n.use().gate.Unlock()
			if !s.refusedExpiry(b, err) {
				a.letGo()
				return nil, err
			}
			continue
		}
		a.nodes[b.id] = n
	}
	return a, nil
}

// expiredBuckets returns some of the buckets that have expired and were not refused a
// short time ago.
func (s *Store) expiredBuckets(now wal.LSN) []*bucket {
	var out []*bucket
	refused := make(map[BucketID]wal.LSN)
	s.tree.mu.RLock()
	defer s.tree.mu.RUnlock()
	s.tree.mu.expiries.Scan(func(e expiry) bool {
		if e.at > now || len(out) == maxExpiriesEach {
			return false
		}
		if e.snapshot != 0 || s.tree.heldSnapshotsLocked(e.bucket) > 0 {
			return true
		}
		if until := s.expiring.refused[e.bucket]; until > now {
			refused[e.bucket] = until
			return true
		}
		out = append(out, s.tree.mu.buckets.get(e.bucket))
		return true
	})
	s.expiring.refused = refused // what is no longer due is forgotten
	return out
}

// refusesExpiry asks about one bucket, whose gate is held.
func (s *Store) refusesExpiry(b *bucket, n *node, now wal.LSN) error {
	version, visible, err := s.acquire()
	if err != nil {
		return err
	}
	v := s.newView(version, b, n, visible)
	defer v.Close()
	if err := s.opts.RefuseExpiry(v, now); err != nil {
		return &refusedError{err}
	}
	return nil
}

// refusedError is an error of Options.RefuseExpiry.
type refusedError struct{ error }

// refusedExpiry notes that a bucket was refused its expiry; false: err is another error.
func (s *Store) refusedExpiry(b *bucket, err error) bool {
	var refused *refusedError
	if !errors.As(err, &refused) {
		return false
	}
	s.expiring.refused[b.id] = s.clock.Now() + wal.LSN(refusedFor)
	s.opts.Logger.Info("bucket has expired, but stays", "bucket", *b.name.Load(), "err", refused.error)
	return true
}

// expireAlone deletes one bucket that has expired, waiting for its gate.
func (s *Store) expireAlone(ctx context.Context, b *bucket, now wal.LSN) error {
	_, err := s.DeleteBucket(ctx, *b.name.Load(), DeleteOptions{Force: true, expired: now, Refuse: func(v *View) error {
		if v.bucket != b {
			return errNotExpired
		}
		if err := s.opts.RefuseExpiry(v, now); err != nil {
			return &refusedError{err}
		}
		return nil
	}})
	switch {
	case err == nil:
		s.metrics.expired.Add(1)
	case errors.Is(err, errNotExpired), errors.Is(err, ErrSnapshotHeld), errors.Is(err, ErrNoSuchBucket), s.refusedExpiry(b, err):
	default:
		return err
	}
	return nil
}
