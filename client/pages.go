package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// PageOp is one change of an object's bytes, or of its metadata. docs/pages.md has the protocol.
type PageOp struct {
	Kind PageOpKind
	Off  uint64 // of PageResize: the new size
	Len  uint64 // of PageZero
	Data []byte // of PageWrite the bytes, of PageMeta the value; empty: it is removed
	Name string // of PageMeta
}

// PageOpKind says what a PageOp does.
type PageOpKind byte

// The kinds.
const (
	PageWrite  PageOpKind = iota + 1
	PageZero              // makes zeros that take no space
	PageResize            // cuts, or grows by zeros that take no space
	PageMeta              // sets user metadata
)

// MaxPagesBody bounds the body of a PATCH, encoded, and MaxPageReadBytes what one ReadPages reads, in bytes.
const (
	MaxPagesBody     = 8 << 20
	MaxPageReadBytes = 16 << 20
)

const (
	pagesType    = "application/vnd.stemma.pages"
	pagesVersion = 1
)

func appendBytes[T string | []byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendPageOps(dst []byte, ops []PageOp) []byte {
	dst = append(dst, pagesVersion)
	for i := range ops {
		o := &ops[i]
		dst = append(dst, byte(o.Kind))
		switch o.Kind {
		case PageWrite:
			dst = appendBytes(binary.AppendUvarint(dst, o.Off), o.Data)
		case PageZero:
			dst = binary.AppendUvarint(binary.AppendUvarint(dst, o.Off), o.Len)
		case PageMeta:
			dst = appendBytes(appendBytes(dst, o.Name), o.Data)
		default:
			dst = binary.AppendUvarint(dst, o.Off)
		}
	}
	return dst
}

// PagesOptions are conditions and choices of a WritePages.
type PagesOptions struct {
	Create    bool // the object if there is none
	Exclusive bool // with Create: fail with PreconditionFailed if there is one
	IfLSN     LSN  // the version must be of this commit; zero: any
	PageBytes int  // of an object that was never written in place; zero: the bucket's, else 4096
}

func (o *PagesOptions) query() url.Values {
	q := url.Values{}
	switch {
	case o.Create && o.Exclusive:
		q.Set("create", "only")
	case o.Create:
		q.Set("create", "yes")
	}
	if o.IfLSN != 0 {
		q.Set("if-lsn", o.IfLSN.String())
	}
	if o.PageBytes != 0 {
		q.Set("page-size", strconv.Itoa(o.PageBytes))
	}
	return q
}

// PagesWritten says what an object is after a write in place.
type PagesWritten struct {
	LSN       LSN    `json:"lsn,string"`
	ETag      string `json:"etag"`
	Size      uint64 `json:"size"`
	PageBytes int    `json:"page_size"`      // zero: it is not written in place; only its metadata was changed
	File      string `json:"file,omitempty"` // see ObjectInfo
}

// WritePages changes an object in place, in one commit. On return it is durable.
func (c *Client) WritePages(ctx context.Context, bucket, key string, ops []PageOp, o PagesOptions) (*PagesWritten, error) {
	return c.changePages(ctx, &request{method: "PATCH", path: objectPath(bucket, key), query: o.query(), kind: pagesType, body: appendPageOps(nil, ops)})
}

// changePages sends a request and decodes what an object became.
func (c *Client) changePages(ctx context.Context, r *request) (*PagesWritten, error) {
	res, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out := new(PagesWritten)
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(out); err != nil {
		return nil, fmt.Errorf("unreadable answer: %w", err)
	}
	return out, nil
}

// objectPath keeps the slashes of a key.
func objectPath(bucket, key string) string {
	parts := bytes.Split([]byte(key), []byte("/"))
	for i, p := range parts {
		parts[i] = []byte(url.PathEscape(string(p)))
	}
	return path("buckets", bucket) + "/objects/" + string(bytes.Join(parts, []byte("/")))
}

// PageRead asks for bytes of an object.
type PageRead struct {
	Key      string
	At       LSN // zero: the tip, the same for all reads of a batch
	Off, Len uint64
}

// PageReadResult answers a PageRead.
type PageReadResult struct {
	Err  error // of this read alone; *Error with the codes NoSuchKey, HistoryNotRetained, InvalidArgument, Corrupt, NoSuchBucket, InvalidRequest (a customer's key encrypts it) and InternalError
	Data []byte
	Size uint64 // of the object
	LSN  LSN    // of its version
}

// pageCodes are the codes of the errors of reads by their status.
var pageCodes = map[byte]string{1: "NoSuchKey", 2: "HistoryNotRetained", 3: "InvalidArgument", 4: "Corrupt", 5: "NoSuchBucket", 6: "InvalidRequest"}

var errBadPages = errors.New("unreadable answer: malformed batch of pages")

func appendPageReads(dst []byte, reads []PageRead) []byte {
	dst = append(dst, pagesVersion)
	for i := range reads {
		r := &reads[i]
		dst = appendBytes(dst, r.Key)
		for _, n := range [...]uint64{uint64(r.At), r.Off, r.Len} {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	return dst
}

// ReadPages reads many ranges of many objects of a bucket.
func (c *Client) ReadPages(ctx context.Context, bucket string, reads []PageRead) ([]PageReadResult, error) {
	res, err := c.send(ctx, &request{method: "POST", path: path("buckets", bucket) + "/pages:read", kind: pagesType, body: appendPageReads(nil, reads)})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	p, err := readAnswer(res)
	if err != nil {
		return nil, err
	}
	results, err := decodePageResults(p)
	if err == nil && len(results) != len(reads) {
		err = errBadPages
	}
	return results, err
}

// ReadRange reads bytes of an object at an LSN, zero being the tip, at most 8 MiB; fewer at its end.
func (c *Client) ReadRange(ctx context.Context, bucket, key string, at LSN, off, n uint64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	q := url.Values{}
	if at != 0 {
		q.Set("at", at.String())
	}
	r := request{method: "GET", path: objectPath(bucket, key), query: q, span: fmt.Sprintf("bytes=%d-%d", off, off+n-1)}
	res, err := c.send(ctx, &r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return readAnswer(res)
}

// readAnswer reads a body at once, into a buffer of its length if that is told.
func readAnswer(res *http.Response) ([]byte, error) {
	const most = MaxPageReadBytes + 1<<20
	if n := res.ContentLength; n >= 0 && n <= most {
		p := make([]byte, n)
		_, err := io.ReadFull(res.Body, p)
		return p, err
	}
	return io.ReadAll(io.LimitReader(res.Body, most))
}

func decodePageResults(p []byte) (results []PageReadResult, err error) {
	if len(p) == 0 || p[0] != pagesVersion {
		return nil, errBadPages
	}
	p = p[1:]
	number := func() uint64 {
		n, used := binary.Uvarint(p)
		if used <= 0 {
			err, p = errBadPages, nil
			return 0
		}
		p = p[used:]
		return n
	}
	taken := func() []byte {
		n := number()
		if n > uint64(len(p)) {
			err, p = errBadPages, nil
			return nil
		}
		b := p[:n:n]
		p = p[n:]
		return b
	}
	for len(p) > 0 {
		status := p[0]
		p = p[1:]
		var r PageReadResult
		if status == 0 {
			r.LSN, r.Size, r.Data = LSN(number()), number(), taken()
		} else {
			e := &Error{Status: http.StatusOK, Code: pageCodes[status], Message: string(taken())}
			if e.Code == "" {
				e.Code = "InternalError"
			}
			r.Err = e
		}
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// CloneSource is what an object is to be a clone of.
type CloneSource struct {
	Bucket string `json:"bucket,omitempty"`
	Key    string `json:"key"`
	At     string `json:"at,omitempty"`
	// IfMatch is the ETag that what is replaced must have; empty: any, or nothing.
	IfMatch string `json:"-"`
}

// Clone makes an object that is written in place of another one, by handle unless it is encrypted otherwise, and replaces what is there.
func (c *Client) Clone(ctx context.Context, bucket, key string, from CloneSource) (*PagesWritten, error) {
	body, err := json.Marshal(from)
	if err != nil {
		return nil, err
	}
	return c.changePages(ctx, &request{method: "POST", path: objectPath(bucket, key), query: url.Values{"clone": {""}}, kind: "application/json", body: body, ifMatch: from.IfMatch})
}
