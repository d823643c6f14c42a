package pageserver

import (
	"bufio"
	"context"
	"encoding/json"
	"time"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/object"
)

// jobRoutes are the routes of what outlasts a request.
var jobRoutes = []adminRoute{
	{"POST", []string{"diff", "jobs"}, nil, false, (*admin).diffJob},
	{"POST", []string{"buckets", "{}", "detach"}, nil, false, (*admin).detach},
	{"GET", []string{"jobs"}, nil, false, (*admin).listJobs},
	{"GET", []string{"jobs", "{}"}, nil, false, (*admin).job},
	{"GET", []string{"jobs", "{}", "result"}, nil, false, (*admin).jobResult},
	{"DELETE", []string{"jobs", "{}"}, nil, false, (*admin).stopJob},
}

func init() {
	adminRoutes = append(adminRoutes, jobRoutes...)
	for _, e := range []struct {
		err    error
		code   string
		status int
	}{
		{errNoSuchJob, "NoSuchJob", fasthttp.StatusNotFound}, {errManyJobs, "SlowDown", fasthttp.StatusServiceUnavailable},
		{errLongResult, "RequestTooLarge", fasthttp.StatusRequestEntityTooLarge}, {errNoResult, "NoResult", fasthttp.StatusConflict},
	} {
		adminCodes[e.code] = e.status
		adminErrors = append(adminErrors, struct {
			err  error
			code string
		}{e.err, e.code})
	}
}

// Job is work that outlasts its request.
type Job struct {
	ID     string     `json:"id"`
	Kind   string     `json:"kind"` // diff, detach
	Bucket string     `json:"bucket"`
	State  string     `json:"state"` // running, done, failed, cancelled
	Began  time.Time  `json:"began"`
	Ended  *time.Time `json:"ended,omitempty"`
	// Progress is how many entries were compared to differ, or records copied.
	Progress int64       `json:"progress"`
	Error    *AdminError `json:"error,omitempty"`
	// Diff is the end of a difference that is done; its entries are the result.
	Diff        *DiffEnd `json:"diff,omitempty"`
	ResultBytes int64    `json:"result_bytes,omitempty"`
}

// JobsAnswer are the jobs of the caller, of all for the operator, the newest first.
type JobsAnswer struct {
	Jobs []Job `json:"jobs"`
}

func (a *admin) jobAnswer(j *longJob) Job {
	out := Job{ID: j.id, Kind: j.kind, Bucket: j.bucket, State: j.state, Began: j.began.UTC(), Progress: j.done, ResultBytes: j.bytes}
	if !j.ended.IsZero() {
		ended := j.ended.UTC()
		out.Ended = &ended
	}
	if j.state == jobFailed {
		out.Error = a.worded(wordedMerge(j.err))
	}
	out.Diff, _ = j.summary.(*DiffEnd)
	return out
}

// started answers a job that was begun.
func (a *admin) started(r *adminRequest, j *longJob) (any, error) {
	var out Job
	err := a.server.book.one(j.id, r.asker(), r.root, func(j *longJob) { out = a.jobAnswer(j) })
	return out, err
}

// lasting returns the context of a job: of the server, with the commits being the caller's.
func (a *admin) lasting(r *adminRequest) (context.Context, error) {
	return r.judge.Base(a.server.jobs.ctx)
}

// diffJob serves POST /v1/diff/jobs: a difference whose entries are written to a result.
func (a *admin) diffJob(_ context.Context, r *adminRequest, _ string) (any, error) {
	var in DiffRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.Token != "" || in.Max != 0 || in.Summary {
		return nil, invalid("token, max and summary are not for a job: it has all entries, and a summary")
	}
	d, err := in.points(a)
	if err != nil {
		return nil, err
	}
	ctx, err := a.lasting(r)
	if err != nil {
		return nil, err
	}
	j, err := a.server.book.begin(ctx, "diff", in.To, r.asker(), func(ctx context.Context, j *longJob, progress func(int64)) (any, error) {
		end := &DiffEnd{Summary: &DiffSummary{}}
		return end, a.server.book.write(j, func(line func(any) error) error { return a.diffInto(ctx, d, end, line, progress) })
	})
	if err != nil {
		return nil, err
	}
	return a.started(r, j)
}

// diffInto writes all entries of a difference, page by page.
func (a *admin) diffInto(ctx context.Context, d *object.DiffInput, end *DiffEnd, line func(any) error, progress func(int64)) error {
	for n := int64(0); ; {
		page, err := a.server.objects.Diff(ctx, d)
		if err != nil {
			return err
		}
		end.FromLSN, end.ToLSN = page.FromLSN, page.ToLSN
		end.Summary.add(&page.Summary)
		for _, c := range diffChanges(page.Entries) {
			if err := line(&c); err != nil {
				return err
			}
		}
		n += int64(len(page.Entries))
		progress(n)
		if d.Token = page.NextToken; d.Token == "" {
			return ctx.Err()
		}
	}
}

// detach serves POST /v1/buckets/{name}/detach: a fork gets entries of its own for all that it inherits.
func (a *admin) detach(_ context.Context, r *adminRequest, name string) (any, error) {
	if len(r.body) > 0 {
		return nil, &AdminError{Code: "BadRequest", Message: "no body is expected"}
	}
	if _, err := a.server.objects.Bucket(name, 0); err != nil {
		return nil, err
	}
	j, err := a.server.book.begin(a.server.jobs.ctx, "detach", name, r.asker(), func(ctx context.Context, _ *longJob, progress func(int64)) (any, error) {
		return nil, a.server.store.DetachWatched(ctx, name, progress)
	})
	if err != nil {
		return nil, err
	}
	return a.started(r, j)
}

// asker returns whose jobs the caller's are: those of its user, or of its key when that is held to buckets or is of a
// session.
func (r *adminRequest) asker() string {
	if r.caller.Scope != nil || r.caller.Session != "" {
		return "key " + r.key
	}
	return r.caller.Unique
}

// oversees reports whether the caller may know of the jobs of others.
func (r *adminRequest) oversees() bool { return r.root || r.judge.Administers() }

// listJobs serves GET /v1/jobs.
func (a *admin) listJobs(_ context.Context, r *adminRequest, _ string) (any, error) {
	out := &JobsAnswer{Jobs: []Job{}}
	a.server.book.each(r.asker(), r.oversees(), func(j *longJob) { out.Jobs = append(out.Jobs, a.jobAnswer(j)) })
	return out, nil
}

// job serves GET /v1/jobs/{id}.
func (a *admin) job(_ context.Context, r *adminRequest, id string) (any, error) {
	var out Job
	err := a.server.book.one(id, r.asker(), r.oversees(), func(j *longJob) { out = a.jobAnswer(j) })
	return out, err
}

// stopJob serves DELETE /v1/jobs/{id}: one that runs is cancelled, one that has ended is forgotten.
func (a *admin) stopJob(_ context.Context, r *adminRequest, id string) (any, error) {
	return &Done{}, a.server.book.stop(id, r.asker(), r.oversees())
}

// jobResult serves GET /v1/jobs/{id}/result, line by line.
func (a *admin) jobResult(_ context.Context, r *adminRequest, id string) (any, error) {
	f, err := a.server.book.open(id, r.asker(), r.oversees())
	if err != nil {
		return nil, err
	}
	return &streamed{refused: f.Close, run: func(_ context.Context, line func(any) error) {
		defer f.Close()
		lines := bufio.NewReaderSize(f, 64<<10)
		for {
			p, err := lines.ReadBytes('\n')
			if err != nil || line(json.RawMessage(p)) != nil {
				return
			}
		}
	}}, nil
}
