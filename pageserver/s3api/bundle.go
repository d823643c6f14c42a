package s3api

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"stemma/pageserver/object"
	"stemma/wal"
)

// Limits of a bundle, as Tigris has them.
const (
	maxBundleKeys      = 5000
	maxBundleBodyBytes = 5 << 20
	maxBundleBytes     = 50 << 30
	// bundleTime bounds a bundle, and is how long the LSN that it reads stays readable.
	bundleTime = 15 * time.Minute
	// bundleErrors is the entry that names what was left out.
	bundleErrors = "__bundle_errors.json"
)

// bundleXML and bundleJSON are the bodies of a bundle.
type (
	bundleXML struct {
		XMLName xml.Name       `xml:"Bundle"`
		Objects []bundleObject `xml:"Object"`
		Unknown []unknownXML   `xml:",any"`
	}
	bundleObject struct {
		Key     *string      `xml:"Key"`
		Unknown []unknownXML `xml:",any"`
	}
	bundleJSON struct {
		Keys []string `json:"keys"`
	}
)

// bundleEntry is one object that goes into the tar.
type bundleEntry struct {
	key      string
	size     uint64
	modified time.Time
}

// skippedKey is one line of the entry bundleErrors.
type skippedKey struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// bundle is what a request for a bundle asks for.
type bundle struct {
	keys       []string
	compressed func(io.Writer) (io.WriteCloser, error)
	encoding   string // of compressed, as HTTP names it
	fail       bool   // when a key is not there
	at         wal.LSN
}

// bundleOperation answers with many objects in one tar, in the order that they were
// asked for in, all of one LSN.
var bundleOperation = &operation{
	name: "BundleObjects", handle: bundleObjects, long: true, reads: true, params: []string{"bundle"},
	tigris: []string{"snapshot-version", "bundle-format", "bundle-compression", "bundle-on-error"},
}

func bundleObjects(ctx context.Context, r *request) error {
	b, err := r.parseBundle()
	if err != nil {
		return err
	}
	store := r.srv.objects.Store()
	if b.at == 0 {
		b.at = store.Visible()
		// Refused or lost, the lease costs nothing but that the answer may break off.
		_ = store.Lease(r.bucket, b.at, bundleTime)
	}
	entries, skipped, err := r.findBundle(ctx, b)
	if err != nil {
		return err
	}
	if b.fail && len(skipped) > 0 {
		return missingInBundle(skipped)
	}
	r.startBundle(b, entries, skipped)
	return nil
}

// parseBundle reads headers and body.
func (r *request) parseBundle() (*bundle, error) {
	b := &bundle{}
	if v := r.peek("X-Tigris-Bundle-Format"); v != "tar" {
		return nil, invalidArgument("X-Tigris-Bundle-Format", v, "The format of a bundle must be tar")
	}
	switch v := r.peek("X-Tigris-Bundle-Compression"); v {
	case "", "none":
	case "gzip":
		b.encoding = v
		b.compressed = func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
	case "zstd":
		b.encoding = v
		b.compressed = func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		}
	default:
		return nil, invalidArgument("X-Tigris-Bundle-Compression", v, "The compression of a bundle must be none, gzip or zstd")
	}
	switch v := r.peek("X-Tigris-Bundle-On-Error"); v {
	case "", "skip":
	case "fail":
		b.fail = true
	default:
		return nil, invalidArgument("X-Tigris-Bundle-On-Error", v, "On error a bundle must skip or fail")
	}
	var err error
	if b.at, err = r.at(); err != nil {
		return nil, err
	}
	p, err := r.document(maxBundleBodyBytes, false)
	if err != nil {
		return nil, err
	}
	if b.keys, err = bundleKeys(p); err != nil {
		return nil, err
	}
	if n := len(b.keys); n == 0 || n > maxBundleKeys {
		return nil, invalidArgument("keys", itoa(n), "A bundle has 1 to "+itoa(maxBundleKeys)+" keys")
	}
	return b, nil
}

// bundleKeys decodes the body, JSON or XML. Errors: MalformedXML, InvalidArgument.
func bundleKeys(p []byte) ([]string, error) {
	var keys []string
	if text := strings.TrimSpace(string(p)); strings.HasPrefix(text, "{") {
		var doc bundleJSON
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&doc); err != nil || d.More() {
			return nil, invalidArgument("body", "", `The body must be {"keys": [...]}`)
		}
		keys = doc.Keys
	} else {
		var doc bundleXML
		if err := decodeXML(p, &doc); err != nil {
			return nil, err
		}
		for _, o := range doc.Objects {
			if o.Key == nil || len(o.Unknown) > 0 {
				return nil, &apiError{code: "MalformedXML"}
			}
			keys = append(keys, *o.Key)
		}
		if len(doc.Unknown) > 0 {
			return nil, &apiError{code: "MalformedXML"}
		}
	}
	for _, k := range keys {
		if k == "" || len(k) > object.MaxKeyBytes || !utf8.ValidString(k) || strings.ContainsRune(k, 0) {
			return nil, invalidArgument("key", clip(k), "A key of the bundle is malformed")
		}
	}
	return keys, nil
}

// findBundle looks every key up.
func (r *request) findBundle(ctx context.Context, b *bundle) (found []bundleEntry, skipped []skippedKey, err error) {
	total := uint64(0)
	for _, key := range b.keys {
		allow, err := r.allowSource(r.bucket, key, "", r.inPast())
		if err != nil {
			return nil, nil, err
		}
		o, err := r.srv.objects.Head(ctx, r.bucket, key, &object.GetInput{At: b.at, Allow: allow})
		if errors.Is(err, object.ErrNoSuchKey) {
			if err := r.hideMissing(err, r.bucket, key); err == errDenied {
				return nil, nil, err
			}
			r.told = false // of the next
			skipped = append(skipped, skippedKey{key, "NoSuchKey"})
			continue
		} else if err != nil {
			return nil, nil, err
		}
		if total += o.Size; total > maxBundleBytes {
			return nil, nil, &apiError{code: "EntityTooLarge", message: "A bundle has at most 50 GiB"}
		}
		found = append(found, bundleEntry{key, o.Size, o.Modified()})
	}
	return found, skipped, nil
}

func missingInBundle(skipped []skippedKey) error {
	e := &apiError{code: "BundleKeyNotFound"}
	for _, s := range skipped {
		e.missing = append(e.missing, s.Key)
	}
	return e
}

// startBundle makes the bundle the answer. A goroutine writes it while the
// connection reads; it ends with the body.
func (r *request) startBundle(b *bundle, entries []bundleEntry, skipped []skippedKey) {
	h := &r.ctx.Response.Header
	r.setLSN(b.at)
	h.SetContentType("application/x-tar")
	if b.encoding != "" {
		r.set("X-Tigris-Bundle-Compression", b.encoding)
		h.SetContentType(map[string]string{"gzip": "application/gzip", "zstd": "application/zstd"}[b.encoding])
	}
	for _, name := range bundleTrailers {
		if err := h.AddTrailer(name); err != nil {
			panic("BUG: trailer " + name)
		}
	}
	ctx, cancel := context.WithTimeout(r.srv.base, bundleTime)
	pr, pw := io.Pipe()
	body := &bundleBody{r: r, pipe: pr, cancel: cancel, done: make(chan struct{}), count: len(entries), skipped: len(skipped)}
	for i := range entries {
		body.bytes += entries[i].size
	}
	go func() {
		defer close(body.done)
		err := r.writeBundle(ctx, pw, b, entries, skipped)
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			r.srv.log.Error("bundle broke off", "request", r.id, "bucket", r.bucket, "err", err)
		}
		pw.CloseWithError(err) // nil: the end
	}()
	r.streaming = true
	r.ctx.Response.SetBodyStream(body, -1)
}

// bundleTrailers are told when all was sent.
var bundleTrailers = []string{"x-tigris-bundle-count", "x-tigris-bundle-bytes", "x-tigris-bundle-skipped"}

// bundleBody is the body of the answer. Its Close ends the request.
type bundleBody struct {
	r              *request
	pipe           *io.PipeReader
	cancel         context.CancelFunc
	done           chan struct{}
	count, skipped int
	bytes          uint64
	closed         bool
}

// Read implements io.Reader.
func (b *bundleBody) Read(p []byte) (int, error) {
	n, err := b.pipe.Read(p)
	if err == io.EOF {
		for i, v := range []string{itoa(b.count), utoa(b.bytes), itoa(b.skipped)} {
			b.r.set(bundleTrailers[i], v)
		}
	}
	return n, err
}

// Close implements io.Closer: it stops what still writes, and waits for it.
func (b *bundleBody) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.cancel()
	err := b.pipe.Close()
	<-b.done
	b.r.end()
	return err
}

// writeBundle writes the tar. The objects are read as they are written.
func (r *request) writeBundle(ctx context.Context, w io.Writer, b *bundle, entries []bundleEntry, skipped []skippedKey) error {
	closeAll := func() error { return nil }
	if b.compressed != nil {
		c, err := b.compressed(w)
		if err != nil {
			return err
		}
		w, closeAll = c, c.Close
	}
	t := tar.NewWriter(w)
	for i := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.bundleObject(ctx, t, &entries[i], b.at); err != nil {
			return err
		}
	}
	if len(skipped) > 0 {
		p, err := json.Marshal(map[string][]skippedKey{"skipped": skipped})
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: bundleErrors, Size: int64(len(p)), Mode: 0o644, ModTime: b.at.Time()}); err != nil {
			return err
		}
		if _, err := t.Write(p); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return closeAll()
}

func (r *request) bundleObject(ctx context.Context, t *tar.Writer, e *bundleEntry, at wal.LSN) error {
	o, err := r.srv.objects.Get(ctx, r.bucket, e.key, &object.GetInput{At: at})
	if err != nil {
		return err
	}
	defer o.Body.Close()
	h := tar.Header{Typeflag: tar.TypeReg, Name: e.key, Size: int64(o.Size), Mode: 0o644, ModTime: e.modified.Truncate(time.Second)}
	if err := t.WriteHeader(&h); err != nil {
		return err
	}
	_, err = o.Body.WriteTo(t)
	return err
}
