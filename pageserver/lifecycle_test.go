package pageserver

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"stemma/wal/storefs"
)

// The worker follows the rules of a bucket and of forks that were written to, and counts.
func TestLifecycleWorker(t *testing.T) {
	lines, ctx := &logLines{}, context.Background()
	o := options(storefs.NewMem(), lines)
	o.LifecycleDay = 20 * time.Millisecond
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer shutdown(t, s)
	c := client(s)
	put := func(bucket, key string) {
		t.Helper()
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("base")}); err != nil {
		t.Fatal(err)
	}
	put("base", "keep/1")
	put("base", "tmp/1")
	if _, err := s.objects.Fork(ctx, "base", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	_, err = c.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
		Bucket: aws.String("base"),
		LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
			ID: aws.String("r"), Status: "Enabled", Filter: &types.LifecycleRuleFilter{Prefix: aws.String("tmp/")}, Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	list := func(bucket string) string {
		t.Helper()
		out, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket})
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, o := range out.Contents {
			keys = append(keys, *o.Key)
		}
		return strings.Join(keys, " ")
	}
	for deadline := time.Now().Add(time.Minute); list("base") != "keep/1"; {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute: %s", list("base"))
		}
		if err := s.followAll(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := list("fork"); got != "keep/1 tmp/1" {
		t.Errorf("the fork has %s", got)
	}
	// The worker counts once it is done with a pass, which may be after the listing.
	for deadline := time.Now().Add(time.Minute); ; {
		_, text := get(t, s, "/metrics")
		missing := ""
		for _, want := range []string{`stemma_lifecycle_actions_total{action="expired"} 1`, "stemma_lifecycle_runs_total ", "stemma_lifecycle_errors_total 0"} {
			if !strings.Contains(text, want) {
				missing = want
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("metrics lack %q", missing)
		}
		time.Sleep(time.Millisecond)
	}
}
