package pageserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"stemma/pageserver/auth"
)

// ended waits for a job.
func ended(t *testing.T, s *Server, id string) (j Job) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		j = Job{}
		if mustAsk(t, s, "GET", "/v1/jobs/"+id, "", &j); j.State != jobRunning {
			return j
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %+v", j)
		}
	}
}

// A difference as a job has a result of all entries, which goes with the job; others do not see it.
func TestDiffJob(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, nil)
	mustAsk(t, s, "POST", "/v1/buckets/data/forks", `{"name":"dev"}`, nil)
	const n = 2500
	for i := range n {
		putObject(t, s, "dev", fmt.Sprintf("k%04d", i), "x")
	}
	var j Job
	mustAsk(t, s, "POST", "/v1/diff/jobs", `{"to":"dev"}`, &j)
	if j = ended(t, s, j.ID); j.State != jobDone || j.Progress != n || j.Diff == nil || j.Diff.Summary.Added != n || j.ResultBytes == 0 {
		t.Fatalf("%+v", j)
	}
	res := askLines(t, s, "GET", "/v1/jobs/"+j.ID+"/result", "")
	defer res.Body.Close()
	lines, count := bufio.NewScanner(res.Body), 0
	for ; lines.Scan(); count++ {
		if want := fmt.Sprintf(`"key":"k%04d"`, count); !strings.Contains(lines.Text(), want) {
			t.Fatalf("line %d: %s", count, lines.Text())
		}
	}
	if count != n {
		t.Errorf("%d lines", count)
	}
	stranger := made(t, s, "bob", "")
	for _, c := range []struct{ method, path string }{{"GET", j.ID}, {"GET", j.ID + "/result"}, {"DELETE", j.ID}, {"GET", "none"}} {
		if status, e := ask(t, s, stranger, c.method, "/v1/jobs/"+c.path, "", nil); status != 404 || e.Code != "NoSuchJob" {
			t.Errorf("%s %s by bob: %d %+v", c.method, c.path, status, e)
		}
	}
	var list JobsAnswer
	if status, _ := ask(t, s, stranger, "GET", "/v1/jobs", "", &list); status != 200 || len(list.Jobs) != 0 {
		t.Errorf("bob sees %+v", list)
	}
	var forks ForkAnswer
	mustAsk(t, s, "POST", "/v1/buckets/data/forks", `{"name":"agent","key":{}}`, &forks)
	if status, _ := ask(t, s, auth.Key{ID: forks.Forks[0].Key.ID, Secret: forks.Forks[0].Key.SecretKey}, "GET", "/v1/jobs", "", &list); status != 200 || len(list.Jobs) != 0 {
		t.Errorf("an agent sees %+v", list)
	}
	mustAsk(t, s, "DELETE", "/v1/jobs/"+j.ID, "", nil)
	if status, _ := ask(t, s, rootKey, "GET", "/v1/jobs/"+j.ID, "", nil); status != 404 {
		t.Errorf("a job that was forgotten: %d", status)
	}
	if files, err := s.o.FS.List(s.book.dir); err != nil || len(files) != 0 {
		t.Errorf("results are left: %v, %v", files, err)
	}
	mustAsk(t, s, "POST", "/v1/diff/jobs", `{"from":"data","to":"none"}`, &j)
	if j = ended(t, s, j.ID); j.State != jobFailed || j.Error == nil || j.Error.Code != "NoSuchBucket" {
		t.Errorf("%+v", j)
	}
}

// Jobs can be cancelled, are bounded in number and age, and what is read of a result stays until it was read.
func TestJobBook(t *testing.T) {
	s := started(t)
	b, now := s.book, time.Now()
	b.now = func() time.Time { return now }
	stop := make(chan struct{})
	wait := func(_ *longJob, cancelled <-chan struct{}) error {
		select {
		case <-cancelled:
		case <-stop:
		}
		return nil
	}
	var running []*longJob
	for range maxJobsRunning {
		j, err := b.begin(t.Context(), "test", "b", "me", waiting(wait))
		if err != nil {
			t.Fatal(err)
		}
		running = append(running, j)
	}
	if _, err := b.begin(t.Context(), "test", "b", "me", waiting(wait)); err != errManyJobs {
		t.Errorf("one too many: %v", err)
	}
	if err := b.stop(running[0].id, "me", false); err != nil {
		t.Fatal(err)
	}
	for b.one(running[0].id, "me", false, func(j *longJob) { now = now.Add(time.Millisecond) }) == nil && stateOf(b, running[0]) == jobRunning {
		time.Sleep(time.Millisecond)
	}
	if got := stateOf(b, running[0]); got != jobCancelled {
		t.Errorf("a job that was cancelled is %s", got)
	}
	close(stop)
	for _, j := range running[1:] {
		for stateOf(b, j) == jobRunning {
			time.Sleep(time.Millisecond)
		}
	}
	j, err := b.begin(t.Context(), "test", "b", "me", resulting(b, "a line"))
	if err != nil {
		t.Fatal(err)
	}
	for stateOf(b, j) == jobRunning {
		time.Sleep(time.Millisecond)
	}
	f, err := b.open(j.id, "me", false)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(jobKeptFor + time.Second)
	if err := b.one(j.id, "me", true, func(*longJob) {}); err != errNoSuchJob {
		t.Errorf("an old job: %v", err)
	}
	if p, err := io.ReadAll(f); err != nil || string(p) != "\"a line\"\n" {
		t.Errorf("%q, %v", p, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if files, err := s.o.FS.List(b.dir); err != nil || len(files) != 0 {
		t.Errorf("results are left: %v, %v", files, err)
	}
}

// A fork that was detached stays whole when what it was forked from is deleted.
func TestDetach(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, nil)
	putObject(t, s, "data", "a", "inherited")
	mustAsk(t, s, "POST", "/v1/buckets/data/forks", `{"name":"dev"}`, nil)
	putObject(t, s, "dev", "b", "own")
	var j Job
	mustAsk(t, s, "POST", "/v1/buckets/dev/detach", "", &j)
	if j = ended(t, s, j.ID); j.State != jobDone || j.Kind != "detach" || j.Bucket != "dev" {
		t.Fatalf("%+v", j)
	}
	mustAsk(t, s, "DELETE", "/v1/buckets/data?force=true&undo=0s", "", nil)
	for range 3 {
		if _, err := s.store.CollectFull(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var l ListAnswer
	if mustAsk(t, s, "GET", "/v1/buckets/dev/list", "", &l); len(l.Objects) != 2 || l.Objects[0].Key != "a" {
		t.Errorf("%+v", l)
	}
	if u, err := s.store.Usage(t.Context()); err != nil || len(u.Timelines) != 1 {
		t.Errorf("%d timelines are left, %v", len(u.Timelines), err)
	}
	if status, _ := askAny(t, s, rootKey, "GET", "/v1/buckets/dev/objects/a", ""); status != 200 {
		t.Errorf("what was inherited: %d", status)
	}
	if status, e := ask(t, s, rootKey, "POST", "/v1/buckets/none/detach", "", nil); status != 404 {
		t.Errorf("%d %+v", status, e)
	}
}

func stateOf(b *jobBook, j *longJob) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return j.state
}

// waiting is a job that ends when it is told to, or with its context.
func waiting(wait func(*longJob, <-chan struct{}) error) work {
	return func(ctx context.Context, j *longJob, progress func(int64)) (any, error) {
		progress(1)
		if err := wait(j, ctx.Done()); err != nil {
			return nil, err
		}
		return nil, ctx.Err()
	}
}

// resulting is a job with a result of one line.
func resulting(b *jobBook, v string) work {
	return func(_ context.Context, j *longJob, _ func(int64)) (any, error) {
		return nil, b.write(j, func(line func(any) error) error { return line(v) })
	}
}
