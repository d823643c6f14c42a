package s3api

import "context"

// configRoutes are the subresources by which a bucket or an object is configured.
var configRoutes = []route{
	{"GET", bucketLevel, "cors", "", reads("GetBucketCors", getBucketCORS, "cors")},
	{"PUT", bucketLevel, "cors", "", writes("PutBucketCors", putBucketCORS, "cors")},
	{"DELETE", bucketLevel, "cors", "", writes("DeleteBucketCors", deleteBucketCORS, "cors")},
	{"GET", bucketLevel, "encryption", "", reads("GetBucketEncryption", getBucketEncryption, "encryption")},
	{"PUT", bucketLevel, "encryption", "", writes("PutBucketEncryption", putBucketEncryption, "encryption")},
	{"DELETE", bucketLevel, "encryption", "", writes("DeleteBucketEncryption", deleteBucketEncryption, "encryption")},
	{"GET", bucketLevel, "lifecycle", "", reads("GetBucketLifecycleConfiguration", getBucketLifecycle, "lifecycle")},
	{"PUT", bucketLevel, "lifecycle", "", writes("PutBucketLifecycleConfiguration", putBucketLifecycle, "lifecycle")},
	{"DELETE", bucketLevel, "lifecycle", "", writes("DeleteBucketLifecycle", deleteBucketLifecycle, "lifecycle")},
	{"GET", bucketLevel, "tagging", "", reads("GetBucketTagging", getBucketTagging, "tagging")},
	{"PUT", bucketLevel, "tagging", "", writes("PutBucketTagging", putBucketTagging, "tagging")},
	{"DELETE", bucketLevel, "tagging", "", writes("DeleteBucketTagging", deleteBucketTagging, "tagging")},

	{"GET", objectLevel, "tagging", "", reads("GetObjectTagging", getObjectTagging, "tagging", "versionId")},
	{"PUT", objectLevel, "tagging", "", writes("PutObjectTagging", putObjectTagging, "tagging", "versionId")},
	{"DELETE", objectLevel, "tagging", "", writes("DeleteObjectTagging", deleteObjectTagging, "tagging", "versionId")},
}

// reads returns an operation that reads a configuration.
func reads(name string, handle func(context.Context, *request) error, params ...string) *operation {
	return &operation{name: name, handle: handle, params: params, reads: true}
}

// writes returns an operation that writes a configuration.
func writes(name string, handle func(context.Context, *request) error, params ...string) *operation {
	return &operation{name: name, handle: handle, params: params}
}
