package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"stemma/wal"
)

// treeClient is an S3 client that can do what a person does with a tree of files.
type treeClient interface {
	makeBucket(ctx context.Context, bucket string) error
	upload(ctx context.Context, dir, bucket string) error   // every file below dir, under its slash path
	download(ctx context.Context, bucket, dir string) error // the other way
	put(ctx context.Context, bucket, key, file string) error
	delete(ctx context.Context, bucket, key string) error
	list(ctx context.Context, bucket string) ([]string, error)
}

// TestClients lives the README's quick start with each client that is there:
// a real tree goes in, is forked, the fork is changed, and both, as they are
// and as they were, come out.
func TestClients(t *testing.T) {
	p := start(t, t.TempDir())
	for _, c := range []struct {
		name string
		make func(t *testing.T) treeClient
	}{
		{"aws-sdk-go-v2", func(*testing.T) treeClient { return sdkTree{p.client()} }},
		{"minio-go", func(t *testing.T) treeClient { return minioTree{p.minio(t)} }},
		{"awscli", func(t *testing.T) treeClient { return newAWSCLI(t, p) }},
		{"rclone", func(t *testing.T) treeClient { return newRclone(t, p) }},
		{"s3cmd", func(t *testing.T) treeClient { return newS3cmd(t, p) }},
		{"s5cmd", func(t *testing.T) treeClient { return newS5cmd(t, p) }},
		{"boto3", func(t *testing.T) treeClient { return newBoto3(t, p) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && !strings.Contains(c.name, "-go") {
				t.Skip("another program, which the race detector sees nothing of, and slow to start")
			}
			story(t, p, c.make(t), c.name)
		})
	}
	p.stop(t)
}

func story(t *testing.T, p *process, c treeClient, name string) {
	ctx := t.Context()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	tree := filepath.Join(goroot(t), "src", "net")
	data, fork := name+"-data", name+"-fork"
	must("make bucket", c.makeBucket(ctx, data))
	must("upload", c.upload(ctx, tree, data))
	keys, err := c.list(ctx, data)
	must("list", err)
	if want := files(t, tree); !slices.Equal(keys, want) {
		t.Fatalf("listed %d keys, want %d: %s", len(keys), len(want), firstDifference(keys, want))
	}

	_, stderr, err := p.stemma(ctx, "fork", data, fork)
	must("fork: "+stderr, err)
	res, err := p.client().HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &fork})
	must("head fork", err)
	if src := rawHeader(res.ResultMetadata, headerForkSource); src != data {
		t.Errorf("fork names source %q, want %q", src, data)
	}
	before := rawHeader(res.ResultMetadata, headerForkAt)

	changed := filepath.Join(t.TempDir(), "changed")
	must("write", os.WriteFile(changed, []byte("package net // changed\n"), 0o666))
	must("overwrite in the fork", c.put(ctx, fork, "net.go", changed))
	must("delete in the fork", c.delete(ctx, fork, "dial.go"))
	must("put into the fork", c.put(ctx, fork, "new/file with space+plus.go", changed))

	// The parent does not notice.
	out := t.TempDir()
	must("download parent", c.download(ctx, data, out))
	diffTrees(t, tree, out)

	// The fork holds the changes and nothing else.
	want := t.TempDir()
	must("copy tree", os.CopyFS(want, os.DirFS(tree)))
	must("remove", os.Remove(filepath.Join(want, "dial.go")))
	must("make", os.Mkdir(filepath.Join(want, "new"), 0o777))
	for _, f := range []string{"net.go", "new/file with space+plus.go"} {
		must("write", os.WriteFile(filepath.Join(want, f), []byte("package net // changed\n"), 0o666))
	}
	out = t.TempDir()
	must("download fork", c.download(ctx, fork, out))
	diffTrees(t, want, out)

	// As it was before the changes, the fork is the parent.
	for _, bucket := range []string{data, fork} {
		out = t.TempDir()
		_, stderr, err = p.stemma(ctx, "get", "--at", before, bucket, out)
		must("get at an earlier LSN: "+stderr, err)
		diffTrees(t, tree, out)
	}

	// Any client reads the past through a fork of it.
	_, stderr, err = p.stemma(ctx, "fork", "--at", before, fork, name+"-past")
	must("fork the past: "+stderr, err)
	out = t.TempDir()
	must("download the past", c.download(ctx, name+"-past", out))
	diffTrees(t, tree, out)
}

// goroot returns the folder of the Go tree that runs the tests: a real tree of files.
func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// files returns the slash paths of the files below dir, in S3's order.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func firstDifference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%q and %q", a[i], b[i])
		}
	}
	return "one ends first"
}

// diffTrees fails the test unless both folders hold the same files.
func diffTrees(t *testing.T, want, got string) {
	t.Helper()
	w, g := files(t, want), files(t, got)
	if !slices.Equal(w, g) {
		t.Fatalf("%d files, want %d: %s", len(g), len(w), firstDifference(g, w))
	}
	for _, f := range w {
		wb, err := os.ReadFile(filepath.Join(want, f))
		if err != nil {
			t.Fatal(err)
		}
		gb, err := os.ReadFile(filepath.Join(got, f))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(wb, gb) {
			t.Fatalf("%s differs", f)
		}
	}
}

// eachFile calls f with the slash path and the contents of every file below dir.
func eachFile(dir string, f func(name string, body *os.File) error) error {
	return fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		body, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		return errors.Join(f(name, body), body.Close())
	})
}

// store writes an object that was read to the file that its key names.
func store(dir, key string, body io.Reader) error {
	path := filepath.Join(dir, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

// sdkTree is aws-sdk-go-v2.
type sdkTree struct{ *s3.Client }

func (c sdkTree) makeBucket(ctx context.Context, bucket string) error {
	_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	return err
}

func (c sdkTree) upload(ctx context.Context, dir, bucket string) error {
	return eachFile(dir, func(name string, body *os.File) error {
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &name, Body: body})
		return err
	})
}

func (c sdkTree) download(ctx context.Context, bucket, dir string) error {
	keys, err := c.list(ctx, bucket)
	if err != nil {
		return err
	}
	for _, key := range keys {
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		if err != nil {
			return err
		}
		if err := errors.Join(store(dir, key, out.Body), out.Body.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (c sdkTree) put(ctx context.Context, bucket, key, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: f})
	return err
}

func (c sdkTree) delete(ctx context.Context, bucket, key string) error {
	_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	return err
}

func (c sdkTree) list(ctx context.Context, bucket string) ([]string, error) {
	var keys []string
	pages := s3.NewListObjectsV2Paginator(c.Client, &s3.ListObjectsV2Input{Bucket: &bucket, MaxKeys: aws.Int32(97)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	return keys, nil
}

// minio returns a minio-go client.
func (p *process) minio(t *testing.T) *minio.Client {
	t.Helper()
	c, err := minio.New(strings.TrimPrefix(p.s3, "http://"), &minio.Options{Creds: credentials.NewStaticV4(testAccess, testSecret, "")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// minioTree is minio-go.
type minioTree struct{ c *minio.Client }

func (c minioTree) makeBucket(ctx context.Context, bucket string) error {
	return c.c.MakeBucket(ctx, bucket, minio.MakeBucketOptions{})
}

func (c minioTree) upload(ctx context.Context, dir, bucket string) error {
	return eachFile(dir, func(name string, body *os.File) error {
		return c.put(ctx, bucket, name, body.Name())
	})
}

func (c minioTree) download(ctx context.Context, bucket, dir string) error {
	keys, err := c.list(ctx, bucket)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := c.c.FGetObject(ctx, bucket, key, filepath.Join(dir, filepath.FromSlash(key)), minio.GetObjectOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (c minioTree) put(ctx context.Context, bucket, key, file string) error {
	_, err := c.c.FPutObject(ctx, bucket, key, file, minio.PutObjectOptions{})
	return err
}

func (c minioTree) delete(ctx context.Context, bucket, key string) error {
	return c.c.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{})
}

func (c minioTree) list(ctx context.Context, bucket string) ([]string, error) {
	var keys []string
	for o := range c.c.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			return nil, o.Err
		}
		keys = append(keys, o.Key)
	}
	return keys, nil
}

// tool is a client that is a program.
type tool struct {
	name string
	env  []string
	args []string // before all others
}

// findTool skips the test when the program is not installed.
func findTool(t *testing.T, name string, versionArg string) {
	t.Helper()
	if err := exec.Command(name, versionArg).Run(); err != nil {
		t.Skipf("%s is not installed: %v", name, err)
	}
}

func (c tool) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.name, append(slices.Clone(c.args), args...)...)
	cmd.Env = environment(c.env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", c.name, strings.Join(args, " "), err, errOut.Bytes())
	}
	return out.String(), nil
}

func (c tool) do(ctx context.Context, args ...string) error {
	_, err := c.run(ctx, args...)
	return err
}

// awsCLI is the AWS command line.
type awsCLI struct{ tool }

func newAWSCLI(t *testing.T, p *process) awsCLI {
	findTool(t, "aws", "--version")
	return awsCLI{tool{name: "aws", env: []string{"AWS_ACCESS_KEY_ID=" + testAccess, "AWS_SECRET_ACCESS_KEY=" + testSecret,
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_ENDPOINT_URL=" + p.s3, "AWS_CONFIG_FILE=" + os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull}}}
}

func (c awsCLI) makeBucket(ctx context.Context, bucket string) error {
	return c.do(ctx, "s3", "mb", "s3://"+bucket)
}

func (c awsCLI) upload(ctx context.Context, dir, bucket string) error {
	return c.do(ctx, "s3", "cp", "--recursive", "--only-show-errors", dir, "s3://"+bucket)
}

func (c awsCLI) download(ctx context.Context, bucket, dir string) error {
	return c.do(ctx, "s3", "sync", "--only-show-errors", "s3://"+bucket, dir)
}

func (c awsCLI) put(ctx context.Context, bucket, key, file string) error {
	return c.do(ctx, "s3", "cp", "--only-show-errors", file, "s3://"+bucket+"/"+key)
}

func (c awsCLI) delete(ctx context.Context, bucket, key string) error {
	return c.do(ctx, "s3", "rm", "--only-show-errors", "s3://"+bucket+"/"+key)
}

func (c awsCLI) list(ctx context.Context, bucket string) ([]string, error) {
	out, err := c.run(ctx, "s3", "ls", "--recursive", "s3://"+bucket)
	if err != nil {
		return nil, err
	}
	var keys []string
	for line := range strings.Lines(out) { // date, time, size, key
		if f := strings.Fields(line); len(f) >= 4 {
			keys = append(keys, f[3])
		}
	}
	return keys, nil
}

// rclone is rclone with a remote from the environment.
type rclone struct{ tool }

func newRclone(t *testing.T, p *process) rclone {
	findTool(t, "rclone", "version")
	return rclone{tool{name: "rclone", args: []string{"--config", os.DevNull}, env: []string{"RCLONE_CONFIG_S_TYPE=s3",
		"RCLONE_CONFIG_S_PROVIDER=Other", "RCLONE_CONFIG_S_ACCESS_KEY_ID=" + testAccess, "RCLONE_CONFIG_S_SECRET_ACCESS_KEY=" + testSecret,
		"RCLONE_CONFIG_S_ENDPOINT=" + p.s3, "RCLONE_CONFIG_S_REGION=us-east-1", "RCLONE_CONFIG_S_FORCE_PATH_STYLE=true"}}}
}

func (c rclone) makeBucket(ctx context.Context, bucket string) error {
	return c.do(ctx, "mkdir", "s:"+bucket)
}

func (c rclone) upload(ctx context.Context, dir, bucket string) error {
	return c.do(ctx, "copy", dir, "s:"+bucket)
}

func (c rclone) download(ctx context.Context, bucket, dir string) error {
	return errors.Join(c.do(ctx, "sync", "s:"+bucket, dir), c.do(ctx, "check", "--download", "s:"+bucket, dir))
}

func (c rclone) put(ctx context.Context, bucket, key, file string) error {
	return c.do(ctx, "copyto", file, "s:"+bucket+"/"+key)
}

func (c rclone) delete(ctx context.Context, bucket, key string) error {
	return c.do(ctx, "deletefile", "s:"+bucket+"/"+key)
}

func (c rclone) list(ctx context.Context, bucket string) ([]string, error) {
	out, err := c.run(ctx, "lsf", "--recursive", "--files-only", "s:"+bucket)
	keys := strings.Fields(out)
	slices.Sort(keys) // rclone lists folder by folder
	return keys, err
}

// s3cmd is s3cmd with a configuration file.
type s3cmd struct{ tool }

func newS3cmd(t *testing.T, p *process) s3cmd {
	findTool(t, "s3cmd", "--version")
	host := strings.TrimPrefix(p.s3, "http://")
	conf := filepath.Join(t.TempDir(), "s3cfg")
	text := fmt.Sprintf("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = False\nbucket_location = us-east-1\n",
		testAccess, testSecret, host, host)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s3cmd{tool{name: "s3cmd", args: []string{"-c", conf, "--no-progress"}}}
}

func (c s3cmd) makeBucket(ctx context.Context, bucket string) error {
	return c.do(ctx, "mb", "s3://"+bucket)
}

func (c s3cmd) upload(ctx context.Context, dir, bucket string) error {
	return c.do(ctx, "put", "--recursive", dir+"/", "s3://"+bucket+"/")
}

func (c s3cmd) download(ctx context.Context, bucket, dir string) error {
	return c.do(ctx, "sync", "s3://"+bucket+"/", dir+"/")
}

func (c s3cmd) put(ctx context.Context, bucket, key, file string) error {
	return c.do(ctx, "put", file, "s3://"+bucket+"/"+key)
}

func (c s3cmd) delete(ctx context.Context, bucket, key string) error {
	return c.do(ctx, "del", "s3://"+bucket+"/"+key)
}

func (c s3cmd) list(ctx context.Context, bucket string) ([]string, error) {
	out, err := c.run(ctx, "ls", "--recursive", "s3://"+bucket)
	if err != nil {
		return nil, err
	}
	var keys []string
	for line := range strings.Lines(out) { // date, time, size, s3://bucket/key
		if f := strings.Fields(line); len(f) >= 4 {
			keys = append(keys, strings.TrimPrefix(f[3], "s3://"+bucket+"/"))
		}
	}
	return keys, nil
}

// TestClientFeatures runs what the tree story does not touch.
func TestClientFeatures(t *testing.T) {
	p := start(t, t.TempDir())
	t.Run("multipart", func(t *testing.T) { testMultipart(t, p) })
	t.Run("presigned", func(t *testing.T) { testPresigned(t, p) })
	t.Run("past", func(t *testing.T) { testPast(t, p) })
	p.stop(t)
}

// testMultipart sends 17 MiB in parts with minio-go and reads it whole, a range
// across a part boundary, and one part.
func testMultipart(t *testing.T, p *process) {
	ctx, c := t.Context(), p.minio(t)
	if err := c.MakeBucket(ctx, "multi", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	v := content{present: true, seed: 1, size: 17<<20 + 5}
	info, err := c.PutObject(ctx, "multi", "big", v.reader(), v.size, minio.PutObjectOptions{PartSize: 5 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(info.ETag, "-4") {
		t.Errorf("ETag %s, want one of 4 parts", info.ETag)
	}
	whole, err := io.ReadAll(v.reader())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int64{{0, v.size - 1}, {5<<20 - 10, 5<<20 + 10}, {v.size - 5, v.size - 1}} {
		var o minio.GetObjectOptions
		if err := o.SetRange(r[0], r[1]); err != nil {
			t.Fatal(err)
		}
		obj, err := c.GetObject(ctx, "multi", "big", o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(obj)
		if err := errors.Join(err, obj.Close()); err != nil {
			t.Fatalf("bytes %d to %d: %v", r[0], r[1], err)
		}
		if !bytes.Equal(got, whole[r[0]:r[1]+1]) {
			t.Errorf("bytes %d to %d differ", r[0], r[1])
		}
	}
	out, err := p.client().GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("multi"), Key: aws.String("big"), PartNumber: aws.Int32(4)})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if part, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(part, whole[15<<20:]) {
		t.Errorf("part 4: %d bytes, %v", len(part), err)
	}
}

// testPresigned puts and gets with nothing but a URL.
func testPresigned(t *testing.T, p *process) {
	ctx, sdk := t.Context(), p.client()
	bucket, key := aws.String("presigned"), aws.String("a key/with ümlaut+&=?")
	if _, err := sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	sign := s3.NewPresignClient(sdk)
	put, err := sign.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	do := func(method, url string, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		p, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(p)
	}
	if code, body := do(put.Method, put.URL, "hello"); code != http.StatusOK {
		t.Fatalf("presigned put: %d %s", code, body)
	}
	get, err := sign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if code, body := do(get.Method, get.URL, ""); code != http.StatusOK || body != "hello" {
		t.Errorf("presigned get: %d %q", code, body)
	}
	last := byte('0')
	if strings.HasSuffix(get.URL, "0") {
		last = '1'
	}
	if code, body := do(get.Method, get.URL[:len(get.URL)-1]+string(last), ""); code != http.StatusForbidden || !strings.Contains(body, "SignatureDoesNotMatch") {
		t.Errorf("get with a changed signature: %d %s", code, body)
	}
	// minio-go signs its own way.
	u, err := p.minio(t).PresignedGetObject(ctx, *bucket, *key, 1e9*60, nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := do(http.MethodGet, u.String(), ""); code != http.StatusOK || body != "hello" {
		t.Errorf("minio-go's presigned get: %d %q", code, body)
	}
}

// testPast reads, heads and lists one bucket as it was after each of its changes.
func testPast(t *testing.T, p *process) {
	ctx, sdk := t.Context(), p.client()
	bucket, key := aws.String("past"), aws.String("k")
	if _, err := sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	m := newBucketModel("past", nil)
	for i := range 6 {
		c := content{present: i%3 != 2, seed: uint64(i), size: int64(i * 20_000)}
		if !c.present {
			out, err := sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key})
			if err != nil {
				t.Fatal(err)
			}
			lsn, err := lsnOf(out.ResultMetadata)
			if err != nil {
				t.Fatal(err)
			}
			m.add(*key, change{lsn: lsn})
			continue
		}
		body, err := io.ReadAll(c.reader())
		if err != nil {
			t.Fatal(err)
		}
		out, err := sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: bytes.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		lsn, err := lsnOf(out.ResultMetadata)
		if err != nil {
			t.Fatal(err)
		}
		m.add(*key, change{content: c, lsn: lsn})
	}
	h := &crashTest{t: t, p: p}
	for _, r := range m.acknowledged(0) {
		for _, at := range []wal.LSN{r.lsn - 1, r.lsn, r.lsn + 1} {
			if at < m.keys[*key][0].lsn {
				continue // before the key; perhaps before the bucket
			}
			if err := h.check(sdk, m, *key, at); err != nil {
				t.Error(err)
			}
			if err := h.checkListing(sdk, m, at); err != nil {
				t.Error(err)
			}
		}
		// The same moment as a time, which has nanoseconds too.
		out, err := sdk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key}, withHeader(headerAt, r.lsn.Time().Format("2006-01-02T15:04:05.999999999Z07:00")))
		switch {
		case !r.present && statusOf(err) != http.StatusNotFound:
			t.Errorf("head at %d: %v, want not found", r.lsn, err)
		case r.present && (err != nil || *out.ContentLength != r.size):
			t.Errorf("head at %d: %v, want %d bytes", r.lsn, err, r.size)
		}
	}
	for _, bad := range []string{"yesterday", "0", "-1", "9223372036854775807"} {
		_, err := sdk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key}, withHeader(headerAt, bad))
		if statusOf(err) != http.StatusBadRequest {
			t.Errorf("head at %q: %v, want 400", bad, err)
		}
	}
}
