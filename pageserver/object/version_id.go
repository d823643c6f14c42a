package object

import (
	"fmt"
	"math"
	"strconv"

	"stemma/wal"
)

// VersionID names one version of a key: by the commit that made it, or as the null
// version. Zero names the current one, whichever that is.
type VersionID uint64

// NullVersion is the version that was put when its bucket gave no version ids: before
// versioning was enabled, or while it was suspended. A key has at most one.
const NullVersion = VersionID(math.MaxUint64)

// unknownVersion is well-formed and names no version: an id that another store gave.
const unknownVersion = NullVersion - 1

// foreignIDBytes is the length of the version ids that S3 gives.
const foreignIDBytes = 32

// ParseVersionID parses a version id as String gives it. An id that looks like one of
// S3 itself is well-formed, too, and names no version. Errors: ErrInvalidVersionID.
func ParseVersionID(s string) (VersionID, error) {
	if s == "null" {
		return NullVersion, nil
	}
	if lsn, err := wal.ParseLSN(s); err == nil && s[0] != '0' {
		return VersionID(lsn), nil
	}
	if len(s) != foreignIDBytes {
		return 0, fmt.Errorf("version id of %d bytes: %w", len(s), ErrInvalidVersionID)
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && (c < 'A' || c > 'Z') && c != '.' && c != '_' && c != '-' {
			return 0, fmt.Errorf("version id %q: %w", s, ErrInvalidVersionID)
		}
	}
	return unknownVersion, nil
}

// String returns the id as clients see it: "null", or the LSN in decimal. It is empty for zero.
func (v VersionID) String() string {
	switch v {
	case 0:
		return ""
	case NullVersion:
		return "null"
	}
	return strconv.FormatUint(uint64(v), 10)
}

// Versioning is whether the puts of a bucket keep what was there.
type Versioning string

// The states of versioning. A bucket begins as Unversioned, and never becomes that again.
const (
	Unversioned Versioning = ""
	Enabled     Versioning = "Enabled"
	Suspended   Versioning = "Suspended"
)
