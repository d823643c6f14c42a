package s3load

import "strconv"

// chunkedBody is a body in aws-chunked form, in one buffer that is used again. For a
// body of the same bytes as last time only the signatures are written.
type chunkedBody struct {
	buf  []byte
	body *byte // first byte of what buf holds, nil at first
	size int
	sigs []int // where the signatures are, one for each chunk and for the last, empty one
}

// build returns body with its chunks signed, after the request was signed with s.
func (c *chunkedBody) build(s *signer, b *bodies, body []byte) []byte {
	if len(body) == 0 || c.body != &body[0] || c.size != len(body) {
		c.lay(body)
	}
	for i, at := range c.sigs {
		if off := i * chunkBytes; off < len(body) {
			s.signChunk(b.chunkSum(body, off))
		} else {
			s.signChunk(emptySHA256)
		}
		copy(c.buf[at:], s.hex[:])
	}
	return c.buf
}

// lay writes everything but the signatures.
func (c *chunkedBody) lay(body []byte) {
	c.buf, c.sigs, c.body, c.size = c.buf[:0], c.sigs[:0], nil, len(body)
	if len(body) > 0 {
		c.body = &body[0]
	}
	for rest := body; ; {
		chunk := rest[:min(len(rest), chunkBytes)]
		c.buf = strconv.AppendInt(c.buf, int64(len(chunk)), 16)
		c.buf = append(c.buf, ";chunk-signature="...)
		c.sigs = append(c.sigs, len(c.buf))
		c.buf = append(c.buf, make([]byte, 64)...)
		c.buf = append(c.buf, "\r\n"...)
		c.buf = append(append(c.buf, chunk...), "\r\n"...)
		if len(chunk) == 0 {
			return
		}
		rest = rest[len(chunk):]
	}
}
