package object

import (
	"errors"
	"fmt"
	"io"

	"stemma/layers"
)

// Reader is the body of an object, or a range of it. It is io.Reader,
// io.WriterTo and io.Closer. No byte comes out before its checksum was
// verified. Not safe for concurrent use.
type Reader struct {
	inline []byte     // not served yet
	values bodyStream // nil: inline
	closed bool
}

// bodyStream is a *layers.ValueReader, or an *unsealer of one.
type bodyStream interface {
	io.ReadCloser
	io.WriterTo
}

var errReaderClosed = errors.New("object: read from a closed body")

// newReader returns the bytes [off, off+n) of the body of e, which is unlocked. ext is
// the body unless it is inline.
func (s *Service) newReader(e *Entry, b layers.Body, ext []layers.Extent, off, n uint64) (*Reader, error) {
	if e.crypt != nil {
		return s.newSealedReader(e, b, ext, off, n)
	}
	if b.Tag() == layers.BodyInline {
		p := b.Inline()
		if off > uint64(len(p)) || n > uint64(len(p))-off {
			return nil, fmt.Errorf("body of %d bytes, the entry says at least %d: %w", len(p), off+n, ErrCorrupt)
		}
		return &Reader{inline: p[off : off+n]}, nil
	}
	if n == 0 {
		return &Reader{}, nil
	}
	if have := length(ext); off > have || n > have-off {
		return nil, fmt.Errorf("body of %d bytes, the entry says at least %d: %w", have, off+n, ErrCorrupt)
	}
	v, err := s.values.NewReader(ext, off, n)
	if err != nil {
		return nil, err
	}
	return &Reader{values: v}, nil
}

// newSealedReader is newReader for an encrypted body.
func (s *Service) newSealedReader(e *Entry, b layers.Body, ext []layers.Extent, off, n uint64) (*Reader, error) {
	if off > e.Size || n > e.Size-off {
		return nil, fmt.Errorf("bytes [%d, %d) of %d: %w", off, off+n, e.Size, ErrCorrupt)
	}
	if b.Tag() == layers.BodyInline {
		p, err := e.crypt.key.openBody(b.Inline(), e.Size)
		if err != nil {
			return nil, err
		}
		return &Reader{inline: p[off : off+n]}, nil
	}
	if n == 0 && e.Size > 0 {
		return &Reader{}, nil
	}
	streams, err := s.sealedStreams(e, ext)
	if err != nil {
		return nil, err
	}
	have := length(ext)
	u, err := newUnsealer(e.crypt.key, streams, off, n, func(off, n uint64) (io.ReadCloser, error) {
		if off > have || n > have-off {
			return nil, fmt.Errorf("sealed body of %d bytes, want at least %d: %w", have, off+n, ErrCorrupt)
		}
		return s.values.NewReader(ext, off, n)
	})
	if err != nil {
		return nil, err
	}
	return &Reader{values: u}, nil
}

// sealedStreams returns what the body of an entry, which is unlocked and encrypted, is made of.
func (s *Service) sealedStreams(e *Entry, ext []layers.Extent) ([]sealedStream, error) {
	if e.PartsCount == 0 {
		return []sealedStream{{size: e.Size}}, nil
	}
	parts, err := s.loadParts(e, ext)
	if err == nil && len(parts) == 0 {
		err = corrupt("%d parts without a table", e.PartsCount)
	}
	if err != nil {
		return nil, err
	}
	streams := make([]sealedStream, len(parts))
	for i := range parts {
		streams[i] = sealedStream{part: parts[i].Number, size: parts[i].Size}
	}
	if e.crypt.bodyFirst {
		streams[0].part = 0
	}
	return streams, nil
}

// Bytes returns all of the body that was not read yet, without a copy, if it is
// in memory anyway. They must not be changed, and may be kept.
func (r *Reader) Bytes() (body []byte, inMemory bool) { return r.inline, r.values == nil }

// Read implements io.Reader. Errors: layers.ErrCorrupt, those of the disk.
func (r *Reader) Read(p []byte) (int, error) {
	switch {
	case r.closed:
		return 0, errReaderClosed
	case r.values != nil:
		return r.values.Read(p)
	case len(r.inline) == 0 && len(p) > 0:
		return 0, io.EOF
	}
	n := copy(p, r.inline)
	r.inline = r.inline[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	switch {
	case r.closed:
		return 0, errReaderClosed
	case r.values != nil:
		return r.values.WriteTo(w)
	case len(r.inline) == 0:
		return 0, nil
	}
	n, err := w.Write(r.inline)
	if err == nil && n < len(r.inline) {
		err = io.ErrShortWrite
	}
	r.inline = r.inline[n:]
	return int64(n), err
}

// Close lets go of the value segments. It may be called twice.
func (r *Reader) Close() error {
	r.closed, r.inline = true, nil
	if r.values == nil {
		return nil
	}
	return r.values.Close()
}
