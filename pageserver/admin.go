package pageserver

import (
	"context"
	"net"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"
)

// admin serves health and metrics.
type admin struct {
	server *Server
	set    *metrics.Set
	http   fasthttp.Server
	ln     net.Listener
}

func newAdmin(s *Server, ln net.Listener, set *metrics.Set) *admin {
	a := &admin{server: s, set: set, ln: ln}
	a.http = fasthttp.Server{
		Name: "Stemma", Handler: a.handle, Logger: adminLog{}, Concurrency: 256, GetOnly: true,
		ReadBufferSize: 8 << 10, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		CloseOnShutdown: true, SecureErrorLogMessage: true,
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

func (a *admin) handle(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/plain; charset=utf-8")
	switch string(ctx.Path()) {
	case "/health/live":
		ctx.SetBodyString("live\n")
	case "/health/ready":
		if err := a.server.ready(); err != nil {
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
			ctx.SetBodyString(err.Error() + "\n")
			return
		}
		ctx.SetBodyString("ready\n")
	case "/metrics":
		ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
		a.set.WritePrometheus(ctx)
		metrics.WriteProcessMetrics(ctx)
	default:
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		ctx.SetBodyString("not found\n")
	}
}

type adminLog struct{}

// Printf implements fasthttp.Logger. Who asks for health in a wrong way is of
// no interest.
func (adminLog) Printf(string, ...any) {}
