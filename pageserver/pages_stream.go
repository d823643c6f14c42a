package pageserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/semaphore"

	"stemma/pageserver/object"
)

// A stream carries page reads and writes over one connection, many at once; docs/pages.md has the protocol. The
// request that opens it is signed, what follows is not. What a caller other than the root may do is decided frame by
// frame, and its signature is verified again every so often, so that the stream ends when its key does.

const (
	streamPath     = "/v1/pages:stream"
	streamProtocol = "stemma-pages/1"
)

// Bounds of streams. What is beyond those of one is not read from its connection until there is room.
const (
	maxStreams     = 64
	streamInFlight = 64 // requests, from when they are read until their answer is written
	// streamRoom is bytes of requests and of answers, which are in memory twice for a moment. The largest request fits.
	streamRoom  = 16 << 20
	streamIdle  = 5 * time.Minute  // without a request
	streamStall = 30 * time.Second // within a frame, either way
	// streamRenew is how long a signature is trusted that was verified.
	streamRenew = time.Second
	// streamLinger is for how long a client that was told the end may take to see it.
	streamLinger = time.Second
)

// streams are the open ones. Safe for concurrent use.
type streams struct {
	mu struct {
		sync.Mutex
		open     map[*pageStream]struct{}
		stopping bool
	}
	ended chan struct{} // closed when stop was called and none is open
	idle  time.Duration // streamIdle
}

func newStreams() *streams {
	s := &streams{ended: make(chan struct{}), idle: streamIdle}
	s.mu.open = make(map[*pageStream]struct{})
	return s
}

// add admits a stream. Who got nil calls remove.
func (s *streams) add(p *pageStream) *AdminError {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.stopping:
		return errShuttingDown
	case len(s.mu.open) == maxStreams:
		return &AdminError{Code: "SlowDown", Message: fmt.Sprintf("there are %d streams", maxStreams)}
	}
	s.mu.open[p] = struct{}{}
	return nil
}

func (s *streams) remove(p *pageStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.open, p)
	if s.mu.stopping && len(s.mu.open) == 0 {
		close(s.ended)
	}
}

// stop has all streams take no more requests, and end once those under way are answered. Call it once.
func (s *streams) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.stopping = true
	if len(s.mu.open) == 0 {
		close(s.ended)
	}
	for p := range s.mu.open {
		p.stop()
	}
}

// wait waits until all streams have ended after stop, or ctx ends.
func (s *streams) wait(ctx context.Context) {
	select {
	case <-s.ended:
	case <-ctx.Done():
	}
}

var errShuttingDown = &AdminError{Code: "ServiceUnavailable", Message: "shutting down"}

// openStream answers the request that opens a stream.
func (p *pagesRequest) openStream() error {
	if err := p.known(); err != nil {
		return err
	}
	if err := p.keyless(); err != nil {
		return err
	}
	h := &p.http.Request.Header
	if !h.ConnectionUpgrade() || string(h.Peek("Upgrade")) != streamProtocol {
		return &AdminError{Code: "InvalidRequest", Message: "want Connection: Upgrade and Upgrade: " + streamProtocol}
	}
	if p.caller.Anonymous() {
		return &AdminError{Code: "AccessDenied", Message: "streams are opened by signed requests"}
	}
	if len(p.body) > 0 {
		return &AdminError{Code: "BadRequest", Message: "no body is expected"}
	}
	res := &p.http.Response
	res.SetStatusCode(fasthttp.StatusSwitchingProtocols)
	res.Header.Set("Connection", "Upgrade")
	res.Header.Set("Upgrade", streamProtocol)
	p.http.Hijack(func(c net.Conn) { p.a.serveStream(c, p) }) // the request lives as long as that
	return nil
}

// pageStream is one stream. The goroutine of its connection reads, one for each request works, and one writes.
type pageStream struct {
	a       *admin
	opened  *pagesRequest // of the reader alone
	renewed time.Time     // when its signature was verified
	conn    net.Conn
	ctx     context.Context // of the requests
	commits context.Context // of writes, those of the caller; the reader sets it before the first
	slots   chan struct{}
	room    *semaphore.Weighted
	work    sync.WaitGroup
	// answers has a place for each slot and the last word, so that sending never waits.
	answers chan streamAnswer

	mu struct {
		sync.Mutex
		stopping bool
		// tails are the newest write of each object that has one under way; closed when it has ended.
		tails map[streamObject]chan struct{}
	}
}

type streamObject struct{ bucket, key string }

// streamAnswer is a frame, and what it gives back once it is written.
type streamAnswer struct {
	frame []byte
	room  int64
	slot  bool
}

// serveStream serves a connection until either side ends it, and closes it.
func (a *admin) serveStream(c net.Conn, opened *pagesRequest) {
	s := &pageStream{
		a: a, opened: opened, renewed: time.Now(), conn: c, slots: make(chan struct{}, streamInFlight), room: semaphore.NewWeighted(streamRoom),
		answers: make(chan streamAnswer, streamInFlight+1),
	}
	s.mu.tails = make(map[streamObject]chan struct{})
	defer c.Close()
	var last *AdminError
	if a.server.jobs.begin() { // the store is there until end
		defer a.server.jobs.end()
	} else {
		last = errShuttingDown
	}
	ctx, cancel := context.WithCancel(a.server.jobs.ctx)
	defer cancel()
	s.ctx = ctx
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // whatever waits for the other side
	var written sync.WaitGroup
	written.Go(s.write)
	if last == nil {
		if last = a.streams.add(s); last == nil {
			defer a.streams.remove(s)
			last = s.serve()
		}
	}
	// The end: answers of what is under way, the last word, and then the connection.
	s.work.Wait()
	if last != nil {
		s.answers <- streamAnswer{frame: failedFrame(0, last)}
	}
	close(s.answers)
	written.Wait()
	if last != nil { // what is closed with bytes unread is reset, and the last word may be lost
		_ = c.SetReadDeadline(time.Now().Add(streamLinger))
		_, _ = io.Copy(io.Discard, c)
	}
}

// serve reads and begins requests, and returns why it ended; nil when the client did.
func (s *pageStream) serve() *AdminError {
	s.opened.ctx = s.ctx
	r := bufio.NewReaderSize(s.conn, 64<<10)
	for {
		if err := s.next(r); err != nil {
			return s.worded(err)
		}
	}
}

// worded says why a stream ends. What the client cannot be told is nil.
func (s *pageStream) worded(err error) *AdminError {
	var known *AdminError
	switch {
	case s.stopped():
		return errShuttingDown
	case errors.As(err, &known):
		return known
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &AdminError{Code: "RequestTimeout", Message: fmt.Sprintf("no request for %v, or one that did not go on for %v", s.a.streams.idle, streamStall)}
	}
	return nil
}

// stop has no more requests read.
func (s *pageStream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.stopping = true
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
}

func (s *pageStream) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.stopping
}

// within bounds the reads from now on, unless there are to be no more.
func (s *pageStream) within(d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.stopping {
		return errShuttingDown
	}
	return s.conn.SetReadDeadline(time.Now().Add(d))
}

// next reads a request and begins it, when there is room for it.
func (s *pageStream) next(r *bufio.Reader) error {
	if err := s.within(s.a.streams.idle); err != nil {
		return err
	}
	head, err := r.Peek(object.PageFrameHead)
	if err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(head))
	if n > object.MaxPageFrame {
		return &AdminError{Code: "RequestTooLarge", Message: fmt.Sprintf("a frame of %d bytes, at most %d", n, object.MaxPageFrame)}
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	if err := s.room.Acquire(s.ctx, n); err != nil {
		return err
	}
	p := make([]byte, object.PageFrameHead+n)
	if err := s.within(streamStall); err != nil {
		return err
	}
	if _, err := io.ReadFull(r, p); err != nil {
		return err
	}
	return s.begin(p[object.PageFrameHead:])
}

// begin begins the request of a frame, whose slot and room it has.
func (s *pageStream) begin(p []byte) error {
	f, err := object.DecodePageFrame(p)
	if f.ID == 0 {
		return &AdminError{Code: "BadRequest", Message: "a frame without an id"}
	}
	room := int64(len(p))
	var asked uint64
	for i := range f.Reads {
		if asked += min(f.Reads[i].Len, object.MaxStreamedRead+1); asked > object.MaxStreamedRead {
			err = &AdminError{Code: "RequestTooLarge", Message: fmt.Sprintf("more than %d bytes in one batch of a stream", object.MaxStreamedRead)}
			break
		}
	}
	if err == nil {
		if broken := s.renew(); broken != nil {
			return s.a.worded(broken)
		}
		err = s.may(&f)
	}
	if err == nil && f.Kind == object.FrameWrite && s.commits == nil {
		var commits context.Context
		if commits, err = s.opened.judge.Base(s.ctx); err == nil {
			s.commits = commits
		}
	}
	if err != nil {
		s.answer(f.ID, nil, err, room)
		return nil
	}
	if err := s.room.Acquire(s.ctx, 2*int64(asked)); err != nil {
		return err
	}
	room += 2 * int64(asked)
	run := s.read
	if f.Kind == object.FrameWrite {
		run = s.queued(streamObject{f.Bucket, f.Key})
	}
	s.work.Go(func() {
		frame, err := run(&f)
		s.answer(f.ID, frame, err, room)
	})
	return nil
}

// renew verifies the signature of the caller again when that was long ago.
func (s *pageStream) renew() error {
	p := s.opened
	if p.root || time.Since(s.renewed) < streamRenew {
		return nil
	}
	proof, err := s.a.verifier.Verify(&p.http.Request.Header, &p.target)
	if err != nil {
		return err
	}
	s.renewed, p.caller, p.judge = time.Now(), proof.Caller, s.a.server.s3.Judge(p.http, p.target, proof)
	return nil
}

// may decides about a request.
func (s *pageStream) may(f *object.PageFrame) error {
	if s.opened.root {
		return nil
	}
	if f.Kind == object.FrameRead {
		return s.opened.mayReadBatch(f.Bucket, f.Reads)
	}
	return s.opened.judge.MayKey("s3:PutObject", f.Bucket, f.Key, object.PermWrite)
}

// answer has a frame written, or the error.
func (s *pageStream) answer(id uint64, frame []byte, err error, room int64) {
	if err != nil {
		frame = failedFrame(id, s.a.worded(wordedPages(err)))
	}
	s.answers <- streamAnswer{frame: frame, room: room, slot: true}
}

func failedFrame(id uint64, e *AdminError) []byte {
	p, err := json.Marshal(e)
	if err != nil {
		panic("BUG: " + err.Error()) // a plain struct
	}
	return object.EndPageFrame(append(object.BeginPageFrame(nil, object.FrameFailed, id), p...), 0)
}

func (s *pageStream) read(f *object.PageFrame) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.ctx, adminTimeout)
	defer cancel()
	results, err := s.a.server.objects.ReadPages(ctx, f.Bucket, f.Reads)
	if err != nil {
		return nil, err
	}
	s.a.logCorrupt(f.Bucket, f.Reads, results)
	n := 16 // of the head
	for i := range results {
		n += len(results[i].Data) + 32
	}
	frame := object.BeginPageFrame(make([]byte, 0, n), object.FrameResults, f.ID)
	return object.EndPageFrame(object.AppendPageResults(frame, results), 0), nil
}

// queued returns what does a write once those of the object before it have ended.
func (s *pageStream) queued(o streamObject) func(*object.PageFrame) ([]byte, error) {
	mine := make(chan struct{})
	s.mu.Lock()
	before := s.mu.tails[o]
	s.mu.tails[o] = mine
	s.mu.Unlock()
	return func(f *object.PageFrame) ([]byte, error) {
		if before != nil {
			<-before // it ends, by its own timeout if need be
		}
		defer func() {
			s.mu.Lock()
			if s.mu.tails[o] == mine {
				delete(s.mu.tails, o)
			}
			s.mu.Unlock()
			close(mine)
		}()
		return s.change(f)
	}
}

func (s *pageStream) change(f *object.PageFrame) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.commits, adminTimeout)
	defer cancel()
	r, err := s.a.server.objects.WritePages(ctx, f.Bucket, f.Key, &f.Write)
	if err != nil {
		return nil, err
	}
	frame := object.BeginPageFrame(nil, object.FrameWritten, f.ID)
	for _, n := range [...]uint64{uint64(r.LSN), r.Size, uint64(r.PageBytes)} {
		frame = binary.AppendUvarint(frame, n)
	}
	for _, text := range [...]string{`"` + r.ETag.String() + `"`, r.File} {
		frame = append(binary.AppendUvarint(frame, uint64(len(text))), text...)
	}
	return object.EndPageFrame(frame, 0), nil
}

// write writes the answers as they come, those that are there at once together. After an error it only gives back
// what they hold.
func (s *pageStream) write() {
	w := bufio.NewWriterSize(s.conn, 64<<10)
	var failed error
	for a := range s.answers {
		if failed == nil {
			failed = s.writeOne(w, a.frame)
		}
		if failed != nil {
			_ = s.conn.Close() // the reader ends
		}
		if a.slot {
			s.room.Release(a.room)
			<-s.slots
		}
	}
}

func (s *pageStream) writeOne(w *bufio.Writer, frame []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(streamStall)); err != nil {
		return err
	}
	if _, err := w.Write(frame); err != nil {
		return err
	}
	if len(s.answers) > 0 {
		return nil
	}
	return w.Flush()
}
