package object

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"stemma/wal"
)

// uploadID names a multipart upload: the store clock at its creation and random
// bytes, so that ids of one key sort by age.
type uploadID [16]byte

func newUploadID(now wal.LSN) uploadID {
	var id uploadID
	binary.BigEndian.PutUint64(id[:], uint64(now))
	rand.Read(id[8:]) // never fails
	return id
}

// String returns the id as people see it.
func (id uploadID) String() string { return hex.EncodeToString(id[:]) }

// parseUploadID reports whether s is an id that String could have given.
func parseUploadID(s string) (id uploadID, ok bool) {
	if len(s) != 2*len(id) || strings.ToLower(s) != s {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil && id != uploadID{}
}

// Spaces of layers.NamespaceUploads: the first byte of its keys.
const (
	spaceUploads = 0x01
	spaceParts   = 0x02
)

// appendKeyPrefix appends the beginning of the upload keys of all objects whose
// key begins with prefix.
func appendKeyPrefix(dst []byte, prefix string) []byte {
	return appendEscaped(append(dst, spaceUploads), prefix)
}

// appendUploadsOf appends the beginning of the keys of all uploads of an object.
func appendUploadsOf(dst []byte, key string) []byte {
	return append(appendKeyPrefix(dst, key), keyEnd...)
}

// uploadKey returns the key of an upload record.
func uploadKey(key string, id uploadID) []byte {
	return append(appendUploadsOf(make([]byte, 0, 1+2*len(key)+2+len(id)), key), id[:]...)
}

// parseUploadKey takes an upload record's key apart. Errors: ErrCorrupt.
func parseUploadKey(k []byte) (key []byte, id uploadID, err error) {
	if len(k) < 1+len(keyEnd)+len(id) || k[0] != spaceUploads {
		return nil, id, corrupt("upload key %q", k)
	}
	copy(id[:], k[len(k)-len(id):])
	key, err = unescape(k[1 : len(k)-len(id)])
	return key, id, err
}

// partKey returns the key of a part record; number 0 is below all parts of the
// upload, MaxPartNumber+1 above.
func partKey(id uploadID, number int) []byte {
	k := append(make([]byte, 0, 1+len(id)+2), spaceParts)
	return binary.BigEndian.AppendUint16(append(k, id[:]...), uint16(number))
}

// uploadRecord is the meta of an upload.
type uploadRecord struct {
	class     StorageClass
	algorithm Algorithm // of the parts
	composite bool
	// implicit says that nobody asked for the algorithm: parts may lack it.
	implicit bool
	headers  Headers
	userMeta []Field
	tags     []Field
	lock     Lock   // that was asked for
	access   Access // of the object
	// initiator is the canonical id of who began the upload, if that is not the owner.
	initiator string
	crypt     *crypt // of the parts, and of the object that they become; nil: not encrypted
}

func (u *uploadRecord) append(dst []byte) []byte {
	h := metaHead{class: u.class, algorithm: u.algorithm}
	if u.composite {
		h.flags |= flagComposite
	}
	if u.implicit {
		h.flags |= flagImplicit
	}
	if u.crypt == nil {
		return u.appendAccess(u.appendFields(h.append(dst, false)))
	}
	h.flags |= flagEncrypted
	return u.appendAccess(u.crypt.appendTo(h.append(dst, false), func() []byte { return u.appendFields(nil) }))
}

// appendAccess appends the fields that are never encrypted.
func (u *uploadRecord) appendAccess(dst []byte) []byte {
	dst = u.access.append(dst)
	if u.initiator != "" {
		dst = appendString(append(dst, tagInitiator), u.initiator)
	}
	return dst
}

// decodeAccess is the reverse of appendAccess, of one field.
func (u *uploadRecord) decodeAccess(tag byte, v []byte) (known bool, err error) {
	if tag != tagInitiator {
		return u.access.decode(tag, v)
	}
	if len(v) == 0 || len(v) > maxGranteeBytes {
		return true, corrupt("initiator of %d bytes", len(v))
	}
	u.initiator = string(v)
	return true, nil
}

// appendFields appends the fields that are encrypted if the upload is.
func (u *uploadRecord) appendFields(dst []byte) []byte {
	return u.lock.append(appendDescription(dst, &u.headers, u.userMeta, u.tags))
}

func decodeUpload(meta []byte) (*uploadRecord, error) {
	var h metaHead
	p, err := h.decode(meta, false)
	if err != nil {
		return nil, err
	}
	if h.flags&(flagETagParts|flagChanged) != 0 || h.size != 0 || h.algorithm == NoChecksum {
		return nil, corrupt("upload of flags %#x, size %d, algorithm %d", h.flags, h.size, h.algorithm)
	}
	u := &uploadRecord{
		class: h.class, algorithm: h.algorithm, composite: h.flags&flagComposite != 0, implicit: h.flags&flagImplicit != 0,
	}
	if h.flags&flagEncrypted != 0 {
		u.crypt = &crypt{}
	}
	err = eachField(p, func(tag byte, v []byte) error {
		if known, err := u.decodeAccess(tag, v); known {
			return err
		}
		if u.crypt != nil {
			return u.crypt.decodeField(tag, v)
		}
		return u.decodeField(tag, v)
	})
	if err == nil {
		err = u.crypt.complete()
	}
	if err != nil {
		return nil, err
	}
	return u, nil
}

// decodeField decodes a field that is encrypted if the upload is.
func (u *uploadRecord) decodeField(tag byte, v []byte) error {
	if tag == tagCrypt || tag == tagSealed {
		return corrupt("field %#x of an upload that is not encrypted", tag)
	}
	if known, err := u.lock.decode(tag, v); known {
		return err
	}
	return decodeDescription(tag, v, &u.headers, &u.userMeta, &u.tags)
}

// describe returns what people see of an upload.
func (u *uploadRecord) describe(key string, id uploadID, lsn wal.LSN) Upload {
	up := Upload{Key: key, ID: id.String(), LSN: lsn, StorageClass: u.class}
	if u.crypt != nil {
		up.SSE = u.crypt.SSE
	}
	up.Owner, up.Initiator = u.access.Owner, u.initiator
	if !u.implicit {
		up.Algorithm, up.Composite = u.algorithm, u.composite
	}
	return up
}

// partRecord is the meta of a part.
type partRecord struct {
	size     uint64
	md5      [md5.Size]byte
	checksum Checksum // full object; zero: none
	// locked is what of a part of an encrypted upload is encrypted: md5 and checksum.
	locked []byte
}

// append appends the part's meta, encrypted under the upload's key unless c is nil.
func (r *partRecord) append(dst []byte, c *crypt) []byte {
	h := metaHead{algorithm: r.checksum.Algorithm, size: r.size, etag: ETag{Sum: r.md5}}
	if c == nil && r.locked == nil {
		return appendChecksumField(h.append(dst, true), &r.checksum)
	}
	h.flags |= flagEncrypted
	if r.locked != nil {
		return appendField(h.append(dst, true), tagSealed, r.locked)
	}
	if c.Kind == SSES3 {
		h.etag.Sum = [md5.Size]byte{} // it is of the body
	}
	secret := appendChecksumField(r.md5[:], &r.checksum)
	return appendField(h.append(dst, true), tagSealed, c.small().sealSmall(purposeFields, secret))
}

// unlock opens what is encrypted under the upload's key. Errors: ErrCorrupt.
func (r *partRecord) unlock(c *crypt) error {
	if (r.locked != nil) != (c != nil) {
		return corrupt("part and upload differ in encryption")
	}
	if c == nil {
		return nil
	}
	p, err := c.small().openSmall(purposeFields, r.locked)
	if err != nil {
		return err
	}
	if len(p) < md5.Size {
		return corrupt("%d sealed bytes of a part", len(p))
	}
	r.md5, r.locked = [md5.Size]byte(p), nil
	return r.decodeFields(p[md5.Size:])
}

func (r *partRecord) decode(meta []byte) error {
	var h metaHead
	p, err := h.decode(meta, true)
	if err != nil {
		return err
	}
	if h.flags&^flagEncrypted != 0 || h.class != 0 || h.owned || h.size > MaxPartBytes {
		return corrupt("part of flags %#x, class %d, size %d", h.flags, h.class, h.size)
	}
	*r = partRecord{size: h.size, md5: h.etag.Sum, checksum: Checksum{Algorithm: h.algorithm}}
	if h.flags&flagEncrypted == 0 {
		return r.decodeFields(p)
	}
	err = eachField(p, func(tag byte, v []byte) error {
		if tag != tagSealed {
			return corrupt("field %#x of an encrypted part", tag)
		}
		r.locked = append([]byte(nil), v...)
		return nil
	})
	if err == nil && r.locked == nil {
		err = corrupt("encrypted part without sealed fields")
	}
	return err
}

// decodeFields decodes the fields of a part that are encrypted if the upload is.
func (r *partRecord) decodeFields(p []byte) error {
	summed := false
	err := eachField(p, func(tag byte, v []byte) error {
		if tag != tagChecksum {
			return corrupt("unknown field %#x of a part", tag)
		}
		summed = true
		return r.checksum.decode(v)
	})
	if a := r.checksum.Algorithm; err == nil && summed != (a != NoChecksum) {
		err = corrupt("part with checksum algorithm %d, value present: %t", a, summed)
	}
	return err
}

func (r *partRecord) describe(number int, lsn wal.LSN) Part {
	p := Part{Number: number, Size: r.size, ETag: ETag{Sum: r.md5}, Checksum: r.checksum, LSN: lsn}
	if r.locked != nil {
		p.Checksum = Checksum{}
	}
	return p
}

// checksumTypeOf settles the algorithm and type of an upload. Errors: ErrChecksumType.
func (in *UploadInput) checksumTypeOf() (a Algorithm, composite, implicit bool, err error) {
	bad := func() (Algorithm, bool, bool, error) {
		return 0, false, false, fmt.Errorf("checksum type %q of algorithm %q: %w", in.ChecksumType, in.Algorithm, ErrChecksumType)
	}
	if in.Algorithm >= numAlgorithms {
		return bad()
	}
	a, implicit = defaultAlgorithm(in.Algorithm), in.Algorithm == NoChecksum
	switch in.ChecksumType {
	case "":
		return a, a.composite(), implicit, nil
	case "COMPOSITE":
		if implicit || !a.composite() {
			return bad()
		}
		return a, true, implicit, nil
	case "FULL_OBJECT":
		if implicit || !a.fullObject() {
			return bad()
		}
		return a, false, implicit, nil
	}
	return bad()
}
