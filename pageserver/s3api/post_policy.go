package s3api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"stemma/pageserver/auth"
)

// postPolicy is what whoever signed a form lets it upload.
type postPolicy struct {
	expires    time.Time
	conditions []postCondition
	ranges     [][2]int64 // inclusive, in bytes of the file
}

// postCondition is a condition on one field of the form.
type postCondition struct {
	prefix bool   // starts-with, else eq
	field  string // in lower case
	value  string
	never  bool   // it cannot hold
	text   string // as S3 shows it
}

// invalidPolicy is the answer to a policy that is none.
func invalidPolicy(why string) error {
	return &apiError{code: "InvalidPolicyDocument", message: "Invalid Policy: " + why}
}

// failsPolicy is the answer to a form that the policy does not let pass.
func failsPolicy(why string) error {
	return &apiError{code: "AccessDenied", message: "Invalid according to Policy: " + why}
}

// parsePostPolicy parses the field policy. Errors: InvalidPolicyDocument, and
// AccessDenied for a range that is no range.
func parsePostPolicy(encoded string) (*postPolicy, error) {
	doc, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, invalidPolicy("invalid Base64 encoding.")
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(doc, &members) != nil || members == nil {
		return nil, invalidPolicy("Invalid JSON.")
	}
	for name := range members {
		if name != "expiration" && name != "conditions" {
			return nil, invalidPolicy("Unexpected: '" + clip(name) + "'")
		}
	}
	p := &postPolicy{}
	var expires *string
	if json.Unmarshal(members["expiration"], &expires) != nil || expires == nil {
		return nil, invalidPolicy("Policy missing expiration.")
	}
	p.expires, err = time.Parse(time.RFC3339Nano, *expires)
	if err != nil || !strings.HasSuffix(*expires, "Z") {
		return nil, invalidPolicy("Invalid 'expiration' value: '" + clip(*expires) + "'")
	}
	if members["conditions"] == nil {
		return nil, invalidPolicy("Policy missing conditions.")
	}
	var conditions []json.RawMessage
	if json.Unmarshal(members["conditions"], &conditions) != nil || conditions == nil {
		return nil, invalidPolicy("Invalid 'conditions' value: must be a List.")
	}
	for _, c := range conditions {
		if err := p.parseCondition(c); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *postPolicy) parseCondition(raw json.RawMessage) error {
	switch raw[0] {
	case '{':
		return p.parseSimple(raw)
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			return invalidPolicy("Invalid JSON.")
		}
		return p.parseList(list, raw)
	}
	return invalidPolicy("Invalid Condition: must be a List or Object.")
}

// parseSimple parses {"field": "value"}.
func (p *postPolicy) parseSimple(raw json.RawMessage) error {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return invalidPolicy("Invalid JSON.")
	}
	if len(members) != 1 {
		return invalidPolicy("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
	}
	for name, v := range members {
		var value *string
		if json.Unmarshal(v, &value) != nil || value == nil {
			return invalidPolicy("Invalid Simple-Condition: value must be a string.")
		}
		p.add(false, "$"+name, *value)
	}
	return nil
}

// parseList parses [operator, field, value] and ["content-length-range", least, most].
func (p *postPolicy) parseList(list []json.RawMessage, raw json.RawMessage) error {
	if len(list) == 0 {
		return invalidPolicy("Invalid Condition: missing operation identifier.")
	}
	var op string
	if json.Unmarshal(list[0], &op) != nil {
		return invalidPolicy("Invalid JSON.")
	}
	lower := strings.ToLower(op)
	if lower != "eq" && lower != "starts-with" && lower != "content-length-range" {
		return invalidPolicy("Invalid Condition: unknown operation '" + clip(op) + "'.")
	}
	if len(list) != 3 {
		return invalidPolicy("Invalid " + lower + ": wrong number of arguments.")
	}
	if lower == "content-length-range" {
		return p.parseRange(list, raw)
	}
	var field, value *string
	if json.Unmarshal(list[1], &field) != nil || json.Unmarshal(list[2], &value) != nil || field == nil || value == nil {
		return invalidPolicy("Invalid JSON.")
	}
	p.add(lower == "starts-with", *field, *value)
	return nil
}

// parseRange parses the bounds of the length, numbers or texts of numbers.
func (p *postPolicy) parseRange(list []json.RawMessage, raw json.RawMessage) error {
	var bounds [2]int64
	for i := range bounds {
		text, quoted := string(list[i+1]), false
		if text[0] == '"' {
			if json.Unmarshal(list[i+1], &text) != nil {
				return invalidPolicy("Invalid JSON.")
			}
			quoted = true
		}
		n, err := strconv.ParseUint(text, 10, 63)
		switch {
		case err != nil && quoted:
			return failsPolicy("Policy Condition failed: " + spaced(raw))
		case err != nil:
			return invalidPolicy("Invalid JSON.")
		}
		bounds[i] = int64(n)
	}
	p.ranges = append(p.ranges, bounds)
	return nil
}

// spaced returns a list of JSON as S3 shows it.
func spaced(raw json.RawMessage) string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return clip(string(raw))
	}
	return "[" + string(bytes.Join(asBytes(list), []byte(", "))) + "]"
}

func asBytes(list []json.RawMessage) [][]byte {
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}

func (p *postPolicy) add(prefix bool, field, value string) {
	op := "eq"
	if prefix {
		op = "starts-with"
	}
	name, ok := strings.CutPrefix(field, "$")
	p.conditions = append(p.conditions, postCondition{
		prefix: prefix, field: strings.ToLower(name), value: value, never: !ok,
		text: "[" + quoted(op) + ", " + quoted(field) + ", " + quoted(value) + "]",
	})
}

// quoted returns s as a string of JSON, of characters as they are.
func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("BUG: " + err.Error()) // a string
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// coveredAnyway are the fields that need no condition: they carry the policy and its
// signature.
var coveredAnyway = makeSet("policy", "signature", "awsaccesskeyid", "x-amz-signature")

// check refuses a form for a bucket that does not meet the policy: conditions that do
// not hold, and fields that there is no condition for. A field that is not there is
// like an empty one. Error: AccessDenied.
func (p *postPolicy) check(f *postForm, bucket string, now time.Time) error {
	if !now.Before(p.expires) {
		return failsPolicy("Policy expired.")
	}
	covered := map[string]bool{}
	for i := range p.conditions {
		c := &p.conditions[i]
		covered[c.field] = true
		value := f.get(c.field)
		if c.field == "bucket" {
			value = bucket
		}
		if !c.holds(value) {
			return failsPolicy("Policy Condition failed: " + c.text)
		}
	}
	names := []string{"bucket"}
	for i := range f.fields {
		names = append(names, f.fields[i].Name)
	}
	slices.Sort(names)
	for _, name := range names {
		// A checksum only keeps what was sent.
		if !covered[name] && !coveredAnyway[name] && !strings.HasPrefix(name, "x-ignore-") && !strings.HasPrefix(name, checksumPrefix) {
			return failsPolicy("Extra input fields: " + clip(name))
		}
	}
	return nil
}

func (c *postCondition) holds(value string) bool {
	switch {
	case c.never:
		return false
	case !c.prefix:
		return value == c.value
	case c.field == "content-type": // a list of which each must do
		for item := range strings.SplitSeq(value, ",") {
			if !strings.HasPrefix(strings.TrimSpace(item), c.value) {
				return false
			}
		}
		return true
	}
	return strings.HasPrefix(value, c.value)
}

// bounds returns what all ranges allow the file to be.
func (p *postPolicy) bounds() (least, most int64) {
	most = math.MaxInt64
	for _, r := range p.ranges {
		least, most = max(least, r[0]), min(most, r[1])
	}
	return least, most
}

// rangeReader ends with an error instead of io.EOF when there is less than least, and
// gives one when there is more than most.
type rangeReader struct {
	r           io.Reader
	n           int64
	least, most int64
}

// Read implements io.Reader. Errors: EntityTooLarge, EntityTooSmall, those of r.
func (l *rangeReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.n += int64(n)
	size := func(limit string, bound int64) []auth.Field {
		return []auth.Field{{Name: "ProposedSize", Value: utoa(uint64(l.n))}, {Name: limit, Value: utoa(uint64(bound))}}
	}
	switch {
	case l.n > l.most:
		return 0, &apiError{code: "EntityTooLarge", fields: size("MaxSizeAllowed", l.most)}
	case err == io.EOF && l.n < l.least:
		return 0, &apiError{code: "EntityTooSmall", message: "Your proposed upload is smaller than the minimum allowed size", fields: size("MinSizeAllowed", l.least)}
	}
	return n, err
}
