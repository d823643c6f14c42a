package iam

import (
	"context"
	"slices"

	"stemma/pageserver/auth"
)

// requestUUID is a parameter by which clients of Tigris tell their attempts apart; it asks for nothing.
const requestUUID = "ReqUUID"

// Clients of Tigris change policies in place, read them with their users, and delete them whoever has them.
func init() {
	add := func(name string, run func(*API, context.Context, *Request) (any, error), params ...string) {
		actions[name] = action{params: params, run: run, json: true}
	}
	add("UpdatePolicy", (*API).updatePolicy, "PolicyArn", "PolicyDocument", "Description", requestUUID)
	add("GetPolicyDetailed", (*API).getPolicyDetailed, "PolicyArn")
	add("ForceDeletePolicy", (*API).forceDeletePolicy, "PolicyArn")
}

// updatePolicy gives a policy another document, which AWS calls a new version.
func (a *API) updatePolicy(ctx context.Context, r *Request) (any, error) {
	document, err1 := r.need("PolicyDocument")
	p, err2 := a.policyOf(r, "CreatePolicyVersion")
	if err := first(err1, err2); err != nil {
		return nil, err
	}
	if err := r.policies("CreatePolicyVersion", p.ARN()); err != nil {
		return nil, err
	}
	var description *string
	if r.Params.Has("Description") {
		text := r.Params.Get("Description")
		description = &text
	}
	if err := a.users.UpdatePolicy(ctx, p.Name, document, description); err != nil {
		return nil, err
	}
	now, err := a.users.Policy(p.Name)
	if err != nil {
		return nil, err
	}
	type result struct{ Policy *policyXML }
	return &struct{ UpdatePolicyResult result }{result{a.describePolicy(&now, a.attachments())}}, nil
}

// getPolicyDetailed returns a policy with its document and those of its users that the caller manages.
func (a *API) getPolicyDetailed(_ context.Context, r *Request) (any, error) {
	p, err := a.policyOf(r, "GetPolicy")
	if err != nil {
		return nil, err
	}
	s, err := r.manage("GetPolicy", p.ARN())
	if err != nil {
		return nil, err
	}
	type user struct {
		UserID   string `json:"UserId"`
		UserName string
	}
	users := []user{}
	for _, u := range a.users.Users("", "", "", 1<<30) {
		if s.holds(&u) && slices.Contains(u.Attached, p.Name) {
			users = append(users, user{u.Unique, u.Name})
		}
	}
	type detailed struct {
		*policyXML
		Document string
		Users    []user
	}
	return &struct{ PolicyDetailed detailed }{detailed{a.describePolicy(p, a.attachments()), p.Document, users}}, nil
}

// forceDeletePolicy detaches a policy from whoever has it, and deletes it.
func (a *API) forceDeletePolicy(ctx context.Context, r *Request) (any, error) {
	p, err := a.policyOf(r, "DeletePolicy")
	if err != nil {
		return nil, err
	}
	if err := r.policies("DeletePolicy", p.ARN()); err != nil {
		return nil, err
	}
	return &doneJSON{"success"}, a.users.DeletePolicy(ctx, p.Name, true)
}

// WhoAmI is who signed a request, as clients of Tigris ask for it.
type WhoAmI struct {
	UserID      string `json:"UserId"`
	NamespaceID string `json:"NamespaceId"` // number of the account
}

// Who returns who a caller is.
func Who(c *auth.Caller) WhoAmI { return WhoAmI{c.Unique, auth.AccountNumber(c.ID)} }
