package s3api

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// lingerFor is how long a connection that is closed with unread input goes on
// reading, so that the peer sees the answer and not a reset.
const lingerFor = 500 * time.Millisecond

// listener accepts connections that it can close all at once.
type listener struct {
	net.Listener
	writeTimeout   time.Duration
	sent, received *metrics.Counter // bytes
	// tls encrypts the connections, unless it is nil. Handshakes end in time.
	tls              *tls.Config
	handshakeTimeout time.Duration

	mu struct {
		sync.Mutex
		conns  map[*conn]struct{}
		closed bool
	}
}

func newListener(ln net.Listener, writeTimeout time.Duration, m *requestMetrics) *listener {
	l := &listener{Listener: ln, writeTimeout: writeTimeout, sent: m.sent, received: m.received}
	l.mu.conns = make(map[*conn]struct{})
	return l
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, l: l}
	if l.tls != nil {
		// Handshakes read within the time for a header; here is the time that they may write in.
		if err := nc.SetWriteDeadline(time.Now().Add(l.handshakeTimeout)); err != nil {
			nc.Close()
			return nil, fmt.Errorf("accept: %w", err)
		}
		c.Conn, c.secure = tls.Server(nc, l.tls), true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		nc.Close()
		return nil, net.ErrClosed
	}
	l.mu.conns[c] = struct{}{}
	return c, nil
}

// closeAll closes the listener and every connection.
func (l *listener) closeAll() {
	l.Listener.Close() // fasthttp may not have known it yet
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.closed = true
	for c := range l.mu.conns {
		c.Conn.Close()
	}
}

// conn is a connection whose writes must make progress.
type conn struct {
	net.Conn
	l       *listener
	secure  bool // by TLS
	lingers atomic.Bool
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.l.writeTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	c.l.sent.Add(n)
	return n, err
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.received.Add(n)
	if c.secure && err != nil {
		c.refusePlain(err)
	}
	return n, err
}

// refusePlain tells a client that speaks HTTP where TLS is spoken.
func (c *conn) refusePlain(err error) {
	var e tls.RecordHeaderError
	if !errors.As(err, &e) || e.Conn == nil {
		return
	}
	switch string(e.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		const message = "Client sent an HTTP request to an HTTPS server.\n"
		_, _ = fmt.Fprintf(e.Conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(message), message)
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.l.mu.Lock()
	delete(c.l.mu.conns, c)
	c.l.mu.Unlock()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.lingers.Load() && half.CloseWrite() == nil {
		if c.Conn.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
			io.Copy(io.Discard, io.LimitReader(c.Conn, 16<<20)) // the deadline ends it
		}
	}
	return c.Conn.Close()
}
