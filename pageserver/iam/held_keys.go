package iam

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// Clients of Tigris make keys that are held to buckets, by actions of their own whose
// answers are JSON.
func init() {
	add := func(name string, run func(*API, context.Context, *Request) (any, error), params ...string) {
		actions[name] = action{params: params, run: run, json: true}
	}
	add("CreateAccessKeyWithBucketsRole", (*API).createHeldKey, "Req")
	add("UpdateAccessKeyWithBucketsRole", (*API).updateHeldKey, "Req")
	add("RotateAccessKey", (*API).rotateKey, "AccessKeyId")
	add(detailedKeys, (*API).listDetailed, "Detailed", "KeyId", "MaxItems", "Marker")
	add(jsonDelete, (*API).deleteHeldKey, "AccessKeyId", "UserName")
}

// Actions that go by the same name as those of AWS.
const (
	detailedKeys = "ListAccessKeys?Detailed"
	jsonDelete   = "DeleteAccessKey?json"
)

// Buckets knows the buckets of the store.
type Buckets interface {
	// ID returns the id of a bucket, and whether there is one of the name.
	ID(name string) (id uint64, ok bool)
	// Name returns the name that a bucket has now; empty if it is gone.
	Name(id uint64) string
}

type roleJSON struct {
	Bucket string `json:"bucket"`
	Role   string `json:"role"`
}

// The roles of a key in a bucket, as Tigris has them.
const (
	roleEditor   = "Editor"
	roleReadOnly = "ReadOnly"
	roleAdmin    = "NamespaceAdmin"
	anyBucket    = "*"
)

// heldRequest is the parameter Req.
type heldRequest struct {
	UUID  string     `json:"req_uuid"`
	ID    string     `json:"id"`
	Name  string     `json:"name"`
	Roles []roleJSON `json:"buckets_role"`
}

func (r *Request) held() (*heldRequest, error) {
	text, err := r.need("Req")
	if err != nil {
		return nil, err
	}
	in := &heldRequest{}
	if json.Unmarshal([]byte(text), in) != nil {
		return nil, invalid("Req must be JSON")
	}
	return in, nil
}

// noBucket is the id of none: a key that is held to it can do nothing until it is held to others.
const noBucket = math.MaxUint64

// scope returns what the roles hold a key to, an empty list to nothing. Nil, for an admin, is nothing. Error: ValidationError.
func (in *heldRequest) scope(r *Request) ([]auth.BucketRole, error) {
	if in.Roles != nil && len(in.Roles) == 0 {
		return []auth.BucketRole{{Bucket: noBucket, ReadOnly: true}}, nil
	}
	var scope []auth.BucketRole
	for _, role := range in.Roles {
		switch {
		case role.Bucket == anyBucket && role.Role == roleAdmin && len(in.Roles) == 1:
			return nil, nil
		case role.Role != roleEditor && role.Role != roleReadOnly:
			return nil, invalid("a role must be %s or %s, or %s of the bucket %s", roleEditor, roleReadOnly, roleAdmin, anyBucket)
		}
		b := auth.BucketRole{ReadOnly: role.Role == roleReadOnly}
		if role.Bucket != anyBucket {
			var ok bool
			if b.Bucket, ok = r.Buckets.ID(role.Bucket); !ok {
				return nil, refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist: %s", clip(role.Bucket))
			}
		}
		scope = append(scope, b)
	}
	if scope == nil {
		return nil, invalid("buckets_role must name a bucket") // a key that is held to nothing would be free
	}
	return scope, nil
}

// createHeldKey makes a key of the caller that is held to buckets.
func (a *API) createHeldKey(ctx context.Context, r *Request) (any, error) {
	in, err := r.held()
	if err != nil {
		return nil, err
	}
	if _, err := r.manage("CreateAccessKey", r.Caller.ARN); err != nil {
		return nil, err
	}
	n := identity.NewKey{Description: in.Name, User: r.Caller.Name}
	if n.Scope, err = in.scope(r); err != nil {
		return nil, err
	}
	if r.Caller.Root {
		n.User, n.Admin = "", n.Scope == nil
	}
	k, secret, err := a.users.CreateKey(ctx, n)
	if err != nil {
		return nil, err
	}
	type key struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		UserName        string
		Status          string
		CreateDate      string
	}
	type result struct{ AccessKey key }
	return &struct {
		Result result `json:"CreateAccessKeyResult"`
	}{result{key{k.ID, secret, in.Name, "Active", k.Created.Format(time.RFC3339)}}}, nil
}

// ownKey returns a key of the caller. Errors: those of manage, NoSuchEntity.
func (a *API) ownKey(r *Request, action, id string) (*identity.Key, error) {
	if _, err := r.manage(action, r.Caller.ARN); err != nil {
		return nil, err
	}
	owner := r.Caller.Name
	if r.Caller.Root {
		owner = ""
	}
	k, err := a.users.FindKey(id)
	if err != nil || k.User != owner {
		return nil, refuse(http.StatusNotFound, "NoSuchEntity", "The Access Key with id %s cannot be found.", clip(id))
	}
	return &k, nil
}

// doneJSON is the answer to what has nothing to tell.
type doneJSON struct {
	Status string `json:"status"`
}

// updateHeldKey holds a key to other buckets. Without any it is revoked, and works again
// when it is held to some.
func (a *API) updateHeldKey(ctx context.Context, r *Request) (any, error) {
	in, err := r.held()
	if err != nil {
		return nil, err
	}
	k, err := a.ownKey(r, "UpdateAccessKey", in.ID)
	if err != nil {
		return nil, err
	}
	inactive := len(in.Roles) == 0
	change := identity.KeyChange{Inactive: &inactive}
	if !inactive {
		scope, err := in.scope(r)
		if err != nil {
			return nil, err
		}
		change.Scope = &scope
	}
	if _, err := a.users.UpdateKey(ctx, k.ID, change); err != nil {
		return nil, err
	}
	return &doneJSON{"success"}, nil
}

func (a *API) rotateKey(ctx context.Context, r *Request) (any, error) {
	k, err := a.ownKey(r, "UpdateAccessKey", r.Params.Get("AccessKeyId"))
	if err != nil {
		return nil, err
	}
	secret, err := a.users.RotateKey(ctx, k.ID)
	if err != nil {
		return nil, err
	}
	type rotated struct {
		ID        string `json:"id"`
		NewSecret string `json:"new_secret"`
	}
	return &struct {
		doneJSON
		Result rotated `json:"rotate_access_key_result"`
	}{doneJSON{"success"}, rotated{k.ID, secret}}, nil
}

// deleteHeldKey is DeleteAccessKey of clients for which UserName is what the key is called.
func (a *API) deleteHeldKey(ctx context.Context, r *Request) (any, error) {
	k, err := a.ownKey(r, "DeleteAccessKey", r.Params.Get("AccessKeyId"))
	if err != nil {
		return nil, err
	}
	if err := a.users.DeleteKey(ctx, k.ID); err != nil {
		return nil, err
	}
	return &doneJSON{"success"}, nil
}

type detailedKeyJSON struct {
	AccessKeyID string     `json:"access_key_id"`
	UserName    string     `json:"username"`
	Status      string     `json:"status"`
	CreatedAt   string     `json:"created_at"`
	NamespaceID string     `json:"namespace_id"`
	BucketsRole []roleJSON `json:"buckets_role"`
}

// listDetailed lists the keys of the caller with what they are held to.
func (a *API) listDetailed(_ context.Context, r *Request) (any, error) {
	if _, err := r.manage("ListAccessKeys", r.Caller.ARN); err != nil {
		return nil, err
	}
	owner := r.Caller.Name
	if r.Caller.Root {
		owner = ""
	}
	all, err := a.users.Keys(owner)
	if err != nil {
		return nil, err
	}
	if id := r.Params.Get("KeyId"); id != "" {
		all = slices.DeleteFunc(all, func(k identity.Key) bool { return k.ID != id })
	}
	list, p, err := cut(r, all, func(k *identity.Key) string { return k.ID })
	if err != nil {
		return nil, err
	}
	keys := make([]detailedKeyJSON, len(list))
	for i := range list {
		keys[i] = r.detailed(&list[i])
	}
	return &struct {
		Keys        []detailedKeyJSON
		Marker      string
		IsTruncated bool
	}{keys, p.Marker, p.IsTruncated}, nil
}

func (r *Request) detailed(k *identity.Key) detailedKeyJSON {
	x := detailedKeyJSON{k.ID, k.Description, "active", k.Created.Format(time.RFC3339), auth.AccountNumber(r.Caller.ID), []roleJSON{}}
	if k.Inactive {
		x.Status = "inactive"
	}
	if k.Scope == nil {
		x.BucketsRole = append(x.BucketsRole, roleJSON{anyBucket, roleAdmin})
	}
	for _, s := range k.Scope {
		role := roleJSON{anyBucket, roleEditor}
		if s.ReadOnly {
			role.Role = roleReadOnly
		}
		if s.Bucket != 0 {
			role.Bucket = r.Buckets.Name(s.Bucket)
		}
		if role.Bucket != "" {
			x.BucketsRole = append(x.BucketsRole, role)
		}
	}
	return x
}

// actionName returns which action a request asks for: some are another for clients of Tigris.
func (r *Request) actionName() string {
	name := r.Params.Get("Action")
	switch {
	case name == "ListAccessKeys" && r.Params.Has("Detailed"):
		return detailedKeys
	case name == "DeleteAccessKey" && r.JSON:
		return jsonDelete
	case strings.Contains(name, "?"):
		return "" // no client means that
	}
	return name
}
