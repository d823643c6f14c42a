package main

import (
	"bytes"
	"context"
	wire "encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"
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

// do makes a request and returns the error of the answer.
func (c *nbdClient) do(kind, flags uint16, off uint64, n uint32, data, into []byte) uint32 {
	c.t.Helper()
	c.n++
	c.write(uint32(nbdRequest), flags, kind, c.n, off, n, data)
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

// Random reads, writes, trims, flushes and writes with FUA are what a plain image
// makes of them; when the server of the device dies, the object is as it was flushed last.
func TestNBD(t *testing.T) {
	p := start(t, t.TempDir())
	if _, stderr, err := p.stemma(t.Context(), "bucket", "create", "disks"); err != nil {
		t.Fatal(stderr)
	}
	const size = 3<<20 + 512
	t.Setenv("STEMMA_ROOT_ACCESS_KEY", testAccess)
	t.Setenv("STEMMA_ROOT_SECRET_KEY", testSecret)
	flags := &adminFlags{endpoint: p.admin, who: credentialFlags{region: defaultRegion}}
	rng := rand.New(rand.NewPCG(1, 7))
	image, flushed := make([]byte, size), make([]byte, size)
	for round := range 3 {
		d := &nbdDevice{flags: flags, bucket: "disks", key: "a/disk.img"}
		if err := d.open(t.Context(), size); err != nil {
			t.Fatal(err)
		}
		ln, err := nbdListen("unix:" + filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- serveNBD(ctx, ln, d) }()
		c := dialNBD(t, ln.Addr())
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
		d.pending, d.bytes = nil, 0
		d.mu.Unlock()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		copy(image, flushed)
		got := make([]byte, size)
		again := &nbdDevice{flags: flags, bucket: "disks", key: "a/disk.img", size: size}
		if err := again.read(t.Context(), got, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, image) {
			t.Fatalf("round %d: the object is not as it was flushed last", round)
		}
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
