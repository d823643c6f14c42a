package auth

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"strings"
	"sync"
)

// Limits of an aws-chunked body.
const (
	MaxSignedChunk  = 16 << 20 // bytes of a chunk that has a signature
	maxChunkLine    = 256
	maxTrailerBytes = 4096
	maxPooledChunk  = 1 << 20
)

var (
	chunkReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 32<<10) }}
	chunkBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}
)

// chunkedReader decodes an aws-chunked body.
type chunkedReader struct {
	br        *bufio.Reader
	form      PayloadForm
	left      int64    // decoded bytes that must still come
	announced []string // names of trailers
	trailers  map[string]string
	err       error // sticky; io.EOF at the end

	// Of a body without signatures: bytes left in the chunk that is being read.
	chunkLeft int64

	// Of a signed body.
	buf   *[]byte // the chunk, whole
	ready []byte  // bytes of it that are verified and not handed on yet
	mac   hash.Hash
	proof *Proof
	prev  string // signature of the chunk before, or the seed
}

func newChunkedReader(raw io.Reader, p *Proof, o BodyOptions) *chunkedReader {
	c := &chunkedReader{
		br: chunkReaders.Get().(*bufio.Reader), form: p.Payload.Form, left: o.Decoded,
		announced: o.Trailers, trailers: map[string]string{}, proof: p, prev: p.seed,
	}
	c.br.Reset(raw)
	if c.signed() {
		c.buf = chunkBuffers.Get().(*[]byte)
		c.mac = hmac.New(sha256.New, p.signingKey[:])
	}
	return c
}

func (c *chunkedReader) signed() bool { return c.form != UnsignedTrailer }

func (c *chunkedReader) close() {
	if c.br != nil {
		c.br.Reset(nil)
		chunkReaders.Put(c.br)
	}
	if c.buf != nil && cap(*c.buf) <= maxPooledChunk {
		chunkBuffers.Put(c.buf)
	}
	c.br, c.buf, c.ready, c.chunkLeft, c.err = nil, nil, nil, 0, io.ErrClosedPipe
}

// Read implements io.Reader.
func (c *chunkedReader) Read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case len(c.ready) > 0:
			n := copy(p, c.ready)
			c.ready = c.ready[n:]
			return n, nil
		case c.err != nil:
			return 0, c.err
		case c.chunkLeft > 0:
			return c.readUnsigned(p)
		}
		c.err = c.next()
	}
}

// readUnsigned reads from a chunk without signature, and its end mark.
func (c *chunkedReader) readUnsigned(p []byte) (int, error) {
	n, err := c.br.Read(p[:min(int64(len(p)), c.chunkLeft)])
	c.chunkLeft -= int64(n)
	if err == nil && c.chunkLeft == 0 {
		err = c.readMark()
	}
	if err != nil {
		c.err = short(err)
		c.chunkLeft = 0
	}
	return n, c.err
}

// next reads the head of the next chunk, and the whole chunk if it is signed;
// after the last one, what follows it. io.EOF is the good end.
func (c *chunkedReader) next() error {
	line, err := c.readLine(maxChunkLine)
	if err != nil {
		return short(err)
	}
	size, sig, ok := parseChunkLine(line)
	switch {
	case !ok || (c.signed() && !validHex(sig)):
		return ErrChunkFraming
	case size > c.left:
		return ErrIncompleteBody
	case c.signed() && size > MaxSignedChunk:
		return ErrChunkTooLarge
	}
	c.left -= size
	if c.signed() {
		if err := c.readSigned(int(size), sig); err != nil {
			return err
		}
	} else {
		c.chunkLeft = size
	}
	if size > 0 {
		return nil
	}
	if c.left != 0 {
		return ErrIncompleteBody
	}
	if c.form == SignedChunks {
		return c.readNothing()
	}
	return c.readTrailers()
}

// parseChunkLine parses "size" or "size;chunk-signature=sig"; sig is empty
// without one, and other extensions are passed over.
func parseChunkLine(line []byte) (size int64, sig string, ok bool) {
	digits, ext, _ := bytes.Cut(line, []byte(";"))
	if len(digits) == 0 || len(digits) > 15 {
		return 0, "", false
	}
	for _, d := range digits {
		v := hexDigit(d)
		if v > 15 {
			return 0, "", false
		}
		size = size<<4 | int64(v)
	}
	if value, found := bytes.CutPrefix(ext, []byte("chunk-signature=")); found {
		sig = string(value)
	}
	return size, sig, true
}

// readSigned reads a chunk of size bytes and its end mark, and verifies its
// signature. The chunk of size zero has neither bytes nor mark.
func (c *chunkedReader) readSigned(size int, sig string) error {
	b := (*c.buf)[:0]
	for len(b) < size { // memory follows what has arrived, not what was claimed
		step := min(size-len(b), max(cap(b)-len(b), 64<<10))
		b = slices.Grow(b, step)
		n, err := io.ReadFull(c.br, b[len(b):len(b)+step])
		b = b[:len(b)+n]
		if err != nil {
			*c.buf = b
			return short(err)
		}
	}
	*c.buf = b
	if size > 0 {
		if err := c.readMark(); err != nil {
			return short(err)
		}
	}
	sum := sha256.Sum256(b)
	s := c.beginString("AWS4-HMAC-SHA256-PAYLOAD")
	s = append(s, emptySHA256+"\n"...)
	s = hex.AppendEncode(s, sum[:])
	if !c.verify(s, sig) {
		return ErrChunkSignature
	}
	c.ready = b
	return nil
}

// beginString begins the string to sign of a chunk or trailer.
func (c *chunkedReader) beginString(kind string) []byte {
	s := make([]byte, 0, 384)
	s = append(append(s, kind...), '\n')
	s = append(append(s, c.proof.date...), '\n')
	s = append(c.proof.scope.append(s), '\n')
	return append(append(s, c.prev...), '\n')
}

// verify compares sig with the signature of s, and makes it the previous one.
func (c *chunkedReader) verify(s []byte, sig string) bool {
	c.mac.Reset()
	c.mac.Write(s)
	var sum [sha256.Size]byte
	var want [2 * sha256.Size]byte
	hex.Encode(want[:], c.mac.Sum(sum[:0]))
	c.prev = string(want[:])
	return subtle.ConstantTimeCompare(want[:], []byte(sig)) == 1
}

// readMark reads the CRLF after the bytes of a chunk.
func (c *chunkedReader) readMark() error {
	line, err := c.readLine(2)
	if err == nil && len(line) != 0 {
		err = ErrChunkFraming
	}
	return err
}

// readLine reads up to a LF and drops it with a CR before it. The line is valid
// until the next read.
func (c *chunkedReader) readLine(limit int) ([]byte, error) {
	line, err := c.br.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull, err == nil && len(line) > limit:
		return nil, ErrChunkFraming
	case err != nil:
		return line, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// readNothing accepts blank lines up to the end of the raw body.
func (c *chunkedReader) readNothing() error {
	for range 4 {
		line, err := c.readLine(2)
		if err == io.EOF && len(line) == 0 {
			return io.EOF
		}
		if err != nil {
			return short(err)
		}
		if len(line) != 0 {
			return ErrChunkFraming
		}
	}
	return ErrChunkFraming
}

// readTrailers reads the trailers and their signature up to the end of the raw
// body. All that were announced must be there, and no others.
func (c *chunkedReader) readTrailers() error {
	var canonical []byte
	sig := ""
	for total := 0; ; {
		line, err := c.readLine(maxTrailerBytes)
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil {
			return short(err)
		}
		if total += len(line) + 1; total > maxTrailerBytes {
			return ErrTrailer
		}
		if len(line) == 0 {
			continue
		}
		name, value, ok := strings.Cut(string(line), ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		_, repeated := c.trailers[name]
		switch {
		case !ok || sig != "" || repeated:
			return ErrTrailer
		case name == trailerSignature && c.signed():
			sig = value
		case !slices.Contains(c.announced, name):
			return ErrTrailer
		default:
			c.trailers[name] = value
			canonical = append(append(append(append(canonical, name...), ':'), value...), '\n')
		}
	}
	if len(c.trailers) != len(c.announced) {
		return ErrTrailer
	}
	if c.signed() {
		sum := sha256.Sum256(canonical)
		s := hex.AppendEncode(c.beginString("AWS4-HMAC-SHA256-TRAILER"), sum[:])
		if !c.verify(s, sig) {
			return ErrChunkSignature
		}
	}
	return io.EOF
}

// short makes the end of the raw body inside the coding ErrIncompleteBody.
func short(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrIncompleteBody
	}
	return err
}
