package s3api

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// codeOf returns the S3 code of an SDK's error.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func TestSDKAppend(t *testing.T) {
	s := newServer(t)
	c, bucket, key := s.sdk, aws.String("sdk-bucket"), aws.String("log")
	ok(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))(t)
	whole := ""
	for i, piece := range []string{"first ", strings.Repeat("second ", 10_000), "third"} {
		out := ok(c.PutObject(ctx, &s3.PutObjectInput{
			Bucket: bucket, Key: key, Body: strings.NewReader(piece), WriteOffsetBytes: aws.Int64(int64(len(whole))),
		}))(t)
		whole += piece
		if aws.ToInt64(out.Size) != int64(len(whole)) && i > 0 {
			t.Fatalf("piece %d: size %d", i, aws.ToInt64(out.Size))
		}
	}
	if got := s.get("/sdk-bucket/log"); got != whole {
		t.Fatalf("%d bytes", len(got))
	}
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("x"), WriteOffsetBytes: aws.Int64(3)})
	if codeOf(err) != "InvalidWriteOffset" {
		t.Fatal(err)
	}
	for _, offset := range []string{"-1", "x", "99999999999999999999"} {
		s.refused(400, "InvalidArgument", call{method: "PUT", path: "/sdk-bucket/log", body: "x", headers: []string{"x-amz-write-offset-bytes", offset}})
	}
	s.refused(400, "InvalidRequest", call{method: "PUT", path: "/sdk-bucket/log", body: "x", headers: []string{"x-amz-write-offset-bytes", itoa(len(whole)), "x-amz-meta-a", "b"}})
	if got := s.get("/sdk-bucket/log"); got != whole {
		t.Fatalf("%d bytes", len(got))
	}
}

func TestSDKRename(t *testing.T) {
	s := newServer(t)
	c, bucket := s.sdk, aws.String("sdk-bucket")
	ok(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))(t)
	s.put("/sdk-bucket/a%20%2B", "body")
	in := &s3.RenameObjectInput{Bucket: bucket, Key: aws.String("b"), RenameSource: aws.String("a%20%2B"), ClientToken: aws.String("token")}
	ok(c.RenameObject(ctx, in))(t)
	ok(c.RenameObject(ctx, in))(t) // again
	s.refused(404, "NoSuchKey", call{method: "GET", path: "/sdk-bucket/a%20%2B"})
	if got := s.get("/sdk-bucket/b"); got != "body" {
		t.Fatalf("%q", got)
	}
	_, err := c.RenameObject(ctx, &s3.RenameObjectInput{Bucket: bucket, Key: aws.String("b"), RenameSource: aws.String("x"), ClientToken: aws.String("token")})
	if codeOf(err) != "IdempotencyParameterMismatch" {
		t.Fatal(err)
	}
	for _, step := range [][2]string{{"/b", "c"}, {"/sdk-bucket/c", "d"}, {"d", "sdk-bucket/e"}, {"sdk-bucket/e", "f"}} {
		s.want(200, call{method: "PUT", path: "/sdk-bucket/" + step[1] + "?renameObject", headers: []string{"x-amz-rename-source", step[0]}})
	}
	s.put("/sdk-bucket/g", "other")
	for _, bad := range []struct {
		status  int
		code    string
		path    string
		headers []string
	}{
		{400, "InvalidArgument", "g", nil},
		{400, "InvalidArgument", "g", []string{"x-amz-rename-source", "%zz"}},
		{400, "InvalidArgument", "g", []string{"x-amz-rename-source", "f", "x-amz-client-token", strings.Repeat("x", 65)}},
		{400, "InvalidRequest", "f", []string{"x-amz-rename-source", "f"}},
		{404, "NoSuchKey", "g", []string{"x-amz-rename-source", "absent"}},
		{412, "PreconditionFailed", "g", []string{"x-amz-rename-source", "f", "If-None-Match", "*"}},
		{412, "PreconditionFailed", "g", []string{"x-amz-rename-source", "f", "If-Match", `"x"`}},
		{412, "PreconditionFailed", "g", []string{"x-amz-rename-source", "f", "x-amz-rename-source-if-match", `"x"`}},
		{501, "NotImplemented", "g", []string{"x-amz-copy-source", "sdk-bucket/f"}},
	} {
		s.refused(bad.status, bad.code, call{method: "PUT", path: "/sdk-bucket/" + bad.path + "?renameObject", headers: bad.headers})
	}
	if s.get("/sdk-bucket/f") != "body" || s.get("/sdk-bucket/g") != "other" {
		t.Fatal("what was refused has moved something")
	}
}
