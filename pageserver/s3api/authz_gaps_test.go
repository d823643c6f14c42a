package s3api

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"stemma/pageserver/identity"
)

// What was public once is not for ever: in the past ACLs grant nothing.
func TestPastIsNotPublic(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home", headers: []string{"x-amz-acl", "public-read"}}))
	then := lsnOf(n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x", headers: []string{"x-amz-acl", "public-read"}})))
	n.want(200, anon(call{method: "GET", path: "/home/k"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k?acl", headers: []string{"x-amz-acl", "private"}}))
	n.want(204, n.main.as(call{method: "DELETE", path: "/home/gone"}))
	for _, c := range []call{
		{method: "GET", path: "/home/k"}, {method: "GET", path: "/home/k?acl"}, {method: "GET", path: "/home/gone"}, {method: "GET", path: "/home?list-type=2"},
	} {
		c.headers = []string{"x-stemma-at", then}
		n.refused(403, "AccessDenied", anon(c))
		n.refused(403, "AccessDenied", n.alt.as(c))
	}
	n.refused(403, "AccessDenied", n.alt.as(call{method: "PUT", path: "/home/l", headers: []string{"x-amz-copy-source", "home/k", "x-stemma-copy-source-at", then}}))
	n.want(200, n.main.as(call{method: "GET", path: "/home/k", headers: []string{"x-stemma-at", then}}))
	n.want(200, anon(call{method: "GET", path: "/home?list-type=2"}))
}

// Who may put objects in the name of another may not show them to everybody.
func TestPublicInTheNameOfAnother(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	member := n.user(identity.NewUser{Name: "member", Account: n.main.ID})
	allow := func(actions string) {
		t.Helper()
		in := identity.Inline{Name: "p", Document: policyOf(`{"Effect":"Allow","Action":` + actions + `,"Resource":"arn:aws:s3:::home/*"}`)}
		if err := n.users.PutInline(ctx, "member", in); err != nil {
			t.Fatal(err)
		}
	}
	allow(`"s3:PutObject"`)
	public := call{method: "PUT", path: "/home/k", body: "x", headers: []string{"x-amz-acl", "public-read"}}
	n.refused(403, "AccessDenied", member.as(public))
	n.want(200, member.as(call{method: "PUT", path: "/home/k", body: "x", headers: []string{"x-amz-acl", "private"}}))
	allow(`["s3:PutObject","s3:PutObjectAcl"]`)
	n.want(200, member.as(public))
	// Nor may nobody, unless an ACL lets everybody write.
	n.setPolicy("home", statement("Allow", everybody, `"s3:PutObject"`, homeKeys, ""))
	n.refused(403, "AccessDenied", anon(public))
	n.want(200, anon(call{method: "PUT", path: "/home/k", body: "x"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home?acl", headers: []string{"x-amz-acl", "public-read-write"}}))
	n.want(200, anon(public))
}

// An ACL that lets write lets nobody remove versions, nor does one request for many
// keys go around a condition on their ids.
func TestDeletionOfVersions(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home", headers: []string{"x-amz-acl", "public-read-write"}}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home?versioning", body: "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"}))
	first := n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "1"})).header.Get("x-amz-version-id")
	second := n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "2"})).header.Get("x-amz-version-id")
	n.refused(403, "AccessDenied", anon(call{method: "DELETE", path: "/home/k?versionId=" + first}))
	n.refused(403, "AccessDenied", n.alt.as(call{method: "DELETE", path: "/home/k?versionId=" + first}))
	n.setPolicy("home",
		statement("Allow", everybody, `"s3:DeleteObjectVersion"`, homeKeys, ""),
		statement("Deny", everybody, `"s3:DeleteObjectVersion"`, homeKeys, `{"StringEquals":{"s3:VersionId":"`+first+`"}}`))
	doc := "<Delete><Object><Key>k</Key><VersionId>" + first + "</VersionId></Object><Object><Key>k</Key><VersionId>" + second + "</VersionId></Object></Delete>"
	a := n.want(200, n.alt.as(call{method: "POST", path: "/home?delete", body: doc, headers: []string{"Content-MD5", md5Of(doc)}}))
	if element(a.body, "Code") != "AccessDenied" || strings.Count(a.body, "<Deleted>") != 1 {
		t.Error(a.body)
	}
	n.want(200, n.main.as(call{method: "GET", path: "/home/k?versionId=" + first}))
	n.want(404, n.main.as(call{method: "GET", path: "/home/k?versionId=" + second}))
}

// A condition on grants sees all of them.
func TestGrantsInSeveralHeaders(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	everyone := `uri="` + groupPrefix + `global/AllUsers"`
	n.setPolicy("home",
		statement("Allow", everybody, `"s3:PutObject"`, homeKeys, ""),
		statement("Deny", everybody, `"s3:PutObject"`, homeKeys, `{"StringLike":{"s3:x-amz-grant-read":"*AllUsers*"}}`))
	put := call{method: "PUT", path: "/home/k", body: "x", headers: []string{"x-amz-grant-read", "id=" + n.main.ID}}
	n.want(200, n.alt.as(put))
	put.headers = append(put.headers, "X-Amz-Grant-Read", everyone)
	if a := n.do(n.alt.as(put)); a.status != 403 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A bundle of what is there now takes the right to read that, and no other.
func TestBundleTakesReading(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/secret", body: "x"}))
	n.setPolicy("home", statement("Allow", everybody, `"s3:GetObject"`, `"arn:aws:s3:::home/k"`, ""))
	bundle := call{method: "POST", path: "/home?bundle", body: `{"keys": ["k"]}`, headers: []string{"X-Tigris-Bundle-Format", "tar"}}
	n.want(200, n.alt.as(bundle))
	past := bundle
	past.headers = append([]string{"x-stemma-at", n.store.Visible().String()}, bundle.headers...)
	n.refused(403, "AccessDenied", n.alt.as(past))
	bundle.body = `{"keys": ["k", "secret"]}`
	n.refused(403, "AccessDenied", n.alt.as(bundle))
}

// An upload that was let in does not end in another bucket that has got the name.
func TestUploadIntoAnotherBucketOfTheName(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	body, feed := io.Pipe()
	req := n.request(n.main.as(call{method: "PUT", path: "/home/k", hash: "UNSIGNED-PAYLOAD"}))
	req.Body, req.ContentLength = body, 2<<20
	answered := make(chan *http.Response)
	go func() {
		resp, err := n.http.Do(req)
		if err != nil {
			t.Error(err)
		}
		answered <- resp
	}()
	if _, err := feed.Write(make([]byte, 1<<20)); err != nil { // more than buffers hold: it was let in
		t.Fatal(err)
	}
	n.want(204, n.main.as(call{method: "DELETE", path: "/home"}))
	n.want(200, n.alt.as(call{method: "PUT", path: "/home"}))
	if _, err := feed.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	resp := <-answered
	if resp == nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Errorf("%d", resp.StatusCode)
	}
	n.refused(404, "NoSuchKey", n.alt.as(call{method: "GET", path: "/home/k"}))
}
