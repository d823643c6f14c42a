package layers

import (
	"sort"

	"stemma/wal"
)

// concatIterator walks the layers of one level as one, with one of them open.
type concatIterator struct {
	layers []*Layer // by key, disjoint
	o      IterOptions
	filter uint64  // HashTimeline of what is looked for; layers without are passed over
	all    bool    // filter is not used
	alive  wal.LSN // unless zero, history layers whose records died at or below it are passed over
	index  int     // of the open layer; -1 and len(layers) are the ends
	cur    Iterator
	err    error
}

// NewConcatIterator walks layers that are sorted by key and disjoint, as those of
// a level are. It opens one at a time.
func NewConcatIterator(layers []*Layer, o IterOptions) Iterator {
	return &concatIterator{layers: layers, o: o, all: true, index: -1}
}

// open turns to the layer at index i, unless nothing in it can matter.
func (c *concatIterator) open(i int) bool {
	if i == c.index && c.cur != nil {
		return true
	}
	if c.closeCurrent(); c.err != nil {
		return false
	}
	c.index = i
	if i < 0 || i == len(c.layers) {
		return false
	}
	if !c.layers[i].mayHave(c.o, c.alive) {
		return false
	}
	if !c.all {
		if may, err := c.layers[i].MayContain(c.filter); err != nil || !may {
			c.err = err
			return false
		}
	}
	c.cur = c.layers[i].NewIter(c.o)
	return true
}

func (c *concatIterator) closeCurrent() {
	if c.cur == nil {
		return
	}
	err := c.cur.Close()
	if c.cur = nil; c.err == nil {
		c.err = err
	}
}

// settle reports whether the open layer's iterator stands on a record (ok), or
// else finds the nearest one in the layers that follow in the given direction.
func (c *concatIterator) settle(ok bool, step int) bool {
	for !ok && c.err == nil {
		if c.cur != nil {
			if c.err = c.cur.Err(); c.err != nil {
				return false
			}
		}
		i := c.index + step
		if i < -1 || i > len(c.layers) {
			return false
		}
		if !c.open(i) {
			if i == -1 || i == len(c.layers) {
				return false
			}
			continue
		}
		if step > 0 {
			ok = c.cur.First()
		} else {
			ok = c.cur.Last()
		}
	}
	return ok && c.err == nil
}

func (c *concatIterator) SeekGE(key Key, lsn wal.LSN) bool {
	c.err = nil
	i := sort.Search(len(c.layers), func(i int) bool { return c.layers[i].Desc().Range.End.Compare(key) > 0 })
	return c.settle(c.open(i) && c.cur.SeekGE(key, lsn), 1)
}

func (c *concatIterator) SeekLT(key Key, lsn wal.LSN) bool {
	c.err = nil
	i := sort.Search(len(c.layers), func(i int) bool { return c.layers[i].Desc().Range.Start.Compare(key) > 0 }) - 1
	return c.settle(c.open(i) && c.cur.SeekLT(key, lsn), -1)
}

func (c *concatIterator) First() bool {
	c.err = nil
	return c.settle(c.open(0) && c.cur.First(), 1)
}

func (c *concatIterator) Last() bool {
	c.err = nil
	return c.settle(c.open(len(c.layers)-1) && c.cur.Last(), -1)
}

// Next moves on; before the first record it moves there, after the last it stays.
func (c *concatIterator) Next() bool { return c.settle(c.cur != nil && c.cur.Next(), 1) }

// Prev moves back; after the last record it moves there, before the first it stays.
func (c *concatIterator) Prev() bool { return c.settle(c.cur != nil && c.cur.Prev(), -1) }

func (c *concatIterator) Record() *Record { return c.cur.Record() }
func (c *concatIterator) Err() error      { return c.err }

func (c *concatIterator) Close() error {
	if c.cur == nil {
		return nil
	}
	err := c.cur.Close()
	c.cur = nil
	return err
}
