package s3load

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"stemma/benchmarks/load"
	"stemma/pageserver"
	"stemma/pageserver/auth"
	"stemma/pageserver/keyring"
	"stemma/wal/storefs"
)

var testKey = auth.Key{ID: "load-test", Secret: "load-test-secret"}

// start runs a server in memory and returns its URL.
func start(t *testing.T) string {
	t.Helper()
	ring, err := keyring.New(keyring.NewKey("test"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := pageserver.Start(pageserver.Options{
		Dir: "data", FS: storefs.NewMem(), RootKey: testKey, MasterKeys: ring, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0",
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String()
}

func target(t *testing.T, c Config) *Target {
	t.Helper()
	c.AccessKey, c.SecretKey, c.Region = testKey.ID, testKey.Secret, "us-east-1"
	c.Verify, c.Seed = true, 1
	tg, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

// Every workload runs against a real server without an error, with each way to sign,
// and leaves nothing behind.
func TestWorkloads(t *testing.T) {
	url := start(t)
	for payload, name := range []string{"signed", "unsigned", "streaming"} {
		if p, ok := ParsePayload(name); !ok || p != Payload(payload) {
			t.Errorf("%s parsed as %v", name, p)
		}
		for _, size := range []int{1 << 10, 300 << 10, 1<<20 + 5} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				tg := target(t, Config{
					Endpoint: url, Buckets: fmt.Sprintf("%s-%d", name, size), Workers: 3, Size: size, Objects: 6, Deletes: 12, Keys: 40, Payload: Payload(payload),
				})
				ops := Ops()
				if size > 1<<10 {
					ops = []string{"put", "get", "mixed"} // the others do not depend on the size
				}
				for _, op := range ops {
					w, err := tg.Workload(op)
					if err != nil {
						t.Fatal(err)
					}
					o := load.Options{Workers: 3, Ops: 10, Rounds: 2}
					if strings.HasPrefix(op, "delete") {
						o.Ops, o.Duration = 0, time.Hour // until all are gone
					}
					res, err := load.Run(t.Context(), w, o)
					if err != nil {
						t.Fatal(err)
					}
					if n, first := res.Errors(); n != 0 {
						t.Errorf("%s: %d errors, first %s", op, n, first)
					}
					for _, r := range res.Rounds {
						if o.Ops > 0 && r.Ops != 10 || strings.HasPrefix(op, "delete") && r.Units != 12 {
							t.Errorf("%s: %+v", op, r)
						}
					}
				}
				if err := tg.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	tg := target(t, Config{Endpoint: url, Buckets: "b", Workers: 1, Size: 1, Objects: 1, Deletes: 1, Keys: 1})
	s := tg.newSession()
	s.path = []byte("/")
	s.begin("GET", nil, header{hash: emptySHA256})
	if err := s.do(); err != nil || strings.Contains(string(s.res.Body()), "<Bucket>") {
		t.Errorf("buckets are left: %v %s", err, s.res.Body())
	}
}

// Listing counts all keys once, over several pages.
func TestListPages(t *testing.T) {
	tg := target(t, Config{Endpoint: start(t), Buckets: "pages", Workers: 1, Size: 10, Objects: 1, Deletes: 1, Keys: 2500})
	bucket, err := tg.makeBucket("list")
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.fill(t.Context(), bucket, 'l', 0, 2500); err != nil {
		t.Fatal(err)
	}
	s := tg.newSession()
	seen, pages := make(map[string]bool), 0
	for p := (page{}); pages == 0 || p != (page{}); pages++ {
		var n int64
		if n, p, err = s.list(bucket, p, false); err != nil {
			t.Fatal(err)
		}
		for _, k := range s.keys() {
			seen[k] = true
		}
		if n > 1000 {
			t.Errorf("a page of %d", n)
		}
	}
	if pages != 3 || len(seen) != 2500 {
		t.Errorf("%d pages, %d keys", pages, len(seen))
	}
	if n, p, err := s.list(bucket, page{}, true); n != prefixes || p != (page{}) || err != nil {
		t.Errorf("with a delimiter %d results, %+v, %v", n, p, err)
	}
}

// The signature covers what it should: one changed byte and it is refused.
func TestSignatures(t *testing.T) {
	v := auth.NewVerifier(auth.NewStatic(testKey), time.Now)
	tg := target(t, Config{Endpoint: "http://127.0.0.1:1", Buckets: "b", Workers: 1, Size: 10, Objects: 1, Deletes: 1, Keys: 1})
	s := tg.newSession()
	check := func() error {
		at, err := auth.ParseTarget(s.req.Header.RequestURI())
		if err != nil {
			return err
		}
		_, err = v.Verify(&s.req.Header, &at)
		return err
	}
	for _, q := range []string{"", "delete=", "continuation-token=a%2Fb%2B%20%3D&list-type=2&max-keys=1000"} {
		s.object("bucket", 'g', 7)
		s.begin("GET", []byte(q), header{hash: emptySHA256})
		s.req.Header.SetHost(tg.host)
		s.req.Header.SetRequestURIBytes(s.req.URI().RequestURI())
		if err := check(); err != nil {
			t.Errorf("%q: %v", q, err)
		}
		s.req.Header.SetMethod("PUT")
		if check() == nil {
			t.Errorf("%q: another method is accepted", q)
		}
	}
	first := string(s.sign.scope)
	s.sign.at(time.Now().Add(48 * time.Hour))
	if string(s.sign.scope) == first {
		t.Error("the scope does not follow the day")
	}
}

// serve runs a handler as a server that a target talks to.
func serve(t *testing.T, c Config, h fasthttp.RequestHandler) *Target {
	t.Helper()
	ln := fasthttputil.NewInmemoryListener()
	srv := &fasthttp.Server{Handler: h}
	go srv.Serve(ln) //nolint:errcheck // ends with the listener
	t.Cleanup(func() { ln.Close() })
	c.Endpoint, c.Buckets = "http://server", "b"
	tg := target(t, c)
	tg.whole.Dial = func(string) (net.Conn, error) { return ln.Dial() }
	tg.pieces.Dial = tg.whole.Dial
	return tg
}

// What is read is compared with what was put.
func TestVerify(t *testing.T) {
	for _, size := range []int{1000, 300_000} {
		var tg *Target
		answer := func([]byte) []byte { return nil }
		tg = serve(t, Config{Workers: 1, Size: size, Objects: 1, Deletes: 1, Keys: 1}, func(ctx *fasthttp.RequestCtx) {
			ctx.SetBody(answer(tg.bodies.body(3)))
		})
		s := tg.newSession()
		s.object("b", 'g', 3)
		for name, c := range map[string]struct {
			answer func([]byte) []byte
			ok     bool
		}{
			"as it was": {func(p []byte) []byte { return p }, true},
			"changed":   {func(p []byte) []byte { q := append([]byte(nil), p...); q[size-1]++; return q }, false},
			"short":     {func(p []byte) []byte { return p[:size-1] }, false},
			"long":      {func(p []byte) []byte { return append(append([]byte(nil), p...), 0) }, false},
		} {
			answer = c.answer
			if err := s.get(tg.bodies.body(3)); (err == nil) != c.ok {
				t.Errorf("%d bytes, %s: %v", size, name, err)
			}
		}
	}
}

// What fails is an error that says what S3 said.
func TestStatus(t *testing.T) {
	tg := serve(t, Config{Workers: 1, Size: 1, Objects: 1, Deletes: 1, Keys: 1}, func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(http.StatusServiceUnavailable)
		ctx.SetBodyString("<Error><Code>SlowDown</Code></Error>")
	})
	s := tg.newSession()
	s.object("b", 'g', 0)
	if err := s.put([]byte("x")); !isStatus(err, 503) || !strings.Contains(err.Error(), "SlowDown") {
		t.Errorf("%v", err)
	}
}

// A get costs the client little: no more than a few allocations.
func TestAllocations(t *testing.T) {
	tg := serve(t, Config{Workers: 1, Size: 4096, Objects: 1, Deletes: 1, Keys: 1}, func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(204) })
	s := tg.newSession()
	n := testing.AllocsPerRun(100, func() {
		s.object("b", 'g', 1)
		s.begin("GET", nil, header{hash: emptySHA256})
	})
	if n > 0 {
		t.Errorf("%v allocations for signing a request", n)
	}
}

func TestConfigRefused(t *testing.T) {
	good := Config{Endpoint: "http://127.0.0.1:1", Buckets: "b", Workers: 1, Size: 1, Objects: 1, Deletes: 1, Keys: 1}
	for name, change := range map[string]func(*Config){
		"scheme":  func(c *Config) { c.Endpoint = "ftp://a" },
		"path":    func(c *Config) { c.Endpoint = "http://a/b" },
		"size":    func(c *Config) { c.Size = 0 },
		"buckets": func(c *Config) { c.Buckets = "" },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	tg := target(t, good)
	if _, err := tg.Workload("fly"); err == nil {
		t.Error("an unknown operation is accepted")
	}
}

func TestPick(t *testing.T) {
	var n [4]int
	for i := range 100 {
		n[pick(i)]++
	}
	if n != [4]int{45, 15, 10, 30} {
		t.Errorf("%v", n)
	}
}
