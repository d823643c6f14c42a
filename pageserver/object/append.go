package object

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// Append stores a body behind that of an object, in one commit. offset must be
// the size of the object; at offset 0 the object may also not be there, and is
// made as by Put. Nothing of what is there is read or copied, but for a body
// that rides in the log: the extents of the two follow each other. The object
// becomes one of parts, each append a part of it.
//
// Headers, user metadata and storage class are those of the object; giving
// others is ErrAppendChanges, except for a content type. A checksum of the whole
// is kept if it is a full-object CRC.
//
// What is appended to an encrypted object is encrypted under its data key.
//
// Errors: those of Put, ErrAppendClear, ErrKeyRequired, ErrWrongKey, ErrWriteOffset, ErrAppendChanges, ErrTooManyParts,
// ErrConflict.
func (s *Service) Append(ctx context.Context, bucket, key string, offset uint64, in *PutInput) (*Entry, error) {
	src, err := s.openSource(ctx, bucket, key, &GetInput{CustomerKey: in.CustomerKey})
	switch {
	case errors.Is(err, ErrNoSuchKey):
		if offset != 0 {
			return nil, fmt.Errorf("append at %d to nothing: %w", offset, ErrWriteOffset)
		}
		put := *in
		if put.Cond.IfMatch == "" {
			put.Cond.IfMatch = emptyTag
		}
		return s.Put(ctx, bucket, key, &put)
	case err != nil:
		return nil, fmt.Errorf("append: %w", err)
	}
	defer src.close()
	if src.paged() {
		return s.appendInPlace(ctx, bucket, key, src, offset, in)
	}
	a := appending{s: s, src: src, in: in, key: key}
	if err := a.check(ctx, bucket, offset); err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	sc := getScratch()
	defer sc.put()
	defer a.stored.done()
	e, err := a.run(ctx, sc, bucket)
	if errors.Is(err, errChanged) {
		// Most often somebody else has appended.
		if now, err := s.Head(ctx, bucket, key, &GetInput{CustomerKey: in.CustomerKey}); err != nil || now.Size != offset {
			return nil, fmt.Errorf("append: %w", ErrWriteOffset)
		}
		err = ErrConflict
	}
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	return e, nil
}

// appending is one call of Append to an object that is there.
type appending struct {
	s      *Service
	src    *source // the object
	in     *PutInput
	key    string
	stored stored
}

// check refuses what is wrong before the body is read.
func (a *appending) check(ctx context.Context, bucket string, offset uint64) error {
	old := a.src.entry
	if err := a.checkSSE(ctx, bucket); err != nil {
		return err
	}
	if offset != old.Size {
		return fmt.Errorf("at %d of %d bytes: %w", offset, old.Size, ErrWriteOffset)
	}
	given := a.in.Headers
	given.ContentType = ""
	if given != (Headers{}) || len(a.in.UserMeta) > 0 || len(a.in.Tags) > 0 || a.in.ACL != nil || a.in.StorageClass != Standard && a.in.StorageClass != old.StorageClass {
		return ErrAppendChanges
	}
	if max(old.PartsCount, 1) >= MaxPartNumber {
		return fmt.Errorf("%d parts: %w", old.PartsCount, ErrTooManyParts)
	}
	if old.Size+uint64(max(a.in.Size, 0)) > maxObjectBytes {
		return ErrEntityTooLarge
	}
	if err := a.s.store.AdmitWrite(ctx); err != nil { // before the body is sent
		return err
	}
	if a.in.Size > 0 {
		if err := a.s.checkFits(ctx, bucket, []byte(a.key), a.in.Size, old); err != nil {
			return err
		}
	}
	if !a.in.Cond.any() {
		return nil
	}
	return a.s.CheckWrite(ctx, bucket, a.key, &a.in.Cond)
}

// checkSSE refuses to encrypt otherwise than the object is, and to store in the clear what
// the bucket encrypts.
func (a *appending) checkSSE(ctx context.Context, bucket string) error {
	old, want := a.src.entry.crypt, a.in.SSE
	if want.Kind == NoSSE && old == nil {
		var err error
		if want, err = a.s.defaultSSE(ctx, bucket); err == nil && want.Kind != NoSSE {
			err = ErrAppendClear
		}
		return err
	}
	if want.Kind == NoSSE {
		return nil
	}
	return a.s.sameSSE(old, want)
}

// sameSSE refuses an encryption other than the one that there is. Error: ErrAppendChanges.
func (s *Service) sameSSE(old *crypt, want SSE) error {
	if old == nil || want.Kind != old.Kind || want.Context != "" && want.Context != old.Context {
		return ErrAppendChanges
	}
	if want.Kind == SSEKMS && want.KeyID != "" {
		if id, err := s.kmsKey(want.KeyID); err != nil || id != old.KeyID {
			return errors.Join(err, ErrAppendChanges)
		}
	}
	return nil
}

// whole reports whether the object has no bytes and no parts yet.
func (a *appending) whole() bool { return a.src.entry.Size == 0 && a.src.entry.PartsCount == 0 }

// crypt returns the encryption of the object as it becomes, and as which part of it the piece
// is sealed; nil if it is not encrypted.
func (a *appending) crypt() (*crypt, int, error) {
	old := a.src.entry
	switch {
	case old.crypt == nil:
		return nil, 0, nil
	case a.whole(): // the piece is all of it, and no key encrypts two bodies
		c, err := a.s.newCrypt(old.crypt.SSE, a.in.CustomerKey)
		return c, 0, err
	}
	c, err := a.s.sealKey(old.crypt.key, old.crypt.SSE, a.in.CustomerKey)
	if err != nil {
		return nil, 0, err
	}
	c.bodyFirst = old.crypt.bodyFirst || old.PartsCount == 0
	if err := a.s.load(a.src); err != nil {
		return nil, 0, err
	}
	parts, err := a.s.loadParts(old, a.src.ext)
	if err != nil {
		return nil, 0, err
	}
	number := 2
	if len(parts) > 0 {
		number = parts[len(parts)-1].Number + 1
	}
	if number > MaxPartNumber { // what is sealed is bound to its number
		return nil, 0, fmt.Errorf("part %d: %w", number, ErrTooManyParts)
	}
	return c, number, nil
}

func (a *appending) run(ctx context.Context, sc *scratch, bucket string) (*Entry, error) {
	old := a.src.entry
	algorithm := CRC64NVME
	if sum := &old.Checksum; sum.Algorithm.fullObject() && !sum.Composite {
		algorithm = sum.Algorithm
	}
	crypt, part, err := a.crypt()
	if err != nil {
		return nil, err
	}
	in := incoming{
		body: a.in.Body, size: a.in.Size, maximum: a.s.o.MaxPutBytes, md5: a.in.ContentMD5, expect: &a.in.Checksum,
		algorithm: algorithm, inlineBelow: a.s.o.MaxInlineBytes, crypt: crypt, part: part,
	}
	if part != 0 {
		in.inlineBelow = 0 // only a whole body is sealed inline
	}
	r, err := a.s.receive(ctx, sc, &a.stored, &in)
	if err != nil {
		return nil, err
	}
	r.md5 = crypt.tag(r.md5)
	e := *old
	e.crypt = crypt
	e.uploadID, e.LSN, e.made, e.renamed, e.Versioned, e.Lock = uploadID{}, 0, 0, renameToken{}, false, a.in.Lock
	e.Size += r.size
	if e.Checksum.Algorithm == algorithm && !e.Checksum.Composite {
		crc := newCRCCombiner(algorithm)
		crc.add(&old.Checksum, old.Size)
		crc.add(&r.sum, r.size)
		e.Checksum = crc.sum(algorithm)
	} else {
		e.Checksum = Checksum{}
	}
	body, err := a.join(ctx, &e, r)
	if err != nil {
		return nil, err
	}
	sc.key = append(sc.key[:0], a.key...)
	if err := a.s.commitEntry(ctx, sc, bucket, &Conditions{unchanged: a.src.lsn}, &e, body); err != nil {
		return nil, err
	}
	return &e, nil
}

// join returns the body of the object as it becomes, and describes its parts in e.
func (a *appending) join(ctx context.Context, e *Entry, r *received) (layers.Body, error) {
	old := a.src.entry
	var inlineOld, inlineNew []byte
	if a.src.body.Tag() == layers.BodyInline {
		inlineOld = a.src.body.Inline()
	}
	if r.body.Tag() == layers.BodyInline {
		inlineNew = r.body.Inline()
	}
	if err := a.s.load(a.src); err != nil {
		return nil, err
	}
	parts, err := a.parts(r)
	if err != nil {
		return nil, err
	}
	table := e.setParts(parts)
	var ext []layers.Extent
	stored := old.Size
	if old.crypt != nil {
		stored = length(a.src.ext) - old.parts.tail
		if a.whole() { // there is nothing in what is sealed
			inlineOld, stored = nil, 0
		}
		if inlineNew != nil && table == nil && r.ext == nil {
			return r.body, nil
		}
	} else if uint64(len(inlineOld)+len(inlineNew)) == e.Size && e.Size < uint64(a.s.o.MaxInlineBytes) && table == nil {
		return layers.AppendInlineBody(nil, slices.Concat(inlineOld, inlineNew)), nil
	}
	for _, piece := range []struct {
		inline []byte
		ext    []layers.Extent
	}{{inlineOld, slice(a.src.ext, 0, stored)}, {inlineNew, r.ext}, {table, nil}} {
		if len(piece.inline) > 0 {
			if piece.ext, err = a.s.writeValue(ctx, &a.stored, piece.inline); err != nil {
				return nil, err
			}
		}
		ext = join(ext, piece.ext)
	}
	return a.s.appendBody(ctx, &a.stored, nil, ext)
}

// parts returns those of the object as it becomes; none if the new piece is all of it.
func (a *appending) parts(r *received) ([]PartInfo, error) {
	old := a.src.entry
	parts, err := a.s.loadParts(old, a.src.ext)
	if err != nil {
		return nil, err
	}
	for i := range parts {
		parts[i].Checksum = Checksum{} // the whole is no composite any more
	}
	if parts == nil && old.Size > 0 {
		parts = []PartInfo{{Number: 1, Size: old.Size, MD5: old.ETag.Sum}}
	}
	number := 1
	if len(parts) > 0 {
		number = parts[len(parts)-1].Number + 1
	}
	if number > MaxPartNumber { // numbers with gaps: count them anew
		for i := range parts {
			parts[i].Number = i + 1
		}
		number = len(parts) + 1
	}
	return append(parts, PartInfo{Number: number, Size: r.size, MD5: r.md5}), nil
}

// setParts makes e an object of the parts; a single one is the object itself.
// It returns the table if it is to lie behind the body.
func (e *Entry) setParts(parts []PartInfo) (tail []byte) {
	e.PartsCount, e.parts = 0, partTable{}
	if len(parts) == 1 {
		e.ETag = ETag{Sum: parts[0].MD5}
		return nil
	}
	e.PartsCount = len(parts)
	var tag tagOfParts
	for i := range parts {
		tag.add(parts[i].MD5)
	}
	e.ETag = tag.tag()
	return e.keepParts(parts)
}

// keepParts keeps the table of the parts in e, or returns it if it is so long that
// it must lie behind the body.
func (e *Entry) keepParts(parts []PartInfo) (tail []byte) {
	table := appendParts(nil, parts)
	if len(table) <= maxInlineParts {
		e.parts.inline = table
		return nil
	}
	if e.crypt != nil {
		table = e.crypt.small().sealSmall(purposeTable, table)
	}
	e.parts.tail = uint64(len(table))
	return table
}

// errChanged says that the object is not the version that the write builds upon.
var errChanged = errors.New("object: changed meanwhile")

// checkUnchanged is the condition of a write that builds upon a version.
func checkUnchanged(have, want wal.LSN) error {
	if want != 0 && have != want {
		return errChanged
	}
	return nil
}
