package auth

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"fmt"
)

// Key is an access key and its secret.
type Key struct {
	ID     string
	Secret string
	// Root says that the key may do everything.
	Root bool
	// Caller is who the key belongs to; nil for root keys.
	Caller *Caller
}

// Keys finds access keys. It is called for every request, concurrently.
type Keys interface {
	// Key returns the key with an id, and whether there is one that may be used.
	Key(id string) (Key, bool)
	// Session returns the temporary key with an id that a session token speaks for. Error: *Error.
	Session(id, token string) (Key, error)
}

// Static is a set of keys that does not change.
type Static map[string]Key

// NewStatic returns the set of keys.
func NewStatic(keys ...Key) Static {
	s := make(Static, len(keys))
	for _, k := range keys {
		s[k.ID] = k
	}
	return s
}

// Key implements Keys.
func (s Static) Key(id string) (Key, bool) {
	k, ok := s[id]
	return k, ok
}

// Session implements Keys: there are no temporary keys.
func (s Static) Session(string, string) (Key, error) { return Key{}, ErrToken }

// CallerOf returns who k belongs to.
func (k *Key) CallerOf() *Caller {
	switch {
	case k.Root:
		return rootCaller
	case k.Caller == nil:
		return nobody
	}
	return k.Caller
}

// NewRootKey returns a root key from the system's randomness.
func NewRootKey() Key {
	var id [10]byte
	var secret [30]byte
	rand.Read(id[:]) // never fails
	rand.Read(secret[:])
	return Key{
		ID:     "STEM" + base32.StdEncoding.EncodeToString(id[:]),
		Secret: base64.RawURLEncoding.EncodeToString(secret[:]),
		Root:   true,
	}
}

// Validate refuses keys that no client could use in a signature.
func (k Key) Validate() error {
	if len(k.ID) < 3 || len(k.ID) > 128 {
		return fmt.Errorf("auth: access key has %d characters, want 3 to 128", len(k.ID))
	}
	if len(k.Secret) < 8 || len(k.Secret) > 128 {
		return fmt.Errorf("auth: secret key has %d characters, want 8 to 128", len(k.Secret))
	}
	for _, c := range []byte(k.ID) {
		if c <= ' ' || c > '~' || c == '/' || c == ',' || c == '=' || c == ':' {
			return fmt.Errorf("auth: access key must not hold the character %q", c)
		}
	}
	for _, c := range []byte(k.Secret) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("auth: secret key must hold printable ASCII without spaces")
		}
	}
	return nil
}
