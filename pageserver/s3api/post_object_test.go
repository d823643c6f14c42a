package s3api

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"

	"stemma/pageserver/auth"
)

// form is a form of a test: names and values, then the file.
type form struct {
	fields   []string // name, value, name, value
	file     string
	filename string // empty: a file without a name
	after    []string
}

func (f *form) with(pairs ...string) *form {
	c := *f
	c.fields = append([]string{}, f.fields...)
next:
	for i := 0; i < len(pairs); i += 2 {
		for j := 0; j < len(c.fields); j += 2 {
			if c.fields[j] == pairs[i] {
				c.fields[j+1] = pairs[i+1]
				continue next
			}
		}
		c.fields = append(c.fields, pairs[i], pairs[i+1])
	}
	return &c
}

func (f *form) without(name string) *form {
	c := &form{file: f.file, filename: f.filename, after: f.after}
	for i := 0; i < len(f.fields); i += 2 {
		if f.fields[i] != name {
			c.fields = append(c.fields, f.fields[i], f.fields[i+1])
		}
	}
	return c
}

func (f *form) encode(t testing.TB) (contentType string, body []byte) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	field := func(name, value string) {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < len(f.fields); i += 2 {
		field(f.fields[i], f.fields[i+1])
	}
	disposition := `form-data; name="file"`
	if f.filename != "" {
		disposition += `; filename="` + f.filename + `"`
	}
	part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {disposition}, "Content-Type": {"x/ignored"}})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(part, f.file)
	for i := 0; i < len(f.after); i += 2 {
		field(f.after[i], f.after[i+1])
	}
	w.Close()
	return w.FormDataContentType(), b.Bytes()
}

// post sends a form as a browser does.
func (s *testServer) post(bucket string, f *form, headers ...string) *answer {
	s.t.Helper()
	contentType, body := f.encode(s.t)
	return s.do(anon(call{method: "POST", path: "/" + bucket, body: string(body), headers: append([]string{"Content-Type", contentType}, headers...)}))
}

// policyDoc returns a policy of conditions in JSON, in base64.
func policyDoc(until time.Time, conditions ...string) string {
	doc := fmt.Sprintf(`{"expiration": %q, "conditions": [%s]}`, until.UTC().Format("2006-01-02T15:04:05Z"), strings.Join(conditions, ", "))
	return base64.StdEncoding.EncodeToString([]byte(doc))
}

// signed returns a form with a policy that a key has signed by version 2.
func signedForm(key auth.Key, policy string, fields ...string) *form {
	h := hmac.New(sha1.New, []byte(key.Secret))
	h.Write([]byte(policy))
	f := &form{file: "bar"}
	return f.with(append([]string{"key", "foo.txt", "AWSAccessKeyId", key.ID, "signature", base64.StdEncoding.EncodeToString(h.Sum(nil)), "policy", policy}, fields...)...)
}

var usualConditions = []string{
	`{"bucket": "home"}`, `["starts-with", "$key", "foo"]`, `{"acl": "private"}`, `["starts-with", "$Content-Type", "text/plain"]`, `["content-length-range", 0, 1024]`,
}

func TestPostObject(t *testing.T) {
	n := newTenants(t)
	n.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	soon := time.Now().Add(time.Hour)
	usual := func(more ...string) *form {
		return signedForm(n.main.key, policyDoc(soon, append(append([]string{}, usualConditions...), more...)...), "acl", "private", "Content-Type", "text/plain")
	}
	named := func(f *form, name string) *form { c := *f; c.filename = name; return &c }
	check := func(name string, f *form, status int, code string) *answer {
		t.Helper()
		a := n.post("home", f)
		if a.status != status || code != "" && a.code() != code {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		return a
	}
	a := check("plain", usual(), 204, "")
	if a.header.Get("ETag") == "" || !strings.HasSuffix(a.header.Get("Location"), "/home/foo.txt") || a.header.Get("x-amz-checksum-crc64nvme") == "" {
		t.Errorf("%v", a.header)
	}
	got := n.want(200, n.main.as(call{method: "GET", path: "/home/foo.txt"}))
	if got.body != "bar" || got.header.Get("Content-Type") != "text/plain" {
		t.Errorf("%v %q", got.header, got.body)
	}
	// Names in any case; what follows the file is ignored; the name of the file may be the key.
	f := usual().with("policy", policyDoc(soon, `{"bUcKeT": "home"}`, `["StArTs-WiTh", "$KeY", "foo"]`, `{"AcL": "private"}`, `["EQ", "$CoNtEnT-TyPe", "text/plain"]`))
	f = signedForm(n.main.key, f.fields[7], "aCl", "private", "Content-Type", "text/plain", "x-ignore-it", "x")
	f.after = []string{"submit", "Upload", "acl", "public-read"}
	check("cases", f, 204, "")
	check("filename", named(usual().with("key", "${filename}"), `C:\dir\foo ü.txt`), 204, "")
	n.want(200, n.main.as(call{method: "GET", path: "/home/" + escape("foo ü.txt")}))
	check("no filename", usual().with("key", "foo-${filename}"), 204, "")
	n.want(200, n.main.as(call{method: "GET", path: "/home/" + escape("foo-${filename}")}))
	// Answers.
	a = check("201", usual(`["eq", "$success_action_status", "201"]`).with("key", "foo/x ü", "success_action_status", "201"), 201, "")
	if !strings.Contains(a.body, "<PostResponse><Location>http://"+n.addr+"/home/foo%2Fx%20%C3%BC</Location><Bucket>home</Bucket><Key>foo/x ü</Key><ETag>") {
		t.Error(a.body)
	}
	if a = check("200", usual(`{"success_action_status": "200"}`).with("success_action_status", "200"), 200, ""); a.body != "" {
		t.Error(a.body)
	}
	check("404", usual(`{"success_action_status": "404"}`).with("success_action_status", "404"), 204, "")
	a = check("redirect", usual(`["starts-with", "$success_action_redirect", "http://127.0.0.1/"]`).with("success_action_redirect", "http://127.0.0.1/done?a=b"), 303, "")
	if want := `http://127.0.0.1/done?a=b&bucket=home&key=foo.txt&etag=%2237b51d194a7513e45b56f6524f2d51f2%22`; a.header.Get("Location") != want {
		t.Error(a.header.Get("Location"))
	}
	check("relative redirect", usual(`["eq", "$redirect", "/done"]`).with("redirect", "/done"), 204, "")
	// What comes along.
	check("metadata", usual(`["starts-with", "$x-amz-meta-foo", "bar"]`).with("x-amz-meta-FOO", "barclamp"), 204, "")
	if got := n.want(200, n.main.as(call{method: "HEAD", path: "/home/foo.txt"})); got.header.Get("x-amz-meta-foo") != "barclamp" {
		t.Errorf("%v", got.header)
	}
	tagging := "<Tagging><TagSet><Tag><Key>0</Key><Value>ä + b=c</Value></Tag></TagSet></Tagging>"
	check("tags", usual(`["starts-with", "$tagging", ""]`).with("tagging", tagging), 204, "")
	if got := n.want(200, n.main.as(call{method: "GET", path: "/home/foo.txt?tagging"})); element(got.body, "Value") != "ä + b=c" {
		t.Error(got.body)
	}
	check("checksum", usual().with("x-amz-checksum-sha256", "/N4rLtula/QIYB+3If6bXDONEO5CnqBPrlURto+/j7k="), 204, "")
	check("bad checksum", usual().with("x-amz-checksum-sha256", "sailorjerry"), 400, "BadDigest")
	check("other checksum", usual().with("x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="), 400, "BadDigest")
	check("MD5", usual(`["starts-with", "$content-md5", ""]`).with("Content-MD5", md5Of("baz")), 400, "BadDigest")
	a = check("encryption", usual(`["starts-with", "$x-amz-server-side-encryption", ""]`).with("x-amz-server-side-encryption", "AES256"), 204, "")
	if a.header.Get("x-amz-server-side-encryption") != "AES256" {
		t.Errorf("%v", a.header)
	}
	check("absent is empty", usual(`["starts-with", "$x-amz-server-side-encryption", ""]`), 204, "")
	// Refusals.
	check("signature", usual().with("signature", "AAAA"), 403, "SignatureDoesNotMatch")
	check("key of access", usual().with("AWSAccessKeyId", "nobody"), 403, "InvalidAccessKeyId")
	check("no signature", usual().without("signature"), 400, "InvalidArgument")
	check("no key", usual().without("key"), 400, "InvalidArgument")
	check("key", usual().with("key", "bar"), 403, "AccessDenied")
	check("acl", usual().with("acl", "public-read"), 403, "AccessDenied")
	check("extra", usual().with("x-amz-meta-foo", "x"), 403, "AccessDenied")
	check("missing", usual(`["starts-with", "$x-amz-meta-foo", "bar"]`), 403, "AccessDenied")
	check("types", usual().with("Content-Type", "text/plain, image/png"), 403, "AccessDenied")
	check("expired", signedForm(n.main.key, policyDoc(time.Now().Add(-time.Second), `{"bucket": "home"}`, `["starts-with", "$key", ""]`)), 403, "AccessDenied")
	check("no bucket", signedForm(n.main.key, policyDoc(soon, `["starts-with", "$key", ""]`)), 403, "AccessDenied")
	check("other bucket", signedForm(n.main.key, policyDoc(soon, `["starts-with", "$key", ""]`, `{"bucket": "other"}`), "bucket", "other"), 403, "AccessDenied")
	check("large", usual(`["content-length-range", 0, 2]`), 400, "EntityTooLarge")
	a = check("small", usual(`["content-length-range", "4", "10"]`), 400, "EntityTooSmall")
	if element(a.body, "ProposedSize") != "3" || element(a.body, "MinSizeAllowed") != "4" {
		t.Error(a.body)
	}
	check("not the owner's", signedForm(n.alt.key, policyDoc(soon, `["starts-with", "$key", ""]`, `{"bucket": "home"}`)), 403, "AccessDenied")
	check("anonymous", (&form{file: "bar"}).with("key", "foo"), 403, "AccessDenied")
	check("line break", usual(`["starts-with", "$x-amz-meta-foo", ""]`).with("x-amz-meta-foo", "a\r\nb: c"), 400, "InvalidArgument")
	check("class", usual(`["starts-with", "$x-amz-storage-class", ""]`).with("x-amz-storage-class", "FAST"), 400, "InvalidStorageClass")
	for _, doc := range []string{
		`{`, `[]`, `null`, `{"expiration":"2099-01-01T00:00:00Z"}`, `{"conditions":[]}`, `{"EXPIRATION":"2099-01-01T00:00:00Z","conditions":[]}`,
		`{"expiration":"2099-01-01 00:00:00","conditions":[]}`, `{"expiration":"2099-01-01T00:00:00+01:00","conditions":[]}`, `{"expiration":"2099-01-01T00:00:00Z","conditions":[{}]}`,
		`{"expiration":"2099-01-01T00:00:00Z","conditions":[{"a":"b","c":"d"}]}`, `{"expiration":"2099-01-01T00:00:00Z","conditions":[{"a":1}]}`,
		`{"expiration":"2099-01-01T00:00:00Z","conditions":["x"]}`, `{"expiration":"2099-01-01T00:00:00Z","conditions":[[]]}`, `{"expiration":"2099-01-01T00:00:00Z","conditions":[["eq","$key"]]}`,
		`{"expiration":"2099-01-01T00:00:00Z","conditions":[["like","$key","x"]]}`, `{"expiration":"2099-01-01T00:00:00Z","conditions":[["content-length-range",0]]}`,
		`{"expiration":"2099-01-01T00:00:00Z","conditions":[["content-length-range",-1,0]]}`, `{"expiration":"2099-01-01T00:00:00Z","conditions":[["eq","$key",null]]}`,
	} {
		check(doc, signedForm(n.main.key, base64.StdEncoding.EncodeToString([]byte(doc))), 400, "InvalidPolicyDocument")
	}
	check("base64", signedForm(n.main.key, "no!"), 400, "InvalidPolicyDocument")
	// Forms that are none.
	for name, c := range map[string]struct{ contentType, body, code string }{
		"boundary":  {"multipart/form-data", "x", "MalformedPOSTRequest"},
		"cut":       {"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk", "MalformedPOSTRequest"},
		"cut file":  {"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nk", "AccessDenied"},
		"no file":   {"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b--", "InvalidArgument"},
		"no name":   {"multipart/form-data; boundary=b", "--b\r\n\r\nk\r\n--b--", "MalformedPOSTRequest"},
		"long":      {"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n" + strings.Repeat("k", 30<<10), "MaxPostPreDataLengthExceeded"},
		"long head": {"multipart/form-data; boundary=b", "--b\r\nX: " + strings.Repeat("k", 200<<10), "MaxPostPreDataLengthExceeded"},
		"no form":   {"text/html", "x", "PreconditionFailed"},
	} {
		a := n.do(anon(call{method: "POST", path: "/home", body: c.body, headers: []string{"Content-Type", c.contentType}}))
		if a.code() != c.code {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := n.post("home", usual(), "x-amz-acl", "public-read"); a.code() != "InvalidRequest" {
		t.Errorf("%d %s", a.status, a.body)
	}
	two := usual().with("key", "foo-two")
	two.after = []string{"file", "again"}
	check("two files", two, 400, "InvalidArgument")
	n.refused(404, "NoSuchKey", n.main.as(call{method: "GET", path: "/home/foo-two"}))
	if a := n.post("absent", usual()); a.code() != "NoSuchBucket" {
		t.Errorf("%d %s", a.status, a.body)
	}
	// A signed request with a form.
	contentType, body := (&form{file: "signed"}).with("key", "foo-signed").encode(t)
	n.want(204, n.main.as(call{method: "POST", path: "/home", body: string(body), headers: []string{"Content-Type", contentType}}))
	n.refused(403, "AccessDenied", n.alt.as(call{method: "POST", path: "/home", body: string(body), headers: []string{"Content-Type", contentType}}))
	if got := n.want(200, n.main.as(call{method: "GET", path: "/home/foo-signed"})); got.body != "signed" {
		t.Error(got.body)
	}
}

// Where everybody may write, a form needs no policy.
func TestPostByNobody(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home", headers: []string{"x-amz-acl", "public-read-write"}}))
	f := (&form{file: strings.Repeat("foo", 1<<20)}).with("key", "foo.txt", "acl", "public-read", "Content-Type", "text/plain")
	if a := n.post("home", f); a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := n.want(200, anon(call{method: "GET", path: "/home/foo.txt"})); len(a.body) != 3<<20 {
		t.Errorf("%d bytes", len(a.body))
	}
	n.setPolicy("home", statement("Deny", everybody, `"s3:PutObject"`, homeKeys, `{"StringNotEquals":{"s3:RequestObjectTag/a":"b"}}`))
	if a := n.post("home", f); a.status != 403 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := n.post("home", f.with("tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>")); a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

// The forms that SDKs presign.
func TestPresignedPost(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	made, err := s3.NewPresignClient(n.main.sdk).PresignPostObject(ctx, &s3.PutObjectInput{Bucket: aws.String("home"), Key: aws.String("of-aws")}, func(o *s3.PresignPostOptions) {
		o.Conditions = []any{[]any{"content-length-range", 1, 100}}
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &form{file: "by aws"}
	for k, v := range made.Values {
		f = f.with(k, v)
	}
	send := func(url string, f *form) {
		t.Helper()
		contentType, body := f.encode(t)
		resp, err := http.Post(url, contentType, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 204 {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
	}
	send(strings.TrimSuffix(made.URL, "/"), f)
	p := minio.NewPostPolicy()
	for _, err := range []error{p.SetBucket("home"), p.SetKeyStartsWith("of-"), p.SetExpires(time.Now().Add(time.Hour)), p.SetContentLengthRange(1, 100), p.SetUserMetadata("who", "minio")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	client := n.newMinio()
	url, fields, err := client.PresignedPostPolicy(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	f = &form{file: "by minio", filename: "minio"}
	for k, v := range fields {
		f = f.with(k, v)
	}
	send(url.String(), f.with("key", "of-${filename}"))
	for _, key := range []string{"of-aws", "of-minio"} {
		n.want(200, n.main.as(call{method: "GET", path: "/home/" + key}))
	}
	if a := n.post("home", f.with("key", "of-x", "x-amz-signature", strings.Repeat("0", 64))); a.code() != "SignatureDoesNotMatch" {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, name := range []string{"x-amz-algorithm", "x-amz-credential", "x-amz-date", "policy"} {
		if a := n.post("home", f.without(name)); a.code() != "InvalidArgument" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// FuzzPostPolicy gives the parser arbitrary policies, and those that it takes a form.
func FuzzPostPolicy(f *testing.F) {
	f.Add([]byte(`{"expiration":"2099-01-01T00:00:00Z","conditions":[{"bucket":"b"},["eq","$key","k"],["content-length-range",0,"9"]]}`))
	f.Add([]byte(`{"expiration":"","conditions":[[[]]]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := parsePostPolicy(base64.StdEncoding.EncodeToString(doc))
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil {
			return
		}
		if !json.Valid(doc) {
			t.Fatalf("took %q", doc)
		}
		p.check(&postForm{fields: []auth.Field{{Name: "key", Value: "k"}}}, "b", time.Now())
	})
}

// FuzzPostForm gives the reader of forms arbitrary bytes.
func FuzzPostForm(f *testing.F) {
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nabc\r\n--b--\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := readForm("multipart/form-data; boundary=b", bytes.NewReader(p))
		if (got == nil) == (err == nil) {
			t.Fatalf("%v, %v", got, err)
		}
		if err == nil {
			if n, _ := io.Copy(io.Discard, got.file); n > int64(len(p)) {
				t.Fatalf("%d bytes of %d", n, len(p))
			}
		}
	})
}
