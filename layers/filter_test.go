package layers

import (
	"encoding/binary"
	"testing"
)

// The hashes are part of the format.
func TestHashGolden(t *testing.T) {
	k := MakeKey(7, NamespaceObjects, []byte("a/b"))
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"timeline", HashTimeline(7), 0x21cb51791a72fe09},
		{"suffix", HashSuffix(k.Suffix()), 0xfa3c268ddacb88b0},
		{"key", HashKey(k), 0x279c574d2e76f03a},
	} {
		if c.got != c.want {
			t.Errorf("hash of %s is %#x, want %#x", c.what, c.got, c.want)
		}
	}
}

func sequentialHash(n int) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	return HashSuffix(b[:])
}

// No added hash is missed, and few others are found, whatever the number.
func TestFilterRates(t *testing.T) {
	for _, n := range []int{1, 100, 3273, 3274, 50_000, 200_000} {
		blocks := filterBlocks(n)
		filter := make([]byte, blocks*filterBlockBytes)
		block := func(h uint64) []byte {
			return filter[filterBlockOf(h, blocks)*filterBlockBytes:][:filterBlockBytes-filterTrailerBytes]
		}
		for i := range n {
			filterAdd(block(sequentialHash(i)), sequentialHash(i))
		}
		for i := range n {
			if !filterHas(block(sequentialHash(i)), sequentialHash(i)) {
				t.Fatalf("%d hashes: %d is missed", n, i)
			}
		}
		const probes = 50_000
		var wrong int
		for i := range probes {
			if filterHas(block(sequentialHash(n+i)), sequentialHash(n+i)) {
				wrong++
			}
		}
		if wrong > probes*13/1000 {
			t.Errorf("%d hashes in %d blocks: %d of %d absent ones found", n, blocks, wrong, probes)
		}
	}
	if filterBlocks(0) != 0 || filterBlocks(1<<40) != maxFilterBlocks {
		t.Error("number of blocks is not bounded")
	}
}

// At 1.5 million hashes. Those that fall to an eighth of the lines stand for all.
func TestMemFilterRate(t *testing.T) {
	const n = 1_500_000
	f := new(memFilter)
	eighth := func(from, to int, visit func(h uint64)) {
		for i := from; i < to; i++ {
			if h := sequentialHash(i); h>>61 == 5 {
				visit(h)
			}
		}
	}
	eighth(0, n, f.add)
	eighth(0, n, func(h uint64) {
		if !f.has(h) {
			t.Fatalf("%#x is missed", h)
		}
	})
	var wrong, probes int
	eighth(n, 2*n, func(h uint64) {
		if probes++; f.has(h) {
			wrong++
		}
	})
	if probes < n/10 || wrong > probes*25/1000 {
		t.Errorf("%d of %d absent ones found", wrong, probes)
	}
}
