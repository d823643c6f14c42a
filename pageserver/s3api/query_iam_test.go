package s3api

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// iam calls an action that must succeed.
func (n *tenants) iam(as auth.Key, pairs ...string) string {
	n.t.Helper()
	a := n.action(as, "iam", append([]string{"Action"}, pairs...)...)
	if a.status != 200 {
		n.t.Fatalf("%v: %d %s", pairs, a.status, a.body)
	}
	return a.body
}

// noIAM calls an action that must be refused.
func (n *tenants) noIAM(as auth.Key, code string, pairs ...string) {
	n.t.Helper()
	if a := n.action(as, "iam", append([]string{"Action"}, pairs...)...); a.status < 400 || a.status >= 500 || element(a.body, "Code") != code {
		n.t.Errorf("%v: %d %s", pairs, a.status, a.body)
	}
}

func TestIAMUsers(t *testing.T) {
	n := newTenants(t)
	main := n.main.key
	u := n.iam(main, "CreateUser", "UserName", "ann", "Path", "/team/")
	if element(u, "Arn") != "arn:aws:iam::"+auth.AccountNumber(n.main.ID)+":user/team/ann" || element(u, "Path") != "/team/" || element(u, "UserId") == "" {
		t.Error(u)
	}
	n.noIAM(main, "EntityAlreadyExists", "CreateUser", "UserName", "ann")
	n.noIAM(main, "ValidationError", "CreateUser", "UserName", "a b")
	n.noIAM(main, "ValidationError", "CreateUser")
	for _, name := range []string{"Bob", "carl"} {
		n.iam(main, "CreateUser", "UserName", name)
	}
	if names := elements(n.iam(main, "ListUsers"), "UserName"); !slices.Equal(names, []string{"ann", "Bob", "carl"}) {
		t.Error(names)
	}
	var names []string
	for marker := ""; ; {
		page := n.iam(main, "ListUsers", "MaxItems", "1", "Marker", marker)
		names = append(names, elements(page, "UserName")...)
		if marker = element(page, "Marker"); element(page, "IsTruncated") != "true" {
			break
		}
	}
	if !slices.Equal(names, []string{"ann", "Bob", "carl"}) {
		t.Error(names)
	}
	if list := n.iam(main, "ListUsers", "PathPrefix", "/other/"); !strings.Contains(list, "<Users></Users>") {
		t.Error(list)
	}
	if got := n.iam(main, "GetUser"); !strings.HasSuffix(element(got, "Arn"), ":root") {
		t.Error(got)
	}
	// A key, and what policies let.
	k := n.iam(main, "CreateAccessKey", "UserName", "ann")
	ann := auth.Key{ID: element(k, "AccessKeyId"), Secret: element(k, "SecretAccessKey")}
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	put := call{method: "PUT", path: "/home/k", body: "x", as: ann}
	n.refused(403, "AccessDenied", put)
	n.iam(main, "PutUserPolicy", "UserName", "ann", "PolicyName", "put", "PolicyDocument", policyOf(`{"Effect":"Allow","Action":"s3:PutObject","Resource":"*"}`))
	n.want(200, put)
	if doc, err := url.QueryUnescape(element(n.iam(main, "GetUserPolicy", "UserName", "ann", "PolicyName", "put"), "PolicyDocument")); err != nil || !strings.Contains(doc, "s3:PutObject") {
		t.Error(doc, err)
	}
	if list := n.iam(main, "ListUserPolicies", "UserName", "ann"); element(list, "member") != "put" {
		t.Error(list)
	}
	n.noIAM(main, "MalformedPolicyDocument", "PutUserPolicy", "UserName", "ann", "PolicyName", "p", "PolicyDocument", "{}")
	n.noIAM(main, "NoSuchEntity", "GetUserPolicy", "UserName", "ann", "PolicyName", "absent")
	n.iam(main, "DeleteUserPolicy", "UserName", "ann", "PolicyName", "put")
	n.noIAM(main, "NoSuchEntity", "DeleteUserPolicy", "UserName", "ann", "PolicyName", "put")
	n.refused(403, "AccessDenied", put)
	readonly := "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
	n.iam(main, "AttachUserPolicy", "UserName", "ann", "PolicyArn", readonly)
	n.want(200, call{method: "GET", path: "/home", as: ann})
	if list := n.iam(main, "ListAttachedUserPolicies", "UserName", "ann"); element(list, "PolicyName") != "readonly" {
		t.Error(list)
	}
	n.noIAM(main, "DeleteConflict", "DeleteUser", "UserName", "ann")
	n.iam(main, "DetachUserPolicy", "UserName", "ann", "PolicyArn", readonly)
	// A user of another name has the same key.
	n.iam(main, "UpdateUser", "UserName", "ann", "NewUserName", "anna", "NewPath", "/")
	n.noIAM(main, "NoSuchEntity", "GetUser", "UserName", "ann")
	n.noIAM(main, "EntityAlreadyExists", "UpdateUser", "UserName", "anna", "NewUserName", "Bob")
	if got := n.iam(main, "GetUser", "UserName", "anna"); element(got, "UserId") != element(u, "UserId") || !strings.HasSuffix(element(got, "Arn"), ":user/anna") {
		t.Error(got)
	}
	if list := n.iam(main, "ListAccessKeys", "UserName", "anna"); element(list, "AccessKeyId") != ann.ID || element(list, "Status") != "Active" || strings.Contains(list, "Secret") {
		t.Error(list)
	}
	n.refused(403, "AccessDenied", put)
	n.iam(main, "UpdateAccessKey", "UserName", "anna", "AccessKeyId", ann.ID, "Status", "Inactive")
	n.refused(403, "InvalidAccessKeyId", put)
	n.noIAM(main, "NoSuchEntity", "DeleteAccessKey", "UserName", "Bob", "AccessKeyId", ann.ID)
	n.noIAM(main, "NoSuchEntity", "DeleteAccessKey", "AccessKeyId", ann.ID)
	n.iam(main, "DeleteAccessKey", "UserName", "anna", "AccessKeyId", ann.ID)
	n.iam(main, "DeleteUser", "UserName", "anna")
	// Its own keys.
	own := n.iam(main, "CreateAccessKey")
	n.want(200, call{method: "GET", path: "/home", as: auth.Key{ID: element(own, "AccessKeyId"), Secret: element(own, "SecretAccessKey")}})
	n.iam(main, "DeleteAccessKey", "AccessKeyId", element(own, "AccessKeyId"))
}

// Nobody gets further by IAM than the account goes.
func TestIAMReach(t *testing.T) {
	n := newTenants(t)
	all := policyOf(`{"Effect":"Allow","Action":"*","Resource":"*"}`)
	n.iam(n.main.key, "CreateUser", "UserName", "ann")
	k := n.iam(n.main.key, "CreateAccessKey", "UserName", "ann")
	ann := auth.Key{ID: element(k, "AccessKeyId"), Secret: element(k, "SecretAccessKey")}
	n.noIAM(ann, "AccessDenied", "ListUsers")
	n.noIAM(ann, "AccessDenied", "CreateAccessKey")
	n.noIAM(auth.Key{}, "MissingAuthenticationToken", "ListUsers")
	for _, target := range []string{"alt", n.alt.ID, "main", "ann"} {
		as, code := n.main.key, "NoSuchEntity" // an owner gives itself nothing
		if target == "ann" {
			as = n.alt.key
		}
		for _, c := range [][]string{
			{"PutUserPolicy", "UserName", target, "PolicyName", "p", "PolicyDocument", all}, {"AttachUserPolicy", "UserName", target, "PolicyArn", "arn:aws:iam::aws:policy/admin"},
			{"DeleteUser", "UserName", target},
		} {
			n.noIAM(as, code, c...)
		}
		if target != "main" {
			n.noIAM(as, code, "CreateAccessKey", "UserName", target)
		}
	}
	n.noIAM(n.main.key, "AccessDenied", "CreatePolicy", "PolicyName", "mine", "PolicyDocument", all)
	n.noIAM(n.main.key, "AccessDenied", "DeletePolicy", "PolicyArn", "arn:aws:iam::aws:policy/admin")
	// All of a member's rights end at the account.
	n.iam(n.main.key, "AttachUserPolicy", "UserName", "ann", "PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.alt.as(call{method: "PUT", path: "/others"}))
	n.want(200, call{method: "GET", path: "/home", as: ann})
	n.refused(403, "AccessDenied", call{method: "GET", path: "/others", as: ann})
	n.iam(ann, "CreateUser", "UserName", "bob")
	n.noIAM(ann, "NoSuchEntity", "GetUser", "UserName", "alt")
	n.noIAM(ann, "AccessDenied", "CreatePolicy", "PolicyName", "mine", "PolicyDocument", all)
	// Held keys and sessions manage nobody.
	info, err := n.store.Bucket("home", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"main", ""} {
		key, secret, err := n.users.CreateKey(ctx, identity.NewKey{User: user, Scope: []auth.BucketRole{{Bucket: uint64(info.Bucket)}}})
		if err != nil {
			t.Fatal(err)
		}
		n.noIAM(auth.Key{ID: key.ID, Secret: secret}, "AccessDenied", "CreateAccessKey")
		n.noIAM(auth.Key{ID: key.ID, Secret: secret}, "AccessDenied", "ListUsers")
	}
	// The root manages everybody, and the shared policies.
	n.iam(rootKey, "PutUserPolicy", "UserName", n.alt.ID, "PolicyName", "p", "PolicyDocument", all)
	n.iam(rootKey, "DeleteUserPolicy", "UserName", n.alt.ID, "PolicyName", "p")
	arn := element(n.iam(rootKey, "CreatePolicy", "PolicyName", "mine", "PolicyDocument", all), "Arn")
	n.noIAM(rootKey, "EntityAlreadyExists", "CreatePolicy", "PolicyName", "mine", "PolicyDocument", all)
	if list := elements(n.iam(n.main.key, "ListPolicies", "Scope", "Local"), "PolicyName"); !slices.Equal(list, []string{"mine"}) {
		t.Error(list)
	}
	if doc, _ := url.QueryUnescape(element(n.iam(rootKey, "GetPolicyVersion", "PolicyArn", arn, "VersionId", "v1"), "Document")); doc != all {
		t.Error(doc)
	}
	n.iam(n.main.key, "AttachUserPolicy", "UserName", "ann", "PolicyArn", arn)
	if got := n.iam(rootKey, "GetPolicy", "PolicyArn", arn); element(got, "AttachmentCount") != "1" {
		t.Error(got)
	}
	n.noIAM(rootKey, "DeleteConflict", "DeletePolicy", "PolicyArn", arn)
	n.iam(rootKey, "DetachUserPolicy", "UserName", "ann", "PolicyArn", arn)
	n.iam(rootKey, "DeletePolicy", "PolicyArn", arn)
	n.noIAM(rootKey, "NoSuchEntity", "GetPolicy", "PolicyArn", arn)
	n.noIAM(rootKey, "ValidationError", "DeletePolicy", "PolicyArn", "arn:aws:iam::aws:policy/admin")
	if got := n.iam(rootKey, "GetUser"); element(got, "Arn") != auth.RootCaller().ARN {
		t.Error(got)
	}
	k = n.iam(rootKey, "CreateAccessKey")
	second := auth.Key{ID: element(k, "AccessKeyId"), Secret: element(k, "SecretAccessKey")}
	n.iam(second, "ListUsers")
	n.iam(rootKey, "DeleteAccessKey", "AccessKeyId", second.ID)
	n.noIAM(second, "InvalidClientTokenId", "ListUsers")
	n.noIAM(rootKey, "NoSuchEntity", "DeleteAccessKey", "AccessKeyId", rootKey.ID)
}

// Keys that are held to buckets, as clients of Tigris make them: in JSON, signed for s3.
func TestHeldKeys(t *testing.T) {
	n := newTenants(t)
	n.put("/roots", "")
	n.put("/roots/k", "x")
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "x"}))
	ask := func(as auth.Key, query string, pairs ...string) *answer {
		t.Helper()
		params := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			params.Set(pairs[i], pairs[i+1])
		}
		return n.do(call{method: "POST", path: "/?" + query, body: params.Encode(), as: as, headers: []string{"Content-Type", "application/x-www-form-urlencoded", "Accept", "application/json"}})
	}
	decode := func(a *answer, v any) {
		t.Helper()
		if err := json.Unmarshal([]byte(a.body), v); a.status != 200 || err != nil || a.header.Get("Content-Type") != "application/json" {
			t.Fatalf("%d %s: %v", a.status, a.body, err)
		}
	}
	for bucket, as := range map[string]auth.Key{"roots": rootKey, "home": n.main.key} {
		var made struct {
			CreateAccessKeyResult struct {
				AccessKey struct{ AccessKeyId, SecretAccessKey, UserName string }
			}
		}
		decode(ask(as, "Action=CreateAccessKeyWithBucketsRole", "Req", `{"req_uuid":"u","name":"agent","buckets_role":[{"bucket":"`+bucket+`","role":"ReadOnly"}]}`), &made)
		k := made.CreateAccessKeyResult.AccessKey
		held := auth.Key{ID: k.AccessKeyId, Secret: k.SecretAccessKey}
		get, put := call{method: "GET", path: "/" + bucket + "/k", as: held}, call{method: "PUT", path: "/" + bucket + "/l", body: "x", as: held}
		n.want(200, get)
		n.refused(403, "AccessDenied", put)
		decode(ask(as, "Action=UpdateAccessKeyWithBucketsRole", "Req", `{"id":"`+held.ID+`","buckets_role":[{"bucket":"`+bucket+`","role":"Editor"}]}`), &struct{}{})
		n.want(200, put)
		var list struct {
			Keys []struct {
				ID    string                          `json:"access_key_id"`
				Name  string                          `json:"username"`
				Roles []struct{ Bucket, Role string } `json:"buckets_role"`
			}
			IsTruncated bool
		}
		decode(ask(as, "Detailed", "Action", "ListAccessKeys", "KeyId", held.ID), &list)
		if len(list.Keys) != 1 || list.Keys[0].Name != "agent" || len(list.Keys[0].Roles) != 1 || list.Keys[0].Roles[0] != (struct{ Bucket, Role string }{bucket, "Editor"}) {
			t.Errorf("%+v", list)
		}
		var rotated struct {
			Status string `json:"status"`
			Result struct {
				ID     string `json:"id"`
				Secret string `json:"new_secret"`
			} `json:"rotate_access_key_result"`
		}
		decode(ask(as, "", "Action", "RotateAccessKey", "AccessKeyId", held.ID), &rotated)
		n.refused(403, "SignatureDoesNotMatch", get)
		get.as = auth.Key{ID: rotated.Result.ID, Secret: rotated.Result.Secret}
		n.want(200, get)
		decode(ask(as, "Action=UpdateAccessKeyWithBucketsRole", "Req", `{"id":"`+held.ID+`","buckets_role":[]}`), &struct{}{})
		n.refused(403, "InvalidAccessKeyId", get)
		if a := ask(n.alt.key, "Action=DeleteAccessKey", "AccessKeyId", held.ID); a.status != 404 || !strings.Contains(a.body, `"NoSuchEntity"`) {
			t.Errorf("%d %s", a.status, a.body)
		}
		decode(ask(as, "Action=DeleteAccessKey", "AccessKeyId", held.ID, "UserName", "agent"), &struct{}{})
		var idle struct {
			Result struct {
				AccessKey struct{ AccessKeyId, SecretAccessKey string }
			} `json:"CreateAccessKeyResult"`
		}
		decode(ask(as, "Action=CreateAccessKeyWithBucketsRole", "Req", `{"name":"idle","buckets_role":[]}`), &idle)
		get.as = auth.Key{ID: idle.Result.AccessKey.AccessKeyId, Secret: idle.Result.AccessKey.SecretAccessKey}
		n.refused(403, "AccessDenied", get) // it is held to nothing, until it is held to something
		n.refused(403, "AccessDenied", call{method: "PUT", path: "/idle-new", as: get.as})
		decode(ask(as, "Action=UpdateAccessKeyWithBucketsRole", "Req", `{"id":"`+get.as.ID+`","buckets_role":[{"bucket":"`+bucket+`","role":"ReadOnly"}]}`), &struct{}{})
		n.want(200, get)
		for _, bad := range []string{
			``, `{`, `{"name":"x"}`, `{"buckets_role":[{"bucket":"absent","role":"Editor"}]}`, `{"buckets_role":[{"bucket":"` + bucket + `","role":"Owner"}]}`,
			`{"buckets_role":[{"bucket":"*","role":"NamespaceAdmin"},{"bucket":"` + bucket + `","role":"Editor"}]}`,
		} {
			if a := ask(as, "Action=CreateAccessKeyWithBucketsRole", "Req", bad); a.status != 400 && a.status != 404 {
				t.Errorf("%s: %d %s", bad, a.status, a.body)
			}
		}
	}
}
