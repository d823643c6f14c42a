package pageserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/pageserver/object"
	"stemma/timeline"
)

// ResealAnswer answers POST /v1/encryption/reseal.
type ResealAnswer struct {
	Scanned    int64 `json:"scanned"`     // records of objects and versions looked at
	Resealed   int64 `json:"resealed"`    // data keys
	Unopened   int64 `json:"unopened"`    // data keys whose master key is not there
	AccessKeys int   `json:"access_keys"` // secrets sealed anew
	// Skipped are buckets that are read-only.
	Skipped []string `json:"skipped,omitempty"`
}

// reseal serves POST /v1/encryption/reseal: everything that a former master key sealed and that is there now
// is sealed by the first one. One runs at a time, within the share of background work.
func (a *admin) reseal(ctx context.Context, r *adminRequest, _ string) (any, error) {
	if len(r.body) > 0 {
		return nil, &AdminError{Code: "BadRequest", Message: "no body is expected"}
	}
	select {
	case a.collecting <- struct{}{}:
		defer func() { <-a.collecting }()
	default:
		return nil, &AdminError{Code: "CollectionRunning", Message: "a collection, or another run, is under way already"}
	}
	s := a.server
	var out ResealAnswer
	var err error
	if users := s.keys.users.Load(); users != nil {
		if out.AccessKeys, err = users.Reseal(ctx); err != nil {
			return nil, fmt.Errorf("reseal access keys: %w", err)
		}
	}
	p := pauser{ctx: ctx, share: s.store.BackgroundShare, since: time.Now()}
	for info := range s.store.WrittenBuckets() {
		if object.Reserved(info.Name) {
			continue
		}
		report, err := s.objects.Reseal(ctx, info.Name, p.pause)
		out.Scanned += report.Scanned
		out.Resealed += report.Resealed
		out.Unopened += report.Unopened
		switch {
		case errors.Is(err, timeline.ErrReadOnly):
			out.Skipped = append(out.Skipped, info.Name)
		case err != nil && !errors.Is(err, timeline.ErrNoSuchBucket):
			return nil, err
		}
	}
	return &out, nil
}
