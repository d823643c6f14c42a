package s3api

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// wantCode checks the code of an error of the SDK; empty: none.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var e smithy.APIError
	got := ""
	if errors.As(err, &e) {
		got = e.ErrorCode()
	}
	if got != code || (err == nil) != (code == "") {
		t.Errorf("%v, want %q", err, code)
	}
}

// versioned makes a bucket with versioning.
func (s *testServer) versioned(bucket string) *string {
	s.t.Helper()
	ok(s.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket}))(s.t)
	s.setVersioning(bucket, types.BucketVersioningStatusEnabled)
	return &bucket
}

func (s *testServer) setVersioning(bucket string, status types.BucketVersioningStatus) {
	s.t.Helper()
	ok(s.sdk.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: status}}))(s.t)
	if got := ok(s.sdk.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &bucket}))(s.t); got.Status != status {
		s.t.Errorf("%s is %q, want %q", bucket, got.Status, status)
	}
}

func (s *testServer) putSDK(bucket *string, key, body string) *s3.PutObjectOutput {
	s.t.Helper()
	return ok(s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(body)}))(s.t)
}

// body reads a version; empty: the current one.
func (s *testServer) body(bucket *string, key, version string) string {
	s.t.Helper()
	in := &s3.GetObjectInput{Bucket: bucket, Key: &key}
	if version != "" {
		in.VersionId = &version
	}
	o := ok(s.sdk.GetObject(ctx, in))(s.t)
	defer o.Body.Close()
	return string(ok(io.ReadAll(o.Body))(s.t))
}

func TestSDKVersions(t *testing.T) {
	s := newServer(t)
	plain := aws.String("plain-bucket")
	ok(s.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: plain}))(t)
	if v := ok(s.sdk.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: plain}))(t); v.Status != "" || v.MFADelete != "" {
		t.Errorf("%+v", v)
	}
	if p := s.putSDK(plain, "k", "null"); p.VersionId != nil {
		t.Errorf("version %q of a bucket without versioning", *p.VersionId)
	}
	if g := ok(s.sdk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: plain, Key: aws.String("k")}))(t); g.VersionId != nil {
		t.Errorf("version %q of a bucket without versioning", *g.VersionId)
	}
	s.setVersioning(*plain, types.BucketVersioningStatusSuspended)
	if p := s.putSDK(plain, "k", "null"); p.VersionId != nil {
		t.Errorf("version %q of a suspended bucket", *p.VersionId)
	}
	if g := ok(s.sdk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: plain, Key: aws.String("k")}))(t); aws.ToString(g.VersionId) != "null" {
		t.Errorf("version %q of a suspended bucket", aws.ToString(g.VersionId))
	}

	b, k := s.versioned("version-bucket"), aws.String("dir/k")
	v1, v2 := *s.putSDK(b, *k, "one").VersionId, *s.putSDK(b, *k, "two").VersionId
	if v1 >= v2 || s.body(b, *k, v1) != "one" || s.body(b, *k, v2) != "two" || s.body(b, *k, "") != "two" {
		t.Errorf("versions %s, %s", v1, v2)
	}
	// Copies of versions, of parts of them, and their attributes.
	src := aws.String(*b + "/" + *k + "?versionId=" + v1)
	c := ok(s.sdk.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: k, CopySource: src}))(t)
	if *c.CopySourceVersionId != v1 || s.body(b, *k, "") != "one" || s.body(b, *k, *c.VersionId) != "one" {
		t.Errorf("%+v", c)
	}
	up := ok(s.sdk.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: k}))(t)
	part := ok(s.sdk.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: b, Key: k, UploadId: up.UploadId, PartNumber: aws.Int32(1), CopySource: src, CopySourceRange: aws.String("bytes=1-2")}))(t)
	done := ok(s.sdk.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: k, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{
		Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.CopyPartResult.ETag}}}}))(t)
	if *part.CopySourceVersionId != v1 || s.body(b, *k, *done.VersionId) != "ne" {
		t.Errorf("%+v %+v", part, done)
	}
	attrs := ok(s.sdk.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: b, Key: k, VersionId: &v2, ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesObjectSize}}))(t)
	if *attrs.VersionId != v2 || *attrs.ObjectSize != 3 {
		t.Errorf("%+v", attrs)
	}
	// Tags of a version.
	tags := &types.Tagging{TagSet: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}}
	if o := ok(s.sdk.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: b, Key: k, VersionId: &v1, Tagging: tags}))(t); *o.VersionId != v1 {
		t.Errorf("%+v", o)
	}
	if o := ok(s.sdk.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: b, Key: k, VersionId: &v1}))(t); *o.VersionId != v1 || len(o.TagSet) != 1 {
		t.Errorf("%+v", o)
	}
	if o := ok(s.sdk.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: b, Key: k}))(t); len(o.TagSet) != 0 {
		t.Errorf("%+v", o)
	}

	marker := ok(s.sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: k}))(t)
	if !aws.ToBool(marker.DeleteMarker) || aws.ToString(marker.VersionId) <= v2 {
		t.Errorf("%+v", marker)
	}
	_, err := s.sdk.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k})
	wantCode(t, err, "NoSuchKey")
	path := "/" + *b + "/" + *k
	for _, method := range []string{"GET", "HEAD"} {
		if a := s.want(404, call{method: method, path: path}); a.header.Get("x-amz-delete-marker") != "true" || a.header.Get("x-amz-version-id") != *marker.VersionId {
			t.Errorf("%s: %v", method, a.header)
		}
		a := s.want(405, call{method: method, path: path + "?versionId=" + *marker.VersionId})
		if a.header.Get("x-amz-delete-marker") != "true" || a.header.Get("Allow") != "DELETE" || a.header.Get("Last-Modified") == "" {
			t.Errorf("%s: %v", method, a.header)
		}
		if a := s.want(404, call{method: method, path: path + "no"}); a.header.Get("x-amz-delete-marker") != "false" {
			t.Errorf("%s: %v", method, a.header)
		}
		s.want(404, call{method: method, path: path + "?versionId=17"})
	}
	s.refused(400, "InvalidRequest", call{method: "PUT", path: path, headers: []string{"x-amz-copy-source", path + "?versionId=" + *marker.VersionId}})
	s.refused(404, "NoSuchKey", call{method: "PUT", path: path, headers: []string{"x-amz-copy-source", path}})
	list := ok(s.sdk.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: b}))(t)
	if len(list.Versions) != 4 || len(list.DeleteMarkers) != 1 || !*list.DeleteMarkers[0].IsLatest || *list.DeleteMarkers[0].Owner.ID == "" || *list.Versions[3].VersionId != v1 ||
		*list.Versions[3].Size != 3 || *list.Versions[0].IsLatest {
		t.Errorf("%+v", list)
	}
	undone := ok(s.sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: k, VersionId: marker.VersionId}))(t)
	if !aws.ToBool(undone.DeleteMarker) || *undone.VersionId != *marker.VersionId || s.body(b, *k, "") != "ne" {
		t.Errorf("%+v", undone)
	}
	_, err = s.sdk.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: b})
	wantCode(t, err, "BucketNotEmpty")

	// Everything at once: versions, a marker to be made, one that is there.
	var ids []types.ObjectIdentifier
	for _, v := range list.Versions {
		ids = append(ids, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
	}
	ids = append(ids, types.ObjectIdentifier{Key: aws.String("other")}, types.ObjectIdentifier{Key: k, VersionId: aws.String("bad id")})
	many := ok(s.sdk.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: ids}}))(t)
	if len(many.Deleted) != 5 || *many.Deleted[0].VersionId != *ids[0].VersionId || !aws.ToBool(many.Deleted[4].DeleteMarker) || *many.Deleted[4].DeleteMarkerVersionId == "" ||
		len(many.Errors) != 1 || *many.Errors[0].Code != "NoSuchVersion" {
		t.Errorf("%+v", many)
	}
	many = ok(s.sdk.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: []types.ObjectIdentifier{
		{Key: aws.String("other"), VersionId: many.Deleted[4].DeleteMarkerVersionId}}}}))(t)
	if !aws.ToBool(many.Deleted[0].DeleteMarker) || *many.Deleted[0].DeleteMarkerVersionId != *many.Deleted[0].VersionId {
		t.Errorf("%+v", many)
	}
	ok(s.sdk.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: b}))(t)
}

// The pagers of ListObjectVersions, and what they refuse.
func TestSDKListVersions(t *testing.T) {
	s := newServer(t)
	b := s.versioned("version-bucket")
	for i := range 4 {
		for _, key := range []string{"a b", "d/1", "d/2", "e"} {
			s.putSDK(b, key, fmt.Sprint(i))
		}
	}
	ok(s.sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: aws.String("e")}))(t)
	for _, c := range []struct {
		in   s3.ListObjectVersionsInput
		want string
	}{
		{s3.ListObjectVersionsInput{}, "a b a b a b a b d/1 d/1 d/1 d/1 d/2 d/2 d/2 d/2 e e e e .e"},
		{s3.ListObjectVersionsInput{Delimiter: aws.String("/")}, "a b a b a b a b e e e e .e d/"},
		{s3.ListObjectVersionsInput{Prefix: aws.String("d/1")}, "d/1 d/1 d/1 d/1"},
		{s3.ListObjectVersionsInput{KeyMarker: aws.String("d/1")}, "d/2 d/2 d/2 d/2 e e e e .e"},
		{s3.ListObjectVersionsInput{EncodingType: types.EncodingTypeUrl, Prefix: aws.String("a ")}, "a%20b a%20b a%20b a%20b"},
	} {
		if c.in.Bucket, c.in.MaxKeys = b, aws.Int32(3); c.in.EncodingType != "" {
			c.in.MaxKeys = nil // the SDK gives markers back as they are encoded
		}
		var keys, markers, prefixes []string
		latest := map[string]int{}
		pages := s3.NewListObjectVersionsPaginator(s.sdk, &c.in)
		for pages.HasMorePages() {
			page := ok(pages.NextPage(ctx))(t)
			for _, v := range page.Versions {
				keys = append(keys, *v.Key)
				if *v.IsLatest {
					latest[*v.Key]++
				}
			}
			for _, v := range page.DeleteMarkers {
				markers = append(markers, "."+*v.Key)
				if *v.IsLatest {
					latest[*v.Key]++
				}
			}
			for _, p := range page.CommonPrefixes {
				prefixes = append(prefixes, *p.Prefix)
			}
		}
		if got := strings.Join(slices.Concat(keys, markers, prefixes), " "); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
		for key, n := range latest {
			if n != 1 {
				t.Errorf("%d latest versions of %s", n, key)
			}
		}
	}
	for _, q := range []string{"version-id-marker=5", "version-id-marker=x&key-marker=a", "version-id-marker=&key-marker=a", "max-keys=-1", "encoding-type=x"} {
		s.refused(400, "InvalidArgument", call{method: "GET", path: "/" + *b + "?versions&" + q})
	}
	s.refused(404, "NoSuchBucket", call{method: "GET", path: "/absent?versions"})
	if zero := s.get("/" + *b + "?versions&max-keys=0"); element(zero, "IsTruncated") != "false" || len(elements(zero, "Version")) > 0 {
		t.Error(zero)
	}
}

func TestVersioningRefused(t *testing.T) {
	s := newServer(t)
	s.want(200, call{method: "PUT", path: "/b-1"})
	doc := func(inner string) string {
		return "<VersioningConfiguration>" + inner + "</VersioningConfiguration>"
	}
	for _, c := range []struct {
		status     int
		code, body string
	}{
		{400, "MissingRequestBodyError", ""},
		{400, "MalformedXML", "<Versioning/>"},
		{400, "MalformedXML", doc("<Status>enabled</Status>")},
		{400, "MalformedXML", doc("<Status>Enabled</Status><Status>Enabled</Status>")},
		{400, "MalformedXML", doc("<Status>Enabled</Status><MfaDelete>x</MfaDelete>")},
		{400, "IllegalVersioningConfigurationException", doc("")},
		{403, "AccessDenied", doc("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>")},
	} {
		s.refused(c.status, c.code, call{method: "PUT", path: "/b-1?versioning", body: c.body})
	}
	s.refused(404, "NoSuchBucket", call{method: "PUT", path: "/absent?versioning", body: doc("<Status>Enabled</Status>")})
	s.want(200, call{method: "PUT", path: "/b-1?versioning", body: doc("<Status>Enabled</Status><MfaDelete>Disabled</MfaDelete>"), headers: []string{"x-amz-mfa", "device 123456"}})
	s.put("/b-1/k", "x")
	for _, method := range []string{"GET", "HEAD", "DELETE"} {
		for _, id := range []string{"", "x", "0", "-5"} {
			if a := s.do(call{method: method, path: "/b-1/k?versionId=" + id}); a.status != 400 {
				t.Errorf("%s of version %q: %d", method, id, a.status)
			}
		}
		s.want(map[bool]int{true: 204, false: 404}[method == "DELETE"], call{method: method, path: "/b-1/k?versionId=null"})
	}
}

// Versions in forks, and as of a point in time: the newest id at or below a snapshot is what
// the snapshot shows.
func TestVersionsInForksAndThePast(t *testing.T) {
	s := newServer(t)
	s.want(200, call{method: "PUT", path: "/b-1", headers: []string{"X-Tigris-Enable-Snapshot", "true"}})
	var ids []string
	for _, body := range []string{"1", "2", "3"} {
		ids = append(ids, s.put("/b-1/k", body).header.Get("x-amz-version-id"))
	}
	marker := s.want(204, call{method: "DELETE", path: "/b-1/k"}).header.Get("x-amz-version-id")
	s.want(200, call{method: "PUT", path: "/f-1", headers: []string{"X-Tigris-Fork-Source-Bucket", "b-1"}})
	for _, header := range []string{"x-stemma-at", "X-Tigris-Snapshot-Version"} {
		for i, at := range ids {
			if got := s.get("/b-1/k", header, at); got != fmt.Sprint(i+1) {
				t.Errorf("at %s: %s", at, got)
			}
			list := s.get("/b-1?versions", header, at)
			if got := elements(list, "VersionId"); got[0] != at || len(got) != i+1 || elements(list, "IsLatest")[0] != "true" {
				t.Errorf("at %s: %s", at, list)
			}
		}
		s.want(404, call{method: "GET", path: "/b-1/k", headers: []string{header, marker}})
		s.want(404, call{method: "GET", path: "/b-1/k?versionId=" + ids[1], headers: []string{header, ids[0]}})
	}
	// Deleting what a fork inherited is the fork's own affair.
	for _, id := range append([]string{marker}, ids[1:]...) {
		s.want(204, call{method: "DELETE", path: "/f-1/k?versionId=" + id})
	}
	if got := s.get("/f-1/k"); got != "1" {
		t.Error(got)
	}
	if mine := s.put("/f-1/k", "mine").header.Get("x-amz-version-id"); mine <= marker {
		t.Errorf("version %s after %s", mine, marker)
	}
	s.want(404, call{method: "GET", path: "/b-1/k"})
	if got := elements(s.get("/b-1?versions"), "VersionId"); len(got) != 4 {
		t.Errorf("%q", got)
	}
}

func TestSDKConditionalDeleteOfVersions(t *testing.T) {
	s := newServer(t)
	b, k := s.versioned("version-bucket"), aws.String("k")
	put := s.putSDK(b, *k, "body")
	head := ok(s.sdk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: k}))(t)
	del := func(version *string, change func(*s3.DeleteObjectInput)) error {
		in := &s3.DeleteObjectInput{Bucket: b, Key: k, VersionId: version}
		change(in)
		_, err := s.sdk.DeleteObject(ctx, in)
		return err
	}
	tag := func(v string) func(*s3.DeleteObjectInput) {
		return func(in *s3.DeleteObjectInput) { in.IfMatch = &v }
	}
	size := func(n int64) func(*s3.DeleteObjectInput) {
		return func(in *s3.DeleteObjectInput) { in.IfMatchSize = &n }
	}
	modified := func(m time.Time) func(*s3.DeleteObjectInput) {
		return func(in *s3.DeleteObjectInput) { in.IfMatchLastModifiedTime = &m }
	}
	wantCode(t, del(nil, tag("bad")), "PreconditionFailed")
	wantCode(t, del(put.VersionId, size(5)), "PreconditionFailed")
	wantCode(t, del(put.VersionId, modified(head.LastModified.Add(-time.Hour))), "PreconditionFailed")
	wantCode(t, del(nil, size(4)), "")
	wantCode(t, del(nil, tag(*put.ETag)), "PreconditionFailed") // the marker
	wantCode(t, del(nil, tag("*")), "")
	wantCode(t, del(put.VersionId, modified(*head.LastModified)), "")
	wantCode(t, del(put.VersionId, tag("bad")), "") // gone
	list := ok(s.sdk.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: b}))(t)
	if len(list.Versions) != 0 || len(list.DeleteMarkers) != 2 {
		t.Errorf("%+v", list)
	}
}
