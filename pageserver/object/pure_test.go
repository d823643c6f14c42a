package object

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/minio/crc64nvme"
	"github.com/zeebo/xxh3"

	"stemma/layers"
	"stemma/wal"
)

func TestBucketNames(t *testing.T) {
	for _, name := range []string{"abc", "a-b", "a.b", "0ab", "a1.b2-c3", strings.Repeat("a", 63), "1.2.3", "a--b", "xn-a"} {
		if !ValidBucketName(name) {
			t.Errorf("%q refused", name)
		}
	}
	for _, name := range []string{
		"", "ab", strings.Repeat("a", 64), "Abc", "a_b", "-ab", "ab-", ".ab", "ab.", "a..b", "a.-b", "a-.b", "1.2.3.4",
		"xn--abc", "sthree-abc", "abc-s3alias", "abc--ol-s3", "abc.mrap", "abc--x-s3", "amzn-s3-demo-x", "a/b", "ab\x00c", "abç",
	} {
		if ValidBucketName(name) {
			t.Errorf("%q taken", name)
		}
	}
}

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		header string
		size   uint64
		off, n uint64
		// what: "" served, "ignored" or "416"
		what string
	}{
		{"bytes=0-0", 10, 0, 1, ""},
		{"bytes=2-5", 10, 2, 4, ""},
		{"bytes=2-", 10, 2, 8, ""},
		{"bytes=9-9", 10, 9, 1, ""},
		{"bytes=0-99999999999999999999999", 10, 0, 10, ""},
		{"bytes=-3", 10, 7, 3, ""},
		{"bytes=-99", 10, 0, 10, ""},
		{" bytes=1-1 ", 10, 1, 1, ""},
		{"bytes=10-", 10, 0, 0, "416"},
		{"bytes=10-11", 10, 0, 0, "416"},
		{"bytes=-0", 10, 0, 0, "416"},
		{"bytes=0-", 0, 0, 0, "416"},
		{"bytes=-1", 0, 0, 0, "416"},
		{"bytes=99999999999999999999999-", 10, 0, 0, "416"},
		{"bytes=5-2", 10, 0, 0, "ignored"},
		{"bytes=0-1,3-4", 10, 0, 0, "ignored"},
		{"bytes=", 10, 0, 0, "ignored"},
		{"bytes=-", 10, 0, 0, "ignored"},
		{"bytes=a-b", 10, 0, 0, "ignored"},
		{"bytes=+1-2", 10, 0, 0, "ignored"},
		{"bytes=1", 10, 0, 0, "ignored"},
		{"items=0-1", 10, 0, 0, "ignored"},
		{"0-1", 10, 0, 0, "ignored"},
	} {
		off, n, ok, err := parseRange(c.header, c.size)
		what := ""
		var bad *RangeError
		switch {
		case errors.As(err, &bad) && errors.Is(err, ErrInvalidRange) && bad.Size == c.size:
			what = "416"
		case err != nil:
			t.Fatal(err)
		case !ok:
			what = "ignored"
		}
		if what != c.what || off != c.off || n != c.n {
			t.Errorf("%q of %d: %d+%d %q, want %d+%d %q", c.header, c.size, off, n, what, c.off, c.n, c.what)
		}
	}
}

func FuzzRange(f *testing.F) {
	f.Add("bytes=1-5", uint64(10))
	f.Fuzz(func(t *testing.T, header string, size uint64) {
		size %= maxObjectBytes + 1
		off, n, ok, err := parseRange(header, size)
		if ok && (err != nil || n == 0 || off >= size || n > size-off) {
			t.Errorf("%q of %d: %d+%d, %v", header, size, off, n, err)
		}
	})
}

// The table of RFC 9110, section 13.2.2, as S3 has it.
func TestReadConditions(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)
	e := &Entry{ETag: ETag{Sum: [16]byte{1}}, LSN: wal.LSNFromTime(at)}
	tag, other := `"`+e.ETag.String()+`"`, `"ffffffffffffffffffffffffffffffff"`
	same, before, after := at.Truncate(time.Second), at.Add(-time.Hour), at.Add(time.Hour)
	for _, c := range []struct {
		cond Conditions
		want error
	}{
		{Conditions{}, nil},
		{Conditions{IfMatch: tag}, nil},
		{Conditions{IfMatch: "*"}, nil},
		{Conditions{IfMatch: e.ETag.String()}, nil},
		{Conditions{IfMatch: other + ", " + tag}, nil},
		{Conditions{IfMatch: other}, ErrPreconditionFailed},
		{Conditions{IfMatch: "W/" + tag}, ErrPreconditionFailed},
		{Conditions{IfUnmodifiedSince: same}, nil},
		{Conditions{IfUnmodifiedSince: before}, ErrPreconditionFailed},
		{Conditions{IfMatch: tag, IfUnmodifiedSince: before}, nil},
		{Conditions{IfMatch: other, IfUnmodifiedSince: after}, ErrPreconditionFailed},
		{Conditions{IfNoneMatch: tag}, ErrNotModified},
		{Conditions{IfNoneMatch: "W/" + tag}, ErrNotModified},
		{Conditions{IfNoneMatch: "*"}, ErrNotModified},
		{Conditions{IfNoneMatch: other}, nil},
		{Conditions{IfModifiedSince: same}, ErrNotModified},
		{Conditions{IfModifiedSince: after}, ErrNotModified},
		{Conditions{IfModifiedSince: before}, nil},
		{Conditions{IfNoneMatch: other, IfModifiedSince: after}, nil},
		{Conditions{IfNoneMatch: tag, IfModifiedSince: before}, ErrNotModified},
		{Conditions{IfMatch: tag, IfNoneMatch: tag}, ErrNotModified},
		{Conditions{IfMatch: other, IfNoneMatch: tag}, ErrPreconditionFailed},
	} {
		if got := c.cond.checkRead(e); got != c.want {
			t.Errorf("%+v: %v, want %v", c.cond, got, c.want)
		}
		if got := c.cond.checkSource(e); (c.want != nil) != errors.Is(got, ErrPreconditionFailed) {
			t.Errorf("source %+v: %v", c.cond, got)
		}
	}
	// A date that went through a header must not count as older.
	back, err := http.ParseTime(e.Modified().Format(http.TimeFormat))
	if err != nil || (&Conditions{IfModifiedSince: back}).checkRead(e) != ErrNotModified {
		t.Errorf("Last-Modified %v sent back: %v", back, err)
	}
}

// What the reference implementation of xxHash says of nothing, in the canonical order of bytes.
func TestChecksumOfNothing(t *testing.T) {
	for a, want := range map[Algorithm]string{
		XXHASH64: "ef46db3751d8e999", XXHASH3: "2d06800538d394c2", XXHASH128: "99aa06d3014798d86001c324468d497f", CRC64NVME: "0000000000000000",
	} {
		c := ChecksumOf(a, nil)
		if got := hex.EncodeToString(c.Bytes()); got != want {
			t.Errorf("%v: %s, want %s", a, got, want)
		}
	}
}

func TestSummer(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 100_000)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	s1, s256, s512, m5, x128 := sha1.Sum(p), sha256.Sum256(p), sha512.Sum512(p), md5.Sum(p), xxh3.Hash128(p).Bytes()
	u64 := func(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
	u32 := func(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }
	v := crc64nvme.Checksum(p)
	want := map[Algorithm][]byte{
		CRC32: u32(crc32.ChecksumIEEE(p)), CRC32C: u32(crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))),
		SHA1: s1[:], SHA256: s256[:], SHA512: s512[:], MD5: m5[:], XXHASH64: u64(xxhash.Sum64(p)), XXHASH3: u64(xxh3.Hash(p)), XXHASH128: x128[:], CRC64NVME: append(u32(uint32(v>>32)), u32(uint32(v))...),
	}
	for a, sum := range want {
		var s summer
		s.reset(a)
		var crc *crcCombiner
		if a.fullObject() {
			crc = newCRCCombiner(a)
		}
		for rest := p; len(rest) > 0; {
			n := min(len(rest), rng.IntN(30_000))
			s.write(rest[:n])
			if crc != nil {
				var piece summer
				piece.reset(a)
				piece.write(rest[:n])
				c := piece.sum()
				crc.add(&c, uint64(n))
			}
			rest = rest[n:]
		}
		got := s.sum()
		if string(got.Bytes()) != string(sum) {
			t.Errorf("%v: %x, want %x", a, got.Bytes(), sum)
		}
		if crc != nil && crc.sum(a) != got {
			t.Errorf("%v: combined %v, want %v", a, crc.sum(a), got)
		}
	}
}

func TestSliceAndJoin(t *testing.T) {
	var ext []layers.Extent
	for i := range 5 {
		n := uint64(10 * (i + 1))
		ext = append(ext, layers.Extent{Handle: layers.Handle{Segment: layers.FileNum(9 - i%2), Offset: 4096 * uint64(i), Length: n, Raw: n}, Len: n})
	}
	total := length(ext)
	for off := uint64(0); off <= total; off += 7 {
		for n := uint64(0); off+n <= total; n += 3 {
			head, mid, tail := slice(ext, 0, off), slice(ext, off, n), slice(ext, off+n, total)
			if length(head) != off || length(mid) != n || length(tail) != total-off-n {
				t.Fatalf("pieces at %d+%d of %d, %d, %d bytes", off, n, length(head), length(mid), length(tail))
			}
			if all := join(join(join(nil, head), mid), tail); !reflect.DeepEqual(all, ext) {
				t.Fatalf("pieces at %d+%d joined are %v", off, n, all)
			}
		}
	}
	if segs := segmentsOf(ext); !slices.Equal(segs, []layers.FileNum{8, 9}) {
		t.Errorf("segments %v", segs)
	}
}

func TestSuccessor(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "b", "a\xff": "b", "\xff\xff": "", "a/": "a0", "\xfe": "\xff"} {
		if got := successor(in); got != want {
			t.Errorf("successor of %q is %q, want %q", in, got, want)
		}
	}
}
