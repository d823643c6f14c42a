package pageserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/signer"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// Real requests and answers are as the document says, of every operation that has JSON bodies.
func TestOpenAPIHoldsOfRealAnswers(t *testing.T) {
	described, err := libopenapi.NewDocument(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	check, errs := validator.NewValidator(described)
	if errs != nil {
		t.Fatal(errs)
	}
	if ok, errs := check.ValidateDocument(); !ok {
		t.Fatal(errs)
	}
	s := started(t)
	left := map[string]bool{}
	for i := range adminRoutes {
		path, _ := describedPath(&adminRoutes[i])
		left[adminRoutes[i].method+" "+path] = true
	}
	// call sends a request of an operation; what is %s in its path comes from the arguments.
	call := func(status int, operation, query, body string, variables ...string) map[string]any {
		t.Helper()
		method, path, _ := strings.Cut(operation, " ")
		for _, v := range variables {
			i, j := strings.IndexByte(path, '{'), strings.IndexByte(path, '}')
			path = path[:i] + v + path[j+1:]
		}
		request := func() *http.Request {
			req, err := http.NewRequest(method, "http://"+s.AdminAddr().String()+path+query, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte(body))
			req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
			if body != "" {
				req.Header.Set("Content-Type", "application/json")
			}
			return signer.SignV4(*req, rootKey.ID, rootKey.Secret, "", "us-east-1")
		}
		res, err := http.DefaultClient.Do(request())
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(res.Body)
		if res.Body.Close(); err != nil || res.StatusCode != status {
			t.Fatalf("%s %s: %d %s, %v", method, path, res.StatusCode, p, err)
		}
		if status == 200 {
			if ok, errs := check.ValidateHttpRequest(request()); !ok {
				for _, e := range errs {
					t.Errorf("request %s: %v", operation, e)
				}
			}
			delete(left, operation)
		}
		res.Body = io.NopCloser(bytes.NewReader(p))
		if ok, errs := check.ValidateHttpResponse(request(), res); !ok {
			for _, e := range errs {
				t.Errorf("answer to %s: %s: %v", operation, p, e)
				for _, d := range e.SchemaValidationErrors {
					t.Errorf("  %v", d)
				}
			}
		}
		var answer map[string]any
		_ = json.Unmarshal(p, &answer) // some are lists
		return answer
	}
	call(200, "POST /v1/buckets", "", `{"name":"data","labels":{"a":"b"},"description":"d","key":{"role":"readonly"}}`)
	call(200, "POST /v1/buckets", "", `{"name":"gone","expires_in":"1h"}`)
	call(409, "POST /v1/buckets", "", `{"name":"gone"}`)
	call(200, "POST /v1/buckets/{bucket}/commit", "", `{"if":[{"key":"a","absent":true}],"operations":[
		{"op":"put","key":"a","data":"aGVsbG8=","content_type":"text/plain","metadata":{"a":"b"},"tags":{"a":"b"}},{"op":"delete","key":"b"}]}`, "data")
	call(200, "GET /v1/buckets/{bucket}/list", "?prefix=a&delimiter=/&limit=5", "", "data")
	call(200, "POST /v1/buckets/{bucket}/look", "", `{"keys":["a","b"]}`, "data")
	call(200, "GET /v1/buckets/{bucket}/history", "?key=a&limit=5", "", "data")
	call(200, "GET /v1/buckets/{bucket}/log", "?from=-1h&limit=5", "", "data")
	call(200, "POST /v1/buckets/{bucket}/snapshots", "", `{"name":"s-1","label":"x","expires_in":"1h"}`, "data")
	call(200, "POST /v1/snapshots", "", `{"buckets":["data","gone"],"name":"both"}`)
	call(200, "GET /v1/buckets/{bucket}/snapshots", "", "", "data")
	call(200, "GET /v1/buckets/{bucket}/snapshots/{snapshot}", "", "", "data", "s-1")
	call(200, "PATCH /v1/buckets/{bucket}/snapshots/{snapshot}", "", `{"extend":"1h","held":true}`, "data", "s-1")
	call(200, "DELETE /v1/buckets/{bucket}/snapshots/{snapshot}", "", "", "data", "both")
	call(200, "POST /v1/buckets/{bucket}/forks", "", `{"count":2,"name_prefix":"f-","at":"s-1","key":{}}`, "data")
	call(200, "POST /v1/buckets/{bucket}/commit", "", `{"operations":[{"op":"rename","source":"a","key":"c"}]}`, "f-1")
	call(200, "GET /v1/buckets/{bucket}/forks", "?limit=1", "", "data")
	call(200, "GET /v1/buckets/{bucket}/ancestry", "", "", "f-1")
	call(200, "GET /v1/buckets/{bucket}/tree", "?root=true&limit=10", "", "f-1")
	call(200, "GET /v1/buckets/{bucket}/distance", "", "", "f-1")
	call(200, "POST /v1/diff", "", `{"from":"data","to":"f-1"}`)
	id := call(200, "POST /v1/diff/jobs", "", `{"from":"data","to":"f-1"}`)["id"].(string)
	ended(t, s, id)
	call(200, "GET /v1/jobs", "", "")
	call(200, "GET /v1/jobs/{job}", "", "", id)
	call(200, "GET /v1/jobs/{job}/result", "", "", id)
	call(200, "DELETE /v1/jobs/{job}", "", "", id)
	call(200, "POST /v1/buckets/{bucket}/forks", "", `{"name":"detached"}`, "data")
	call(200, "POST /v1/buckets/{bucket}/detach", "", "", "detached")
	call(200, "POST /v1/buckets/{bucket}/merge", "", `{"source":"f-1","dry_run":true,"overrides":[{"prefix":"c","strategy":"dest-wins"}]}`, "data")
	call(200, "POST /v1/buckets/{bucket}/rebase", "", `{"source":"data","strategy":"source-wins"}`, "f-1")
	call(200, "POST /v1/buckets/{bucket}/cherry-pick", "", `{"source":"f-1","keys":["c"]}`, "data")
	call(200, "POST /v1/buckets/{bucket}/revert", "", `{"from":"s-1"}`, "data")
	call(200, "POST /v1/buckets/{bucket}/restore", "", `{"at":"s-1"}`, "data")
	call(200, "POST /v1/buckets/{bucket}/restore", "", `{"at":"s-1","keys":["a"]}`, "data")
	call(200, "POST /v1/buckets/{bucket}/undelete", "", `{"keys":["c"]}`, "data")
	call(200, "POST /v1/buckets/{bucket}/reset", "", `{}`, "f-2")
	call(200, "POST /v1/buckets/{bucket}/promote", "", `{}`, "f-2")
	call(200, "POST /v1/buckets/{bucket}/swap", "", `{"with":"f-2"}`, "f-1")
	call(200, "GET /v1/buckets", "?prefix=f&label=a", "")
	call(200, "GET /v1/buckets/{bucket}", "", "", "f-1")
	call(404, "GET /v1/buckets/{bucket}", "", "", "none")
	call(200, "PATCH /v1/buckets/{bucket}", "", `{"read_only":true,"labels":{}}`, "f-1")
	call(200, "POST /v1/buckets/{bucket}/rename", "", `{"name":"f-0"}`, "f-1")
	call(200, "PUT /v1/buckets/{bucket}/retention", "", `{"window":"1h"}`, "data")
	call(200, "GET /v1/buckets/{bucket}/retention", "", "", "data")
	call(200, "DELETE /v1/buckets/{bucket}", "?force=true&undo=1h", "", "gone")
	deleted := call(200, "GET /v1/deleted", "", "")["buckets"].([]any)[0].(map[string]any)
	call(200, "POST /v1/deleted/{id}/undelete", "", `{"name":"back"}`, fmt.Sprint(deleted["id"]))
	call(200, "GET /v1/usage", "?bucket=data", "")
	call(200, "POST /v1/gc", "?mode=plan", "")
	call(200, "POST /v1/gc", "?mode=full", "")
	call(200, "GET /v1/profile", "?kind=heap", "")
	call(200, "POST /v1/encryption/reseal", "", "")
	call(200, "GET /v1/background", "", "")
	call(200, "PUT /v1/background", "", `{"share":50}`)
	call(200, "POST /v1/users", "", `{"name":"ann","email":"a@example.org"}`)
	call(200, "GET /v1/users", "", "")
	call(200, "GET /v1/users/{user}", "", "", "ann")
	call(200, "PUT /v1/users/{user}", "", `{"display_name":"Ann"}`, "ann")
	call(200, "PUT /v1/policies/{policy}", "", `{"document":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"*\"}]}"}`, "all")
	call(200, "GET /v1/policies", "", "")
	call(200, "POST /v1/users/{user}/policy", "", `{"attach":"all"}`, "ann")
	key := call(200, "POST /v1/keys", "", `{"user":"ann","description":"x","scope":[{"bucket":"data","role":"editor"}]}`)["access_key"].(string)
	call(200, "GET /v1/keys", "?user=ann", "")
	call(200, "PUT /v1/keys/{key}", "", `{"active":false}`, key)
	call(200, "POST /v1/keys/{key}/rotate", "", "", key)
	call(200, "DELETE /v1/keys/{key}", "", "", key)
	call(200, "DELETE /v1/users/{user}", "?force=true", "", "ann")
	call(200, "DELETE /v1/policies/{policy}", "", "", "all")
	for operation := range left {
		t.Errorf("%s was not asked", operation)
	}
}
