package object

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"sync"

	"stemma/layers"
	"stemma/timeline"
)

// scratch is what one write needs: it is pooled, so that a small put allocates
// little. The log copies what a commit refers to.
type scratch struct {
	digest *digest
	// body holds the tag of an inline body and the bytes behind it.
	body  []byte
	key   []byte
	meta  []byte
	batch timeline.Batch
	locks []timeline.Lock
}

var scratches = sync.Pool{New: func() any { return &scratch{digest: newDigest()} }}

func getScratch() *scratch { return scratches.Get().(*scratch) }

func (sc *scratch) put() {
	sc.batch.Reset()
	clear(sc.locks)
	sc.locks = sc.locks[:0]
	sc.digest.stored, sc.digest.check, sc.digest.md5 = summer{}, summer{}, nil
	scratches.Put(sc)
}

// incoming is a body to be received.
type incoming struct {
	body    io.Reader
	size    int64 // -1: not known
	maximum int64
	md5     []byte // nil, or what it must have
	expect  *Expect
	// algorithm is stored; expect's own is checked too when it is another.
	algorithm Algorithm
	// crypt encrypts the body, as the part with a number or, zero, as the whole.
	crypt *crypt
	part  int
	// inlineBelow is the size from which the body goes to value segments.
	inlineBelow int
}

// received is a body that was read to its end and verified, and is durable when
// it is not inline.
type received struct {
	size uint64
	md5  [md5.Size]byte
	sum  Checksum // of incoming.algorithm
	// told is the checksum of the client's algorithm, sum unless that is another.
	told Checksum
	// body is inline and lies in the scratch; otherwise ext is the body.
	body layers.Body
	ext  []layers.Extent
}

// check refuses what is wrong before a byte was read.
func (in *incoming) check() error {
	if in.size > in.maximum {
		return fmt.Errorf("body of %d bytes, at most %d: %w", in.size, in.maximum, ErrEntityTooLarge)
	}
	if in.md5 != nil && len(in.md5) != md5.Size {
		return fmt.Errorf("Content-MD5 of %d bytes: %w", len(in.md5), ErrInvalidDigest)
	}
	if e := in.expect; e.Algorithm >= numAlgorithms || e.Value.Composite ||
		e.Value.Algorithm != NoChecksum && e.Value.Algorithm != e.Algorithm {
		return fmt.Errorf("expected checksum: %w", ErrInvalidChecksum)
	}
	if in.body == nil {
		in.body = eofReader{}
	}
	return nil
}

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }

// receive reads the body to its end in bounded memory and verifies it. What st
// gathers must be let go of after the commit. Errors: those of check,
// ErrIncompleteBody, ErrEntityTooLarge, ErrBadDigest, those of the reader, of
// the trailer and of the value segments.
func (s *Service) receive(ctx context.Context, sc *scratch, st *stored, in *incoming) (*received, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	sc.digest.reset(in.algorithm, in.expect.Algorithm)
	r := &received{}
	if in.inlineBelow == 0 || in.size >= int64(in.inlineBelow) {
		return r, s.stream(ctx, sc, st, in, r, nil)
	}
	n, whole, err := sc.fill(in.body, in.inlineBelow)
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	head := sc.body[1 : 1+n]
	if !whole {
		return r, s.stream(ctx, sc, st, in, r, head)
	}
	r.size = uint64(n)
	sc.digest.write(head)
	switch {
	case in.crypt != nil:
		sc.body = in.crypt.key.sealBody(sc.body[:1], head)
		r.body = layers.Body(sc.body)
	case n > 0:
		r.body = layers.Body(sc.body[:1+n])
	}
	return r, s.verify(sc, in, r)
}

// fill reads up to limit bytes behind the tag in sc.body, and reports whether
// the body is shorter.
func (sc *scratch) fill(body io.Reader, limit int) (n int, whole bool, err error) {
	if cap(sc.body) < 1+limit {
		sc.body = make([]byte, 1+limit)
	}
	sc.body = sc.body[:1+limit]
	sc.body[0] = byte(layers.BodyInline)
	n, ended, err := readFull(body, sc.body[1:])
	return n, ended && n < limit, err
}

// maxEmptyReads is how often in a row a reader may return nothing.
const maxEmptyReads = 100

// readFull reads until p is full or the body has ended. Unlike io.ReadFull it
// tells the end from an io.ErrUnexpectedEOF that the reader itself returned.
func readFull(body io.Reader, p []byte) (n int, ended bool, err error) {
	for empty := 0; n < len(p); {
		k, err := body.Read(p[n:])
		n += k
		switch {
		case err == io.EOF:
			return n, true, nil
		case err != nil:
			return n, false, err
		case k > 0:
			empty = 0
		default:
			if empty++; empty == maxEmptyReads {
				return n, false, io.ErrNoProgress
			}
		}
	}
	return n, false, nil
}

var streamBuffers = sync.Pool{New: func() any { b := make([]byte, streamBufferBytes); return &b }}

// streamBufferBytes is how much of a streamed body is read and summed at once.
const streamBufferBytes = 256 << 10

// stream writes a body, which begins with head, to value segments.
func (s *Service) stream(ctx context.Context, sc *scratch, st *stored, in *incoming, r *received, head []byte) error {
	w, err := s.values.NewWriter(ctx)
	if err != nil {
		return err
	}
	st.writers = append(st.writers, w)
	pooled := streamBuffers.Get().(*[]byte)
	defer streamBuffers.Put(pooled)
	sc.digest.md5 = s.lanes.begin(sc.digest.alone, in.size)
	defer s.lanes.end(sc.digest.md5)
	var out io.Writer = w
	var seal *sealer
	if in.crypt != nil {
		buf := streamBuffers.Get().(*[]byte)
		defer streamBuffers.Put(buf)
		seal = newSealer(in.crypt.key, in.part, w, *buf)
		out = seal
	}
	p, ended := head, false
	for {
		if r.size += uint64(len(p)); in.size >= 0 && r.size > uint64(in.size) {
			return fmt.Errorf("body of more than %d bytes: %w", in.size, ErrIncompleteBody)
		} else if r.size > uint64(in.maximum) {
			return fmt.Errorf("body of more than %d bytes: %w", in.maximum, ErrEntityTooLarge)
		}
		sc.digest.write(p)
		if _, err := out.Write(p); err != nil {
			return err
		}
		s.streamed.Add(int64(len(p)))
		if ended {
			break
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read body: %w", err)
		}
		var n int
		if n, ended, err = readFull(in.body, *pooled); err != nil {
			return fmt.Errorf("read body after %d bytes: %w", r.size+uint64(n), err)
		}
		p = (*pooled)[:n]
	}
	if err := s.verify(sc, in, r); err != nil {
		return err
	}
	if seal != nil {
		if err := seal.finish(); err != nil {
			return err
		}
	}
	r.ext, err = w.Finish()
	return err
}

// verify compares a body that has ended with what was promised.
func (s *Service) verify(sc *scratch, in *incoming, r *received) error {
	if in.size >= 0 && r.size != uint64(in.size) {
		return fmt.Errorf("body of %d bytes, promised were %d: %w", r.size, in.size, ErrIncompleteBody)
	}
	r.md5 = sc.digest.md5Sum()
	if in.md5 != nil && [md5.Size]byte(in.md5) != r.md5 {
		return fmt.Errorf("MD5 is %x, promised was %x: %w", r.md5, in.md5, ErrBadDigest)
	}
	r.sum = sc.digest.checksum(in.algorithm)
	r.told = r.sum
	if in.expect.Algorithm != NoChecksum {
		r.told = sc.digest.checksum(in.expect.Algorithm)
	}
	if err := in.expect.check(&in.expect.Value, &r.told); err != nil {
		return err
	}
	if in.expect.Trailer == nil {
		return nil
	}
	want, err := in.expect.Trailer()
	if err != nil {
		return fmt.Errorf("read trailer: %w", err)
	}
	return in.expect.check(&want, &r.told)
}

func (e *Expect) check(want, got *Checksum) error {
	if want.Algorithm == NoChecksum || *want == *got {
		return nil
	}
	if want.Algorithm != e.Algorithm {
		return fmt.Errorf("checksum of %v, announced was %v: %w", want.Algorithm, e.Algorithm, ErrInvalidChecksum)
	}
	return fmt.Errorf("%v is %v, promised was %v: %w", got.Algorithm, *got, *want, ErrBadDigest)
}
