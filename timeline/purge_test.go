package timeline_test

import (
	"errors"
	"testing"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
)

// A lease of a fork at an LSN from before its birth is found by its lineage:
// that must not be purged while the lease lasts.
func TestLeaseBelowTheBirthOutlivesThePurge(t *testing.T) {
	s := openUsage(t, gc.Window(time.Hour))
	s.create("main")
	s.put("main", "key", 100)
	at := s.tip("main")
	s.fork("main", "mid")
	s.put("mid", "key", 100)
	s.fork("mid", "leaf")
	s.ok(s.Lease("leaf", at, 24*time.Hour))
	s.ok(s.Detach(t.Context(), "leaf"))
	s.drop("mid")
	s.pass(2 * time.Hour)
	s.put("main", "key", 100)
	s.collect()
	v, err := s.View(t.Context(), "leaf", at)
	if err != nil {
		t.Fatalf("the lease lasts: %v", err)
	}
	if _, err := v.Get(layers.NamespaceObjects, []byte("key")); err != nil {
		t.Error(err)
	}
	v.Close()

	s.pass(48 * time.Hour) // without the lease it is purged
	s.put("main", "key", 100)
	s.collect()
	if n := len(s.TreeLines()); n != 2 {
		t.Errorf("%d timelines are left, want main and leaf", n)
	}
	if _, err := s.View(t.Context(), "leaf", at); !errors.Is(err, timeline.ErrNoSuchBucket) {
		t.Errorf("a read behind a purged timeline: %v", err)
	}
}
