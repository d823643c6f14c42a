package timeline

import (
	"math/rand/v2"
	"testing"
)

func TestIDTable(t *testing.T) {
	var table idTable[BucketID, bucket]
	want := make(map[BucketID]*bucket)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		id := BucketID(rng.IntN(500) + rng.IntN(3)<<40)
		if rng.IntN(2) == 0 {
			b := &bucket{id: id}
			table.set(id, b)
			want[id] = b
		} else {
			table.delete(id)
			delete(want, id)
		}
		if table.get(id) != want[id] || table.len() != len(want) {
			t.Fatalf("%d: %v of %d, want %v of %d", id, table.get(id), table.len(), want[id], len(want))
		}
	}
	for b := range table.all() {
		if want[b.id] != b {
			t.Fatalf("%d is there twice, or gone", b.id)
		}
		delete(want, b.id)
		table.delete(b.id)
	}
	if len(want) > 0 || table.len() != 0 || len(table.pages) != 0 {
		t.Fatalf("%d not seen, %d left in %d pages", len(want), table.len(), len(table.pages))
	}
}
