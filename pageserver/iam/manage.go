package iam

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
	"stemma/pageserver/policy"
)

// reach is what a caller may manage.
type reach struct {
	all     bool   // every user, and the managed policies
	account string // canonical id: the members of the account, and what the caller makes
}

// holds reports whether a user may be given rights within the reach. Whoever manages an
// account only does not manage who owns it: policies of such a user reach further.
func (s *reach) holds(u *identity.User) bool {
	return s.all || u.Member && u.ID == s.account && u.ID != auth.RootID
}

// manage decides about an action of IAM on a resource. Keys that are held to buckets, and
// sessions, manage nobody: what they begin would outlast them, or go beyond.
func (r *Request) manage(action, resource string) (*reach, error) {
	c := r.Caller
	action = "iam:" + action
	if c.Scope != nil || c.Session != "" {
		return nil, denied(r, action, resource)
	}
	if c.Root {
		return &reach{all: true, account: c.ID}, nil
	}
	d, far := r.decision(action, resource)
	switch {
	case d == policy.Deny:
	case d == policy.Allow && far == auth.ReachAll:
		return &reach{all: true, account: c.ID}, nil
	case d == policy.Allow || c.Owner:
		return &reach{account: c.ID}, nil
	}
	return nil, denied(r, action, resource)
}

// userARN is the ARN of a user of the caller's account that is not known.
func (r *Request) userARN(name string) string {
	return "arn:aws:iam::" + auth.AccountNumber(r.Caller.ID) + ":user/" + name
}

// target returns the user that UserName names, in the reach of the action. Errors:
// AccessDenied, NoSuchEntity.
func (a *API) target(r *Request, action string) (*identity.User, *reach, error) {
	name := r.Params.Get("UserName")
	if name == "" {
		return nil, nil, invalid("UserName must be given")
	}
	u, err := a.users.User(name)
	resource := r.userARN(name)
	if err == nil {
		resource = u.ARN()
	}
	s, denial := r.manage(action, resource)
	if denial != nil {
		return nil, nil, denial
	}
	if err == nil && !s.holds(&u) {
		err = noSuchUser(name)
	}
	return &u, s, err
}

func noSuchUser(name string) error {
	return refuse(http.StatusNotFound, "NoSuchEntity", "The user with name %s cannot be found.", clip(name))
}

// isSelf reports whether a user is the caller itself.
func (r *Request) isSelf(u *identity.User) bool {
	return !r.Caller.Root && u.Unique == r.Caller.Unique
}

// keyOwner returns the user whose keys an action is about: that of UserName, or the
// caller. Nil is the root. Errors: those of target.
func (a *API) keyOwner(r *Request, action string) (*identity.User, error) {
	name := r.Params.Get("UserName")
	if name == "" {
		if r.Caller.Root {
			_, err := r.manage(action, r.Caller.ARN)
			return nil, err
		}
		name = r.Caller.Name
	}
	u, err := a.users.User(name)
	if err == nil && r.isSelf(&u) {
		_, err := r.manage(action, u.ARN())
		return &u, err
	}
	r.Params.Set("UserName", name)
	found, _, err := a.target(r, action)
	return found, err
}

// page is a page of a list.
type page struct {
	IsTruncated bool   `xml:"IsTruncated"`
	Marker      string `xml:"Marker,omitempty" json:",omitempty"`
}

// members is a list, which is there when it is empty, too.
type members[T any] struct {
	List []T `xml:"member"`
}

// MarshalJSON implements json.Marshaler: a list is an array there.
func (m members[T]) MarshalJSON() ([]byte, error) {
	if m.List == nil {
		return []byte("[]"), nil
	}
	return json.Marshal(m.List)
}

// cut returns the items of the page that a request asks for, of all in their order; key is what
// an item is found by, in that order. Error: ValidationError.
func cut[T any](r *Request, all []T, key func(*T) string) ([]T, page, error) {
	most := 100
	if text := r.Params.Get("MaxItems"); text != "" {
		var err error
		if most, err = strconv.Atoi(text); err != nil || most < 1 || most > 1000 {
			return nil, page{}, invalid("MaxItems must be a number from 1 to 1000")
		}
	}
	if marker := r.Params.Get("Marker"); marker != "" {
		i := slices.IndexFunc(all, func(t T) bool { return key(&t) > marker })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	if len(all) <= most {
		return all, page{}, nil
	}
	return all[:most], page{true, key(&all[most-1])}, nil
}

// userOrder is what users are sorted by: case does not count, but for names that are the same otherwise.
func userOrder(u *identity.User) string { return strings.ToLower(u.Name) + " " + u.Name }

// need returns a parameter that must be there.
func (r *Request) need(name string) (string, error) {
	if v := r.Params.Get(name); v != "" {
		return v, nil
	}
	return "", invalid("%s must be given", name)
}

// first returns the first error that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
