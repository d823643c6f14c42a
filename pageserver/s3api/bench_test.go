package s3api

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/valyala/fasthttp/fasthttputil"

	"stemma/pageserver/object"
	"stemma/wal"
)

// wireClient sends requests that were signed before, and reads the answers
// without allocating, so that what a benchmark counts is the server's.
type wireClient struct {
	conn net.Conn
	r    *bufio.Reader
}

// newWireClient connects to a server without a network.
func (s *testServer) newWireClient(t testing.TB) *wireClient {
	ln := fasthttputil.NewInmemoryListener()
	go func() { _ = s.Serve(ln) }() // Shutdown ends it
	conn, err := ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &wireClient{conn, bufio.NewReaderSize(conn, 64<<10)}
}

// wire returns a signed request as it goes on the wire.
func (s *testServer) wire(t testing.TB, c call) []byte {
	var b bytes.Buffer
	if err := s.request(c).Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var contentLengthField = []byte("Content-Length: ")

// do sends a request and reads the answer, whose body it returns the length of.
func (w *wireClient) do(t testing.TB, request []byte, head bool) int {
	if _, err := w.conn.Write(request); err != nil {
		t.Fatal(err)
	}
	status, n := 0, 0
	for first := true; ; first = false {
		line, err := w.r.ReadSlice('\n')
		if err != nil {
			t.Fatal(err)
		}
		if first {
			status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
		}
		if v, ok := bytes.CutPrefix(line, contentLengthField); ok {
			for _, c := range bytes.TrimSpace(v) {
				n = n*10 + int(c-'0')
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if status/100 != 2 {
		body, _ := io.ReadAll(io.LimitReader(w.r, int64(n)))
		t.Fatalf("status %d: %s", status, body)
	}
	if !head {
		if _, err := w.r.Discard(n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// benchmarkCalls are the requests of agents, over a bucket of 1,000 objects of 4 KiB.
func benchmarkCalls(s *testServer) map[string]call {
	s.put("/bench", "")
	body := make([]byte, 4096)
	rand.Read(body)
	for i := range 1000 {
		s.put("/bench/dir-"+strconv.Itoa(i%10)+"/object-"+fmt.Sprintf("%06d", i), string(body))
	}
	return map[string]call{
		"get":       {method: "GET", path: "/bench/dir-0/object-000100"},
		"head":      {method: "HEAD", path: "/bench/dir-0/object-000100"},
		"put":       {method: "PUT", path: "/bench/dir-0/object-000100", body: string(body)},
		"list":      {method: "GET", path: "/bench?list-type=2&max-keys=1000"},
		"delimiter": {method: "GET", path: "/bench?delimiter=%2F&list-type=2"},
	}
}

// BenchmarkRequest measures a signed request from the bytes of its header to
// those of its answer, without a network and on a disk of memory.
func BenchmarkRequest(b *testing.B) {
	s := newServer(b)
	for name, c := range benchmarkCalls(s) {
		b.Run(name, func(b *testing.B) {
			client, request := s.newWireClient(b), s.wire(b, c)
			var bytes int
			b.ReportAllocs()
			for b.Loop() {
				bytes = client.do(b, request, c.method == "HEAD")
			}
			if strings.HasPrefix(name, "get") {
				b.SetBytes(int64(bytes))
			}
		})
	}
}

// pageOfKeys is what a listing of 1,000 keys found.
func pageOfKeys() *object.ListResult {
	res := &object.ListResult{}
	for i := range 1000 {
		res.Entries = append(res.Entries, object.ListEntry{
			Key: fmt.Sprintf("some/path/to/object-%06d", i), Size: 4096, LSN: wal.LSN(1_700_000_000_000_000_000 + i), Algorithm: object.CRC64NVME,
		})
	}
	return res
}

// BenchmarkListXML is what a page of 1,000 keys costs to write.
func BenchmarkListXML(b *testing.B) {
	l, res := listing{}, pageOfKeys()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		w := l.begin(buf[:0], "bucket", "")
		if err := l.finish(w, res, nil); err != nil {
			b.Fatal(err)
		}
		buf = w.bytes()
		b.SetBytes(int64(len(w.bytes())))
	}
}
