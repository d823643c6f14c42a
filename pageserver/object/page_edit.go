package object

import (
	"math"
	"slices"
)

// pageEdits is what a list of changes makes of an object's pages, before anything of
// the object but its size is known.
type pageEdits struct {
	shift uint8
	size  uint64 // of the object, after what was added
	least uint64 // the least size that it had on the way: the base ends there
	pages map[uint64]*pageEdit
	holes []pageSpan // in order, disjoint
}

// pageEdit is what becomes of one page.
type pageEdit struct {
	full []byte // its whole content; zeros behind it
	// Without: the pieces over what was there, or over zeros.
	pieces pieces
	zero   bool
}

// pageSpan are the pages [from, to).
type pageSpan struct{ from, to uint64 }

// allPages is beyond every page.
const allPages = uint64(math.MaxUint64)

func newPageEdits(shift uint8, size uint64) *pageEdits {
	return &pageEdits{shift: shift, size: size, least: size, pages: make(map[uint64]*pageEdit)}
}

func (e *pageEdits) add(o *PageOp) {
	switch o.Kind {
	case PageWrite:
		e.write(o.Off, o.Data)
	case PageZero:
		e.zero(o.Off, o.Len)
	case PageResize:
		e.resize(o.Off)
	}
}

// write writes data at off, piece by piece.
func (e *pageEdits) write(off uint64, data []byte) {
	if len(data) == 0 {
		return
	}
	e.size = max(e.size, off+uint64(len(data)))
	size := uint64(1) << e.shift
	for len(data) > 0 {
		from := off & (size - 1)
		n := min(size-from, uint64(len(data)))
		e.writePage(off>>e.shift, from, data[:n:n])
		off, data = off+n, data[n:]
	}
}

func (e *pageEdits) writePage(page, from uint64, data []byte) {
	p := e.pages[page]
	if p == nil {
		p = &pageEdit{zero: e.inHole(page)}
		e.pages[page] = p
	}
	switch end := from + uint64(len(data)); {
	case from == 0 && end == 1<<e.shift:
		p.full, p.pieces = data, nil
	case p.full != nil:
		whole := make([]byte, max(uint64(len(p.full)), end))
		copy(whole, p.full)
		copy(whole[from:], data)
		p.full = whole
	default:
		p.pieces = p.pieces.set(from, data)
	}
}

func (e *pageEdits) inHole(page uint64) bool {
	_, ok := slices.BinarySearchFunc(e.holes, page, func(s pageSpan, p uint64) int {
		switch {
		case s.to <= p:
			return -1
		case s.from > p:
			return 1
		}
		return 0
	})
	return ok
}

// zero makes n bytes zeros: whole pages become holes.
func (e *pageEdits) zero(off, n uint64) {
	if off >= e.size || n == 0 {
		return
	}
	end := e.size
	if n < e.size-off {
		end = off + n
	}
	size := uint64(1) << e.shift
	first, last := (off+size-1)>>e.shift, end>>e.shift
	if end == e.size {
		last = (end + size - 1) >> e.shift // behind the end there is nothing
	}
	if first > last || first == last && off>>e.shift == last {
		e.write(off, make([]byte, end-off)) // within one page
		return
	}
	if at := min(first<<e.shift, end); off < at {
		e.write(off, make([]byte, at-off))
	}
	if at := last << e.shift; at < end {
		e.write(at, make([]byte, end-at))
	}
	e.hole(pageSpan{first, last})
}

// resize makes the object n bytes long. What it loses must be zeros when it grows again.
func (e *pageEdits) resize(n uint64) {
	if n >= e.size {
		e.size = n
		return
	}
	size := uint64(1) << e.shift
	if from := n & (size - 1); from != 0 {
		e.writePage(n>>e.shift, from, make([]byte, min(size, from+e.size-n)-from))
	}
	e.hole(pageSpan{(n + size - 1) >> e.shift, allPages})
	e.size, e.least = n, min(e.least, n)
}

// hole forgets what the pages of a span were to become, and adds it to the holes.
func (e *pageEdits) hole(s pageSpan) {
	if s.from >= s.to {
		return
	}
	for page := range e.pages {
		if page >= s.from && page < s.to {
			delete(e.pages, page)
		}
	}
	var holes []pageSpan
	for _, h := range e.holes {
		if h.to < s.from || h.from > s.to {
			holes = append(holes, h)
			continue
		}
		s = pageSpan{min(s.from, h.from), max(s.to, h.to)}
	}
	holes = append(holes, s)
	slices.SortFunc(holes, func(a, b pageSpan) int {
		if a.from < b.from {
			return -1
		}
		return 1
	})
	e.holes = holes
}

// numbers returns the pages that are changed, in order.
func (e *pageEdits) numbers() []uint64 {
	n := make([]uint64, 0, len(e.pages))
	for page := range e.pages {
		n = append(n, page)
	}
	slices.Sort(n)
	return n
}
