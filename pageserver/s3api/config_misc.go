package s3api

import (
	"context"

	"stemma/pageserver/object"
)

var notificationConfig = config[object.Notification]{
	root:  "NotificationConfiguration",
	of:    func(set *object.Settings) **object.Notification { return &set.Notification },
	check: func(_ context.Context, _ *request, n *object.Notification) error { return n.Complete() },
}

var accelerateConfig = config[object.Acceleration]{
	root:  "AccelerateConfiguration",
	of:    func(set *object.Settings) **object.Acceleration { return &set.Acceleration },
	check: func(_ context.Context, _ *request, a *object.Acceleration) error { return a.Check() },
}

var paymentConfig = config[object.RequestPayment]{
	root:  "RequestPaymentConfiguration",
	unset: object.RequestPayment{Payer: "BucketOwner"},
	of:    func(set *object.Settings) **object.RequestPayment { return &set.Payment },
	check: func(_ context.Context, _ *request, p *object.RequestPayment) error { return p.Check() },
}

// The configurations that buckets never have: they are answered as S3 answers when
// they were not set, and setting them is refused.

// never answers the GET of a configuration that is not there.
func never(code string) func(context.Context, *request) error {
	return func(ctx context.Context, r *request) error {
		if _, err := r.settings(ctx); err != nil {
			return err
		}
		return &apiError{code: code}
	}
}

// neverListed answers a GET that lists configurations, or with an id means one of them.
func neverListed(root string) func(context.Context, *request) error {
	return func(ctx context.Context, r *request) error {
		if _, err := r.settings(ctx); err != nil {
			return err
		}
		if _, one := r.target.Get("id"); one {
			return &apiError{code: "NoSuchConfiguration"}
		}
		w := newResult(root)
		w.bool("IsTruncated", false)
		w.close(root)
		r.sendXML(w)
		return nil
	}
}

// neverDeleted answers the DELETE of a configuration that is not there.
func neverDeleted(ctx context.Context, r *request) error {
	if _, err := r.settings(ctx); err != nil {
		return err
	}
	r.noContent()
	return nil
}

// neverSet refuses to configure what is not there.
func neverSet(what string) func(context.Context, *request) error {
	return func(ctx context.Context, r *request) error {
		if _, err := r.settings(ctx); err != nil {
			return err
		}
		return notImplemented(what)
	}
}
