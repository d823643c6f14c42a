package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"stemma/wal/storefs"
)

// entry is a commit as it was appended or replayed.
type entry struct {
	lsn     LSN
	payload []byte
}

// logHandler fails the test on a Warn or Error line that it does not list.
type logHandler struct {
	slog.Handler
	t     testing.TB
	allow []string
}

func testLogger(t testing.TB, allow ...string) *slog.Logger {
	return slog.New(&logHandler{Handler: slog.NewTextHandler(io.Discard, nil), t: t, allow: allow})
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return nil
	}
	for _, a := range h.allow {
		if strings.Contains(r.Message, a) {
			return nil
		}
	}
	attrs := ""
	r.Attrs(func(a slog.Attr) bool { attrs += " " + a.String(); return true })
	h.t.Errorf("unlisted log line: %s:%s", r.Message, attrs)
	return nil
}

// What faults may log.
var faultLines = []string{"cannot prepare", "cannot remove", "read-only"}

// tryOpen opens the log and returns what it replayed.
func tryOpen(o Options) (*Log, Recovery, []entry, error) {
	var got []entry
	l, rec, err := Open(o, func(lsn LSN, payload []byte) error {
		got = append(got, entry{lsn, bytes.Clone(payload)})
		return nil
	})
	return l, rec, got, err
}

func mustOpen(t testing.TB, o Options) (*Log, Recovery, []entry) {
	t.Helper()
	l, rec, got, err := tryOpen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, rec, got
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// commit appends payload and waits for it.
func commit(l *Log, payload []byte) (entry, error) {
	c := Commit{Payload: payload}
	if err := l.Append(context.Background(), &c); err != nil {
		return entry{}, err
	}
	return entry{c.LSN, bytes.Clone(payload)}, l.Wait(&c)
}

func mustCommit(t testing.TB, l *Log, payload []byte) entry {
	t.Helper()
	e, err := commit(l, payload)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// payloadOf returns n bytes that tell i.
func payloadOf(i uint64, n int) []byte {
	p := make([]byte, n)
	var seed [8]byte
	binary.LittleEndian.PutUint64(seed[:], i*0x9e3779b97f4a7c15+1)
	for j := range p {
		p[j] = seed[j%8] + byte(j>>3)
	}
	return p
}

// samePrefix returns how many entries of a and b agree from the start.
func samePrefix(a, b []entry) int {
	n := 0
	for n < len(a) && n < len(b) && a[n].lsn == b[n].lsn && bytes.Equal(a[n].payload, b[n].payload) {
		n++
	}
	return n
}

func checkEqual(t testing.TB, got, want []entry) {
	t.Helper()
	if n := samePrefix(got, want); n != len(want) || n != len(got) {
		t.Fatalf("replayed %d commits, want %d; they differ from commit %d on", len(got), len(want), n)
	}
}

// readFile and writeFile work on a whole file; writeFile syncs it.
func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func writeFile(t testing.TB, fs vfs.FS, name string, p []byte) {
	t.Helper()
	f, err := fs.Create(name, storefs.User)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(p)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close(), storefs.SyncDir(fs, fs.PathDir(name))); err != nil {
		t.Fatal(err)
	}
}

// copyFS returns a file system with the same files in dir, all synced.
func copyFS(t testing.TB, from vfs.FS, dir string) *storefs.MemFS {
	t.Helper()
	to := storefs.NewMem()
	if err := errors.Join(to.MkdirAll(dir, 0o755), storefs.SyncDir(to, "/")); err != nil {
		t.Fatal(err)
	}
	names, err := from.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		writeFile(t, to, to.PathJoin(dir, name), readFile(t, from, from.PathJoin(dir, name)))
	}
	return to
}

// model is what the committers of a log know. Safe for concurrent use.
type model struct {
	mu       sync.Mutex
	appended []entry // in LSN order
	acked    LSN     // all at or below were acknowledged
	flushed  LSN     // replay is not needed at or below
}

// commit appends one commit through the model, and waits for it if wait is set.
func (m *model) commit(l *Log, payload []byte, wait bool) error {
	c := Commit{Payload: payload}
	c.Reserve = func(lsn LSN) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.appended = append(m.appended, entry{lsn, bytes.Clone(payload)})
		return nil
	}
	if err := l.Append(context.Background(), &c); err != nil {
		return err
	}
	if !wait {
		return nil
	}
	if err := l.Wait(&c); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked = max(m.acked, c.LSN)
	return nil
}

// above returns the entries of s above lsn.
func above(s []entry, lsn LSN) []entry {
	for len(s) > 0 && s[0].lsn <= lsn {
		s = s[1:]
	}
	return s
}

// checkRecovered checks that what was acknowledged is a prefix of what was
// recovered above flushed, and that a prefix of what was appended.
func checkRecovered(t testing.TB, got, appended []entry, acked, flushed LSN) {
	t.Helper()
	want := above(appended, flushed)
	n := samePrefix(got, want)
	if n != len(got) {
		t.Fatalf("recovered %d commits, but only %d of them are what was appended (%d)", len(got), n, len(want))
	}
	if n < len(want) && want[n].lsn <= acked {
		t.Fatalf("recovered up to %d commits, but LSN %d was acknowledged and LSN %d is lost", n, acked, want[n].lsn)
	}
}

func newRand(t testing.TB, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
