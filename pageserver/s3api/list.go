package s3api

import (
	"context"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// listing is what the two versions of ListObjects and ListMultipartUploads share.
type listing struct {
	prefix, delimiter string
	max               int
	url               bool // encoding-type=url
}

// parseListing reads the common parameters; max is the name of the limit's.
func (r *request) parseListing(max string) (listing, error) {
	l := listing{prefix: r.param("prefix"), delimiter: r.param("delimiter")}
	var err error
	if l.url, err = r.urlEncoding(); err != nil {
		return l, err
	}
	if l.max, err = r.intParam(max, object.MaxListKeys, 0, math.MaxInt32); err != nil {
		return l, err
	}
	l.max = min(l.max, object.MaxListKeys)
	if r.param("allow-unordered") == "true" && l.delimiter != "" { // ours is always in order
		return l, invalidArgument("allow-unordered", "true", "A listing without order cannot have a delimiter")
	}
	return l, nil
}

// urlEncoding reports whether names are to be escaped in the answer.
func (r *request) urlEncoding() (bool, error) {
	switch v := r.param("encoding-type"); v {
	case "":
		return false, nil
	case "url":
		return true, nil
	default:
		return false, invalidArgument("encoding-type", v, "Invalid Encoding Method specified in Request")
	}
}

// name returns a key or a part of one as it is written into the answer.
func (l *listing) name(s string) string {
	if l.url {
		return string(auth.AppendEscaped(nil, s, true))
	}
	return s
}

// plainPrefix returns the prefix as the first version of ListObjects writes it: some clients
// decode it and some do not, so it is left alone where that is the same.
func (l *listing) plainPrefix() string {
	if strings.ContainsFunc(l.prefix, func(c rune) bool {
		return c == '%' || c == '+' || c == utf8.RuneError || c < ' ' && c != '\t' && c != '\n' && c != '\r'
	}) {
		return l.name(l.prefix)
	}
	return l.prefix
}

func listObjects(ctx context.Context, r *request) error {
	l, err := r.parseListing("max-keys")
	if err != nil {
		return err
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	marker := r.param("marker")
	res, err := r.list(ctx, &l, &object.ListInput{At: at, After: marker})
	if err != nil {
		return err
	}
	w := l.begin(r.bodyBuffer(), r.bucket, l.plainPrefix())
	w.text("Marker", l.name(marker))
	w.optional("NextMarker", l.name(res.NextMarker))
	if err := l.finish(w, res, r); err != nil {
		return err
	}
	r.setLSN(res.LSN)
	r.sendXML(w)
	return nil
}

func listObjectsV2(ctx context.Context, r *request) error {
	if v := r.param("list-type"); v != "2" {
		return invalidArgument("list-type", v, "list-type must be 2")
	}
	l, err := r.parseListing("max-keys")
	if err != nil {
		return err
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	var owners *request
	if r.param("fetch-owner") == "true" {
		owners = r
	}
	token, continued := r.target.Get("continuation-token") // an empty one begins at the beginning
	after := r.param("start-after")
	res, err := r.list(ctx, &l, &object.ListInput{At: at, After: after, Token: token})
	if err != nil {
		return err
	}
	w := l.begin(r.bodyBuffer(), r.bucket, l.name(l.prefix))
	w.optional("StartAfter", l.name(after))
	if continued {
		w.text("ContinuationToken", token)
	}
	w.optional("NextContinuationToken", res.NextToken)
	w.int("KeyCount", len(res.Entries)+len(res.Prefixes))
	if err := l.finish(w, res, owners); err != nil {
		return err
	}
	r.setLSN(res.LSN)
	r.sendXML(w)
	return nil
}

// begin writes what both versions begin with, to buf.
func (l *listing) begin(buf []byte, bucket, prefix string) *xmlWriter {
	w := appendResult(buf, "ListBucketResult")
	w.text("Name", bucket)
	w.text("Prefix", prefix)
	w.optional("Delimiter", l.name(l.delimiter))
	w.int("MaxKeys", l.max)
	if l.url {
		w.text("EncodingType", "url")
	}
	return w
}

// contentsBytes is the length of an element Contents without its key, a bit more than most.
const contentsBytes = 360

// finish writes the page, with the owners as r knows them unless r is nil.
func (l *listing) finish(w *xmlWriter, res *object.ListResult, r *request) error {
	var b *resource
	if r != nil {
		var err error
		if b, err = r.resource(r.bucket); err != nil {
			return err
		}
	}
	w.bool("IsTruncated", res.Truncated)
	room := 0
	for i := range res.Entries {
		room += contentsBytes + len(res.Entries[i].Key)
	}
	w.b = slices.Grow(w.b, room)
	for i := range res.Entries {
		e := &res.Entries[i]
		w.raw("<Contents><Key>")
		l.appendName(w, e.Key)
		w.raw("</Key><LastModified>")
		w.b = appendTime(w.b, e.LSN.Time())
		w.raw("</LastModified><ETag>&quot;")
		w.b = e.ETag.AppendTo(w.b)
		w.raw("&quot;</ETag>")
		if e.Algorithm != object.NoChecksum {
			w.text("ChecksumAlgorithm", e.Algorithm.String())
			w.text("ChecksumType", e.ChecksumType())
		}
		w.uint("Size", e.Size)
		if b != nil {
			r.writeOwner(w, "Owner", b.ownerOf(e.Owner))
		}
		w.text("StorageClass", e.StorageClass.String())
		w.raw("</Contents>")
	}
	l.prefixes(w, res.Prefixes)
	w.close("ListBucketResult")
	return nil
}

// appendName writes a key as name returns it, into an element that is open.
func (l *listing) appendName(w *xmlWriter, s string) {
	if l.url {
		w.b = auth.AppendEscaped(w.b, s, true)
	} else {
		w.b = appendXMLText(w.b, s)
	}
}

// prefixes writes common prefixes.
func (l *listing) prefixes(w *xmlWriter, prefixes []string) {
	for _, p := range prefixes {
		w.open("CommonPrefixes")
		w.text("Prefix", l.name(p))
		w.close("CommonPrefixes")
	}
}
