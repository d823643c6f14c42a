package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"stemma/pageserver"
)

// TestSpaceCommands runs usage, gc and the retention commands against a server.
func TestSpaceCommands(t *testing.T) {
	p := start(t, t.TempDir())
	ctx, sdk := t.Context(), p.client()
	run := func(args ...string) string {
		t.Helper()
		out, stderr, err := p.stemma(ctx, args...)
		if err != nil {
			t.Fatalf("stemma %s: %v: %s", strings.Join(args, " "), err, stderr)
		}
		return out
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if _, stderr, err := p.stemma(ctx, args...); err == nil || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("stemma %s: %v, %q; want %q", strings.Join(args, " "), err, stderr, want)
		}
	}
	run("bucket", "create", "data")
	bucket := "data"
	for i := range 5 {
		key := fmt.Sprint("k", i)
		if _, err := sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(strings.Repeat("x", 100_000))}); err != nil {
			t.Fatal(err)
		}
	}
	run("fork", "data", "work")

	if out := run("usage"); !strings.Contains(out, "data ") || !strings.Contains(out, "work ") || !strings.Contains(out, "\nlive ") {
		t.Errorf("usage:\n%s", out)
	}
	if out := run("usage", "work"); strings.Contains(out, "\ndata ") || !strings.Contains(out, "work ") {
		t.Errorf("usage of one:\n%s", out)
	}
	var u pageserver.UsageAnswer
	if err := json.Unmarshal([]byte(run("usage", "--json", "work")), &u); err != nil || len(u.Timelines) != 1 || u.Timelines[0].Logical != 500_000 {
		t.Errorf("%v: %+v", err, u)
	}
	fails("NoSuchBucket", "usage", "none")

	if out := run("background", "20") + run("background"); out != "20\n20\n" {
		t.Errorf("background: %q", out)
	}
	fails("1 to 100", "background", "200")
	fails("want a number", "background", "much")

	file := filepath.Join(t.TempDir(), "heap")
	if out := run("profile", "heap", "-o", file); out != file+"\n" {
		t.Errorf("profile: %q", out)
	}
	if info, err := os.Stat(file); err != nil || info.Size() == 0 {
		t.Errorf("profile: %v, %v", info, err)
	}
	fails("InvalidArgument", "profile", "none")

	if out := run("bucket", "retention", "data"); out != "24h\n" {
		t.Errorf("retention: %q", out)
	}
	run("bucket", "retention", "data", "0s")
	if out := run("bucket", "retention", "data"); out != "0s\n" {
		t.Errorf("retention: %q", out)
	}
	fails("want a duration", "bucket", "retention", "data", "soon")
	fails("want BUCKET [WINDOW]", "bucket", "retention")
	fails("NoSuchBucket", "bucket", "retention", "none", "1h")

	fails("not empty", "bucket", "delete", "work")
	run("bucket", "delete", "--force", "--undo", "1h", "work")
	out := run("bucket", "deleted")
	fields := strings.Fields(out)
	if len(fields) != 3 || fields[2] != "work" {
		t.Fatalf("deleted: %q", out)
	}
	run("bucket", "undelete", fields[0], "again")
	fails("BucketAlreadyExists", "bucket", "undelete", fields[0], "again")
	fails("want a number", "bucket", "undelete", "x", "again")
	run("bucket", "delete", "--force", "again") // a fork: at once
	if out := run("bucket", "deleted"); out != "" {
		t.Errorf("deleted: %q", out)
	}
	run("bucket", "delete", "--force", "--undo", "0s", "data")

	if out := run("gc"); !strings.Contains(out, "values: ") || strings.Contains(out, "LAYER") {
		t.Errorf("gc:\n%s", out)
	}
	if out := run("gc", "--explain", "--full", "--dry-run"); !strings.Contains(out, "LAYER") || !strings.Contains(out, "VALUES") {
		t.Errorf("gc --explain:\n%s", out)
	}
	fails("changes nothing", "gc", "--explain", "--full")
	if out := run("gc", "--full"); !strings.Contains(out, "freed ") {
		t.Errorf("gc --full:\n%s", out)
	}
	if err := json.Unmarshal([]byte(run("usage", "--json")), &u); err != nil || u.Live != 0 || len(u.Timelines) != 0 || u.ValueBytes != 0 {
		t.Errorf("%v: %+v", err, u)
	}
	fails("want http://host:port", "gc", "--admin-endpoint", "localhost")
	p.stop(t)
}

func TestCollectedLayersMayGrow(t *testing.T) {
	for freed, want := range map[int64]string{
		100: "freed 100 B of layers and 0 B of values; 0 rewrites of layers, 0 timelines purged\n",
		-62: "freed 0 B of layers and 0 B of values; 0 rewrites of layers, 0 timelines purged\nlayers grew by 62 B: what was written before was merged in\n",
	} {
		var out strings.Builder
		if err := printCollected(&out, &pageserver.CollectAnswer{LayerBytesFreed: freed}); err != nil || out.String() != want {
			t.Errorf("%d freed: %v, %q", freed, err, out.String())
		}
	}
}
