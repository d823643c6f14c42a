package s3api

import (
	"encoding/json"
	"net/url"
	"slices"
	"testing"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// Policies as clients of Tigris manage them: in JSON, signed for s3, the action in the query.
func TestTigrisPolicies(t *testing.T) {
	n := newTenants(t)
	ask := func(status int, as auth.Key, v any, action string, pairs ...string) string {
		t.Helper()
		params := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			params.Set(pairs[i], pairs[i+1])
		}
		a := n.do(call{method: "POST", path: "/?Action=" + action, body: params.Encode(), as: as, headers: []string{"Content-Type", "application/x-www-form-urlencoded", "Accept", "application/json"}})
		if a.status != status || a.header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %d %s", action, a.status, a.body)
		}
		if v != nil {
			if err := json.Unmarshal([]byte(a.body), v); err != nil {
				t.Fatalf("%s: %s: %v", action, a.body, err)
			}
		}
		return a.body
	}
	type policyJSON struct {
		PolicyName, PolicyId, Arn, Path, DefaultVersionId, Description, CreateDate, UpdateDate, Document string
		AttachmentCount                                                                                  int
		Users                                                                                            []struct{ UserId, UserName string }
	}
	get, put := policyOf(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`), policyOf(`{"Effect":"Allow","Action":"s3:PutObject","Resource":"*"}`)
	var made struct{ CreatePolicyResult struct{ Policy policyJSON } }
	ask(200, rootKey, &made, "CreatePolicy", "PolicyName", "p", "PolicyDocument", get, "Description", "getters", "ReqUUID", "1")
	arn := made.CreatePolicyResult.Policy.Arn
	if p := made.CreatePolicyResult.Policy; p.PolicyName != "p" || p.Description != "getters" || p.Path != "/" || p.DefaultVersionId == "" || p.CreateDate == "" {
		t.Errorf("%+v", p)
	}
	ann := n.user(identity.NewUser{Name: "ann"})
	ask(200, rootKey, nil, "AttachUserPolicy", "UserName", "ann", "PolicyArn", arn)
	n.put("/roots", "")
	n.put("/roots/k", "x")
	n.want(200, ann.as(call{method: "GET", path: "/roots/k"}))
	var changed struct{ UpdatePolicyResult struct{ Policy policyJSON } }
	ask(200, rootKey, &changed, "UpdatePolicy", "PolicyArn", arn, "PolicyDocument", put, "Description", "putters", "ReqUUID", "2")
	if p := changed.UpdatePolicyResult.Policy; p.Description != "putters" || p.AttachmentCount != 1 {
		t.Errorf("%+v", p)
	}
	n.refused(403, "AccessDenied", ann.as(call{method: "GET", path: "/roots/k"}))
	n.want(200, ann.as(call{method: "PUT", path: "/roots/k", body: "y"}))
	var detailed struct{ PolicyDetailed policyJSON }
	ask(200, rootKey, &detailed, "GetPolicyDetailed", "PolicyArn", arn)
	if p := detailed.PolicyDetailed; p.Document != put || len(p.Users) != 1 || p.Users[0].UserName != "ann" || p.Users[0].UserId != ann.Unique {
		t.Errorf("%+v", p)
	}
	var listed struct {
		ListPoliciesResult struct {
			Policies    []policyJSON
			IsTruncated bool
			Marker      string
		}
	}
	ask(200, rootKey, &listed, "ListPolicies", "MaxItems", "1")
	if l := listed.ListPoliciesResult; len(l.Policies) != 1 || !l.IsTruncated || l.Marker == "" {
		t.Errorf("%+v", l)
	}
	var names struct {
		ListUserPoliciesResult struct{ PolicyNames []string }
	}
	if body := ask(200, rootKey, &names, "ListUserPolicies", "UserName", "ann"); !slices.Equal(names.ListUserPoliciesResult.PolicyNames, []string{"p"}) {
		t.Error(body)
	}
	// Owners of accounts neither change the store's policies nor see who else has them.
	for _, c := range [][]string{{"UpdatePolicy", "PolicyArn", arn, "PolicyDocument", get}, {"ForceDeletePolicy", "PolicyArn", arn}} {
		ask(403, n.main.key, nil, c[0], c[1:]...)
	}
	detailed.PolicyDetailed = policyJSON{}
	ask(200, n.main.key, &detailed, "GetPolicyDetailed", "PolicyArn", arn)
	if len(detailed.PolicyDetailed.Users) != 0 {
		t.Errorf("%+v", detailed)
	}
	ask(400, rootKey, nil, "UpdatePolicy", "PolicyArn", arn, "PolicyDocument", "{}")
	ask(400, rootKey, nil, "UpdatePolicy", "PolicyArn", "arn:aws:iam::aws:policy/admin", "PolicyDocument", get)
	ask(404, rootKey, nil, "GetPolicyDetailed", "PolicyArn", arn+"x")
	ask(200, rootKey, nil, "ForceDeletePolicy", "PolicyArn", arn)
	ask(404, rootKey, nil, "GetPolicyDetailed", "PolicyArn", arn)
	n.refused(403, "AccessDenied", ann.as(call{method: "PUT", path: "/roots/k", body: "y"}))
}

// Clients of Tigris ask who they are; an object of that name goes before.
func TestWhoAmI(t *testing.T) {
	n := newTenants(t)
	ask := call{method: "GET", path: "/users/whoami", headers: []string{"Content-Type", "application/json"}}
	var who struct{ UserId, NamespaceId string }
	if err := json.Unmarshal([]byte(n.want(200, n.main.as(ask)).body), &who); err != nil || who.UserId != n.main.Unique || who.NamespaceId != auth.AccountNumber(n.main.ID) {
		t.Errorf("%+v, %v", who, err)
	}
	n.want(403, anon(ask))
	n.refused(404, "NoSuchBucket", n.main.as(call{method: "GET", path: "/users/whoami"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/users"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/users/whoami", body: "an object"}))
	if a := n.want(200, n.main.as(ask)); a.body != "an object" {
		t.Error(a.body)
	}
}
