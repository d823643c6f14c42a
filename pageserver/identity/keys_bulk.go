package identity

import (
	"context"
	"fmt"

	"stemma/timeline"
)

// CreateKeys is CreateKey of many keys of one user, or of the root, in one commit: all or none, with a
// scope each. Keys and secrets come in the order of the list.
func (d *Directory) CreateKeys(ctx context.Context, list []NewKey) (keys []Key, secrets []string, err error) {
	keys, secrets = make([]Key, len(list)), make([]string, len(list))
	for i := range list {
		if list[i].Scope == nil || list[i].Admin || list[i].User != list[0].User {
			return nil, nil, invalid("keys that are made together are of one user and held to buckets")
		}
		if keys[i], secrets[i], err = d.prepareKey(&list[i]); err != nil {
			return nil, nil, err
		}
	}
	err = d.change(ctx, func(b *timeline.Batch) (func(), error) {
		applies := make([]func(), len(list))
		seen := make(map[string]bool, len(list))
		if len(list) > 0 && list[0].User != "" {
			u, err := d.find(list[0].User)
			if err != nil {
				return nil, err
			}
			if len(u.keys)+len(list) > MaxUserKeys {
				return nil, fmt.Errorf("user %q has %d keys: %w", u.Name, len(u.keys), ErrTooMany)
			}
			for i := range keys {
				keys[i].User = u.Name
			}
		}
		for i := range keys {
			if err := d.checkFreeKey(keys[i].ID); err != nil {
				return nil, err
			}
			if seen[keys[i].ID] {
				return nil, invalid("access key %q is named twice", keys[i].ID)
			}
			seen[keys[i].ID] = true
			applies[i] = d.putKey(b, keys[i], secrets[i])
		}
		return func() {
			for _, apply := range applies {
				apply()
			}
		}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return keys, secrets, nil
}
