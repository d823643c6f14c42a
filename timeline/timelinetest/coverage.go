package timelinetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Coverage counts what a run has done. Safe for concurrent use.
type Coverage struct {
	mu     sync.Mutex
	counts map[string]int64
}

// Add counts one more.
func (c *Coverage) Add(what string) { c.AddN(what, 1) }

// AddN counts n more.
func (c *Coverage) AddN(what string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int64)
	}
	c.counts[what] += n
}

// Max raises a count to n.
func (c *Coverage) Max(what string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int64)
	}
	c.counts[what] = max(c.counts[what], n)
}

// Merge adds the counts of another run.
func (c *Coverage) Merge(o *Coverage) {
	o.mu.Lock()
	counts := maps.Clone(o.counts)
	o.mu.Unlock()
	for what, n := range counts {
		c.AddN(what, n)
	}
}

// Missing returns which of want never happened.
func (c *Coverage) Missing(want []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []string
	for _, what := range want {
		if c.counts[what] == 0 {
			missing = append(missing, what)
		}
	}
	return missing
}

// String lists all counts by name.
func (c *Coverage) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s strings.Builder
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		fmt.Fprintf(&s, "%9d  %s\n", c.counts[what], what)
	}
	return s.String()
}
