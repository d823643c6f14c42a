package object

import (
	"crypto/md5"
	"encoding/hex"
	"time"

	"stemma/wal"
)

// Entry describes one version of an object.
type Entry struct {
	Size         uint64 // bytes of the body
	ETag         ETag
	StorageClass StorageClass
	Checksum     Checksum // zero: none
	Headers      Headers
	UserMeta     []Field // in the order given; keys in lower case, without x-amz-meta-
	Tags         []Field // by key
	// PartsCount is the number of parts that the object was made of, zero when it
	// was not a multipart upload.
	PartsCount int
	// Parts is only filled where it was asked for.
	Parts []PartInfo
	// Lock keeps the version from deletion.
	Lock Lock
	// Access is whose the version is, and its ACL.
	Access
	// Versioned says that the version has an id of its own, its LSN; otherwise it is
	// the null version.
	Versioned bool
	// LSN is the commit that made the version, and its version id. What is no part
	// of the version, such as its tags, may be of a later commit.
	LSN wal.LSN

	// uploadID is the multipart upload that the object was made by, so that a
	// repeated complete finds its result.
	uploadID uploadID
	parts    partTable
	crypt    *crypt // nil: not encrypted
	// pages says how the body is found, if the object is written in place.
	pages pageFile
	// base is what lies under the pages of a copy that is not committed yet.
	base *pageBase
	// made is LSN in a record of a later commit, zero otherwise.
	made    wal.LSN
	renamed renameToken // by which rename it got its key
	// inherited is what of the version a fork had from its source.
	inherited inheritance
}

// ID returns the version id.
func (e *Entry) ID() VersionID {
	if !e.Versioned {
		return NullVersion
	}
	return VersionID(e.LSN)
}

// SSE returns how the body is encrypted.
func (e *Entry) SSE() SSE {
	if e.crypt == nil {
		return SSE{}
	}
	return e.crypt.SSE
}

// File identifies what is written in place: writes and renames leave it as it is, whatever replaces the object does not. Empty: the
// object was never written in place.
func (e *Entry) File() string {
	if !e.pages.paged() {
		return ""
	}
	return hex.EncodeToString(e.pages.id[:])
}

// Modified returns when the version was written, by the store clock.
func (e *Entry) Modified() time.Time { return e.LSN.Time() }

// Headers are the content headers that are kept with an object and given back
// as they came. An empty one is absent.
type Headers struct {
	ContentType        string
	ContentEncoding    string // without aws-chunked
	ContentDisposition string
	ContentLanguage    string
	CacheControl       string
	Expires            string
	WebsiteRedirect    string // x-amz-website-redirect-location
}

// Field is one pair of user metadata, or a tag.
type Field struct{ Key, Value string }

// PartInfo describes one part of an object.
type PartInfo struct {
	Number   int
	Size     uint64
	MD5      [md5.Size]byte // of its ETag
	Checksum Checksum       // zero: none
}

// Limits of S3.
const (
	MaxKeyBytes      = 1024
	MaxUserMetaBytes = 2048    // keys and values together
	MaxHeaderBytes   = 8192    // all of Headers together
	MaxPartNumber    = 10_000  // and the most parts of an object
	MinPartBytes     = 5 << 20 // of every part but the last, by default
	MaxPartBytes     = 5 << 30 // of a part
	MaxListKeys      = 1000    // of a page of any listing
	MaxDeleteKeys    = 1000    // of one DeleteMany
)

// StorageClass is kept and given back; it changes nothing.
type StorageClass byte

// The storage classes. The zero value is STANDARD.
const (
	Standard StorageClass = iota
	ReducedRedundancy
	StandardIA
	OneZoneIA
	IntelligentTiering
	Glacier
	DeepArchive
	Outposts
	GlacierIR
	Snow
	ExpressOneZone
	FSxOpenZFS
	numStorageClasses
)

var storageClassNames = [numStorageClasses]string{
	"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER",
	"DEEP_ARCHIVE", "OUTPOSTS", "GLACIER_IR", "SNOW", "EXPRESS_ONEZONE", "FSX_OPENZFS",
}

// String returns the name that S3 uses.
func (c StorageClass) String() string {
	if c >= numStorageClasses {
		return "UNKNOWN"
	}
	return storageClassNames[c]
}

// ParseStorageClass returns the class of a name; the empty name is STANDARD.
// Errors: ErrInvalidStorageClass.
func ParseStorageClass(name string) (StorageClass, error) {
	if name == "" {
		return Standard, nil
	}
	for i, n := range storageClassNames {
		if n == name {
			return StorageClass(i), nil
		}
	}
	return 0, ErrInvalidStorageClass
}
