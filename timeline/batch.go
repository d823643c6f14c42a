package timeline

import (
	"encoding/binary"
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// Batch gathers the records of one commit to one timeline. A later write of a
// key replaces an earlier one; a range delete hides nothing that the same batch
// writes. The zero Batch is empty and ready. Slices are kept until the commit
// returns. Not safe for concurrent use.
type Batch struct {
	ops    []batchOp
	index  map[string]int // point ops by namespace and key, made once a batch has several
	bytes  int
	guard  ConfigGuard
	writer uint32 // of the commit; see WithWriter
	// stamped says that there are keys that end in the LSN of the commit; configures,
	// that there are records of NamespaceConfig.
	stamped, configures bool
}

type batchOp struct {
	kind layers.Kind
	ns   layers.Namespace
	key  []byte // range delete: first key
	end  []byte // range delete: exclusive end
	meta []byte
	body layers.Body
	// stamped: the last 8 bytes of the key become the commit's LSN, inverted.
	stamped bool
	// early returns what takes the place of meta when the LSN is chosen before the commit.
	early func(wal.LSN) []byte
}

// Put writes the full value of a key.
func (b *Batch) Put(ns layers.Namespace, key, meta []byte, body layers.Body) {
	b.add(batchOp{kind: layers.KindValue, ns: ns, key: key, meta: meta, body: body})
}

// StampBytes is the length of the stamp that a key of PutStamped ends with.
const StampBytes = 8

// Stamp returns what a key ends with that sorts newest first: lsn, inverted,
// big-endian.
func Stamp(lsn wal.LSN) [StampBytes]byte {
	var b [StampBytes]byte
	binary.BigEndian.PutUint64(b[:], ^uint64(lsn))
	return b
}

// ParseStamp is the inverse of Stamp.
func ParseStamp(b [StampBytes]byte) wal.LSN { return wal.LSN(^binary.BigEndian.Uint64(b[:])) }

// PutStamped is Put of the key that begins with prefix and ends with the Stamp of
// the commit's own LSN. A merge that is too large for the log writes it before it has that:
// then the stamp is an LSN that no commit has, above what the timeline has so far and
// below the commit, and the record has what early makes of that for its meta; nil: meta. The
// commit must go through Store.Commit, Update, Exclusive or a merge.
func (b *Batch) PutStamped(ns layers.Namespace, prefix, meta []byte, body layers.Body, early func(wal.LSN) []byte) {
	key := append(prefix[:len(prefix):len(prefix)], make([]byte, StampBytes)...)
	b.stamped = true
	b.add(batchOp{kind: layers.KindValue, ns: ns, key: key, meta: meta, body: body, stamped: true, early: early})
}

// PutBeside is Put of what belongs to a PutStamped: meta speaks of the LSN of the commit, or is
// what early makes of the other stamp.
func (b *Batch) PutBeside(ns layers.Namespace, key, meta []byte, early func(wal.LSN) []byte) {
	b.add(batchOp{kind: layers.KindValue, ns: ns, key: key, meta: meta, early: early})
}

// Bytes bounds the size of the commit.
func (b *Batch) Bytes() int { return b.bytes }

// Delta writes a page delta: a reader of the key gets it with all that is older, down
// to the next full value or tombstone. See View.Stack.
func (b *Batch) Delta(ns layers.Namespace, key, meta []byte, body layers.Body) {
	b.add(batchOp{kind: layers.KindDelta, ns: ns, key: key, meta: meta, body: body})
}

// Delete writes a tombstone for a key.
func (b *Batch) Delete(ns layers.Namespace, key []byte) {
	b.add(batchOp{kind: layers.KindTombstone, ns: ns, key: key})
}

// DeleteRange hides every older record of [lower, upper) in one namespace.
// Both bounds must be set, lower below upper.
func (b *Batch) DeleteRange(ns layers.Namespace, lower, upper []byte) {
	if string(lower) >= string(upper) {
		panic(fmt.Sprintf("BUG: DeleteRange of [%q, %q)", lower, upper))
	}
	b.ops = append(b.ops, batchOp{kind: layers.KindRangeTombstone, ns: ns, key: lower, end: upper})
	b.configures = b.configures || ns == layers.NamespaceConfig
	b.bytes += len(lower) + len(upper) + opOverhead
}

// Len returns the number of records.
func (b *Batch) Len() int { return len(b.ops) }

// onlyDeletes reports whether the batch writes no value.
func (b *Batch) onlyDeletes() bool {
	for i := range b.ops {
		if k := b.ops[i].kind; k != layers.KindTombstone && k != layers.KindRangeTombstone {
			return false
		}
	}
	return true
}

// Reset empties the batch for another use.
func (b *Batch) Reset() {
	clear(b.ops)
	*b = Batch{ops: b.ops[:0]}
}

// clear empties the batch of records and keeps what it remembers of the whole commit.
func (b *Batch) clear() {
	guard, configures, writer := b.guard, b.configures, b.writer
	b.Reset()
	b.guard, b.configures, b.writer = guard, configures, writer
}

// indexFrom is the batch size from which repeated keys are found by a map.
const indexFrom = 8

func (b *Batch) add(op batchOp) {
	b.configures = b.configures || op.ns == layers.NamespaceConfig
	if i := b.find(op.ns, op.key); i >= 0 {
		b.bytes += len(op.meta) + len(op.body) - len(b.ops[i].meta) - len(b.ops[i].body)
		b.ops[i] = op
		return
	}
	b.ops = append(b.ops, op)
	b.bytes += len(op.key) + len(op.meta) + len(op.body) + opOverhead
	switch {
	case b.index != nil:
		b.index[indexKey(op.ns, op.key)] = len(b.ops) - 1
	case len(b.ops) == indexFrom:
		b.index = make(map[string]int, 4*indexFrom)
		for i := range b.ops {
			if b.ops[i].kind != layers.KindRangeTombstone {
				b.index[indexKey(b.ops[i].ns, b.ops[i].key)] = i
			}
		}
	}
}

func (b *Batch) find(ns layers.Namespace, key []byte) int {
	if b.index != nil {
		if i, ok := b.index[indexKey(ns, key)]; ok {
			return i
		}
		return -1
	}
	for i := range b.ops {
		if o := &b.ops[i]; o.ns == ns && o.kind != layers.KindRangeTombstone && string(o.key) == string(key) {
			return i
		}
	}
	return -1
}

func indexKey(ns layers.Namespace, key []byte) string {
	return string(append([]byte{byte(ns)}, key...))
}

// opOverhead bounds the bytes of an encoded record beside its key, meta and body.
const opOverhead = 1 + 5*binary.MaxVarintLen32 + 2*9

// encode returns the payload of a commit of b to timeline t, in a new slice
// that the memlayer will alias.
func (b *Batch) encode(t layers.TimelineID) []byte {
	p := make([]byte, 0, b.bytes+2*binary.MaxVarintLen64)
	p = appendPayloadHeader(p, len(b.ops))
	for i := range b.ops {
		o := &b.ops[i]
		p = appendRecord(p, t, o, b.writer)
	}
	return p
}

// stamps returns where in the payload that encode returned the stamps lie.
func (b *Batch) stamps() []int {
	if !b.stamped {
		return nil
	}
	var at []int
	n := len(appendPayloadHeader(nil, len(b.ops)))
	var scratch []byte
	for i := range b.ops {
		o := &b.ops[i]
		if o.stamped {
			key := appendKey(scratch[:0], 0, o.ns, o.key)
			at = append(at, n+1+len(key)-StampBytes)
		}
		scratch = appendRecord(scratch[:0], 0, o, b.writer)
		n += len(scratch)
	}
	return at
}

// check refuses what no layer could hold.
func (b *Batch) check(maxBytes int) error {
	if b.bytes > maxBytes {
		return fmt.Errorf("commit of %d bytes, at most %d: %w", b.bytes, maxBytes, ErrBatchTooLarge)
	}
	for i := range b.ops {
		if o := &b.ops[i]; len(o.key) > layers.MaxUserKeyBytes || len(o.end) > layers.MaxUserKeyBytes {
			return fmt.Errorf("key of %d bytes, at most %d: %w", max(len(o.key), len(o.end)), layers.MaxUserKeyBytes, ErrBatchTooLarge)
		}
	}
	return nil
}
