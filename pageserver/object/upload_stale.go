package object

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// AbortStaleUploads ends the multipart uploads of a bucket that were initiated
// before a time, by the store clock, whatever was uploaded since. It returns how
// many it ended. One that is completed or aborted meanwhile is left alone.
//
// Errors: timeline.ErrNoSuchBucket, ErrCorrupt, layers.ErrCorrupt, and those of
// a commit; what was ended before stays ended.
func (s *Service) AbortStaleUploads(ctx context.Context, bucket string, before time.Time) (n int, err error) {
	in := ListUploadsInput{Max: MaxListKeys}
	for {
		page, err := s.ListUploads(ctx, bucket, &in)
		if err != nil {
			return n, fmt.Errorf("abort stale uploads: %w", err)
		}
		for i := range page.Uploads {
			u := &page.Uploads[i]
			if !u.Initiated().Before(before) {
				continue
			}
			switch err := s.AbortUpload(ctx, bucket, u.Key, u.ID); {
			case err == nil:
				n++
			case !errors.Is(err, ErrNoSuchUpload):
				return n, fmt.Errorf("abort stale upload %s of %q: %w", u.ID, u.Key, err)
			}
		}
		if !page.Truncated {
			return n, nil
		}
		in.KeyMarker, in.UploadIDMarker = page.NextKeyMarker, page.NextUploadIDMarker
	}
}
