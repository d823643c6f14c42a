package object

import (
	"encoding/binary"
	"sort"

	"stemma/layers"
)

// run is a part of a base that has bytes: len bytes at off of the object, which are
// the bytes from body on of the base's body. Between runs are zeros.
type run struct{ off, len, body uint64 }

func (r *run) end() uint64 { return r.off + r.len }

// pageBase is what lies under the pages of an object.
type pageBase struct {
	runs []run // in order, not empty
	body layers.Body
	// ext is the body unless that is inline; ends are the offsets in the body at
	// which the extents end.
	ext  []layers.Extent
	ends []uint64
}

const pageBaseVersion = 1

// maxBaseRuns bounds the runs of one base.
const maxBaseRuns = 64 << 10

// appendRuns appends the Meta of a base: version 1, then per run the uvarints of its
// distance from the end of the one before, and of its length.
func appendRuns(dst []byte, runs []run) []byte {
	dst = append(dst, pageBaseVersion)
	var at uint64
	for _, r := range runs {
		dst = binary.AppendUvarint(dst, r.off-at)
		dst = binary.AppendUvarint(dst, r.len)
		at = r.end()
	}
	return dst
}

// decodeRuns is the inverse of appendRuns. Errors: ErrCorrupt.
func decodeRuns(p []byte) (runs []run, err error) {
	if len(p) < 3 || p[0] != pageBaseVersion || len(p) > 2*binary.MaxVarintLen64*maxBaseRuns {
		return nil, corrupt("base of pages with a meta of %d bytes", len(p))
	}
	p = p[1:]
	var at, body uint64
	for len(p) > 0 {
		gap, rest, ok := takeUvarint(p)
		if !ok {
			return nil, corrupt("bad run of a base")
		}
		n, rest, ok := takeUvarint(rest)
		if !ok || n == 0 || gap > maxObjectBytes-at || n > maxObjectBytes-at-gap || gap == 0 && len(runs) > 0 {
			return nil, corrupt("bad run of a base")
		}
		runs = append(runs, run{off: at + gap, len: n, body: body})
		at, body, p = at+gap+n, body+n, rest
	}
	return runs, nil
}

// cutRuns returns the runs without [from, to), which keep their places in the body.
func cutRuns(runs []run, from, to uint64) []run {
	var left []run
	for _, r := range runs {
		if r.end() <= from || r.off >= to {
			left = append(left, r)
			continue
		}
		if r.off < from {
			left = append(left, run{off: r.off, len: from - r.off, body: r.body})
		}
		if r.end() > to {
			left = append(left, run{off: to, len: r.end() - to, body: r.body + to - r.off})
		}
	}
	return left
}

// overlap returns the runs within [from, to), clipped.
func (b *pageBase) overlap(from, to uint64) []run {
	i := sort.Search(len(b.runs), func(i int) bool { return b.runs[i].end() > from })
	var in []run
	for _, r := range b.runs[i:] {
		if r.off >= to {
			break
		}
		if r.off < from {
			cut := from - r.off
			r.off, r.len, r.body = from, r.len-cut, r.body+cut
		}
		r.len = min(r.len, to-r.off)
		in = append(in, r)
	}
	return in
}

// extents returns what of the body lies at [off, off+n). Errors: ErrCorrupt.
func (b *pageBase) extents(off, n uint64) ([]layers.Extent, error) {
	i := sort.Search(len(b.ends), func(i int) bool { return b.ends[i] > off })
	if i == len(b.ends) {
		return nil, corrupt("base of pages ends before %d", off)
	}
	start := b.ends[i] - b.ext[i].Len
	ext := slice(b.ext[i:], off-start, n)
	if length(ext) != n {
		return nil, corrupt("base of pages ends before %d", off+n)
	}
	return ext, nil
}

// inline returns what of an inline body lies at [off, off+n). Errors: ErrCorrupt.
func (b *pageBase) inline(off, n uint64) ([]byte, error) {
	p := b.body.Inline()
	if off > uint64(len(p)) || n > uint64(len(p))-off {
		return nil, corrupt("base of pages of %d bytes ends before %d", len(p), off+n)
	}
	return p[off : off+n], nil
}

// loadBase reads the base of a file. Errors: ErrCorrupt, layers.ErrCorrupt.
func (s *Service) loadBase(r reader, file *fileID) (*pageBase, error) {
	rec, err := r.Get(layers.NamespacePages, file[:])
	if err != nil {
		return nil, err // absent: it is corrupt, the caller says so
	}
	b := &pageBase{body: rec.Body}
	if b.runs, err = decodeRuns(rec.Meta); err != nil || rec.Body.Tag() == layers.BodyInline {
		return b, err
	}
	return b, s.listExtents(b)
}

// listExtents fills the extents of a base.
func (s *Service) listExtents(b *pageBase) (err error) {
	if known := s.baseLists.get(b.body); known != nil {
		b.ext, b.ends = known.ext, known.ends
		return nil
	}
	if b.ext, err = s.values.LoadExtents(b.body, nil); err != nil {
		return err
	}
	b.index()
	if b.body.Tag() == layers.BodySpilled {
		s.baseLists.put(b.body, b)
	}
	return nil
}

// index fills ends.
func (b *pageBase) index() {
	b.ends = make([]uint64, len(b.ext))
	var at uint64
	for i := range b.ext {
		at += b.ext[i].Len
		b.ends[i] = at
	}
}
