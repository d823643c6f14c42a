package s3load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"stemma/benchmarks/load"
)

// Ops lists the names that Workload takes.
func Ops() []string {
	return []string{"put", "get", "head", "list", "list-dirs", "delete", "delete-10", "delete-1000", "mixed"}
}

// bulkFrom is the size from which puts and gets are rated in MiB, not operations.
const bulkFrom = 1 << 20

// Workload returns the workload of a name of Ops. Its first round makes a bucket and
// what it needs there.
func (t *Target) Workload(op string) (load.Workload, error) {
	if !slices.Contains(Ops(), op) {
		return load.Workload{}, fmt.Errorf("s3load: no operation %q; there are %s", op, strings.Join(Ops(), ", "))
	}
	w := load.Workload{Name: op + " " + t.c.sizeName(), Unit: "op"}
	if t.c.Size >= bulkFrom && (op == "put" || op == "get") {
		w.Unit = load.UnitMiB
	}
	base, n, _ := strings.Cut(op, "-")
	switch base {
	case "put":
		t.puts(&w, op)
	case "get":
		t.reads(&w, t.objectsOnce(op), 'g', t.c.Objects, func(s *session, i uint64) (load.Done, error) {
			body := t.bodies.body(i)
			return load.Done{Bytes: int64(len(body))}, s.get(body)
		})
	case "head":
		t.reads(&w, t.objectsOnce(op), 'g', t.c.Objects, (*session).headOf)
	case "list":
		w.Name, w.Unit = op, "key"
		t.lists(&w, t.bucketOnce(op, func(ctx context.Context, bucket string) error {
			return t.fill(ctx, bucket, 'l', 0, t.c.Keys)
		}), n == "dirs")
	case "delete":
		w.Unit = "key"
		batch := 1
		if n != "" {
			batch, _ = strconv.Atoi(n) // of Ops
		}
		t.deletes(&w, op, batch)
	case "mixed":
		t.mixed(&w, op)
	}
	return w, nil
}

// bucketOnce makes the bucket of a workload, and what is in it, before its first round.
func (t *Target) bucketOnce(op string, fill func(ctx context.Context, bucket string) error) func(context.Context) (string, error) {
	var name string
	return func(ctx context.Context) (string, error) {
		if name != "" {
			return name, nil
		}
		made, err := t.makeBucket(op)
		if err != nil {
			return "", err
		}
		if fill != nil {
			if err := fill(ctx, made); err != nil {
				return "", err
			}
		}
		name = made
		return name, nil
	}
}

// puts puts new objects; after a round they are deleted.
func (t *Target) puts(w *load.Workload, op string) {
	once := t.bucketOnce(op, nil)
	var bucket string
	var first uint64
	w.Before = func(ctx context.Context, _ int) (err error) {
		bucket, err = once(ctx)
		first = t.next.Load()
		return err
	}
	w.Op = func(_ context.Context, worker int, _ *rand.Rand) (load.Done, error) {
		i := t.next.Add(1) - 1
		s := t.sessions[worker]
		s.object(bucket, 'p', i)
		body := t.bodies.body(i)
		return load.Done{Bytes: int64(len(body))}, s.put(body)
	}
	w.After = func(ctx context.Context, _ int) error { return t.drop(ctx, bucket, 'p', first, t.next.Load()-first) }
}

// objectsOnce makes the bucket of a workload with Config.Objects.
func (t *Target) objectsOnce(op string) func(context.Context) (string, error) {
	return t.bucketOnce(op, func(ctx context.Context, bucket string) error {
		return t.fill(ctx, bucket, 'g', 0, t.c.Objects)
	})
}

// Heads is a workload of heads of random ones of n objects of a kind in a bucket that
// is there. They have Config.Size.
func (t *Target) Heads(bucket string, kind byte, n int) load.Workload {
	w := load.Workload{Name: "head", Unit: "op"}
	t.reads(&w, func(context.Context) (string, error) { return bucket, nil }, kind, n, (*session).headOf)
	return w
}

// reads reads random ones of n objects of a kind, of the bucket that once returns.
func (t *Target) reads(w *load.Workload, once func(context.Context) (string, error), kind byte, n int, read func(s *session, i uint64) (load.Done, error)) {
	var bucket string
	w.Before = func(ctx context.Context, _ int) (err error) {
		bucket, err = once(ctx)
		return err
	}
	w.Op = func(_ context.Context, worker int, rng *rand.Rand) (load.Done, error) {
		i := uint64(rng.IntN(n))
		s := t.sessions[worker]
		s.object(bucket, kind, i)
		return read(s, i)
	}
}

// List lists a bucket that is there, as the workloads list and list-dirs do theirs.
// Its keys are AppendKey's.
func (t *Target) List(bucket string, delimiter bool) load.Workload {
	w := load.Workload{Name: "list", Unit: "key"}
	if delimiter {
		w.Name = "list-dirs"
	}
	t.lists(&w, func(context.Context) (string, error) { return bucket, nil }, delimiter)
	return w
}

// lists lists the objects of the bucket that once returns page by page.
func (t *Target) lists(w *load.Workload, once func(context.Context) (string, error), delimiter bool) {
	var bucket string
	next := make([]page, t.c.Workers)
	w.Before = func(ctx context.Context, _ int) (err error) {
		bucket, err = once(ctx)
		for i := range next {
			next[i] = page{}
		}
		return err
	}
	w.Op = func(_ context.Context, worker int, rng *rand.Rand) (load.Done, error) {
		p := next[worker]
		if p == (page{}) && !delimiter {
			p.after = fmt.Sprintf("%02x/", rng.IntN(prefixes/2))
		}
		n, following, err := t.sessions[worker].list(bucket, p, delimiter)
		next[worker] = following
		return load.Done{Units: n, Bytes: int64(len(t.sessions[worker].res.Body()))}, err
	}
}

// deletes deletes what was put before each round.
func (t *Target) deletes(w *load.Workload, op string, batch int) {
	once := t.bucketOnce(op, nil)
	var bucket string
	var first, left uint64
	var taken atomic.Uint64
	w.Before = func(ctx context.Context, _ int) (err error) {
		if bucket, err = once(ctx); err != nil {
			return err
		}
		left = uint64(t.c.Deletes)
		first = t.next.Add(left) - left
		taken.Store(0)
		return t.fill(ctx, bucket, 'd', first, t.c.Deletes)
	}
	w.Op = func(_ context.Context, worker int, _ *rand.Rand) (load.Done, error) {
		end := taken.Add(uint64(batch))
		from := end - uint64(batch)
		if from >= left {
			return load.Done{}, load.ErrEnd
		}
		end = min(end, left)
		s := t.sessions[worker]
		if batch == 1 {
			s.object(bucket, 'd', first+from)
			return load.Done{}, s.remove()
		}
		return load.Done{Units: int64(end - from)}, s.removeBatch(bucket, keysOf('d', first+from, first+end))
	}
	w.After = func(ctx context.Context, _ int) error { // of what a short round left
		done := min(taken.Load(), left)
		return t.drop(ctx, bucket, 'd', first+done, left-done)
	}
}

// The classes of the mixed load, and how many of a hundred operations they are.
var (
	mixedClasses = []string{"get", "put", "delete", "head"}
	mixedShares  = []int{45, 15, 10, 30}
)

// mixed gives every worker objects of its own, so that none reads what another has
// deleted.
func (t *Target) mixed(w *load.Workload, op string) {
	w.Classes = mixedClasses
	alive := make([][]uint64, t.c.Workers)
	once := t.bucketOnce(op, func(ctx context.Context, bucket string) error {
		first := t.next.Add(uint64(t.c.Objects)) - uint64(t.c.Objects)
		for i := range uint64(t.c.Objects) {
			alive[i%uint64(t.c.Workers)] = append(alive[i%uint64(t.c.Workers)], first+i)
		}
		return t.fill(ctx, bucket, 'm', first, t.c.Objects)
	})
	var bucket string
	w.Before = func(ctx context.Context, _ int) (err error) {
		bucket, err = once(ctx)
		return err
	}
	w.Op = func(_ context.Context, worker int, rng *rand.Rand) (load.Done, error) {
		class := pick(rng.IntN(100))
		mine := alive[worker]
		if len(mine) == 0 {
			class = 1
		}
		s, d := t.sessions[worker], load.Done{Class: class}
		if class == 1 {
			i := t.next.Add(1) - 1
			s.object(bucket, 'm', i)
			body := t.bodies.body(i)
			d.Bytes = int64(len(body))
			err := s.put(body)
			if err == nil {
				alive[worker] = append(mine, i)
			}
			return d, err
		}
		n := rng.IntN(len(mine))
		i := mine[n]
		s.object(bucket, 'm', i)
		switch class {
		case 0:
			body := t.bodies.body(i)
			d.Bytes = int64(len(body))
			return d, s.get(body)
		case 2:
			mine[n] = mine[len(mine)-1]
			alive[worker] = mine[:len(mine)-1]
			return d, s.remove()
		}
		return d, s.head()
	}
}

// pick returns the class for a number below 100.
func pick(n int) int {
	for class, share := range mixedShares {
		if n -= share; n < 0 {
			return class
		}
	}
	return 0
}
