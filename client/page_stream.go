package client

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/minio/minio-go/v7/pkg/signer"
)

const (
	streamPath     = "/v1/pages:stream"
	streamProtocol = "stemma-pages/1"

	frameRead    = 1
	frameWrite   = 2
	frameResults = 3
	frameWritten = 4
	frameFailed  = 5
	frameHead    = 4

	// streamInFlight is how many requests of one stream a server works on at once.
	streamInFlight = 64
	// maxStreamed bounds a request, after its head, and maxStreamAnswer an answer, in bytes.
	maxStreamed     = 4<<20 + 8<<10
	maxStreamAnswer = 16 << 20
)

// MaxStreamedBytes bounds what one read or one write of a PageStream has, in bytes; a write with what describes it.
const MaxStreamedBytes = 4 << 20

// ErrStreamClosed is the error of requests to a PageStream that was closed.
var ErrStreamClosed = errors.New("client: the stream is closed")

// PageStream carries page reads and writes over one connection, many at once. Reads are answered as they are done;
// writes of one object are carried out in the order in which they were begun, each in a commit of its own. At most 64
// are under way, further ones wait. The server ends a stream without requests after five minutes. After the stream has
// ended, all requests fail with its error, and whether a write without an answer was carried out is not known.
// Safe for concurrent use.
type PageStream struct {
	conn  io.ReadWriteCloser
	slots chan struct{}
	out   chan []byte   // frames, to the writer; has a place for each slot
	ended chan struct{} // closed after err is set
	work  sync.WaitGroup

	mu      sync.Mutex
	id      uint64                      // of the newest request
	waiting map[uint64]chan streamFrame // by id; each has a place for its answer
	err     error                       // why the stream ended
}

// streamFrame is an answer.
type streamFrame struct {
	kind byte
	body []byte
}

// OpenPages opens a stream of page reads and writes, which lives until Close, or until ctx ends.
func (c *Client) OpenPages(ctx context.Context) (*PageStream, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", c.base.Scheme+"://"+c.base.Host+streamPath, http.NoBody)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(nil)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	req = signer.SignV4(*req, c.o.AccessKey, c.o.SecretKey, "", c.o.Region)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", streamProtocol)
	res, err := c.o.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		defer res.Body.Close()
		return nil, failure(res, "POST "+streamPath)
	}
	conn, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		return nil, errors.Join(errors.New("client: the HTTP client cannot upgrade connections"), res.Body.Close())
	}
	s := &PageStream{
		conn: conn, slots: make(chan struct{}, streamInFlight), out: make(chan []byte, streamInFlight),
		ended: make(chan struct{}), waiting: make(map[uint64]chan streamFrame),
	}
	s.work.Go(s.write)
	s.work.Go(s.read)
	return s, nil
}

// Ended is closed when the stream has ended, for whatever reason.
func (s *PageStream) Ended() <-chan struct{} { return s.ended }

// Close ends the stream. Requests under way fail with ErrStreamClosed.
func (s *PageStream) Close() error {
	s.end(ErrStreamClosed)
	s.work.Wait()
	return nil
}

// end ends the stream, for the first reason that is given.
func (s *PageStream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	close(s.ended)
	_ = s.conn.Close() // both goroutines end
}

// write sends frames, those that are there at once together.
func (s *PageStream) write() {
	w := bufio.NewWriterSize(s.conn, 64<<10)
	for {
		select {
		case p := <-s.out:
			_, err := w.Write(p)
			if err == nil && len(s.out) == 0 {
				err = w.Flush()
			}
			if err != nil {
				s.end(err)
				return
			}
		case <-s.ended:
			return
		}
	}
}

// read gives the answers to those who wait.
func (s *PageStream) read() {
	r := bufio.NewReaderSize(s.conn, 64<<10)
	for {
		id, f, err := readFrame(r)
		if err != nil {
			s.end(fmt.Errorf("stream of pages: %w", err))
			return
		}
		s.mu.Lock()
		ch := s.waiting[id]
		delete(s.waiting, id)
		s.mu.Unlock()
		if ch == nil {
			s.end(f.lastWord())
			return
		}
		ch <- f
		<-s.slots
	}
}

// lastWord is why the server ends the stream.
func (f *streamFrame) lastWord() error {
	if f.kind != frameFailed {
		return errBadPages
	}
	return f.failed()
}

func (f *streamFrame) failed() error {
	e := new(Error)
	if json.Unmarshal(f.body, e) != nil || e.Code == "" {
		return errBadPages
	}
	return e
}

func readFrame(r *bufio.Reader) (id uint64, f streamFrame, err error) {
	head, err := r.Peek(frameHead)
	if err != nil {
		return 0, f, err
	}
	n := binary.LittleEndian.Uint32(head)
	if n < 2 || n > maxStreamAnswer {
		return 0, f, errBadPages
	}
	p := make([]byte, frameHead+n)
	if _, err := io.ReadFull(r, p); err != nil {
		return 0, f, err
	}
	id, used := binary.Uvarint(p[frameHead+1:])
	if used <= 0 {
		return 0, f, errBadPages
	}
	return id, streamFrame{p[frameHead], p[frameHead+1+used:]}, nil
}

// streamed is a request whose answer has not been taken.
type streamed struct {
	s      *PageStream
	answer chan streamFrame
}

// start sends a request. Those of one goroutine are sent in the order of its calls.
func (s *PageStream) start(ctx context.Context, kind byte, body func(dst []byte) []byte) (*streamed, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.ended:
		return nil, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r := &streamed{s: s, answer: make(chan streamFrame, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.id++
	p := body(binary.AppendUvarint([]byte{0, 0, 0, 0, kind}, s.id))
	if len(p)-frameHead > maxStreamed {
		<-s.slots
		return nil, fmt.Errorf("client: %d bytes in one request of a stream, at most %d", len(p), maxStreamed)
	}
	binary.LittleEndian.PutUint32(p, uint32(len(p)-frameHead))
	s.waiting[s.id] = r.answer
	s.out <- p // there is a place for it
	return r, nil
}

// wait waits for an answer of a kind.
func (r *streamed) wait(ctx context.Context, kind byte) ([]byte, error) {
	var f streamFrame
	select {
	case f = <-r.answer:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.s.ended:
		select {
		case f = <-r.answer: // it came before the end
		default:
			return nil, r.s.err
		}
	}
	switch f.kind {
	case kind:
		return f.body, nil
	case frameFailed:
		return nil, f.failed()
	}
	return nil, errBadPages
}

// ReadPages reads many ranges of many objects of a bucket, at most MaxStreamedBytes.
func (s *PageStream) ReadPages(ctx context.Context, bucket string, reads []PageRead) ([]PageReadResult, error) {
	r, err := s.start(ctx, frameRead, func(dst []byte) []byte { return appendPageReads(appendBytes(dst, bucket), reads) })
	if err != nil {
		return nil, err
	}
	p, err := r.wait(ctx, frameResults)
	if err != nil {
		return nil, err
	}
	results, err := decodePageResults(p)
	if err == nil && len(results) != len(reads) {
		err = errBadPages
	}
	return results, err
}

// PagesWriting is a write that was begun.
type PagesWriting struct{ r *streamed }

// StartWritePages begins a write of an object in place, and waits only for its turn to be sent. The next write of the
// object that is begun after it is carried out after it, also if this one fails.
func (s *PageStream) StartWritePages(ctx context.Context, bucket, key string, ops []PageOp, o PagesOptions) (*PagesWriting, error) {
	r, err := s.start(ctx, frameWrite, func(dst []byte) []byte {
		dst = append(appendBytes(appendBytes(dst, bucket), key), o.createByte())
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(o.PageBytes)), uint64(o.IfLSN))
		return appendPageOps(append(dst, 0, 0), ops) // of any size, any ETag
	})
	if err != nil {
		return nil, err
	}
	return &PagesWriting{r}, nil
}

// Wait waits for the end of the write. When it returns without an error the write is durable. Call it once.
func (w *PagesWriting) Wait(ctx context.Context) (*PagesWritten, error) {
	p, err := w.r.wait(ctx, frameWritten)
	if err != nil {
		return nil, err
	}
	var n [3]uint64 // LSN, size, page size
	for i := range n {
		if n[i], p, err = takeNumber(p); err != nil {
			return nil, err
		}
	}
	var texts [2]string // ETag, file
	for i := range texts {
		length, rest, err := takeNumber(p)
		if err != nil || length > uint64(len(rest)) {
			return nil, errBadPages
		}
		texts[i], p = string(rest[:length]), rest[length:]
	}
	return &PagesWritten{LSN: LSN(n[0]), Size: n[1], PageBytes: int(n[2]), ETag: texts[0], File: texts[1]}, nil
}

func takeNumber(p []byte) (n uint64, rest []byte, err error) {
	n, used := binary.Uvarint(p)
	if used <= 0 {
		return 0, nil, errBadPages
	}
	return n, p[used:], nil
}

// WritePages changes an object in place, in one commit. On return it is durable.
func (s *PageStream) WritePages(ctx context.Context, bucket, key string, ops []PageOp, o PagesOptions) (*PagesWritten, error) {
	w, err := s.StartWritePages(ctx, bucket, key, ops, o)
	if err != nil {
		return nil, err
	}
	return w.Wait(ctx)
}

func (o *PagesOptions) createByte() byte {
	switch {
	case o.Create && o.Exclusive:
		return 2
	case o.Create:
		return 1
	}
	return 0
}
