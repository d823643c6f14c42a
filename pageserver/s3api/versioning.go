package s3api

import (
	"context"
	"errors"
	"net/http"

	"stemma/pageserver/object"
)

// versionRoutes are the operations of versions and object lock.
var versionRoutes = []route{
	{"GET", bucketLevel, "versioning", "", &operation{name: "GetBucketVersioning", handle: getBucketVersioning, reads: true, params: []string{"versioning"}}},
	{"PUT", bucketLevel, "versioning", "", &operation{name: "PutBucketVersioning", handle: putBucketVersioning, params: []string{"versioning"}}},
	{"GET", bucketLevel, "versions", "", &operation{name: "ListObjectVersions", handle: listObjectVersions, reads: true, tigris: []string{"snapshot-version"},
		params: []string{"versions", "prefix", "delimiter", "key-marker", "version-id-marker", "max-keys", "encoding-type"}}},
	{"GET", bucketLevel, "object-lock", "", &operation{name: "GetObjectLockConfiguration", handle: getLockConfig, reads: true, params: []string{"object-lock"}}},
	{"PUT", bucketLevel, "object-lock", "", &operation{name: "PutObjectLockConfiguration", handle: putLockConfig, params: []string{"object-lock"}}},
	{"GET", objectLevel, "retention", "", &operation{name: "GetObjectRetention", handle: getRetention, reads: true, params: []string{"retention", "versionId"}}},
	{"PUT", objectLevel, "retention", "", &operation{name: "PutObjectRetention", handle: putRetention, params: []string{"retention", "versionId"}}},
	{"GET", objectLevel, "legal-hold", "", &operation{name: "GetObjectLegalHold", handle: getLegalHold, reads: true, params: []string{"legal-hold", "versionId"}}},
	{"PUT", objectLevel, "legal-hold", "", &operation{name: "PutObjectLegalHold", handle: putLegalHold, params: []string{"legal-hold", "versionId"}}},
}

// versioningXML is the document of Get- and PutBucketVersioning.
type versioningXML struct {
	Status    *string `xml:"Status"`
	MFADelete *string `xml:"MfaDelete"`
}

func getBucketVersioning(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	var doc versioningXML
	if set.Versioning != object.Unversioned {
		status := string(set.Versioning)
		doc.Status = &status
	}
	r.sendConfig("VersioningConfiguration", &doc)
	return nil
}

func putBucketVersioning(ctx context.Context, r *request) error {
	var doc versioningXML
	if err := r.readConfig("VersioningConfiguration", &doc); err != nil {
		return err
	}
	if m := doc.MFADelete; m != nil {
		switch *m {
		case "Disabled":
		case "Enabled": // there are no devices that x-amz-mfa could name
			return &apiError{code: "AccessDenied", message: "Mfa Authentication must be used for this request"}
		default:
			return &apiError{code: "MalformedXML"}
		}
	}
	if doc.Status == nil {
		return &apiError{code: "IllegalVersioningConfigurationException", message: "The Versioning element must be specified"}
	}
	v := object.Versioning(*doc.Status)
	if v != object.Enabled && v != object.Suspended {
		return &apiError{code: "MalformedXML"}
	}
	lsn, err := r.srv.objects.SetVersioning(ctx, r.bucket, v)
	if err != nil {
		return err
	}
	r.setLSN(lsn)
	return nil
}

// versionID returns the parameter versionId, zero when it is not there. Errors:
// InvalidArgument.
func (r *request) versionID() (object.VersionID, error) {
	text, ok := r.target.Get("versionId")
	if !ok {
		return 0, nil
	}
	return r.parseVersionID("versionId", text)
}

func (r *request) parseVersionID(name, text string) (object.VersionID, error) {
	if text == "" {
		return 0, invalidArgument(name, text, "Version id cannot be the empty string")
	}
	id, err := object.ParseVersionID(text)
	if err != nil {
		return 0, invalidArgument(name, text, "Invalid version id specified")
	}
	return id, nil
}

// setVersionID tells of a version, unless the bucket never had versioning.
func (r *request) setVersionID(id object.VersionID) {
	if id != 0 {
		r.set("x-amz-version-id", id.String())
	}
}

// setNewVersion tells of a version that was made. One without an id of its own is not told of.
func (r *request) setNewVersion(e *object.Entry) {
	if e.Versioned {
		r.setVersionID(e.ID())
	}
}

// setMarker says of a read that failed whether a delete marker is why.
func (r *request) setMarker(err error, status int) {
	var m *object.MarkerError
	switch {
	case !r.header().IsGet() && !r.header().IsHead():
	case errors.As(err, &m):
		r.set("x-amz-delete-marker", "true")
		r.setVersionID(m.ID)
		if status == http.StatusMethodNotAllowed {
			r.set("Allow", "DELETE")
			r.set("Last-Modified", httpTime(m.Modified()))
		}
	case errors.Is(err, object.ErrNoSuchKey):
		r.set("x-amz-delete-marker", "false")
	}
}

func listObjectVersions(ctx context.Context, r *request) error {
	l, err := r.parseListing("max-keys")
	if err != nil {
		return err
	}
	in := object.ListVersionsInput{Prefix: l.prefix, Delimiter: l.delimiter, KeyMarker: r.param("key-marker"), MaxKeys: l.max}
	if in.At, err = r.at(); err != nil {
		return err
	}
	const name = "version-id-marker"
	marker, given := r.target.Get(name)
	switch {
	case !given:
	case in.KeyMarker == "" && marker != "":
		return invalidArgument(name, marker, "A version-id marker cannot be specified without a key marker.")
	case marker == "" && in.KeyMarker != "":
		return invalidArgument(name, marker, "A version-id marker cannot be empty.")
	case marker != "":
		if in.VersionMarker, err = r.parseVersionID(name, marker); err != nil {
			return err
		}
	}
	res, err := r.srv.objects.ListVersions(ctx, r.bucket, &in)
	if err != nil {
		return err
	}
	w := appendResult(r.bodyBuffer(), "ListVersionsResult")
	w.text("Name", r.bucket)
	w.text("Prefix", l.name(l.prefix))
	w.text("KeyMarker", l.name(in.KeyMarker))
	w.text("VersionIdMarker", in.VersionMarker.String())
	if res.Truncated {
		w.text("NextKeyMarker", l.name(res.NextKeyMarker))
		w.optional("NextVersionIdMarker", res.NextVersionMarker.String())
	}
	w.optional("Delimiter", l.name(l.delimiter))
	w.int("MaxKeys", l.max)
	if l.url {
		w.text("EncodingType", "url")
	}
	w.bool("IsTruncated", res.Truncated)
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	for i := range res.Entries {
		l.version(w, &res.Entries[i])
		r.writeOwner(w, "Owner", b.ownerOf(res.Entries[i].Owner))
		w.close(versionElement(&res.Entries[i]))
	}
	l.prefixes(w, res.Prefixes)
	w.close("ListVersionsResult")
	r.setLSN(res.LSN)
	r.sendXML(w)
	return nil
}

// versionElement returns the name of the element of a version or delete marker.
func versionElement(e *object.VersionEntry) string {
	if e.Marker {
		return "DeleteMarker"
	}
	return "Version"
}

// version begins the element of one version or delete marker.
func (l *listing) version(w *xmlWriter, e *object.VersionEntry) {
	w.open(versionElement(e))
	w.text("Key", l.name(e.Key))
	w.text("VersionId", e.ID.String())
	w.bool("IsLatest", e.Latest)
	w.time("LastModified", e.LSN)
	if !e.Marker {
		w.text("ETag", `"`+e.ETag.String()+`"`)
		if e.Algorithm != object.NoChecksum {
			w.text("ChecksumAlgorithm", e.Algorithm.String())
			w.text("ChecksumType", e.ChecksumType())
		}
		w.uint("Size", e.Size)
		w.text("StorageClass", e.StorageClass.String())
	}
}
