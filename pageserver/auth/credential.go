package auth

import (
	"slices"
	"strings"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	service    = "s3"
	terminator = "aws4_request"
)

// scope is the part of a credential that a signing key is derived for.
type scope struct {
	date    string // YYYYMMDD
	region  string // any
	service string // one of services
}

// services may be signed for: that of objects, and those that POST / speaks to.
var services = []string{service, "iam", "sts"}

func (s scope) append(dst []byte) []byte {
	dst = append(append(dst, s.date...), '/')
	dst = append(append(dst, s.region...), '/')
	dst = append(append(dst, s.service...), '/')
	return append(dst, terminator...)
}

// signature is what a request says about how it was signed.
type signature struct {
	accessKey string
	scope     scope
	headers   string // signed header names, lower case, ascending, separated by semicolons
	hex       string // 64 digits
}

// parseAuthorization parses the Authorization header of version 4. Error: *Error.
func parseAuthorization(h string) (signature, error) {
	var s signature
	name, rest, _ := strings.Cut(strings.TrimSpace(h), " ")
	if name != algorithm {
		if strings.HasPrefix(name, "AWS4-") {
			return s, errOldScheme
		}
		return s, &Error{Code: "InvalidArgument", Message: "Unsupported Authorization Type"}
	}
	var credential string
	for part := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return s, malformedHeader("it has an element without '='")
		}
		var field *string
		switch key {
		case "Credential":
			field = &credential
		case "SignedHeaders":
			field = &s.headers
		case "Signature":
			field = &s.hex
		default:
			return s, malformedHeader("it has an unknown element")
		}
		if *field != "" || value == "" {
			return s, malformedHeader("the element " + key + " is empty or repeated")
		}
		*field = value
	}
	if credential == "" || s.headers == "" || s.hex == "" {
		return s, malformedHeader("it needs Credential, SignedHeaders and Signature")
	}
	var why string
	if s.accessKey, s.scope, why = parseCredential(credential); why != "" {
		return s, malformedHeader(why)
	}
	if !validHex(s.hex) || !validSignedHeaders(s.headers) {
		return s, malformedHeader("Signature or SignedHeaders is malformed")
	}
	return s, nil
}

// parseCredential parses "key/date/region/s3/aws4_request"; the key may hold
// slashes. A why that is not empty says what is wrong.
func parseCredential(c string) (key string, s scope, why string) {
	var parts [4]string // date, region, service, terminator
	key = c
	for i := len(parts) - 1; i >= 0; i-- {
		slash := strings.LastIndexByte(key, '/')
		if slash < 0 {
			return "", s, `the Credential is malformed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".`
		}
		key, parts[i] = key[:slash], key[slash+1:]
	}
	s = scope{date: parts[0], region: parts[1], service: parts[2]}
	switch {
	case key == "":
		return "", s, "a non-empty Access Key (AKID) must be provided in the credential."
	case !validDate(s.date):
		return "", s, `incorrect date format. This date in the credential must be in the format "yyyyMMdd".`
	case s.region == "" || len(s.region) > 64:
		return "", s, "a region must be provided in the credential."
	case !slices.Contains(services, s.service):
		return "", s, `incorrect service "` + clip(parts[2]) + `". This endpoint belongs to "s3".`
	case parts[3] != terminator:
		return "", s, `incorrect terminal "` + clip(parts[3]) + `". This endpoint uses "aws4_request".`
	}
	return key, s, ""
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64]
	}
	return s
}

func validDate(s string) bool {
	if len(s) != 8 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// validHex reports whether s is a SHA-256 in lower-case hexadecimal.
func validHex(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// validSignedHeaders reports whether s is a list of names in lower case that
// ascends without repeats, as the canonical request needs it.
func validSignedHeaders(s string) bool {
	last := ""
	for name := range strings.SplitSeq(s, ";") {
		if name <= last {
			return false
		}
		for i := range len(name) {
			if c := name[i]; c <= ' ' || c > '~' || c == ':' || ('A' <= c && c <= 'Z') {
				return false
			}
		}
		last = name
	}
	return true
}

// signs reports whether name, in lower case, is among the signed headers.
func signs[T string | []byte](s *signature, name T) bool {
	for have := range strings.SplitSeq(s.headers, ";") {
		if have == string(name) {
			return true
		}
	}
	return false
}
