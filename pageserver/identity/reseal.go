package identity

import (
	"context"
	"maps"
	"slices"

	"stemma/timeline"
)

// resealBatch is how many keys one commit seals anew.
const resealBatch = 500

// Reseal seals the secrets of all access keys by the first master key, and returns how many.
// On return it is durable. Errors: those of a commit; what was sealed before stays so.
func (d *Directory) Reseal(ctx context.Context) (int, error) {
	d.mu.RLock()
	ids := slices.Sorted(maps.Keys(d.mu.keys))
	d.mu.RUnlock()
	sealed := 0
	for chunk := range slices.Chunk(ids, resealBatch) {
		n := 0
		err := d.change(ctx, func(b *timeline.Batch) (func(), error) {
			for _, id := range chunk {
				if k := d.mu.keys[id]; k != nil { // or it has gone
					d.putKey(b, k.Key, k.auth.Secret) // what it holds in memory stays
					n++
				}
			}
			return func() {}, nil
		})
		if err != nil {
			return sealed, err
		}
		sealed += n
	}
	return sealed, nil
}
