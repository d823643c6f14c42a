package storeload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/client"
	"stemma/timeline"
)

// apiWriters put objects of apiSize bytes into the bucket that is forked, as fast as the server takes them.
const (
	apiWriters = 8
	apiSize    = 4 << 10
)

// api makes forks through the HTTP API, of a bucket with as many objects as the second of f.Objects: one by one while
// the bucket is written to, in turns with puts by the same client, each of which waits for the log; and many in one request.
func (f *Forks) api(ctx context.Context, c *Config) (rows []report.Row, err error) {
	n := f.Objects[min(1, len(f.Objects)-1)]
	c.Progress.Say("forks of a bucket of %d objects through the API, under %d writers", n, apiWriters)
	err = c.inDir(func(data string) error {
		err := c.with(data, timeline.Options{}, func(e *engine.Engine) error {
			return errors.Join(fillSmall(ctx, e, "main", n), e.Flush(ctx))
		})
		if err != nil {
			return err
		}
		return c.served(data, func(s *server.Server) error {
			cl, err := native(s)
			if err != nil {
				return err
			}
			a := &apiForks{Forks: f, c: c, cl: cl, objects: n}
			if err := a.underLoad(ctx); err != nil {
				return err
			}
			err = a.bulk(ctx)
			rows = a.rows
			return err
		})
	})
	return rows, err
}

type apiForks struct {
	*Forks
	c       *Config
	cl      *client.Client
	objects int
	made    int // forks
	put     atomic.Int64
	rows    []report.Row
}

// putOne puts an object of its own into the bucket, in a commit of its own.
func (a *apiForks) putOne(ctx context.Context, data []byte) error {
	op := client.CommitOperation{Op: "put", Key: fmt.Sprintf("put-%012d", a.put.Add(1)), Data: data}
	for {
		_, err := a.cl.Commit(ctx, "main", client.CommitRequest{Operations: []client.CommitOperation{op}})
		if !client.IsCode(err, "SlowDown") {
			return err
		}
	}
}

// underLoad measures forks and puts while the writers write.
func (a *apiForks) underLoad(ctx context.Context) error {
	data := make([]byte, apiSize)
	engine.Fill(data, a.c.Seed)
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	written := make(chan error, apiWriters)
	for range apiWriters {
		go func() {
			for loaded.Err() == nil {
				if err := a.putOne(loaded, data); err != nil && loaded.Err() == nil {
					written <- err
					return
				}
			}
			written <- nil
		}()
	}
	fork := load.Workload{Name: fmt.Sprintf("fork by the API, %s objects, under %d writers", count(a.objects), apiWriters), Unit: "fork",
		Op: func(ctx context.Context, _ int, _ *rand.Rand) (load.Done, error) {
			a.made++
			_, err := a.cl.Fork(ctx, "main", client.ForkRequest{Name: fmt.Sprintf("api-%09d", a.made)})
			return load.Done{}, err
		}}
	put := load.Workload{Name: "put 4 KiB by the API, in turns with the forks", Unit: "op", Op: func(ctx context.Context, _ int, _ *rand.Rand) (load.Done, error) {
		return load.Done{}, a.putOne(ctx, data)
	}}
	rounds := max(1, min(a.c.Rounds, a.Singles))
	forks, puts, err := load.Interleaved(ctx, a.c.single(fork, a.Singles/rounds), a.c.single(put, a.Singles/rounds), rounds)
	stop()
	for range apiWriters {
		err = errors.Join(err, <-written)
	}
	if err != nil {
		return err
	}
	p50, put50 := report.FromLatency("forks", &forks, 50), report.FromLatency("forks", &puts, 50)
	p99, put99 := p99Row("forks", &forks), p99Row("forks", &puts)
	p50.SetLimit(put50.Name, put50.Value.Median)
	p99.SetLimit(put99.Name, put99.Value.Median)
	a.rows = append(a.rows, p50, p99)
	return nil
}

// bulk makes f.Bulk forks in each of some requests.
func (a *apiForks) bulk(ctx context.Context) error {
	w := load.Workload{Name: fmt.Sprintf("forks by the API, %s in a request", count(a.Bulk)), Unit: "fork",
		Op: func(ctx context.Context, _ int, _ *rand.Rand) (load.Done, error) {
			a.made++
			_, err := a.cl.Fork(ctx, "main", client.ForkRequest{Count: a.Bulk, NamePrefix: fmt.Sprintf("bulk-%d-", a.made)})
			return load.Done{Units: int64(a.Bulk)}, err
		}}
	res, err := load.Run(ctx, w, load.Options{Workers: 1, Ops: 1, Rounds: a.c.Rounds, Seed: a.c.Seed})
	a.rows = append(a.rows, report.FromResult("forks", &res))
	return err
}
