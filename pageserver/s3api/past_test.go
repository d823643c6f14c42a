package s3api

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"stemma/timeline"
)

// Below .snapshot/POINT/ clients that know no header read the past, and nobody writes.
func TestPastByPath(t *testing.T) {
	n := newTenants(t)
	c := n.main.sdk
	bucket := aws.String("data")
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	put := func(key, body string) error {
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(body)})
		return err
	}
	for _, key := range []string{"a", "dir/b", "dir/c"} {
		if err := put(key, "old "+key); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := n.objects.Store().Snapshot(ctx, timeline.NewSnapshot{Buckets: []string{"data"}, SnapshotSettings: timeline.SnapshotSettings{Name: "good"}})
	if err != nil {
		t.Fatal(err)
	}
	lsn := snap[0].LSN
	if err := errors.Join(put("a", "new"), put("d", "new")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("dir/b")}); err != nil {
		t.Fatal(err)
	}
	read := func(c *s3.Client, key string) string {
		o, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key})
		if err != nil {
			return code(err)
		}
		defer o.Body.Close()
		p, err := io.ReadAll(o.Body)
		if err != nil {
			t.Error(err)
		}
		return string(p)
	}
	for key, want := range map[string]string{
		".snapshot/good/a": "old a", ".snapshot/" + lsn.String() + "/dir/b": "old dir/b", ".snapshot/" + lsn.Time().Format("2006-01-02T15:04:05.999999999Z") + "/a": "old a",
		".snapshot/good/d": "NoSuchKey", ".snapshot/none/a": "NoSuchKey", ".snapshot/good": "NoSuchKey", ".snapshot/good/": "NoSuchKey", ".snapshot//a": "NoSuchKey",
		".snapshot/2200-01-01T00:00:00Z/a": "InvalidArgument", "a": "new",
	} {
		if got := read(c, key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String(".snapshot/good/a")}); err != nil || *h.ContentLength != 5 {
		t.Errorf("%+v, %v", h, err)
	}
	list := func(prefix, delimiter string) string {
		var all []string
		in := &s3.ListObjectsV2Input{Bucket: bucket, Prefix: &prefix, Delimiter: &delimiter, MaxKeys: aws.Int32(1)}
		for pages := s3.NewListObjectsV2Paginator(c, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return code(err)
			}
			for _, o := range page.Contents {
				all = append(all, *o.Key)
			}
			for _, p := range page.CommonPrefixes {
				all = append(all, *p.Prefix)
			}
			if *page.Prefix != prefix {
				t.Errorf("a listing of %q says %q", prefix, *page.Prefix)
			}
		}
		return strings.Join(all, " ")
	}
	if _, err := n.objects.Store().Snapshot(ctx, timeline.NewSnapshot{Buckets: []string{"data"}, SnapshotSettings: timeline.SnapshotSettings{Name: "later"}}); err != nil {
		t.Fatal(err)
	}
	for _, x := range [][3]string{
		{"", "", "a d dir/c"}, {"", "/", "a d dir/"}, {".snapshot", "/", ""}, {".snapshot/", "", ""},
		{".snapshot/", "/", ".snapshot/good/ .snapshot/later/"}, {".snapshot/g", "/", ".snapshot/good/"}, {".snapshot/good", "/", ".snapshot/good/"},
		{".snapshot/good/", "", ".snapshot/good/a .snapshot/good/dir/b .snapshot/good/dir/c"},
		{".snapshot/good/", "/", ".snapshot/good/a .snapshot/good/dir/"},
		{".snapshot/good/dir/", "/", ".snapshot/good/dir/b .snapshot/good/dir/c"}, {".snapshot/none/", "/", "NoSuchKey"},
	} {
		if got := list(x[0], x[1]); got != x[2] {
			t.Errorf("list %q by %q: %q, want %q", x[0], x[1], got, x[2])
		}
	}
	v1, err := c.ListObjects(ctx, &s3.ListObjectsInput{Bucket: bucket, Prefix: aws.String(".snapshot/good/"), Marker: aws.String(".snapshot/good/a"), MaxKeys: aws.Int32(1), Delimiter: aws.String("x")})
	if err != nil || len(v1.Contents) != 1 || *v1.Contents[0].Key != ".snapshot/good/dir/b" || *v1.NextMarker != ".snapshot/good/dir/b" {
		t.Errorf("%+v, %v", v1, err)
	}

	// A copy brings it back.
	if _, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("dir/b"), CopySource: aws.String("data/.snapshot/good/dir/b")}); err != nil {
		t.Error(err)
	}
	if got := read(c, "dir/b"); got != "old dir/b" {
		t.Errorf("copied back: %q", got)
	}
	// Nobody writes there.
	key := aws.String(".snapshot/good/x")
	for what, run := range map[string]func() error{
		"put": func() error { return put(*key, "x") },
		"delete": func() error {
			_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key})
			return err
		},
		"copy": func() error {
			_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: key, CopySource: aws.String("data/a")})
			return err
		},
		"upload": func() error {
			_, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
			return err
		},
		"tag": func() error {
			_, err := c.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: bucket, Key: key, Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}})
			return err
		},
	} {
		if got := code(run()); got != "MethodNotAllowed" {
			t.Errorf("%s: %q", what, got)
		}
	}
	many, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: key}}}})
	if err != nil || len(many.Errors) != 1 || *many.Errors[0].Code != "MethodNotAllowed" {
		t.Errorf("%+v, %v", many, err)
	}
	// Permissions are those for the past of the key: none by an ACL, some by a policy.
	if _, err := c.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: bucket, Key: aws.String("dir/c"), ACL: types.ObjectCannedACLPublicRead}); err != nil && code(err) != "AccessControlListNotSupported" {
		t.Fatal(err)
	}
	for _, x := range []*s3.Client{n.alt.sdk, n.nobody} {
		if got := read(x, ".snapshot/good/dir/c"); got != "AccessDenied" {
			t.Errorf("a stranger reads the past: %q", got)
		}
		if got := read(x, ".snapshot/none/dir/c"); got != "AccessDenied" {
			t.Errorf("a stranger learns of snapshots: %q", got)
		}
	}
	doc := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"%s"},"Action":"s3:GetObjectVersion","Resource":"arn:aws:s3:::data/dir/*"}]}`, n.alt.ARN())
	if _, err := c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: bucket, Policy: &doc}); err != nil {
		t.Fatal(err)
	}
	if got := read(n.alt.sdk, ".snapshot/good/dir/c"); got != "old dir/c" {
		t.Errorf("by a policy: %q", got)
	}
	if got := read(n.alt.sdk, ".snapshot/good/a"); got != "AccessDenied" {
		t.Errorf("beyond the policy: %q", got)
	}
}

// code returns the code of an error of S3.
func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}
