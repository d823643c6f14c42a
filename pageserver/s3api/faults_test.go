package s3api

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"stemma/wal/storefs"
)

// fullFS is a file system whose disk can be full.
type fullFS struct {
	vfs.FS
	full atomic.Bool
}

// AdmitUserWrite is what the store asks before it takes a write.
func (f *fullFS) AdmitUserWrite() error {
	if f.full.Load() {
		return storefs.ErrDiskFull
	}
	return nil
}

// Unwrap lets storefs find what the file system below can do.
func (f *fullFS) Unwrap() vfs.FS { return f.FS }

func (s *testServer) shutdownAndStop() {
	s.t.Helper()
	s.http.CloseIdleConnections()
	if err := s.Shutdown(ctx); err != nil {
		s.t.Error(err)
	}
	if err := <-s.served; err != nil {
		s.t.Error(err)
	}
	_ = s.store.Close() // a store that has failed says so again
}

func TestDiskFull(t *testing.T) {
	fs := &fullFS{FS: storefs.NewMem()}
	s := startServer(t, fs)
	defer s.shutdownAndStop()
	s.put("/b-1", "")
	s.put("/b-1/k", "kept")
	fs.full.Store(true)
	s.refused(503, "StorageFull", call{method: "PUT", path: "/b-1/k", body: "x"})
	s.refused(503, "StorageFull", call{method: "PUT", path: "/b-2"})
	if got := s.get("/b-1/k"); got != "kept" {
		t.Fatalf("%q", got)
	}
	fs.full.Store(false) // space is back, and with it the service
	s.put("/b-1/k", "new")
	if lines := s.logs.take(); lines != "" {
		t.Errorf("logged: %s", lines)
	}
}

// A log that cannot be synced makes the store read-only: reads go on, writes
// are refused with the reason.
func TestReadOnly(t *testing.T) {
	var fail atomic.Bool
	fs := errorfs.Wrap(storefs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && strings.Contains(op.Path, "wal") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			return errors.New("the disk is gone")
		}
		return nil
	}))
	s := startServer(t, fs)
	defer s.shutdownAndStop()
	s.put("/b-1", "")
	s.put("/b-1/k", "kept")
	fail.Store(true)
	for range 2 {
		a := s.refused(503, "ServiceUnavailable", call{method: "PUT", path: "/b-1/k", body: "x"})
		if !strings.Contains(element(a.body, "Message"), "read-only") {
			t.Fatalf("%s", a.body)
		}
	}
	if got := s.get("/b-1/k"); got != "kept" {
		t.Fatalf("%q", got)
	}
}

// A body that has rotted on the disk ends the download early; the client never
// takes it for whole, and the log says why, once, with the request's id.
func TestCorruptBody(t *testing.T) {
	mem := storefs.NewMem()
	s := startServer(t, mem)
	defer s.shutdownAndStop()
	s.put("/b-1", "")
	s.put("/b-1/k", string(pattern(1<<20)))
	names, err := mem.List("data/values")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := mem.OpenReadWrite("data/values/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("rot"), 700_000); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	res, err := s.http.Do(s.request(call{method: "GET", path: "/b-1/k"}))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err == nil || n > 700_000 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	for len(s.slots) != 0 { // until the server has written its log
		time.Sleep(time.Millisecond)
	}
	lines := s.logs.take()
	if strings.Count(lines, "level=ERROR") != 1 || !strings.Contains(lines, res.Header.Get("x-amz-request-id")) {
		t.Fatalf("logged: %s", lines)
	}
	// When the answer has not begun yet, it is an error document.
	a := s.refused(500, "InternalError", call{method: "PUT", path: "/b-1/copy", headers: []string{"x-amz-copy-source", "/b-1/k", "x-amz-checksum-algorithm", "SHA256"}})
	lines = s.logs.take()
	if strings.Count(lines, "level=ERROR") != 1 || !strings.Contains(lines, a.header.Get("x-amz-request-id")) || strings.Contains(a.body, "checksum") {
		t.Fatalf("logged: %s, answered: %s", lines, a.body)
	}
}
