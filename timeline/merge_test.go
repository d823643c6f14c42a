package timeline_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

// openLayers counts the layer files that are being written.
type openLayers struct {
	vfs.FS
	now, most *atomic.Int64
}

func (o openLayers) Unwrap() vfs.FS { return o.FS }

func (o openLayers) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := o.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".layer") {
		return f, err
	}
	o.most.Store(max(o.most.Load(), o.now.Add(1)))
	return &countedFile{File: f, now: o.now}, nil
}

type countedFile struct {
	vfs.File
	now    *atomic.Int64
	closed bool
}

func (f *countedFile) Close() error {
	if !f.closed {
		f.closed = true
		f.now.Add(-1)
	}
	return f.File.Close()
}

// A merge has the files of its outputs open one after the other: what it keeps in
// mind of one does not wait for the last.
func TestMergeWritesOneFileAtATime(t *testing.T) {
	var now, most atomic.Int64
	s := openUsageOn(t, openLayers{storefs.NewMem(), &now, &most}, "data", gc.Forever)
	s.create("b")
	for round := range 2 {
		for i := 0; i < 20_000; i += 100 {
			var b timeline.Batch
			for j := range 100 {
				b.Put(layers.NamespaceObjects, fmt.Appendf(nil, "key-%06d", i+j), s.random(40+round), nil)
			}
			_, err := s.Commit(t.Context(), "b", &b)
			s.ok(err)
		}
		var b timeline.Batch
		b.DeleteRange(layers.NamespaceObjects, []byte("key-004"), []byte("key-012"))
		_, err := s.Commit(t.Context(), "b", &b)
		s.ok(err)
	}
	s.collect()
	m := s.Metrics()
	if n := m.Levels[layers.BottomLevel].Layers; n < 10 {
		t.Fatalf("%d layers at the bottom", n)
	}
	if most.Load() > 3 || now.Load() != 0 {
		t.Errorf("%d layer files open for writing at once, %d after the merge", most.Load(), now.Load())
	}
	if got := s.listedKeys("b"); got != 12_000 {
		t.Errorf("%d keys are left", got)
	}
}

func (s *usageStore) listedKeys(name string) (n int) {
	s.t.Helper()
	v, err := s.View(s.t.Context(), name, 0)
	s.ok(err)
	defer v.Close()
	scan := v.Scan(layers.NamespaceObjects, nil, nil)
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		n++
	}
	s.ok(scan.Err())
	return n
}
