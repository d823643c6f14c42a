package s3api

import (
	"context"

	"stemma/pageserver/object"
)

var loggingConfig = config[object.Logging]{
	root:  "BucketLoggingStatus",
	of:    func(set *object.Settings) **object.Logging { return &set.Logging },
	check: checkLogging,
}

// checkLogging also wants the target bucket to be there, and to be of the same owner.
func checkLogging(_ context.Context, r *request, l *object.Logging) error {
	if err := l.Check(); err != nil || l.Enabled == nil {
		return err
	}
	return r.sameOwner(*l.Enabled.TargetBucket)
}
