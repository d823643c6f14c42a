package s3api

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"stemma/wal"
)

const (
	xmlNamespace = "http://s3.amazonaws.com/doc/2006-03-01/"
	timeForm     = "2006-01-02T15:04:05.000Z"
	// maxXMLBytes bounds the documents that clients send; that of a complete with
	// 10,000 parts and of a delete of 1,000 long keys may be longer.
	maxXMLBytes     = 1 << 20
	maxLongXMLBytes = 8 << 20
)

// xmlWriter builds a document.
type xmlWriter struct{ b []byte }

func newDocument() *xmlWriter {
	return &xmlWriter{append(make([]byte, 0, 512), xml.Header...)}
}

// newResult begins a document of S3's namespace.
func newResult(root string) *xmlWriter {
	w := newDocument()
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
	w.b = lsn.Time().AppendFormat(w.b, timeForm)
	w.close(tag)
}

// owner writes the one owner of everything.
func (w *xmlWriter) owner(tag string) {
	w.open(tag)
	w.text("ID", ownerID)
	w.text("DisplayName", ownerName)
	w.close(tag)
}

func appendXMLText(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '&':
				dst = append(dst, "&amp;"...)
			case c == '<':
				dst = append(dst, "&lt;"...)
			case c == '>':
				dst = append(dst, "&gt;"...)
			case c == '"':
				dst = append(dst, "&quot;"...)
			case c == '\r':
				dst = append(dst, "&#xD;"...)
			case c == '\t' || c == '\n' || c >= ' ':
				dst = append(dst, c)
			default:
				dst = append(dst, "\uFFFD"...)
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == 0xFFFE || r == 0xFFFF {
			r = utf8.RuneError
		}
		dst = utf8.AppendRune(dst, r) // RuneError for what is not UTF-8
		i += n
	}
	return dst
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
func httpTime(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }
