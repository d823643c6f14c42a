package identity

import (
	"context"
	"fmt"
	"slices"

	"stemma/timeline"
)

// RenameUser gives a user another name. Its ids, keys and policies stay, its ARN does
// not. Errors: ErrNoSuchUser, ErrInvalid, ErrExists, and those of a commit.
func (d *Directory) RenameUser(ctx context.Context, nameOrID, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return d.change(ctx, func(b *timeline.Batch) (func(), error) {
		old, err := d.find(nameOrID)
		if err != nil {
			return nil, err
		}
		if old.Name == name {
			return func() {}, nil
		}
		if d.nameTaken(name) {
			return nil, fmt.Errorf("user %q: %w", name, ErrExists)
		}
		u := &user{User: old.User, keys: make(map[string]*userKey)}
		u.Name, u.Inline, u.Attached = name, slices.Clone(old.Inline), slices.Clone(old.Attached)
		deleteRecord(b, "user/"+old.Name)
		putRecord(b, "user/"+name, &u.User)
		var setKeys []func()
		for _, k := range old.keys {
			key := k.Key
			key.User = name
			setKeys = append(setKeys, d.putKey(b, key, k.auth.Secret))
		}
		return func() {
			d.dropUser(old)
			d.mustSet(u)
			for _, set := range setKeys {
				set()
			}
		}, nil
	})
}
