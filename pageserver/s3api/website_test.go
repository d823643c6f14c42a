package s3api

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// site asks a listener for websites.
type site struct {
	t    *testing.T
	addr string
	http *http.Client
}

// newSite starts a server that serves websites, too.
func newSite(t *testing.T) (*testServer, *site) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	t.Cleanup(func() { // after the shutdown
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	s := newServer(t)
	go func() { served <- s.ServeWebsites(ln) }()
	return s, &site{t, ln.Addr().String(), &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true},
	}}
}

func (s *site) ask(method, host, path string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://"+s.addr+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	p, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res, string(p)
}

// want asks for a page, and checks status and body; of a redirect its Location.
func (s *site) want(status int, body, host, path string) {
	s.t.Helper()
	res, got := s.ask("GET", host, path)
	if status/100 == 3 {
		got = res.Header.Get("Location")
	}
	if res.StatusCode != status || !strings.Contains(got, body) {
		s.t.Errorf("%s%s: %d %q, want %d %q", host, path, res.StatusCode, got, status, body)
	}
}

// publish makes a bucket that everybody may read, with objects.
func publish(t *testing.T, s *testServer, bucket string, objects map[string]string) {
	t.Helper()
	s.bucket(bucket)
	for key, body := range objects {
		ok(s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body), ContentType: aws.String("text/html")}))(t)
	}
	ok(s.sdk.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: aws.String(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::` + bucket + `","arn:aws:s3:::` + bucket + `/*"]},
		{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::` + bucket + `/secret/*"}]}`)}))(t)
}

func setSite(t *testing.T, s *testServer, bucket string, c *types.WebsiteConfiguration) {
	t.Helper()
	ok(s.sdk.PutBucketWebsite(ctx, &s3.PutBucketWebsiteInput{Bucket: &bucket, WebsiteConfiguration: c}))(t)
}

func TestWebsite(t *testing.T) {
	s, web := newSite(t)
	publish(t, s, "www", map[string]string{
		"index.html": "home", "a/index.html": "dir a", "page": strings.Repeat("page", 20_000), "error.html": "sorry", "secret/x": "hidden",
	})
	const host = "www.localhost:9002"
	web.want(404, "NoSuchWebsiteConfiguration", host, "/")
	web.want(404, "NoSuchBucket", "none.localhost", "/")
	setSite(t, s, "www", &types.WebsiteConfiguration{IndexDocument: &types.IndexDocument{Suffix: aws.String("index.html")}})
	web.want(200, "home", host, "/")
	web.want(200, "home", "www", "/") // any other host is that of a bucket
	web.want(200, "dir a", host, "/a/")
	web.want(302, "/a/", host, "/a")
	web.want(200, "pagepage", host, "/page?versionId=junk&acl")
	web.want(404, "<li>Key: no&lt;ne</li>", host, "/no%3Cne")
	web.want(404, "<li>Key: none/index.html</li>", host, "/none/")
	web.want(403, "<h1>403 Forbidden</h1>", host, "/secret/x")
	res, body := web.ask("HEAD", host, "/none")
	if res.StatusCode != 404 || body != "" || res.Header.Get("x-amz-error-code") != "NoSuchKey" || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%d %q %v", res.StatusCode, body, res.Header)
	}
	if res, _ = web.ask("HEAD", host, "/page"); res.StatusCode != 200 || res.ContentLength != 80_000 {
		t.Errorf("%d, %d bytes", res.StatusCode, res.ContentLength)
	}
	etag := res.Header.Get("ETag")
	if res, _ = web.ask("GET", host, "/page", "If-None-Match", etag); res.StatusCode != 304 {
		t.Errorf("unchanged: %d", res.StatusCode)
	}
	if res, body = web.ask("GET", host, "/page", "Range", "bytes=4-7"); res.StatusCode != 206 || body != "page" {
		t.Errorf("range: %d %q", res.StatusCode, body)
	}
	if res, body = web.ask("PUT", host, "/page"); res.StatusCode != 405 || !strings.Contains(body, "MethodNotAllowed") {
		t.Errorf("PUT: %d %q", res.StatusCode, body)
	}
	setSite(t, s, "www", &types.WebsiteConfiguration{
		IndexDocument: &types.IndexDocument{Suffix: aws.String("index.html")}, ErrorDocument: &types.ErrorDocument{Key: aws.String("error.html")},
	})
	web.want(404, "sorry", host, "/none")
	web.want(403, "sorry", host, "/secret/x")
	web.want(302, "/a/", host, "/a")
	// A fork is a site of its own.
	s.fork("www", "preview")
	ok(s.sdk.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("www"), Key: aws.String("error.html")}))(t)
	web.want(404, "Retrieve a Custom Error Document", host, "/none")
	web.want(404, "sorry", "preview.localhost", "/none")
}

func TestWebsiteRedirects(t *testing.T) {
	s, web := newSite(t)
	publish(t, s, "www", map[string]string{"index.html": "home", "new/k": "moved here"})
	redirect := func(r types.Redirect) *types.Redirect { return &r }
	setSite(t, s, "www", &types.WebsiteConfiguration{
		IndexDocument: &types.IndexDocument{Suffix: aws.String("index.html")},
		RoutingRules: []types.RoutingRule{
			{Condition: &types.Condition{KeyPrefixEquals: aws.String("old/")}, Redirect: redirect(types.Redirect{ReplaceKeyPrefixWith: aws.String("new/")})},
			{Condition: &types.Condition{KeyPrefixEquals: aws.String("away")}, Redirect: redirect(types.Redirect{
				HostName: aws.String("example.com"), Protocol: types.ProtocolHttps, HttpRedirectCode: aws.String("307")})},
			{Condition: &types.Condition{HttpErrorCodeReturnedEquals: aws.String("404")}, Redirect: redirect(types.Redirect{ReplaceKeyWith: aws.String("lost & found")})},
		},
	})
	const host = "www.localhost"
	web.want(301, "http://www.localhost/new/k%C3%BC", host, "/old/k%C3%BC")
	web.want(307, "https://example.com/away/x", host, "/away/x")
	web.want(301, "http://www.localhost/lost%20%26%20found", host, "/none")
	web.want(200, "moved here", host, "/new/k")
	ok(s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("www"), Key: aws.String("r"), WebsiteRedirectLocation: aws.String("/elsewhere")}))(t)
	web.want(301, "/elsewhere", host, "/r")
	setSite(t, s, "www", &types.WebsiteConfiguration{RedirectAllRequestsTo: &types.RedirectAllRequestsTo{HostName: aws.String("example.org")}})
	web.want(301, "http://example.org/a/b", host, "/a/b")
}
