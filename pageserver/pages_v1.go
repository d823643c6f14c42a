package pageserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"stemma/layers"
	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// Writes in place over HTTP, on the admin listener; docs/pages.md has the protocol.
//
//	PATCH /v1/buckets/{b}/objects/{key}             change ranges in one commit
//	GET   /v1/buckets/{b}/objects/{key}             read ranges at an LSN
//	GET   /v1/buckets/{b}/objects/{key}?changed     what was written between two LSNs
//	POST  /v1/buckets/{b}/objects/{key}?clone       clone an object or a range
//	POST  /v1/buckets/{b}/pages:read                read many ranges of many objects
//	POST  /v1/pages:stream                          a stream of reads and writes; see pages_stream.go

// maxPagesBody bounds the body of a request to write in place, and what is read at once.
const maxPagesBody = 8 << 20

const (
	PagesType     = "application/vnd.stemma.pages"
	byterangeType = "multipart/byteranges"
)

// pageErrors says which code an error of writing in place has.
var pageErrors = []struct {
	err  error
	code string
}{
	{object.ErrNoSuchKey, "NoSuchKey"},
	{object.ErrPreconditionFailed, "PreconditionFailed"},
	{object.ErrOffset, "OffsetMismatch"},
	{object.ErrInvalidRange, "InvalidRange"},
	{object.ErrPageSize, "InvalidArgument"},
	{object.ErrInvalidPageOp, "InvalidArgument"},
	{object.ErrKeyTooLong, "InvalidArgument"},
	{object.ErrReservedKey, "InvalidArgument"},
	{object.ErrInvalidStorageClass, "InvalidArgument"},
	{object.ErrMetadataTooLarge, "InvalidArgument"},
	{object.ErrNotInPlace, "InvalidRequest"},
	{object.ErrKeyRequired, "InvalidRequest"},
	{object.ErrKeyNotApplicable, "InvalidRequest"},
	{object.ErrWrongKey, "InvalidRequest"},
	{object.ErrNoSuchKMSKey, "InvalidRequest"},
	{object.ErrKMSKeyRequired, "InvalidRequest"},
	{object.ErrNoMasterKey, "InvalidRequest"},
	{object.ErrLocked, "AccessDenied"},
	{object.ErrEntityTooLarge, "RequestTooLarge"},
	{timeline.ErrBatchTooLarge, "RequestTooLarge"},
	{timeline.ErrFuture, "InvalidArgument"},
}

// isPages reports whether a path below /v1 is of this file.
func isPages(path []byte) bool {
	if string(path) == streamPath {
		return true
	}
	rest, ok := bytes.CutPrefix(path, []byte("/v1/buckets/"))
	if !ok {
		return false
	}
	_, rest, ok = bytes.Cut(rest, []byte("/"))
	return ok && (bytes.HasPrefix(rest, []byte("objects/")) || string(rest) == "pages:read")
}

// pagesRequest is one request of this file.
type pagesRequest struct {
	*adminRequest
	a      *admin
	http   *fasthttp.RequestCtx
	ctx    context.Context
	bucket string
	key    string // empty: pages:read
	// What headers say of encryption.
	sse                    object.SSE
	customerKey, sourceKey *object.CustomerKey
}

// servePages serves what isPages says is of this file.
func (a *admin) servePages(ctx *fasthttp.RequestCtx) {
	if err := a.servePagesErr(ctx); err != nil {
		ctx.Response.Reset()
		sendError(ctx, a.worded(wordedPages(err)))
	}
}

// wordedPages gives an error of objects the code that it has here.
func wordedPages(err error) error {
	for _, e := range pageErrors {
		if errors.Is(err, e.err) {
			return &AdminError{Code: e.code, Message: strings.ReplaceAll(err.Error(), "object: ", "")}
		}
	}
	return err
}

func (a *admin) servePagesErr(ctx *fasthttp.RequestCtx) error {
	r, err := a.read(ctx)
	if err != nil {
		return err
	}
	if !a.server.jobs.begin() {
		return &AdminError{Code: "ServiceUnavailable", Message: "shutting down"}
	}
	defer a.server.jobs.end()
	limited, cancel := context.WithTimeout(a.server.jobs.ctx, adminTimeout)
	defer cancel()
	p := pagesRequest{adminRequest: r, a: a, http: ctx, ctx: limited}
	if r.target.Path == streamPath {
		if !ctx.IsPost() {
			return &AdminError{Code: "MethodNotAllowed", Message: string(ctx.Method()) + " is not for pages:stream"}
		}
		return p.openStream()
	}
	path := strings.TrimPrefix(r.target.Path, "/v1/buckets/")
	p.bucket, path, _ = strings.Cut(path, "/")
	method := string(ctx.Method())
	if path == "pages:read" {
		if err := p.keyless(); err != nil {
			return err
		}
		if method != "POST" {
			return &AdminError{Code: "MethodNotAllowed", Message: method + " is not for pages:read"}
		}
		return p.readBatch()
	}
	p.key = strings.TrimPrefix(path, "objects/")
	_, changed := r.target.Get("changed")
	_, clone := r.target.Get("clone")
	if p.sse, p.customerKey, p.sourceKey, err = r.judge.Encryption(); err != nil {
		return invalid(err.Error())
	}
	if err := p.decide(method, clone, changed); err != nil {
		return err
	}
	if p.ctx, err = r.judge.Base(limited); err != nil {
		return err
	}
	switch {
	case method == "PATCH" && !changed && !clone:
		return p.patch()
	case method == "GET" && changed:
		return p.changed()
	case method == "GET" && !clone:
		return p.get()
	case method == "POST" && clone:
		return p.clone()
	}
	return &AdminError{Code: "MethodNotAllowed", Message: method + " is not for an object"}
}

// keyless refuses headers of encryption, where there is no use for them.
func (p *pagesRequest) keyless() error {
	want, key, source, err := p.judge.Encryption()
	if err != nil || want != (object.SSE{}) || key != nil || source != nil {
		return invalid("pages:read and streams take no headers of encryption")
	}
	return nil
}

// known refuses parameters that are not named.
func (p *pagesRequest) known(names ...string) error {
next:
	for i, have := range p.target.Params {
		for _, other := range p.target.Params[:i] {
			if other.Name == have.Name {
				return invalid("parameter " + strconv.Quote(have.Name) + " is given twice")
			}
		}
		for _, n := range names {
			if n == have.Name {
				continue next
			}
		}
		return invalid("unknown parameter " + strconv.Quote(have.Name))
	}
	return nil
}

// number returns a parameter that is a number; zero when it is absent.
func (p *pagesRequest) number(name string) (n uint64, given bool, err error) {
	s, given := p.target.Get(name)
	if !given {
		return 0, false, nil
	}
	n, err = strconv.ParseUint(s, 10, 63)
	if err != nil {
		err = invalid(name + " " + strconv.Quote(s) + ": want a number")
	}
	return n, true, err
}

func (p *pagesRequest) lsn(name string) (wal.LSN, error) {
	n, given, err := p.number(name)
	if given && n == 0 && err == nil {
		err = invalid(name + " cannot be 0")
	}
	return wal.LSN(n), err
}

// PageAnswer says what an object is after a write in place.
type PageAnswer struct {
	LSN       wal.LSN `json:"lsn,string"`
	ETag      string  `json:"etag"`
	Size      uint64  `json:"size"`
	PageBytes int     `json:"page_size"`
	File      string  `json:"file,omitempty"` // see Described
}

func (p *pagesRequest) answer(r *object.PageResult) error {
	sendJSON(p.http, fasthttp.StatusOK, &PageAnswer{LSN: r.LSN, ETag: `"` + r.ETag.String() + `"`, Size: r.Size, PageBytes: r.PageBytes, File: r.File})
	return nil
}

// patch serves PATCH.
func (p *pagesRequest) patch() error {
	if err := p.known("page-size", "create", "if-lsn", "append", "size", "zero"); err != nil {
		return err
	}
	in := object.PageInput{IfMatch: string(p.http.Request.Header.Peek("If-Match")), SSE: p.sse, CustomerKey: p.customerKey}
	size, _, err := p.number("page-size")
	if err != nil {
		return err
	}
	if size > object.MaxPageBytes {
		return object.ErrPageSize
	}
	in.PageBytes = int(size)
	if in.IfLSN, err = p.lsn("if-lsn"); err != nil {
		return err
	}
	switch create, given := p.target.Get("create"); {
	case !given, create == "no":
	case create == "yes", create == "only":
		in.Create = object.NewPageCreate(create == "only")
	default:
		return invalid("create is yes, no or only")
	}
	if in.Ops, err = p.ops(&in); err != nil {
		return err
	}
	r, err := p.a.server.objects.WritePages(p.ctx, p.bucket, p.key, &in)
	if err != nil {
		return err
	}
	return p.answer(r)
}

// ops returns the changes that the request asks for, in one of the forms there are.
func (p *pagesRequest) ops(in *object.PageInput) ([]object.PageOp, error) {
	header := &p.http.Request.Header
	kind, params, _ := mime.ParseMediaType(string(header.ContentType()))
	offset, isAppend, err := p.number("append")
	if err != nil {
		return nil, err
	}
	resize, isResize, err := p.number("size")
	if err != nil {
		return nil, err
	}
	zero, isZero := p.target.Get("zero")
	contentRange := string(header.Peek("Content-Range"))
	forms := 0
	for _, is := range []bool{isAppend, isResize, isZero, contentRange != "", kind == byterangeType, kind == PagesType} {
		if is {
			forms++
		}
	}
	switch {
	case forms == 0 && in.Create != nil && len(p.body) == 0:
		return nil, nil
	case forms != 1:
		return nil, invalid("want one of Content-Range, multipart/byteranges, " + PagesType + ", append, size and zero")
	case (isResize || isZero) && len(p.body) > 0:
		return nil, &AdminError{Code: "BadRequest", Message: "no body is expected"}
	case isAppend:
		in.IfSize = &offset
		return []object.PageOp{{Kind: object.PageWrite, Off: offset, Data: p.body}}, nil
	case isResize:
		return []object.PageOp{{Kind: object.PageResize, Off: resize}}, nil
	case isZero:
		off, n, ok := parseSpan(zero)
		if !ok {
			return nil, invalid("zero " + strconv.Quote(zero) + ": want first-last")
		}
		return []object.PageOp{{Kind: object.PageZero, Off: off, Len: n}}, nil
	case kind == byterangeType:
		return partOps(p.body, params["boundary"])
	case kind == PagesType:
		return object.DecodePageOps(p.body)
	}
	op, err := rangeOp(contentRange, p.body)
	return []object.PageOp{op}, err
}

// parseSpan parses first-last, both included.
func parseSpan(s string) (off, n uint64, ok bool) {
	first, last, ok := strings.Cut(s, "-")
	off, err := strconv.ParseUint(first, 10, 62)
	end, err2 := strconv.ParseUint(last, 10, 62)
	if !ok || err != nil || err2 != nil || end < off {
		return 0, 0, false
	}
	return off, end - off + 1, true
}

// rangeOp is the write of a body with a Content-Range.
func rangeOp(header string, body []byte) (object.PageOp, error) {
	spec, ok := strings.CutPrefix(header, "bytes ")
	span, _, slash := strings.Cut(spec, "/")
	off, n, valid := parseSpan(span)
	if !ok || !slash || !valid {
		return object.PageOp{}, invalid("Content-Range " + strconv.Quote(header) + ": want bytes first-last/*")
	}
	if n != uint64(len(body)) {
		return object.PageOp{}, &AdminError{Code: "BadRequest", Message: fmt.Sprintf("a body of %d bytes for a range of %d", len(body), n)}
	}
	return object.PageOp{Kind: object.PageWrite, Off: off, Data: body}, nil
}

// maxPageParts bounds the parts of one multipart/byteranges.
const maxPageParts = 4096

func partOps(body []byte, boundary string) (ops []object.PageOp, err error) {
	if boundary == "" {
		return nil, invalid("multipart/byteranges without a boundary")
	}
	bad := func(err error) error {
		return &AdminError{Code: "BadRequest", Message: "multipart/byteranges: " + err.Error()}
	}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF && len(ops) > 0 {
			return ops, nil
		}
		if err != nil {
			return nil, bad(err)
		}
		p, err := io.ReadAll(part)
		if err != nil {
			return nil, bad(err)
		}
		op, err := rangeOp(part.Header.Get("Content-Range"), p)
		if err != nil {
			return nil, err
		}
		if ops = append(ops, op); len(ops) > maxPageParts {
			return nil, invalid("more than " + strconv.Itoa(maxPageParts) + " parts")
		}
	}
}

// get serves GET: one range, or several as multipart/byteranges.
func (p *pagesRequest) get() error {
	if err := p.known("at"); err != nil {
		return err
	}
	at, err := p.lsn("at")
	if err != nil {
		return err
	}
	o, err := p.a.server.objects.Head(p.ctx, p.bucket, p.key, &object.GetInput{At: at, CustomerKey: p.customerKey})
	if err != nil {
		return err
	}
	spans, partial, err := parseRanges(string(p.http.Request.Header.Peek("Range")), o.Size)
	if err != nil {
		return err
	}
	var total uint64
	reads := make([]object.PageRead, len(spans))
	for i, s := range spans {
		if total += min(s.Len, maxPagesBody+1); total > maxPagesBody {
			return &AdminError{Code: "RequestTooLarge", Message: "more than 8 MiB in one answer; ask for ranges, or S3"}
		}
		reads[i] = object.PageRead{Key: p.key, At: o.At, Off: s.Off, Len: s.Len, CustomerKey: p.customerKey}
	}
	results, err := p.a.server.objects.ReadPages(p.ctx, p.bucket, reads)
	if err != nil {
		return err
	}
	for i := range results {
		if results[i].Err != nil {
			return results[i].Err
		}
	}
	res := &p.http.Response
	res.Header.Set("ETag", `"`+o.ETag.String()+`"`)
	res.Header.Set("X-Stemma-Lsn", strconv.FormatUint(uint64(o.At), 10))
	res.Header.Set("X-Stemma-Version-Lsn", strconv.FormatUint(uint64(o.LSN), 10))
	contentRange := func(s object.PageRange) string { return fmt.Sprintf("bytes %d-%d/%d", s.Off, s.Off+s.Len-1, o.Size) }
	switch {
	case !partial:
		res.Header.SetContentType("application/octet-stream")
		if len(results) > 0 {
			res.SetBodyRaw(results[0].Data)
		}
	case len(spans) == 1:
		res.SetStatusCode(fasthttp.StatusPartialContent)
		res.Header.SetContentType("application/octet-stream")
		res.Header.Set("Content-Range", contentRange(spans[0]))
		res.SetBodyRaw(results[0].Data)
	default:
		res.SetStatusCode(fasthttp.StatusPartialContent)
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		for i, s := range spans {
			part, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/octet-stream"}, "Content-Range": {contentRange(s)}})
			if err == nil {
				_, err = part.Write(results[i].Data)
			}
			if err != nil {
				return err // a buffer never fails
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
		res.Header.SetContentType(byterangeType + "; boundary=" + w.Boundary())
		res.SetBodyRaw(body.Bytes())
	}
	return nil
}

// parseRanges returns what a Range header asks of size bytes; without one all of
// them. Ranges behind the end are left out; when none is left, or one is
// malformed, the error is a *object.RangeError or an InvalidArgument.
func parseRanges(header string, size uint64) (spans []object.PageRange, partial bool, err error) {
	if header == "" {
		if size == 0 {
			return nil, false, nil
		}
		return []object.PageRange{{Len: size}}, false, nil
	}
	specs, ok := strings.CutPrefix(header, "bytes=")
	list := strings.Split(specs, ",")
	if !ok || len(list) > object.MaxPageReads {
		return nil, false, invalid("Range " + strconv.Quote(header))
	}
	for _, spec := range list {
		spec = strings.TrimSpace(spec)
		var s object.PageRange
		first, last, _ := strings.Cut(spec, "-")
		switch {
		case first == "":
			n, err := strconv.ParseUint(last, 10, 62)
			if err != nil {
				return nil, false, invalid("Range " + strconv.Quote(header))
			}
			s.Len = min(n, size)
			s.Off = size - s.Len
		case last == "":
			off, err := strconv.ParseUint(first, 10, 62)
			if err != nil || !strings.HasSuffix(spec, "-") {
				return nil, false, invalid("Range " + strconv.Quote(header))
			}
			s.Off, s.Len = off, size-min(off, size)
		default:
			off, n, ok := parseSpan(spec)
			if !ok {
				return nil, false, invalid("Range " + strconv.Quote(header))
			}
			s.Off, s.Len = off, min(n, size-min(off, size))
		}
		if s.Len > 0 {
			spans = append(spans, s)
		}
	}
	if len(spans) == 0 {
		return nil, false, &object.RangeError{Range: header, Size: size}
	}
	return spans, true, nil
}

// ChangedAnswer is the answer to GET ?changed; see object.PageChanges.
type ChangedAnswer struct {
	From   wal.LSN     `json:"from,string"`
	To     wal.LSN     `json:"to,string"`
	Size   uint64      `json:"size"`
	Whole  bool        `json:"whole"`
	Ranges [][2]uint64 `json:"ranges"` // offset, length
	Next   uint64      `json:"next,omitempty"`
}

// changed serves GET ?changed.
func (p *pagesRequest) changed() error {
	if err := p.known("changed", "since", "at", "offset"); err != nil {
		return err
	}
	since, err := p.lsn("since")
	if err != nil {
		return err
	}
	if since == 0 {
		return invalid("since is missing")
	}
	at, err := p.lsn("at")
	if err != nil {
		return err
	}
	if at != 0 && at < since {
		return invalid("since is above at")
	}
	off, _, err := p.number("offset")
	if err != nil {
		return err
	}
	c, err := p.a.server.objects.ChangedPages(p.ctx, p.bucket, p.key, since, at, off)
	if err != nil {
		return err
	}
	answer := ChangedAnswer{From: c.From, To: c.To, Size: c.Size, Whole: c.Whole, Next: c.Next, Ranges: [][2]uint64{}}
	for _, r := range c.Ranges {
		answer.Ranges = append(answer.Ranges, [2]uint64{r.Off, r.Len})
	}
	sendJSON(p.http, fasthttp.StatusOK, &answer)
	return nil
}

// CloneRequest says what POST ?clone makes the object of.
type CloneRequest struct {
	Bucket string  `json:"bucket,omitempty"` // of the source; empty: the same
	Key    string  `json:"key"`
	At     wal.LSN `json:"at,string,omitempty"`
	Offset uint64  `json:"offset,omitempty"`
	Length uint64  `json:"length,omitempty"` // zero: to the end
}

// clone serves POST ?clone.
func (p *pagesRequest) clone() error {
	if err := p.known("clone"); err != nil {
		return err
	}
	var in CloneRequest
	if err := p.decode(&in); err != nil {
		return err
	}
	if in.Bucket == "" {
		in.Bucket = p.bucket
	}
	r, err := p.a.server.objects.Clone(p.ctx, p.bucket, p.key, &object.CloneInput{
		SrcBucket: in.Bucket, SrcKey: in.Key, SrcAt: in.At, Off: in.Offset, Len: in.Length,
		SSE: p.sse, CustomerKey: p.customerKey, SrcCustomerKey: p.sourceKey,
		Cond: object.Conditions{IfMatch: string(p.http.Request.Header.Peek("If-Match")), IfNoneMatch: string(p.http.Request.Header.Peek("If-None-Match"))},
	})
	if err != nil {
		return err
	}
	return p.answer(r)
}

// readBatch serves pages:read.
func (p *pagesRequest) readBatch() error {
	if err := p.known(); err != nil {
		return err
	}
	reads, err := object.DecodePageReads(p.body)
	if err != nil {
		return err
	}
	if err := p.mayReadBatch(p.bucket, reads); err != nil {
		return err
	}
	results, err := p.a.server.objects.ReadPages(p.ctx, p.bucket, reads)
	if err != nil {
		return err
	}
	p.a.logCorrupt(p.bucket, reads, results)
	p.http.Response.Header.SetContentType(PagesType)
	p.http.Response.SetBodyRaw(object.AppendPageResults(nil, results))
	return nil
}

// logCorrupt logs what an operator must see of a batch that was read.
func (a *admin) logCorrupt(bucket string, reads []object.PageRead, results []object.PageReadResult) {
	for i := range results {
		if err := results[i].Err; errors.Is(err, layers.ErrCorrupt) || errors.Is(err, object.ErrCorrupt) {
			a.server.log.Error("page cannot be read", "bucket", bucket, "key", reads[i].Key, "err", err)
		}
	}
}
