package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"time"
)

// Job is work that outlasts its request.
type Job struct {
	ID     string     `json:"id"`
	Kind   string     `json:"kind"` // diff, detach
	Bucket string     `json:"bucket"`
	State  string     `json:"state"` // running, done, failed, cancelled
	Began  time.Time  `json:"began"`
	Ended  *time.Time `json:"ended,omitempty"`
	// Progress is how many entries were compared to differ, or records copied.
	Progress int64  `json:"progress"`
	Error    *Error `json:"error,omitempty"`
	// Diff is the end of a difference that is done; its entries are the result.
	Diff        *DiffEnd `json:"diff,omitempty"`
	ResultBytes int64    `json:"result_bytes,omitempty"`
}

type jobList struct {
	Jobs []Job `json:"jobs"`
}

// DiffJob begins a difference whose entries are kept as a result.
func (c *Client) DiffJob(ctx context.Context, r DiffRequest) (*Job, error) {
	return ask[Job](ctx, c, "POST", path("diff", "jobs"), nil, r)
}

// Detach begins to give a fork entries of its own for all that it inherits.
func (c *Client) Detach(ctx context.Context, fork string) (*Job, error) {
	return ask[Job](ctx, c, "POST", path("buckets", fork, "detach"), nil, nil)
}

// Jobs lists jobs, the newest first.
func (c *Client) Jobs(ctx context.Context) ([]Job, error) {
	list, err := ask[jobList](ctx, c, "GET", path("jobs"), nil, nil)
	if err != nil {
		return nil, err
	}
	return list.Jobs, nil
}

// Job describes a job.
func (c *Client) Job(ctx context.Context, id string) (*Job, error) {
	return ask[Job](ctx, c, "GET", path("jobs", id), nil, nil)
}

// StopJob cancels a job that runs, and forgets one that has ended.
func (c *Client) StopJob(ctx context.Context, id string) error {
	_, err := ask[struct{}](ctx, c, "DELETE", path("jobs", id), nil, nil)
	return err
}

// WaitJob looks at a job every so often until it has ended, and tells watch of it each time. Error: that of a job
// that failed or was cancelled, besides those of ctx and of asking.
func (c *Client) WaitJob(ctx context.Context, id string, every time.Duration, watch func(*Job)) (*Job, error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		j, err := c.Job(ctx, id)
		if err != nil {
			return nil, err
		}
		if watch != nil {
			watch(j)
		}
		switch {
		case j.State == "failed" && j.Error != nil:
			return j, j.Error
		case j.State == "cancelled":
			return j, errors.New("the job was cancelled")
		case j.State != "running":
			return j, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return j, ctx.Err()
		}
	}
}

// JobResult returns the entries of a difference that was a job.
func (c *Client) JobResult(ctx context.Context, id string) iter.Seq2[DiffChange, error] {
	return func(yield func(DiffChange, error) bool) {
		res, err := c.open(ctx, "GET", path("jobs", id, "result"), nil, nil, linesType)
		if err != nil {
			yield(DiffChange{}, err)
			return
		}
		defer res.Body.Close()
		for lines := json.NewDecoder(res.Body); ; {
			var d DiffChange
			if err := lines.Decode(&d); err == io.EOF {
				return
			} else if err != nil {
				yield(d, err)
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}
