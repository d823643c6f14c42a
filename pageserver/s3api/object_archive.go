package s3api

import (
	"context"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// restoreObject refuses: a storage class changes nothing here, so that no object
// is ever in an archive to be restored from.
func restoreObject(ctx context.Context, r *request) error {
	id, err := r.versionID()
	if err != nil {
		return err
	}
	if _, err := r.document(maxXMLBytes, false); err != nil {
		return err
	}
	o, err := r.srv.objects.Head(ctx, r.bucket, r.key, &object.GetInput{Version: id})
	if err != nil {
		return err
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
