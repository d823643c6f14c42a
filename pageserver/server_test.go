package pageserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/pageserver/auth"
	"stemma/pageserver/keyring"
	"stemma/timeline"
	"stemma/wal/storefs"
)

var rootKey = auth.Key{ID: "stemma-test", Secret: "stemma-test-secret", Root: true}

// logLines keeps what was logged at Warn and above.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// masterKeys are those of every test: what one server sealed, the next one opens.
var masterKeys = func() *keyring.Ring {
	ring, err := keyring.New(keyring.NewKey("test"))
	if err != nil {
		panic(err)
	}
	return ring
}()

func options(fs vfs.FS, lines *logLines) Options {
	return Options{
		Dir: "data", FS: fs, RootKey: rootKey, MasterKeys: masterKeys, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0",
		Logger: slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Store:  timeline.Options{WALSegmentBytes: 4 << 20}, // zeroing the usual ones is most of a start under the race detector
	}
}

func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get("http://" + s.AdminAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	p, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(p)
}

func client(s *Server) *s3.Client { return clientOf(s, rootKey) }

// clientOf is a client with another key.
func clientOf(s *Server, key auth.Key) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + s.Addr().String()), Region: "us-east-1", UsePathStyle: true, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
}

func shutdown(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// A server starts on an empty directory, serves, stops, and serves the same
// after a start on what it left.
func TestLife(t *testing.T) {
	fs, lines, ctx := storefs.NewMem(), &logLines{}, context.Background()
	for round := range 3 {
		s, err := Start(options(fs, lines))
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]int{"/health/live": 200, "/health/ready": 200, "/metrics": 200, "/other": 404} {
			if status, body := get(t, s, path); status != want {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		c := client(s)
		if round == 0 {
			if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("b-1")}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("b-1"), Key: aws.String(fmt.Sprint(round)), Body: strings.NewReader("x")}); err != nil {
			t.Fatal(err)
		}
		list, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("b-1")})
		if err != nil || len(list.Contents) != round+1 {
			t.Fatalf("%v, %v", list, err)
		}
		_, text := get(t, s, "/metrics")
		for _, want := range []string{
			`stemma_s3_requests_total{operation="PutObject",status="200"} 1`, "stemma_wal_commits_total ", "stemma_buckets 1", "stemma_s3_request_seconds_bucket{", "process_resident_memory_bytes",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("metrics lack %q:\n%s", want, text)
			}
		}
		shutdown(t, s)
		if _, err := net.Dial("tcp", s.AdminAddr().String()); err == nil {
			t.Error("the admin listener is still open")
		}
	}
	if lines.String() != "" {
		t.Errorf("logged: %s", lines)
	}
}

func TestStartFails(t *testing.T) {
	fs, lines := storefs.NewMem(), &logLines{}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, change := range map[string]func(*Options){
		"no directory":      func(o *Options) { o.Dir = "" },
		"no key":            func(o *Options) { o.RootKey = auth.Key{} },
		"no master keys":    func(o *Options) { o.MasterKeys = nil },
		"weak key":          func(o *Options) { o.RootKey.Secret = "short" },
		"S3 address taken":  func(o *Options) { o.Listen = taken.Addr().String() },
		"admin taken":       func(o *Options) { o.AdminListen = taken.Addr().String() },
		"no such interface": func(o *Options) { o.Listen = "not an address" },
	} {
		o := options(fs, lines)
		change(&o)
		if s, err := Start(o); err == nil {
			t.Errorf("%s: started", name)
			shutdown(t, s)
		}
	}
	first, err := Start(options(fs, lines))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := Start(options(fs, lines)); err == nil {
		t.Error("two servers on one directory")
		shutdown(t, s)
	}
	shutdown(t, first)
	// A failed start leaves nothing behind that a good one would trip over.
	second, err := Start(options(fs, lines))
	if err != nil {
		t.Fatal(err)
	}
	shutdown(t, second)
}

// The production file system, with generated names of files and all.
func TestRealDirectory(t *testing.T) {
	lines := &logLines{}
	o := options(nil, lines)
	o.Dir, o.FS, o.BallastBytes = t.TempDir(), nil, -1
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client(s).CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: aws.String("b-1")}); err != nil {
		t.Fatal(err)
	}
	shutdown(t, s)
}

// A listener that fails is told to the caller, and readiness ends.
func TestListenerFails(t *testing.T) {
	s, err := Start(options(storefs.NewMem(), &logLines{}))
	if err != nil {
		t.Fatal(err)
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	s.fail(io.ErrUnexpectedEOF)
	<-s.Failed()
	if s.Err() != io.ErrUnexpectedEOF {
		t.Fatal(s.Err())
	}
	if status, why := get(t, s, "/health/ready"); status != 503 || !strings.Contains(why, "unexpected EOF") {
		t.Fatalf("%d %s", status, why)
	}
	if status, _ := get(t, s, "/health/live"); status != 200 {
		t.Fatal(status)
	}
	shutdown(t, s)
}
