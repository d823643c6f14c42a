package s3api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
)

// wireBody reads the body of a request from its connection. Every read must
// make progress within the server's timeout.
type wireBody struct {
	r       io.Reader // nil: no body
	left    int64     // of Content-Length; -1 when the coding tells the end
	conn    net.Conn
	timeout time.Duration
	armed   time.Time // when the deadline was set last; not at every read
	err     error     // sticky, io.EOF included
	open    *auth.Body
}

// drainTimeout is how long the end of a body that nobody wants is waited for.
const drainTimeout = 5 * time.Second

// bodyError is a failure to read from the client, not one of the store.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read request body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// Read implements io.Reader. Errors: *bodyError.
func (b *wireBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.r == nil {
		return 0, io.EOF
	}
	if now := time.Now(); now.Sub(b.armed) > b.timeout/8 {
		b.armed = now
		if err := b.conn.SetReadDeadline(now.Add(b.timeout)); err != nil {
			b.err = &bodyError{err}
			return 0, b.err
		}
	}
	n, err := b.r.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	switch {
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
		b.err = err
	case err != nil:
		b.err = &bodyError{err}
		return n, b.err
	}
	return n, err
}

// contentLength returns the length that the client announced: -1 when the
// transfer coding tells the end, and not given when it announced nothing.
func contentLength(h *fasthttp.RequestHeader) (n int64, given bool) {
	n = int64(h.ContentLength())
	switch {
	case n == -1 || n > 0:
		return n, true
	case n < 0:
		return 0, false
	}
	// fasthttp sets zero where there was nothing.
	for line := range bytes.Lines(h.RawHeaders()) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte(fasthttp.HeaderContentLength)) {
			return 0, true
		}
	}
	return 0, false
}

// attachBody connects r.body to the connection.
func (r *request) attachBody() {
	if r.body.conn != nil {
		return
	}
	n, _ := contentLength(r.header())
	r.body = wireBody{r: r.ctx.RequestBodyStream(), left: n, conn: r.ctx.Conn(), timeout: r.srv.o.ProgressTimeout}
}

// openBody returns the body as the client means it, which ends with io.EOF only
// if it is what was signed. The request closes it.
func (r *request) openBody() (*auth.Body, error) {
	length, _ := contentLength(r.header())
	decoded, err := r.decodedLength()
	if err != nil {
		return nil, err
	}
	r.attachBody()
	b, err := r.proof.NewBody(&r.body, auth.BodyOptions{Length: length, Decoded: decoded, Trailers: r.trailers()})
	if err != nil {
		return nil, err
	}
	r.body.open = b
	return b, nil
}

// decodedLength returns x-amz-decoded-content-length, -1 when it is absent.
func (r *request) decodedLength() (int64, error) {
	text := r.amz("x-amz-decoded-content-length")
	if text == "" {
		return -1, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, invalidArgument("x-amz-decoded-content-length", text, "The decoded content length must be a number of bytes")
	}
	return int64(n), nil
}

// trailers returns the names that x-amz-trailer announces.
func (r *request) trailers() []string {
	var names []string
	for _, f := range r.amzFields {
		if f.Name != "x-amz-trailer" {
			continue
		}
		for name := range strings.SplitSeq(f.Value, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// finishBody reads what is left of a small body, so that the connection can go
// on, and has the connection closed otherwise.
func (r *request) finishBody() {
	if r.body.open != nil {
		r.body.open.Close()
		r.body.open = nil
	}
	if !r.ctx.Request.IsBodyStream() {
		return // none was sent, or none asked for
	}
	r.attachBody()
	b := &r.body
	if b.err == io.EOF || b.left == 0 {
		return
	}
	if b.err == nil && b.left <= maxDrainBytes {
		b.timeout, b.armed = min(b.timeout, drainTimeout), time.Time{}
		if _, err := io.Copy(io.Discard, io.LimitReader(b, maxDrainBytes+1)); err == nil && b.err == io.EOF {
			return
		}
	}
	r.linger()
}
