package wal

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	segmentSuffix = ".wal" // a segment, ready or in use
	partSuffix    = ".tmp" // a segment that is being filled with zeros
)

// SegmentName returns the name of a segment's file within the log's directory.
func SegmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

func partName(number uint64) string { return fmt.Sprintf("%016x%s", number, partSuffix) }

// ParseSegmentName returns the number of the segment with the given file name,
// and false for any other name.
func ParseSegmentName(name string) (uint64, bool) { return parseName(name, segmentSuffix) }

func parseName(name, suffix string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, suffix)
	if !ok || len(hex) != 16 || strings.ToLower(hex) != hex {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil && n != 0 && n < maxCounter
}
