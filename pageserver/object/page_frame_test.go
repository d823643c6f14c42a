package object

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

func frames() []PageFrame {
	size := uint64(0)
	return []PageFrame{
		{Kind: FrameRead, ID: 1, Bucket: "b", Reads: []PageRead{{Key: "k", At: 7, Off: 8192, Len: 8192}, {Key: "", Len: 1}}},
		{Kind: FrameRead, ID: 1 << 63, Bucket: ""},
		{Kind: FrameWrite, ID: 300, Bucket: "b", Key: "k", Write: PageInput{
			Create: NewPageCreate(true), PageBytes: 8192, IfLSN: 5, IfSize: &size, IfMatch: `"x"`,
			Ops: []PageOp{{Kind: PageWrite, Off: 1, Data: []byte("abc")}, {Kind: PageResize, Off: 9}},
		}},
		{Kind: FrameWrite, ID: 2, Bucket: "b", Key: "k", Write: PageInput{Create: NewPageCreate(false)}},
	}
}

// What a frame asks for is what was asked for, and a frame that is cut or has bytes too many is refused.
func TestPageFrames(t *testing.T) {
	for _, f := range frames() {
		p := AppendPageFrame([]byte("before"), &f)[len("before"):]
		if n := binary.LittleEndian.Uint32(p); int(n) != len(p)-PageFrameHead {
			t.Fatalf("head %d of %d bytes", n, len(p))
		}
		got, err := DecodePageFrame(p[PageFrameHead:])
		if err != nil || got.ID != f.ID || got.Key != f.Key || len(got.Reads) != len(f.Reads) || len(got.Write.Ops) != len(f.Write.Ops) {
			t.Fatalf("%+v, %v, want %+v", got, err, f)
		}
		if (got.Write.IfSize == nil) != (f.Write.IfSize == nil) || (got.Write.Create == nil) != (f.Write.Create == nil) {
			t.Fatalf("%+v, want %+v", got.Write, f.Write)
		}
		if !bytes.Equal(AppendPageFrame(nil, &got), p) {
			t.Fatalf("%+v is not %+v", got, f)
		}
		if _, err := DecodePageFrame(append(bytes.Clone(p[PageFrameHead:]), 0)); !errors.Is(err, ErrInvalidPageOp) {
			t.Errorf("a byte too many: %v", err)
		}
		for n := PageFrameHead; n < len(p); n++ {
			got, err := DecodePageFrame(p[PageFrameHead:n])
			if err == nil && len(got.Reads) == len(f.Reads) && len(got.Write.Ops) == len(f.Write.Ops) {
				t.Errorf("cut to %d of %d bytes it is whole", n, len(p))
			}
		}
	}
	for name, p := range map[string][]byte{
		"nothing": {}, "kind 0": {0, 1, 1, 'b', 1}, "an answer": {byte(FrameResults), 1, 1, 'b', 1}, "long number": {1, 0x81, 0, 1, 'b', 1},
		"create 3": {2, 1, 1, 'b', 1, 'k', 3, 0, 0, 0, 0, 1},
		"long key": append(append([]byte{2, 1, 1, 'b'}, appendString(nil, strings.Repeat("k", MaxKeyBytes+1))...), 0, 0, 0, 0, 0, 1),
	} {
		if _, err := DecodePageFrame(p); !errors.Is(err, ErrInvalidPageOp) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzPageFrame(f *testing.F) {
	for _, frame := range frames() {
		f.Add(AppendPageFrame(nil, &frame)[PageFrameHead:])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		frame, err := DecodePageFrame(p)
		if err != nil {
			if !errors.Is(err, ErrInvalidPageOp) {
				t.Fatal(err)
			}
			return
		}
		if again := AppendPageFrame(nil, &frame)[PageFrameHead:]; !bytes.Equal(again, p) {
			t.Fatalf("%x is encoded as %x", p, again)
		}
	})
}
