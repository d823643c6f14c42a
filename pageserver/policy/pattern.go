package policy

import (
	"strings"
	"unicode/utf8"
)

// pattern is a text with wildcards and variables, compiled.
type pattern struct {
	parts    []part
	variable bool // some part is one
}

type partKind byte

const (
	literal  partKind = iota
	anyChars          // *
	oneChar           // ?
	variable          // ${key}
)

type part struct {
	kind     partKind
	text     string // of a literal; of a variable its key, in lower case
	fallback string // of a variable
	hasDef   bool
}

// compile compiles a pattern. Without wild, * and ? are ordinary characters;
// without vars, ${ is.
func compile(s string, wild, vars bool) (pattern, bool) {
	var p pattern
	plain := 0
	flush := func(end int) {
		if end > plain {
			p.parts = append(p.parts, part{kind: literal, text: s[plain:end]})
		}
	}
	for i := 0; i < len(s); {
		switch {
		case wild && (s[i] == '*' || s[i] == '?'):
			flush(i)
			kind := oneChar
			if s[i] == '*' {
				kind = anyChars
			}
			p.parts = append(p.parts, part{kind: kind})
			i++
			plain = i
		case vars && strings.HasPrefix(s[i:], "${"):
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return p, false
			}
			v, ok := parseVariable(s[i+2 : i+end])
			if !ok {
				return p, false
			}
			flush(i)
			p.parts = append(p.parts, v)
			p.variable = p.variable || v.kind == variable
			i += end + 1
			plain = i
		default:
			i++
		}
	}
	flush(len(s))
	return p, true
}

// parseVariable parses what lies between ${ and }.
func parseVariable(s string) (part, bool) {
	if s == "*" || s == "?" || s == "$" {
		return part{kind: literal, text: s}, true
	}
	key, def, has := strings.Cut(s, ",")
	v := part{kind: variable, text: strings.ToLower(strings.TrimSpace(key))}
	if v.text == "" || strings.ContainsAny(v.text, "${*?'") {
		return v, false
	}
	if has {
		def = strings.TrimSpace(def)
		if len(def) < 2 || def[0] != '\'' || def[len(def)-1] != '\'' {
			return v, false
		}
		v.fallback, v.hasDef = def[1:len(def)-1], true
	}
	return v, true
}

// resolve replaces the variables by their values of the request, which must be one
// each. It reports whether all had one.
func (p *pattern) resolve(r *Request) ([]part, bool) {
	if !p.variable {
		return p.parts, true
	}
	out := make([]part, len(p.parts))
	for i, v := range p.parts {
		if v.kind == variable {
			values := r.values(v.text)
			switch {
			case len(values) == 1:
				v.text = values[0]
			case len(values) == 0 && v.hasDef:
				v.text = v.fallback
			default:
				return nil, false
			}
			v.kind = literal
		}
		out[i] = v
	}
	return out, true
}

// match reports whether the whole of s matches. Its time is at most in proportion to
// the product of both lengths; without variables it allocates nothing.
func (p *pattern) match(s string, r *Request) bool {
	parts, ok := p.resolve(r)
	return ok && glob(parts, s, false)
}

// matchFold is match without regard to the case of the letters of ASCII.
func (p *pattern) matchFold(s string, r *Request) bool {
	parts, ok := p.resolve(r)
	return ok && glob(parts, s, true)
}

// glob reports whether the whole of s matches parts, of which none is a variable.
func glob(parts []part, s string, fold bool) bool {
	i, pos := 0, 0
	star, mark := -1, 0 // what follows the last *, and where in s that was tried last
	for {
		switch {
		case i < len(parts) && parts[i].kind == anyChars:
			i++
			star, mark = i, pos
			continue
		case i < len(parts):
			if n := parts[i].takes(s[pos:], fold); n >= 0 {
				i, pos = i+1, pos+n
				continue
			}
		case pos == len(s) || star == i:
			return true
		}
		if star < 0 || mark == len(s) {
			return false
		}
		_, n := utf8.DecodeRuneInString(s[mark:])
		mark += n
		i, pos = star, mark
	}
}

// takes returns how many bytes at the front of s a literal or ? matches, or -1.
func (p *part) takes(s string, fold bool) int {
	switch {
	case p.kind == oneChar:
		if s == "" {
			return -1
		}
		_, n := utf8.DecodeRuneInString(s)
		return n
	case strings.HasPrefix(s, p.text), fold && len(s) >= len(p.text) && equalFold(s[:len(p.text)], p.text):
		return len(p.text)
	}
	return -1
}

// equalFold compares texts of one length without regard to the case of ASCII.
func equalFold(a, b string) bool {
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
