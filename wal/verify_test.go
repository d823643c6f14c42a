package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"stemma/wal/storefs"
)

// TestEveryBit flips every bit of a segment header and of a group.
func TestEveryBit(t *testing.T) {
	p := make([]byte, segmentHeaderBytes)
	h := segmentHeader{number: 3, incarnation: 2, prevIncarnation: 1, firstSequence: 9, firstLSN: 1000, prevCRC: 5}
	h.encode(p)
	for i := range 8 * len(p) {
		p[i/8] ^= 1 << (i % 8)
		if _, err := decodeSegmentHeader(p); !errors.Is(err, errInvalid) {
			t.Fatalf("segment header with bit %d flipped: %v", i, err)
		}
		p[i/8] ^= 1 << (i % 8)
	}
	b := newGroupBuffer(2 * blockBytes)
	b.append(5, payloadOf(1, 5000))
	g := groupHeader{commits: 1, incarnation: 1, sequence: 4, durable: 3, first: 5, last: 5, prevCRC: 9}
	p = b.seal(&g)
	for i := range 8 * len(p) {
		p[i/8] ^= 1 << (i % 8)
		if _, _, err := decodeGroup(p); !errors.Is(err, errInvalid) {
			t.Fatalf("group with bit %d flipped: %v", i, err)
		}
		p[i/8] ^= 1 << (i % 8)
	}
}

// TestImpossible has bytes with a good checksum that this package cannot have
// written.
func TestImpossible(t *testing.T) {
	le := binary.LittleEndian
	header := map[string]func(p []byte){
		"version":              func(p []byte) { le.PutUint16(p[8:], 2) },
		"reserved":             func(p []byte) { p[12] = 1 },
		"number 0":             func(p []byte) { le.PutUint64(p[16:], 0) },
		"number too large":     func(p []byte) { le.PutUint64(p[16:], 1<<63) },
		"incarnation 0":        func(p []byte) { le.PutUint64(p[24:], 0) },
		"previous incarnation": func(p []byte) { le.PutUint64(p[32:], 3) },
		"sequence 0":           func(p []byte) { le.PutUint64(p[40:], 0) },
		"first with a past":    func(p []byte) { le.PutUint64(p[40:], 1) },
		"LSN 0":                func(p []byte) { le.PutUint64(p[48:], 0) },
		"LSN too large":        func(p []byte) { le.PutUint64(p[48:], uint64(MaxLSN)+1) },
		"not zero":             func(p []byte) { p[4095] = 1 },
	}
	for name, change := range header {
		p := make([]byte, segmentHeaderBytes)
		h := segmentHeader{number: 3, incarnation: 2, prevIncarnation: 1, firstSequence: 9, firstLSN: 1000, prevCRC: 5}
		h.encode(p)
		change(p)
		le.PutUint32(p[4:], checksum(p[8:]))
		if _, err := decodeSegmentHeader(p); !errors.Is(err, ErrCorrupt) {
			t.Errorf("segment header, %s: %v", name, err)
		}
	}
	group := map[string]func(p []byte){
		"version":                func(p []byte) { le.PutUint16(p[8:], 2) },
		"flags":                  func(p []byte) { le.PutUint16(p[10:], 2) },
		"end with commits":       func(p []byte) { le.PutUint16(p[10:], 1) },
		"no commits":             func(p []byte) { le.PutUint32(p[12:], 0) },
		"too many commits":       func(p []byte) { le.PutUint32(p[12:], 3) },
		"too few commits":        func(p []byte) { le.PutUint32(p[12:], 1) },
		"very many commits":      func(p []byte) { le.PutUint32(p[12:], 1<<31) },
		"incarnation 0":          func(p []byte) { le.PutUint64(p[16:], 0) },
		"sequence 0":             func(p []byte) { le.PutUint64(p[24:], 0) },
		"durable before written": func(p []byte) { le.PutUint64(p[32:], 4) },
		"first LSN":              func(p []byte) { le.PutUint64(p[40:], 4) },
		"LSNs in disorder":       func(p []byte) { le.PutUint64(p[40:], 10) },
		"last LSN":               func(p []byte) { le.PutUint64(p[48:], 10) },
		"last LSN too large":     func(p []byte) { le.PutUint64(p[48:], uint64(MaxLSN)) },
		"longer payload":         func(p []byte) { le.PutUint32(p[56:], le.Uint32(p[56:])+1) },
		"shorter payload":        func(p []byte) { le.PutUint32(p[56:], le.Uint32(p[56:])-1) },
		"padding":                func(p []byte) { p[2*blockBytes-1] = 1 },
		"tag":                    func(p []byte) { p[blockBytes] = 1 },
		"frame LSN":              func(p []byte) { p[64] = 6 },
		"frame length":           func(p []byte) { p[64+8] = 200 },
		"frame length huge":      func(p []byte) { le.PutUint32(p[64+8:], 1<<32-1) },
	}
	for name, change := range group {
		b := newGroupBuffer(2 * blockBytes)
		b.append(5, []byte("abc"))
		b.append(6, payloadOf(1, 5000))
		g := groupHeader{commits: 2, incarnation: 1, sequence: 4, durable: 3, first: 5, last: 6, prevCRC: 9}
		p := b.seal(&g)
		change(p)
		le.PutUint32(p[4:], checksum(p[8:]))
		if _, _, err := decodeGroup(p); !errors.Is(err, ErrCorrupt) {
			t.Errorf("group, %s: %v", name, err)
		}
	}
}

// resealed returns content with the last group of s changed and its checksum
// made good.
func resealed(content []byte, s SegmentInfo, change func(h *groupHeader)) []byte {
	content = bytes.Clone(content)
	g := s.Groups[len(s.Groups)-1]
	p := content[g.Offset : g.Offset+g.Bytes]
	h, err := peekGroupHeader(p)
	if err != nil {
		panic(err)
	}
	change(&h)
	h.encode(p)
	return content
}

// TestForeignGroup puts groups with good checksums where the last one belongs
// that do not continue the chain. They are not taken.
func TestForeignGroup(t *testing.T) {
	fs, o, want, segments := buildChain(t)
	last := segments[len(segments)-1]
	content := readFile(t, fs, last.Name)
	for name, change := range map[string]func(h *groupHeader){
		"previous checksum":    func(h *groupHeader) { h.prevCRC++ },
		"incarnation":          func(h *groupHeader) { h.incarnation++ },
		"lower sequence":       func(h *groupHeader) { h.sequence -= 3; h.durable -= 3 },
		"higher sequence":      func(h *groupHeader) { h.sequence++; h.durable++ },
		"LSNs before the last": func(h *groupHeader) { h.first, h.last = 1, 1 },
	} {
		content := bytes.Clone(content)
		if name == "LSNs before the last" { // in the commit as well
			g := last.Groups[len(last.Groups)-1]
			binary.LittleEndian.PutUint64(content[g.Offset+groupHeaderBytes:], 1)
		}
		o.FS = copyFS(t, fs, "wal")
		writeFile(t, o.FS, last.Name, resealed(content, last, change))
		_, _, got, err := tryOpenClose(o)
		switch name {
		case "higher sequence", "LSNs before the last": // proves a loss; cannot have been written
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
		default:
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			checkEqual(t, got, want[:len(want)-1])
		}
	}
}

// TestForeignHeader has a last segment that does not continue the one before.
func TestForeignHeader(t *testing.T) {
	fs, o, _, segments := buildChain(t)
	last := segments[len(segments)-1]
	content := readFile(t, fs, last.Name)
	for name, change := range map[string]func(h *segmentHeader){
		"previous checksum":    func(h *segmentHeader) { h.prevCRC++ },
		"previous incarnation": func(h *segmentHeader) { h.prevIncarnation-- },
		"first LSN":            func(h *segmentHeader) { h.firstLSN-- },
		"first sequence":       func(h *segmentHeader) { h.firstSequence -= 2 },
	} {
		h, err := decodeSegmentHeader(content)
		if err != nil {
			t.Fatal(err)
		}
		change(&h)
		p := bytes.Clone(content)
		h.encode(p)
		o.FS = copyFS(t, fs, "wal")
		writeFile(t, o.FS, last.Name, p)
		if _, _, _, err := tryOpenClose(o); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// gateFS holds the next SyncData of one file once it is armed.
type gateFS struct {
	vfs.FS
	held    string
	armed   atomic.Bool
	entered chan struct{}
	open    chan struct{}
}

type gateFile struct {
	vfs.File
	fs   *gateFS
	name string
}

func (fs *gateFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	return &gateFile{f, fs, strings.TrimSuffix(name, partSuffix) + segmentSuffix}, err
}

func (f *gateFile) SyncData() error {
	if strings.HasSuffix(f.name, f.fs.held) && f.fs.armed.CompareAndSwap(true, false) {
		close(f.fs.entered)
		<-f.fs.open
	}
	return f.File.SyncData()
}

// TestReleaseKeepsChain releases all of the first segment while the header of
// the second is not durable: a crash must still find the chain.
func TestReleaseKeepsChain(t *testing.T) {
	mem := storefs.NewMem()
	gate := &gateFS{FS: mem, held: SegmentName(2), entered: make(chan struct{}), open: make(chan struct{})}
	gate.armed.Store(true)
	o := Options{FS: gate, Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	want := []entry{mustCommit(t, l, make([]byte, 3000)), mustCommit(t, l, make([]byte, 3000))}
	third := Commit{Payload: make([]byte, 3000)}
	if err := l.Append(context.Background(), &third); err != nil {
		t.Fatal(err)
	}
	<-gate.entered
	l.Release(l.Visible())
	if n := l.Metrics().Segments; n != 2 {
		t.Fatalf("%d segments in use, want the first kept", n)
	}
	ro := o
	ro.FS, ro.ReplayFrom = mem.CrashClone(vfs.CrashCloneCfg{}), want[0].lsn
	_, rec, got, err := tryOpenClose(ro)
	if err != nil || rec.Incarnation != 2 {
		t.Fatalf("%+v, %v", rec, err)
	}
	checkEqual(t, got, want[1:])
	close(gate.open)
	if err := l.Wait(&third); err != nil {
		t.Fatal(err)
	}
	if n := l.Metrics().Segments; n != 1 {
		t.Fatalf("%d segments in use, want the first released by now", n)
	}
	mustClose(t, l)
}

// TestSettleInsideGroup settles between the LSNs of one group that is not
// visible.
func TestSettleInsideGroup(t *testing.T) {
	gate := &gateFS{FS: storefs.NewMem(), held: SegmentName(1), entered: make(chan struct{}), open: make(chan struct{})}
	o := Options{FS: gate, Dir: "wal", SegmentBytes: 64 << 10, Logger: testLogger(t), NextLSN: func(last LSN) LSN { return last + 10 }}
	l, _, _ := mustOpen(t, o)
	gate.armed.Store(true)
	var c [3]Commit
	for i := range c {
		if err := l.Append(context.Background(), &c[i]); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-gate.entered
		}
	}
	if c[1].group != c[2].group {
		t.Fatal("the commits are not in one group")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := l.Settle(ctx, c[1].LSN+5)
	close(gate.open)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("settled LSN %d, which is not visible: %v", c[1].LSN, err)
	}
	if err := l.Settle(context.Background(), c[1].LSN+5); err != nil || l.Visible() != c[2].LSN {
		t.Fatalf("%v, visible %d", err, l.Visible())
	}
}

// TestEmptyRunIsRecycled has a run that wrote nothing and crashed: its segment
// is used again while the next run goes on.
func TestEmptyRunIsRecycled(t *testing.T) {
	mem := storefs.NewMem()
	o := Options{FS: mem, Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t)}
	mustOpen(t, o)
	mem = mem.CrashClone(vfs.CrashCloneCfg{})
	o.FS = mem
	l, _, _ := mustOpen(t, o)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := mem.Stat("wal/" + SegmentName(1)); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the segment of an empty run stays")
		}
	}
	want := []entry{mustCommit(t, l, []byte("a"))}
	mustClose(t, l)
	_, _, got := mustOpen(t, o)
	checkEqual(t, got, want)
}

// TestReleaseStopsAtVisible releases more than is visible; and then all, which
// leaves a bounded pool.
func TestReleaseStopsAtVisible(t *testing.T) {
	mem := storefs.NewMem()
	o := Options{FS: mem, Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	l.Release(MaxLSN)
	for range 40 {
		mustCommit(t, l, make([]byte, 3000))
	}
	if n := l.Metrics().Segments; n != 20 {
		t.Fatalf("%d segments, want 20: nothing was visible when all was released", n)
	}
	size := l.Size()
	if size != 40*blockBytes {
		t.Fatalf("size %d, want %d", size, 40*blockBytes)
	}
	l.Release(l.Visible())
	if n := l.Metrics().Segments; n != 1 || l.Size() != 2*blockBytes {
		t.Fatalf("%d segments of %d bytes after the release", n, l.Size())
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		m := l.Metrics()
		if m.SegmentsRecycled+m.SegmentsRemoved == 19 {
			if m.Ready > maxReady || m.Ready < readyMade || m.SegmentsRemoved == 0 {
				t.Fatalf("%+v", m)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", m)
		}
	}
	names, err := mem.List("wal")
	if err != nil || len(names) > maxReady+1 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	mustClose(t, l)
}

// TestAcceptedIsSynced recovers a group that was written and whose sync failed.
// What Open has replayed must survive the next crash.
func TestAcceptedIsSynced(t *testing.T) {
	mem := storefs.NewMem()
	o := Options{FS: mem, Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t, faultLines...)}
	l, _, _ := mustOpen(t, o)
	want := []entry{mustCommit(t, l, []byte("a"))}
	mustClose(t, l)
	inj := &failSyncs{}
	fo := o
	fo.FS = inj.wrap(mem)
	l, _, _ = mustOpen(t, fo)
	inj.fail.Store(true)
	c := Commit{Payload: []byte("b")}
	if err := l.Append(context.Background(), &c); err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(&c); err == nil {
		t.Fatal("the sync did not fail")
	}
	l.Close()
	want = append(want, entry{c.LSN, c.Payload})
	_, _, got, err := tryOpenClose(o)
	if err != nil {
		t.Fatal(err)
	}
	checkEqual(t, got, want)
	o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
	_, _, got, err = tryOpenClose(o)
	if err != nil {
		t.Fatal(err)
	}
	checkEqual(t, got, want)
}
