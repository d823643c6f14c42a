package s3api

import (
	nethttp "net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	mcreds "github.com/minio/minio-go/v7/pkg/credentials"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// action calls an action as the SDKs of AWS do: without the hash of the body in a header.
func (n *tenants) action(as auth.Key, service string, pairs ...string) *answer {
	n.t.Helper()
	params := url.Values{"Version": {"2010-05-08"}}
	for i := 0; i < len(pairs); i += 2 {
		params.Set(pairs[i], pairs[i+1])
	}
	c := call{method: "POST", path: "/", body: params.Encode(), unsigned: true, headers: []string{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}}
	req := n.request(c)
	if as.ID != "" {
		creds := aws.Credentials{AccessKeyID: as.ID, SecretAccessKey: as.Secret}
		if err := v4.NewSigner().SignHTTP(ctx, creds, req, hashOf(c.body), service, "us-east-1", time.Now()); err != nil {
			n.t.Fatal(err)
		}
	}
	return n.send(req)
}

// session begins a session by the credentials provider of minio-go.
func (n *tenants) session(as tenant, policy string) mcreds.Value {
	n.t.Helper()
	c, err := mcreds.NewSTSAssumeRole("http://"+n.addr, mcreds.STSAssumeRoleOptions{
		AccessKey: as.key.ID, SecretKey: as.key.Secret, Policy: policy, RoleARN: "arn:aws:iam::123456789012:role/agent", RoleSessionName: "s-1", DurationSeconds: 900, Location: "us-east-1",
	})
	if err != nil {
		n.t.Fatal(err)
	}
	v, err := c.GetWithContext(&mcreds.CredContext{Client: nethttp.DefaultClient})
	if err != nil {
		n.t.Fatal(err)
	}
	return v
}

func (n *tenants) withSession(v mcreds.Value) *s3.Client {
	return n.newSDK(func(o *s3.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider(v.AccessKeyID, v.SecretAccessKey, v.SessionToken)
	})
}

func TestSessions(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x"}))
	get := &s3.GetObjectInput{Bucket: aws.String("home"), Key: aws.String("k")}
	put := &s3.PutObjectInput{Bucket: aws.String("home"), Key: aws.String("l"), Body: strings.NewReader("x")}
	free := n.session(n.main, "")
	whole := n.withSession(free)
	ok(whole.GetObject(ctx, get))(t)
	ok(whole.PutObject(ctx, put))(t)
	bound := n.withSession(n.session(n.main, policyOf(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::home/*"}`)))
	ok(bound.GetObject(ctx, get))(t)
	if _, err := bound.PutObject(ctx, put); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Error(err)
	}
	if _, err := n.withSession(n.session(n.alt, "")).GetObject(ctx, get); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Error(err)
	}
	// In a presigned URL.
	signed := ok(s3.NewPresignClient(whole).PresignGetObject(ctx, get))(t)
	if !strings.Contains(signed.URL, "X-Amz-Security-Token=") {
		t.Fatal(signed.URL)
	}
	path := strings.TrimPrefix(signed.URL, "http://"+n.addr)
	n.want(200, anon(call{method: "GET", path: path}))
	n.refused(403, "SignatureDoesNotMatch", anon(call{method: "GET", path: strings.Replace(path, "/k?", "/l?", 1)}))
	// In a form.
	made, err := s3.NewPresignClient(whole).PresignPostObject(ctx, &s3.PutObjectInput{Bucket: aws.String("home"), Key: aws.String("posted")})
	if err != nil {
		t.Fatal(err)
	}
	f := &form{file: "x"}
	for k, v := range made.Values {
		f = f.with(k, v)
	}
	if a := n.post("home", f); a.status != 204 {
		t.Errorf("%d %s", a.status, a.body)
	}
	// The token and the key belong together.
	mixed := free
	mixed.SessionToken = n.session(n.alt, "").SessionToken
	if _, err := n.withSession(mixed).GetObject(ctx, get); err == nil || !strings.Contains(err.Error(), "InvalidToken") {
		t.Error(err)
	}
	mixed.SessionToken = ""
	if _, err := n.withSession(mixed).GetObject(ctx, get); err == nil || !strings.Contains(err.Error(), "InvalidAccessKeyId") {
		t.Error(err)
	}
	// A session of the root key is bound by a policy, and one of a held key by its scope.
	root := n.withSession(n.session(tenant{key: rootKey}, policyOf(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`)))
	ok(root.GetObject(ctx, get))(t)
	if _, err := root.PutObject(ctx, put); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Error(err)
	}
	info, err := n.store.Bucket("home", 0)
	if err != nil {
		t.Fatal(err)
	}
	key, secret, err := n.users.CreateKey(ctx, identity.NewKey{User: "main", Scope: []auth.BucketRole{{Bucket: uint64(info.Bucket), ReadOnly: true}}})
	if err != nil {
		t.Fatal(err)
	}
	held := n.withSession(n.session(n.with(n.main.User, key.ID, secret), ""))
	ok(held.GetObject(ctx, get))(t)
	if _, err := held.PutObject(ctx, put); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Error(err)
	}
	// It ends with the key that it was begun with.
	if err := n.users.DeleteKey(ctx, key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := held.GetObject(ctx, get); err == nil || !strings.Contains(err.Error(), "ExpiredToken") {
		t.Error(err)
	}
}

func TestSTS(t *testing.T) {
	n := newTenants(t)
	a := n.action(n.main.key, "sts", "Action", "GetCallerIdentity", "Version", "2011-06-15")
	if a.status != 200 || element(a.body, "Arn") != n.main.ARN() || element(a.body, "Account") != auth.AccountNumber(n.main.ID) || element(a.body, "UserId") != n.main.Unique {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = n.action(n.main.key, "sts", "Action", "GetSessionToken", "DurationSeconds", "900")
	expires, err := time.Parse(time.RFC3339, element(a.body, "Expiration"))
	if a.status != 200 || err != nil || time.Until(expires) > 15*time.Minute || element(a.body, "SessionToken") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	role := []string{"Action", "AssumeRole", "RoleArn", "arn:aws:iam::1:role/x/agent", "RoleSessionName", "ann"}
	a = n.action(n.main.key, "sts", role...)
	if want := "arn:aws:sts::" + auth.AccountNumber(n.main.ID) + ":assumed-role/agent/ann"; a.status != 200 || element(a.body, "Arn") != want {
		t.Errorf("%d %s", a.status, a.body)
	}
	denier := n.user(identity.NewUser{Name: "denier", Owner: true})
	in := identity.Inline{Name: "p", Document: policyOf(`{"Effect":"Deny","Action":"sts:*","Resource":"*"}`)}
	if err := n.users.PutInline(ctx, "denier", in); err != nil {
		t.Fatal(err)
	}
	bad := n.main.key
	bad.Secret += "x"
	for name, c := range map[string]struct {
		as     auth.Key
		code   string
		params []string
	}{
		"nobody":      {auth.Key{}, "MissingAuthenticationToken", role},
		"unknown key": {auth.Key{ID: "AKIA", Secret: "x"}, "InvalidClientTokenId", role},
		"bad secret":  {bad, "SignatureDoesNotMatch", role},
		"denied":      {denier.key, "AccessDenied", role},
		"action":      {n.main.key, "InvalidAction", []string{"Action", "BecomeRoot"}},
		"parameter":   {n.main.key, "InvalidParameterValue", append(role, "TokenCode", "123456")},
		"role":        {n.main.key, "ValidationError", []string{"Action", "AssumeRole", "RoleArn", "agent", "RoleSessionName", "ann"}},
		"name":        {n.main.key, "ValidationError", []string{"Action", "AssumeRole", "RoleArn", "arn:aws:iam::1:role/agent", "RoleSessionName", "a b"}},
		"short":       {n.main.key, "ValidationError", append(role, "DurationSeconds", "899")},
		"long":        {n.main.key, "ValidationError", append(role, "DurationSeconds", "43201")},
		"policy":      {n.main.key, "MalformedPolicyDocument", append(role, "Policy", "{}")},
		"huge policy": {n.main.key, "PackedPolicyTooLarge", append(role, "Policy", strings.Repeat(" ", 2049))},
	} {
		if a := n.action(c.as, "sts", c.params...); element(a.body, "Code") != c.code || a.status < 400 || a.status >= 500 || !strings.Contains(a.body, "<ErrorResponse ") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	// A body that is not the one that was signed.
	c := n.main.as(call{method: "POST", path: "/", body: "Action=GetCallerIdentity", headers: []string{"Content-Type", "application/x-www-form-urlencoded"}})
	c.hash = hashOf("Action=GetCallerIdentitY")
	if a := n.do(c); a.status != 400 || element(a.body, "Code") != "XAmzContentSHA256Mismatch" {
		t.Errorf("%d %s", a.status, a.body)
	}
	c.hash = ""
	n.want(200, c)
	c.hash = "UNSIGNED-PAYLOAD"
	n.want(400, c)
	// A key of sts opens no bucket.
	c = n.main.as(call{method: "GET", path: "/"})
	c.service = "sts"
	n.refused(400, "AuthorizationHeaderMalformed", c)
}
