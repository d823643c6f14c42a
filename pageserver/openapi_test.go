package pageserver

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
)

var rewrite = flag.Bool("rewrite", false, "write openapi.json anew")

// operationDoc is what the description says of a route beside its path and parameters.
type operationDoc struct {
	summary string
	in, out any    // zero values of the bodies; nil: none
	tag     string // what it belongs to
}

// operationDocs are by method and path.
var operationDocs = map[string]operationDoc{
	"POST /v1/gc":                                      {"Collect garbage (mode=full), or tell what would be collected (mode=plan)", nil, oneOf{CollectAnswer{}, PlanAnswer{}}, "store"},
	"GET /v1/usage":                                    {"What each bucket holds, and what deleting it would give back", nil, UsageAnswer{}, "store"},
	"GET /v1/profile":                                  {"A profile of the server, in the format of pprof", nil, ProfileAnswer{}, "store"},
	"GET /v1/background":                               {"How much time background work may take", nil, Background{}, "store"},
	"PUT /v1/background":                               {"Set how much time background work may take", Background{}, Background{}, "store"},
	"POST /v1/encryption/reseal":                       {"Seal by the first master key what former ones have sealed", nil, ResealAnswer{}, "store"},
	"GET /v1/deleted":                                  {"Deleted buckets that can be brought back", nil, DeletedAnswer{}, "buckets"},
	"POST /v1/deleted/{id}/undelete":                   {"Bring a deleted bucket back", Undelete{}, BucketAnswer{}, "buckets"},
	"GET /v1/buckets":                                  {"List buckets", nil, BucketsAnswer{}, "buckets"},
	"POST /v1/buckets":                                 {"Make an empty bucket", NewBucket{}, MadeBucket{}, "buckets"},
	"GET /v1/buckets/{bucket}":                         {"Describe a bucket", nil, Bucket{}, "buckets"},
	"PATCH /v1/buckets/{bucket}":                       {"Change labels, description, expiry and protection of a bucket", BucketChange{}, Bucket{}, "buckets"},
	"DELETE /v1/buckets/{bucket}":                      {"Delete a bucket; its forks live on", nil, Change{}, "buckets"},
	"POST /v1/buckets/{bucket}/rename":                 {"Give a bucket another name", Renamed{}, Change{}, "buckets"},
	"GET /v1/buckets/{bucket}/retention":               {"How far back a bucket can be read at every moment", nil, Retention{}, "buckets"},
	"PUT /v1/buckets/{bucket}/retention":               {"Set how far back a bucket can be read at every moment", Retention{}, Retention{}, "buckets"},
	"POST /v1/buckets/{bucket}/commit":                 {"Make many changes at once, or none of them", CommitRequest{}, CommitAnswer{}, "objects"},
	"GET /v1/buckets/{bucket}/list":                    {"List objects with their metadata", nil, ListAnswer{}, "objects"},
	"POST /v1/buckets/{bucket}/look":                   {"Describe what is at some keys", LookRequest{}, LookAnswer{}, "objects"},
	"GET /v1/buckets/{bucket}/history":                 {"What each commit made of a key", nil, HistoryAnswer{}, "objects"},
	"GET /v1/buckets/{bucket}/log":                     {"What was done to the objects of a bucket, commit by commit", nil, LogAnswer{}, "objects"},
	"POST /v1/buckets/{bucket}/forks":                  {"Fork a bucket, once or many times", ForkRequest{}, ForkAnswer{}, "forks"},
	"GET /v1/buckets/{bucket}/forks":                   {"List the forks of a bucket", nil, BucketsAnswer{}, "forks"},
	"GET /v1/buckets/{bucket}/ancestry":                {"What a bucket descends from", nil, AncestryAnswer{}, "forks"},
	"GET /v1/buckets/{bucket}/tree":                    {"The family of a bucket", nil, TreeAnswer{}, "forks"},
	"GET /v1/buckets/{bucket}/distance":                {"What a fork has written since it was made", nil, DistanceAnswer{}, "forks"},
	"POST /v1/snapshots":                               {"Take snapshots of several buckets at one LSN", NewSnapshot{}, SnapshotsAnswer{}, "snapshots"},
	"POST /v1/buckets/{bucket}/snapshots":              {"Take a snapshot of a bucket", NewSnapshot{}, SnapshotsAnswer{}, "snapshots"},
	"GET /v1/buckets/{bucket}/snapshots":               {"List the snapshots of a bucket", nil, SnapshotsAnswer{}, "snapshots"},
	"GET /v1/buckets/{bucket}/snapshots/{snapshot}":    {"Describe a snapshot", nil, Snapshot{}, "snapshots"},
	"PATCH /v1/buckets/{bucket}/snapshots/{snapshot}":  {"Rename, label, hold or extend a snapshot", SnapshotChange{}, Snapshot{}, "snapshots"},
	"DELETE /v1/buckets/{bucket}/snapshots/{snapshot}": {"Delete a snapshot", nil, Change{}, "snapshots"},
	"POST /v1/diff":                                    {"Compare two points", DiffRequest{}, DiffAnswer{}, "merges"},
	"POST /v1/diff/jobs":                               {"Compare two points, and keep what differs as a result", DiffRequest{}, Job{}, "jobs"},
	"POST /v1/buckets/{bucket}/detach":                 {"Give a fork entries of its own for all that it inherits", nil, Job{}, "jobs"},
	"GET /v1/jobs":                                     {"List jobs", nil, JobsAnswer{}, "jobs"},
	"GET /v1/jobs/{job}":                               {"Describe a job", nil, Job{}, "jobs"},
	"GET /v1/jobs/{job}/result":                        {"The result of a job, one entry per line", nil, DiffChange{}, "jobs"},
	"DELETE /v1/jobs/{job}":                            {"Cancel a job that runs, or forget one that has ended", nil, Done{}, "jobs"},
	"POST /v1/buckets/{bucket}/merge":                  {"Merge a fork into the bucket", MergeRequest{}, MergeAnswer{}, "merges"},
	"POST /v1/buckets/{bucket}/rebase":                 {"Bring what the parent has changed into the bucket", MergeRequest{}, MergeAnswer{}, "merges"},
	"POST /v1/buckets/{bucket}/cherry-pick":            {"Bring some keys of another bucket into the bucket", MergeRequest{}, MergeAnswer{}, "merges"},
	"POST /v1/buckets/{bucket}/revert":                 {"Undo commits", MergeRequest{}, MergeAnswer{}, "merges"},
	"POST /v1/buckets/{bucket}/restore":                {"Make a bucket, or some of its objects, what they were", RestoreRequest{}, oneOf{MoveAnswer{}, MergeAnswer{}}, "moves"},
	"POST /v1/buckets/{bucket}/reset":                  {"Make a fork what its source is", MoveRequest{}, MoveAnswer{}, "moves"},
	"POST /v1/buckets/{bucket}/promote":                {"Make the source of a fork what the fork is", MoveRequest{}, MoveAnswer{}, "moves"},
	"POST /v1/buckets/{bucket}/swap":                   {"Make two buckets each other", MoveRequest{}, MoveAnswer{}, "moves"},
	"POST /v1/buckets/{bucket}/undelete":               {"Bring deleted objects back", UndeleteObjectsRequest{}, oneOf{UndeletedAnswer{}, MergeAnswer{}}, "moves"},
	"GET /v1/users":                                    {"List users", nil, UsersAnswer{}, "identity"},
	"POST /v1/users":                                   {"Make a user with an access key", NewUser{}, NewUserAnswer{}, "identity"},
	"GET /v1/users/{user}":                             {"Describe a user", nil, User{}, "identity"},
	"PUT /v1/users/{user}":                             {"Change a user", UserChange{}, User{}, "identity"},
	"DELETE /v1/users/{user}":                          {"Delete a user", nil, Done{}, "identity"},
	"POST /v1/users/{user}/policy":                     {"Change which policies a user has", PolicyChange{}, User{}, "identity"},
	"GET /v1/policies":                                 {"List managed policies", nil, []Policy{}, "identity"},
	"PUT /v1/policies/{policy}":                        {"Make or replace a managed policy", Policy{}, Policy{}, "identity"},
	"DELETE /v1/policies/{policy}":                     {"Delete a managed policy", nil, Done{}, "identity"},
	"GET /v1/keys":                                     {"List access keys", nil, []AccessKey{}, "identity"},
	"POST /v1/keys":                                    {"Make an access key", NewAccessKey{}, AccessKey{}, "identity"},
	"PUT /v1/keys/{key}":                               {"Change an access key", KeyChange{}, AccessKey{}, "identity"},
	"POST /v1/keys/{key}/rotate":                       {"Give an access key a new secret", nil, AccessKey{}, "identity"},
	"DELETE /v1/keys/{key}":                            {"Delete an access key", nil, Done{}, "identity"},
}

// lineDocs describe answers that also come line by line.
var lineDocs = map[string]struct {
	lines string
	end   any
}{
	"GET /v1/jobs/{job}/result":    {"DiffChange lines", DiffChange{}},
	"POST /v1/diff":                {"DiffChange lines, and a DiffEnd", DiffEnd{}},
	"GET /v1/buckets/{bucket}/log": {"LogEntry lines, and a LogEnd", LogEnd{}},
}

// oneOf is an answer that depends on a parameter.
type oneOf [2]any

// queryDocs describe parameters, by name.
var queryDocs = map[string][2]string{ // type, description
	"limit":     {"integer", "How many at most"},
	"after":     {"string", "Continues a page: its next"},
	"before":    {"string", "The newest moment: a point in time, or the next of a page"},
	"prefix":    {"string", "Only names that begin with this"},
	"label":     {"string", "Only what has all of these labels: key=value or key, separated by commas"},
	"force":     {"boolean", "Also what is not empty, or in use"},
	"undo":      {"string", "For how long it can be undeleted, such as 24h; 0s: not at all"},
	"from":      {"string", "The point in time above which"},
	"to":        {"string", "The point in time up to which"},
	"oldest":    {"boolean", "Oldest first"},
	"root":      {"boolean", "The whole family, from its first ancestor on"},
	"key":       {"string", "The key"},
	"at":        {"string", "A point in time; absent: the tip"},
	"delimiter": {"string", "Keys that have it behind the prefix are rolled up"},
	"token":     {"string", "Continues a page: its next"},
	"mode":      {"string", "full or plan"},
	"bucket":    {"string", "Only this bucket"},
	"kind":      {"string", "cpu, block, mutex, heap, allocs or goroutine"},
	"seconds":   {"integer", "How long to watch"},
	"user":      {"string", "Only those of this user"},
}

// pathVariables are the names of variables, by the part before them.
var pathVariables = map[string]string{
	"buckets": "bucket", "snapshots": "snapshot", "deleted": "id", "users": "user", "policies": "policy", "keys": "key", "jobs": "job",
}

type document = map[string]any

// describedPath returns a route's path with named variables, and their names.
func describedPath(rt *adminRoute) (string, []string) {
	path, names := "/v1", []string(nil)
	for i, p := range rt.path {
		if p == "{}" {
			names = append(names, pathVariables[rt.path[i-1]])
			p = "{" + pathVariables[rt.path[i-1]] + "}"
		}
		path += "/" + p
	}
	return path, names
}

// schemas gathers the schemas of types.
type schemas struct {
	reflector jsonschema.Reflector
	all       document
}

// of returns a reference to the schema of v.
func (s *schemas) of(t *testing.T, v any) document {
	t.Helper()
	if both, ok := v.(oneOf); ok {
		return document{"oneOf": []any{s.of(t, both[0]), s.of(t, both[1])}}
	}
	p, err := json.Marshal(s.reflector.Reflect(v))
	if err != nil {
		t.Fatal(err)
	}
	p = bytes.ReplaceAll(p, []byte(`"#/$defs/`), []byte(`"#/components/schemas/`))
	var doc document
	if err := json.Unmarshal(p, &doc); err != nil {
		t.Fatal(err)
	}
	defs, _ := doc["$defs"].(document)
	for name, def := range defs {
		if have, ok := s.all[name]; ok && !reflect.DeepEqual(have, def) {
			t.Fatalf("two types are named %s", name)
		}
		s.all[name] = def
	}
	delete(doc, "$defs")
	delete(doc, "$schema")
	return doc
}

func content(media string, schema document) document {
	return document{"content": document{media: document{"schema": schema}}}
}

// describe makes the whole document.
func describe(t *testing.T) []byte {
	t.Helper()
	s := schemas{all: document{}, reflector: jsonschema.Reflector{Anonymous: true}}
	if err := s.reflector.AddGoComments("stemma", "./", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	for k, v := range s.reflector.CommentMap { // they were found in the directory of the package
		s.reflector.CommentMap[strings.Replace(k, "stemma.", "stemma/pageserver.", 1)] = strings.Join(strings.Fields(v), " ")
	}
	paths := document{}
	add := func(method, path string, op document) {
		if paths[path] == nil {
			paths[path] = document{}
		}
		paths[path].(document)[strings.ToLower(method)] = op
	}
	failed := content("application/json", s.of(t, AdminError{}))
	failed["description"] = "Nothing was done, and why"
	described := map[string]bool{}
	for i := range adminRoutes {
		rt := &adminRoutes[i]
		path, names := describedPath(rt)
		name := rt.method + " " + path
		doc, ok := operationDocs[name]
		if !ok {
			t.Errorf("operationDocs lacks %s", name)
			continue
		}
		described[name] = true
		answer := content("application/json", s.of(t, doc.out))
		answer["description"] = "Done"
		if l, ok := lineDocs[name]; ok {
			answer["content"].(document)[linesType] = document{"schema": document{"description": l.lines}}
			s.of(t, l.end)
		}
		op := document{
			"operationId": operationID(rt.method, rt.path), "summary": doc.summary, "tags": []string{doc.tag},
			"responses": document{"200": answer, "default": failed},
		}
		if doc.in != nil {
			body := content("application/json", s.of(t, doc.in))
			body["required"] = true
			op["requestBody"] = body
		}
		var params []any
		for _, n := range names {
			params = append(params, document{"name": n, "in": "path", "required": true, "schema": document{"type": "string"}})
		}
		for _, q := range rt.query {
			d, ok := queryDocs[q]
			if !ok {
				t.Errorf("queryDocs lacks %s of %s", q, name)
			}
			params = append(params, document{"name": q, "in": "query", "description": d[1], "schema": document{"type": d[0]}})
		}
		if params != nil {
			op["parameters"] = params
		}
		add(rt.method, path, op)
	}
	for name := range operationDocs {
		if !described[name] {
			t.Errorf("operationDocs has %s, which is no route", name)
		}
	}
	describePages(t, &s, failed, add)
	doc := document{
		"openapi": "3.1.0",
		"info": document{
			"title": "Stemma", "version": "1",
			"description": "Buckets that can be forked like code. Requests are signed as for S3 (AWS Signature Version 4, service s3) by the root key. LSNs are strings of digits.",
		},
		"security": []any{document{"sigv4": []string{}}},
		"paths":    paths,
		"components": document{
			"schemas":         s.all,
			"securitySchemes": document{"sigv4": document{"type": "apiKey", "in": "header", "name": "Authorization", "description": "AWS Signature Version 4"}},
		},
	}
	p, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(p, '\n')
}

// operationID is a name such as postBucketsForks.
func operationID(method string, path []string) string {
	id := strings.ToLower(method)
	for _, p := range path {
		if p == "{}" {
			p = "one"
		}
		for _, word := range strings.Split(p, "-") {
			id += strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return id
}

// describePages adds what handleV1 hands to pages_v1.go. docs/pages.md has the protocol.
func describePages(t *testing.T, s *schemas, failed document, add func(method, path string, op document)) {
	t.Helper()
	bytesOf := func(media string) document { return content(media, document{}) }
	answer := func(c document) document {
		c["description"] = "Done"
		return document{"200": c, "default": failed}
	}
	param := func(in, name, kind string) document {
		return document{"name": name, "in": in, "required": in == "path", "schema": document{"type": kind}}
	}
	named := []any{param("path", "bucket", "string"), param("path", "key", "string")}
	with := func(names ...string) []any {
		l := slices.Clone(named)
		for _, n := range names {
			l = append(l, param("query", n, "string"))
		}
		return l
	}
	const path = "/v1/buckets/{bucket}/objects/{key}"
	add("PATCH", path, document{
		"operationId": "patchObject", "tags": []string{"pages"}, "summary": "Change ranges of an object in one commit",
		"parameters":  with("page-size", "create", "if-lsn", "append", "size", "zero"),
		"requestBody": bytesOf("*/*"), "responses": answer(content("application/json", s.of(t, PageAnswer{}))),
	})
	add("GET", path, document{
		"operationId": "getObjectRanges", "tags": []string{"pages"}, "summary": "Read ranges at an LSN, or what was written between two; a key may have slashes",
		"parameters": with("at", "changed", "since", "offset"), "responses": answer(bytesOf("*/*")),
	})
	add("POST", path, document{
		"operationId": "cloneObject", "tags": []string{"pages"}, "summary": "Clone an object or a range",
		"parameters": with("clone"), "requestBody": bytesOf("application/json"), "responses": answer(content("application/json", s.of(t, PageAnswer{}))),
	})
	add("POST", "/v1/buckets/{bucket}/pages:read", document{
		"operationId": "readPages", "tags": []string{"pages"}, "summary": "Read many ranges of many objects",
		"parameters": []any{named[0]}, "requestBody": bytesOf("application/json"), "responses": answer(bytesOf("*/*")),
	})
	add("POST", "/v1/pages:stream", document{
		"operationId": "streamPages", "tags": []string{"pages"}, "summary": "Upgrade the connection to a stream of page reads and writes",
		"parameters": []any{param("header", "Upgrade", "string")},
		"responses":  document{"101": document{"description": "The protocol stemma-pages/1 follows"}, "default": failed},
	})
}

// The document is what the routes and their types say.
func TestOpenAPIDocument(t *testing.T) {
	want := describe(t)
	if *rewrite {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(openAPI, want) {
		t.Error("openapi.json is not what routes and types say; write it anew: go test ./pageserver -run TestOpenAPIDocument -rewrite")
	}
	s := started(t)
	if status, body := get(t, s, openAPIPath); status != 200 || body != string(want) {
		t.Errorf("%s: %d, %d bytes", openAPIPath, status, len(body))
	}
}
