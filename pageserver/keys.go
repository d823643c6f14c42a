package pageserver

import (
	"sync/atomic"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
	"stemma/timeline"
)

// lateKeys are the keys of a server: the root key until the store is open, all of them then.
type lateKeys struct {
	root  auth.Static
	users atomic.Pointer[identity.Directory]
}

func newLateKeys(root auth.Key) *lateKeys { return &lateKeys{root: auth.NewStatic(root)} }

// Key implements auth.Keys.
func (k *lateKeys) Key(id string) (auth.Key, bool) {
	if d := k.users.Load(); d != nil {
		return d.Key(id)
	}
	return k.root.Key(id)
}

// Session implements auth.Keys.
func (k *lateKeys) Session(id, token string) (auth.Key, error) {
	if d := k.users.Load(); d != nil {
		return d.Session(id, token)
	}
	return k.root.Session(id, token)
}

// sweepKeysEvery is how often keys are looked for whose buckets are gone. They are
// dead already; this forgets them.
const sweepKeysEvery = time.Minute

// sweepKeys is the worker that forgets keys which were held to buckets that are gone
// for good, until the jobs end.
func (s *Server) sweepKeys() {
	defer s.jobs.end()
	tick := time.NewTicker(sweepKeysEvery)
	defer tick.Stop()
	for {
		gone := func(id uint64) bool { return !s.store.HasBucket(timeline.BucketID(id)) }
		n, err := s.keys.users.Load().Sweep(s.jobs.ctx, gone)
		if n > 0 {
			s.log.Info("keys of buckets that are gone removed", "keys", n)
		}
		if err != nil && s.jobs.ctx.Err() == nil {
			s.log.Warn("keys of buckets that are gone not removed, trying again", "err", err)
		}
		select {
		case <-tick.C:
		case <-s.jobs.ctx.Done():
			return
		}
	}
}
