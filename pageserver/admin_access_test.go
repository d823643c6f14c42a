package pageserver

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"stemma/pageserver/auth"
)

// made is a user that a test makes.
func made(t *testing.T, s *Server, name, policies string) auth.Key {
	t.Helper()
	var u NewUserAnswer
	body := fmt.Sprintf(`{"name":%q}`, name)
	if policies != "" {
		body = fmt.Sprintf(`{"name":%q,"policies":[%q]}`, name, policies)
	}
	mustAsk(t, s, "POST", "/v1/users", body, &u)
	return auth.Key{ID: u.AccessKey, Secret: u.SecretKey}
}

// routeCalls are a request for each route that is for others than the operator, to the bucket hers and its fork, in an
// order in which the owner can make them: path, body.
var routeCalls = []struct{ route, path, body string }{
	{"GET buckets", "buckets", ""},
	{"POST buckets", "buckets", `{"name":"more"}`},
	{"GET buckets/{}", "buckets/hers", ""},
	{"PATCH buckets/{}", "buckets/hers", `{"description":"x"}`},
	{"GET buckets/{}/retention", "buckets/hers/retention", ""},
	{"PUT buckets/{}/retention", "buckets/hers/retention", `{"window":"1h"}`},
	{"POST buckets/{}/forks", "buckets/hers/forks", `{"name":"forked"}`},
	{"GET buckets/{}/forks", "buckets/hers/forks", ""},
	{"GET buckets/{}/ancestry", "buckets/fork/ancestry", ""},
	{"GET buckets/{}/tree", "buckets/hers/tree", ""},
	{"GET buckets/{}/distance", "buckets/fork/distance", ""},
	{"POST snapshots", "snapshots", `{"buckets":["hers"],"name":"a"}`},
	{"POST buckets/{}/snapshots", "buckets/hers/snapshots", `{"name":"b"}`},
	{"GET buckets/{}/snapshots", "buckets/hers/snapshots", ""},
	{"GET buckets/{}/snapshots/{}", "buckets/hers/snapshots/b", ""},
	{"PATCH buckets/{}/snapshots/{}", "buckets/hers/snapshots/b", `{"label":"x"}`},
	{"DELETE buckets/{}/snapshots/{}", "buckets/hers/snapshots/b", ""},
	{"GET buckets/{}/list", "buckets/hers/list", ""},
	{"POST buckets/{}/look", "buckets/hers/look", `{"keys":["k"]}`},
	{"POST buckets/{}/commit", "buckets/hers/commit", `{"operations":[{"op":"put","key":"c","data":"eA=="}]}`},
	{"GET buckets/{}/history", "buckets/hers/history?key=k", ""},
	{"GET buckets/{}/log", "buckets/hers/log", ""},
	{"POST diff", "diff", `{"from":"hers","to":"fork"}`},
	{"POST diff/jobs", "diff/jobs", `{"from":"hers","to":"fork"}`},
	{"POST buckets/{}/detach", "buckets/later/detach", ""},
	{"POST buckets/{}/merge", "buckets/hers/merge", `{"source":"fork"}`},
	{"POST buckets/{}/rebase", "buckets/fork/rebase", `{"source":"hers"}`},
	{"POST buckets/{}/cherry-pick", "buckets/hers/cherry-pick", `{"source":"fork","keys":["k"]}`},
	{"POST buckets/{}/revert", "buckets/hers/revert", `{"from":"a"}`},
	{"POST buckets/{}/restore", "buckets/hers/restore", `{"at":"a"}`},
	{"POST buckets/{}/undelete", "buckets/hers/undelete", `{"keys":["k"]}`},
	{"POST buckets/{}/reset", "buckets/fork/reset", `{}`},
	{"POST buckets/{}/promote", "buckets/fork/promote", `{}`},
	{"POST buckets/{}/swap", "buckets/hers/swap", `{"with":"fork"}`},
	{"POST buckets/{}/rename", "buckets/more/rename", `{"name":"most"}`},
	{"DELETE buckets/{}", "buckets/most", ""},
}

// Every route says who may ask it. Nobody else's account gets anything of a bucket, or learns by the answer whether it
// is there otherwise than over S3; its owner may do everything but what is the operator's.
func TestEveryRouteIsDecided(t *testing.T) {
	s := started(t, func(o *Options) { o.Store.HorizonEvery = time.Hour }) // it commits
	ann, bob := made(t, s, "ann", ""), made(t, s, "bob", "")
	hers := func(method, path, body string, out any) {
		t.Helper()
		if status, e := ask(t, s, ann, method, path, body, out); status != 200 {
			t.Fatalf("%s %s: %d %+v", method, path, status, e)
		}
	}
	hers("POST", "/v1/buckets", `{"name":"hers"}`, nil)
	hers("POST", "/v1/buckets/hers/commit", `{"operations":[{"op":"put","key":"k","data":"eA=="}]}`, nil)
	hers("POST", "/v1/buckets/hers/forks", `{"name":"fork"}`, nil)
	hers("POST", "/v1/buckets/hers/forks", `{"name":"later"}`, nil)
	hers("POST", "/v1/buckets", `{"name":"most"}`, nil) // there when others ask for it
	hers("DELETE", "/v1/buckets/most", "", nil)

	called := make(map[string]bool)
	for _, c := range routeCalls {
		called[c.route] = true
	}
	for i := range adminRoutes {
		rt := &adminRoutes[i]
		name := rt.method + " " + strings.Join(rt.path, "/")
		if entries[name] == nil {
			t.Errorf("%s: nobody says who may ask it", name)
			continue
		}
		if called[name] || rt.path[0] == "jobs" { // who asks sees their own: TestDiffJob
			continue
		}
		path := strings.ReplaceAll("/v1/"+strings.Join(rt.path, "/"), "{}", "x")
		for _, key := range []auth.Key{ann, bob} {
			if status, e := ask(t, s, key, rt.method, path, "", nil); status != 403 || e.Code != "AccessDenied" {
				t.Errorf("%s: %d %+v", name, status, e)
			}
		}
	}
	if len(entries) != len(adminRoutes) {
		t.Errorf("%d entries, %d routes", len(entries), len(adminRoutes))
	}
	before := s.store.Visible()
	for _, c := range routeCalls {
		method, _, _ := strings.Cut(c.route, " ")
		if c.route == "GET buckets" {
			var page BucketsAnswer
			if status, _ := ask(t, s, bob, method, "/v1/"+c.path, c.body, &page); status != 200 || len(page.Buckets) != 0 {
				t.Errorf("bob sees %+v", page)
			}
			continue
		}
		if c.route == "POST buckets" || strings.Contains(c.path, "/mo") || strings.Contains(c.path, "most") {
			continue // his own, or not there
		}
		if status, e := ask(t, s, bob, method, "/v1/"+c.path, c.body, nil); status != 403 || e.Code != "AccessDenied" {
			t.Errorf("%s by bob: %d %+v", c.route, status, e)
		}
		nowhere := func(s string) string {
			return strings.NewReplacer("hers", "nowhere", "fork/", "nowhere/", "later", "nowhere", `"fork"`, `"nowhere"`).Replace(s)
		}
		if status, e := ask(t, s, bob, method, "/v1/"+nowhere(c.path), nowhere(c.body), nil); status != 404 || e.Code != "NoSuchBucket" {
			t.Errorf("%s of nothing by bob: %d %+v", c.route, status, e)
		}
	}
	if after := s.store.Visible(); after != before {
		t.Error("a stranger has committed something")
	}
	for _, c := range routeCalls {
		method, _, _ := strings.Cut(c.route, " ")
		if status, e := ask(t, s, ann, method, "/v1/"+c.path, c.body, nil); status != 200 {
			t.Errorf("%s by its owner: %d %+v", c.route, status, e)
		}
	}
}

// A caller may do what policies let, and no more; what a body names counts as what the path does.
func TestNativePolicies(t *testing.T) {
	s := started(t)
	for _, name := range []string{"data", "other"} {
		mustAsk(t, s, "POST", "/v1/buckets", `{"name":"`+name+`"}`, nil)
		putObject(t, s, name, "a", "x")
		putObject(t, s, name, "secret/b", "x")
	}
	at := s.store.Visible().String()
	mustAsk(t, s, "PUT", "/v1/policies/some", `{"name":"some","document":"{\"Version\":\"2012-10-17\",\"Statement\":[`+
		`{\"Effect\":\"Allow\",\"Action\":[\"s3:*\",\"stemma:ForkBucket\",\"stemma:MergeBucket\",\"stemma:DiffBucket\"],\"Resource\":[\"arn:aws:s3:::data\",\"arn:aws:s3:::data/*\",\"arn:aws:s3:::mine*\"]},`+
		`{\"Effect\":\"Deny\",\"Action\":\"s3:*\",\"Resource\":\"arn:aws:s3:::data/secret/*\"}]}"}`, nil)
	some, reader := made(t, s, "some", "some"), made(t, s, "reader", "readonly")
	boss := made(t, s, "boss", "admin")
	var forks ForkAnswer
	mustAsk(t, s, "POST", "/v1/buckets/data/forks", `{"names":["f-1","f-2"],"key":{"role":"editor"}}`, &forks)
	editor := auth.Key{ID: forks.Forks[0].Key.ID, Secret: forks.Forks[0].Key.SecretKey}
	mustAsk(t, s, "POST", "/v1/buckets/data/forks", `{"names":["f-3"],"key":{"role":"readonly"}}`, &forks)
	viewer := auth.Key{ID: forks.Forks[0].Key.ID, Secret: forks.Forks[0].Key.SecretKey}
	const put = `{"operations":[{"op":"put","key":"new","data":"eA=="}]}`
	for i, c := range []struct {
		key                auth.Key
		method, path, body string
		status             int
	}{
		{some, "POST", "buckets/data/commit", put, 200},
		{some, "POST", "buckets/other/commit", put, 403},
		{some, "POST", "buckets/data/commit", `{"operations":[{"op":"delete","key":"secret/b"}]}`, 403},
		{some, "POST", "buckets/data/commit", `{"operations":[{"op":"put","key":"a"},{"op":"copy","source":"secret/b","key":"b"}]}`, 403},
		{some, "POST", "buckets/data/commit", `{"operations":[{"op":"copy","source_bucket":"other","source":"a","key":"b"}]}`, 403},
		{some, "POST", "buckets/data/commit", `{"operations":[{"op":"copy","source_at":"` + at + `","source":"a","key":"b"}]}`, 200},
		{some, "POST", "buckets/data/commit", `{"operations":[{"op":"rename","source":"secret/b","key":"b"}]}`, 403},
		{some, "POST", "buckets/data/commit", `{"if":[{"key":"secret/b","absent":true}],"operations":[]}`, 403},
		{some, "POST", "buckets/data/commit", `{"operations":[{"op":"delete-prefix","key":"secret/"}]}`, 403},
		{some, "POST", "buckets/data/restore", `{"at":"` + at + `"}`, 403},
		{some, "POST", "buckets/data/forks", `{"name":"mine"}`, 200},
		{some, "POST", "buckets/data/forks", `{"name":"theirs"}`, 403},
		{some, "POST", "buckets/data/forks", `{"name":"mine-2","key":{}}`, 403},
		{some, "POST", "buckets/other/forks", `{"name":"mine-3"}`, 403},
		{some, "POST", "diff", `{"from":"data","to":"mine"}`, 200},
		{some, "POST", "diff", `{"from":"other","to":"mine"}`, 403},
		{some, "POST", "buckets/data/merge", `{"source":"mine"}`, 200},
		{some, "POST", "buckets/data/cherry-pick", `{"source":"other","keys":["a"]}`, 403},
		{some, "GET", "buckets/data/objects/a", "", 200},
		{some, "GET", "buckets/data/objects/secret/b", "", 403},
		{some, "GET", "buckets/data/objects/none", "", 404},
		{some, "PATCH", "buckets/data/objects/secret/b?append=1", "y", 403},
		{some, "POST", "buckets/data/objects/c?clone", `{"key":"secret/b"}`, 403},
		{some, "POST", "buckets/data/objects/c?clone", `{"bucket":"other","key":"a"}`, 403},
		{some, "GET", "users", "", 403},

		{reader, "GET", "buckets/data/log", "", 200},
		{reader, "GET", "buckets/data/list", "", 200},
		{reader, "GET", "buckets/data/objects/a?changed&since=" + at, "", 200},
		{reader, "POST", "diff", `{"from":"data","to":"other"}`, 200},
		{reader, "POST", "buckets/data/commit", put, 403},
		{reader, "PATCH", "buckets/data/objects/a?append=1", "y", 403},
		{reader, "PUT", "buckets/data/retention", `{"window":"1h"}`, 403},

		{editor, "POST", "buckets/f-1/commit", put, 200},
		{editor, "GET", "buckets/f-1/log", "", 200},
		{editor, "POST", "buckets/f-1/snapshots", `{}`, 200},
		{editor, "POST", "buckets/f-2/commit", put, 403},
		{editor, "POST", "buckets/data/merge", `{"source":"f-1"}`, 403},
		{editor, "POST", "buckets/f-1/rebase", `{"source":"data"}`, 403},
		{editor, "POST", "diff", `{"to":"f-1"}`, 403},
		{editor, "POST", "buckets/f-1/forks", `{"name":"sub"}`, 403},
		{editor, "POST", "keys", `{"user":"boss"}`, 403},
		{viewer, "GET", "buckets/f-3/log", "", 200},
		{viewer, "POST", "buckets/f-3/commit", put, 403},
		{viewer, "POST", "buckets/f-3/restore", `{"at":"` + at + `"}`, 403},

		{boss, "GET", "users", "", 200},
		{boss, "POST", "buckets/other/commit", put, 200},
		{boss, "PATCH", "buckets/other", `{"quota_bytes":1000000}`, 200},
	} {
		if status, e := askAny(t, s, c.key, c.method, "/v1/"+c.path, c.body); status != c.status {
			t.Errorf("%d: %s %s %s: %d %s, want %d", i, c.method, c.path, c.body, status, e, c.status)
		}
	}
	var b Bucket
	if mustAsk(t, s, "GET", "/v1/buckets/mine", "", &b); b.Owner == "" || b.Source == nil || b.Source.Bucket != "data" {
		t.Errorf("%+v", b)
	}
	// The editor sees its fork, and not what that was forked from.
	var page BucketsAnswer
	if status, e := ask(t, s, editor, "GET", "/v1/buckets", "", &page); status != 200 || len(page.Buckets) != 1 || page.Buckets[0].Name != "f-1" || page.Buckets[0].Source.Bucket != "" {
		t.Errorf("%d %+v %+v", status, e, page)
	}
	var line AncestryAnswer
	if status, _ := ask(t, s, editor, "GET", "/v1/buckets/f-1/ancestry", "", &line); status != 200 || len(line.Ancestors) != 1 || line.Ancestors[0].Bucket != "" {
		t.Errorf("%d %+v", status, line)
	}
	owner := made(t, s, "owner", "")
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/buckets", `{"name":"own","quota_bytes":5,"key":{}}`, 200},
		{"PATCH", "/v1/buckets/own", `{"quota_bytes":0}`, 403},
	} {
		if status, e := askAny(t, s, owner, c.method, c.path, c.body); status != c.status {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, e)
		}
	}
}

// Who may not delete a bucket or a snapshot may not have it expire.
func TestExpiryIsDeletion(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, nil)
	mustAsk(t, s, "POST", "/v1/buckets/data/snapshots", `{"name":"snap"}`, nil)
	policies := make(map[string]auth.Key)
	for name, denied := range map[string]string{"all": "s3:None", "keeps": "s3:DeleteBucket", "empties": "stemma:ForceDeleteBucket", "snaps": "stemma:DeleteSnapshot"} {
		mustAsk(t, s, "PUT", "/v1/policies/"+name, `{"name":"`+name+`","document":"{\"Version\":\"2012-10-17\",\"Statement\":[`+
			`{\"Effect\":\"Allow\",\"Action\":[\"s3:*\",\"stemma:*\"],\"Resource\":\"arn:aws:s3:::data\"},`+
			`{\"Effect\":\"Deny\",\"Action\":\"`+denied+`\",\"Resource\":\"*\"}]}"}`, nil)
		policies[name] = made(t, s, "u-"+name, name)
	}
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, c := range []struct {
		who, path, body string
		status          int
	}{
		{"keeps", "data", `{"description":"x","expires_in":"never"}`, 200},
		{"keeps", "data", `{"expires_in":"1h"}`, 403},
		{"keeps", "data", `{"expires_at":"` + soon + `"}`, 403},
		{"empties", "data", `{"expires_in":"1h"}`, 403},
		{"snaps", "data", `{"expires_in":"1h"}`, 200},
		{"keeps", "data", `{"extend":"1h"}`, 200},
		{"keeps", "data", `{"expires_in":"never"}`, 200},
		{"snaps", "data/snapshots/snap", `{"label":"x","expires_in":"never"}`, 200},
		{"snaps", "data/snapshots/snap", `{"expires_in":"1h"}`, 403},
		{"snaps", "data/snapshots/snap", `{"expires_at":"` + soon + `"}`, 403},
		{"all", "data/snapshots/snap", `{"expires_in":"1h"}`, 200},
	} {
		if status, e := ask(t, s, policies[c.who], "PATCH", "/v1/buckets/"+c.path, c.body, nil); status != c.status {
			t.Errorf("%s by %s of %s: %d %+v, want %d", c.body, c.who, c.path, status, e, c.status)
		}
	}
}

// askAny is ask of what may answer anything.
func askAny(t *testing.T, s *Server, key auth.Key, method, path, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+s.AdminAddr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Do(signer.SignV4(*req, key.ID, key.Secret, "", "us-east-1"))
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
