package pageserver

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/minio/minio-go/v7/pkg/signer"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/wal/storefs"
)

// putObject stores a small object.
func putObject(t *testing.T, s *Server, bucket, key, body string) *object.Entry {
	t.Helper()
	e, err := s.objects.Put(t.Context(), bucket, key, &object.PutInput{Body: strings.NewReader(body), Size: int64(len(body))})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestNativeBuckets(t *testing.T) {
	s := started(t)
	var b Bucket
	var made MadeBucket
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data","labels":{"stage":"test"},"description":"what all work on","protected":true}`, &made)
	if made.Name != "data" || made.Key != nil || !made.Protected {
		t.Errorf("%+v", made)
	}
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"other","expires_in":"1h","key":{"role":"readonly"}}`, &made)
	if made.ExpiresAt == nil || time.Until(*made.ExpiresAt) < 59*time.Minute || made.Key == nil || made.Key.SecretKey == "" || made.Key.Scope[0].Bucket != "other" {
		t.Errorf("%+v", made)
	}
	mustAsk(t, s, "GET", "/v1/buckets/data", "", &b)
	if b.Labels["stage"] != "test" || b.Description != "what all work on" || b.Retention != "24h" || b.HasForks || b.Source != nil {
		t.Errorf("%+v", b)
	}
	var list BucketsAnswer
	if mustAsk(t, s, "GET", "/v1/buckets?label=stage%3Dtest", "", &list); len(list.Buckets) != 1 || list.Buckets[0].Name != "data" || list.Next != "" {
		t.Errorf("%+v", list)
	}
	if mustAsk(t, s, "GET", "/v1/buckets?limit=1", "", &list); len(list.Buckets) != 1 || list.Next != "data" {
		t.Errorf("%+v", list)
	}
	list = BucketsAnswer{}
	if mustAsk(t, s, "GET", "/v1/buckets?limit=1&after=data", "", &list); len(list.Buckets) != 1 || list.Buckets[0].Name != "other" || list.Next != "" {
		t.Errorf("%+v", list)
	}
	var old = *made.ExpiresAt
	mustAsk(t, s, "PATCH", "/v1/buckets/other", `{"extend":"1h","labels":{"a":"b"},"read_only":true}`, &b)
	if b.ExpiresAt.Sub(old) != time.Hour || b.Labels["a"] != "b" || !b.ReadOnly {
		t.Errorf("%+v", b)
	}
	b = Bucket{}
	if mustAsk(t, s, "PATCH", "/v1/buckets/other", `{"expires_in":"never"}`, &b); b.ExpiresAt != nil || !b.ReadOnly {
		t.Errorf("%+v", b)
	}
	mustAsk(t, s, "POST", "/v1/buckets/other/rename", `{"name":"another"}`, &Change{})
	for _, c := range []struct {
		method, path, body, code string
		status                   int
	}{
		{"DELETE", "/v1/buckets/data", "", "BucketProtected", 403},
		{"DELETE", "/v1/buckets/none", "", "NoSuchBucket", 404},
		{"DELETE", "/v1/buckets/data?force=yes", "", "InvalidArgument", 400},
		{"DELETE", "/v1/buckets/data?undo=soon", "", "InvalidArgument", 400},
		{"GET", "/v1/buckets/.stemma", "", "NoSuchBucket", 404},
		{"POST", "/v1/buckets", `{"name":"data"}`, "BucketAlreadyExists", 409},
		{"POST", "/v1/buckets", `{"name":"A"}`, "InvalidBucketName", 400},
		{"POST", "/v1/buckets", `{"name":"abc","labels":{"":"x"}}`, "InvalidArgument", 400},
		{"POST", "/v1/buckets", `{"name":"abc","expires_in":"1h","protected":true}`, "InvalidArgument", 400},
		{"POST", "/v1/buckets", `{"name":"abc","expires_in":"-1h"}`, "InvalidArgument", 400},
		{"POST", "/v1/buckets", `{"name":"abc","expires_at":"2001-01-01T00:00:00Z"}`, "InvalidArgument", 400},
		{"POST", "/v1/buckets", `{"name":"abc","key":{"role":"boss"}}`, "InvalidArgument", 400},
		{"PATCH", "/v1/buckets/data", `{"extend":"1h"}`, "InvalidArgument", 400},
		{"PATCH", "/v1/buckets/data", `{"expires_in":"1h"}`, "InvalidArgument", 400},
		{"PATCH", "/v1/buckets/data", `{"name":"x"}`, "BadRequest", 400},
		{"POST", "/v1/buckets/another/rename", `{"name":"data"}`, "BucketAlreadyExists", 409},
		{"POST", "/v1/buckets/none/rename", `{"name":"abc"}`, "NoSuchBucket", 404},
		{"GET", "/v1/buckets?limit=0", "", "InvalidArgument", 400},
		{"GET", "/v1/buckets?label=%3D", "", "InvalidArgument", 400},
		{"PUT", "/v1/buckets/data", `{}`, "MethodNotAllowed", 405},
	} {
		if status, e := ask(t, s, rootKey, c.method, c.path, c.body, nil); status != c.status || e.Code != c.code {
			t.Errorf("%s %s %s: %d %+v, want %d %s", c.method, c.path, c.body, status, e, c.status, c.code)
		}
	}
	// A read-only bucket is so for S3, too.
	_, err := client(s).PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("another"), Key: aws.String("k"), Body: strings.NewReader("x")})
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("write to a read-only bucket: %v", err)
	}
	mustAsk(t, s, "PATCH", "/v1/buckets/data", `{"protected":false}`, nil)
	mustAsk(t, s, "DELETE", "/v1/buckets/data", "", &Change{})
}

func TestNativeForks(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, nil)
	first := putObject(t, s, "data", "a", "one")
	var snaps SnapshotsAnswer
	mustAsk(t, s, "POST", "/v1/buckets/data/snapshots", `{"name":"v1"}`, &snaps)
	putObject(t, s, "data", "a", "longer")
	putObject(t, s, "data", "b", "two")

	var f ForkAnswer
	mustAsk(t, s, "POST", "/v1/buckets/data/forks", `{"count":12,"name_prefix":"agent-","labels":{"run":"7"},"expires_in":"1h","key":{}}`, &f)
	if len(f.Forks) != 12 || f.Forks[0].Name != "agent-01" || f.Forks[11].Name != "agent-12" || f.LSN == 0 || f.SourceLSN >= f.LSN ||
		f.Forks[3].Source.Bucket != "data" || f.Forks[3].CreatedLSN != f.LSN || f.Forks[3].Labels["run"] != "7" {
		t.Fatalf("%+v", f)
	}
	// Its key may write to the fork and to nothing else, and dies with it.
	key := auth.Key{ID: f.Forks[0].Key.ID, Secret: f.Forks[0].Key.SecretKey}
	if status, e := ask(t, s, key, "GET", "/v1/users", "", nil); status != 403 || e.Code != "AccessDenied" {
		t.Errorf("administration with a fork's key: %d %+v", status, e)
	}
	for name, at := range map[string]string{"at-snapshot": "v1", "at-version": snaps.Snapshots[0].LSN.String(), "at-time": snaps.Snapshots[0].Time.Format(time.RFC3339Nano)} {
		mustAsk(t, s, "POST", "/v1/buckets/data/forks", fmt.Sprintf(`{"name":%q,"at":%q}`, name, at), &f)
		o, err := s.objects.Head(t.Context(), name, "a", &object.GetInput{})
		if err != nil || o.LSN != first.LSN || f.SourceLSN != snaps.Snapshots[0].LSN {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	mustAsk(t, s, "POST", "/v1/buckets/agent-01/forks", `{"names":["x-2","x-1"],"read_only":true}`, &f)
	if f.Forks[0].Name != "x-2" || !f.Forks[1].ReadOnly {
		t.Errorf("%+v", f)
	}

	var kids BucketsAnswer
	if mustAsk(t, s, "GET", "/v1/buckets/data/forks?prefix=agent-&label=run", "", &kids); len(kids.Buckets) != 12 {
		t.Errorf("%+v", kids)
	}
	var up AncestryAnswer
	mustAsk(t, s, "GET", "/v1/buckets/x-1/ancestry", "", &up)
	if len(up.Ancestors) != 2 || up.Ancestors[0].Bucket != "agent-01" || up.Ancestors[1].Bucket != "data" {
		t.Errorf("%+v", up)
	}
	var tree TreeAnswer
	if mustAsk(t, s, "GET", "/v1/buckets/agent-01/tree", "", &tree); len(tree.Nodes) != 3 || tree.Nodes[1].Bucket != "x-1" || tree.Nodes[1].Depth != 1 {
		t.Errorf("%+v", tree)
	}
	if mustAsk(t, s, "GET", "/v1/buckets/x-1/tree?root=true", "", &tree); len(tree.Nodes) != 18 || tree.Nodes[0].Bucket != "data" || tree.Truncated {
		t.Errorf("%+v", tree)
	}
	if mustAsk(t, s, "GET", "/v1/buckets/data/tree?limit=4", "", &tree); len(tree.Nodes) != 4 || !tree.Truncated || tree.Nodes[3].Bucket != "x-2" || tree.Nodes[3].Depth != 2 {
		t.Errorf("%+v", tree)
	}
	putObject(t, s, "agent-01", "c", "12345")
	if _, err := s.objects.Delete(t.Context(), "agent-01", object.DeleteKey{Key: "a"}); err != nil {
		t.Fatal(err)
	}
	var d DistanceAnswer
	if mustAsk(t, s, "GET", "/v1/buckets/agent-01/distance", "", &d); d.Keys != 2 || d.Put != 1 || d.PutBytes != 5 || d.Deleted != 1 {
		t.Errorf("%+v", d)
	}
	if mustAsk(t, s, "GET", "/v1/buckets/agent-02/distance", "", &d); d.Keys != 0 {
		t.Errorf("%+v", d)
	}
	for _, c := range []struct {
		body, code string
		status     int
	}{
		{`{}`, "InvalidArgument", 400},
		{`{"name":"abc","count":2}`, "InvalidArgument", 400},
		{`{"count":2}`, "InvalidArgument", 400},
		{`{"count":10001,"name_prefix":"n-"}`, "InvalidArgument", 400},
		{`{"names":["new-1","agent-01"]}`, "BucketAlreadyExists", 409},
		{`{"names":["new-1","B"]}`, "InvalidBucketName", 400},
		{`{"names":["new-1","new-1"]}`, "BucketAlreadyExists", 409},
		{`{"name":"new-1","at":"none"}`, "NoSuchSnapshot", 404},
		{`{"name":"new-1","at":"2999-01-01T00:00:00Z"}`, "InvalidArgument", 400},
		{`{"name":"new-1","at":"9000000000000000000"}`, "InvalidArgument", 400},
		{`{"name":"new-1","key":{"role":"boss"}}`, "InvalidArgument", 400},
	} {
		if status, e := ask(t, s, rootKey, "POST", "/v1/buckets/data/forks", c.body, nil); status != c.status || e.Code != c.code {
			t.Errorf("%s: %d %+v, want %d %s", c.body, status, e, c.status, c.code)
		}
	}
	if status, _ := ask(t, s, rootKey, "GET", "/v1/buckets/new-1", "", nil); status != 404 {
		t.Errorf("a refused fork was made: %d", status)
	}
	if status, e := ask(t, s, rootKey, "DELETE", "/v1/buckets/data", "", nil); status != 409 || e.Code != "BucketHasForks" {
		t.Errorf("%d %+v", status, e)
	}
}

func TestNativeSnapshots(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"b-1"}`, nil)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"b-2"}`, nil)
	var a SnapshotsAnswer
	mustAsk(t, s, "POST", "/v1/snapshots", `{"buckets":["b-2","b-1"],"name":"both","label":"before the run","held":true}`, &a)
	if len(a.Snapshots) != 2 || a.Snapshots[0].Bucket != "b-2" || a.Snapshots[0].LSN != a.Snapshots[1].LSN || !a.Snapshots[1].Held {
		t.Fatalf("%+v", a)
	}
	for range 3 {
		mustAsk(t, s, "POST", "/v1/buckets/b-1/snapshots", `{"expires_in":"1h"}`, nil)
	}
	var keys []string
	for path := "/v1/buckets/b-1/snapshots?limit=2"; ; {
		var page SnapshotsAnswer
		mustAsk(t, s, "GET", path, "", &page)
		for _, x := range page.Snapshots {
			keys = append(keys, x.LSN.String())
		}
		if page.Next == "" {
			break
		}
		path = "/v1/buckets/b-1/snapshots?limit=2&after=" + page.Next
	}
	if len(keys) != 4 || keys[3] != a.Snapshots[0].LSN.String() || keys[0] <= keys[1] {
		t.Errorf("%v", keys)
	}
	var one Snapshot
	if mustAsk(t, s, "GET", "/v1/buckets/b-1/snapshots/"+keys[1], "", &one); one.Name != "" || one.ExpiresAt == nil {
		t.Errorf("%+v", one)
	}
	one = Snapshot{}
	mustAsk(t, s, "PATCH", "/v1/buckets/b-1/snapshots/both", `{"name":"of both","label":"x"}`, &one)
	if one.Name != "of both" || one.Label != "x" || !one.Held || one.LSN != a.Snapshots[0].LSN {
		t.Errorf("%+v", one)
	}
	for _, c := range []struct {
		method, path, body, code string
		status                   int
	}{
		{"GET", "/v1/buckets/b-1/snapshots/both", "", "NoSuchSnapshot", 404},
		{"GET", "/v1/buckets/none/snapshots", "", "NoSuchBucket", 404},
		{"GET", "/v1/buckets/b-1/snapshots?after=x", "", "InvalidArgument", 400},
		{"DELETE", "/v1/buckets/b-1/snapshots/of%20both", "", "SnapshotHeld", 409},
		{"DELETE", "/v1/buckets/b-1?force=true", "", "SnapshotHeld", 409},
		{"POST", "/v1/snapshots", `{}`, "InvalidArgument", 400},
		{"POST", "/v1/snapshots", `{"buckets":["b-1","b-1"]}`, "InvalidBucketName", 400},
		{"POST", "/v1/snapshots", `{"buckets":["b-1","none"]}`, "NoSuchBucket", 404},
		{"POST", "/v1/buckets/b-1/snapshots", `{"name":"of both"}`, "SnapshotAlreadyExists", 409},
		{"POST", "/v1/buckets/b-1/snapshots", `{"name":"123"}`, "InvalidArgument", 400},
		{"POST", "/v1/buckets/b-1/snapshots", `{"name":"a/b"}`, "InvalidArgument", 400},
		{"POST", "/v1/buckets/b-1/snapshots", `{"name":"-5m"}`, "InvalidArgument", 400},
		{"POST", "/v1/buckets/b-1/snapshots", `{"name":"2026-01-01T00:00:00Z"}`, "InvalidArgument", 400},
		{"POST", "/v1/buckets/b-1/snapshots", `{"buckets":["b-2"]}`, "InvalidArgument", 400},
		{"PATCH", "/v1/buckets/b-1/snapshots/" + keys[0], `{"name":"of both"}`, "SnapshotAlreadyExists", 409},
	} {
		if status, e := ask(t, s, rootKey, c.method, c.path, c.body, nil); status != c.status || e.Code != c.code {
			t.Errorf("%s %s %s: %d %+v, want %d %s", c.method, c.path, c.body, status, e, c.status, c.code)
		}
	}
	mustAsk(t, s, "PATCH", "/v1/buckets/b-1/snapshots/of%20both", `{"held":false}`, nil)
	mustAsk(t, s, "DELETE", "/v1/buckets/b-1/snapshots/of%20both", "", &Change{})
}

func TestNativeHistoryAndDiff(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, nil)
	first := putObject(t, s, "data", "a", "1")
	if _, err := s.objects.Delete(t.Context(), "data", object.DeleteKey{Key: "a"}); err != nil {
		t.Fatal(err)
	}
	putObject(t, s, "data", "a", "22")
	mustAsk(t, s, "POST", "/v1/buckets/data/forks", `{"name":"dev"}`, nil)
	putObject(t, s, "dev", "a", "333")
	var h HistoryAnswer
	mustAsk(t, s, "GET", "/v1/buckets/dev/history?key=a", "", &h)
	if len(h.Entries) != 4 || h.Entries[0].Size != 3 || h.Entries[1].Size != 2 || !h.Entries[2].Deleted || h.Entries[3].LSN != first.LSN || h.Cut || h.Next != "" {
		t.Errorf("%+v", h)
	}
	if mustAsk(t, s, "GET", "/v1/buckets/dev/history?key=a&limit=2", "", &h); len(h.Entries) != 2 || h.Next == "" {
		t.Errorf("%+v", h)
	}
	next := h.Next
	h = HistoryAnswer{}
	if mustAsk(t, s, "GET", "/v1/buckets/dev/history?key=a&before="+next, "", &h); len(h.Entries) != 2 || !h.Entries[0].Deleted {
		t.Errorf("%+v", h)
	}
	if mustAsk(t, s, "GET", "/v1/buckets/dev/history?key=none", "", &h); len(h.Entries) != 0 {
		t.Errorf("%+v", h)
	}

	const n = 1100
	for i := range n {
		putObject(t, s, "dev", fmt.Sprintf("k%04d", i), "x")
	}
	var sum DiffAnswer
	mustAsk(t, s, "POST", "/v1/diff", `{"to":"dev","summary":true}`, &sum)
	if sum.Summary.Added != n || sum.Summary.Modified != 1 || len(sum.Entries) != 0 || sum.Next != "" {
		t.Errorf("%+v", sum)
	}
	body := `{"from":"data","to":"dev","prefix":"k"}`
	res := askLines(t, s, "POST", "/v1/diff", body)
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	count, end := 0, DiffEnd{}
	for lines.Scan() {
		if count++; count > n {
			if err := json.Unmarshal(lines.Bytes(), &end); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var c DiffChange
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil || c.Key != fmt.Sprintf("k%04d", count-1) || c.Kind != "added" {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
	}
	if lines.Err() != nil || count != n+1 || end.Summary == nil || end.Summary.Added != n || res.Header.Get("Content-Type") != linesType {
		t.Errorf("%d lines, %+v, %v", count, end, lines.Err())
	}
	for _, c := range []struct {
		body, code string
		status     int
	}{
		{`{"to":"data"}`, "InvalidArgument", 400},
		{`{"from":"data","to":"dev","from_at":"none"}`, "NoSuchSnapshot", 404},
		{`{"from":"data","to":"dev","max":-1}`, "InvalidArgument", 400},
	} {
		if status, e := ask(t, s, rootKey, "POST", "/v1/diff", c.body, nil); status != c.status || e.Code != c.code {
			t.Errorf("%s: %d %+v, want %d %s", c.body, status, e, c.status, c.code)
		}
	}
}

// askLines sends a request of the root for an answer line by line.
func askLines(t *testing.T, s *Server, method, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+s.AdminAddr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(body))
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(hash[:]))
	req.Header.Set("Accept", linesType)
	res, err := http.DefaultClient.Do(signer.SignV4(*req, rootKey.ID, rootKey.Secret, "", "us-east-1"))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestNativeLog(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, nil)
	for i := range 5 {
		putObject(t, s, "data", fmt.Sprint("k", i), "x")
	}
	var all []string
	for path := "/v1/buckets/data/log?oldest=true&limit=2"; ; {
		var page LogAnswer
		if mustAsk(t, s, "GET", path, "", &page); page.Cut || len(page.Entries) == 0 || page.Entries[0].VersionID != "null" {
			t.Fatalf("%+v", page)
		}
		for _, e := range page.Entries {
			all = append(all, e.Kind+" "+e.Key)
		}
		if page.Next == "" {
			break
		}
		path = "/v1/buckets/data/log?oldest=true&limit=2&token=" + page.Next
	}
	if got := strings.Join(all, ","); got != "put k0,put k1,put k2,put k3,put k4" {
		t.Error(got)
	}
	res := askLines(t, s, "GET", "/v1/buckets/data/log?prefix=k3", "")
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"key":"k3"`) || !strings.Contains(lines[1], `"since_lsn":"0","cut":false`) {
		t.Errorf("%q", lines)
	}
	for _, c := range []string{"token=x", "limit=0", "oldest=1", "from=none"} {
		if status, e := ask(t, s, rootKey, "GET", "/v1/buckets/data/log?"+c, "", nil); status/100 != 4 {
			t.Errorf("%s: %d %+v", c, status, e)
		}
	}
}

// Quotas by the native API, and how both doors say that there is no room.
func TestNativeQuota(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, nil)
	putObject(t, s, "data", "a", "inherited")
	var forks ForkAnswer
	mustAsk(t, s, "POST", "/v1/buckets/data/forks", `{"names":["dev","dev-2"],"quota_bytes":10,"quota_objects":2}`, &forks)
	for _, f := range forks.Forks {
		if q := f.Quota; q == nil || q.MaxBytes != 10 || q.MaxObjects != 2 || q.Used != nil {
			t.Errorf("%s was made with %+v", f.Name, q)
		}
	}
	var b Bucket
	used := func(want Quota, usage QuotaUsage) {
		t.Helper()
		b = Bucket{}
		mustAsk(t, s, "GET", "/v1/buckets/dev", "", &b)
		if b.Quota == nil || b.Quota.Used == nil || *b.Quota.Used != usage {
			t.Fatalf("quota %+v, want %+v to be used", b.Quota, usage)
		}
		if b.Quota.Used = nil; *b.Quota != want {
			t.Errorf("quota %+v, want %+v", *b.Quota, want)
		}
	}
	used(Quota{MaxBytes: 10, MaxObjects: 2}, QuotaUsage{})
	putObject(t, s, "dev", "b", "1234567")
	used(Quota{MaxBytes: 10, MaxObjects: 2}, QuotaUsage{7, 1})

	refused := func(method, path, body string, want Room) {
		t.Helper()
		status, e := ask(t, s, rootKey, method, path, body, nil)
		if status != http.StatusForbidden || e.Code != "QuotaExceeded" || e.Quota == nil || *e.Quota != want {
			t.Errorf("%s %s: %d, %+v of %+v, want %+v", method, path, status, e, e.Quota, want)
		}
	}
	refused("POST", "/v1/buckets/dev/commit", `{"operations":[{"op":"put","key":"c","data":"MTIzNA=="}]}`, Room{"bytes", 10, 7, 4})
	refused("POST", "/v1/buckets/dev/commit", `{"operations":[{"op":"put","key":"c"},{"op":"put","key":"d"}]}`, Room{"objects", 2, 1, 2})
	putObject(t, s, "data", "news", "123456")
	refused("POST", "/v1/buckets/dev/rebase", `{"source":"data"}`, Room{"bytes", 10, 7, 6})
	refused("PATCH", "/v1/buckets/dev/objects/b?append=7", "1234", Room{"bytes", 10, 7, 4})

	sdk := client(s)
	for _, size := range []int{4, 100_000} { // the second is refused before it is read
		_, err := sdk.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("dev"), Key: aws.String("c"), Body: strings.NewReader(strings.Repeat("x", size))})
		var api smithy.APIError
		var res *awshttp.ResponseError
		if !errors.As(err, &api) || api.ErrorCode() != "QuotaExceeded" || !errors.As(err, &res) || res.HTTPStatusCode() != http.StatusForbidden {
			t.Errorf("put of %d bytes over S3: %v", size, err)
		}
	}
	mustAsk(t, s, "PATCH", "/v1/buckets/dev", `{"quota_bytes":0}`, nil)
	used(Quota{MaxObjects: 2}, QuotaUsage{7, 1})
	if _, err := sdk.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("dev"), Key: aws.String("c"), Body: strings.NewReader("1234")}); err != nil {
		t.Error(err)
	}
	used(Quota{MaxObjects: 2}, QuotaUsage{11, 2})
	b = Bucket{}
	if mustAsk(t, s, "PATCH", "/v1/buckets/dev", `{"quota_objects":0}`, &b); b.Quota != nil {
		t.Errorf("a quota is left: %+v", b.Quota)
	}
	if status, e := ask(t, s, rootKey, "PATCH", "/v1/buckets/dev", `{"quota_bytes":-1}`, nil); status != http.StatusBadRequest || e.Code != "InvalidArgument" {
		t.Errorf("negative quota: %d %+v", status, e)
	}
}

// A store that has become read-only still describes buckets whose quota it has not counted.
func TestQuotaOfReadOnlyStore(t *testing.T) {
	var fail atomic.Bool
	o := options(errorfs.Wrap(storefs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && strings.Contains(op.Path, "wal") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			return errors.New("the disk is gone")
		}
		return nil
	})), &logLines{})
	o.Store.CollectEvery = -1
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Shutdown(t.Context()) }() // a store that has failed says so again
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data","quota_bytes":10}`, &MadeBucket{})
	fail.Store(true)
	if status, e := ask(t, s, rootKey, "POST", "/v1/buckets", `{"name":"other"}`, nil); status != 503 {
		t.Fatalf("a bucket was made: %d %+v", status, e)
	}
	var b Bucket
	if mustAsk(t, s, "GET", "/v1/buckets/data", "", &b); b.Quota == nil || b.Quota.MaxBytes != 10 || b.Quota.Used != nil {
		t.Errorf("%+v", b.Quota)
	}
}
