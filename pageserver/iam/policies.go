package iam

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// escaped returns a document as the service writes it.
func escaped(document string) string {
	return strings.ReplaceAll(url.QueryEscape(document), "+", "%20")
}

func (a *API) putInline(ctx context.Context, r *Request) (any, error) {
	name, err1 := r.need("PolicyName")
	document, err2 := r.need("PolicyDocument")
	u, s, err3 := a.target(r, "PutUserPolicy")
	if err := first(err1, err2, err3); err != nil {
		return nil, err
	}
	far := auth.ReachAccount
	if s.all {
		far = auth.ReachAll
	}
	return nil, a.users.PutInline(ctx, u.Name, identity.Inline{Name: name, Document: document, Reach: far})
}

func (a *API) getInline(_ context.Context, r *Request) (any, error) {
	name, err := r.need("PolicyName")
	if err != nil {
		return nil, err
	}
	u, _, err := a.target(r, "GetUserPolicy")
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(u.Inline, func(in identity.Inline) bool { return in.Name == name })
	if i < 0 {
		return nil, noSuchPolicy(name)
	}
	return &struct {
		UserName       string `xml:"UserName"`
		PolicyName     string `xml:"PolicyName"`
		PolicyDocument string `xml:"PolicyDocument"`
	}{u.Name, name, escaped(u.Inline[i].Document)}, nil
}

func noSuchPolicy(name string) error {
	return refuse(http.StatusNotFound, "NoSuchEntity", "The policy %s cannot be found.", clip(name))
}

func (a *API) deleteInline(ctx context.Context, r *Request) (any, error) {
	name, err := r.need("PolicyName")
	if err != nil {
		return nil, err
	}
	u, _, err := a.target(r, "DeleteUserPolicy")
	if err != nil {
		return nil, err
	}
	return nil, a.users.DeleteInline(ctx, u.Name, name)
}

func (a *API) listInline(_ context.Context, r *Request) (any, error) {
	u, _, err := a.target(r, "ListUserPolicies")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, in := range u.Inline {
		names = append(names, in.Name)
	}
	if r.JSON { // clients of Tigris know no difference
		names = append(names, u.Attached...)
	}
	slices.Sort(names)
	list, p, err := cut(r, names, func(s *string) string { return *s })
	if err != nil {
		return nil, err
	}
	return &struct {
		Names members[string] `xml:"PolicyNames" json:"PolicyNames"`
		page
	}{members[string]{list}, p}, nil
}

type policyXML struct {
	PolicyName       string `xml:"PolicyName"`
	PolicyID         string `xml:"PolicyId" json:"PolicyId"`
	ARN              string `xml:"Arn" json:"Arn"`
	Path             string `xml:"Path"`
	DefaultVersionID string `xml:"DefaultVersionId"`
	AttachmentCount  int    `xml:"AttachmentCount"`
	IsAttachable     bool   `xml:"IsAttachable"`
	CreateDate       string `xml:"CreateDate"`
	UpdateDate       string `xml:"UpdateDate"`
	Description      string `xml:"Description,omitempty"`
}

// onlyVersion is the id of the version of a policy: there are no older ones.
const onlyVersion = "v1"

func (a *API) describePolicy(p *identity.Policy, attached map[string]int) *policyXML {
	x := &policyXML{PolicyName: p.Name, PolicyID: p.Name, ARN: p.ARN(), Path: "/", DefaultVersionID: onlyVersion, AttachmentCount: attached[p.Name],
		IsAttachable: true, CreateDate: time8601(p.Created), UpdateDate: time8601(p.Updated), Description: p.Description}
	if p.Canned {
		x.CreateDate, x.UpdateDate = time8601(time0), time8601(time0)
	}
	return x
}

// attachments counts the users of each managed policy.
func (a *API) attachments() map[string]int {
	n := map[string]int{}
	for _, u := range a.users.Users("", "", "", 1<<30) {
		for _, name := range u.Attached {
			n[name]++
		}
	}
	return n
}

// policies decides about an action on the managed policies, which are the store's.
func (r *Request) policies(action, resource string) error {
	s, err := r.manage(action, resource)
	if err == nil && !s.all {
		err = denied(r, "iam:"+action, resource)
	}
	return err
}

func (a *API) createPolicy(ctx context.Context, r *Request) (any, error) {
	name, err1 := r.need("PolicyName")
	document, err2 := r.need("PolicyDocument")
	if err := first(err1, err2); err != nil {
		return nil, err
	}
	if path := r.Params.Get("Path"); path != "" && path != "/" {
		return nil, invalid("policies have the path / here")
	}
	if err := r.policies("CreatePolicy", "arn:aws:iam::"+auth.AccountNumber(auth.RootID)+":policy/"+name); err != nil {
		return nil, err
	}
	p, err := a.users.CreatePolicy(ctx, identity.Policy{Name: name, Document: document, Description: r.Params.Get("Description")})
	if err != nil {
		return nil, err
	}
	return &struct {
		Policy *policyXML `xml:"Policy"`
	}{a.describePolicy(&p, nil)}, nil
}

// policyOf returns the managed policy that a request names. Errors: those of
// manage, NoSuchEntity.
func (a *API) policyOf(r *Request, action string) (*identity.Policy, error) {
	arn, err := r.need("PolicyArn")
	if err != nil {
		return nil, err
	}
	if _, err := r.manage(action, arn); err != nil {
		return nil, err
	}
	p, err := a.users.Policy(arn)
	if err != nil || !strings.HasPrefix(arn, "arn:") {
		return nil, noSuchPolicy(arn)
	}
	return &p, nil
}

func (a *API) getPolicy(_ context.Context, r *Request) (any, error) {
	p, err := a.policyOf(r, "GetPolicy")
	if err != nil {
		return nil, err
	}
	return &struct {
		Policy *policyXML `xml:"Policy"`
	}{a.describePolicy(p, a.attachments())}, nil
}

func (a *API) getPolicyVersion(_ context.Context, r *Request) (any, error) {
	p, err := a.policyOf(r, "GetPolicyVersion")
	if err != nil {
		return nil, err
	}
	if id := r.Params.Get("VersionId"); id != onlyVersion {
		return nil, refuse(http.StatusNotFound, "NoSuchEntity", "Policy %s version %s does not exist or is not attachable.", p.ARN(), clip(id))
	}
	type version struct {
		Document         string `xml:"Document"`
		VersionID        string `xml:"VersionId" json:"VersionId"`
		IsDefaultVersion bool   `xml:"IsDefaultVersion"`
		CreateDate       string `xml:"CreateDate"`
	}
	x := a.describePolicy(p, nil)
	return &struct {
		Version version `xml:"PolicyVersion" json:"PolicyVersion"`
	}{version{escaped(p.Document), onlyVersion, true, x.UpdateDate}}, nil
}

func (a *API) listPolicies(_ context.Context, r *Request) (any, error) {
	if _, err := r.manage("ListPolicies", "*"); err != nil {
		return nil, err
	}
	scope, only := r.Params.Get("Scope"), r.Params.Get("OnlyAttached") == "true"
	if scope != "" && scope != "All" && scope != "AWS" && scope != "Local" {
		return nil, invalid("Scope must be All, AWS or Local")
	}
	attached := a.attachments()
	all := slices.DeleteFunc(a.users.Policies(), func(p identity.Policy) bool {
		return scope == "AWS" && !p.Canned || scope == "Local" && p.Canned || only && attached[p.Name] == 0 || !strings.HasPrefix("/", r.Params.Get("PathPrefix"))
	})
	list, pg, err := cut(r, all, func(p *identity.Policy) string { return p.Name })
	if err != nil {
		return nil, err
	}
	answer := struct {
		Policies members[*policyXML] `xml:"Policies"`
		page
	}{page: pg}
	for i := range list {
		answer.Policies.List = append(answer.Policies.List, a.describePolicy(&list[i], attached))
	}
	return &answer, nil
}

func (a *API) deletePolicy(ctx context.Context, r *Request) (any, error) {
	p, err := a.policyOf(r, "DeletePolicy")
	if err != nil {
		return nil, err
	}
	if err := r.policies("DeletePolicy", p.ARN()); err != nil {
		return nil, err
	}
	return nil, a.users.DeletePolicy(ctx, p.Name, false)
}

func (a *API) attach(ctx context.Context, r *Request) (any, error) {
	arn, err := r.need("PolicyArn")
	if err != nil {
		return nil, err
	}
	u, _, err := a.target(r, "AttachUserPolicy")
	if err != nil {
		return nil, err
	}
	return nil, a.users.Attach(ctx, u.Name, arn)
}

func (a *API) detach(ctx context.Context, r *Request) (any, error) {
	arn, err := r.need("PolicyArn")
	if err != nil {
		return nil, err
	}
	u, _, err := a.target(r, "DetachUserPolicy")
	if err != nil {
		return nil, err
	}
	return nil, a.users.Detach(ctx, u.Name, arn)
}

func (a *API) listAttached(_ context.Context, r *Request) (any, error) {
	u, _, err := a.target(r, "ListAttachedUserPolicies")
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(slices.Values(u.Attached))
	list, pg, err := cut(r, names, func(s *string) string { return *s })
	if err != nil {
		return nil, err
	}
	type attached struct {
		PolicyName string `xml:"PolicyName"`
		PolicyARN  string `xml:"PolicyArn" json:"PolicyArn"`
	}
	answer := struct {
		Attached members[attached] `xml:"AttachedPolicies" json:"AttachedPolicies"`
		page
	}{page: pg}
	for _, name := range list {
		p, err := a.users.Policy(name)
		if err != nil {
			return nil, fmt.Errorf("iam: policy of user %q: %w", u.Name, err)
		}
		answer.Attached.List = append(answer.Attached.List, attached{p.Name, p.ARN()})
	}
	return &answer, nil
}
