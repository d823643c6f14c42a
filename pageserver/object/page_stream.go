package object

import (
	"context"
	"fmt"
	"io"
	"time"

	"stemma/timeline"
)

const (
	// pageWindowBytes is how much of an object that is written in place is read at once,
	// and held in memory per reader.
	pageWindowBytes = 1 << 20
	// pageLease is how long a reader may take for a window.
	pageLease = 2 * time.Minute
)

// pageStream is the body of an object that is written in place, or a range of it, as
// of one LSN, window by window. Between two windows it holds a lease and no layers.
type pageStream struct {
	s     *Service
	ctx   context.Context
	from  *timeline.Leased
	entry *Entry // unlocked
	off   uint64 // of what is read next
	left  uint64
	buf   []byte
	ready []byte // of buf, not served yet
	err   error  // sticky
}

// openPages returns the bytes [off, off+n) of an object that is written in place, and unlocked.
// What fits a window is read at once.
func (s *Service) openPages(ctx context.Context, v *timeline.View, e *Entry, off, n uint64) (*Reader, error) {
	if n <= pageWindowBytes {
		buf := make([]byte, n)
		if n > 0 {
			if err := s.readPages(ctx, v, e, buf, off); err != nil {
				return nil, err
			}
		}
		return &Reader{inline: buf}, nil
	}
	from, err := v.Lease(pageLease)
	if err != nil {
		return nil, err
	}
	return &Reader{values: &pageStream{s: s, ctx: context.WithoutCancel(ctx), from: from, entry: e, off: off, left: n}}, nil
}

// readPages reads the bytes of an object from off on into dst, which is zeros.
func (s *Service) readPages(ctx context.Context, src pageSource, e *Entry, dst []byte, off uint64) error {
	r := s.newPageReader(src, e)
	if err := r.fill(dst, off); err != nil {
		return err
	}
	return r.run(ctx)
}

// next makes ready non-empty, or returns why it cannot: io.EOF at the end.
func (p *pageStream) next() error {
	if len(p.ready) > 0 || p.err != nil {
		return p.err
	}
	if p.left == 0 {
		p.err = io.EOF
		return p.err
	}
	if p.buf == nil {
		p.buf = make([]byte, pageWindowBytes)
	}
	// Windows end where pages do.
	n := min(p.left, pageWindowBytes-p.off%p.entry.pages.pageBytes())
	if p.err = p.load(p.buf[:n]); p.err != nil {
		return p.err
	}
	p.off, p.left, p.ready = p.off+n, p.left-n, p.buf[:n]
	return nil
}

func (p *pageStream) load(dst []byte) error {
	v, err := p.from.View(pageLease)
	if err != nil {
		return fmt.Errorf("go on with a body at %d: %w", p.off, err)
	}
	defer v.Close()
	clear(dst)
	return p.s.readPages(p.ctx, v, p.entry, dst, p.off)
}

// Read implements io.Reader.
func (p *pageStream) Read(dst []byte) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	if err := p.next(); err != nil {
		return 0, err
	}
	n := copy(dst, p.ready)
	p.ready = p.ready[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (p *pageStream) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if err := p.next(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return written, err
		}
		n, err := w.Write(p.ready)
		if err == nil && n < len(p.ready) {
			err = io.ErrShortWrite
		}
		written, p.ready = written+int64(n), p.ready[n:]
		if err != nil {
			return written, err
		}
	}
}

// Close implements io.Closer. The lease ends by itself.
func (p *pageStream) Close() error {
	p.buf, p.ready = nil, nil
	if p.err == nil {
		p.err = errReaderClosed
	}
	return nil
}
