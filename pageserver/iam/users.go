package iam

import (
	"context"
	"slices"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

func init() {
	add := func(name string, run func(*API, context.Context, *Request) (any, error), params ...string) {
		actions[name] = action{namespace: iamNamespace, params: params, run: run}
	}
	add("CreateUser", (*API).createUser, "UserName", "Path")
	add("GetUser", (*API).getUser, "UserName")
	add("UpdateUser", (*API).updateUser, "UserName", "NewUserName", "NewPath")
	add("DeleteUser", (*API).deleteUser, "UserName")
	add("ListUsers", (*API).listUsers, "PathPrefix", "Marker", "MaxItems")

	add("CreateAccessKey", (*API).createKey, "UserName")
	add("UpdateAccessKey", (*API).updateKey, "UserName", "AccessKeyId", "Status")
	add("DeleteAccessKey", (*API).deleteKey, "UserName", "AccessKeyId")
	add("ListAccessKeys", (*API).listKeys, "UserName", "Marker", "MaxItems")

	add("PutUserPolicy", (*API).putInline, "UserName", "PolicyName", "PolicyDocument")
	add("GetUserPolicy", (*API).getInline, "UserName", "PolicyName")
	add("DeleteUserPolicy", (*API).deleteInline, "UserName", "PolicyName")
	add("ListUserPolicies", (*API).listInline, "UserName", "Marker", "MaxItems")

	add("CreatePolicy", (*API).createPolicy, "PolicyName", "PolicyDocument", "Path", "Description", requestUUID)
	add("GetPolicy", (*API).getPolicy, "PolicyArn")
	add("GetPolicyVersion", (*API).getPolicyVersion, "PolicyArn", "VersionId")
	add("ListPolicies", (*API).listPolicies, "Scope", "OnlyAttached", "PathPrefix", "PolicyUsageFilter", "Marker", "MaxItems")
	add("DeletePolicy", (*API).deletePolicy, "PolicyArn")
	add("AttachUserPolicy", (*API).attach, "UserName", "PolicyArn")
	add("DetachUserPolicy", (*API).detach, "UserName", "PolicyArn")
	add("ListAttachedUserPolicies", (*API).listAttached, "UserName", "PathPrefix", "Marker", "MaxItems")
}

type userXML struct {
	Path       string `xml:"Path"`
	UserName   string `xml:"UserName"`
	UserID     string `xml:"UserId" json:"UserId"`
	ARN        string `xml:"Arn" json:"Arn"`
	CreateDate string `xml:"CreateDate"`
}

func describe(u *identity.User) *userXML {
	return &userXML{u.Path, u.Name, u.Unique, u.ARN(), time8601(u.Created)}
}

type oneUserXML struct {
	User *userXML `xml:"User"`
}

// createUser makes a member of the caller's account.
func (a *API) createUser(ctx context.Context, r *Request) (any, error) {
	name, err := r.need("UserName")
	if err != nil {
		return nil, err
	}
	s, err := r.manage("CreateUser", r.userARN(name))
	if err != nil {
		return nil, err
	}
	u, err := a.users.CreateUser(ctx, identity.NewUser{Name: name, Account: s.account, Path: r.Params.Get("Path")})
	if err != nil {
		return nil, err
	}
	return &oneUserXML{describe(&u)}, nil
}

// getUser describes a user, without a name the caller.
func (a *API) getUser(_ context.Context, r *Request) (any, error) {
	name := r.Params.Get("UserName")
	c := r.Caller
	if name != "" && name != c.Name {
		u, _, err := a.target(r, "GetUser")
		if err != nil {
			return nil, err
		}
		return &oneUserXML{describe(u)}, nil
	}
	if _, err := r.manage("GetUser", c.ARN); err != nil {
		return nil, err
	}
	if c.Root {
		return &oneUserXML{&userXML{"/", auth.RootName, c.Unique, c.ARN, time8601(time0)}}, nil
	}
	u, err := a.users.User(c.Name)
	if err != nil {
		return nil, err
	}
	answer := describe(&u)
	if u.Owner {
		answer.ARN = "arn:aws:iam::" + auth.AccountNumber(u.ID) + ":root" // who owns an account is its root
	}
	return &oneUserXML{answer}, nil
}

func (a *API) updateUser(ctx context.Context, r *Request) (any, error) {
	u, _, err := a.target(r, "UpdateUser")
	if err != nil {
		return nil, err
	}
	if path := r.Params.Get("NewPath"); path != "" {
		if err := a.users.UpdateUser(ctx, u.Name, identity.UserChange{Path: &path}); err != nil {
			return nil, err
		}
	}
	if name := r.Params.Get("NewUserName"); name != "" {
		return nil, a.users.RenameUser(ctx, u.Name, name)
	}
	return nil, nil
}

func (a *API) deleteUser(ctx context.Context, r *Request) (any, error) {
	u, _, err := a.target(r, "DeleteUser")
	if err != nil {
		return nil, err
	}
	return nil, a.users.DeleteUser(ctx, u.Name, false)
}

func (a *API) listUsers(_ context.Context, r *Request) (any, error) {
	s, err := r.manage("ListUsers", r.userARN("*"))
	if err != nil {
		return nil, err
	}
	account := s.account
	if s.all {
		account = ""
	}
	all := a.users.Users(account, r.Params.Get("PathPrefix"), "", 1<<30)
	all = slices.DeleteFunc(all, func(u identity.User) bool { return !s.holds(&u) })
	slices.SortFunc(all, func(x, y identity.User) int { return strings.Compare(userOrder(&x), userOrder(&y)) })
	list, p, err := cut(r, all, userOrder)
	if err != nil {
		return nil, err
	}
	answer := struct {
		Users members[*userXML] `xml:"Users"`
		page
	}{page: p}
	for i := range list {
		answer.Users.List = append(answer.Users.List, describe(&list[i]))
	}
	return &answer, nil
}
