package s3api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"stemma/pageserver/object"
)

// rawConn speaks HTTP by hand.
type rawConn struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func (s *testServer) dial() *rawConn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return &rawConn{c, s.t, bufio.NewReader(c)}
}

// head returns the signed header section of a call, with a Content-Length of
// its own.
func (s *testServer) head(c call, length int) string {
	r := s.request(c)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.URL.RequestURI(), r.Host)
	if length >= 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", length)
	}
	for name, values := range r.Header {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	return b.String() + "\r\n"
}

func (c *rawConn) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one response to a request of a method.
func (c *rawConn) answer(method string) *answer {
	c.t.Helper()
	res, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.Close {
		res.Header.Set("Connection", "close") // net/http takes it out
	}
	return &answer{res.StatusCode, res.Header, string(body)}
}

func (c *rawConn) wantAnswer(method string, status int, code string) *answer {
	c.t.Helper()
	a := c.answer(method)
	if a.status != status || a.code() != code {
		c.t.Fatalf("%d %s, want %d %s", a.status, a.body, status, code)
	}
	return a
}

// wantClosed expects that the server ends the connection.
func (c *rawConn) wantClosed() {
	c.t.Helper()
	if n, err := io.Copy(io.Discard, c.br); n != 0 || errors.Is(err, context.DeadlineExceeded) {
		c.t.Fatalf("%d more bytes, %v", n, err)
	}
}

// The literal hash makes the head of these requests independent of their bodies.
const unsignedHash = "UNSIGNED-PAYLOAD"

func putCall(path string, headers ...string) call {
	return call{method: "PUT", path: path, hash: unsignedHash, headers: headers, body: ""}
}

func TestBrokenRequests(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		text   string
		status int
		code   string
	}{
		{"nonsense\r\n\r\n", 400, "BadRequest"},
		{"GET / HTTP/1.1\r\n\r\n", 400, "BadRequest"},
		{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "BadRequest"},
		{"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "BadRequest"},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 100_000) + "\r\n\r\n", 400, "RequestHeaderSectionTooLarge"},
		{"GET /" + strings.Repeat("x", 100_000) + " HTTP/1.1\r\n", 400, "RequestHeaderSectionTooLarge"},
		{"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "InvalidURI"},
	} {
		c2 := s.dial()
		go io.WriteString(c2, c.text) // may be cut off
		a := c2.wantAnswer("GET", c.status, c.code)
		if a.header.Get("x-amz-request-id") == "" {
			t.Errorf("%.20q: no request id", c.text)
		}
	}
}

func TestMissingLength(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	for _, path := range []string{"/b-1/k", "/b-1/k?partNumber=1&uploadId=x"} {
		c := s.dial()
		c.send(s.head(putCall(path), -1))
		c.wantAnswer("PUT", 411, "MissingContentLength")
		c = s.dial()
		chunked := call{method: "PUT", path: path, hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
		c.send(strings.TrimSuffix(s.head(chunked, -1), "\r\n") + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
		c.wantAnswer("PUT", 411, "MissingContentLength")
	}
	// The transfer coding may tell the end.
	c := s.dial()
	sum := sha256.Sum256([]byte("hello world"))
	coded := strings.TrimSuffix(s.head(call{method: "PUT", path: "/b-1/k", hash: hex.EncodeToString(sum[:])}, -1), "\r\n") + "Transfer-Encoding: chunked\r\n\r\n"
	c.send(coded + "6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n")
	c.wantAnswer("PUT", 200, "")
	c.send(coded + "5\r\nhello\r\n0\r\n\r\n")
	c.wantAnswer("PUT", 400, "XAmzContentSHA256Mismatch")
	if got := s.get("/b-1/k"); got != "hello world" {
		t.Fatalf("%q", got)
	}
	cut := s.dial()
	cut.send(coded + "6\r\nhello \r\n5\r\nwor")
	if err := cut.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	cut.wantAnswer("PUT", 400, "IncompleteBody")
	// The decoded length tells it, too.
	head := s.head(call{method: "PUT", path: "/b-1/k", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: []string{"x-amz-decoded-content-length", "5"}}, -1)
	c.send(strings.TrimSuffix(head, "\r\n") + "Transfer-Encoding: chunked\r\n\r\na\r\n5\r\nhello\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n")
	c.wantAnswer("PUT", 200, "")
	if got := s.get("/b-1/k"); got != "hello" {
		t.Fatalf("%q", got)
	}
	// No body is a body of no bytes for those that need none.
	c.send(s.head(call{method: "PUT", path: "/b-2"}, -1))
	c.wantAnswer("PUT", 200, "")
}

func TestTruncatedBodies(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	s.put("/b-1/k", "kept")
	before := s.store.Visible()
	for _, n := range []int{10, 20_000, 300_000} {
		for _, path := range []string{"/b-1/k"} {
			c := s.dial()
			c.send(s.head(putCall(path), n))
			c.send(strings.Repeat("x", n-1))
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			c.wantAnswer("PUT", 400, "IncompleteBody")
		}
	}
	if got := s.get("/b-1/k"); got != "kept" || s.store.Visible() != before {
		t.Fatalf("%q", got)
	}
}

func TestExpectContinue(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	c := s.dial()
	c.send(s.head(putCall("/b-1/k", "Expect", "100-continue"), 5))
	if a := c.answer("PUT"); a.status != 100 {
		t.Fatalf("%d", a.status)
	}
	c.send("hello")
	c.wantAnswer("PUT", 200, "")
	if got := s.get("/b-1/k"); got != "hello" {
		t.Fatalf("%q", got)
	}
	for _, refused := range []struct {
		call
		length int
		status int
		code   string
	}{
		{putCall("/absent/k", "Expect", "100-continue"), 5, 404, "NoSuchBucket"},
		{putCall("/b-1/k", "Expect", "100-continue", "If-None-Match", "*"), 5, 412, "PreconditionFailed"},
		{putCall("/b-1/k", "Expect", "100-continue", "If-Match", `"x"`), 5, 412, "PreconditionFailed"},
		{putCall("/b-1/new", "Expect", "100-continue", "If-Match", `"x"`), 5, 404, "NoSuchKey"},
		{putCall("/b-1/k", "Expect", "100-continue"), 6 << 30, 400, "EntityTooLarge"},
		{putCall("/b-1/k?torrent", "Expect", "100-continue"), 5, 501, "NotImplemented"},
		{call{method: "PUT", path: "/b-1/k", unsigned: true, headers: []string{"Expect", "100-continue"}}, 5, 403, "AccessDenied"},
	} {
		c := s.dial()
		c.send(s.head(refused.call, refused.length))
		a := c.wantAnswer("PUT", refused.status, refused.code)
		if a.header.Get("Connection") != "close" || a.header.Get("x-amz-request-id") == "" {
			t.Errorf("%v", a.header)
		}
		c.wantClosed()
	}
	if got := s.get("/b-1/k"); got != "hello" {
		t.Fatalf("%q", got)
	}
}

// What is left of a body is never taken for the next request.
func TestUnreadBodies(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	s.put("/b-1/k", "kept")
	evil := s.head(call{method: "DELETE", path: "/b-1/k"}, 0)
	// Small: drained, and the connection goes on.
	c := s.dial()
	c.send(s.head(putCall("/absent/k"), len(evil)) + evil + s.head(call{method: "GET", path: "/b-1/k"}, -1))
	c.wantAnswer("PUT", 404, "NoSuchBucket")
	if a := c.answer("GET"); a.body != "kept" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// An operation without a body of its own.
	c.send(s.head(call{method: "GET", path: "/b-1/k", hash: unsignedHash}, len(evil)) + evil + s.head(call{method: "HEAD", path: "/b-1/k"}, -1))
	if a := c.answer("GET"); a.body != "kept" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := c.answer("HEAD"); a.header.Get("Content-Length") != "4" {
		t.Fatalf("%v", a.header)
	}
	// Large: answered, then closed.
	body := bytes.Repeat([]byte(evil), 4<<20/len(evil))
	c = s.dial()
	c.send(s.head(putCall("/absent/k"), len(body)))
	go c.Conn.Write(body) // may be cut off
	a := c.wantAnswer("PUT", 404, "NoSuchBucket")
	if a.header.Get("Connection") != "close" {
		t.Fatalf("%v", a.header)
	}
	c.wantClosed()
	if got := s.get("/b-1/k"); got != "kept" {
		t.Fatalf("%q", got)
	}
}

// Requests on one connection, sent before the answers are read.
func TestPipelining(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	c := s.dial()
	var text string
	for i := range 5 {
		text += s.head(putCall(fmt.Sprintf("/b-1/k%d", i)), 1) + "x" + s.head(call{method: "HEAD", path: "/b-1/absent"}, -1)
	}
	c.send(text)
	for range 5 {
		c.wantAnswer("PUT", 200, "")
		if a := c.answer("HEAD"); a.status != 404 || a.body != "" {
			t.Fatalf("%d %q", a.status, a.body)
		}
	}
}

func TestTimeouts(t *testing.T) {
	s := newServer(t, func(o *Options) { o.ProgressTimeout, o.HeaderTimeout = 100*time.Millisecond, 100*time.Millisecond })
	s.put("/b-1", "")
	s.put("/b-1/k", "kept")
	c := s.dial()
	c.send("GET / HTTP/1.1\r\n") // and no more
	c.wantAnswer("GET", 400, "RequestTimeout")
	for _, sent := range []int{10, 20_000} {
		c = s.dial()
		c.send(s.head(putCall("/b-1/k"), 100_000) + strings.Repeat("x", sent))
		c.wantAnswer("PUT", 400, "RequestTimeout")
		c.wantClosed()
	}
	if got := s.get("/b-1/k"); got != "kept" {
		t.Fatalf("%q", got)
	}
}

func TestRequestBound(t *testing.T) {
	s := newServer(t, func(o *Options) { o.MaxRequests = 1 })
	s.put("/b-1", "")
	c := s.dial()
	c.send(s.head(putCall("/b-1/k"), 100_000) + strings.Repeat("x", 50_000)) // occupies the slot
	for len(s.slots) == 0 {
		time.Sleep(time.Millisecond)
	}
	a := s.refused(503, "SlowDown", call{method: "GET", path: "/b-1"})
	if a.header.Get("Retry-After") == "" {
		t.Fatalf("%v", a.header)
	}
	c.send(strings.Repeat("x", 50_000))
	c.wantAnswer("PUT", 200, "")
	s.get("/b-1")
}

// Shutdown lets a request under way end, and breaks it off when told so.
func TestShutdown(t *testing.T) {
	for _, patient := range []bool{true, false} {
		s := newServerWithoutCleanup(t)
		s.put("/b-1", "")
		c := s.dial()
		c.send(s.head(putCall("/b-1/k"), 100_000) + strings.Repeat("x", 50_000))
		for len(s.slots) == 0 {
			time.Sleep(time.Millisecond)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(ctx) }()
		for {
			probe, err := net.Dial("tcp", s.addr)
			if err != nil {
				break // it takes no more connections
			}
			probe.Close()
			time.Sleep(time.Millisecond)
		}
		if patient {
			c.send(strings.Repeat("x", 50_000))
			if a := c.wantAnswer("PUT", 200, ""); a.header.Get("Connection") != "close" {
				t.Fatalf("%v", a.header)
			}
		} else {
			cancel()
		}
		if err := <-done; (err == nil) != patient {
			t.Fatalf("shutdown: %v", err)
		}
		if _, err := s.objects.Head(context.Background(), "b-1", "k", &object.GetInput{}); (err == nil) != patient {
			t.Fatalf("object after shutdown: %v", err)
		}
		s.stop()
	}
}

// A body that the client stops to read does not keep anything for ever.
func TestAbandonedDownload(t *testing.T) {
	s := newServer(t, func(o *Options) { o.ProgressTimeout = 200 * time.Millisecond })
	s.put("/b-1", "")
	s.put("/b-1/k", string(pattern(16<<20)))
	c := s.dial()
	c.send(s.head(call{method: "GET", path: "/b-1/k"}, -1))
	if _, err := c.br.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for len(s.slots) != 0 { // until the server has given up
		time.Sleep(5 * time.Millisecond)
	}
}
