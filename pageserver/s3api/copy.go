package s3api

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/wal"
)

// copySource parses x-amz-copy-source: bucket/key, escaped, with or without a
// slash before it, and a version id behind it.
func (r *request) copySource() (bucket, key string, id object.VersionID, err error) {
	const name = "x-amz-copy-source"
	raw := r.amz(name)
	bad := func(why string) (string, string, object.VersionID, error) {
		return "", "", 0, invalidArgument(name, raw, why)
	}
	path, version, versioned := cutLast(raw, "?versionId=")
	path, ok := auth.Unescape(path)
	if !ok {
		return bad("Invalid copy source encoding.")
	}
	bucket, key, ok = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case strings.HasPrefix(path, "arn:"):
		return "", "", 0, notImplemented("an ARN as copy source")
	case !ok || bucket == "" || object.Reserved(bucket) || key == "" || !utf8.ValidString(key):
		return bad("Invalid copy source object key")
	}
	if point, past, ok := splitPast(key); ok {
		if r.sourcePast, key = point, past; key == "" {
			return bad("The copy source is no object")
		}
	}
	if versioned {
		id, err = r.parseVersionID("versionId", version)
	}
	return bucket, key, id, err
}

// copyError words what is wrong with the source of a copy as only that can be.
func copyError(err error) error {
	if errors.Is(err, object.ErrMarker) {
		return &apiError{code: "InvalidRequest", message: "The source of a copy request may not specifically refer to a delete marker by version id."}
	}
	return err
}

// setSource tells which version was copied.
func (r *request) setSource(lsn wal.LSN, id object.VersionID) {
	r.set("x-stemma-copy-source-lsn", lsn.String())
	if id != 0 {
		r.set("x-amz-copy-source-version-id", id.String())
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// directive reads a header that is COPY or REPLACE. Error: InvalidArgument.
func (r *request) directive(name string) (replace bool, err error) {
	switch v := r.amz(name); v {
	case "", "COPY":
		return false, nil
	case "REPLACE":
		return true, nil
	default:
		return false, invalidArgument(name, v, "Unknown directive.")
	}
}

func copyObject(ctx context.Context, r *request) error {
	in := object.CopyInput{
		Headers: r.contentHeaders(), UserMeta: r.userMeta(), SrcCond: r.sourceConditions(), Cond: r.writeConditions(),
	}
	var err error
	if in.SrcBucket, in.SrcKey, in.SrcVersion, err = r.copySource(); err != nil {
		return err
	}
	if in.SrcAt, err = r.sourceAt(in.SrcBucket); err != nil {
		return err
	}
	if in.Replace, err = r.directive("x-amz-metadata-directive"); err != nil {
		return err
	}
	if in.ReplaceTags, in.Tags, err = r.copyTags(); err != nil {
		return err
	}
	if in.StorageClass, err = r.storageClass(); err != nil {
		return err
	}
	if in.Algorithm, err = object.ParseAlgorithm(r.amz("x-amz-checksum-algorithm")); err != nil {
		return err
	}
	if in.SSE, in.CustomerKey, err = r.sse(); err != nil {
		return err
	}
	if in.SrcCustomerKey, err = r.customerKey(sseCopySource); err != nil {
		return err
	}
	if in.Lock, err = r.askedLock(); err != nil {
		return err
	}
	if in.SrcAllow, err = r.allowCopy(in.SrcBucket, in.SrcKey, in.SrcVersion.String(), in.SrcVersion != 0 || in.SrcAt != 0, !in.ReplaceTags); err != nil {
		return err
	}
	if in.Access, err = r.newAccess(); err != nil {
		return err
	}
	in.Cond.Bucket = r.decidedFor()
	res, err := r.srv.objects.Copy(ctx, r.bucket, r.key, &in)
	if err != nil {
		return copyError(r.hideMissing(err, in.SrcBucket, in.SrcKey))
	}
	r.setSource(res.SrcLSN, res.SrcID)
	r.setNewVersion(&res.Entry)
	r.setExpiration(ctx, &res.Entry)
	r.setSSE(res.SSE(), in.CustomerKey, true)
	r.setLSN(res.LSN)
	w := newResult("CopyObjectResult")
	w.time("LastModified", res.LSN)
	w.text("ETag", `"`+res.ETag.String()+`"`)
	w.checksum(res.Checksum)
	w.optional("ChecksumType", res.Checksum.Type())
	w.close("CopyObjectResult")
	r.sendXML(w)
	return nil
}
