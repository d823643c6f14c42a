package layers

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// TimelineID names a timeline. Ids are never reused; zero is no timeline.
type TimelineID uint64

// Namespace divides the keys of one timeline, in the order of DESIGN 6.
type Namespace byte

// The namespaces. Uploads is not inherited by forks and has no history.
const (
	NamespaceConfig   Namespace = 0x10
	NamespaceMerges   Namespace = 0x18 // what was merged in, by timeline; written by the engine itself
	NamespaceObjects  Namespace = 0x20
	NamespaceVersions Namespace = 0x30
	NamespacePages    Namespace = 0x40
	NamespaceK2V      Namespace = 0x50
	NamespaceUploads  Namespace = 0x60
)

// keyPrefixLen is the length of the fixed part of a Key: timeline and namespace.
const keyPrefixLen = 9

// MaxUserKeyBytes bounds the user part of a Key. S3 keys end at 1,024 bytes;
// the rest is room for the composite keys of namespaces.
const MaxUserKeyBytes = 4096

// Key is a composite key: timeline (8 bytes, big-endian), namespace (1 byte),
// user key. Byte order is (timeline, namespace, user key) order.
type Key []byte

// AppendKey appends the composite key to dst.
func AppendKey(dst []byte, t TimelineID, ns Namespace, user []byte) Key {
	dst = binary.BigEndian.AppendUint64(dst, uint64(t))
	dst = append(dst, byte(ns))
	return append(dst, user...)
}

// MakeKey returns the composite key in a new slice.
func MakeKey(t TimelineID, ns Namespace, user []byte) Key {
	return AppendKey(make([]byte, 0, keyPrefixLen+len(user)), t, ns, user)
}

// Timeline returns the timeline part.
func (k Key) Timeline() TimelineID { return TimelineID(binary.BigEndian.Uint64(k)) }

// Namespace returns the namespace part.
func (k Key) Namespace() Namespace { return Namespace(k[8]) }

// User returns the user part; it aliases k.
func (k Key) User() []byte { return k[keyPrefixLen:] }

// Suffix returns namespace and user key, what is the same for one user key in
// every timeline; it aliases k.
func (k Key) Suffix() []byte { return k[8:] }

// Valid reports whether k has its fixed part and a user part within bounds.
func (k Key) Valid() bool {
	return len(k) >= keyPrefixLen && len(k) <= keyPrefixLen+MaxUserKeyBytes
}

// Compare orders keys by bytes.
func (k Key) Compare(o Key) int { return bytes.Compare(k, o) }

func (k Key) String() string {
	if len(k) < keyPrefixLen {
		return fmt.Sprintf("bad key %x", []byte(k))
	}
	return fmt.Sprintf("%d/%02x/%q", k.Timeline(), byte(k.Namespace()), k.User())
}

// KeyRange is half-open: [Start, End). A nil End is past every key.
type KeyRange struct{ Start, End Key }

// Contains reports whether k lies in r.
func (r KeyRange) Contains(k Key) bool {
	return bytes.Compare(k, r.Start) >= 0 && (r.End == nil || bytes.Compare(k, r.End) < 0)
}

// Overlaps reports whether r and o share a key.
func (r KeyRange) Overlaps(o KeyRange) bool {
	return (r.End == nil || bytes.Compare(o.Start, r.End) < 0) &&
		(o.End == nil || bytes.Compare(r.Start, o.End) < 0)
}
