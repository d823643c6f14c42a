package layers

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"stemma/wal"
)

// Changes walks what a chain of timelines has above an LSN: per user key the
// newest record among the hops, value or tombstone, if it lies above. What range
// tombstones hide is left out: see Ranges. Blocks and layers that have nothing
// above the LSN, or nothing that is alive at the LSN of the hop, are not read: the
// cost follows what was written since. It moves forward only. Not safe for concurrent use; the Version must stay acquired
// until Close.
type Changes struct {
	hops []*changeHop
	heap minHeap[*changeHop]
	on   bool
	user []byte // of the present key; our own copy
	rec  Record
	err  error
}

// changeHop is one timeline of the chain. It stands on the newest record of a
// key, or on nothing.
type changeHop struct {
	it     *History
	index  int
	upTo   wal.LSN
	key    Key // where it stands; our own copy
	stones *TombstoneSet
	probe  Key // scratch
}

func (h *changeHop) before(o *changeHop) bool {
	return cmp.Or(bytes.Compare(h.key[keyPrefixLen:], o.key[keyPrefixLen:]), h.index-o.index) < 0
}

// NewChanges returns the changes of the user keys in [lower, upper), a nil upper
// being none, that a chain has above an LSN. It is not positioned.
func (v *Version) NewChanges(chain []Hop, ns Namespace, lower, upper []byte, above wal.LSN) *Changes {
	c := &Changes{user: []byte{}} // an empty key is none that is missing
	for _, h := range chain {
		if h.UpTo <= above {
			continue
		}
		o := IterOptions{MinLSN: above + 1, MaxLSN: h.UpTo, FillCache: true}
		it := v.newHistory(userRange(h.Timeline, ns, lower, upper), o, h.UpTo)
		hop := &changeHop{it: it, index: len(c.hops), upTo: h.UpTo}
		if stones := it.RangeTombstones(); len(stones) > 0 {
			hop.stones = NewTombstoneSet(stones)
		}
		c.hops = append(c.hops, hop)
	}
	return c
}

// First moves to the first key.
func (c *Changes) First() bool { return c.position((*changeHop).first) }

// SeekGE moves to the first key at or after user.
func (c *Changes) SeekGE(user []byte) bool {
	return c.position(func(h *changeHop) bool { return h.seekGE(user) })
}

// Next moves to the next key.
func (c *Changes) Next() bool { return c.on && c.leave() && c.settle() }

// leave moves all hops past the present key.
func (c *Changes) leave() bool {
	for len(c.heap) > 0 && bytes.Equal(c.heap[0].key[keyPrefixLen:], c.user) {
		h := c.heap[0]
		ok := h.leaveKey()
		if !ok {
			if err := h.it.Err(); err != nil {
				return c.fail(err)
			}
		}
		c.heap.fixFirst(ok)
	}
	return true
}

func (c *Changes) position(move func(*changeHop) bool) bool {
	c.on, c.heap = false, c.heap[:0]
	if c.err != nil {
		return false
	}
	for _, h := range c.hops {
		if move(h) {
			c.heap = append(c.heap, h)
		} else if err := h.it.Err(); err != nil {
			return c.fail(err)
		}
	}
	c.heap.init()
	return c.settle()
}

func (c *Changes) fail(err error) bool {
	c.err, c.on, c.heap = err, false, c.heap[:0]
	return false
}

// settle goes on to a key that no range tombstone hides, and takes what the first
// hop has of it: the nearest has the say.
func (c *Changes) settle() bool {
	for c.on = false; len(c.heap) > 0; {
		h := c.heap[0]
		c.user = append(c.user[:0], h.key[keyPrefixLen:]...)
		c.rec = *h.it.Record()
		if c.coveredBelow(c.user, h.index) > c.rec.LSN {
			if !c.leave() {
				return false
			}
			continue
		}
		c.rec.Key = h.key
		if !c.rec.aliveAt(h.upTo) { // what ended it, and hides nothing, is gone
			c.rec = Record{Key: h.key, LSN: c.rec.Death, Kind: KindTombstone}
		}
		c.on = true
		return true
	}
	return false
}

// User returns the present user key, valid until the next move; nil when there is
// none.
func (c *Changes) User() []byte {
	if !c.on {
		return nil
	}
	return c.user
}

// Record returns the newest record of the present key: a value, a delta or a
// tombstone. The Key is that of the hop and valid until the next move; Meta and
// Body may be kept.
func (c *Changes) Record() *Record { return &c.rec }

// Covered returns the LSN of the newest range tombstone above the LSN of the
// changes over a user key, zero without one. A key that is not shown and is
// covered was deleted.
func (c *Changes) Covered(user []byte) wal.LSN { return c.coveredBelow(user, len(c.hops)-1) }

// coveredBelow asks the hops up to an index. A tombstone in a nearer hop is newer
// than all that farther ones have.
func (c *Changes) coveredBelow(user []byte, last int) (lsn wal.LSN) {
	for _, h := range c.hops[:last+1] {
		if h.stones == nil {
			continue
		}
		h.probe = append(append(h.probe[:0], h.it.bounds.Start[:keyPrefixLen]...), user...)
		lsn = max(lsn, h.stones.covering(h.probe, h.upTo))
	}
	return lsn
}

// UserRange is user keys [Lower, Upper); a nil Upper is none.
type UserRange struct{ Lower, Upper []byte }

// Ranges returns the user keys that range tombstones cover, as ranges that are
// disjoint and sorted; nil without any.
func (c *Changes) Ranges() []UserRange {
	var all []UserRange
	for _, h := range c.hops {
		for _, r := range h.it.RangeTombstones() {
			u := UserRange{Lower: r.Key.User(), Upper: r.End.User()}
			if !bytes.Equal(r.Key[:keyPrefixLen], r.End[:keyPrefixLen]) {
				u.Upper = nil
			}
			all = append(all, u)
		}
	}
	return JoinRanges(all)
}

// JoinRanges sorts ranges and makes one of those that overlap or touch. It uses
// the slice again.
func JoinRanges(all []UserRange) []UserRange {
	slices.SortFunc(all, func(a, b UserRange) int { return bytes.Compare(a.Lower, b.Lower) })
	joined := all[:0]
	for _, r := range all {
		n := len(joined) - 1
		switch {
		case n < 0 || joined[n].Upper != nil && bytes.Compare(joined[n].Upper, r.Lower) < 0:
			joined = append(joined, r)
		case joined[n].Upper != nil && (r.Upper == nil || bytes.Compare(joined[n].Upper, r.Upper) < 0):
			joined[n].Upper = r.Upper
		}
	}
	return joined
}

// Err tells after a move that found nothing whether that was the end (nil).
func (c *Changes) Err() error { return c.err }

// Close ends the walk.
func (c *Changes) Close() error {
	var errs []error
	for _, h := range c.hops {
		errs = append(errs, h.it.Close())
	}
	*c = Changes{err: c.err}
	return errors.Join(errs...)
}

func (h *changeHop) first() bool { return h.take(h.it.First()) }

func (h *changeHop) seekGE(user []byte) bool {
	h.key = append(append(h.key[:0], h.it.bounds.Start[:keyPrefixLen]...), user...)
	return h.take(h.it.SeekGE(h.key, wal.MaxLSN))
}

// leaveKey moves past the records of the key that it stands on.
func (h *changeHop) leaveKey() bool {
	for range fewSteps {
		if !h.it.Next() {
			return false
		}
		if !bytes.Equal(h.it.Record().Key, h.key) {
			return h.take(true)
		}
	}
	h.key = append(h.key, 0) // the next key there can be
	return h.take(h.it.SeekGE(h.key, wal.MaxLSN))
}

func (h *changeHop) take(ok bool) bool {
	if ok {
		h.key = append(h.key[:0], h.it.Record().Key...)
	}
	return ok
}

// NewestAbove returns the newest record that a chain has of a user key above an
// LSN: value, delta or tombstone, one for what a range tombstone hides; false
// without one. The record may be kept. Errors: ErrCorrupt, those of the disk.
func (v *Version) NewestAbove(chain []Hop, ns Namespace, user []byte, above wal.LSN) (rec Record, ok bool, err error) {
	q := newLookup(v, ns, user)
	defer q.done()
	if err := q.prefilter(len(chain)); err != nil {
		return Record{}, false, err
	}
	for _, h := range chain {
		if h.UpTo <= above {
			continue
		}
		q.hop(h.Timeline)
		rec, ok, err = q.newest(h.UpTo, h.UpTo, above+1)
		if err != nil {
			return Record{}, false, err
		}
		hidden := q.covering(h.UpTo)
		if hidden > above && (!ok || hidden > rec.LSN) {
			return Record{Key: MakeKey(h.Timeline, ns, user), LSN: hidden, Kind: KindTombstone}, true, nil
		}
		if ok {
			return rec, true, nil
		}
	}
	return Record{}, false, nil
}
