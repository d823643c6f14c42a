package object

import (
	"encoding/binary"
	"errors"
	"io"
	"sort"

	"stemma/layers"
)

// run is a part of a base that has bytes: len bytes at off of the object, which are
// the bytes from body on of the base's body, or of what its sealed streams open to.
// Between runs are zeros.
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
	// sealed says what an encrypted body is made of; nil: it is in the clear. open is what an inline one opens to.
	sealed *sealedBody
	open   []byte
}

// Versions of the Meta of a base.
const (
	pageBaseVersion   = 1 // in the clear
	sealedBaseVersion = 2
)

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

// append appends the Meta of the base.
func (b *pageBase) append(dst []byte) []byte {
	if b.sealed != nil {
		return appendSealedRuns(dst, b.sealed.streams, b.runs)
	}
	return appendRuns(dst, b.runs)
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

// moved returns what to, whose runs are some of the bytes of b, has as its body: in the clear what each of them has, else the sealed
// blocks that they need. Runs in the clear get their new places. Errors: ErrCorrupt.
func (b *pageBase) moved(to *pageBase) (all []layers.Extent, err error) {
	if b.sealed != nil {
		for _, s := range to.sealed.spans {
			at, err := b.sealed.at(s.from, s.to-s.from)
			if err != nil {
				return nil, err
			}
			ext, err := b.extents(at, s.to-s.from)
			if err != nil {
				return nil, err
			}
			all = join(all, ext)
		}
		return all, nil
	}
	var at uint64
	for i := range to.runs {
		r := &to.runs[i]
		ext, err := b.extents(r.body, r.len)
		if err != nil {
			return nil, err
		}
		r.body = at
		at += r.len
		all = append(all, ext...)
	}
	return all, nil
}

// inline returns what of an inline body lies at [off, off+n). Errors: ErrCorrupt.
func (b *pageBase) inline(off, n uint64) ([]byte, error) {
	p := b.open
	if b.sealed == nil {
		p = b.body.Inline()
	}
	if off > uint64(len(p)) || n > uint64(len(p))-off {
		return nil, corrupt("base of pages of %d bytes ends before %d", len(p), off+n)
	}
	return p[off : off+n], nil
}

// loadBase reads the base of a file, which seal opens. Errors: ErrCorrupt, layers.ErrCorrupt.
func (s *Service) loadBase(r reader, file *fileID, seal *pageSeal) (*pageBase, error) {
	rec, err := r.Get(layers.NamespacePages, file[:])
	if err != nil {
		return nil, err // absent: it is corrupt, the caller says so
	}
	b := &pageBase{body: rec.Body}
	if seal == nil {
		b.runs, err = decodeRuns(rec.Meta)
	} else {
		b.sealed, b.runs, err = decodeSealedRuns(rec.Meta)
	}
	if err != nil {
		return nil, err
	}
	return b, s.openBase(b, seal)
}

// openBase makes known what reads of a base need.
func (s *Service) openBase(b *pageBase, seal *pageSeal) (err error) {
	inline := b.body.Tag() == layers.BodyInline
	if seal != nil {
		b.sealed.key = seal.key
		if inline {
			b.open, err = seal.key.openBody(b.body.Inline(), b.sealed.size())
		}
	}
	if inline || err != nil {
		return err
	}
	return s.listExtents(b)
}

// sealBase makes runs of the body of an encrypted entry, which is unlocked and not written in place, those of a base that has all of it.
func (s *Service) sealBase(b *pageBase, e *Entry) error {
	var ext []layers.Extent
	if e.parts.tail > 0 {
		if err := s.listExtents(b); err != nil {
			return err
		}
		ext = b.ext
	}
	streams, err := s.sealedStreams(e, ext)
	if err != nil {
		return err
	}
	b.sealed, err = newSealedBody(streams, []run{{len: e.Size}})
	return err
}

// readSealed reads bytes of an encrypted body that is not inline. Errors: ErrCorrupt, layers.ErrCorrupt.
func (s *Service) readSealed(b *pageBase, dst []byte, off uint64) error {
	c := b.sealed
	n := uint64(len(dst))
	if off > c.size() || n > c.size()-off {
		return corrupt("base of pages of %d bytes ends before %d", c.size(), off+n)
	}
	streams, i := c.around(off, n)
	u, err := newUnsealer(c.key, streams, off-c.plain[i], n, func(off, n uint64) (io.ReadCloser, error) {
		at, err := c.at(c.stored[i]+off, n)
		if err != nil {
			return nil, err
		}
		ext, err := b.extents(at, n)
		if err != nil {
			return nil, err
		}
		return s.values.NewReader(ext, 0, n)
	})
	if err != nil {
		return err
	}
	_, err = io.ReadFull(u, dst)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		err = corrupt("base of pages ends early")
	}
	return errors.Join(err, u.Close())
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
		s.baseLists.put(b.body, &pageBase{ext: b.ext, ends: b.ends})
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
