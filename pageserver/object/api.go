package object

import (
	"io"
	"time"

	"stemma/timeline"
	"stemma/wal"
)

// Conditions are the conditional headers of a request; empty and zero ones are
// absent. IfMatch and IfNoneMatch are raw header values: lists of tags or "*".
//
// A write knows IfMatch and IfNoneMatch. IfMatch `""`, the tag without characters,
// means that the key must not exist; pass `""` for a header that was sent with an
// empty value. A delete knows IfMatch, MatchModified and MatchSize.
type Conditions struct {
	IfMatch           string
	IfNoneMatch       string
	IfModifiedSince   time.Time
	IfUnmodifiedSince time.Time
	MatchModified     time.Time // the second that the object was written in
	MatchSize         *uint64   // bytes
	// Bucket is the bucket that is meant, of a write that may take long: the name may
	// lead to another by then, which is timeline.ErrNoSuchBucket. Zero: any of the name.
	Bucket timeline.BucketID

	unchanged wal.LSN // of a write that builds upon that version; zero: it does not
}

// Expect says which checksum of a body is wanted, and what it must be.
type Expect struct {
	// Algorithm is computed and stored; NoChecksum means CRC64NVME, as S3 does.
	Algorithm Algorithm
	// Value is what it must be. Zero: not known, or only in a trailer.
	Value Checksum
	// Trailer is called once after the end of the body, if set, and returns what
	// the checksum must be, or the zero Checksum. Its error fails the write.
	Trailer func() (Checksum, error)
}

// PutInput says what Put stores.
type PutInput struct {
	// Body is read to its end, which lets it verify what it reads. Nil is empty.
	// An error of it fails the write and passes through.
	Body io.Reader
	// Size is how long it must be; -1 when that is not known.
	Size         int64
	Headers      Headers
	UserMeta     []Field
	Tags         []Field // by key
	StorageClass StorageClass
	ContentMD5   []byte // nil, or 16 bytes
	Checksum     Expect
	Cond         Conditions
	Lock         Lock // what is asked for; without a retention, the bucket's default
	Access
	// SSE is the encryption of the body; the bucket's default when it says nothing. CustomerKey
	// goes with SSEC and with nothing else, here and below.
	SSE         SSE
	CustomerKey *CustomerKey
}

// GetInput says what Get and Head read.
type GetInput struct {
	At      wal.LSN   // zero: the tip
	Version VersionID // zero: the current one
	Range   string    // raw Range header
	// IfRange is the raw If-Range header, and IfRangeTime the date if it is one.
	IfRange     string
	IfRangeTime time.Time
	PartNumber  int // from 1; zero: not asked for
	Cond        Conditions
	WithParts   bool // fill Entry.Parts
	// Allow, if set, says whether the caller may read the version, before anything is
	// said about it. Its error passes through.
	Allow func(*Entry) error
	// CustomerKey must be there iff the body is encrypted under one.
	CustomerKey *CustomerKey
	// Clear says to Head that what is encrypted of the entry is not wanted, ETag and
	// conditions included, so that no key is needed.
	Clear bool
}

// Object is what Get and Head found.
type Object struct {
	Entry
	// Offset and Length are the bytes that are served: all of them, or a range.
	Offset, Length uint64
	// Partial says that a range or part was asked for and applies: 206.
	Partial bool
	// ID is the version id; zero in a bucket that never had versioning.
	ID VersionID
	// At is the LSN that was read at.
	At wal.LSN
	// Body is nil after Head; otherwise the caller closes it.
	Body *Reader
}

// DeleteResult is what Delete did.
type DeleteResult struct {
	// LSN is the delete's commit, or what was read at when there was nothing to delete.
	LSN wal.LSN
	// Existed says that there was the version to be removed; without a version id, that
	// there was an object.
	Existed bool
	// ID is the version id that was given, or that of the delete marker that was made; zero: neither.
	ID VersionID
	// Marker says that ID is a delete marker, made or removed.
	Marker bool
	Err    error // only of DeleteMany
}

// DeleteKey is one key of DeleteMany.
type DeleteKey struct {
	Key     string
	Version VersionID  // zero: what is current
	Cond    Conditions // what is not there fails none
	Bypass  bool       // retention in the mode GOVERNANCE
}

// ListInput says what List lists.
type ListInput struct {
	At        wal.LSN // zero: the tip, or what Token carries
	Prefix    string
	Delimiter string
	// After is start-after of V2 and marker of V1: only keys above it, and not the
	// common prefix that it is. Ignored when Token is set.
	After   string
	Token   string // NextToken of the page before
	MaxKeys int    // keys and prefixes together; capped at MaxListKeys; zero: an empty page
	Full    bool   // ListEntry.Entry, too
}

// ListEntry is one key of a listing.
type ListEntry struct {
	Key          string
	Size         uint64
	ETag         ETag
	StorageClass StorageClass
	Algorithm    Algorithm // of its checksum
	Composite    bool      // see Checksum.Composite
	LSN          wal.LSN
	Owner        string // see Access
	// Entry is all of the version, where ListInput.Full asks for it.
	Entry *Entry
}

// Modified returns when the version was written, by the store clock.
func (e *ListEntry) Modified() time.Time { return e.LSN.Time() }

// ChecksumType returns COMPOSITE or FULL_OBJECT; empty without a checksum.
func (e *ListEntry) ChecksumType() string { return checksumType(e.Algorithm, e.Composite) }

// ListResult is one page. Entries and Prefixes are each in order.
type ListResult struct {
	Entries   []ListEntry
	Prefixes  []string
	Truncated bool
	// NextToken continues the listing at the same LSN; empty on the last page.
	NextToken string
	// NextMarker is the last key or prefix of a page that is not the last.
	NextMarker string
	LSN        wal.LSN // what was read at
}

// CopyInput says what Copy copies.
type CopyInput struct {
	SrcBucket, SrcKey string
	SrcAt             wal.LSN    // zero: the tip
	SrcVersion        VersionID  // zero: the current one
	SrcCond           Conditions // what fails is always ErrPreconditionFailed
	Cond              Conditions // of the destination, as for Put
	// Replace takes Headers and UserMeta instead of the source's. Without it only
	// Headers.WebsiteRedirect is taken, which a copy never inherits.
	Replace  bool
	Headers  Headers
	UserMeta []Field
	// ReplaceTags takes Tags instead of the source's.
	ReplaceTags  bool
	Tags         []Field
	StorageClass StorageClass // of the copy; never the source's
	Lock         Lock         // of the copy; never the source's
	Access                    // of the copy; never the source's
	// SrcAllow is GetInput.Allow of the source.
	SrcAllow func(*Entry) error
	// Algorithm other than the source's makes Copy read the body once to compute it.
	Algorithm Algorithm
	// SSE is the encryption of the copy. When it says nothing, and the bucket has no default, what
	// was encrypted by the store stays as it was, and what a customer's key encrypted
	// becomes SSE-S3.
	SSE            SSE
	CustomerKey    *CustomerKey
	SrcCustomerKey *CustomerKey // of the source, iff that is encrypted under one
}

// CopyResult is what Copy made.
type CopyResult struct {
	Entry
	SrcLSN wal.LSN   // version of the source that was copied
	SrcID  VersionID // of the source; zero in a bucket that never had versioning
}

// UploadInput describes a multipart upload; all but the checksum goes to the
// object that it becomes.
type UploadInput struct {
	Headers      Headers
	UserMeta     []Field
	Tags         []Field // by key
	StorageClass StorageClass
	Lock         Lock // see PutInput
	Access
	// Initiator is the canonical id of who begins the upload; empty: the owner.
	Initiator string
	// Algorithm of the parts' checksums. NoChecksum: CRC64NVME where parts bring none.
	Algorithm Algorithm
	// ChecksumType is COMPOSITE, FULL_OBJECT or empty for the algorithm's default.
	ChecksumType string
	// SSE is the encryption of the parts and of the object; the bucket's default when it says nothing.
	SSE         SSE
	CustomerKey *CustomerKey
}

// Upload is a multipart upload in progress.
type Upload struct {
	Key          string
	ID           string
	LSN          wal.LSN // of its creation
	StorageClass StorageClass
	Algorithm    Algorithm // that was asked for at creation; NoChecksum if none
	Composite    bool
	SSE          SSE
	Owner        string // see Access
	Initiator    string // canonical id; empty: the owner
}

// Initiated returns when the upload was created, by the store clock.
func (u *Upload) Initiated() time.Time { return u.LSN.Time() }

// ChecksumType returns COMPOSITE or FULL_OBJECT; empty when no algorithm was asked for.
func (u *Upload) ChecksumType() string { return checksumType(u.Algorithm, u.Composite) }

// PutPartInput says what PutPart stores.
type PutPartInput struct {
	Body       io.Reader // see PutInput
	Size       int64     // -1 when not known
	ContentMD5 []byte
	Checksum   Expect
	// CustomerKey must be the upload's, if that was created with one.
	CustomerKey *CustomerKey
}

// CopyPartInput says what CopyPart copies.
type CopyPartInput struct {
	SrcBucket, SrcKey string
	SrcAt             wal.LSN
	SrcVersion        VersionID // zero: the current one
	SrcCond           Conditions
	SrcAllow          func(*Entry) error // GetInput.Allow of the source
	Range             string             // raw x-amz-copy-source-range, bytes=first-last; empty: all
	CustomerKey       *CustomerKey       // see PutPartInput
	SrcCustomerKey    *CustomerKey       // of the source, iff that is encrypted under one
}

// Part is one uploaded part.
type Part struct {
	Number   int
	Size     uint64
	ETag     ETag
	Checksum Checksum // zero: none
	LSN      wal.LSN
	SrcLSN   wal.LSN   // of CopyPart: the version of the source
	SrcID    VersionID // of CopyPart: see CopyResult
	// SSE is the upload's; not set by ListParts.
	SSE SSE
}

// Modified returns when the part was uploaded, by the store clock.
func (p *Part) Modified() time.Time { return p.LSN.Time() }

// CompletePart names one part of a complete.
type CompletePart struct {
	Number   int
	ETag     string   // quoted or not
	Checksum Checksum // zero: not given
}

// CompleteInput says what an upload becomes.
type CompleteInput struct {
	Parts []CompletePart // ascending by number; of some with the same number the last counts
	Cond  Conditions     // of the object, as for Put
	// Checksum is what that of the object must be; zero: not given.
	Checksum Checksum
	// ChecksumType is COMPOSITE or FULL_OBJECT, and must be that of the upload; empty: not given.
	ChecksumType string
	// Size is what the parts must add up to; -1: not given.
	Size        int64
	CustomerKey *CustomerKey // see PutPartInput
}

// ListPartsInput says which parts ListParts lists.
type ListPartsInput struct {
	After int // part number marker
	Max   int // capped at MaxListKeys; zero: an empty page
	// CustomerKey is that of the upload; without it the parts have no checksums here.
	CustomerKey *CustomerKey
}

// PartList is one page of the parts of an upload.
type PartList struct {
	Upload
	Parts     []Part
	Truncated bool
	Next      int // marker of the next page: the last number of this one; zero: it is empty
}

// ListUploadsInput says which uploads ListUploads lists.
type ListUploadsInput struct {
	Prefix    string
	Delimiter string
	KeyMarker string
	// UploadIDMarker, with KeyMarker, goes on after that upload of the key;
	// without it after all uploads of the key.
	UploadIDMarker string
	Max            int // uploads and prefixes together; capped at MaxListKeys
}

// UploadList is one page of the uploads of a bucket, by key, then by creation.
type UploadList struct {
	Uploads            []Upload
	Prefixes           []string
	Truncated          bool
	NextKeyMarker      string
	NextUploadIDMarker string
}
