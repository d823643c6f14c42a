package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"stemma/client"
	"stemma/internal/seeds"
)

// Shape of the linearizability test.
const (
	linearClients    = 4
	linearKeys       = 3
	linearSearch     = 20 * time.Second // for an order, before a history is given up
	linearRounds     = 4                // of load; the server is killed at the end of each
	linearOperations = 60               // of a round, at most
)

// TestLinearizable has clients put, get, list, commit, fork, snapshot, restore and merge
// through both doors of the real server, kills it with SIGKILL in between, and has
// porcupine look for an order of the operations that explains every answer, in
// which each takes place between its request and its answer. Those that got no answer
// may have taken place at any time, or never.
//
// STEMMA_LINEAR_HISTORIES is how many histories are made.
func TestLinearizable(t *testing.T) {
	histories := 2
	if s := os.Getenv("STEMMA_LINEAR_HISTORIES"); s != "" {
		var err error
		if histories, err = strconv.Atoi(s); err != nil {
			t.Fatalf("STEMMA_LINEAR_HISTORIES: %v", err)
		}
	}
	seed := seeds.For(t)
	t.Logf("seed %d", seed)
	var all []porcupine.Operation
	undecided := 0
	for decided := 0; decided < histories; {
		h := &linearTest{t: t, seed: seed + uint64(decided+undecided), dir: t.TempDir(), began: time.Now()}
		all = h.run()
		if t.Failed() {
			return
		}
		switch h.check(all) {
		case porcupine.Illegal:
			return
		case porcupine.Unknown:
			if undecided++; undecided > 2+histories/5 {
				t.Fatalf("%d histories had too many orders to try", undecided)
			}
		default:
			decided++
		}
	}
	// The last history again, with a read that forgets the last put of a key.
	tampered, ok := withStaleRead(all)
	if !ok {
		t.Fatal("no put was answered")
	}
	if got := porcupine.CheckOperationsTimeout(linearModel(), tampered, time.Minute); got != porcupine.Illegal {
		t.Errorf("a history with a stale read is found %s", got)
	}
}

// withStaleRead puts behind a history a put, another, and a get of the first.
func withStaleRead(history []porcupine.Operation) ([]porcupine.Operation, bool) {
	i := slices.IndexFunc(history, func(o porcupine.Operation) bool {
		in, out := o.Input.(linearInput), o.Output.(linearOutput)
		return in.op == linPut && in.bucket == "a" && !out.lost && out.code == ""
	})
	if i < 0 {
		return nil, false
	}
	first := history[i].Input.(linearInput)
	end := int64(math.MaxInt64 - 10)
	return append(slices.Clone(history),
		porcupine.Operation{Input: linearInput{op: linPut, bucket: "a", key: first.key, etag: "another"}, Output: linearOutput{}, Call: end, Return: end + 1},
		porcupine.Operation{Input: linearInput{op: linGet, bucket: "a", key: first.key}, Output: linearOutput{etag: first.etag}, Call: end + 2, Return: end + 3}), true
}

// TestLinearModel has short histories, each of one operation after the other.
func TestLinearModel(t *testing.T) {
	type step struct {
		in  linearInput
		out linearOutput
	}
	put := func(bucket, etag string) step {
		return step{in: linearInput{op: linPut, bucket: bucket, key: "k", etag: etag}}
	}
	get := func(bucket, etag string) step {
		out := linearOutput{etag: etag}
		if etag == "" {
			out.code = "NoSuchKey"
		}
		return step{linearInput{op: linGet, bucket: bucket, key: "k"}, out}
	}
	do := func(op linearOp, bucket, other string) step {
		return step{in: linearInput{op: op, bucket: bucket, other: other}}
	}
	take := func(bucket, name string) step { return step{in: linearInput{op: linTake, bucket: bucket, key: name}} }
	merge := func(source, name string) step {
		return step{in: linearInput{op: linMerge, bucket: "p", other: source, key: name}}
	}
	fork := do(linFork, "p", "p1")
	lost := func(s step) step { s.out = linearOutput{lost: true}; return s }
	for name, c := range map[string]struct {
		steps []step
		want  bool
	}{
		"read of what was put":        {[]step{put("a", "1"), get("a", "1")}, true},
		"stale read":                  {[]step{put("a", "1"), put("a", "2"), get("a", "1")}, false},
		"lost put, not done":          {[]step{put("a", "1"), lost(put("a", "2")), get("a", "1")}, true},
		"lost put, done":              {[]step{put("a", "1"), lost(put("a", "2")), get("a", "2")}, true},
		"lost put, done and undone":   {[]step{put("a", "1"), lost(put("a", "2")), get("a", "2"), get("a", "1")}, false},
		"fork":                        {[]step{put("a", "1"), do(linFork, "a", "a1"), put("a", "2"), get("a1", "1")}, true},
		"fork that moves on":          {[]step{put("a", "1"), do(linFork, "a", "a1"), put("a", "2"), get("a1", "2")}, false},
		"fork that is lost and found": {[]step{put("a", "1"), lost(do(linFork, "a", "a1")), get("a1", "1")}, true},
		"restore":                     {[]step{put("a", "1"), do(linSnapshot, "a", "s"), put("a", "2"), do(linRestore, "a", "s"), get("a", "1")}, true},
		"restore that does nothing":   {[]step{put("a", "1"), do(linSnapshot, "a", "s"), put("a", "2"), do(linRestore, "a", "s"), get("a", "2")}, false},
		"merge":                       {[]step{fork, put("p1", "1"), take("p1", "m"), merge("p1", "m"), get("p", "1")}, true},
		"merge of nothing new":        {[]step{fork, put("p1", "1"), take("p1", "m"), merge("p1", "m"), put("p", "2"), take("p1", "n"), merge("p1", "n"), get("p", "2")}, true},
		"merge of what was there":     {[]step{fork, put("p1", "1"), take("p1", "m"), put("p1", "2"), merge("p1", "m"), get("p", "1")}, true},
		"merges that pass each other": {[]step{fork, put("p1", "1"), take("p1", "m"), put("p1", "2"), take("p1", "n"), merge("p1", "n"), merge("p1", "m"), get("p", "2")}, true},
		"merge that is not done":      {[]step{fork, put("p1", "1"), take("p1", "m"), merge("p1", "m"), get("p", "")}, false},
		"merge of nothing taken":      {[]step{fork, put("p1", "1"), merge("p1", "m")}, false},
	} {
		var history []porcupine.Operation
		for i, s := range c.steps {
			o := porcupine.Operation{Input: s.in, Output: s.out, Call: int64(2 * i), Return: int64(2*i + 1)}
			if s.out.lost {
				o.Return = math.MaxInt64
			}
			history = append(history, o)
		}
		if got := porcupine.CheckOperations(linearModel(), history); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// linearTest is one data directory and the history of its buckets.
type linearTest struct {
	t     *testing.T
	seed  uint64
	dir   string
	began time.Time
	p     *process

	done atomic.Int64 // operations of this round
	ids  atomic.Int64 // of contents, forks and snapshots

	mu        sync.Mutex
	history   []porcupine.Operation
	forks     map[string][]string // by family; asked for, but perhaps not made
	snapshots []string            // of a
	settled   int                 // of snapshots, in the rounds before
}

// run makes a history.
func (h *linearTest) run() []porcupine.Operation {
	h.forks = map[string][]string{}
	rng := rand.New(rand.NewPCG(h.seed, 1))
	args := []string{"--memlayer-bytes=1MiB", "--wal-segment-bytes=8MiB", "--wal-flush-bytes=16MiB"}
	h.p = start(h.t, h.dir, args...)
	for _, name := range []string{"a", "p"} {
		// Names of buckets have three letters at least.
		if _, err := h.p.client().CreateBucket(h.t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucketOf(name))}); err != nil {
			h.t.Fatal(err)
		}
	}
	for round := range linearRounds {
		h.load(round, 1+rng.Int64N(linearOperations))
		if h.t.Failed() {
			return nil
		}
		h.p = start(h.t, h.dir, args...)
		h.settle(round)
	}
	h.p.stop(h.t)
	return h.history
}

// bucketOf is the name that the server has for one of the model.
func bucketOf(name string) string { return "bucket-" + name }

// load runs the clients until they have done so many operations, and kills the
// server under them.
func (h *linearTest) load(round int, operations int64) {
	h.done.Store(0)
	var clients sync.WaitGroup
	for i := range linearClients {
		c := h.newClient(round*linearClients + i)
		clients.Go(func() {
			for h.done.Add(1) <= linearOperations && c.step() {
			}
		})
	}
	for h.done.Load() < operations {
		select {
		case <-h.p.exited:
			h.t.Fatalf("the server ended by itself: %v\n%s", h.p.err, h.p.output())
		case <-time.After(time.Millisecond):
		}
	}
	h.p.kill()
	clients.Wait()
	h.p.checkLog(h.t)
}

// settle ends the operations that the kill left without an answer: after the start they
// were done, or never will be. And it reads everything, so that few orders are left to try.
func (h *linearTest) settle(round int) {
	now := int64(time.Since(h.began))
	for i := range h.history {
		if o := &h.history[i]; o.Output.(linearOutput).lost && o.Return == math.MaxInt64 {
			o.Return = now
		}
	}
	c := h.newClient(linearRounds*linearClients + round)
	h.done.Store(0)
	for _, family := range []string{"a", "p"} {
		for _, name := range append([]string{family}, h.forks[family]...) {
			c.do(linearInput{op: linList, bucket: name})
		}
	}
	for _, name := range h.snapshots[h.settled:] {
		c.do(linearInput{op: linListAt, bucket: "a", other: name})
	}
	h.settled = len(h.snapshots)
}

func (h *linearTest) newClient(id int) *linearClient {
	transport := &http.Transport{MaxIdleConnsPerHost: 2}
	api, err := client.New(client.Options{Endpoint: h.p.admin, AccessKey: testAccess, SecretKey: testSecret, HTTP: &http.Client{Transport: transport, Timeout: time.Minute}})
	if err != nil {
		h.t.Fatal(err)
	}
	return &linearClient{h: h, id: id, s3: h.p.client(), api: api, rng: rand.New(rand.NewPCG(h.seed, uint64(id)<<8)), seen: map[string]string{}}
}

// check looks for an order that explains the history.
func (h *linearTest) check(history []porcupine.Operation) porcupine.CheckResult {
	counts := map[string]int{}
	for _, o := range history {
		in, out := o.Input.(linearInput), o.Output.(linearOutput)
		counts[string(in.op)]++
		switch {
		case out.lost:
			counts["no answer"]++
		case out.code != "":
			counts[out.code]++
		}
	}
	h.t.Logf("%d operations: %v", len(history), counts)
	result, info := porcupine.CheckOperationsVerbose(linearModel(), history, linearSearch)
	if result == porcupine.Unknown {
		h.t.Logf("seed %d: no answer within %v", h.seed, linearSearch)
	}
	if result != porcupine.Illegal {
		return result
	}
	file := filepath.Join(os.TempDir(), fmt.Sprintf("stemma-linear-%d.html", h.seed))
	if err := porcupine.VisualizePath(linearModel(), info, file); err != nil {
		h.t.Error(err)
	}
	h.t.Errorf("seed %d: the history is %s; a picture of it is in %s", h.seed, result, file)
	h.explain(info)
	return result
}

// explain logs where the longest order that was found ends, and what could not follow.
func (h *linearTest) explain(info porcupine.LinearizationInfo) {
	for _, orders := range info.PartialLinearizationsOperations() {
		if len(orders) == 0 {
			continue
		}
		longest := slices.MaxFunc(orders, func(a, b []porcupine.Operation) int { return len(a) - len(b) })
		done := map[string]bool{}
		for i, o := range longest {
			done[h.line(o)] = true
			if i >= len(longest)-12 {
				h.t.Logf("in order: %s", h.line(o))
			}
		}
		family := longest[0].Input.(linearInput).bucket[0]
		n := 0
		for _, o := range h.history {
			if o.Input.(linearInput).bucket[0] == family && !done[h.line(o)] && n < 45 {
				h.t.Logf("left: %s", h.line(o))
				n++
			}
		}
	}
}

func (h *linearTest) line(o porcupine.Operation) string {
	return fmt.Sprintf("%d-%d client %d: %s", o.Call/1000, o.Return/1000, o.ClientId, linearModel().DescribeOperation(o.Input, o.Output))
}

// linearClient does one operation at a time.
type linearClient struct {
	h    *linearTest
	id   int
	s3   *s3.Client
	api  *client.Client
	rng  *rand.Rand
	seen map[string]string // ETags that it has met, by bucket and key
}

// step does a random operation; false: the server is gone.
func (c *linearClient) step() bool {
	family := []string{"a", "p"}[c.rng.IntN(2)]
	bucket := c.pick(family)
	key := c.key()
	switch n := c.rng.IntN(100); {
	case n < 22:
		in := linearInput{op: linPut, bucket: bucket, key: key}
		if c.rng.IntN(3) == 0 {
			in.match = c.condition(bucket, key)
		}
		return c.do(in)
	case n < 50:
		return c.do(linearInput{op: linGet, bucket: bucket, key: key})
	case n < 56:
		return c.do(linearInput{op: linDelete, bucket: bucket, key: key})
	case n < 64:
		return c.do(linearInput{op: linList, bucket: bucket})
	case n < 74:
		in := linearInput{op: linCommit, bucket: bucket, key: key}
		if c.rng.IntN(2) == 0 {
			in.match = c.condition(bucket, key)
		}
		return c.do(in)
	case n < 80:
		if family == "p" {
			bucket = family // or the base of a merge would be more than what the model knows
		}
		return c.do(linearInput{op: linFork, bucket: bucket, other: c.newFork(family)})
	case family == "p":
		if source := c.pick(family); source != family {
			return c.do(linearInput{op: linMerge, bucket: family, other: source})
		}
		return c.do(linearInput{op: linList, bucket: family})
	case n < 83 && bucket != family:
		return c.do(linearInput{op: linDrop, bucket: bucket})
	case n < 88:
		return c.do(linearInput{op: linSnapshot, bucket: family, other: c.newSnapshot()})
	default:
		snapshot := c.snapshot()
		if snapshot == "" {
			return c.do(linearInput{op: linList, bucket: family})
		}
		if n < 95 {
			return c.do(linearInput{op: linReadAt, bucket: family, key: key, other: snapshot})
		}
		return c.do(linearInput{op: linRestore, bucket: family, other: snapshot})
	}
}

func linearKey(k int) string { return fmt.Sprintf("k%d", k) }

func (c *linearClient) key() string { return linearKey(c.rng.IntN(linearKeys)) }

// condition is what this client saw last, or that nothing is there.
func (c *linearClient) condition(bucket, key string) string {
	if etag := c.seen[bucket+"/"+key]; etag != "" && c.rng.IntN(4) > 0 {
		return etag
	}
	return "*"
}

// pick returns a bucket of a family: its root as often as any of its last forks.
func (c *linearClient) pick(family string) string {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	forks := c.h.forks[family]
	forks = forks[max(0, len(forks)-3):]
	if len(forks) == 0 || c.rng.IntN(2) == 0 {
		return family
	}
	return forks[c.rng.IntN(len(forks))]
}

func (c *linearClient) newFork(family string) string {
	name := fmt.Sprintf("%s%d", family, c.h.ids.Add(1))
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.forks[family] = append(c.h.forks[family], name)
	return name
}

func (c *linearClient) newSnapshot() string {
	name := fmt.Sprintf("s%d", c.h.ids.Add(1))
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.snapshots = append(c.h.snapshots, name)
	return name
}

func (c *linearClient) snapshot() string {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if len(c.h.snapshots) == 0 {
		return ""
	}
	return c.h.snapshots[c.rng.IntN(len(c.h.snapshots))]
}

// do carries out an operation and enters it in the history; false: the server is gone.
func (c *linearClient) do(in linearInput) bool {
	body := strconv.FormatInt(c.h.ids.Add(1), 10)
	if in.op == linPut {
		in.etag = etagOf(body)
	}
	var other string // the second body of a commit
	if in.op == linCommit {
		other = body + "b"
		in.puts = []linearPut{{in.key, etagOf(body)}, {c.otherKey(in.key), etagOf(other)}}
		if c.rng.IntN(3) == 0 {
			in.puts[1].etag, other = "", ""
		}
	}
	call := time.Since(c.h.began)
	out, err := c.send(in, body, other)
	back := time.Since(c.h.began)
	code, known := codeOf(err)
	switch {
	case err == nil:
		c.remember(in, out)
	case code == "SlowDown":
		return true // it says that it did nothing
	case known:
		out = linearOutput{code: code}
	default:
		if c.h.done.Load() == 0 {
			c.h.t.Errorf("%s %s: %v", in.op, in.bucket, err)
			return false
		}
		out, back = linearOutput{lost: true}, math.MaxInt64 // until it is settled
	}
	if out.lost && in.op.reads() {
		return false // it has changed nothing
	}
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	enter := func(in linearInput) {
		c.h.history = append(c.h.history, porcupine.Operation{ClientId: c.id, Input: in, Call: int64(call), Output: out, Return: int64(back)})
	}
	if in.op == linMerge {
		in.key = body
		enter(linearInput{op: linTake, bucket: in.other, key: in.key})
		if out.code != "" {
			return true // nothing was taken
		}
	}
	enter(in)
	return !out.lost
}

func (c *linearClient) otherKey(key string) string {
	for {
		if k := c.key(); k != key {
			return k
		}
	}
}

// remember keeps ETags for conditions to come.
func (c *linearClient) remember(in linearInput, out linearOutput) {
	switch in.op {
	case linPut:
		c.seen[in.bucket+"/"+in.key] = in.etag
	case linGet:
		c.seen[in.bucket+"/"+in.key] = out.etag
	}
}

// send is the request of an operation.
func (c *linearClient) send(in linearInput, body, other string) (out linearOutput, err error) {
	ctx := context.Background()
	bucket, key := aws.String(bucketOf(in.bucket)), aws.String(in.key)
	switch in.op {
	case linPut:
		put := &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader(body)}
		if in.match == "*" {
			put.IfNoneMatch = &in.match
		} else if in.match != "" {
			put.IfMatch = &in.match
		}
		_, err = c.s3.PutObject(ctx, put)
	case linGet:
		out.etag, err = c.get(ctx, bucket, key)
	case linReadAt:
		out.etag, err = c.get(ctx, bucket, aws.String(".snapshot/"+in.other+"/"+in.key))
	case linDelete:
		_, err = c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key})
	case linList:
		out.listing, err = c.list(ctx, bucket, "")
	case linListAt:
		out.listing, err = c.list(ctx, bucket, ".snapshot/"+in.other+"/")
	case linCommit:
		err = c.commit(ctx, in, body, other)
	case linFork:
		_, err = c.api.Fork(ctx, *bucket, client.ForkRequest{Name: bucketOf(in.other)})
	case linDrop:
		err = c.api.DeleteBucket(ctx, *bucket, client.DeleteOptions{Force: true})
	case linSnapshot:
		_, err = c.api.Snapshot(ctx, *bucket, client.NewSnapshot{Name: in.other})
	case linRestore:
		_, _, err = c.api.Restore(ctx, *bucket, client.RestoreRequest{At: in.other})
	case linMerge:
		_, err = c.api.Merge(ctx, *bucket, client.MergeRequest{Source: bucketOf(in.other), Strategy: "source-wins"})
	default:
		panic("operation " + in.op)
	}
	return out, err
}

// get returns the ETag of the bytes that are there.
func (c *linearClient) get(ctx context.Context, bucket, key *string) (string, error) {
	out, err := c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	return etagOf(string(body)), err
}

func (c *linearClient) list(ctx context.Context, bucket *string, prefix string) (contents, error) {
	out, err := c.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: &prefix})
	if err != nil {
		return nil, err
	}
	listing := contents{}
	for _, o := range out.Contents {
		listing[strings.TrimPrefix(*o.Key, prefix)] = strings.Trim(*o.ETag, `"`)
	}
	return listing, nil
}

func (c *linearClient) commit(ctx context.Context, in linearInput, body, other string) error {
	var r client.CommitRequest
	if in.match == "*" {
		r.If = []client.CommitCondition{{Key: in.key, Absent: true}}
	} else if in.match != "" {
		r.If = []client.CommitCondition{{Key: in.key, ETag: in.match}}
	}
	bodies := []string{body, other}
	for i, p := range in.puts {
		o := client.CommitOperation{Op: "put", Key: p.key, Data: []byte(bodies[i])}
		if p.etag == "" {
			o = client.CommitOperation{Op: "delete", Key: p.key}
		}
		r.Operations = append(r.Operations, o)
	}
	_, err := c.api.Commit(ctx, bucketOf(in.bucket), r)
	return err
}

func etagOf(body string) string {
	sum := md5.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

// codeOf returns the code of an answer that says why nothing was done; false: there was
// none, or one that does not say so.
func codeOf(err error) (string, bool) {
	var native *client.Error
	if errors.As(err, &native) {
		return native.Code, native.Status < 500 || native.Code == "SlowDown"
	}
	var api smithy.APIError
	if status := statusOf(err); errors.As(err, &api) && status != 0 {
		return api.ErrorCode(), status < 500 || api.ErrorCode() == "SlowDown"
	}
	return "", false
}
