package s3api

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func TestCORSLives(t *testing.T) {
	rule := func(origin string) string {
		return `<CORSConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><CORSRule><ID>i</ID><AllowedOrigin>` + origin +
			`</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedHeader>*</AllowedHeader><ExposeHeader>e</ExposeHeader><MaxAgeSeconds>5</MaxAgeSeconds></CORSRule></CORSConfiguration>`
	}
	testConfig(t, configCase{query: "cors", absent: "NoSuchCORSConfiguration", a: rule("http://a"), b: rule("http://b"), markA: "<AllowedOrigin>http://a<", markB: "<AllowedOrigin>http://b<"})
}

func TestEncryptionLives(t *testing.T) {
	rule := func(rest string) string {
		return `<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>` + rest + `</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>`
	}
	testConfig(t, configCase{
		query: "encryption", absent: "ServerSideEncryptionConfigurationNotFoundError",
		a: rule("<SSEAlgorithm>AES256</SSEAlgorithm>"), b: rule("<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>"), markA: "AES256", markB: "aws:kms",
	})
}

func putCORS(s *testServer, rules ...types.CORSRule) error {
	_, err := s.sdk.PutBucketCors(ctx, &s3.PutBucketCorsInput{Bucket: aws.String("one"), CORSConfiguration: &types.CORSConfiguration{CORSRules: rules}})
	return err
}

func TestCORSIsChecked(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	rule := func(change func(*types.CORSRule)) types.CORSRule {
		r := types.CORSRule{AllowedMethods: []string{"GET"}, AllowedOrigins: []string{"*"}}
		change(&r)
		return r
	}
	before := s.store.Visible()
	for code, rules := range map[string][]types.CORSRule{
		"MalformedXML": {rule(func(r *types.CORSRule) { r.AllowedOrigins = []string{} })},
		"InvalidRequest": {
			rule(func(r *types.CORSRule) { r.AllowedMethods = []string{"PATCH"} }),
			rule(func(r *types.CORSRule) { r.AllowedOrigins = []string{"*.*"} }),
			rule(func(r *types.CORSRule) { r.AllowedHeaders = []string{"**"} }),
			rule(func(r *types.CORSRule) { r.ExposeHeaders = []string{"x-*"} }),
			rule(func(r *types.CORSRule) { r.ExposeHeaders = []string{"a\nb: c"} }),
		},
		"InvalidArgument": {rule(func(r *types.CORSRule) { r.ID = aws.String(strings.Repeat("i", 256)) })},
	} {
		for _, r := range rules {
			sdkError(t, putCORS(s, r), 400, code)
		}
	}
	many := make([]types.CORSRule, 101)
	for i := range many {
		many[i] = rule(func(*types.CORSRule) {})
	}
	sdkError(t, putCORS(s, many...), 400, "InvalidRequest")
	if s.store.Visible() != before {
		t.Error("what was refused made a commit")
	}
	if err := putCORS(s, many[:100]...); err != nil {
		t.Error(err)
	}
}

func TestCORS(t *testing.T) {
	s := newServer(t)
	s.bucket("one", "bare")
	s.put("/one/k", "x")
	err := putCORS(s,
		types.CORSRule{AllowedMethods: []string{"GET", "HEAD"}, AllowedOrigins: []string{"http://*.a", "http://b"}, AllowedHeaders: []string{"X-Amz-*", "range"},
			ExposeHeaders: []string{"ETag", "x-stemma-lsn"}, MaxAgeSeconds: aws.Int32(77)},
		types.CORSRule{AllowedMethods: []string{"PUT"}, AllowedOrigins: []string{"*"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	s.fork("one", "fork")

	check := func(c call, status int, origin, methods string) *answer {
		t.Helper()
		a := s.do(c)
		if a.status != status || a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Access-Control-Allow-Methods") != methods {
			t.Errorf("%s %s %q: %d, %v", c.method, c.path, c.headers, a.status, a.header)
		}
		if (origin != "") != (a.header.Get("Vary") == corsVary) || (origin != "" && origin != "*") != (a.header.Get("Access-Control-Allow-Credentials") == "true") {
			t.Errorf("%s %s %q: %v", c.method, c.path, c.headers, a.header)
		}
		return a
	}
	of := func(origin string, more ...string) []string { return append([]string{"Origin", origin}, more...) }
	for _, bucket := range []string{"/one", "/fork"} {
		a := check(call{method: "GET", path: bucket + "/k", headers: of("http://x.a")}, 200, "http://x.a", "GET, HEAD")
		if a.header.Get("Access-Control-Expose-Headers") != "ETag, x-stemma-lsn" || a.header.Get("Access-Control-Max-Age") != "77" {
			t.Errorf("%v", a.header)
		}
		check(call{method: "GET", path: bucket + "/absent", headers: of("http://b")}, 404, "http://b", "GET, HEAD")
		check(call{method: "GET", path: bucket + "/k", headers: of("http://b"), unsigned: true}, 403, "http://b", "GET, HEAD")
		check(call{method: "GET", path: bucket + "/k", headers: of("http://b.c")}, 200, "", "")
		check(call{method: "GET", path: bucket + "/k"}, 200, "", "")
		check(call{method: "PUT", path: bucket + "/new", headers: of("null")}, 200, "*", "PUT")
		check(call{method: "PUT", path: bucket + "/new", headers: of("http://b", "Access-Control-Request-Method", "GET")}, 200, "http://b", "GET, HEAD")
		check(call{method: "DELETE", path: bucket + "/new", headers: of("http://b")}, 204, "", "")

		ask := func(method string, more ...string) []string {
			return of("http://b", append([]string{"Access-Control-Request-Method", method}, more...)...)
		}
		preflight := func(path string, headers []string) call {
			return call{method: "OPTIONS", path: path, headers: headers, unsigned: true}
		}
		check(preflight(bucket+"/k?partNumber=1&uploadId=2&x", ask("GET")), 200, "http://b", "GET, HEAD")
		a = check(preflight(bucket+"/k", ask("GET", "Access-Control-Request-Headers", "x-amz-Date, Range")), 200, "http://b", "GET, HEAD")
		if a.header.Get("Access-Control-Allow-Headers") != "x-amz-date, range" || a.header.Get("Access-Control-Max-Age") != "77" || a.body != "" {
			t.Errorf("%v", a.header)
		}
		check(preflight(bucket, ask("PUT")), 200, "*", "PUT")
		a = check(preflight(bucket+"/k", ask("GET", "Access-Control-Request-Headers", "x-other")), 403, "", "")
		if a.code() != "AccessForbidden" || element(a.body, "Method") != "GET" || element(a.body, "ResourceType") != "OBJECT" {
			t.Error(a.body)
		}
		check(preflight(bucket, ask("POST")), 403, "", "")
		check(preflight(bucket, of("http://b")), 400, "", "")
		check(preflight(bucket, []string{"Access-Control-Request-Method", "GET"}), 400, "", "")
		check(preflight(bucket, nil), 400, "", "")
	}
	for _, path := range []string{"/bare", "/absent", "/absent/k"} {
		s.refused(403, "AccessForbidden", call{method: "OPTIONS", path: path, unsigned: true, headers: of("a", "Access-Control-Request-Method", "GET")})
	}
	s.refused(405, "MethodNotAllowed", call{method: "OPTIONS", path: "/", headers: of("a", "Access-Control-Request-Method", "GET")})
}
