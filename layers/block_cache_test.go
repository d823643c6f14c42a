package layers

import (
	"sync"
	"testing"
)

// The cache keeps what is used, within its bytes, and never mixes blocks up.
func TestBlockCache(t *testing.T) {
	const size, block = 1 << 20, 4096
	c := NewBlockCache(size)
	if c.get(1, 0) != nil {
		t.Error("an empty cache has a block")
	}
	fill := func(num FileNum, off uint64) []byte {
		p := make([]byte, block)
		p[0], p[1], p[2] = byte(num), byte(off>>8), byte(off)
		return p
	}
	var wg sync.WaitGroup
	for num := range FileNum(4) {
		wg.Go(func() {
			for i := range uint64(5000) {
				off := i % 1000
				if p := c.get(num, off); p == nil {
					c.put(num, off, fill(num, off))
				} else if want := fill(num, off); string(p[:3]) != string(want[:3]) {
					t.Errorf("block %d of %d holds %v", off, num, p[:3])
					return
				}
			}
		})
	}
	wg.Wait()
	c.c.CleanUp()
	m := c.Metrics()
	if m.Bytes > size || m.Bytes < size/2 || m.Hits+m.Misses != 20_001 {
		t.Errorf("after 4000 blocks: %+v", m)
	}
	c.put(9, 9, make([]byte, 2*size))
	c.c.CleanUp()
	if m := c.Metrics(); m.Bytes > size {
		t.Errorf("after a block that is too large: %+v", m)
	}
}

// Without bytes, or without a cache at all, nothing is kept.
func TestBlockCacheOff(t *testing.T) {
	for _, c := range []*BlockCache{nil, NewBlockCache(0), NewBlockCache(-1)} {
		c.put(1, 1, []byte("x"))
		if c.get(1, 1) != nil || c.Metrics() != (BlockCacheMetrics{}) {
			t.Error("something was kept")
		}
	}
}
