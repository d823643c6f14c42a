package object

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/timeline"
)

// WritePages changes bytes of an object in place, in one commit: what it does not
// name is neither read nor written again. An object that was put is opened for
// writing in place by the first such write, without a copy: its body stays under the
// pages. It loses its checksum and its parts, and gets an ETag that is no MD5.
// On return the change is durable and visible.
//
// Errors: ErrKeyTooLong, ErrNoSuchKey, ErrPreconditionFailed, *OffsetError,
// ErrPageSize, ErrInvalidPageOp, ErrEntityTooLarge, ErrNotInPlace, those of Put for
// what is created, ErrKeyRequired, ErrKeyNotApplicable and ErrWrongKey, timeline.ErrNoSuchBucket and ErrBatchTooLarge, those of a commit.
func (s *Service) WritePages(ctx context.Context, bucket, key string, in *PageInput) (*PageResult, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	w := pageWrite{s: s, ctx: ctx, in: in, key: []byte(key)}
	defer w.done()
	locks := []timeline.Lock{{NS: layers.NamespaceObjects, Key: w.key, Exclusive: true}}
	for {
		lsn, err := s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) error {
			w.reset()
			return w.run(tx)
		})
		switch {
		case errors.Is(err, errNoPages):
			if err := s.announcePages(ctx, bucket); err != nil {
				return nil, fmt.Errorf("write in place: %w", err)
			}
			continue
		case err != nil:
			return nil, fmt.Errorf("write in place: %w", err)
		}
		w.entry.LSN = lsn
		r := &PageResult{LSN: lsn, ETag: w.entry.ETag, Size: w.entry.Size, File: w.entry.File()}
		if w.file.paged() {
			r.ETag, r.PageBytes = w.file.tag(lsn), 1<<w.file.shift
		}
		return r, nil
	}
}

// errNoPages says that the settings do not say yet that the bucket has objects that
// are written in place.
var errNoPages = errors.New("object: no objects that are written in place")

// announcePages says in the settings of a bucket that it has objects that are written
// in place. From then on puts and deletes look at what they replace.
func (s *Service) announcePages(ctx context.Context, bucket string) error {
	_, err := s.UpdateSettings(ctx, bucket, func(set *Settings) error {
		set.Pages = true
		return nil
	})
	return err
}

// pageWrite is one WritePages at work.
type pageWrite struct {
	s   *Service
	ctx context.Context
	in  *PageInput
	key []byte

	st    stored
	moved holds // segments that the commit refers to anew

	tx     *timeline.Tx
	set    *Settings
	entry  *Entry
	file   *pageFile // of entry
	seal   *pageSeal // nil: the pages are in the clear
	opened bool      // by this write: there are no pages yet
	// created says that there was no object.
	created bool
	locked  []byte // the sealed fields of what was there
	reader  pageReader
	// partial are pages of which a part is read and a part is written.
	partial []partialPage
	values  []pageValue
}

type partialPage struct {
	pageValue
	pieces pieces
}

// pageValue is a full page to be written.
type pageValue struct {
	page uint64
	meta []byte
	data []byte
}

// reset forgets a run that came to nothing.
func (w *pageWrite) reset() {
	w.done()
	*w = pageWrite{s: w.s, ctx: w.ctx, in: w.in, key: w.key}
}

// done lets go of what a commit needs, once it has ended.
func (w *pageWrite) done() {
	w.st.done()
	w.moved.letGo()
}

// run gathers the records of the commit.
func (w *pageWrite) run(tx *timeline.Tx) (err error) {
	w.tx = tx
	if w.set, err = w.s.settings(tx); err != nil {
		return err
	}
	if w.in.metaOnly() {
		if done, err := w.describeOnly(); done || err != nil {
			return err
		}
	}
	if !w.set.Pages {
		return errNoPages
	}
	base, err := w.open()
	if err != nil {
		return err
	}
	if err := w.describe(); err != nil {
		return err
	}
	w.seal = w.entry.pageSeal()
	edits := newPageEdits(w.file.shift, w.entry.Size)
	for i := range w.in.Ops {
		edits.add(&w.in.Ops[i])
	}
	if edits.size > maxObjectBytes {
		return fmt.Errorf("%d bytes: %w", edits.size, ErrEntityTooLarge)
	}
	w.entry.Size, w.file.base = edits.size, min(w.file.base, edits.least)
	w.reader = w.s.newPageReader(tx, w.entry)
	w.reader.base = base
	if err := w.writeHoles(edits); err != nil {
		return err
	}
	if err := w.writeEdits(edits); err != nil {
		return err
	}
	if err := w.writeValues(); err != nil {
		return err
	}
	if w.opened && w.file.base > 0 {
		if err := w.writeBase(w.reader.base); err != nil {
			return err
		}
	}
	if w.created {
		kw := keyWriter{s: w.s, tx: tx, set: w.set, holds: &w.moved, key: w.key}
		return kw.put(w.entry, nil)
	}
	w.lock()
	tx.Put(layers.NamespaceObjects, w.key, w.entry.append(nil), nil)
	return nil
}

// open finds the object, checks what the caller wants of it, and opens it for writing
// in place if it is not: then it returns the base.
func (w *pageWrite) open() (*pageBase, error) {
	rec, err := w.tx.Get(layers.NamespaceObjects, w.key)
	switch {
	case errors.Is(err, timeline.ErrNotFound):
		if w.in.Create == nil || w.in.IfMatch != "" || w.in.IfLSN != 0 {
			return nil, ErrNoSuchKey
		}
		c := w.in.Create
		w.created = true
		w.entry = &Entry{Headers: c.Headers, UserMeta: slices.Clone(c.UserMeta), StorageClass: c.StorageClass}
		if w.entry.crypt, err = w.newCrypt(); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case w.in.Create != nil && w.in.Create.Exclusive:
		return nil, ErrPreconditionFailed
	default:
		if w.entry, err = decodeEntry(rec.Meta, rec.LSN); err != nil {
			return nil, fmt.Errorf("object %q at %d: %w", w.key, rec.LSN, err)
		}
	}
	if err := w.unlock(); err != nil {
		return nil, err
	}
	if err := w.admit(); err != nil {
		return nil, err
	}
	e := w.entry
	if e.crypt == nil && w.s.defaultOf(w.set).Kind != NoSSE {
		return nil, fmt.Errorf("it is in the clear, and the bucket encrypts; copy it onto itself first: %w", ErrNotInPlace)
	}
	w.goOn()
	w.file = &e.pages
	if e.pages.paged() {
		return nil, nil
	}
	n := w.in.PageBytes
	if n == 0 {
		n = w.set.PageBytes
	}
	if n == 0 {
		n = DefaultPageBytes
	}
	b := &pageBase{body: rec.Body}
	if e.Size > 0 {
		b.runs = []run{{len: e.Size}}
		if rec.Body.Tag() != layers.BodyInline {
			if err := w.moved.add(w.s, rec.Body); err != nil {
				return nil, err
			}
		}
		if e.crypt != nil {
			if err := w.s.sealBase(b, e); err != nil {
				return nil, err
			}
		}
	}
	e.pages = pageFile{id: w.s.newFileID(w.tx.LSN()), shift: shiftOf(n), base: e.Size}
	e.Checksum, e.PartsCount, e.Parts, e.parts, e.uploadID = Checksum{}, 0, nil, partTable{}, uploadID{}
	w.opened = true
	if e.crypt != nil {
		e.crypt.bodyFirst = false
	}
	if e.Size == 0 {
		return b, nil
	}
	return b, w.s.openBase(b, e.pageSeal())
}

// newCrypt returns the encryption of an object that is created; nil if it is to be in the clear.
func (w *pageWrite) newCrypt() (*crypt, error) {
	want := w.in.SSE
	switch {
	case want.Kind != NoSSE:
	case w.in.CustomerKey != nil:
		want.Kind = SSEC
	default:
		if want = w.s.defaultOf(w.set); want.Kind == NoSSE {
			return nil, nil
		}
	}
	return w.s.newCrypt(want, w.in.CustomerKey)
}

// unlock opens what of the entry is encrypted. What was sealed stays as it is where a write changes none of it: so no
// number of writes wears the key of the fields out.
func (w *pageWrite) unlock() error {
	if w.created {
		return nil
	}
	c := w.entry.crypt
	if c != nil {
		w.locked = c.locked
	}
	if want := w.in.SSE; want.Kind != NoSSE && w.s.sameSSE(c, want) != nil {
		return fmt.Errorf("it is not encrypted so: %w", ErrNotInPlace)
	}
	return w.s.unlock(w.entry, w.in.CustomerKey)
}

// lock is the inverse of unlock, of an entry that the write has not given other fields.
func (w *pageWrite) lock() {
	describes := slices.ContainsFunc(w.in.Ops, func(o PageOp) bool { return o.Kind == PageMeta })
	if w.locked != nil && !w.opened && !describes {
		w.entry.crypt.locked = w.locked
	}
}

// describeOnly carries out changes of nothing but metadata. It is not done if there is no object, but is to be one.
func (w *pageWrite) describeOnly() (done bool, err error) {
	f, err := getObject(w.tx, w.key)
	switch {
	case err != nil:
		return false, err
	case f == nil && w.in.Create != nil:
		return false, nil
	case f == nil:
		return false, ErrNoSuchKey
	case w.in.Create != nil && w.in.Create.Exclusive:
		return false, ErrPreconditionFailed
	}
	if w.entry, err = f.entry(); err != nil {
		return false, err
	}
	if err := w.unlock(); err != nil { // what is wanted of it may be its ETag
		return false, err
	}
	if err := w.admit(); err != nil {
		return false, err
	}
	if err := w.describe(); err != nil {
		return false, err
	}
	w.goOn()
	w.file = &w.entry.pages
	if err := w.moved.add(w.s, f.rec.Body); err != nil {
		return false, err
	}
	w.tx.Put(layers.NamespaceObjects, w.key, w.entry.append(nil), f.rec.Body)
	return true, nil
}

// goOn makes the entry a new version, in the place of the one that is there.
func (w *pageWrite) goOn() {
	if e := w.entry; !w.created {
		e.pages.kept = pageVersion{}
		e.inherited, e.made = e.inherited.after(e.LSN, e.Size, w.tx.BranchLSN()), 0
	}
}

// describe changes the metadata of the entry.
func (w *pageWrite) describe() error {
	e := w.entry
	for i := range w.in.Ops {
		o := &w.in.Ops[i]
		if o.Kind != PageMeta {
			continue
		}
		k := slices.IndexFunc(e.UserMeta, func(f Field) bool { return f.Key == o.Name })
		switch {
		case k < 0 && len(o.Data) > 0:
			e.UserMeta = append(e.UserMeta, Field{Key: o.Name, Value: string(o.Data)})
		case k >= 0 && len(o.Data) > 0:
			e.UserMeta[k].Value = string(o.Data)
		case k >= 0:
			e.UserMeta = slices.Delete(e.UserMeta, k, k+1)
		}
	}
	return checkDescription(&e.Headers, e.UserMeta, nil)
}

// admit checks what the caller wants the object to be.
func (w *pageWrite) admit() error {
	e, in := w.entry, w.in
	if err := e.Lock.refuses(w.s.now(), false); err != nil {
		return err // the version would change
	}
	switch {
	case in.IfMatch != "" && !matchTags(in.IfMatch, e.ETag, false):
		return ErrPreconditionFailed
	case in.IfLSN != 0 && in.IfLSN != e.LSN:
		return fmt.Errorf("version of %d, not of %d: %w", e.LSN, in.IfLSN, ErrPreconditionFailed)
	case in.IfSize != nil && *in.IfSize != e.Size:
		return &OffsetError{Want: *in.IfSize, Size: e.Size}
	}
	return nil
}

// writeEdits writes the pages that are changed.
func (w *pageWrite) writeEdits(edits *pageEdits) error {
	for _, page := range edits.numbers() {
		if err := w.writeEdit(page, edits.pages[page], edits.size); err != nil {
			return w.file.pageError(page, err)
		}
	}
	if err := w.reader.run(w.ctx); err != nil {
		return err
	}
	for _, p := range w.partial {
		p.pieces.apply(p.data, 0)
		w.put(p.page, p.data)
	}
	return nil
}

// writeEdit writes one page: in full when all of it is known, else as a delta, unless
// the deltas over the page would become too many.
func (w *pageWrite) writeEdit(page uint64, e *pageEdit, size uint64) error {
	inPage := min(w.file.pageBytes(), size-page<<w.file.shift)
	switch {
	case e.full != nil:
		w.put(page, e.full)
		return nil
	case e.pieces.covers(inPage):
		w.put(page, e.pieces[0].data)
		return nil
	case e.zero:
		full := make([]byte, e.pieces[len(e.pieces)-1].end())
		e.pieces.apply(full, 0)
		w.put(page, full)
		return nil
	}
	if w.seal != nil && w.entry.crypt.Kind == SSEC { // who carries pages without the key could not write such a page in full
		return w.writePartial(page, inPage, e)
	}
	under, err := w.under(page)
	if err != nil {
		return err
	}
	body := e.pieces.append([]byte{byte(layers.BodyInline)})
	if over, ok := under.over(len(body)-1, w.file.pageBytes()); ok && len(body) <= w.s.o.MaxInlineBytes {
		meta := over.append(nil)
		if w.seal != nil {
			var sealed []byte
			meta, sealed = w.seal.seal(page, layers.KindDelta, meta, body[1:])
			copy(body[1:], sealed)
		}
		w.tx.Delta(layers.NamespacePages, w.file.id.pageKey(page), meta, body)
		return nil
	}
	return w.writePartial(page, inPage, e)
}

// writePartial plans to write a page in full of which a part, or a part of its first inPage bytes, is changed.
func (w *pageWrite) writePartial(page, inPage uint64, e *pageEdit) error {
	full := make([]byte, max(inPage, e.pieces[len(e.pieces)-1].end()))
	if err := w.reader.fill(full, page<<w.file.shift); err != nil {
		return err
	}
	w.partial = append(w.partial, partialPage{pageValue{page: page, data: full}, e.pieces})
	return nil
}

// under returns the deltas that a page has.
func (w *pageWrite) under(page uint64) (deltaStack, error) {
	if w.opened {
		return deltaStack{}, nil
	}
	var few [pageKeyBytes]byte
	rec, err := w.tx.Get(layers.NamespacePages, w.file.id.appendPageKey(few[:0], page))
	if errors.Is(err, timeline.ErrNotFound) {
		return deltaStack{}, nil
	} else if err != nil {
		return deltaStack{}, err
	}
	return decodeDeltaStack(&rec, w.seal != nil)
}

func (w *pageWrite) put(page uint64, full []byte) {
	v := pageValue{page: page, data: trimZeros(full)}
	if w.seal != nil && len(v.data) > 0 {
		v.meta, v.data = w.seal.seal(page, layers.KindValue, nil, v.data)
	}
	w.values = append(w.values, v)
}

// maxPagesInline is how many bytes of full pages one commit takes along in the log:
// more go to value segments, where they are written once.
const maxPagesInline = 256 << 10

// writeValues writes the full pages: what is large, or all if it is much, to value
// segments, which is durable before the commit.
func (w *pageWrite) writeValues() error {
	total := 0
	for i := range w.values {
		total += len(w.values[i].data)
	}
	var out *layers.ValueWriter
	var pages []pageValue // in out
	for _, v := range w.values {
		if len(v.data) < minPagePart || len(v.data) < w.s.o.MaxInlineBytes && total <= maxPagesInline {
			body := layers.AppendInlineBody(make([]byte, 0, 1+len(v.data)), v.data)
			w.tx.Put(layers.NamespacePages, w.file.id.pageKey(v.page), v.meta, body)
			continue
		}
		if out == nil {
			var err error
			if out, err = w.s.newPageWriter(w.ctx, &w.st); err != nil {
				return err
			}
		}
		if _, err := out.Write(v.data); err != nil {
			return err
		}
		out.EndExtent() // so that each page has a checksum, and a place, of its own
		pages = append(pages, v)
	}
	if out == nil {
		return nil
	}
	ext, err := out.Finish()
	if err != nil {
		return err
	}
	for _, v := range pages {
		n := 0
		for left := uint64(len(v.data)); left > 0 && n < len(ext); n++ {
			left -= ext[n].Len
		}
		w.tx.Put(layers.NamespacePages, w.file.id.pageKey(v.page), v.meta, layers.AppendExtentsBody(nil, ext[:n]))
		ext = ext[n:]
	}
	return nil
}

// minPagePart is the size below which a page rides in the log in any case: a handle
// and the alignment in the segment would cost as much.
const minPagePart = 1 << 10
