package s3api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// statement returns a statement of a policy.
func statement(effect, principal, action, resource, condition string) string {
	s := fmt.Sprintf(`{"Effect":%q,"Principal":%s,"Action":%s,"Resource":%s`, effect, principal, action, resource)
	if condition != "" {
		s += `,"Condition":` + condition
	}
	return s + "}"
}

func policyOf(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// setPolicy gives a bucket of main's a policy.
func (n *tenants) setPolicy(bucket string, statements ...string) {
	n.t.Helper()
	n.want(204, n.main.as(call{method: "PUT", path: "/" + bucket + "?policy", body: policyOf(statements...)}))
}

const (
	everybody = `"*"`
	homeKeys  = `"arn:aws:s3:::home/*"`
	homeAll   = `["arn:aws:s3:::home","arn:aws:s3:::home/*"]`
)

func TestBucketPolicy(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "mine"}))
	n.refused(404, "NoSuchBucketPolicy", n.main.as(call{method: "GET", path: "/home?policy"}))
	n.setPolicy("home", statement("Allow", `{"AWS":"`+n.alt.ARN()+`"}`, `["s3:GetObject","s3:ListBucket"]`, homeAll, ""))
	if doc := n.want(200, n.main.as(call{method: "GET", path: "/home?policy"})); !strings.Contains(doc.body, n.alt.ARN()) || doc.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v %s", doc.header, doc.body)
	}
	if a := n.want(200, n.alt.as(call{method: "GET", path: "/home/k"})); a.body != "mine" {
		t.Errorf("%q", a.body)
	}
	n.want(200, n.alt.as(call{method: "HEAD", path: "/home"}))
	for _, c := range []call{
		n.alt.as(call{method: "PUT", path: "/home/k", body: "x"}), n.alt.as(call{method: "DELETE", path: "/home/k"}), n.alt.as(call{method: "GET", path: "/home?policy"}),
		n.tenant.as(call{method: "GET", path: "/home/k"}), anon(call{method: "GET", path: "/home/k"}), anon(call{method: "GET", path: "/home"}),
	} {
		n.refused(403, "AccessDenied", c)
	}
	if a := n.want(200, n.main.as(call{method: "GET", path: "/home?policyStatus"})); element(a.body, "IsPublic") != "false" {
		t.Error(a.body)
	}
	n.setPolicy("home", statement("Allow", everybody, `"s3:GetObject"`, homeKeys, ""))
	if a := n.want(200, anon(call{method: "GET", path: "/home/k"})); a.body != "mine" {
		t.Errorf("%q", a.body)
	}
	n.refused(400, "InvalidRequest", anon(call{method: "GET", path: "/home/k?response-content-type=a%2Fb"}))
	n.want(200, n.tenant.as(call{method: "GET", path: "/home/k"}))
	if a := n.want(200, n.main.as(call{method: "GET", path: "/home?policyStatus"})); element(a.body, "IsPublic") != "true" {
		t.Error(a.body)
	}
	n.want(204, n.main.as(call{method: "DELETE", path: "/home?policy"}))
	n.want(204, n.main.as(call{method: "DELETE", path: "/home?policy"}))
	n.refused(403, "AccessDenied", anon(call{method: "GET", path: "/home/k"}))
}

// A denial binds the owner, who can take it back, unless the owner has said that it may
// bind that, too. The root key nothing binds.
func TestPolicyDeniesItsOwner(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "mine"}))
	n.setPolicy("home", statement("Deny", everybody, `"s3:*"`, homeAll, ""))
	n.refused(403, "AccessDenied", n.main.as(call{method: "GET", path: "/home/k"}))
	n.refused(403, "AccessDenied", n.main.as(call{method: "PUT", path: "/home/k?acl", headers: []string{"x-amz-acl", "private"}}))
	n.want(200, n.main.as(call{method: "GET", path: "/home?policy"}))
	n.want(200, call{method: "GET", path: "/home/k"})
	n.want(204, n.main.as(call{method: "PUT", path: "/home?policy", body: policyOf(statement("Deny", everybody, `"s3:*"`, homeAll, "")),
		headers: []string{"x-amz-confirm-remove-self-bucket-access", "true"}}))
	n.refused(403, "AccessDenied", n.main.as(call{method: "DELETE", path: "/home?policy"}))
	n.want(204, call{method: "DELETE", path: "/home?policy"})
	n.want(200, n.main.as(call{method: "GET", path: "/home/k"}))
}

// Who forks a bucket is not bound by what its owner said of itself.
func TestPolicyLocksNoForkOut(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	lock := policyOf(statement("Allow", everybody, `["s3:*","stemma:*"]`, homeAll, ""), statement("Deny", everybody, `["s3:GetBucketPolicy","s3:PutBucketPolicy","s3:DeleteBucketPolicy"]`, homeAll, ""))
	n.want(204, n.main.as(call{method: "PUT", path: "/home?policy", body: lock, headers: []string{"x-amz-confirm-remove-self-bucket-access", "true"}}))
	n.want(200, n.alt.as(call{method: "PUT", path: "/fork", headers: []string{"X-Tigris-Fork-Source-Bucket", "home"}}))
	n.refused(403, "AccessDenied", n.main.as(call{method: "PUT", path: "/home?policy", body: lock}))
	n.refused(403, "AccessDenied", n.main.as(call{method: "GET", path: "/fork?policy"}))
	n.want(200, n.alt.as(call{method: "GET", path: "/fork?policy"}))
	n.want(204, n.alt.as(call{method: "PUT", path: "/fork?policy", body: strings.ReplaceAll(lock, "arn:aws:s3:::home", "arn:aws:s3:::fork")}))
	n.want(204, n.alt.as(call{method: "DELETE", path: "/fork?policy"}))
	n.want(204, call{method: "DELETE", path: "/home?policy"})
}

func TestPolicyConditions(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/src"}))
	for _, k := range []string{"/src/public/a", "/src/private/a"} {
		n.want(200, n.main.as(call{method: "PUT", path: k, body: k}))
	}
	past := lsnOf(n.want(200, n.main.as(call{method: "PUT", path: "/home/public", body: "x", headers: []string{"x-amz-tagging", "security=public"}})))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/private", body: "x", headers: []string{"x-amz-tagging", "security=private"}}))
	tagDoc := func(pairs ...string) string {
		s := ""
		for i := 0; i < len(pairs); i += 2 {
			s += "<Tag><Key>" + pairs[i] + "</Key><Value>" + pairs[i+1] + "</Value></Tag>"
		}
		return "<Tagging><TagSet>" + s + "</TagSet></Tagging>"
	}
	srcRead := statement("Allow", everybody, `"s3:GetObject"`, `"arn:aws:s3:::src/*"`, "")
	n.want(204, n.main.as(call{method: "PUT", path: "/src?policy", body: policyOf(srcRead)}))
	put := call{method: "PUT", path: "/home/new", body: "x"}
	with := func(c call, headers ...string) call {
		c.headers = append(append([]string{}, c.headers...), headers...)
		return c
	}
	for name, c := range map[string]struct {
		statements []string
		may, not   []call
	}{
		"existing tag": {
			[]string{statement("Allow", everybody, `["s3:GetObject","s3:GetObjectTagging"]`, homeKeys, `{"StringEquals":{"s3:ExistingObjectTag/security":"public"}}`)},
			[]call{{method: "GET", path: "/home/public"}, {method: "GET", path: "/home/public?tagging"}},
			[]call{{method: "GET", path: "/home/private"}, {method: "GET", path: "/home/private?tagging"}},
		},
		"request tag": {
			[]string{statement("Allow", everybody, `["s3:PutObject","s3:PutObjectTagging"]`, homeKeys, `{"StringEquals":{"s3:RequestObjectTag/security":"public"}}`)},
			[]call{with(put, "x-amz-tagging", "security=public&a=b"), {method: "PUT", path: "/home/public?tagging", body: tagDoc("security", "public", "foo", "bar")}},
			[]call{put, with(put, "x-amz-tagging", "security=private"), {method: "PUT", path: "/home/public?tagging", body: tagDoc("security", "private")}},
		},
		"keys of request tags": {
			[]string{statement("Allow", everybody, `"s3:PutObjectTagging"`, homeKeys, `{"ForAllValues:StringEquals":{"s3:RequestObjectTagKeys":["security","x"]}}`)},
			[]call{{method: "PUT", path: "/home/public?tagging", body: tagDoc("security", "public")}},
			[]call{{method: "PUT", path: "/home/public?tagging", body: tagDoc("security", "public", "foo", "bar")}},
		},
		"canned acl": {
			[]string{
				statement("Allow", everybody, `"s3:PutObject"`, homeKeys, ""),
				statement("Deny", everybody, `"s3:PutObject"`, homeKeys, `{"StringLike":{"s3:x-amz-acl":"public*"}}`),
			},
			[]call{put, with(put, "x-amz-acl", "private")},
			[]call{with(put, "x-amz-acl", "public-read")},
		},
		"acl denied": {
			[]string{
				statement("Allow", everybody, `"s3:PutObject"`, homeKeys, ""),
				statement("Deny", everybody, `"s3:PutObjectAcl"`, homeKeys, ""),
			},
			[]call{put},
			[]call{with(put, "x-amz-acl", "public-read"), with(put, "x-amz-grant-read", `uri="`+groupPrefix+`global/AllUsers"`)},
		},
		"grant": {
			[]string{statement("Allow", everybody, `"s3:PutObject"`, homeKeys, `{"StringEquals":{"s3:x-amz-grant-full-control":"id=`+n.main.ID+`"}}`)},
			[]call{with(put, "x-amz-grant-full-control", "id="+n.main.ID)},
			[]call{put},
		},
		"encryption": {
			[]string{
				statement("Allow", everybody, `"s3:PutObject"`, homeKeys, ""),
				statement("Deny", everybody, `"s3:PutObject"`, homeKeys, `{"StringNotEquals":{"s3:x-amz-server-side-encryption":"AES256"}}`),
			},
			[]call{with(put, "x-amz-server-side-encryption", "AES256")},
			[]call{put},
		},
		"encryption must be named": {
			[]string{
				statement("Allow", everybody, `"s3:PutObject"`, homeKeys, ""),
				statement("Deny", everybody, `"s3:PutObject"`, homeKeys, `{"Null":{"s3:x-amz-server-side-encryption":"true"}}`),
			},
			[]call{with(put, "x-amz-server-side-encryption", "AES256")},
			[]call{put},
		},
		"copy source": {
			[]string{statement("Allow", everybody, `["s3:PutObject","s3:GetObject"]`, homeKeys, `{"StringLike":{"s3:x-amz-copy-source":"src/public/*"}}`)},
			[]call{{method: "PUT", path: "/home/new", headers: []string{"x-amz-copy-source", "src/public/a"}}, {method: "PUT", path: "/home/new", headers: []string{"x-amz-copy-source", "/src/public/a"}}},
			[]call{{method: "PUT", path: "/home/new", headers: []string{"x-amz-copy-source", "src/private/a"}}, put},
		},
		"metadata directive": {
			[]string{statement("Allow", everybody, `"s3:PutObject"`, homeKeys, `{"StringEquals":{"s3:x-amz-metadata-directive":"COPY"}}`)},
			[]call{{method: "PUT", path: "/home/new", headers: []string{"x-amz-copy-source", "src/public/a", "x-amz-metadata-directive", "COPY"}}},
			[]call{{method: "PUT", path: "/home/new", headers: []string{"x-amz-copy-source", "src/public/a"}}, {method: "PUT", path: "/home/new", headers: []string{"x-amz-copy-source", "src/public/a", "x-amz-metadata-directive", "REPLACE"}}},
		},
		"prefix": {
			[]string{statement("Allow", everybody, `"s3:ListBucket"`, `"arn:aws:s3:::home"`, `{"StringEquals":{"s3:prefix":["","pub/"]},"NumericLessThanEquals":{"s3:max-keys":10}}`)},
			[]call{{method: "GET", path: "/home?prefix=pub/&max-keys=5"}, {method: "GET", path: "/home?list-type=2&prefix=&max-keys=10"}},
			[]call{{method: "GET", path: "/home?prefix=pub/&max-keys=11"}, {method: "GET", path: "/home?prefix=&delimiter=/"}, {method: "GET", path: "/home?max-keys=1"}},
		},
		"address": {
			[]string{statement("Allow", everybody, `"s3:GetObject"`, homeKeys, `{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"},"StringLike":{"aws:Referer":"https://example.com/*"}}`)},
			[]call{{method: "GET", path: "/home/public", headers: []string{"Referer", "https://example.com/x"}}},
			[]call{{method: "GET", path: "/home/public"}, {method: "GET", path: "/home/public", headers: []string{"Referer", "https://example.org/x"}}},
		},
		"other address": {
			[]string{statement("Allow", everybody, `"s3:GetObject"`, homeKeys, `{"NotIpAddress":{"aws:SourceIp":"127.0.0.1/32"}}`)},
			nil, []call{{method: "GET", path: "/home/public"}},
		},
		"transport": {
			[]string{
				statement("Allow", everybody, `"s3:GetObject"`, homeKeys, ""),
				statement("Deny", everybody, `"s3:*"`, homeAll, `{"Bool":{"aws:SecureTransport":"false"}}`),
			},
			nil, []call{{method: "GET", path: "/home/public"}},
		},
		"version": {
			[]string{statement("Allow", everybody, `"s3:GetObject"`, homeKeys, "")},
			[]call{{method: "GET", path: "/home/public"}},
			[]call{{method: "GET", path: "/home/public?versionId=null"}, {method: "GET", path: "/home/public", headers: []string{"x-stemma-at", past}}},
		},
		"name of the caller": {
			[]string{statement("Allow", everybody, `"s3:PutObject"`, `"arn:aws:s3:::home/of/${aws:username}/*"`, "")},
			[]call{{method: "PUT", path: "/home/of/alt/x", body: "x"}},
			[]call{{method: "PUT", path: "/home/of/main/x", body: "x"}},
		},
		"resource": {
			[]string{statement("Allow", everybody, `"s3:Put*"`, `"arn:aws:s3:::home/a?c/*.txt"`, "")},
			[]call{{method: "PUT", path: "/home/abc/d/e.txt", body: "x"}},
			[]call{{method: "PUT", path: "/home/abbc/e.txt", body: "x"}, {method: "PUT", path: "/home/abc/e.png", body: "x"}},
		},
	} {
		n.setPolicy("home", c.statements...)
		for _, may := range c.may {
			if a := n.do(n.alt.as(may)); a.status >= 300 {
				t.Errorf("%s: %s %s %q: %d %s", name, may.method, may.path, may.headers, a.status, a.body)
			}
		}
		for _, not := range c.not {
			if a := n.do(n.alt.as(not)); a.status != 403 {
				t.Errorf("%s: %s %s %q: %d %s", name, not.method, not.path, not.headers, a.status, a.body)
			}
		}
	}
}

func TestMalformedPolicies(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.refused(400, "MissingRequestBodyError", n.main.as(call{method: "PUT", path: "/home?policy"}))
	for _, doc := range []string{
		"{", "[]", `{"Version":"2012-10-17","Statement":[]}`, policyOf(statement("Perhaps", everybody, `"s3:*"`, homeAll, "")),
		policyOf(statement("Allow", everybody, `"s3:*"`, `"arn:aws:s3:::other/*"`, "")), policyOf(statement("Allow", everybody, `"s3:Fly"`, homeAll, "")),
		policyOf(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`), policyOf(statement("Allow", everybody, `"s3:*"`, homeAll, `{"StringEquals":{"s3:nonsense":"x"}}`)),
		policyOf(statement("Allow", everybody, `"s3:*"`, homeAll, `{"StringNearly":{"s3:prefix":"x"}}`)),
	} {
		n.refused(400, "MalformedPolicy", n.main.as(call{method: "PUT", path: "/home?policy", body: doc}))
	}
	n.refused(404, "NoSuchBucketPolicy", n.main.as(call{method: "GET", path: "/home?policy"}))
}

func TestPublicAccessBlock(t *testing.T) {
	n := newTenants(t)
	c, home := n.main.sdk, aws.String("home")
	ok(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: home}))(t)
	n.refused(404, "NoSuchPublicAccessBlockConfiguration", n.main.as(call{method: "GET", path: "/home?publicAccessBlock"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x", headers: []string{"x-amz-acl", "public-read"}}))
	n.want(200, anon(call{method: "GET", path: "/home/k"}))
	block := func(b types.PublicAccessBlockConfiguration) {
		t.Helper()
		ok(c.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: home, PublicAccessBlockConfiguration: &b}))(t)
	}
	yes := aws.Bool(true)
	block(types.PublicAccessBlockConfiguration{IgnorePublicAcls: yes})
	if b := ok(c.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: home}))(t).PublicAccessBlockConfiguration; !*b.IgnorePublicAcls || *b.BlockPublicPolicy {
		t.Errorf("%+v", b)
	}
	n.refused(403, "AccessDenied", anon(call{method: "GET", path: "/home/k"}))
	block(types.PublicAccessBlockConfiguration{BlockPublicAcls: yes})
	n.want(200, anon(call{method: "GET", path: "/home/k"}))
	for _, c := range []call{
		{method: "PUT", path: "/home/l", body: "x", headers: []string{"x-amz-acl", "public-read"}}, {method: "PUT", path: "/home?acl", headers: []string{"x-amz-acl", "authenticated-read"}},
		{method: "PUT", path: "/home/k?acl", headers: []string{"x-amz-acl", "public-read-write"}},
	} {
		n.refused(403, "AccessDenied", n.main.as(c))
	}
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k?acl", headers: []string{"x-amz-acl", "private"}}))
	public := policyOf(statement("Allow", everybody, `"s3:GetObject"`, homeKeys, ""))
	block(types.PublicAccessBlockConfiguration{BlockPublicPolicy: yes})
	n.refused(403, "AccessDenied", n.main.as(call{method: "PUT", path: "/home?policy", body: public}))
	n.setPolicy("home", statement("Allow", `{"AWS":"`+n.alt.ARN()+`"}`, `"s3:GetObject"`, homeKeys, ""))
	block(types.PublicAccessBlockConfiguration{})
	n.want(204, n.main.as(call{method: "PUT", path: "/home?policy", body: public}))
	n.want(200, n.alt.as(call{method: "GET", path: "/home/k"}))
	block(types.PublicAccessBlockConfiguration{RestrictPublicBuckets: yes})
	n.refused(403, "AccessDenied", anon(call{method: "GET", path: "/home/k"}))
	n.refused(403, "AccessDenied", n.alt.as(call{method: "GET", path: "/home/k"}))
	n.want(200, n.main.as(call{method: "GET", path: "/home/k"}))
	ok(c.DeletePublicAccessBlock(ctx, &s3.DeletePublicAccessBlockInput{Bucket: home}))(t)
	n.want(200, anon(call{method: "GET", path: "/home/k"}))
	// By the policy, who may not change the block may not.
	n.setPolicy("home", statement("Deny", everybody, `"s3:PutBucketPublicAccessBlock"`, `"arn:aws:s3:::home"`, ""))
	n.refused(403, "AccessDenied", n.main.as(call{method: "DELETE", path: "/home?publicAccessBlock"}))
}

// A fork has the policy of its source, which speaks of the source by its name.
func TestPolicyOfFork(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x"}))
	n.setPolicy("home", statement("Allow", everybody, `"s3:GetObject"`, homeKeys, ""))
	n.refused(403, "AccessDenied", n.alt.as(call{method: "PUT", path: "/copy", headers: []string{"X-Tigris-Fork-Source-Bucket", "home"}}))
	n.want(200, n.main.as(call{method: "PUT", path: "/copy", headers: []string{"X-Tigris-Fork-Source-Bucket", "home"}}))
	n.want(200, anon(call{method: "GET", path: "/copy/k"}))
	n.setPolicy("home", statement("Allow", `{"AWS":"`+n.alt.ARN()+`"}`, `"stemma:ForkBucket"`, `"arn:aws:s3:::home"`, ""))
	n.want(200, n.alt.as(call{method: "PUT", path: "/taken", headers: []string{"X-Tigris-Fork-Source-Bucket", "home"}}))
	n.want(200, n.alt.as(call{method: "GET", path: "/taken/k"}))
	n.refused(403, "AccessDenied", n.main.as(call{method: "GET", path: "/taken/k"}))
}

// Users that policies hold, and keys that are held to a bucket.
func TestPoliciesOfUsers(t *testing.T) {
	n := newTenants(t)
	reader := n.user(identity.NewUser{Name: "reader", Attach: []string{"readonly"}})
	writer := n.user(identity.NewUser{Name: "writer", Attach: []string{"readwrite"}})
	member := n.user(identity.NewUser{Name: "member", Account: n.main.ID})
	n.put("/roots", "")
	n.put("/roots/k", "x")
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x"}))
	n.want(200, reader.as(call{method: "GET", path: "/roots/k"}))
	n.refused(403, "AccessDenied", reader.as(call{method: "PUT", path: "/roots/k", body: "x"}))
	n.refused(403, "AccessDenied", reader.as(call{method: "GET", path: "/home/k"}))
	n.refused(403, "AccessDenied", reader.as(call{method: "PUT", path: "/another"}))
	n.want(200, writer.as(call{method: "PUT", path: "/roots/written", body: "x"}))
	if list := n.get("/roots?list-type=2&fetch-owner=true"); len(elements(list, "ID")) != 2 || strings.Contains(list, writer.ID) {
		t.Errorf("%s", list) // written in the name of the root
	}
	n.refused(403, "AccessDenied", member.as(call{method: "GET", path: "/home/k"}))
	n.setPolicy("home", statement("Allow", `{"AWS":"`+auth.AccountNumber(n.main.ID)+`"}`, `"s3:*"`, homeAll, ""))
	n.refused(403, "AccessDenied", member.as(call{method: "GET", path: "/home/k"})) // the account has not passed it on
	n.setPolicy("home", statement("Allow", `{"AWS":"`+member.ARN()+`"}`, `"s3:GetObject"`, homeKeys, ""))
	n.want(200, member.as(call{method: "GET", path: "/home/k"}))
	n.want(204, n.main.as(call{method: "DELETE", path: "/home?policy"}))
	in := identity.Inline{Name: "p", Document: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::home/${aws:username}/*"}}`}
	if err := n.users.PutInline(ctx, "member", in); err != nil {
		t.Fatal(err)
	}
	n.want(200, n.main.as(call{method: "PUT", path: "/home/member/k", body: "x"}))
	n.want(200, member.as(call{method: "GET", path: "/home/member/k"}))
	n.refused(403, "AccessDenied", member.as(call{method: "GET", path: "/home/k"}))

	info, err := n.store.Bucket("home", 0)
	if err != nil {
		t.Fatal(err)
	}
	key, secret, err := n.users.CreateKey(ctx, identity.NewKey{User: "main", Scope: []auth.BucketRole{{Bucket: uint64(info.Bucket), ReadOnly: true}}})
	if err != nil {
		t.Fatal(err)
	}
	held := n.with(n.main.User, key.ID, secret)
	n.want(200, n.main.as(call{method: "PUT", path: "/other"}))
	n.want(204, n.main.as(call{method: "DELETE", path: "/home?policy"}))
	n.want(200, held.as(call{method: "GET", path: "/home/k"}))
	n.refused(403, "AccessDenied", held.as(call{method: "PUT", path: "/home/k", body: "y"}))
	n.refused(403, "AccessDenied", held.as(call{method: "GET", path: "/other"}))
	n.refused(403, "AccessDenied", held.as(call{method: "PUT", path: "/third"}))
	if list := n.want(200, held.as(call{method: "GET", path: "/"})); strings.Join(elements(list.body, "Name"), " ") != "home" {
		t.Errorf("%s", list.body)
	}
}
