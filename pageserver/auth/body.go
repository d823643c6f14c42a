package auth

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
)

// BodyOptions says what the headers promise of a body.
type BodyOptions struct {
	Length   int64    // Content-Length; -1 when the end is told by the transfer coding
	Decoded  int64    // x-amz-decoded-content-length; -1 when absent
	Trailers []string // names of x-amz-trailer, in lower case
}

// Body reads what a client wants stored. Read returns io.EOF only once the body
// was whole and is proved to be what was signed. Not safe for concurrent use.
type Body struct {
	io.Reader
	size    int64
	chunked *chunkedReader
}

// NewBody returns the reader of the body whose transfer bytes raw reads.
// Error: *Error. Errors of Read: *Error, and those of raw.
func (p *Proof) NewBody(raw io.Reader, o BodyOptions) (*Body, error) {
	raw = &exactReader{r: raw, left: o.Length}
	if p.Payload.Chunked() {
		if o.Decoded < 0 {
			return nil, ErrMissingLength
		}
		c := newChunkedReader(raw, p, o)
		return &Body{Reader: c, size: o.Decoded, chunked: c}, nil
	}
	if o.Decoded >= 0 && o.Length >= 0 && o.Decoded != o.Length {
		return nil, ErrIncompleteBody
	}
	if p.Payload.Form == Literal {
		raw = &hashReader{r: raw, h: sha256.New(), want: p.Payload.SHA256}
	}
	return &Body{Reader: raw, size: max(o.Length, o.Decoded)}, nil
}

// Size returns the number of bytes that Read must give in all, or -1 when it is not known.
func (b *Body) Size() int64 { return b.size }

// Trailer returns the value of a trailer that was announced; empty before the
// end of the body.
func (b *Body) Trailer(name string) string {
	if b.chunked == nil {
		return ""
	}
	return b.chunked.trailers[name]
}

// Close gives buffers back. The body must not be read afterwards.
func (b *Body) Close() {
	if b.chunked != nil {
		b.chunked.close()
	}
}

// exactReader reads left bytes of r, or all if left is negative. A body that
// ends early is ErrIncompleteBody.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	if e.left > 0 && int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.r.Read(p)
	if e.left > 0 {
		e.left -= int64(n)
		if e.left == 0 && (err == nil || err == io.EOF) {
			return n, io.EOF
		}
		if err == io.EOF {
			err = ErrIncompleteBody
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrIncompleteBody
	}
	return n, err
}

// hashReader ends with ErrContentHash instead of io.EOF if the hash is wrong.
type hashReader struct {
	r    io.Reader
	h    hash.Hash
	want [sha256.Size]byte
	done error
}

func (h *hashReader) Read(p []byte) (int, error) {
	if h.done != nil {
		return 0, h.done
	}
	n, err := h.r.Read(p)
	h.h.Write(p[:n])
	if err == io.EOF {
		var got [sha256.Size]byte
		if h.h.Sum(got[:0]); got != h.want {
			err = ErrContentHash
		}
		h.done = err
	}
	return n, err
}
