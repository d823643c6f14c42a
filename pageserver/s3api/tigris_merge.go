package s3api

import (
	"context"
	"errors"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// Clients of Tigris merge a fork into what it was forked from, and rebase it on that.
var (
	mergeOperation  = &operation{name: "MergeFork", handle: mergeFork, tigris: []string{"merge-source-bucket", "merge-source-bucket-snapshot"}}
	rebaseOperation = &operation{name: "RebaseFork", handle: rebaseFork, tigris: []string{"rebase"}}
)

// mergeFork brings what a fork has changed into the bucket; where both have changed a
// key differently it changes nothing.
func mergeFork(ctx context.Context, r *request) error {
	const name = "X-Tigris-Merge-Source-Bucket"
	source := r.peek(name)
	at, err := r.pointInTime("X-Tigris-Merge-Source-Bucket-Snapshot")
	if err != nil {
		return err
	}
	target, err := r.srv.objects.Bucket(r.bucket, 0)
	if err != nil {
		return err
	}
	fork, err := r.srv.objects.Bucket(source, 0)
	if errors.Is(err, timeline.ErrNoSuchBucket) {
		return noSuchSource(source)
	} else if err != nil {
		return err
	}
	if err := r.mayTakeAll(source); err != nil {
		return err
	}
	if fork.SourceBucket != target.Bucket {
		return invalidArgument(name, source, "merge source must be a direct fork of target")
	}
	rep, err := r.srv.objects.Merge(ctx, &object.MergeInput{Source: object.Point{Bucket: source, At: at}, Target: r.bucket, Max: 1})
	return r.merged(rep, err)
}

// rebaseFork brings what the bucket's source has changed into the bucket.
func rebaseFork(ctx context.Context, r *request) error {
	const name = "X-Tigris-Rebase"
	if v := r.peek(name); v != "true" {
		return invalidArgument(name, v, "X-Tigris-Rebase must be true")
	}
	fork, err := r.srv.objects.Bucket(r.bucket, 0)
	if err != nil {
		return err
	}
	if fork.SourceName == "" {
		return invalidArgument(name, "true", "The bucket is not a fork of a bucket that exists")
	}
	if err := r.mayTakeAll(fork.SourceName); err != nil {
		return err
	}
	rep, err := r.srv.objects.Rebase(ctx, &object.MergeInput{Source: object.Point{Bucket: fork.SourceName}, Target: r.bucket, Max: 1})
	return r.merged(rep, err)
}

// merged answers with the state of the target that has the merge.
func (r *request) merged(rep *object.MergeReport, err error) error {
	var conflict *timeline.MergeConflictError
	switch {
	case errors.As(err, &conflict):
		return &apiError{code: "MergeConflict", message: err.Error()}
	case errors.Is(err, timeline.ErrNotDescendant):
		return &apiError{code: "InvalidRequest", message: err.Error()}
	case err != nil:
		return err
	}
	r.setVersion(rep.LSN)
	return nil
}

// setVersion says which version of the bucket was made.
func (r *request) setVersion(lsn wal.LSN) {
	r.set("X-Tigris-Snapshot-Version", lsn.String())
	r.setLSN(lsn)
}
