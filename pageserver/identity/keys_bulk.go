package identity

import (
	"context"

	"stemma/timeline"
)

// CreateKeys is CreateKey of many keys in one commit: all or none. They must be the root's, with a
// scope each. Keys and secrets come in the order of the list.
func (d *Directory) CreateKeys(ctx context.Context, list []NewKey) (keys []Key, secrets []string, err error) {
	keys, secrets = make([]Key, len(list)), make([]string, len(list))
	for i := range list {
		if list[i].User != "" || list[i].Admin {
			return nil, nil, invalid("keys that are made together are the root's, with a scope")
		}
		if keys[i], secrets[i], err = d.prepareKey(&list[i]); err != nil {
			return nil, nil, err
		}
	}
	err = d.change(ctx, func(b *timeline.Batch) (func(), error) {
		applies := make([]func(), len(list))
		seen := make(map[string]bool, len(list))
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
