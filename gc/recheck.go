package gc

import (
	"math/bits"

	"stemma/wal"
)

// Recheck gathers what a window keeps in a layer, and says at which horizon a
// quarter of it will have expired: before, looking again is not worth it. Its
// memory is bounded; not safe for concurrent use.
type Recheck struct {
	base  wal.LSN
	total int64
	// buckets by how far above base the bytes expire; nil before the first Add
	buckets []recheckBucket
}

// recheckBucket counts bytes; last is the highest horizon at which any of them
// expires.
type recheckBucket struct {
	bytes int64
	last  wal.LSN
}

const (
	// recheckSteps divide every power of two: a bucket spans at most an eighth of the
	// time until its bytes expire.
	recheckStepBits = 3
	recheckSteps    = 1 << recheckStepBits
	recheckBuckets  = (64 - recheckStepBits + 1) * recheckSteps
)

// NewRecheck returns an empty Recheck of a collection at the horizon h.
func NewRecheck(h wal.LSN) *Recheck { return &Recheck{base: h} }

// Add counts bytes that expire when the horizon reaches expires, as Expiry
// returns it; wal.MaxLSN: never.
func (r *Recheck) Add(bytes int64, expires wal.LSN) {
	if bytes <= 0 {
		return
	}
	if r.buckets == nil {
		r.buckets = make([]recheckBucket, recheckBuckets)
	}
	b := &r.buckets[r.bucket(expires)]
	b.bytes += bytes
	b.last = max(b.last, expires)
	r.total += bytes
}

// bucket numbers what expires like a small float: exactly up to 16 ns above the
// base, then by a power of two and the three bits below its highest.
func (r *Recheck) bucket(expires wal.LSN) int {
	if expires <= r.base {
		return 0
	}
	d := uint64(expires - r.base)
	if d < recheckSteps {
		return int(d)
	}
	shift := bits.Len64(d) - 1 - recheckStepBits
	return shift*recheckSteps + int(d>>shift)
}

// Bytes returns what was added.
func (r *Recheck) Bytes() int64 { return r.total }

// At returns the lowest horizon that it knows to let a quarter of the bytes
// expire: never one that lets less, and at most an eighth of the way from the
// base too far. It is false when no horizon does.
func (r *Recheck) At() (wal.LSN, bool) {
	var expired int64
	for _, b := range r.buckets {
		if expired += b.bytes; expired > 0 && expired >= fraction(r.total, Busy) {
			return b.last, b.last != wal.MaxLSN
		}
	}
	return wal.MaxLSN, false
}
