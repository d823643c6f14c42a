package object

import (
	"encoding/binary"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// The compact forms of batches on the wire; docs/pages.md. Each begins with a byte
// of version, 1; numbers are uvarints in their shortest form.
const pageWireVersion = 1

// AppendPageOps appends changes: per change the kind (1 byte) and the offset, then of
// a write the length and the bytes, of zeros the length. Of metadata the name and the value, each with its length before it.
func AppendPageOps(dst []byte, ops []PageOp) []byte {
	dst = append(dst, pageWireVersion)
	for i := range ops {
		o := &ops[i]
		if o.Kind == PageMeta {
			dst = appendString(appendString(append(dst, byte(o.Kind)), o.Name), string(o.Data))
			continue
		}
		dst = binary.AppendUvarint(append(dst, byte(o.Kind)), o.Off)
		switch o.Kind {
		case PageWrite:
			dst = append(binary.AppendUvarint(dst, uint64(len(o.Data))), o.Data...)
		case PageZero:
			dst = binary.AppendUvarint(dst, o.Len)
		}
	}
	return dst
}

// MaxPageOps bounds the changes of one batch on the wire.
const MaxPageOps = 1 << 16

// DecodePageOps is the inverse of AppendPageOps; data aliases p. Errors: ErrInvalidPageOp.
func DecodePageOps(p []byte) (ops []PageOp, err error) {
	bad := fmt.Errorf("malformed batch: %w", ErrInvalidPageOp)
	if len(p) == 0 || p[0] != pageWireVersion {
		return nil, bad
	}
	for p = p[1:]; len(p) > 0; {
		o := PageOp{Kind: PageOpKind(p[0])}
		var ok bool
		if len(ops) == MaxPageOps {
			return nil, bad
		}
		if o.Kind == PageMeta {
			var name []byte
			if name, p, ok = takeBytes(p[1:]); ok {
				o.Data, p, ok = takeBytes(p)
			}
			if !ok {
				return nil, bad
			}
			o.Name = string(name)
			ops = append(ops, o)
			continue
		}
		if o.Off, p, ok = takeUvarint(p[1:]); !ok {
			return nil, bad
		}
		switch o.Kind {
		case PageWrite:
			o.Data, p, ok = takeBytes(p)
		case PageZero:
			o.Len, p, ok = takeUvarint(p)
		case PageResize:
		default:
			ok = false
		}
		if !ok {
			return nil, bad
		}
		ops = append(ops, o)
	}
	return ops, nil
}

// AppendPageReads appends reads: per read the length of the key, the key, LSN, offset
// and length.
func AppendPageReads(dst []byte, reads []PageRead) []byte {
	dst = append(dst, pageWireVersion)
	for i := range reads {
		r := &reads[i]
		dst = appendString(dst, r.Key)
		for _, n := range [...]uint64{uint64(r.At), r.Off, r.Len} {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	return dst
}

// DecodePageReads is the inverse of AppendPageReads. Errors: ErrInvalidPageOp.
func DecodePageReads(p []byte) (reads []PageRead, err error) {
	bad := fmt.Errorf("malformed batch: %w", ErrInvalidPageOp)
	if len(p) == 0 || p[0] != pageWireVersion {
		return nil, bad
	}
	for p = p[1:]; len(p) > 0; {
		key, rest, ok := takeBytes(p)
		var n [3]uint64
		for i := range n {
			if ok {
				n[i], rest, ok = takeUvarint(rest)
			}
		}
		if !ok || len(key) > MaxKeyBytes || n[0] > uint64(wal.MaxLSN) || len(reads) == MaxPageReads {
			return nil, bad
		}
		reads, p = append(reads, PageRead{Key: string(key), At: wal.LSN(n[0]), Off: n[1], Len: n[2]}), rest
	}
	return reads, nil
}

// pageStatuses are the errors of a read by their status on the wire.
var pageStatuses = []error{
	1: ErrNoSuchKey,
	2: ErrHistoryGone,
	3: timeline.ErrFuture,
	4: layers.ErrCorrupt,
	5: timeline.ErrNoSuchBucket,
	6: ErrKeyRequired,
}

// ErrHistoryGone says of a read from the wire that its LSN cannot be read any more.
var ErrHistoryGone = errors.New("object: history is gone")

// otherStatus is that of any other error.
const otherStatus = 255

// AppendPageResults appends what was read: per read a byte of status, then with status
// 0 the LSN of the version, the size of the object, and length and bytes of what was
// read; else length and bytes of a message.
func AppendPageResults(dst []byte, results []PageReadResult) []byte {
	dst = append(dst, pageWireVersion)
	for i := range results {
		r := &results[i]
		if r.Err == nil {
			dst = binary.AppendUvarint(append(dst, 0), uint64(r.LSN))
			dst = binary.AppendUvarint(dst, r.Size)
			dst = append(binary.AppendUvarint(dst, uint64(len(r.Data))), r.Data...)
			continue
		}
		status := byte(otherStatus)
		var gone *timeline.BelowHorizonError
		if errors.As(r.Err, &gone) {
			status = 2
		}
		if errors.Is(r.Err, ErrCorrupt) { // of this package
			status = 4
		}
		for s, err := range pageStatuses {
			if err != nil && errors.Is(r.Err, err) {
				status = byte(s)
			}
		}
		dst = appendString(append(dst, status), r.Err.Error())
	}
	return dst
}

// DecodePageResults is the inverse of AppendPageResults, as far as errors go; data aliases
// p. Errors: ErrCorrupt.
func DecodePageResults(p []byte) (results []PageReadResult, err error) {
	if len(p) == 0 || p[0] != pageWireVersion {
		return nil, corrupt("batch of pages")
	}
	for p = p[1:]; len(p) > 0; {
		status := p[0]
		p = p[1:]
		var r PageReadResult
		var ok bool
		if status == 0 {
			var lsn uint64
			if lsn, p, ok = takeUvarint(p); ok {
				r.LSN = wal.LSN(lsn)
				if r.Size, p, ok = takeUvarint(p); ok {
					r.Data, p, ok = takeBytes(p)
				}
			}
		} else {
			var message []byte
			message, p, ok = takeBytes(p)
			r.Err = errors.New(string(message))
			if int(status) < len(pageStatuses) {
				r.Err = fmt.Errorf("%s: %w", message, pageStatuses[status])
			}
		}
		if !ok {
			return nil, corrupt("batch of pages")
		}
		results = append(results, r)
	}
	return results, nil
}
