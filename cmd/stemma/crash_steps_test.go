package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"stemma/internal/seeds"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// Shape of the test of the steps.
const (
	stepsMaxBuckets = 60
	stepsMaxDepth   = 40
	stepsEpoch      = 20 // rounds on one data directory

	stepsLoad  = 1500 * time.Millisecond // of clients at full speed
	stepsPaced = 1500 * time.Millisecond // of clients that pause after each request
	stepsRest  = 4 * time.Second         // without any: the store calls itself idle after 3 s
)

// TestCrashSteps kills the real server in the middle of its background work: with
// SIGKILL from within, when a durability step of timeline.Steps is reached for the
// n-th time, under clients that put, overwrite and delete objects and fork and
// delete buckets. After each kill everything is checked as in TestCrash, on a
// server without history at the tip only; then the store is collected in full and
// every file in layers and values must be named by the catalog, once.
//
// STEMMA_CRASH_ROUNDS is the number of kills, STEMMA_CRASH_SEED makes the choices
// repeatable, STEMMA_CRASH_STEP has only steps that contain it. In a long run
// every step must have been met.
func TestCrashSteps(t *testing.T) {
	rounds, seed := 3, seeds.For(t)
	envUint(t, "STEMMA_CRASH_SEED", &seed)
	if n := uint64(rounds); envUint(t, "STEMMA_CRASH_ROUNDS", &n) {
		rounds = int(n)
	}
	var steps []timeline.Step
	for _, s := range timeline.Steps {
		merges := strings.HasPrefix(string(s), "adopt: ") // which no client does; the engine's tests end the world there
		if !merges && strings.Contains(string(s), os.Getenv("STEMMA_CRASH_STEP")) {
			steps = append(steps, s)
		}
	}
	t.Logf("seed %d, %d rounds, %d steps", seed, rounds, len(steps))
	run := &stepsRun{steps: steps, rng: rand.New(rand.NewPCG(seed, 2)), hits: make(map[timeline.Step]int)}
	for first := 0; first < rounds && !t.Failed(); first += stepsEpoch {
		n := min(stepsEpoch, rounds-first)
		t.Run(fmt.Sprintf("rounds=%d-%d", first, first+n-1), func(t *testing.T) {
			run.epoch(newStepsTest(t, seed, first), n)
		})
	}
	for _, s := range steps {
		t.Logf("%3d times: %s", run.hits[s], s)
		if run.hits[s] == 0 && rounds >= 5*len(steps) && !t.Failed() {
			t.Errorf("no kill at %q in %d rounds", s, rounds)
		}
	}
}

// envUint reads a number from the environment, and reports whether it was there.
func envUint(t *testing.T, name string, n *uint64) bool {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return false
	}
	if _, err := fmt.Sscan(s, n); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return true
}

// stepsRun is what all data directories of one test have in common.
type stepsRun struct {
	steps []timeline.Step
	rng   *rand.Rand
	order []timeline.Step // yet to come
	hits  map[timeline.Step]int
}

// next draws the next step, each as often as any other, and how often it is
// reached until the kill.
func (r *stepsRun) next() (timeline.Step, int) {
	if len(r.order) == 0 {
		r.order = slices.Clone(r.steps)
		r.rng.Shuffle(len(r.order), func(i, j int) { r.order[i], r.order[j] = r.order[j], r.order[i] })
	}
	s := r.order[0]
	r.order = r.order[1:]
	return s, 1 + r.rng.IntN(4)
}

// newStepsTest begins a data directory: of a server with little of everything, so
// that all jobs have work soon. Every second one has no history.
func newStepsTest(t *testing.T, seed uint64, first int) *crashTest {
	h := &crashTest{
		t: t, seed: seed, first: first, dir: t.TempDir(), rng: rand.New(rand.NewPCG(seed, uint64(first)<<32|1)),
		churn: true, noHistory: first/stepsEpoch%2 == 1, deleted: make(map[string]bool),
		args: []string{"--memlayer-bytes=512KiB", "--wal-segment-bytes=4MiB", "--wal-flush-bytes=8MiB"},
	}
	window, undo := 24*time.Hour, 300*time.Millisecond
	if h.noHistory {
		window = 0
	}
	h.options = testOptions{
		LayerBytes: 64 << 10, Level1Bytes: 256 << 10, L0Layers: 2, SegmentBytes: 4 << 20, PackedSegmentBytes: 256 << 10,
		CollectEvery: 50 * time.Millisecond, HorizonEvery: 200 * time.Millisecond, Window: &window, UndoTime: &undo,
	}
	t.Logf("server flags: %q, history: %v", h.args, !h.noHistory)
	return h
}

// epoch is rounds on one data directory.
func (r *stepsRun) epoch(h *crashTest, rounds int) {
	var checked wal.LSN
	for round := range rounds {
		step, n := r.next()
		if h.killAt(h.first+round, step, n) {
			r.hits[step]++
		}
		if h.t.Failed() {
			return
		}
		h.checkFiles()
		h.startForSteps("")
		checked = h.verify(checked, round == rounds-1)
		if h.rng.IntN(2) == 0 { // a clean end, or one more kill, at any moment
			h.p.stop(h.t)
		} else {
			h.p.kill()
			h.p.checkLog(h.t)
		}
		if h.rng.IntN(2) == 0 || round == rounds-1 {
			h.collectFully()
		}
		if h.t.Failed() {
			h.t.Logf("round %d, killed at %q", h.first+round, step)
			return
		}
	}
	h.startForSteps("")
	h.verify(0, true)
	h.p.stop(h.t)
	h.t.Logf("%d acknowledged changes, %d buckets, %d deleted", h.acked, len(h.buckets), len(h.deleted))
}

// startForSteps starts a server that kills itself as kill says, and waits until
// it is ready or dead.
func (h *crashTest) startForSteps(kill string) {
	h.t.Helper()
	options, err := json.Marshal(&h.options)
	if err != nil {
		h.t.Fatal(err)
	}
	h.p = spawnWith(h.t, []string{envTestOptions + "=" + string(options), envKillAt + "=" + kill}, h.dir, h.args...)
	select {
	case <-h.p.serving:
	case <-h.p.exited:
		if kill == "" {
			h.t.Fatalf("server ended: %v\n%s", h.p.err, h.p.output())
		}
	case <-time.After(2 * time.Minute):
		h.t.Fatalf("server does not serve\n%s", h.p.output())
	}
}

// killAt lets clients work until the server dies at a step. It reports false if
// the server did not come to it, and was killed by us.
func (h *crashTest) killAt(round int, step timeline.Step, n int) (hit bool) {
	h.startForSteps(fmt.Sprintf("%s:%d", step, n))
	began := time.Now()
	ops := h.loadForSteps(round)
	select {
	case <-h.p.exited:
		var exit *exec.ExitError
		if !errors.As(h.p.err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			h.t.Errorf("the server ended by itself: %v\n%s", h.p.err, h.p.output())
		}
		hit = true
	default:
		h.p.kill()
	}
	h.p.checkLog(h.t)
	h.acked += ops
	h.t.Logf("round %d: %d operations in %v, killed at %q: %v", round, ops, time.Since(began).Round(time.Millisecond), step, hit)
	return hit
}

// loadForSteps runs the clients, at full speed, then with pauses; then lets the
// server rest, and has it collect in full. It ends when the server has died, too.
func (h *crashTest) loadForSteps(round int) int {
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	select {
	case <-h.p.serving:
	case <-h.p.exited:
		return 0
	}
	if len(h.buckets) == 0 && !h.createBaseIfAlive() {
		return 0
	}
	var clients sync.WaitGroup
	var done atomic.Int64
	paced := time.Now().Add(stepsLoad)
	for i := range crashClients {
		c := &crashClient{h: h, id: i, s3: h.p.client(), rng: rand.New(rand.NewPCG(h.seed, uint64(round)<<8|uint64(i)))}
		clients.Go(func() {
			for ctx.Err() == nil {
				err := c.step(h.t.Context())
				if isDead(err) {
					return
				}
				if err != nil {
					h.t.Errorf("client %d: %v", i, err)
					return
				}
				done.Add(1)
				if time.Now().After(paced) {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	h.waitOrExit(stepsLoad + stepsPaced)
	cancel()
	clients.Wait()
	h.waitOrExit(stepsRest)
	if !h.exited() {
		if _, errOut, err := h.p.stemma(h.t.Context(), "gc", "--full", "--admin-endpoint", h.p.admin); err != nil && !h.exitedSoon() {
			h.t.Errorf("stemma gc --full: %v: %s", err, errOut)
		}
	}
	return int(done.Load())
}

// waitOrExit waits for d or the end of the server.
func (h *crashTest) waitOrExit(d time.Duration) {
	select {
	case <-time.After(d):
	case <-h.p.exited:
	}
}

func (h *crashTest) exited() bool {
	select {
	case <-h.p.exited:
		return true
	default:
		return false
	}
}

// exitedSoon is exited, with a moment for the end of a server that is being killed.
func (h *crashTest) exitedSoon() bool {
	h.waitOrExit(time.Second)
	return h.exited()
}

// createBaseIfAlive makes the first bucket, unless the server dies first.
func (h *crashTest) createBaseIfAlive() bool {
	b := newBucketModel("base", nil)
	out, err := h.p.client().CreateBucket(h.t.Context(), &s3.CreateBucketInput{Bucket: &b.name})
	if err == nil {
		b.born, err = lsnOf(out.ResultMetadata)
	}
	if err != nil {
		h.t.Errorf("create the first bucket: %v", err)
		return false
	}
	h.buckets = append(h.buckets, b)
	return true
}

// churn makes, deepens and deletes buckets; n is below 220.
func (c *crashClient) churn(ctx context.Context, n int) error {
	switch {
	case n < 90:
		return c.deleteBucket(ctx)
	case n < 110:
		return c.createRoot(ctx)
	default:
		return c.deepen(ctx)
	}
}

// deepen writes to the end of the client's own chain of forks and forks it, so that
// there are chains of timelines long enough to be rolled up.
func (c *crashClient) deepen(ctx context.Context) error {
	if c.h.full() {
		return c.deleteBucket(ctx)
	}
	c.h.mu.Lock()
	b := c.h.tips[c.id]
	if b == nil || b.depth >= stepsMaxDepth {
		b = c.h.buckets[c.rng.IntN(len(c.h.buckets))]
	}
	c.h.mu.Unlock()
	b.use.RLock()
	defer b.use.RUnlock()
	if b.gone {
		return nil
	}
	if err := c.put(ctx, b, fmt.Sprintf("c%d/%02d", c.id, c.rng.IntN(crashKeys))); err != nil {
		return err
	}
	f, err := c.forkOf(ctx, b)
	if f != nil {
		c.h.mu.Lock()
		c.h.tips[c.id] = f
		c.h.mu.Unlock()
	}
	return err
}

func (c *crashClient) createRoot(ctx context.Context) error {
	if c.h.full() {
		return nil
	}
	c.n++
	b := newBucketModel(fmt.Sprintf("root-%d-%d-%d", c.id, c.n, c.rng.Uint32()), nil)
	out, err := c.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b.name})
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if err != nil {
		if isDead(err) {
			c.h.forking = append(c.h.forking, b)
		}
		return pass(err)
	}
	if b.born, err = lsnOf(out.ResultMetadata); err != nil {
		return fmt.Errorf("create %s: %w", b.name, err)
	}
	c.h.buckets = append(c.h.buckets, b)
	return nil
}

// deleteBucket deletes a bucket that nobody speaks to just now, but not the first,
// nor the end of a chain.
func (c *crashClient) deleteBucket(ctx context.Context) error {
	c.h.mu.Lock()
	b := c.h.buckets[c.rng.IntN(len(c.h.buckets))]
	stays := b == c.h.buckets[0] || slices.Contains(c.h.tips[:], b)
	c.h.mu.Unlock()
	if stays || !b.use.TryLock() {
		return nil
	}
	defer b.use.Unlock()
	if b.gone {
		return nil
	}
	_, err := c.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &b.name}, withHeader(headerForce, "true"))
	if err != nil {
		if isDead(err) {
			c.h.mu.Lock()
			c.h.deleting = append(c.h.deleting, b)
			c.h.mu.Unlock()
		}
		return pass(err)
	}
	b.gone = true
	c.h.forget(b)
	c.h.mu.Lock()
	c.h.deleted[b.name] = true
	c.h.mu.Unlock()
	return nil
}

// full reports whether there are as many buckets as there may be.
func (h *crashTest) full() bool {
	most := crashMaxBuckets
	if h.churn {
		most = stepsMaxBuckets
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.buckets)+len(h.forking) >= most
}

// collectFully opens the stopped store in this process, gives back all garbage,
// and then wants the catalog to name every file that is left.
func (h *crashTest) collectFully() {
	h.t.Helper()
	fs, err := storefs.New(storefs.Options{Dir: h.dir, BallastBytes: -1})
	if err != nil {
		h.t.Fatal(err)
	}
	o := timeline.Options{FS: fs, Dir: h.dir}
	h.options.apply(&o)
	s, err := timeline.Open(o)
	if err != nil {
		h.t.Fatal(errors.Join(err, fs.Close()))
	}
	_, err = s.CollectFull(h.t.Context())
	if err = errors.Join(err, s.Close()); err == nil {
		err = checkLeaks(fs, h.dir)
	}
	if err = errors.Join(err, fs.Close()); err != nil {
		h.t.Errorf("after a full collection: %v", err)
	}
}

// checkLeaks compares the files of a stopped store with the rows of its catalog.
func checkLeaks(fs *storefs.FS, dir string) error {
	off, err := timeline.OpenOffline(fs, dir)
	if err != nil {
		return err
	}
	descs, err := off.Layers()
	segments, err2 := off.Segments()
	if err := errors.Join(err, err2, off.Close()); err != nil {
		return err
	}
	wantLayers, wantValues := make(map[string]bool), make(map[string]bool)
	for i := range descs {
		wantLayers[layers.LayerName(descs[i].Num)] = true
	}
	for num, generation := range segments {
		wantValues[layers.ValueFileName(num, generation)] = true
	}
	return errors.Join(compareFiles(filepath.Join(dir, "layers"), wantLayers), compareFiles(filepath.Join(dir, "values"), wantValues))
}

// compareFiles wants the files in dir to be those.
func compareFiles(dir string, want map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !want[e.Name()] {
			errs = append(errs, fmt.Errorf("%s: the catalog does not name %s", dir, e.Name()))
		}
		delete(want, e.Name())
	}
	for name := range want {
		errs = append(errs, fmt.Errorf("%s: no file %s, which the catalog names", dir, name))
	}
	return errors.Join(errs...)
}

// TestCheckLeaks puts a file into a store that the catalog does not name.
func TestCheckLeaks(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	if _, err := p.client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: ptr("bucket")}); err != nil {
		t.Fatal(err)
	}
	p.stop(t)
	fs, err := storefs.New(storefs.Options{Dir: dir, BallastBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	if err := checkLeaks(fs, dir); err != nil {
		t.Fatalf("a sound store: %v", err)
	}
	for _, name := range []string{"layers/" + layers.LayerName(1<<40), "values/" + layers.ValueFileName(1<<40, 3)} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkLeaks(fs, dir); err == nil {
			t.Errorf("nobody noticed %s", name)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// TestKillAt: what STEMMA_KILL_AT may say.
func TestKillAt(t *testing.T) {
	for _, step := range timeline.Steps {
		if got, n, err := parseKillAt(string(step) + ":12"); err != nil || got != step || n != 12 {
			t.Errorf("%s:12: %q %d %v", step, got, n, err)
		}
	}
	for _, bad := range []string{"", "1", "flush:1", "purge: rows deleted", "purge: rows deleted:0", "purge: rows deleted:x"} {
		if step, n, err := parseKillAt(bad); err == nil {
			t.Errorf("%q: %q %d", bad, step, n)
		}
	}
}
