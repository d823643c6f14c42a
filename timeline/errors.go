package timeline

import (
	"errors"
	"fmt"

	"stemma/wal"
)

// Errors that callers branch on.
var (
	// ErrNoSuchBucket says that no bucket has the name, or none had it at the LSN asked for.
	ErrNoSuchBucket = errors.New("timeline: no such bucket")
	// ErrBucketExists says that the name is taken.
	ErrBucketExists = errors.New("timeline: bucket exists")
	// ErrBucketNotEmpty says that a bucket to be deleted still holds objects.
	ErrBucketNotEmpty = errors.New("timeline: bucket not empty")
	// ErrNotFound says that the key has no value at the LSN read.
	ErrNotFound = errors.New("timeline: key not found")
	// ErrFuture says that an LSN or time lies beyond the store clock.
	ErrFuture = errors.New("timeline: LSN lies in the future")
	// ErrSlowDown says that flush lags behind the log; the caller should retry later.
	ErrSlowDown = errors.New("timeline: flush lags behind, slow down")
	// ErrBatchTooLarge says that a batch exceeds one commit of the log.
	ErrBatchTooLarge = errors.New("timeline: batch too large")
	// ErrBadName says that a name is empty or longer than the log holds.
	ErrBadName = errors.New("timeline: bad name")
	// ErrBadProperties says that attributes are longer than the log holds, or an expiry no LSN.
	ErrBadProperties = errors.New("timeline: bad properties")
	// ErrGone says that a deleted bucket cannot be undeleted (any more).
	ErrGone = errors.New("timeline: bucket is gone")
	// ErrBadShare says that a share of time is no percentage above zero.
	ErrBadShare = errors.New("timeline: bad share")
	// ErrBadWindow says that a window is negative.
	ErrBadWindow = errors.New("timeline: bad window")
	// ErrNoSuchSnapshot says that there is no such snapshot.
	ErrNoSuchSnapshot = errors.New("timeline: no such snapshot")
	// ErrSnapshotExists says that the bucket has a snapshot of that name.
	ErrSnapshotExists = errors.New("timeline: snapshot exists")
	// ErrSnapshotHeld says that a snapshot is held, and cannot be deleted, nor its bucket.
	ErrSnapshotHeld = errors.New("timeline: snapshot is held")
	// ErrReadOnly says that the bucket is read-only.
	ErrReadOnly = errors.New("timeline: bucket is read-only")
	// ErrProtected says that the bucket is protected from deletion.
	ErrProtected = errors.New("timeline: bucket is protected from deletion")
	// ErrClosed says that the store is closing or closed.
	ErrClosed = errors.New("timeline: store closed")
	// ErrCorrupt marks log payloads and catalog rows that this package did not write.
	ErrCorrupt = errors.New("timeline: corrupt")
)

// errMoved says that a name moved between its lookup and the commit's place in
// the order; the commit is tried again on the new timeline.
var errMoved = errors.New("timeline: name moved")

// BelowHorizonError says that the history at an LSN is not kept any more.
type BelowHorizonError struct {
	LSN    wal.LSN // asked for
	Cutoff wal.LSN // the oldest LSN that can be read; wal.MaxLSN: only pinned ones can
}

func (e *BelowHorizonError) Error() string {
	return fmt.Sprintf("timeline: history at %d is gone, it begins at %d", e.LSN, e.Cutoff)
}
