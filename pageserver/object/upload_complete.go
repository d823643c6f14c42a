package object

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/timeline"
)

// CompleteUpload makes an upload the object at its key: the extents of the parts
// named, one after the other. No data is copied, and the upload and all of its parts
// are forgotten in the same commit. A repeated call gives the entry that the
// first one made, as long as that is the object at the key.
//
// Errors: ErrNoSuchUpload, ErrMalformedParts, ErrPartNumber,
// ErrInvalidPartOrder, *PartError with ErrInvalidPart or ErrEntityTooSmall,
// ErrObjectSize, ErrChecksumType, ErrBadDigest,
// ErrPreconditionFailed, ErrNoSuchKey (of IfMatch), timeline.ErrNoSuchBucket,
// and those of a commit.
func (s *Service) CompleteUpload(ctx context.Context, bucket, key, id string, in *CompleteInput) (*Entry, error) {
	o, err := parseUpload(key, id)
	if err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	last := *in
	last.Parts = lastOfEach(in.Parts)
	c := completion{s: s, o: &o, in: &last, key: []byte(key)}
	defer c.letGo()
	// Exclusively, for versions and conditions look at what is there.
	locks := []timeline.Lock{
		{NS: layers.NamespaceUploads, Key: o.user, Exclusive: true},
		{NS: layers.NamespaceObjects, Key: c.key, Exclusive: true},
	}
	lsn, err := s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) error { return c.run(ctx, tx) })
	if err != nil {
		return nil, fmt.Errorf("complete upload: %w", err)
	}
	if !c.repeated {
		c.entry.LSN = lsn
	}
	return c.entry, nil
}

// lastOfEach returns parts with the last of those that have the same number: a client that
// sent a part twice may name both, and the one that is there came last.
func lastOfEach(parts []CompletePart) []CompletePart {
	for i := 1; i < len(parts); i++ {
		if parts[i].Number != parts[i-1].Number {
			continue
		}
		last := slices.Clone(parts[:i])
		for _, p := range parts[i:] {
			if k := len(last) - 1; last[k].Number == p.Number {
				last[k] = p
			} else {
				last = append(last, p)
			}
		}
		return last
	}
	return parts
}

// check refuses a list of parts that no upload could have.
func (in *CompleteInput) check() error {
	if len(in.Parts) == 0 || len(in.Parts) > MaxPartNumber {
		return fmt.Errorf("complete with %d parts: %w", len(in.Parts), ErrMalformedParts)
	}
	for i := range in.Parts {
		n := in.Parts[i].Number
		if n < 1 || n > MaxPartNumber {
			return fmt.Errorf("part %d: %w", n, ErrPartNumber)
		}
		if i > 0 && n < in.Parts[i-1].Number {
			return fmt.Errorf("part %d after %d: %w", n, in.Parts[i-1].Number, ErrInvalidPartOrder)
		}
	}
	return nil
}

// completion is one call of CompleteUpload. Its transaction may run again when
// the bucket's name moves.
type completion struct {
	s   *Service
	o   *openUpload
	in  *CompleteInput
	key []byte

	upload *uploadRecord
	parts  []partRecord // as in.Parts
	ext    []layers.Extent
	size   uint64 // of the object
	// What must last until the commit has ended.
	stored  stored
	release func()
	holds   holds

	entry    *Entry
	repeated bool
}

func (c *completion) letGo() {
	c.stored.done()
	c.holds.letGo()
	if c.release != nil {
		c.release()
		c.release = nil
	}
}

func (c *completion) run(ctx context.Context, tx *timeline.Tx) error {
	c.letGo()
	var err error
	if c.upload, _, err = c.o.load(tx); err != nil {
		if errors.Is(err, ErrNoSuchUpload) {
			return c.repeat(tx, err)
		}
		return err
	}
	if err := c.s.unlockUploadFields(c.upload, c.in.CustomerKey); err != nil {
		return err
	}
	if err := c.s.checkWrite(&c.in.Cond, tx, c.key); err != nil {
		return err
	}
	if err := c.loadParts(tx); err != nil {
		return err
	}
	if err := c.checkSizes(); err != nil {
		return err
	}
	// The records of the parts go; from here on the holds keep their bytes.
	if c.release, err = c.s.values.Hold(segmentsOf(c.ext)); err != nil {
		return err
	}
	if err := c.describe(ctx); err != nil {
		return err
	}
	body, err := c.s.appendBody(ctx, &c.stored, nil, c.ext)
	if err != nil {
		return err
	}
	set, err := c.s.settings(tx)
	if err != nil {
		return err
	}
	c.entry.Lock = c.upload.lock.orDefault(set, c.s.now())
	w := keyWriter{s: c.s, tx: tx, set: set, holds: &c.holds, key: c.key}
	if err := w.put(c.entry, body); err != nil {
		return err
	}
	return c.o.forget(tx)
}

// repeat answers a complete of an upload that is gone: the object says whether
// this very upload made it.
func (c *completion) repeat(tx *timeline.Tx, gone error) error {
	e, _, err := lookup(tx, string(c.key))
	switch {
	case errors.Is(err, ErrNoSuchKey):
		return gone
	case err != nil:
		return err
	case e.uploadID != c.o.id:
		return gone
	}
	if err := c.s.unlockFields(e, c.in.CustomerKey); err != nil {
		return err
	}
	c.entry, c.repeated = e, true
	return nil
}

// loadParts finds the parts named, and checks tags and checksums.
func (c *completion) loadParts(tx *timeline.Tx) error {
	want := c.in.Parts
	c.parts, c.ext = make([]partRecord, 0, len(want)), nil
	err := c.o.eachPart(tx, 0, func(number int, rec *layers.Record) (bool, error) {
		p := &want[len(c.parts)]
		if number < p.Number {
			return true, nil
		}
		if number > p.Number {
			return false, nil
		}
		var part partRecord
		if err := part.decode(rec.Meta); err != nil {
			return false, fmt.Errorf("part %d: %w", number, err)
		}
		if err := part.unlock(c.upload.crypt); err != nil {
			return false, fmt.Errorf("part %d: %w", number, err)
		}
		if err := c.checkPart(p, &part); err != nil {
			return false, err
		}
		ext, err := c.s.values.LoadExtents(rec.Body, nil)
		if err != nil {
			return false, fmt.Errorf("part %d: %w", number, err)
		}
		c.parts, c.ext = append(c.parts, part), join(c.ext, ext)
		return len(c.parts) < len(want), nil
	})
	if err == nil && len(c.parts) < len(want) {
		p := &want[len(c.parts)]
		err = &PartError{Err: ErrInvalidPart, Number: p.Number, ETag: p.ETag}
	}
	return err
}

// checkPart compares a part with what the caller takes it for.
func (c *completion) checkPart(want *CompletePart, got *partRecord) error {
	fail := func(err error) error {
		return &PartError{Err: err, Number: want.Number, ETag: want.ETag, Size: got.size}
	}
	if tag, ok := ParseETag(want.ETag); !ok || tag != (ETag{Sum: got.md5}) {
		return fail(ErrInvalidPart)
	}
	switch a := want.Checksum.Algorithm; {
	case a == NoChecksum: // the tag says which part is meant
	case a == c.upload.algorithm:
		if got.checksum.Algorithm == a && got.checksum != want.Checksum {
			return fail(ErrInvalidPart)
		}
	case !c.upload.implicit:
		return fail(ErrInvalidPart)
	}
	return nil
}

func (c *completion) checkSizes() error {
	var size, stored uint64
	for i := range c.parts {
		n := c.parts[i].size
		if stored += n; c.upload.crypt != nil {
			stored += sealedLen(n, true) - n
		}
		if n < uint64(c.s.o.MinPartBytes) && i < len(c.parts)-1 {
			p := &c.in.Parts[i]
			return &PartError{Err: ErrEntityTooSmall, Number: p.Number, ETag: p.ETag, Size: n}
		}
		size += n
	}
	if have := length(c.ext); have != stored {
		return corrupt("parts of %d bytes have bodies of %d", stored, have)
	}
	c.size = size
	if c.in.Size >= 0 && size != uint64(c.in.Size) {
		return fmt.Errorf("parts of %d bytes, promised were %d: %w", size, c.in.Size, ErrObjectSize)
	}
	return nil
}

// describe makes the entry, and stores a long parts table behind the body.
func (c *completion) describe(ctx context.Context) error {
	e := &Entry{
		Size: c.size, StorageClass: c.upload.class, PartsCount: len(c.parts),
		Headers: c.upload.headers, UserMeta: c.upload.userMeta, Tags: c.upload.tags, uploadID: c.o.id, Access: c.upload.access,
	}
	var tag tagOfParts
	infos := make([]PartInfo, len(c.parts))
	for i := range c.parts {
		p := &c.parts[i]
		tag.add(p.md5)
		infos[i] = PartInfo{Number: c.in.Parts[i].Number, Size: p.size, MD5: p.md5}
		if c.upload.composite {
			infos[i].Checksum = p.checksum
		}
	}
	e.ETag = tag.tag()
	e.Checksum = c.checksum()
	if err := c.checkChecksum(&e.Checksum); err != nil {
		return err
	}
	switch crypt := c.upload.crypt; {
	case crypt == nil:
	case crypt.key == nil: // without the customer's key
		e.crypt = crypt
	default:
		var err error
		if e.crypt, err = c.s.sealKey(crypt.key, crypt.SSE, c.in.CustomerKey); err != nil {
			return err
		}
	}
	if table := e.keepParts(infos); table != nil {
		ext, err := c.s.writeValue(ctx, &c.stored, table)
		if err != nil {
			return fmt.Errorf("store parts table: %w", err)
		}
		c.ext = slices.Concat(c.ext, ext)
	}
	c.entry = e
	return nil
}

// checksum returns that of the object, none when a part of an upload without a
// chosen algorithm lacks its own.
func (c *completion) checksum() Checksum {
	a := c.upload.algorithm
	for i := range c.parts {
		if c.parts[i].checksum.Algorithm != a {
			return Checksum{}
		}
	}
	if c.upload.composite {
		var sum summer
		sum.reset(a)
		for i := range c.parts {
			sum.write(c.parts[i].checksum.Bytes())
		}
		whole := sum.sum()
		whole.Composite, whole.Parts = true, len(c.parts)
		return whole
	}
	crc := newCRCCombiner(a)
	for i := range c.parts {
		crc.add(&c.parts[i].checksum, c.parts[i].size)
	}
	return crc.sum(a)
}

// checkChecksum compares the object's checksum with what was promised. The
// number of parts of a composite one may be left out.
func (c *completion) checkChecksum(got *Checksum) error {
	want := &c.in.Checksum
	if t := c.in.ChecksumType; t != "" && t != checksumType(c.upload.algorithm, c.upload.composite) {
		return fmt.Errorf("checksum of type %q, the upload has %v: %w", t, checksumType(c.upload.algorithm, c.upload.composite), ErrChecksumType)
	}
	if want.Algorithm == NoChecksum {
		return nil
	}
	if want.Algorithm != got.Algorithm {
		return fmt.Errorf("checksum of %v, the upload has %v: %w", want.Algorithm, got.Algorithm, ErrChecksumType)
	}
	if want.Sum != got.Sum || want.Composite && (!got.Composite || want.Parts != got.Parts) {
		return fmt.Errorf("%v is %v, promised was %v: %w", got.Algorithm, *got, *want, ErrBadDigest)
	}
	return nil
}
