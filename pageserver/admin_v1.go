package pageserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/pageserver/policy"
	"stemma/pageserver/s3api"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// adminTimeout bounds what does not read the whole store.
const adminTimeout = 30 * time.Second

// adminCodes are the codes of errors with their status.
var adminCodes = map[string]int{
	"BadRequest":          fasthttp.StatusBadRequest,
	"InvalidArgument":     fasthttp.StatusBadRequest,
	"InvalidBucketName":   fasthttp.StatusBadRequest,
	"InvalidRequest":      fasthttp.StatusBadRequest,
	"AccessDenied":        fasthttp.StatusForbidden,
	"NoSuchKey":           fasthttp.StatusNotFound,
	"PreconditionFailed":  fasthttp.StatusPreconditionFailed,
	"OffsetMismatch":      fasthttp.StatusConflict,
	"InvalidRange":        fasthttp.StatusRequestedRangeNotSatisfiable,
	"HistoryNotRetained":  fasthttp.StatusGone,
	"NotFound":            fasthttp.StatusNotFound,
	"NoSuchBucket":        fasthttp.StatusNotFound,
	"MethodNotAllowed":    fasthttp.StatusMethodNotAllowed,
	"BucketAlreadyExists": fasthttp.StatusConflict,
	"CollectionRunning":   fasthttp.StatusConflict,
	"ProfileRunning":      fasthttp.StatusConflict,
	"MergeConflict":       fasthttp.StatusConflict,
	"NotDescendant":       fasthttp.StatusConflict,
	"Gone":                fasthttp.StatusGone,
	"RequestTooLarge":     fasthttp.StatusRequestEntityTooLarge,
	"InternalError":       fasthttp.StatusInternalServerError,
	"ServiceUnavailable":  fasthttp.StatusServiceUnavailable,
	"SlowDown":            fasthttp.StatusServiceUnavailable,
	"StorageFull":         fasthttp.StatusServiceUnavailable,
}

// adminErrors says which code an error of the store has.
var adminErrors = []struct {
	err  error
	code string
}{
	{s3api.ErrDenied, "AccessDenied"},
	{timeline.ErrNoSuchBucket, "NoSuchBucket"},
	{timeline.ErrBucketExists, "BucketAlreadyExists"},
	{timeline.ErrGone, "Gone"},
	{timeline.ErrBadName, "InvalidBucketName"},
	{object.ErrInvalidBucketName, "InvalidBucketName"},
	{timeline.ErrBadWindow, "InvalidArgument"},
	{timeline.ErrBadShare, "InvalidArgument"},
	{timeline.ErrSlowDown, "SlowDown"},
	{storefs.ErrDiskFull, "StorageFull"},
	{timeline.ErrClosed, "ServiceUnavailable"},
	{wal.ErrClosed, "ServiceUnavailable"},
	{context.Canceled, "ServiceUnavailable"},
	{context.DeadlineExceeded, "SlowDown"},
}

func invalid(message string) *AdminError {
	return &AdminError{Code: "InvalidArgument", Message: message}
}

// adminRequest is one request below /v1.
type adminRequest struct {
	target auth.Target
	body   []byte
	second string // the second variable of the path
	accept string // header
	root   bool   // the root may everything
	caller *auth.Caller
	key    string       // id of the access key
	judge  *s3api.Judge // decides about others
}

// adminRoute is a path with two variables at most: the parts that are {}.
type adminRoute struct {
	method string
	path   []string
	query  []string // parameters that it knows
	long   bool     // reads the whole store
	serve  func(a *admin, ctx context.Context, r *adminRequest, variable string) (any, error)
}

var adminRoutes = []adminRoute{
	{"POST", []string{"gc"}, []string{"mode"}, true, (*admin).collect},
	{"POST", []string{"encryption", "reseal"}, nil, true, (*admin).reseal},
	{"GET", []string{"usage"}, []string{"bucket"}, true, (*admin).usage},
	{"GET", []string{"buckets", "{}", "retention"}, nil, false, (*admin).retention},
	{"PUT", []string{"buckets", "{}", "retention"}, nil, false, (*admin).setRetention},
	{"GET", []string{"profile"}, []string{"kind", "seconds"}, true, (*admin).profile},
	{"GET", []string{"background"}, nil, false, (*admin).background},
	{"PUT", []string{"background"}, nil, false, (*admin).setBackground},
	{"GET", []string{"deleted"}, nil, false, (*admin).deleted},
	{"POST", []string{"deleted", "{}", "undelete"}, nil, false, (*admin).undelete},
	{"POST", []string{"diff"}, nil, true, (*admin).diff},
	{"POST", []string{"buckets", "{}", "merge"}, nil, true, merging(mergeInto)},
	{"POST", []string{"buckets", "{}", "rebase"}, nil, true, merging(rebaseOnto)},
	{"POST", []string{"buckets", "{}", "cherry-pick"}, nil, true, merging(pickInto)},
	{"POST", []string{"buckets", "{}", "revert"}, nil, true, merging(revertIn)},
}

// route finds what a request asks for. The error says that the path is unknown,
// or only the method.
func (r *adminRequest) route(method string) (*adminRoute, string, error) {
	parts := strings.Split(strings.TrimPrefix(r.target.Path, "/v1/"), "/")
	known := false
next:
	for i := range adminRoutes {
		route, variables := &adminRoutes[i], [2]string{}
		if len(parts) != len(route.path) {
			continue
		}
		n := 0
		for j, p := range route.path {
			if p == "{}" && parts[j] != "" {
				variables[n] = parts[j]
				n++
			} else if p != parts[j] {
				continue next
			}
		}
		if known = true; route.method != method {
			continue
		}
		for j, p := range r.target.Params {
			if !slices.Contains(route.query, p.Name) {
				return nil, "", invalid("unknown parameter " + strconv.Quote(p.Name))
			}
			if slices.ContainsFunc(r.target.Params[:j], func(q auth.Param) bool { return q.Name == p.Name }) {
				return nil, "", invalid("parameter " + strconv.Quote(p.Name) + " is given twice")
			}
		}
		r.second = variables[1]
		return route, variables[0], nil
	}
	if known {
		return nil, "", &AdminError{Code: "MethodNotAllowed", Message: method + " is not for " + r.target.Path}
	}
	return nil, "", &AdminError{Code: "NotFound", Message: "there is no " + r.target.Path}
}

// handleV1 serves the native API and the administration, signed as for S3.
func (a *admin) handleV1(ctx *fasthttp.RequestCtx) {
	if isPages(ctx.Path()) {
		a.servePages(ctx)
		return
	}
	answer, err := a.serveV1(ctx)
	if err != nil {
		sendError(ctx, a.worded(err))
		return
	}
	if s, ok := answer.(*streamed); ok {
		a.sendLines(ctx, s)
		return
	}
	sendJSON(ctx, fasthttp.StatusOK, answer)
}

func (a *admin) serveV1(ctx *fasthttp.RequestCtx) (any, error) {
	r, err := a.read(ctx)
	if err != nil {
		return nil, err
	}
	route, variable, err := r.route(string(ctx.Method()))
	if err != nil {
		return nil, err
	}
	if route.path[0] == "buckets" && object.Reserved(variable) {
		return nil, &AdminError{Code: "NoSuchBucket", Message: "no such bucket"}
	}
	if !a.server.jobs.begin() {
		return nil, &AdminError{Code: "ServiceUnavailable", Message: "shutting down"}
	}
	defer a.server.jobs.end()
	limited, cancel := context.WithTimeout(a.server.jobs.ctx, adminTimeout)
	defer cancel()
	if err := a.decide(limited, route, r, variable); err != nil {
		return nil, err
	}
	base := limited
	if route.long {
		base = a.server.jobs.ctx
	}
	if base, err = r.judge.Base(base); err != nil {
		return nil, err
	}
	answer, err := route.serve(a, base, r, variable)
	if err == nil && !r.root {
		r.hideNames(answer)
	}
	return answer, err
}

// read verifies who asks, and the body.
func (a *admin) read(ctx *fasthttp.RequestCtx) (*adminRequest, error) {
	target, err := auth.ParseTarget(ctx.Request.Header.RequestURI())
	if err != nil {
		return nil, err
	}
	proof, err := a.verifier.Verify(&ctx.Request.Header, &target)
	if err != nil {
		return nil, err
	}
	if proof.Service != "s3" {
		return nil, &AdminError{Code: "AccessDenied", Message: "the request must be signed for the service s3"}
	}
	if proof.Payload.Chunked() {
		return nil, &AdminError{Code: "BadRequest", Message: "a body in signed chunks is not understood here"}
	}
	raw := ctx.Request.Body()
	body, err := proof.NewBody(bytes.NewReader(raw), auth.BodyOptions{Length: int64(len(raw)), Decoded: -1})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	p, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	if why := a.server.state.Load(); why != nil { // there is nobody yet who could decide
		return nil, &AdminError{Code: "ServiceUnavailable", Message: *why}
	}
	return &adminRequest{
		target: target, body: p, accept: string(ctx.Request.Header.Peek("Accept")),
		root: proof.Caller.Root, caller: proof.Caller, key: proof.Key.ID, judge: a.server.s3.Judge(ctx, target, proof),
	}, nil
}

// decode decodes the body: one JSON value without unknown fields.
func (r *adminRequest) decode(v any) error {
	if !utf8.Valid(r.body) { // which the decoder would change silently
		return &AdminError{Code: "BadRequest", Message: "body: it is not UTF-8"}
	}
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &AdminError{Code: "BadRequest", Message: "body: " + wordedJSON(err)}
	}
	if _, err := d.Token(); err != io.EOF {
		return &AdminError{Code: "BadRequest", Message: "body: more than one JSON value"}
	}
	return nil
}

// wordedJSON says what is wrong with a body to one who knows no Go.
func wordedJSON(err error) string {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return "it is empty, a JSON object is expected"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the JSON is cut off"
	case errors.As(err, &kind) && kind.Field == "":
		return "a JSON object is expected, not " + kind.Value
	case errors.As(err, &kind):
		return strconv.Quote(kind.Field) + " is a " + kind.Type.Kind().String() + ", not " + kind.Value
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// worded turns any error into what is answered.
func (a *admin) worded(err error) *AdminError {
	var known *AdminError
	if errors.As(err, &known) {
		return known
	}
	var denied *auth.Error
	if errors.As(err, &denied) {
		return &AdminError{Code: denied.Code, Message: denied.Message}
	}
	var rule *object.RuleError
	if errors.As(err, &rule) {
		return invalid(rule.Message)
	}
	var malformed *policy.Error
	if errors.As(err, &malformed) {
		return &AdminError{Code: "MalformedPolicy", Message: malformed.Message}
	}
	for _, e := range adminErrors {
		if errors.Is(err, e.err) {
			return &AdminError{Code: e.code, Message: strings.NewReplacer("timeline: ", "", "identity: ", "", "s3api: ", "").Replace(err.Error()), Quota: room(err)}
		}
	}
	var gone *timeline.BelowHorizonError
	if errors.As(err, &gone) {
		return &AdminError{Code: "HistoryNotRetained", Message: gone.Error()[len("timeline: "):]}
	}
	var readOnly *wal.ReadOnlyError
	if errors.As(err, &readOnly) {
		return &AdminError{Code: "ServiceUnavailable", Message: "the store is read-only: " + readOnly.Reason}
	}
	a.server.log.Error("administration failed", "err", err)
	return &AdminError{Code: "InternalError", Message: err.Error()}
}

// room returns what an error says of a quota; nil: nothing.
func room(err error) *Room {
	var e *object.QuotaError
	if !errors.As(err, &e) {
		return nil
	}
	return &Room{Of: e.Of, Max: e.Max, Used: e.Used, Growth: e.Growth}
}

func sendError(ctx *fasthttp.RequestCtx, e *AdminError) {
	status := adminCodes[e.Code]
	if status == 0 {
		status = fasthttp.StatusForbidden // a code of package auth
	}
	sendJSON(ctx, status, e)
}

func sendJSON(ctx *fasthttp.RequestCtx, status int, v any) {
	p, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error()) // plain structs
	}
	ctx.SetContentType("application/json")
	ctx.SetStatusCode(status)
	ctx.SetBody(append(p, '\n'))
}

// collect serves POST /v1/gc?mode=full|plan. One runs at a time.
func (a *admin) collect(ctx context.Context, r *adminRequest, _ string) (any, error) {
	mode, _ := r.target.Get("mode")
	if mode != "full" && mode != "plan" {
		return nil, invalid("mode must be full or plan")
	}
	if len(r.body) > 0 {
		return nil, &AdminError{Code: "BadRequest", Message: "no body is expected"}
	}
	select {
	case a.collecting <- struct{}{}:
		defer func() { <-a.collecting }()
	default:
		return nil, &AdminError{Code: "CollectionRunning", Message: "a collection is running already"}
	}
	if mode == "plan" {
		p, err := a.server.store.CollectPlan(ctx)
		if err != nil {
			return nil, err
		}
		return planAnswer(&p), nil
	}
	report, err := a.server.store.CollectFull(ctx)
	if err != nil {
		return nil, err
	}
	return collectAnswer(&report), nil
}

// usage serves GET /v1/usage, of all timelines or of one bucket.
func (a *admin) usage(ctx context.Context, r *adminRequest, _ string) (any, error) {
	bucket, one := r.target.Get("bucket")
	if one {
		if _, err := a.server.objects.Bucket(bucket, 0); err != nil {
			return nil, err
		}
	}
	u, err := a.server.store.Usage(ctx)
	if err != nil {
		return nil, err
	}
	return usageAnswer(&u, bucket), nil
}

// retention serves GET /v1/buckets/{name}/retention.
func (a *admin) retention(_ context.Context, _ *adminRequest, name string) (any, error) {
	w, err := a.server.store.Window(name)
	if err != nil {
		return nil, err
	}
	return &Retention{Window: FormatWindow(w)}, nil
}

// setRetention serves PUT /v1/buckets/{name}/retention.
func (a *admin) setRetention(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in Retention
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	w, err := ParseWindow(in.Window)
	if err != nil {
		return nil, invalid(err.Error())
	}
	if _, err := a.server.store.SetWindow(ctx, name, w); err != nil {
		return nil, err
	}
	return &Retention{Window: FormatWindow(w)}, nil
}

// background serves GET /v1/background.
func (a *admin) background(context.Context, *adminRequest, string) (any, error) {
	return &Background{Share: a.server.store.BackgroundShare()}, nil
}

// setBackground serves PUT /v1/background.
func (a *admin) setBackground(_ context.Context, r *adminRequest, _ string) (any, error) {
	var in Background
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if err := a.server.store.SetBackgroundShare(in.Share); err != nil {
		return nil, err
	}
	return &in, nil
}

// deleted serves GET /v1/deleted.
func (a *admin) deleted(context.Context, *adminRequest, string) (any, error) {
	list := DeletedAnswer{Buckets: []DeletedBucket{}}
	for _, d := range a.server.store.DeletedBuckets() {
		list.Buckets = append(list.Buckets, DeletedBucket{ID: uint64(d.Bucket), Name: d.Name, Deleted: d.Deleted.Time(), Until: d.Until.Time()})
	}
	return &list, nil
}

// undelete serves POST /v1/deleted/{id}/undelete.
func (a *admin) undelete(ctx context.Context, r *adminRequest, id string) (any, error) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return nil, invalid("bucket id " + strconv.Quote(id) + ": want a number")
	}
	var in Undelete
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if !object.ValidBucketName(in.Name) {
		return nil, &AdminError{Code: "InvalidBucketName", Message: "a bucket cannot be named " + strconv.Quote(in.Name)}
	}
	info, err := a.server.store.Undelete(ctx, timeline.BucketID(n), in.Name)
	if err != nil {
		return nil, err
	}
	return &BucketAnswer{ID: uint64(info.Bucket), Name: info.Name}, nil
}
