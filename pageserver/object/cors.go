package object

import (
	"fmt"
	"slices"
	"strings"
)

// CORS is which pages of other origins may use a bucket, as S3's document has it.
type CORS struct {
	Rules []CORSRule `xml:"CORSRule"`
}

// CORSRule lets some origins make some requests. Origins and headers may have one
// wildcard each, which stands for any characters or none.
type CORSRule struct {
	ID             *string  `xml:"ID" json:",omitempty"`
	AllowedHeaders []string `xml:"AllowedHeader" json:",omitempty"`
	AllowedMethods []string `xml:"AllowedMethod" json:",omitempty"`
	AllowedOrigins []string `xml:"AllowedOrigin" json:",omitempty"`
	ExposeHeaders  []string `xml:"ExposeHeader" json:",omitempty"`
	MaxAgeSeconds  *int32   `xml:"MaxAgeSeconds" json:",omitempty"`
}

const maxCORSRules = 100

// Check refuses what S3 refuses. Errors: *RuleError.
func (c *CORS) Check() error {
	if len(c.Rules) == 0 {
		return malformed
	}
	if len(c.Rules) > maxCORSRules {
		return invalidRequest("The number of CORS rules should not exceed allowed limit of %d rules.", maxCORSRules)
	}
	for i := range c.Rules {
		if err := c.Rules[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *CORSRule) check() error {
	if len(r.AllowedMethods) == 0 || len(r.AllowedOrigins) == 0 {
		return malformed
	}
	if r.ID != nil && utf16Len(*r.ID) > maxRuleIDChars {
		return invalidArgument("ID length should not exceed allowed limit of %d", maxRuleIDChars)
	}
	for _, m := range r.AllowedMethods {
		if !slices.Contains([]string{"GET", "PUT", "HEAD", "POST", "DELETE"}, m) {
			return invalidRequest("Found unsupported HTTP method in CORS config. Unsupported method is %s", m)
		}
	}
	for _, l := range []struct {
		name      string
		values    []string
		wildcards int
	}{{"AllowedOrigin", r.AllowedOrigins, 1}, {"AllowedHeader", r.AllowedHeaders, 1}, {"ExposeHeader", r.ExposeHeaders, 0}} {
		for _, v := range l.values {
			switch {
			case strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c == 0x7f }): // it would become part of a header
				return invalidRequest("%s %q has a control character.", l.name, v)
			case strings.Count(v, "*") <= l.wildcards:
			case l.wildcards == 0:
				return invalidRequest("ExposeHeader \"%s\" contains wildcard. We currently do not support wildcard for ExposeHeader.", v)
			default:
				return invalidRequest("%s \"%s\" can not have more than one wildcard.", l.name, v)
			}
		}
	}
	if r.MaxAgeSeconds != nil && *r.MaxAgeSeconds < 0 {
		return malformed
	}
	return nil
}

// Match returns the first rule that lets a page of the origin make a request of
// the method with the headers; nil when there is none. any says that the rule is
// for every origin.
func (c *CORS) Match(origin, method string, headers []string) (rule *CORSRule, any bool) {
	if c == nil {
		return nil, false
	}
rules:
	for i := range c.Rules {
		r := &c.Rules[i]
		if !slices.Contains(r.AllowedMethods, method) {
			continue
		}
		o := slices.IndexFunc(r.AllowedOrigins, func(pattern string) bool { return matchWildcard(pattern, origin) })
		if o < 0 {
			continue
		}
		for _, h := range headers {
			if !slices.ContainsFunc(r.AllowedHeaders, func(pattern string) bool {
				return matchWildcard(strings.ToLower(pattern), strings.ToLower(h))
			}) {
				continue rules
			}
		}
		return r, r.AllowedOrigins[o] == "*"
	}
	return nil, false
}

// matchWildcard reports whether s is what a pattern with at most one * stands for.
func matchWildcard(pattern, s string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == s
	}
	return len(s) >= len(before)+len(after) && strings.HasPrefix(s, before) && strings.HasSuffix(s, after)
}

// maxRuleIDChars bounds the ids of rules, in UTF-16 units.
const maxRuleIDChars = 255

// malformed says that a document lacks what it must have.
var malformed = &RuleError{Code: "MalformedXML", Message: "The XML you provided was not well-formed or did not validate against our published schema"}

func invalidRequest(format string, args ...any) error {
	return &RuleError{"InvalidRequest", fmt.Sprintf(format, args...)}
}

func invalidArgument(format string, args ...any) error {
	return &RuleError{"InvalidArgument", fmt.Sprintf(format, args...)}
}
