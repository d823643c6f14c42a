package object

import (
	"context"
	"fmt"
	"strings"

	"stemma/layers"
	"stemma/timeline"
)

// PutPart stores a part of an upload, in place of an earlier one with the same
// number. It is durable on return.
//
// Errors: ErrPartNumber, ErrNoSuchUpload, ErrChecksumType, ErrEntityTooLarge,
// ErrIncompleteBody, ErrInvalidDigest, ErrInvalidChecksum, ErrBadDigest, *QuotaError of
// what is certain not to fit, timeline.ErrNoSuchBucket, those of the reader and of a commit.
func (s *Service) PutPart(ctx context.Context, bucket, key, id string, number int, in *PutPartInput) (*Part, error) {
	o, err := parsePart(key, id, number)
	if err != nil {
		return nil, err
	}
	u, err := s.peek(ctx, bucket, &o)
	if err == nil {
		err = s.store.AdmitWrite(ctx) // before the body is sent
	}
	if err == nil {
		err = s.checkFits(ctx, bucket, []byte(key), in.Size, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("put part: %w", err)
	}
	if err := s.unlockUpload(u, in.CustomerKey); err != nil {
		return nil, fmt.Errorf("put part: %w", err)
	}
	if a := in.Checksum.Algorithm; a != NoChecksum && a != u.algorithm && !u.implicit {
		return nil, fmt.Errorf("part with %v, upload with %v: %w", a, u.algorithm, ErrChecksumType)
	}
	sc := getScratch()
	defer sc.put()
	var st stored
	defer st.done()
	r, err := s.receive(ctx, sc, &st, &incoming{
		body: in.Body, size: in.Size, maximum: MaxPartBytes, md5: in.ContentMD5, expect: &in.Checksum, algorithm: u.algorithm,
		crypt: u.crypt, part: number,
	})
	if err != nil {
		return nil, fmt.Errorf("put part: %w", err)
	}
	rec := partRecord{size: r.size, md5: u.crypt.tag(r.md5), checksum: r.sum}
	part, err := s.commitPart(ctx, sc, &st, bucket, &o, number, &rec, u.crypt, r.ext)
	if err != nil {
		return nil, fmt.Errorf("put part: %w", err)
	}
	part.Checksum = r.told
	return part, nil
}

func parsePart(key, id string, number int) (openUpload, error) {
	if number < 1 || number > MaxPartNumber {
		return openUpload{}, fmt.Errorf("part %d: %w", number, ErrPartNumber)
	}
	return parseUpload(key, id)
}

// commitPart makes a part of durable extents visible, if the upload still is.
func (s *Service) commitPart(
	ctx context.Context, sc *scratch, st *stored, bucket string, o *openUpload, number int, rec *partRecord, crypt *crypt, ext []layers.Extent,
) (*Part, error) {
	body, err := s.appendBody(ctx, st, nil, ext)
	if err != nil {
		return nil, err
	}
	sc.key = append(sc.key[:0], partKey(o.id, number)...)
	sc.meta = rec.append(sc.meta[:0], crypt)
	sc.locks = append(sc.locks[:0],
		timeline.Lock{NS: layers.NamespaceUploads, Key: o.user},
		timeline.Lock{NS: layers.NamespaceUploads, Key: sc.key})
	lsn, err := s.store.Update(ctx, bucket, sc.locks, func(tx *timeline.Tx) error {
		if _, _, err := o.load(tx); err != nil {
			return err
		}
		tx.Put(layers.NamespaceUploads, sc.key, sc.meta, body)
		return nil
	})
	if err != nil {
		return nil, err
	}
	part := rec.describe(number, lsn)
	if crypt != nil {
		part.SSE = crypt.SSE
	}
	return &part, nil
}

// CopyPart makes bytes of an object a part of an upload, by handle unless one of
// them is encrypted, for each upload has a key of its own. It reads
// them only when the upload was created with a checksum algorithm; otherwise
// the part has no checksum, and its ETag is no MD5 unless it is a whole object
// that has one. Bytes that ride in the log are stored as a part of their own.
//
// Errors: ErrPartNumber, ErrNoSuchUpload, ErrPreconditionFailed, *RangeError,
// ErrEntityTooLarge, those of Get for the source and of a commit.
func (s *Service) CopyPart(ctx context.Context, bucket, key, id string, number int, in *CopyPartInput) (*Part, error) {
	o, err := parsePart(key, id, number)
	if err != nil {
		return nil, err
	}
	u, err := s.peek(ctx, bucket, &o)
	if err != nil {
		return nil, fmt.Errorf("copy part: %w", err)
	}
	if err := s.unlockUpload(u, in.CustomerKey); err != nil {
		return nil, fmt.Errorf("copy part: %w", err)
	}
	src, err := s.openSource(ctx, in.SrcBucket, in.SrcKey, &GetInput{
		At: in.SrcAt, Version: in.SrcVersion, Cond: in.SrcCond, CustomerKey: in.SrcCustomerKey, Allow: in.SrcAllow,
	})
	if err != nil {
		return nil, fmt.Errorf("copy part: %w", err)
	}
	defer src.close()
	off, n, err := in.bytes(src.entry.Size)
	if err != nil {
		return nil, fmt.Errorf("copy part: %w", err)
	}
	sc := getScratch()
	defer sc.put()
	var st stored
	defer st.done()
	var rec *partRecord
	var ext []layers.Extent
	if u.crypt == nil && src.entry.crypt == nil {
		rec, ext, err = s.sourcePart(ctx, &st, u, src, off, n)
	} else {
		rec, ext, err = s.rewritePart(ctx, sc, &st, u, src, number, off, n)
	}
	if err != nil {
		return nil, fmt.Errorf("copy part: %w", err)
	}
	part, err := s.commitPart(ctx, sc, &st, bucket, &o, number, rec, u.crypt, ext)
	if err != nil {
		return nil, fmt.Errorf("copy part: %w", err)
	}
	part.SrcLSN, part.SrcID = src.entry.LSN, src.id
	return part, nil
}

// bytes returns the range of a source of size bytes that is copied. Unlike the
// range of a read it must be well-formed, closed and within the source.
// Errors: ErrInvalidCopyRange, *RangeError, ErrEntityTooLarge.
func (in *CopyPartInput) bytes(size uint64) (off, n uint64, err error) {
	if in.Range != "" {
		spec, ok := strings.CutPrefix(in.Range, "bytes=")
		first, last, cut := strings.Cut(spec, "-")
		off, okFirst := parseOffset(first)
		end, okLast := parseOffset(last)
		if !ok || !cut || !okFirst || !okLast || end < off {
			return 0, 0, fmt.Errorf("range %q: %w", in.Range, ErrInvalidCopyRange)
		}
		if end >= size {
			return 0, 0, &RangeError{Range: in.Range, Size: size}
		}
		return off, end - off + 1, checkPartSize(end - off + 1)
	}
	return 0, size, checkPartSize(size)
}

func checkPartSize(n uint64) error {
	if n > MaxPartBytes {
		return fmt.Errorf("part of %d bytes, at most %d: %w", n, uint64(MaxPartBytes), ErrEntityTooLarge)
	}
	return nil
}

// sourcePart returns the record and the extents of a part made of bytes
// [off, off+n) of src.
func (s *Service) sourcePart(ctx context.Context, st *stored, u *uploadRecord, src *source, off, n uint64) (*partRecord, []layers.Extent, error) {
	rec := &partRecord{size: n}
	whole := off == 0 && n == src.entry.Size && src.entry.ETag.Parts == 0
	sum := src.entry.Checksum
	switch inline := src.body.Tag() == layers.BodyInline; {
	case whole && !sum.Composite && sum.Algorithm == u.algorithm:
		rec.md5, rec.checksum = src.entry.ETag.Sum, sum
	case inline || !u.implicit:
		var err error
		if rec.md5, rec.checksum, err = s.checksum(ctx, src, off, n, u.algorithm); err != nil {
			return nil, nil, err
		}
	case whole:
		rec.md5 = src.entry.ETag.Sum
	default:
		rec.md5 = copiedPartSum(src.entry.ETag, uint64(src.entry.LSN), off, n)
	}
	if src.paged() {
		flat, err := s.flatten(ctx, src.entry, src.views, off, n, true, nil)
		if err != nil {
			return nil, nil, err
		}
		src.flat = flat // closed with it
		return rec, flat.ext, nil
	}
	if src.body.Tag() == layers.BodyInline {
		p := src.body.Inline()
		if off+n > uint64(len(p)) {
			return nil, nil, corrupt("body of %d bytes, the entry says %d", len(p), src.entry.Size)
		}
		ext, err := s.writeValue(ctx, st, p[off:off+n])
		return rec, ext, err
	}
	if err := s.load(src); err != nil {
		return nil, nil, err
	}
	ext := slice(src.ext, off, n)
	if length(ext) != n {
		return nil, nil, corrupt("body of %d bytes, the entry says %d", length(src.ext), src.entry.Size)
	}
	return rec, ext, nil
}
