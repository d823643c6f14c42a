package s3api

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// request is one request and its answer. It belongs to the goroutine of its
// connection.
type request struct {
	srv    *Server
	ctx    *fasthttp.RequestCtx
	id     string
	start  time.Time
	target auth.Target
	bucket string
	key    string
	op     *operation  // nil until routed
	proof  *auth.Proof // nil until verified
	body   wireBody
	// amzFields are the x-amz-* headers, names in lower case, in the order sent;
	// without x-amz-date and x-amz-content-sha256.
	amzFields []auth.Field
	fewFields [4]auth.Field // where amzFields begins
	presigned bool
	// past is the point in time that the path or the prefix names, sourcePast that of a copy source; see enterPast.
	past, sourcePast string
	// known is r.bucket as authorization saw it; nil when it did not look.
	known *resource
	// allowEntry decides about the version that is read, nil if there is nothing to decide.
	allowEntry func(*object.Entry) error
	// told says that it was decided whether the caller may know that there is no such key.
	told bool
	// byACL says that an ACL, and nothing else, allowed what was decided about last.
	byACL bool
	// cors are headers of every answer to the request.
	cors []auth.Field
	// refusal is why the request must not be served, nil if it may.
	refusal error
	// errorCode is that of the answer, empty if it is no error.
	errorCode string
	// streaming says that the answer's body is still to be written when the
	// handler returns; the stream's Close ends the request.
	streaming bool
	// website says that a bucket is served as a website.
	website bool
	// errorDocument is why that of a website could not be sent.
	errorDocument *apiError
}

// header is shorthand for the request's headers.
func (r *request) header() *fasthttp.RequestHeader { return &r.ctx.Request.Header }

// operation returns the name of the operation for people.
func (r *request) operation() string {
	if r.op == nil {
		return "Unknown"
	}
	return r.op.name
}

// newRequest returns a request whose answer has its ids.
func (s *Server) newRequest(ctx *fasthttp.RequestCtx) *request {
	r := &request{srv: s, ctx: ctx, id: s.newRequestID(), start: time.Now()}
	r.resetResponse()
	return r
}

// resetResponse makes the answer an empty one with the request's ids.
func (r *request) resetResponse() {
	r.ctx.Response.Reset()
	h := &r.ctx.Response.Header
	h.DisableNormalizing() // clients see the names as S3 spells them
	h.SetNoDefaultContentType(true)
	h.Set("x-amz-request-id", r.id)
	h.Set("x-amz-id-2", r.srv.hostID)
	r.setFields(r.cors)
}

// begin finds out what is asked and by whom. What it finds wrong is r.refusal.
func (s *Server) begin(ctx *fasthttp.RequestCtx) *request {
	r := s.newRequest(ctx)
	if r.target, r.refusal = auth.ParseTarget(r.header().RequestURI()); r.refusal != nil {
		return r
	}
	r.locate()
	r.findCORS()
	refusal := r.collectAmz()
	if op, err := r.route(); refusal == nil {
		r.op, refusal = op, err
	}
	if r.op == preflightOperation || r.op == queryOperation {
		r.refusal = refusal
		return r
	}
	if r.proof, r.refusal = s.o.Verifier.Verify(r.header(), &r.target); r.refusal == auth.ErrAnonymous {
		r.proof, r.refusal = auth.Anonymous(r.header())
	}
	if r.refusal != nil {
		return r
	}
	if r.proof.Service != "s3" {
		r.refusal = &apiError{code: "AuthorizationHeaderMalformed", message: "The authorization header is malformed; the request is one of the service s3."}
		return r
	}
	if r.refusal = refusal; r.refusal == nil {
		r.refusal = r.checkHeaders()
	}
	if r.refusal == nil {
		r.refusal = r.enterPast()
	}
	if r.refusal == nil {
		r.refusal = r.authorize()
	} else if r.proof.Caller.Anonymous() && r.op == nil {
		r.refusal = errDenied // nobody need know more
	}
	if r.refusal == nil && r.key != "" && !utf8.ValidString(r.key) {
		r.refusal = &apiError{code: "InvalidURI", message: "Couldn't parse the specified URI: the key is not valid UTF-8."}
	}
	return r
}

// locate finds bucket and key in the host name and the path.
func (r *request) locate() {
	path := strings.TrimPrefix(r.target.Path, "/")
	if bucket := bucketOfHost(string(r.header().Host()), r.srv.o.Domains); bucket != "" {
		r.bucket, r.key, r.target.Bucket = bucket, path, bucket
		return
	}
	r.bucket, r.key, _ = strings.Cut(path, "/")
	r.leaveTenant()
}

// bucketOfHost returns the bucket that a host names below one of the domains;
// empty when the host is a domain itself, or none of theirs.
func bucketOfHost(host string, domains []string) string {
	host = hostName(host)
	best := ""
	for _, d := range domains {
		if host == d {
			return ""
		}
		// The longest domain leaves the shortest bucket.
		if b, ok := strings.CutSuffix(host, "."+d); ok && b != "" && (best == "" || len(b) < len(best)) {
			best = b
		}
	}
	return best
}

// serve runs the operation.
func (r *request) serve() error {
	if r.website {
		return r.serveWebsite(r.srv.base)
	}
	base, err := r.asCaller(r.srv.base)
	if err != nil {
		return err
	}
	if r.op.long {
		return r.hideMissing(r.op.handle(base, r), r.bucket, r.key)
	}
	ctx, cancel := context.WithTimeout(base, operationTimeout)
	defer cancel()
	return r.hideMissing(r.op.handle(ctx, r), r.bucket, r.key)
}

// asCaller returns a context of which the commits are those of the caller, unless the request only reads. Before it is
// known that the caller may do what the request is for, nothing need be remembered of it.
func (r *request) asCaller(ctx context.Context) (context.Context, error) {
	w := r.srv.o.Writers
	if w == nil || r.proof == nil || r.ctx.IsGet() || r.ctx.IsHead() {
		return ctx, nil
	}
	n, err := w.Writer(ctx, r.proof.Caller)
	if err != nil {
		return nil, err
	}
	return timeline.WithWriter(ctx, n), nil
}

// end gives back what the request holds of the server.
func (r *request) end() {
	r.count()
	<-r.srv.slots
}

// count puts the request into the metrics and the records.
func (r *request) count() {
	r.srv.metrics.observe(r.operation(), r.ctx.Response.StatusCode(), time.Since(r.start))
	r.record()
}

// linger has the connection closed such that the client reads the answer
// although the server has not read the whole request.
func (r *request) linger() {
	r.ctx.SetConnectionClose()
	if c, ok := r.ctx.Conn().(*conn); ok {
		c.lingers.Store(true)
	}
}

// param returns a parameter of the query; empty when it is absent.
func (r *request) param(name string) string {
	v, _ := r.target.Get(name)
	return v
}

// peek returns the first value of a header; empty when it is absent.
func (r *request) peek(name string) string { return string(r.header().Peek(name)) }

// set sets a header of the answer.
func (r *request) set(name, value string) { r.ctx.Response.Header.Set(name, value) }

// setLSN says at which LSN was read, or which commit was made.
func (r *request) setLSN(lsn wal.LSN) { r.set("x-stemma-lsn", lsn.String()) }

// noContent answers 204.
func (r *request) noContent() { r.ctx.SetStatusCode(fasthttp.StatusNoContent) }

// sendXML answers 200 with a document.
func (r *request) sendXML(w *xmlWriter) {
	r.ctx.Response.Header.SetContentType("application/xml")
	r.ctx.Response.SwapBody(w.bytes())
}

// bodyBuffer returns memory for the body of the answer, empty: that of an earlier
// answer where there is some, for sendXML leaves its document to fasthttp's pool.
func (r *request) bodyBuffer() []byte { return r.ctx.Response.SwapBody(nil)[:0] }
