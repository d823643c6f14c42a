package auth

import (
	"bytes"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// appendCanonical appends the canonical request: method, path, query, signed
// headers, their names, payload hash.
func appendCanonical(dst []byte, h *fasthttp.RequestHeader, t *Target, sig *signature, path []byte, hash string, presigned bool) []byte {
	dst = append(append(dst, h.Method()...), '\n')
	dst = append(append(dst, path...), '\n')
	dst = append(appendCanonicalQuery(dst, t.Params, presigned), '\n')
	for name := range strings.SplitSeq(sig.headers, ";") {
		dst = append(append(dst, name...), ':')
		dst = append(appendCanonicalValues(dst, h, name), '\n')
	}
	dst = append(dst, '\n')
	dst = append(append(dst, sig.headers...), '\n')
	return append(dst, hash...)
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
