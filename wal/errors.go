package wal

import (
	"errors"
	"fmt"

	"stemma/wal/storefs"
)

var (
	// ErrCorrupt marks a log that has lost or changed what was durable. Errors
	// that wrap it are, or wrap, a *CorruptionError.
	ErrCorrupt = errors.New("wal: corrupt")
	// ErrTooLarge refuses a payload above Options.MaxCommitBytes.
	ErrTooLarge = errors.New("wal: commit too large")
	// ErrClosed refuses an Append after Close.
	ErrClosed = errors.New("wal: closed")
	// ErrDiskFull refuses an Append for which no segment can be had. Nothing was
	// reserved, and it may be tried again.
	ErrDiskFull = storefs.ErrDiskFull
)

// CorruptionError says where the log breaks although it is proved to go on.
type CorruptionError struct {
	File   string // path of the segment, or of the directory
	Offset int64  // of the break, in bytes
	Reason string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("wal: corrupt: %s at offset %d: %s", e.File, e.Offset, e.Reason)
}

// Unwrap returns ErrCorrupt.
func (e *CorruptionError) Unwrap() error { return ErrCorrupt }

// ReadOnlyError says that a write or sync of the log has failed, and that it
// takes no more commits until it is opened again.
type ReadOnlyError struct {
	Reason string // what failed, with file and offset
	Err    error  // the file system's error
}

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("wal: read-only: %s: %v", e.Reason, e.Err)
}

// Unwrap returns the file system's error.
func (e *ReadOnlyError) Unwrap() error { return e.Err }
