package wal

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"stemma/wal/storefs"
)

// failFrom fails file system calls from the k-th on: that one only, or all.
type failFrom struct {
	k     int64
	once  bool
	err   error
	calls atomic.Int64
}

func (f *failFrom) String() string { return "fail from k" }

func (f *failFrom) MaybeError(op errorfs.Op) error {
	n := f.calls.Add(1)
	if n == f.k || (n > f.k && !f.once) {
		return f.err
	}
	return nil
}

func (f *failFrom) wrap(fs vfs.FS) vfs.FS { return errorfs.Wrap(fs, f) }

// failSyncs fails SyncData while fail is set.
type failSyncs struct{ fail atomic.Bool }

func (f *failSyncs) String() string { return "fail syncs" }

func (f *failSyncs) MaybeError(op errorfs.Op) error {
	if f.fail.Load() && op.Kind == errorfs.OpFileSyncData {
		return errorfs.ErrInjected
	}
	return nil
}

func (f *failSyncs) wrap(fs vfs.FS) vfs.FS { return errorfs.Wrap(fs, f) }

// shortFS cuts the k-th WriteAt short, without an error.
type shortFS struct {
	vfs.FS
	k     int64
	calls atomic.Int64
}

type shortFile struct {
	vfs.File
	fs *shortFS
}

func (fs *shortFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	return &shortFile{f, fs}, err
}

func (fs *shortFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, c, o...)
	return &shortFile{f, fs}, err
}

func (f *shortFile) WriteAt(p []byte, off int64) (int, error) {
	if f.fs.calls.Add(1) == f.fs.k {
		return f.File.WriteAt(p[:len(p)/2&^(blockBytes-1)], off)
	}
	return f.File.WriteAt(p, off)
}

// faultLoad opens a log, commits, releases, closes, and does so again. It stops
// at the first error.
func faultLoad(o Options, m *model) error {
	for run := range uint64(2) {
		o.ReplayFrom = m.flushed
		var got []entry
		l, _, err := Open(o, func(lsn LSN, p []byte) error {
			got = append(got, entry{lsn, bytes.Clone(p)})
			return nil
		})
		if err != nil {
			return err
		}
		for i := range uint64(14) {
			wait := i%3 != 0
			if err = m.commit(l, payloadOf(run*100+i, 2000+int(i)*150), wait); err != nil {
				break
			}
			if i%5 == 4 {
				m.flushed = max(m.flushed, l.Visible()-3)
				l.Release(m.flushed)
			}
		}
		if failed := l.Err(); failed != nil {
			var ro *ReadOnlyError
			if err := l.Append(context.Background(), new(Commit)); !errors.As(err, &ro) || failed != error(ro) {
				return errors.Join(err, errors.New("a failed log accepts commits"))
			}
		}
		if err := errors.Join(err, l.Close()); err != nil {
			return err
		}
	}
	return nil
}

// checkAfterFault opens what a fault has left, as it is and after a crash.
func checkAfterFault(t *testing.T, fs *storefs.MemFS, o Options, m *model) {
	t.Helper()
	for _, after := range []*storefs.MemFS{fs.CrashClone(vfs.CrashCloneCfg{}), fs} {
		o := o
		o.FS, o.ReplayFrom, o.DurableLSN = after, m.flushed, m.acked
		l, _, got, err := tryOpen(o)
		if err != nil {
			t.Fatalf("reopen: %v", err)
		}
		checkRecovered(t, got, m.appended, m.acked, m.flushed)
		got = append(got, mustCommit(t, l, []byte("after")))
		mustClose(t, l)
		_, _, again, err := tryOpenClose(o)
		if err != nil {
			t.Fatal(err)
		}
		checkEqual(t, again, got)
	}
}

// TestFaults fails the k-th file system call for every k, with one error or all
// that follow, for several errors.
func TestFaults(t *testing.T) {
	enospc := &vfsError{syscall.ENOSPC}
	for _, c := range []struct {
		name string
		once bool
		err  error
	}{{"once", true, errorfs.ErrInjected}, {"from then on", false, errorfs.ErrInjected}, {"no space", true, enospc}} {
		t.Run(c.name, func(t *testing.T) {
			for k := int64(1); ; k++ {
				fs := storefs.NewMem()
				inj := &failFrom{k: k, once: c.once, err: c.err}
				o := Options{FS: inj.wrap(fs), Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t, faultLines...)}
				m := new(model)
				err := faultLoad(o, m)
				if inj.calls.Load() < k {
					if err != nil {
						t.Fatalf("without a fault: %v", err)
					}
					t.Logf("%d calls", k-1)
					return
				}
				if err != nil && !errors.Is(err, c.err) {
					t.Fatalf("call %d: got %v, want what was injected", k, err)
				}
				o.Logger = testLogger(t)
				checkAfterFault(t, fs, o, m)
			}
		})
	}
}

// vfsError is a system error as a file system other than storefs gives it.
type vfsError struct{ errno error }

func (e *vfsError) Error() string { return "write: " + e.errno.Error() }
func (e *vfsError) Unwrap() error { return e.errno }

// TestShortWrites cuts the k-th write short for every k.
func TestShortWrites(t *testing.T) {
	poisoned := 0
	for k := int64(1); ; k++ {
		fs := storefs.NewMem()
		short := &shortFS{FS: fs, k: k}
		o := Options{FS: short, Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t, faultLines...)}
		m := new(model)
		err := faultLoad(o, m)
		var ro *ReadOnlyError
		if errors.As(err, &ro) {
			poisoned++
		}
		if short.calls.Load() < k {
			if err != nil || poisoned == 0 {
				t.Fatalf("%v; %d short writes poisoned a log", err, poisoned)
			}
			return
		}
		o.Logger = testLogger(t)
		checkAfterFault(t, fs, o, m)
	}
}

// TestPoison fails one sync under commits: those that wait, and later ones, get
// the cause; what was acknowledged stays.
func TestPoison(t *testing.T) {
	fs := storefs.NewMem()
	var fail atomic.Bool
	cause := errors.New("the disk is on fire")
	o := Options{Dir: "wal", SegmentBytes: 64 << 10, Logger: testLogger(t, "read-only")}
	o.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData && fail.Load() {
			return cause
		}
		return nil
	}))
	l, _, _ := mustOpen(t, o)
	want := []entry{mustCommit(t, l, []byte("a"))}
	fail.Store(true)
	_, err := commit(l, []byte("b"))
	var ro *ReadOnlyError
	if !errors.As(err, &ro) || !errors.Is(err, cause) || !strings.Contains(ro.Reason, SegmentName(1)) {
		t.Fatalf("got %v, want a ReadOnlyError with cause and file", err)
	}
	fail.Store(false)
	if _, err := commit(l, []byte("c")); !errors.As(err, &ro) {
		t.Fatalf("got %v, want a ReadOnlyError for good", err)
	}
	if l.Visible() != want[0].lsn || l.Err() == nil {
		t.Fatalf("visible %d, err %v", l.Visible(), l.Err())
	}
	if err := l.Settle(context.Background(), MaxLSN); !errors.As(err, &ro) {
		t.Fatalf("settle above a commit that failed and may yet be found: %v", err)
	}
	if err := l.Settle(context.Background(), l.Visible()); err != nil {
		t.Fatalf("settle at what is visible: %v", err)
	}
	l.Release(MaxLSN)
	if err := l.Close(); !errors.Is(err, cause) {
		t.Fatalf("Close: %v", err)
	}
	o.FS, o.Logger = fs, testLogger(t)
	_, rec, got := mustOpen(t, o)
	if rec.Clean || samePrefix(got, want) != 1 || len(got) > 2 {
		t.Fatalf("%+v, %d commits", rec, len(got))
	}
}

// TestDiskFull has no space for new segments for a while. Appends that need one
// fail and leave nothing; the log works again by itself.
func TestDiskFull(t *testing.T) {
	fs := storefs.NewMem()
	var full atomic.Bool
	o := Options{Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t, "cannot prepare")}
	o.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpCreate {
			return &vfsError{syscall.ENOSPC}
		}
		return nil
	}))
	l, _, _ := mustOpen(t, o)
	m := new(model)
	eventually := func() {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			err := m.commit(l, payloadOf(uint64(len(m.appended)), 3000), true)
			if err == nil {
				return
			}
			if !errors.Is(err, ErrDiskFull) || time.Now().After(deadline) {
				t.Fatalf("after space came back: %v", err)
			}
		}
	}
	for round := range 3 {
		full.Store(false)
		for range 6 { // three segments
			eventually()
		}
		full.Store(true)
		var err error
		for err == nil {
			err = m.commit(l, payloadOf(uint64(len(m.appended)), 3000), true)
		}
		if !errors.Is(err, ErrDiskFull) || !errors.Is(err, storefs.ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v, want ErrDiskFull", err)
		}
		if got := l.LastReserved(); got != m.acked || l.Err() != nil {
			t.Fatalf("last reserved %d, want %d; err %v", got, m.acked, l.Err())
		}
		// What fits the current segment is still served, and a release helps.
		if round == 0 {
			m.flushed = l.Visible()
			l.Release(m.flushed)
		} else {
			full.Store(false)
		}
		eventually()
	}
	mustClose(t, l)
	o.FS, o.ReplayFrom = fs, m.flushed
	_, _, got := mustOpen(t, o)
	checkEqual(t, got, above(m.appended, m.flushed))
}

// TestPrepareFault has another error than a full disk; it is not fatal either.
func TestPrepareFault(t *testing.T) {
	fs := storefs.NewMem()
	var fail atomic.Bool
	cause := errors.New("no more names")
	o := Options{Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t, "cannot prepare")}
	o.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && op.Kind == errorfs.OpRename {
			return cause
		}
		return nil
	}))
	l, _, _ := mustOpen(t, o)
	m := new(model)
	fail.Store(true)
	var err error
	for err == nil {
		err = m.commit(l, payloadOf(uint64(len(m.appended)), 3000), true)
	}
	if !errors.Is(err, cause) || errors.Is(err, ErrDiskFull) || l.Err() != nil {
		t.Fatalf("got %v and %v, want the cause and a log in good health", err, l.Err())
	}
	fail.Store(false)
	for err != nil {
		if err = m.commit(l, []byte("x"), true); err != nil && !errors.Is(err, cause) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	mustClose(t, l)
	names, err := fs.List("wal")
	if err != nil || strings.Contains(strings.Join(names, " "), partSuffix) {
		t.Fatalf("%v %s", err, names)
	}
}
