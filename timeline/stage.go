package timeline

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"stemma/layers"
	"stemma/wal"
	"stemma/wal/storefs"
)

// stage is what a transaction writes that is too much for a commit: synced layers without LSNs,
// which nothing names until the commit adopts them. A crash before leaves files that the next
// start removes. It belongs to one transaction.
type stage struct {
	s  *Store
	id layers.TimelineID
	// layers hold one batch each, in order. No key is in two of them.
	layers  []*layers.Layer
	packers []*layers.Packer
	// stamp ends the keys of PutStamped, for the LSN of the commit is not known yet: an LSN
	// that no commit has, above those of all that the timeline has so far.
	stamp wal.LSN
	// err is why the records could not be read back.
	err error
}

// stage moves what was written so far to a layer, and empties the batch. No key of it may
// be written again.
func (tx *Tx) stage() error {
	if tx.staged == nil {
		tx.staged = &stage{s: tx.view.store, id: tx.view.node.id}
	}
	if tx.Len() == 0 {
		return nil
	}
	if err := tx.check(math.MaxInt); err != nil {
		return err
	}
	if err := tx.view.store.admitSpace(&tx.Batch); err != nil {
		return err
	}
	if err := tx.staged.write(&tx.Batch); err != nil {
		return fmt.Errorf("stage %d records: %w", tx.Len(), err)
	}
	tx.clear()
	return nil
}

// write writes a batch as one layer: values synced, layer synced, its directory synced.
func (st *stage) write(b *Batch) error {
	packer, err := st.s.values.NewPacker(storefs.User)
	if err != nil {
		return err
	}
	st.packers = append(st.packers, packer)
	out := st.s.newOutput(layers.DeltaLayer, 0, storefs.User)
	out.staged = true
	defer out.abort()
	st.stampKeys(b)
	slices.SortFunc(b.ops, func(a, b batchOp) int {
		return cmp.Or(cmp.Compare(a.ns, b.ns), cmp.Compare(string(a.key), string(b.key)))
	})
	w := memWriter{s: st.s, packer: packer}
	for i := range b.ops {
		o := &b.ops[i]
		r := layers.Record{Kind: o.kind, Key: layers.MakeKey(st.id, o.ns, o.key), Meta: o.meta, Body: o.body, Writer: b.writer}
		if o.kind == layers.KindRangeTombstone {
			r.End, r.Writer = layers.MakeKey(st.id, o.ns, o.end), 0
			out.stones = append(out.stones, r)
		} else if err := w.put(&r, out); err != nil {
			return err
		}
	}
	if _, err := packer.Finish(); err != nil {
		return err
	}
	made, err := out.finish()
	st.layers = append(st.layers, made...)
	return err
}

// stampKeys ends the keys that wait for the LSN of their commit.
func (st *stage) stampKeys(b *Batch) {
	if !b.stamped {
		return
	}
	if st.stamp == 0 {
		st.stamp = st.s.log.Skip()
	}
	stamp := Stamp(st.stamp)
	for i := range b.ops {
		o := &b.ops[i]
		if o.stamped {
			copy(o.key[len(o.key)-StampBytes:], stamp[:])
		}
		if o.early != nil {
			o.meta = o.early(st.stamp)
		}
	}
}

// encode returns the payload of the commit that adopts the layers.
func (st *stage) encode() []byte {
	p := appendPayloadHeader(nil, len(st.layers))
	for _, l := range st.layers {
		p = appendAdopt(p, l.Desc())
	}
	return p
}

// writes visits what was staged; false when the visitor has seen enough, or st.err is set.
func (st *stage) writes(yield func(Write) bool) bool {
	for _, l := range st.layers {
		if !st.writesOf(l, yield) {
			return false
		}
	}
	return true
}

func (st *stage) writesOf(l *layers.Layer, yield func(Write) bool) bool {
	for _, r := range l.RangeTombstones() {
		if !yield(Write{Kind: r.Kind, Namespace: r.Key.Namespace(), Key: r.Key.User(), End: r.End.User()}) {
			return false
		}
	}
	it := l.NewIter(layers.IterOptions{})
	more := true
	for ok := it.First(); ok && more; ok = it.Next() {
		r := it.Record()
		more = yield(Write{Kind: r.Kind, Namespace: r.Key.Namespace(), Key: slices.Clone(r.Key.User()), Meta: r.Meta})
	}
	if err := firstError(it.Err(), it.Close()); err != nil {
		st.err = fmt.Errorf("read back what was staged: %w", err)
		return false
	}
	return more
}

// hold makes the layers known to the applier of the log, which takes them from there.
func (st *stage) hold() {
	s := &st.s.staged
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byNum == nil {
		s.byNum = make(map[layers.FileNum]*layers.Layer)
	}
	for _, l := range st.layers {
		s.byNum[l.Desc().Num] = l
	}
}

// end ends a stage, nil for none, by what became of the commit. Files that nothing names go
// at once; those that the log may name stay, and the next start finds out.
func (st *stage) end(err error) {
	if st == nil {
		return
	}
	for _, l := range st.layers {
		st.s.staged.take(l.Desc().Num)
	}
	var readOnly *wal.ReadOnlyError
	endPacker := (*layers.Packer).Close
	switch {
	case err == nil:
	case errors.As(err, &readOnly):
		for _, l := range st.layers {
			if err := l.Close(); err != nil {
				st.s.opts.Logger.Warn("close staged layer", "layer", uint64(l.Desc().Num), "err", err)
			}
		}
	default:
		st.s.discard(st.layers)
		endPacker = (*layers.Packer).Discard
	}
	for _, p := range st.packers {
		if err := endPacker(p); err != nil {
			st.s.opts.Logger.Warn("close packed values", "err", err)
		}
	}
}
