package s3api

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/object"
)

func getObject(ctx context.Context, r *request) error {
	in, err := r.getInput()
	if err != nil {
		return err
	}
	o, err := r.srv.objects.Get(ctx, r.bucket, r.key, in)
	if err != nil {
		return r.notFound(err)
	}
	return r.sendObject(o, in)
}

// sendObject answers GET with an object.
func (r *request) sendObject(o *object.Object, in *object.GetInput) error {
	if err := r.setObject(o, in); err != nil {
		o.Body.Close()
		return err
	}
	if p, inMemory := o.Body.Bytes(); inMemory {
		r.ctx.Response.SetBodyRaw(p)
		return o.Body.Close()
	}
	r.streaming = true
	r.ctx.Response.SetBodyStream(&responseBody{r: r, body: o.Body}, int(o.Length))
	return nil
}

// notFound says of a key that is not there, and that nobody could read, that it cannot have
// been meant.
func (r *request) notFound(err error) error {
	if errors.Is(err, object.ErrNoSuchKey) && strings.ContainsFunc(r.key, func(c rune) bool { return c >= 0x80 && c < 0xa0 }) {
		return &apiError{code: "InvalidURI"}
	}
	return err
}

func headObject(ctx context.Context, r *request) error {
	in, err := r.getInput()
	if err != nil {
		return err
	}
	o, err := r.srv.objects.Head(ctx, r.bucket, r.key, in)
	if err != nil {
		return err
	}
	return r.sendHead(o, in)
}

// sendHead answers HEAD with an object.
func (r *request) sendHead(o *object.Object, in *object.GetInput) error {
	if err := r.setObject(o, in); err != nil {
		return err
	}
	r.ctx.Response.SkipBody = true
	r.ctx.Response.Header.SetContentLength(int(o.Length))
	return nil
}

// getInput reads what GET and HEAD ask for.
func (r *request) getInput() (*object.GetInput, error) {
	in := &object.GetInput{Range: r.peek("Range"), Cond: r.readConditions(), Allow: r.allowEntry}
	var err error
	if in.Version, err = r.versionID(); err != nil {
		return nil, err
	}
	if in.At, err = r.at(); err != nil {
		return nil, err
	}
	if in.PartNumber, err = r.partNumber(false); err != nil {
		return nil, err
	}
	if in.CustomerKey, err = r.customerKey(sseCustomer); err != nil {
		return nil, err
	}
	in.WithParts = in.PartNumber != 0 && r.wantsChecksum()
	if in.Range != "" {
		in.IfRange = r.peek("If-Range")
		in.IfRangeTime = parseHTTPTime(in.IfRange)
	}
	return in, nil
}

// partNumber returns the parameter, zero if it may be absent and is. Error: object.ErrPartNumber.
func (r *request) partNumber(must bool) (int, error) {
	text, ok := r.target.Get("partNumber")
	if !ok && !must {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > object.MaxPartNumber {
		return 0, invalidArgument("partNumber", text, "Part number must be an integer between 1 and 10000, inclusive")
	}
	return n, nil
}

// setObject sets status and headers of a GET or HEAD.
func (r *request) setObject(o *object.Object, in *object.GetInput) error {
	r.setEntry(&o.Entry)
	if err := r.override(); err != nil {
		return err
	}
	if r.wantsChecksum() && (!o.Partial || in.PartNumber != 0) {
		r.setChecksum(servedChecksum(o, in))
	}
	r.setVersionID(o.ID)
	r.setLock(&o.Lock)
	if in.PartNumber != 0 && o.PartsCount > 0 {
		r.set("x-amz-mp-parts-count", itoa(o.PartsCount))
	}
	r.setSSE(o.SSE(), in.CustomerKey, false)
	r.setLSN(o.At)
	if in.At == 0 && in.Version == 0 {
		r.setExpiration(r.srv.base, &o.Entry)
	}
	if o.Partial {
		r.ctx.SetStatusCode(fasthttp.StatusPartialContent)
		r.set("Content-Range", "bytes "+utoa(o.Offset)+"-"+utoa(o.Offset+o.Length-1)+"/"+utoa(o.Size))
	}
	return nil
}

func (r *request) wantsChecksum() bool {
	return strings.EqualFold(r.amz("x-amz-checksum-mode"), "ENABLED")
}

// servedChecksum returns the checksum of what is served: of the object, or of
// the part asked for.
func servedChecksum(o *object.Object, in *object.GetInput) object.Checksum {
	if in.PartNumber == 0 || o.PartsCount == 0 {
		return o.Checksum
	}
	if in.PartNumber <= len(o.Parts) {
		return o.Parts[in.PartNumber-1].Checksum
	}
	return object.Checksum{}
}

// responseBody is the body of a GET. Its Close ends the request.
type responseBody struct {
	r      *request
	body   *object.Reader
	closed bool
}

// Read implements io.Reader.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && err != io.EOF {
		b.report(err)
	}
	return n, err
}

// WriteTo implements io.WriterTo.
func (b *responseBody) WriteTo(w io.Writer) (int64, error) {
	client := &clientWriter{w: w}
	n, err := b.body.WriteTo(client)
	if err != nil && client.err == nil {
		b.report(err)
	}
	return n, err
}

// report logs that the store failed while an answer was under way. The client
// sees the connection end early.
func (b *responseBody) report(err error) {
	b.r.srv.log.Error("read of an object failed", "request", b.r.id, "bucket", b.r.bucket, "key", b.r.key, "err", err)
}

// Close implements io.Closer.
func (b *responseBody) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	err := b.body.Close()
	b.r.end()
	return err
}

// clientWriter remembers whether it was the client that failed.
type clientWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (c *clientWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil {
		c.err = err
	}
	return n, err
}

// objectAttributes are those that GetObjectAttributes knows.
var objectAttributes = makeSet("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")

func getObjectAttributes(ctx context.Context, r *request) error {
	id, err := r.versionID()
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, f := range r.amzFields {
		if f.Name != "x-amz-object-attributes" {
			continue
		}
		for name := range strings.SplitSeq(f.Value, ",") {
			if name = strings.TrimSpace(name); !objectAttributes[name] {
				return invalidArgument("x-amz-object-attributes", name, "Invalid attribute name specified.")
			}
			want[name] = true
		}
	}
	if len(want) == 0 {
		return invalidArgument("x-amz-object-attributes", "", "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty")
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	key, err := r.customerKey(sseCustomer)
	if err != nil {
		return err
	}
	o, err := r.srv.objects.Head(ctx, r.bucket, r.key, &object.GetInput{
		At: at, Version: id, Cond: r.readConditions(), WithParts: want["ObjectParts"], CustomerKey: key, Allow: r.allowEntry,
	})
	if err != nil {
		return err
	}
	w := newResult("GetObjectAttributesResponse")
	if want["ETag"] {
		w.text("ETag", o.ETag.String())
	}
	if want["Checksum"] && o.Checksum.Algorithm != object.NoChecksum {
		w.open("Checksum")
		w.checksum(o.Checksum)
		w.text("ChecksumType", o.Checksum.Type())
		w.close("Checksum")
	}
	if want["ObjectParts"] && o.PartsCount > 0 {
		if err := r.writeAttributeParts(w, o); err != nil {
			return err
		}
	}
	if want["StorageClass"] {
		w.text("StorageClass", o.StorageClass.String())
	}
	if want["ObjectSize"] {
		w.uint("ObjectSize", o.Size)
	}
	w.close("GetObjectAttributesResponse")
	r.set("Last-Modified", httpTime(o.Modified()))
	r.setVersionID(o.ID)
	r.setLSN(o.At)
	r.sendXML(w)
	return nil
}

// writeAttributeParts writes a page of the parts of an object.
func (r *request) writeAttributeParts(w *xmlWriter, o *object.Object) error {
	limit, marker := object.MaxListKeys, 0
	for _, h := range []struct {
		name string
		to   *int
		max  int
	}{{"x-amz-max-parts", &limit, object.MaxListKeys}, {"x-amz-part-number-marker", &marker, object.MaxPartNumber}} {
		if text := r.amz(h.name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 0 {
				return invalidArgument(h.name, text, "The value must be a number that is not negative")
			}
			*h.to = min(n, h.max)
		}
	}
	w.open("ObjectParts")
	w.int("PartsCount", o.PartsCount)
	w.int("PartNumberMarker", marker)
	first := min(marker, len(o.Parts)) // parts count as they lie, from 1
	last := min(first+limit, len(o.Parts))
	w.int("NextPartNumberMarker", last)
	w.int("MaxParts", limit)
	w.bool("IsTruncated", last < len(o.Parts))
	for i := first; i < last; i++ {
		w.open("Part")
		w.int("PartNumber", i+1)
		w.uint("Size", o.Parts[i].Size)
		w.checksum(o.Parts[i].Checksum)
		w.close("Part")
	}
	w.close("ObjectParts")
	return nil
}

// checksum writes the element of a checksum, nothing if there is none.
func (w *xmlWriter) checksum(c object.Checksum) {
	if c.Algorithm != object.NoChecksum {
		w.text("Checksum"+c.Algorithm.String(), c.String())
	}
}
