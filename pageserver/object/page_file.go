package object

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"stemma/layers"
	"stemma/wal"
)

// Page sizes of objects that are written in place: powers of two.
const (
	MinPageBytes     = 4 << 10
	MaxPageBytes     = 1 << 20
	DefaultPageBytes = 4 << 10
)

// ValidPageBytes reports whether objects can have pages of n bytes.
func ValidPageBytes(n int) bool {
	return n >= MinPageBytes && n <= MaxPageBytes && n&(n-1) == 0
}

// fileID names the pages of one object, unique in the store and for ever: the LSN
// that the transaction read at which opened the object for writing in place (8
// bytes, big-endian), and the ordinal among those (4 bytes).
type fileID [12]byte

func (f fileID) String() string { return hex.EncodeToString(f[:]) }

// newFileID returns an id for a transaction that reads at lsn: what it commits is
// above lsn, so after a restart nobody reads at lsn again.
func (s *Service) newFileID(lsn wal.LSN) (f fileID) {
	binary.BigEndian.PutUint64(f[:], uint64(lsn))
	binary.BigEndian.PutUint32(f[8:], s.pageFiles.Add(1))
	return f
}

// end returns the first key behind all of the file's.
func (f fileID) end() []byte {
	for i := len(f) - 1; i >= 0; i-- {
		if f[i]++; f[i] != 0 {
			break
		}
	}
	return f[:]
}

// pageKeyBytes is the length of the key of a page.
const pageKeyBytes = len(fileID{}) + 8

// appendPageKey appends the key of a page: the file and the number of the page, 8
// bytes, big-endian.
func (f *fileID) appendPageKey(dst []byte, page uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, f[:]...), page)
}

func (f *fileID) pageKey(page uint64) []byte {
	return f.appendPageKey(make([]byte, 0, pageKeyBytes), page)
}

// pageOf returns the page that a key of the file is of; false for that of the base.
func (f *fileID) pageOf(key []byte) (uint64, bool) {
	if len(key) != pageKeyBytes || fileID(key[:len(f)]) != *f {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[len(f):]), true
}

// pageFile says how the bytes of an object that is written in place are found. The
// zero pageFile is that of an ordinary object.
type pageFile struct {
	id    fileID
	shift uint8 // the page size is 1 << shift; zero: not written in place
	// base is the length of what counts of the base: the body that the object had when it
	// was opened for writing in place, and which lies under the pages.
	base uint64
	// kept is of what was merged and not written since: what it was on the other side, whose ETag it has; zero: of anything else.
	kept pageVersion
}

// pageVersion is what a file was by the commit that made a version of its object.
type pageVersion struct {
	lsn wal.LSN
	id  fileID
}

const pageVersionBytes = 8 + len(fileID{})

// keep has the file, of a version, be known as that version.
func (p *pageFile) keep(lsn wal.LSN) {
	if p.kept == (pageVersion{}) {
		p.kept = pageVersion{lsn, p.id}
	}
}

func (p *pageFile) paged() bool { return p.shift != 0 }

func (p *pageFile) pageBytes() uint64 { return 1 << p.shift }

func shiftOf(pageBytes int) uint8 { return uint8(bits.TrailingZeros(uint(pageBytes))) }

// appendTo appends what a meta has behind the file: the length of the base, and kept.
func (p *pageFile) appendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, p.base)
	if p.kept != (pageVersion{}) {
		dst = append(binary.BigEndian.AppendUint64(dst, uint64(p.kept.lsn)), p.kept.id[:]...)
	}
	return dst
}

// sum returns what the meta has in the place of the MD5: file id, shift, whether there is kept, two zeros.
func (p *pageFile) sum() (sum [16]byte) {
	copy(sum[:], p.id[:])
	sum[len(p.id)] = p.shift
	if p.kept != (pageVersion{}) {
		sum[len(p.id)+1] = 1
	}
	return sum
}

// decode is the inverse of sum and appendTo; it returns what follows. Errors: ErrCorrupt.
func (p *pageFile) decode(sum [16]byte, meta []byte) ([]byte, error) {
	p.id, p.shift = fileID(sum[:len(p.id)]), sum[len(p.id)]
	keeps := sum[len(p.id)+1]
	if !ValidPageBytes(1<<min(p.shift, 32)) || keeps > 1 || [2]byte(sum[len(p.id)+2:]) != [2]byte{} {
		return nil, corrupt("bad pages %x", sum)
	}
	base, meta, ok := takeUvarint(meta)
	if !ok {
		return nil, corrupt("bad base of pages")
	}
	p.base = base
	if keeps == 0 {
		return meta, nil
	}
	if len(meta) < pageVersionBytes {
		return nil, corrupt("bad version of pages")
	}
	p.kept = pageVersion{wal.LSN(binary.BigEndian.Uint64(meta)), fileID(meta[8:pageVersionBytes])}
	if p.kept.lsn == 0 || p.kept.lsn > wal.MaxLSN {
		return nil, corrupt("bad version of pages")
	}
	return meta[pageVersionBytes:], nil
}

// tag returns the ETag of a version of the object: it has the form of that of a
// multipart upload, so that nobody takes it for an MD5, and changes with every write.
func (p *pageFile) tag(lsn wal.LSN) ETag {
	v := pageVersion{lsn, p.id}
	if p.kept != (pageVersion{}) {
		v = p.kept
	}
	t := ETag{Parts: 1}
	binary.BigEndian.PutUint64(t.Sum[:], uint64(v.lsn))
	copy(t.Sum[8:], v.id[8:])
	copy(t.Sum[12:], v.id[4:8])
	return t
}

// Records of a file in layers.NamespacePages:
//
//	file id            the base: Meta = pageBase, Body = its bytes
//	file id ‖ page     a value: no Meta, Body = the page, zeros at its end left out;
//	                   a delta: Meta = stack, Body = pieces

// endPages has a transaction remove the pages of an object that it replaces or removes.
func endPages(tx interface {
	DeleteRange(ns layers.Namespace, lower, upper []byte)
}, p *pageFile) {
	if p.paged() {
		tx.DeleteRange(layers.NamespacePages, p.id[:], p.id.end())
	}
}

// pageError says which page of an object an error is about.
func (p *pageFile) pageError(page uint64, err error) error {
	return fmt.Errorf("page %d of file %v: %w", page, p.id, err)
}
