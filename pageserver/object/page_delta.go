package object

import (
	"encoding/binary"

	"stemma/layers"
)

// Bounds of the deltas over a full page. A write beyond them writes the full page.
const (
	maxPageDeltas = 8
	// A delta has at most this part of the page, all deltas of a stack together
	// twice as much.
	pageDeltaShare = 4
)

// piece is a run of bytes within a page.
type piece struct {
	off  uint64
	data []byte
}

func (p *piece) end() uint64 { return p.off + uint64(len(p.data)) }

// pieces are disjoint, in order, and do not touch.
type pieces []piece

// set writes data at off; what it covers of older pieces goes. Data is aliased where
// it touches no other piece.
func (ps pieces) set(off uint64, data []byte) pieces {
	if len(data) == 0 {
		return ps
	}
	end := off + uint64(len(data))
	i := 0
	for i < len(ps) && ps[i].end() < off {
		i++
	}
	j := i
	for j < len(ps) && ps[j].off <= end {
		j++
	}
	if i == j {
		return append(ps[:i:i], append(pieces{{off, data}}, ps[i:]...)...)
	}
	from, to := min(off, ps[i].off), max(end, ps[j-1].end())
	joined := make([]byte, to-from)
	for _, p := range ps[i:j] {
		copy(joined[p.off-from:], p.data)
	}
	copy(joined[off-from:], data)
	return append(ps[:i:i], append(pieces{{from, joined}}, ps[j:]...)...)
}

// covers reports whether the pieces leave nothing of the first n bytes.
func (ps pieces) covers(n uint64) bool {
	return len(ps) == 1 && ps[0].off == 0 && ps[0].end() >= n
}

// apply copies to page what of the pieces lies in it; page begins at from.
func (ps pieces) apply(page []byte, from uint64) {
	for i := range ps {
		p := &ps[i]
		if p.end() <= from || p.off >= from+uint64(len(page)) {
			continue
		}
		if p.off < from {
			copy(page, p.data[from-p.off:])
		} else {
			copy(page[p.off-from:], p.data)
		}
	}
}

// append appends the body of a delta: per piece the uvarints of its distance from the
// end of the one before and of its length, and the bytes.
func (ps pieces) append(dst []byte) []byte {
	var at uint64
	for i := range ps {
		dst = binary.AppendUvarint(dst, ps[i].off-at)
		dst = binary.AppendUvarint(dst, uint64(len(ps[i].data)))
		dst = append(dst, ps[i].data...)
		at = ps[i].end()
	}
	return dst
}

// decodePieces is the inverse of append; the pieces alias p. Errors: ErrCorrupt.
func decodePieces(p []byte, pageBytes uint64) (ps pieces, err error) {
	var at uint64
	for first := true; len(p) > 0; first = false {
		gap, rest, ok := takeUvarint(p)
		if !ok || gap > pageBytes-at || gap == 0 && !first {
			return nil, corrupt("bad offset in a page delta")
		}
		data, rest, ok := takeBytes(rest)
		if at += gap; !ok || len(data) == 0 || uint64(len(data)) > pageBytes-at {
			return nil, corrupt("bad length in a page delta")
		}
		ps = append(ps, piece{at, data})
		p, at = rest, at+uint64(len(data))
	}
	if len(ps) == 0 {
		return nil, corrupt("empty page delta")
	}
	return ps, nil
}

// deltaStack is the Meta of a delta: how many deltas lie over the full page, itself
// included, and the bytes of their bodies.
type deltaStack struct {
	deltas uint64
	bytes  uint64
}

func (d deltaStack) append(dst []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, d.deltas), d.bytes)
}

// decodeDeltaStack returns the stack under what comes next over rec, which may be sealed. Errors: ErrCorrupt.
func decodeDeltaStack(rec *layers.Record, sealed bool) (d deltaStack, err error) {
	meta := rec.Meta
	if sealed && rec.Body.Tag() != layers.BodyEmpty {
		if meta, _, err = splitPageLock(meta); err != nil {
			return d, err
		}
	}
	if rec.Kind == layers.KindValue {
		if len(meta) != 0 {
			return d, corrupt("page with a meta of %d bytes", len(meta))
		}
		return d, nil
	}
	var ok, more bool
	var rest []byte
	d.deltas, rest, ok = takeUvarint(meta)
	if ok {
		d.bytes, rest, more = takeUvarint(rest)
	}
	if !ok || !more || len(rest) > 0 || d.deltas == 0 || d.deltas > maxPageDeltas || d.bytes == 0 {
		return d, corrupt("page delta with meta %x", rec.Meta)
	}
	return d, nil
}

// over returns the stack with one more delta of n bytes, and whether a page of so many
// bytes may have it.
func (d deltaStack) over(n int, pageBytes uint64) (deltaStack, bool) {
	d.deltas, d.bytes = d.deltas+1, d.bytes+uint64(n)
	return d, d.deltas <= maxPageDeltas && uint64(n) <= pageBytes/pageDeltaShare && d.bytes <= 2*pageBytes/pageDeltaShare
}
