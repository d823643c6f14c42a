package main

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"stemma/wal"
)

// content is what an object holds: size bytes that follow from the seed.
// Absent content is what a deleted key holds.
type content struct {
	present bool
	seed    uint64
	size    int64
}

func (c content) String() string {
	if !c.present {
		return "absent"
	}
	return fmt.Sprintf("%d bytes of seed %d", c.size, c.seed)
}

// reader returns the bytes of the content.
func (c content) reader() io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(c.seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(key), c.size)
}

// change is one attempt to change a key. What was acknowledged has an LSN. An
// attempt without one was under way when the server was killed: it may have
// happened or not, at any LSN above the versions before it.
type change struct {
	content
	lsn wal.LSN
	// happenedBy is set for an attempt that turned out to have happened: it did
	// so at or below this LSN.
	happenedBy wal.LSN
}

// bucketModel is what is known of a bucket. Each key belongs to one client,
// which alone changes it, in every bucket.
type bucketModel struct {
	name   string
	parent *bucketModel
	branch wal.LSN // what a fork sees of its parent
	born   wal.LSN // at or above its creation
	depth  int     // ancestors

	// use is held by who speaks to the bucket, exclusively by who deletes it.
	use  sync.RWMutex
	gone bool // deleted; under use

	mu   sync.Mutex
	keys map[string][]change // oldest first
}

func newBucketModel(name string, parent *bucketModel) *bucketModel {
	b := &bucketModel{name: name, parent: parent, keys: make(map[string][]change)}
	if parent != nil {
		b.depth = parent.depth + 1
	}
	return b
}

// add appends a change of a key.
func (b *bucketModel) add(key string, v change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[key] = append(b.keys[key], v)
}

// possible returns what the key may hold at an LSN; more than one only where an
// attempt is undecided.
func (b *bucketModel) possible(key string, at wal.LSN) []content {
	var all []content
	for ; b != nil; b, at = b.parent, min(at, b.branch) {
		b.mu.Lock()
		own := b.keys[key]
		b.mu.Unlock()
		for _, v := range slices.Backward(own) {
			if v.lsn > at {
				continue
			}
			all = append(all, v.content)
			if v.lsn != 0 || (v.happenedBy != 0 && v.happenedBy <= at) {
				return all
			}
		}
	}
	return append(all, content{})
}

// allKeys returns every key that was ever tried in the bucket or an ancestor.
func (b *bucketModel) allKeys() []string {
	seen := make(map[string]bool)
	for ; b != nil; b = b.parent {
		b.mu.Lock()
		for k := range b.keys {
			seen[k] = true
		}
		b.mu.Unlock()
	}
	return slices.Sorted(func(yield func(string) bool) {
		for k := range seen {
			if !yield(k) {
				return
			}
		}
	})
}

// settle decides the attempts on a key that were under way when the server was
// killed, from what the key holds now; every attempt that happened did so at or
// below lsn. The versions before an undecided attempt are acknowledged.
func (b *bucketModel) settle(key string, now content, lsn wal.LSN) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[key] = slices.DeleteFunc(b.keys[key], func(v change) bool {
		return v.lsn == 0 && v.happenedBy == 0 && v.content != now
	})
	for i := range b.keys[key] {
		if v := &b.keys[key][i]; v.lsn == 0 && v.happenedBy == 0 {
			v.happenedBy = lsn
		}
	}
}

// undecided returns the keys that settle has to decide.
func (b *bucketModel) undecided() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for k, vs := range b.keys {
		if slices.ContainsFunc(vs, func(v change) bool { return v.lsn == 0 && v.happenedBy == 0 }) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// read is one acknowledged change, to be read back at its LSN.
type read struct {
	bucket *bucketModel
	key    string
	change
}

// acknowledged returns the acknowledged changes above an LSN in LSN order.
func (b *bucketModel) acknowledged(above wal.LSN) []read {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []read
	for k, vs := range b.keys {
		for _, v := range vs {
			if v.lsn > above {
				all = append(all, read{b, k, v})
			}
		}
	}
	slices.SortFunc(all, func(x, y read) int {
		return cmp.Or(cmp.Compare(x.lsn, y.lsn), strings.Compare(x.key, y.key))
	})
	return all
}
