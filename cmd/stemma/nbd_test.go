package main

import (
	"bytes"
	"context"
	wire "encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stemma/client"
)

// nbdClient speaks the protocol over a socket.
type nbdClient struct {
	t    *testing.T
	conn net.Conn
	size uint64
	n    uint64
}

func dialNBD(t *testing.T, address net.Addr) *nbdClient {
	t.Helper()
	conn, err := net.Dial(address.Network(), address.String())
	if err != nil {
		t.Fatal(err)
	}
	c := &nbdClient{t: t, conn: conn}
	t.Cleanup(func() { conn.Close() })
	var hello struct {
		Magic, Option uint64
		Flags         uint16
	}
	c.read(&hello)
	if hello.Magic != nbdMagic || hello.Option != nbdOptionMagic || hello.Flags != 3 {
		t.Fatalf("%+v", hello)
	}
	c.write(uint32(3))
	c.write(uint64(nbdOptionMagic), uint32(99), uint32(0)) // an option that nobody knows
	if kind, _ := c.reply(); kind != nbdRepUnsupported {
		t.Fatalf("reply %x", kind)
	}
	c.write(uint64(nbdOptionMagic), uint32(nbdOptGo), uint32(6), uint32(0), uint16(0))
	for {
		kind, data := c.reply()
		switch {
		case kind == nbdRepAck:
			return c
		case kind != nbdRepInfo:
			t.Fatalf("reply %x", kind)
		case data[1] == 0:
			c.size = wire.BigEndian.Uint64(data[2:])
		}
	}
}

func (c *nbdClient) read(v any) {
	c.t.Helper()
	if err := wire.Read(c.conn, wire.BigEndian, v); err != nil {
		c.t.Fatal(err)
	}
}

func (c *nbdClient) write(values ...any) {
	c.t.Helper()
	for _, v := range values {
		if err := wire.Write(c.conn, wire.BigEndian, v); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *nbdClient) reply() (kind uint32, data []byte) {
	c.t.Helper()
	var h struct {
		Magic             uint64
		Option, Kind, Len uint32
	}
	c.read(&h)
	data = make([]byte, h.Len)
	if _, err := io.ReadFull(c.conn, data); err != nil {
		c.t.Fatal(err)
	}
	return h.Kind, data
}

// send makes a request, whose cookie it returns, and waits for no answer.
func (c *nbdClient) send(kind, flags uint16, off uint64, n uint32, data []byte) (cookie uint64) {
	c.t.Helper()
	c.n++
	c.write(uint32(nbdRequest), flags, kind, c.n, off, n, data)
	return c.n
}

// do makes a request and returns the error of the answer.
func (c *nbdClient) do(kind, flags uint16, off uint64, n uint32, data, into []byte) uint32 {
	c.t.Helper()
	c.send(kind, flags, off, n, data)
	var h struct {
		Magic, Code uint32
		Cookie      uint64
	}
	c.read(&h)
	if h.Magic != nbdReply || h.Cookie != c.n {
		c.t.Fatalf("%+v", h)
	}
	if h.Code == 0 && into != nil {
		c.read(into)
	}
	return h.Code
}

// nbdServed is a device that the test serves itself, over a server of its own.
type nbdServed struct {
	*nbdDevice
	ln   net.Listener
	stop func() error
}

// serveDevice serves an object of a server until stop.
func serveDevice(t *testing.T, c *client.Client, size uint64) *nbdServed {
	t.Helper()
	s := &nbdServed{nbdDevice: &nbdDevice{object: nbdObject{c: c, bucket: "disks", key: "a/disk.img", patience: 10 * time.Second}}}
	if err := s.open(t.Context(), size); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.ln, err = nbdListen("unix:" + filepath.Join(t.TempDir(), "s")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveNBD(ctx, s.ln, s.nbdDevice, slog.New(slog.DiscardHandler)) }()
	s.stop = sync.OnceValue(func() error {
		stop()
		defer s.object.close()
		return <-done
	})
	t.Cleanup(func() { _ = s.stop() })
	return s
}

// diskServer starts a server that has a bucket "disks", and returns a client whose connections dial makes.
func diskServer(t *testing.T, dial func(ctx context.Context, network, address string) (net.Conn, error), args ...string) *client.Client {
	t.Helper()
	p := start(t, t.TempDir(), args...)
	c, err := client.New(client.Options{Endpoint: p.admin, AccessKey: testAccess, SecretKey: testSecret, HTTP: &http.Client{Transport: &http.Transport{DialContext: dial}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateBucket(t.Context(), client.NewBucket{Name: "disks"}); err != nil {
		t.Fatal(err)
	}
	return c
}

// Random reads, writes, trims, flushes and writes with FUA are what a plain image
// makes of them; when the server of the device dies, the object is as it was flushed last.
func TestNBD(t *testing.T) { testNBD(t) }

// They are where all is encrypted, too.
func TestNBDEncrypted(t *testing.T) { testNBD(t, "--encrypt") }

func testNBD(t *testing.T, args ...string) {
	const size = 3<<20 + 512
	api := diskServer(t, nil, args...)
	rng := rand.New(rand.NewPCG(1, 7))
	image, flushed := make([]byte, size), make([]byte, size)
	var lsn client.LSN
	for round := range 3 {
		d := serveDevice(t, api, size)
		if d.lsn <= lsn {
			t.Errorf("opened at %d after %d: a commit of the device before could still be carried out", d.lsn, lsn)
		}
		lsn = d.lsn
		c := dialNBD(t, d.ln.Addr())
		if c.size != size {
			t.Fatalf("%d bytes", c.size)
		}
		for range 150 {
			off := rng.Uint64N(size)
			n := min(1+rng.Uint64N(40<<10), size-off)
			var code uint32
			switch rng.IntN(8) {
			case 0:
				code = c.do(nbdCmdFlush, 0, 0, 0, nil, nil)
				copy(flushed, image)
			case 1:
				code = c.do(nbdCmdTrim, 0, off, uint32(n), nil, nil)
				clear(image[off : off+n])
			case 2, 3, 4:
				data, fua := make([]byte, n), uint16(rng.IntN(8)/7)
				for i := range data {
					data[i] = byte(rng.Uint32())
				}
				code = c.do(nbdCmdWrite, fua, off, uint32(n), data, nil)
				if copy(image[off:], data); fua != 0 {
					copy(flushed, image)
				}
			default:
				got := make([]byte, n)
				if code = c.do(nbdCmdRead, 0, off, uint32(n), nil, got); !bytes.Equal(got, image[off:off+n]) {
					t.Fatalf("round %d: %d bytes at %d differ", round, n, off)
				}
			}
			if code != 0 {
				t.Fatalf("error %d", code)
			}
		}
		if code := c.do(nbdCmdRead, 0, size, 1, nil, nil); code != nbdInvalid {
			t.Errorf("read behind the end: %d", code)
		}
		if code := c.do(nbdCmdWrite, 0, size-1, 2, []byte("xx"), nil); code != nbdNoSpace {
			t.Errorf("write behind the end: %d", code)
		}
		if code := c.do(77, 0, 0, 0, nil, nil); code != nbdInvalid {
			t.Errorf("unknown command: %d", code)
		}
		// The process dies: what waits in its memory is lost. That is all there is to lose.
		d.mu.Lock()
		d.mu.pending, d.mu.durable = nil, d.mu.added
		d.mu.Unlock()
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		copy(image, flushed)
		got, err := api.ReadRange(t.Context(), "disks", "a/disk.img", 0, 0, size)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, image) {
			t.Fatalf("round %d: the object is not as it was flushed last", round)
		}
	}
}

// slowLink has connections whose answers wait while it is held.
type slowLink struct {
	mu   sync.RWMutex // held exclusively by who holds answers back
	sent atomic.Int64 // bytes to the server
}

func (l *slowLink) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	return &slowConn{c, l}, err
}

type slowConn struct {
	net.Conn
	l *slowLink
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.l.sent.Add(int64(len(p)))
	return c.Conn.Write(p)
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.mu.RLock()
	defer c.l.mu.RUnlock()
	return n, err
}

// Reads of one client go to the server while others wait for their answers, and a write is answered meanwhile.
func TestNBDManyAtOnce(t *testing.T) {
	var link slowLink
	const size, reads = 1 << 20, 20
	d := serveDevice(t, diskServer(t, link.dial), size)
	c := dialNBD(t, d.ln.Addr())
	if code := c.do(nbdCmdWrite, nbdFUA, 0, 4096, bytes.Repeat([]byte{1}, 4096), nil); code != 0 {
		t.Fatal(code)
	}
	link.mu.Lock()
	before := link.sent.Load()
	for range reads {
		c.send(nbdCmdRead, 0, 0, 1, nil)
	}
	if code := c.do(nbdCmdWrite, 0, 0, 1, []byte{2}, nil); code != 0 {
		t.Error(code)
	}
	const least = 20 // bytes of a read on its way
	for late := time.Now().Add(10 * time.Second); link.sent.Load()-before < reads*least; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%d bytes were sent for %d reads", link.sent.Load()-before, reads)
		}
	}
	link.mu.Unlock()
	for range reads {
		var h struct {
			Magic, Code uint32
			Cookie      uint64
			Data        byte
		}
		if c.read(&h); h.Code != 0 || h.Data != 1 && h.Data != 2 { // the write came while the read was under way
			t.Errorf("%+v", h)
		}
	}
	last := make([]byte, 1)
	if code := c.do(nbdCmdRead, 0, 0, 1, nil, last); code != 0 || last[0] != 2 {
		t.Errorf("%d, error %d", last[0], code)
	}
}

// lateLink has connections that hold a write to the server back, the next one or one later, and break for the device when that is made.
type lateLink struct {
	before  atomic.Int32 // writes that pass once it is armed
	armed   atomic.Bool
	release chan struct{} // has what was held back sent
	sent    chan error
}

func (l *lateLink) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	return &lateConn{Conn: c, l: l}, err
}

type lateConn struct {
	net.Conn
	l    *lateLink
	late bool
}

func (c *lateConn) Write(p []byte) (int, error) {
	if !c.l.armed.Load() || c.l.before.Add(-1) >= 0 || !c.l.armed.CompareAndSwap(true, false) {
		return c.Conn.Write(p)
	}
	c.late = true
	held := bytes.Clone(p)
	go func() {
		<-c.l.release
		err := c.Conn.SetDeadline(time.Now().Add(10 * time.Second))
		if err == nil {
			_, err = c.Conn.Write(held)
		}
		if err == nil { // the answer: it was carried out, or refused
			_, err = c.Conn.Read(make([]byte, 1))
		}
		c.l.sent <- errors.Join(err, c.Conn.Close())
	}()
	return 0, io.ErrClosedPipe
}

func (c *lateConn) Close() error {
	if c.late {
		return c.Conn.SetReadDeadline(time.Unix(1, 0)) // the stream's reader ends, the server sees nothing
	}
	return c.Conn.Close()
}

// A commit whose connection broke is made again, and its first try, if it reaches the server only then, undoes nothing newer.
func TestNBDLateCommit(t *testing.T) {
	link := lateLink{release: make(chan struct{}), sent: make(chan error)}
	api := diskServer(t, link.dial)
	d := serveDevice(t, api, 1<<20)
	c := dialNBD(t, d.ln.Addr())
	write := func(text string) {
		t.Helper()
		if code := c.do(nbdCmdWrite, nbdFUA, 4090, uint32(len(text)), []byte(text), nil); code != 0 {
			t.Fatal(code)
		}
	}
	write("before it")
	link.armed.Store(true)
	write("the first")
	write("the later")
	close(link.release)
	if err := <-link.sent; err != nil {
		t.Fatal(err)
	}
	got, err := api.ReadRange(t.Context(), "disks", "a/disk.img", 0, 4090, 9)
	if err != nil || string(got) != "the later" {
		t.Errorf("%q, %v", got, err)
	}
}

// A device that was made larger twice, since the first try got no answer, is not cut by that when it comes late.
func TestNBDLateGrowth(t *testing.T) {
	link := lateLink{release: make(chan struct{}), sent: make(chan error)}
	api := diskServer(t, link.dial)
	serveDevice(t, api, 1<<20)
	link.before.Store(2) // the request for a stream, and the write of nothing
	link.armed.Store(true)
	d := nbdDevice{object: nbdObject{c: api, bucket: "disks", key: "a/disk.img", patience: time.Minute}}
	defer d.object.close()
	if err := d.open(t.Context(), 2<<20); err != nil || d.size != 2<<20 || link.armed.Load() {
		t.Fatal(d.size, err)
	}
	grown := []client.PageOp{{Kind: client.PageResize, Off: 3 << 20}}
	if _, err := api.WritePages(t.Context(), "disks", "a/disk.img", grown, client.PagesOptions{}); err != nil {
		t.Fatal(err)
	}
	close(link.release)
	if err := <-link.sent; err != nil {
		t.Fatal(err)
	}
	o, err := api.Look(t.Context(), "disks", "", "a/disk.img")
	if err != nil || o.Keys[0].Object.Size != 3<<20 {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestNBDListensOnLoopbackOnly(t *testing.T) {
	for _, a := range []string{"0.0.0.0:0", "192.168.1.1:10809", "nothing", ":0"} {
		if ln, err := nbdListen(a); err == nil {
			ln.Close()
			t.Errorf("listens on %q", a)
		}
	}
}

// A stream of another key than the root's ends a quarter of an hour after it was signed. The request that it ends with is sent again, over a new one.
func TestNBDStreamTooOld(t *testing.T) {
	frame := func(kind, id byte, body ...byte) []byte {
		p := wire.LittleEndian.AppendUint32(nil, uint32(2+len(body)))
		return append(append(p, kind, id), body...)
	}
	var streams atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := streams.Add(1)
		conn, r, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: stemma-pages/1\r\n\r\n")
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, r, int64(wire.LittleEndian.Uint32(head[:]))); err != nil {
			return
		}
		if n == 1 {
			_, _ = conn.Write(frame(5, 0, []byte(`{"code": "RequestTimeTooSkewed", "message": "too old"}`)...))
			return
		}
		_, _ = conn.Write(frame(3, 1, append([]byte{1, 0, 9, 4, 4}, "data"...)...))
		_, _ = io.Copy(io.Discard, r)
	}))
	defer server.Close()
	c, err := client.New(client.Options{Endpoint: server.URL, AccessKey: "editor", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	o := nbdObject{c: c, bucket: "disk", key: "k", patience: time.Minute}
	defer o.close()
	p, err := o.read(t.Context(), 0, 4)
	if string(p) != "data" || err != nil || streams.Load() != 2 {
		t.Errorf("%q, %v, of %d streams", p, err, streams.Load())
	}
}
