package pageserver

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/pageserver/s3api"
	"stemma/wal/storefs"
)

// s3Line is one line of a server access log.
var s3Line = regexp.MustCompile(`^\S+ (\S+) \[[^\]]+\] \S+ (\S+) \S+ (\S+) (\S+) "([^"]*)" (\d+) (\S+) (\S+) \S+ \d+ \d+ "[^"]*" "[^"]*"(?: \S+){7} - (?:-|Yes)$`)

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute: %s", what)
		}
	}
}

// appendTo opens a file as stemma serve does.
func appendTo(name string) func() (AccessFile, error) {
	return func() (AccessFile, error) { return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640) }
}

// The server records requests in its file, and in another one after the first was moved away.
func TestAccessLog(t *testing.T) {
	for _, form := range []string{"s3", "json"} {
		t.Run(form, func(t *testing.T) {
			ctx, name := context.Background(), filepath.Join(t.TempDir(), "access.log")
			o := options(storefs.NewMem(), &logLines{})
			o.AccessLog = AccessLogOptions{Open: appendTo(name), JSON: form == "json"}
			s, err := Start(o)
			if err != nil {
				t.Fatal(err)
			}
			c := client(s)
			if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("base")}); err != nil {
				t.Fatal(err)
			}
			c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("base"), Key: aws.String("a b\"")})
			read := func(name string) string {
				p, _ := os.ReadFile(name)
				return string(p)
			}
			waitFor(t, "two lines", func() bool { return strings.Count(read(name), "\n") == 2 })
			if err := os.Rename(name, name+".1"); err != nil {
				t.Fatal(err)
			}
			s.ReopenLogs()
			waitFor(t, "a new file", func() bool {
				_, err := os.Stat(name)
				return err == nil
			})
			if _, err := c.ListBuckets(ctx, &s3.ListBucketsInput{}); err != nil {
				t.Fatal(err)
			}
			shutdown(t, s)
			old, now := strings.Split(read(name+".1"), "\n"), strings.Split(read(name), "\n")
			if len(old) != 3 || len(now) != 2 {
				t.Fatalf("%q, then %q", old, now)
			}
			if form == "json" {
				var line struct{ Operation, Key, Error_code, Requester string }
				if err := json.Unmarshal([]byte(old[1]), &line); err != nil || line.Operation != "REST.GET.OBJECT" || line.Key != `a b"` || line.Error_code != "NoSuchKey" || line.Requester != rootKey.ID {
					t.Errorf("%s: %v", old[1], err)
				}
				return
			}
			m := s3Line.FindStringSubmatch(old[1])
			if m == nil || m[1] != "base" || m[2] != rootKey.ID || m[3] != "REST.GET.OBJECT" || m[4] != "a%20b%22" || m[6] != "404" || m[7] != "NoSuchKey" || m[8] == "-" {
				t.Errorf("%q of %s", m, old[1])
			}
			if m := s3Line.FindStringSubmatch(now[0]); m == nil || m[3] != "REST.GET.SERVICE" {
				t.Errorf("%q of %s", m, now[0])
			}
		})
	}
}

func TestStartFailsWithoutAccessLog(t *testing.T) {
	o := options(storefs.NewMem(), &logLines{})
	o.AccessLog.Open = appendTo(t.TempDir()) // a directory
	if s, err := Start(o); err == nil {
		shutdown(t, s)
		t.Error("started")
	}
}

// Records of a bucket with logging become objects, of a fork too, and those of others do not.
func TestBucketLogs(t *testing.T) {
	ctx := context.Background()
	s, err := Start(options(storefs.NewMem(), &logLines{}))
	if err != nil {
		t.Fatal(err)
	}
	defer shutdown(t, s)
	c := client(s)
	for _, name := range []string{"source", "target", "quiet"} {
		if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
			t.Fatal(err)
		}
	}
	logTo := func(bucket, prefix string, f *types.TargetObjectKeyFormat) {
		t.Helper()
		if _, err := c.PutBucketLogging(ctx, &s3.PutBucketLoggingInput{Bucket: &bucket, BucketLoggingStatus: &types.BucketLoggingStatus{
			LoggingEnabled: &types.LoggingEnabled{TargetBucket: aws.String("target"), TargetPrefix: &prefix, TargetObjectKeyFormat: f},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	logTo("source", "logs/", nil)
	if _, err := s.objects.Fork(ctx, "source", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	logTo("source", "parts/", &types.TargetObjectKeyFormat{PartitionedPrefix: &types.PartitionedPrefix{PartitionDateSource: "EventTime"}})
	for _, bucket := range []string{"source", "fork", "quiet"} {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("key-of-" + bucket), Body: strings.NewReader("x")}); err != nil {
			t.Fatal(err)
		}
	}
	// A request is recorded after its answer was sent.
	found := map[string]string{}
	waitFor(t, "records", func() bool {
		s.logs.deliver(ctx, true)
		list, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("target")})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Contents {
			out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("target"), Key: o.Key})
			if err != nil {
				t.Fatal(err)
			}
			p, err := io.ReadAll(out.Body)
			if err != nil {
				t.Fatal(err)
			}
			found[*o.Key] = string(p)
		}
		all := strings.Join(mapValues(found), "")
		return strings.Contains(all, "key-of-source") && strings.Contains(all, "key-of-fork")
	})
	simple := regexp.MustCompile(`^logs/\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9A-F]{16}$`)
	parted := regexp.MustCompile(`^parts/` + auth.AccountNumber(auth.RootID) + `/us-east-1/source/\d{4}/\d\d/\d\d/\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9A-F]{16}$`)
	for key, lines := range found {
		if !simple.MatchString(key) && !parted.MatchString(key) {
			t.Errorf("key %q", key)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(lines, "\n"), "\n") {
			if m := s3Line.FindStringSubmatch(line); m == nil || m[1] == "quiet" || m[1] == "target" || (m[1] == "fork") != simple.MatchString(key) && m[4] != "-" {
				t.Errorf("%s: %q of %s", key, m, line)
			}
		}
	}
}

// What grants of logging say of the records holds, and they say when an ACL was what let somebody in.
func TestBucketLogsGrants(t *testing.T) {
	ctx := context.Background()
	o := options(storefs.NewMem(), &logLines{})
	o.LogsEvery = 50 * time.Millisecond
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer shutdown(t, s)
	c := client(s)
	for _, name := range []string{"source", "target"} {
		if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
			t.Fatal(err)
		}
	}
	all := types.Grantee{Type: "Group", URI: aws.String("http://acs.amazonaws.com/groups/global/AllUsers")}
	if _, err := c.PutBucketLogging(ctx, &s3.PutBucketLoggingInput{Bucket: aws.String("source"), BucketLoggingStatus: &types.BucketLoggingStatus{
		LoggingEnabled: &types.LoggingEnabled{TargetBucket: aws.String("target"), TargetPrefix: aws.String(""), TargetGrants: []types.TargetGrant{{Grantee: &all, Permission: "READ"}}},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("source"), Key: aws.String("k"), Body: strings.NewReader("x"), ACL: "public-read"}); err != nil {
		t.Fatal(err)
	}
	get := func(path string) string {
		res, err := http.Get("http://" + s.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		p, _ := io.ReadAll(res.Body)
		if res.StatusCode != 200 {
			t.Fatalf("%s: %d %s", path, res.StatusCode, p)
		}
		return string(p)
	}
	get("/source/k")
	waitFor(t, "the record", func() bool { // which comes by itself
		list, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("target")})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Contents {
			for line := range strings.Lines(get("/target/" + *o.Key)) {
				if put := strings.Contains(line, "REST.PUT.OBJECT"); put && strings.HasSuffix(line, "Yes\n") {
					t.Errorf("needed no ACL: %s", line)
				} else if !put && strings.Contains(line, "REST.GET.OBJECT k ") {
					return strings.HasSuffix(line, " - Yes\n")
				}
			}
		}
		return false
	})
}

func mapValues(m map[string]string) (all []string) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// What waits for delivery is bounded; the rest is counted.
func TestBucketLogsAreBounded(t *testing.T) {
	l := newBucketLogs(nil, nil, "r", time.Now, time.Minute)
	rec := &s3api.AccessRecord{Bucket: "b", URI: strings.Repeat("x", 64<<10)}
	for range 2 * maxLogBytes / (64 << 10) {
		l.record(rec, &object.LoggingEnabled{TargetBucket: aws.String("target"), TargetPrefix: aws.String("")})
	}
	if l.mu.bytes > maxLogBytes || l.dropped.Load() == 0 {
		t.Errorf("%d bytes wait, %d lines were dropped", l.mu.bytes, l.dropped.Load())
	}
	if _, b := l.take(false); b == nil || b.Len() == 0 || l.mu.bytes != 0 {
		t.Errorf("%v taken, %d are left", b, l.mu.bytes)
	}
}
