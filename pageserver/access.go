package pageserver

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"stemma/pageserver/object"
	"stemma/pageserver/s3api"
)

// AccessLogOptions say how the server records requests in a file of its own.
type AccessLogOptions struct {
	// Open opens the file to append to, at the start and when it is to be opened
	// again; nil: there is none.
	Open func() (AccessFile, error)
	JSON bool // S3's form otherwise
}

// AccessFile is an open access log.
type AccessFile interface {
	io.WriteCloser
	Sync() error
}

// accessQueue bounds the lines that wait to be written; what comes beyond is
// counted and dropped.
const accessQueue = 8192

// access records requests: in the server's own file, and for buckets that want it. It
// never blocks a request. Safe for concurrent use.
type access struct {
	o       AccessLogOptions
	buckets *bucketLogs

	lines   chan []byte
	again   chan struct{} // asks for the file to be opened again
	dropped atomic.Int64
	failed  atomic.Int64
	warn    func(err error)

	closeOnce sync.Once
	stop      chan struct{}
	done      chan struct{}
}

// newAccess opens the file, if there is one.
func newAccess(o AccessLogOptions, buckets *bucketLogs, warn func(error)) (*access, error) {
	a := &access{o: o, buckets: buckets, warn: warn, again: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	if o.Open == nil {
		close(a.done)
		return a, nil
	}
	f, err := o.Open()
	if err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	a.lines = make(chan []byte, accessQueue)
	go a.write(f)
	return a, nil
}

// All implements s3api.Access.
func (a *access) All() bool { return a.lines != nil }

// Record implements s3api.Access.
func (a *access) Record(rec *s3api.AccessRecord, to *object.LoggingEnabled) {
	if to != nil {
		a.buckets.record(rec, to)
	}
	if a.lines == nil {
		return
	}
	var line []byte
	if a.o.JSON {
		line = rec.AppendJSON(nil)
	} else {
		line = rec.AppendS3(nil)
	}
	select {
	case a.lines <- line:
	default:
		a.dropped.Add(1)
	}
}

// reopen has the file opened again, after it was moved away.
func (a *access) reopen() {
	select {
	case a.again <- struct{}{}:
	default: // it will be anyway
	}
}

// write writes what is recorded until close.
func (a *access) write(f AccessFile) {
	defer close(a.done)
	buf := make([]byte, 0, 64<<10)
	flush := func() {
		if len(buf) == 0 {
			return
		}
		if _, err := f.Write(buf); err != nil {
			if a.failed.Add(1) == 1 {
				a.warn(fmt.Errorf("write access log: %w", err))
			}
		}
		buf = buf[:0]
	}
	add := func(line []byte) {
		if len(buf)+len(line) > cap(buf) {
			flush()
		}
		buf = append(buf, line...)
	}
	for {
		select {
		case line := <-a.lines:
			add(line)
			for n := len(a.lines); n > 0; n-- {
				add(<-a.lines)
			}
			flush()
		case <-a.again:
			if next, err := a.o.Open(); err != nil {
				a.warn(err) // the old file goes on
			} else {
				if err := f.Close(); err != nil {
					a.warn(err)
				}
				f = next
			}
		case <-a.stop:
			for n := len(a.lines); n > 0; n-- {
				add(<-a.lines)
			}
			flush()
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				a.warn(err)
			}
			return
		}
	}
}

// close writes what is there, and ends. Nobody records any more.
func (a *access) close() {
	a.closeOnce.Do(func() { close(a.stop) })
	<-a.done
}

// logsEvery is how often the records of buckets are delivered.
const logsEvery = 5 * time.Minute
