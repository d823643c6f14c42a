package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
	"stemma/wal/storefs"
)

// field annotates bytes of a format.
type field struct {
	off, n int
	name   string
}

var segmentFields = []field{{0, 4, "magic"}, {4, 4, "checksum"}, {8, 2, "version"}, {10, 6, "zero"}, {16, 8, "number"},
	{24, 8, "incarnation"}, {32, 8, "previous incarnation"}, {40, 8, "first sequence"}, {48, 8, "first LSN"},
	{56, 4, "previous checksum"}}

var groupFields = []field{{0, 4, "magic"}, {4, 4, "checksum"}, {8, 2, "version"}, {10, 2, "flags"}, {12, 4, "commits"},
	{16, 8, "incarnation"}, {24, 8, "sequence"}, {32, 8, "durable mark"}, {40, 8, "first LSN"}, {48, 8, "last LSN"},
	{56, 4, "payload bytes"}, {60, 4, "previous checksum"}}

// dump writes p as annotated hex. Runs of equal bytes are folded.
func dump(p []byte, base int, fields []field) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%05x  %-47x  %s\n", base+f.off, p[f.off:f.off+f.n], f.name)
	}
	last := fields[len(fields)-1]
	for off := last.off + last.n; off < len(p); {
		run := 1
		for off+run < len(p) && p[off+run] == p[off] {
			run++
		}
		if run > 32 {
			fmt.Fprintf(&b, "%05x  %02x ... %d times\n", base+off, p[off], run)
			off += run
			continue
		}
		name := ""
		n := min(16, len(p)-off)
		if off%blockBytes == 0 {
			n, name = tagBytes, "tag"
		}
		n = min(n, blockBytes-off%blockBytes)
		b.WriteString(strings.TrimRight(fmt.Sprintf("%05x  %-47x  %s", base+off, p[off:off+n], name), " ") + "\n")
		off += n
	}
	return b.String()
}

// TestFormat compares every byte of the format with testdata/format, which
// docs/format/wal.md describes. A change there is a new version of the format.
func TestFormat(t *testing.T) {
	datadriven.RunTest(t, "testdata/format", func(t *testing.T, d *datadriven.TestData) string {
		var a, b, c uint64
		switch d.Cmd {
		case "segment":
			var h segmentHeader
			var lsn, crc uint64
			d.ScanArgs(t, "number", &h.number)
			d.ScanArgs(t, "incarnation", &h.incarnation)
			d.ScanArgs(t, "prev-incarnation", &h.prevIncarnation)
			d.ScanArgs(t, "first-sequence", &h.firstSequence)
			d.ScanArgs(t, "first-lsn", &lsn)
			d.ScanArgs(t, "prev-crc", &crc)
			h.firstLSN, h.prevCRC = LSN(lsn), uint32(crc)
			p := make([]byte, segmentHeaderBytes)
			h.encode(p)
			if got, err := decodeSegmentHeader(p); err != nil || got != h {
				t.Fatalf("decoded %+v, %v", got, err)
			}
			return dump(p, 0, segmentFields)
		case "group":
			d.ScanArgs(t, "incarnation", &a)
			d.ScanArgs(t, "sequence", &b)
			d.ScanArgs(t, "prev-crc", &c)
			h := groupHeader{incarnation: a, sequence: b, durable: b - 1, prevCRC: uint32(c), end: d.HasArg("end")}
			buf := newGroupBuffer(1 << 20)
			for line := range strings.Lines(d.Input) {
				var lsn LSN
				var n int
				var with string
				if _, err := fmt.Sscan(line, &lsn, &n, &with); err != nil {
					t.Fatal(err)
				}
				if h.end {
					h.first, h.last = lsn, lsn
					continue
				}
				if h.commits == 0 {
					h.first = lsn
				}
				h.commits, h.last = h.commits+1, lsn
				buf.append(lsn, bytes.Repeat([]byte(with), n/len(with)))
			}
			p := buf.seal(&h)
			checkReencodes(t, p)
			return dump(p, blockBytes, groupFields)
		}
		t.Fatalf("unknown command %s", d.Cmd)
		return ""
	})
}

// decodeGroup decodes the group at the start of p and its commits. It does not
// change p.
func decodeGroup(p []byte) (groupHeader, []entry, error) {
	h, err := peekGroupHeader(p)
	if err != nil {
		return h, nil, err
	}
	if h.bytes() > int64(len(p)) {
		return h, nil, errInvalid
	}
	p = bytes.Clone(p[:h.bytes()])
	if err := h.verify(p); err != nil {
		return h, nil, err
	}
	var commits []entry
	err = h.eachCommit(h.joinPayload(p), func(lsn LSN, payload []byte) error {
		commits = append(commits, entry{lsn, payload})
		return nil
	})
	return h, commits, err
}

// checkReencodes checks that a group that decodes is what its parts encode to.
func checkReencodes(t *testing.T, p []byte) {
	t.Helper()
	h, commits, err := decodeGroup(p)
	if err != nil {
		t.Fatal(err)
	}
	b := newGroupBuffer(int64(len(p)))
	for _, c := range commits {
		b.append(c.lsn, c.payload)
	}
	again := h
	if q := b.seal(&again); !bytes.Equal(q, p[:h.bytes()]) || again != h {
		t.Fatalf("%+v with %d commits encodes to something else", h, len(commits))
	}
}

func TestGroupSizes(t *testing.T) {
	var sizes []int64
	for n := int64(0); n < 40000; n += 997 {
		sizes = append(sizes, n)
	}
	for blocks := int64(1); blocks < 6; blocks++ {
		for d := int64(-20); d <= 20; d++ { // around what fills them
			sizes = append(sizes, maxPayload(blocks*blockBytes)-frameHeaderBytes+d)
		}
	}
	for _, n := range sizes {
		b := newGroupBuffer(groupBytes(n + frameHeaderBytes))
		payload := payloadOf(uint64(n), int(n))
		b.append(5, payload)
		h := groupHeader{commits: 1, incarnation: 1, sequence: 1, first: 5, last: 5}
		p := b.seal(&h)
		if int64(len(p)) != groupBytes(n+frameHeaderBytes) || maxPayload(int64(len(p))) < n+frameHeaderBytes ||
			(len(p) > blockBytes && maxPayload(int64(len(p))-blockBytes) >= n+frameHeaderBytes) {
			t.Fatalf("%d bytes of payload take %d", n, len(p))
		}
		_, commits, err := decodeGroup(p)
		if err != nil || len(commits) != 1 || !bytes.Equal(commits[0].payload, payload) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, n := range []uint64{1, 255, 1 << 40, maxCounter - 1} {
		if got, ok := ParseSegmentName(SegmentName(n)); !ok || got != n {
			t.Fatalf("%s is %d, %v", SegmentName(n), got, ok)
		}
	}
	for _, s := range []string{"", ".wal", "1.wal", "000000000000001.wal", "00000000000000001.wal", "0000000000000000.wal",
		"000000000000000A.wal", "-000000000000001.wal", "+000000000000001.wal", "0000000000000001.tmp", "ffffffffffffffff.wal", "0000000000000001.walx"} {
		if n, ok := ParseSegmentName(s); ok {
			t.Errorf("%q is segment %d", s, n)
		}
	}
}

func FuzzSegmentHeader(f *testing.F) {
	p := make([]byte, segmentHeaderBytes)
	h := segmentHeader{number: 3, incarnation: 2, prevIncarnation: 1, firstSequence: 9, firstLSN: 1000, prevCRC: 5}
	h.encode(p)
	f.Add(p[:80], false)
	f.Add(p[:80], true)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, p []byte, below bool) {
		p = append(bytes.Clone(p), make([]byte, max(0, segmentHeaderBytes-len(p)))...)
		if below {
			binary.LittleEndian.PutUint32(p[4:], checksum(p[8:segmentHeaderBytes]))
		}
		h, err := decodeSegmentHeader(p)
		if err != nil {
			if !errors.Is(err, errInvalid) && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		q := make([]byte, segmentHeaderBytes)
		h.encode(q)
		if !bytes.Equal(q, p[:segmentHeaderBytes]) {
			t.Fatalf("%+v encodes to something else", h)
		}
	})
}

func FuzzGroup(f *testing.F) {
	b := newGroupBuffer(4 * blockBytes)
	b.append(10, []byte("abc"))
	b.append(11, nil)
	b.append(12, payloadOf(1, 5000))
	h := groupHeader{commits: 3, incarnation: 1, sequence: 4, durable: 3, first: 10, last: 12, prevCRC: 9}
	p := b.seal(&h)
	f.Add(bytes.Clone(p), false)
	f.Add(bytes.Clone(p), true)
	f.Add(bytes.Clone(p[:100]), true)
	e := groupHeader{end: true, incarnation: 1, sequence: 5, durable: 4, first: 12, last: 12}
	f.Add(bytes.Clone(newGroupBuffer(blockBytes).seal(&e)), true)
	f.Fuzz(func(t *testing.T, p []byte, below bool) {
		p = append(bytes.Clone(p), make([]byte, (blockBytes-len(p)%blockBytes)%blockBytes)...)
		if h, err := peekGroupHeader(p); err == nil && below && h.bytes() <= int64(len(p)) {
			binary.LittleEndian.PutUint32(p[4:], checksum(p[8:h.bytes()]))
		}
		if _, _, err := decodeGroup(p); err != nil {
			if !errors.Is(err, errInvalid) && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		checkReencodes(t, p)
	})
}

var fuzzChain = sync.OnceValues(func() (*storefs.MemFS, []entry) {
	fs := storefs.NewMem()
	l, _, err := Open(Options{FS: fs, Dir: "wal", SegmentBytes: minSegmentBytes}, nil)
	if err != nil {
		panic(err)
	}
	var want []entry
	for i := range uint64(9) {
		e, err := commit(l, payloadOf(i, 500+int(i%3)*3000))
		if err != nil {
			panic(err)
		}
		want = append(want, e)
	}
	return fs.CrashClone(vfs.CrashCloneCfg{}), want
})

// FuzzRecover changes bytes of a log, eight bytes of script per change, and
// opens it. Without repaired checksums, what is recovered is a prefix of what
// was written, or the log is called corrupt. In any case the log that opens
// works.
func FuzzRecover(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 16, 70, 1, 0, 0, 0})
	f.Add([]byte{1, 1, 16, 24, 1, 0, 0, 0, 1, 0, 0, 41, 3, 0, 0, 0})
	f.Add([]byte{4, 2, 32, 0, 0, 0, 0, 0})
	rng := rand.New(rand.NewPCG(7, 7))
	for range 8 {
		script := make([]byte, 8*(1+rng.IntN(4)))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 8*16 {
			return
		}
		base, want := fuzzChain()
		fs := base.CrashClone(vfs.CrashCloneCfg{})
		below := mutate(t, fs, script)
		o := Options{FS: fs, Dir: "wal", SegmentBytes: minSegmentBytes, Logger: testLogger(t)}
		l, rec, got, err := tryOpen(o)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if n := samePrefix(got, want); !below && n != len(got) {
			l.Close()
			t.Fatalf("recovered %d commits, but only %d of them were written", len(got), n)
		}
		if rec.LastLSN < MaxLSN-1 {
			got = append(got, mustCommit(t, l, []byte("more")))
		}
		mustClose(t, l)
		_, _, again, err := tryOpenClose(o)
		if err != nil {
			t.Fatal(err)
		}
		checkEqual(t, again, got)
	})
}

// mutate changes files as script says and reports whether it repaired any
// checksum. Per change: 1 byte kind, 1 byte file, 2 bytes offset in units of 16
// (big-endian), 1 byte offset in it, 3 bytes that are XORed in. Kind bit 0:
// repair the group's or header's checksum; bit 2: cut the file there instead.
func mutate(t *testing.T, fs *storefs.MemFS, script []byte) (below bool) {
	names, err := fs.List("wal")
	if err != nil {
		t.Fatal(err)
	}
	for ; len(script) >= 8; script = script[8:] {
		name := fmt.Sprintf("wal/%016x.wal", int(script[1])%len(names)+1)
		p := readFile(t, fs, name)
		if len(p) < segmentHeaderBytes {
			continue
		}
		off := (int(binary.BigEndian.Uint16(script[2:]))*16 + int(script[4])) % len(p)
		if script[0]&4 != 0 {
			writeFile(t, fs, name, p[:off])
			continue
		}
		for i, x := range script[5:8] {
			if off+i < len(p) {
				p[off+i] ^= x
			}
		}
		if script[0]&1 != 0 {
			below = true
			repair(p, off)
		}
		writeFile(t, fs, name, p)
	}
	return below
}

// repair sets the checksum of the header or group around off.
func repair(p []byte, off int) {
	if off < segmentHeaderBytes {
		binary.LittleEndian.PutUint32(p[4:], checksum(p[8:segmentHeaderBytes]))
		return
	}
	for at := off &^ (blockBytes - 1); at >= segmentHeaderBytes; at -= blockBytes {
		if h, err := peekGroupHeader(p[at:]); err == nil {
			if end := int64(at) + h.bytes(); end <= int64(len(p)) {
				binary.LittleEndian.PutUint32(p[at+4:], checksum(p[at+8:end]))
			}
			return
		}
	}
}
