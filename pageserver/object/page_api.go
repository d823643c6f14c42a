package object

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"stemma/wal"
)

// Errors of writes in place.
var (
	// ErrPageSize: InvalidArgument; no power of two from 4 KiB to 1 MiB.
	ErrPageSize = errors.New("object: page size out of range")
	// ErrInvalidPageOp: InvalidArgument; ranges that overflow, or no change at all.
	ErrInvalidPageOp = errors.New("object: invalid change in place")
	// ErrOffset: comes as *OffsetError. An append does not begin at the end.
	ErrOffset = errors.New("object: the object does not end at the offset")
	// ErrNotInPlace: InvalidRequest; the object cannot be written in place, as one in the clear where the bucket encrypts.
	ErrNotInPlace = errors.New("object: the object cannot be written in place")
)

// OffsetError says where an object ends.
type OffsetError struct{ Want, Size uint64 }

func (e *OffsetError) Error() string {
	return fmt.Sprintf("the object ends at %d, not at %d: %v", e.Size, e.Want, ErrOffset)
}

// Unwrap returns ErrOffset.
func (e *OffsetError) Unwrap() error { return ErrOffset }

// PageOpKind says what a PageOp does.
type PageOpKind byte

// The kinds.
const (
	// PageWrite writes Data at Off. Beyond the end the object grows, by zeros up to Off.
	PageWrite PageOpKind = iota + 1
	// PageZero makes Len bytes from Off on zeros that take no space; what lies beyond
	// the end is left out.
	PageZero
	// PageResize makes the object Off bytes long: what is added are zeros that take no
	// space.
	PageResize
	// PageMeta makes Data the user metadata Name; none removes it. A write that does nothing else does not open the
	// object for writing in place.
	PageMeta
)

// PageOp is one change of an object's bytes.
type PageOp struct {
	Kind PageOpKind
	Off  uint64
	Len  uint64
	Data []byte // kept until WritePages returns
	Name string // of PageMeta: in lower case, without x-amz-meta-
}

// PageInput says what WritePages does to an object, in one commit.
type PageInput struct {
	// Ops are carried out one after the other.
	Ops     []PageOp
	IfMatch string  // raw header
	IfLSN   wal.LSN // the version must be of this commit; zero: any
	// IfSize is how long the object must be before; nil: any. Otherwise the error is an *OffsetError.
	IfSize *uint64
	// Create makes the object, empty, if there is none; nil: then the error is
	// ErrNoSuchKey.
	Create *PageCreate
	// PageBytes is the page size of an object that is not written in place yet; zero:
	// that of the bucket's settings, and else DefaultPageBytes.
	PageBytes int
	// SSE is how the object is to be encrypted; one that is there must be so. Zero: as it is, and what is created as the bucket has it by default.
	// CustomerKey is that of SSE-C.
	SSE         SSE
	CustomerKey *CustomerKey
}

// PageCreate describes an object that a write in place makes.
type PageCreate struct {
	Headers      Headers
	UserMeta     []Field
	StorageClass StorageClass
	// Exclusive has the write fail with ErrPreconditionFailed if there is an object.
	Exclusive bool
}

// NewPageCreate is what makes an object of no known type.
func NewPageCreate(exclusive bool) *PageCreate {
	return &PageCreate{Exclusive: exclusive, Headers: Headers{ContentType: "application/octet-stream"}}
}

// PageResult is what an object is after a write in place.
type PageResult struct {
	LSN       wal.LSN
	ETag      ETag
	Size      uint64
	PageBytes int    // zero: it is not written in place; only its metadata was changed
	File      string // see Entry.File
}

// MaxPageOpBytes bounds the bytes of one WritePages.
const MaxPageOpBytes = 64 << 20

// metaOnly reports whether the bytes of the object stay as they are.
func (in *PageInput) metaOnly() bool {
	for i := range in.Ops {
		if in.Ops[i].Kind != PageMeta {
			return false
		}
	}
	return len(in.Ops) > 0
}

// metaName and metaText say what user metadata can be sent as headers.
func metaName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

func metaText(s string) bool {
	return utf8.ValidString(s) && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// check refuses what is wrong whatever the object is.
func (in *PageInput) check() error {
	if in.PageBytes != 0 && !ValidPageBytes(in.PageBytes) {
		return fmt.Errorf("pages of %d bytes: %w", in.PageBytes, ErrPageSize)
	}
	if len(in.Ops) == 0 && in.Create == nil {
		return fmt.Errorf("no change: %w", ErrInvalidPageOp)
	}
	total := 0
	for i := range in.Ops {
		o := &in.Ops[i]
		n := o.Len
		switch o.Kind {
		case PageWrite:
			n = uint64(len(o.Data))
			total += len(o.Data)
		case PageZero:
		case PageResize:
			n = 0
		case PageMeta:
			if !metaName(o.Name) || !metaText(string(o.Data)) {
				return fmt.Errorf("metadata %q: %w", o.Name, ErrInvalidPageOp)
			}
			continue
		default:
			return fmt.Errorf("change of kind %d: %w", o.Kind, ErrInvalidPageOp)
		}
		if o.Kind != PageZero && (o.Off > maxObjectBytes || n > maxObjectBytes-o.Off) {
			return fmt.Errorf("%d bytes at %d: %w", n, o.Off, ErrEntityTooLarge)
		}
	}
	if total > MaxPageOpBytes {
		return fmt.Errorf("%d bytes in one write, at most %d: %w", total, MaxPageOpBytes, ErrEntityTooLarge)
	}
	if c := in.Create; c != nil {
		if c.StorageClass >= numStorageClasses {
			return ErrInvalidStorageClass
		}
		return checkDescription(&c.Headers, c.UserMeta, nil)
	}
	return nil
}
