package object

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
)

// sealedStream is one of the sealed streams that a body is made of.
type sealedStream struct {
	part int // its number; zero: the only one, of an object that has no parts
	size uint64
}

func (st *sealedStream) salted() bool   { return st.part != 0 }
func (st *sealedStream) stored() uint64 { return sealedLen(st.size, st.salted()) }

// blockAt returns the number of the block that byte off of the stream is in.
func (st *sealedStream) blockAt(off uint64) uint64 {
	return (off + saltBytes(st.salted())) / plainBlockBytes
}

// blockStart returns the first byte of the stream that block i has.
func (st *sealedStream) blockStart(i uint64) uint64 {
	if i == 0 {
		return 0
	}
	return i*plainBlockBytes - saltBytes(st.salted())
}

// storedStart returns where block i begins in the sealed stream.
func (st *sealedStream) storedStart(i uint64) uint64 {
	switch {
	case i == 0:
		return saltBytes(st.salted())
	case i >= sealedBlocks(st.size, st.salted()):
		return st.stored()
	}
	return i * sealedBlockBytes
}

// unsealer reads a range of a body made of sealed streams. No byte is served
// before its block was verified, and none of the last blocks before it is known that
// they are the last. Not safe for concurrent use.
type unsealer struct {
	key     *dataKey
	src     io.ReadCloser // the blocks of the range, in order; nil: closed
	streams []sealedStream
	last    uint64 // number of the last block of the last of streams that is read
	left    uint64 // bytes not served yet

	// Of the first of streams.
	aead  cipher.AEAD // nil: not begun
	block uint64      // next one to read
	skip  uint64      // bytes of it that are not served

	buf    *[]byte // pooled
	plain  [streamBufferBytes / sealedBlockBytes][]byte
	blocks int // of plain that are set
	at     int // first of plain that is not served whole
	err    error
}

// sealedRange says what of a body made of sealed streams a range of its bytes needs.
type sealedRange struct {
	streams []sealedStream // those that are read
	// block is the first one that is read, of the first of streams, skip what of it is not asked for. last is the
	// last one, of the last of streams.
	block, skip, last uint64
	begin, end        uint64 // the sealed bytes
	// saltApart says that the salt of the first of streams lies at salt, before begin.
	saltApart bool
	salt      uint64
}

// locateSealed says what the bytes [off, off+n) of a body need. Errors: ErrCorrupt for a range that is not there.
func locateSealed(streams []sealedStream, off, n uint64) (r sealedRange, err error) {
	var stored uint64
	for len(streams) > 1 && off >= streams[0].size {
		off -= streams[0].size
		stored += streams[0].stored()
		streams = streams[1:]
	}
	r.streams = streams
	first := &streams[0]
	r.block = first.blockAt(off)
	r.skip = off - first.blockStart(r.block)
	r.begin, r.end = stored+first.storedStart(r.block), stored
	if first.salted() {
		if r.salt, r.saltApart = stored, r.block > 0; !r.saltApart {
			r.begin = stored
		}
	}
	need := off + n
	toEnd := need == totalSize(streams) // empty streams at the end are verified, too
	for i := range streams {
		st := &streams[i]
		if need > st.size || toEnd && i < len(streams)-1 {
			need -= st.size
			r.end += st.stored()
			continue
		}
		r.streams = streams[:i+1]
		if r.last = sealedBlocks(st.size, st.salted()) - 1; need < st.size {
			r.last = st.blockAt(max(need, 1) - 1)
		}
		r.end += st.storedStart(r.last + 1)
		return r, nil
	}
	return r, fmt.Errorf("range ends %d bytes past the sealed body: %w", need, ErrCorrupt)
}

// newUnsealer returns the bytes [off, off+n) of a body. open returns a range of its
// sealed bytes. Errors: those of open, ErrCorrupt for a range that is not there.
func newUnsealer(key *dataKey, streams []sealedStream, off, n uint64, open func(off, n uint64) (io.ReadCloser, error)) (*unsealer, error) {
	r, err := locateSealed(streams, off, n)
	if err != nil {
		return nil, err
	}
	u := &unsealer{key: key, left: n, streams: r.streams, block: r.block, skip: r.skip, last: r.last}
	if r.saltApart {
		err = u.beginAt(r.salt, open)
	}
	if err == nil {
		u.src, err = open(r.begin, r.end-r.begin)
	}
	if err != nil {
		return nil, err
	}
	u.buf = streamBuffers.Get().(*[]byte)
	return u, nil
}

func totalSize(streams []sealedStream) uint64 {
	var n uint64
	for i := range streams {
		n += streams[i].size
	}
	return n
}

// beginAt begins the first stream, whose salt lies at stored and not before what is read.
func (u *unsealer) beginAt(stored uint64, open func(off, n uint64) (io.ReadCloser, error)) error {
	r, err := open(stored, partSaltBytes)
	if err != nil {
		return err
	}
	return errors.Join(u.begin(r), r.Close())
}

// begin begins the first stream, reading its salt if it has one.
func (u *unsealer) begin(r io.Reader) error {
	st := &u.streams[0]
	if !st.salted() {
		u.aead = u.key.cipher(purposeBody, 0, nil)
		return nil
	}
	var salt [partSaltBytes]byte
	if _, err := io.ReadFull(r, salt[:]); err != nil {
		return sealedError(err)
	}
	u.aead = u.key.cipher(purposePart, st.part, salt[:])
	return nil
}

// sealedError says that a body ends early; other errors pass.
func sealedError(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("sealed body ends early: %w", ErrCorrupt)
	}
	return err
}

// fill makes sure that something of plain can be served, or sets err.
func (u *unsealer) fill() bool {
	for u.at == u.blocks && u.err == nil {
		st := &u.streams[0]
		last := sealedBlocks(st.size, st.salted()) - 1
		if len(u.streams) == 1 {
			last = u.last
		}
		switch {
		case u.block <= last:
			u.err = u.load(st, last)
		case len(u.streams) > 1:
			u.streams, u.aead, u.block = u.streams[1:], nil, 0
		case u.left > 0:
			u.err = fmt.Errorf("sealed body is %d bytes short: %w", u.left, ErrCorrupt)
		default:
			u.err = io.EOF
		}
	}
	return u.at < u.blocks
}

// load reads and opens some blocks of the stream, the last one never alone.
func (u *unsealer) load(st *sealedStream, last uint64) error {
	if u.src == nil {
		return errReaderClosed
	}
	if u.aead == nil {
		if err := u.begin(u.src); err != nil {
			return err
		}
	}
	const most = streamBufferBytes / sealedBlockBytes
	n := last - u.block + 1
	if n > most {
		n = most - 1
	}
	from := st.storedStart(u.block)
	p := (*u.buf)[:st.storedStart(u.block+n)-from]
	if _, err := io.ReadFull(u.src, p); err != nil {
		return sealedError(err)
	}
	u.at, u.blocks = 0, 0
	for i := u.block; i < u.block+n; i++ {
		size := st.storedStart(i+1) - st.storedStart(i)
		nonce := blockNonce(i)
		plain, err := u.aead.Open(p[:0], nonce[:], p[:size], nil)
		if err != nil {
			u.blocks = 0
			return fmt.Errorf("block %d of part %d does not open: %w", i, st.part, ErrCorrupt)
		}
		p = p[size:]
		plain, u.skip = plain[u.skip:], 0
		plain = plain[:min(uint64(len(plain)), u.left)]
		if u.left -= uint64(len(plain)); len(plain) > 0 {
			u.plain[u.blocks] = plain
			u.blocks++
		}
	}
	u.block += n
	return nil
}

// Read implements io.Reader. Errors are final: ErrCorrupt, those of the source.
func (u *unsealer) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !u.fill() {
		return 0, u.err
	}
	n := copy(p, u.plain[u.at])
	u.took(n)
	return n, nil
}

func (u *unsealer) took(n int) {
	if u.plain[u.at] = u.plain[u.at][n:]; len(u.plain[u.at]) == 0 {
		u.at++
	}
}

// WriteTo implements io.WriterTo.
func (u *unsealer) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for u.fill() {
		n, err := w.Write(u.plain[u.at])
		if total += int64(n); err == nil && n < len(u.plain[u.at]) {
			err = io.ErrShortWrite
		}
		u.took(n)
		if err != nil {
			return total, err
		}
	}
	if u.err == io.EOF {
		return total, nil
	}
	return total, u.err
}

// Close closes the source. More calls do nothing.
func (u *unsealer) Close() error {
	if u.src == nil {
		return nil
	}
	err := u.src.Close()
	u.src = nil
	if u.err == nil {
		u.err = errReaderClosed
	}
	u.at, u.blocks, u.plain = 0, 0, [len(u.plain)][]byte{}
	streamBuffers.Put(u.buf)
	u.buf = nil
	return err
}
