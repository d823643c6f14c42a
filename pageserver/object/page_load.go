package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"stemma/layers"
	"stemma/timeline"
)

// pageSource is a View or a Tx.
type pageSource interface {
	reader
	Stack(ns layers.Namespace, key []byte, dst []layers.Record) ([]layers.Record, error)
	Scan(ns layers.Namespace, lower, upper []byte) *layers.Scan
}

// pageReader reads the bytes of one object that is written in place, as its source
// sees it. Reads are gathered: fill plans them, run carries them out. Not safe for
// concurrent use.
type pageReader struct {
	s    *Service
	src  pageSource
	file *pageFile
	seal *pageSeal // nil: the pages are in the clear
	base *pageBase // nil: not loaded yet

	loads  []valueLoad
	deltas []deltaLoad
	stack  []layers.Record
}

// newPageReader returns a reader of an entry, which is unlocked and written in place.
func (s *Service) newPageReader(src pageSource, e *Entry) pageReader {
	return pageReader{s: s, src: src, file: &e.pages, seal: e.pageSeal()}
}

// valueLoad is a read of stored bytes: those of ext, or what read reads.
type valueLoad struct {
	dst  []byte
	ext  layers.Extent
	read func(dst []byte) error
}

// deltaLoad is a delta that is applied once everything was read: into dst, which
// begins at from of the page.
type deltaLoad struct {
	page uint64
	dst  []byte
	from uint64
	lock []byte        // its Meta, if it is sealed
	body []byte        // unless it is stored
	ext  layers.Extent // with Len above zero
}

// fewPages is up to how many pages are looked up one by one: more are walked.
const fewPages = 4

// fill plans to read the bytes of the object from off on into dst, which is zeros. All
// of dst lies within the object. Errors: ErrCorrupt, layers.ErrCorrupt.
func (r *pageReader) fill(dst []byte, off uint64) error {
	size := r.file.pageBytes()
	first, last := off>>r.file.shift, (off+uint64(len(dst))-1)>>r.file.shift
	if last-first < fewPages {
		for page := first; page <= last; page++ {
			if err := r.fillPage(dst, off, page); err != nil {
				return r.file.pageError(page, err)
			}
		}
		return nil
	}
	// What no page covers is of the base, in runs as long as may be.
	scan := r.src.Scan(layers.NamespacePages, r.file.id.pageKey(first), r.file.id.pageKey(last+1))
	defer scan.Close()
	at := off
	for ok := scan.First(); ok; ok = scan.Next() {
		page, ok := r.file.id.pageOf(scan.Record().Key.User())
		if !ok {
			return corrupt("key %x among pages", scan.Record().Key.User())
		}
		start, end := max(page*size, off), min((page+1)*size, off+uint64(len(dst)))
		if err := r.fillBase(dst[at-off:start-off], at); err != nil {
			return err
		}
		var err error
		if rec := scan.Record(); rec.Kind == layers.KindValue {
			err = r.fillFull(dst[start-off:end-off], rec, page, start-page*size)
		} else {
			err = r.fillPage(dst, off, page)
		}
		if err != nil {
			return r.file.pageError(page, err)
		}
		at = end
	}
	if err := scan.Err(); err != nil {
		return err
	}
	return r.fillBase(dst[at-off:], at)
}

// fillPage plans to read what of a page lies in dst, which begins at off.
func (r *pageReader) fillPage(dst []byte, off, page uint64) (err error) {
	var few [pageKeyBytes]byte
	if r.stack, err = r.src.Stack(layers.NamespacePages, r.file.id.appendPageKey(few[:0], page), r.stack[:0]); err != nil {
		return err
	}
	size := r.file.pageBytes()
	from, to := max(page*size, off), min((page+1)*size, off+uint64(len(dst)))
	dst = dst[from-off : to-off]
	n := len(r.stack)
	if n == 0 || r.stack[n-1].Kind == layers.KindDelta {
		err = r.fillBase(dst, from)
	} else {
		err = r.fillFull(dst, &r.stack[n-1], page, from-page*size)
		n--
	}
	for i := n - 1; i >= 0 && err == nil; i-- {
		err = r.addDelta(&r.stack[i], dst, page, from-page*size)
	}
	return err
}

// fillFull plans to copy what a full page has from from on; what it lacks is zeros.
func (r *pageReader) fillFull(dst []byte, rec *layers.Record, page, from uint64) (err error) {
	if empty := rec.Body.Tag() == layers.BodyEmpty; (r.seal == nil || empty) && len(rec.Meta) > 0 {
		return corrupt("page with a meta of %d bytes", len(rec.Meta))
	} else if empty {
		return nil
	}
	if rec.Body.Tag() == layers.BodyInline {
		p := rec.Body.Inline()
		if uint64(len(p)) > r.file.pageBytes() {
			return corrupt("page of %d bytes, at most %d", len(p), r.file.pageBytes())
		}
		if r.seal != nil {
			if p, err = r.seal.open(page, layers.KindValue, rec.Meta, p); err != nil {
				return err
			}
		}
		copy(dst, p[min(from, uint64(len(p))):])
		return nil
	}
	var few [2]layers.Extent
	ext, err := rec.Body.Extents(few[:0])
	if err != nil {
		return err
	}
	have := length(ext)
	if have > r.file.pageBytes() {
		return corrupt("page of %d bytes, at most %d", have, r.file.pageBytes())
	}
	switch {
	case from >= have:
	case r.seal != nil:
		lock, kept := bytes.Clone(rec.Meta), slices.Clone(ext)
		r.loads = append(r.loads, valueLoad{dst: dst, read: func(dst []byte) error { return r.readFull(dst, lock, page, from, kept) }})
	default:
		r.fillExtents(dst, slice(ext, from, min(uint64(len(dst)), have-from)))
	}
	return nil
}

// readFull reads what a sealed page has from from on.
func (r *pageReader) readFull(dst, lock []byte, page, from uint64, ext []layers.Extent) (err error) {
	p := make([]byte, 0, length(ext))
	for _, e := range ext {
		if p, err = r.s.values.ReadAll(p, e); err != nil {
			return err
		}
	}
	if p, err = r.seal.open(page, layers.KindValue, lock, p); err != nil {
		return r.file.pageError(page, err)
	}
	copy(dst, p[from:])
	return nil
}

func (r *pageReader) fillExtents(dst []byte, ext []layers.Extent) {
	for _, e := range ext {
		r.loads = append(r.loads, valueLoad{dst: dst[:e.Len:e.Len], ext: e})
		dst = dst[e.Len:]
	}
}

// fillBase plans to read what the base has from off on.
func (r *pageReader) fillBase(dst []byte, off uint64) (err error) {
	end := min(off+uint64(len(dst)), r.file.base)
	if off >= end {
		return nil
	}
	if err := r.loadBase(); err != nil {
		return err
	}
	for _, run := range r.base.overlap(off, end) {
		to := dst[run.off-off : run.end()-off]
		if r.base.body.Tag() == layers.BodyInline {
			p, err := r.base.inline(run.body, run.len)
			if err != nil {
				return err
			}
			copy(to, p)
			continue
		}
		if base := r.base; base.sealed != nil {
			r.loads = append(r.loads, valueLoad{dst: to, read: func(dst []byte) error { return r.s.readSealed(base, dst, run.body) }})
			continue
		}
		ext, err := r.base.extents(run.body, run.len)
		if err != nil {
			return err
		}
		r.fillExtents(to, ext)
	}
	return nil
}

// loadBase makes base known.
func (r *pageReader) loadBase() (err error) {
	if r.base != nil {
		return nil
	}
	if r.base, err = r.s.loadBase(r.src, &r.file.id, r.seal); err != nil {
		if errors.Is(err, timeline.ErrNotFound) {
			err = corrupt("pages without their base")
		}
		return fmt.Errorf("base of file %v: %w", r.file.id, err)
	}
	return nil
}

func (r *pageReader) addDelta(rec *layers.Record, dst []byte, page, from uint64) error {
	d := deltaLoad{page: page, dst: dst, from: from}
	if r.seal != nil {
		d.lock = bytes.Clone(rec.Meta)
	}
	if rec.Body.Tag() == layers.BodyInline {
		d.body = rec.Body.Inline()
	} else {
		var few [2]layers.Extent
		ext, err := rec.Body.Extents(few[:0])
		if err != nil {
			return err
		}
		if len(ext) != 1 || ext[0].Len > 2*r.file.pageBytes() {
			return corrupt("page delta in %d extents", len(ext))
		}
		d.ext = ext[0]
	}
	r.deltas = append(r.deltas, d)
	return nil
}

// pageReads is how many reads one batch has under way at most.
const pageReads = 16

// run carries out what was planned: all values are asked for before any is waited
// for, up to pageReads at a time. Errors: ErrCorrupt, layers.ErrCorrupt, those of the
// disk, ctx's.
func (r *pageReader) run(ctx context.Context) error {
	values, deltas := len(r.loads), 0
	for i := range r.deltas {
		if r.deltas[i].ext.Len > 0 {
			deltas++
		}
	}
	load := func(i int) error {
		if i < values {
			return r.s.loadValue(&r.loads[i])
		}
		return r.s.loadDelta(r.deltas, i-values)
	}
	n := values
	if deltas > 0 {
		n += len(r.deltas)
	}
	if err := inParallel(ctx, n, load); err != nil {
		return err
	}
	for i := range r.deltas {
		d := &r.deltas[i]
		body, err := d.body, error(nil)
		if r.seal != nil {
			body, err = r.seal.open(d.page, layers.KindDelta, d.lock, body)
		}
		var ps pieces
		if err == nil {
			ps, err = decodePieces(body, r.file.pageBytes())
		}
		if err != nil {
			return r.file.pageError(d.page, err)
		}
		ps.apply(d.dst, d.from)
	}
	clear(r.loads)
	clear(r.deltas)
	r.loads, r.deltas = r.loads[:0], r.deltas[:0]
	return nil
}

func (s *Service) loadValue(l *valueLoad) error {
	if l.read != nil {
		return l.read(l.dst)
	}
	p, err := s.values.ReadAll(l.dst[:0], l.ext)
	if err != nil {
		return err
	}
	if len(p) > 0 && &p[0] != &l.dst[0] {
		copy(l.dst, p)
	}
	return nil
}

func (s *Service) loadDelta(ds []deltaLoad, i int) (err error) {
	if d := &ds[i]; d.ext.Len > 0 {
		d.body, err = s.values.ReadAll(make([]byte, 0, d.ext.Len), d.ext)
	}
	return err
}

// inParallel calls do for 0 to n-1, up to pageReads at a time, and returns the first
// error. It waits for all that were begun.
func inParallel(ctx context.Context, n int, do func(i int) error) error {
	const alone = 2 // so few are read one after the other: most often from memory
	if n <= alone {
		for i := range n {
			if err := do(i); err != nil {
				return err
			}
		}
		return nil
	}
	var (
		mu    sync.Mutex
		next  int
		first error
		wg    sync.WaitGroup
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil {
			first = ctx.Err()
		}
		if first != nil || next == n {
			return 0, false
		}
		next++
		return next - 1, true
	}
	for range min(n, pageReads) {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if err := do(i); err != nil {
					mu.Lock()
					first = cmpError(first, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

func cmpError(first, err error) error {
	if first != nil {
		return first
	}
	return err
}

// trimZeros returns p without the zeros at its end.
func trimZeros(p []byte) []byte { return bytes.TrimRight(p, "\x00") }
