package policy

import (
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// condition is one key of one operator with the values that it is compared to.
type condition struct {
	key      string // in lower case
	op       *operator
	ifExists bool
	all, any bool // ForAllValues, ForAnyValue
	values   []operand
}

// operand is a value of a policy, in the form that its operator compares with.
type operand struct {
	pattern pattern // operators of texts
	number  float64
	at      time.Time
	prefix  netip.Prefix
	flag    bool
	bytes   string
}

// operator compares the value of a request with one of a policy.
type operator struct {
	name    string
	negated bool
	null    bool
	// compile makes an operand of a value of the policy; vars says that the version knows variables.
	compile func(value string, vars bool) (operand, bool)
	// match compares; what is no value of the kind does not match.
	match func(r *Request, have string, o *operand) bool
}

// holds reports whether the condition holds for a request.
func (c *condition) holds(r *Request) bool {
	have := r.values(c.key)
	switch {
	case c.op.null:
		return c.values[0].flag == (len(have) == 0)
	case len(have) == 0:
		return c.all || c.ifExists || (c.op.negated && !c.any)
	case c.all:
		for _, v := range have {
			if !c.holdsFor(r, v) {
				return false
			}
		}
		return true
	case c.any || !c.op.negated:
		for _, v := range have {
			if c.holdsFor(r, v) {
				return true
			}
		}
		return false
	}
	for _, v := range have { // a negated operator without a set: no value may match
		if !c.holdsFor(r, v) {
			return false
		}
	}
	return true
}

// holdsFor reports whether the operator holds for one value of the request.
func (c *condition) holdsFor(r *Request, have string) bool {
	for i := range c.values {
		if c.op.match(r, have, &c.values[i]) {
			return !c.op.negated
		}
	}
	return c.op.negated
}

// operators are all operators by their names in lower case.
var operators = makeOperators()

func makeOperators() map[string]*operator {
	m := make(map[string]*operator)
	add := func(name, not string, compile func(string, bool) (operand, bool), match func(*Request, string, *operand) bool) {
		m[strings.ToLower(name)] = &operator{name: name, compile: compile, match: match}
		if not != "" {
			m[strings.ToLower(not)] = &operator{name: not, negated: true, compile: compile, match: match}
		}
	}
	text := func(wild bool) func(string, bool) (operand, bool) {
		return func(s string, vars bool) (operand, bool) {
			p, ok := compile(s, wild, vars)
			return operand{pattern: p}, ok
		}
	}
	exact := func(r *Request, have string, o *operand) bool { return o.pattern.match(have, r) }
	fold := func(r *Request, have string, o *operand) bool { return o.pattern.matchFold(have, r) }
	add("StringEquals", "StringNotEquals", text(false), exact)
	add("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", text(false), fold)
	add("StringLike", "StringNotLike", text(true), exact)
	add("ArnEquals", "ArnNotEquals", text(true), exact)
	add("ArnLike", "ArnNotLike", text(true), exact)
	add("BinaryEquals", "", compileBinary, func(_ *Request, have string, o *operand) bool {
		p, err := base64.StdEncoding.DecodeString(have)
		return err == nil && string(p) == o.bytes
	})
	add("Bool", "", compileBool, func(_ *Request, have string, o *operand) bool {
		flag, ok := parseBool(have)
		return ok && flag == o.flag
	})
	add("IpAddress", "NotIpAddress", compilePrefix, func(_ *Request, have string, o *operand) bool {
		addr, err := netip.ParseAddr(have)
		return err == nil && o.prefix.Contains(addr.Unmap().WithZone(""))
	})
	number := func(cmp func(have, want float64) bool) func(*Request, string, *operand) bool {
		return func(_ *Request, have string, o *operand) bool {
			n, ok := parseNumber(have)
			return ok && cmp(n, o.number)
		}
	}
	add("NumericEquals", "NumericNotEquals", compileNumber, number(func(a, b float64) bool { return a == b }))
	add("NumericLessThan", "", compileNumber, number(func(a, b float64) bool { return a < b }))
	add("NumericLessThanEquals", "", compileNumber, number(func(a, b float64) bool { return a <= b }))
	add("NumericGreaterThan", "", compileNumber, number(func(a, b float64) bool { return a > b }))
	add("NumericGreaterThanEquals", "", compileNumber, number(func(a, b float64) bool { return a >= b }))
	date := func(cmp func(order int) bool) func(*Request, string, *operand) bool {
		return func(_ *Request, have string, o *operand) bool {
			at, ok := parseDate(have)
			return ok && cmp(at.Compare(o.at))
		}
	}
	add("DateEquals", "DateNotEquals", compileDate, date(func(n int) bool { return n == 0 }))
	add("DateLessThan", "", compileDate, date(func(n int) bool { return n < 0 }))
	add("DateLessThanEquals", "", compileDate, date(func(n int) bool { return n <= 0 }))
	add("DateGreaterThan", "", compileDate, date(func(n int) bool { return n > 0 }))
	add("DateGreaterThanEquals", "", compileDate, date(func(n int) bool { return n >= 0 }))
	m["null"] = &operator{name: "Null", null: true, compile: compileBool}
	return m
}

// findOperator parses the name of an operator with its prefix and suffix.
func findOperator(name string) (c condition, ok bool) {
	s := strings.ToLower(name)
	if rest, has := strings.CutPrefix(s, "forallvalues:"); has {
		s, c.all = rest, true
	} else if rest, has := strings.CutPrefix(s, "foranyvalue:"); has {
		s, c.any = rest, true
	}
	s, c.ifExists = strings.CutSuffix(s, "ifexists")
	c.op = operators[s]
	return c, c.op != nil && !(c.op.null && (c.all || c.any || c.ifExists))
}

func compileBinary(s string, _ bool) (operand, bool) {
	p, err := base64.StdEncoding.DecodeString(s)
	return operand{bytes: string(p)}, err == nil
}

func compileBool(s string, _ bool) (operand, bool) {
	flag, ok := parseBool(s)
	return operand{flag: flag}, ok
}

func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

func compilePrefix(s string, _ bool) (operand, bool) {
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap().WithZone("")
		return operand{prefix: netip.PrefixFrom(addr, addr.BitLen())}, true
	}
	p, err := netip.ParsePrefix(s)
	return operand{prefix: p.Masked()}, err == nil
}

func compileNumber(s string, _ bool) (operand, bool) {
	n, ok := parseNumber(s)
	return operand{number: n}, ok
}

// parseNumber parses a decimal number; infinities, NaN and hexadecimals are none.
func parseNumber(s string) (float64, bool) {
	if strings.ContainsFunc(s, func(c rune) bool { return !strings.ContainsRune("0123456789+-.eE", c) }) {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

func compileDate(s string, _ bool) (operand, bool) {
	at, ok := parseDate(s)
	return operand{at: at}, ok
}

// parseDate parses the forms of W3C's ISO 8601 profile, and seconds since 1970.
func parseDate(s string) (time.Time, bool) {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", "2006"} {
		if at, err := time.Parse(form, s); err == nil {
			return at, true
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), true
	}
	return time.Time{}, false
}
