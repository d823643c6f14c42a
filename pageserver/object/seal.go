package object

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// A sealed stream is a body, or a part of one, encrypted:
//
//	salt    16 bytes, of parts only
//	block   plainBlockBytes encrypted and a tag of 16 bytes; the first one of a part
//	        has 16 bytes less, so that blocks end where chunks of values end
//	...
//	block   the last one, always shorter, and perhaps only a tag
//
// Blocks are AES-256-GCM under the stream's key, which is HMAC-SHA256 of the data
// key over purpose, part number and salt; the nonce is the block's number. So a
// block opens in one place of one part only, and where a short block is expected no
// other opens: what was cut off, moved or put in from elsewhere is found out.
const (
	sealedBlockBytes = 64 << 10
	sealTagBytes     = 16
	plainBlockBytes  = sealedBlockBytes - sealTagBytes
	partSaltBytes    = 16
)

// dataKey encrypts one object, or the parts of one upload.
type dataKey [32]byte

func newDataKey() *dataKey {
	var k dataKey
	rand.Read(k[:]) // never fails
	return &k
}

// Purposes of the keys that are derived of a data key.
const (
	purposeBody   = "stemma body"
	purposePart   = "stemma part"
	purposePage   = "stemma page"
	purposeFields = "stemma fields"
	purposeTable  = "stemma parts table"
	purposeETag   = "stemma etag"
)

// derive returns 32 bytes that are of one purpose, number and salt.
func (k *dataKey) derive(purpose string, number int, salt []byte) [32]byte {
	mac := hmac.New(sha256.New, k[:])
	mac.Write(append([]byte(purpose), 0))
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(number)))
	mac.Write(salt)
	var out [32]byte
	mac.Sum(out[:0])
	return out
}

// cipher returns the AEAD of one purpose, number and salt.
func (k *dataKey) cipher(purpose string, number int, salt []byte) cipher.AEAD {
	key := k.derive(purpose, number, salt)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("BUG: " + err.Error()) // only of a key of another length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: " + err.Error()) // only of another block size
	}
	return aead
}

// sealSmall returns p encrypted: a nonce of 12 random bytes, the ciphertext, a tag.
func (k *dataKey) sealSmall(purpose string, p []byte) []byte {
	aead := k.cipher(purpose, 0, nil)
	dst := make([]byte, aead.NonceSize(), aead.NonceSize()+len(p)+aead.Overhead())
	rand.Read(dst) // never fails
	return aead.Seal(dst, dst, p, nil)
}

// smallOverhead is by how much sealSmall makes bytes longer.
const smallOverhead = 12 + sealTagBytes

// openSmall returns what sealSmall was given. Errors: ErrCorrupt.
func (k *dataKey) openSmall(purpose string, p []byte) ([]byte, error) {
	aead := k.cipher(purpose, 0, nil)
	n := aead.NonceSize()
	if len(p) < smallOverhead {
		return nil, fmt.Errorf("%d sealed bytes: %w", len(p), ErrCorrupt)
	}
	plain, err := aead.Open(nil, p[:n], p[n:], nil)
	if err != nil {
		return nil, fmt.Errorf("%s does not open: %w", purpose, ErrCorrupt)
	}
	return plain, nil
}

// sealedBlocks returns of how many blocks a stream of n bytes is, with or without a salt.
func sealedBlocks(n uint64, salted bool) uint64 { return (n+saltBytes(salted))/plainBlockBytes + 1 }

// sealedLen returns how long a stream of n bytes is when it is sealed.
func sealedLen(n uint64, salted bool) uint64 {
	return saltBytes(salted) + n + sealTagBytes*sealedBlocks(n, salted)
}

func saltBytes(salted bool) uint64 {
	if salted {
		return partSaltBytes
	}
	return 0
}

// blockNonce returns the nonce of a block.
func blockNonce(i uint64) [12]byte {
	var n [12]byte
	binary.BigEndian.PutUint64(n[4:], i)
	return n
}

// sealer encrypts one stream into a writer. Not safe for concurrent use.
type sealer struct {
	w    io.Writer
	aead cipher.AEAD
	i    uint64 // number of the open block
	// buf are sealed blocks, up to at, and behind them the open one: salt bytes that
	// stay readable, in the first block of a part, and with them open bytes in all.
	buf            []byte
	at, salt, open int
}

// newSealer returns the sealer of a body, or of the part with a number, into w.
// buf has room for a block and belongs to the sealer.
func newSealer(k *dataKey, part int, w io.Writer, buf []byte) *sealer {
	s := &sealer{w: w, buf: buf[:len(buf)/sealedBlockBytes*sealedBlockBytes]}
	if part == 0 {
		s.aead = k.cipher(purposeBody, 0, nil)
		return s
	}
	salt := s.buf[:partSaltBytes]
	rand.Read(salt) // never fails
	s.salt, s.open = partSaltBytes, partSaltBytes
	s.aead = k.cipher(purposePart, part, salt)
	return s
}

// Write implements io.Writer.
func (s *sealer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), plainBlockBytes-s.open)
		if n == plainBlockBytes {
			s.seal(p[:n]) // straight from p
		} else {
			copy(s.buf[s.at+s.open:], p[:n])
			if s.open += n; s.open == plainBlockBytes {
				s.sealOpen()
			}
		}
		p, written = p[n:], written+n
		if s.at == len(s.buf) {
			if err := s.flush(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// finish seals the last block, and writes out what is left.
func (s *sealer) finish() error {
	s.sealOpen()
	return s.flush()
}

// sealOpen seals the open block where it lies.
func (s *sealer) sealOpen() {
	from, end := s.at+s.salt, s.at+s.open
	s.at, s.salt = from, 0
	s.seal(s.buf[from:end])
}

func (s *sealer) seal(plain []byte) {
	nonce := blockNonce(s.i)
	s.at += len(s.aead.Seal(s.buf[s.at:s.at], nonce[:], plain, nil))
	s.i, s.open = s.i+1, 0
}

func (s *sealer) flush() error {
	_, err := s.w.Write(s.buf[:s.at])
	s.at = 0
	return err
}

// sealBody appends p, a body that is short of a block, as a sealed stream.
func (k *dataKey) sealBody(dst, p []byte) []byte {
	nonce := blockNonce(0)
	return k.cipher(purposeBody, 0, nil).Seal(dst, nonce[:], p, nil)
}

// openBody returns the size bytes of a body that sealBody sealed. Errors: ErrCorrupt.
func (k *dataKey) openBody(sealed []byte, size uint64) ([]byte, error) {
	if size >= plainBlockBytes || uint64(len(sealed)) != sealedLen(size, false) {
		return nil, fmt.Errorf("sealed body of %d bytes for %d: %w", len(sealed), size, ErrCorrupt)
	}
	nonce := blockNonce(0)
	p, err := k.cipher(purposeBody, 0, nil).Open(nil, nonce[:], sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("sealed body does not open: %w", ErrCorrupt)
	}
	return p, nil
}
