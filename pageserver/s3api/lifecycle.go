package s3api

import (
	"context"

	"stemma/pageserver/object"
)

const minimumSizeHeader = "x-amz-transition-default-minimum-object-size"

func getBucketLifecycle(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	if set.Lifecycle == nil {
		return &apiError{code: "NoSuchLifecycleConfiguration"}
	}
	r.setMinimumSize(set.Lifecycle)
	r.sendConfig("LifecycleConfiguration", set.Lifecycle)
	return nil
}

func putBucketLifecycle(ctx context.Context, r *request) error {
	l := object.Lifecycle{MinimumSize: r.amz(minimumSizeHeader)}
	if err := r.readConfig("LifecycleConfiguration", &l); err != nil {
		return err
	}
	err := r.updateSettings(ctx, l.Complete, func(set *object.Settings) { set.Lifecycle = &l })
	if err == nil {
		r.setMinimumSize(&l)
	}
	return err
}

// setMinimumSize gives back what was said about small objects.
func (r *request) setMinimumSize(l *object.Lifecycle) {
	if l.MinimumSize != "" {
		r.set(minimumSizeHeader, l.MinimumSize)
	}
}

func deleteBucketLifecycle(ctx context.Context, r *request) error {
	return r.deleteSettings(ctx, func(set *object.Settings) { set.Lifecycle = nil })
}
