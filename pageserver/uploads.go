package pageserver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"stemma/timeline"
)

// uploadsEvery is how often abandoned uploads are looked for; more often when
// they are abandoned sooner.
const uploadsEvery = 10 * time.Minute

// uploadCounters are what the worker below did since the start.
type uploadCounters struct{ aborted, errors atomic.Int64 }

// abortUploads is the worker that ends multipart uploads that were abandoned,
// until the jobs end.
func (s *Server) abortUploads() {
	defer s.jobs.end()
	tick := time.NewTicker(max(min(uploadsEvery, s.o.AbortUploadsAfter/4), time.Second))
	defer tick.Stop()
	for {
		if err := s.abortStaleUploads(s.jobs.ctx); err != nil && s.jobs.ctx.Err() == nil {
			s.uploads.errors.Add(1)
			s.log.Warn("abandoned uploads not aborted, trying again", "err", err)
		}
		select {
		case <-tick.C:
		case <-s.jobs.ctx.Done():
			return
		}
	}
}

// abortStaleUploads looks into every bucket once that was ever written to. A bucket that fails does not
// keep the others from being looked into.
func (s *Server) abortStaleUploads(ctx context.Context) error {
	before := s.store.Now().Time().Add(-s.o.AbortUploadsAfter)
	var errs []error
	for info := range s.store.WrittenBuckets() { // uploads are not inherited
		if ctx.Err() != nil {
			break
		}
		n, err := s.objects.AbortStaleUploads(ctx, info.Name, before)
		if n > 0 {
			s.uploads.aborted.Add(int64(n))
			s.log.Info("abandoned uploads aborted", "bucket", info.Name, "uploads", n)
		}
		if err != nil && !errors.Is(err, timeline.ErrNoSuchBucket) && len(errs) < 10 {
			errs = append(errs, fmt.Errorf("bucket %q: %w", info.Name, err))
		}
	}
	return errors.Join(errs...)
}
