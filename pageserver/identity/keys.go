package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"stemma/pageserver/auth"
	"stemma/timeline"
)

// NewKey says which access key to make. Empty fields take the defaults named.
type NewKey struct {
	// User is a name or a canonical id. Empty: the root, whose keys need a scope unless Admin is set.
	User  string
	Admin bool
	// ID and Secret come together. Default: new ones.
	ID, Secret  string
	Expires     time.Time // default: never
	Description string
	Scope       []auth.BucketRole // default: none, which holds the key to nothing
}

// CreateKey makes an access key and returns it with its secret, which nobody gets to
// see again. Errors: ErrInvalid, ErrExists, ErrNoSuchUser, ErrTooMany, and those of a
// commit.
func (d *Directory) CreateKey(ctx context.Context, n NewKey) (Key, string, error) {
	key, secret, err := d.prepareKey(&n)
	if err != nil {
		return Key{}, "", err
	}
	err = d.change(ctx, func(b *timeline.Batch) (func(), error) {
		if n.User != "" {
			u, err := d.find(n.User)
			if err != nil {
				return nil, err
			}
			if len(u.keys) >= MaxUserKeys {
				return nil, fmt.Errorf("user %q has %d keys: %w", u.Name, len(u.keys), ErrTooMany)
			}
			key.User = u.Name
		}
		if err := d.checkFreeKey(key.ID); err != nil {
			return nil, err
		}
		return d.putKey(b, key, secret), nil
	})
	if err != nil {
		return Key{}, "", err
	}
	return key, secret, nil
}

// prepareKey checks what is wanted of a key, and fills in what is not said. Errors: ErrInvalid.
func (d *Directory) prepareKey(n *NewKey) (Key, string, error) {
	k := auth.Key{ID: n.ID, Secret: n.Secret}
	if (k.ID == "") != (k.Secret == "") {
		return Key{}, "", invalid("an access key and its secret come together")
	}
	if k.ID == "" {
		k = auth.Key{ID: unique("STEM"), Secret: newSecret()}
	}
	if err := k.Validate(); err != nil {
		return Key{}, "", invalid("%s", strings.TrimPrefix(err.Error(), "auth: "))
	}
	if err := checkText("the description", n.Description); err != nil {
		return Key{}, "", err
	}
	if err := checkScope(n.Scope); err != nil {
		return Key{}, "", err
	}
	if n.User == "" && n.Scope == nil && !n.Admin {
		return Key{}, "", invalid("a key needs a user or a scope")
	}
	key := Key{ID: k.ID, Created: d.o.Now().UTC(), Expires: n.Expires, Description: n.Description, Scope: slices.Clone(n.Scope)}
	if !key.Expires.IsZero() {
		key.Expires = key.Expires.UTC()
	}
	return key, k.Secret, nil
}

// checkFreeKey refuses an id that is taken. The caller holds d.mu.
func (d *Directory) checkFreeKey(id string) error {
	if d.mu.keys[id] != nil || id == d.o.Root.ID {
		return fmt.Errorf("access key %q: %w", id, ErrExists)
	}
	return nil
}

// putKey writes a key with its secret sealed.
func (d *Directory) putKey(b *timeline.Batch, key Key, secret string) (apply func()) {
	putRecord(b, "key/"+key.ID, &keyRecord{Key: key, Sealed: d.o.Ring.Seal(secretContext(key.ID), []byte(secret))})
	return func() { d.setKey(&userKey{Key: key, auth: auth.Key{ID: key.ID, Secret: secret}}) }
}

func checkScope(scope []auth.BucketRole) error {
	if scope != nil && len(scope) == 0 || len(scope) > maxScopedBuckets {
		return invalid("a scope has %d buckets, want 1 to %d", len(scope), maxScopedBuckets)
	}
	for i, r := range scope {
		if slices.ContainsFunc(scope[:i], func(o auth.BucketRole) bool { return o.Bucket == r.Bucket }) {
			return invalid("bucket %d is in the scope twice", r.Bucket)
		}
	}
	return nil
}

// FindKey returns a key by its id. Errors: ErrNoSuchKey.
func (d *Directory) FindKey(id string) (Key, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	k := d.mu.keys[id]
	if k == nil {
		return Key{}, fmt.Errorf("access key %q: %w", id, ErrNoSuchKey)
	}
	return k.Key, nil
}

// Keys returns the keys of a user by id, the root's if the name is empty. Errors: ErrNoSuchUser.
func (d *Directory) Keys(nameOrID string) ([]Key, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	keys := d.mu.rootKeys
	if nameOrID != "" {
		u, err := d.find(nameOrID)
		if err != nil {
			return nil, err
		}
		keys = u.keys
	}
	return sorted(keys), nil
}

// AllKeys returns all keys by id.
func (d *Directory) AllKeys() []Key {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return sorted(d.mu.keys)
}

func sorted(keys map[string]*userKey) []Key {
	list := make([]Key, 0, len(keys))
	for _, k := range keys {
		list = append(list, k.Key)
	}
	slices.SortFunc(list, func(a, b Key) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// DeleteKey removes a key and ends the sessions that it began. Errors: ErrNoSuchKey,
// and those of a commit.
func (d *Directory) DeleteKey(ctx context.Context, id string) error {
	return d.change(ctx, func(b *timeline.Batch) (func(), error) {
		k := d.mu.keys[id]
		if k == nil {
			return nil, fmt.Errorf("access key %q: %w", id, ErrNoSuchKey)
		}
		deleteRecord(b, "key/"+id)
		return func() { d.dropKey(k) }, nil
	})
}

// KeyChange says what UpdateKey changes; nil leaves a thing as it is.
type KeyChange struct {
	Inactive    *bool
	Expires     *time.Time // zero: never
	Description *string
	Scope       *[]auth.BucketRole // nil: none
	Secret      *string
}

// UpdateKey changes a key. Errors: ErrNoSuchKey, ErrInvalid, and those of a commit.
func (d *Directory) UpdateKey(ctx context.Context, id string, c KeyChange) (Key, error) {
	var key Key
	err := d.change(ctx, func(b *timeline.Batch) (func(), error) {
		old := d.mu.keys[id]
		if old == nil {
			return nil, fmt.Errorf("access key %q: %w", id, ErrNoSuchKey)
		}
		secret := old.auth.Secret
		key = old.Key
		if c.Inactive != nil {
			key.Inactive = *c.Inactive
		}
		if c.Expires != nil {
			key.Expires = *c.Expires
		}
		if c.Description != nil {
			key.Description = *c.Description
		}
		if c.Scope != nil {
			key.Scope = slices.Clone(*c.Scope)
			if key.User == "" && key.Scope == nil && old.Scope != nil {
				return nil, invalid("a key of the root keeps a scope")
			}
		}
		if c.Secret != nil {
			secret = *c.Secret
			if err := (auth.Key{ID: id, Secret: secret}).Validate(); err != nil {
				return nil, invalid("%s", strings.TrimPrefix(err.Error(), "auth: "))
			}
		}
		if err := checkText("the description", key.Description); err != nil {
			return nil, err
		}
		if err := checkScope(key.Scope); err != nil {
			return nil, err
		}
		return d.putKey(b, key, secret), nil
	})
	return key, err
}

// RotateKey gives a key a new secret and returns it. Errors: those of UpdateKey.
func (d *Directory) RotateKey(ctx context.Context, id string) (string, error) {
	secret := newSecret()
	_, err := d.UpdateKey(ctx, id, KeyChange{Secret: &secret})
	return secret, err
}

// Sweep removes the keys whose scope names only buckets of which gone says that they
// will never be there again, and takes such buckets out of the scopes of others. It
// returns how many keys it removed. Errors: those of a commit; what was done stays.
func (d *Directory) Sweep(ctx context.Context, gone func(bucket uint64) bool) (n int, err error) {
	for _, k := range d.AllKeys() {
		if k.Scope == nil {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(k.Scope), func(r auth.BucketRole) bool { return r.Bucket != 0 && gone(r.Bucket) })
		switch len(left) {
		case len(k.Scope):
			continue
		case 0:
			if err := d.DeleteKey(ctx, k.ID); err != nil {
				return n, err
			}
			n++
		default:
			if _, err := d.UpdateKey(ctx, k.ID, KeyChange{Scope: &left}); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}
