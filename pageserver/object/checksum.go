package object

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// Algorithm is one of the additional checksums of S3.
type Algorithm byte

// The algorithms. The zero value is none.
const (
	NoChecksum Algorithm = iota
	CRC32
	CRC32C
	SHA1
	SHA256
	CRC64NVME
	SHA512
	MD5
	XXHASH64
	XXHASH3
	XXHASH128
	numAlgorithms
)

var algorithms = [numAlgorithms]struct {
	name string
	size int
}{
	{"", 0}, {"CRC32", 4}, {"CRC32C", 4}, {"SHA1", 20}, {"SHA256", 32}, {"CRC64NVME", 8},
	{"SHA512", 64}, {"MD5", 16}, {"XXHASH64", 8}, {"XXHASH3", 8}, {"XXHASH128", 16},
}

// maxChecksumText is the longest checksum in its header form.
const maxChecksumText = len("-10000") + (64+2)/3*4

// String returns the name that S3 uses, in upper case; empty for none.
func (a Algorithm) String() string {
	if a >= numAlgorithms {
		return "UNKNOWN"
	}
	return algorithms[a].name
}

// Size returns the length of a checksum in bytes.
func (a Algorithm) Size() int { return algorithms[a].size }

// ParseAlgorithm returns the algorithm of a name in upper or lower case; the
// empty name is none. Errors: ErrUnknownAlgorithm.
func ParseAlgorithm(name string) (Algorithm, error) {
	for a := range numAlgorithms {
		if strings.EqualFold(name, algorithms[a].name) {
			return a, nil
		}
	}
	return NoChecksum, fmt.Errorf("checksum algorithm %q: %w", name, ErrUnknownAlgorithm)
}

// fullObject reports whether the checksum of a whole can be had from those of
// its parts; composite whether S3 knows checksums of checksums with it.
func (a Algorithm) fullObject() bool { return a == CRC32 || a == CRC32C || a == CRC64NVME }
func (a Algorithm) composite() bool  { return a != NoChecksum && a != CRC64NVME }

// Checksum is a checksum of a body. The zero Checksum is none. Checksums are
// comparable.
type Checksum struct {
	Algorithm Algorithm
	// Composite says that it is the checksum of the parts' checksums.
	Composite bool
	// Parts is their number; zero for a full-object checksum.
	Parts int
	// Sum holds Algorithm.Size bytes, zeros behind them.
	Sum [64]byte
}

// Bytes returns the checksum proper; it aliases c.
func (c *Checksum) Bytes() []byte { return c.Sum[:c.Algorithm.Size()] }

// String returns the header form: base64, and the number of parts if composite.
func (c Checksum) String() string {
	if c.Algorithm == NoChecksum {
		return ""
	}
	var few [maxChecksumText]byte
	dst := base64.StdEncoding.AppendEncode(few[:0], c.Bytes())
	if c.Composite && c.Parts > 0 {
		dst = strconv.AppendInt(append(dst, '-'), int64(c.Parts), 10)
	}
	return string(dst)
}

// Type returns COMPOSITE or FULL_OBJECT; empty for none.
func (c Checksum) Type() string { return checksumType(c.Algorithm, c.Composite) }

func checksumType(a Algorithm, composite bool) string {
	switch {
	case a == NoChecksum:
		return ""
	case composite:
		return "COMPOSITE"
	}
	return "FULL_OBJECT"
}

// ParseChecksum parses the header form. Errors: ErrInvalidChecksum.
func ParseChecksum(a Algorithm, text string) (Checksum, error) {
	c := Checksum{Algorithm: a}
	bad := func() (Checksum, error) {
		return Checksum{}, fmt.Errorf("%v checksum %q: %w", a, text, ErrInvalidChecksum)
	}
	if a == NoChecksum || a >= numAlgorithms || len(text) > maxChecksumText {
		return bad()
	}
	sum, parts, composite := strings.Cut(text, "-")
	if composite {
		n, err := strconv.ParseUint(parts, 10, 31)
		if err != nil || n == 0 || n > MaxPartNumber || !a.composite() {
			return bad()
		}
		c.Composite, c.Parts = true, int(n)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(sum)
	if err != nil || len(raw) != a.Size() {
		return bad()
	}
	copy(c.Sum[:], raw)
	return c, nil
}
