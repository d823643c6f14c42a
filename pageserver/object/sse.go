package object

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"stemma/pageserver/keyring"
)

// SSEKind says who has the key that a body is encrypted under.
type SSEKind byte

// The kinds. The zero value is none.
const (
	NoSSE  SSEKind = iota
	SSES3          // the store: its master key
	SSEKMS         // the store: a key with a name
	SSEC           // the customer, who sends it with every request
	numSSEKinds
)

// String returns the value of x-amz-server-side-encryption; empty for none and SSE-C.
func (k SSEKind) String() string {
	switch k {
	case SSES3:
		return "AES256"
	case SSEKMS:
		return "aws:kms"
	}
	return ""
}

// SSE says how a body is encrypted, or shall be.
type SSE struct {
	Kind SSEKind `json:"kind"`
	// KeyID names the key of SSE-KMS. In a request it may be an ARN or an alias, or
	// empty: Options.DefaultKMSKey.
	KeyID string `json:"keyID,omitempty"`
	// Context is the encryption context of SSE-KMS as the client gave it; the data key
	// opens with no other.
	Context string `json:"-"`
	// BucketKey is kept and given back; it changes nothing.
	BucketKey bool `json:"bucketKey,omitempty"`
}

// Limits of what is kept of a request for SSE-KMS, in bytes.
const (
	MaxKMSKeyIDBytes   = 2048
	MaxKMSContextBytes = 4096
)

// CustomerKey is a key of SSE-C. It is never stored.
type CustomerKey [32]byte

// crypt is the encryption of one object or upload, and its record.
type crypt struct {
	SSE
	// id is random and bound to the data key, so that a copy can keep both.
	id     [16]byte
	sealed []byte // the data key
	// bodyFirst says that the first part is sealed as a body of its own is, since it was one
	// before something was appended to it.
	bodyFirst bool
	// sealedFor is the file that the pages were sealed for, of an entry whose pages were carried to another file; zero: their own.
	sealedFor fileID
	// locked are the fields of the meta that are encrypted; nil once they were opened.
	locked []byte
	key    *dataKey // nil: not opened
	// sealedFields is, in an upload under a customer's key and the object that it becomes without that key,
	// a second key, sealed by the master key: the fields and the parts table are encrypted under it, not under the data key.
	sealedFields []byte
	fields       *dataKey // nil: not opened
	// mask hides the ETag of SSE-S3, which is an MD5, in the meta.
	mask [16]byte
}

const (
	cryptBucketKey  = 1 << 0
	cryptBodyFirst  = 1 << 1
	cryptFieldsKey  = 1 << 2
	cryptSealedFor  = 1 << 3
	cryptFlagsKnown = cryptBucketKey | cryptBodyFirst | cryptFieldsKey | cryptSealedFor
)

// small returns the key of what is encrypted beside the body.
func (c *crypt) small() *dataKey {
	if c.sealedFields != nil {
		return c.fields
	}
	return c.key
}

// append appends the record: kind, flags, id, sealed data key; with SSE-KMS key id and context, with
// SSE-C the sealed key of the fields if there is one; the file that pages were sealed for, if that is another.
func (c *crypt) append(dst []byte) []byte {
	flags := byte(0)
	if c.BucketKey {
		flags |= cryptBucketKey
	}
	if c.bodyFirst {
		flags |= cryptBodyFirst
	}
	if c.sealedFields != nil {
		flags |= cryptFieldsKey
	}
	if c.sealedFor != (fileID{}) {
		flags |= cryptSealedFor
	}
	dst = append(append(dst, byte(c.Kind), flags), c.id[:]...)
	dst = append(binary.AppendUvarint(dst, uint64(len(c.sealed))), c.sealed...)
	if c.Kind == SSEKMS {
		dst = appendString(appendString(dst, c.KeyID), c.Context)
	}
	if c.sealedFields != nil {
		dst = append(binary.AppendUvarint(dst, uint64(len(c.sealedFields))), c.sealedFields...)
	}
	if c.sealedFor != (fileID{}) {
		dst = append(dst, c.sealedFor[:]...)
	}
	return dst
}

// decodeCrypt decodes a record. What it returns does not alias p. Errors: ErrCorrupt.
func decodeCrypt(p []byte) (*crypt, error) {
	c := &crypt{}
	if len(p) < 2+len(c.id) {
		return nil, corrupt("encryption record of %d bytes", len(p))
	}
	c.Kind, c.BucketKey = SSEKind(p[0]), p[1]&cryptBucketKey != 0
	c.bodyFirst = p[1]&cryptBodyFirst != 0
	if c.Kind == NoSSE || c.Kind >= numSSEKinds || p[1]&^cryptFlagsKnown != 0 || c.BucketKey && c.Kind != SSEKMS || p[1]&cryptFieldsKey != 0 && c.Kind != SSEC {
		return nil, corrupt("encryption record begins with % x", p[:2])
	}
	copy(c.id[:], p[2:])
	twoKeys, moved := p[1]&cryptFieldsKey != 0, p[1]&cryptSealedFor != 0
	var ok bool
	if c.sealed, p, ok = takeSealedKey(p[2+len(c.id):]); !ok {
		return nil, corrupt("bad data key")
	}
	if c.Kind == SSEKMS {
		var id, context []byte
		if id, p, ok = takeBytes(p); !ok || len(id) == 0 || len(id) > MaxKMSKeyIDBytes {
			return nil, corrupt("bad id of a KMS key")
		}
		if context, p, ok = takeBytes(p); !ok || len(context) > MaxKMSContextBytes {
			return nil, corrupt("bad encryption context")
		}
		c.KeyID, c.Context = string(id), string(context)
	}
	if twoKeys {
		if c.sealedFields, p, ok = takeSealedKey(p); !ok {
			return nil, corrupt("bad key of the fields")
		}
	}
	if moved {
		if len(p) < len(c.sealedFor) || fileID(p) == (fileID{}) {
			return nil, corrupt("bad file of sealed pages")
		}
		c.sealedFor, p = fileID(p), p[len(c.sealedFor):]
	}
	if len(p) > 0 {
		return nil, corrupt("%d bytes behind an encryption record", len(p))
	}
	return c, nil
}

// takeSealedKey takes the first string off p, a copy of it, if that can be a sealed data key.
func takeSealedKey(p []byte) (sealed, rest []byte, ok bool) {
	sealed, rest, ok = takeBytes(p)
	return bytes.Clone(sealed), rest, ok && len(sealed) > 0 && len(sealed) <= len(dataKey{})+keyring.Overhead
}

// appendTo appends the fields of encryption to a meta: the record, and what fields
// returns, encrypted. As long as that is locked it stays as it is.
func (c *crypt) appendTo(dst []byte, fields func() []byte) []byte {
	dst = appendField(dst, tagCrypt, c.append(nil))
	sealed := c.locked
	if sealed == nil {
		sealed = c.small().sealSmall(purposeFields, fields())
	}
	return appendField(dst, tagSealed, sealed)
}

// decodeField decodes a field that appendTo appended. Errors: ErrCorrupt.
func (c *crypt) decodeField(tag byte, v []byte) error {
	switch {
	case c != nil && tag == tagCrypt:
		decoded, err := decodeCrypt(v)
		if err == nil {
			*c = *decoded
		}
		return err
	case c != nil && tag == tagSealed && len(v) >= smallOverhead:
		c.locked = append([]byte(nil), v...)
		return nil
	}
	return corrupt("field %#x of encryption", tag)
}

// complete refuses a meta that said it was encrypted and lacks what that takes. A
// nil crypt is of one that did not. Errors: ErrCorrupt.
func (c *crypt) complete() error {
	if c != nil && (c.Kind == NoSSE || c.locked == nil) {
		return corrupt("encrypted, but without a record or sealed fields")
	}
	return nil
}

// context is what the data key is sealed for.
func (c *crypt) context() string {
	id := hex.EncodeToString(c.id[:])
	switch c.Kind {
	case SSES3:
		return "sse-s3/" + id
	case SSEKMS:
		return "sse-kms/" + id + "/" + c.KeyID + "/" + c.Context
	}
	return "sse-c/" + id
}

// ring returns what seals the data key, and the name of the key. Errors: ErrNoMasterKey.
func (s *Service) ring(c *crypt, customer *CustomerKey) (*keyring.Ring, string, error) {
	if c.Kind == SSEC {
		r, err := keyring.New(keyring.Key{Name: "customer", Secret: *customer})
		return r, "customer", err
	}
	if c.Kind == SSEKMS && s.o.KMSKeys != nil {
		return s.o.KMSKeys, c.KeyID, nil
	}
	if s.o.Keys == nil {
		return nil, "", ErrNoMasterKey
	}
	return s.o.Keys, s.o.Keys.Names()[0], nil
}

// newCrypt returns a new data key, sealed. Errors: ErrNoMasterKey, ErrNoSuchKMSKey,
// ErrKMSKeyRequired, ErrKeyRequired.
func (s *Service) newCrypt(want SSE, customer *CustomerKey) (*crypt, error) {
	return s.sealKey(newDataKey(), want, customer)
}

// sealKey seals a data key anew.
func (s *Service) sealKey(k *dataKey, want SSE, customer *CustomerKey) (*crypt, error) {
	c := &crypt{SSE: want, key: k}
	if want.Kind != SSEKMS {
		c.SSE = SSE{Kind: want.Kind}
	}
	rand.Read(c.id[:]) // never fails
	var err error
	switch {
	case want.Kind == SSEC && customer == nil:
		return nil, ErrKeyRequired
	case want.Kind == SSEKMS:
		if c.KeyID, err = s.kmsKey(want.KeyID); err != nil {
			return nil, err
		}
	}
	ring, name, err := s.ring(c, customer)
	if err != nil {
		return nil, err
	}
	if c.sealed, err = ring.SealWith(name, c.context(), k[:]); err != nil {
		return nil, err
	}
	return c, s.setMask(c)
}

// kmsKey returns the name of a KMS key that a request names. Errors:
// ErrNoSuchKMSKey, ErrKMSKeyRequired.
func (s *Service) kmsKey(id string) (string, error) {
	if id == "" {
		id = s.o.DefaultKMSKey
	}
	if id == "" {
		return "", ErrKMSKeyRequired
	}
	if len(id) > MaxKMSKeyIDBytes {
		return "", &KMSKeyError{KeyID: id[:64]}
	}
	if s.o.KMSKeys == nil {
		return id, nil
	}
	name := id
	if strings.HasPrefix(name, "arn:") {
		name = name[strings.LastIndexByte(name, ':')+1:]
		name = strings.TrimPrefix(name, "key/")
	}
	name = strings.TrimPrefix(name, "alias/")
	for _, known := range s.o.KMSKeys.Names() {
		if known == name {
			return name, nil
		}
	}
	return "", &KMSKeyError{KeyID: id}
}

// openKey opens the data key. Errors: ErrKeyRequired, ErrKeyNotApplicable,
// ErrWrongKey; keyring.ErrNoKey when the key that sealed it is gone, ErrCorrupt.
func (s *Service) openKey(c *crypt, customer *CustomerKey) error {
	switch {
	case (customer != nil) != (c.Kind == SSEC):
		if customer == nil {
			return ErrKeyRequired
		}
		return ErrKeyNotApplicable
	case c.key != nil:
		return s.openFields(c)
	}
	ring, _, err := s.ring(c, customer)
	if err != nil {
		return err
	}
	p, err := ring.Open(c.context(), c.sealed)
	switch {
	case errors.Is(err, keyring.ErrSealed) && c.Kind == SSEC:
		return ErrWrongKey
	case errors.Is(err, keyring.ErrSealed) || err == nil && len(p) != len(dataKey{}):
		return fmt.Errorf("data key of %v does not open: %w", c.Kind, ErrCorrupt)
	case err != nil:
		return fmt.Errorf("open data key of %v: %w", c.Kind, err)
	}
	c.key = (*dataKey)(p)
	if err := s.openFields(c); err != nil {
		return err
	}
	return s.setMask(c)
}

// fieldsContext is what the key of the fields is sealed for.
func (c *crypt) fieldsContext() string { return "sse-c-fields/" + hex.EncodeToString(c.id[:]) }

// addFieldsKey gives the encryption under a customer's key one of the store's own for the fields, if
// there is a master key.
func (s *Service) addFieldsKey(c *crypt) error {
	if s.o.Keys == nil {
		return nil
	}
	c.fields = newDataKey()
	return s.sealFieldsKey(c)
}

// sealFieldsKey seals the key of the fields by the first master key.
func (s *Service) sealFieldsKey(c *crypt) (err error) {
	c.sealedFields, err = s.o.Keys.SealWith(s.o.Keys.Names()[0], c.fieldsContext(), c.fields[:])
	return err
}

// openFields opens the key of the fields, if there is one. Errors: ErrNoMasterKey,
// keyring.ErrNoKey when the key that sealed it is gone, ErrCorrupt.
func (s *Service) openFields(c *crypt) error {
	switch {
	case c.sealedFields == nil || c.fields != nil:
		return nil
	case s.o.Keys == nil:
		return ErrNoMasterKey
	}
	p, err := s.o.Keys.Open(c.fieldsContext(), c.sealedFields)
	switch {
	case errors.Is(err, keyring.ErrSealed) || err == nil && len(p) != len(dataKey{}):
		return fmt.Errorf("key of fields does not open: %w", ErrCorrupt)
	case err != nil:
		return fmt.Errorf("open key of fields: %w", err)
	}
	c.fields = (*dataKey)(p)
	return nil
}

// unlock opens what of an entry is encrypted. Errors: those of openKey.
func (s *Service) unlock(e *Entry, customer *CustomerKey) error {
	c := e.crypt
	if c == nil {
		return checkCustomer(nil, customer)
	}
	if err := s.openKey(c, customer); err != nil {
		return err
	}
	return e.openLocked()
}

// unlockFields is unlock without the customer's key where that is not needed for the fields.
func (s *Service) unlockFields(e *Entry, customer *CustomerKey) error {
	if c := e.crypt; customer != nil || c == nil || c.sealedFields == nil {
		return s.unlock(e, customer)
	} else if err := s.openFields(c); err != nil {
		return err
	}
	return e.openLocked()
}

// openLocked opens the fields; their key is open.
func (e *Entry) openLocked() error {
	c := e.crypt
	if c.locked == nil {
		return nil
	}
	p, err := c.small().openSmall(purposeFields, c.locked)
	if err == nil {
		err = e.decodeFields(p, false, true)
	}
	if err != nil {
		return err
	}
	if c.locked = nil; !e.pages.paged() { // the ETag of pages is no MD5
		e.ETag = c.masked(e.ETag)
	}
	return nil
}

// unlockUpload is unlock for an upload.
func (s *Service) unlockUpload(u *uploadRecord, customer *CustomerKey) error {
	c := u.crypt
	if c == nil {
		return checkCustomer(nil, customer)
	}
	if err := s.openKey(c, customer); err != nil {
		return err
	}
	return u.openLocked()
}

// unlockUploadFields is unlockUpload without the customer's key where that is not needed for the fields.
func (s *Service) unlockUploadFields(u *uploadRecord, customer *CustomerKey) error {
	if c := u.crypt; customer != nil || c == nil || c.sealedFields == nil {
		return s.unlockUpload(u, customer)
	} else if err := s.openFields(c); err != nil {
		return err
	}
	return u.openLocked()
}

// openLocked opens the fields; their key is open.
func (u *uploadRecord) openLocked() error {
	c := u.crypt
	if c.locked == nil {
		return nil
	}
	p, err := c.small().openSmall(purposeFields, c.locked)
	if err == nil {
		err = eachField(p, u.decodeField)
	}
	if err == nil {
		c.locked = nil
	}
	return err
}

// checkCustomer refuses a customer's key where nothing is encrypted.
func checkCustomer(c *crypt, customer *CustomerKey) error {
	if c == nil && customer != nil {
		return ErrKeyNotApplicable
	}
	return nil
}

// setMask sets the mask of SSE-S3: the id encrypted under a key that depends on the
// master key that sealed the data key. So a listing need not open data keys.
func (s *Service) setMask(c *crypt) error {
	if c.Kind != SSES3 {
		return nil
	}
	if s.o.Keys == nil {
		return ErrNoMasterKey
	}
	name, err := keyring.Sealer(c.sealed)
	if err != nil {
		return fmt.Errorf("sealed data key: %w: %w", err, ErrCorrupt)
	}
	block, err := s.masks.get(s.o.Keys, name)
	if err != nil {
		return err
	}
	block.Encrypt(c.mask[:], c.id[:])
	return nil
}

// maskCiphers has the ciphers of masks by master key. The zero value is ready. Safe
// for concurrent use.
type maskCiphers struct{ byName sync.Map }

func (m *maskCiphers) get(ring *keyring.Ring, name string) (cipher.Block, error) {
	if b, ok := m.byName.Load(name); ok {
		return b.(cipher.Block), nil
	}
	key, err := ring.Subkey(name, "sse-s3-etag")
	if err != nil {
		return nil, fmt.Errorf("open ETag: %w", err)
	}
	b, err := aes.NewCipher(key[:])
	if err != nil {
		panic("BUG: " + err.Error()) // only of a key of another length
	}
	m.byName.Store(name, b)
	return b, nil
}

// masked returns an ETag with its sum hidden, or shown again.
func (c *crypt) masked(t ETag) ETag {
	for i := range t.Sum {
		t.Sum[i] ^= c.mask[i]
	}
	return t
}

// readHead decodes the head of an object's meta, with the ETag that people see: that
// of SSE-S3 is masked. It allocates nothing unless the object is encrypted or corrupt.
func (s *Service) readHead(h *metaHead, meta []byte) error {
	fields, err := h.decode(meta, true)
	if err != nil || h.flags&flagEncrypted == 0 {
		return err
	}
	return s.showETag(h, fields)
}

// shownETag returns the ETag of a version that people see.
func (s *Service) shownETag(f *found) (ETag, error) {
	h := f.head
	err := s.readHead(&h, f.rec.Meta)
	return h.tag(f.lsn), err
}

func (s *Service) showETag(h *metaHead, fields []byte) error {
	return eachField(fields, func(tag byte, v []byte) error {
		if tag != tagCrypt {
			return nil
		}
		c, err := decodeCrypt(v)
		if err == nil {
			err = s.setMask(c)
		}
		if err == nil {
			h.etag = c.masked(h.etag)
		}
		return err
	})
}

// tag returns the sum of the ETag of a body with an MD5: the MD5 itself with SSE-S3;
// otherwise what tells nothing about the body without the data key.
func (c *crypt) tag(md5 [16]byte) [16]byte {
	if c == nil || c.Kind == SSES3 {
		return md5
	}
	sum := c.key.derive(purposeETag, 0, md5[:])
	return [16]byte(sum[:16])
}
