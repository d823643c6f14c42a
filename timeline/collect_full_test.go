package timeline_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"stemma/timeline"
)

// However much is committed and flushed meanwhile, a full collection comes to an end:
// here a flush takes place during every merge.
func TestFullCollectionEndsUnderLoad(t *testing.T) {
	var s *usageStore
	var busy bool
	n := 0
	s = openUsageWith(t, -1, func(o *timeline.Options) {
		o.At = func(step timeline.Step) {
			if step != timeline.StepMergeWritten || !busy {
				return
			}
			n++
			s.put("main", fmt.Sprintf("later-%06d", n), 1000)
			s.ok(s.Flush(context.Background()))
		}
	})
	s.create("main")
	for i := range 20 {
		s.put("main", "key", 100<<10)
		s.put("main", fmt.Sprintf("key-%02d", i), 1000)
		s.ok(s.Flush(t.Context()))
	}
	before := s.Metrics().ValueAllocatedBytes
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	busy = true
	_, err := s.CollectFull(ctx)
	if busy = false; err != nil {
		t.Fatalf("after %d flushes: %v", n, err)
	}
	if after := s.Metrics().ValueAllocatedBytes; after > before/4 {
		t.Errorf("%d bytes of values are left of %d", after, before)
	}
}
