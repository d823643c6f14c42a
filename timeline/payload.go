package timeline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// A commit's payload in the log, version 1 (docs/format.md):
//
//	version      byte, 1
//	count        uvarint, operations that follow
//	operation    tag byte, then its fields; byte strings are uvarint length + bytes
//
//	tag 1..3     record: composite key, meta, body (value, page delta, tombstone)
//	tag 33..35   the same, behind it a uvarint: who made the commit, not 0
//	tag 4        range tombstone: first composite key, exclusive end
//	tag 16       create bucket: bucket, timeline, window, name, properties
//	tag 17       fork: ancestor, branch LSN (0: this commit's LSN - 1), source bucket, bucket, timeline, window, name, properties
//	tag 18       delete bucket: bucket, timeline, LSN until which it can be undeleted (0: it cannot), name
//	tag 19       rename bucket: bucket, new name
//	tag 20       snapshot: snapshot, bucket, timeline, LSN (0: this commit's), name, held (0 or 1), properties
//	tag 21       delete snapshot: snapshot, bucket
//	tag 22       horizon: LSN
//	tag 23       undelete bucket: bucket, timeline, name
//	tag 24       drop timeline, whose undo time is over: timeline, LSN of its bucket's deletion, bucket, whose snapshots go, too (0: none)
//	tag 25       window: timeline, window, floor (no LSN below it is readable by the window)
//	tag 26       properties of a bucket: bucket, properties
//	tag 27       settings of a snapshot: snapshot, bucket, name, held (0 or 1), properties
//	tag 28       move: bucket, the timeline that it leaves, LSN until which that is kept at least (0: no longer than its window), ancestor,
//	             branch LSN (0: this commit's LSN - 1), most that it sees of the bucket's source, timeline, window, name
//	tag 29       adopt: description of a delta layer (layers.Desc.Append) of level 0 and of one timeline, without LSNs: its records are of this commit
//
// Numbers are uvarints. The LSN of an operation is that of its commit. Properties
// are an LSN of expiry (0: never), flags (1: read-only, 2: protected) and attributes: 0 for none, 1 for the last ones in
// the same commit before, else their length + 1, and the bytes.
const payloadVersion = 1

type opTag byte

// Tags 1 to 4 are layers.Kind.
const (
	opCreate         opTag = 16
	opFork           opTag = 17
	opDelete         opTag = 18
	opRename         opTag = 19
	opSnapshot       opTag = 20
	opDeleteSnapshot opTag = 21
	opHorizon        opTag = 22

	opUndelete opTag = 23
	opDrop     opTag = 24
	opWindow   opTag = 25

	opProperties  opTag = 26
	opSetSnapshot opTag = 27

	opMove opTag = 28

	opAdopt opTag = 29 // not of the tree
)

// maxNameBytes bounds bucket and snapshot names in the log.
const maxNameBytes = 1024

// treeOp is one decoded operation on the tree.
type treeOp struct {
	tag      opTag
	bucket   BucketID
	source   BucketID
	timeline layers.TimelineID
	ancestor layers.TimelineID
	snapshot SnapshotID
	lsn      wal.LSN
	window   gc.Window
	name     string
	props    Properties
	held     bool
	left     layers.TimelineID // opMove: the timeline that the bucket led to before
	seen     wal.LSN           // opMove: most that the new timeline sees of the bucket's source; zero: nothing
	undo     wal.LSN           // opMove: what is left is kept until then
	first    *Batch            // records that the commit writes to timeline; not part of the operation's bytes
}

// fate returns what opDelete and opDrop make of their timeline in the commit at lsn,
// and opMove of the one that is left.
func (o *treeOp) fate(lsn wal.LSN) *fate {
	if o.tag == opMove {
		return &fate{deleted: lsn, undo: o.undo}
	}
	if o.tag == opDrop {
		return &fate{deleted: o.lsn, dropped: lsn}
	}
	if o.lsn == 0 {
		return &fate{deleted: lsn, dropped: lsn}
	}
	return &fate{deleted: lsn, undo: o.lsn}
}

func appendPayloadHeader(p []byte, ops int) []byte {
	return binary.AppendUvarint(append(p, payloadVersion), uint64(ops))
}

// recordWriter is what the tag of a record has besides its kind when a writer follows it.
const recordWriter = 0x20

func appendRecord(p []byte, t layers.TimelineID, o *batchOp, writer uint32) []byte {
	tag := byte(o.kind)
	if writer != 0 && o.kind != layers.KindRangeTombstone {
		tag |= recordWriter
	}
	p = append(p, tag)
	p = appendKey(p, t, o.ns, o.key)
	if o.kind == layers.KindRangeTombstone {
		return appendKey(p, t, o.ns, o.end)
	}
	p = appendBytes(p, o.meta)
	p = appendBytes(p, o.body)
	if writer != 0 {
		p = binary.AppendUvarint(p, uint64(writer))
	}
	return p
}

// appendAdopt appends the operation that adopts a staged layer.
func appendAdopt(p []byte, d *layers.Desc) []byte {
	return appendBytes(append(p, byte(opAdopt)), d.Append(nil))
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendKey(p []byte, t layers.TimelineID, ns layers.Namespace, user []byte) []byte {
	p = binary.AppendUvarint(p, uint64(9+len(user)))
	return layers.AppendKey(p, t, ns, user)
}

func appendBytes[T ~[]byte | ~string](p []byte, b T) []byte {
	p = binary.AppendUvarint(p, uint64(len(b)))
	return append(p, b...)
}

// appendProperties appends properties; *last are the attributes that were appended
// last in the same payload.
func appendProperties(p []byte, props *Properties, last *[]byte) []byte {
	p = append(binary.AppendUvarint(p, uint64(props.Expires)), props.flags())
	switch a := props.Attrs; {
	case len(a) == 0:
		return append(p, 0)
	case bytes.Equal(a, *last):
		return append(p, 1)
	default:
		*last = a
		return append(binary.AppendUvarint(p, uint64(len(a))+1), a...)
	}
}

// append appends the operation; *last is as with appendProperties.
func (o *treeOp) append(p []byte, last *[]byte) []byte {
	p = append(p, byte(o.tag))
	num := func(n uint64) { p = binary.AppendUvarint(p, n) }
	switch o.tag {
	case opCreate:
		num(uint64(o.bucket))
		num(uint64(o.timeline))
		num(uint64(o.window))
		p = appendBytes(p, o.name)
		p = appendProperties(p, &o.props, last)
	case opFork:
		num(uint64(o.ancestor))
		num(uint64(o.lsn))
		num(uint64(o.source))
		num(uint64(o.bucket))
		num(uint64(o.timeline))
		num(uint64(o.window))
		p = appendBytes(p, o.name)
		p = appendProperties(p, &o.props, last)
	case opProperties:
		num(uint64(o.bucket))
		p = appendProperties(p, &o.props, last)
	case opDelete:
		num(uint64(o.bucket))
		num(uint64(o.timeline))
		num(uint64(o.lsn))
		p = appendBytes(p, o.name)
	case opUndelete:
		num(uint64(o.bucket))
		num(uint64(o.timeline))
		p = appendBytes(p, o.name)
	case opDrop:
		num(uint64(o.timeline))
		num(uint64(o.lsn))
		num(uint64(o.bucket))
	case opWindow:
		num(uint64(o.timeline))
		num(uint64(o.window))
		num(uint64(o.lsn))
	case opRename:
		num(uint64(o.bucket))
		p = appendBytes(p, o.name)
	case opSnapshot:
		num(uint64(o.snapshot))
		num(uint64(o.bucket))
		num(uint64(o.timeline))
		num(uint64(o.lsn))
		p = append(appendBytes(p, o.name), boolByte(o.held))
		p = appendProperties(p, &o.props, last)
	case opSetSnapshot:
		num(uint64(o.snapshot))
		num(uint64(o.bucket))
		p = append(appendBytes(p, o.name), boolByte(o.held))
		p = appendProperties(p, &o.props, last)
	case opDeleteSnapshot:
		num(uint64(o.snapshot))
		num(uint64(o.bucket))
	case opHorizon:
		num(uint64(o.lsn))
	case opMove:
		num(uint64(o.bucket))
		num(uint64(o.left))
		num(uint64(o.undo))
		num(uint64(o.ancestor))
		num(uint64(o.lsn))
		num(uint64(o.seen))
		num(uint64(o.timeline))
		num(uint64(o.window))
		p = appendBytes(p, o.name)
	default:
		panic(fmt.Sprintf("BUG: append of tree operation %d", o.tag))
	}
	return p
}

// payloadVisitor receives the operations of a payload in order. Records and
// their slices alias the payload; rec is reused between calls.
type payloadVisitor struct {
	record func(rec *layers.Record) error
	tree   func(op *treeOp) error
	adopt  func(d *layers.Desc) error
}

// decodePayload walks the payload of the commit at lsn. Errors wrap ErrCorrupt,
// or come from the visitor.
func decodePayload(p []byte, lsn wal.LSN, v payloadVisitor) error {
	d := decoder{p: p}
	if ver := d.byte(); d.err == nil && ver != payloadVersion {
		return fmt.Errorf("decode commit %d: version %d, want %d: %w", lsn, ver, payloadVersion, ErrCorrupt)
	}
	n := d.uvarint()
	for i := uint64(0); i < n && d.err == nil; i++ {
		tag := d.byte()
		var err error
		switch {
		case tag&^recordWriter <= byte(layers.KindRangeTombstone):
			rec := d.record(tag, lsn)
			if d.err == nil && v.record != nil {
				err = v.record(&rec)
			}
		case opTag(tag) == opAdopt:
			desc := d.staged()
			if d.err == nil && v.adopt != nil {
				err = v.adopt(&desc)
			}
		default:
			op := d.treeOp(opTag(tag))
			if d.err == nil && v.tree != nil {
				err = v.tree(&op)
			}
		}
		if err != nil {
			return err
		}
	}
	if d.err == nil && len(d.p) != 0 {
		d.fail("bytes left over")
	}
	if d.err != nil {
		return fmt.Errorf("decode commit %d: %w", lsn, d.err)
	}
	return nil
}

// decoder reads the fields of payloads and rows; after the first error every
// read returns zero.
type decoder struct {
	p     []byte
	err   error
	attrs []byte // the last ones of the payload
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s, %d bytes from the end: %w", what, len(d.p), ErrCorrupt)
	}
	d.p = nil
}

func (d *decoder) byte() byte {
	if len(d.p) == 0 {
		d.fail("truncated")
		return 0
	}
	b := d.p[0]
	d.p = d.p[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.p)
	if n <= 0 || (n > 1 && d.p[n-1] == 0) {
		d.fail("bad number")
		return 0
	}
	d.p = d.p[n:]
	return v
}

func (d *decoder) lsn() wal.LSN {
	v := d.uvarint()
	if wal.LSN(v) > wal.MaxLSN {
		d.fail("LSN out of range")
		return 0
	}
	return wal.LSN(v)
}

func (d *decoder) window() gc.Window {
	v := d.uvarint()
	if gc.Window(v) < 0 {
		d.fail("window out of range")
		return 0
	}
	return gc.Window(v)
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.p)) {
		d.fail("truncated bytes")
		return nil
	}
	b := d.p[:n:n]
	d.p = d.p[n:]
	return b
}

func (d *decoder) name() string {
	b := d.bytes()
	if len(b) > maxNameBytes {
		d.fail("name too long")
		return ""
	}
	return string(b)
}

func (d *decoder) properties() Properties {
	p := Properties{Expires: d.lsn()}
	if !p.setFlags(d.byte()) {
		d.fail("unknown flags")
	}
	switch n := d.uvarint(); {
	case n == 0:
	case n == 1 && len(d.attrs) == 0, n > MaxAttrBytes+1, n > 1 && n-1 > uint64(len(d.p)):
		d.fail("bad attributes")
	case n == 1:
		p.Attrs = d.attrs
	default:
		p.Attrs, d.p = d.p[:n-1:n-1], d.p[n-1:]
		if bytes.Equal(p.Attrs, d.attrs) {
			d.fail("attributes as before")
		}
		d.attrs = p.Attrs
	}
	return p
}

func (d *decoder) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail("neither yes nor no")
	}
	return b == 1
}

func (d *decoder) key() layers.Key {
	k := layers.Key(d.bytes())
	if d.err == nil && !k.Valid() {
		d.fail("bad key")
	}
	return k
}

func (d *decoder) record(tag byte, lsn wal.LSN) layers.Record {
	r := layers.Record{Kind: layers.Kind(tag &^ recordWriter), LSN: lsn}
	r.Key = d.key()
	switch r.Kind {
	case layers.KindRangeTombstone:
		r.End = d.key()
		if d.err == nil && (r.Key.Compare(r.End) >= 0 || r.Key.Timeline() != r.End.Timeline() || r.Key.Namespace() != r.End.Namespace()) {
			d.fail("bad range tombstone")
		}
	case layers.KindValue, layers.KindDelta, layers.KindTombstone:
		r.Meta = d.bytes()
		r.Body = layers.Body(d.bytes())
	default:
		d.fail("unknown record kind")
	}
	if tag&recordWriter != 0 {
		n := d.uvarint()
		if n == 0 || n > math.MaxUint32 || r.Kind == layers.KindRangeTombstone {
			d.fail("bad writer")
		}
		r.Writer = uint32(n)
	}
	return r
}

// staged reads the description of a layer that waits for its LSN.
func (d *decoder) staged() layers.Desc {
	desc, err := layers.DecodeDesc(d.bytes())
	switch {
	case d.err != nil:
	case err != nil:
		d.fail(err.Error())
	case desc.Num == 0 || desc.Kind != layers.DeltaLayer || desc.Level != 0 || desc.MaxLSN != 0 || desc.AdoptedLSN != 0:
		d.fail("layer that cannot be adopted")
	case desc.Range.Start.Timeline() != desc.Range.End.Timeline():
		d.fail("layer of several timelines")
	}
	return desc
}

func (d *decoder) treeOp(tag opTag) treeOp {
	o := treeOp{tag: tag}
	switch tag {
	case opCreate:
		o.bucket, o.timeline, o.window, o.name = BucketID(d.uvarint()), layers.TimelineID(d.uvarint()), d.window(), d.name()
		o.props = d.properties()
	case opFork:
		o.ancestor, o.lsn = layers.TimelineID(d.uvarint()), d.lsn()
		o.source = BucketID(d.uvarint())
		o.bucket, o.timeline, o.window, o.name = BucketID(d.uvarint()), layers.TimelineID(d.uvarint()), d.window(), d.name()
		o.props = d.properties()
	case opProperties:
		o.bucket, o.props = BucketID(d.uvarint()), d.properties()
	case opDelete:
		o.bucket, o.timeline, o.lsn, o.name = BucketID(d.uvarint()), layers.TimelineID(d.uvarint()), d.lsn(), d.name()
	case opUndelete:
		o.bucket, o.timeline, o.name = BucketID(d.uvarint()), layers.TimelineID(d.uvarint()), d.name()
	case opDrop:
		o.timeline, o.lsn, o.bucket = layers.TimelineID(d.uvarint()), d.lsn(), BucketID(d.uvarint())
	case opWindow:
		o.timeline, o.window, o.lsn = layers.TimelineID(d.uvarint()), d.window(), d.lsn()
	case opRename:
		o.bucket, o.name = BucketID(d.uvarint()), d.name()
	case opSnapshot:
		o.snapshot, o.bucket = SnapshotID(d.uvarint()), BucketID(d.uvarint())
		o.timeline, o.lsn = layers.TimelineID(d.uvarint()), d.lsn()
		o.name, o.held, o.props = d.name(), d.bool(), d.properties()
	case opSetSnapshot:
		o.snapshot, o.bucket = SnapshotID(d.uvarint()), BucketID(d.uvarint())
		o.name, o.held, o.props = d.name(), d.bool(), d.properties()
	case opDeleteSnapshot:
		o.snapshot, o.bucket = SnapshotID(d.uvarint()), BucketID(d.uvarint())
	case opHorizon:
		o.lsn = d.lsn()
	case opMove:
		o.bucket, o.left, o.undo = BucketID(d.uvarint()), layers.TimelineID(d.uvarint()), d.lsn()
		o.ancestor, o.lsn, o.seen = layers.TimelineID(d.uvarint()), d.lsn(), d.lsn()
		o.timeline, o.window, o.name = layers.TimelineID(d.uvarint()), d.window(), d.name()
	default:
		d.fail(fmt.Sprintf("unknown operation %d", tag))
	}
	return o
}
