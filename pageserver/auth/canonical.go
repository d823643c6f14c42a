package auth

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fasthttp"
)

// appendCanonical appends the canonical request: method, path, query, signed
// headers, their names, payload hash. latin1 takes the values of headers for Latin-1.
func appendCanonical(
	dst []byte, h *fasthttp.RequestHeader, t *Target, sig *signature, path []byte, hash string, presigned, latin1 bool,
) []byte {
	dst = append(append(dst, h.Method()...), '\n')
	dst = append(append(dst, path...), '\n')
	dst = append(appendCanonicalQuery(dst, t.Params, presigned), '\n')
	for name := range strings.SplitSeq(sig.headers, ";") {
		dst = append(append(dst, name...), ':')
		at := len(dst)
		dst = appendCanonicalValues(dst, h, name)
		if latin1 {
			dst = append(dst[:at], latin1ToUTF8(dst[at:])...)
		}
		dst = append(dst, '\n')
	}
	dst = append(dst, '\n')
	dst = append(append(dst, sig.headers...), '\n')
	return append(dst, hash...)
}

// latin1ToUTF8 returns the characters of p, of which each byte is one, in UTF-8.
func latin1ToUTF8(p []byte) []byte {
	out := make([]byte, 0, len(p))
	for _, c := range p {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}

// signsBytesAbove reports whether a signed header has a value that is not ASCII.
func signsBytesAbove(h *fasthttp.RequestHeader, sig *signature) bool {
	for name := range strings.SplitSeq(sig.headers, ";") {
		for _, value := range h.PeekAll(name) {
			if slices.ContainsFunc(value, func(c byte) bool { return c >= utf8.RuneSelf }) {
				return true
			}
		}
	}
	return false
}

// appendCanonicalQuery appends the parameters, encoded and in order; without
// the signature itself if the request is presigned.
func appendCanonicalQuery(dst []byte, params []Param, presigned bool) []byte {
	if len(params) == 0 {
		return dst
	}
	// Encoded first, since that is what is ordered. The separators sort below
	// every byte of an encoded name or value only if compared apart from them.
	type pair struct{ name, value string }
	pairs := make([]pair, 0, len(params))
	for _, p := range params {
		if presigned && p.Name == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, pair{string(AppendEscaped(nil, p.Name, false)), string(AppendEscaped(nil, p.Value, false))})
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	for i, p := range pairs {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = append(append(append(dst, p.name...), '='), p.value...)
	}
	return dst
}

// appendCanonicalValues appends all values of a header in the order sent,
// separated by commas; each is trimmed and its runs of spaces are one space.
func appendCanonicalValues(dst []byte, h *fasthttp.RequestHeader, name string) []byte {
	for i, value := range h.PeekAll(name) {
		if i > 0 {
			dst = append(dst, ',')
		}
		value = bytes.Trim(value, " \t")
		space := false
		for _, c := range value {
			if c == ' ' && space {
				continue
			}
			space = c == ' '
			dst = append(dst, c)
		}
	}
	return dst
}
