package mount

import (
	"slices"
	"sort"

	"stemma/client"
)

// chunkBytes is what no extent crosses a multiple of, so that joining extents costs no more than copying one.
const chunkBytes = 256 << 10

// overlay is what was done to a file since it was written back. The zero value is an empty file that nothing was done to.
type overlay struct {
	size uint64 // of the file
	// below is how many bytes of the object still count; what is behind it, and in no extent, are zeros.
	below uint64
	// object is how long the object was when nothing had been done yet.
	object uint64
	ext    []extent // in order, disjoint
	bytes  int      // of data in ext
}

// extent are bytes of a file: data, or without it zeros.
type extent struct {
	off, n uint64
	data   []byte
}

func (e *extent) end() uint64 { return e.off + e.n }

// clean returns an overlay of an object to which nothing was done.
func clean(size uint64) overlay { return overlay{size: size, below: size, object: size} }

func (o *overlay) dirty() bool { return len(o.ext) > 0 || o.size != o.object || o.below != o.object }

// write writes a copy of p at off.
func (o *overlay) write(off uint64, p []byte) {
	o.size = max(o.size, off+uint64(len(p)))
	for len(p) > 0 {
		n := min(uint64(len(p)), chunkBytes-off%chunkBytes)
		o.writeChunk(off, p[:n])
		off, p = off+n, p[n:]
	}
}

// touching returns the extents [i, j) that overlap [from, to) or, if they are data of the same chunk, are next to it.
func (o *overlay) touching(from, to uint64) (i, j int) {
	i = sort.Search(len(o.ext), func(k int) bool { return o.ext[k].end() >= from })
	if i < len(o.ext) && o.ext[i].end() == from && (o.ext[i].data == nil || from%chunkBytes == 0) {
		i++
	}
	for j = i; j < len(o.ext) && o.ext[j].off < to; j++ {
	}
	if j < len(o.ext) && o.ext[j].off == to && o.ext[j].data != nil && to%chunkBytes != 0 {
		j++
	}
	return i, j
}

func (o *overlay) writeChunk(off uint64, p []byte) {
	end := off + uint64(len(p))
	i, j := o.touching(off, end)
	if j == i+1 && o.ext[i].data != nil && o.ext[i].off <= off && o.ext[i].end() >= off { // the usual: on or behind what is there
		e := &o.ext[i]
		had := len(e.data)
		if at := int(off - e.off); at+len(p) <= had {
			copy(e.data[at:], p)
		} else {
			e.data = append(e.data[:at], p...)
		}
		e.n = uint64(len(e.data))
		o.bytes += len(e.data) - had
		return
	}
	var left, right []extent
	whole := extent{off: off}
	if i < j {
		if first := o.ext[i]; first.off < off {
			if first.data == nil {
				left = append(left, extent{off: first.off, n: off - first.off})
			} else {
				whole.off = first.off
				whole.data = append(whole.data, first.data[:off-first.off]...)
			}
		}
	}
	whole.data = append(whole.data, p...)
	if i < j {
		if last := o.ext[j-1]; last.end() > end {
			if last.data == nil {
				right = append(right, extent{off: end, n: last.end() - end})
			} else {
				whole.data = append(whole.data, last.data[end-last.off:]...)
			}
		}
	}
	whole.n = uint64(len(whole.data))
	o.replace(i, j, append(append(left, whole), right...))
}

// replace puts others in the place of the extents [i, j).
func (o *overlay) replace(i, j int, others []extent) {
	for _, e := range o.ext[i:j] {
		o.bytes -= len(e.data)
	}
	for _, e := range others {
		o.bytes += len(e.data)
	}
	o.ext = slices.Replace(o.ext, i, j, others...)
}

// zero makes n bytes from off on zeros; the size stays.
func (o *overlay) zero(off, n uint64) {
	if off >= o.size || n == 0 {
		return
	}
	o.cover(off, off+min(n, o.size-off), true)
}

// cover removes what the extents have in [from, to), and puts zeros there.
func (o *overlay) cover(from, to uint64, zeros bool) {
	i := sort.Search(len(o.ext), func(k int) bool { return o.ext[k].end() > from })
	j := i
	for j < len(o.ext) && o.ext[j].off < to {
		j++
	}
	var others []extent
	if i < j {
		if first := o.ext[i]; first.off < from {
			others = append(others, first.slice(first.off, from))
		}
	}
	if zeros {
		others = append(others, extent{off: from, n: to - from})
	}
	if i < j {
		if last := o.ext[j-1]; last.end() > to {
			others = append(others, last.slice(to, last.end()))
		}
	}
	o.replace(i, j, others)
}

// slice returns what of the extent is in [from, to), with data of its own.
func (e *extent) slice(from, to uint64) extent {
	s := extent{off: from, n: to - from}
	if e.data != nil {
		s.data = slices.Clone(e.data[from-e.off : to-e.off])
	}
	return s
}

// resize makes the file n bytes long. What it loses are zeros when it grows again.
func (o *overlay) resize(n uint64) {
	if n < o.size {
		o.cover(n, o.size, false)
		o.below = min(o.below, n)
	}
	o.size = n
}

// gap are bytes of the object that a read needs: n at off, to be put at p.
type gap struct {
	off uint64
	p   []byte
}

// read fills p with the file's bytes from off on, as far as they are known here, and returns how many there are
// and what of them is to be read from the object.
func (o *overlay) read(p []byte, off uint64) (n int, gaps []gap) {
	if off >= o.size {
		return 0, nil
	}
	p = p[:min(uint64(len(p)), o.size-off)]
	clear(p)
	end := off + uint64(len(p))
	under := func(from, to uint64) {
		if to = min(to, o.below); from < to {
			gaps = append(gaps, gap{from, p[from-off : to-off]})
		}
	}
	at := off
	for i := sort.Search(len(o.ext), func(k int) bool { return o.ext[k].end() > off }); i < len(o.ext) && o.ext[i].off < end; i++ {
		e := &o.ext[i]
		from, to := max(e.off, off), min(e.end(), end)
		under(at, from)
		if e.data != nil {
			copy(p[from-off:to-off], e.data[from-e.off:])
		}
		at = to
	}
	under(at, end)
	return len(p), gaps
}

// changes returns what makes the object what the file is, in batches that are at most so many bytes long, carried out in
// order. The data is that of the overlay.
func (o *overlay) changes(most int) (batches [][]client.PageOp) {
	var ops []client.PageOp
	bytes := 0
	add := func(op client.PageOp) {
		const perOp = 32
		if len(ops) > 0 && (bytes+len(op.Data)+perOp > most || len(ops) >= maxBatchOps) {
			batches, ops, bytes = append(batches, ops), nil, 0
		}
		ops, bytes = append(ops, op), bytes+len(op.Data)+perOp
	}
	size := o.object
	if o.below < size {
		add(client.PageOp{Kind: client.PageResize, Off: o.below})
		size = o.below
	}
	for i := range o.ext {
		e := &o.ext[i]
		if e.data != nil {
			add(client.PageOp{Kind: client.PageWrite, Off: e.off, Data: e.data})
			size = max(size, e.end())
		} else if e.off < o.below {
			add(client.PageOp{Kind: client.PageZero, Off: e.off, Len: e.n})
		}
	}
	if size != o.size {
		add(client.PageOp{Kind: client.PageResize, Off: o.size})
	}
	if ops != nil {
		batches = append(batches, ops)
	}
	return batches
}

// maxBatchOps bounds the changes of one batch.
const maxBatchOps = 4096
