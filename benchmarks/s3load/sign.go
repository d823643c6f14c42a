package s3load

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"time"
)

// Payload says how the body of a put is signed.
type Payload int

// The ways to sign a body.
const (
	Signed    Payload = iota // its SHA-256 is signed
	Unsigned                 // UNSIGNED-PAYLOAD
	Streaming                // aws-chunked, every chunk signed
)

// ParsePayload parses "signed", "unsigned" or "streaming".
func ParsePayload(s string) (Payload, bool) {
	for p, name := range []string{"signed", "unsigned", "streaming"} {
		if s == name {
			return Payload(p), true
		}
	}
	return 0, false
}

const (
	unsignedPayload = "UNSIGNED-PAYLOAD"
	signedChunks    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	emptySHA256     = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	algorithm       = "AWS4-HMAC-SHA256"
	dateTimeForm    = "20060102T150405Z"
)

// signer signs requests with Signature Version 4. One for each worker: not safe for
// concurrent use.
type signer struct {
	access, secret, region string

	// Of the present second and day.
	second   int64
	dateTime []byte // dateTimeForm
	scope    []byte // 20060102/region/s3/aws4_request
	mac      hash.Hash
	sum      hash.Hash
	buf      []byte
	digest   [sha256.Size]byte
	hex      [2 * sha256.Size]byte
}

func newSigner(access, secret, region string) *signer {
	return &signer{access: access, secret: secret, region: region, sum: sha256.New()}
}

// at sets the time of what is signed next, and the key with the day.
func (s *signer) at(now time.Time) {
	if now.Unix() == s.second {
		return
	}
	s.second = now.Unix()
	before := string(s.dateTime)
	s.dateTime = now.UTC().AppendFormat(s.dateTime[:0], dateTimeForm)
	if before != "" && before[:8] == string(s.dateTime[:8]) {
		return
	}
	day := s.dateTime[:8]
	s.scope = append(append(append(append(s.scope[:0], day...), '/'), s.region...), "/s3/aws4_request"...)
	key := []byte("AWS4" + s.secret)
	for _, part := range []string{string(day), s.region, "s3", "aws4_request"} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	s.mac = hmac.New(sha256.New, key)
}

// header is what is signed of a request, beside its method and target.
type header struct {
	host    string
	hash    string // x-amz-content-sha256
	decoded string // x-amz-decoded-content-length; "": none
}

// appendAuthorization appends the value of the Authorization header. path and query
// are as they are sent, the query in canonical order.
func (s *signer) appendAuthorization(dst []byte, method string, path, query []byte, h header) []byte {
	names := "host;x-amz-content-sha256;x-amz-date"
	b := append(append(s.buf[:0], method...), '\n')
	b = append(append(b, path...), '\n')
	b = append(append(b, query...), '\n')
	b = append(append(append(b, "host:"...), h.host...), '\n')
	b = append(append(append(b, "x-amz-content-sha256:"...), h.hash...), '\n')
	b = append(append(append(b, "x-amz-date:"...), s.dateTime...), '\n')
	if h.decoded != "" {
		names = "host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length"
		b = append(append(append(b, "x-amz-decoded-content-length:"...), h.decoded...), '\n')
	}
	b = append(append(append(b, '\n'), names...), '\n')
	b = append(b, h.hash...)
	s.sum.Reset()
	s.sum.Write(b)

	b = s.begin(b, algorithm)
	b = hex.AppendEncode(b, s.sum.Sum(s.digest[:0]))
	s.sign(b)
	s.buf = b

	dst = append(append(dst, algorithm+" Credential="...), s.access...)
	dst = append(append(dst, '/'), s.scope...)
	dst = append(append(dst, ",SignedHeaders="...), names...)
	return append(append(dst, ",Signature="...), s.hex[:]...)
}

// signChunk writes the signature of a chunk with the hash sum over the previous one
// in s.hex, which is that of the request before the first chunk.
func (s *signer) signChunk(sum string) {
	b := s.begin(s.buf, "AWS4-HMAC-SHA256-PAYLOAD")
	b = append(append(b, s.hex[:]...), '\n')
	b = append(b, emptySHA256+"\n"...)
	b = append(b, sum...)
	s.sign(b)
	s.buf = b
}

// begin starts a string to sign in the space of b.
func (s *signer) begin(b []byte, what string) []byte {
	b = append(append(b[:0], what...), '\n')
	b = append(append(b, s.dateTime...), '\n')
	return append(append(b, s.scope...), '\n')
}

// sign leaves the signature of b in s.hex.
func (s *signer) sign(b []byte) {
	s.mac.Reset()
	s.mac.Write(b)
	hex.Encode(s.hex[:], s.mac.Sum(s.digest[:0]))
}
