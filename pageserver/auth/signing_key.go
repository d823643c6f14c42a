package auth

import (
	"crypto/sha256"
	"sync"
)

// maxSigningKeys bounds the cache of derived keys: one for each key, day and
// region in use.
const maxSigningKeys = 1024

type signingKeyID struct {
	key, secret string // with the secret, so that a changed one finds nothing
	scope       scope
}

// signingKeys caches derived keys. Only scopes whose signature held are put
// in, so that nobody without a secret can fill it.
type signingKeys struct {
	mu struct {
		sync.RWMutex
		m map[signingKeyID][sha256.Size]byte
	}
}

// get returns the signing key of k for s, from the cache or computed.
func (c *signingKeys) get(k *Key, s scope) [sha256.Size]byte {
	c.mu.RLock()
	sum, ok := c.mu.m[signingKeyID{k.ID, k.Secret, s}]
	c.mu.RUnlock()
	if ok {
		return sum
	}
	sum = mac([]byte("AWS4"+k.Secret), []byte(s.date))
	sum = mac(sum[:], []byte(s.region))
	sum = mac(sum[:], []byte(s.service))
	return mac(sum[:], []byte(terminator))
}

// put remembers the signing key of k for s.
func (c *signingKeys) put(k *Key, s scope, sum [sha256.Size]byte) {
	id := signingKeyID{k.ID, k.Secret, s}
	c.mu.RLock()
	_, ok := c.mu.m[id]
	c.mu.RUnlock()
	if ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.m == nil || len(c.mu.m) >= maxSigningKeys {
		c.mu.m = make(map[signingKeyID][sha256.Size]byte) // cheap to fill again
	}
	c.mu.m[id] = sum
}
