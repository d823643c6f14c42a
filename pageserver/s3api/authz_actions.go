package s3api

import (
	"context"

	"stemma/pageserver/object"
)

// access is what an operation needs.
type access interface{ check(r *request) error }

// accessOf has the access of every operation by its name; one that is missing is for
// the root alone.
var accessOf map[string]access

func init() { // not in the declaration: what is checked leads back to the operations
	accessOf = map[string]access{
		"ListBuckets":    accessFunc((*request).mayListBuckets),
		"OptionsRequest": anyone{},
		"WhoAmI":         anyone{}, // whoAmI knows who signed
		"CreateBucket":   accessFunc((*request).mayCreateBucket),

		"HeadBucket":           onBucket{"s3:ListBucket", object.PermRead},
		"ListObjects":          listsKeys{"s3:ListBucket"},
		"ListObjectsV2":        listsKeys{"s3:ListBucket"},
		"ListObjectVersions":   onBucket{"s3:ListBucketVersions", object.PermRead},
		"ListMultipartUploads": onBucket{"s3:ListBucketMultipartUploads", object.PermRead},
		"GetBucketLocation":    onBucket{"s3:GetBucketLocation", 0},
		"DeleteBucket":         onBucket{"s3:DeleteBucket", 0},
		"GetBucketAcl":         onBucket{"s3:GetBucketAcl", object.PermReadACP},
		"PutBucketAcl":         onBucket{"s3:PutBucketAcl", object.PermWriteACP},

		"GetBucketPolicy":               onBucket{"s3:GetBucketPolicy", 0},
		"PutBucketPolicy":               onBucket{"s3:PutBucketPolicy", 0},
		"DeleteBucketPolicy":            onBucket{"s3:DeleteBucketPolicy", 0},
		"GetBucketPolicyStatus":         onBucket{"s3:GetBucketPolicyStatus", 0},
		"GetPublicAccessBlock":          onBucket{"s3:GetBucketPublicAccessBlock", 0},
		"PutPublicAccessBlock":          onBucket{"s3:PutBucketPublicAccessBlock", 0},
		"DeletePublicAccessBlock":       onBucket{"s3:PutBucketPublicAccessBlock", 0},
		"GetBucketOwnershipControls":    onBucket{"s3:GetBucketOwnershipControls", 0},
		"PutBucketOwnershipControls":    onBucket{"s3:PutBucketOwnershipControls", 0},
		"DeleteBucketOwnershipControls": onBucket{"s3:PutBucketOwnershipControls", 0},

		"GetBucketVersioning":        onBucket{"s3:GetBucketVersioning", 0},
		"PutBucketVersioning":        onBucket{"s3:PutBucketVersioning", 0},
		"GetObjectLockConfiguration": onBucket{"s3:GetBucketObjectLockConfiguration", 0},
		"PutObjectLockConfiguration": onBucket{"s3:PutBucketObjectLockConfiguration", 0},

		"GetBucketAccelerateConfiguration":   onBucket{"s3:GetAccelerateConfiguration", 0},
		"PutBucketAccelerateConfiguration":   onBucket{"s3:PutAccelerateConfiguration", 0},
		"GetBucketCors":                      onBucket{"s3:GetBucketCORS", 0},
		"PutBucketCors":                      onBucket{"s3:PutBucketCORS", 0},
		"DeleteBucketCors":                   onBucket{"s3:PutBucketCORS", 0},
		"GetBucketEncryption":                onBucket{"s3:GetEncryptionConfiguration", 0},
		"PutBucketEncryption":                onBucket{"s3:PutEncryptionConfiguration", 0},
		"DeleteBucketEncryption":             onBucket{"s3:PutEncryptionConfiguration", 0},
		"GetBucketLifecycleConfiguration":    onBucket{"s3:GetLifecycleConfiguration", 0},
		"PutBucketLifecycleConfiguration":    onBucket{"s3:PutLifecycleConfiguration", 0},
		"DeleteBucketLifecycle":              onBucket{"s3:PutLifecycleConfiguration", 0},
		"GetBucketLogging":                   onBucket{"s3:GetBucketLogging", 0},
		"PutBucketLogging":                   onBucket{"s3:PutBucketLogging", 0},
		"GetBucketNotificationConfiguration": onBucket{"s3:GetBucketNotification", 0},
		"PutBucketNotificationConfiguration": onBucket{"s3:PutBucketNotification", 0},
		"GetBucketRequestPayment":            onBucket{"s3:GetBucketRequestPayment", 0},
		"PutBucketRequestPayment":            onBucket{"s3:PutBucketRequestPayment", 0},
		"GetBucketTagging":                   onBucket{"s3:GetBucketTagging", 0},
		"PutBucketTagging":                   onBucket{"s3:PutBucketTagging", 0},
		"DeleteBucketTagging":                onBucket{"s3:PutBucketTagging", 0},
		"GetBucketWebsite":                   onBucket{"s3:GetBucketWebsite", 0},
		"PutBucketWebsite":                   onBucket{"s3:PutBucketWebsite", 0},
		"DeleteBucketWebsite":                onBucket{"s3:DeleteBucketWebsite", 0},

		"ListBucketAnalyticsConfigurations":           onBucket{"s3:GetAnalyticsConfiguration", 0},
		"PutBucketAnalyticsConfiguration":             onBucket{"s3:PutAnalyticsConfiguration", 0},
		"DeleteBucketAnalyticsConfiguration":          onBucket{"s3:PutAnalyticsConfiguration", 0},
		"ListBucketIntelligentTieringConfigurations":  onBucket{"s3:GetIntelligentTieringConfiguration", 0},
		"PutBucketIntelligentTieringConfiguration":    onBucket{"s3:PutIntelligentTieringConfiguration", 0},
		"DeleteBucketIntelligentTieringConfiguration": onBucket{"s3:PutIntelligentTieringConfiguration", 0},
		"ListBucketInventoryConfigurations":           onBucket{"s3:GetInventoryConfiguration", 0},
		"PutBucketInventoryConfiguration":             onBucket{"s3:PutInventoryConfiguration", 0},
		"DeleteBucketInventoryConfiguration":          onBucket{"s3:PutInventoryConfiguration", 0},
		"ListBucketMetricsConfigurations":             onBucket{"s3:GetMetricsConfiguration", 0},
		"PutBucketMetricsConfiguration":               onBucket{"s3:PutMetricsConfiguration", 0},
		"DeleteBucketMetricsConfiguration":            onBucket{"s3:PutMetricsConfiguration", 0},
		"GetBucketReplication":                        onBucket{"s3:GetReplicationConfiguration", 0},
		"PutBucketReplication":                        onBucket{"s3:PutReplicationConfiguration", 0},
		"DeleteBucketReplication":                     onBucket{"s3:PutReplicationConfiguration", 0},
		"GetBucketMetadataTableConfiguration":         onBucket{"s3:GetBucketMetadataTableConfiguration", 0},
		"CreateBucketMetadataTableConfiguration":      onBucket{"s3:CreateBucketMetadataTableConfiguration", 0},
		"DeleteBucketMetadataTableConfiguration":      onBucket{"s3:DeleteBucketMetadataTableConfiguration", 0},
		"GetBucketMetadataConfiguration":              onBucket{"s3:GetBucketMetadataTableConfiguration", 0},
		"CreateBucketMetadataConfiguration":           onBucket{"s3:CreateBucketMetadataTableConfiguration", 0},
		"DeleteBucketMetadataConfiguration":           onBucket{"s3:DeleteBucketMetadataTableConfiguration", 0},

		"GetObject":           onVersion{"s3:GetObject", "s3:GetObjectVersion", object.PermRead},
		"HeadObject":          onVersion{"s3:GetObject", "s3:GetObjectVersion", object.PermRead},
		"GetObjectAttributes": accessFunc((*request).mayGetAttributes),
		"GetObjectTorrent":    looked{"s3:GetObjectTorrent", "s3:GetObjectVersionTorrent", object.PermRead, true},
		"BundleObjects":       accessFunc((*request).mayReadSome),
		"GetObjectAcl":        looked{"s3:GetObjectAcl", "s3:GetObjectVersionAcl", object.PermReadACP, true},
		"PutObjectAcl":        looked{"s3:PutObjectAcl", "s3:PutObjectVersionAcl", object.PermWriteACP, true},
		"GetObjectTagging":    looked{"s3:GetObjectTagging", "s3:GetObjectVersionTagging", 0, false},
		"PutObjectTagging":    exists{}, // mayTag knows the tags
		"DeleteObjectTagging": looked{"s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging", 0, false},
		"GetObjectRetention":  looked{"s3:GetObjectRetention", "s3:GetObjectRetention", 0, false},
		"PutObjectRetention":  all{looked{"s3:PutObjectRetention", "s3:PutObjectRetention", 0, false}, bypassing{}},
		"GetObjectLegalHold":  looked{"s3:GetObjectLegalHold", "s3:GetObjectLegalHold", 0, false},
		"PutObjectLegalHold":  looked{"s3:PutObjectLegalHold", "s3:PutObjectLegalHold", 0, false},
		"RestoreObject":       looked{"s3:RestoreObject", "s3:RestoreObject", 0, false},

		"PutObject":               writing{},
		"PostObject":              exists{},  // takeForm knows the key
		"CopyObject":              writing{}, // copyObject checks the source
		"CreateMultipartUpload":   writing{},
		"UploadPart":              onObject{"s3:PutObject", object.PermWrite},
		"UploadPartCopy":          onObject{"s3:PutObject", object.PermWrite}, // and uploadPartCopy the source
		"CompleteMultipartUpload": onObject{"s3:PutObject", object.PermWrite},
		"AbortMultipartUpload":    onObject{"s3:AbortMultipartUpload", object.PermWrite},
		"ListParts":               onObject{"s3:ListMultipartUploadParts", object.PermWrite},
		"DeleteObject":            accessFunc((*request).mayDelete),
		"DeleteObjects":           exists{}, // deleteObjects checks every key
		"RenameObject":            onObject{"s3:PutObject", object.PermWrite},

		"CreateSnapshot":       onBucket{"stemma:CreateSnapshot", 0},
		"DeleteSnapshot":       onBucket{"stemma:DeleteSnapshot", 0},
		"ListSnapshots":        anyone{}, // listSnapshots knows the bucket
		"GetBucketInfo":        onBucket{"stemma:GetBucketStats", 0},
		"ListDeletedObjects":   onBucket{"s3:ListBucketVersions", 0},
		"ListDeletedVersions":  onBucket{"s3:ListBucketVersions", 0},
		"PurgeDeletedObject":   accessFunc((*request).mayDelete),
		"RestoreDeletedObject": all{onObject{"s3:RestoreObject", 0}, onObject{"s3:PutObject", object.PermWrite}},

		"RestoreBucket": accessFunc((*request).mayRestoreBucket), // and deletedBuckets knows whose it was
		"PatchBucket":   onBucket{"stemma:PutBucketSettings", 0},
		"MergeFork":     onBucket{"stemma:MergeBucket", 0},
		"RebaseFork":    onBucket{"stemma:MergeBucket", 0},
	}
}

// accessFunc is an access of its own.
type accessFunc func(*request) error

func (f accessFunc) check(r *request) error { return f(r) }

// anyone is for everybody.
type anyone struct{}

func (anyone) check(*request) error { return nil }

// exists is for everybody if there is the bucket: the handler decides the rest.
type exists struct{}

func (exists) check(r *request) error {
	_, err := r.resource(r.bucket)
	return err
}

// all needs every one of several.
type all []access

func (l all) check(r *request) error {
	for _, a := range l {
		if err := a.check(r); err != nil {
			return err
		}
	}
	return nil
}

// onBucket is an action done to a bucket; acl, if not zero, is the permission on the
// bucket that lets it.
type onBucket struct {
	action string
	acl    object.Permission
}

func (a onBucket) check(r *request) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	if !r.may(&need{action: a.action, bucket: b, acl: a.acl}) {
		return errDenied
	}
	return nil
}

// listsKeys is a listing of objects, in the past another action.
type listsKeys struct{ action string }

func (a listsKeys) check(r *request) error {
	acl := object.PermRead
	if r.inPast() {
		a.action, acl = "s3:ListBucketVersions", 0
	}
	return onBucket{a.action, acl}.check(r)
}

// onObject is an action done to a key of the bucket, whatever is there.
type onObject struct {
	action string
	acl    object.Permission // on the bucket
}

func (a onObject) check(r *request) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	if !r.may(&need{action: a.action, bucket: b, key: r.key, acl: a.acl}) {
		return errDenied
	}
	return nil
}

// onVersion is an action done to a version that the handler reads: it is decided when
// that is found.
type onVersion struct {
	action, versionAction string
	acl                   object.Permission // on the version
}

func (a onVersion) check(r *request) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	r.allowEntry = r.allow(&need{action: a.action, bucket: b, key: r.key, acl: a.acl}, r.inPast(), a.versionAction)
	return nil
}

// looked is an action done to a version, which is looked at first.
type looked struct {
	action, versionAction string
	acl                   object.Permission // on the version
	owned                 bool              // the version's owner counts, not the bucket's
}

func (a looked) check(r *request) error { return a.decide(r, nil) }

// decide is check of a request that brings tags in its body.
func (a looked) decide(r *request, tags []object.Field) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.srv.base, operationTimeout)
	defer cancel()
	e, err := r.lookUp(ctx)
	if err != nil { // the handler must not find what nobody decided about
		return r.hideMissing(err, r.bucket, r.key)
	}
	if !a.owned {
		e.Owner = ""
	}
	return r.allow(&need{action: a.action, bucket: b, key: r.key, acl: a.acl, tags: tags}, r.inPast(), a.versionAction)(e)
}

// inPast reports whether the request names a version or a point in time.
func (r *request) inPast() bool {
	if _, ok := r.target.Get("versionId"); ok {
		return true
	}
	return r.op.reads && (r.past != "" || len(r.header().PeekAll("x-stemma-at")) > 0 || len(r.header().PeekAll("X-Tigris-Snapshot-Version")) > 0)
}

// bypassing is needed when the request wants to disregard retention.
type bypassing struct{}

func (bypassing) check(r *request) error {
	if bypass, err := r.bypass(); err != nil || !bypass {
		return err
	}
	return onObject{"s3:BypassGovernanceRetention", 0}.check(r)
}

// writing makes a new version of a key.
type writing struct{}

func (writing) check(r *request) error {
	if err := (onObject{"s3:PutObject", object.PermWrite}).check(r); err != nil {
		return err
	}
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	for _, f := range r.amzFields {
		switch f.Name {
		case "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date":
			err = onObject{"s3:PutObjectRetention", 0}.check(r)
		case "x-amz-object-lock-legal-hold":
			err = onObject{"s3:PutObjectLegalHold", 0}.check(r)
		case "x-amz-acl", "x-amz-grant-read", "x-amz-grant-write", "x-amz-grant-read-acp", "x-amz-grant-write-acp", "x-amz-grant-full-control":
			err = r.notDenied(&need{action: "s3:PutObjectAcl", bucket: b, key: r.key})
		case taggingHeader:
			err = r.notDenied(&need{action: "s3:PutObjectTagging", bucket: b, key: r.key})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
