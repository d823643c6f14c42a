package s3api

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// A website is a bucket as people see it: read by GET and HEAD without a signature, one
// host name per bucket, with documents for directories and errors, and redirects.

// websiteOperations are what a website knows, by method.
var websiteOperations = map[string]*operation{
	"GET":     {name: "GetObject", long: true},
	"HEAD":    {name: "HeadObject"},
	"OPTIONS": preflightOperation,
}

// ServeWebsites serves buckets as websites on the connections that ln accepts until
// Shutdown. Host names are a bucket's below one of Options.WebsiteDomains; any other is that of the bucket
// with the same name.
func (s *Server) ServeWebsites(ln net.Listener) error { return s.serveOn(&s.websites, ln, "websites") }

func (s *Server) handleWebsite(ctx *fasthttp.RequestCtx) {
	ctx.SetUserValue(requestValue, s.beginWebsite(ctx))
	s.handle(ctx)
}

// beginWebsite finds out what is asked. What it finds wrong is r.refusal.
func (s *Server) beginWebsite(ctx *fasthttp.RequestCtx) *request {
	r := s.newRequest(ctx)
	r.website = true
	if r.target, r.refusal = auth.ParseTarget(r.header().RequestURI()); r.refusal != nil {
		return r
	}
	r.target.Params = nil // a website knows none
	host := hostName(string(r.header().Host()))
	if r.bucket = bucketOfHost(host, s.o.WebsiteDomains); r.bucket == "" {
		r.bucket = host
	}
	r.key = strings.TrimPrefix(r.target.Path, "/")
	r.findCORS()
	if r.op = websiteOperations[string(r.header().Method())]; r.op == nil {
		r.refusal = &apiError{code: "MethodNotAllowed"}
		return r
	}
	r.proof, r.refusal = auth.Anonymous(&fasthttp.RequestHeader{})
	return r
}

// hostName returns a host in lower case, without the port.
func hostName(host string) string {
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return host
}

// serveWebsite answers a request to a website.
func (r *request) serveWebsite(ctx context.Context) error {
	if r.op == preflightOperation {
		return preflight(ctx, r)
	}
	set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
	if err != nil {
		return err
	}
	w := set.Website
	if w == nil {
		return &apiError{code: "NoSuchWebsiteConfiguration", fields: []auth.Field{{Name: "BucketName", Value: r.bucket}}}
	}
	asked := r.key
	if all := w.RedirectAll; all != nil {
		r.redirect(fasthttp.StatusMovedPermanently, r.websiteURL(all.Protocol, all.HostName, asked))
		return nil
	}
	if rule := w.Redirect(asked, 0); rule != nil {
		r.redirectBy(rule, asked)
		return nil
	}
	key := asked
	if key == "" || strings.HasSuffix(key, "/") {
		key += *w.Index.Suffix
	}
	if err = r.sendPage(ctx, key, 0); err == nil {
		return nil
	}
	var same *object.NotModifiedError
	if errors.As(err, &same) {
		return err
	}
	e := r.toAPIError(err)
	status := errorStatus(e.code)
	if status == fasthttp.StatusNotFound && key == asked && r.hasIndex(ctx, asked+"/"+*w.Index.Suffix) {
		r.redirect(fasthttp.StatusFound, "/"+string(auth.AppendEscaped(nil, asked, true))+"/")
		return nil
	}
	if status < 400 || status == fasthttp.StatusRequestedRangeNotSatisfiable {
		return err
	}
	if rule := w.Redirect(asked, status); rule != nil {
		r.redirectBy(rule, asked)
		return nil
	}
	if w.Error != nil && status < 500 {
		if failed := r.sendPage(ctx, *w.Error.Key, status); failed != nil {
			r.errorDocument = r.toAPIError(failed)
		} else {
			r.errorCode = e.code
			return nil
		}
	}
	r.key = key
	return err
}

// sendPage answers with an object, whose own redirect is followed. A status makes it the
// document of an error: it is sent whole.
func (r *request) sendPage(ctx context.Context, key string, status int) error {
	in, err := r.openPage(key, status == 0)
	if err != nil {
		return err
	}
	read := r.srv.objects.Get
	if r.ctx.IsHead() {
		read = r.srv.objects.Head
	}
	o, err := read(ctx, r.bucket, key, in)
	if err != nil {
		return err
	}
	if to := o.Headers.WebsiteRedirect; to != "" && status == 0 {
		if o.Body != nil {
			o.Body.Close()
		}
		r.redirect(fasthttp.StatusMovedPermanently, to)
		return nil
	}
	if r.ctx.IsHead() {
		err = r.sendHead(o, in)
	} else {
		err = r.sendObject(o, in)
	}
	if err == nil && status != 0 {
		r.ctx.SetStatusCode(status)
	}
	return err
}

// openPage decides whether a key may be read, and returns how; asked says that it is what was asked for,
// of which ranges and conditions count.
func (r *request) openPage(key string, asked bool) (*object.GetInput, error) {
	r.key, r.told, r.allowEntry = key, false, nil
	if err := r.authorize(); err != nil {
		return nil, err
	}
	if asked {
		return r.getInput()
	}
	return &object.GetInput{Allow: r.allowEntry}, nil
}

// hasIndex reports whether there is an index document that may be read.
func (r *request) hasIndex(ctx context.Context, key string) bool {
	in, err := r.openPage(key, false)
	if err == nil {
		_, err = r.srv.objects.Head(ctx, r.bucket, key, in)
	}
	return err == nil
}

// redirectBy answers with the redirect of a rule for a key.
func (r *request) redirectBy(rule *object.RoutingRule, key string) {
	status := fasthttp.StatusMovedPermanently
	if c := rule.Redirect.Code; c != nil {
		if n, err := strconv.Atoi(*c); err == nil { // it was checked
			status = n
		}
	}
	r.redirect(status, r.websiteURL(rule.Redirect.Protocol, rule.Redirect.HostName, rule.Target(key)))
}

// websiteURL returns the URL of a key; what is nil is as in the request.
func (r *request) websiteURL(protocol, host *string, key string) string {
	scheme, name := "http", string(r.header().Host())
	if r.secure() {
		scheme = "https"
	}
	if protocol != nil {
		scheme = *protocol
	}
	if host != nil {
		name = *host
	}
	return scheme + "://" + name + "/" + string(auth.AppendEscaped(nil, key, true))
}

func (r *request) redirect(status int, location string) {
	r.resetResponse()
	r.ctx.SetStatusCode(status)
	r.set("Location", location)
}

// sendErrorPage answers with an error as websites word it.
func (r *request) sendErrorPage(e *apiError, status int) {
	r.set("x-amz-error-code", e.code)
	r.set("x-amz-error-message", headerSafe(e.text()))
	var b strings.Builder
	title := fmt.Sprintf("%d %s", status, fasthttp.StatusMessage(status))
	fmt.Fprintf(&b, "<html>\n<head><title>%s</title></head>\n<body>\n<h1>%s</h1>\n<ul>\n", title, title)
	item := func(name, value string) {
		fmt.Fprintf(&b, "<li>%s: %s</li>\n", name, html.EscapeString(strings.ToValidUTF8(value, "\uFFFD")))
	}
	item("Code", e.code)
	item("Message", e.text())
	fields := e.fields
	if e.code == "NoSuchKey" {
		fields = []auth.Field{{Name: "Key", Value: r.key}}
	}
	for _, f := range fields {
		item(f.Name, f.Value)
		r.set("x-amz-error-detail-"+f.Name, headerSafe(f.Value))
	}
	item("RequestId", r.id)
	item("HostId", r.srv.hostID)
	b.WriteString("</ul>\n")
	if d := r.errorDocument; d != nil {
		b.WriteString("<h3>An Error Occurred While Attempting to Retrieve a Custom Error Document</h3>\n<ul>\n")
		item("Code", d.code)
		item("Message", d.text())
		b.WriteString("</ul>\n")
	}
	b.WriteString("<hr/>\n</body>\n</html>\n")
	r.ctx.Response.Header.SetContentType("text/html; charset=utf-8")
	if r.ctx.IsHead() {
		r.ctx.Response.SkipBody = true
		r.ctx.Response.Header.SetContentLength(b.Len())
		return
	}
	r.ctx.Response.SetBodyString(b.String())
}

// headerSafe returns s, or an escaped form that a header can hold.
func headerSafe(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return string(auth.AppendEscaped(nil, s, true))
		}
	}
	return s
}
