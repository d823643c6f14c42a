package timelinetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// Piece is bytes [Off, Off+Len) of the value that Seed generates.
type Piece struct {
	Seed     uint64
	Off, Len int64
}

// Content is what a body must hold: pieces, one after the other. It stands for
// the bytes without keeping them.
type Content []Piece

// Len returns the length in bytes.
func (c Content) Len() int64 {
	var n int64
	for _, p := range c {
		n += p.Len
	}
	return n
}

// Slice returns bytes [off, off+n) of c.
func (c Content) Slice(off, n int64) Content {
	var s Content
	for _, p := range c {
		if off >= p.Len {
			off -= p.Len
			continue
		}
		take := min(p.Len-off, n)
		if take > 0 {
			s = append(s, Piece{Seed: p.Seed, Off: p.Off + off, Len: take})
		}
		n -= take
		off = 0
	}
	return s
}

// Bytes generates the content.
func (c Content) Bytes() []byte {
	b := make([]byte, c.Len())
	c.fill(b)
	return b
}

// fill generates as much as b holds.
func (c Content) fill(b []byte) {
	for _, p := range c {
		n := min(int(p.Len), len(b))
		generate(b[:n], p.Seed, p.Off)
		b = b[n:]
	}
}

// generate fills dst with the bytes from off on. A quarter of all seeds make
// values that repeat every 64 bytes, so that compression has something to do.
func generate(dst []byte, seed uint64, off int64) {
	period := ^uint64(0)
	if seed%4 == 0 {
		period = 7
	}
	var word [8]byte
	for len(dst) > 0 {
		i := uint64(off) / 8
		binary.LittleEndian.PutUint64(word[:], mix(seed, i&period))
		n := copy(dst, word[off%8:])
		dst, off = dst[n:], off+int64(n)
	}
}

// mix is the finalizer of splitmix64.
func mix(seed, i uint64) uint64 {
	z := seed*0x9e3779b97f4a7c15 + (i+1)*0xbf58476d1ce4e5b9
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// Match compares what r delivers, to its end, with c.
func (c Content) Match(r io.Reader) error {
	var got, want [16 << 10]byte
	for off, size := int64(0), c.Len(); ; {
		n, err := io.ReadFull(r, got[:])
		if off+int64(n) > size {
			return fmt.Errorf("body has more than %d bytes", size)
		}
		c.Slice(off, int64(n)).fill(want[:n])
		if i := firstDifference(got[:n], want[:n]); i >= 0 {
			return fmt.Errorf("body of %d bytes differs at %d: %02x, want %02x", size, off+int64(i), got[i], want[i])
		}
		off += int64(n)
		switch {
		case err == nil:
		case err != io.EOF && err != io.ErrUnexpectedEOF:
			return fmt.Errorf("body of %d bytes at %d: %w", size, off, err)
		case off != size:
			return fmt.Errorf("body ends after %d bytes, want %d", off, size)
		default:
			return nil
		}
	}
}

// MatchBytes compares b with c.
func (c Content) MatchBytes(b []byte) error { return c.Match(bytes.NewReader(b)) }

func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}
