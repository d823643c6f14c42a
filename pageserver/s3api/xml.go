package s3api

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"stemma/wal"
)

const (
	xmlNamespace = "http://s3.amazonaws.com/doc/2006-03-01/"
	// maxXMLBytes bounds the documents that clients send; that of a complete with
	// 10,000 parts and of a delete of 1,000 long keys may be longer.
	maxXMLBytes     = 1 << 20
	maxLongXMLBytes = 8 << 20
)

// xmlWriter builds a document.
type xmlWriter struct{ b []byte }

func newDocument() *xmlWriter { return appendDocument(make([]byte, 0, 512)) }

func appendDocument(buf []byte) *xmlWriter { return &xmlWriter{append(buf, xml.Header...)} }

// newResult begins a document of S3's namespace.
func newResult(root string) *xmlWriter { return appendResult(make([]byte, 0, 512), root) }

func appendResult(buf []byte, root string) *xmlWriter {
	w := appendDocument(buf)
	w.b = append(append(append(w.b, '<'), root...), ` xmlns="`+xmlNamespace+`">`...)
	return w
}

func (w *xmlWriter) bytes() []byte { return w.b }

func (w *xmlWriter) open(tag string) { w.b = append(append(append(w.b, '<'), tag...), '>') }

func (w *xmlWriter) close(tag string) { w.b = append(append(append(w.b, "</"...), tag...), '>') }

// text writes an element. Characters that no XML document can hold become
// U+FFFD; whoever must know such keys asks for encoding-type url.
func (w *xmlWriter) text(tag, s string) {
	w.open(tag)
	w.b = appendXMLText(w.b, s)
	w.close(tag)
}

// optional writes an element unless s is empty.
func (w *xmlWriter) optional(tag, s string) {
	if s != "" {
		w.text(tag, s)
	}
}

func (w *xmlWriter) int(tag string, n int) {
	w.open(tag)
	w.b = strconv.AppendInt(w.b, int64(n), 10)
	w.close(tag)
}

func (w *xmlWriter) uint(tag string, n uint64) {
	w.open(tag)
	w.b = strconv.AppendUint(w.b, n, 10)
	w.close(tag)
}

func (w *xmlWriter) bool(tag string, v bool) {
	w.open(tag)
	w.b = strconv.AppendBool(w.b, v)
	w.close(tag)
}

func (w *xmlWriter) time(tag string, lsn wal.LSN) {
	w.open(tag)
	w.b = appendTime(w.b, lsn.Time())
	w.close(tag)
}

// appendTime appends t, of the years 0 to 9999, in UTC: 2006-01-02T15:04:05.000Z.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	milli := t.Nanosecond() / int(time.Millisecond)
	two := func(n int) (byte, byte) { return byte('0' + n/10), byte('0' + n%10) }
	y1, y2 := two(year / 100)
	y3, y4 := two(year % 100)
	m1, m2 := two(int(month))
	d1, d2 := two(day)
	h1, h2 := two(hour)
	n1, n2 := two(minute)
	s1, s2 := two(second)
	f2, f3 := two(milli % 100)
	return append(dst, y1, y2, y3, y4, '-', m1, m2, '-', d1, d2, 'T', h1, h2, ':', n1, n2, ':', s1, s2, '.', byte('0'+milli/100), f2, f3, 'Z')
}

// raw appends markup.
func (w *xmlWriter) raw(markup string) { w.b = append(w.b, markup...) }

// plainXML are the bytes that stand for themselves in a text.
var plainXML = func() (plain [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		plain[c] = c != '&' && c != '<' && c != '>' && c != '"'
	}
	plain['\t'], plain['\n'] = true, true
	return plain
}()

// appendXMLText appends s as the text of an element.
func appendXMLText[T string | []byte](dst []byte, s T) []byte {
	plain := 0 // what lies before was appended
	for i := 0; i < len(s); {
		c := s[i]
		if plainXML[c] {
			i++
			continue
		}
		dst = append(dst, s[plain:i]...)
		if c < utf8.RuneSelf {
			i++
			switch c {
			case '&':
				dst = append(dst, "&amp;"...)
			case '<':
				dst = append(dst, "&lt;"...)
			case '>':
				dst = append(dst, "&gt;"...)
			case '"':
				dst = append(dst, "&quot;"...)
			case '\r':
				dst = append(dst, "&#xD;"...)
			default:
				dst = append(dst, "\uFFFD"...)
			}
		} else {
			r, n := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			if r == 0xFFFE || r == 0xFFFF {
				r = utf8.RuneError
			}
			dst = utf8.AppendRune(dst, r) // RuneError for what is not UTF-8
			i += n
		}
		plain = i
	}
	return append(dst, s[plain:]...)
}

// unknownXML catches what a document must not have: a field of it is tagged
// ",any" in every element.
type unknownXML struct {
	XMLName xml.Name
}

// decodeXML decodes one document of the root that v names, and nothing after
// it. Error: MalformedXML.
func decodeXML(p []byte, v any) error {
	d := xml.NewDecoder(bytes.NewReader(p))
	if err := d.Decode(v); err != nil {
		return &apiError{code: "MalformedXML"}
	}
	for {
		switch t, err := d.Token(); t := t.(type) {
		case xml.CharData:
			if len(bytes.TrimSpace(t)) != 0 {
				return &apiError{code: "MalformedXML"}
			}
		case xml.Comment, xml.ProcInst:
		default:
			if err != io.EOF {
				return &apiError{code: "MalformedXML"}
			}
			return nil
		}
	}
}

var errTooLong = errors.New("s3api: document too long")

// readAll reads r to its end, at most limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	p, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(p)) > limit {
		err = errTooLong
	}
	return p, err
}

func itoa(n int) string    { return strconv.Itoa(n) }
func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

// httpTime returns the form of dates in headers.
func httpTime(t time.Time) string { return string(fasthttp.AppendHTTPDate(nil, t)) }
