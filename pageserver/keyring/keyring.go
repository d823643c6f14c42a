package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNoKey says that what sealed the bytes is not in the ring.
	ErrNoKey = errors.New("keyring: no such master key")
	// ErrSealed says that the bytes were not sealed by this ring in this context, or were changed.
	ErrSealed = errors.New("keyring: sealed bytes do not open")
)

const (
	version     = 1
	keyBytes    = 32
	saltBytes   = 16
	nonceBytes  = 12
	tagBytes    = 16
	maxName     = 64
	maxKeys     = 1000
	maxRingText = 256 << 10

	// Overhead is by how many bytes, at most, the sealed form is longer than the plaintext.
	Overhead = 2 + maxName + saltBytes + nonceBytes + tagBytes
)

// Key is a master key.
type Key struct {
	// Name is 1 to 64 letters, digits, dots, hyphens and underscores.
	Name   string
	Secret [keyBytes]byte
}

// NewKey returns a key from the system's randomness.
func NewKey(name string) Key {
	k := Key{Name: name}
	rand.Read(k.Secret[:]) // never fails
	return k
}

// String returns the key as Parse takes it, with its secret.
func (k Key) String() string { return k.Name + ":" + base64.StdEncoding.EncodeToString(k.Secret[:]) }

// Ring is a set of master keys. It does not change. Safe for concurrent use.
type Ring struct {
	keys []Key // the first one seals
}

// New returns the ring of keys, of which the first one seals.
func New(keys ...Key) (*Ring, error) {
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("keyring: %d master keys, want 1 to %d", len(keys), maxKeys)
	}
	r := &Ring{}
	for _, k := range keys {
		if !validName(k.Name) {
			return nil, fmt.Errorf("keyring: the name of a master key must be 1 to %d letters, digits, dots, hyphens and underscores", maxName)
		}
		if r.find(k.Name) != nil {
			return nil, fmt.Errorf("keyring: two master keys are named %q", k.Name)
		}
		r.keys = append(r.keys, k)
	}
	return r, nil
}

// Parse returns the ring that a text describes. Errors never hold a secret.
func Parse(text string) (*Ring, error) {
	if len(text) > maxRingText {
		return nil, fmt.Errorf("keyring: text of %d bytes, at most %d", len(text), maxRingText)
	}
	var keys []Key
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for field := range strings.SplitSeq(line, ",") {
			if field = strings.TrimSpace(field); field == "" {
				continue
			}
			name, secret, ok := strings.Cut(field, ":")
			raw, err := base64.StdEncoding.Strict().DecodeString(secret)
			if !ok || err != nil || len(raw) != keyBytes {
				return nil, fmt.Errorf("keyring: master key %d: want name:base64 of %d bytes", len(keys)+1, keyBytes)
			}
			keys = append(keys, Key{Name: name, Secret: [keyBytes]byte(raw)})
		}
	}
	return New(keys...)
}

func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func (r *Ring) find(name string) *Key {
	for i := range r.keys {
		if r.keys[i].Name == name {
			return &r.keys[i]
		}
	}
	return nil
}

// Names returns the names of the keys, that of the one that seals first.
func (r *Ring) Names() []string {
	names := make([]string, len(r.keys))
	for i := range r.keys {
		names[i] = r.keys[i].Name
	}
	return names
}

// Seal returns plaintext sealed by the first key.
func (r *Ring) Seal(context string, plaintext []byte) []byte {
	sealed, _ := r.SealWith(r.keys[0].Name, context, plaintext) // it is there
	return sealed
}

// SealWith returns plaintext sealed by the key with a name. Errors: ErrNoKey.
func (r *Ring) SealWith(name, context string, plaintext []byte) ([]byte, error) {
	k := r.find(name)
	if k == nil {
		return nil, fmt.Errorf("%q: %w", name, ErrNoKey)
	}
	dst := make([]byte, 0, len(plaintext)+Overhead)
	dst = append(append(dst, version, byte(len(name))), name...)
	head := len(dst) + saltBytes + nonceBytes
	dst = dst[:head]
	rand.Read(dst[head-saltBytes-nonceBytes:]) // never fails
	salt, nonce := dst[head-saltBytes-nonceBytes:head-nonceBytes], dst[head-nonceBytes:]
	return k.cipher(salt, context).Seal(dst, nonce, plaintext, dst[:head]), nil
}

// Open returns what was sealed. Errors: ErrNoKey, ErrSealed.
func (r *Ring) Open(context string, sealed []byte) ([]byte, error) {
	name, head, ok := parseHead(sealed)
	if !ok {
		return nil, ErrSealed
	}
	k := r.find(name)
	if k == nil {
		return nil, fmt.Errorf("%q: %w", name, ErrNoKey)
	}
	salt, nonce := sealed[head-saltBytes-nonceBytes:head-nonceBytes], sealed[head-nonceBytes:head]
	plaintext, err := k.cipher(salt, context).Open(nil, nonce, sealed[head:], sealed[:head])
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

// Sealer returns the name of the key that sealed, whether the ring has it or not.
// Error: ErrSealed.
func Sealer(sealed []byte) (string, error) {
	name, _, ok := parseHead(sealed)
	if !ok {
		return "", ErrSealed
	}
	return name, nil
}

// parseHead returns the key's name and where the ciphertext begins.
func parseHead(sealed []byte) (name string, head int, ok bool) {
	if len(sealed) < 2 || sealed[0] != version || sealed[1] == 0 || sealed[1] > maxName {
		return "", 0, false
	}
	n := int(sealed[1])
	head = 2 + n + saltBytes + nonceBytes
	if len(sealed) < head+tagBytes {
		return "", 0, false
	}
	return string(sealed[2 : 2+n]), head, true
}

// cipher returns the cipher of one seal.
func (k *Key) cipher(salt []byte, context string) cipher.AEAD {
	key, err := hkdf.Key(sha256.New, k.Secret[:], salt, "stemma keyring 1\x00"+context, keyBytes)
	if err != nil {
		panic("BUG: " + err.Error()) // only of a length that is too long
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("BUG: " + err.Error()) // only of a key that is not 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: " + err.Error()) // only of another block size
	}
	return aead
}

// Subkey returns 32 bytes that depend on the key with a name and on the context, and
// that no seal uses. Errors: ErrNoKey.
func (r *Ring) Subkey(name, context string) (sub [keyBytes]byte, err error) {
	k := r.find(name)
	if k == nil {
		return sub, fmt.Errorf("%q: %w", name, ErrNoKey)
	}
	p, err := hkdf.Key(sha256.New, k.Secret[:], nil, "stemma keyring subkey 1\x00"+context, keyBytes)
	if err != nil {
		panic("BUG: " + err.Error()) // only of a length that is too long
	}
	return [keyBytes]byte(p), nil
}
