package mount

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"stemma/client"
	"stemma/internal/seeds"
)

// carryOut does to plain bytes what the server does to an object.
func carryOut(b []byte, ops []client.PageOp) []byte {
	grow := func(n uint64) {
		if n > uint64(len(b)) {
			b = append(b, make([]byte, n-uint64(len(b)))...)
		}
	}
	for _, o := range ops {
		switch o.Kind {
		case client.PageWrite:
			grow(o.Off + uint64(len(o.Data)))
			copy(b[o.Off:], o.Data)
		case client.PageZero:
			if o.Off < uint64(len(b)) {
				clear(b[o.Off:min(uint64(len(b)), o.Off+o.Len)])
			}
		case client.PageResize:
			grow(o.Off)
			b = append([]byte(nil), b[:o.Off]...)
		}
	}
	return b
}

// Whatever is done to a file, it reads as plain bytes would, and so does the object that it is written back to.
func TestOverlay(t *testing.T) {
	seed := seeds.For(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		random := func(n int) []byte {
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			return p
		}
		object := random(rng.IntN(3 * chunkBytes))
		file := append([]byte(nil), object...)
		o := clean(uint64(len(object)))
		for range 1 + rng.IntN(60) {
			off, n := rng.IntN(3*chunkBytes), 1+rng.IntN(1000)
			if rng.IntN(4) == 0 {
				n = 1 + rng.IntN(2*chunkBytes)
			}
			if rng.IntN(3) == 0 {
				off = len(file) // append
			}
			switch rng.IntN(8) {
			case 0:
				o.zero(uint64(off), uint64(n))
				if off < len(file) {
					clear(file[off:min(len(file), off+n)])
				}
			case 1:
				o.resize(uint64(off))
				file = carryOut(file, []client.PageOp{{Kind: client.PageResize, Off: uint64(off)}})
			default:
				p := random(n)
				o.write(uint64(off), p)
				file = carryOut(file, []client.PageOp{{Kind: client.PageWrite, Off: uint64(off), Data: p}})
			}
			data := 0
			for i := range o.ext {
				data += len(o.ext[i].data)
				if e := &o.ext[i]; e.n == 0 || e.data != nil && e.n != uint64(len(e.data)) || i > 0 && o.ext[i-1].end() > e.off {
					t.Fatalf("extent %d is wrong", i)
				}
			}
			if data != o.bytes || o.size != uint64(len(file)) {
				t.Fatalf("%d bytes of data, counted as %d; size %d, want %d", data, o.bytes, o.size, len(file))
			}
		}
		p := make([]byte, len(file)+100)
		for range 20 {
			off := rng.IntN(len(file) + 1)
			p := p[:rng.IntN(len(p))]
			n, gaps := o.read(p, uint64(off))
			for _, g := range gaps {
				copy(g.p, object[g.off:])
			}
			if want := file[off:min(len(file), off+len(p))]; !bytes.Equal(p[:n], want) {
				t.Fatalf("%d bytes at %d are wrong", len(p), off)
			}
		}
		for _, ops := range o.changes(chunkBytes + 1000) {
			object = carryOut(object, ops)
		}
		if !bytes.Equal(object, file) {
			t.Fatalf("written back: %d bytes, want %d", len(object), len(file))
		}
		if fresh := clean(uint64(len(file))); fresh.dirty() || fresh.changes(1000) != nil {
			t.Fatal("dirty from the start")
		}
	}
}
