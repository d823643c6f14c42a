package s3api

import (
	"context"
	"strings"
	"unicode/utf8"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// maxClientToken is the longest x-amz-client-token.
const maxClientToken = 64

// renameObject gives an object of the bucket another key. S3 has the operation for
// directory buckets only; here every bucket can do it.
func renameObject(ctx context.Context, r *request) error {
	in := object.RenameInput{Cond: r.readConditions(), SourceCond: object.Conditions{
		IfMatch:           r.amz("x-amz-rename-source-if-match"),
		IfNoneMatch:       r.amz("x-amz-rename-source-if-none-match"),
		IfModifiedSince:   parseHTTPTime(r.amz("x-amz-rename-source-if-modified-since")),
		IfUnmodifiedSince: parseHTTPTime(r.amz("x-amz-rename-source-if-unmodified-since")),
	}}
	var err error
	if in.Source, err = r.renameSource(); err != nil {
		return err
	}
	in.Token = r.amz("x-amz-client-token")
	if len(in.Token) > maxClientToken || strings.ContainsFunc(in.Token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return invalidArgument("x-amz-client-token", in.Token, "The token must have at most 64 characters of printable ASCII")
	}
	if err := r.mayRename(ctx, in.Source); err != nil {
		return err
	}
	lsn, err := r.srv.objects.Rename(ctx, r.bucket, r.key, &in)
	if err != nil {
		return err
	}
	r.setLSN(lsn)
	return nil
}

// renameSource parses x-amz-rename-source: a key, escaped; behind a slash also with
// the bucket before it.
func (r *request) renameSource() (string, error) {
	const name = "x-amz-rename-source"
	raw := r.amz(name)
	key, ok := auth.Unescape(raw)
	if rest, slash := strings.CutPrefix(key, "/"); slash {
		key = strings.TrimPrefix(rest, r.bucket+"/")
	}
	if !ok || key == "" || !utf8.ValidString(key) {
		return "", invalidArgument(name, raw, "The source must be the key of an object, URL-encoded")
	}
	return key, nil
}
