package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestDrain sends SIGTERM while an upload is under way: the server is not ready
// any more and takes no new connection, the upload ends well, and so does the
// process; the object is there after a restart.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	sdk, ctx := p.client(), t.Context()
	bucket, key := aws.String("drain"), aws.String("slow")
	if _, err := sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	put, err := s3.NewPresignClient(sdk).PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("slow "), 100_000)
	body, rest := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, put.Method, put.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = int64(len(want))
	req.Header.Set("Expect", "100-continue") // nothing is read from the pipe before the server waits for it
	type answer struct {
		res *http.Response
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
		res, err := client.Do(req)
		answered <- answer{res, err}
	}()
	if _, err := rest.Write(want[:1000]); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for p.status("/health/ready") == http.StatusOK {
		time.Sleep(time.Millisecond)
	}
	if code := p.status("/health/live"); code != http.StatusOK {
		t.Errorf("while it drains, live is %d", code)
	}
	// The listener closes soon after; a request that came in before that is refused.
	for {
		_, err := sdk.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: bucket})
		if err != nil && statusOf(err) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := rest.Write(want[1000:]); err != nil {
		t.Fatalf("the server did not read on: %v", err)
	}
	a := <-answered
	if a.err != nil {
		t.Fatalf("upload during the drain: %v\n%s", a.err, p.output())
	}
	a.res.Body.Close()
	if a.res.StatusCode != http.StatusOK {
		t.Errorf("upload during the drain: %s", a.res.Status)
	}
	<-p.exited
	if p.err != nil {
		t.Errorf("server ended with %v\n%s", p.err, p.output())
	}
	p.checkLog(t)

	p = start(t, dir)
	out, err := p.client().GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if got, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after the restart: %d bytes, %v", len(got), err)
	}
	p.stop(t)
}

// TestDrainEnds: a client that never ends its request does not keep the server
// from ending; what it sent leaves no object.
func TestDrainEnds(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, "--shutdown-timeout=200ms")
	sdk, ctx := p.client(), t.Context()
	bucket, key := aws.String("drain"), aws.String("stuck")
	if _, err := sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	put, err := s3.NewPresignClient(sdk).PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	body, rest := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, put.Method, put.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 1 << 20
	done := make(chan struct{})
	go func() {
		defer close(done)
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
	}()
	if _, err := rest.Write([]byte(strings.Repeat("x", 1000))); err != nil {
		t.Fatal(err)
	}
	p.stop(t)
	if err := rest.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	p = start(t, dir)
	_, err = p.client().HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})
	if statusOf(err) != http.StatusNotFound {
		t.Errorf("head of what was never sent whole: %v", err)
	}
	p.stop(t)
}
