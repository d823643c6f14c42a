package auth

import (
	"bytes"
	"strings"
)

// Target is a request target, split and decoded but not normalised.
type Target struct {
	RawPath []byte // as sent, from the first slash; aliases the request
	Path    string // decoded
	Params  []Param
	// Bucket is the bucket that the host names, which version 2 of the signature
	// takes for part of the path. Empty: the path names it.
	Bucket string
}

// Param is one decoded parameter of the query, in the order sent.
type Param struct{ Name, Value string }

// ParseTarget splits the target of a request line: origin form, or absolute
// form of http and https. Error: *Error with InvalidURI.
func ParseTarget(uri []byte) (Target, error) {
	var t Target
	for _, scheme := range []string{"http://", "https://"} {
		if len(uri) > len(scheme) && strings.EqualFold(string(uri[:len(scheme)]), scheme) {
			rest := uri[len(scheme):]
			i := bytes.IndexAny(rest, "/?")
			switch {
			case i < 0:
				uri = []byte("/")
			case rest[i] == '?':
				uri = append([]byte("/"), rest[i:]...)
			default:
				uri = rest[i:]
			}
		}
	}
	if len(uri) == 0 || uri[0] != '/' {
		return t, errURI
	}
	path, query, _ := bytes.Cut(uri, []byte("?"))
	t.RawPath = path
	var ok bool
	if t.Path, ok = unescape(path, false); !ok {
		return t, errURI
	}
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte("&"))
		if len(pair) == 0 {
			continue
		}
		name, value, _ := bytes.Cut(pair, []byte("="))
		var p Param
		var ok1, ok2 bool
		p.Name, ok1 = unescape(name, true)
		p.Value, ok2 = unescape(value, true)
		if !ok1 || !ok2 {
			return t, errURI
		}
		t.Params = append(t.Params, p)
	}
	return t, nil
}

// Get returns the first parameter of a name.
func (t *Target) Get(name string) (value string, ok bool) {
	for i := range t.Params {
		if t.Params[i].Name == name {
			return t.Params[i].Value, true
		}
	}
	return "", false
}

// Unescape decodes percent escapes, as of a path. It reports whether all were
// well-formed.
func Unescape(s string) (string, bool) { return unescape([]byte(s), false) }

// unescape decodes percent escapes, and plus signs as spaces if plus is set.
func unescape(p []byte, plus bool) (string, bool) {
	if bytes.IndexByte(p, '%') < 0 && (!plus || bytes.IndexByte(p, '+') < 0) {
		return string(p), true
	}
	var b strings.Builder
	b.Grow(len(p))
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '%':
			if i+2 >= len(p) {
				return "", false
			}
			hi, lo := hexDigit(p[i+1]), hexDigit(p[i+2])
			if hi > 15 || lo > 15 {
				return "", false
			}
			b.WriteByte(hi<<4 | lo)
			i += 2
		case p[i] == '+' && plus:
			b.WriteByte(' ')
		default:
			b.WriteByte(p[i])
		}
	}
	return b.String(), true
}

// hexDigit returns the value of a hexadecimal digit, or more than 15.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// unreserved are the bytes that AWS does not escape in a URI.
var unreserved = func() (plain [256]bool) {
	for c := range plain {
		c := byte(c)
		plain[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
	}
	return plain
}()

// AppendEscaped appends s as AWS encodes URIs: all but letters, digits and
// "-._~" is escaped, and slashes unless keepSlash is set.
func AppendEscaped(dst []byte, s string, keepSlash bool) []byte {
	const hex = "0123456789ABCDEF"
	plain := 0 // what lies before was appended
	for i := 0; i < len(s); i++ {
		if c := s[i]; !unreserved[c] && (c != '/' || !keepSlash) {
			dst = append(append(dst, s[plain:i]...), '%', hex[c>>4], hex[c&15])
			plain = i + 1
		}
	}
	return append(dst, s[plain:]...)
}
