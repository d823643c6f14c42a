package object

import (
	"errors"
	"testing"

	"stemma/timeline"
)

// The arithmetic of a counter, commit by commit: what is under way takes room, and what it frees
// is there once it is visible.
func TestMeter(t *testing.T) {
	q := &Quota{MaxBytes: 100, MaxObjects: 3}
	m := &meter{}
	refused := func(change Usage, of string, used, pending int64) {
		t.Helper()
		var e *QuotaError
		if err := m.admit(q, change); !errors.As(err, &e) || !errors.Is(err, ErrQuotaExceeded) {
			t.Fatalf("%+v: %v", change, err)
		} else if e.Of != of || e.Used != used || e.Pending != pending {
			t.Errorf("%+v: %+v, want %s, %d used, %d pending", change, e, of, used, pending)
		}
	}
	admitted := func(change Usage) {
		t.Helper()
		if err := m.admit(q, change); err != nil {
			t.Fatalf("%+v: %v", change, err)
		}
	}
	wantUsed := func(want Usage) {
		t.Helper()
		if used, _ := m.now(); used != want {
			t.Errorf("%+v used, want %+v", used, want)
		}
	}
	if err := m.admit(q, Usage{1, 0}); !errors.Is(err, errUncounted) {
		t.Fatalf("growth before the count: %v", err)
	}
	admitted(Usage{-10, -1}) // it need not wait
	m.settle(Usage{-10, -1}, true)
	m.complete(Usage{60, 2})
	wantUsed(Usage{50, 1})

	admitted(Usage{50, 1})
	refused(Usage{1, 0}, "bytes", 50, 50)
	admitted(Usage{0, 1})
	refused(Usage{0, 1}, "objects", 1, 2)
	m.settle(Usage{50, 1}, false)
	admitted(Usage{50, 0})
	m.settle(Usage{50, 0}, true)
	m.settle(Usage{0, 1}, true)
	wantUsed(Usage{100, 2})

	admitted(Usage{-30, 1}) // a bound on each of the two
	refused(Usage{1, 0}, "bytes", 100, 0)
	m.settle(Usage{-30, 1}, true)
	wantUsed(Usage{70, 3})
	admitted(Usage{30, 0})
	m.settle(Usage{30, 0}, true)
	q.MaxBytes, q.MaxObjects = 10, 1 // below what is used
	refused(Usage{1, -1}, "bytes", 100, 0)
	refused(Usage{-1, 1}, "objects", 3, 0)
	admitted(Usage{-1, -1})
	m.settle(Usage{-1, -1}, true)
	admitted(Usage{0, 0})
	m.settle(Usage{0, 0}, true)
	wantUsed(Usage{99, 2})
	if m.reserved != (Usage{}) {
		t.Errorf("%+v are reserved by nobody", m.reserved)
	}
}

// A quota that was not there for a while has another epoch: what was counted before is of no use.
func TestQuotaEpoch(t *testing.T) {
	q := Quota{}
	for i, step := range []struct {
		next  Quota
		epoch int64
	}{
		{Quota{MaxBytes: 1}, 1}, {Quota{MaxObjects: 1}, 1}, {Quota{MaxBytes: 9, Epoch: 7}, 1}, {Quota{}, 1}, {Quota{}, 1}, {Quota{MaxBytes: 1}, 2},
	} {
		if q = step.next.after(q); q.Epoch != step.epoch {
			t.Errorf("step %d: epoch %d, want %d", i, q.Epoch, step.epoch)
		}
	}
}

// Who waits for a count that began under another name is not told that there is no bucket of that name.
func TestCountOfRenamed(t *testing.T) {
	h := start(t)
	c := &quotaCount{bucket: "before", done: make(chan struct{}), err: timeline.ErrNoSuchBucket}
	close(c.done)
	h.meters.counts[7] = c
	if err := h.awaitCount(h.ctx, "after", 7, 0); err != nil {
		t.Errorf("waiting by the new name: %v", err)
	}
	if err := h.awaitCount(h.ctx, "before", 7, 0); !errors.Is(err, timeline.ErrNoSuchBucket) {
		t.Errorf("waiting by the old name: %v", err)
	}
}
