package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Kind is what a policy is attached to.
type Kind byte

// The kinds of policies.
const (
	Identity Kind = iota // a user, a role or a session: it has no principals
	Resource             // a bucket: it has principals
	Trust                // a role, and says who may assume it: principals and no resources
)

// MaxBytes bounds a policy document.
const MaxBytes = 20 << 10

// Error says what is wrong with a document, to one who wrote it.
type Error struct{ Message string }

func (e *Error) Error() string { return "policy: " + e.Message }

func malformed(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Parse compiles a document. bucket is the bucket that a policy of kind Resource is
// for: every resource must be able to lie in it. Error: *Error.
func Parse(doc []byte, kind Kind, bucket string) (*Policy, error) {
	if len(doc) > MaxBytes {
		return nil, malformed("The policy is longer than %d bytes", MaxBytes)
	}
	if len(doc) == 0 || doc[0] != '{' {
		return nil, malformed("Policies must be valid JSON and the first byte must be '{'")
	}
	fields, err := parseObject(doc)
	if err != nil {
		return nil, err
	}
	version := "2008-10-17"
	var list json.RawMessage
	for _, f := range fields {
		switch f.name {
		case "Version":
			if json.Unmarshal(f.value, &version) != nil || (version != "2008-10-17" && version != "2012-10-17") {
				return nil, malformed("The policy must contain a valid version string")
			}
		case "Id":
			if err := checkString(f); err != nil {
				return nil, err
			}
		case "Statement":
			list = f.value
		default:
			return nil, malformed("Unknown field %s", clip(f.name))
		}
	}
	if list == nil {
		return nil, malformed("Missing required field Statement")
	}
	raws, err := parseList(list)
	if err != nil || len(raws) == 0 {
		return nil, malformed("Invalid policy syntax: Statement must be an object or a list of objects")
	}
	p := &Policy{}
	sids := make(map[string]bool)
	for _, raw := range raws {
		b := builder{kind: kind, bucket: bucket, vars: version == "2012-10-17"}
		if err := b.parse(raw); err != nil {
			return nil, err
		}
		if b.sid != "" && sids[b.sid] {
			// Unlike IAM, S3 lets statements of a bucket policy share an id.
			if kind != Resource {
				return nil, malformed("Statement IDs (SID) in a single policy must be unique")
			}
		}
		sids[b.sid] = true
		p.statements = append(p.statements, b.statement)
		p.public = p.public || b.public()
	}
	return p, nil
}

// field is one member of a JSON object.
type field struct {
	name  string
	value json.RawMessage
}

// parseObject returns the members of the object that p holds, which may not repeat
// names, and after which nothing may follow.
func parseObject(p []byte) ([]field, error) {
	bad := malformed("Policies must be valid JSON and the first byte must be '{'")
	d := json.NewDecoder(bytes.NewReader(p))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, bad
	}
	var fields []field
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, bad
		}
		f := field{name: t.(string)} // the decoder lets nothing else be a name
		if err := d.Decode(&f.value); err != nil {
			return nil, bad
		}
		if seen[f.name] {
			return nil, malformed("Duplicate field %s", clip(f.name))
		}
		seen[f.name] = true
		fields = append(fields, f)
	}
	if _, err := d.Token(); err != nil {
		return nil, bad
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad
	}
	return fields, nil
}

// parseList returns the elements of a list, or the one value that is no list.
func parseList(p json.RawMessage) ([]json.RawMessage, error) {
	if len(p) == 0 || p[0] != '[' {
		return []json.RawMessage{p}, nil
	}
	var list []json.RawMessage
	err := json.Unmarshal(p, &list)
	return list, err
}

// parseStrings returns the texts of a list, or the one text that is no list. With
// scalars numbers and booleans are taken as their texts.
func parseStrings(f field, scalars bool) ([]string, error) {
	raws, err := parseList(f.value)
	if err != nil {
		return nil, malformed("Invalid policy syntax: %s", clip(f.name))
	}
	list := make([]string, 0, len(raws))
	for _, raw := range raws {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil || raw[0] != '"' {
			if !scalars || len(raw) == 0 || strings.IndexByte("tf-0123456789", raw[0]) < 0 {
				return nil, malformed("Invalid policy syntax: %s must be a string or a list of strings", clip(f.name))
			}
			s = string(raw)
		}
		list = append(list, s)
	}
	return list, nil
}

func checkString(f field) error {
	if list, err := parseStrings(f, false); err != nil || len(list) != 1 || f.value[0] == '[' {
		return malformed("Invalid policy syntax: %s must be a string", clip(f.name))
	}
	return nil
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64]
	}
	return s
}
