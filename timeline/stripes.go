package timeline

import (
	"slices"
	"sync"

	"stemma/layers"
)

// numStripes is a power of two; more stripes, fewer strangers that meet on one.
const numStripes = 4096

// stripes are the RW locks on (timeline, key): shared for blind writes,
// exclusive for read-modify-write. A set of them is taken in ascending order.
type stripes struct {
	locks [numStripes]sync.RWMutex
}

// stripeSet is a sorted set of stripes, each at most once: index << 1, with the
// low bit set for an exclusive lock.
type stripeSet []uint32

func (set stripeSet) add(t layers.TimelineID, ns layers.Namespace, key []byte, exclusive bool) stripeSet {
	var few [128]byte
	e := uint32(layers.HashKey(layers.AppendKey(few[:0], t, ns, key))%numStripes) << 1
	if exclusive {
		e |= 1
	}
	return append(set, e)
}

// sorted orders the set and leaves each stripe once, exclusive if any was.
func (set stripeSet) sorted() stripeSet {
	slices.SortFunc(set, func(a, b uint32) int {
		if a>>1 != b>>1 {
			return int(a>>1) - int(b>>1)
		}
		return int(b&1) - int(a&1) // the exclusive one first, it survives
	})
	return slices.CompactFunc(set, func(a, b uint32) bool { return a>>1 == b>>1 })
}

func (s *stripes) lock(set stripeSet) {
	for _, e := range set {
		if e&1 != 0 {
			s.locks[e>>1].Lock()
		} else {
			s.locks[e>>1].RLock()
		}
	}
}

func (s *stripes) unlock(set stripeSet) {
	for _, e := range slices.Backward(set) {
		if e&1 != 0 {
			s.locks[e>>1].Unlock()
		} else {
			s.locks[e>>1].RUnlock()
		}
	}
}
