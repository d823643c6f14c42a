package object

import (
	"context"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/timeline"
)

// flattened are bytes of an object that is written in place, as a list of stored
// values: those of its pages and its base by handle, and what is small or changed by
// deltas as new values. Its segments are held until close.
type flattened struct {
	runs []run // where the bytes lie; without holes one run
	ext  []layers.Extent
	size uint64
	// sealed says what ext is made of if it is encrypted.
	sealed *sealedBody
	holds  holds
	st     stored
}

func (f *flattened) close() {
	f.holds.letGo()
	f.st.done()
}

// maxCopiedExtents is from how many pieces on the bytes are copied, not handles.
const maxCopiedExtents = layers.MaxExtents / 4

// crowdedPieces is from how many pieces on zeros at the ends of pages count as bytes, unless holes do anyway: so pages that lie
// side by side are one run, of which there can be maxBaseRuns.
const crowdedPieces = maxBaseRuns / 2

// flattener makes a flattened. Pieces come in order.
type flattener struct {
	s     *Service
	ctx   context.Context
	file  *pageFile
	entry *Entry // of the source, unlocked
	solid bool   // zeros count as bytes, too
	to    *dataKey
	out   *flattened
	from  uint64 // of the object: where out begins

	pieces []flatPiece
	writer *layers.ValueWriter // of literal bytes
	sealer *sealer             // into writer, if they are encrypted
	blocks *pageBase           // base of the source, once pieces have sealed blocks of it
	runs   int                 // of those pieces
	holes  bool                // some piece is a hole
}

// flatPiece are bytes of the object: handles, or n literal bytes.
type flatPiece struct {
	off uint64
	n   uint64
	ext []layers.Extent // nil: literal, unless
	// hole says that they are zeros, of a window at most.
	hole bool
	// body is, of a piece whose handles are those of sealed blocks, where it begins in what the base opens to.
	body uint64
}

func (p *flatPiece) literal() bool { return p.ext == nil && !p.hole }

func (f *flattener) crowded() bool { return !f.solid && len(f.pieces) >= crowdedPieces }

// pageViews has read look at the pages of an object, for a moment.
type pageViews func(read func(pageSource) error) error

// views looks at a paged source in a view for each time, so that no layers are held in between.
func (src *source) views(read func(pageSource) error) error {
	v, err := src.leased.View(pageLease)
	if err != nil {
		return err
	}
	defer v.Close()
	return read(v)
}

// within looks at what a transaction sees.
func within(tx *timeline.Tx) pageViews {
	return func(read func(pageSource) error) error { return read(tx) }
}

// flatten makes a list of the bytes [off, off+n) of an entry that is written in place, and unlocked; holes left out
// unless it is to be solid, which is for what is in the clear. They are encrypted under the data key to, or in the clear without
// one: by handle as far as they are so already. Close it after the commit that names the extents.
func (s *Service) flatten(ctx context.Context, from *Entry, views pageViews, off, n uint64, solid bool, to *dataKey) (_ *flattened, err error) {
	f := flattener{s: s, ctx: ctx, file: &from.pages, entry: from, solid: solid, to: to, out: &flattened{size: n}, from: off}
	if to == nil && from.crypt != nil {
		panic("BUG: what is encrypted is copied in the clear")
	}
	defer func() {
		if err != nil {
			f.out.close()
		}
	}()
	for at := off; at < off+n; {
		// Windows end where pages do.
		next := min(off+n, (at/pageWindowBytes+1)*pageWindowBytes)
		if err := views(func(v pageSource) error { return f.window(v, at, next) }); err != nil {
			return nil, err
		}
		at = next
	}
	return f.out, f.finish()
}

// window adds the bytes [from, to).
func (f *flattener) window(v pageSource, from, to uint64) error {
	first := len(f.pieces)
	if err := f.walk(v, from, to); err != nil {
		return err
	}
	for _, p := range f.pieces[first:] { // while the view keeps them
		if err := f.out.holds.addSegments(f.s, segmentsOf(p.ext)); err != nil {
			return err
		}
	}
	return nil
}

func (f *flattener) walk(v pageSource, from, to uint64) error {
	r := f.s.newPageReader(v, f.entry)
	size := f.file.pageBytes()
	scan := v.Scan(layers.NamespacePages, f.file.id.pageKey(from/size), f.file.id.pageKey((to+size-1)/size))
	defer scan.Close()
	at := from
	for ok := scan.First(); ok; ok = scan.Next() {
		rec := scan.Record()
		page, ok := f.file.id.pageOf(rec.Key.User())
		if !ok {
			return corrupt("key %x among pages", rec.Key.User())
		}
		start, end := max(page*size, from), min((page+1)*size, to)
		if err := f.under(&r, at, start); err != nil {
			return err
		}
		if err := f.page(&r, rec, page, start, end); err != nil {
			return f.file.pageError(page, err)
		}
		at = end
	}
	if err := scan.Err(); err != nil {
		return err
	}
	return f.under(&r, at, to)
}

// page adds what of a page lies in [start, end).
func (f *flattener) page(r *pageReader, rec *layers.Record, page, start, end uint64) error {
	if tag := rec.Body.Tag(); f.to == nil && r.seal == nil && rec.Kind == layers.KindValue && tag == layers.BodyExtents && len(f.pieces) < maxCopiedExtents {
		ext, err := rec.Body.Extents(nil)
		if err != nil {
			return err
		}
		ext = slice(ext, start-page<<f.file.shift, end-start)
		n := length(ext)
		if n < end-start && f.crowded() {
			return f.literal(r, start, end)
		}
		if n > 0 {
			f.pieces = append(f.pieces, flatPiece{off: start, n: n, ext: ext})
		}
		return f.hole(start+n, end)
	}
	return f.literal(r, start, end)
}

// literal adds [start, end) as bytes.
func (f *flattener) literal(r *pageReader, start, end uint64) error {
	p := make([]byte, end-start)
	if err := r.fill(p, start); err != nil {
		return err
	}
	if err := r.run(f.ctx); err != nil {
		return err
	}
	if q := trimZeros(p); len(q) == 0 || !f.crowded() {
		p = q
	}
	if err := f.write(start, p); err != nil {
		return err
	}
	return f.hole(start+uint64(len(p)), end)
}

func (f *flattener) write(off uint64, p []byte) (err error) {
	if len(p) == 0 {
		return nil
	}
	if f.writer == nil {
		if f.writer, err = f.s.newPageWriter(f.ctx, &f.out.st); err != nil {
			return err
		}
	}
	if f.to != nil {
		if f.sealer == nil {
			f.sealer = newSealer(f.to, copiedPart, f.writer, make([]byte, 4*sealedBlockBytes))
		}
		_, err = f.sealer.Write(p)
	} else {
		_, err = f.writer.Write(p)
	}
	if err != nil {
		return err
	}
	n := uint64(len(p))
	if k := len(f.pieces) - 1; k >= 0 && f.pieces[k].literal() && f.pieces[k].off+f.pieces[k].n == off {
		f.pieces[k].n += n // so that there is not one of each page
		return nil
	}
	f.pieces = append(f.pieces, flatPiece{off: off, n: n})
	return nil
}

// hole adds [from, to), which are zeros.
func (f *flattener) hole(from, to uint64) error {
	if from >= to || !f.solid {
		return nil
	}
	f.holes = true
	f.pieces = append(f.pieces, flatPiece{off: from, n: to - from, hole: true})
	return nil
}

// under adds what the base has in [from, to).
func (f *flattener) under(r *pageReader, from, to uint64) error {
	end := min(to, f.file.base)
	at := from
	if from < end {
		if err := r.loadBase(); err != nil {
			return err
		}
		for _, run := range r.base.overlap(from, end) {
			if err := f.hole(at, run.off); err != nil {
				return err
			}
			if err := f.baseRun(r, run); err != nil {
				return err
			}
			at = run.end()
		}
	}
	return f.hole(at, to)
}

func (f *flattener) baseRun(from *pageReader, r run) error {
	b := from.base
	if b.sealed != nil || f.to != nil {
		return f.sealedRun(from, r)
	}
	if b.body.Tag() == layers.BodyInline {
		p, err := b.inline(r.body, r.len)
		if err != nil {
			return err
		}
		return f.write(r.off, p)
	}
	ext, err := b.extents(r.body, r.len)
	if err == nil {
		f.pieces = append(f.pieces, flatPiece{off: r.off, n: r.len, ext: ext})
	}
	return err
}

// sealedRun adds a run of the base where that, or the copy, is encrypted: by handle if both are under one key.
func (f *flattener) sealedRun(from *pageReader, r run) error {
	b := from.base
	if !f.keeps(b, r) {
		for at := r.off; at < r.end(); {
			next := min(r.end(), at+pageWindowBytes)
			if err := f.literal(from, at, next); err != nil {
				return err
			}
			at = next
		}
		return nil
	}
	spans, err := b.sealed.touched(r.body, r.len)
	if err != nil {
		return err
	}
	p := flatPiece{off: r.off, n: r.len, body: r.body}
	for _, s := range spans {
		at, err := b.sealed.at(s.from, s.to-s.from)
		if err != nil {
			return err
		}
		ext, err := b.extents(at, s.to-s.from)
		if err != nil {
			return err
		}
		p.ext = append(p.ext, ext...)
	}
	f.blocks = b
	f.pieces = append(f.pieces, p)
	return nil
}

const (
	// minSealedRun is from where on a run of sealed blocks is kept by handle.
	minSealedRun = sealedBlockBytes
	// maxSealedRuns is how many are.
	maxSealedRuns = maxBaseRuns / 4
)

// keeps reports whether a run of the base stays as it is sealed.
func (f *flattener) keeps(b *pageBase, r run) bool {
	if f.to == nil || b.sealed == nil || *f.to != *b.sealed.key || b.open != nil || len(b.sealed.streams) >= maxBaseStreams {
		return false
	}
	if k := len(f.pieces) - 1; k >= 0 && f.pieces[k].ext != nil && f.pieces[k].off+f.pieces[k].n == r.off && f.pieces[k].body+f.pieces[k].n == r.body {
		return true // it goes on
	}
	if r.len < minSealedRun || f.runs == maxSealedRuns {
		return false
	}
	f.runs++
	return true
}

// finish syncs the literal bytes and joins all pieces.
func (f *flattener) finish() error {
	var literal []layers.Extent
	if f.sealer != nil {
		if err := f.sealer.finish(); err != nil {
			return err
		}
	}
	if f.writer != nil {
		var err error
		if literal, err = f.writer.Finish(); err != nil {
			return err
		}
	}
	if f.to != nil {
		return f.finishSealed(literal)
	}
	var zeros []layers.Extent
	if f.holes { // only now: nobody waits for a writer while they have another
		var err error
		if zeros, err = f.s.writeValue(f.ctx, &f.out.st, make([]byte, pageWindowBytes)); err != nil {
			return err
		}
	}
	out := f.out
	for _, p := range f.pieces {
		ext := p.ext
		switch {
		case p.hole:
			ext = slice(zeros, 0, p.n)
		case ext == nil:
			ext = slice(literal, 0, p.n)
			literal = cutFront(literal, p.n)
		}
		off := p.off - f.from
		if k := len(out.runs) - 1; k >= 0 && out.runs[k].end() == off {
			out.runs[k].len += p.n
		} else {
			out.runs = append(out.runs, run{off: off, len: p.n})
		}
		out.ext = join(out.ext, ext)
	}
	if len(out.ext) > layers.MaxExtents || len(out.runs) > maxBaseRuns && !f.solid {
		return fmt.Errorf("%d pieces with %d holes: %w", len(out.ext), len(out.runs), ErrEntityTooLarge)
	}
	return nil
}

// finishSealed makes the pieces runs of sealed streams: those of the base that some have by handle, and behind them
// the one that all literal bytes are sealed to.
func (f *flattener) finishSealed(literal []layers.Extent) error {
	var streams []sealedStream
	var plain, stored uint64 // where the literal one begins
	if f.blocks != nil {
		c := f.blocks.sealed
		streams, plain, stored = slices.Clone(c.streams), c.size(), c.stored[len(c.streams)]
	}
	out, at := f.out, plain
	for _, p := range f.pieces {
		r := run{off: p.off - f.from, len: p.n, body: p.body}
		if p.ext == nil {
			r.body = at
			at += p.n
		}
		if k := len(out.runs) - 1; k >= 0 && out.runs[k].end() == r.off && out.runs[k].body+out.runs[k].len == r.body {
			out.runs[k].len += r.len
			continue
		}
		out.runs = append(out.runs, r)
	}
	if len(out.runs) == 0 {
		return nil
	}
	if len(out.runs) > maxBaseRuns {
		return fmt.Errorf("%d pieces: %w", len(out.runs), ErrEntityTooLarge)
	}
	if at > plain {
		streams = append(streams, sealedStream{part: copiedPart, size: at - plain})
	}
	var err error
	if out.sealed, err = newSealedBody(streams, out.runs); err != nil {
		return err
	}
	for _, s := range out.sealed.spans {
		if end := min(s.to, stored); s.from < end {
			at, err := f.blocks.sealed.at(s.from, end-s.from)
			if err != nil {
				return err
			}
			ext, err := f.blocks.extents(at, end-s.from)
			if err != nil {
				return err
			}
			out.ext = join(out.ext, ext)
		}
		if from := max(s.from, stored); from < s.to {
			out.ext = join(out.ext, slice(literal, from-stored, s.to-from))
		}
	}
	return nil
}

// cutFront returns ext without its first n bytes.
func cutFront(ext []layers.Extent, n uint64) []layers.Extent {
	for n > 0 && ext[0].Len <= n {
		n -= ext[0].Len
		ext = ext[1:]
	}
	if n > 0 {
		ext = append([]layers.Extent{}, ext...)
		ext[0].Skip, ext[0].Len = ext[0].Skip+n, ext[0].Len-n
	}
	return ext
}

// copyPages makes e, a copy of the entry of bytes [off, off+n) of a paged source, an object of its own:
// pages that are written to it do not show in the source. All that the source has
// becomes its base, encrypted under the data key of e if there is one. from is the entry of the source, unlocked, and may be a copy of e. Close
// what it returns after the commit.
func (s *Service) copyPages(ctx context.Context, views pageViews, from, e *Entry, off, n uint64) (_ *flattened, err error) {
	var to *dataKey
	if e.crypt != nil {
		to = e.crypt.key
	}
	f, err := s.flatten(ctx, from, views, off, n, false, to)
	if err != nil {
		return nil, err
	}
	e.Size = n
	e.pages = pageFile{id: s.newFileID(s.store.Visible()), shift: from.pages.shift}
	if e.crypt != nil {
		c := *e.crypt // which may be that of the source, too
		c.bodyFirst, c.sealedFor = false, fileID{}
		e.crypt = &c
	}
	if len(f.runs) == 0 {
		return f, nil
	}
	e.pages.base = f.runs[len(f.runs)-1].end()
	body, err := s.appendBody(ctx, &f.st, nil, f.ext)
	if err != nil {
		f.close()
		return nil, err
	}
	e.base = &pageBase{runs: f.runs, body: body, sealed: f.sealed}
	f.runs, f.ext = nil, nil
	return f, nil
}

// putBase writes the base of an entry that copyPages has made.
func (e *Entry) putBase(tx *timeline.Tx) {
	if e.base != nil {
		tx.Put(layers.NamespacePages, e.pages.id[:], e.base.append(nil), e.base.body)
	}
}
