package pageserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7/pkg/signer"

	native "stemma/client"
	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/wal/storefs"
)

// streamClient returns a client of the native API, and makes a bucket.
func streamClient(t *testing.T, s *Server, bucket string) *native.Client {
	t.Helper()
	c, err := native.New(native.Options{Endpoint: "http://" + s.AdminAddr().String(), AccessKey: rootKey.ID, SecretKey: rootKey.Secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client(s).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
	return c
}

func openStream(t *testing.T, c *native.Client) *native.PageStream {
	t.Helper()
	p, err := c.OpenPages(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// Writes of one object that are all under way at once are carried out in their order, reads beside them see what some
// moment left, and what fails fails alone.
func TestPageStream(t *testing.T) {
	s := started(t)
	c := streamClient(t, s, "disk")
	ctx := t.Context()
	p := openStream(t, c)
	const page, pages = 8192, 4
	first, err := p.WritePages(ctx, "disk", "a/img", []native.PageOp{{Kind: native.PageResize, Off: page * pages}}, native.PagesOptions{Create: true, PageBytes: page})
	if err != nil || first.Size != page*pages || first.PageBytes != page || len(first.ETag) < 3 || first.ETag[0] != '"' || first.File == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	full := func(b byte) []byte { return bytes.Repeat([]byte{b}, page) }

	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		readers.Go(func() {
			var last byte
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := p.ReadPages(ctx, "disk", []native.PageRead{{Key: "a/img", Len: page}, {Key: "a/img", Off: page, Len: page}})
				if err != nil || got[0].Err != nil || !bytes.Equal(got[0].Data, full(got[0].Data[0])) || !bytes.Equal(got[0].Data, got[1].Data) {
					t.Errorf("%v: %+v", err, got)
					return
				}
				if got[0].Data[0] < last {
					t.Errorf("%d after %d", got[0].Data[0], last)
				}
				last = got[0].Data[0]
			}
		})
	}
	var begun []*native.PagesWriting
	for i := byte(1); i <= 200; i++ {
		w, err := p.StartWritePages(ctx, "disk", "a/img", []native.PageOp{
			{Kind: native.PageWrite, Data: full(i)}, {Kind: native.PageWrite, Off: page, Data: full(i)},
		}, native.PagesOptions{})
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, w)
	}
	lsn := first.LSN
	for i, w := range begun {
		a, err := w.Wait(ctx)
		if err != nil || a.LSN <= lsn {
			t.Fatalf("write %d: %+v after %d, %v", i, a, lsn, err)
		}
		lsn = a.LSN
		got, err := p.ReadPages(ctx, "disk", []native.PageRead{{Key: "a/img", At: a.LSN, Len: 1}})
		if err != nil || len(got) != 1 || got[0].Data[0] != byte(i+1) {
			t.Fatalf("at the LSN of write %d: %+v, %v", i, got, err)
		}
	}
	close(stop)
	readers.Wait()

	for code, do := range map[string]func() error{
		"NoSuchBucket": func() error { _, err := p.ReadPages(ctx, "none", []native.PageRead{{Key: "k", Len: 1}}); return err },
		"NoSuchKey": func() error {
			_, err := p.WritePages(ctx, "disk", "none", []native.PageOp{{Kind: native.PageResize}}, native.PagesOptions{})
			return err
		},
		"PreconditionFailed": func() error {
			_, err := p.WritePages(ctx, "disk", "a/img", nil, native.PagesOptions{Create: true, Exclusive: true})
			return err
		},
		"InvalidArgument": func() error { _, err := p.WritePages(ctx, "disk", "a/img", nil, native.PagesOptions{}); return err },
		"RequestTooLarge": func() error {
			_, err := p.ReadPages(ctx, "disk", []native.PageRead{{Key: "a/img", Len: native.MaxStreamedBytes}, {Key: "a/img", Len: 1}})
			return err
		},
	} {
		if err := do(); !native.IsCode(err, code) {
			t.Errorf("%v, want %s", err, code)
		}
	}
	got, err := p.ReadPages(ctx, "disk", []native.PageRead{{Key: "none", Len: 1}, {Key: "a/img", Off: page, Len: 1}})
	if err != nil || !native.IsCode(got[0].Err, "NoSuchKey") || got[1].Err != nil || got[1].Data[0] != 200 {
		t.Errorf("%+v, %v", got, err)
	}
	if part, err := c.ReadRange(ctx, "disk", "a/img", first.LSN, page-1, 2); err != nil || !bytes.Equal(part, []byte{0, 0}) {
		t.Errorf("%v, %v", part, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.ReadPages(ctx, "disk", nil); err != native.ErrStreamClosed {
		t.Errorf("%v", err)
	}
}

// Others than the root may do by a stream what they may do by S3, and no more once their key is gone.
func TestPageStreamOfUsers(t *testing.T) {
	s := started(t)
	root := streamClient(t, s, "disk")
	ann := made(t, s, "ann", "readwrite")
	c, err := native.New(native.Options{Endpoint: "http://" + s.AdminAddr().String(), AccessKey: ann.ID, SecretKey: ann.Secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clientOf(s, ann).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("hers")}); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	op := []native.PageOp{{Kind: native.PageWrite, Data: []byte("x")}}
	if _, err := root.WritePages(ctx, "disk", "k", op, native.PagesOptions{Create: true}); err != nil {
		t.Fatal(err)
	}
	p := openStream(t, c)
	if _, err := p.WritePages(ctx, "hers", "k", op, native.PagesOptions{Create: true}); err != nil {
		t.Fatal(err)
	}
	read := func(bucket string) error {
		got, err := p.ReadPages(ctx, bucket, []native.PageRead{{Key: "k", Len: 1}})
		if err == nil && (got[0].Err != nil || string(got[0].Data) != "x") {
			t.Errorf("%+v", got)
		}
		return err
	}
	if err := read("hers"); err != nil {
		t.Fatal(err)
	}
	bob := made(t, s, "bob", "")
	other, err := native.New(native.Options{Endpoint: "http://" + s.AdminAddr().String(), AccessKey: bob.ID, SecretKey: bob.Secret})
	if err != nil {
		t.Fatal(err)
	}
	q := openStream(t, other)
	if _, err := q.ReadPages(ctx, "disk", []native.PageRead{{Key: "k", Len: 1}}); !native.IsCode(err, "AccessDenied") {
		t.Errorf("a read: %v", err)
	}
	if _, err := q.WritePages(ctx, "disk", "k", op, native.PagesOptions{}); !native.IsCode(err, "AccessDenied") {
		t.Errorf("a write: %v", err)
	}
	if h, err := root.History(ctx, "hers", "k", "", 0); err != nil || len(h.Entries) != 1 || !strings.HasSuffix(h.Entries[0].Principal, "/ann") {
		t.Errorf("%+v, %v", h, err)
	}
	mustAsk(t, s, "DELETE", "/v1/users/ann?force=true", "", nil)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := read("hers")
		if native.IsCode(err, "InvalidAccessKeyId") {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("after the key was removed: %v", err)
		}
	}
}

// rawStream is a stream without a client.
type rawStream struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dialStream(t *testing.T, s *Server) *rawStream {
	t.Helper()
	conn, err := net.Dial("tcp", s.AdminAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	req, err := http.NewRequest("POST", "http://"+s.AdminAddr().String()+streamPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	req = signer.SignV4(*req, rootKey.ID, rootKey.Secret, "", "us-east-1")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", streamProtocol)
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, req)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != streamProtocol {
		t.Fatalf("%+v, %v", res, err)
	}
	return &rawStream{t, conn, r}
}

func (s *rawStream) send(p []byte) {
	s.t.Helper()
	if _, err := s.conn.Write(p); err != nil {
		s.t.Fatal(err)
	}
}

func (s *rawStream) answer() (kind object.PageFrameKind, id uint64, body []byte) {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	head := make([]byte, 4)
	if _, err := io.ReadFull(s.r, head); err != nil {
		s.t.Fatal(err)
	}
	p := make([]byte, binary.LittleEndian.Uint32(head))
	if _, err := io.ReadFull(s.r, p); err != nil {
		s.t.Fatal(err)
	}
	id, n := binary.Uvarint(p[1:])
	return object.PageFrameKind(p[0]), id, p[1+n:]
}

// fails wants an error; with the id 0 it is the last word, and the connection ends.
func (s *rawStream) fails(id uint64, code string) {
	s.t.Helper()
	kind, got, body := s.answer()
	var e AdminError
	if kind != object.FrameFailed || got != id || json.Unmarshal(body, &e) != nil || e.Code != code {
		s.t.Fatalf("kind %d, id %d, %s; want id %d %s", kind, got, body, id, code)
	}
	if id == 0 {
		if _, err := s.r.ReadByte(); err != io.EOF {
			s.t.Fatalf("after the last word: %v", err)
		}
	}
}

// What is no frame ends a stream, what is no request fails alone.
func TestPageStreamBadInput(t *testing.T) {
	s := started(t)
	streamClient(t, s, "disk")
	framed := func(p ...byte) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, uint32(len(p))), p...)
	}
	r := dialStream(t, s)
	r.send(framed(1, 77, 4, 'd', 'i', 's', 'k', 9)) // a batch of another version
	r.fails(77, "InvalidArgument")
	r.send(framed(9, 78))
	r.fails(78, "InvalidArgument")
	r.send(object.AppendPageFrame(nil, &object.PageFrame{Kind: object.FrameRead, ID: 79, Bucket: "disk"}))
	if kind, id, body := r.answer(); kind != object.FrameResults || id != 79 || !bytes.Equal(body, []byte{1}) {
		t.Fatalf("%d, %d, %x", kind, id, body)
	}
	for name, bad := range map[string]struct {
		frame []byte
		code  string
	}{
		"nothing":  {framed(), "BadRequest"},
		"no id":    {framed(1), "BadRequest"},
		"id 0":     {framed(1, 0, 4, 'd', 'i', 's', 'k', 1), "BadRequest"},
		"too long": {binary.LittleEndian.AppendUint32(nil, object.MaxPageFrame+1), "RequestTooLarge"},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialStream(t, s)
			r.send(bad.frame)
			r.fails(0, bad.code)
		})
	}

	c := &pagesClient{t, s}
	c.fails(400, "InvalidRequest", "POST", streamPath, nil)
	c.fails(400, "InvalidRequest", "POST", streamPath, nil, "Connection", "Upgrade", "Upgrade", "other/1")
	c.fails(405, "MethodNotAllowed", "GET", streamPath, nil)
	c.fails(400, "InvalidArgument", "POST", streamPath+"?x=1", nil)
	if status, e := ask(t, s, auth.Key{}, "POST", streamPath, "", nil); status != 403 {
		t.Errorf("%d %+v", status, e)
	}
}

// A client that does not read its answers is not read on; when it reads them it gets all.
func TestPageStreamFlow(t *testing.T) {
	s := started(t)
	c := streamClient(t, s, "disk")
	const size = object.MaxStreamedRead
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	if _, err := c.WritePages(t.Context(), "disk", "k", []native.PageOp{{Kind: native.PageWrite, Data: data}}, native.PagesOptions{Create: true}); err != nil {
		t.Fatal(err)
	}
	r := dialStream(t, s)
	const n = 20
	for i := range uint64(n) {
		r.send(object.AppendPageFrame(nil, &object.PageFrame{Kind: object.FrameRead, ID: i + 1, Bucket: "disk", Reads: []object.PageRead{{Key: "k", Len: size}}}))
	}
	streams := s.admin.streams
	streams.mu.Lock()
	if len(streams.mu.open) != 1 {
		t.Fatalf("%d streams", len(streams.mu.open))
	}
	var p *pageStream
	for p = range streams.mu.open {
	}
	streams.mu.Unlock()
	most := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		most = max(most, len(p.slots))
	}
	if most > 3 || len(p.slots) == 0 { // two have all the room, and one waits for it
		t.Errorf("%d requests under way, %d now", most, len(p.slots))
	}
	seen := make(map[uint64]bool)
	for range n {
		kind, id, body := r.answer()
		got, err := object.DecodePageResults(body)
		if kind != object.FrameResults || err != nil || !bytes.Equal(got[0].Data, data) {
			t.Fatalf("id %d: kind %d, %v", id, kind, err)
		}
		seen[id] = true
	}
	if len(seen) != n {
		t.Errorf("%d answers", len(seen))
	}
}

// There is a bound to how many streams there are.
func TestPageStreamBounds(t *testing.T) {
	s := started(t)
	streamClient(t, s, "disk")
	var open []*rawStream
	for i := range maxStreams {
		r := dialStream(t, s)
		r.send(object.AppendPageFrame(nil, &object.PageFrame{Kind: object.FrameRead, ID: 1, Bucket: "disk"}))
		if kind, _, _ := r.answer(); kind != object.FrameResults {
			t.Fatalf("stream %d: %d", i, kind)
		}
		open = append(open, r)
	}
	dialStream(t, s).fails(0, "SlowDown")
	_ = open[0].conn.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.admin.streams.mu.Lock()
		n := len(s.admin.streams.mu.open)
		s.admin.streams.mu.Unlock()
		if n < maxStreams {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d streams", n)
		}
	}
	r := dialStream(t, s)
	r.send(object.AppendPageFrame(nil, &object.PageFrame{Kind: object.FrameRead, ID: 1, Bucket: "disk"}))
	if kind, _, _ := r.answer(); kind != object.FrameResults {
		t.Fatalf("after one has ended: %d", kind)
	}
}

// Streams end when they are idle.
func TestPageStreamIdle(t *testing.T) {
	s := started(t)
	s.admin.streams.idle = 50 * time.Millisecond
	dialStream(t, s).fails(0, "RequestTimeout")
}

// A shutdown answers what is under way, and tells the client why its stream ends.
func TestPageStreamDrains(t *testing.T) {
	lines := &logLines{}
	o := options(storefs.NewMem(), lines)
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	c := streamClient(t, s, "disk")
	ctx := t.Context()
	p := openStream(t, c)
	var begun []*native.PagesWriting
	for i := range 50 {
		w, err := p.StartWritePages(ctx, "disk", fmt.Sprint(i%5), []native.PageOp{{Kind: native.PageWrite, Data: []byte("x")}}, native.PagesOptions{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, w)
	}
	if _, err := begun[0].Wait(ctx); err != nil {
		t.Fatal(err)
	}
	silent := dialStream(t, s)
	silent.send(object.AppendPageFrame(nil, &object.PageFrame{Kind: object.FrameRead, ID: 1, Bucket: "disk"}))
	if kind, _, _ := silent.answer(); kind != object.FrameResults {
		t.Fatal(kind)
	}
	start := time.Now()
	shutdown(t, s)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	done := 1
	for _, w := range begun[1:] {
		_, err := w.Wait(ctx)
		switch {
		case err == nil:
			done++
		case !native.IsCode(err, "ServiceUnavailable"):
			t.Errorf("%v", err)
		}
	}
	if _, err := p.ReadPages(ctx, "disk", nil); !native.IsCode(err, "ServiceUnavailable") {
		t.Errorf("after the shutdown: %v", err)
	}
	silent.fails(0, "ServiceUnavailable")
	t.Logf("%d of %d writes were carried out", done, len(begun))
}
