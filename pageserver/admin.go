package pageserver

import (
	"bytes"
	"context"
	"errors"
	"net"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
)

// maxAdminBody bounds the body of a request to the admin listener.
const maxAdminBody = 64 << 10

// admin serves health, metrics and the administration of the store.
type admin struct {
	server   *Server
	set      *metrics.Set
	verifier *auth.Verifier
	http     fasthttp.Server
	ln       net.Listener
	// collecting is held by the one collection that runs on demand.
	collecting chan struct{}
	// profiling is held by the one profile that is gathered.
	profiling chan struct{}
	streams   *streams
}

func newAdmin(s *Server, ln net.Listener, set *metrics.Set, v *auth.Verifier) *admin {
	a := &admin{server: s, set: set, verifier: v, ln: ln, collecting: make(chan struct{}, 1), profiling: make(chan struct{}, 1), streams: newStreams()}
	a.http = fasthttp.Server{
		Name: "Stemma", Handler: a.handle, ErrorHandler: a.refuse, Logger: adminLog{}, Concurrency: 256, MaxRequestBodySize: maxAdminBody,
		ReadBufferSize: 8 << 10, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		CloseOnShutdown: true, SecureErrorLogMessage: true, HeaderReceived: bodyLimit,
	}
	return a
}

func (a *admin) serve() error { return a.http.Serve(a.ln) }

// shutdown closes the listener. Connections that are still busy when ctx ends
// end by their timeouts; they touch nothing that is closed.
func (a *admin) shutdown(ctx context.Context) {
	_ = a.http.ShutdownWithContext(ctx)
	_ = a.ln.Close() // fasthttp may not have known it yet
}

// refuse answers what is no request.
func (a *admin) refuse(ctx *fasthttp.RequestCtx, err error) {
	e := &AdminError{Code: "BadRequest", Message: "the request cannot be parsed"}
	if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		e = &AdminError{Code: "RequestTooLarge", Message: "the body is longer than is taken here: 64 KiB, 1 MiB for forks, 8 MiB for pages, 32 MiB for a commit"}
	}
	sendError(ctx, e)
}

func (a *admin) handle(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	if len(path) >= 4 && path[:4] == "/v1/" && path != openAPIPath {
		a.handleV1(ctx)
		return
	}
	ctx.SetContentType("text/plain; charset=utf-8")
	if !ctx.IsGet() && !ctx.IsHead() {
		ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
		ctx.SetBodyString("method not allowed\n")
		return
	}
	switch path {
	case "/health/live":
		ctx.SetBodyString("live\n")
	case "/health/ready":
		if err := a.server.ready(); err != nil {
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
			ctx.SetBodyString(err.Error() + "\n")
			return
		}
		ctx.SetBodyString("ready\n")
	case openAPIPath:
		ctx.SetContentType("application/json")
		ctx.Response.SetBodyRaw(openAPI)
	case "/metrics":
		ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
		a.set.WritePrometheus(ctx)
		metrics.WriteProcessMetrics(ctx)
	default:
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		ctx.SetBodyString("not found\n")
	}
}

// bodyLimit is the HeaderReceived of the listener: some requests may have a larger body.
func bodyLimit(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	path, _, _ := bytes.Cut(h.RequestURI(), []byte("?"))
	switch {
	case isPages(path):
		c.MaxRequestBodySize = maxPagesBody
	case !bytes.HasPrefix(path, []byte("/v1/buckets/")):
	case bytes.HasSuffix(path, []byte("/forks")):
		c.MaxRequestBodySize = maxForksBody
	case bytes.HasSuffix(path, []byte("/commit")):
		c.MaxRequestBodySize = maxCommitBody
	}
	return c
}

// maxForksBody and maxCommitBody bound the bodies of requests that name many things.
const (
	maxForksBody  = 1 << 20
	maxCommitBody = 32 << 20
)

type adminLog struct{}

// Printf implements fasthttp.Logger. Who asks for health in a wrong way is of
// no interest.
func (adminLog) Printf(string, ...any) {}
