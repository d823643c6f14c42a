package object

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
	"github.com/minio/crc64nvme"
	"github.com/zeebo/xxh3"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// summer computes one checksum. The zero value of NoChecksum computes nothing.
type summer struct {
	algorithm Algorithm
	crc       uint64
	hash      hash.Hash // of what is no CRC
}

func (s *summer) reset(a Algorithm) {
	*s = summer{algorithm: a}
	switch a {
	case SHA1:
		s.hash = sha1.New()
	case SHA256:
		s.hash = sha256.New()
	case SHA512:
		s.hash = sha512.New()
	case MD5:
		s.hash = md5.New()
	case XXHASH64:
		s.hash = xxhash.New()
	case XXHASH3:
		s.hash = xxh3.New()
	case XXHASH128:
		s.hash = xxh3.New128()
	}
}

func (s *summer) write(p []byte) {
	switch s.algorithm {
	case CRC32:
		s.crc = uint64(crc32.Update(uint32(s.crc), crc32.IEEETable, p))
	case CRC32C:
		s.crc = uint64(crc32.Update(uint32(s.crc), castagnoli, p))
	case CRC64NVME:
		s.crc = crc64nvme.Update(s.crc, p)
	default:
		if s.hash != nil {
			s.hash.Write(p) // never fails
		}
	}
}

func (s *summer) sum() Checksum {
	c := Checksum{Algorithm: s.algorithm}
	switch s.algorithm {
	case CRC32, CRC32C:
		binary.BigEndian.PutUint32(c.Sum[:], uint32(s.crc))
	case CRC64NVME:
		binary.BigEndian.PutUint64(c.Sum[:], s.crc)
	default:
		if s.hash != nil {
			s.hash.Sum(c.Sum[:0])
		}
	}
	return c
}

// ChecksumOf returns the checksum of p.
func ChecksumOf(a Algorithm, p []byte) Checksum {
	var s summer
	s.reset(a)
	s.write(p)
	return s.sum()
}

// digest computes what is stored with a body: its MD5, one checksum, and
// another when the client vouches with one that is not stored.
type digest struct {
	alone  hash.Hash // MD5
	md5    hash.Hash // alone, or a lane of md5Lanes
	stored summer
	check  summer
	sum    [md5.Size]byte
}

func newDigest() *digest { return &digest{alone: md5.New()} }

func (d *digest) reset(stored, check Algorithm) {
	d.md5 = d.alone
	d.md5.Reset()
	d.stored.reset(stored)
	if check == stored {
		check = NoChecksum
	}
	d.check.reset(check)
}

func (d *digest) write(p []byte) {
	d.md5.Write(p) // never fails
	d.stored.write(p)
	d.check.write(p)
}

func (d *digest) md5Sum() [md5.Size]byte {
	d.md5.Sum(d.sum[:0])
	return d.sum
}

// checksum returns the one of algorithm a, which is one of those computed.
func (d *digest) checksum(a Algorithm) Checksum {
	if a == d.stored.algorithm {
		return d.stored.sum()
	}
	return d.check.sum()
}

// crcPolynomial returns the reversed polynomial of a CRC and its width in bits.
func crcPolynomial(a Algorithm) (poly uint64, width uint) {
	switch a {
	case CRC32:
		return crc32.IEEE, 32
	case CRC32C:
		return crc32.Castagnoli, 32
	case CRC64NVME:
		return crc64nvmePolynomial, 64
	}
	panic("BUG: no CRC")
}

// crc64nvmePolynomial is the reversed polynomial of CRC64NVME.
const crc64nvmePolynomial = 0x9a6c9329ac4bc9b5

// crcCombiner joins the CRCs of pieces. A CRC of a‖b is that of a, advanced by
// as many zero bytes as b has, plus that of b. Advancing by n bytes is the
// multiplication with x^8n modulo the polynomial.
type crcCombiner struct {
	poly  uint64
	width uint
	// power[k] is x^(8·2^k).
	power [64]uint64
	crc   uint64
}

func newCRCCombiner(a Algorithm) *crcCombiner {
	c := &crcCombiner{}
	c.poly, c.width = crcPolynomial(a)
	// In the reversed form the top bit is x^0; x^8 is 8 bits below it.
	c.power[0] = 1 << (c.width - 1 - 8)
	for k := 1; k < len(c.power); k++ {
		c.power[k] = c.multiply(c.power[k-1], c.power[k-1])
	}
	return c
}

// multiply returns a·b modulo the polynomial, all in reversed form.
func (c *crcCombiner) multiply(a, b uint64) uint64 {
	var p uint64
	for bit := uint64(1) << (c.width - 1); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			p ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ c.poly
		} else {
			b >>= 1
		}
	}
	return p
}

// add appends a piece of n bytes with the given CRC.
func (c *crcCombiner) add(sum *Checksum, n uint64) {
	for k := 0; n != 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			c.crc = c.multiply(c.power[k], c.crc)
		}
	}
	if c.width == 32 {
		c.crc ^= uint64(binary.BigEndian.Uint32(sum.Sum[:]))
	} else {
		c.crc ^= binary.BigEndian.Uint64(sum.Sum[:])
	}
}

func (c *crcCombiner) sum(a Algorithm) Checksum {
	s := summer{algorithm: a, crc: c.crc}
	return s.sum()
}
