package s3api

import (
	"context"
	"errors"

	"stemma/pageserver/object"
	"stemma/timeline"
)

var loggingConfig = config[object.Logging]{
	root:  "BucketLoggingStatus",
	of:    func(set *object.Settings) **object.Logging { return &set.Logging },
	check: checkLogging,
}

// checkLogging also wants the target bucket to be there.
func checkLogging(_ context.Context, r *request, l *object.Logging) error {
	if err := l.Check(); err != nil || l.Enabled == nil {
		return err
	}
	_, err := r.srv.objects.Bucket(*l.Enabled.TargetBucket, 0)
	if errors.Is(err, timeline.ErrNoSuchBucket) {
		return &apiError{code: "InvalidTargetBucketForLogging"}
	}
	return err
}
