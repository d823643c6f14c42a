package s3api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// grantsOf returns the grants of an ACL in short: whom, in alphabetical order.
func (n *tenants) grantsOf(grants []types.Grant) string {
	names := map[string]string{n.main.ID: "main", n.alt.ID: "alt", n.tenant.ID: "tenant", auth.RootID: "root"}
	var all []string
	for _, g := range grants {
		who := strings.TrimPrefix(aws.ToString(g.Grantee.URI), groupPrefix)
		if g.Grantee.Type == types.TypeCanonicalUser {
			if who = names[*g.Grantee.ID]; who == "" || aws.ToString(g.Grantee.DisplayName) == "" {
				n.t.Errorf("%+v", g.Grantee)
			}
		}
		all = append(all, who+" "+string(g.Permission))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (n *tenants) objectACL(bucket, key string) string {
	n.t.Helper()
	acl, err := n.main.sdk.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: &bucket, Key: &key})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.grantsOf(acl.Grants)
}

func TestACLs(t *testing.T) {
	n := newTenants(t)
	c, home, key := n.main.sdk, aws.String("home"), aws.String("k")
	ok(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: home}))(t)
	lsn := lsnOf(n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x"})))
	if got := n.objectACL("home", "k"); got != "main FULL_CONTROL" {
		t.Error(got)
	}
	acl := ok(c.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: home}))(t)
	if *acl.Owner.ID != n.main.ID || *acl.Owner.DisplayName != "The main" || n.grantsOf(acl.Grants) != "main FULL_CONTROL" {
		t.Errorf("%+v", acl)
	}
	before := ok(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: home, Key: key}))(t)
	for canned, want := range map[types.ObjectCannedACL]string{
		"private": "main FULL_CONTROL", "public-read": "global/AllUsers READ, main FULL_CONTROL", "public-read-write": "global/AllUsers READ, global/AllUsers WRITE, main FULL_CONTROL",
		"authenticated-read": "global/AuthenticatedUsers READ, main FULL_CONTROL", "bucket-owner-read": "main FULL_CONTROL", "bucket-owner-full-control": "main FULL_CONTROL",
	} {
		ok(c.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: home, Key: key, ACL: canned}))(t)
		if got := n.objectACL("home", "k"); got != want {
			t.Errorf("%s: %s", canned, got)
		}
		wantAnon, wantAlt := 403, 403
		if strings.HasPrefix(string(canned), "public") {
			wantAnon, wantAlt = 200, 200
		} else if canned == "authenticated-read" {
			wantAlt = 200
		}
		n.want(wantAnon, anon(call{method: "GET", path: "/home/k"}))
		n.want(wantAlt, n.alt.as(call{method: "GET", path: "/home/k"}))
	}
	if after := ok(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: home, Key: key}))(t); !after.LastModified.Equal(*before.LastModified) || *after.ETag != *before.ETag {
		t.Error("a new ACL made it a new object")
	}
	// What was is still to be seen: by who may, and as it was.
	n.refused(403, "AccessDenied", anon(call{method: "GET", path: "/home/k", headers: []string{"x-stemma-at", lsn}}))
	if a := n.want(200, n.main.as(call{method: "GET", path: "/home/k?acl", headers: []string{"x-stemma-at", lsn}})); strings.Contains(a.body, "Group") {
		t.Error(a.body)
	}
	headers := &s3.PutObjectInput{Bucket: home, Key: key, Body: strings.NewReader("x"), GrantRead: aws.String("id=" + n.alt.ID), GrantReadACP: aws.String(`emailAddress="Tenant@example.com", id="` + n.alt.ID + `"`),
		GrantFullControl: aws.String("id=" + n.main.ID)}
	ok(c.PutObject(ctx, headers))(t)
	if got := n.objectACL("home", "k"); got != "alt READ, alt READ_ACP, main FULL_CONTROL, tenant READ_ACP" {
		t.Error(got)
	}
	n.want(200, n.alt.as(call{method: "GET", path: "/home/k"}))
	n.refused(403, "AccessDenied", n.tenant.as(call{method: "GET", path: "/home/k"}))
	n.want(200, n.tenant.as(call{method: "GET", path: "/home/k?acl"}))
	n.refused(403, "AccessDenied", n.tenant.as(call{method: "PUT", path: "/home/k?acl", headers: []string{"x-amz-acl", "public-read"}}))
	// The owner may read and write an ACL that grants nothing.
	none := &types.AccessControlPolicy{Owner: &types.Owner{ID: &n.main.ID}, Grants: []types.Grant{}}
	ok(c.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: home, Key: key, AccessControlPolicy: none}))(t)
	if got := n.objectACL("home", "k"); got != "" {
		t.Error(got)
	}
	ok(c.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: home, Key: key, AccessControlPolicy: &types.AccessControlPolicy{Owner: &types.Owner{ID: &n.main.ID}, Grants: []types.Grant{
		{Grantee: &types.Grantee{Type: types.TypeCanonicalUser, ID: &n.alt.ID}, Permission: types.PermissionWriteAcp},
		{Grantee: &types.Grantee{Type: types.TypeAmazonCustomerByEmail, EmailAddress: aws.String("tenant@example.com")}, Permission: types.PermissionRead},
		{Grantee: &types.Grantee{Type: types.TypeGroup, URI: aws.String(groupPrefix + "global/AuthenticatedUsers")}, Permission: types.PermissionReadAcp},
	}}}))(t)
	if got := n.objectACL("home", "k"); got != "alt WRITE_ACP, global/AuthenticatedUsers READ_ACP, tenant READ" {
		t.Error(got)
	}
	n.want(200, n.tenant.as(call{method: "GET", path: "/home/k"}))
	n.want(200, n.alt.as(call{method: "PUT", path: "/home/k?acl", headers: []string{"x-amz-grant-full-control", "id=" + n.alt.ID}}))
	n.want(200, n.alt.as(call{method: "GET", path: "/home/k"}))
	// A copy has the ACL that it is given.
	ok(c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: home, Key: aws.String("copy"), CopySource: aws.String("home/k")}))(t)
	if got := n.objectACL("home", "copy"); got != "main FULL_CONTROL" {
		t.Error(got)
	}
	up := ok(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: home, Key: aws.String("up"), ACL: types.ObjectCannedACLPublicRead}))(t)
	part := ok(c.UploadPart(ctx, &s3.UploadPartInput{Bucket: home, Key: aws.String("up"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("part")}))(t)
	ok(c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: home, Key: aws.String("up"), UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{
		Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}}}))(t)
	n.want(200, anon(call{method: "GET", path: "/home/up"}))
}

func TestBadACLs(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x"}))
	doc := func(owner, grants string) string {
		return `<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Owner><ID>` + owner + `</ID></Owner><AccessControlList>` + grants + `</AccessControlList></AccessControlPolicy>`
	}
	grant := func(kind, element, permission string) string {
		return `<Grant><Grantee xsi:type="` + kind + `">` + element + `</Grantee><Permission>` + permission + `</Permission></Grant>`
	}
	mine := "<ID>" + n.main.ID + "</ID>"
	for _, path := range []string{"/home?acl", "/home/k?acl"} {
		for _, c := range []struct {
			code    string
			status  int
			body    string
			headers []string
		}{
			{"MissingSecurityHeader", 400, "", nil},
			{"InvalidArgument", 400, "", []string{"x-amz-acl", "public-ready"}},
			{"InvalidArgument", 400, "", []string{"x-amz-grant-read", "id=_foo"}},
			{"InvalidArgument", 400, "", []string{"x-amz-grant-read", n.alt.ID}},
			{"InvalidArgument", 400, "", []string{"x-amz-grant-read", `uri="http://example.com/everybody"`}},
			{"UnresolvableGrantByEmailAddress", 400, "", []string{"x-amz-grant-read", `emailAddress="nobody@example.com"`}},
			{"InvalidRequest", 400, "", []string{"x-amz-grant-read", "id=" + n.alt.ID, "x-amz-acl", "private"}},
			{"UnexpectedContent", 400, doc(n.main.ID, ""), []string{"x-amz-acl", "private"}},
			{"MalformedACLError", 400, "<AccessControlPolicy>", nil},
			{"MalformedACLError", 400, "<AccessControlPolicy></AccessControlPolicy>", nil},
			{"MalformedACLError", 400, doc(n.main.ID, grant("CanonicalUser", mine, "FLY")), nil},
			{"MalformedACLError", 400, doc(n.main.ID, grant("Robot", mine, "READ")), nil},
			{"InvalidArgument", 400, doc(n.main.ID, grant("CanonicalUser", "<ID>x</ID>", "READ")), nil},
			{"InvalidArgument", 400, doc(n.main.ID, grant("Group", "<URI>x</URI>", "READ")), nil},
			{"UnresolvableGrantByEmailAddress", 400, doc(n.main.ID, grant("AmazonCustomerByEmail", "<EmailAddress>x@example.com</EmailAddress>", "READ")), nil},
			{"AccessDenied", 403, doc(n.alt.ID, ""), nil},
			{"InvalidRequest", 400, doc(n.main.ID, strings.Repeat(grant("CanonicalUser", mine, "READ"), 101)), nil},
		} {
			before := n.store.Visible()
			n.refused(c.status, c.code, n.main.as(call{method: "PUT", path: path, body: c.body, headers: c.headers}))
			if n.store.Visible() != before {
				t.Errorf("%s %q: committed", path, c.headers)
			}
		}
	}
	n.refused(400, "InvalidArgument", n.main.as(call{method: "PUT", path: "/new", headers: []string{"x-amz-grant-read", "id=_foo"}}))
	n.refused(404, "NoSuchKey", n.main.as(call{method: "PUT", path: "/home/absent?acl", headers: []string{"x-amz-acl", "private"}}))
	n.refused(404, "NoSuchBucket", n.main.as(call{method: "GET", path: "/absent?acl"}))
	n.refused(501, "NotImplemented", n.main.as(call{method: "DELETE", path: "/home/k", headers: []string{"x-amz-acl", "public-read"}}))
}

// What ACLs of the bucket and of the object let another account and nobody do.
func TestAccessByACL(t *testing.T) {
	n := newTenants(t)
	may := func(a *answer) bool {
		if a.status != 403 && a.status >= 300 {
			t.Errorf("%d %s", a.status, a.body)
		}
		return a.status != 403
	}
	for _, bucketACL := range []string{"private", "public-read", "public-read-write"} {
		bucket := "/b-" + bucketACL
		n.want(200, n.main.as(call{method: "PUT", path: bucket, headers: []string{"x-amz-acl", bucketACL}}))
		for _, objectACL := range []string{"private", "public-read", "public-read-write"} {
			key := bucket + "/" + objectACL
			n.want(200, n.main.as(call{method: "PUT", path: key, body: "first", headers: []string{"x-amz-acl", objectACL}}))
			for who, as := range map[string]func(call) call{"alt": n.alt.as, "nobody": anon} {
				name := who + " " + bucket + " " + objectACL
				if got, want := may(n.do(as(call{method: "GET", path: key}))), objectACL != "private"; got != want {
					t.Errorf("%s: read %v", name, got)
				}
				if got, want := may(n.do(as(call{method: "GET", path: bucket}))), bucketACL != "private"; got != want {
					t.Errorf("%s: list %v", name, got)
				}
				if got, want := may(n.do(as(call{method: "PUT", path: bucket + "/new-" + who, body: "x"}))), bucketACL == "public-read-write"; got != want {
					t.Errorf("%s: write %v", name, got)
				}
				if got, want := may(n.do(as(call{method: "PUT", path: key, body: "overwrite"}))), bucketACL == "public-read-write"; got != want {
					t.Errorf("%s: overwrite %v", name, got)
				}
				n.want(200, n.main.as(call{method: "PUT", path: key, body: "first", headers: []string{"x-amz-acl", objectACL}}))
				if got, want := may(n.do(as(call{method: "DELETE", path: key}))), bucketACL == "public-read-write"; got != want {
					t.Errorf("%s: delete %v", name, got)
				}
				n.want(200, n.main.as(call{method: "PUT", path: key, body: "first", headers: []string{"x-amz-acl", objectACL}}))
				if may(n.do(as(call{method: "GET", path: key + "?acl"}))) || may(n.do(as(call{method: "GET", path: bucket + "?acl"}))) || may(n.do(as(call{method: "DELETE", path: bucket}))) {
					t.Errorf("%s: more than it was granted", name)
				}
			}
		}
	}
}

// Who writes into the bucket of another by its ACL owns what it has written, unless the
// bucket says otherwise.
func TestOwnership(t *testing.T) {
	n := newTenants(t)
	home := aws.String("home")
	owner := func(key string) string {
		t.Helper()
		acl, err := n.alt.sdk.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: home, Key: &key})
		if err != nil {
			acl, err = n.main.sdk.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: home, Key: &key})
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(*acl.Owner.DisplayName, "The ") + ": " + n.grantsOf(acl.Grants)
	}
	put := func(key string, acl types.ObjectCannedACL) error {
		_, err := n.alt.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: home, Key: &key, Body: strings.NewReader(key), ACL: acl})
		return err
	}
	ok(n.main.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: home, ACL: types.BucketCannedACLPublicReadWrite}))(t)
	n.refused(404, "OwnershipControlsNotFoundError", n.main.as(call{method: "GET", path: "/home?ownershipControls"}))
	for key, want := range map[string]string{
		"private": "alt: alt FULL_CONTROL", "bucket-owner-read": "alt: alt FULL_CONTROL, main READ", "bucket-owner-full-control": "alt: alt FULL_CONTROL, main FULL_CONTROL",
	} {
		if err := put(key, types.ObjectCannedACL(key)); err != nil {
			t.Fatal(err)
		}
		if got := owner(key); got != want {
			t.Errorf("%s: %s", key, got)
		}
	}
	n.refused(403, "AccessDenied", n.main.as(call{method: "GET", path: "/home/private"}))
	n.want(200, n.main.as(call{method: "GET", path: "/home/bucket-owner-read"}))
	for _, path := range []string{"/home", "/home?list-type=2&fetch-owner=true", "/home?versions"} {
		if a := n.want(200, n.main.as(call{method: "GET", path: path})); len(elements(a.body, "ID")) != 3 || elements(a.body, "ID")[0] != n.alt.ID {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	up := ok(n.alt.sdk.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: home, Key: aws.String("up")}))(t)
	list := ok(n.main.sdk.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: home}))(t)
	if u := list.Uploads[0]; *u.Owner.ID != n.alt.ID || *u.Initiator.ID != n.alt.ID || *u.Initiator.DisplayName != "The alt" {
		t.Errorf("%+v", u)
	}
	parts := ok(n.alt.sdk.ListParts(ctx, &s3.ListPartsInput{Bucket: home, Key: aws.String("up"), UploadId: up.UploadId}))(t)
	if *parts.Owner.ID != n.alt.ID || *parts.Initiator.ID != n.alt.ID {
		t.Errorf("%+v", parts)
	}
	ok(n.alt.sdk.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: home, Key: aws.String("up"), UploadId: up.UploadId}))(t)

	controls := func(o types.ObjectOwnership) error {
		_, err := n.main.sdk.PutBucketOwnershipControls(ctx, &s3.PutBucketOwnershipControlsInput{Bucket: home, OwnershipControls: &types.OwnershipControls{Rules: []types.OwnershipControlsRule{{ObjectOwnership: o}}}})
		return err
	}
	if err := controls("BucketOwnerPreferred"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"private": "alt: alt FULL_CONTROL", "bucket-owner-full-control": "main: main FULL_CONTROL"} {
		if err := put(key, types.ObjectCannedACL(key)); err != nil {
			t.Fatal(err)
		}
		if got := owner(key); got != want {
			t.Errorf("preferred, %s: %s", key, got)
		}
	}
	if err := controls("BucketOwnerEnforced"); codeOf(err) != "InvalidBucketAclWithObjectOwnership" {
		t.Fatal(err)
	}
	n.want(200, n.main.as(call{method: "PUT", path: "/home?acl", headers: []string{"x-amz-acl", "private"}}))
	if err := controls("BucketOwnerEnforced"); err != nil {
		t.Fatal(err)
	}
	n.setPolicy("home", statement("Allow", everybody, `"s3:PutObject"`, homeKeys, ""))
	n.want(200, n.main.as(call{method: "GET", path: "/home/private"})) // is the bucket owner's now
	n.refused(403, "AccessDenied", n.alt.as(call{method: "GET", path: "/home/private"}))
	for key, code := range map[types.ObjectCannedACL]string{"": "", "bucket-owner-full-control": "", "public-read": "AccessControlListNotSupported", "private": "AccessControlListNotSupported"} {
		switch err := put("e", key); {
		case code == "" && err != nil, code != "" && codeOf(err) != code:
			t.Errorf("enforced, %q: %v", key, err)
		}
	}
	if got := owner("e"); got != "main: main FULL_CONTROL" {
		t.Error(got)
	}
	for _, path := range []string{"/home?acl", "/home/e?acl"} {
		n.refused(400, "AccessControlListNotSupported", n.main.as(call{method: "PUT", path: path, headers: []string{"x-amz-acl", "public-read"}}))
	}
	n.want(200, n.main.as(call{method: "PUT", path: "/home/e?acl", headers: []string{"x-amz-acl", "bucket-owner-full-control"}}))
	ok(n.main.sdk.DeleteBucketOwnershipControls(ctx, &s3.DeleteBucketOwnershipControlsInput{Bucket: home}))(t)
	n.refused(400, "MalformedXML", n.main.as(call{method: "PUT", path: "/home?ownershipControls", body: "<OwnershipControls><Rule><ObjectOwnership>Mine</ObjectOwnership></Rule></OwnershipControls>"}))

	_, err := n.main.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("enforced"), ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced, ACL: types.BucketCannedACLPublicRead})
	if codeOf(err) != "InvalidBucketAclWithObjectOwnership" {
		t.Error(err)
	}
	ok(n.main.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("enforced"), ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced}))(t)
	if o := ok(n.main.sdk.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: aws.String("enforced")}))(t); o.OwnershipControls.Rules[0].ObjectOwnership != types.ObjectOwnershipBucketOwnerEnforced {
		t.Errorf("%+v", o)
	}
}

// Buckets have owners: who creates one owns it, and sees it.
func TestOwnersOfBuckets(t *testing.T) {
	n := newTenants(t)
	n.put("/roots", "")
	names := func(c *s3.Client) string {
		t.Helper()
		list := ok(c.ListBuckets(ctx, nil))(t)
		var all []string
		for _, b := range list.Buckets {
			all = append(all, *b.Name)
		}
		return *list.Owner.ID + " " + strings.Join(all, " ")
	}
	for i := range 3 {
		ok(n.main.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(fmt.Sprintf("main-%d", i))}))(t)
	}
	ok(n.alt.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("alt-0")}))(t)
	for c, want := range map[*s3.Client]string{
		n.main.sdk: n.main.ID + " main-0 main-1 main-2", n.alt.sdk: n.alt.ID + " alt-0", n.tenant.sdk: n.tenant.ID + " ",
		n.sdk: auth.RootID + " alt-0 main-0 main-1 main-2 roots", n.nobody: anonymousID + " ",
		n.user(identity.NewUser{Name: "reader", ID: "r", Attach: []string{"readonly"}}).sdk: "r roots",
	} {
		if got := names(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	page := ok(n.main.sdk.ListBuckets(ctx, &s3.ListBucketsInput{MaxBuckets: aws.Int32(2)}))(t)
	if rest := ok(n.main.sdk.ListBuckets(ctx, &s3.ListBucketsInput{ContinuationToken: page.ContinuationToken}))(t); len(page.Buckets) != 2 || len(rest.Buckets) != 1 || *rest.Buckets[0].Name != "main-2" {
		t.Errorf("%+v %+v", page, rest)
	}
	n.want(200, n.main.as(call{method: "PUT", path: "/main-0"}))
	n.refused(409, "BucketAlreadyExists", n.alt.as(call{method: "PUT", path: "/main-0"}))
	n.refused(409, "BucketAlreadyExists", call{method: "PUT", path: "/main-0"})
	n.want(200, n.main.as(call{method: "HEAD", path: "/main-0", headers: []string{"x-amz-expected-bucket-owner", n.main.ID}}))
	n.want(200, n.main.as(call{method: "HEAD", path: "/main-0", headers: []string{"x-amz-expected-bucket-owner", auth.AccountNumber(n.main.ID)}}))
	n.want(403, n.main.as(call{method: "HEAD", path: "/main-0", headers: []string{"x-amz-expected-bucket-owner", n.alt.ID}}))
	n.refused(403, "AccessDenied", anon(call{method: "PUT", path: "/nobodys"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/main-0/k", body: "x"}))
	n.refused(403, "AccessDenied", n.main.as(call{method: "PUT", path: "/main-1/k", headers: []string{"x-amz-copy-source", "main-0/k", "x-amz-source-expected-bucket-owner", n.alt.ID}}))
	n.want(200, n.main.as(call{method: "PUT", path: "/main-1/k", headers: []string{"x-amz-copy-source", "main-0/k", "x-amz-source-expected-bucket-owner", n.main.ID}}))
	n.refused(403, "AccessDenied", n.alt.as(call{method: "PUT", path: "/alt-0/k", headers: []string{"x-amz-copy-source", "main-0/k"}}))
	n.refused(403, "AccessDenied", n.alt.as(call{method: "PUT", path: "/alt-0/k", headers: []string{"x-amz-copy-source", "main-0/absent"}}))
	n.want(200, n.main.as(call{method: "PUT", path: "/main-1?acl", headers: []string{"x-amz-acl", "public-read"}}))
	for path, status := range map[string]int{"/:main-1": 200, "/The%20main:main-1": 200, "/The%20alt:main-1": 404, "/:absent": 404, "/:main-0": 403, "/:main-0/k": 403} {
		if a := n.do(anon(call{method: "GET", path: path})); a.status != status {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	n.want(200, n.main.as(call{method: "GET", path: "/:main-0/k"}))
	n.want(400, n.main.as(call{method: "PUT", path: "/:fresh"}))
	n.refused(400, "InvalidTargetBucketForLogging", n.main.as(call{method: "PUT", path: "/main-0?logging",
		body: "<BucketLoggingStatus><LoggingEnabled><TargetBucket>alt-0</TargetBucket><TargetPrefix/></LoggingEnabled></BucketLoggingStatus>"}))
}

// The ACL of a bucket can take from its owner to list and to write, but not to say who may.
func TestOwnerRevokesItself(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x"}))
	none := "<AccessControlPolicy><Owner><ID>" + n.main.ID + "</ID></Owner><AccessControlList></AccessControlList></AccessControlPolicy>"
	n.want(200, n.main.as(call{method: "PUT", path: "/home?acl", body: none}))
	for _, c := range []call{
		{method: "PUT", path: "/home/l", body: "x"}, {method: "DELETE", path: "/home/k"}, {method: "GET", path: "/home"}, {method: "POST", path: "/home/l?uploads"},
	} {
		n.refused(403, "AccessDenied", n.main.as(c))
	}
	n.want(200, n.main.as(call{method: "GET", path: "/home/k"}))
	n.want(200, call{method: "PUT", path: "/home/l", body: "x"}) // the root
	n.want(200, n.main.as(call{method: "GET", path: "/home?acl"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home?acl", headers: []string{"x-amz-grant-write", "id=" + n.main.ID}}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/l", body: "x"}))
	n.refused(403, "AccessDenied", n.main.as(call{method: "GET", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home?acl", headers: []string{"x-amz-acl", "private"}}))
	n.want(200, n.main.as(call{method: "GET", path: "/home"}))
}
