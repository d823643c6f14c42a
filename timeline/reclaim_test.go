package timeline_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal/storefs"
)

// dirtyWrites flips a bit in what is written to rewritten value segments.
type dirtyWrites struct {
	vfs.FS
	on *atomic.Bool
}

func (d dirtyWrites) Unwrap() vfs.FS { return d.FS }

func (d dirtyWrites) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	if err == nil && strings.Contains(name, "values/") && strings.Contains(name, "-") {
		f = dirtyFile{f, d.on}
	}
	return f, err
}

type dirtyFile struct {
	vfs.File
	on *atomic.Bool
}

func (f dirtyFile) WriteAt(p []byte, off int64) (int, error) {
	if f.on.Load() && off <= 5000 && off+int64(len(p)) > 5000 {
		p = append([]byte(nil), p...)
		p[5000-off] ^= 1
	}
	return f.File.WriteAt(p, off)
}

// A rewritten segment is read back before it takes the place of the only copy.
func TestRewrittenSegmentIsVerifiedBeforeItCounts(t *testing.T) {
	var on atomic.Bool
	s := openUsageOn(t, dirtyWrites{storefs.NewMem(), &on}, "data", -1)
	s.create("b")
	for i := range 200 {
		s.put("b", fmt.Sprintf("key-%03d", i), 2000)
	}
	s.collect()
	for i := range 100 {
		s.put("b", fmt.Sprintf("key-%03d", 2*i), 10)
	}
	on.Store(true)
	if _, err := s.CollectFull(t.Context()); err == nil {
		t.Error("a file that is not what was written replaces the segment")
	}
	on.Store(false)
	s.readAll("b")
	r := s.collect()
	if r.ValueBytesFreed < 150_000 {
		t.Errorf("freed %d bytes of values once the disk was sound", r.ValueBytesFreed)
	}
	s.readAll("b")
}

// readAll reads every body of a bucket.
func (s *usageStore) readAll(name string) {
	s.t.Helper()
	v, err := s.View(s.t.Context(), name, 0)
	s.ok(err)
	defer v.Close()
	scan := v.Scan(layers.NamespaceObjects, nil, nil)
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		if scan.Record().Body.Tag() == layers.BodyInline {
			continue
		}
		ext, err := s.Values().LoadExtents(scan.Record().Body, nil)
		s.ok(err)
		for _, e := range ext {
			_, err := s.Values().ReadAll(nil, e)
			s.ok(err)
		}
	}
	s.ok(scan.Err())
}

// An upload that dies leaves bytes that no record ever named, in a segment that
// stays open for the next one. They go, though no record was dropped.
func TestDeadUploadGoesWithoutAnyEdit(t *testing.T) {
	for _, mode := range []gc.Mode{gc.Idle, gc.Full} {
		t.Run(mode.String(), func(t *testing.T) {
			s := openUsage(t, -1)
			s.create("b")
			s.put("b", "kept", 40<<10)
			s.ok(s.Flush(t.Context()))
			w, err := s.Values().NewWriter(t.Context())
			s.ok(err)
			_, err = w.Write(s.random(3 << 20))
			s.ok(err)
			s.ok(w.Close()) // the client went away
			before := s.Metrics().ValueAllocatedBytes
			s.ok(s.Collect(t.Context(), mode))
			if after := s.Metrics().ValueAllocatedBytes; before < 3<<20 || after > 64<<10 {
				t.Errorf("values take %d bytes after the upload died, %d after a collection", before, after)
			}
			if got := s.listed("b"); got != 40<<10 {
				t.Errorf("%d bytes are left of the object", got)
			}
		})
	}
}

// stuckFiles refuses to unlink value segments.
type stuckFiles struct {
	vfs.FS
	on *atomic.Bool
}

func (f stuckFiles) Unwrap() vfs.FS { return f.FS }

func (f stuckFiles) Remove(name string) error {
	if f.on.Load() && strings.HasSuffix(name, ".val") {
		return errors.New("stuck")
	}
	return f.FS.Remove(name)
}

// A file that could not be unlinked when a rewritten one took its place goes later,
// without a restart.
func TestOldFileOfASegmentGoesLater(t *testing.T) {
	var on atomic.Bool
	s := openUsageOn(t, stuckFiles{storefs.NewMem(), &on}, "data", -1)
	s.create("b")
	for i := range 200 {
		s.put("b", fmt.Sprintf("key-%03d", i), 2000)
	}
	s.collect()
	for i := range 100 {
		s.put("b", fmt.Sprintf("key-%03d", 2*i), 10)
	}
	on.Store(true)
	if _, err := s.CollectFull(t.Context()); err == nil {
		t.Error("nobody is told of a file that stays")
	}
	on.Store(false)
	s.collect()
	names, err := s.fs.List("data/values")
	s.ok(err)
	if segs := s.Values().Segments(); len(names) != len(segs) {
		t.Errorf("files %v of the segments %+v", names, segs)
	}
	s.readAll("b")
}

// noHoles is a file system that can punch none, so streamed segments are rewritten.
type noHoles struct{ vfs.FS }

func (noHoles) Unwrap() vfs.FS { return nil }

// The flush of what a memlayer says of a segment does not take its row back to a file that was
// rewritten.
func TestRewriteAndFirstFlushOfASegment(t *testing.T) {
	s := openUsageOn(t, noHoles{storefs.NewMem()}, "data", -1)
	s.create("b")
	s.put("b", "kept", 40<<10)
	w, err := s.Values().NewWriter(t.Context())
	s.ok(err)
	_, err = w.Write(s.random(3 << 20))
	s.ok(err)
	s.ok(w.Close()) // the client went away
	for range 3 {
		s.ok(s.Collect(t.Context(), gc.Idle))
	}
	s.ok(s.Flush(t.Context()))
	s.ok(s.Collect(t.Context(), gc.Idle))
	s.readAll("b")
	s.ok(s.Close())
	s = openUsageOn(t, s.fs, "data", -1)
	s.readAll("b")
	if got := s.listed("b"); got != 40<<10 {
		t.Errorf("%d bytes are left of the object", got)
	}
	if after := s.Metrics().ValueAllocatedBytes; after > 64<<10 {
		t.Errorf("values take %d bytes", after)
	}
}
