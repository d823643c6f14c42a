package object

import (
	"context"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/wal/storefs"
)

// maxBodyExtents is the longest extent list that rides in a record; longer ones
// become a stored value.
const maxBodyExtents = 64

// slice returns the extents of the bytes [off, off+n) of ext, in a new slice.
// The range may end past ext; what is not there is left out.
func slice(ext []layers.Extent, off, n uint64) []layers.Extent {
	var out []layers.Extent
	for i := range ext {
		if n == 0 {
			break
		}
		e := ext[i]
		if off >= e.Len {
			off -= e.Len
			continue
		}
		e.Skip, e.Len = e.Skip+off, min(e.Len-off, n)
		off, n = 0, n-e.Len
		out = append(out, e)
	}
	return out
}

// join appends more to ext, coalescing neighbours of one stored value.
func join(ext, more []layers.Extent) []layers.Extent {
	for i := range more {
		e := more[i]
		if e.Len == 0 {
			continue
		}
		if k := len(ext) - 1; k >= 0 && ext[k].Handle == e.Handle && ext[k].Skip+ext[k].Len == e.Skip {
			ext[k].Len += e.Len
			continue
		}
		ext = append(ext, e)
	}
	return ext
}

func length(ext []layers.Extent) uint64 {
	var n uint64
	for i := range ext {
		n += ext[i].Len
	}
	return n
}

// segmentsOf returns the segments of ext, ascending, each once.
func segmentsOf(ext []layers.Extent) []layers.FileNum {
	segs := make([]layers.FileNum, 0, min(len(ext), 16))
	for i := range ext {
		if k := len(segs); k == 0 || segs[k-1] != ext[i].Segment {
			segs = append(segs, ext[i].Segment)
		}
	}
	slices.Sort(segs)
	return slices.Compact(segs)
}

// stored are the value writers that a commit depends on. They hold their
// segments until done, which must wait for the end of the commit.
type stored struct {
	writers []*layers.ValueWriter
}

func (st *stored) done() {
	for _, w := range st.writers {
		// Finish has succeeded, or nothing refers to what was written.
		_ = w.Close()
	}
	st.writers = nil
}

// writeValue writes p as a value of its own and syncs it. It does not wait for
// uploads to end.
func (s *Service) writeValue(ctx context.Context, st *stored, p []byte) ([]layers.Extent, error) {
	w, err := s.values.NewInternalWriter(ctx, storefs.User)
	if err != nil {
		return nil, err
	}
	st.writers = append(st.writers, w)
	if _, err := w.Write(p); err != nil {
		return nil, err
	}
	return w.Finish()
}

// appendBody appends the record body of ext to dst. A long list is stored first.
func (s *Service) appendBody(ctx context.Context, st *stored, dst []byte, ext []layers.Extent) (layers.Body, error) {
	if len(ext) <= maxBodyExtents {
		return layers.AppendExtentsBody(dst, ext), nil
	}
	if len(ext) > layers.MaxExtents {
		return nil, fmt.Errorf("body of %d extents, at most %d: %w", len(ext), layers.MaxExtents, ErrEntityTooLarge)
	}
	list, err := s.writeValue(ctx, st, layers.AppendExtentsBody(nil, ext))
	if err != nil {
		return nil, fmt.Errorf("store list of %d extents: %w", len(ext), err)
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("store list of %d extents: it became %d pieces", len(ext), len(list))
	}
	return layers.AppendSpilledBody(dst, list[0], length(ext), segmentsOf(ext)), nil
}
