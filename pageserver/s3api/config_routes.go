package s3api

import "context"

// configRoutes are the subresources by which a bucket or an object is configured.
var configRoutes = []route{
	{"GET", bucketLevel, "accelerate", "", reads("GetBucketAccelerateConfiguration", accelerateConfig.get, "accelerate")},
	{"PUT", bucketLevel, "accelerate", "", writes("PutBucketAccelerateConfiguration", accelerateConfig.put, "accelerate")},
	{"GET", bucketLevel, "cors", "", reads("GetBucketCors", corsConfig.get, "cors")},
	{"PUT", bucketLevel, "cors", "", writes("PutBucketCors", corsConfig.put, "cors")},
	{"DELETE", bucketLevel, "cors", "", writes("DeleteBucketCors", corsConfig.delete, "cors")},
	{"GET", bucketLevel, "encryption", "", reads("GetBucketEncryption", getBucketEncryption, "encryption")},
	{"PUT", bucketLevel, "encryption", "", writes("PutBucketEncryption", putBucketEncryption, "encryption")},
	{"DELETE", bucketLevel, "encryption", "", writes("DeleteBucketEncryption", deleteBucketEncryption, "encryption")},
	{"GET", bucketLevel, "lifecycle", "", reads("GetBucketLifecycleConfiguration", lifecycleConfig.get, "lifecycle")},
	{"PUT", bucketLevel, "lifecycle", "", writes("PutBucketLifecycleConfiguration", lifecycleConfig.put, "lifecycle")},
	{"DELETE", bucketLevel, "lifecycle", "", writes("DeleteBucketLifecycle", lifecycleConfig.delete, "lifecycle")},
	{"GET", bucketLevel, "logging", "", reads("GetBucketLogging", getLogging, "logging")},
	{"PUT", bucketLevel, "logging", "", writes("PutBucketLogging", loggingConfig.put, "logging")},
	{"GET", bucketLevel, "notification", "", reads("GetBucketNotificationConfiguration", notificationConfig.get, "notification")},
	{"PUT", bucketLevel, "notification", "", writes("PutBucketNotificationConfiguration", notificationConfig.put, "notification")},
	{"GET", bucketLevel, "requestPayment", "", reads("GetBucketRequestPayment", paymentConfig.get, "requestPayment")},
	{"PUT", bucketLevel, "requestPayment", "", writes("PutBucketRequestPayment", paymentConfig.put, "requestPayment")},
	{"GET", bucketLevel, "tagging", "", reads("GetBucketTagging", getBucketTagging, "tagging")},
	{"PUT", bucketLevel, "tagging", "", writes("PutBucketTagging", putBucketTagging, "tagging")},
	{"DELETE", bucketLevel, "tagging", "", writes("DeleteBucketTagging", deleteBucketTagging, "tagging")},
	{"GET", bucketLevel, "website", "", reads("GetBucketWebsite", websiteConfig.get, "website")},
	{"PUT", bucketLevel, "website", "", writes("PutBucketWebsite", websiteConfig.put, "website")},
	{"DELETE", bucketLevel, "website", "", writes("DeleteBucketWebsite", websiteConfig.delete, "website")},

	{"GET", bucketLevel, "analytics", "", reads("ListBucketAnalyticsConfigurations", neverListed("ListBucketAnalyticsConfigurationResult"), "analytics", "id", "continuation-token")},
	{"PUT", bucketLevel, "analytics", "", writes("PutBucketAnalyticsConfiguration", neverSet("analytics"), "analytics", "id")},
	{"DELETE", bucketLevel, "analytics", "", writes("DeleteBucketAnalyticsConfiguration", never("NoSuchConfiguration"), "analytics", "id")},
	{"GET", bucketLevel, "intelligent-tiering", "", reads("ListBucketIntelligentTieringConfigurations", neverListed("ListBucketIntelligentTieringConfigurationsOutput"), "intelligent-tiering", "id", "continuation-token")},
	{"PUT", bucketLevel, "intelligent-tiering", "", writes("PutBucketIntelligentTieringConfiguration", neverSet("intelligent-tiering"), "intelligent-tiering", "id")},
	{"DELETE", bucketLevel, "intelligent-tiering", "", writes("DeleteBucketIntelligentTieringConfiguration", never("NoSuchConfiguration"), "intelligent-tiering", "id")},
	{"GET", bucketLevel, "inventory", "", reads("ListBucketInventoryConfigurations", neverListed("ListInventoryConfigurationsResult"), "inventory", "id", "continuation-token")},
	{"PUT", bucketLevel, "inventory", "", writes("PutBucketInventoryConfiguration", neverSet("inventory"), "inventory", "id")},
	{"DELETE", bucketLevel, "inventory", "", writes("DeleteBucketInventoryConfiguration", never("NoSuchConfiguration"), "inventory", "id")},
	{"GET", bucketLevel, "metrics", "", reads("ListBucketMetricsConfigurations", neverListed("ListMetricsConfigurationsResult"), "metrics", "id", "continuation-token")},
	{"PUT", bucketLevel, "metrics", "", writes("PutBucketMetricsConfiguration", neverSet("metrics"), "metrics", "id")},
	{"DELETE", bucketLevel, "metrics", "", writes("DeleteBucketMetricsConfiguration", never("NoSuchConfiguration"), "metrics", "id")},
	{"GET", bucketLevel, "replication", "", reads("GetBucketReplication", never("ReplicationConfigurationNotFoundError"), "replication")},
	{"PUT", bucketLevel, "replication", "", writes("PutBucketReplication", neverSet("replication"), "replication")},
	{"DELETE", bucketLevel, "replication", "", writes("DeleteBucketReplication", neverDeleted, "replication")},
	{"GET", bucketLevel, "metadataTable", "", reads("GetBucketMetadataTableConfiguration", never("MetadataConfigurationNotFound"), "metadataTable")},
	{"POST", bucketLevel, "metadataTable", "", writes("CreateBucketMetadataTableConfiguration", neverSet("metadataTable"), "metadataTable")},
	{"DELETE", bucketLevel, "metadataTable", "", writes("DeleteBucketMetadataTableConfiguration", neverDeleted, "metadataTable")},
	{"GET", bucketLevel, "metadataConfiguration", "", reads("GetBucketMetadataConfiguration", never("MetadataConfigurationNotFound"), "metadataConfiguration")},
	{"POST", bucketLevel, "metadataConfiguration", "", writes("CreateBucketMetadataConfiguration", neverSet("metadataConfiguration"), "metadataConfiguration")},
	{"DELETE", bucketLevel, "metadataConfiguration", "", writes("DeleteBucketMetadataConfiguration", neverDeleted, "metadataConfiguration")},

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
