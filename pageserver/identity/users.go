package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"stemma/pageserver/auth"
	"stemma/timeline"
)

// NewUser says which user to make. Empty fields take the defaults named.
type NewUser struct {
	Name string
	// ID is the canonical id. Default: a new one.
	ID string
	// Account makes the user a member of the account with this canonical id; ID must be empty.
	Account     string
	DisplayName string // default: the name
	Email       string // default: none
	Path        string // default: /
	// Owner makes a top-level user the owner of its account.
	Owner bool
	// Attach are names of managed policies.
	Attach []string
}

// CreateUser makes a user. Errors: ErrInvalid, ErrExists, ErrNoSuchPolicy,
// ErrNoSuchUser of an unknown account, and those of a commit.
func (d *Directory) CreateUser(ctx context.Context, n NewUser) (User, error) {
	u, _, _, err := d.createUser(ctx, n, nil)
	return u, err
}

// CreateUserWithKey makes a user and an access key of it in one commit; k.User counts
// for nothing. Errors: those of CreateUser and CreateKey; then nothing is made.
func (d *Directory) CreateUserWithKey(ctx context.Context, n NewUser, k NewKey) (User, Key, string, error) {
	return d.createUser(ctx, n, &k)
}

func (d *Directory) createUser(ctx context.Context, n NewUser, k *NewKey) (_ User, key Key, secret string, err error) {
	u := User{
		Name: n.Name, Unique: unique("AIDA"), ID: n.ID, DisplayName: n.DisplayName, Email: n.Email, Path: n.Path,
		Created: d.o.Now().UTC(), Owner: n.Owner, Attached: dedupe(n.Attach),
	}
	if n.Account != "" {
		if n.ID != "" || n.Owner {
			return User{}, key, "", invalid("a member of an account has its id and does not own it")
		}
		u.ID, u.Member = n.Account, true
	}
	u.setDefaults()
	if err := u.check(); err != nil {
		return User{}, key, "", err
	}
	if k != nil {
		k.User = u.Name
		if key, secret, err = d.prepareKey(k); err != nil {
			return User{}, key, "", err
		}
		key.User = u.Name
	}
	err = d.change(ctx, func(b *timeline.Batch) (func(), error) {
		for i, name := range u.Attached {
			p, err := d.policy(name)
			if err != nil {
				return nil, err
			}
			u.Attached[i] = p.Name
		}
		u.Attached = dedupe(u.Attached)
		if err := d.checkFree(&u); err != nil {
			return nil, err
		}
		putRecord(b, "user/"+u.Name, &u)
		setKey := func() {}
		if k != nil {
			if err := d.checkFreeKey(key.ID); err != nil {
				return nil, err
			}
			setKey = d.putKey(b, key, secret)
		}
		return func() {
			d.mustSet(&user{User: u, keys: make(map[string]*userKey)})
			setKey()
		}, nil
	})
	if err != nil {
		return User{}, Key{}, "", fmt.Errorf("create user %q: %w", n.Name, err)
	}
	return u, key, secret, nil
}

// setDefaults fills in what was not said of a new user.
func (u *User) setDefaults() {
	if u.ID == "" {
		u.ID = newCanonicalID()
	}
	if u.DisplayName == "" {
		u.DisplayName = u.Name
	}
	if u.Path == "" {
		u.Path = "/"
	}
}

// mustSet is setUser of a user whose policies were checked.
func (d *Directory) mustSet(u *user) {
	if err := d.setUser(u); err != nil {
		panic("BUG: " + err.Error())
	}
}

func (u *User) check() error {
	if err := checkName(u.Name); err != nil {
		return err
	}
	if err := checkChars("the id", u.ID, "_+=.@$-", maxIDBytes); err != nil {
		return err
	}
	if err := checkText("the display name", u.DisplayName); err != nil {
		return err
	}
	if u.Email != "" {
		if err := checkEmail(u.Email); err != nil {
			return err
		}
	}
	if len(u.Attached) > MaxUserPolicies {
		return fmt.Errorf("%d policies, at most %d: %w", len(u.Attached), MaxUserPolicies, ErrTooMany)
	}
	return checkPath(u.Path)
}

// checkFree refuses a new user whose name, id or email is taken. The caller holds d.mu.
func (d *Directory) checkFree(u *User) error {
	switch {
	case d.nameTaken(u.Name):
		return fmt.Errorf("user %q: %w", u.Name, ErrExists)
	case u.Member && u.ID != auth.RootID && d.mu.accounts[u.ID] == nil:
		return fmt.Errorf("account %q: %w", u.ID, ErrNoSuchUser)
	case !u.Member && (d.mu.accounts[u.ID] != nil || u.ID == auth.RootID || d.mu.users[u.ID] != nil):
		return fmt.Errorf("id %q: %w", u.ID, ErrExists)
	case u.Email != "" && d.mu.emails[strings.ToLower(u.Email)] != nil:
		return fmt.Errorf("email %q: %w", u.Email, ErrExists)
	}
	return nil
}

// nameTaken reports whether a name is that of a user, or the canonical id of one: users are found by either.
func (d *Directory) nameTaken(name string) bool {
	return d.mu.users[name] != nil || d.mu.accounts[name] != nil || name == auth.RootID
}

func dedupe(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// find returns the user with a name, or the top-level one with a canonical id. The
// caller holds d.mu.
func (d *Directory) find(nameOrID string) (*user, error) {
	if u := d.mu.users[nameOrID]; u != nil {
		return u, nil
	}
	if u := d.mu.accounts[nameOrID]; u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("user %q: %w", nameOrID, ErrNoSuchUser)
}

// User returns the user with a name or a canonical id. Errors: ErrNoSuchUser.
func (d *Directory) User(nameOrID string) (User, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u, err := d.find(nameOrID)
	if err != nil {
		return User{}, err
	}
	return u.User, nil
}

// Users returns the users whose path has a prefix, by name: at most limit of those
// above after. account, if not empty, is the canonical id whose members, and owner, are wanted.
func (d *Directory) Users(account, pathPrefix, after string, limit int) []User {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var names []string
	for name, u := range d.mu.users {
		if name > after && strings.HasPrefix(u.Path, pathPrefix) && (account == "" || u.ID == account) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	list := make([]User, 0, min(len(names), limit))
	for _, name := range names[:min(len(names), limit)] {
		list = append(list, d.mu.users[name].User)
	}
	return list
}

// DeleteUser removes a user. Unless it is forced, one with keys or policies stays; an
// account with members stays in any case. What it owned it owns still: an id means the
// same account when a user is made with it again. Errors: ErrNoSuchUser, ErrInUse, and
// those of a commit.
func (d *Directory) DeleteUser(ctx context.Context, nameOrID string, force bool) error {
	return d.change(ctx, func(b *timeline.Batch) (func(), error) {
		u, err := d.find(nameOrID)
		if err != nil {
			return nil, err
		}
		if !force && len(u.keys)+len(u.Inline)+len(u.Attached) > 0 {
			return nil, fmt.Errorf("user %q has keys or policies: %w", u.Name, ErrInUse)
		}
		for _, other := range d.mu.users {
			if !u.Member && other.Member && other.ID == u.ID {
				return nil, fmt.Errorf("account of user %q has members: %w", u.Name, ErrInUse)
			}
		}
		deleteRecord(b, "user/"+u.Name)
		for id := range u.keys {
			deleteRecord(b, "key/"+id)
		}
		return func() {
			for _, k := range u.keys {
				d.dropKey(k)
			}
			d.dropUser(u)
		}, nil
	})
}

// updateUser replaces a user by what change makes of a copy.
func (d *Directory) updateUser(ctx context.Context, nameOrID string, change func(*User) error) error {
	return d.change(ctx, func(b *timeline.Batch) (func(), error) {
		old, err := d.find(nameOrID)
		if err != nil {
			return nil, err
		}
		u := &user{User: old.User, keys: old.keys}
		u.Inline, u.Attached = slices.Clone(old.Inline), slices.Clone(old.Attached)
		if err := change(&u.User); err != nil {
			return nil, fmt.Errorf("user %q: %w", old.Name, err)
		}
		putRecord(b, "user/"+u.Name, &u.User)
		return func() {
			d.mustSet(u)
			for _, other := range d.mu.users { // members have the account's display name
				if !u.Member && other.Member && other.ID == u.ID {
					d.mustSet(other)
				}
			}
		}, nil
	})
}

// UserChange says what UpdateUser changes; nil leaves a thing as it is.
type UserChange struct {
	DisplayName, Email *string // an empty email is none
	Path               *string
	Owner              *bool
}

// UpdateUser changes a user. Errors: ErrNoSuchUser, ErrInvalid, ErrExists, and those of
// a commit.
func (d *Directory) UpdateUser(ctx context.Context, nameOrID string, c UserChange) error {
	return d.updateUser(ctx, nameOrID, func(u *User) error {
		if c.DisplayName != nil {
			u.DisplayName = *c.DisplayName
		}
		if c.Path != nil {
			u.Path = *c.Path
		}
		if c.Owner != nil {
			if u.Member && *c.Owner {
				return invalid("a member of an account does not own it")
			}
			u.Owner = *c.Owner
		}
		if c.Email != nil {
			if other := d.mu.emails[strings.ToLower(*c.Email)]; other != nil && other.Name != u.Name {
				return fmt.Errorf("email %q: %w", *c.Email, ErrExists)
			}
			u.Email = *c.Email
		}
		return u.check()
	})
}
