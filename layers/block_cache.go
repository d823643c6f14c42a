package layers

import (
	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
)

// BlockCache keeps blocks of layer files, verified and decompressed, up to a
// number of bytes. Blocks are immutable and belong to the garbage collector:
// evicting one takes it from nobody. File numbers are never reused, so blocks of
// a removed file are never met again and leave as they cool. Safe for concurrent
// use. It has no goroutine of its own; its upkeep runs in short ones.
type BlockCache struct {
	c       *otter.Cache[blockKey, []byte] // nil: keeps nothing
	counter *stats.Counter
}

type blockKey struct {
	num FileNum
	off uint64
}

// blockOverhead is what the cache is charged for a block beyond its bytes.
const blockOverhead = 128

// NewBlockCache returns a cache of so many bytes, which it may exceed for a
// moment; zero or less keeps nothing.
func NewBlockCache(bytes int64) *BlockCache {
	if bytes <= 0 {
		return &BlockCache{}
	}
	b := &BlockCache{counter: stats.NewCounter()}
	b.c = otter.Must(&otter.Options[blockKey, []byte]{
		MaximumWeight: uint64(bytes),
		Weigher:       func(_ blockKey, p []byte) uint32 { return uint32(cap(p) + blockOverhead) },
		StatsRecorder: b.counter,
	})
	return b
}

// BlockCacheMetrics counts since the cache was made.
type BlockCacheMetrics struct {
	Hits, Misses uint64
	Bytes        uint64 // held now
}

// Metrics returns the counts.
func (b *BlockCache) Metrics() BlockCacheMetrics {
	if b == nil || b.c == nil {
		return BlockCacheMetrics{}
	}
	s := b.counter.Snapshot()
	return BlockCacheMetrics{Hits: s.Hits, Misses: s.Misses, Bytes: b.c.WeightedSize()}
}

// get returns the block at off, or nil. A nil cache has none.
func (b *BlockCache) get(num FileNum, off uint64) []byte {
	if b == nil || b.c == nil {
		return nil
	}
	p, _ := b.c.GetIfPresent(blockKey{num, off})
	return p
}

func (b *BlockCache) put(num FileNum, off uint64, p []byte) {
	if b != nil && b.c != nil {
		b.c.Set(blockKey{num, off}, p)
	}
}
