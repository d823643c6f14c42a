package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// LSN is the number of a commit, and of the moment after it: nanoseconds since 1970 by the store's clock.
type LSN uint64

// String returns the LSN in decimal, which is a point in time.
func (l LSN) String() string { return strconv.FormatUint(uint64(l), 10) }

// Options say which server a Client talks to and as whom. Empty fields take the defaults named.
type Options struct {
	// Endpoint is the address of the admin listener. Default http://127.0.0.1:9001.
	Endpoint string
	// AccessKey and SecretKey are the root key. Required.
	AccessKey, SecretKey string
	// Region is what requests are signed for. Default us-east-1.
	Region string
	// HTTP sends the requests. Default http.DefaultClient.
	HTTP *http.Client
}

// Client talks to one server. Safe for concurrent use.
type Client struct {
	o    Options
	base *url.URL
}

// New returns a client. It does not connect. Errors: what is wrong with the options.
func New(o Options) (*Client, error) {
	o.Endpoint = cmp.Or(o.Endpoint, "http://127.0.0.1:9001")
	o.Region = cmp.Or(o.Region, "us-east-1")
	if o.HTTP == nil {
		o.HTTP = http.DefaultClient
	}
	base, err := url.Parse(o.Endpoint)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("client: endpoint %q: want http://host:port", o.Endpoint)
	}
	if o.AccessKey == "" || o.SecretKey == "" {
		return nil, errors.New("client: the options need AccessKey and SecretKey")
	}
	return &Client{o: o, base: base}, nil
}

// Error is what the server says of a request that failed.
type Error struct {
	Status  int    `json:"-"` // of HTTP
	Code    string `json:"code"`
	Message string `json:"message"`
	Quota   *Room  `json:"quota,omitempty"` // of QuotaExceeded
}

// Room says what a bucket has no room for.
type Room struct {
	Of     string `json:"of"` // bytes or objects
	Max    int64  `json:"max"`
	Used   int64  `json:"used"`
	Growth int64  `json:"growth"` // by what was refused
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// IsCode reports whether err is an *Error with one of the codes.
func IsCode(err error, codes ...string) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// maxAnswer bounds an answer that is read as a whole, in bytes.
const maxAnswer = 1 << 30

// path joins parts that are escaped, each one of the path.
func path(parts ...string) string {
	escaped := make([]string, len(parts))
	for i, p := range parts {
		escaped[i] = url.PathEscape(p)
	}
	return "/v1/" + strings.Join(escaped, "/")
}

// request is one request; kind is the type of its body, if it has one.
type request struct {
	method, path string
	query        url.Values
	kind, accept string
	span         string // of bytes; a Range header
	ifMatch      string // ETag; a header
	body         []byte
}

// open sends a request, with in as its body unless it is nil, and returns an answer that is good. The caller closes
// its body.
func (c *Client) open(ctx context.Context, method, path string, query url.Values, in any, accept string) (*http.Response, error) {
	r := request{method: method, path: path, query: query, accept: accept}
	if in != nil {
		var err error
		if r.body, err = json.Marshal(in); err != nil {
			return nil, err
		}
		r.kind = "application/json"
	}
	return c.send(ctx, &r)
}

// send sends a request and returns an answer that is good. The caller closes its body.
func (c *Client) send(ctx context.Context, r *request) (*http.Response, error) {
	u := c.base.Scheme + "://" + c.base.Host + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(r.body)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if r.span != "" {
		req.Header.Set("Range", r.span)
	}
	if r.ifMatch != "" {
		req.Header.Set("If-Match", r.ifMatch)
	}
	res, err := c.o.HTTP.Do(signer.SignV4(*req, c.o.AccessKey, c.o.SecretKey, "", c.o.Region))
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusPartialContent {
		return res, nil
	}
	defer res.Body.Close()
	return nil, failure(res, r.method+" "+r.path)
}

// failure is what an answer that is not good says.
func failure(res *http.Response, what string) error {
	e := &Error{Status: res.StatusCode}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(e); err != nil || e.Code == "" {
		return fmt.Errorf("%s: %s", what, res.Status)
	}
	return e
}

// call is open, with the answer decoded into out.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	res, err := c.open(ctx, method, path, query, in, "")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("unreadable answer to %s %s: %w", method, path, err)
	}
	return nil
}

// ask is call for an answer of one type.
func ask[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any) (*T, error) {
	out := new(T)
	if err := c.call(ctx, method, path, query, in, out); err != nil {
		return nil, err
	}
	return out, nil
}
