package timeline

import (
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// Errors of merges.
var (
	// ErrNotDescendant says that the source of a merge is no descendant of the target, or
	// branched from a point that is not on the target's ancestry: rebase it, or pick keys.
	ErrNotDescendant = errors.New("timeline: source of the merge does not descend from the target")
	// ErrMergeConflict says that both sides changed a key. It comes as *MergeConflictError.
	ErrMergeConflict = errors.New("timeline: merge conflict")
	// ErrBadRange says that a range of LSNs to revert is empty.
	ErrBadRange = errors.New("timeline: empty range of LSNs")
	// ErrBadMove says that a list of moves is empty, names a bucket twice, or leads one to
	// where it is.
	ErrBadMove = errors.New("timeline: bad move")
	// ErrTargetChanged says that the target has changed since the LSN that the caller
	// wanted it at.
	ErrTargetChanged = errors.New("timeline: target has changed")
)

// maxConflicts bounds the conflicts that a *MergeConflictError lists.
const maxConflicts = 1000

// Conflict is one key that both sides of a merge changed.
type Conflict struct {
	NS  layers.Namespace
	Key []byte
	// Theirs and Ours are the LSNs of the values; zero: the side deleted the key.
	Theirs, Ours wal.LSN
}

// MergeConflictError lists the conflicts for which nothing was merged.
type MergeConflictError struct {
	Conflicts []Conflict // in key order, the first 1,000
	Count     int64      // all
}

func (e *MergeConflictError) Error() string {
	return fmt.Sprintf("%v: %d keys, the first is %q", ErrMergeConflict, e.Count, e.Conflicts[0].Key)
}

// Unwrap returns ErrMergeConflict.
func (e *MergeConflictError) Unwrap() error { return ErrMergeConflict }
