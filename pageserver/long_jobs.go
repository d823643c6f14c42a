package pageserver

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal/storefs"
)

// Bounds of jobs. What has ended is forgotten, its result with it, once it is too old or there are too many.
const (
	maxJobsRunning = 4
	maxJobsKept    = 64
	jobKeptFor     = 24 * time.Hour
	// maxJobResult bounds the bytes of one result, maxJobResults those of all.
	maxJobResult  = 1 << 30
	maxJobResults = 4 << 30
)

// jobsDir is where results lie, below the data directory. What lies there when the server starts is removed.
const jobsDir = "jobs"

// States of a job.
const (
	jobRunning   = "running"
	jobDone      = "done"
	jobFailed    = "failed"
	jobCancelled = "cancelled"
)

var (
	errNoSuchJob  = errors.New("no such job")
	errManyJobs   = errors.New("as many jobs run as may at once")
	errLongResult = errors.New("the result is longer than is kept; ask for less of it")
	errNoResult   = errors.New("the job has no result, or not yet")
)

// longJob is one job. Its fields below mu belong to the book.
type longJob struct {
	id      string
	kind    string
	bucket  string
	owner   string // who began it
	began   time.Time
	cancel  context.CancelFunc
	summary any // of a job that is done

	ended  time.Time // zero: it runs
	state  string
	done   int64 // how much it has done, in what it counts
	err    error
	result string // path; empty: none
	bytes  int64  // of the result
	reads  int    // who reads the result
	gone   bool   // it is forgotten: the last reader removes the result
}

// jobBook runs jobs that outlast their requests, and keeps what became of them, in memory: a restart forgets them.
// Safe for concurrent use.
type jobBook struct {
	jobs *jobs
	fs   vfs.FS
	dir  string
	now  func() time.Time
	warn func(error)

	mu   sync.Mutex
	last int
	list []*longJob // in the order of their beginning
}

// newJobBook removes what a former run has left.
func newJobBook(j *jobs, fs vfs.FS, dir string, now func() time.Time, warn func(error)) (*jobBook, error) {
	b := &jobBook{jobs: j, fs: fs, dir: fs.PathJoin(dir, jobsDir), now: now, warn: warn}
	if err := fs.RemoveAll(b.dir); err != nil {
		return nil, fmt.Errorf("remove results of jobs: %w", err)
	}
	return b, nil
}

// work is what a job does. It tells progress how much it has done so far.
type work func(ctx context.Context, j *longJob, progress func(done int64)) (summary any, err error)

// begin begins a job for a caller. ctx is that of the job, without an end of its own. Errors: errManyJobs.
func (b *jobBook) begin(ctx context.Context, kind, bucket string, owner string, do work) (*longJob, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetLocked()
	running := 0
	for _, j := range b.list {
		if j.ended.IsZero() {
			running++
		}
	}
	if running >= maxJobsRunning {
		return nil, errManyJobs
	}
	if !b.jobs.begin() {
		return nil, context.Canceled
	}
	b.last++
	j := &longJob{id: fmt.Sprintf("%x-%d", b.now().UnixNano(), b.last), kind: kind, bucket: bucket, owner: owner, began: b.now(), state: jobRunning}
	ctx, j.cancel = context.WithCancel(ctx)
	b.list = append(b.list, j)
	go func() {
		defer b.jobs.end()
		defer j.cancel()
		summary, err := do(ctx, j, func(done int64) {
			b.mu.Lock()
			j.done = done
			b.mu.Unlock()
		})
		b.end(ctx, j, summary, err)
	}()
	return j, nil
}

func (b *jobBook) end(ctx context.Context, j *longJob, summary any, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j.ended, j.summary, j.err, j.state = b.now(), summary, err, jobDone
	switch {
	case err != nil && ctx.Err() != nil:
		j.state = jobCancelled
	case err != nil:
		j.state = jobFailed
	}
	if err != nil {
		b.dropResultLocked(j)
	}
	b.forgetLocked()
}

// forgetLocked forgets jobs that have ended and are too old, or too many, the oldest first.
func (b *jobBook) forgetLocked() {
	var bytes int64
	ended := 0
	for _, j := range b.list {
		if bytes += j.bytes; !j.ended.IsZero() {
			ended++
		}
	}
	old := b.now().Add(-jobKeptFor)
	b.list = slices.DeleteFunc(b.list, func(j *longJob) bool {
		if j.ended.IsZero() || ended <= maxJobsKept && bytes <= maxJobResults && j.ended.After(old) {
			return false
		}
		ended, bytes = ended-1, bytes-j.bytes
		b.forgetOneLocked(j)
		return true
	})
}

func (b *jobBook) forgetOneLocked(j *longJob) {
	if j.gone = true; j.reads == 0 {
		b.dropResultLocked(j)
	}
}

func (b *jobBook) dropResultLocked(j *longJob) {
	if j.result == "" {
		return
	}
	if err := b.fs.Remove(j.result); err != nil {
		b.warn(fmt.Errorf("remove the result of job %s: %w", j.id, err))
	}
	j.result, j.bytes = "", 0
}

// findLocked returns a job that a caller may know of: its own, or any if it administers. Errors: errNoSuchJob.
func (b *jobBook) findLocked(id string, owner string, all bool) (*longJob, error) {
	b.forgetLocked()
	for _, j := range b.list {
		if j.id == id && (all || j.owner == owner) {
			return j, nil
		}
	}
	return nil, errNoSuchJob
}

// stop cancels a job that runs, and forgets one that has ended. Errors: errNoSuchJob.
func (b *jobBook) stop(id string, owner string, all bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, err := b.findLocked(id, owner, all)
	switch {
	case err != nil:
		return err
	case j.ended.IsZero():
		j.cancel()
	default:
		b.list = slices.DeleteFunc(b.list, func(o *longJob) bool { return o == j })
		b.forgetOneLocked(j)
	}
	return nil
}

// write has fill write lines of JSON to the result of j, and returns once they are in a file. A crash may lose them:
// the job is forgotten then, too.
func (b *jobBook) write(j *longJob, fill func(line func(any) error) error) (err error) {
	if err := b.fs.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	path := b.fs.PathJoin(b.dir, j.id+".ndjson")
	f, err := b.fs.Create(path, storefs.User)
	if err != nil {
		return err
	}
	b.mu.Lock()
	j.result = path
	b.mu.Unlock()
	out, size := bufio.NewWriterSize(f, 64<<10), int64(0)
	err = fill(func(v any) error {
		p, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if size += int64(len(p)) + 1; size > maxJobResult {
			return errLongResult
		}
		_, err = out.Write(append(p, '\n'))
		return err
	})
	err = cmp.Or(err, out.Flush())
	if closed := f.Close(); err == nil {
		err = closed
	}
	b.mu.Lock()
	j.bytes = size
	b.mu.Unlock()
	return err
}

// open opens the result of a job that is done; the reader must be closed. Errors: errNoSuchJob, errNoResult.
func (b *jobBook) open(id string, owner string, all bool) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, err := b.findLocked(id, owner, all)
	if err != nil {
		return nil, err
	}
	if j.state != jobDone || j.result == "" {
		return nil, errNoResult
	}
	f, err := b.fs.Open(j.result)
	if err != nil {
		return nil, err
	}
	j.reads++
	return &jobResult{File: f, book: b, job: j}, nil
}

// jobResult is an open result.
type jobResult struct {
	vfs.File
	book *jobBook
	job  *longJob
}

func (r *jobResult) Close() error {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	err := r.File.Close()
	if r.job.reads--; r.job.gone && r.job.reads == 0 {
		r.book.dropResultLocked(r.job)
	}
	return err
}

// each visits the jobs that a caller may know of, the newest first.
func (b *jobBook) each(owner string, all bool, visit func(*longJob)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetLocked()
	for _, j := range slices.Backward(b.list) {
		if all || j.owner == owner {
			visit(j)
		}
	}
}

// one visits one job. Errors: errNoSuchJob.
func (b *jobBook) one(id string, owner string, all bool, visit func(*longJob)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, err := b.findLocked(id, owner, all)
	if err == nil {
		visit(j)
	}
	return err
}
