package timelinetest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/timeline"
)

func (m *Model) stepCommit() error {
	return m.do(&Op{Kind: OpCommit, Bucket: m.bucket(), Writes: m.randomWrites()}, nil)
}

// stepStream commits values that were streamed into value segments.
func (m *Model) stepStream() error {
	op := &Op{Kind: OpCommit, Bucket: m.bucket()}
	for range 1 + m.rng.IntN(2) {
		ns := m.namespace()
		w := Write{Kind: m.kind(ns), NS: ns, Key: randomKey(m.rng, ns)}
		var n int64
		switch m.rng.IntN(8) {
		case 0:
		case 1, 2:
			n = m.rng.Int64N(100)
		case 3, 4, 5:
			n = m.rng.Int64N(10 << 10)
		case 6:
			n = m.rng.Int64N(150 << 10)
		default:
			n = m.rng.Int64N(600 << 10)
		}
		w.Body = m.newContent(n)
		w.Meta = m.meta()
		release, err := m.stream(&w, m.rng.IntN(4) == 0)
		if err != nil {
			if m.excused(err) {
				return nil
			}
			return err
		}
		defer release()
		op.Writes = append(op.Writes, w)
	}
	return m.do(op, nil)
}

// stream writes the body of w into value segments, and with spill also the
// list of its extents. release drops the holds.
func (m *Model) stream(w *Write, spill bool) (release func(), err error) {
	ext, release, err := m.upload(w.Body.Bytes())
	if err != nil {
		return nil, err
	}
	w.encoded = layers.AppendExtentsBody(nil, ext)
	if spill && len(ext) > 0 {
		list, releaseList, err := m.upload(w.encoded)
		if err != nil {
			release()
			return nil, err
		}
		segs, err := w.encoded.Segments(nil)
		if err != nil || len(list) != 1 {
			return nil, fmt.Errorf("spill %d extents: list of %d, %w", len(ext), len(list), err)
		}
		slices.Sort(segs)
		w.encoded = layers.AppendSpilledBody(nil, list[0], uint64(w.Body.Len()), slices.Compact(segs))
		releaseData := release
		release = func() { releaseData(); releaseList() }
	}
	w.segments, err = w.encoded.Segments(nil)
	return release, err
}

// upload streams p as one value.
func (m *Model) upload(p []byte) (_ []layers.Extent, release func(), err error) {
	w, err := m.store.Values().NewWriter(context.Background())
	if err != nil {
		return nil, nil, err
	}
	for len(p) > 0 && err == nil {
		n := min(len(p), 1+m.rng.IntN(64<<10))
		_, err = w.Write(p[:n])
		p = p[n:]
	}
	var ext []layers.Extent
	if err == nil {
		ext, err = w.Finish()
	}
	if err != nil {
		return nil, nil, errors.Join(err, w.Close())
	}
	return ext, func() {
		if err := w.Close(); err != nil {
			panic("BUG: close of a finished writer: " + err.Error())
		}
	}, nil
}

// stepCopy puts pieces of stored bodies together under another key, by handle.
func (m *Model) stepCopy() error {
	w := Write{Kind: layers.KindValue, NS: layers.NamespaceObjects, Key: randomKey(m.rng, layers.NamespaceObjects)}
	var ext []layers.Extent
	for range 1 + m.rng.IntN(3) {
		got, content, release, err := m.pickStored()
		if err != nil {
			if m.excused(err) {
				return nil
			}
			return err
		}
		if release == nil {
			continue
		}
		defer release()
		n := content.Len()
		off := m.rng.Int64N(n)
		if m.rng.IntN(2) == 0 {
			off = 0
		}
		n -= off
		if m.rng.IntN(2) == 0 {
			n = 1 + m.rng.Int64N(n)
		}
		ext = append(ext, sliceExtents(got, uint64(off), uint64(n))...)
		w.Body = append(w.Body, content.Slice(off, n)...)
	}
	if len(ext) == 0 {
		return nil
	}
	m.content++
	w.Meta = m.meta()
	w.encoded = layers.AppendExtentsBody(nil, ext)
	var err error
	if w.segments, err = w.encoded.Segments(nil); err != nil {
		return err
	}
	m.count.Add("copy by handle")
	return m.do(&Op{Kind: OpCommit, Bucket: m.bucket(), Writes: []Write{w}}, nil)
}

// pickStored finds a body in value segments and holds them; a nil release
// says that there was none.
func (m *Model) pickStored() (_ []layers.Extent, want Content, release func(), err error) {
	name, ok := m.living()
	if !ok {
		return nil, nil, nil, nil
	}
	at := m.checker().RetainedLSN(name)
	from, lsn := m.oracle.names[name].resolve(at)
	ns := layers.NamespaceObjects
	found := from.Scan(lsn, ns, "", "")
	if len(found) == 0 {
		return nil, nil, nil, nil
	}
	f := found[m.rng.IntN(len(found))]
	v, err := m.store.View(context.Background(), name, at)
	if err != nil {
		return nil, nil, nil, err
	}
	defer v.Close()
	rec, err := v.Get(ns, []byte(f.Key))
	if err != nil {
		return nil, nil, nil, err
	}
	if rec.Body.Tag() == layers.BodyInline || f.Body.Len() == 0 {
		return nil, nil, nil, nil
	}
	ext, err := m.store.Values().LoadExtents(rec.Body, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	var segs []layers.FileNum
	for i := range ext {
		segs = append(segs, ext[i].Segment)
	}
	release, err = m.store.Values().Hold(segs)
	return ext, f.Body, release, err
}

// sliceExtents returns the extents of bytes [off, off+n).
func sliceExtents(ext []layers.Extent, off, n uint64) []layers.Extent {
	var out []layers.Extent
	for _, e := range ext {
		if off >= e.Len {
			off -= e.Len
			continue
		}
		e.Skip, e.Len = e.Skip+off, min(e.Len-off, n)
		off = 0
		if n -= e.Len; e.Len > 0 {
			out = append(out, e)
		}
	}
	return out
}

// stepUpdate writes keys that it has read under their locks.
func (m *Model) stepUpdate() error {
	op := &Op{Kind: OpUpdate, Bucket: m.bucket()}
	if m.rng.IntN(8) != 0 { // otherwise it writes nothing
		op.Writes = m.randomWrites()
	}
	return m.do(op, func(tx *timeline.Tx) error {
		b := m.oracle.names[op.Bucket]
		if b == nil {
			return errors.New("runs on a bucket that does not exist")
		}
		for i := range op.Writes {
			k := pointKey{op.Writes[i].NS, op.Writes[i].Key}
			if err := m.checker().point(tx, b.line, m.oracle.Last(), k, m.rng.IntN(4) == 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// stepExclusive empties or refills a range that it has scanned.
func (m *Model) stepExclusive() error {
	op := &Op{Kind: OpExclusive, Bucket: m.bucket(), Writes: m.randomWrites()}
	return m.do(op, func(tx *timeline.Tx) error {
		b := m.oracle.names[op.Bucket]
		if b == nil {
			return errors.New("runs on a bucket that does not exist")
		}
		ns := m.namespace()
		return m.checker().walk(tx, ns, b.line.Scan(m.oracle.Last(), ns, "", ""), "", "", true)
	})
}

var errAbort = errors.New("timelinetest: the transaction changed its mind")

// stepAbort ends a transaction with an error: nothing may come of it.
func (m *Model) stepAbort() error {
	name, ok := m.living()
	if !ok {
		return nil
	}
	op := &Op{Kind: []OpKind{OpUpdate, OpExclusive}[m.rng.IntN(2)], Bucket: name, Writes: m.randomWrites()}
	execute(m.store, op, func(tx *timeline.Tx) error {
		addTo(&tx.Batch, op.Writes)
		return errAbort
	})
	m.note("aborted %s", op)
	if !errors.Is(op.Err, errAbort) && !m.excused(op.Err) {
		return fmt.Errorf("%s: want the error of the function", op)
	}
	m.count.Add("abort a transaction")
	return m.unchanged("aborted transaction")
}

func (m *Model) stepTooLarge() error {
	name, ok := m.living()
	if !ok {
		return nil
	}
	op := &Op{Kind: OpCommit, Bucket: name}
	if m.rng.IntN(2) == 0 {
		w := Write{Kind: layers.KindValue, NS: layers.NamespaceObjects, Key: "too large", Body: m.newContent(40 << 10)}
		w.encoded = layers.AppendInlineBody(nil, w.Body.Bytes())
		op.Writes = []Write{w}
	} else {
		op.Writes = []Write{{Kind: layers.KindTombstone, NS: layers.NamespaceObjects, Key: string(make([]byte, layers.MaxUserKeyBytes+1))}}
	}
	execute(m.store, op, nil)
	m.note("too large %s", op.Kind)
	if !errors.Is(op.Err, timeline.ErrBatchTooLarge) && !m.excused(op.Err) {
		return fmt.Errorf("oversized commit: %w, want ErrBatchTooLarge", op.Err)
	}
	m.count.Add("commit that is too large")
	return m.unchanged("oversized commit")
}

// stepAbandonUpload leaves dead space in a value segment.
func (m *Model) stepAbandonUpload() error {
	w, err := m.store.Values().NewWriter(context.Background())
	if err != nil {
		return err
	}
	m.note("abandon an upload")
	_, err = w.Write(m.newContent(m.rng.Int64N(100 << 10)).Bytes())
	if err == nil && m.rng.IntN(2) == 0 {
		_, err = w.Finish()
	}
	if err = errors.Join(err, w.Close()); err != nil && !m.excused(err) {
		return err
	}
	m.count.Add("abandon an upload")
	return nil
}
