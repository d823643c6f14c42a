package iam

import (
	"context"
	"net/http"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// time0 stands for a time that nobody knows.
var time0 = time.Unix(0, 0)

type keyXML struct {
	UserName        string `xml:"UserName"`
	AccessKeyID     string `xml:"AccessKeyId" json:"AccessKeyId"`
	Status          string `xml:"Status"`
	SecretAccessKey string `xml:"SecretAccessKey,omitempty" json:",omitempty"`
	CreateDate      string `xml:"CreateDate"`
}

func describeKey(k *identity.Key, secret string) *keyXML {
	x := &keyXML{k.User, k.ID, "Active", secret, time8601(k.Created)}
	if k.User == "" {
		x.UserName = auth.RootName
	}
	if k.Inactive {
		x.Status = "Inactive"
	}
	return x
}

func (a *API) createKey(ctx context.Context, r *Request) (any, error) {
	u, err := a.keyOwner(r, "CreateAccessKey")
	if err != nil {
		return nil, err
	}
	n := identity.NewKey{Admin: u == nil}
	if u != nil {
		n.User = u.Name
	}
	k, secret, err := a.users.CreateKey(ctx, n)
	if err != nil {
		return nil, err
	}
	return &struct {
		Key *keyXML `xml:"AccessKey" json:"AccessKey"`
	}{describeKey(&k, secret)}, nil
}

// keyOf returns the key that a request names, which must be that of its user. Errors:
// those of keyOwner, NoSuchEntity.
func (a *API) keyOf(r *Request, action string) (*identity.Key, error) {
	id, err := r.need("AccessKeyId")
	if err != nil {
		return nil, err
	}
	u, err := a.keyOwner(r, action)
	if err != nil {
		return nil, err
	}
	k, err := a.users.FindKey(id)
	if err != nil || u == nil && k.User != "" || u != nil && k.User != u.Name {
		return nil, refuse(http.StatusNotFound, "NoSuchEntity", "The Access Key with id %s cannot be found.", clip(id))
	}
	return &k, nil
}

func (a *API) updateKey(ctx context.Context, r *Request) (any, error) {
	var inactive bool
	switch r.Params.Get("Status") {
	case "Active":
	case "Inactive":
		inactive = true
	default:
		return nil, invalid("Status must be Active or Inactive")
	}
	k, err := a.keyOf(r, "UpdateAccessKey")
	if err != nil {
		return nil, err
	}
	_, err = a.users.UpdateKey(ctx, k.ID, identity.KeyChange{Inactive: &inactive})
	return nil, err
}

func (a *API) deleteKey(ctx context.Context, r *Request) (any, error) {
	k, err := a.keyOf(r, "DeleteAccessKey")
	if err != nil {
		return nil, err
	}
	return nil, a.users.DeleteKey(ctx, k.ID)
}

func (a *API) listKeys(_ context.Context, r *Request) (any, error) {
	u, err := a.keyOwner(r, "ListAccessKeys")
	if err != nil {
		return nil, err
	}
	name, shown := "", auth.RootName
	if u != nil {
		name, shown = u.Name, u.Name
	}
	all, err := a.users.Keys(name)
	if err != nil {
		return nil, err
	}
	list, p, err := cut(r, all, func(k *identity.Key) string { return k.ID })
	if err != nil {
		return nil, err
	}
	answer := struct {
		UserName string           `xml:"UserName"`
		Keys     members[*keyXML] `xml:"AccessKeyMetadata" json:"AccessKeyMetadata"`
		page
	}{UserName: shown, page: p}
	for i := range list {
		answer.Keys.List = append(answer.Keys.List, describeKey(&list[i], ""))
	}
	return &answer, nil
}
