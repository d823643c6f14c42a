package s3api

import (
	"context"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// tigrisRegion is what clients of Tigris sign for, and none of AWS.
const tigrisRegion = "auto"

// restoreObject refuses: a storage class changes nothing here, so that no object
// is ever in an archive to be restored from. Clients of Tigris are used to that: it is a success to them, and
// they are known by the region that they sign for.
func restoreObject(ctx context.Context, r *request) error {
	id, err := r.versionID()
	if err != nil {
		return err
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	if _, err := r.document(maxXMLBytes, false); err != nil {
		return err
	}
	o, err := r.srv.objects.Head(ctx, r.bucket, r.key, &object.GetInput{Version: id, At: at})
	if err != nil {
		return err
	}
	if r.proof.Region == tigrisRegion {
		r.setLSN(o.At)
		return nil
	}
	return &apiError{
		code: "InvalidObjectState", message: "Restore is not allowed for the object's current storage class",
		fields: []auth.Field{{Name: "StorageClass", Value: o.StorageClass.String()}},
	}
}

// getObjectTorrent finds no torrent, as AWS does not since it stopped to make them.
func getObjectTorrent(ctx context.Context, r *request) error {
	if _, err := r.srv.objects.Head(ctx, r.bucket, r.key, &object.GetInput{}); err != nil {
		return err
	}
	return &apiError{code: "NoSuchKey", message: "The object has no torrent.", fields: []auth.Field{{Name: "Key", Value: r.key}}}
}
