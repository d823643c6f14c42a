package s3api

import (
	"context"

	"stemma/pageserver/object"
)

const minimumSizeHeader = "x-amz-transition-default-minimum-object-size"

var lifecycleConfig = config[object.Lifecycle]{
	root: "LifecycleConfiguration", absent: "NoSuchLifecycleConfiguration",
	of: func(set *object.Settings) **object.Lifecycle { return &set.Lifecycle },
	check: func(_ context.Context, r *request, l *object.Lifecycle) error {
		l.MinimumSize = r.amz(minimumSizeHeader)
		return l.Complete()
	},
	tell: func(r *request, l *object.Lifecycle) {
		if l.MinimumSize != "" {
			r.set(minimumSizeHeader, l.MinimumSize)
		}
	},
}
