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
