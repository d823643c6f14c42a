package object

import (
	"context"
	"crypto/subtle"

	"stemma/layers"
)

// cryptFor returns a new data key for what a request writes; nil if it is not to be
// encrypted. Errors: those of newCrypt, timeline.ErrNoSuchBucket.
func (s *Service) cryptFor(ctx context.Context, bucket string, want SSE, customer *CustomerKey) (*crypt, error) {
	if want.Kind == NoSSE {
		var err error
		if want, err = s.defaultSSE(ctx, bucket); err != nil || want.Kind == NoSSE {
			return nil, err
		}
	}
	return s.newCrypt(want, customer)
}

// defaultSSE returns how a bucket encrypts what requests say nothing of.
func (s *Service) defaultSSE(ctx context.Context, bucket string) (SSE, error) {
	set, err := s.Settings(ctx, bucket, 0)
	if err != nil {
		return SSE{}, err
	}
	return s.defaultOf(set), nil
}

// defaultOf is defaultSSE of a bucket with settings.
func (s *Service) defaultOf(set *Settings) SSE {
	switch {
	case set.Encryption != nil:
		return set.Encryption.sse()
	case s.o.EncryptAll:
		return SSE{Kind: SSES3}
	}
	return SSE{}
}

// copyCrypt returns the encryption of a copy, and whether the body can stay as it is.
func (s *Service) copyCrypt(ctx context.Context, bucket string, in *CopyInput, src *crypt) (c *crypt, stays bool, err error) {
	want := in.SSE
	if want.Kind == NoSSE {
		if want, err = s.defaultSSE(ctx, bucket); err != nil {
			return nil, false, err
		}
	}
	if want.Kind == NoSSE { // nobody asked for what was encrypted to be stored in the clear
		switch {
		case src == nil:
			return nil, true, nil
		case src.Kind == SSEC:
			want.Kind = SSES3
		default:
			want = src.SSE
		}
	}
	if src == nil || src.Kind != want.Kind {
		c, err = s.newCrypt(want, in.CustomerKey)
		return c, false, err
	}
	switch want.Kind {
	case SSEC:
		stays = in.CustomerKey != nil && in.SrcCustomerKey != nil && subtle.ConstantTimeCompare(in.CustomerKey[:], in.SrcCustomerKey[:]) == 1
	case SSEKMS:
		if want.KeyID, err = s.kmsKey(want.KeyID); err != nil {
			return nil, false, err
		}
		stays = want.KeyID == src.KeyID
	default:
		stays = true
	}
	key := src.key
	if !stays {
		key = newDataKey()
	}
	if c, err = s.sealKey(key, want, in.CustomerKey); err != nil {
		return nil, false, err
	}
	c.bodyFirst = stays && src.bodyFirst
	return c, stays, nil
}

// copyBody settles the encryption, the checksum and the body of a copy e of src.
func (s *Service) copyBody(ctx context.Context, sc *scratch, st *stored, bucket string, in *CopyInput, src *source, e *Entry) (layers.Body, error) {
	crypt, stays, err := s.copyCrypt(ctx, bucket, in, src.entry.crypt)
	if err != nil {
		return nil, err
	}
	e.crypt = crypt
	if stays && src.paged() {
		e.Checksum = Checksum{} // the first write in place would outdate it
		src.flat, err = s.copyPages(ctx, src.views, src.entry, e, 0, e.Size)
		return nil, err
	}
	if stays {
		if in.Algorithm != NoChecksum && in.Algorithm != e.Checksum.Algorithm {
			_, e.Checksum, err = s.checksum(ctx, src, 0, e.Size, in.Algorithm)
		}
		return src.body, err
	}
	algorithm := in.Algorithm
	if algorithm == NoChecksum {
		algorithm = defaultAlgorithm(e.Checksum.Algorithm)
	}
	r, err := s.rewrite(ctx, sc, st, src, 0, e.Size, &incoming{
		maximum: int64(maxObjectBytes), algorithm: algorithm, inlineBelow: s.o.MaxInlineBytes, crypt: crypt,
	})
	if err != nil {
		return nil, err
	}
	e.ETag, e.Checksum, e.PartsCount, e.parts, e.pages = ETag{Sum: crypt.tag(r.md5)}, r.sum, 0, partTable{}, pageFile{}
	if r.ext == nil {
		return r.body, nil
	}
	return s.appendBody(ctx, st, nil, r.ext)
}

// rewrite receives bytes [off, off+n) of src as if they were sent.
func (s *Service) rewrite(ctx context.Context, sc *scratch, st *stored, src *source, off, n uint64, in *incoming) (*received, error) {
	body, err := s.openBytes(ctx, src, off, n)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	in.body, in.size, in.expect = body, int64(n), &Expect{}
	return s.receive(ctx, sc, st, in)
}

// rewritePart makes bytes of src a part of an upload that is encrypted otherwise.
func (s *Service) rewritePart(
	ctx context.Context, sc *scratch, st *stored, u *uploadRecord, src *source, number int, off, n uint64,
) (*partRecord, []layers.Extent, error) {
	r, err := s.rewrite(ctx, sc, st, src, off, n, &incoming{
		maximum: MaxPartBytes, algorithm: u.algorithm, crypt: u.crypt, part: number,
	})
	if err != nil {
		return nil, nil, err
	}
	return &partRecord{size: r.size, md5: u.crypt.tag(r.md5), checksum: r.sum}, r.ext, nil
}
