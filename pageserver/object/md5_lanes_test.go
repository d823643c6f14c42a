package object

import (
	"crypto/md5"
	"runtime"
	"testing"
)

// What is left of the lanes of uploads that have ended does not grow with their
// number: md5simd forgets no lane, and looks at all of them for every block.
func TestLanesOfEndedUploadsAreUsedAgain(t *testing.T) {
	var l md5Lanes
	defer l.close()
	alone := md5.New()
	for range lanesFrom - 1 { // others under way
		l.begin(alone, laneBytes)
	}
	body := make([]byte, 100)
	upload := func() {
		h := l.begin(alone, laneBytes)
		if h == alone {
			t.Fatal("no lane")
		}
		h.Write(body)
		if got, want := [md5.Size]byte(h.Sum(nil)), md5.Sum(body); got != want {
			t.Fatalf("MD5 is %x, want %x", got, want)
		}
		l.end(h)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	h := l.begin(alone, laneBytes) // one that is broken off
	h.Write(make([]byte, 100_001))
	l.end(h)
	upload()
	before := heap()
	for range 20_000 {
		upload()
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("20000 uploads left %d bytes", after-before)
	}
}
