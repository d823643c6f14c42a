package s3api

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/object"
)

const metaPrefix = "x-amz-meta-"

// contentHeaders returns the headers that are kept with an object.
func (r *request) contentHeaders() object.Headers {
	h := object.Headers{
		ContentType:        string(r.header().ContentType()),
		ContentEncoding:    r.peek("Content-Encoding"),
		ContentDisposition: r.peek("Content-Disposition"),
		ContentLanguage:    r.peek("Content-Language"),
		CacheControl:       r.peek("Cache-Control"),
		Expires:            r.peek("Expires"),
		WebsiteRedirect:    r.amz("x-amz-website-redirect-location"),
	}
	h.ContentEncoding = withoutAWSChunked(h.ContentEncoding)
	return h
}

// withoutAWSChunked takes the coding of the transfer out of a list of codings,
// and leaves the rest as it was written.
func withoutAWSChunked(list string) string {
	if len(list) < len("aws-chunked") {
		return list
	}
	var kept []string
	for coding := range strings.SplitSeq(list, ",") {
		if !strings.EqualFold(strings.TrimSpace(coding), "aws-chunked") {
			kept = append(kept, coding)
		}
	}
	return strings.TrimSpace(strings.Join(kept, ","))
}

// userMeta returns the x-amz-meta-* headers. Repeated ones are joined by commas.
func (r *request) userMeta() []object.Field {
	var meta []object.Field
next:
	for _, f := range r.amzFields {
		name, ok := strings.CutPrefix(f.Name, metaPrefix)
		if !ok || name == "" {
			continue
		}
		for i := range meta {
			if meta[i].Key == name {
				meta[i].Value += "," + f.Value
				continue next
			}
		}
		meta = append(meta, object.Field{Key: name, Value: f.Value})
	}
	return meta
}

// storageClass returns that of what is put: of the header, else what the bucket has for it. Errors:
// object.ErrInvalidStorageClass, those of object.Service.Settings.
func (r *request) storageClass() (object.StorageClass, error) {
	if name := r.amz("x-amz-storage-class"); name != "" {
		return object.ParseStorageClass(name)
	}
	set, err := r.srv.objects.Settings(r.srv.base, r.bucket, 0)
	if err != nil {
		return 0, err
	}
	return set.DefaultClass(), nil
}

// writeConditions returns If-Match and If-None-Match as writes know them.
func (r *request) writeConditions() object.Conditions {
	return object.Conditions{IfMatch: r.condition("If-Match"), IfNoneMatch: r.condition("If-None-Match")}
}

// readConditions returns all conditional headers.
func (r *request) readConditions() object.Conditions {
	c := r.writeConditions()
	c.IfModifiedSince = parseHTTPTime(r.peek("If-Modified-Since"))
	c.IfUnmodifiedSince = parseHTTPTime(r.peek("If-Unmodified-Since"))
	return c
}

// sourceConditions returns the conditions on the source of a copy.
func (r *request) sourceConditions() object.Conditions {
	return object.Conditions{
		IfMatch:           r.amz("x-amz-copy-source-if-match"),
		IfNoneMatch:       r.amz("x-amz-copy-source-if-none-match"),
		IfModifiedSince:   parseHTTPTime(r.amz("x-amz-copy-source-if-modified-since")),
		IfUnmodifiedSince: parseHTTPTime(r.amz("x-amz-copy-source-if-unmodified-since")),
	}
}

// condition returns a header of tags, the empty tag when it was sent without a
// value, and nothing when it was not sent.
func (r *request) condition(name string) string {
	values := r.header().PeekAll(name)
	if len(values) == 0 {
		return ""
	}
	if joined := string(bytes.TrimSpace(bytes.Join(values, []byte(",")))); joined != "" {
		return joined
	}
	return `""`
}

// parseHTTPTime parses a date header; what is none is as good as absent, as RFC
// 9110 has it.
func parseHTTPTime(s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	for _, form := range []string{time.RFC1123, "Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC, time.RFC3339} {
		if t, err := time.Parse(form, s); err == nil {
			return t
		}
	}
	return time.Time{}
}

// setValidators sets what tells versions apart.
func (r *request) setValidators(e *object.Entry) {
	r.set("ETag", `"`+e.ETag.String()+`"`)
	r.set("Last-Modified", httpTime(e.Modified()))
	if e.Headers.CacheControl != "" {
		r.set("Cache-Control", e.Headers.CacheControl)
	} else if t := r.tigrisSettings(); t.CacheControl != "" {
		r.set("Cache-Control", t.CacheControl)
	}
	if e.Headers.Expires != "" {
		r.set("Expires", e.Headers.Expires)
	}
}

// tigrisSettings returns those of the bucket, as they are now; none if it is not there any more.
func (r *request) tigrisSettings() object.TigrisSettings {
	set, err := r.srv.objects.Settings(r.srv.base, r.bucket, 0)
	if err != nil {
		return object.TigrisSettings{}
	}
	return set.OfTigris()
}

// setEntry sets the headers of an object.
func (r *request) setEntry(e *object.Entry) {
	r.setValidators(e)
	h := &r.ctx.Response.Header
	contentType := e.Headers.ContentType
	if contentType == "" {
		contentType = "binary/octet-stream"
	}
	h.SetContentType(contentType)
	for _, f := range [...][2]string{
		{"Content-Encoding", e.Headers.ContentEncoding},
		{"Content-Disposition", e.Headers.ContentDisposition},
		{"Content-Language", e.Headers.ContentLanguage},
		{"x-amz-website-redirect-location", e.Headers.WebsiteRedirect},
	} {
		if f[1] != "" {
			r.set(f[0], f[1])
		}
	}
	r.set("Accept-Ranges", "bytes")
	if r.tigrisSettings().NoSniff {
		r.set(noSniffHeader, "nosniff")
	}
	if e.StorageClass != object.Standard {
		r.set("x-amz-storage-class", e.StorageClass.String())
	}
	if len(e.Tags) > 0 {
		r.set("x-amz-tagging-count", itoa(len(e.Tags)))
	}
	for _, f := range e.UserMeta {
		r.set(metaPrefix+f.Key, headerText(f.Value))
	}
}

// headerText returns a value as the fields of HTTP have it: in Latin-1 if that has all of its
// characters, as most clients read it; else as it is.
func headerText(s string) string {
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	if ascii || !utf8.ValidString(s) {
		return s
	}
	out := make([]byte, 0, len(s))
	for _, c := range s {
		if c > 0xff {
			return s
		}
		out = append(out, byte(c))
	}
	return string(out)
}

// overrides are the response-* parameters of GET and HEAD, and their headers.
var overrides = [...][2]string{
	{"response-content-type", fasthttp.HeaderContentType},
	{"response-content-language", fasthttp.HeaderContentLanguage},
	{"response-expires", fasthttp.HeaderExpires},
	{"response-cache-control", fasthttp.HeaderCacheControl},
	{"response-content-disposition", fasthttp.HeaderContentDisposition},
	{"response-content-encoding", fasthttp.HeaderContentEncoding},
}

// override sets the headers that the query asks for. Errors: InvalidRequest when nobody
// has signed it, InvalidArgument for what no header can hold.
func (r *request) override() error {
	for _, o := range overrides {
		v, ok := r.target.Get(o[0])
		if !ok {
			continue
		}
		if r.proof.Version == "" {
			return &apiError{code: "InvalidRequest", message: "Request specific response headers cannot be used for anonymous GET requests."}
		}
		if !validHeaderValue(v) {
			return invalidArgument(o[0], "", "No header can hold the value")
		}
		r.set(o[1], v)
	}
	return nil
}

// intParam returns a parameter that is a number from low to high; otherwise
// when it is absent. Error: InvalidArgument.
func (r *request) intParam(name string, otherwise, low, high int) (int, error) {
	text, ok := r.target.Get(name)
	if !ok || text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < int64(low) || n > int64(high) {
		return 0, invalidArgument(name, text, "Argument "+name+" must be an integer between "+itoa(low)+" and "+itoa(high))
	}
	return int(n), nil
}
