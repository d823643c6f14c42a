package object

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
)

// ETag is an entity tag as S3 makes them: the MD5 of the body, or of the MD5s
// of its parts with their number.
type ETag struct {
	Sum   [md5.Size]byte
	Parts int // zero: not of a multipart upload
}

// AppendTo appends the tag without quotes.
func (t ETag) AppendTo(dst []byte) []byte {
	dst = hex.AppendEncode(dst, t.Sum[:])
	if t.Parts > 0 {
		dst = strconv.AppendInt(append(dst, '-'), int64(t.Parts), 10)
	}
	return dst
}

// String returns the tag without quotes.
func (t ETag) String() string {
	var few [2*md5.Size + 8]byte
	return string(t.AppendTo(few[:0]))
}

// ParseETag parses a tag, quoted or not, in upper or lower case. It reports
// whether s is one of an object.
func ParseETag(s string) (ETag, bool) {
	if n := len(s); n >= 2 && s[0] == '"' && s[n-1] == '"' {
		s = s[1 : n-1]
	}
	var t ETag
	sum, parts, multi := strings.Cut(s, "-")
	if len(sum) != 2*md5.Size {
		return ETag{}, false
	}
	if _, err := hex.Decode(t.Sum[:], []byte(sum)); err != nil {
		return ETag{}, false
	}
	if multi {
		n, err := strconv.ParseUint(parts, 10, 31)
		if err != nil || n == 0 || parts[0] == '0' || parts[0] == '+' {
			return ETag{}, false
		}
		t.Parts = int(n)
	}
	return t, true
}

// tagOfParts gathers the MD5s of parts.
type tagOfParts struct {
	sums []byte
}

func (t *tagOfParts) add(sum [md5.Size]byte) { t.sums = append(t.sums, sum[:]...) }

func (t *tagOfParts) tag() ETag {
	return ETag{Sum: md5.Sum(t.sums), Parts: len(t.sums) / md5.Size}
}

// copiedPartSum returns the tag of a part that was moved by handle from bytes
// [off, off+n) of a version of an object. No byte is read, so it is no MD5 of
// them; S3 promises none either.
func copiedPartSum(src ETag, lsn uint64, off, n uint64) [md5.Size]byte {
	p := append([]byte("stemma part copy\x00"), src.Sum[:]...)
	for _, v := range []uint64{uint64(src.Parts), lsn, off, n} {
		p = binary.LittleEndian.AppendUint64(p, v)
	}
	return md5.Sum(p)
}
