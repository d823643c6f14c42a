package layers

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"github.com/zeebo/xxh3"
)

// The seeds tell the three kinds of hashes apart. They are part of the format.
const (
	seedTimeline = 0x5354454d4d410001
	seedSuffix   = 0x5354454d4d410002
	seedKey      = 0x5354454d4d410003
)

// HashTimeline is the filter's hash of "this timeline has a record here".
func HashTimeline(t TimelineID) uint64 {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(t))
	return xxh3.HashSeed(b[:], seedTimeline)
}

// HashSuffix is the filter's hash of "some timeline has this namespace and user
// key" (Key.Suffix).
func HashSuffix(suffix []byte) uint64 { return xxh3.HashSeed(suffix, seedSuffix) }

// HashKey is the filter's hash of "this timeline has this key".
func HashKey(k Key) uint64 { return xxh3.HashSeed(k, seedKey) }

// The filter of a layer file: blocks of filterBlockBytes, each a Bloom filter
// of its own over the hashes that fall to it. Part of the format.
const (
	filterBlockBytes   = 4096
	filterTrailerBytes = 4 // crc32c
	filterBlockBits    = (filterBlockBytes - filterTrailerBytes) * 8
	filterProbes       = 7
	filterBitsPerHash  = 10
	// maxFilterBlocks bounds what a footer may claim: 1 GiB of filter.
	maxFilterBlocks = 1 << 18
)

// filterBlocks returns the number of blocks for n hashes.
func filterBlocks(n int) int {
	return min((n*filterBitsPerHash+filterBlockBits-1)/filterBlockBits, maxFilterBlocks)
}

// filterBlockOf returns the block, of n, that h falls to.
func filterBlockOf(h uint64, n int) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}

// filterSteps derives the first probe and the step from h. They depend on all
// bits of h; which block h falls to depends on the highest ones alone.
func filterSteps(h uint64) (pos, step uint32) {
	h *= 0x9e3779b97f4a7c15
	return uint32(h), uint32(h>>32) | 1
}

func filterBit(pos uint32) (word uint32, mask byte) {
	bit := uint32(uint64(pos) * filterBlockBits >> 32)
	return bit >> 3, 1 << (bit & 7)
}

// filterAdd sets the bits of h in a block.
func filterAdd(block []byte, h uint64) {
	pos, step := filterSteps(h)
	for range filterProbes {
		w, mask := filterBit(pos)
		block[w] |= mask
		pos += step
	}
}

// filterHas reports whether the bits of h are all set in a block of
// filterBlockBytes - filterTrailerBytes bytes.
func filterHas(block []byte, h uint64) bool {
	pos, step := filterSteps(h)
	for range filterProbes {
		w, mask := filterBit(pos)
		if block[w]&mask == 0 {
			return false
		}
		pos += step
	}
	return true
}

// memFilter is the filter of a memlayer: one writer, readers without locks.
// Each hash falls to one cache line and sets memFilterProbes bits there.
type memFilter struct {
	lines [memFilterLines][8]atomic.Uint64
}

// 2 MiB: 11 bits per hash at 1.5 million hashes.
const (
	memFilterLines  = 1 << 15
	memFilterProbes = 6
)

// add sets the bits of h. One caller at a time.
func (f *memFilter) add(h uint64) {
	line := &f.lines[h>>(64-15)]
	pos := h * 0x9e3779b97f4a7c15
	for range memFilterProbes {
		w := &line[pos>>61]
		mask := uint64(1) << (pos >> 55 & 63)
		if old := w.Load(); old&mask == 0 {
			w.Store(old | mask)
		}
		pos = bits.RotateLeft64(pos, 9)
	}
}

// has reports whether h may have been added.
func (f *memFilter) has(h uint64) bool {
	line := &f.lines[h>>(64-15)]
	pos := h * 0x9e3779b97f4a7c15
	for range memFilterProbes {
		if line[pos>>61].Load()&(1<<(pos>>55&63)) == 0 {
			return false
		}
		pos = bits.RotateLeft64(pos, 9)
	}
	return true
}
