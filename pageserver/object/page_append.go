package object

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// appendInPlace is Append to an object that is written in place: a write behind its
// end, of at most MaxPageOpBytes. It has no parts and no checksum to go on with.
func (s *Service) appendInPlace(ctx context.Context, bucket, key string, src *source, offset uint64, in *PutInput) (*Entry, error) {
	a := appending{s: s, src: src, in: in, key: key}
	if err := a.check(ctx, bucket, offset); err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	sc := getScratch()
	defer sc.put()
	defer a.stored.done()
	staged := Entry{} // what may be written down meanwhile
	if src.entry.crypt != nil {
		staged.crypt = &crypt{key: newDataKey()}
	}
	r, err := s.receive(ctx, sc, &a.stored, &incoming{
		body: in.Body, size: in.Size, maximum: MaxPageOpBytes, md5: in.ContentMD5, expect: &in.Checksum,
		algorithm: CRC64NVME, inlineBelow: s.o.MaxInlineBytes, crypt: staged.crypt,
	})
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	staged.Size = r.size
	body, err := s.newReader(&staged, r.body, r.ext, 0, r.size)
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	defer body.Close()
	p := make([]byte, r.size)
	if _, err := io.ReadFull(body, p); err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	done, err := s.WritePages(ctx, bucket, key, &PageInput{
		Ops: []PageOp{{Kind: PageWrite, Off: offset, Data: p}}, IfSize: &offset, IfMatch: in.Cond.IfMatch, CustomerKey: in.CustomerKey,
	})
	if errors.Is(err, ErrOffset) {
		err = fmt.Errorf("append: %w", ErrWriteOffset)
	}
	if err != nil {
		return nil, err
	}
	e := *src.entry
	e.LSN, e.ETag, e.Size = done.LSN, done.ETag, done.Size
	return &e, nil
}
