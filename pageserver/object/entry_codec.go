package object

import (
	"encoding/binary"
	"fmt"
	"strings"

	"stemma/layers"
	"stemma/wal"
)

const metaVersion = 1

// Flags of a meta. The rest is refused.
const (
	flagETagParts = 1 << 0 // the number of parts follows the MD5
	flagComposite = 1 << 1 // the checksum is, or will be, of the parts' checksums
	flagImplicit  = 1 << 2 // upload: the algorithm is the default, not asked for
	flagChanged   = 1 << 3 // the LSN of the version follows: the record is of a later commit
	flagVersioned = 1 << 4 // the version has an id of its own; without it, it is the null version
	flagMarker    = 1 << 5 // delete marker: no MD5, no fields
	flagEncrypted = 1 << 6 // there is an encryption record, and sealed fields
	flagPages     = 1 << 7 // written in place: a file of pages in the place of the MD5, and the length of its base
	flagsKnown    = flagETagParts | flagComposite | flagImplicit | flagChanged | flagVersioned | flagMarker | flagEncrypted | flagPages
)

// Tags of fields, in their order. See docs/format/object.md.
const (
	tagChecksum  = 0x01
	tagUploadID  = 0x02
	tagParts     = 0x03
	tagPartsTail = 0x04
	tagUserMeta  = 0x05
	tagTags      = 0x06
	tagCrypt     = 0x0e // encryption record
	tagSealed    = 0x0f // encrypted fields: those that secretField names
	// One tag per field of Headers, in the order of Headers.list.
	tagHeaders = 0x10
	numHeaders = 7
	tagRenamed = 0x30
	tagInherit = 0x31
)

// maxMetaBytes bounds a meta: 8 KiB of headers, 2 KiB of user metadata, 15 KiB of
// tags, a short parts table, 6 KiB of encryption, 13 KiB of grants, and lengths.
const maxMetaBytes = 52 << 10

func (h *Headers) list() [numHeaders]*string {
	return [...]*string{
		&h.ContentType, &h.ContentEncoding, &h.ContentDisposition, &h.ContentLanguage,
		&h.CacheControl, &h.Expires, &h.WebsiteRedirect,
	}
}

// metaHead is the part of a meta that a listing needs.
type metaHead struct {
	flags     byte
	owned     bool // there is a field with the owner
	class     StorageClass
	algorithm Algorithm
	size      uint64
	etag      ETag // see tag
	pages     pageFile
	// made is the commit that made the version, if that is not the record's own:
	// what is not part of the version was changed since. Zero otherwise.
	made wal.LSN
}

// version returns the version's LSN, of a record of a commit.
func (h *metaHead) version(lsn wal.LSN) wal.LSN {
	if h.made != 0 {
		return h.made
	}
	return lsn
}

// tag returns the ETag, of a record of a commit.
func (h *metaHead) tag(lsn wal.LSN) ETag {
	if h.pages.paged() {
		return h.pages.tag(h.version(lsn))
	}
	return h.etag
}

func (h *metaHead) append(dst []byte, tagged bool) []byte {
	if h.pages.paged() {
		h.flags |= flagPages
		h.etag = ETag{Sum: h.pages.sum()}
	}
	if h.etag.Parts > 0 {
		h.flags |= flagETagParts
	}
	if h.made != 0 {
		h.flags |= flagChanged
	}
	class := byte(h.class)
	if h.owned {
		class |= classOwned
	}
	dst = append(dst, metaVersion, h.flags, class, byte(h.algorithm))
	dst = binary.AppendUvarint(dst, h.size)
	if !tagged {
		return dst
	}
	if h.flags&flagMarker == 0 {
		dst = append(dst, h.etag.Sum[:]...)
	}
	if h.pages.paged() {
		dst = h.pages.appendTo(dst)
	}
	if h.etag.Parts > 0 {
		dst = binary.AppendUvarint(dst, uint64(h.etag.Parts))
	}
	if h.made != 0 {
		dst = binary.AppendUvarint(dst, uint64(h.made))
	}
	return dst
}

// decode reads the head of p and returns what follows it. The ETag of an encrypted
// object may be masked, see Service.readHead. It allocates nothing unless p is corrupt.
func (h *metaHead) decode(p []byte, tagged bool) ([]byte, error) {
	if len(p) > maxMetaBytes {
		return nil, corrupt("meta of %d bytes, at most %d", len(p), maxMetaBytes)
	}
	if len(p) < 5 {
		return nil, corrupt("meta of %d bytes", len(p))
	}
	if p[0] != metaVersion {
		return nil, corrupt("meta of version %d, this build knows %d", p[0], metaVersion)
	}
	h.flags, h.class, h.algorithm = p[1], StorageClass(p[2]&^classOwned), Algorithm(p[3])
	h.owned = p[2]&classOwned != 0
	if h.flags&^flagsKnown != 0 || h.class >= numStorageClasses || h.algorithm >= numAlgorithms {
		return nil, corrupt("meta begins with % x", p[:4])
	}
	if h.flags&flagComposite != 0 && !h.algorithm.composite() {
		return nil, corrupt("composite checksum with algorithm %d", h.algorithm)
	}
	size, p, ok := takeUvarint(p[4:])
	if !ok || size > maxObjectBytes {
		return nil, corrupt("bad size")
	}
	h.size = size
	h.etag, h.pages, h.made = ETag{}, pageFile{}, 0
	if !tagged {
		return p, h.checkUntagged()
	}
	if h.flags&flagMarker != 0 {
		return h.decodeMarker(p)
	}
	if len(p) < len(h.etag.Sum) {
		return nil, corrupt("%d bytes left, want an MD5", len(p))
	}
	copy(h.etag.Sum[:], p)
	p = p[len(h.etag.Sum):]
	if h.flags&flagETagParts != 0 {
		n, rest, ok := takeUvarint(p)
		if !ok || n == 0 || n > MaxPartNumber {
			return nil, corrupt("bad number of parts")
		}
		p, h.etag.Parts = rest, int(n)
	}
	var err error
	if p, err = h.decodePages(p); err != nil {
		return nil, err
	}
	return h.decodeMade(p)
}

// decodeMade decodes what ends a head.
func (h *metaHead) decodeMade(p []byte) ([]byte, error) {
	if h.flags&flagChanged == 0 {
		return p, nil
	}
	made, rest, ok := takeUvarint(p)
	if !ok || made == 0 || made > uint64(wal.MaxLSN) {
		return nil, corrupt("bad LSN of the version")
	}
	h.made = wal.LSN(made)
	return rest, nil
}

// decodeMarker decodes the rest of a delete marker, which is nothing but its LSN.
func (h *metaHead) decodeMarker(p []byte) ([]byte, error) {
	if h.flags&^(flagMarker|flagVersioned|flagChanged) != 0 || h.size != 0 || h.class != 0 || h.owned || h.algorithm != 0 {
		return nil, corrupt("delete marker of flags %#x, size %d", h.flags, h.size)
	}
	p, err := h.decodeMade(p)
	if err == nil && len(p) > 0 {
		err = corrupt("%d bytes behind a delete marker", len(p))
	}
	return p, err
}

// checkUntagged refuses what only a version can be.
func (h *metaHead) checkUntagged() error {
	if h.flags&(flagChanged|flagVersioned|flagMarker|flagPages) != 0 || h.owned {
		return corrupt("flags %#x of what is no version", h.flags)
	}
	return nil
}

// decodePages decodes the file of an object that is written in place, which begins
// in the place of the MD5.
func (h *metaHead) decodePages(p []byte) ([]byte, error) {
	if h.flags&flagPages == 0 {
		return p, nil
	}
	if h.flags&(flagETagParts|flagComposite|flagImplicit) != 0 || h.algorithm != NoChecksum {
		return nil, corrupt("flags %#x of an object that is written in place", h.flags)
	}
	sum := h.etag.Sum
	h.etag = ETag{}
	p, err := h.pages.decode(sum, p)
	if err == nil && h.pages.base > h.size {
		err = corrupt("base of pages longer than the object")
	}
	return p, err
}

// maxObjectBytes bounds every size: all parts, each as long as it may be.
const maxObjectBytes = uint64(MaxPartNumber) * MaxPartBytes

func corrupt(format string, args ...any) error {
	return fmt.Errorf("decode meta: "+format+": %w", append(args, ErrCorrupt)...)
}

// takeUvarint is binary.Uvarint that refuses overlong and truncated forms.
func takeUvarint(p []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(p)
	if n <= 0 || (n > 1 && p[n-1] == 0) {
		return 0, nil, false
	}
	return v, p[n:], true
}

// takeBytes takes a length and as many bytes; they alias p.
func takeBytes(p []byte) (b, rest []byte, ok bool) {
	n, p, ok := takeUvarint(p)
	if !ok || n > uint64(len(p)) {
		return nil, nil, false
	}
	return p[:n], p[n:], true
}

func appendField(dst []byte, tag byte, value []byte) []byte {
	dst = binary.AppendUvarint(append(dst, tag), uint64(len(value)))
	return append(dst, value...)
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// hasPages reports whether a meta is that of an object that is written in place.
func hasPages(meta []byte) bool { return len(meta) > 1 && meta[1]&flagPages != 0 }

// append appends the entry's meta.
func (e *Entry) append(dst []byte) []byte {
	h := metaHead{class: e.StorageClass, algorithm: e.Checksum.Algorithm, size: e.Size, etag: e.ETag, pages: e.pages, made: e.made, owned: e.Owner != ""}
	if e.Checksum.Composite {
		h.flags |= flagComposite
	}
	if e.Versioned {
		h.flags |= flagVersioned
	}
	c := e.crypt
	if c == nil {
		return e.appendFields(h.append(dst, true), true, true)
	}
	h.flags |= flagEncrypted
	if c.locked == nil {
		h.etag = c.masked(h.etag)
	}
	return e.appendFields(h.append(dst, true), true, false)
}

// appendFields appends the fields that anybody may read, those that are encrypted if
// the entry is, or both.
func (e *Entry) appendFields(dst []byte, clear, secret bool) []byte {
	if secret {
		dst = appendChecksumField(dst, &e.Checksum)
	}
	if clear && e.uploadID != (uploadID{}) {
		dst = appendField(dst, tagUploadID, e.uploadID[:])
	}
	if secret && len(e.parts.inline) > 0 {
		dst = appendField(dst, tagParts, e.parts.inline)
	}
	if clear && e.parts.tail > 0 {
		var few [binary.MaxVarintLen64]byte
		dst = appendField(dst, tagPartsTail, binary.AppendUvarint(few[:0], e.parts.tail))
	}
	if secret {
		dst = appendPairs(dst, tagUserMeta, e.UserMeta)
	}
	if clear {
		dst = appendPairs(dst, tagTags, e.Tags)
	}
	if clear && e.crypt != nil {
		dst = e.crypt.appendTo(dst, func() []byte { return e.appendFields(nil, false, true) })
	}
	if secret {
		dst = appendHeaders(dst, &e.Headers)
	}
	if clear {
		dst = e.Lock.append(dst)
	}
	if clear && e.renamed != (renameToken{}) {
		dst = appendField(dst, tagRenamed, e.renamed[:])
	}
	if clear {
		dst = e.inherited.append(dst)
		dst = e.Access.append(dst)
	}
	return dst
}

// appendChecksumField appends the sum, and the number of parts that it is made of.
func appendChecksumField(dst []byte, c *Checksum) []byte {
	if c.Algorithm == NoChecksum {
		return dst
	}
	var few [32 + binary.MaxVarintLen64]byte
	v := append(few[:0], c.Bytes()...)
	if c.Composite {
		v = binary.AppendUvarint(v, uint64(c.Parts))
	}
	return appendField(dst, tagChecksum, v)
}

// appendDescription appends what objects and uploads have in common.
func appendDescription(dst []byte, h *Headers, user, tags []Field) []byte {
	dst = appendPairs(dst, tagUserMeta, user)
	dst = appendPairs(dst, tagTags, tags)
	return appendHeaders(dst, h)
}

func appendHeaders(dst []byte, h *Headers) []byte {
	for i, s := range h.list() {
		if *s != "" {
			dst = appendString(append(dst, tagHeaders+byte(i)), *s)
		}
	}
	return dst
}

// appendPairs appends a field of pairs, unless there are none.
func appendPairs(dst []byte, tag byte, pairs []Field) []byte {
	if len(pairs) == 0 {
		return dst
	}
	n := 0
	for i := range pairs {
		n += uvarintLen(len(pairs[i].Key)) + len(pairs[i].Key) + uvarintLen(len(pairs[i].Value)) + len(pairs[i].Value)
	}
	dst = binary.AppendUvarint(append(dst, tag), uint64(n))
	for i := range pairs {
		dst = appendString(appendString(dst, pairs[i].Key), pairs[i].Value)
	}
	return dst
}

func uvarintLen(n int) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

// RecordedSize returns the size of the object that a record describes, as listings show it. It is made
// for timeline.Options.ObjectBytes. Errors: ErrCorrupt.
func RecordedSize(r *layers.Record) (uint64, error) {
	var h metaHead
	if _, err := h.decode(r.Meta, true); err != nil {
		return 0, err
	}
	return h.size, nil
}

// decodeEntry decodes all of an object's meta but what is encrypted, which
// Service.unlock opens. What it returns does not alias the meta. Errors: ErrCorrupt.
func decodeEntry(meta []byte, lsn wal.LSN) (*Entry, error) {
	var h metaHead
	p, err := h.decode(meta, true)
	if err != nil {
		return nil, err
	}
	if h.flags&(flagImplicit|flagMarker) != 0 {
		return nil, corrupt("flags %#x of an object", h.flags)
	}
	e := &Entry{Size: h.size, ETag: h.tag(lsn), StorageClass: h.class, LSN: h.version(lsn), PartsCount: h.etag.Parts, pages: h.pages, made: h.made}
	e.Versioned = h.flags&flagVersioned != 0
	e.Checksum.Algorithm, e.Checksum.Composite = h.algorithm, h.flags&flagComposite != 0
	if h.flags&flagEncrypted != 0 {
		e.crypt = &crypt{}
	}
	if err := e.decodeFields(p, true, e.crypt == nil); err != nil {
		return nil, err
	}
	if h.owned != (e.Owner != "") {
		return nil, corrupt("owner %q, which the head says is there: %t", e.Owner, h.owned)
	}
	return e, nil
}

// decodeFields decodes what appendFields appended.
func (e *Entry) decodeFields(p []byte, clear, secret bool) error {
	summed := false
	err := eachField(p, func(tag byte, v []byte) error {
		if !secret && secretField(tag) || !clear && !secretField(tag) {
			return corrupt("field %#x on the wrong side of the encryption", tag)
		}
		switch tag {
		case tagChecksum:
			summed = true
			return e.Checksum.decode(v)
		case tagUploadID:
			if len(v) != len(e.uploadID) || uploadID(v) == (uploadID{}) {
				return corrupt("upload id of %d bytes", len(v))
			}
			e.uploadID = uploadID(v)
		case tagParts:
			if len(v) == 0 || len(v) > maxInlineParts || e.parts.tail > 0 {
				return corrupt("parts table of %d bytes", len(v))
			}
			e.parts.inline = append([]byte(nil), v...)
		case tagPartsTail:
			n, rest, ok := takeUvarint(v)
			if !ok || len(rest) > 0 || n == 0 || n > maxPartTable+smallOverhead || e.parts.inline != nil {
				return corrupt("bad length of the parts table")
			}
			e.parts.tail = n
		case tagRenamed:
			if len(v) != len(e.renamed) || renameToken(v) == (renameToken{}) {
				return corrupt("rename token of %d bytes", len(v))
			}
			e.renamed = renameToken(v)
		case tagInherit:
			return e.inherited.decode(v)
		case tagCrypt, tagSealed:
			return e.crypt.decodeField(tag, v)
		default:
			if known, err := e.Lock.decode(tag, v); known {
				return err
			}
			if known, err := e.Access.decode(tag, v); known {
				return err
			}
			return decodeDescription(tag, v, &e.Headers, &e.UserMeta, &e.Tags)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if e.pages.paged() && (e.uploadID != (uploadID{}) || e.parts.inline != nil || e.parts.tail != 0) {
		return corrupt("parts of an object that is written in place")
	}
	if secret && summed != (e.Checksum.Algorithm != NoChecksum) {
		return corrupt("checksum algorithm %d, value present: %t", e.Checksum.Algorithm, summed)
	}
	if clear {
		if c := e.crypt; c != nil && c.sealedFor != (fileID{}) && !e.pages.paged() {
			return corrupt("file of sealed pages of an object that is not written in place")
		}
		return e.crypt.complete()
	}
	return nil
}

// secretField reports whether a field is encrypted where a meta is.
func secretField(tag byte) bool {
	return tag == tagChecksum || tag == tagParts || tag == tagUserMeta || tag >= tagHeaders && tag < tagHeaders+numHeaders
}

// decode reads the value of a checksum whose algorithm and type are known.
func (c *Checksum) decode(v []byte) error {
	n := c.Algorithm.Size()
	if c.Algorithm == NoChecksum || len(v) < n {
		return corrupt("checksum of %d bytes for algorithm %d", len(v), c.Algorithm)
	}
	copy(c.Sum[:], v[:n])
	v = v[n:]
	if c.Composite {
		parts, rest, ok := takeUvarint(v)
		if !ok || parts > MaxPartNumber {
			return corrupt("bad number of parts of a checksum")
		}
		c.Parts, v = int(parts), rest
	}
	if len(v) > 0 {
		return corrupt("%d bytes behind a checksum", len(v))
	}
	return nil
}

// eachField visits the fields of p, whose tags must ascend.
func eachField(p []byte, visit func(tag byte, v []byte) error) error {
	last := byte(0)
	for len(p) > 0 {
		tag := p[0]
		v, rest, ok := takeBytes(p[1:])
		if !ok || tag <= last {
			return corrupt("bad field %#x after %#x", tag, last)
		}
		if err := visit(tag, v); err != nil {
			return err
		}
		p, last = rest, tag
	}
	return nil
}

// decodeDescription decodes a field that objects and uploads have in common.
func decodeDescription(tag byte, v []byte, h *Headers, user, tags *[]Field) error {
	switch tag {
	case tagUserMeta:
		return decodePairs(v, user)
	case tagTags:
		return decodePairs(v, tags)
	}
	list := h.list()
	if i := int(tag) - tagHeaders; i >= 0 && i < len(list) && len(v) > 0 {
		*list[i] = string(v)
		return nil
	}
	return corrupt("unknown or empty field %#x", tag)
}

func decodePairs(p []byte, pairs *[]Field) error {
	if len(p) == 0 {
		return corrupt("a field of no pairs")
	}
	for len(p) > 0 {
		k, rest, ok := takeBytes(p)
		if !ok {
			return corrupt("bad key of a pair")
		}
		v, rest, ok := takeBytes(rest)
		if !ok {
			return corrupt("bad value of a pair")
		}
		*pairs = append(*pairs, Field{Key: string(k), Value: string(v)})
		p = rest
	}
	return nil
}

// checkDescription bounds what becomes part of a meta. Errors: ErrMetadataTooLarge, *RuleError.
func checkDescription(h *Headers, user, tags []Field) error {
	n := 0
	for i := range user {
		n += len(user[i].Key) + len(user[i].Value)
	}
	// Every pair costs a few bytes beside its own; so does one that is empty.
	if n > MaxUserMetaBytes || len(user) > MaxUserMetaBytes/2 {
		return fmt.Errorf("user metadata of %d bytes in %d pairs, at most %d bytes: %w", n, len(user), MaxUserMetaBytes, ErrMetadataTooLarge)
	}
	n = 0
	for _, s := range h.list() {
		n += len(*s)
	}
	if n > MaxHeaderBytes {
		return fmt.Errorf("headers of %d bytes, at most %d: %w", n, MaxHeaderBytes, ErrMetadataTooLarge)
	}
	if to := h.WebsiteRedirect; to != "" && !strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "http://") && !strings.HasPrefix(to, "https://") {
		return fmt.Errorf("redirect to %q: %w", to, ErrInvalidRedirect)
	}
	return CheckObjectTags(tags)
}
