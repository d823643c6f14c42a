package layers

import "stemma/wal"

// IterOptions bounds what an iterator over a layer sees and keeps.
type IterOptions struct {
	// Records below MinLSN or above MaxLSN are passed over, and blocks that hold
	// nothing else are not read. A zero MaxLSN is no bound.
	MinLSN, MaxLSN wal.LSN
	FillCache      bool // keep the blocks that are read in the cache
}

// NewIter returns an iterator over the point records. A record is valid until
// the next move; its Meta and Body are immutable and may be kept. After the end,
// Prev goes to the last record, and before the start, Next to the first. An
// error is final.
func (l *Layer) NewIter(o IterOptions) Iterator {
	if o.MaxLSN == 0 {
		o.MaxLSN = wal.MaxLSN
	}
	it := &layerIter{l: l, o: o}
	if l.top != nil {
		it.err = l.at(l.foot.points.off, it.top.init(l.top, l.bias))
	}
	it.all = o.MinLSN <= l.desc.MinLSN && l.desc.MaxLSN <= o.MaxLSN
	return it
}

// layerIter stands on an entry of data, which index refers to, which top refers
// to. Where the last move found a block to pass over, the block below is empty.
type layerIter struct {
	l     *Layer
	o     IterOptions
	all   bool // every record is within the LSNs
	place place
	err   error
	rec   Record

	top, index, data blockIter
	// The blocks last opened: a seek often comes back to them.
	indexAt, dataAt   uint64
	indexRaw, dataRaw []byte
}

// window reports whether a block may hold records that are wanted.
func (it *layerIter) window(ref *blockRef) bool {
	return it.all || ref.minLSN <= it.o.MaxLSN && ref.maxLSN >= it.o.MinLSN
}

// enterIndex sets index before the first entry of the block that top stands on;
// false if there is nothing wanted in it, or with err set.
func (it *layerIter) enterIndex() bool {
	return it.enter(&it.top, it.l.foot.points.off, &it.index, &it.indexAt, &it.indexRaw)
}

// enterData sets data before the first entry of the block that index stands on.
func (it *layerIter) enterData() bool {
	return it.enter(&it.index, it.indexAt, &it.data, &it.dataAt, &it.dataRaw)
}

func (it *layerIter) enter(from *blockIter, fromAt uint64, to *blockIter, at *uint64, raw *[]byte) bool {
	to.reset()
	ref, err := decodeBlockRef(from.value, from.lsn)
	if err != nil {
		it.err = it.l.at(fromAt, err)
		return false
	}
	if !it.window(&ref) {
		return false
	}
	if *raw == nil || *at != ref.off {
		if *raw, it.err = it.l.cachedBlock(ref, it.o.FillCache); it.err != nil {
			return false
		}
		*at = ref.off
	}
	it.err = it.l.at(ref.off, to.init(*raw, it.l.bias))
	return it.err == nil
}

// seek sets top, index and data to the blocks that (key, lsn) falls to, as far
// as they are wanted, and reports whether data is open.
func (it *layerIter) seek(key Key, lsn wal.LSN) bool {
	it.index.reset()
	it.data.reset()
	return it.top.seekGE(key, lsn) && it.enterIndex() && it.index.seekGE(key, lsn) && it.enterData()
}

// SeekGE implements Iterator.
func (it *layerIter) SeekGE(key Key, lsn wal.LSN) bool {
	return it.ready() && it.forward(it.seek(key, lsn) && it.data.seekGE(key, lsn))
}

// SeekLT implements Iterator.
func (it *layerIter) SeekLT(key Key, lsn wal.LSN) bool {
	return it.ready() && it.backward(it.seek(key, lsn) && it.data.seekLT(key, lsn))
}

// First implements Iterator.
func (it *layerIter) First() bool {
	if !it.ready() {
		return false
	}
	it.toStart()
	return it.forward(false)
}

// Last implements Iterator.
func (it *layerIter) Last() bool {
	if !it.ready() {
		return false
	}
	it.toEnd()
	return it.backward(false)
}

// Next implements Iterator.
func (it *layerIter) Next() bool {
	switch it.place {
	case placeOn:
		return it.ready() && it.forward(it.data.step())
	case placeBefore:
		return it.First()
	}
	return false
}

// Prev implements Iterator.
func (it *layerIter) Prev() bool {
	switch it.place {
	case placeOn:
		return it.ready() && it.backward(it.data.stepBack())
	case placeAfter:
		return it.Last()
	}
	return false
}

// ready prepares a move.
func (it *layerIter) ready() bool {
	it.place = placeNone
	return it.err == nil
}

func (it *layerIter) toStart() {
	it.top.off, it.top.back = -1, it.top.back[:0]
	it.index.reset()
	it.data.reset()
}

func (it *layerIter) toEnd() {
	it.top.toEnd()
	it.index.reset()
	it.data.reset()
}

// forward goes on until data stands on a record that is wanted; ok says that it
// stands on one.
func (it *layerIter) forward(ok bool) bool {
	for {
		for ; ok; ok = it.data.step() {
			if it.accept() {
				return true
			}
		}
		if it.failed() {
			return false
		}
		for !it.index.step() || !it.enterData() {
			if it.failed() {
				return false
			}
			if it.index.valid() {
				continue // to the next block that is wanted
			}
			if !it.top.step() {
				return it.end(placeAfter)
			}
			it.enterIndex()
		}
		ok = it.data.first()
	}
}

// backward is forward in the other direction.
func (it *layerIter) backward(ok bool) bool {
	for {
		for ; ok; ok = it.data.stepBack() {
			if it.accept() {
				return true
			}
		}
		if it.failed() {
			return false
		}
		for !it.index.stepBack() || !it.enterData() {
			if it.failed() {
				return false
			}
			if it.index.valid() {
				continue
			}
			if !it.top.stepBack() {
				return it.end(placeBefore)
			}
			it.enterIndex()
			it.index.toEnd()
		}
		ok = it.data.last()
	}
}

// end notes that there are no more records in a direction, unless top failed.
func (it *layerIter) end(p place) bool {
	if !it.failed() {
		it.place = p
	}
	return false
}

// failed gathers the failures of the three iterators.
func (it *layerIter) failed() bool {
	switch {
	case it.err != nil:
	case it.data.err != nil:
		it.err = it.l.at(it.dataAt, it.data.err)
	case it.index.err != nil:
		it.err = it.l.at(it.indexAt, it.index.err)
	case it.top.err != nil:
		it.err = it.l.at(it.l.foot.points.off, it.top.err)
	}
	return it.err != nil
}

// accept decodes the entry that data stands on if it is wanted. A failure is
// noted and reported by failed.
func (it *layerIter) accept() bool {
	d := &it.data
	if !it.all && (d.lsn < it.o.MinLSN || d.lsn > it.o.MaxLSN) {
		return false
	}
	if err := decodeRecord(&it.rec, d.key, d.lsn, d.value, it.l.flags); err != nil {
		d.corrupt("entry at %d of block: %w", d.off, err)
		return false
	}
	it.place = placeOn
	return true
}

// Record implements Iterator.
func (it *layerIter) Record() *Record { return &it.rec }

// Err implements Iterator.
func (it *layerIter) Err() error { return it.err }

// Close implements Iterator.
func (it *layerIter) Close() error {
	*it = layerIter{l: it.l, err: it.err}
	return nil
}
