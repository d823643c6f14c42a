package policy

import (
	"slices"
	"strings"
)

// Actions are the actions that policies of buckets may name: those of S3, and those
// that only Stemma has.
var Actions = []string{
	"s3:AbortMultipartUpload", "s3:BypassGovernanceRetention", "s3:CreateBucket", "s3:DeleteBucket", "s3:DeleteBucketOwnershipControls",
	"s3:GetBucketMetadataTableConfiguration", "s3:CreateBucketMetadataTableConfiguration", "s3:DeleteBucketMetadataTableConfiguration",
	"s3:DeleteBucketPolicy", "s3:DeleteBucketPublicAccessBlock", "s3:DeleteBucketWebsite", "s3:DeleteObject", "s3:DeleteObjectTagging",
	"s3:DeleteObjectVersion", "s3:DeleteObjectVersionTagging", "s3:GetAccelerateConfiguration", "s3:GetAnalyticsConfiguration", "s3:GetBucketAcl",
	"s3:GetBucketCORS", "s3:GetBucketLocation", "s3:GetBucketLogging", "s3:GetBucketNotification", "s3:GetBucketObjectLockConfiguration",
	"s3:GetBucketOwnershipControls", "s3:GetBucketPolicy", "s3:GetBucketPolicyStatus", "s3:GetBucketPublicAccessBlock", "s3:GetBucketRequestPayment",
	"s3:GetBucketTagging", "s3:GetBucketVersioning", "s3:GetBucketWebsite", "s3:GetEncryptionConfiguration", "s3:GetIntelligentTieringConfiguration",
	"s3:GetInventoryConfiguration", "s3:GetLifecycleConfiguration", "s3:GetMetricsConfiguration", "s3:GetObject", "s3:GetObjectAcl",
	"s3:GetObjectAttributes", "s3:GetObjectLegalHold", "s3:GetObjectRetention", "s3:GetObjectTagging", "s3:GetObjectTorrent", "s3:GetObjectVersion",
	"s3:GetObjectVersionAcl", "s3:GetObjectVersionAttributes", "s3:GetObjectVersionForReplication", "s3:GetObjectVersionTagging",
	"s3:GetObjectVersionTorrent", "s3:GetReplicationConfiguration", "s3:InitiateReplication", "s3:ListAllMyBuckets", "s3:ListBucket",
	"s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:ListMultipartUploadParts", "s3:ObjectOwnerOverrideToBucketOwner",
	"s3:PutAccelerateConfiguration", "s3:PutAnalyticsConfiguration", "s3:PutBucketAcl", "s3:PutBucketCORS", "s3:PutBucketLogging",
	"s3:PutBucketNotification", "s3:PutBucketObjectLockConfiguration", "s3:PutBucketOwnershipControls", "s3:PutBucketPolicy",
	"s3:PutBucketPublicAccessBlock", "s3:PutBucketRequestPayment", "s3:PutBucketTagging", "s3:PutBucketVersioning", "s3:PutBucketWebsite",
	"s3:PutEncryptionConfiguration", "s3:PutIntelligentTieringConfiguration", "s3:PutInventoryConfiguration", "s3:PutLifecycleConfiguration",
	"s3:PutMetricsConfiguration", "s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectLegalHold", "s3:PutObjectRetention", "s3:PutObjectTagging",
	"s3:PutObjectVersionAcl", "s3:PutObjectVersionTagging", "s3:PutReplicationConfiguration", "s3:ReplicateDelete", "s3:ReplicateObject",
	"s3:ReplicateTags", "s3:RestoreObject", "s3:UpdateBucketMetadataInventoryTableConfiguration",

	"stemma:ForkBucket", "stemma:MergeBucket", "stemma:RestoreBucket", "stemma:RenameBucket", "stemma:CreateSnapshot", "stemma:DeleteSnapshot",
	"stemma:ListSnapshots", "stemma:ListForks", "stemma:GetBucketStats", "stemma:PutBucketSettings", "stemma:DiffBucket", "stemma:ReadPast",
	"stemma:WatchBucket",
}

// s3Keys are the condition keys of S3, without "s3:". Those with a name of a tag
// behind them are in s3KeyPrefixes.
var s3Keys = []string{
	"authtype", "dataaccesspointaccount", "dataaccesspointarn", "delimiter", "locationconstraint", "max-keys", "object-lock-legal-hold",
	"object-lock-mode", "object-lock-remaining-retention-days", "object-lock-retain-until-date", "prefix", "requestobjecttagkeys",
	"resourceaccount", "signatureage", "signatureversion", "tlsversion", "versionid", "x-amz-acl", "x-amz-content-sha256", "x-amz-copy-source",
	"x-amz-grant-full-control", "x-amz-grant-read", "x-amz-grant-read-acp", "x-amz-grant-write", "x-amz-grant-write-acp",
	"x-amz-metadata-directive", "x-amz-object-ownership", "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
	"x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class", "x-amz-website-redirect-location", "x-amz-mfa", "if-match",
	"if-none-match", "objectcreationoperation", "accessgrantsinstancearn", "accesspointnetworkorigin", "bucketversion",
}

var s3KeyPrefixes = []string{"existingobjecttag/", "requestobjecttag/", "buckettag/"}

// knownKey reports whether a condition key, in lower case, can have a value in a
// request to a bucket. Those of other services cannot.
func knownKey(key string) bool {
	service, name, ok := strings.Cut(key, ":")
	switch {
	case !ok || name == "":
		return false
	case service == "aws":
		return true
	case service != "s3":
		return false
	}
	return slices.Contains(s3Keys, name) ||
		slices.ContainsFunc(s3KeyPrefixes, func(p string) bool { return strings.HasPrefix(name, p) && len(name) > len(p) })
}
