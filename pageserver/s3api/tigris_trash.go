package s3api

import (
	"context"
	"encoding/base64"
	"errors"

	"stemma/pageserver/object"
)

const softDeleteHeader = "X-Tigris-Soft-Delete"

// trashRoutes are the requests of clients of Tigris about objects that were deleted and can be brought back.
var trashRoutes = []route{
	{"GET", bucketLevel, "list-type", "x-tigris-soft-delete", &operation{name: "ListDeletedObjects", handle: listDeletedObjects, tigris: []string{"soft-delete"},
		params: []string{"list-type", "prefix", "delimiter", "start-after", "continuation-token", "max-keys", "encoding-type", "fetch-owner"}}},
	{"GET", bucketLevel, "versions", "x-tigris-soft-delete", &operation{name: "ListDeletedVersions", handle: listDeletedVersions, tigris: []string{"soft-delete"},
		params: []string{"versions", "prefix", "delimiter", "key-marker", "version-id-marker", "max-keys", "encoding-type"}}},
	{"DELETE", objectLevel, "versionId", "x-tigris-soft-delete", &operation{name: "PurgeDeletedObject", handle: purgeDeletedObject,
		tigris: []string{"soft-delete"}, params: []string{"versionId"}}},
	{"POST", objectLevel, "restore", "x-tigris-restore-type", &operation{name: "RestoreDeletedObject", handle: restoreDeletedObject,
		tigris: []string{"restore-type", "restore-version"}, params: []string{"restore"}}},
}

// wantsTrash refuses a header that does not say true.
func (r *request) wantsTrash() error {
	if v := r.peek(softDeleteHeader); v != "true" {
		return invalidArgument(softDeleteHeader, v, softDeleteHeader+" must be true")
	}
	return nil
}

// trash lists deleted objects.
func (r *request) trash(ctx context.Context, l *listing, after string) (*object.DeletedList, error) {
	if err := r.wantsTrash(); err != nil {
		return nil, err
	}
	return r.srv.objects.ListDeleted(ctx, r.bucket, &object.ListDeletedInput{Prefix: l.prefix, Delimiter: l.delimiter, After: after, MaxKeys: l.max})
}

func listDeletedObjects(ctx context.Context, r *request) error {
	if v := r.param("list-type"); v != "2" {
		return invalidArgument("list-type", v, "list-type must be 2")
	}
	l, err := r.parseListing("max-keys")
	if err != nil {
		return err
	}
	after := r.param("start-after")
	token, continued := r.target.Get("continuation-token")
	if token != "" {
		p, err := base64.RawURLEncoding.Strict().DecodeString(token)
		if err != nil || len(p) == 0 || len(p) > object.MaxKeyBytes {
			return object.ErrInvalidToken
		}
		after = string(p)
	}
	res, err := r.trash(ctx, &l, after)
	if err != nil {
		return err
	}
	page := &object.ListResult{Prefixes: res.Prefixes, Truncated: res.Truncated}
	for i := range res.Entries {
		page.Entries = append(page.Entries, res.Entries[i].ListEntry)
	}
	w := l.begin(r.bodyBuffer(), r.bucket, l.name(l.prefix))
	w.optional("StartAfter", l.name(r.param("start-after")))
	if continued {
		w.text("ContinuationToken", token)
	}
	if res.Truncated {
		w.text("NextContinuationToken", base64.RawURLEncoding.EncodeToString([]byte(res.Next)))
	}
	w.int("KeyCount", len(page.Entries)+len(page.Prefixes))
	if err := l.finish(w, page, nil); err != nil {
		return err
	}
	r.setLSN(res.LSN)
	r.sendXML(w)
	return nil
}

// listDeletedVersions lists a deleted object as a version and as a delete marker: clients differ in which they look for.
func listDeletedVersions(ctx context.Context, r *request) error {
	l, err := r.parseListing("max-keys")
	if err != nil {
		return err
	}
	marker := r.param("key-marker")
	res, err := r.trash(ctx, &l, marker)
	if err != nil {
		return err
	}
	w := appendResult(r.bodyBuffer(), "ListVersionsResult")
	w.text("Name", r.bucket)
	w.text("Prefix", l.name(l.prefix))
	w.text("KeyMarker", l.name(marker))
	w.text("VersionIdMarker", r.param("version-id-marker"))
	if res.Truncated {
		w.text("NextKeyMarker", l.name(res.Next))
		if n := len(res.Entries); n > 0 && res.Entries[n-1].Key == res.Next {
			w.text("NextVersionIdMarker", res.Entries[n-1].ID().String())
		}
	}
	w.optional("Delimiter", l.name(l.delimiter))
	w.int("MaxKeys", l.max)
	if l.url {
		w.text("EncodingType", "url")
	}
	w.bool("IsTruncated", res.Truncated)
	for i := range res.Entries {
		e := &res.Entries[i]
		v := object.VersionEntry{ListEntry: e.ListEntry, ID: e.ID(), Latest: true}
		l.version(w, &v)
		w.close("Version")
		v.Marker, v.LSN = true, e.Deleted
		l.version(w, &v)
		w.text("ETag", `"`+e.ETag.String()+`"`)
		w.uint("Size", e.Size)
		w.bool("SoftDeleted", true)
		w.close("DeleteMarker")
	}
	l.prefixes(w, res.Prefixes)
	w.close("ListVersionsResult")
	r.setLSN(res.LSN)
	r.sendXML(w)
	return nil
}

func restoreDeletedObject(ctx context.Context, r *request) error {
	const kind, version = "X-Tigris-Restore-Type", "X-Tigris-Restore-Version"
	if v := r.peek(kind); v != "soft-delete" {
		return invalidArgument(kind, v, kind+" must be soft-delete")
	}
	var id object.VersionID
	var err error
	if v := r.peek(version); v != "" {
		if id, err = r.parseVersionID(version, v); err != nil {
			return err
		}
	}
	if _, err := r.document(maxXMLBytes, false); err != nil {
		return err
	}
	if _, err := r.srv.objects.DeletedObject(ctx, r.bucket, r.key, id); err != nil {
		return err
	}
	rep, err := r.srv.objects.Undelete(ctx, r.bucket, []string{r.key}, false)
	if err != nil {
		return err
	}
	if !rep.Committed {
		return object.ErrNoSuchVersion // somebody put it meanwhile
	}
	r.setLSN(rep.LSN)
	return nil
}

func purgeDeletedObject(ctx context.Context, r *request) error {
	if err := r.wantsTrash(); err != nil {
		return err
	}
	id, err := r.versionID()
	if err != nil {
		return err
	}
	lsn, err := r.srv.objects.PurgeDeleted(ctx, r.bucket, r.key, id)
	if err != nil {
		return err
	}
	r.setVersionID(id)
	r.setLSN(lsn)
	r.noContent()
	return nil
}

// refuseTrash refuses the deletion of a version that is in fact a deleted object: whoever means to purge that says so.
func (r *request) refuseTrash(ctx context.Context, id object.VersionID) error {
	set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
	if err != nil || set.OfTigris().SoftDeleteDays == 0 {
		return err
	}
	_, err = r.srv.objects.DeletedObject(ctx, r.bucket, r.key, id)
	if errors.Is(err, object.ErrNoSuchVersion) {
		return nil
	} else if err != nil {
		return err
	}
	return invalidArgument("versionId", id.String(), "The object was deleted already; "+softDeleteHeader+": true purges it")
}
