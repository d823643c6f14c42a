package s3api

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// caller is who a mutated request is from; without an ID, nobody.
type caller struct {
	auth.Key
	token string // of a session
}

// mutationFixture is what mutated requests are about, and the server that they go to.
type mutationFixture struct {
	*tenants
	routes  []route
	callers []caller
	uploads []string // ids
	website string   // address
	sites   chan error
}

func newMutationFixture(t *testing.T) *mutationFixture {
	t.Helper()
	f := &mutationFixture{routes: slices.Concat(tigrisRoutes, accessRoutes, configRoutes, versionRoutes, routes), sites: make(chan error, 1)}
	f.tenants = newTenantsOn(t, newServerWithoutCleanup)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.website = ln.Addr().String()
	go func() { f.sites <- f.ServeWebsites(ln) }()
	f.fill()
	return f
}

// fill makes buckets and callers.
func (f *mutationFixture) fill() {
	reader := f.user(identity.NewUser{Name: "reader", Attach: []string{"readonly"}})
	for _, b := range []string{"mut-a", "mut-b", "mut-gone"} {
		f.put("/"+b, "")
	}
	f.want(200, f.main.as(call{method: "PUT", path: "/mut-c", headers: []string{"x-amz-bucket-object-lock-enabled", "true"}}))
	for _, bucket := range []string{"mut-a", "mut-c"} {
		for key, body := range map[string]string{"k": "hello", "dir/large": string(pattern(100_000)), "index.html": "home", "dir/index.html": "home"} {
			f.put("/"+bucket+"/"+key, body)
		}
		f.want(204, call{method: "PUT", path: "/" + bucket + "?policy", body: policyOf(
			statement("Allow", everybody, `["s3:GetObject","s3:ListBucket"]`, fmt.Sprintf(`["arn:aws:s3:::%s","arn:aws:s3:::%[1]s/*"]`, bucket), ""),
			statement("Allow", `{"AWS":"`+f.alt.ARN()+`"}`, `"s3:*"`, fmt.Sprintf(`["arn:aws:s3:::%s","arn:aws:s3:::%[1]s/*"]`, bucket), `{"StringLike":{"s3:prefix":"*","aws:UserAgent":"*"}}`),
			statement("Deny", everybody, `"s3:DeleteBucket*"`, fmt.Sprintf(`"arn:aws:s3:::%s"`, bucket), `{"NumericLessThanIfExists":{"s3:max-keys":"10"}}`))})
		f.put("/"+bucket+"?website", `<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument><ErrorDocument><Key>k</Key></ErrorDocument><RoutingRules>`+
			`<RoutingRule><Condition><KeyPrefixEquals>old/</KeyPrefixEquals></Condition><Redirect><ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith></Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>`)
		f.put("/"+bucket+"?cors", `<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>`)
	}
	id := f.upload("/mut-a/k")
	f.want(200, call{method: "PUT", path: "/mut-a/k?partNumber=1&uploadId=" + id, body: "part"})
	f.uploads = []string{id, f.upload("/mut-b/k", "x-amz-checksum-algorithm", "SHA256")}
	session := f.action(f.main.key, "sts", "Action", "GetSessionToken").body
	f.callers = []caller{
		{Key: rootKey}, {Key: rootKey}, {Key: rootKey}, {Key: f.main.key}, {Key: f.alt.key}, {Key: reader.key}, {},
		{auth.Key{ID: element(session, "AccessKeyId"), Secret: element(session, "SecretAccessKey")}, element(session, "SessionToken")},
	}
}

// close ends the server.
func (f *mutationFixture) close() {
	f.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	if err := f.Shutdown(ctx); err != nil {
		f.t.Errorf("shutdown: %v", err)
	}
	if err := <-f.sites; err != nil {
		f.t.Error(err)
	}
	f.objects.Close()
	f.stop()
}

// formFields are the fields that some form has.
var formFields = strings.Fields(`acl tagging Content-Type Content-Encoding Content-Disposition Cache-Control Expires Content-MD5 redirect success_action_redirect
	success_action_status x-amz-meta-a x-amz-storage-class x-amz-checksum-sha256 x-amz-checksum-crc32 x-amz-checksum-algorithm x-amz-server-side-encryption x-ignore-a
	x-amz-website-redirect-location x-amz-object-lock-mode x-amz-object-lock-retain-until-date x-amz-tagging bucket submit`)

// form makes the upload of a form, most often with a policy that allows it.
func (m *mutator) form(q *mutant) {
	bucket := m.bucket()
	q.method, q.path, q.signed = "POST", "/"+bucket, m.chance(20)
	fields := [][2]string{{"key", pick(m, []string{"k", "new", "${filename}", "a/${filename}/${filename}", m.value("")})}}
	for range m.IntN(4) {
		name := pick(m, formFields)
		value := m.value(name)
		if name == "tagging" && !m.chance(3) {
			value = `<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>`
		}
		fields = append(fields, [2]string{name, value})
	}
	if q.as.ID != "" && !m.chance(10) {
		fields = append(fields, m.formSignature(q.as, bucket, fields)...)
	}
	if m.chance(6) {
		fields[m.IntN(len(fields))][1] = m.value("")
	}
	if m.chance(10) {
		i := m.IntN(len(fields))
		fields = slices.Delete(fields, i, i+1)
	}
	const boundary = "xxboundary"
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", boundary, f[0], f[1])
	}
	fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"%s\"\r\n\r\n", boundary, pick(m, []string{"f", `C:\dir\f`, m.value("")}))
	b.WriteString(pick(m, []string{"", "hello", string(pattern(40_000))}))
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	q.body = b.String()
	q.headers = append(q.headers, [2]string{"Content-Type", pick(m, []string{
		"multipart/form-data; boundary=" + boundary, "multipart/form-data; boundary=" + boundary, "multipart/form-data; boundary=" + boundary,
		"multipart/form-data; boundary=", "multipart/form-data", "multipart/mixed; boundary=" + boundary, m.headerValue(""),
	})})
	if m.chance(3) {
		m.mutate(q)
	}
	if m.chance(5) { // in framing and file alike
		q.body = m.scramble(q.body)
	}
}

// formSignature returns a policy that allows the fields, and its signature.
func (m *mutator) formSignature(as caller, bucket string, fields [][2]string) [][2]string {
	now := time.Now().UTC()
	scope := now.Format("20060102") + "/us-east-1/s3/aws4_request"
	more := [][2]string{{"x-amz-algorithm", "AWS4-HMAC-SHA256"}, {"x-amz-credential", as.ID + "/" + scope}, {"x-amz-date", now.Format("20060102T150405Z")}}
	if as.token != "" {
		more = append(more, [2]string{"x-amz-security-token", as.token})
	}
	conditions := []string{fmt.Sprintf(`{"bucket": %q}`, bucket)}
	for _, f := range append(slices.Clone(fields), more...) {
		conditions = append(conditions, fmt.Sprintf(`["starts-with", "$%s", ""]`, f[0]))
	}
	if m.chance(3) {
		conditions = append(conditions, pick(m, []string{`["content-length-range", 0, 100000]`, `["content-length-range", "6", 7]`, `["eq", "$acl", "private"]`, `{"x": 1}`, `[[]]`, `null`}))
	}
	policy := fmt.Sprintf(`{"expiration": %q, "conditions": [%s]}`, now.Add(time.Hour).Format("2006-01-02T15:04:05Z"), strings.Join(conditions, ","))
	if m.chance(8) {
		policy = m.scramble(policy)
	}
	policy = base64.StdEncoding.EncodeToString([]byte(policy))
	if m.chance(20) {
		policy = m.scramble(policy)
	}
	if m.chance(3) && as.token == "" {
		f := signedForm(as.Key, policy)
		var all [][2]string
		for i := 2; i < len(f.fields); i += 2 { // without its key
			all = append(all, [2]string{f.fields[i], f.fields[i+1]})
		}
		return all
	}
	return append(more, [2]string{"policy", policy}, [2]string{"x-amz-signature", signV4(as.Secret, scope, policy)})
}

// queryActions are the actions of STS and IAM with their parameters.
var queryActions = strings.Split(`AssumeRole RoleArn RoleSessionName DurationSeconds Policy ExternalId
GetSessionToken DurationSeconds
GetCallerIdentity
CreateUser UserName Path
GetUser UserName
UpdateUser UserName NewUserName NewPath
DeleteUser UserName
ListUsers PathPrefix Marker MaxItems
CreateAccessKey UserName
UpdateAccessKey UserName AccessKeyId Status
DeleteAccessKey UserName AccessKeyId
ListAccessKeys UserName Marker MaxItems Detailed KeyId
PutUserPolicy UserName PolicyName PolicyDocument
GetUserPolicy UserName PolicyName
DeleteUserPolicy UserName PolicyName
ListUserPolicies UserName Marker MaxItems
CreatePolicy PolicyName PolicyDocument Path Description
GetPolicy PolicyArn
GetPolicyVersion PolicyArn VersionId
ListPolicies Scope OnlyAttached PathPrefix Marker MaxItems
DeletePolicy PolicyArn
AttachUserPolicy UserName PolicyArn
DetachUserPolicy UserName PolicyArn
ListAttachedUserPolicies UserName Marker MaxItems
CreateAccessKeyWithBucketsRole Req
UpdateAccessKeyWithBucketsRole Req
RotateAccessKey AccessKeyId`, "\n")

// goodParams are values that some action takes.
var goodParams = map[string][]string{
	"UserName": {"reader", "ann", "ann", "bob", "root"}, "NewUserName": {"bob", "ann"}, "Path": {"/", "/a/"}, "NewPath": {"/b/"}, "PathPrefix": {"/", "/a/"},
	"PolicyName": {"p", "p", "readonly"}, "PolicyArn": {"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess", "arn:aws:iam::" + auth.AccountNumber(auth.RootID) + ":policy/p"},
	"PolicyDocument": {policyOf(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`), policyOf(`{"Effect":"Deny","NotAction":"s3:Get*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}`)},
	"Policy":         {policyOf(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)}, "RoleArn": {"arn:aws:iam::123456789012:role/agent"}, "RoleSessionName": {"s-1"}, "DurationSeconds": {"900", "3600"},
	"Status": {"Active", "Inactive"}, "AccessKeyId": {"STEMMAABSENT"}, "VersionId": {"v1"}, "MaxItems": {"1", "1000"}, "Scope": {"All", "Local"}, "OnlyAttached": {"true"}, "Detailed": {""},
	"Req": {`{"req_uuid":"1","name":"n","buckets_role":[{"bucket":"mut-c","role":"Editor"}]}`, `{"id":"x","buckets_role":[{"bucket":"*","role":"NamespaceAdmin"}]}`, `{"buckets_role":[]}`},
}

// action makes an action of STS or IAM.
func (m *mutator) action(q *mutant) {
	q.method, q.path = "POST", "/"
	q.service = pick(m, []string{"s3", "iam", "sts"})
	words := strings.Fields(pick(m, queryActions))
	params := url.Values{"Action": {words[0]}, "Version": {"2010-05-08"}}
	if m.chance(20) {
		params.Set("Action", m.value(""))
	}
	for _, name := range words[1:] {
		switch {
		case m.chance(6) || goodParams[name] == nil:
			params.Set(name, m.value(""))
		case !m.chance(4):
			params.Set(name, pick(m, goodParams[name]))
		}
		if m.chance(8) {
			params.Set(name, m.scramble(params.Get(name)))
		}
	}
	if q.body = params.Encode(); m.chance(20) {
		q.body = m.scramble(q.body)
	}
	kind := "application/x-www-form-urlencoded"
	if m.chance(20) {
		kind = m.headerValue("")
	}
	q.headers = append(q.headers, [2]string{"Content-Type", kind})
	if m.chance(3) {
		q.headers = append(q.headers, [2]string{"Accept", "application/json"})
	}
	if m.chance(4) {
		m.mutate(q)
	}
}

// page asks a website for a page.
func (m *mutator) page(q *mutant) {
	q.addr, q.host, q.signed = m.website, m.bucket()+pick(m, []string{".localhost", ".localhost:9002", ""}), m.chance(10)
	q.method, q.path = pick(m, []string{http.MethodGet, http.MethodGet, http.MethodHead, http.MethodOptions}), "/"+pick(m, []string{"", "dir", "dir/", "old/x", m.key()})
	if m.chance(4) {
		q.headers = append(q.headers, [2]string{"Origin", "http://a.example"}, [2]string{"Access-Control-Request-Method", "GET"})
	}
	if m.chance(2) {
		m.mutate(q)
	}
	if m.chance(10) {
		q.host = m.headerValue("")
	}
}
