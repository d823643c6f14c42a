package s3api

import (
	"context"

	"stemma/pageserver/object"
)

func getBucketEncryption(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	if set.Encryption == nil && r.srv.objects.EncryptsAll() {
		r.sendConfig("ServerSideEncryptionConfiguration", &object.Encryption{
			Rules: []object.EncryptionRule{{Default: &object.EncryptionDefault{Algorithm: object.SSES3.String()}}},
		})
		return nil
	}
	if set.Encryption == nil {
		return &apiError{code: "ServerSideEncryptionConfigurationNotFoundError"}
	}
	r.sendConfig("ServerSideEncryptionConfiguration", set.Encryption)
	return nil
}

func putBucketEncryption(ctx context.Context, r *request) error {
	var c object.Encryption
	if err := r.readConfig("ServerSideEncryptionConfiguration", &c); err != nil {
		return err
	}
	return r.updateSettings(ctx, c.Check, func(set *object.Settings) { set.Encryption = &c })
}

func deleteBucketEncryption(ctx context.Context, r *request) error {
	return r.deleteSettings(ctx, func(set *object.Settings) { set.Encryption = nil })
}
