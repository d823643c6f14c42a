package pageserver

import (
	"context"
	"sync"
)

// jobs are what works on the store besides S3 requests: the store must outlive
// them. Safe for concurrent use.
type jobs struct {
	ctx    context.Context // of all jobs
	cancel context.CancelFunc
	mu     struct {
		sync.Mutex
		closed bool
	}
	running sync.WaitGroup
}

func newJobs() *jobs {
	j := &jobs{}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	return j
}

// begin admits a job, unless close was called. Who got true calls end.
func (j *jobs) begin() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.closed {
		return false
	}
	j.running.Add(1)
	return true
}

func (j *jobs) end() { j.running.Done() }

// close ends the context of the jobs and waits for them. It may be called twice.
func (j *jobs) close() {
	j.mu.Lock()
	j.mu.closed = true
	j.mu.Unlock()
	j.cancel()
	j.running.Wait()
}
