package pageserver

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
)

// identityRoutes are the routes of users, policies and keys.
var identityRoutes = []adminRoute{
	{"GET", []string{"users"}, []string{"after", "limit"}, false, (*admin).users},
	{"POST", []string{"users"}, nil, false, (*admin).createUser},
	{"GET", []string{"users", "{}"}, nil, false, (*admin).user},
	{"PUT", []string{"users", "{}"}, nil, false, (*admin).updateUser},
	{"DELETE", []string{"users", "{}"}, []string{"force"}, false, (*admin).deleteUser},
	{"POST", []string{"users", "{}", "policy"}, nil, false, (*admin).userPolicy},
	{"GET", []string{"policies"}, nil, false, (*admin).policies},
	{"PUT", []string{"policies", "{}"}, nil, false, (*admin).putPolicy},
	{"DELETE", []string{"policies", "{}"}, []string{"force"}, false, (*admin).deletePolicy},
	{"GET", []string{"keys"}, []string{"user"}, false, (*admin).accessKeys},
	{"POST", []string{"keys"}, nil, false, (*admin).createKey},
	{"PUT", []string{"keys", "{}"}, nil, false, (*admin).updateKey},
	{"POST", []string{"keys", "{}", "rotate"}, nil, false, (*admin).rotateKey},
	{"DELETE", []string{"keys", "{}"}, nil, false, (*admin).deleteKey},
}

// identityErrors say which code an error of users, policies and keys has, and its status.
var identityErrors = []struct {
	err    error
	code   string
	status int
}{
	{identity.ErrNoSuchUser, "NoSuchUser", fasthttp.StatusNotFound},
	{identity.ErrNoSuchKey, "NoSuchAccessKey", fasthttp.StatusNotFound},
	{identity.ErrNoSuchPolicy, "NoSuchPolicy", fasthttp.StatusNotFound},
	{identity.ErrExists, "AlreadyExists", fasthttp.StatusConflict},
	{identity.ErrInUse, "InUse", fasthttp.StatusConflict},
	{identity.ErrInvalid, "InvalidArgument", fasthttp.StatusBadRequest},
	{identity.ErrTooMany, "LimitExceeded", fasthttp.StatusConflict},
}

func init() {
	adminRoutes = append(adminRoutes, identityRoutes...)
	adminCodes["MalformedPolicy"] = fasthttp.StatusBadRequest
	for _, e := range identityErrors {
		adminCodes[e.code] = e.status
		adminErrors = append(adminErrors, struct {
			err  error
			code string
		}{e.err, e.code})
	}
}

// User is a user, as the admin listener answers it.
type User struct {
	Name        string    `json:"name"`
	ID          string    `json:"id"` // canonical
	DisplayName string    `json:"display_name"`
	Email       string    `json:"email,omitempty"`
	ARN         string    `json:"arn"`
	Account     string    `json:"account"` // 12 digits
	Created     time.Time `json:"created"`
	Member      bool      `json:"member,omitempty"`
	Owner       bool      `json:"owner,omitempty"`
	Attached    []string  `json:"attached_policies"`
	// Inline are the inline policies by name.
	Inline map[string]string `json:"inline_policies,omitempty"`
}

func userAnswer(u *identity.User) User {
	a := User{
		Name: u.Name, ID: u.ID, DisplayName: u.DisplayName, Email: u.Email, ARN: u.ARN(), Account: auth.AccountNumber(u.ID),
		Created: u.Created, Member: u.Member, Owner: u.Owner, Attached: append([]string{}, u.Attached...),
	}
	for _, in := range u.Inline {
		if a.Inline == nil {
			a.Inline = make(map[string]string)
		}
		a.Inline[in.Name] = in.Document
	}
	return a
}

// UsersAnswer is a page of users by name; Next continues it, empty on the last one.
type UsersAnswer struct {
	Users []User `json:"users"`
	Next  string `json:"next,omitempty"`
}

// NewUser says which user to make; see identity.NewUser. The access key is made with
// it, a new one if it is empty.
type NewUser struct {
	Name        string   `json:"name"`
	ID          string   `json:"id,omitempty"`
	Account     string   `json:"account,omitempty"`
	DisplayName string   `json:"display_name,omitempty"`
	Email       string   `json:"email,omitempty"`
	Path        string   `json:"path,omitempty"`
	Policies    []string `json:"policies,omitempty"`
	AccessKey   string   `json:"access_key,omitempty"`
	SecretKey   string   `json:"secret_key,omitempty"`
}

// NewUserAnswer is the user that was made, with its key.
type NewUserAnswer struct {
	User
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// UserChange says what to change of a user; what is absent stays.
type UserChange struct {
	DisplayName *string `json:"display_name,omitempty"`
	Email       *string `json:"email,omitempty"`
}

// PolicyChange changes which policies a user has. One of the fields is set.
type PolicyChange struct {
	Attach string `json:"attach,omitempty"` // name or ARN of a managed policy
	Detach string `json:"detach,omitempty"`
	Delete string `json:"delete,omitempty"` // name of an inline policy
	Put    string `json:"put,omitempty"`    // name of an inline policy, with Document
	// Document is the document of Put.
	Document string `json:"document,omitempty"`
}

// Policy is a managed policy. Of one that is put only the document counts.
type Policy struct {
	Name     string `json:"name,omitempty"`
	ARN      string `json:"arn,omitempty"`
	Document string `json:"document"`
	Canned   bool   `json:"canned,omitempty"` // comes with the server
}

// AccessKey is an access key without its secret.
type AccessKey struct {
	ID          string     `json:"access_key"`
	User        string     `json:"user,omitempty"` // empty: the root's
	Created     time.Time  `json:"created"`
	Expires     *time.Time `json:"expires,omitempty"`
	Active      bool       `json:"active"`
	Description string     `json:"description,omitempty"`
	Scope       []KeyScope `json:"scope,omitempty"`
	SecretKey   string     `json:"secret_key,omitempty"` // only when it was just made
}

// KeyScope is one bucket that a key is held to; the key goes when all of them are gone.
type KeyScope struct {
	Bucket string `json:"bucket"`       // its present name; empty when it is deleted; "*" is any
	ID     uint64 `json:"id,omitempty"` // of the bucket; not read
	Role   string `json:"role"`         // editor or readonly
}

// NewAccessKey says which key to make.
type NewAccessKey struct {
	User        string     `json:"user,omitempty"`
	AccessKey   string     `json:"access_key,omitempty"`
	SecretKey   string     `json:"secret_key,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Description string     `json:"description,omitempty"`
	Scope       []KeyScope `json:"scope,omitempty"`
}

// KeyChange says what to change of a key; what is absent stays. An empty scope is none.
type KeyChange struct {
	Active      *bool       `json:"active,omitempty"`
	Expires     *time.Time  `json:"expires,omitempty"` // the year 1: never
	Description *string     `json:"description,omitempty"`
	Scope       *[]KeyScope `json:"scope,omitempty"`
}

// Done is the answer to what has nothing to tell.
type Done struct{}

func (a *admin) directory() *identity.Directory { return a.server.keys.users.Load() }

// users serves GET /v1/users.
func (a *admin) users(_ context.Context, r *adminRequest, _ string) (any, error) {
	limit := 1000
	if s, ok := r.target.Get("limit"); ok {
		var err error
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > 10_000 {
			return nil, invalid("limit must be a number from 1 to 10000")
		}
	}
	after, _ := r.target.Get("after")
	list := a.directory().Users("", "", after, limit+1)
	answer := UsersAnswer{Users: []User{}}
	if len(list) > limit {
		list = list[:limit]
		answer.Next = list[limit-1].Name
	}
	for i := range list {
		answer.Users = append(answer.Users, userAnswer(&list[i]))
	}
	return &answer, nil
}

// createUser serves POST /v1/users. A user without policies owns its account.
func (a *admin) createUser(ctx context.Context, r *adminRequest, _ string) (any, error) {
	var in NewUser
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	u, k, secret, err := a.directory().CreateUserWithKey(ctx, identity.NewUser{
		Name: in.Name, ID: in.ID, Account: in.Account, DisplayName: in.DisplayName, Email: in.Email, Path: in.Path,
		Owner: in.Account == "" && len(in.Policies) == 0, Attach: in.Policies,
	}, identity.NewKey{ID: in.AccessKey, Secret: in.SecretKey})
	if err != nil {
		return nil, err
	}
	return &NewUserAnswer{User: userAnswer(&u), AccessKey: k.ID, SecretKey: secret}, nil
}

// user serves GET /v1/users/{name}.
func (a *admin) user(_ context.Context, _ *adminRequest, name string) (any, error) {
	u, err := a.directory().User(name)
	if err != nil {
		return nil, err
	}
	answer := userAnswer(&u)
	return &answer, nil
}

// updateUser serves PUT /v1/users/{name}.
func (a *admin) updateUser(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in UserChange
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if err := a.directory().UpdateUser(ctx, name, identity.UserChange{DisplayName: in.DisplayName, Email: in.Email}); err != nil {
		return nil, err
	}
	return a.user(ctx, r, name)
}

// forced returns the parameter force.
func (r *adminRequest) forced() (bool, error) {
	s, ok := r.target.Get("force")
	if ok && s != "true" && s != "false" {
		return false, invalid("force must be true or false")
	}
	return s == "true", nil
}

// deleteUser serves DELETE /v1/users/{name}.
func (a *admin) deleteUser(ctx context.Context, r *adminRequest, name string) (any, error) {
	force, err := r.forced()
	if err != nil {
		return nil, err
	}
	return &Done{}, a.directory().DeleteUser(ctx, name, force)
}

// userPolicy serves POST /v1/users/{name}/policy.
func (a *admin) userPolicy(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in PolicyChange
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	d := a.directory()
	var err error
	switch (PolicyChange{Attach: in.Attach, Detach: in.Detach, Delete: in.Delete, Put: in.Put}) {
	case PolicyChange{Attach: in.Attach}:
		err = d.Attach(ctx, name, in.Attach)
	case PolicyChange{Detach: in.Detach}:
		err = d.Detach(ctx, name, in.Detach)
	case PolicyChange{Delete: in.Delete}:
		err = d.DeleteInline(ctx, name, in.Delete)
	case PolicyChange{Put: in.Put}:
		err = d.PutInline(ctx, name, identity.Inline{Name: in.Put, Document: in.Document, Reach: auth.ReachAll})
	default:
		err = invalid("one of attach, detach, put and delete is expected")
	}
	if err != nil {
		return nil, err
	}
	return a.user(ctx, r, name)
}

// policies serves GET /v1/policies.
func (a *admin) policies(context.Context, *adminRequest, string) (any, error) {
	list := []Policy{}
	for _, p := range a.directory().Policies() {
		list = append(list, Policy{Name: p.Name, ARN: p.ARN(), Document: p.Document, Canned: p.Canned})
	}
	return list, nil
}

// putPolicy serves PUT /v1/policies/{name}.
func (a *admin) putPolicy(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in Policy
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	d := a.directory()
	var err error
	if _, absent := d.Policy(name); absent != nil {
		_, err = d.CreatePolicy(ctx, identity.Policy{Name: name, Document: in.Document})
	} else {
		err = d.UpdatePolicy(ctx, name, in.Document, nil)
	}
	if err != nil {
		return nil, err
	}
	p, err := d.Policy(name)
	if err != nil {
		return nil, err
	}
	return &Policy{Name: p.Name, ARN: p.ARN(), Document: p.Document}, nil
}

// deletePolicy serves DELETE /v1/policies/{name}.
func (a *admin) deletePolicy(ctx context.Context, r *adminRequest, name string) (any, error) {
	force, err := r.forced()
	if err != nil {
		return nil, err
	}
	return &Done{}, a.directory().DeletePolicy(ctx, name, force)
}

// The roles of scopes.
const (
	roleEditor   = "editor"
	roleReadOnly = "readonly"
	anyBucket    = "*"
)

// keyAnswer describes a key; names of buckets are those of now.
func (a *admin) keyAnswer(k *identity.Key, names map[uint64]string) AccessKey {
	answer := AccessKey{ID: k.ID, User: k.User, Created: k.Created, Active: !k.Inactive, Description: k.Description}
	if !k.Expires.IsZero() {
		answer.Expires = &k.Expires
	}
	for _, r := range k.Scope {
		s := KeyScope{Bucket: names[r.Bucket], ID: r.Bucket, Role: roleEditor}
		if r.Bucket == 0 {
			s.Bucket = anyBucket
		}
		if r.ReadOnly {
			s.Role = roleReadOnly
		}
		answer.Scope = append(answer.Scope, s)
	}
	return answer
}

// bucketNames returns the names of the buckets that keys are held to.
func (a *admin) bucketNames(keys ...identity.Key) map[uint64]string {
	names := make(map[uint64]string)
	for i := range keys {
		for _, r := range keys[i].Scope {
			names[r.Bucket] = ""
		}
	}
	if len(names) == 0 {
		return nil
	}
	for _, info := range a.server.objects.Buckets("", "", math.MaxInt) {
		if _, wanted := names[uint64(info.Bucket)]; wanted {
			names[uint64(info.Bucket)] = info.Name
		}
	}
	return names
}

// scope returns what the buckets of a request are by their ids.
func (a *admin) scope(list []KeyScope) ([]auth.BucketRole, error) {
	var scope []auth.BucketRole
	for _, s := range list {
		if s.Role != roleEditor && s.Role != roleReadOnly {
			return nil, invalid("a role must be " + roleEditor + " or " + roleReadOnly)
		}
		r := auth.BucketRole{ReadOnly: s.Role == roleReadOnly}
		if s.Bucket != anyBucket {
			info, err := a.server.objects.Bucket(s.Bucket, 0)
			if err != nil {
				return nil, err
			}
			r.Bucket = uint64(info.Bucket)
		}
		scope = append(scope, r)
	}
	return scope, nil
}

// accessKeys serves GET /v1/keys, of all users or of one.
func (a *admin) accessKeys(_ context.Context, r *adminRequest, _ string) (any, error) {
	keys := a.directory().AllKeys()
	if user, ok := r.target.Get("user"); ok {
		var err error
		if keys, err = a.directory().Keys(user); err != nil {
			return nil, err
		}
	}
	names := a.bucketNames(keys...)
	list := []AccessKey{}
	for i := range keys {
		list = append(list, a.keyAnswer(&keys[i], names))
	}
	return list, nil
}

// createKey serves POST /v1/keys.
func (a *admin) createKey(ctx context.Context, r *adminRequest, _ string) (any, error) {
	var in NewAccessKey
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	scope, err := a.scope(in.Scope)
	if err != nil {
		return nil, err
	}
	n := identity.NewKey{User: in.User, ID: in.AccessKey, Secret: in.SecretKey, Description: in.Description, Scope: scope}
	if in.Expires != nil {
		n.Expires = *in.Expires
	}
	k, secret, err := a.directory().CreateKey(ctx, n)
	if err != nil {
		return nil, err
	}
	answer := a.keyAnswer(&k, a.bucketNames(k))
	answer.SecretKey = secret
	return &answer, nil
}

// updateKey serves PUT /v1/keys/{id}.
func (a *admin) updateKey(ctx context.Context, r *adminRequest, id string) (any, error) {
	var in KeyChange
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	c := identity.KeyChange{Expires: in.Expires, Description: in.Description}
	if in.Active != nil {
		inactive := !*in.Active
		c.Inactive = &inactive
	}
	if in.Scope != nil {
		scope, err := a.scope(*in.Scope)
		if err != nil {
			return nil, err
		}
		c.Scope = &scope
	}
	k, err := a.directory().UpdateKey(ctx, id, c)
	if err != nil {
		return nil, err
	}
	answer := a.keyAnswer(&k, a.bucketNames(k))
	return &answer, nil
}

// rotateKey serves POST /v1/keys/{id}/rotate.
func (a *admin) rotateKey(ctx context.Context, r *adminRequest, id string) (any, error) {
	if len(r.body) > 0 {
		return nil, &AdminError{Code: "BadRequest", Message: "no body is expected"}
	}
	secret, err := a.directory().RotateKey(ctx, id)
	if err != nil {
		return nil, err
	}
	k, err := a.directory().FindKey(id)
	if err != nil {
		return nil, err
	}
	answer := a.keyAnswer(&k, a.bucketNames(k))
	answer.SecretKey = secret
	return &answer, nil
}

// deleteKey serves DELETE /v1/keys/{id}.
func (a *admin) deleteKey(ctx context.Context, _ *adminRequest, id string) (any, error) {
	return &Done{}, a.directory().DeleteKey(ctx, id)
}
