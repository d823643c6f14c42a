package s3load

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"stemma/benchmarks/load"
)

// streamFrom is the size from which bodies are read piece by piece.
const streamFrom = 256 << 10

// session is what one worker needs. Not safe for concurrent use.
type session struct {
	t      *Target
	sign   *signer
	req    fasthttp.Request
	res    fasthttp.Response
	path   []byte
	uri    []byte
	auth   []byte
	xml    []byte
	chunks chunkedBody
	piece  []byte
}

func (t *Target) newSession() *session {
	return &session{t: t, sign: newSigner(t.c.AccessKey, t.c.SecretKey, t.c.Region)}
}

// object sets the path to object i of a kind in a bucket.
func (s *session) object(bucket string, kind byte, i uint64) {
	s.bucket(bucket)
	s.path = AppendKey(append(s.path, '/'), kind, i)
}

// bucket sets the path to a bucket.
func (s *session) bucket(name string) { s.path = append(append(s.path[:0], '/'), name...) }

// begin fills the request, all but the body. The query is in canonical order.
func (s *session) begin(method string, query []byte, h header) {
	s.sign.at(time.Now())
	h.host = s.t.host
	s.req.Reset()
	s.res.Reset()
	s.uri = append(append(s.uri[:0], s.t.base...), s.path...)
	if len(query) > 0 {
		s.uri = append(append(s.uri, '?'), query...)
	}
	s.req.SetRequestURIBytes(s.uri)
	s.req.URI().DisablePathNormalizing = true
	s.req.Header.SetMethod(method)
	s.req.Header.Set("X-Amz-Content-Sha256", h.hash)
	s.auth = s.sign.appendAuthorization(s.auth[:0], method, s.path, query, h)
	s.req.Header.SetBytesV("X-Amz-Date", s.sign.dateTime)
	s.req.Header.SetBytesV(fasthttp.HeaderAuthorization, s.auth)
	if h.decoded != "" {
		s.req.Header.Set("X-Amz-Decoded-Content-Length", h.decoded)
		s.req.Header.Set(fasthttp.HeaderContentEncoding, "aws-chunked")
	}
}

// do sends the request and wants an answer of the class 2xx, whole in s.res.
func (s *session) do() error {
	if err := s.t.whole.Do(&s.req, &s.res); err != nil {
		return s.failed(err)
	}
	return s.status()
}

func (s *session) failed(err error) error {
	return fmt.Errorf("%s %s: %w", s.req.Header.Method(), s.path, err)
}

// statusError is an answer that is not of the class 2xx.
type statusError struct {
	status int
	code   string // of S3
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d %s", e.status, e.code) }

// status returns an error unless the answer is of the class 2xx.
func (s *session) status() error {
	if s.res.StatusCode()/100 == 2 {
		return nil
	}
	body := s.res.Body()
	return s.failed(&statusError{s.res.StatusCode(), string(element(body, "Code"))})
}

// isStatus reports whether err is an answer of a status.
func isStatus(err error, status int) bool {
	var e *statusError
	return errors.As(err, &e) && e.status == status
}

// put puts a body to the path.
func (s *session) put(body []byte) error {
	switch s.t.c.Payload {
	case Unsigned:
		s.begin(fasthttp.MethodPut, nil, header{hash: unsignedPayload})
		s.req.SetBodyRaw(body)
	case Streaming:
		s.begin(fasthttp.MethodPut, nil, header{hash: signedChunks, decoded: strconv.Itoa(len(body))})
		s.req.SetBodyRaw(s.chunks.build(s.sign, s.t.bodies, body))
	default:
		s.begin(fasthttp.MethodPut, nil, header{hash: s.t.bodies.sum(body)})
		s.req.SetBodyRaw(body)
	}
	return s.do()
}

// get gets the path and checks the length and, with Config.Verify, the bytes.
func (s *session) get(want []byte) error {
	s.begin(fasthttp.MethodGet, nil, header{hash: emptySHA256})
	if len(want) >= streamFrom {
		return s.getPieces(want)
	}
	if err := s.do(); err != nil {
		return err
	}
	body := s.res.Body()
	if len(body) != len(want) || (s.t.c.Verify && !bytes.Equal(body, want)) {
		return s.failed(errBody(len(body), len(want)))
	}
	return nil
}

func errBody(got, want int) error {
	if got == want {
		return errors.New("the body is not what was put")
	}
	return fmt.Errorf("a body of %d bytes, want %d", got, want)
}

// getPieces is the end of get for large bodies.
func (s *session) getPieces(want []byte) (err error) {
	if err := s.t.pieces.Do(&s.req, &s.res); err != nil {
		return s.failed(err)
	}
	defer func() { err = errors.Join(err, s.res.CloseBodyStream()) }()
	if err := s.status(); err != nil {
		return err
	}
	if s.piece == nil {
		s.piece = make([]byte, streamFrom)
	}
	in, got := s.res.BodyStream(), 0
	for {
		n, err := in.Read(s.piece)
		if s.t.c.Verify && !bytes.Equal(s.piece[:n], want[min(got, len(want)):min(got+n, len(want))]) {
			return s.failed(errBody(len(want), len(want)))
		}
		got += n
		if err == io.EOF {
			break
		}
		if err != nil {
			return s.failed(err)
		}
	}
	if got != len(want) {
		return s.failed(errBody(got, len(want)))
	}
	return nil
}

// head asks for the head of the path and checks the length.
func (s *session) head() error {
	s.begin(fasthttp.MethodHead, nil, header{hash: emptySHA256})
	s.res.SkipBody = true
	if err := s.do(); err != nil {
		return err
	}
	if n := s.res.Header.ContentLength(); n != s.t.c.Size {
		return s.failed(fmt.Errorf("head says %d bytes, want %d", n, s.t.c.Size))
	}
	return nil
}

// headOf is head as an operation of a load.
func (s *session) headOf(uint64) (load.Done, error) { return load.Done{}, s.head() }

// remove deletes the path.
func (s *session) remove() error {
	s.begin(fasthttp.MethodDelete, nil, header{hash: emptySHA256})
	return s.do()
}

// removeBatch deletes many keys of a bucket in one request. The keys need no
// escaping.
func (s *session) removeBatch(bucket string, keys func(yield func(key []byte) bool)) error {
	s.xml = append(s.xml[:0], `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>`...)
	for k := range keys {
		s.xml = append(append(append(s.xml, "<Object><Key>"...), k...), "</Key></Object>"...)
	}
	s.xml = append(s.xml, "</Delete>"...)
	s.bucket(bucket)
	s.begin(fasthttp.MethodPost, []byte("delete="), header{hash: hexSHA256(s.xml)})
	sum := md5.Sum(s.xml)
	s.req.Header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
	s.req.Header.SetContentType("application/xml")
	s.req.SetBodyRaw(s.xml)
	if err := s.do(); err != nil {
		return err
	}
	if body := s.res.Body(); bytes.Contains(body, []byte("<Error>")) {
		return s.failed(fmt.Errorf("a key was not deleted: %s", element(body, "Code")))
	}
	return nil
}
