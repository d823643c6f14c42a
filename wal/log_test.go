package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"stemma/wal/storefs"
)

// testRoundTrip writes commits of all kinds of sizes and reads them back, twice.
func testRoundTrip(t *testing.T, o Options) {
	l, rec, got := mustOpen(t, o)
	if !rec.Clean || len(got) != 0 || rec.Incarnation != 1 || rec.LastLSN != 0 || l.Visible() != 0 {
		t.Fatalf("a new log: %+v, %d commits", rec, len(got))
	}
	var want []entry
	sizes := []int{0, 1, 100, 4096, firstBlockPayload - frameHeaderBytes, firstBlockPayload - frameHeaderBytes + 1,
		firstBlockPayload + nextBlockPayload - frameHeaderBytes, firstBlockPayload - 3, 2 * nextBlockPayload}
	sizes = append(sizes, groupCapBytes-500, 2<<20, l.o.MaxCommitBytes-1, l.o.MaxCommitBytes, 0, 5, 4096)
	for i, n := range sizes {
		if n > l.o.MaxCommitBytes {
			continue
		}
		want = append(want, mustCommit(t, l, payloadOf(uint64(i), n)))
	}
	for i := range 300 { // gathered
		c := Commit{Payload: payloadOf(uint64(i), i*37%9000%l.o.MaxCommitBytes)}
		if err := l.Append(context.Background(), &c); err != nil {
			t.Fatal(err)
		}
		want = append(want, entry{c.LSN, c.Payload})
	}
	if err := l.Settle(context.Background(), MaxLSN-10); err != nil || l.Visible() != want[len(want)-1].lsn {
		t.Fatalf("settled: %v, visible %d", err, l.Visible())
	}
	if l.Size() == 0 || l.Err() != nil {
		t.Fatal(l.Size(), l.Err())
	}
	mustClose(t, l)
	for run := range uint64(2) {
		l, rec, got = mustOpen(t, o)
		checkEqual(t, got, want)
		last := want[len(want)-1].lsn
		if !rec.Clean || rec.TornAt != "" || rec.LastLSN != last || rec.Incarnation != 2+run || rec.Commits != len(want) {
			t.Fatalf("run %d: %+v", run, rec)
		}
		if l.Visible() != last || l.LastReserved() != last || l.Size() == 0 {
			t.Fatalf("run %d: visible %d, reserved %d, want %d", run, l.Visible(), l.LastReserved(), last)
		}
		want = append(want, mustCommit(t, l, payloadOf(run, 10)))
		mustClose(t, l)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, segment := range []int64{minSegmentBytes, 64 << 10, 1 << 20, 3 << 20} {
		t.Run(fmt.Sprint(segment), func(t *testing.T) {
			testRoundTrip(t, Options{FS: storefs.NewMem(), Dir: "wal", SegmentBytes: segment, Logger: testLogger(t)})
		})
	}
}

// onDisk opens the production file system in a temporary directory.
func onDisk(t testing.TB, dir string) (vfs.FS, string) {
	t.Helper()
	fs, err := storefs.New(storefs.Options{Dir: dir, BallastBytes: -1, Logger: testLogger(t, "refuses direct I/O")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	return fs, fs.PathJoin(dir, "wal")
}

func TestRoundTripOnDisk(t *testing.T) {
	fs, dir := onDisk(t, t.TempDir())
	testRoundTrip(t, Options{FS: fs, Dir: dir, SegmentBytes: 4 << 20, Logger: testLogger(t)})
}

func TestRoundTripOnTmpfs(t *testing.T) {
	tmp, err := os.MkdirTemp("/dev/shm", "wal")
	if err != nil {
		t.Skip("no tmpfs: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	fs, dir := onDisk(t, tmp)
	testRoundTrip(t, Options{FS: fs, Dir: dir, SegmentBytes: 256 << 10, Logger: testLogger(t)})
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{SegmentBytes: minSegmentBytes - blockBytes}, {SegmentBytes: minSegmentBytes + 1}, {SegmentBytes: maxSegmentBytes + blockBytes},
		{SegmentBytes: minSegmentBytes, MaxCommitBytes: minSegmentBytes}, {MaxCommitBytes: -1}, {ReplayFrom: MaxLSN},
	} {
		o.FS, o.Dir = storefs.NewMem(), "wal"
		if l, _, err := Open(o, nil); err == nil {
			l.Close()
			t.Errorf("opened with segments of %d and commits of %d bytes", o.SegmentBytes, o.MaxCommitBytes)
		}
	}
}

func TestRefusals(t *testing.T) {
	o := Options{FS: storefs.NewMem(), Dir: "wal", SegmentBytes: 64 << 10, MaxCommitBytes: 1000, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	want := []entry{mustCommit(t, l, []byte("a"))}
	if _, err := commit(l, make([]byte, 1001)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	no := errors.New("no")
	var offered LSN
	c := Commit{Payload: []byte("refused"), Reserve: func(lsn LSN) error { offered = lsn; return no }}
	if err := l.Append(context.Background(), &c); err != no {
		t.Fatalf("got %v, want the error of Reserve", err)
	}
	if c.LSN != 0 || l.LastReserved() != want[0].lsn {
		t.Fatalf("refused commit left LSN %d; last reserved %d", c.LSN, l.LastReserved())
	}
	want = append(want, mustCommit(t, l, []byte("b")))
	if want[1].lsn != offered {
		t.Fatalf("LSN %d, want %d, which the refused commit did not take", want[1].lsn, offered)
	}
	mustClose(t, l)
	mustClose(t, l)
	if _, err := commit(l, nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
	_, rec, got := mustOpen(t, o)
	checkEqual(t, got, want)
	if !rec.Clean {
		t.Fatalf("%+v", rec)
	}
}

// TestReserveRefusedAtRoll refuses the first commit of a new segment, and ends
// there.
func TestReserveRefusedAtRoll(t *testing.T) {
	o := Options{FS: storefs.NewMem(), Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	want := []entry{mustCommit(t, l, make([]byte, 4096))}
	no := errors.New("no")
	c := Commit{Payload: make([]byte, 8000), Reserve: func(LSN) error { return no }}
	if err := l.Append(context.Background(), &c); err != no {
		t.Fatal(err)
	}
	if n := l.Metrics().Segments; n != 2 {
		t.Fatalf("%d segments, want the roll to have happened", n)
	}
	mustClose(t, l)
	l, rec, got := mustOpen(t, o)
	checkEqual(t, got, want)
	if !rec.Clean {
		t.Fatalf("%+v", rec)
	}
	mustClose(t, l)
}

func TestReplayError(t *testing.T) {
	o := Options{FS: storefs.NewMem(), Dir: "wal", SegmentBytes: 64 << 10, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	want := []entry{mustCommit(t, l, []byte("a"))}
	mustClose(t, l)
	no := errors.New("no")
	if _, _, err := Open(o, func(LSN, []byte) error { return no }); !errors.Is(err, no) {
		t.Fatalf("got %v, want the error of replay", err)
	}
	_, _, got := mustOpen(t, o)
	checkEqual(t, got, want)
}

func TestNextLSN(t *testing.T) {
	o := Options{FS: storefs.NewMem(), Dir: "wal", SegmentBytes: 64 << 10, Logger: testLogger(t)}
	clock := LSN(1000)
	o.NextLSN = func(last LSN) LSN { return max(clock, last+1) }
	l, _, _ := mustOpen(t, o)
	if e := mustCommit(t, l, nil); e.lsn != 1000 {
		t.Fatalf("LSN %d, want 1000", e.lsn)
	}
	if e := mustCommit(t, l, nil); e.lsn != 1001 {
		t.Fatalf("LSN %d, want 1001", e.lsn)
	}
	if err := l.Settle(context.Background(), 5000); err != nil {
		t.Fatal(err)
	}
	if l.LastReserved() != 1001 {
		t.Fatalf("a floor reserved LSN %d", l.LastReserved())
	}
	if e := mustCommit(t, l, nil); e.lsn != 5001 {
		t.Fatalf("LSN %d, want 5001 above the floor", e.lsn)
	}
	if err := l.Settle(context.Background(), 10); err != nil {
		t.Fatal(err)
	}
	if e := mustCommit(t, l, nil); e.lsn != 5002 {
		t.Fatalf("LSN %d, want 5002: a floor does not go down", e.lsn)
	}
	if a, b := l.Skip(), l.Skip(); a != 5003 || b != 5004 || l.LastReserved() != 5002 {
		t.Fatalf("skipped %d and %d, the last commit is %d", a, b, l.LastReserved())
	}
	if e := mustCommit(t, l, nil); e.lsn != 5005 {
		t.Fatalf("LSN %d, want 5005: two were skipped", e.lsn)
	}
}

// gate is an Apply that waits.
type gate struct {
	open    chan struct{}
	entered chan LSN
}

func newGate() *gate { return &gate{open: make(chan struct{}), entered: make(chan LSN, 1000)} }

func (g *gate) apply(group []*Commit) {
	g.entered <- group[0].LSN
	<-g.open
}

// TestSettleWaits holds a group in Apply: what is below it is settled, it is
// not.
func TestSettleWaits(t *testing.T) {
	g := newGate()
	o := Options{FS: storefs.NewMem(), Dir: "wal", SegmentBytes: 64 << 10, Logger: testLogger(t), Apply: g.apply,
		NextLSN: func(last LSN) LSN { return last + 10 }}
	l, _, _ := mustOpen(t, o)
	c := Commit{Payload: []byte("a")}
	if err := l.Append(context.Background(), &c); err != nil {
		t.Fatal(err)
	}
	<-g.entered
	if l.Visible() != 0 {
		t.Fatal("visible before it is applied")
	}
	if err := l.Settle(context.Background(), c.LSN-1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Settle(ctx, c.LSN); !errors.Is(err, context.Canceled) {
		t.Fatalf("settled what is not visible: %v", err)
	}
	close(g.open)
	if err := l.Settle(context.Background(), c.LSN+3); err != nil {
		t.Fatal(err)
	}
	if l.Visible() != c.LSN {
		t.Fatalf("visible %d, want %d", l.Visible(), c.LSN)
	}
	if e := mustCommit(t, l, nil); e.lsn != c.LSN+13 {
		t.Fatalf("LSN %d, want %d", e.lsn, c.LSN+13)
	}
}

// TestBackpressure fills the log's memory while Apply stands still. The wait
// ends with ctx, and nothing was reserved.
func TestBackpressure(t *testing.T) {
	g := newGate()
	o := Options{FS: storefs.NewMem(), Dir: "wal", SegmentBytes: 32 << 10, Logger: testLogger(t), Apply: g.apply}
	l, _, _ := mustOpen(t, o)
	m := new(model)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		for i := uint64(0); ; i++ {
			c := Commit{Payload: payloadOf(i, 5000)}
			if err := l.Append(ctx, &c); err != nil {
				stopped <- err
				return
			}
			m.mu.Lock()
			m.appended = append(m.appended, entry{c.LSN, c.Payload})
			m.mu.Unlock()
		}
	}()
	<-g.entered
	for {
		l.mu.Lock()
		full := l.mu.sealed != nil && l.mu.room != nil && len(l.mu.pending) >= applyQueue+3
		l.mu.Unlock()
		if full {
			break
		}
	}
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want Canceled", err)
	}
	if got, want := l.LastReserved(), m.appended[len(m.appended)-1].lsn; got != want {
		t.Fatalf("last reserved %d, want %d", got, want)
	}
	close(g.open)
	mustClose(t, l)
	o.Apply = nil
	_, _, got := mustOpen(t, o)
	checkEqual(t, got, m.appended)
}

// TestConcurrent has many committers, settlers and a releaser, and an Apply
// that checks order and visibility.
func TestConcurrent(t *testing.T) {
	const committers, each = 8, 150
	o := Options{FS: storefs.NewMem(), Dir: "wal", SegmentBytes: 64 << 10, Logger: testLogger(t)}
	var l *Log
	var applied atomic.Uint64
	o.Apply = func(group []*Commit) {
		for _, c := range group {
			if uint64(c.LSN) <= applied.Load() || c.Value.(string) == "" {
				t.Errorf("applied %d after %d", c.LSN, applied.Load())
			}
			applied.Store(uint64(c.LSN))
		}
		if l.Visible() >= group[0].LSN {
			t.Errorf("visible %d before %d is applied", l.Visible(), group[0].LSN)
		}
	}
	l, _, _ = mustOpen(t, o)
	m := new(model)
	var wg sync.WaitGroup
	for i := range committers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range each {
				p := payloadOf(uint64(i*each+j), (i*977+j*131)%6000)
				c := Commit{Payload: p, Value: "v"}
				c.Reserve = func(lsn LSN) error {
					m.appended = append(m.appended, entry{lsn, bytes.Clone(p)}) // under the sequencing lock
					return nil
				}
				if err := l.Append(context.Background(), &c); err != nil {
					t.Error(err)
					return
				}
				clear(p) // Append has copied it
				if j%3 == 0 {
					continue
				}
				if err := l.Wait(&c); err != nil {
					t.Error(err)
				}
				if l.Visible() < c.LSN || applied.Load() < uint64(c.LSN) {
					t.Errorf("%d is acknowledged, but visible is %d", c.LSN, l.Visible())
				}
			}
		}()
	}
	var flushed LSN
	wg.Add(2)
	go func() {
		defer wg.Done()
		for range 50 {
			lsn := l.LastReserved()
			if err := l.Settle(context.Background(), lsn); err != nil || l.Visible() < lsn {
				t.Errorf("settle %d: %v, visible %d", lsn, err, l.Visible())
			}
		}
	}()
	go func() {
		defer wg.Done()
		for range 50 {
			flushed = l.Visible() / 2
			l.Release(flushed)
			l.Metrics()
			l.Size()
		}
	}()
	wg.Wait()
	mustClose(t, l)
	o.Apply, o.ReplayFrom = nil, flushed
	_, _, got := mustOpen(t, o)
	checkEqual(t, got, above(m.appended, flushed))
}

// TestCloseDuringLoad closes while commits come: what Append took is durable.
func TestCloseDuringLoad(t *testing.T) {
	for round := range 10 {
		o := Options{FS: storefs.NewMem(), Dir: "wal", SegmentBytes: 64 << 10, Logger: testLogger(t)}
		l, _, _ := mustOpen(t, o)
		m := new(model)
		var wg sync.WaitGroup
		var begun atomic.Int32
		for i := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for j := uint64(0); ; j++ {
					if err := m.commit(l, payloadOf(j, 3000), (i+round)%2 == 0); err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
					begun.Add(1)
				}
			}()
		}
		for begun.Load() < 20 {
		}
		mustClose(t, l)
		wg.Wait()
		_, rec, got := mustOpen(t, o)
		checkEqual(t, got, m.appended)
		if !rec.Clean {
			t.Fatalf("%+v", rec)
		}
	}
}

// TestAllocations bounds what an Append and its Wait allocate: the group.
func TestAllocations(t *testing.T) {
	fs, dir := onDisk(t, t.TempDir())
	l, _, _ := mustOpen(t, Options{FS: fs, Dir: dir, SegmentBytes: 1 << 20, Logger: testLogger(t)})
	payload := make([]byte, 100)
	var c Commit
	one := func() {
		c = Commit{Payload: payload}
		if err := l.Append(context.Background(), &c); err != nil {
			t.Fatal(err)
		}
		if err := l.Wait(&c); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		one()
	}
	if got := testing.AllocsPerRun(50, one); got > 8 {
		t.Fatalf("%.0f allocations for a group of one commit", got)
	}
}

func TestCheckAndInspect(t *testing.T) {
	mem := storefs.NewMem()
	o := Options{FS: mem, Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	var want []entry
	for i := range uint64(5) {
		want = append(want, mustCommit(t, l, payloadOf(i, 3000)))
	}
	mustClose(t, l)
	before := mem.String()
	var got []entry
	rec, err := Check(o, func(lsn LSN, p []byte) error {
		got = append(got, entry{lsn, bytes.Clone(p)})
		return nil
	})
	if err != nil || !rec.Clean || rec.Incarnation != 1 {
		t.Fatalf("%+v, %v", rec, err)
	}
	checkEqual(t, got, want)
	infos, err := Inspect(mem, "wal")
	if err != nil {
		t.Fatal(err)
	}
	if after := mem.String(); after != before {
		t.Fatalf("files changed from\n%s\nto\n%s", before, after)
	}
	var b strings.Builder
	for _, s := range infos {
		fmt.Fprintf(&b, "%s incarnation=%d first=%d %s\n", s.Name, s.Incarnation, s.FirstSequence, s.Unused)
		for _, g := range s.Groups {
			fmt.Fprintf(&b, "  %d +%d: group %d, %d commits [%d, %d] end=%v\n", g.Offset, g.Bytes, g.Sequence, g.Commits, g.First, g.Last, g.End)
		}
	}
	const wantText = `wal/0000000000000001.wal incarnation=1 first=1 
  4096 +4096: group 1, 1 commits [1, 1] end=false
  8192 +4096: group 2, 1 commits [2, 2] end=false
wal/0000000000000002.wal incarnation=1 first=3 
  4096 +4096: group 3, 1 commits [3, 3] end=false
  8192 +4096: group 4, 1 commits [4, 4] end=false
wal/0000000000000003.wal incarnation=1 first=5 
  4096 +4096: group 5, 1 commits [5, 5] end=false
  8192 +4096: group 6, 0 commits [5, 5] end=true
`
	if got := b.String(); !strings.HasPrefix(got, wantText) {
		t.Fatalf("got\n%s\nwant\n%s", got, wantText)
	}
}
