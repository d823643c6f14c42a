package object

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// sealStreams returns bodies sealed one behind the other: as parts with numbers 3,
// 4, ..., or as one body without parts.
func sealStreams(t testing.TB, k *dataKey, parts bool, bodies ...[]byte) ([]byte, []sealedStream) {
	t.Helper()
	var out bytes.Buffer
	var streams []sealedStream
	for i, p := range bodies {
		part := 0
		if parts {
			part = 3 + i
		}
		s := newSealer(k, part, &out, make([]byte, streamBufferBytes))
		for rng := rand.New(rand.NewPCG(1, uint64(len(p)))); len(p) > 0; {
			n := min(len(p), 1+rng.IntN(100_000))
			if _, err := s.Write(p[:n]); err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
		if err := s.finish(); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, sealedStream{part: part, size: uint64(len(bodies[i]))})
	}
	return out.Bytes(), streams
}

// unseal returns the bytes [off, off+n) of what sealStreams sealed.
func unseal(k *dataKey, sealed []byte, streams []sealedStream, off, n int) ([]byte, error) {
	u, err := newUnsealer(k, streams, uint64(off), uint64(n), func(off, n uint64) (io.ReadCloser, error) {
		if off+n > uint64(len(sealed)) {
			return nil, io.ErrUnexpectedEOF
		}
		return io.NopCloser(bytes.NewReader(bytes.Clone(sealed[off : off+n]))), nil
	})
	if err != nil {
		return nil, err
	}
	defer u.Close()
	return io.ReadAll(u)
}

func TestSealedStreams(t *testing.T) {
	skipLong(t)
	const b = plainBlockBytes
	for _, sizes := range [][]int{
		{0}, {1}, {b - 17}, {b - 16}, {b - 15}, {b - 1}, {b}, {b + 1}, {2*b - 16}, {4 * b}, {4*b + 1}, {5 * b}, {9*b + 7},
		{0, 0}, {1, 2}, {b, 0, 7}, {b - 16, b - 16}, {5*b - 16, 3, 4 * b}, {1, 1, 1, 1, 1, 1},
	} {
		k, rng := newDataKey(), rand.New(rand.NewPCG(7, uint64(len(sizes))))
		var bodies [][]byte
		for i, n := range sizes {
			bodies = append(bodies, random(uint64(i), n))
		}
		whole := bytes.Join(bodies, nil)
		for _, parts := range []bool{true, false} {
			if !parts && len(sizes) > 1 {
				continue
			}
			sealed, streams := sealStreams(t, k, parts, bodies...)
			var want uint64
			for i := range streams {
				want += streams[i].stored()
			}
			if uint64(len(sealed)) != want {
				t.Fatalf("%v: %d bytes sealed, want %d", sizes, len(sealed), want)
			}
			for i := range 60 {
				off, end := 0, len(whole)
				if i > 0 && len(whole) > 0 {
					off = rng.IntN(len(whole))
					end = off + 1 + rng.IntN(len(whole)-off)
					if i%3 == 0 { // near a block's edge
						off = max(0, min(off, off/b*b+rng.IntN(3)-1))
					}
				}
				got, err := unseal(k, sealed, streams, off, end-off)
				if err != nil || !bytes.Equal(got, whole[off:end]) {
					t.Fatalf("%v parts %t: [%d, %d) is %d bytes, %v", sizes, parts, off, end, len(got), err)
				}
			}
			if _, err := unseal(k, sealed, streams, 0, len(whole)+1); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v: past the end: %v", sizes, err)
			}
		}
	}
}

// Whatever is done to the sealed bytes, or to what is said of them: what is read is
// a prefix of what was written, and then an error.
func TestSealedStreamsTampered(t *testing.T) {
	const b = plainBlockBytes
	k := newDataKey()
	bodies := [][]byte{random(1, 2*b-16), random(2, b+100), random(3, 7)}
	whole := bytes.Join(bodies, nil)
	sealed, streams := sealStreams(t, k, true, bodies...)
	check := func(what string, sealed []byte, streams []sealedStream) {
		t.Helper()
		n := 0
		for i := range streams {
			n += int(streams[i].size)
		}
		got, err := unseal(k, sealed, streams, 0, n)
		if err == nil || !bytes.HasPrefix(whole, got) {
			t.Errorf("%s: read %d bytes, error %v", what, len(got), err)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := 0; i < len(sealed); i += 1 + i/50 {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		check(fmt.Sprintf("byte %d", i), bad, streams)
	}
	cut := func(i int, size uint64) []sealedStream {
		s := append([]sealedStream(nil), streams...)
		s[i].size = size
		return s
	}
	check("first part shorter by its last block", sealed, cut(0, b-16))
	check("first part shorter within a block", sealed, cut(0, b))
	check("last part empty", sealed, cut(2, 0))
	check("last part longer", append(bytes.Clone(sealed), 0), cut(2, 8))
	check("first part missing", sealed[streams[0].stored():], streams)
	one, two := streams[0].stored(), streams[0].stored()+streams[1].stored()
	check("parts changed places", bytes.Join([][]byte{sealed[one:two], sealed[:one], sealed[two:]}, nil),
		[]sealedStream{{3, streams[1].size}, {4, streams[0].size}, streams[2]})
	swapped := bytes.Clone(sealed)
	copy(swapped[16:], sealed[sealedBlockBytes:sealedBlockBytes+1000])
	check("blocks changed places", swapped, streams)
	check("another number", sealed, []sealedStream{{9, streams[0].size}, streams[1], streams[2]})
	if _, err := unseal(newDataKey(), sealed, streams, 0, 1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another key: %v", err)
	}
	body, single := sealStreams(t, k, false, random(4, 2*b))
	if _, err := unseal(k, body, []sealedStream{{0, 2*b - 1}}, 0, 2*b-1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("shorter by a byte: %v", err)
	}
	if got, err := unseal(k, body, []sealedStream{{0, b}}, 0, b); !errors.Is(err, ErrCorrupt) || len(got) > 0 {
		t.Errorf("shorter by a block: %d bytes, %v", len(got), err)
	}
	if _, err := unseal(k, body[:len(body)-sealTagBytes], single, 0, 2*b); err == nil {
		t.Error("without the last tag")
	}
}

func TestSealedSmall(t *testing.T) {
	k := newDataKey()
	for _, p := range [][]byte{nil, []byte("x"), random(1, 20000)} {
		body := k.sealBody([]byte("head"), p)[4:]
		if got, err := k.openBody(body, uint64(len(p))); err != nil || !bytes.Equal(got, p) {
			t.Errorf("body of %d bytes: %d, %v", len(p), len(got), err)
		}
		if got, err := unseal(k, body, []sealedStream{{0, uint64(len(p))}}, 0, len(p)); err != nil || !bytes.Equal(got, p) {
			t.Errorf("body of %d bytes as a stream: %d, %v", len(p), len(got), err)
		}
		small := k.sealSmall(purposeFields, p)
		if got, err := k.openSmall(purposeFields, small); err != nil || !bytes.Equal(got, p) || len(small) != len(p)+smallOverhead {
			t.Errorf("%d bytes: %d, %v", len(p), len(got), err)
		}
		if _, err := k.openSmall(purposeTable, small); !errors.Is(err, ErrCorrupt) {
			t.Errorf("another purpose: %v", err)
		}
		for i := range small[:min(len(small), 40)] {
			bad := bytes.Clone(small)
			bad[i] ^= 1
			if _, err := k.openSmall(purposeFields, bad); !errors.Is(err, ErrCorrupt) {
				t.Errorf("byte %d changed: %v", i, err)
			}
			if _, err := k.openSmall(purposeFields, small[:i]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d bytes: %v", i, err)
			}
		}
	}
}
