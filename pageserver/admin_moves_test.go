package pageserver

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
)

// bodies reads all objects of a bucket by S3, as key=body.
func bodies(t *testing.T, s *Server, bucket string) string {
	t.Helper()
	c := client(s)
	list, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range list.Contents {
		got, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: o.Key})
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(got.Body)
		if err = errors.Join(err, got.Body.Close()); err != nil {
			t.Fatal(err)
		}
		out = append(out, *o.Key+"="+string(p))
	}
	return strings.Join(out, " ")
}

func wantBodies(t *testing.T, s *Server, bucket, want string) {
	t.Helper()
	if got := bodies(t, s, bucket); got != want {
		t.Errorf("bucket %q has %q, want %q", bucket, got, want)
	}
}

func TestAdminRestore(t *testing.T) {
	s := started(t)
	c := client(s)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"main","labels":{"a":"b"}}`, nil)
	putObject(t, s, "main", "a", "1")
	putObject(t, s, "main", "d/b", "1")
	mustAsk(t, s, "POST", "/v1/buckets/main/snapshots", `{"name":"good"}`, nil)
	up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String("main"), Key: aws.String("u")})
	if err != nil {
		t.Fatal(err)
	}
	part := &s3.UploadPartInput{Bucket: aws.String("main"), Key: aws.String("u"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("part")}
	made, err := c.UploadPart(t.Context(), part)
	if err != nil {
		t.Fatal(err)
	}
	putObject(t, s, "main", "a", "2")
	putObject(t, s, "main", "c", "2")
	if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("main"), Key: aws.String("d/b")}); err != nil {
		t.Fatal(err)
	}

	var m MoveAnswer
	mustAsk(t, s, "POST", "/v1/buckets/main/restore", `{"at":"good"}`, &m)
	if m.LSN != m.BeforeLSN+1 || len(m.Buckets) != 1 || m.Buckets[0].Name != "main" || m.Buckets[0].Labels["a"] != "b" {
		t.Errorf("%+v", m)
	}
	wantBodies(t, s, "main", "a=1 d/b=1")
	part.Body = strings.NewReader("part")
	for what, run := range map[string]func() error{
		"part": func() error { _, err := c.UploadPart(t.Context(), part); return err },
		"complete": func() error {
			_, err := c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: aws.String("main"), Key: aws.String("u"), UploadId: up.UploadId,
				MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: made.ETag}}}})
			return err
		},
	} {
		var e smithy.APIError
		if err := run(); !errors.As(err, &e) || e.ErrorCode() != "NoSuchUpload" {
			t.Errorf("%s of an upload from before the restore: %v", what, err)
		}
	}
	mustAsk(t, s, "POST", "/v1/buckets/main/restore", fmt.Sprintf(`{"at":"%d"}`, m.BeforeLSN), nil)
	wantBodies(t, s, "main", "a=2 c=2")

	var merged MergeAnswer
	if mustAsk(t, s, "POST", "/v1/buckets/main/restore", `{"at":"good","prefixes":["d/"],"dry_run":true}`, &merged); merged.Committed || merged.Put != 1 {
		t.Errorf("%+v", merged)
	}
	mustAsk(t, s, "POST", "/v1/buckets/main/restore", `{"at":"-1ns","keys":["a"]}`, &merged) // nothing was committed since
	if merged.Committed || merged.Put+merged.Deleted != 0 || merged.LSN != s.store.Visible() {
		t.Errorf("a restore to when all was as it is: %+v", merged)
	}
	mustAsk(t, s, "POST", "/v1/buckets/main/restore", `{"at":"good","keys":["a"]}`, &merged)
	wantBodies(t, s, "main", "a=1 c=2")
	if mustAsk(t, s, "POST", "/v1/buckets/main/undelete", `{"at":"good","prefixes":[""]}`, &merged); merged.Put != 1 {
		t.Errorf("%+v", merged)
	}
	wantBodies(t, s, "main", "a=1 c=2 d/b=1")
	if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("main"), Key: aws.String("c")}); err != nil {
		t.Fatal(err)
	}
	var und UndeletedAnswer
	if mustAsk(t, s, "POST", "/v1/buckets/main/undelete", `{"keys":["c","a"]}`, &und); len(und.Objects) != 1 || und.Objects[0].Key != "c" || !und.Committed {
		t.Errorf("%+v", und)
	}
	wantBodies(t, s, "main", "a=1 c=2 d/b=1")
}

func TestAdminMoves(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"main"}`, nil)
	putObject(t, s, "main", "a", "1")
	mustAsk(t, s, "POST", "/v1/buckets/main/forks", `{"names":["dev","exp"]}`, nil)
	putObject(t, s, "dev", "a", "dev")
	e := putObject(t, s, "main", "a", "2")

	var m MoveAnswer
	mustAsk(t, s, "POST", "/v1/buckets/dev/reset", `{}`, &m)
	wantBodies(t, s, "dev", "a=2")
	if m.Buckets[0].Source.LSN != m.BeforeLSN {
		t.Errorf("%+v", m)
	}
	mustAsk(t, s, "POST", "/v1/buckets/dev/reset", fmt.Sprintf(`{"at":"%d","undo":"0s"}`, e.LSN-1), nil)
	wantBodies(t, s, "dev", "a=1")
	putObject(t, s, "exp", "a", "exp")
	mustAsk(t, s, "POST", "/v1/buckets/exp/promote", fmt.Sprintf(`{"if_lsn":"%d"}`, e.LSN), &m)
	if len(m.Buckets) != 1 || m.Buckets[0].Name != "main" {
		t.Errorf("%+v", m)
	}
	wantBodies(t, s, "main", "a=exp")
	mustAsk(t, s, "POST", "/v1/buckets/main/swap", `{"with":"dev"}`, &m)
	if len(m.Buckets) != 2 || m.Buckets[1].Name != "dev" {
		t.Errorf("%+v", m)
	}
	wantBodies(t, s, "main", "a=1")
	wantBodies(t, s, "dev", "a=exp")

	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"locked","read_only":true}`, nil)
	for _, c := range []struct {
		path, body, code string
		status           int
	}{
		{"main/restore", `{}`, "InvalidArgument", 400},
		{"main/restore", `{"at":"none"}`, "NoSuchSnapshot", 404},
		{"main/restore", `{"at":"5"}`, "NoSuchBucket", 404},
		{"main/restore", `{"at":"9000000000000000000"}`, "InvalidArgument", 400},
		{"main/restore", `{"at":"-0s"}`, "InvalidArgument", 400},
		{"main/restore", fmt.Sprintf(`{"at":"%d","dry_run":true}`, e.LSN), "InvalidArgument", 400},
		{"main/restore", fmt.Sprintf(`{"at":"%d","undo":"1h","keys":["a"]}`, e.LSN), "InvalidArgument", 400},
		{"main/restore", fmt.Sprintf(`{"at":"%d","undo":"-1h"}`, e.LSN), "InvalidArgument", 400},
		{"main/restore", fmt.Sprintf(`{"at":"%d","if_lsn":"%d"}`, e.LSN, e.LSN), "PreconditionFailed", 412},
		{"main/restore", fmt.Sprintf(`{"at":"%d","ad":1}`, e.LSN), "BadRequest", 400},
		{"none/restore", `{"at":"-1s"}`, "NoSuchBucket", 404},
		{"main/reset", `{}`, "NoSource", 409},
		{"dev/reset", `{"with":"main"}`, "InvalidArgument", 400},
		{"main/promote", `{}`, "NoSource", 409},
		{"main/swap", `{}`, "InvalidArgument", 400},
		{"main/swap", `{"with":"main"}`, "InvalidArgument", 400},
		{"main/swap", `{"with":"none"}`, "NoSuchBucket", 404},
		{"main/swap", `{"with":".stemma"}`, "NoSuchBucket", 404},
		{"main/swap", `{"with":"locked"}`, "BucketReadOnly", 403},
		{"main/undelete", `{}`, "InvalidArgument", 400},
		{"main/undelete", `{"prefixes":["a"],"max":1}`, "InvalidArgument", 400},
		{"none/undelete", `{"keys":["a"]}`, "NoSuchBucket", 404},
	} {
		before := s.store.Visible()
		if status, got := ask(t, s, rootKey, "POST", "/v1/buckets/"+c.path, c.body, nil); status != c.status || got.Code != c.code {
			t.Errorf("%s %s: %d %+v, want %d %s", c.path, c.body, status, got, c.status, c.code)
		}
		if s.store.Visible() != before {
			t.Errorf("%s %s: something was committed", c.path, c.body)
		}
	}
}
