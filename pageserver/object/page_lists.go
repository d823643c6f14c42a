package object

import (
	"sync"

	"stemma/layers"
)

// baseLists keeps the long extent lists of bases in memory, which every read of a page
// of the base needs whole. The zero value is ready. Safe for concurrent use.
type baseLists struct {
	mu      sync.Mutex
	lists   map[string]*pageBase // by the spilled body, which names an immutable list
	extents int                  // of all lists
}

// maxListedExtents bounds the cache, at about 80 bytes each.
const maxListedExtents = 1 << 19

func (c *baseLists) get(body layers.Body) *pageBase {
	if body.Tag() != layers.BodySpilled {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lists[string(body)]
}

// put remembers a list that is not longer than half of the cache.
func (c *baseLists) put(body layers.Body, b *pageBase) {
	if len(b.ext) > maxListedExtents/2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lists == nil {
		c.lists = make(map[string]*pageBase)
	}
	if c.lists[string(body)] != nil {
		return
	}
	for old, o := range c.lists { // any will do: those in use come back at once
		if c.extents+len(b.ext) <= maxListedExtents {
			break
		}
		delete(c.lists, old)
		c.extents -= len(o.ext)
	}
	c.lists[string(body)] = b
	c.extents += len(b.ext)
}
