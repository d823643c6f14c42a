package object

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// PageRead asks for bytes of an object at an LSN.
type PageRead struct {
	Key string
	At  wal.LSN // zero: the tip, the same for all reads of a batch
	Off uint64
	Len uint64 // what lies behind the end of the object is left out
	// CustomerKey opens what is encrypted under it. It does not go over the wire.
	CustomerKey *CustomerKey
}

// PageReadResult answers a PageRead.
type PageReadResult struct {
	// Err is what concerns this read alone: ErrKeyTooLong, ErrNoSuchKey, ErrKeyRequired (a customer's), ErrKeyNotApplicable, ErrWrongKey, timeline.ErrFuture and ErrNoSuchBucket (of the LSN), *BelowHorizonError, ErrCorrupt,
	// layers.ErrCorrupt.
	Err  error
	Data []byte
	Size uint64  // of the object
	LSN  wal.LSN // of its version
}

// Limits of one ReadPages.
const (
	MaxPageReads     = 4096
	MaxPageReadBytes = 16 << 20
)

// ReadPages reads ranges of many objects of a bucket at many LSNs: each object is
// looked up once per LSN, and all values are asked for before any is waited for.
// Objects that are not written in place are read, too. Errors of the call as a
// whole: ErrInvalidPageOp (too much), timeline.ErrNoSuchBucket, ctx's.
func (s *Service) ReadPages(ctx context.Context, bucket string, reads []PageRead) ([]PageReadResult, error) {
	if err := checkReads(reads); err != nil {
		return nil, err
	}
	b := pageBatch{s: s, ctx: ctx, bucket: bucket, views: make(map[wal.LSN]*timeline.View), readers: make(map[pageTarget]*pageTargetReader)}
	defer b.close()
	if _, err := b.view(0); err != nil {
		return nil, err
	}
	results := make([]PageReadResult, len(reads))
	for i := range reads {
		b.plan(&reads[i], &results[i])
	}
	b.run()
	return results, ctx.Err()
}

func checkReads(reads []PageRead) error {
	if len(reads) > MaxPageReads {
		return fmt.Errorf("%d reads, at most %d: %w", len(reads), MaxPageReads, ErrInvalidPageOp)
	}
	var total uint64
	for i := range reads {
		if total += min(reads[i].Len, MaxPageReadBytes+1); total > MaxPageReadBytes {
			return fmt.Errorf("more than %d bytes in one batch: %w", MaxPageReadBytes, ErrInvalidPageOp)
		}
	}
	return nil
}

// pageBatch is one ReadPages at work.
type pageBatch struct {
	s       *Service
	ctx     context.Context
	bucket  string
	views   map[wal.LSN]*timeline.View
	readers map[pageTarget]*pageTargetReader
	order   []*pageTargetReader
}

// pageTarget is an object at an LSN.
type pageTarget struct {
	key      string
	at       wal.LSN
	customer *CustomerKey
}

type pageTargetReader struct {
	reader  pageReader
	entry   *Entry
	err     error
	results []*PageReadResult
}

func (b *pageBatch) close() {
	for _, v := range b.views {
		v.Close()
	}
}

func (b *pageBatch) view(at wal.LSN) (*timeline.View, error) {
	if v := b.views[at]; v != nil {
		return v, nil
	}
	v, err := b.s.store.View(b.ctx, b.bucket, at)
	if err == nil {
		b.views[at] = v
	}
	return v, err
}

func (b *pageBatch) target(t pageTarget) *pageTargetReader {
	r := b.readers[t]
	if r == nil {
		r = &pageTargetReader{}
		r.err = b.open(r, t)
		b.readers[t] = r
		b.order = append(b.order, r)
	}
	return r
}

func (b *pageBatch) open(r *pageTargetReader, t pageTarget) error {
	v, err := b.view(t.at)
	if err != nil {
		return err
	}
	var rec layers.Record
	if r.entry, rec, err = b.s.find(v, t.key, 0); err != nil {
		return err
	}
	if err := b.s.unlock(r.entry, t.customer); err != nil {
		return err
	}
	r.reader = b.s.newPageReader(v, r.entry)
	if !r.entry.pages.paged() {
		return r.reader.overBody(r.entry, rec.Body)
	}
	return nil
}

func (b *pageBatch) plan(in *PageRead, out *PageReadResult) {
	r := b.target(pageTarget{in.Key, in.At, in.CustomerKey})
	if out.Err = r.err; r.err != nil {
		return
	}
	out.Size, out.LSN = r.entry.Size, r.entry.LSN
	if in.Off >= r.entry.Size || in.Len == 0 {
		return
	}
	n := min(in.Len, r.entry.Size-in.Off)
	out.Data = make([]byte, n)
	if r.entry.pages.paged() {
		out.Err = r.reader.fill(out.Data, in.Off)
	} else {
		out.Err = r.reader.fillBase(out.Data, in.Off)
	}
	r.results = append(r.results, out)
}

// run carries out all reads. One that fails fails those of its object at its LSN.
func (b *pageBatch) run() {
	_ = inParallel(b.ctx, len(b.order), func(i int) error {
		r := b.order[i]
		if r.err != nil || len(r.results) == 0 {
			return nil
		}
		if err := r.reader.run(b.ctx); err != nil {
			for _, out := range r.results {
				if out.Err == nil {
					out.Err, out.Data = err, nil
				}
			}
		}
		return nil
	})
}

// overBody makes an ordinary object's body the base of what is read.
func (r *pageReader) overBody(e *Entry, body layers.Body) error {
	r.file = &pageFile{shift: shiftOf(DefaultPageBytes), base: e.Size}
	r.base = &pageBase{body: body}
	if e.Size == 0 {
		return nil
	}
	r.base.runs = []run{{len: e.Size}}
	if e.crypt != nil {
		if err := r.s.sealBase(r.base, e); err != nil {
			return err
		}
	}
	return r.s.openBase(r.base, r.seal)
}

// PageRange are the bytes [Off, Off+Len) of an object.
type PageRange struct{ Off, Len uint64 }

// PageChanges says what of an object differs between two LSNs.
type PageChanges struct {
	From, To wal.LSN // what was read at
	Size     uint64  // at To
	// Whole says that the two are not one object written in place: all may differ.
	Whole  bool
	Ranges []PageRange // in order, by whole pages, clipped at the size
	// Next is where to go on; zero at the end.
	Next uint64
}

// MaxPageRanges bounds the ranges of one ChangedPages.
const MaxPageRanges = 10_000

// ChangedPages says which bytes of an object, from off on, may differ between two
// LSNs: those that were written since from. The cost follows what was written.
// Errors: ErrNoSuchKey (at to), timeline.ErrNoSuchBucket, ErrFuture and
// *BelowHorizonError (of either LSN), ErrCorrupt, layers.ErrCorrupt.
func (s *Service) ChangedPages(ctx context.Context, bucket, key string, from, to wal.LSN, off uint64) (*PageChanges, error) {
	a, err := s.store.View(ctx, bucket, from)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := s.store.View(ctx, bucket, to)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	now, _, err := s.find(b, key, 0)
	if err != nil {
		return nil, err
	}
	c := &PageChanges{From: a.LSN(), To: b.LSN(), Size: now.Size}
	old, _, err := s.find(a, key, 0)
	switch {
	case err != nil && !errors.Is(err, ErrNoSuchKey):
		return nil, err
	case err == nil && old.LSN == now.LSN && old.ETag == now.ETag:
		return c, nil
	case err != nil, !now.pages.paged(), old.pages.id != now.pages.id:
		c.Whole = true
		c.add(off, now.Size)
		return c, nil
	}
	return c, s.changedPages(ctx, a, b, old, now, off, c)
}

func (s *Service) changedPages(ctx context.Context, a, b *timeline.View, old, now *Entry, off uint64, c *PageChanges) error {
	f := &now.pages
	d := s.store.Diff(ctx, a, b, layers.NamespacePages, f.id[:], f.id.end())
	defer d.Close()
	limit := now.Size
	for d.Next() {
		page, ok := f.id.pageOf(d.Difference().Key)
		if !ok { // the base was cut
			c.Whole, c.Ranges = true, []PageRange{{off, now.Size - min(off, now.Size)}}
			return nil
		}
		start := page << f.shift
		if start < off {
			continue
		}
		if len(c.Ranges) == MaxPageRanges {
			c.Next, limit = start, start
			break
		}
		c.add(start, min(start+f.pageBytes(), now.Size))
	}
	if err := d.Err(); err != nil {
		return err
	}
	// Where the base ends earlier, and where the object grew, there are zeros without a page.
	c.add(max(off, f.base), min(old.pages.base, limit))
	c.add(max(off, old.Size), limit)
	c.join()
	return nil
}

// add adds [from, to), if it is not empty.
func (c *PageChanges) add(from, to uint64) {
	if from < to {
		c.Ranges = append(c.Ranges, PageRange{from, to - from})
	}
}

// join puts the ranges in order, and makes one of those that overlap or touch.
func (c *PageChanges) join() {
	slices.SortFunc(c.Ranges, func(a, b PageRange) int { return cmp.Compare(a.Off, b.Off) })
	joined := c.Ranges[:0]
	for _, r := range c.Ranges {
		if k := len(joined) - 1; k >= 0 && r.Off <= joined[k].Off+joined[k].Len {
			joined[k].Len = max(joined[k].Len, r.Off+r.Len-joined[k].Off)
			continue
		}
		joined = append(joined, r)
	}
	c.Ranges = joined
}

// CloneInput says what Clone clones.
type CloneInput struct {
	SrcBucket, SrcKey string
	SrcAt             wal.LSN // zero: the tip
	Off               uint64
	Len               uint64 // zero: to the end
	Cond              Conditions
	// SSE and CustomerKey encrypt the clone, as those of a CopyInput do; SrcCustomerKey opens the source.
	SSE                         SSE
	CustomerKey, SrcCustomerKey *CustomerKey
}

// Clone makes bytes of an object an object of its own, by handle, which is written in
// place. Where it is encrypted under another key, they are written anew, and holes stay.
// Errors: those of Copy, and *RangeError.
func (s *Service) Clone(ctx context.Context, bucket, key string, in *CloneInput) (*PageResult, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	src, err := s.openSource(ctx, in.SrcBucket, in.SrcKey, &GetInput{At: in.SrcAt, CustomerKey: in.SrcCustomerKey})
	if err != nil {
		return nil, fmt.Errorf("clone: %w", err)
	}
	defer src.close()
	size := src.entry.Size
	n := in.Len
	if in.Off > size || n > size-in.Off {
		return nil, fmt.Errorf("clone: %w", &RangeError{Range: fmt.Sprintf("%d bytes at %d", n, in.Off), Size: size})
	}
	if n == 0 {
		n = size - in.Off
	}
	e := *src.entry
	e.uploadID, e.LSN, e.made, e.renamed, e.inherited, e.Versioned, e.Lock = uploadID{}, 0, 0, renameToken{}, inheritance{}, false, Lock{}
	e.Checksum, e.PartsCount, e.Parts, e.parts = Checksum{}, 0, nil, partTable{}
	var stays bool
	if e.crypt, stays, err = s.copyCrypt(ctx, bucket, &CopyInput{SSE: in.SSE, CustomerKey: in.CustomerKey, SrcCustomerKey: in.SrcCustomerKey}, src.entry.crypt); err != nil {
		return nil, fmt.Errorf("clone: %w", err)
	}
	sc := getScratch()
	defer sc.put()
	switch {
	case src.paged():
		src.flat, err = s.copyPages(ctx, src.views, src.entry, &e, in.Off, n)
	case stays:
		err = s.cloneBody(ctx, src, &e, in.Off, n)
	default:
		err = s.cloneAnew(ctx, sc, src, &e, in.Off, n)
	}
	if err != nil {
		return nil, fmt.Errorf("clone: %w", err)
	}
	sc.key = append(sc.key[:0], key...)
	if err := s.commitEntry(ctx, sc, bucket, &in.Cond, &e, nil); err != nil {
		return nil, fmt.Errorf("clone: %w", err)
	}
	return &PageResult{LSN: e.LSN, ETag: e.ETag, Size: e.Size, PageBytes: 1 << e.pages.shift, File: e.File()}, nil
}

// beginClone makes e a file of n bytes that has a base, and returns that, all of which is one run from body on.
func (s *Service) beginClone(src *source, e *Entry, n, body uint64) *pageBase {
	e.Size = n
	e.pages = pageFile{id: s.newFileID(s.store.Visible()), shift: shiftOf(DefaultPageBytes), base: n}
	if e.crypt != nil {
		e.crypt.bodyFirst = false
	}
	if n > 0 {
		e.base = &pageBase{runs: []run{{len: n, body: body}}}
	}
	src.flat = &flattened{} // closed with it
	return e.base
}

// cloneBody makes bytes of an ordinary object the base of e, which has the same data key, if any.
func (s *Service) cloneBody(ctx context.Context, src *source, e *Entry, off, n uint64) error {
	b := s.beginClone(src, e, n, off)
	if b == nil {
		return nil
	}
	whole := &pageBase{body: src.body}
	if e.crypt != nil {
		if err := s.sealBase(whole, src.entry); err != nil {
			return err
		}
		var err error
		if b.sealed, err = newSealedBody(whole.sealed.streams, b.runs); err != nil {
			return err
		}
	}
	switch inline := src.body.Tag() == layers.BodyInline; {
	case inline && e.crypt != nil:
		b.body = src.body
		return nil
	case inline:
		p, err := whole.inline(off, n)
		b.runs[0].body, b.body = 0, layers.AppendInlineBody(nil, p)
		return err
	}
	if err := s.listExtents(whole); err != nil {
		return err
	}
	ext, err := whole.moved(b)
	if err == nil {
		b.body, err = s.appendBody(ctx, &src.flat.st, nil, ext)
	}
	return err
}

// cloneAnew makes bytes of an ordinary object, encrypted under the data key of e, its base.
func (s *Service) cloneAnew(ctx context.Context, sc *scratch, src *source, e *Entry, off, n uint64) error {
	b := s.beginClone(src, e, n, 0)
	if b == nil {
		return nil
	}
	r, err := s.rewrite(ctx, sc, &src.flat.st, src, off, n, &incoming{
		maximum: int64(maxObjectBytes), algorithm: CRC64NVME, inlineBelow: s.o.MaxInlineBytes, crypt: e.crypt,
	})
	if err != nil {
		return err
	}
	if b.sealed, err = newSealedBody([]sealedStream{{size: n}}, b.runs); err != nil {
		return err
	}
	if r.ext == nil {
		b.body = bytes.Clone(r.body) // which lies in the scratch
		return nil
	}
	b.body, err = s.appendBody(ctx, &src.flat.st, nil, r.ext)
	return err
}
