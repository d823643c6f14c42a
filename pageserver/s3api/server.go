package s3api

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
	"stemma/pageserver/iam"
	"stemma/pageserver/object"
)

// Options of a Server. Zero values take the defaults named.
type Options struct {
	// Objects is what is served. Required.
	Objects *object.Service
	// Verifier checks signatures. Required.
	Verifier *auth.Verifier
	// Logger receives what an operator should see. Default: discard.
	Logger *slog.Logger
	// Metrics receives counters of requests. Default: a set that nobody reads.
	Metrics *metrics.Set
	// Accounts are those that own buckets and objects, and that ACLs can name. Default: the root's alone.
	Accounts Accounts
	// IAM serves what is sent to the service itself. Default: NotImplemented.
	IAM *iam.API
	// Writers numbers those who write, for the history of keys. Default: nobody is remembered.
	Writers Writers
	// Access records requests. Default: nobody does.
	Access Access
	// Domains are the host names below which buckets are host names. Default
	// localhost and s3.localhost. Any other host, and any address, is path style.
	Domains []string
	// Region is what GetBucketLocation answers. Default us-east-1, which S3 spells as nothing.
	Region string

	// WebsiteDomains are the host names below which ServeWebsites takes names for buckets. Default Domains.
	WebsiteDomains []string
	// TLS encrypts the connections. Nil: they are in the clear.
	TLS *tls.Config
	// RequireTLSForSSEC refuses customers' keys on connections that are not encrypted.
	RequireTLSForSSEC bool

	// MaxConnections bounds open connections, of which each has 32 KiB of buffers; more are turned away. Default 4096.
	MaxConnections int
	// MaxRequests bounds requests being served; more get 503 SlowDown. Default 512.
	MaxRequests int
	// HeaderTimeout bounds the reading of a header section. Default 30 s.
	HeaderTimeout time.Duration
	// ProgressTimeout ends a body of which no byte arrives or leaves for as long. Default 60 s.
	ProgressTimeout time.Duration
	// IdleTimeout ends a connection without requests. Default 2 min.
	IdleTimeout time.Duration
}

// Writers numbers those who write. Safe for concurrent use.
type Writers interface {
	// Writer returns the number of whoever acts for a caller; zero is the root.
	Writer(ctx context.Context, c *auth.Caller) (uint32, error)
}

// Limits of the protocol.
const (
	maxHeaderBytes = 16 << 10 // header section, request line included
	maxDrainBytes  = 256 << 10
	// operationTimeout bounds operations that move no body.
	operationTimeout = 60 * time.Second
)

func (o *Options) setDefaults() error {
	if o.Objects == nil || o.Verifier == nil {
		return errors.New("s3api: options need Objects and Verifier")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Domains == nil {
		o.Domains = []string{"localhost", "s3.localhost"}
	}
	if o.Accounts == nil {
		o.Accounts = rootOnly{}
	}
	if o.WebsiteDomains == nil {
		o.WebsiteDomains = o.Domains
	}
	if o.Region == "" {
		o.Region = defaultRegion
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = 4096
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = 512
	}
	if o.HeaderTimeout <= 0 {
		o.HeaderTimeout = 30 * time.Second
	}
	if o.ProgressTimeout <= 0 {
		o.ProgressTimeout = 60 * time.Second
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 2 * time.Minute
	}
	return nil
}

// Server serves S3. Its goroutines are those of the connections; Shutdown waits
// for them.
type Server struct {
	o       Options
	objects *object.Service
	log     *slog.Logger
	http    fasthttp.Server
	// websites is http for buckets as websites.
	websites fasthttp.Server
	metrics  requestMetrics

	hostID   string // x-amz-id-2
	idSeed   uint64
	requests atomic.Uint64
	slots    chan struct{} // one for each request being served

	// base is the context of every request; it ends when Shutdown loses patience.
	base   context.Context
	cancel context.CancelFunc

	mu struct {
		sync.Mutex
		listeners []*listener
		down      bool // Shutdown was called
	}
}

// New returns a server. Call Serve, then Shutdown.
func New(o Options) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{o: o, objects: o.Objects, log: o.Logger, slots: make(chan struct{}, o.MaxRequests)}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.metrics.init(o.Metrics, func() float64 { return float64(len(s.slots)) })
	var seed [40]byte
	rand.Read(seed[:]) // never fails
	s.idSeed = binary.LittleEndian.Uint64(seed[:])
	s.hostID = base64.StdEncoding.EncodeToString(seed[8:])
	s.initHTTP(&s.http)
	s.http.ExpectHandler = s.expect
	s.initHTTP(&s.websites)
	s.websites.Handler = s.handleWebsite
	return s, nil
}

func (s *Server) initHTTP(h *fasthttp.Server) {
	*h = fasthttp.Server{
		Name:           "Stemma",
		Handler:        s.handle,
		ErrorHandler:   s.handleBroken,
		Logger:         connectionLog{s.o.Logger},
		Concurrency:    s.o.MaxConnections,
		ReadBufferSize: maxHeaderBytes, WriteBufferSize: 16 << 10,
		ReadTimeout: s.o.HeaderTimeout, IdleTimeout: s.o.IdleTimeout,
		StreamRequestBody: true, DisablePreParseMultipartForm: true,
		NoDefaultContentType: true, CloseOnShutdown: true, SecureErrorLogMessage: true,
	}
}

// Serve answers the connections that ln accepts until Shutdown.
func (s *Server) Serve(ln net.Listener) error { return s.serveOn(&s.http, ln, "S3") }

func (s *Server) serveOn(h *fasthttp.Server, ln net.Listener, what string) error {
	l := newListener(ln, s.o.ProgressTimeout, &s.metrics)
	l.tls, l.handshakeTimeout = s.o.TLS, s.o.HeaderTimeout
	s.mu.Lock()
	down := s.mu.down
	s.mu.listeners = append(s.mu.listeners, l)
	s.mu.Unlock()
	if down {
		return ln.Close()
	}
	if err := h.Serve(l); err != nil {
		return fmt.Errorf("serve %s on %v: %w", what, ln.Addr(), err)
	}
	return nil
}

// Shutdown stops to accept, lets the requests under way end, and closes
// their connections. When ctx ends before that it breaks them off, and returns
// the error of ctx. On return no request runs. Call it once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.mu.down = true
	s.mu.Unlock()
	err := errors.Join(s.http.ShutdownWithContext(ctx), s.websites.ShutdownWithContext(ctx))
	s.cancel()
	s.mu.Lock()
	for _, l := range s.mu.listeners {
		l.closeAll()
	}
	s.mu.Unlock()
	for range cap(s.slots) { // kept: whoever comes now is too late
		s.slots <- struct{}{}
	}
	return err
}

// handle serves one request.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	r, ok := ctx.UserValue(requestValue).(*request)
	if !ok {
		r = s.begin(ctx)
	}
	select {
	case s.slots <- struct{}{}:
	default:
		r.writeError(&apiError{code: "SlowDown", message: "Too many requests are being served; please reduce your request rate."})
		r.finishBody()
		r.count()
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic while serving a request", "request", r.id, "operation", r.operation(), "err", p, "stack", string(debug.Stack()))
			r.writeError(&apiError{code: "InternalError"})
			ctx.SetConnectionClose()
		}
		r.finishBody()
		if !r.streaming {
			r.end()
		}
	}()
	err := r.refusal
	if err == nil {
		err = r.serve()
	}
	if err != nil {
		r.writeError(err)
	}
}

// requestValue is the key of the request in the user values of its context.
const requestValue = "stemma.request"

// expect decides about a request whose client waits with the body. fasthttp
// sends the response as it is left here when the status is not 100.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	r := s.begin(ctx)
	err := r.refusal
	if err == nil {
		err = r.precheck()
	}
	if err == nil {
		ctx.SetUserValue(requestValue, r)
		return fasthttp.StatusContinue
	}
	r.writeError(err)
	r.linger() // the body may be on its way
	r.count()
	return ctx.Response.StatusCode()
}

// handleBroken answers what fasthttp could not read as a request.
func (s *Server) handleBroken(ctx *fasthttp.RequestCtx, err error) {
	r := s.newRequest(ctx)
	r.linger()
	e := &apiError{code: "BadRequest"}
	var small *fasthttp.ErrSmallBuffer
	var netErr net.Error
	switch {
	case errors.As(err, &small):
		e = &apiError{code: "RequestHeaderSectionTooLarge", fields: []auth.Field{{Name: "MaxSizeAllowed", Value: fmt.Sprint(maxHeaderBytes)}}}
	case errors.As(err, &netErr) && netErr.Timeout():
		e = &apiError{code: "RequestTimeout"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		e = &apiError{code: "IncompleteBody"}
	}
	r.writeError(e)
	r.count()
}

// newRequestID returns 16 hexadecimal digits that no other request of this
// process has, and that do not count up.
func (s *Server) newRequestID() string {
	z := s.idSeed + s.requests.Add(1)*0x9e3779b97f4a7c15 // splitmix64, a bijection
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	const hex = "0123456789ABCDEF"
	var id [16]byte
	for i := range id {
		id[i] = hex[z>>(60-4*i)&15]
	}
	return string(id[:])
}

// connectionLog passes on what fasthttp says about connections.
type connectionLog struct{ log *slog.Logger }

// Printf implements fasthttp.Logger.
func (l connectionLog) Printf(format string, args ...any) {
	l.log.Debug("connection", "message", fmt.Sprintf(format, args...))
}
