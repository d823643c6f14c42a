package wal

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"stemma/wal/storefs"
)

const (
	// chunkBytes is the size of the reads of replay, unless all files are smaller.
	chunkBytes = 1 << 20
	// chunksAhead is how many chunks are read ahead of replay.
	chunksAhead = 4
)

// stream reads the groups' part of one segment after another, front to back,
// while a goroutine reads ahead. Not safe for concurrent use.
type stream struct {
	chunks chan chunk
	free   chan []byte
	stop   chan struct{}
	done   chan struct{}
	chunk  int64 // bytes of a buffer

	file  int    // index of the current file; -1 before the first
	off   int64  // offset in it
	cur   []byte // bytes from off on
	buf   []byte // what cur is part of, and goes back to free; nil when that is spill
	spill []byte // where chunks are joined
	next  *chunk // read, and not part of cur
	end   bool   // cur is all that is left of the current file
}

// chunk is a part of a file, or why it cannot be read.
type chunk struct {
	file int
	data []byte
	buf  []byte // aligned memory of data
	err  error
}

// newStream starts reading the named files, of which sizes are known, from
// behind their headers. close must be called.
func newStream(names []string, sizes []int64, open func(name string) (vfs.File, error)) *stream {
	s := &stream{
		chunks: make(chan chunk, chunksAhead),
		free:   make(chan []byte, chunksAhead+2),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
		file:   -1,
	}
	for _, size := range sizes {
		s.chunk = max(s.chunk, min(chunkBytes, size))
	}
	go func() {
		defer close(s.done)
		defer close(s.chunks)
		for i, name := range names {
			if !s.readFile(i, name, sizes[i], open) {
				return
			}
		}
	}()
	return s
}

// close stops the goroutine and waits for it.
func (s *stream) close() {
	close(s.stop)
	<-s.done
}

// readFile sends the chunks of one file. It reports false after an error or
// when the stream is closed.
func (s *stream) readFile(i int, name string, size int64, open func(name string) (vfs.File, error)) bool {
	f, err := open(name)
	if err != nil {
		s.send(chunk{file: i, err: fmt.Errorf("read log segment: %w", err)})
		return false
	}
	defer f.Close()
	for off := int64(segmentHeaderBytes); off < size; {
		var buf []byte
		select {
		case buf = <-s.free:
		default:
			buf = storefs.AlignedBlock(int(s.chunk))
		}
		n, err := f.ReadAt(buf[:min(s.chunk, size-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			s.send(chunk{file: i, err: fmt.Errorf("read log segment %s at offset %d: %w", name, off, err)})
			return false
		}
		if n == 0 {
			return true // shorter than it was: what is missing is not valid
		}
		if !s.send(chunk{file: i, data: buf[:n], buf: buf}) {
			return false
		}
		off += int64(n)
	}
	return true
}

func (s *stream) send(c chunk) bool {
	select {
	case s.chunks <- c:
		return true
	case <-s.stop:
		return false
	}
}

// open moves to the start of the groups of file i, past those before it.
func (s *stream) open(i int) error {
	s.recycle()
	s.file, s.off, s.cur, s.end = i, segmentHeaderBytes, nil, false
	for s.next == nil || s.next.file < i {
		if s.next != nil {
			s.cur, s.buf = nil, s.next.buf
			s.recycle()
		}
		c, ok := <-s.chunks
		if !ok {
			s.next, s.end = nil, true
			return nil
		}
		if c.err != nil {
			return c.err
		}
		s.next = &c
	}
	return s.fill()
}

// recycle gives the memory of cur back.
func (s *stream) recycle() {
	if s.buf != nil {
		select {
		case s.free <- s.buf:
		default:
		}
	}
	s.buf = nil
}

// fill appends the next chunk of the current file to cur.
func (s *stream) fill() error {
	if s.next == nil {
		c, ok := <-s.chunks
		if !ok {
			s.end = true
			return nil
		}
		if c.err != nil {
			return c.err
		}
		s.next = &c
	}
	if s.next.file != s.file {
		s.end = true
		return nil
	}
	c := s.next
	s.next = nil
	if len(s.cur) == 0 {
		s.recycle()
		s.cur, s.buf = c.data, c.buf
		return nil
	}
	// What is left of cur moves to the start of spill, where it may lie already.
	s.spill = append(append(s.spill[:0], s.cur...), c.data...)
	s.recycle()
	s.cur, s.buf = s.spill, c.buf
	s.recycle()
	return nil
}

// peek returns the next n bytes of the current file, fewer at its end. They are
// valid until the next call and may be changed. The current position stays.
func (s *stream) peek(n int64) ([]byte, error) {
	for int64(len(s.cur)) < n && !s.end {
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	return s.cur[:min(n, int64(len(s.cur)))], nil
}

// skip moves n bytes on; peek has returned as many.
func (s *stream) skip(n int64) {
	s.off += n
	s.cur = s.cur[n:]
}
