package layers

import (
	"fmt"
	"testing"
)

// BenchmarkMergeIterator is what a compaction reads by: one step of the union of
// so many layers.
func BenchmarkMergeIterator(b *testing.B) {
	for _, n := range []int{2, 8, 32} {
		b.Run(fmt.Sprintf("layers=%d", n), func(b *testing.B) {
			cache := NewBlockCache(256 << 20)
			recs := objectRecords(100_000)
			var iters []Iterator
			for part := range n {
				var own []Record
				for i := part; i < len(recs); i += n {
					own = append(own, recs[i])
				}
				iters = append(iters, benchLayer(b, own, cache).NewIter(IterOptions{FillCache: true}))
			}
			it := NewMergeIterator(iters)
			defer it.Close()
			b.ReportAllocs()
			for b.Loop() {
				if !it.Next() && !it.First() {
					b.Fatal(it.Err())
				}
			}
		})
	}
}
