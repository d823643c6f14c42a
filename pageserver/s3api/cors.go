package s3api

import (
	"context"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// corsVary says on what the CORS headers of an answer depend.
const corsVary = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"

// findCORS finds the rule that lets a page use the answer, and sets its headers.
// They stay on every answer to the request, errors included.
func (r *request) findCORS() {
	origin := string(r.header().Peek("Origin"))
	if origin == "" || r.bucket == "" || r.header().IsOptions() {
		return
	}
	set, err := r.srv.objects.Settings(r.srv.base, r.bucket, 0)
	if err != nil || set.CORS == nil {
		return // the handler will meet the error again
	}
	method := r.peek("Access-Control-Request-Method")
	if method == "" {
		method = string(r.header().Method())
	}
	rule, any := set.CORS.Match(origin, method, r.corsRequestHeaders())
	if rule == nil {
		return
	}
	r.cors = corsHeaders(rule, origin, any)
	r.setFields(r.cors)
}

// corsHeaders returns the headers that a rule gives to an answer.
func corsHeaders(rule *object.CORSRule, origin string, any bool) []auth.Field {
	h := make([]auth.Field, 0, 6)
	if any {
		h = append(h, auth.Field{Name: "Access-Control-Allow-Origin", Value: "*"})
	} else {
		h = append(h, auth.Field{Name: "Access-Control-Allow-Origin", Value: origin}, auth.Field{Name: "Access-Control-Allow-Credentials", Value: "true"})
	}
	h = append(h, auth.Field{Name: "Access-Control-Allow-Methods", Value: strings.Join(rule.AllowedMethods, ", ")})
	if len(rule.ExposeHeaders) > 0 {
		h = append(h, auth.Field{Name: "Access-Control-Expose-Headers", Value: strings.Join(rule.ExposeHeaders, ", ")})
	}
	if rule.MaxAgeSeconds != nil {
		h = append(h, auth.Field{Name: "Access-Control-Max-Age", Value: itoa(int(*rule.MaxAgeSeconds))})
	}
	return append(h, auth.Field{Name: "Vary", Value: corsVary})
}

// corsRequestHeaders returns the headers that the page wants to send, in lower case.
func (r *request) corsRequestHeaders() []string {
	var names []string
	for name := range strings.SplitSeq(r.peek("Access-Control-Request-Headers"), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (r *request) setFields(fields []auth.Field) {
	for _, f := range fields {
		r.set(f.Name, f.Value)
	}
}

// preflightOperation answers a browser that asks before it makes a request. Nobody
// signs such a request.
var preflightOperation = &operation{name: "OptionsRequest", handle: preflight}

func preflight(ctx context.Context, r *request) error {
	origin, method := r.peek("Origin"), r.peek("Access-Control-Request-Method")
	switch {
	case origin == "":
		return &apiError{code: "BadRequest", message: "Insufficient information. Origin request header needed."}
	case method == "":
		return &apiError{code: "BadRequest", message: "Invalid Access-Control-Request-Method: null"}
	}
	forbidden := func(why string) error {
		level := "BUCKET"
		if r.key != "" {
			level = "OBJECT"
		}
		return &apiError{code: "AccessForbidden", message: "CORSResponse: " + why, fields: []auth.Field{
			{Name: "Method", Value: clip(method)}, {Name: "ResourceType", Value: level},
		}}
	}
	set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
	if err != nil {
		if r.toAPIError(err).code == "NoSuchBucket" {
			return forbidden("Bucket not found")
		}
		return err
	}
	if set.CORS == nil {
		return forbidden("CORS is not enabled for this bucket.")
	}
	headers := r.corsRequestHeaders()
	rule, any := set.CORS.Match(origin, method, headers)
	if rule == nil {
		return forbidden("This CORS request is not allowed. This is usually because the evalution of Origin, request method / " +
			"Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.")
	}
	r.setFields(corsHeaders(rule, origin, any))
	if len(headers) > 0 {
		r.set("Access-Control-Allow-Headers", strings.Join(headers, ", "))
	}
	return nil
}

var corsConfig = config[object.CORS]{
	root: "CORSConfiguration", absent: "NoSuchCORSConfiguration",
	of:    func(set *object.Settings) **object.CORS { return &set.CORS },
	check: func(_ context.Context, _ *request, c *object.CORS) error { return c.Check() },
}
