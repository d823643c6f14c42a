package layers

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// benchValues is a directory of values on the real disk.
func benchValues(b *testing.B) valuesTest {
	dir := b.TempDir()
	var next FileNum
	v, err := OpenValues(vfs.Default, dir, ValuesOptions{NextFileNum: func() FileNum { next++; return next }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { v.Close() })
	return valuesTest{Values: v, t: b}
}

// stream writes n bytes in pieces and makes them durable.
func (v valuesTest) stream(piece []byte, n int) []Extent {
	w, err := v.NewWriter(context.Background())
	if err != nil {
		v.t.Fatal(err)
	}
	defer w.Close()
	for n > 0 {
		m, err := w.Write(piece[:min(n, len(piece))])
		if err != nil {
			v.t.Fatal(err)
		}
		n -= m
	}
	ext, err := w.Finish()
	if err != nil {
		v.t.Fatal(err)
	}
	return ext
}

func BenchmarkStreamWrite(b *testing.B) {
	for _, n := range []int{32 << 10, 256 << 10, 1 << 20, 16 << 20, 256 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			v := benchValues(b)
			piece := randomBytes(rand.New(rand.NewPCG(1, 1)), 256<<10)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				v.stream(piece, n)
			}
		})
	}
}

// The page cache holds what is read.
func BenchmarkStreamRead(b *testing.B) {
	for _, n := range []int{32 << 10, 256 << 10, 16 << 20, 256 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			v := benchValues(b)
			ext := v.stream(randomBytes(rand.New(rand.NewPCG(1, 1)), 256<<10), n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				r, err := v.NewReader(ext, 0, uint64(n))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := r.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}

// A small read at a random place of a large value: one chunk and the table.
func BenchmarkRangeRead(b *testing.B) {
	v := benchValues(b)
	rng := rand.New(rand.NewPCG(1, 1))
	ext := v.stream(randomBytes(rng, 256<<10), 256<<20)
	e := ext[0]
	dst := make([]byte, 0, 256<<10)
	b.ReportAllocs()
	for b.Loop() {
		e.Skip, e.Len = rng.Uint64N(ext[0].Len-8192), 8192
		if _, err := v.ReadAll(dst, e); err != nil {
			b.Fatal(err)
		}
	}
}

// Small values in any order: as packed, and after a rewrite that kept them all,
// where a read looks into the remap table first.
func BenchmarkReadSmall(b *testing.B) {
	for _, rewritten := range []bool{false, true} {
		b.Run(fmt.Sprintf("rewritten=%v", rewritten), func(b *testing.B) { benchmarkReadSmall(b, rewritten) })
	}
}

func benchmarkReadSmall(b *testing.B, rewritten bool) {
	v := benchValues(b)
	rng := rand.New(rand.NewPCG(1, 1))
	p, err := v.NewPacker("bench")
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var ext []Extent
	for range 10_000 {
		h, err := p.Add(randomBytes(rng, 4096))
		if err != nil {
			b.Fatal(err)
		}
		ext = append(ext, Extent{Handle: h, Len: h.Raw})
	}
	if _, err := p.Finish(); err != nil {
		b.Fatal(err)
	}
	if rewritten {
		w, err := v.BeginRewrite(ext[0].Segment, "bench")
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range ext {
			if err := w.Add(e.Handle); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := w.Finish(); err != nil {
			b.Fatal(err)
		}
		if err := w.Publish(); err != nil {
			b.Fatal(err)
		}
	}
	dst := make([]byte, 0, 256<<10)
	b.ReportAllocs()
	b.SetBytes(4096)
	for b.Loop() {
		if _, err := v.ReadAll(dst, ext[rng.IntN(len(ext))]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, value := range map[string][]byte{"text": compressibleBytes(rng, 8<<10), "random": randomBytes(rng, 8<<10)} {
		b.Run(name, func(b *testing.B) {
			v := benchValues(b)
			b.SetBytes(64 << 20)
			for b.Loop() {
				p, err := v.NewPacker("bench")
				if err != nil {
					b.Fatal(err)
				}
				for range 8 << 10 {
					if _, err := p.Add(value); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := p.Finish(); err != nil {
					b.Fatal(err)
				}
				p.Close()
			}
		})
	}
}
