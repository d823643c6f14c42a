package wal

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// SegmentInfo describes a segment file as it lies on disk.
type SegmentInfo struct {
	Name   string // path
	Number uint64
	Bytes  int64
	// Unused says why the header is not one of this segment: it was not used
	// yet, or is damaged. The fields of the header are zero then.
	Unused          string
	Incarnation     uint64
	PrevIncarnation uint64
	FirstSequence   uint64
	FirstLSN        LSN
	PrevCRC         uint32
	// Groups are all that are valid by themselves, stale ones included.
	Groups []GroupInfo
}

// GroupInfo describes a group with a valid checksum.
type GroupInfo struct {
	Offset, Bytes int64
	Incarnation   uint64
	Sequence      uint64
	Durable       uint64 // highest sequence known durable when this was written
	First, Last   LSN
	Commits       int
	PayloadBytes  int
	CRC, PrevCRC  uint32
	End           bool // end mark of a clean close
}

// Inspect lists the segments in dir and what is valid in each, in order of
// number, without judging whether it is one log; Check does that. It changes
// nothing.
func Inspect(fs vfs.FS, dir string) ([]SegmentInfo, error) {
	r := recovery{o: Options{FS: fs, Dir: dir}, open: func(name string) (vfs.File, error) {
		return fs.Open(name, vfs.SequentialReadsOption)
	}}
	if err := r.list(); err != nil {
		return nil, err
	}
	var infos []SegmentInfo
	for _, f := range r.files {
		info := SegmentInfo{Name: f.name, Number: f.number}
		var corrupt *CorruptionError
		switch err := r.readHeader(f); {
		case errors.As(err, &corrupt):
			info.Unused = corrupt.Reason
		case err != nil:
			return nil, err
		case f.used:
			info.Incarnation, info.PrevIncarnation = f.header.incarnation, f.header.prevIncarnation
			info.FirstSequence, info.FirstLSN = f.header.firstSequence, f.header.firstLSN
			info.PrevCRC = f.header.prevCRC
		case f.header.number != 0:
			info.Unused = fmt.Sprintf("header is of segment %d", f.header.number)
		default:
			info.Unused = "no valid header"
		}
		info.Bytes = f.size
		if err := r.inspectGroups(f, &info); err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (r *recovery) inspectGroups(f *foundSegment, info *SegmentInfo) error {
	r.stream = newStream([]string{f.name}, []int64{f.size}, r.open)
	defer r.stream.close()
	if err := r.stream.open(0); err != nil {
		return err
	}
	for {
		head, err := r.stream.peek(blockBytes)
		if err != nil {
			return err
		}
		if len(head) < blockBytes {
			return nil
		}
		step := int64(blockBytes)
		if h, err := peekGroupHeader(head); err == nil {
			p, err := r.peekGroup(f, h.bytes())
			if err != nil {
				return err
			}
			if int64(len(p)) == h.bytes() && h.verify(p) == nil {
				info.Groups = append(info.Groups, GroupInfo{Offset: r.stream.off, Bytes: h.bytes(),
					Incarnation: h.incarnation, Sequence: h.sequence, Durable: h.durable, First: h.first, Last: h.last,
					Commits: int(h.commits), PayloadBytes: int(h.payload), CRC: h.crc, PrevCRC: h.prevCRC, End: h.end})
				step = h.bytes()
			}
		}
		r.stream.skip(step)
	}
}
