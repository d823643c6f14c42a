package object

import (
	"context"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
)

// flattened are bytes of an object that is written in place, as a list of stored
// values: those of its pages and its base by handle, and what is small or changed by
// deltas as new values. Its segments are held until close.
type flattened struct {
	runs  []run // where the bytes lie; without holes one run
	ext   []layers.Extent
	size  uint64
	holds holds
	st    stored
}

func (f *flattened) close() {
	f.holds.letGo()
	f.st.done()
}

// maxCopiedExtents is from how many pieces on the bytes are copied, not handles.
const maxCopiedExtents = layers.MaxExtents / 4

// flattener makes a flattened. Pieces come in order.
type flattener struct {
	s     *Service
	ctx   context.Context
	file  *pageFile
	solid bool // zeros count as bytes, too
	out   *flattened
	from  uint64 // of the object: where out begins

	pieces []flatPiece
	writer *layers.ValueWriter // of literal bytes
	zeros  []layers.Extent     // a value of zeros, once it is needed
}

// flatPiece are bytes of the object: handles, or n literal bytes.
type flatPiece struct {
	off uint64
	n   uint64
	ext []layers.Extent // nil: literal
}

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

// flatten makes a list of the bytes [off, off+n) of a file, holes left out
// unless it is to be solid. Close it after the commit that names the extents.
func (s *Service) flatten(ctx context.Context, file *pageFile, views pageViews, off, n uint64, solid bool) (_ *flattened, err error) {
	f := flattener{s: s, ctx: ctx, file: file, solid: solid, out: &flattened{size: n}, from: off}
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
	r := pageReader{s: f.s, src: v, file: f.file}
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
		if err := f.base(&r, at, start); err != nil {
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
	return f.base(&r, at, to)
}

// page adds what of a page lies in [start, end).
func (f *flattener) page(r *pageReader, rec *layers.Record, page, start, end uint64) error {
	if tag := rec.Body.Tag(); rec.Kind == layers.KindValue && tag == layers.BodyExtents && len(f.pieces) < maxCopiedExtents {
		ext, err := rec.Body.Extents(nil)
		if err != nil {
			return err
		}
		ext = slice(ext, start-page<<f.file.shift, end-start)
		n := length(ext)
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
	p = trimZeros(p)
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
	if _, err := f.writer.Write(p); err != nil {
		return err
	}
	f.pieces = append(f.pieces, flatPiece{off: off, n: uint64(len(p))})
	return nil
}

// hole adds [from, to), which are zeros.
func (f *flattener) hole(from, to uint64) error {
	if from >= to || !f.solid {
		return nil
	}
	if f.zeros == nil {
		var err error
		if f.zeros, err = f.s.writeValue(f.ctx, &f.out.st, make([]byte, pageWindowBytes)); err != nil {
			return err
		}
	}
	f.pieces = append(f.pieces, flatPiece{off: from, n: to - from, ext: slice(f.zeros, 0, to-from)})
	return nil
}

// base adds what the base has in [from, to).
func (f *flattener) base(r *pageReader, from, to uint64) error {
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
			if err := f.baseRun(r.base, run); err != nil {
				return err
			}
			at = run.end()
		}
	}
	return f.hole(at, to)
}

func (f *flattener) baseRun(b *pageBase, r run) error {
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

// finish syncs the literal bytes and joins all pieces.
func (f *flattener) finish() error {
	var literal []layers.Extent
	if f.writer != nil {
		var err error
		if literal, err = f.writer.Finish(); err != nil {
			return err
		}
	}
	out := f.out
	for _, p := range f.pieces {
		ext := p.ext
		if ext == nil {
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
// becomes its base. Close what it returns after the commit.
func (s *Service) copyPages(ctx context.Context, views pageViews, e *Entry, off, n uint64) (_ *flattened, err error) {
	file := e.pages
	f, err := s.flatten(ctx, &file, views, off, n, false)
	if err != nil {
		return nil, err
	}
	e.Size = n
	e.pages = pageFile{id: s.newFileID(s.store.Visible()), shift: file.shift}
	if len(f.runs) == 0 {
		return f, nil
	}
	e.pages.base = f.runs[len(f.runs)-1].end()
	body, err := s.appendBody(ctx, &f.st, nil, f.ext)
	if err != nil {
		f.close()
		return nil, err
	}
	e.base = &pageBase{runs: f.runs, body: body}
	f.runs, f.ext = nil, nil
	return f, nil
}

// putBase writes the base of an entry that copyPages has made.
func (e *Entry) putBase(tx *timeline.Tx) {
	if e.base != nil {
		tx.Put(layers.NamespacePages, e.pages.id[:], appendRuns(nil, e.base.runs), e.base.body)
	}
}
