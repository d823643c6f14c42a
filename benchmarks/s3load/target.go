package s3load

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// Config says what is loaded, and how.
type Config struct {
	// Endpoint is the URL of the server, without a path.
	Endpoint                     string
	AccessKey, SecretKey, Region string
	// Buckets is what the names of the buckets begin with. They must not exist.
	Buckets string
	// Workers is at least that of the load.Options that the workloads run with.
	Workers int
	// Size of an object, in bytes.
	Size int
	// Objects is how many there are to get, to head and for the mixed load.
	Objects int
	// Keys is how many there are to list.
	Keys int
	// Deletes is how many are deleted in a round.
	Deletes int
	Payload Payload
	// Verify compares every byte of what is read with what was put.
	Verify bool
	Seed   uint64
}

// Target is an endpoint with what the workloads put there.
type Target struct {
	c        Config
	host     string
	base     string // scheme://host
	whole    *fasthttp.HostClient
	pieces   *fasthttp.HostClient // hands out bodies as they come
	bodies   *bodies
	sessions []*session
	made     []string // buckets
	next     atomic.Uint64

	mu struct {
		sync.Mutex
		forks map[string]struct{} // of agents, that live
	}
}

// Limits of one request.
const (
	requestTimeout = time.Minute
	idleTimeout    = 5 * time.Second // below that of servers, so that no connection is found closed
)

// New checks c and returns a target. It sends nothing.
func New(c Config) (*Target, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || (u.Path != "" && u.Path != "/") {
		return nil, fmt.Errorf("endpoint %q: want http://host:port", c.Endpoint)
	}
	if c.Workers < 1 || c.Size < 1 || c.Objects < 1 || c.Keys < 1 || c.Deletes < 1 || c.Buckets == "" {
		return nil, fmt.Errorf("s3load: missing or negative value in workers %d, size %d, objects %d, keys %d, deletes %d, buckets %q",
			c.Workers, c.Size, c.Objects, c.Keys, c.Deletes, c.Buckets)
	}
	t := &Target{c: c, host: u.Host, base: u.Scheme + "://" + u.Host, bodies: newBodies(c.Size, c.Seed)}
	t.whole, t.pieces = t.newClient(u), t.newClient(u)
	t.pieces.StreamResponseBody = true
	t.mu.forks = make(map[string]struct{})
	for range c.Workers {
		t.sessions = append(t.sessions, t.newSession())
	}
	return t, nil
}

func (t *Target) newClient(u *url.URL) *fasthttp.HostClient {
	addr := u.Host
	if u.Port() == "" {
		addr += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	}
	return &fasthttp.HostClient{
		Addr: addr, IsTLS: u.Scheme == "https", MaxConns: max(t.c.Workers, preparers),
		ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, MaxIdleConnDuration: idleTimeout,
		ReadBufferSize: 16 << 10, NoDefaultUserAgentHeader: true, DisablePathNormalizing: true,
		// What fails is counted, not tried again.
		MaxIdemponentCallAttempts: 1,
	}
}

// preparers is how many requests prepare and clear up at once.
const preparers = 32

// each calls do for 0 to n - 1, from many sessions at once, until one fails.
func (t *Target) each(ctx context.Context, n int, do func(s *session, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(preparers, n) {
		all.Go(func() {
			s := t.newSession()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(s, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// makeBucket makes the bucket of a workload and returns its name.
func (t *Target) makeBucket(op string) (string, error) {
	name := t.c.Buckets + "-" + op
	s := t.newSession()
	s.bucket(name)
	s.begin(fasthttp.MethodPut, nil, header{hash: emptySHA256})
	if err := s.do(); err != nil {
		return "", fmt.Errorf("make a bucket: %w", err)
	}
	t.made = append(t.made, name)
	return name, nil
}

// fill puts n objects of a kind, from number first on, into a bucket.
func (t *Target) fill(ctx context.Context, bucket string, kind byte, first uint64, n int) error {
	err := t.each(ctx, n, func(s *session, i int) error {
		for {
			s.object(bucket, kind, first+uint64(i))
			err := s.put(t.bodies.body(first + uint64(i)))
			if !isStatus(err, fasthttp.StatusServiceUnavailable) || ctx.Err() != nil {
				return err
			}
			time.Sleep(50 * time.Millisecond) // told to slow down
		}
	})
	if err != nil {
		return fmt.Errorf("put %d objects: %w", n, err)
	}
	return nil
}

// drop deletes objects of a kind from number first on.
func (t *Target) drop(ctx context.Context, bucket string, kind byte, first, n uint64) error {
	const batch = 1000
	batches := int((n + batch - 1) / batch)
	err := t.each(ctx, batches, func(s *session, i int) error {
		from := first + uint64(i)*batch
		return s.removeBatch(bucket, keysOf(kind, from, min(from+batch, first+n)))
	})
	if err != nil {
		return fmt.Errorf("delete %d objects: %w", n, err)
	}
	return nil
}

// keysOf yields the keys of objects from to end - 1.
func keysOf(kind byte, from, end uint64) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		var key []byte
		for i := from; i < end; i++ {
			if key = AppendKey(key[:0], kind, i); !yield(key) {
				return
			}
		}
	}
}

// Close drops what forks agents have left, empties and deletes all buckets that
// workloads made, and closes the connections.
func (t *Target) Close(ctx context.Context) error {
	_, err := t.DropKept(ctx)
	errs := []error{err}
	for _, name := range t.made {
		if err := t.deleteBucket(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("delete bucket %s: %w", name, err))
		}
	}
	t.made = nil
	t.whole.CloseIdleConnections()
	t.pieces.CloseIdleConnections()
	return errors.Join(errs...)
}

func (t *Target) deleteBucket(ctx context.Context, name string) error {
	s := t.newSession()
	for ctx.Err() == nil {
		n, _, err := s.list(name, page{}, false)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		keys := s.keys()
		err = s.removeBatch(name, func(yield func([]byte) bool) {
			for _, k := range keys {
				if !yield([]byte(k)) {
					return
				}
			}
		})
		if err != nil {
			return err
		}
	}
	s.bucket(name)
	return errors.Join(ctx.Err(), s.remove())
}

// sizeName returns the size as it stands in names of workloads: "4 KiB".
func (c *Config) sizeName() string {
	for _, u := range []struct {
		bytes int
		name  string
	}{{1 << 30, " GiB"}, {1 << 20, " MiB"}, {1 << 10, " KiB"}} {
		if c.Size%u.bytes == 0 {
			return strconv.Itoa(c.Size/u.bytes) + u.name
		}
	}
	return strconv.Itoa(c.Size) + " B"
}
