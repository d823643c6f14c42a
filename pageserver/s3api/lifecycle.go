package s3api

import (
	"context"
	"net/url"

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

// setExpiration says when a rule will end the current version of the request's key.
func (r *request) setExpiration(ctx context.Context, e *object.Entry) {
	set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
	if err != nil || set.Lifecycle == nil {
		return // it is only a hint
	}
	if x, ok := r.srv.objects.ExpiryOf(r.bucket, r.key, set, e); ok {
		r.set("x-amz-expiration", `expiry-date="`+httpTime(x.At)+`", rule-id="`+url.QueryEscape(x.RuleID)+`"`)
	}
}

// setAbort says when a rule will end an upload.
func (r *request) setAbort(ctx context.Context, u *object.Upload) {
	set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
	if err != nil {
		return // it is only a hint
	}
	if x, ok := set.Lifecycle.AbortOf(u); ok {
		r.set("x-amz-abort-date", httpTime(x.At))
		r.set("x-amz-abort-rule-id", url.QueryEscape(x.RuleID))
	}
}
