package object

import (
	"context"
	"errors"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

const (
	// fewHolePages is up to how many pages of a hole are emptied one by one.
	fewHolePages = 16
	// fewBasePages is up to how many pages of the base a hole covers with empty pages; a
	// larger one is cut out of the base.
	fewBasePages = 64
)

// writeHoles empties the pages of holes, and what of the base lies under them.
func (w *pageWrite) writeHoles(edits *pageEdits) error {
	for _, h := range edits.holes {
		if err := w.cutBase(edits, h); err != nil {
			return err
		}
		if w.opened {
			continue
		}
		if h.to-h.from > fewHolePages {
			end := w.file.id.end()
			if h.to != allPages {
				end = w.file.id.pageKey(h.to)
			}
			w.tx.DeleteRange(layers.NamespacePages, w.file.id.pageKey(h.from), end)
			continue
		}
		for page := h.from; page < h.to; page++ {
			if err := w.deletePage(edits, page); err != nil {
				return w.file.pageError(page, err)
			}
		}
	}
	return nil
}

// deletePage removes what there is of a page that nothing else of the commit writes.
func (w *pageWrite) deletePage(edits *pageEdits, page uint64) error {
	if edits.pages[page] != nil {
		return nil
	}
	key := w.file.id.pageKey(page)
	_, err := w.tx.Get(layers.NamespacePages, key)
	if errors.Is(err, timeline.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if w.coversBase(page) {
		return nil // cutBase has put an empty page there
	}
	w.tx.Delete(layers.NamespacePages, key)
	return nil
}

// coversBase reports whether the base has bytes where the page lies.
func (w *pageWrite) coversBase(page uint64) bool {
	from := page << w.file.shift
	return from < w.file.base && len(w.reader.base.overlap(from, min(from+w.file.pageBytes(), w.file.base))) > 0
}

// cutBase hides what the base has under a hole.
func (w *pageWrite) cutBase(edits *pageEdits, h pageSpan) error {
	if h.from > w.file.base>>w.file.shift {
		return nil
	}
	from, to := h.from<<w.file.shift, w.file.base
	if h.to <= w.file.base>>w.file.shift {
		to = h.to << w.file.shift
	}
	if from >= to {
		return nil
	}
	if to == w.file.base {
		w.file.base = from
		return nil
	}
	if err := w.reader.loadBase(); err != nil {
		return err
	}
	base := w.reader.base
	var pages uint64
	for _, r := range base.overlap(from, to) {
		pages += r.len>>w.file.shift + 1
	}
	switch {
	case pages == 0:
		return nil
	case pages > fewBasePages && (base.sealed == nil || base.open == nil): // an inline body is sealed as a whole
		cut := *base
		cut.runs = cutRuns(base.runs, from, to)
		if len(cut.runs) > maxBaseRuns {
			break // empty pages serve as well
		}
		if base.sealed != nil {
			var err error
			if cut.sealed, err = newSealedBody(base.sealed.streams, cut.runs); err != nil {
				return err
			}
			cut.sealed.key = base.sealed.key
		}
		return w.replaceBase(&cut)
	}
	for page := h.from; page < h.to; page++ {
		if edits.pages[page] == nil && w.coversBase(page) {
			w.tx.Put(layers.NamespacePages, w.file.id.pageKey(page), nil, nil)
		}
	}
	return nil
}

// replaceBase makes b, whose runs were cut, the base.
func (w *pageWrite) replaceBase(b *pageBase) error {
	if b.body.Tag() == layers.BodyInline {
		body := layers.Body{byte(layers.BodyInline)}
		for i := range b.runs {
			p, err := b.inline(b.runs[i].body, b.runs[i].len)
			if err != nil {
				return err
			}
			b.runs[i].body = uint64(len(body) - 1)
			body = append(body, p...)
		}
		b.body = body
	} else {
		if err := w.moved.add(w.s, b.body); err != nil {
			return err
		}
		all, err := w.reader.base.moved(b)
		if err != nil {
			return err
		}
		body, err := w.s.appendBody(w.ctx, &w.st, nil, all)
		if err != nil {
			return err
		}
		b.body, b.ext = body, all
		b.index()
	}
	w.reader.base = b
	if w.opened {
		return nil // run writes it
	}
	return w.writeBase(b)
}

// writeBase writes the base, whose runs have their bytes one after the other.
func (w *pageWrite) writeBase(b *pageBase) error {
	w.tx.Put(layers.NamespacePages, w.file.id[:], b.append(nil), b.body)
	return nil
}

// newPageWriter returns a writer of pages to value segments that st ends.
func (s *Service) newPageWriter(ctx context.Context, st *stored) (*layers.ValueWriter, error) {
	w, err := s.values.NewInternalWriter(ctx, storefs.User)
	if err == nil {
		st.writers = append(st.writers, w)
	}
	return w, err
}
