package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/internal/seeds"
	"stemma/wal/storefs"
)

// runLoad commits from several goroutines until stop, releasing now and then.
// mu is held while something is released, so that a crash can be taken between.
func runLoad(l *Log, m *model, mu *sync.Mutex, seed uint64, stop <-chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := rng.IntN(200)
				if rng.IntN(3) == 0 {
					n = rng.IntN(l.o.MaxCommitBytes)
				}
				if m.commit(l, payloadOf(rng.Uint64(), n), rng.IntN(4) > 0) != nil {
					return
				}
				if rng.IntN(20) == 0 {
					mu.Lock()
					m.mu.Lock()
					m.flushed = max(m.flushed, l.Visible()-min(l.Visible(), LSN(rng.IntN(30))))
					flushed := m.flushed
					m.mu.Unlock()
					l.Release(flushed)
					mu.Unlock()
				}
			}
		}()
	}
	return &wg
}

// TestCrash crashes a log under load again and again, each time on what the
// last crash left: what was acknowledged is a prefix of what is recovered, which
// is a prefix of what was appended.
func TestCrash(t *testing.T) {
	seed := seeds.For(t)
	rng := newRand(t, seed)
	runs := 25
	if testing.Short() {
		runs = 5
	}
	for run := range runs {
		fs := storefs.NewMem()
		m := new(model)
		segment := []int64{minSegmentBytes, 32 << 10, 96 << 10}[rng.IntN(3)]
		for crash := range 6 {
			o := Options{FS: fs, Dir: "wal", SegmentBytes: segment, Logger: testLogger(t), ReplayFrom: m.flushed}
			if rng.IntN(2) == 0 {
				o.DurableLSN = m.acked
			}
			l, rec, got, err := tryOpen(o)
			if err != nil {
				t.Fatalf("run %d, crash %d: %v", run, crash, err)
			}
			checkRecovered(t, got, m.appended, m.acked, m.flushed)
			last := max(rec.LastLSN, m.flushed)
			m.appended = append([]entry(nil), got...)
			m.acked = last // what was recovered must not vanish any more
			stop := make(chan struct{})
			var mu sync.Mutex
			wg := runLoad(l, m, &mu, rng.Uint64(), stop)
			time.Sleep(time.Duration(rng.IntN(4000)) * time.Microsecond)

			mu.Lock()
			m.mu.Lock()
			acked, flushed := m.acked, m.flushed
			m.mu.Unlock()
			var after *storefs.MemFS
			switch rng.IntN(4) {
			case 0:
				after = fs.CrashClone(vfs.CrashCloneCfg{})
			case 1:
				after = fs.TornClone(rng)
			default:
				after = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			}
			mu.Unlock()
			close(stop)
			wg.Wait()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			checkSegmentSizes(t, after, segment)
			fs, m = after, &model{appended: m.appended, acked: acked, flushed: flushed}
		}
	}
}

// checkSegmentSizes checks that a file with the name of a segment is one.
func checkSegmentSizes(t *testing.T, fs vfs.FS, want int64) {
	t.Helper()
	names, err := fs.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, ok := ParseSegmentName(name); ok {
			if info, err := fs.Stat("wal/" + name); err != nil || info.Size() != want {
				t.Fatalf("%s is not wholly there: %v, %v", name, info, err)
			}
		}
	}
}

// TestCrashInOpen crashes at every file system call of an Open, several times in
// a row.
func TestCrashInOpen(t *testing.T) {
	rng := newRand(t, seeds.For(t))
	base := storefs.NewMem()
	o := Options{FS: base, Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	var want []entry
	for i := range uint64(7) {
		want = append(want, mustCommit(t, l, payloadOf(i, 3000)))
	}
	base = base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
	for k := 1; ; k++ {
		fs := base.CrashClone(vfs.CrashCloneCfg{})
		done := false
		for range 3 {
			inj := &failFrom{k: int64(k), err: errors.New("crashed")}
			o := o
			o.FS, o.Logger = inj.wrap(fs), testLogger(t, faultLines...)
			l, _, got, err := tryOpen(o)
			if err == nil {
				checkEqual(t, got, want)
				l.Close()
				done = true
			}
			fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		}
		o := o
		o.FS, o.Logger = fs, testLogger(t)
		l, _, got, err := tryOpen(o)
		if err != nil {
			t.Fatalf("after crashes at call %d: %v", k, err)
		}
		checkEqual(t, got, want)
		want2 := append(want[:len(want):len(want)], mustCommit(t, l, []byte("more")))
		mustClose(t, l)
		_, _, got = mustOpen(t, o)
		checkEqual(t, got, want2)
		if done {
			t.Logf("%d calls", k)
			return
		}
	}
}

// TestTruncatedTail cuts the last segment short at every sector.
func TestTruncatedTail(t *testing.T) {
	base := storefs.NewMem()
	o := Options{FS: base, Dir: "wal", SegmentBytes: 32 << 10, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	var want []entry
	for i := range uint64(3) {
		want = append(want, mustCommit(t, l, payloadOf(i, 6000)))
	}
	base = base.CrashClone(vfs.CrashCloneCfg{})
	name := "wal/" + SegmentName(1)
	for size := int64(32 << 10); size >= 0; size -= 512 {
		fs := base.CrashClone(vfs.CrashCloneCfg{})
		if err := storefs.Truncate(fs, name, size); err != nil {
			t.Fatal(err)
		}
		o.FS = fs
		_, rec, got, err := tryOpenClose(o)
		keep := 0
		for keep < 3 && int64(segmentHeaderBytes+(keep+1)*2*blockBytes) <= size {
			keep++
		}
		var corrupt *CorruptionError
		switch {
		case size < segmentHeaderBytes && keep == 0 && err == nil: // nothing is left that proves anything
			checkEqual(t, got, nil)
		case err != nil:
			t.Fatalf("%d bytes: %v", size, err)
		default:
			checkEqual(t, got, want[:keep])
			if keep < 3 && size%(2*blockBytes) > blockBytes && rec.TornAt == "" {
				t.Errorf("%d bytes: the torn group is not reported", size)
			}
		}
		// With what the catalog knows, the same is corruption.
		o := o
		o.FS, o.DurableLSN = base.CrashClone(vfs.CrashCloneCfg{}), want[2].lsn
		if err := storefs.Truncate(o.FS, name, size); err != nil {
			t.Fatal(err)
		}
		_, _, _, err = tryOpenClose(o)
		if (keep < 3) != errors.As(err, &corrupt) || (keep == 3 && err != nil) {
			t.Fatalf("%d bytes, LSN %d was durable: %v", size, o.DurableLSN, err)
		}
	}
}

func tryOpenClose(o Options) (*Log, Recovery, []entry, error) {
	l, rec, got, err := tryOpen(o)
	if err == nil {
		err = l.Close()
	}
	return l, rec, got, err
}

// buildChain returns a log of several segments with one commit per group, the
// last segment of which has several groups, as a crash leaves it.
func buildChain(t testing.TB) (*storefs.MemFS, Options, []entry, []SegmentInfo) {
	t.Helper()
	fs := storefs.NewMem()
	o := Options{FS: fs, Dir: "wal", SegmentBytes: 32 << 10, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	var want []entry
	for i := range uint64(14) {
		want = append(want, mustCommit(t, l, payloadOf(i, 3000+int(i%2)*3000)))
	}
	fs = fs.CrashClone(vfs.CrashCloneCfg{})
	infos, err := Inspect(fs, "wal")
	if err != nil {
		t.Fatal(err)
	}
	used := infos[:0]
	for _, s := range infos {
		if s.Unused == "" {
			used = append(used, s)
		}
	}
	if len(used) < 3 || len(used[len(used)-1].Groups) < 2 {
		t.Fatalf("not the chain that the test wants: %d segments", len(used))
	}
	return fs, o, want, used
}

// TestCorruption flips bits in every block of a log: what is proved to have been
// durable makes Open fail at the right place, the last group is cut.
func TestCorruption(t *testing.T) {
	fs, o, want, segments := buildChain(t)
	rng := newRand(t, seeds.For(t))
	groups := 0
	for si, s := range segments {
		content := readFile(t, fs, s.Name)
		for off := int64(0); off < s.Bytes; off += blockBytes {
			damaged := bytes.Clone(content)
			damaged[off+rng.Int64N(blockBytes)] ^= 1 << rng.IntN(8)
			o.FS = copyFS(t, fs, "wal")
			writeFile(t, o.FS, s.Name, damaged)
			hit := -1 // index of the group hit, counted over all segments
			var at int64
			for i, g := range s.Groups {
				if off >= g.Offset && off < g.Offset+g.Bytes {
					hit, at = groups+i, g.Offset
				}
			}
			_, rec, got, err := tryOpenClose(o)
			var corrupt *CorruptionError
			where := fmt.Sprintf("%s, block at %d", s.Name, off)
			switch {
			case off == 0: // a header; each has proof behind it
				if !errors.As(err, &corrupt) || !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s: %v, want corruption", where, err)
				}
			case hit < 0:
				if err != nil {
					t.Fatalf("%s: %v, want no error in a block not in use", where, err)
				}
				checkEqual(t, got, want)
			case hit == len(want)-1:
				if err != nil {
					t.Fatalf("%s: %v, want the last group to be cut", where, err)
				}
				checkEqual(t, got, want[:hit])
				if torn := fmt.Sprintf("%s:%d", s.Name, at); rec.TornAt != torn && off != at {
					t.Errorf("%s: torn at %q, want %q", where, rec.TornAt, torn)
				}
			default:
				if !errors.As(err, &corrupt) || corrupt.File != s.Name || corrupt.Offset != at {
					t.Fatalf("%s: %v, want corruption at %d", where, err, at)
				}
			}
		}
		groups += len(s.Groups)
		// A file that is not there at all. Nothing proves that the last was.
		o.FS = copyFS(t, fs, "wal")
		if err := o.FS.Remove(s.Name); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := tryOpenClose(o); (err == nil) != (si == len(segments)-1) || (err != nil && !errors.Is(err, ErrCorrupt)) {
			t.Fatalf("without %s: %v", s.Name, err)
		}
	}
}

// TestCorruptOnlySegment damages the header of a log's only segment.
func TestCorruptOnlySegment(t *testing.T) {
	fs := storefs.NewMem()
	o := Options{FS: fs, Dir: "wal", SegmentBytes: 32 << 10, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	mustCommit(t, l, []byte("a"))
	o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
	name := "wal/" + SegmentName(1)
	content := readFile(t, o.FS, name)
	clear(content[:segmentHeaderBytes])
	writeFile(t, o.FS, name, content)
	if _, _, _, err := tryOpenClose(o); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v, want corruption: the group proves the header", err)
	}
}

// TestLostWrite has a disk that lost a synced group in the middle without a
// trace, be its place zero or stale.
func TestLostWrite(t *testing.T) {
	fs, o, want, segments := buildChain(t)
	last := segments[len(segments)-1]
	for i, g := range last.Groups {
		content := readFile(t, fs, last.Name)
		clear(content[g.Offset : g.Offset+g.Bytes])
		o.FS = copyFS(t, fs, "wal")
		writeFile(t, o.FS, last.Name, content)
		_, _, got, err := tryOpenClose(o)
		if i == len(last.Groups)-1 {
			if err != nil {
				t.Fatal(err)
			}
			checkEqual(t, got, want[:len(want)-1])
			continue
		}
		var corrupt *CorruptionError
		if !errors.As(err, &corrupt) || corrupt.File != last.Name || corrupt.Offset != g.Offset {
			t.Fatalf("group %d lost: %v", g.Sequence, err)
		}
	}
}

// TestStaleBlocks fills a recycled segment with groups of just the size of the
// stale ones, and crashes after each: the stale ones behind are not taken.
func TestStaleBlocks(t *testing.T) {
	fs := storefs.NewMem()
	o := Options{FS: fs, Dir: "wal", SegmentBytes: 32 << 10, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	var want []entry
	stale := 0
	for i := range uint64(120) {
		want = append(want, mustCommit(t, l, payloadOf(i, 5000)))
		flushed := want[max(0, len(want)-5)].lsn
		l.Release(flushed)
		after := fs.CrashClone(vfs.CrashCloneCfg{})
		infos, err := Inspect(after, "wal")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range infos {
			for _, g := range s.Groups {
				if s.Unused == "" && g.Sequence < s.FirstSequence {
					stale++
				}
			}
		}
		ro := o
		ro.FS, ro.ReplayFrom, ro.DurableLSN = after, flushed, want[len(want)-1].lsn
		_, _, got, err := tryOpenClose(ro)
		if err != nil {
			t.Fatalf("after %d commits: %v", i+1, err)
		}
		checkEqual(t, got, above(want, flushed))
	}
	if stale == 0 || l.Metrics().SegmentsRecycled == 0 {
		t.Fatalf("no stale block was ever behind the log (%d recycled)", l.Metrics().SegmentsRecycled)
	}
}

// TestForgedGroup commits bytes that look like a later group at every place a
// payload can have, and tears their own group: the tail is cut all the same.
func TestForgedGroup(t *testing.T) {
	forged := newGroupBuffer(blockBytes)
	forged.append(1000, []byte("forged"))
	h := groupHeader{commits: 1, incarnation: 1, sequence: 1000, durable: 999, first: 1000, last: 1000}
	image := forged.seal(&h)
	if err := h.verify(image); err != nil {
		t.Fatal(err)
	}
	for _, stride := range []int{blockBytes, nextBlockPayload} {
		for shift := range 12 {
			shift *= 4
			payload := make([]byte, shift)
			for len(payload) < 100<<10 {
				payload = append(payload, image...)
				payload = payload[:len(payload)-(blockBytes-stride)]
			}
			fs := storefs.NewMem()
			o := Options{FS: fs, Dir: "wal", SegmentBytes: 256 << 10, Logger: testLogger(t)}
			l, _, _ := mustOpen(t, o)
			want := []entry{mustCommit(t, l, []byte("a"))}
			mustCommit(t, l, payload)
			o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
			name := "wal/" + SegmentName(1)
			content := readFile(t, o.FS, name)
			content[2*blockBytes+100] ^= 1
			writeFile(t, o.FS, name, content)
			_, _, got, err := tryOpenClose(o)
			if err != nil {
				t.Fatalf("stride %d, shift %d: %v", stride, shift, err)
			}
			checkEqual(t, got, want)
			mustClose(t, l)
		}
	}
	// The twin: a group like that where a group can be does prove something.
	fs, o, _, segments := buildChain(t)
	last := segments[len(segments)-1]
	content := readFile(t, fs, last.Name)
	copy(content[len(content)-blockBytes:], image)
	writeFile(t, fs, last.Name, content)
	o.FS = fs
	if _, _, _, err := tryOpenClose(o); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v, want corruption", err)
	}
}

// TestCutIsFinal has the torn group of an earlier incarnation come back whole:
// the header of the segment after it says where the log ends.
func TestCutIsFinal(t *testing.T) {
	fs := storefs.NewMem()
	o := Options{FS: fs, Dir: "wal", SegmentBytes: 32 << 10, Logger: testLogger(t)}
	l, _, _ := mustOpen(t, o)
	want := []entry{mustCommit(t, l, []byte("a"))}
	mustCommit(t, l, []byte("torn"))
	o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
	name := "wal/" + SegmentName(1)
	whole := readFile(t, o.FS, name)
	torn := bytes.Clone(whole)
	torn[2*blockBytes+70] ^= 1
	writeFile(t, o.FS, name, torn)
	l, rec, got := mustOpen(t, o)
	checkEqual(t, got, want)
	if rec.Clean || rec.TornAt != name+":8192" || rec.LastLSN != want[0].lsn {
		t.Fatalf("%+v", rec)
	}
	writeFile(t, o.FS, name, whole)
	mustClose(t, l)
	l, _, got = mustOpen(t, o)
	checkEqual(t, got, want)
	want = append(want, mustCommit(t, l, []byte("b")))
	mustClose(t, l)
	_, _, got = mustOpen(t, o)
	checkEqual(t, got, want)
}

// TestManyRestarts opens and leaves a log many times: its files do not pile up
// when nothing is committed, and do go when all is released.
func TestManyRestarts(t *testing.T) {
	for _, clean := range []bool{false, true} {
		fs := storefs.NewMem()
		o := Options{FS: fs, Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t)}
		l, _, _ := mustOpen(t, o)
		want := []entry{mustCommit(t, l, []byte("a"))}
		for i := range 20 {
			if clean {
				mustClose(t, l)
				o.ReplayFrom = want[0].lsn
			} else {
				fs = fs.CrashClone(vfs.CrashCloneCfg{})
				mustClose(t, l)
				o.FS = fs
			}
			var rec Recovery
			var got []entry
			l, rec, got = mustOpen(t, o)
			if !clean {
				checkEqual(t, got, want)
			}
			if rec.Clean != clean || rec.Incarnation != uint64(i+2) || rec.LastLSN != want[0].lsn {
				t.Fatalf("restart %d: %+v", i, rec)
			}
		}
		mustClose(t, l)
		names, err := o.FS.List("wal")
		if err != nil || len(names) > maxReady+3 {
			t.Fatalf("%d files after 20 restarts (%v): %s", len(names), err, names)
		}
	}
}

// TestMissingHead opens a log whose released part is gone with too low a
// ReplayFrom.
func TestMissingHead(t *testing.T) {
	fs, o, want, segments := buildChain(t)
	if err := fs.Remove(segments[0].Name); err != nil {
		t.Fatal(err)
	}
	o.FS = fs
	released := segments[1].FirstLSN - 1
	for _, from := range []LSN{0, released - 1} {
		o.ReplayFrom = from
		var corrupt *CorruptionError
		if _, _, _, err := tryOpenClose(o); !errors.As(err, &corrupt) || corrupt.File != segments[1].Name {
			t.Fatalf("from %d: %v, want corruption", from, err)
		}
	}
	o.ReplayFrom = released
	_, _, got, err := tryOpenClose(o)
	if err != nil {
		t.Fatal(err)
	}
	checkEqual(t, got, above(want, released))
}

// TestReleasedComeBack has a crash undo the removal of some released segments
// only, damaged at that: replay does not look at them.
func TestReleasedComeBack(t *testing.T) {
	fs, o, want, segments := buildChain(t)
	if len(segments) < 4 {
		t.Fatal(len(segments))
	}
	content := readFile(t, fs, segments[0].Name)
	clear(content[2*blockBytes:])
	writeFile(t, fs, segments[0].Name, content)
	if err := fs.Remove(segments[1].Name); err != nil {
		t.Fatal(err)
	}
	o.FS, o.ReplayFrom = fs, segments[2].FirstLSN-1
	l, _, got := mustOpen(t, o)
	checkEqual(t, got, above(want, o.ReplayFrom))
	// They are recycled.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := fs.Stat(segments[0].Name); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a released segment stays")
		}
		time.Sleep(time.Millisecond)
	}
	mustClose(t, l)
}

// TestReplayFromAboveLog raises LSNs above what the caller knows.
func TestReplayFromAboveLog(t *testing.T) {
	fs, o, _, _ := buildChain(t)
	o.FS, o.ReplayFrom = fs, 5000
	l, rec, got := mustOpen(t, o)
	if len(got) != 0 || rec.LastLSN != 5000 {
		t.Fatalf("%+v, %d commits", rec, len(got))
	}
	want := []entry{mustCommit(t, l, []byte("a"))}
	if want[0].lsn != 5001 {
		t.Fatalf("LSN %d, want 5001", want[0].lsn)
	}
	mustClose(t, l)
	_, _, got = mustOpen(t, o)
	checkEqual(t, got, want)
}

func TestForeignFiles(t *testing.T) {
	fs, o, want, _ := buildChain(t)
	o.FS = fs
	for _, name := range []string{"README", "0.wal", "000000000000000G.wal", "00000000000000AB.wal", "0000000000000000.wal", "0000000000000001.wal.bak"} {
		writeFile(t, fs, "wal/"+name, []byte("x"))
	}
	writeFile(t, fs, "wal/"+partName(77), make([]byte, 5))
	l, _, got := mustOpen(t, o)
	checkEqual(t, got, want)
	mustClose(t, l)
	names, err := fs.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(names, " ")
	if !strings.Contains(all, "README") || strings.Contains(all, partSuffix) {
		t.Fatal(all)
	}
}
