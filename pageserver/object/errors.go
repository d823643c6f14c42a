package object

import (
	"errors"
	"fmt"

	"stemma/timeline"
	"stemma/wal"
)

// Errors that callers map to S3 codes; each names its code. Those of timeline
// (ErrNoSuchBucket, ErrBucketExists, ErrBucketNotEmpty, ErrFuture,
// *BelowHorizonError, ErrSlowDown), storefs.ErrDiskFull, *wal.ReadOnlyError and
// whatever a body's reader returns pass through, wrapped.
var (
	// ErrNoSuchKey: NoSuchKey.
	ErrNoSuchKey = errors.New("object: no such key")
	// ErrNoSource: InvalidRequest; the bucket is no fork, or what it was forked from has been deleted.
	ErrNoSource = errors.New("object: bucket has no source")
	// ErrNoSuchUpload: NoSuchUpload. The upload never was, was aborted or was completed.
	ErrNoSuchUpload = errors.New("object: no such upload")
	// ErrPreconditionFailed: PreconditionFailed, 412.
	ErrPreconditionFailed = errors.New("object: precondition failed")
	// ErrNotModified: 304 without a body. It comes as *NotModifiedError.
	ErrNotModified = errors.New("object: not modified")
	// ErrInvalidRange: InvalidRange, 416. It comes as *RangeError.
	ErrInvalidRange = errors.New("object: range not satisfiable")
	// ErrInvalidCopyRange: InvalidArgument; a copy source range that is not bytes=first-last.
	ErrInvalidCopyRange = errors.New("object: malformed range of a copy source")
	// ErrInvalidPartNumber: InvalidPart; the object has no such part.
	ErrInvalidPartNumber = errors.New("object: no such part of the object")
	// ErrRangeAndPart: InvalidRequest; Range and partNumber exclude each other.
	ErrRangeAndPart = errors.New("object: both a range and a part number")
	// ErrBadDigest: BadDigest; the body does not have the MD5 or checksum that was promised.
	ErrBadDigest = errors.New("object: digest of the body differs")
	// ErrInvalidDigest: InvalidDigest; a Content-MD5 that is no MD5.
	ErrInvalidDigest = errors.New("object: Content-MD5 is malformed")
	// ErrUnknownAlgorithm: InvalidRequest; a checksum algorithm that is not known here.
	ErrUnknownAlgorithm = errors.New("object: unknown checksum algorithm")
	// ErrInvalidChecksum: InvalidRequest; a checksum value that cannot be one.
	ErrInvalidChecksum = errors.New("object: checksum value is malformed")
	// ErrChecksumType: InvalidRequest; algorithm and type that do not go together,
	// or another algorithm than the upload's.
	ErrChecksumType = errors.New("object: checksum algorithm or type does not fit")
	// ErrIncompleteBody: IncompleteBody; fewer or more bytes than promised.
	ErrIncompleteBody = errors.New("object: body is not as long as promised")
	// ErrEntityTooLarge: EntityTooLarge.
	ErrEntityTooLarge = errors.New("object: body too large")
	// ErrEntityTooSmall: EntityTooSmall; comes as *PartError.
	ErrEntityTooSmall = errors.New("object: part too small")
	// ErrInvalidPart: InvalidPart; comes as *PartError.
	ErrInvalidPart = errors.New("object: part missing or with another ETag or checksum")
	// ErrInvalidPartOrder: InvalidPartOrder.
	ErrInvalidPartOrder = errors.New("object: parts not in ascending order")
	// ErrMalformedParts: MalformedXML; no parts, or more than 10,000.
	ErrMalformedParts = errors.New("object: bad list of parts")
	// ErrObjectSize: InvalidRequest; the parts do not add up to the size promised.
	ErrObjectSize = errors.New("object: parts do not add up to the size promised")
	// ErrPartNumber: InvalidArgument; part numbers go from 1 to 10,000.
	ErrPartNumber = errors.New("object: part number out of range")
	// ErrWriteOffset: InvalidWriteOffset; the offset of an append is not the size of the object.
	ErrWriteOffset = errors.New("object: write offset is not the size of the object")
	// ErrAppendChanges: InvalidRequest; an append that would change metadata.
	ErrAppendChanges = errors.New("object: an append cannot change metadata")
	// ErrTokenReused: IdempotencyParameterMismatch; the token was used for another rename.
	ErrTokenReused = errors.New("object: token of another rename")
	// ErrTooManyParts: TooManyParts; an object has at most 10,000 parts.
	ErrTooManyParts = errors.New("object: too many parts")
	// ErrConflict: ConditionalRequestConflict, 409; the object changed meanwhile, try again.
	ErrConflict = errors.New("object: conflict with another request")
	// ErrSettingsTooLarge: InvalidRequest; all settings of the bucket together are too long.
	ErrSettingsTooLarge = errors.New("object: settings too large")
	// ErrSelfCopy: InvalidRequest; a copy onto itself that changes nothing.
	ErrSelfCopy = errors.New("object: copy onto itself without a change")
	// ErrTooManyKeys: MalformedXML; more than 1,000 keys in one DeleteMany.
	ErrTooManyKeys = errors.New("object: too many keys")
	// ErrKeyTooLong: KeyTooLongError; also of an empty key.
	ErrKeyTooLong = errors.New("object: key is empty or longer than 1,024 bytes")
	// ErrReservedKey: MethodNotAllowed; the key begins with PastPrefix.
	ErrReservedKey = errors.New("object: key begins with .snapshot/")
	// ErrMetadataTooLarge: MetadataTooLarge.
	ErrMetadataTooLarge = errors.New("object: metadata too large")
	// ErrInvalidRedirect: InvalidRedirectLocation; it is neither a path nor a URL of http.
	ErrInvalidRedirect = errors.New("object: bad website redirect location")
	// ErrInvalidStorageClass: InvalidStorageClass.
	ErrInvalidStorageClass = errors.New("object: no such storage class")
	// ErrInvalidToken: InvalidArgument; a continuation token that no listing gave.
	ErrInvalidToken = errors.New("object: bad continuation token")
	// ErrInvalidMarker: InvalidArgument; an upload id marker that is no upload id.
	ErrInvalidMarker = errors.New("object: bad upload id marker")
	// ErrInvalidBucketName: InvalidBucketName.
	ErrInvalidBucketName = errors.New("object: invalid bucket name")
	// ErrBucketHasForks: BucketNotEmpty; living forks branch from the bucket. It is
	// also timeline.ErrBucketNotEmpty.
	ErrBucketHasForks = fmt.Errorf("object: bucket has forks: %w", timeline.ErrBucketNotEmpty)
	// ErrNotImplemented: NotImplemented; a condition that says nothing.
	ErrNotImplemented = errors.New("object: condition not supported here")
	// ErrNoSuchVersion: NoSuchVersion.
	ErrNoSuchVersion = errors.New("object: no such version")
	// ErrInvalidVersionID: InvalidArgument; no version id can look like that.
	ErrInvalidVersionID = errors.New("object: malformed version id")
	// ErrMarker: MethodNotAllowed; the version is a delete marker. It comes as *MarkerError
	// where that is read.
	ErrMarker = errors.New("object: version is a delete marker")
	// ErrLocked: AccessDenied; the version is retained or under legal hold.
	ErrLocked = errors.New("object: version is locked")
	// ErrNoObjectLock: InvalidRequest; the bucket has no object lock.
	ErrNoObjectLock = errors.New("object: bucket has no object lock")
	// ErrNoLockConfig: ObjectLockConfigurationNotFoundError; the same, of GetLockConfig.
	ErrNoLockConfig = errors.New("object: no object lock configuration")
	// ErrNoLock: NoSuchObjectLockConfiguration; the version has no retention, or no legal hold.
	ErrNoLock = errors.New("object: version has no such lock")
	// ErrRetainUntil: InvalidArgument; a version cannot be retained until a time in the past.
	ErrRetainUntil = errors.New("object: retention ends in the past")
	// ErrKeyRequired: InvalidRequest; encrypted under a customer's key, which was not given.
	ErrKeyRequired = errors.New("object: encrypted under a customer's key, which is missing")
	// ErrKeyNotApplicable: InvalidRequest; a customer's key for what has none.
	ErrKeyNotApplicable = errors.New("object: not encrypted under a customer's key")
	// ErrWrongKey: InvalidRequest; not the customer's key that it was encrypted under.
	ErrWrongKey = errors.New("object: not the key that it was encrypted under")
	// ErrNoSuchKMSKey: KMS.NotFoundException; comes as *KMSKeyError.
	ErrNoSuchKMSKey = errors.New("object: no such KMS key")
	// ErrKMSKeyRequired: InvalidArgument; SSE-KMS without a key, and none is the default.
	ErrKMSKeyRequired = errors.New("object: SSE-KMS needs the id of a key")
	// ErrAppendClear: InvalidRequest; an object that is not encrypted, in a bucket that encrypts.
	ErrAppendClear = errors.New("object: append to an object in the clear where the bucket encrypts")
	// ErrNoMasterKey: NotImplemented; the server has no master key to encrypt under.
	ErrNoMasterKey = errors.New("object: no master key")
	// ErrBadStrategy: InvalidArgument; a merge strategy that there is not, or for no keys.
	ErrBadStrategy = errors.New("object: bad merge strategy")
	// ErrCorrupt marks records that this package did not write.
	ErrCorrupt = errors.New("object: corrupt")
)

// NotModifiedError says that the caller's copy is good; its entry has the
// headers of the 304.
type NotModifiedError struct {
	Entry *Entry
	At    wal.LSN // what was read at
}

func (e *NotModifiedError) Error() string { return ErrNotModified.Error() }

// Is makes it ErrNotModified.
func (e *NotModifiedError) Is(target error) bool { return target == ErrNotModified }

// RangeError says that a range has no byte of an object of Size bytes.
type RangeError struct {
	Range string // as it was asked for
	Size  uint64
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("range %q of %d bytes: %v", e.Range, e.Size, ErrInvalidRange)
}

// Unwrap returns ErrInvalidRange.
func (e *RangeError) Unwrap() error { return ErrInvalidRange }

// PartError says which part an upload cannot be completed with.
type PartError struct {
	Err    error // ErrInvalidPart or ErrEntityTooSmall
	Number int
	ETag   string // as the caller gave it
	Size   uint64 // of the part, if it exists
}

func (e *PartError) Error() string {
	return fmt.Sprintf("part %d, ETag %q, %d bytes: %v", e.Number, e.ETag, e.Size, e.Err)
}

// Unwrap returns Err.
func (e *PartError) Unwrap() error { return e.Err }

// KMSKeyError names a KMS key that there is not.
type KMSKeyError struct {
	KeyID string // as it was asked for
}

func (e *KMSKeyError) Error() string { return fmt.Sprintf("key %q: %v", e.KeyID, ErrNoSuchKMSKey) }

// Unwrap returns ErrNoSuchKMSKey.
func (e *KMSKeyError) Unwrap() error { return ErrNoSuchKMSKey }
