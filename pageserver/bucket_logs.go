package pageserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/pageserver/s3api"
	"stemma/timeline"
)

// Bounds of the records that wait for delivery.
const (
	maxLogBytes    = 16 << 20 // of all buckets; what comes beyond is counted and dropped
	logObjectBytes = 1 << 20  // of one bucket, from which it is delivered at once
	logOverhead    = 256      // what a bucket's buffer costs beside its lines
)

// bucketLogs gathers the records of requests for the buckets that want them, and
// delivers them as objects. Like S3 it promises no more than an effort: what was
// not delivered when the process dies is lost. Safe for concurrent use.
type bucketLogs struct {
	objects *object.Service
	log     *slog.Logger
	region  string
	now     func() time.Time
	every   time.Duration // how long a record waits at most

	dropped, failed, delivered atomic.Int64
	wake                       chan struct{}

	mu struct {
		sync.Mutex
		bytes   int
		buffers map[logTarget]*logBuffer
	}
}

// logBuffer is what waits for delivery to one place.
type logBuffer struct {
	bytes.Buffer
	due time.Time
	acl object.ACL // of the newest record
}

// logTarget is where records go, and in what names.
type logTarget struct {
	source, bucket, prefix string
	owner                  string // canonical id, of source
	partitioned            string // the day of the keys by event or delivery; empty: not partitioned
}

func newBucketLogs(objects *object.Service, log *slog.Logger, region string, now func() time.Time, every time.Duration) *bucketLogs {
	l := &bucketLogs{objects: objects, log: log, region: region, now: now, every: every, wake: make(chan struct{}, 1)}
	l.mu.buffers = make(map[logTarget]*logBuffer)
	return l
}

const byDelivery = "delivery"

// record takes a record to where its bucket wants it.
func (l *bucketLogs) record(rec *s3api.AccessRecord, to *object.LoggingEnabled) {
	t := logTarget{source: rec.Bucket, owner: rec.Owner, bucket: *to.TargetBucket, prefix: *to.TargetPrefix}
	if f := to.KeyFormat; f != nil && f.Partitioned != nil {
		if t.partitioned = byDelivery; *f.Partitioned.DateSource == "EventTime" {
			t.partitioned = rec.Time.UTC().Format("2006/01/02")
		}
	}
	line := rec.AppendS3(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.mu.buffers[t]
	cost := len(line)
	if b == nil {
		cost += logOverhead
	}
	if l.mu.bytes+cost > maxLogBytes {
		l.dropped.Add(1)
		return
	}
	if b == nil {
		b = &logBuffer{due: l.now().Add(l.every)}
		l.mu.buffers[t] = b
	}
	l.mu.bytes += cost
	isNew := b.Len() == 0
	b.Write(line)
	b.acl = to.ACL
	if isNew || b.Len() >= logObjectBytes {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// take returns a buffer that is due or large, or any, which is no longer one of l's; nil if there is none.
func (l *bucketLogs) take(any bool) (logTarget, *logBuffer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t, b := range l.mu.buffers {
		if any || b.Len() >= logObjectBytes || !l.now().Before(b.due) {
			delete(l.mu.buffers, t)
			l.mu.bytes -= b.Len() + logOverhead
			return t, b
		}
	}
	return logTarget{}, nil
}

// wait returns how long it is until something is due.
func (l *bucketLogs) wait() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, wait := l.now(), l.every
	for _, b := range l.mu.buffers {
		wait = min(wait, b.due.Sub(now))
	}
	return max(wait, 0)
}

// deliver writes the records that are due, or all. What cannot be delivered is dropped.
func (l *bucketLogs) deliver(ctx context.Context, all bool) {
	for ctx.Err() == nil {
		t, b := l.take(all)
		if b == nil {
			return
		}
		key, p := l.key(&t), b.Bytes()
		in := object.PutInput{Body: bytes.NewReader(p), Size: int64(len(p)), Headers: object.Headers{ContentType: "text/plain"}}
		var err error
		if in.Access, err = s3api.MayDeliverLogs(ctx, l.objects, t.source, t.owner, t.bucket, key, b.acl, l.now()); err == nil {
			_, err = l.objects.Put(ctx, t.bucket, key, &in)
		}
		switch {
		case err == nil:
			l.delivered.Add(1)
			continue
		case errors.Is(err, timeline.ErrNoSuchBucket):
			l.log.Info("records of requests not delivered: the target bucket is gone", "bucket", t.source, "target", t.bucket)
		default:
			l.log.Warn("records of requests not delivered", "bucket", t.source, "target", t.bucket, "err", err)
		}
		l.failed.Add(1)
		l.dropped.Add(int64(bytes.Count(p, []byte("\n"))))
	}
}

// key returns the name of a new object of records.
func (l *bucketLogs) key(t *logTarget) string {
	var unique [8]byte
	rand.Read(unique[:]) // never fails
	now := l.now().UTC()
	key := t.prefix
	if t.partitioned != "" {
		day := t.partitioned
		if day == byDelivery {
			day = now.Format("2006/01/02")
		}
		key += fmt.Sprintf("%s/%s/%s/%s/", auth.AccountNumber(t.owner), l.region, t.source, day)
	}
	return key + now.Format("2006-01-02-15-04-05") + "-" + strings.ToUpper(hex.EncodeToString(unique[:]))
}

// deliverLogs is the worker that delivers records, until the jobs end; what is there
// then it still delivers.
func (s *Server) deliverLogs() {
	defer s.jobs.end()
	due := time.NewTimer(s.logs.every)
	defer due.Stop()
	for {
		select {
		case <-due.C:
		case <-s.logs.wake: // a record of a bucket that had none, or many
		case <-s.jobs.ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(s.jobs.ctx), lastDelivery)
			defer cancel()
			s.logs.deliver(ctx, true)
			return
		}
		s.logs.deliver(s.jobs.ctx, false)
		due.Reset(s.logs.wait())
	}
}

// lastDelivery bounds how long a shutdown waits for the records of buckets.
const lastDelivery = 10 * time.Second
