package timeline

import (
	"fmt"
	"time"

	"stemma/wal"
)

// Leased is what a View reads, kept readable by a lease while the View is closed: for
// who reads slowly and must not keep layers and memlayers that whole time. It does not
// follow the bucket's name. Safe for concurrent use.
type Leased struct {
	store  *Store
	bucket *bucket
	node   *node
	lsn    wal.LSN
}

// Lease leases what the view reads for ttl from now on. Errors: *BelowHorizonError.
func (v *View) Lease(ttl time.Duration) (*Leased, error) {
	l := &Leased{store: v.store, bucket: v.bucket, node: v.node, lsn: v.lsn}
	return l, l.extend(ttl)
}

func (l *Leased) extend(ttl time.Duration) error {
	s := l.store
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	now := s.clock.Now()
	if err := s.leaseLocked(l.node, l.lsn, now, now+wal.LSN(ttl)); err != nil {
		return fmt.Errorf("lease timeline %d: %w", l.node.id, err)
	}
	return nil
}

// View opens it again, and makes the lease last for ttl from now on. Errors:
// *BelowHorizonError when the lease has ended meanwhile, ErrClosed.
func (l *Leased) View(ttl time.Duration) (*View, error) {
	if err := l.extend(ttl); err != nil {
		return nil, err
	}
	s := l.store
	version, visible, err := s.acquire()
	if err != nil {
		return nil, err
	}
	if err := s.checkReadable(version.Horizon, visible, l.node, l.lsn); err != nil {
		version.Release()
		return nil, err
	}
	return s.newView(version, l.bucket, l.node, l.lsn), nil
}
