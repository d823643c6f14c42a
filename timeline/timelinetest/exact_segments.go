package timelinetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"stemma/layers"
)

// The layout of value segments, as docs/format/values.md has it.
const (
	segmentHeader   = 4 << 10
	segmentBlock    = 4 << 10
	leastHole       = 32 << 10
	remapEntryBytes = 17
	remapRest       = 12 << 10 // most that a table needs beside entries
)

// segments compares the value segments with the values that records refer to.
// restarted says that the disk of the tests has forgotten where holes are.
func (c *Checker) segments(live map[layers.Handle]bool, restarted bool) error {
	ranges := make(map[layers.FileNum][]layers.ValueRange)
	for h := range live {
		ranges[h.Segment] = append(ranges[h.Segment], h.Range())
	}
	values := c.Store.Values()
	for _, seg := range values.Segments() {
		rs := ranges[seg.Num]
		delete(ranges, seg.Num)
		slices.SortFunc(rs, func(a, b layers.ValueRange) int { return cmp.Compare(a.Offset, b.Offset) })
		rs = slices.Compact(rs)
		if len(rs) == 0 {
			return fmt.Errorf("nothing refers to value segment %+v", seg)
		}
		streamed, err := values.Streamed(seg.Num)
		if err != nil {
			return err
		}
		var bytes int64
		for _, r := range rs {
			bytes += int64(r.Length)
		}
		c.Count.AddN("exact: value bytes", bytes)
		switch {
		case streamed:
			want := seg.Bytes - holes(rs, seg.Bytes)
			if seg.Allocated != want && !(restarted && seg.Allocated == seg.Bytes) {
				return fmt.Errorf("value segment %+v: %d bytes allocated, want %d for %d bytes of values", seg, seg.Allocated, want, bytes)
			}
			if seg.Allocated < seg.Bytes {
				c.Count.Add("exact: segment with holes")
			}
		case seg.Generation == 0 && seg.Bytes != segmentHeader+bytes:
			return fmt.Errorf("value segment %+v: %d bytes of values", seg, bytes)
		case seg.Bytes > segmentHeader+bytes+int64(len(rs))*remapEntryBytes+remapRest:
			return fmt.Errorf("rewritten value segment %+v: %d bytes of %d values", seg, bytes, len(rs))
		case seg.Generation > 0:
			c.Count.Add("exact: rewritten segment")
		}
	}
	var errs []error
	for num := range ranges {
		errs = append(errs, fmt.Errorf("value segment %d is gone, records refer to it", num))
	}
	return errors.Join(errs...)
}

// holes returns the bytes of a streamed segment that can be punched.
func holes(live []layers.ValueRange, size int64) (n int64) {
	from := int64(segmentHeader)
	gap := func(to int64) {
		first, last := (from+segmentBlock-1)/segmentBlock*segmentBlock, to/segmentBlock*segmentBlock
		if last-first >= leastHole {
			n += last - first
		}
	}
	for _, r := range live {
		gap(int64(r.Offset))
		from = int64(r.Offset + r.Length)
	}
	gap(size)
	return n
}
