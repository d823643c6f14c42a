package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// s5cmd is s5cmd.
type s5cmd struct{ tool }

func newS5cmd(t *testing.T, p *process) s5cmd {
	findTool(t, "s5cmd", "version")
	return s5cmd{tool{name: "s5cmd", args: []string{"--endpoint-url", p.s3}, env: []string{"AWS_ACCESS_KEY_ID=" + testAccess,
		"AWS_SECRET_ACCESS_KEY=" + testSecret, "AWS_REGION=us-east-1", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull}}}
}

func (c s5cmd) makeBucket(ctx context.Context, bucket string) error {
	return c.do(ctx, "mb", "s3://"+bucket)
}

func (c s5cmd) upload(ctx context.Context, dir, bucket string) error {
	return c.do(ctx, "cp", dir+"/", "s3://"+bucket)
}

func (c s5cmd) download(ctx context.Context, bucket, dir string) error {
	return c.do(ctx, "sync", "s3://"+bucket+"/*", dir)
}

func (c s5cmd) put(ctx context.Context, bucket, key, file string) error {
	return c.do(ctx, "cp", file, "s3://"+bucket+"/"+key)
}

func (c s5cmd) delete(ctx context.Context, bucket, key string) error {
	return c.do(ctx, "rm", "s3://"+bucket+"/"+key)
}

func (c s5cmd) list(ctx context.Context, bucket string) ([]string, error) {
	out, err := c.run(ctx, "ls", "--show-fullpath", "s3://"+bucket+"/*")
	if err != nil {
		return nil, err
	}
	var keys []string
	for line := range strings.Lines(out) {
		keys = append(keys, strings.TrimPrefix(strings.TrimSpace(line), "s3://"+bucket+"/"))
	}
	slices.Sort(keys) // they come as they are found
	return keys, nil
}

// boto3 is Python's client.
type boto3 struct{ tool }

// boto3Script does what its arguments say, one line of output for each key.
const boto3Script = `
import os, sys, boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
c = boto3.client('s3')
transfers = lambda: create_transfer_manager(c, TransferConfig(max_concurrency=4))
op, bucket, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
def keys():
    for page in c.get_paginator('list_objects_v2').paginate(Bucket=bucket, PaginationConfig={'PageSize': 97}):
        for o in page.get('Contents', []):
            yield o['Key']
if op == 'mb':
    c.create_bucket(Bucket=bucket)
elif op == 'up':
    with transfers() as m:
        futures = [m.upload(os.path.join(d, f), bucket, os.path.relpath(os.path.join(d, f), rest[0]).replace(os.sep, '/'))
                   for d, _, files in os.walk(rest[0]) for f in files]
        [f.result() for f in futures]
elif op == 'down':
    with transfers() as m:
        futures = []
        for k in keys():
            p = os.path.join(rest[0], *k.split('/'))
            os.makedirs(os.path.dirname(p), exist_ok=True)
            futures.append(m.download(bucket, k, p))
        [f.result() for f in futures]
elif op == 'put':
    with open(rest[1], 'rb') as f:
        c.put_object(Bucket=bucket, Key=rest[0], Body=f, ChecksumAlgorithm='SHA256')
elif op == 'rm':
    c.delete_objects(Bucket=bucket, Delete={'Objects': [{'Key': rest[0]}]})
elif op == 'ls':
    print('\n'.join(keys()))
`

func newBoto3(t *testing.T, p *process) boto3 {
	if testing.Short() {
		t.Skip("thousands of requests by Python take their time")
	}
	if err := exec.Command("python3", "-c", "import boto3").Run(); err != nil {
		t.Skipf("boto3 is not installed: %v", err)
	}
	return boto3{tool{name: "python3", args: []string{"-c", boto3Script}, env: []string{"AWS_ACCESS_KEY_ID=" + testAccess,
		"AWS_SECRET_ACCESS_KEY=" + testSecret, "AWS_DEFAULT_REGION=us-east-1", "AWS_ENDPOINT_URL=" + p.s3, "AWS_CONFIG_FILE=" + os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull}}}
}

func (c boto3) makeBucket(ctx context.Context, bucket string) error { return c.do(ctx, "mb", bucket) }

func (c boto3) upload(ctx context.Context, dir, bucket string) error {
	return c.do(ctx, "up", bucket, dir)
}

func (c boto3) download(ctx context.Context, bucket, dir string) error {
	return c.do(ctx, "down", bucket, dir)
}

func (c boto3) put(ctx context.Context, bucket, key, file string) error {
	return c.do(ctx, "put", bucket, key, file)
}

func (c boto3) delete(ctx context.Context, bucket, key string) error {
	return c.do(ctx, "rm", bucket, key)
}

func (c boto3) list(ctx context.Context, bucket string) ([]string, error) {
	out, err := c.run(ctx, "ls", bucket)
	return strings.Split(strings.TrimSpace(out), "\n"), err
}

// TestApplications has programs that keep their data in S3 do so, and find it again in
// a fork.
func TestApplications(t *testing.T) {
	p := start(t, t.TempDir())
	tree := filepath.Join(goroot(t), "src", "net", "http")
	for _, app := range []struct {
		name string
		run  func(t *testing.T, p *process, tree string)
	}{{"restic", testRestic}, {"kopia", testKopia}, {"duckdb", testDuckDB}} {
		t.Run(app.name, func(t *testing.T) { app.run(t, p, tree) })
	}
	p.stop(t)
}

// forkOf forks a bucket that an application uses.
func forkOf(t *testing.T, p *process, bucket string) string {
	t.Helper()
	fork := bucket + "-fork"
	if _, stderr, err := p.stemma(t.Context(), "fork", bucket, fork); err != nil {
		t.Fatalf("fork: %v: %s", err, stderr)
	}
	return fork
}

// must runs a program, which has to succeed.
func (c tool) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func testRestic(t *testing.T, p *process, tree string) {
	findTool(t, "restic", "version")
	repo := func(bucket string) tool {
		return tool{name: "restic", args: []string{"--no-cache", "-q"}, env: []string{"RESTIC_REPOSITORY=s3:" + p.s3 + "/" + bucket, "RESTIC_PASSWORD=secret",
			"AWS_ACCESS_KEY_ID=" + testAccess, "AWS_SECRET_ACCESS_KEY=" + testSecret, "HOME=" + t.TempDir()}}
	}
	c := repo("restic")
	c.must(t, "init")
	c.must(t, "backup", tree)
	fork := repo(forkOf(t, p, "restic"))
	c.must(t, "forget", "--prune", "latest")
	fork.must(t, "check", "--read-data")
	out := t.TempDir()
	fork.must(t, "restore", "latest", "--target", out)
	diffTrees(t, tree, filepath.Join(out, tree))
}

func testKopia(t *testing.T, p *process, tree string) {
	findTool(t, "kopia", "--version")
	repo := func(bucket, verb string) tool {
		dir := t.TempDir()
		c := tool{name: "kopia", env: []string{"KOPIA_CONFIG_PATH=" + filepath.Join(dir, "config"), "KOPIA_CACHE_DIRECTORY=" + filepath.Join(dir, "cache"),
			"KOPIA_LOG_DIR=" + dir, "KOPIA_PASSWORD=secret", "KOPIA_CHECK_FOR_UPDATES=false", "HOME=" + dir}}
		c.must(t, "repository", verb, "s3", "--bucket", bucket, "--endpoint", strings.TrimPrefix(p.s3, "http://"), "--disable-tls",
			"--access-key", testAccess, "--secret-access-key", testSecret)
		return c
	}
	if _, err := p.client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: new("kopia")}); err != nil {
		t.Fatal(err)
	}
	c := repo("kopia", "create")
	c.must(t, "snapshot", "create", tree)
	fork := repo(forkOf(t, p, "kopia"), "connect")
	fork.must(t, "snapshot", "verify", "--verify-files-percent=100")
	out := t.TempDir()
	fork.must(t, "restore", tree, out)
	diffTrees(t, tree, out)
}

// testDuckDB has DuckDB write a table and read it with ranges, if it has its HTTP
// extension at hand.
func testDuckDB(t *testing.T, p *process, _ string) {
	findTool(t, "duckdb", "--version")
	c := tool{name: "duckdb", args: []string{"-csv", "-noheader"}, env: []string{"HOME=" + os.Getenv("HOME")}}
	if _, err := c.run(t.Context(), ":memory:", "LOAD httpfs"); err != nil {
		t.Skipf("the httpfs extension of duckdb is not installed: %v", err)
	}
	if _, err := p.client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: new("duckdb")}); err != nil {
		t.Fatal(err)
	}
	secret := fmt.Sprintf("LOAD httpfs; CREATE SECRET (TYPE s3, KEY_ID '%s', SECRET '%s', ENDPOINT '%s', URL_STYLE 'path', USE_SSL false, REGION 'us-east-1'); ",
		testAccess, testSecret, strings.TrimPrefix(p.s3, "http://"))
	c.must(t, ":memory:", secret+"COPY (SELECT range AS n, n % 7 AS m FROM range(1000000)) TO 's3://duckdb/t/a.parquet'")
	fork := forkOf(t, p, "duckdb")
	got := c.must(t, ":memory:", secret+"SELECT count(*), sum(n) FROM 's3://"+fork+"/t/*.parquet' WHERE m = 3")
	if want := "142857,71428357143"; strings.TrimSpace(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}
