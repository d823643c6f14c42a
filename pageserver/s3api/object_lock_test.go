package s3api

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func (s *testServer) locked(bucket string) *string {
	s.t.Helper()
	ok(s.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket, ObjectLockEnabledForBucket: aws.Bool(true)}))(s.t)
	return &bucket
}

func lockConfig(mode types.ObjectLockRetentionMode, days, years *int32) *types.ObjectLockConfiguration {
	return &types.ObjectLockConfiguration{ObjectLockEnabled: types.ObjectLockEnabledEnabled, Rule: &types.ObjectLockRule{
		DefaultRetention: &types.DefaultRetention{Mode: mode, Days: days, Years: years}}}
}

func TestSDKObjectLockConfiguration(t *testing.T) {
	s := newServer(t)
	b := s.locked("lock-bucket")
	if v := ok(s.sdk.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: b}))(t); v.Status != types.BucketVersioningStatusEnabled {
		t.Errorf("%+v", v)
	}
	put := func(b *string, c *types.ObjectLockConfiguration) error {
		_, err := s.sdk.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{Bucket: b, ObjectLockConfiguration: c})
		return err
	}
	get := func() *types.ObjectLockConfiguration {
		return ok(s.sdk.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: b}))(t).ObjectLockConfiguration
	}
	if c := get(); c.ObjectLockEnabled != types.ObjectLockEnabledEnabled || c.Rule != nil {
		t.Errorf("%+v", c)
	}
	one, none, minus := aws.Int32(1), aws.Int32(0), aws.Int32(-1)
	wantCode(t, put(b, lockConfig("GOVERNANCE", one, nil)), "")
	if c := get().Rule.DefaultRetention; c.Mode != "GOVERNANCE" || *c.Days != 1 || c.Years != nil {
		t.Errorf("%+v", c)
	}
	wantCode(t, put(b, lockConfig("COMPLIANCE", nil, one)), "")
	if c := get().Rule.DefaultRetention; c.Mode != "COMPLIANCE" || *c.Years != 1 || c.Days != nil {
		t.Errorf("%+v", c)
	}
	wantCode(t, put(b, lockConfig("GOVERNANCE", none, nil)), "InvalidRetentionPeriod")
	wantCode(t, put(b, lockConfig("GOVERNANCE", nil, minus)), "InvalidRetentionPeriod")
	wantCode(t, put(b, lockConfig("GOVERNANCE", one, one)), "MalformedXML")
	wantCode(t, put(b, lockConfig("governance", one, nil)), "MalformedXML")
	wantCode(t, put(b, lockConfig("GOVERNANCE", nil, nil)), "MalformedXML")
	disabled := lockConfig("GOVERNANCE", one, nil)
	disabled.ObjectLockEnabled = "Disabled"
	wantCode(t, put(b, disabled), "MalformedXML")
	_, err := s.sdk.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: b, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended}})
	wantCode(t, err, "InvalidBucketState")
	wantCode(t, put(b, &types.ObjectLockConfiguration{ObjectLockEnabled: types.ObjectLockEnabledEnabled}), "")
	if c := get(); c.Rule != nil {
		t.Errorf("%+v", c)
	}

	// On a bucket that is there already.
	later := aws.String("later-bucket")
	ok(s.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: later}))(t)
	_, err = s.sdk.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: later})
	wantCode(t, err, "ObjectLockConfigurationNotFoundError")
	wantCode(t, put(later, lockConfig("GOVERNANCE", one, nil)), "InvalidBucketState")
	s.setVersioning(*later, types.BucketVersioningStatusSuspended)
	wantCode(t, put(later, lockConfig("GOVERNANCE", one, nil)), "InvalidBucketState")
	s.setVersioning(*later, types.BucketVersioningStatusEnabled)
	wantCode(t, put(later, lockConfig("GOVERNANCE", one, nil)), "")
	_, err = s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: later, Key: aws.String("k"), Body: strings.NewReader("x")})
	wantCode(t, err, "InvalidRequest") // without a checksum
	put1 := ok(s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: later, Key: aws.String("k"), Body: strings.NewReader("x"), ChecksumAlgorithm: "CRC32"}))(t)
	_, err = s.sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: later, Key: aws.String("k"), VersionId: put1.VersionId})
	wantCode(t, err, "AccessDenied")

	// A fork has the lock of its source.
	s.want(200, call{method: "PUT", path: "/lock-fork", headers: []string{"X-Tigris-Fork-Source-Bucket", "later-bucket"}})
	s.refused(403, "AccessDenied", call{method: "DELETE", path: "/lock-fork/k?versionId=" + *put1.VersionId})
	s.refused(403, "AccessDenied", call{method: "DELETE", path: "/later-bucket", headers: []string{"X-Tigris-Force-Delete", "true"}})
	s.want(204, call{method: "DELETE", path: "/lock-fork", headers: []string{"X-Tigris-Force-Delete", "true"}})
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/lock-fork", headers: []string{"X-Tigris-Fork-Source-Bucket", "later-bucket", "x-amz-bucket-object-lock-enabled", "true"}})
}

func TestSDKObjectLock(t *testing.T) {
	s := newServer(t)
	b, k := s.locked("lock-bucket"), aws.String("k")
	plain := aws.String("plain-bucket")
	ok(s.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: plain}))(t)
	s.putSDK(plain, *k, "x")
	version := s.putSDK(b, *k, "x").VersionId
	until := time.Date(2140, 1, 1, 0, 0, 0, 0, time.UTC)
	retain := func(b *string, mode types.ObjectLockRetentionMode, until time.Time, bypass bool) error {
		_, err := s.sdk.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{Bucket: b, Key: k, BypassGovernanceRetention: &bypass,
			Retention: &types.ObjectLockRetention{Mode: mode, RetainUntilDate: &until}})
		return err
	}
	hold := func(b *string, status types.ObjectLockLegalHoldStatus) error {
		_, err := s.sdk.PutObjectLegalHold(ctx, &s3.PutObjectLegalHoldInput{Bucket: b, Key: k, LegalHold: &types.ObjectLockLegalHold{Status: status}})
		return err
	}
	remove := func(bypass bool) error {
		_, err := s.sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: k, VersionId: version, BypassGovernanceRetention: &bypass})
		return err
	}
	// A bucket without object lock.
	wantCode(t, retain(plain, "GOVERNANCE", until, false), "InvalidRequest")
	wantCode(t, hold(plain, "ON"), "InvalidRequest")
	_, err := s.sdk.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: plain, Key: k})
	wantCode(t, err, "InvalidRequest")
	_, err = s.sdk.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{Bucket: plain, Key: k})
	wantCode(t, err, "InvalidRequest")
	_, err = s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: plain, Key: k, ObjectLockLegalHoldStatus: "ON"})
	wantCode(t, err, "InvalidRequest")
	// An object without a lock.
	_, err = s.sdk.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: b, Key: k})
	wantCode(t, err, "NoSuchObjectLockConfiguration")
	_, err = s.sdk.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{Bucket: b, Key: k})
	wantCode(t, err, "NoSuchObjectLockConfiguration")

	wantCode(t, retain(b, "governance", until, false), "MalformedXML")
	wantCode(t, retain(b, "GOVERNANCE", time.Now().Add(-time.Hour), false), "InvalidArgument")
	wantCode(t, retain(b, "GOVERNANCE", until, false), "")
	got := ok(s.sdk.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: b, Key: k, VersionId: version}))(t).Retention
	if got.Mode != "GOVERNANCE" || !got.RetainUntilDate.Equal(until) {
		t.Errorf("%+v", got)
	}
	wantCode(t, retain(b, "GOVERNANCE", until.AddDate(-1, 0, 0), false), "AccessDenied")
	wantCode(t, retain(b, "COMPLIANCE", until, false), "AccessDenied")
	wantCode(t, retain(b, "GOVERNANCE", until.AddDate(-1, 0, 0), true), "")
	wantCode(t, remove(false), "AccessDenied")
	wantCode(t, hold(b, "abc"), "MalformedXML")
	wantCode(t, hold(b, "ON"), "")
	wantCode(t, remove(true), "AccessDenied")
	head := ok(s.sdk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: k}))(t)
	if head.ObjectLockMode != "GOVERNANCE" || head.ObjectLockRetainUntilDate.Year() != 2139 || head.ObjectLockLegalHoldStatus != "ON" || *head.VersionId != *version {
		t.Errorf("%+v", head)
	}
	wantCode(t, hold(b, "OFF"), "")
	if h := ok(s.sdk.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{Bucket: b, Key: k}))(t); h.LegalHold.Status != "OFF" {
		t.Errorf("%+v", h.LegalHold)
	}

	// A marker may hide what is locked; then many at once.
	marker := ok(s.sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: k}))(t)
	s.refused(405, "MethodNotAllowed", call{method: "GET", path: "/" + *b + "/k?retention&versionId=" + *marker.VersionId})
	other := s.putSDK(b, "other", "x").VersionId
	many := ok(s.sdk.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: []types.ObjectIdentifier{
		{Key: k, VersionId: version}, {Key: aws.String("other"), VersionId: other}, {Key: k, VersionId: marker.VersionId}}}}))(t)
	if len(many.Deleted) != 2 || len(many.Errors) != 1 || *many.Errors[0].Code != "AccessDenied" || *many.Errors[0].VersionId != *version {
		t.Errorf("%+v", many)
	}
	many = ok(s.sdk.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, BypassGovernanceRetention: aws.Bool(true), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: k, VersionId: version}}}}))(t)
	if len(many.Deleted) != 1 || len(many.Errors) != 0 {
		t.Errorf("%+v", many)
	}

	// What makes a version can lock it.
	p := ok(s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: strings.NewReader("x"), ChecksumAlgorithm: "CRC32", ObjectLockMode: "COMPLIANCE", ObjectLockRetainUntilDate: &until, ObjectLockLegalHoldStatus: "ON"}))(t)
	c := ok(s.sdk.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: aws.String("copy"), CopySource: aws.String(*b + "/k"), ObjectLockMode: "GOVERNANCE", ObjectLockRetainUntilDate: &until}))(t)
	up := ok(s.sdk.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: aws.String("up"), ObjectLockLegalHoldStatus: "ON"}))(t)
	part := ok(s.sdk.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: aws.String("up"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("x")}))(t)
	done := ok(s.sdk.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: aws.String("up"), UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{
		Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}}}))(t)
	for key, id := range map[string]*string{"k": p.VersionId, "copy": c.VersionId, "up": done.VersionId} {
		_, err := s.sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: &key, VersionId: id})
		wantCode(t, err, "AccessDenied")
	}
	wantCode(t, retain(b, "GOVERNANCE", until, true), "AccessDenied")

	path := "/" + *b + "/raw"
	for _, c := range []struct {
		code    string
		headers []string
	}{
		{"InvalidArgument", []string{"x-amz-object-lock-mode", "GOVERNANCE"}},
		{"InvalidArgument", []string{"x-amz-object-lock-mode", "x", "x-amz-object-lock-retain-until-date", "2140-01-01T00:00:00Z"}},
		{"InvalidArgument", []string{"x-amz-object-lock-mode", "GOVERNANCE", "x-amz-object-lock-retain-until-date", "tomorrow"}},
		{"InvalidArgument", []string{"x-amz-object-lock-mode", "GOVERNANCE", "x-amz-object-lock-retain-until-date", "1999-01-01T00:00:00Z", "Content-MD5", md5Header("x")[1]}},
		{"InvalidArgument", []string{"x-amz-object-lock-legal-hold", "on"}},
		{"InvalidRequest", []string{"x-amz-object-lock-legal-hold", "ON"}}, // no digest
	} {
		s.refused(400, c.code, call{method: "PUT", path: path, body: "x", headers: c.headers})
	}
	s.refused(400, "InvalidRequest", call{method: "PUT", path: path + "?retention", body: "<Retention/>"}) // no digest
	for _, doc := range []string{"<Retention><Mode>GOVERNANCE</Mode></Retention>", "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>x</RetainUntilDate></Retention>", "<LegalHold/>"} {
		s.refused(400, "MalformedXML", call{method: "PUT", path: path + "?retention", body: doc, headers: md5Header(doc)})
	}
	s.want(200, call{method: "PUT", path: path, body: "x", headers: append(md5Header("x"), "x-amz-object-lock-mode", "GOVERNANCE", "x-amz-object-lock-retain-until-date", "2140-01-01T00:00:00.5Z")})
	s.want(200, call{method: "PUT", path: path + "?retention", body: "<Retention/>", headers: append(md5Header("<Retention/>"), "x-amz-bypass-governance-retention", "true")})
	s.refused(404, "NoSuchObjectLockConfiguration", call{method: "GET", path: path + "?retention"})
}
