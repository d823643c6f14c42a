package identity

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/mail"
	"strings"
)

// Errors of changes and lookups.
var (
	// ErrNoSuchUser: there is no such user.
	ErrNoSuchUser = errors.New("identity: no such user")
	// ErrNoSuchKey: there is no such access key, or it is another user's.
	ErrNoSuchKey = errors.New("identity: no such access key")
	// ErrNoSuchPolicy: there is no such policy, or the user does not have it.
	ErrNoSuchPolicy = errors.New("identity: no such policy")
	// ErrExists: a name, id, email or access key is taken.
	ErrExists = errors.New("identity: already exists")
	// ErrInUse: a user still has keys or policies, or a policy still has users.
	ErrInUse = errors.New("identity: still in use")
	// ErrInvalid: a value cannot be what it is for.
	ErrInvalid = errors.New("identity: invalid value")
	// ErrTooMany: a limit is reached.
	ErrTooMany = errors.New("identity: too many")
)

// Limits.
const (
	maxNameBytes      = 64
	maxIDBytes        = 128
	maxTextBytes      = 256 // display names, emails, descriptions
	maxPathBytes      = 512
	maxPolicyName     = 128
	MaxUserPolicies   = 10 // inline, and attached
	MaxUserKeys       = 1000
	maxScopedBuckets  = 100
	minSecretBytes    = 8
	randomSecretBytes = 30
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrInvalid)
}

// checkChars refuses an empty or long text, and characters that are neither letters,
// digits nor among more.
func checkChars(what, s, more string, most int) error {
	if s == "" || len(s) > most {
		return invalid("%s has %d characters, want 1 to %d", what, len(s), most)
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(more, c) < 0 {
			return invalid("%s must be letters, digits and %s", what, more)
		}
	}
	return nil
}

func checkName(s string) error {
	if s != "" && strings.Trim(s, ".") == "" { // it is a part of paths
		return invalid("the name must not be dots alone")
	}
	return checkChars("the name", s, "_+=,.@$-", maxNameBytes)
}

// checkText refuses what would not survive XML, a header or a line.
func checkText(what, s string) error {
	if len(s) > maxTextBytes {
		return invalid("%s has %d bytes, at most %d", what, len(s), maxTextBytes)
	}
	if strings.ToValidUTF8(s, "") != s || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0xFFFE || c == 0xFFFF }) {
		return invalid("%s holds characters that are no text", what)
	}
	return nil
}

func checkPath(s string) error {
	if !strings.HasPrefix(s, "/") || !strings.HasSuffix(s, "/") || len(s) > maxPathBytes {
		return invalid("the path must begin and end with / and have at most %d characters", maxPathBytes)
	}
	return checkChars("the path", s, "/!\"#$%&'()*+,-.:;<=>?@[\\]^_`{|}~", maxPathBytes)
}

func checkEmail(s string) error {
	if a, err := mail.ParseAddress(s); err != nil || a.Address != s || len(s) > maxTextBytes {
		return invalid("%q is no email address", s)
	}
	return nil
}

// unique returns an id that is never used again: a prefix and 16 letters and digits.
func unique(prefix string) string {
	var p [10]byte
	rand.Read(p[:]) // never fails
	return prefix + base32.StdEncoding.EncodeToString(p[:])
}

// newCanonicalID returns a canonical user id: 64 hexadecimal digits.
func newCanonicalID() string {
	var p [32]byte
	rand.Read(p[:]) // never fails
	return hex.EncodeToString(p[:])
}

func newSecret() string {
	var p [randomSecretBytes]byte
	rand.Read(p[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(p[:])
}
