package object

import (
	"hash"
	"sync"
	"sync/atomic"

	"github.com/minio/md5-simd"
)

// lanesFrom is the number of uploads under way from which vector lanes compute
// more MD5 for the same processor time than one uploader after the other. With
// AVX-512, in ms a MiB: 1.5 alone; in lanes 2.3 for 2 at once, 1.7 for 4, 0.9 for 8.
const lanesFrom = 6

// laneBytes is the size from which a body is worth a lane.
const laneBytes = 1 << 20

// maxLanes bounds the lanes: one goroutine fills 16 of them at once, and looks at
// all for every block. It must be below the 48 blocks that md5simd has in all, or
// lanes could wait for each other's.
const maxLanes = 32

// md5Lanes sums the bodies of concurrent uploads, many of them side by side in
// the lanes of vector registers.
type md5Lanes struct {
	uploads atomic.Int32
	mu      struct {
		sync.Mutex
		server md5simd.Server // nil until first needed
		made   int
		// free are the lanes that nobody uses. They are never closed: md5simd keeps
		// those that were, and looks at them for every block.
		free   []md5simd.Hasher
		closed bool
	}
}

// begin returns what sums the body of an upload, whose size is negative when it is
// not known: alone when it is small, or there are few or very many. The caller
// calls end.
func (l *md5Lanes) begin(alone hash.Hash, size int64) hash.Hash {
	if l.uploads.Add(1) < lanesFrom || size >= 0 && size < laneBytes {
		return alone
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.mu.free); n > 0 {
		lane := l.mu.free[n-1]
		l.mu.free = l.mu.free[:n-1]
		return lane
	}
	if l.mu.closed || l.mu.made == maxLanes {
		return alone
	}
	if l.mu.server == nil {
		l.mu.server = md5simd.NewServer()
	}
	l.mu.made++
	return l.mu.server.NewHash()
}

// end ends the use of what begin returned.
func (l *md5Lanes) end(h hash.Hash) {
	l.uploads.Add(-1)
	lane, ok := h.(md5simd.Hasher)
	if !ok {
		return
	}
	lane.Reset()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.free = append(l.mu.free, lane)
}

// close stops the goroutine behind the lanes. No upload is under way.
func (l *md5Lanes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.closed, l.mu.free = true, nil
	if l.mu.server != nil {
		l.mu.server.Close()
	}
}
