package s3api

import (
	"context"
	"strconv"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// putLength refuses a body whose end nobody tells, or that is too long. The end is
// told by a length or by the transfer coding.
func (r *request) putLength() error {
	n, given := contentLength(r.header())
	decoded, err := r.decodedLength()
	switch {
	case err != nil:
		return err
	case !given, n < 0 && decoded < 0 && r.proof.Payload.Chunked():
		return &apiError{code: "MissingContentLength"}
	case !r.proof.Payload.Chunked() && n > object.MaxPartBytes, decoded > object.MaxPartBytes:
		return &apiError{code: "EntityTooLarge", fields: []auth.Field{
			{Name: "ProposedSize", Value: utoa(uint64(max(n, decoded)))}, {Name: "MaxSizeAllowed", Value: utoa(object.MaxPartBytes)},
		}}
	}
	return nil
}

// precheck finds out what would refuse a write anyway, while its client still
// waits with the body.
func (r *request) precheck() error {
	if r.key == "" || r.op.name != putObjectOperation.name && r.op.name != uploadPartOperation.name {
		return nil
	}
	if err := r.putLength(); err != nil {
		return err
	}
	if _, err := r.srv.objects.Bucket(r.bucket, 0); err != nil {
		return err
	}
	cond := r.writeConditions()
	if r.op.name != putObjectOperation.name || cond == (object.Conditions{}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.srv.base, operationTimeout)
	defer cancel()
	return r.srv.objects.CheckWrite(ctx, r.bucket, r.key, &cond)
}

func putObject(ctx context.Context, r *request) error {
	if err := r.putLength(); err != nil {
		return err
	}
	in := object.PutInput{Headers: r.contentHeaders(), UserMeta: r.userMeta(), Cond: r.writeConditions()}
	var err error
	if in.StorageClass, err = r.storageClass(); err != nil {
		return err
	}
	if in.Tags, err = r.headerTags(); err != nil {
		return err
	}
	if in.SSE, in.CustomerKey, err = r.sse(); err != nil {
		return err
	}
	if in.Access, err = r.newAccess(); err != nil {
		return err
	}
	in.Cond.Bucket = r.decidedFor()
	if in.ContentMD5, err = r.contentMD5(); err != nil {
		return err
	}
	body, err := r.openBody()
	if err != nil {
		return err
	}
	if in.Checksum, err = r.expectChecksum(body); err != nil {
		return err
	}
	if in.Lock, err = r.putLock(ctx, in.ContentMD5 != nil || in.Checksum.Algorithm != object.NoChecksum); err != nil {
		return err
	}
	in.Body, in.Size = body, body.Size()
	e, err := r.storeObject(ctx, &in)
	if err != nil {
		return err
	}
	r.set("ETag", `"`+e.ETag.String()+`"`)
	r.setChecksum(e.Checksum)
	r.setNewVersion(e)
	r.setExpiration(ctx, e)
	r.setSSE(e.SSE(), in.CustomerKey, true)
	r.setLSN(e.LSN)
	return nil
}

// storeObject puts the object, or appends to it if a header says at which offset.
func (r *request) storeObject(ctx context.Context, in *object.PutInput) (*object.Entry, error) {
	const name = "x-amz-write-offset-bytes"
	text := r.amz(name)
	if text == "" {
		return r.srv.objects.Put(ctx, r.bucket, r.key, in)
	}
	offset, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return nil, invalidArgument(name, text, "The write offset must be a number of bytes")
	}
	e, err := r.srv.objects.Append(ctx, r.bucket, r.key, offset, in)
	if err == nil {
		r.set("x-amz-object-size", utoa(e.Size))
	}
	return e, err
}
