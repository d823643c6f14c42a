package object

import (
	"encoding/binary"
	"fmt"

	"stemma/wal"
)

// The frames of a stream of page reads and writes; docs/pages.md. A frame is a uint32, little-endian, of how many
// bytes follow, then a byte of kind, the id of the request, and what the kind says. Numbers are uvarints in their
// shortest form, texts have their length before them.

// PageFrameKind says what a frame is.
type PageFrameKind byte

// The kinds. Requests come from the client, answers from the server.
const (
	FrameRead    PageFrameKind = iota + 1 // request: bucket, a batch of reads
	FrameWrite                            // request: bucket, key, conditions, a batch of changes
	FrameResults                          // answer: a batch of what was read
	FrameWritten                          // answer: LSN, size, page size, ETag in quotes, file
	FrameFailed                           // answer: an error in JSON; with id 0 it is of the stream, which ends
)

// PageFrameHead is how many bytes tell the length of a frame.
const PageFrameHead = 4

// MaxPageFrame bounds a request, after its head, and MaxStreamedRead what one asks for, in bytes.
const (
	MaxPageFrame    = 4<<20 + 8<<10
	MaxStreamedRead = 4 << 20
)

// PageFrame is a request of a stream.
type PageFrame struct {
	Kind   PageFrameKind
	ID     uint64 // not 0; the client's choice, the answer has it
	Bucket string
	Reads  []PageRead // of FrameRead
	// Of FrameWrite. Of Create only whether it is there and whether it is exclusive goes over the wire.
	Key   string
	Write PageInput
}

// BeginPageFrame begins a frame, whose length EndPageFrame fills in.
func BeginPageFrame(dst []byte, kind PageFrameKind, id uint64) []byte {
	dst = append(dst, 0, 0, 0, 0, byte(kind))
	return binary.AppendUvarint(dst, id)
}

// EndPageFrame fills in the length of the frame that begins at an offset.
func EndPageFrame(p []byte, begin int) []byte {
	binary.LittleEndian.PutUint32(p[begin:], uint32(len(p)-begin-PageFrameHead))
	return p
}

// AppendPageFrame appends a request with its head.
func AppendPageFrame(dst []byte, f *PageFrame) []byte {
	begin := len(dst)
	dst = appendString(BeginPageFrame(dst, f.Kind, f.ID), f.Bucket)
	if f.Kind == FrameRead {
		return EndPageFrame(AppendPageReads(dst, f.Reads), begin)
	}
	w := &f.Write
	var create byte
	switch {
	case w.Create != nil && w.Create.Exclusive:
		create = 2
	case w.Create != nil:
		create = 1
	}
	dst = append(appendString(dst, f.Key), create)
	dst = binary.AppendUvarint(dst, uint64(w.PageBytes))
	dst = binary.AppendUvarint(dst, uint64(w.IfLSN))
	size := uint64(0) // any
	if w.IfSize != nil {
		size = *w.IfSize + 1
	}
	dst = appendString(binary.AppendUvarint(dst, size), w.IfMatch)
	return EndPageFrame(AppendPageOps(dst, w.Ops), begin)
}

// DecodePageFrame decodes what follows the head of a request; data aliases p. The kind and the id are told beside an
// error if they can be read, else the id is 0. Errors: ErrInvalidPageOp.
func DecodePageFrame(p []byte) (f PageFrame, err error) {
	bad := fmt.Errorf("malformed frame: %w", ErrInvalidPageOp)
	if len(p) == 0 {
		return f, bad
	}
	f.Kind = PageFrameKind(p[0])
	var ok bool
	if f.ID, p, ok = takeUvarint(p[1:]); !ok {
		return f, bad
	}
	if f.Kind != FrameRead && f.Kind != FrameWrite {
		return f, bad
	}
	bucket, p, ok := takeBytes(p)
	if !ok {
		return f, bad
	}
	f.Bucket = string(bucket)
	if f.Kind == FrameRead {
		f.Reads, err = DecodePageReads(p)
		return f, err
	}
	if p, ok = f.takeConditions(p); !ok {
		return f, bad
	}
	f.Write.Ops, err = DecodePageOps(p)
	return f, err
}

// takeConditions takes key and conditions of a write.
func (f *PageFrame) takeConditions(p []byte) (rest []byte, ok bool) {
	key, p, ok := takeBytes(p)
	if !ok || len(key) > MaxKeyBytes || len(p) == 0 || p[0] > 2 {
		return nil, false
	}
	f.Key = string(key)
	if p[0] > 0 {
		f.Write.Create = NewPageCreate(p[0] == 2)
	}
	var n [3]uint64
	p = p[1:]
	for i := range n {
		if n[i], p, ok = takeUvarint(p); !ok {
			return nil, false
		}
	}
	if n[0] > MaxPageBytes || n[1] > uint64(wal.MaxLSN) {
		return nil, false
	}
	f.Write.PageBytes, f.Write.IfLSN = int(n[0]), wal.LSN(n[1])
	if n[2] > 0 {
		size := n[2] - 1
		f.Write.IfSize = &size
	}
	match, p, ok := takeBytes(p)
	f.Write.IfMatch = string(match)
	return p, ok
}
