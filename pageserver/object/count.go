package object

import (
	"context"
	"fmt"

	"stemma/layers"
)

// Count returns the number of objects of a bucket and the bytes of their bodies, by
// reading all entries: about a second per million. Errors: timeline.ErrNoSuchBucket,
// those of ctx, ErrCorrupt, layers.ErrCorrupt.
func (s *Service) Count(ctx context.Context, bucket string) (objects, size uint64, err error) {
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return 0, 0, err
	}
	defer v.Close()
	scan := v.Scan(layers.NamespaceObjects, nil, nil)
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		if objects++; objects%1024 == 0 && ctx.Err() != nil {
			return 0, 0, ctx.Err()
		}
		rec := scan.Record()
		var h metaHead
		if _, err := h.decode(rec.Meta, true); err != nil {
			return 0, 0, fmt.Errorf("object %q at %d: %w", rec.Key.User(), rec.LSN, err)
		}
		size += h.size
	}
	return objects, size, scan.Err()
}
