package s3api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/minio/minio-go/v7"
	mcreds "github.com/minio/minio-go/v7/pkg/credentials"

	"stemma/pageserver/auth"
	"stemma/pageserver/keyring"
	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal/storefs"
)

var rootKey = auth.Key{ID: "stemma-test", Secret: "stemma-test-secret", Root: true}

// testServer is a server on 127.0.0.1 over a store in memory.
type testServer struct {
	*Server
	t      testing.TB
	addr   string
	served chan error
	store  *timeline.Store
	logs   *logRecorder
	http   *http.Client
	sdk    *s3.Client
}

// logRecorder keeps what was logged at Warn and above.
type logRecorder struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logRecorder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logRecorder) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.lines.String()
	l.lines.Reset()
	return s
}

// newServer starts a server that ends with the test.
func newServer(t testing.TB, change ...func(*Options)) *testServer {
	t.Helper()
	s := newServerWithoutCleanup(t, change...)
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		s.stop()
	})
	return s
}

// stop ends what Shutdown leaves; the test fails if the server logged anything
// at Warn or above that was not taken.
func (s *testServer) stop() {
	s.t.Helper()
	if err := <-s.served; err != nil {
		s.t.Error(err)
	}
	if err := s.store.Close(); err != nil {
		s.t.Errorf("close store: %v", err)
	}
	if lines := s.logs.take(); lines != "" {
		s.t.Errorf("logged: %s", lines)
	}
}

// newServerWithoutCleanup starts a server. The caller calls Shutdown, then stop.
func newServerWithoutCleanup(t testing.TB, change ...func(*Options)) *testServer {
	t.Helper()
	return startServer(t, storefs.NewMem(), change...)
}

// startServer starts a server over a file system.
func startServer(t testing.TB, fs vfs.FS, change ...func(*Options)) *testServer {
	t.Helper()
	s := &testServer{t: t, logs: &logRecorder{}, served: make(chan error, 1)}
	logger := slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	// No horizon by itself: a test that says that nothing was committed means it.
	store, err := timeline.Open(timeline.Options{FS: fs, Dir: "data", Logger: logger, WALSegmentBytes: 4 << 20, HorizonEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	s.store = store
	ring, err := keyring.New(keyring.NewKey("test"))
	if err != nil {
		t.Fatal(err)
	}
	objects := object.New(store, object.Options{Keys: ring})
	t.Cleanup(objects.Close)
	o := Options{
		Objects:  objects,
		Verifier: auth.NewVerifier(auth.NewStatic(rootKey), time.Now),
		Logger:   logger,
	}
	for _, f := range change {
		f(&o)
	}
	if s.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	go func() { s.served <- s.Serve(ln) }()
	s.http = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}}
	s.sdk = s.newSDK()
	return s
}

func (s *testServer) newSDK(change ...func(*s3.Options)) *s3.Client {
	o := s3.Options{
		BaseEndpoint: aws.String("http://" + s.addr), Region: "us-east-1", UsePathStyle: true, HTTPClient: s.http,
		Credentials: credentials.NewStaticCredentialsProvider(rootKey.ID, rootKey.Secret, ""), Retryer: aws.NopRetryer{},
	}
	for _, f := range change {
		f(&o)
	}
	return s3.New(o)
}

func (s *testServer) newMinio(change ...func(*minio.Options)) *minio.Client {
	o := minio.Options{Creds: mcreds.NewStaticV4(rootKey.ID, rootKey.Secret, ""), MaxRetries: 1, Transport: s.http.Transport}
	for _, f := range change {
		f(&o)
	}
	c, err := minio.New(s.addr, &o)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// answer is a response that was read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// code returns the error code of the document.
func (a *answer) code() string {
	_, rest, _ := strings.Cut(a.body, "<Code>")
	code, _, _ := strings.Cut(rest, "</Code>")
	return code
}

// call is a request that a test makes by hand.
type call struct {
	method, path string // path as it goes on the wire, with the query
	body         string
	headers      []string // name, value, name, value
	host         string   // default: the address
	hash         string   // x-amz-content-sha256; default: of the body
	unsigned     bool
	as           auth.Key            // who signs; default: rootKey
	service      string              // that it is signed for; default: s3
	change       func(*http.Request) // after signing
	at           time.Time           // of the signature; default: now
}

func (s *testServer) request(c call) *http.Request {
	s.t.Helper()
	u, err := url.Parse("http://" + s.addr + c.path)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.NewRequest(c.method, u.String(), strings.NewReader(c.body))
	if err != nil {
		s.t.Fatal(err)
	}
	if c.host != "" {
		r.Host = c.host
	}
	for i := 0; i < len(c.headers); i += 2 {
		r.Header.Add(c.headers[i], c.headers[i+1])
	}
	if c.hash == "" {
		c.hash = hashOf(c.body)
	}
	if !c.unsigned {
		if c.at.IsZero() {
			c.at = time.Now()
		}
		r.Header.Set("X-Amz-Content-Sha256", c.hash)
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		if c.as.ID == "" {
			c.as = rootKey
		}
		creds := aws.Credentials{AccessKeyID: c.as.ID, SecretAccessKey: c.as.Secret}
		if err := signer.SignHTTP(context.Background(), creds, r, c.hash, cmp.Or(c.service, "s3"), "us-east-1", c.at); err != nil {
			s.t.Fatal(err)
		}
	}
	if c.change != nil {
		c.change(r)
	}
	return r
}

func (s *testServer) do(c call) *answer {
	s.t.Helper()
	return s.send(s.request(c))
}

func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

func (s *testServer) send(r *http.Request) *answer {
	s.t.Helper()
	res, err := s.http.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatalf("%s %s: read answer: %v", r.Method, r.URL, err)
	}
	return &answer{res.StatusCode, res.Header, string(body)}
}

// want makes a call that must be answered with a status.
func (s *testServer) want(status int, c call) *answer {
	s.t.Helper()
	a := s.do(c)
	if a.status != status {
		s.t.Fatalf("%s %s: status %d, want %d\n%s", c.method, c.path, a.status, status, a.body)
	}
	if a.header.Get("x-amz-request-id") == "" || a.header.Get("x-amz-id-2") == "" {
		s.t.Fatalf("%s %s: no request id", c.method, c.path)
	}
	return a
}

// refused makes a call that must be answered with an error code.
func (s *testServer) refused(status int, code string, c call) *answer {
	s.t.Helper()
	a := s.want(status, c)
	if c.method != "HEAD" && a.code() != code {
		s.t.Fatalf("%s %s: code %q, want %q\n%s", c.method, c.path, a.code(), code, a.body)
	}
	return a
}

func (s *testServer) put(path, body string) *answer {
	s.t.Helper()
	return s.want(200, call{method: "PUT", path: path, body: body})
}

func (s *testServer) get(path string, headers ...string) string {
	s.t.Helper()
	return s.want(200, call{method: "GET", path: path, headers: headers}).body
}

// element returns the text of the first element of a name.
func element(doc, name string) string {
	_, rest, ok := strings.Cut(doc, "<"+name+">")
	if !ok {
		return ""
	}
	text, _, _ := strings.Cut(rest, "</"+name+">")
	return text
}

// elements returns the texts of all elements of a name.
func elements(doc, name string) []string {
	var all []string
	for {
		_, rest, ok := strings.Cut(doc, "<"+name+">")
		if !ok {
			return all
		}
		var text string
		text, doc, _ = strings.Cut(rest, "</"+name+">")
		all = append(all, text)
	}
}

// pattern returns n bytes that repeat nowhere in steps of a power of two.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i/251)
	}
	return p
}

func lsnOf(a *answer) string { return a.header.Get("x-stemma-lsn") }

func escape(s string) string { return string(auth.AppendEscaped(nil, s, true)) }
