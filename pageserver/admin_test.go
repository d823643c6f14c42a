package pageserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7/pkg/signer"

	"stemma/gc"
	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/wal/storefs"
)

func started(t *testing.T, tune ...func(*Options)) *Server {
	t.Helper()
	lines := &logLines{}
	o := options(storefs.NewMem(), lines)
	o.Store.CollectEvery = -1
	for _, f := range tune {
		f(&o)
	}
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		shutdown(t, s)
		if lines.String() != "" {
			t.Errorf("logged: %s", lines)
		}
	})
	return s
}

// ask sends a signed request to the admin listener, and decodes the answer.
func ask(t *testing.T, s *Server, key auth.Key, method, path, body string, out any) (status int, e AdminError) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+s.AdminAddr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key.ID != "" {
		sum := sha256.Sum256([]byte(body))
		req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
		req = signer.SignV4(*req, key.ID, key.Secret, "", "us-east-1")
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	p, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("%s %s: content type %q: %s", method, path, ct, p)
	}
	d := json.NewDecoder(bytes.NewReader(p))
	d.DisallowUnknownFields()
	if res.StatusCode != 200 {
		out = &e
	}
	if out != nil {
		if err := d.Decode(out); err != nil {
			t.Errorf("%s %s: %s: %v", method, path, p, err)
		}
	}
	return res.StatusCode, e
}

func mustAsk(t *testing.T, s *Server, method, path, body string, out any) {
	t.Helper()
	if status, e := ask(t, s, rootKey, method, path, body, out); status != 200 {
		t.Fatalf("%s %s: %d %v", method, path, status, e)
	}
}

func TestAdminRefuses(t *testing.T) {
	s := started(t)
	c := client(s)
	for _, name := range []string{"b-1", "b-2"} {
		if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
			t.Fatal(err)
		}
	}
	wrong := rootKey
	wrong.Secret = "another-secret"
	for _, c := range []struct {
		key                auth.Key
		method, path, body string
		status             int
		code               string
	}{
		{auth.Key{}, "GET", "/v1/usage", "", 403, "AccessDenied"},
		{auth.Key{}, "POST", "/v1/gc?mode=full", "", 403, "AccessDenied"},
		{wrong, "GET", "/v1/usage", "", 403, "SignatureDoesNotMatch"},
		{rootKey, "GET", "/v1/other", "", 404, "NotFound"},
		{rootKey, "GET", "/v1/buckets//retention", "", 404, "NotFound"},
		{rootKey, "DELETE", "/v1/usage", "", 405, "MethodNotAllowed"},
		{rootKey, "GET", "/v1/usage?frob=1", "", 400, "InvalidArgument"},
		{rootKey, "GET", "/v1/usage?bucket=none", "", 404, "NoSuchBucket"},
		{rootKey, "POST", "/v1/gc", "", 400, "InvalidArgument"},
		{rootKey, "POST", "/v1/gc?mode=full&mode=plan", "", 400, "InvalidArgument"},
		{rootKey, "POST", "/v1/gc?mode=some", "", 400, "InvalidArgument"},
		{rootKey, "POST", "/v1/gc?mode=plan", "{}", 400, "BadRequest"},
		{rootKey, "PUT", "/v1/background", `{"share":0}`, 400, "InvalidArgument"},
		{rootKey, "PUT", "/v1/background", `{"share":101}`, 400, "InvalidArgument"},
		{rootKey, "GET", "/v1/profile", "", 400, "InvalidArgument"},
		{rootKey, "GET", "/v1/profile?kind=some", "", 400, "InvalidArgument"},
		{rootKey, "GET", "/v1/profile?kind=cpu&seconds=0", "", 400, "InvalidArgument"},
		{rootKey, "GET", "/v1/profile?kind=cpu&seconds=9999", "", 400, "InvalidArgument"},
		{rootKey, "GET", "/v1/buckets/none/retention", "", 404, "NoSuchBucket"},
		{rootKey, "PUT", "/v1/buckets/none/retention", `{"window":"1h"}`, 404, "NoSuchBucket"},
		{rootKey, "PUT", "/v1/buckets/b-1/retention", `{"window":"-1h"}`, 400, "InvalidArgument"},
		{rootKey, "PUT", "/v1/buckets/b-1/retention", `{"window":"soon"}`, 400, "InvalidArgument"},
		{rootKey, "PUT", "/v1/buckets/b-1/retention", `{"window":"1h","x":1}`, 400, "BadRequest"},
		{rootKey, "PUT", "/v1/buckets/b-1/retention", `{"window":"1h"} {}`, 400, "BadRequest"},
		{rootKey, "PUT", "/v1/buckets/b-1/retention", ``, 400, "BadRequest"},
		{rootKey, "PUT", "/v1/buckets/b-1/retention", `{"window":`, 400, "BadRequest"},
		{rootKey, "PUT", "/v1/buckets/b-1/retention", `{"window":1}`, 400, "BadRequest"},
		{rootKey, "PUT", "/v1/buckets/b-1/retention", `["1h"]`, 400, "BadRequest"},
		{rootKey, "PUT", "/v1/buckets/b-1/retention", strings.Repeat(" ", maxAdminBody+1), 413, "RequestTooLarge"},
		{rootKey, "POST", "/v1/deleted/x/undelete", `{"name":"abc"}`, 400, "InvalidArgument"},
		{rootKey, "POST", "/v1/deleted/99/undelete", `{"name":"abc"}`, 404, "NoSuchBucket"},
		{rootKey, "POST", "/v1/deleted/1/undelete", `{"name":"abc"}`, 409, "BucketAlreadyExists"},
		{rootKey, "POST", "/v1/deleted/1/undelete", `{"name":"A"}`, 400, "InvalidBucketName"},
	} {
		status, e := ask(t, s, c.key, c.method, c.path, c.body, nil)
		inner := strings.Contains(e.Message, "timeline: ") || strings.Contains(e.Message, "pageserver.") || strings.Contains(e.Message, "EOF")
		if status != c.status || e.Code != c.code || e.Message == "" || inner {
			t.Errorf("%s %s %.30q: %d %+v, want %d %s", c.method, c.path, c.body, status, e, c.status, c.code)
		}
	}
	var r Retention
	if mustAsk(t, s, "GET", "/v1/buckets/b-1/retention", "", &r); r.Window != "24h" {
		t.Errorf("a refused window was set: %+v", r)
	}
}

// A bucket is filled, forked, deleted, undeleted and collected over the API.
func TestAdministration(t *testing.T) {
	s := started(t)
	c, ctx := client(s), t.Context()
	put := func(bucket, key string, n int) {
		t.Helper()
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(make([]byte, n))}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("data")}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		put("data", fmt.Sprint("k", i), 100_000)
	}
	if _, err := s.objects.Fork(ctx, "data", 0, []string{"work"}); err != nil {
		t.Fatal(err)
	}
	put("work", "k0", 200_000)
	for _, size := range []uint64{30_000, 50_000} { // written in place: its record has no body
		ops := []object.PageOp{{Kind: object.PageResize, Off: size}}
		if _, err := s.objects.WritePages(ctx, "work", "k1", &object.PageInput{Ops: ops}); err != nil {
			t.Fatal(err)
		}
	}

	var u UsageAnswer
	mustAsk(t, s, "GET", "/v1/usage", "", &u)
	if len(u.Timelines) != 2 || u.Timelines[0].Logical != 1_000_000 || u.Timelines[1].Logical != 1_050_000 || u.Timelines[1].Exclusive < 200_000 ||
		u.Timelines[1].Source != "data" || u.Timelines[0].Shared < 900_000 || u.Live == 0 || u.LSN == 0 {
		t.Errorf("%+v", u)
	}
	if mustAsk(t, s, "GET", "/v1/usage?bucket=work", "", &u); len(u.Timelines) != 1 || u.Timelines[0].Bucket != "work" {
		t.Errorf("%+v", u)
	}

	var r Retention
	if mustAsk(t, s, "PUT", "/v1/buckets/data/retention", `{"window":"90m"}`, &r); r.Window != "1h30m" {
		t.Errorf("%+v", r)
	}
	if mustAsk(t, s, "PUT", "/v1/buckets/data/retention", `{"window":"forever"}`, &r); r.Window != "forever" {
		t.Errorf("%+v", r)
	}
	if mustAsk(t, s, "PUT", "/v1/buckets/data/retention", `{"window":"0s"}`, &r); r.Window != "0s" {
		t.Errorf("%+v", r)
	}

	// The fork can be undeleted when that is asked for, and is not otherwise.
	del := func(bucket, undo string) {
		t.Helper()
		req, err := http.NewRequest("DELETE", "http://"+s.Addr().String()+"/"+bucket, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		req.Header.Set("X-Tigris-Force-Delete", "true")
		if undo != "" {
			req.Header.Set("X-Stemma-Undo", undo)
		}
		res, err := http.DefaultClient.Do(signer.SignV4(*req, rootKey.ID, rootKey.Secret, "", "us-east-1"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		want := 204
		if undo == "soon" {
			want = 400
		}
		if res.StatusCode != want {
			t.Fatalf("delete %s with undo %q: %d", bucket, undo, res.StatusCode)
		}
	}
	del("work", "soon")
	del("work", "1h")
	var list DeletedAnswer
	mustAsk(t, s, "GET", "/v1/deleted", "", &list)
	if len(list.Buckets) != 1 || list.Buckets[0].Name != "work" || list.Buckets[0].Until.Sub(list.Buckets[0].Deleted).Round(time.Minute) != time.Hour {
		t.Fatalf("%+v", list)
	}
	var b BucketAnswer
	mustAsk(t, s, "POST", fmt.Sprintf("/v1/deleted/%d/undelete", list.Buckets[0].ID), `{"name":"work-2"}`, &b)
	if b.Name != "work-2" || b.ID != list.Buckets[0].ID {
		t.Errorf("%+v", b)
	}
	del("work-2", "")
	if mustAsk(t, s, "GET", "/v1/deleted", "", &list); len(list.Buckets) != 0 {
		t.Errorf("%+v", list)
	}
	if status, e := ask(t, s, rootKey, "POST", fmt.Sprintf("/v1/deleted/%d/undelete", b.ID), `{"name":"work-3"}`, nil); status != 410 || e.Code != "Gone" {
		t.Errorf("%d %+v", status, e)
	}

	var p PlanAnswer
	mustAsk(t, s, "POST", "/v1/gc?mode=plan", "", &p)
	if p.Total.DeadTimelines != 1 || p.Total.ValueDead < 200_000 || p.Memlayers.DeadRecords == 0 || p.Memlayers.Kept[gc.Tip.String()] == 0 {
		t.Errorf("%+v", p)
	}
	var done CollectAnswer
	mustAsk(t, s, "POST", "/v1/gc?mode=full", "", &done)
	if done.ValueBytesFreed < 190_000 || done.TimelinesPurged != 1 || len(done.Timelines) != 1 || done.Timelines[0].Bucket != "work-2" || done.Timelines[0].Exclusive < 200_000 {
		t.Errorf("%+v", done)
	}
	if status, e := ask(t, s, rootKey, "POST", fmt.Sprintf("/v1/deleted/%d/undelete", b.ID), `{"name":"work-3"}`, nil); status != 410 || e.Code != "Gone" {
		t.Errorf("undelete of what was purged: %d %+v", status, e)
	}
	_, text := get(t, s, "/metrics")
	for _, want := range []string{
		"stemma_gc_timelines_purged_total 1", `stemma_written_bytes_total{by="stream"} 1200000`, `stemma_user_bytes_total{way="streamed"} 1200000`,
		`stemma_gc_kept_bytes{reason="tip"}`, `stemma_layers{family="main",level="6"} 1`, "stemma_uploads_aborted_total 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %q:\n%s", want, text)
		}
	}
}

// One collection runs at a time; the next one is told.
func TestOneCollectionAtATime(t *testing.T) {
	s := started(t)
	s.admin.collecting <- struct{}{}
	if status, e := ask(t, s, rootKey, "POST", "/v1/gc?mode=full", "", nil); status != 409 || e.Code != "CollectionRunning" {
		t.Errorf("%d %+v", status, e)
	}
	<-s.admin.collecting
	mustAsk(t, s, "POST", "/v1/gc?mode=full", "", &CollectAnswer{})
}

// What is asked while the server stops is refused, and the store outlives what
// was under way.
func TestJobsEndBeforeTheStore(t *testing.T) {
	j := newJobs()
	if !j.begin() {
		t.Fatal("refused")
	}
	closed := make(chan struct{})
	go func() {
		j.close()
		close(closed)
	}()
	<-j.ctx.Done()
	select {
	case <-closed:
		t.Fatal("closed while a job runs")
	default:
	}
	if j.begin() {
		t.Error("admitted after close")
	}
	j.end()
	<-closed
}

func TestWindows(t *testing.T) {
	for in, want := range map[string]string{
		"24h": "24h", "1h30m": "1h30m", "90s": "1m30s", "0s": "0s", "0": "0s", "10m": "10m", "forever": "forever", "100h0m10s": "100h0m10s",
		"-1s": "", "": "", "1d": "", "Forever": "",
	} {
		w, err := ParseWindow(in)
		if got := FormatWindow(w); (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

// Uploads are aborted by their age, by the store's clock.
func TestAbandonedUploads(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var up time.Duration
	var clock sync.Mutex
	s := started(t, func(o *Options) {
		o.Now = func() time.Time { clock.Lock(); defer clock.Unlock(); return now }
		o.Store.Uptime = func() time.Duration { clock.Lock(); defer clock.Unlock(); return up }
		o.AbortUploadsAfter = 24 * time.Hour
	})
	pass := func(d time.Duration) { clock.Lock(); defer clock.Unlock(); now, up = now.Add(d), up+d }
	s.jobs.close() // the worker has a ticker of its own
	ctx := context.Background()
	if _, err := s.objects.CreateBucket(ctx, "data"); err != nil {
		t.Fatal(err)
	}
	begin := func(key string) {
		t.Helper()
		if _, err := s.objects.CreateUpload(ctx, "data", key, &object.UploadInput{}); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (keys []string) {
		t.Helper()
		l, err := s.objects.ListUploads(ctx, "data", &object.ListUploadsInput{Max: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range l.Uploads {
			keys = append(keys, u.Key)
		}
		return keys
	}
	begin("old")
	begin("old")
	pass(25 * time.Hour)
	begin("new")
	if err := s.abortStaleUploads(ctx); err != nil {
		t.Fatal(err)
	}
	if got := left(); len(got) != 1 || got[0] != "new" || s.uploads.aborted.Load() != 2 {
		t.Errorf("left %q, %d aborted", got, s.uploads.aborted.Load())
	}
	pass(23 * time.Hour)
	if err := s.abortStaleUploads(ctx); err != nil || len(left()) != 1 {
		t.Errorf("%v, left %q", err, left())
	}
}

// The share of background work is set while the server runs.
func TestBackground(t *testing.T) {
	s := started(t)
	for _, want := range []int{50, 20} {
		var b Background
		if mustAsk(t, s, "GET", "/v1/background", "", &b); b.Share != want || s.store.BackgroundShare() != want {
			t.Errorf("%+v, want %d", b, want)
		}
		mustAsk(t, s, "PUT", "/v1/background", `{"share":20}`, &b)
	}
}

// Every kind of profile is one that pprof reads.
func TestProfile(t *testing.T) {
	s := started(t)
	for _, kind := range []string{"cpu", "block", "mutex", "heap", "allocs", "goroutine"} {
		var p ProfileAnswer
		mustAsk(t, s, "GET", "/v1/profile?seconds=1&kind="+kind, "", &p)
		if p.Kind != kind || !bytes.HasPrefix(p.Profile, []byte{0x1f, 0x8b}) {
			t.Errorf("%s: %d bytes of %s", kind, len(p.Profile), p.Kind)
		}
	}
}
