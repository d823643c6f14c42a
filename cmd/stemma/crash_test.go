package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"stemma/internal/seeds"
	"stemma/wal"
)

// Shape of the crash test.
const (
	crashClients    = 8
	crashKeys       = 40  // per client
	crashMaxBuckets = 120 // per data directory
	crashEpoch      = 25  // rounds on one data directory
	crashSample     = 300 // older changes and bodies at the tip that are read back each round
)

// TestCrash kills the real server with SIGKILL at random moments under load
// from 8 clients, starts it again, and checks what it acknowledged. What it
// checks: every acknowledged change reads back byte-identical at its LSN; at
// the tip and at other LSNs each key holds what was acknowledged last, or an
// attempt that was under way when the server died, whole; listings say the same.
//
// STEMMA_CRASH_ROUNDS is the number of kills, STEMMA_CRASH_SEED makes the
// choice of operations and moments repeatable. The data lies in TMPDIR.
func TestCrash(t *testing.T) {
	rounds, seed := 3, seeds.For(t)
	if s := os.Getenv("STEMMA_CRASH_ROUNDS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatalf("STEMMA_CRASH_ROUNDS: %v", err)
		}
	}
	if s := os.Getenv("STEMMA_CRASH_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("STEMMA_CRASH_SEED: %v", err)
		}
	}
	t.Logf("seed %d, %d rounds", seed, rounds)
	var ready []time.Duration
	for first := 0; first < rounds && !t.Failed(); first += crashEpoch {
		n := min(crashEpoch, rounds-first)
		t.Run(fmt.Sprintf("rounds=%d-%d", first, first+n-1), func(t *testing.T) {
			h := newCrashTest(t, t.TempDir(), seed, first)
			h.run(n)
			ready = append(ready, h.ready...)
		})
	}
	slices.Sort(ready)
	if len(ready) > 0 {
		t.Logf("ready after kill -9, %d starts: median %v, p99 %v, max %v", len(ready),
			ready[len(ready)/2].Round(time.Millisecond), ready[(len(ready)*99-1)/100].Round(time.Millisecond), ready[len(ready)-1].Round(time.Millisecond))
	}
}

// TestCrashFindsLoss takes acknowledged changes away from the server, and wants
// the checks of TestCrash to say so.
func TestCrashFindsLoss(t *testing.T) {
	found := &recorder{TB: t}
	h := newCrashTest(found, t.TempDir(), 1, 0)
	h.p = start(t, h.dir, h.args...)
	h.createBase()
	h.load(0)
	older := t.TempDir()
	if err := os.CopyFS(older, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	h.p = start(t, h.dir, h.args...)
	h.load(1)
	if found.Failed() {
		t.Fatalf("errors before anything was lost: %q", found.errs)
	}
	h.p = start(t, older, h.args...)
	h.verify(0, true)
	if !found.Failed() {
		t.Errorf("%d changes were acknowledged, some were lost, and no check noticed", h.acked)
	}
	h.p.kill()
}

// recorder keeps the errors of a test instead of failing it.
type recorder struct {
	testing.TB
	mu   sync.Mutex
	errs []string
}

func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, fmt.Sprintf(format, args...))
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errs) > 0
}

// crashTest is one data directory and what is known of it.
type crashTest struct {
	t     testing.TB
	seed  uint64
	first int
	dir   string
	args  []string
	rng   *rand.Rand
	p     *process
	ready []time.Duration
	acked int

	mu      sync.Mutex
	buckets []*bucketModel
	forking []*bucketModel // forks and roots under way when the server was killed
	content uint64         // last seed given out

	// Of TestCrashSteps.
	options   testOptions                // of the server
	churn     bool                       // clients delete buckets
	tips      [crashClients]*bucketModel // ends of the clients' chains of forks
	noHistory bool                       // nothing but the tip can be read
	deleting  []*bucketModel             // deletions under way when the server was killed
	deleted   map[string]bool            // names that are gone
}

// newCrashTest begins a data directory. Every second one, and the first, has a
// small memlayer and log, so that kills meet flushes and compactions; the others
// have the defaults.
func newCrashTest(t testing.TB, dir string, seed uint64, first int) *crashTest {
	h := &crashTest{t: t, seed: seed, first: first, dir: dir, rng: rand.New(rand.NewPCG(seed, uint64(first)<<32))}
	if first/crashEpoch%2 == 0 {
		h.args = []string{"--memlayer-bytes=1MiB", "--wal-segment-bytes=8MiB", "--wal-flush-bytes=16MiB"}
	}
	t.Logf("server flags: %q", h.args)
	return h
}

// run is rounds of load and kill, and in the end a clean stop and a check of all.
func (h *crashTest) run(rounds int) {
	var checked wal.LSN
	for round := range rounds {
		h.p = start(h.t, h.dir, h.args...)
		h.ready = append(h.ready, h.p.ready)
		if round == 0 {
			h.createBase()
		} else {
			checked = h.verify(checked, false)
		}
		if h.t.Failed() {
			return
		}
		h.load(h.first + round)
		h.checkFiles()
		if h.rng.IntN(4) == 0 { // die while recovering, too
			p := spawn(h.t, h.dir, h.args...)
			time.Sleep(time.Duration(h.rng.Int64N(int64(150 * time.Millisecond))))
			p.kill()
		}
	}
	h.p = start(h.t, h.dir, h.args...)
	h.ready = append(h.ready, h.p.ready)
	h.verify(0, true)
	h.p.stop(h.t)
	h.checkFiles()
	h.p = start(h.t, h.dir, h.args...)
	h.verify(checked, false)
	h.p.stop(h.t)
	h.t.Logf("%d acknowledged changes, %d buckets", h.acked, len(h.buckets))
}

// checkFiles runs the offline check over the stopped store.
func (h *crashTest) checkFiles() {
	out, errOut, err := h.p.stemma(h.t.Context(), "tool", "check", h.dir)
	if err != nil {
		h.t.Errorf("stemma tool check: %v\n%s%s", err, out, errOut)
	}
}

func (h *crashTest) createBase() {
	out, err := h.p.client().CreateBucket(h.t.Context(), &s3.CreateBucketInput{Bucket: aws.String("base")})
	if err != nil {
		h.t.Fatal(err)
	}
	b := newBucketModel("base", nil)
	if b.born, err = lsnOf(out.ResultMetadata); err != nil {
		h.t.Fatal(err)
	}
	h.buckets = append(h.buckets, b)
}

// load runs the clients for a random time and kills the server under them.
func (h *crashTest) load(round int) {
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	var clients sync.WaitGroup
	counts := make([]int, crashClients)
	for i := range crashClients {
		c := &crashClient{h: h, id: i, s3: h.p.client(), rng: rand.New(rand.NewPCG(h.seed, uint64(round)<<8|uint64(i)))}
		clients.Go(func() {
			for ctx.Err() == nil {
				err := c.step(ctx)
				if isDead(err) {
					return
				}
				if err != nil {
					h.t.Errorf("client %d: %v", i, err)
					return
				}
				counts[i]++
			}
		})
	}
	after := 20*time.Millisecond + time.Duration(h.rng.Int64N(int64(1200*time.Millisecond)))
	select {
	case <-time.After(after):
	case <-h.p.exited:
		h.t.Errorf("the server ended by itself: %v\n%s", h.p.err, h.p.output())
	}
	h.p.kill()
	cancel()
	clients.Wait()
	h.p.checkLog(h.t)
	n := 0
	for _, c := range counts {
		n += c
	}
	h.acked += n
	h.t.Logf("round %d: ready in %v, killed after %v and %d operations", round, h.p.ready.Round(time.Millisecond), after.Round(time.Millisecond), n)
}

// isDead tells a request that got no whole answer from one that got an error.
func isDead(err error) bool {
	return err != nil && (statusOf(err) == 0 || errors.Is(err, io.ErrUnexpectedEOF))
}

// refused reports whether the server said that it did not do it, and may later.
func refused(err error) bool { return statusOf(err) == http.StatusServiceUnavailable }

// statusOf returns the status of the answer that err stands for, 0 for none.
func statusOf(err error) int {
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

// pick returns a bucket, the base more often than any other.
func (h *crashTest) pick(rng *rand.Rand) *bucketModel {
	h.mu.Lock()
	defer h.mu.Unlock()
	if rng.IntN(3) == 0 {
		return h.buckets[0]
	}
	return h.buckets[rng.IntN(len(h.buckets))]
}

// newContent returns content that no other object has.
func (h *crashTest) newContent(size int64) content {
	if size == 0 {
		return content{present: true}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.content++
	return content{present: true, seed: h.content, size: size}
}

// verify checks everything acknowledged above an LSN at its LSN, and the state
// at the tip. It first decides what the kill left open. With all, nothing is
// sampled. It returns an LSN at or above all that it checked.
func (h *crashTest) verify(above wal.LSN, all bool) wal.LSN {
	h.t.Helper()
	c := h.p.client()
	mark := h.mark(c)
	h.settleForks(c, mark)
	h.settleDeletions(c)
	for _, b := range h.buckets {
		for _, key := range b.undecided() {
			now, err := h.readBack(c, b, key, 0)
			if err != nil {
				h.t.Errorf("after the kill: %v", err)
			}
			b.settle(key, now, mark)
		}
	}
	var work []func(*s3.Client) error
	for _, b := range h.buckets {
		work = append(work, func(c *s3.Client) error { return h.checkListing(c, b, 0) })
		if h.noHistory {
			for _, key := range b.allKeys() {
				if !all && h.rng.IntN(6) > 0 {
					continue
				}
				work = append(work, func(c *s3.Client) error { return h.check(c, b, key, 0) })
			}
			continue
		}
		at := mark - wal.LSN(h.rng.Int64N(int64(max(mark-b.born, 1))))
		work = append(work, func(c *s3.Client) error { return h.checkListing(c, b, at) })
		for _, r := range b.acknowledged(0) {
			if all || r.lsn > above {
				work = append(work, func(c *s3.Client) error { return h.check(c, r.bucket, r.key, r.lsn) })
			}
		}
	}
	for range crashSample {
		b := h.buckets[h.rng.IntN(len(h.buckets))]
		if keys := b.allKeys(); len(keys) > 0 {
			key, at := keys[h.rng.IntN(len(keys))], wal.LSN(0)
			if h.rng.IntN(2) == 0 && !h.noHistory {
				at = mark - wal.LSN(h.rng.Int64N(int64(max(mark-b.born, 1))))
			}
			work = append(work, func(c *s3.Client) error { return h.check(c, b, key, at) })
		}
	}
	h.parallel(work)
	return mark
}

// parallel runs the checks on as many clients as make the load.
func (h *crashTest) parallel(work []func(*s3.Client) error) {
	todo := make(chan func(*s3.Client) error)
	var workers sync.WaitGroup
	for range crashClients {
		c := h.p.client()
		workers.Go(func() {
			for f := range todo {
				if err := f(c); err != nil {
					h.t.Error(err)
				}
			}
		})
	}
	for _, f := range work {
		todo <- f
		if h.t.Failed() {
			break
		}
	}
	close(todo)
	workers.Wait()
}

// mark commits something and returns its LSN, which bounds all that came before.
func (h *crashTest) mark(c *s3.Client) wal.LSN {
	h.t.Helper()
	out, err := c.PutObject(h.t.Context(), &s3.PutObjectInput{Bucket: aws.String("base"), Key: aws.String("~mark")})
	if err != nil {
		h.t.Fatalf("put after the restart: %v\n%s", err, h.p.output())
	}
	lsn, err := lsnOf(out.ResultMetadata)
	if err != nil {
		h.t.Fatal(err)
	}
	h.buckets[0].add("~mark", change{content: content{present: true}, lsn: lsn})
	return lsn
}

// settleForks decides the forks and new roots that were under way, before mark.
func (h *crashTest) settleForks(c *s3.Client, mark wal.LSN) {
	for _, b := range h.forking {
		out, err := c.HeadBucket(h.t.Context(), &s3.HeadBucketInput{Bucket: aws.String(b.name)})
		if statusOf(err) == http.StatusNotFound {
			continue
		}
		if err != nil {
			h.t.Errorf("head fork %s: %v", b.name, err)
			continue
		}
		if b.parent == nil {
			b.born = mark
			h.buckets = append(h.buckets, b)
			continue
		}
		branch, err := wal.ParseLSN(rawHeader(out.ResultMetadata, headerForkAt))
		if err != nil {
			h.t.Errorf("head fork %s: %v", b.name, err)
			continue
		}
		b.branch, b.born = branch, branch+1
		h.buckets = append(h.buckets, b)
	}
	h.forking = nil
}

// settleDeletions decides the deletions of buckets that were under way, and
// looks whether those that were acknowledged still hold.
func (h *crashTest) settleDeletions(c *s3.Client) {
	for _, b := range h.deleting {
		_, err := c.HeadBucket(h.t.Context(), &s3.HeadBucketInput{Bucket: &b.name})
		switch {
		case statusOf(err) == http.StatusNotFound:
			b.gone = true
			h.forget(b)
		case err != nil:
			h.t.Errorf("head bucket %s: %v", b.name, err)
		}
	}
	h.deleting = nil
	for name := range h.deleted {
		if _, err := c.HeadBucket(h.t.Context(), &s3.HeadBucketInput{Bucket: &name}); statusOf(err) != http.StatusNotFound {
			h.t.Errorf("bucket %s was deleted, it answers %v", name, err)
		}
	}
}

// forget takes a bucket that is gone out of the ones that clients use.
func (h *crashTest) forget(b *bucketModel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buckets = slices.DeleteFunc(h.buckets, func(x *bucketModel) bool { return x == b })
}

// check reads a key at an LSN, zero for the tip, and compares it with what is possible.
func (h *crashTest) check(c *s3.Client, b *bucketModel, key string, lsn wal.LSN) error {
	_, err := h.readBack(c, b, key, lsn)
	return err
}

// readBack reads a key at an LSN, zero for the tip, and returns which of the
// possible contents it holds; none of them is an error.
func (h *crashTest) readBack(c *s3.Client, b *bucketModel, key string, lsn wal.LSN) (content, error) {
	in := &s3.GetObjectInput{Bucket: &b.name, Key: &key}
	var opts []func(*s3.Options)
	upTo := wal.MaxLSN
	if lsn != 0 {
		opts, upTo = append(opts, at(lsn)), lsn
	}
	want := b.possible(key, upTo)
	out, err := c.GetObject(h.t.Context(), in, opts...)
	if statusOf(err) == http.StatusNotFound {
		if slices.Contains(want, content{}) {
			return content{}, nil
		}
		return content{}, fmt.Errorf("%s/%s at %d: not found, want %v", b.name, key, lsn, want)
	}
	if err != nil {
		return content{}, fmt.Errorf("%s/%s at %d: %w", b.name, key, lsn, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		return content{}, fmt.Errorf("%s/%s at %d: body: %w", b.name, key, lsn, err)
	}
	for _, w := range want {
		if w.present && w.size == int64(len(body)) && w.equal(body) {
			return w, nil
		}
	}
	return content{}, fmt.Errorf("%s/%s at %d: %d bytes, want %v", b.name, key, lsn, len(body), want)
}

func (c content) equal(body []byte) bool {
	want, err := io.ReadAll(c.reader())
	return err == nil && bytes.Equal(want, body)
}

// checkListing compares a listing at an LSN, zero for the tip, with the model.
func (h *crashTest) checkListing(c *s3.Client, b *bucketModel, lsn wal.LSN) error {
	var opts []func(*s3.Options)
	upTo := wal.MaxLSN
	if lsn != 0 {
		opts, upTo = append(opts, at(lsn)), lsn
	}
	sizes := make(map[string]int64)
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &b.name, MaxKeys: aws.Int32(100)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(h.t.Context(), opts...)
		if err != nil {
			return fmt.Errorf("list %s at %d: %w", b.name, lsn, err)
		}
		for _, o := range page.Contents {
			if _, twice := sizes[*o.Key]; twice {
				return fmt.Errorf("list %s at %d: %s comes twice", b.name, lsn, *o.Key)
			}
			sizes[*o.Key] = *o.Size
		}
	}
	for _, key := range b.allKeys() {
		size, listed := sizes[key]
		delete(sizes, key)
		want := b.possible(key, upTo)
		if !slices.ContainsFunc(want, func(w content) bool { return w.present == listed && w.size == size }) {
			return fmt.Errorf("list %s at %d: %s listed %v with %d bytes, want %v", b.name, lsn, key, listed, size, want)
		}
	}
	if len(sizes) != 0 {
		return fmt.Errorf("list %s at %d: keys that nobody put: %v", b.name, lsn, sizes)
	}
	return nil
}
