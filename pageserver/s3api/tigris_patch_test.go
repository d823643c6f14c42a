package s3api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"stemma/gc"
)

func patchCall(bucket, body string, headers ...string) call {
	return call{method: "PATCH", path: "/" + bucket, body: body, headers: append([]string{"Content-Type", "application/json"}, headers...)}
}

// info returns the JSON of a bucket without what differs from run to run.
func (s *testServer) info(bucket string) map[string]any {
	s.t.Helper()
	var doc map[string]any
	s.json("GET", "/"+bucket+"?metadata", "", &doc)
	return doc
}

// part returns a part of a document as JSON.
func part(doc map[string]any, name string) string {
	p, err := json.Marshal(doc[name])
	if err != nil {
		return err.Error()
	}
	return string(p)
}

// What is patched is told, inherited where it is of the content, and taken away by what means nothing.
func TestTigrisPatchFields(t *testing.T) {
	s := newServer(t)
	s.put("/home", "")
	for _, c := range []struct{ field, value, told, none, without string }{
		{"acl_settings", `{"allow_object_acl":true}`, `{"allow_object_acl":true}`, `{"allow_object_acl":false}`, `{"allow_object_acl":false}`},
		{"object_regions", `"fra,iad"`, `"fra,iad"`, `""`, `"us-east-1"`},
		{"cache_control", `"max-age=5"`, `"max-age=5"`, `""`, `null`},
		{"storage_class", `"GLACIER_IR"`, `"GLACIER_IR"`, `"STANDARD"`, `"STANDARD"`},
		{"additional_http_headers", `{"X-Content-Type-Options":"nosniff"}`, `{"X-Content-Type-Options":"nosniff"}`, `null`, `null`},
		{"website", `{"domain_name":"files.example.com"}`, `{"domain_name":"files.example.com"}`, `{"domain_name":""}`, `null`},
		{"protection", `{"protected":true}`, `{"protected":true}`, `{"protected":false}`, `{"protected":false}`},
		{"soft_delete", `{"enabled":true,"retention_days":9}`, `{"enabled":true,"retention_days":9}`, `{"enabled":false}`, `{"enabled":false}`},
		{"object_notifications", `{"enabled":true,"web_hook":"https://a.example/h","filter":"f","auth":{"token":"t"}}`,
			`{"auth":{"token":"t"},"enabled":true,"filter":"f","web_hook":"https://a.example/h"}`, `{}`, `null`},
		{"shadow_bucket", `{"access_key":"a","secret_key":"s","region":"r","name":"n","endpoint":"https://b.example","write_through":true}`,
			`{"access_key":"a","endpoint":"https://b.example","name":"n","region":"r","write_through":true}`, `{}`, `null`},
		{"shares", `[{"team_id":"all","role":"ReadOnly"},{"user_id":"u","role":"Editor"}]`,
			`[{"role":"ReadOnly","team_id":"all"},{"role":"Editor","user_id":"u"}]`, `[]`, `null`},
		{"cors", `{"rules":[{"allowedOrigin":["*"],"allowedMethods":["*"],"allowedHeaders":["x-a"],"exposeHeaders":[],"maxAge":60}]}`,
			`{"rules":[{"allowedHeaders":["x-a"],"allowedMethods":["GET","PUT","HEAD","POST","DELETE"],"allowedOrigin":["*"],"exposeHeaders":null,"maxAge":60}]}`, `null`, `null`},
		{"lifecycle_rules", `[{"id":"x","status":1,"expiration":{"days":3,"enabled":true},"filter":{"prefix":"tmp/"}},{"id":"y","status":2,"transitions":[{"storage_class":"GLACIER","date":"2030-01-02"}]}]`,
			`[{"expiration":{"days":3,"enabled":true},"filter":{"prefix":"tmp/"},"id":"x","status":1},{"id":"y","status":2,"transitions":[{"date":"2030-01-02","storage_class":"GLACIER"}]}]`, `[]`, `null`},
	} {
		if got := part(s.info("home"), c.field); got != c.without {
			t.Errorf("%s before: %s, want %s", c.field, got, c.without)
		}
		a := s.want(200, patchCall("home", `{"`+c.field+`":`+c.value+`}`))
		if a.body != `{"status":"success"}` {
			t.Errorf("%s: %s", c.field, a.body)
		}
		if got := part(s.info("home"), c.field); got != c.told {
			t.Errorf("%s: told %s, want %s", c.field, got, c.told)
		}
		if c.field == "protection" {
			s.refused(403, "AccessDenied", call{method: "DELETE", path: "/home", headers: []string{"X-Tigris-Force-Delete", "true"}})
		}
		s.want(200, patchCall("home", `{"`+c.field+`":`+c.none+`}`))
		if got := part(s.info("home"), c.field); got != c.without {
			t.Errorf("%s after: %s, want %s", c.field, got, c.without)
		}
	}
	for _, bad := range []string{
		`{"acl_settings":{}}`, `{"storage_class":"WARM"}`, `{"cache_control":"a\nb"}`, `{"cache_control":5}`, `{"soft_delete":{"enabled":true,"retention_days":6}}`,
		`{"soft_delete":{"enabled":true,"retention_days":91}}`, `{"website":{"domain_name":"a/b"}}`, `{"website":{"other":1}}`,
		`{"object_notifications":{"enabled":true,"web_hook":"ftp://a"}}`, `{"object_notifications":{"enabled":true,"web_hook":"https://a","auth":{}}}`,
		`{"shadow_bucket":{"access_key":"a"}}`, `{"shares":[{"role":"ReadOnly"}]}`, `{"shares":[{"user_id":"u","role":"King"}]}`,
		`{"shares":[{"user_id":"u","role":"Editor"},{"user_id":"u","role":"ReadOnly"}]}`, `{"cors":{"rules":[{"allowedOrigin":["*"],"allowedMethods":["PATCH"]}]}}`,
		`{"lifecycle_rules":[{"status":3}]}`, `{"lifecycle_rules":[{"status":1,"expiration":{"days":1,"enabled":false}}]}`, `{"lifecycle_rules":[{"status":1}]}`,
	} {
		s.want(400, patchCall("home", bad))
		// What comes with it is not changed either.
		s.want(400, patchCall("home", `{"object_regions":"ams",`+bad[1:]))
	}
	s.want(501, patchCall("home", `{"additional_http_headers":{"X-Frame-Options":"DENY"}}`))
	if got := part(s.info("home"), "object_regions"); got != `"us-east-1"` {
		t.Errorf("a refused PATCH has changed the regions to %s", got)
	}
}

// Rules that only S3 can say stay when clients of Tigris change theirs.
func TestTigrisPatchKeepsRules(t *testing.T) {
	s := newServer(t)
	s.put("/home", "")
	s.want(200, call{method: "PUT", path: "/home?lifecycle", body: `<LifecycleConfiguration><Rule><ID>old</ID><Filter><Prefix/></Filter><Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule><Rule><ID>plain</ID><Filter><Prefix/></Filter><Status>Enabled</Status><Expiration><Days>4</Days></Expiration></Rule></LifecycleConfiguration>`})
	if got := part(s.info("home"), "lifecycle_rules"); got != `[{"expiration":{"days":4,"enabled":true},"id":"plain","status":1}]` {
		t.Errorf("told %s", got)
	}
	s.want(200, patchCall("home", `{"lifecycle_rules":[{"id":"new","status":1,"expiration":{"days":5}}]}`))
	got := strings.Join(elements(s.get("/home?lifecycle"), "ID"), " ")
	if got != "old new" {
		t.Errorf("rules %s", got)
	}
}

// What is configured is done: defaults of reads and puts, and what a fork has of it.
func TestTigrisDefaults(t *testing.T) {
	s := newServer(t)
	s.want(200, call{method: "PUT", path: "/home", headers: []string{"X-Amz-Storage-Class", "STANDARD_IA", "X-Tigris-Regions", "fra"}})
	s.put("/home/a", "one")
	s.want(200, patchCall("home", `{"storage_class":"GLACIER","cache_control":"max-age=5","additional_http_headers":{"X-Content-Type-Options":"nosniff"},"website":{"domain_name":"a.example"}}`))
	s.want(200, call{method: "PUT", path: "/home/b", body: "two", headers: []string{"Cache-Control", "no-store"}})
	s.want(200, call{method: "PUT", path: "/home/c", body: "three", headers: []string{"X-Amz-Storage-Class", "STANDARD"}})
	s.want(200, call{method: "PUT", path: "/fork", headers: []string{"X-Tigris-Fork-Source-Bucket", "home"}})
	for _, c := range []struct{ key, class, cache string }{{"a", "STANDARD_IA", "max-age=5"}, {"b", "GLACIER", "no-store"}, {"c", "", "max-age=5"}} {
		for _, bucket := range []string{"home", "fork"} {
			h := s.want(200, call{method: "HEAD", path: "/" + bucket + "/" + c.key}).header
			if h.Get("x-amz-storage-class") != c.class || h.Get("Cache-Control") != c.cache || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s/%s: %v", bucket, c.key, h)
			}
		}
	}
	if f := s.info("fork"); part(f, "storage_class") != `"GLACIER"` || part(f, "object_regions") != `"fra"` || part(f, "website") != "null" {
		t.Errorf("the fork has %v", f)
	}
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/fork2", headers: []string{"X-Tigris-Fork-Source-Bucket", "home", "X-Amz-Storage-Class", "GLACIER"}})
	s.refused(400, "InvalidStorageClass", call{method: "PUT", path: "/new", headers: []string{"X-Amz-Storage-Class", "WARM"}})
}

// A bucket that is public to clients of Tigris has public objects, and no public listing unless that is asked for.
func TestTigrisPublicBuckets(t *testing.T) {
	s := newServer(t)
	s.want(200, call{method: "PUT", path: "/open", headers: []string{"X-Amz-Acl", "public-read", "X-Amz-Acl-Public-List-Objects-Enabled", "false"}})
	s.put("/open/a", "one")
	s.want(200, call{method: "PUT", path: "/plain", body: "", headers: []string{"X-Amz-Acl", "public-read"}})
	s.put("/plain/a", "one")
	anonymous := func(status int, path string) {
		t.Helper()
		s.want(status, call{method: "GET", path: path, unsigned: true})
	}
	anonymous(200, "/open/a")
	anonymous(403, "/open?list-type=2")
	anonymous(403, "/open?metadata")
	anonymous(200, "/plain?list-type=2") // as S3 has it
	anonymous(403, "/plain/a")
	s.want(200, patchCall("open", "{}", "X-Amz-Acl-Public-List-Objects-Enabled", "true"))
	anonymous(200, "/open?list-type=2")
	s.want(200, patchCall("open", "", "X-Amz-Acl", "private"))
	anonymous(403, "/open/a")
	anonymous(403, "/open?list-type=2")
	s.want(200, patchCall("open", "{}", "X-Amz-Acl", "public-read"))
	anonymous(200, "/open/a")

	s.want(200, patchCall("plain", `{"acl_settings":{"allow_object_acl":true}}`))
	s.want(200, call{method: "PUT", path: "/plain/b", body: "two", headers: []string{"X-Amz-Acl", "public-read"}})
	anonymous(200, "/plain/b")
	s.want(200, patchCall("plain", `{"acl_settings":{"allow_object_acl":false}}`))
	anonymous(403, "/plain/b")
	s.refused(400, "AccessControlListNotSupported", call{method: "PUT", path: "/plain/c", body: "x", headers: []string{"X-Amz-Acl", "public-read"}})
	s.refused(400, "AccessControlListNotSupported", call{method: "PUT", path: "/plain/b?acl", headers: []string{"X-Amz-Acl", "public-read"}})
	s.want(200, call{method: "PUT", path: "/plain/b?acl", headers: []string{"X-Amz-Acl", "private"}})
	s.want(200, call{method: "PUT", path: "/plain/c", body: "x", headers: []string{"X-Amz-Acl", "private"}})
	var list bucketsJSON
	s.json("GET", "/?IncludeVisibility=true", "", &list)
	for _, b := range list.Buckets.Bucket {
		if !b.Visibility.IsPublic {
			t.Errorf("%s is not shown as public", b.Name)
		}
	}
}

// The history of a bucket with soft deletion is as long as that, and is never made shorter.
func TestTigrisSoftDeleteWindow(t *testing.T) {
	s := newServer(t)
	day := gc.Window(24 * time.Hour)
	window := func() gc.Window {
		w, err := s.store.Window("home")
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	s.want(200, call{method: "PUT", path: "/home", headers: []string{"X-Tigris-Soft-Delete", "30"}})
	if got := window(); got != 30*day {
		t.Errorf("window of %v", got/day)
	}
	s.want(200, patchCall("home", `{"soft_delete":{"enabled":true,"retention_days":90}}`))
	for _, body := range []string{`{"soft_delete":{"enabled":true,"retention_days":7}}`, `{"soft_delete":{"enabled":false}}`} {
		s.want(200, patchCall("home", body))
		if got := window(); got != 90*day {
			t.Errorf("window of %v days", got/day)
		}
	}
	s.refused(400, "InvalidArgument", call{method: "PUT", path: "/new", headers: []string{"X-Tigris-Soft-Delete", "6"}})
}
