package s3load

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
)

const (
	// largeBody is the size from which all objects have the same body.
	largeBody = 1 << 20
	// bodyOffsets is how many bodies smaller objects have.
	bodyOffsets = 64 << 10
	// chunkBytes is the size of an aws-chunked chunk.
	chunkBytes = 64 << 10
)

// bodies makes the bodies of objects of one size. Safe for concurrent use.
type bodies struct {
	size   int
	block  []byte
	hash   string   // of the one body, if it is large
	chunks []string // its chunks' hashes, likewise
}

func newBodies(size int, seed uint64) *bodies {
	b := &bodies{size: size}
	if size >= largeBody {
		b.block = make([]byte, size)
	} else {
		b.block = make([]byte, size+bodyOffsets)
	}
	var key [32]byte
	copy(key[:], strconv.FormatUint(seed, 10))
	rand.NewChaCha8(key).Read(b.block) //nolint:errcheck // never fails
	if size >= largeBody {
		b.hash = hexSHA256(b.block)
		for i := 0; i < size; i += chunkBytes {
			b.chunks = append(b.chunks, hexSHA256(b.block[i:min(i+chunkBytes, size)]))
		}
	}
	return b
}

// body returns the body of object i, which is not to be changed.
func (b *bodies) body(i uint64) []byte {
	if b.size >= largeBody {
		return b.block
	}
	off := int(mix(i) % bodyOffsets)
	return b.block[off : off+b.size]
}

// sum returns the hash of a body.
func (b *bodies) sum(body []byte) string {
	if b.hash != "" {
		return b.hash
	}
	return hexSHA256(body)
}

// chunkSum returns the hash of the chunk of body that begins at off.
func (b *bodies) chunkSum(body []byte, off int) string {
	if b.chunks != nil {
		return b.chunks[off/chunkBytes]
	}
	return hexSHA256(body[off:min(off+chunkBytes, len(body))])
}

func hexSHA256(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

// AppendKey appends the key of object i of a kind, a letter. Keys need no escaping.
func AppendKey(dst []byte, kind byte, i uint64) []byte {
	const digits = "0123456789abcdef"
	p := byte(mix(i) >> 56)
	dst = append(dst, digits[p>>4], digits[p&15], '/', kind, '-')
	var n [20]byte
	s := strconv.AppendUint(n[:0], i, 10)
	for range 10 - len(s) {
		dst = append(dst, '0')
	}
	return append(dst, s...)
}

// prefixes is how many prefixes keys have.
const prefixes = 256

// mix spreads i over 64 bits (splitmix64).
func mix(i uint64) uint64 {
	i += 0x9e3779b97f4a7c15
	i = (i ^ i>>30) * 0xbf58476d1ce4e5b9
	i = (i ^ i>>27) * 0x94d049bb133111eb
	return i ^ i>>31
}
