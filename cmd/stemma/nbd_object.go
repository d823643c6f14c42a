package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"stemma/client"
)

// nbdObject is an object at the server, over a stream of pages that is opened anew when it has ended. While the server is away or
// overloaded, requests are repeated. Safe for concurrent use.
type nbdObject struct {
	c           *client.Client
	bucket, key string
	patience    time.Duration

	mu     sync.Mutex
	stream *client.PageStream
}

// nbdTryTimeout is how long one try of a request may take. The server gives up before.
const nbdTryTimeout = time.Minute

// read reads n bytes from off on, of the tip.
func (o *nbdObject) read(ctx context.Context, off uint64, n int) ([]byte, error) {
	r, err := o.readOne(ctx, off, n)
	if err == nil && len(r.Data) != n {
		err = fmt.Errorf("%d bytes at %d, want %d: the object was cut", len(r.Data), off, n)
	}
	return r.Data, err
}

// version returns the newest version of the object.
func (o *nbdObject) version(ctx context.Context) (client.LSN, error) {
	r, err := o.readOne(ctx, 0, 0)
	return r.LSN, err
}

func (o *nbdObject) readOne(ctx context.Context, off uint64, n int) (r client.PageReadResult, err error) {
	reads := []client.PageRead{{Key: o.key, Off: off, Len: uint64(n)}}
	err = o.request(ctx, func(ctx context.Context, s *client.PageStream) error {
		results, err := s.ReadPages(ctx, o.bucket, reads)
		if err == nil {
			r, err = results[0], results[0].Err
		}
		return err
	})
	return r, err
}

// write changes the object, in one commit, if it is of the version that o says. Of a try without an answer nobody knows whether it was
// carried out, or will be: PreconditionFailed can mean that it was.
func (o *nbdObject) write(ctx context.Context, ops []client.PageOp, opt client.PagesOptions) (w *client.PagesWritten, err error) {
	err = o.request(ctx, func(ctx context.Context, s *client.PageStream) (err error) {
		w, err = s.WritePages(ctx, o.bucket, o.key, ops, opt)
		return err
	})
	return w, err
}

// request carries out a request, again for as long as the patience lasts.
func (o *nbdObject) request(ctx context.Context, do func(context.Context, *client.PageStream) error) error {
	wait, until := 10*time.Millisecond, time.Now().Add(o.patience)
	for {
		err := o.try(ctx, do)
		if err == nil || !nbdPassing(err) || time.Now().Add(wait).After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Second)
	}
}

// nbdPassing reports whether a request may succeed later that failed so.
func nbdPassing(err error) bool {
	var e *client.Error
	return !errors.As(err, &e) || client.IsCode(err, "SlowDown", "ServiceUnavailable", "RequestTimeout")
}

func (o *nbdObject) try(ctx context.Context, do func(context.Context, *client.PageStream) error) error {
	s, err := o.open(ctx)
	if err != nil {
		return err
	}
	trying, cancel := context.WithTimeout(ctx, nbdTryTimeout)
	defer cancel()
	err = do(trying, s)
	switch {
	case trying.Err() != nil: // it does not answer
		_ = s.Close()
	case client.IsCode(err, "RequestTimeTooSkewed"): // it has ended, since it was signed long ago: another is signed anew
		err = errors.New(err.Error())
	}
	return err
}

// open returns the stream, a new one if it has ended.
func (o *nbdObject) open(ctx context.Context) (*client.PageStream, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stream != nil {
		select {
		case <-o.stream.Ended():
			_ = o.stream.Close() // waits for its goroutines
			o.stream = nil
		default:
			return o.stream, nil
		}
	}
	s, err := o.c.OpenPages(context.WithoutCancel(ctx))
	if err == nil {
		o.stream = s
	}
	return s, err
}

// close ends the stream.
func (o *nbdObject) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stream != nil {
		_ = o.stream.Close()
		o.stream = nil
	}
}
