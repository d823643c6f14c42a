package auth

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// chunkWriter encodes aws-chunked bodies as a client does.
type chunkWriter struct {
	out   bytes.Buffer
	p     *Proof
	prev  string
	plain bool
}

func (w *chunkWriter) chunk(data []byte) {
	w.out.WriteString(strconv.FormatInt(int64(len(data)), 16))
	if !w.plain {
		w.prev = signHex(w.p.signingKey, []byte("AWS4-HMAC-SHA256-PAYLOAD\n"+w.p.date+"\n"+string(w.p.scope.append(nil))+"\n"+
			w.prev+"\n"+emptySHA256+"\n"+hexSum(data)))
		w.out.WriteString(";chunk-signature=" + w.prev)
	}
	w.out.WriteString("\r\n")
	if len(data) > 0 {
		w.out.Write(data)
		w.out.WriteString("\r\n")
	}
}

func (w *chunkWriter) trailer(lines string) {
	w.out.WriteString(strings.ReplaceAll(lines, "\n", "\r\n"))
	if !w.plain {
		sig := signHex(w.p.signingKey, []byte("AWS4-HMAC-SHA256-TRAILER\n"+w.p.date+"\n"+string(w.p.scope.append(nil))+"\n"+
			w.prev+"\n"+hexSum([]byte(lines))))
		w.out.WriteString(trailerSignature + ":" + sig + "\r\n")
	}
	w.out.WriteString("\r\n")
}

func testProof(form PayloadForm) *Proof {
	p := &Proof{Payload: Payload{Form: form}, date: "20130524T000000Z", scope: scope{"20130524", "us-east-1", service}, seed: emptySHA256}
	p.signingKey[0] = 7
	return p
}

func readBody(p *Proof, raw io.Reader, length int, decoded int64, trailers ...string) ([]byte, *Body, error) {
	b, err := p.NewBody(raw, BodyOptions{Length: int64(length), Decoded: decoded, Trailers: trailers})
	if err != nil {
		return nil, nil, err
	}
	got, err := io.ReadAll(b)
	return got, b, err
}

// encode makes the body of form from data in chunks of size n, with one trailer
// where the form has them.
func encode(form PayloadForm, data []byte, n int) string {
	w := &chunkWriter{p: testProof(form), prev: emptySHA256, plain: form == UnsignedTrailer}
	for len(data) > 0 {
		m := min(n, len(data))
		w.chunk(data[:m])
		data = data[m:]
	}
	w.chunk(nil)
	if form == SignedChunks {
		w.out.WriteString("\r\n")
	} else {
		w.trailer("x-amz-checksum-crc32:AAAAAA==\n")
	}
	return w.out.String()
}

func trailersOf(form PayloadForm) []string {
	if form == SignedChunks {
		return nil
	}
	return []string{"x-amz-checksum-crc32"}
}

var chunkedForms = []PayloadForm{SignedChunks, SignedTrailer, UnsignedTrailer}

func TestChunkedRoundTrip(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 20_000)
	for _, form := range chunkedForms {
		for _, size := range []int{0, 1, 9, 64 << 10, len(data)} {
			for _, chunk := range []int{1000, 64 << 10, 150_000} {
				raw := encode(form, data[:size], chunk)
				for _, r := range []io.Reader{strings.NewReader(raw), iotest.OneByteReader(strings.NewReader(raw)), iotest.DataErrReader(strings.NewReader(raw))} {
					got, b, err := readBody(testProof(form), r, len(raw), int64(size), trailersOf(form)...)
					if err != nil || !bytes.Equal(got, data[:size]) {
						t.Fatalf("form %d size %d chunk %d: %d bytes, %v", form, size, chunk, len(got), err)
					}
					if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
						t.Fatalf("after the end: %d, %v", n, err)
					}
					if form != SignedChunks && b.Trailer("x-amz-checksum-crc32") != "AAAAAA==" {
						t.Fatal("trailer lost")
					}
					b.Close()
				}
			}
		}
	}
}

// A signed body that is changed in any byte, or cut anywhere, gives an error,
// and what was read before it is a prefix of what was signed.
func TestChunkedChanged(t *testing.T) {
	data := []byte("0123456789abcdefghij")
	for _, form := range chunkedForms {
		raw := encode(form, data, 8)
		check := func(bad []byte, what string, at int) {
			got, b, err := readBody(testProof(form), bytes.NewReader(bad), len(bad), int64(len(data)), trailersOf(form)...)
			var e *Error
			if err != nil && !errors.As(err, &e) {
				t.Fatalf("form %d %s at %d: %v is no *Error", form, what, at, err)
			}
			if form != UnsignedTrailer && !bytes.HasPrefix(data, got) {
				t.Fatalf("form %d %s at %d: unverified bytes %q", form, what, at, got)
			}
			if err == nil && (!bytes.Equal(got, data) || (form == SignedTrailer && b.Trailer("x-amz-checksum-crc32") != "AAAAAA==")) {
				if form != UnsignedTrailer {
					t.Fatalf("form %d %s at %d: accepted %q", form, what, at, got)
				}
			}
		}
		for i := range raw {
			for _, bit := range []byte{1, 0x20, 0x80} {
				bad := []byte(raw)
				bad[i] ^= bit
				check(bad, "flip", i)
			}
			cut := []byte(raw[:i])
			if got, _, err := readBody(testProof(form), bytes.NewReader(cut), len(cut), int64(len(data)), trailersOf(form)...); err == nil && i < len(raw)-4 {
				t.Fatalf("form %d cut at %d: accepted %q", form, i, got)
			}
			// The same cut under the Content-Length of the whole.
			_, _, err := readBody(testProof(form), bytes.NewReader(cut), len(raw), int64(len(data)), trailersOf(form)...)
			wantCode(t, err, "IncompleteBody")
		}
	}
}

func TestChunkedRefused(t *testing.T) {
	signed := func(f func(w *chunkWriter)) string {
		w := &chunkWriter{p: testProof(SignedTrailer), prev: emptySHA256}
		f(w)
		return w.out.String()
	}
	plain := func(f func(w *chunkWriter)) string {
		w := &chunkWriter{plain: true}
		f(w)
		return w.out.String()
	}
	five := []byte("12345")
	for _, c := range []struct {
		name    string
		form    PayloadForm
		raw     string
		decoded int64
		code    string
	}{
		{"no decoded length", SignedChunks, "", -1, "MissingContentLength"},
		{"empty", SignedChunks, "", 0, "IncompleteBody"},
		{"too long", SignedChunks, encode(SignedChunks, five, 5), 4, "IncompleteBody"},
		{"too short", SignedChunks, encode(SignedChunks, five, 5), 6, "IncompleteBody"},
		{"plain as signed", SignedChunks, encode(UnsignedTrailer, five, 5), 5, "InvalidRequest"},
		{"huge chunk", SignedChunks, "1000001;chunk-signature=" + emptySHA256 + "\r\n", 1 << 40, "InvalidChunkSizeError"},
		{"bad size", UnsignedTrailer, "x\r\n", 5, "InvalidRequest"},
		{"no size", UnsignedTrailer, "\r\n", 5, "InvalidRequest"},
		{"long size", UnsignedTrailer, "0000000000000005\r\n12345\r\n", 5, "InvalidRequest"},
		{"long line", UnsignedTrailer, "5;" + strings.Repeat("x", 300) + "\r\n12345\r\n", 5, "InvalidRequest"},
		{"endless line", UnsignedTrailer, strings.Repeat("0", 100_000), 5, "InvalidRequest"},
		{"no mark", UnsignedTrailer, "5\r\n123450\r\n\r\n", 5, "InvalidRequest"},
		{"trailer missing", UnsignedTrailer, plain(func(w *chunkWriter) { w.chunk(five); w.chunk(nil); w.trailer("") }), 5, "MalformedTrailerError"},
		{"trailer unknown", UnsignedTrailer, plain(func(w *chunkWriter) { w.chunk(five); w.chunk(nil); w.trailer("x-amz-checksum-sha1:x\n") }), 5, "MalformedTrailerError"},
		{"trailer twice", UnsignedTrailer, plain(func(w *chunkWriter) {
			w.chunk(five)
			w.chunk(nil)
			w.trailer("x-amz-checksum-crc32:x\nx-amz-checksum-crc32:x\n")
		}), 5, "MalformedTrailerError"},
		{"trailer no colon", UnsignedTrailer, plain(func(w *chunkWriter) { w.chunk(five); w.chunk(nil); w.trailer("x-amz-checksum-crc32\n") }), 5, "MalformedTrailerError"},
		{"trailer long", UnsignedTrailer, plain(func(w *chunkWriter) {
			w.chunk(five)
			w.chunk(nil)
			w.trailer("x-amz-checksum-crc32:" + strings.Repeat("x", 4096) + "\n")
		}), 5, "InvalidRequest"},
		{"trailer unsigned", SignedTrailer, signed(func(w *chunkWriter) {
			w.chunk(five)
			w.chunk(nil)
			w.out.WriteString("x-amz-checksum-crc32:AAAAAA==\r\n\r\n")
		}), 5, "SignatureDoesNotMatch"},
		{"trailer after signature", SignedTrailer, signed(func(w *chunkWriter) {
			w.chunk(five)
			w.chunk(nil)
			w.trailer("")
			w.out.WriteString("x-amz-checksum-crc32:AAAAAA==\r\n\r\n")
		}), 5, "MalformedTrailerError"},
		{"bytes after the end", SignedChunks, encode(SignedChunks, five, 5) + "GET / HTTP/1.1\r\n", 5, "InvalidRequest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := readBody(testProof(c.form), strings.NewReader(c.raw), len(c.raw), c.decoded, trailersOf(c.form)...)
			wantCode(t, err, c.code)
		})
	}
}

// A chunk that claims much and sends little does not cost memory.
func TestChunkMemoryFollowsBytes(t *testing.T) {
	p := testProof(SignedChunks)
	raw := hex.EncodeToString([]byte{0x00, 0xff, 0xff, 0xff}) + ";chunk-signature=" + emptySHA256 + "\r\nabc"
	b, err := p.NewBody(strings.NewReader(raw), BodyOptions{Length: 1 << 30, Decoded: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(b)
	wantCode(t, err, "IncompleteBody")
	if c := cap(*b.chunked.buf); c > 1<<20 {
		t.Fatalf("buffer of %d bytes for 3", c)
	}
}

func TestPlainBodies(t *testing.T) {
	lit := &Proof{}
	var err error
	if lit.Payload, err = parsePayload(hexSum([]byte("hello"))); err != nil {
		t.Fatal(err)
	}
	uns := &Proof{Payload: Payload{Form: Unsigned}}
	for _, c := range []struct {
		name    string
		p       *Proof
		raw     string
		length  int
		decoded int64
		code    string
	}{
		{"literal", lit, "hello", 5, -1, ""},
		{"literal, length by coding", lit, "hello", -1, -1, ""},
		{"literal wrong", lit, "hellO", 5, -1, "XAmzContentSHA256Mismatch"},
		{"literal empty", lit, "", 0, -1, "XAmzContentSHA256Mismatch"},
		{"short", lit, "hell", 5, -1, "IncompleteBody"},
		{"rest is another request", lit, "helloGET", 5, -1, ""},
		{"unsigned", uns, "hellO", 5, -1, ""},
		{"unsigned short", uns, "hell", 5, -1, "IncompleteBody"},
		{"lengths differ", uns, "hello", 5, 4, "IncompleteBody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := readBody(c.p, strings.NewReader(c.raw), c.length, c.decoded)
			if c.code != "" {
				wantCode(t, err, c.code)
			} else if err != nil || !strings.HasPrefix(c.raw, string(got)) || len(got) != 5 {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}

// FuzzChunked gives the decoder arbitrary bytes: above the signatures, and
// below them by signing the fuzzer's chunks.
func FuzzChunked(f *testing.F) {
	f.Add([]byte(encode(UnsignedTrailer, []byte("hello"), 2)), uint8(0), int64(5))
	f.Add([]byte(encode(SignedChunks, []byte("hello"), 2)), uint8(1), int64(5))
	f.Add([]byte(encode(SignedTrailer, []byte("hello"), 2)), uint8(2), int64(5))
	f.Add([]byte("hello, fuzz"), uint8(4), int64(3))
	f.Fuzz(func(t *testing.T, data []byte, mode uint8, n int64) {
		form := chunkedForms[int(mode)%3]
		if mode%2 == 0 && len(data) < 1<<16 {
			raw := encode(form, data, int(uint64(n)%64)+1)
			got, b, err := readBody(testProof(form), strings.NewReader(raw), len(raw), int64(len(data)), trailersOf(form)...)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("round trip: %v", err)
			}
			b.Close()
			return
		}
		got, b, err := readBody(testProof(form), bytes.NewReader(data), len(data), n, trailersOf(form)...)
		if b != nil {
			b.Close()
		}
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%v is no *Error", err)
		}
		if err == nil && int64(len(got)) != n {
			t.Fatalf("%d bytes, want %d", len(got), n)
		}
	})
}
