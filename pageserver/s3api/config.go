package s3api

import (
	"context"

	"stemma/pageserver/object"
)

// settings returns how the bucket is configured, at the tip or as of the point in
// time that the request names.
func (r *request) settings(ctx context.Context) (*object.Settings, error) {
	at, err := r.at()
	if err != nil {
		return nil, err
	}
	lsn := at
	if at == 0 {
		lsn = r.srv.objects.Store().Visible()
	}
	set, err := r.srv.objects.Settings(ctx, r.bucket, at)
	if err != nil {
		return nil, err
	}
	r.setLSN(lsn)
	return set, nil
}

// updateSettings changes how the bucket is configured, unless check fails.
func (r *request) updateSettings(ctx context.Context, check func() error, change func(*object.Settings)) error {
	if err := check(); err != nil {
		return err
	}
	lsn, err := r.srv.objects.UpdateSettings(ctx, r.bucket, func(set *object.Settings) error {
		change(set)
		return nil
	})
	if err != nil {
		return err
	}
	r.setLSN(lsn)
	return nil
}

// deleteSettings takes a part of the configuration away, and answers 204 whether or
// not it was there.
func (r *request) deleteSettings(ctx context.Context, change func(*object.Settings)) error {
	err := r.updateSettings(ctx, func() error { return nil }, change)
	if err == nil {
		r.noContent()
	}
	return err
}

// readConfig decodes the body of the request, a document with the given root,
// into the struct that v points to. Errors: MissingRequestBodyError, MalformedXML,
// those of a body.
func (r *request) readConfig(root string, v any) error {
	p, err := r.document(maxXMLBytes, false)
	if err != nil {
		return err
	}
	if len(p) == 0 {
		return &apiError{code: "MissingRequestBodyError"}
	}
	return strictXML(p, root, v)
}

// sendConfig answers 200 with the struct v as a document.
func (r *request) sendConfig(root string, v any) {
	r.sendXML(&xmlWriter{marshalXML(root, v)})
}

// config is a part of the configuration that is one document, which T is.
type config[T any] struct {
	root   string // of the document
	absent string // code of the error when it was never set; empty: unset is the answer then
	unset  T
	// of returns where the settings have it.
	of func(*object.Settings) **T
	// check refuses a document, and may complete it.
	check func(context.Context, *request, *T) error
	// tell sets headers that go with the document; nil: none.
	tell func(*request, *T)
}

// get, put and delete are the operations.

func (c config[T]) get(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	doc := *c.of(set)
	if doc == nil {
		if c.absent != "" {
			return &apiError{code: c.absent}
		}
		doc = &c.unset
	}
	if c.tell != nil {
		c.tell(r, doc)
	}
	r.sendConfig(c.root, doc)
	return nil
}

func (c config[T]) put(ctx context.Context, r *request) error {
	doc := new(T)
	if err := r.readConfig(c.root, doc); err != nil {
		return err
	}
	err := r.updateSettings(ctx, func() error { return c.check(ctx, r, doc) }, func(set *object.Settings) { *c.of(set) = doc })
	if err == nil && c.tell != nil {
		c.tell(r, doc)
	}
	return err
}

func (c config[T]) delete(ctx context.Context, r *request) error {
	return r.deleteSettings(ctx, func(set *object.Settings) { *c.of(set) = nil })
}
