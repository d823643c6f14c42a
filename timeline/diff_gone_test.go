package timeline

import (
	"testing"
	"time"

	"stemma/layers"
)

// A deletion shows in the difference with who still reads an old value, also when the newer value that it hid has gone,
// since nobody read that any more.
func TestDiffShowsDeletionOfWhatHasGone(t *testing.T) {
	m := newMoves(t, "main", "other")
	m.object("main", "k", "1")
	m.fork("main", 0, "old")
	m.object("main", "k", "2")
	m.fork("main", 0, "new")
	m.remove("new", "k")
	for _, name := range []string{"old", "new"} {
		_, err := m.SetWindow(t.Context(), name, 0)
		m.must(err)
	}
	_, err := m.DeleteBucket(t.Context(), "main", DeleteOptions{Force: true, Undo: -1})
	m.must(err)
	m.must(m.Flush(t.Context()))
	for range 3 {
		m.clock.pass(time.Hour)
		m.object("other", "k", "1")
		_, err := m.CollectFull(t.Context())
		m.must(err)
	}
	old, err := m.View(t.Context(), "old", 0)
	m.must(err)
	defer old.Close()
	now, err := m.View(t.Context(), "new", 0)
	m.must(err)
	defer now.Close()
	d := m.Diff(t.Context(), old, now, layers.NamespaceObjects, nil, nil)
	defer d.Close()
	if !d.Next() || d.Difference().A == nil || string(d.Difference().A.Meta) != "1" || d.Difference().B != nil || d.Next() {
		t.Errorf("the deletion does not show: %+v, %v", d.Difference(), d.Err())
	}
	m.must(m.VisitRecords(func(_ *layers.Desc, r *layers.Record) error {
		if string(r.Meta) == "2" {
			t.Error("the value that nobody reads is still there")
		}
		return nil
	}))
}
