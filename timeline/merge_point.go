package timeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/wal"
)

// mergePoint says that a timeline, as of source, was merged in by the commit at lsn.
type mergePoint struct{ source, lsn wal.LSN }

// maxMergePoints bounds what a target remembers of one source. What a forgotten
// merge wrote counts as written by the target: merges find more conflicts, never
// fewer.
const maxMergePoints = 1024

// Records of NamespaceMerges: the key is the source timeline (8 bytes, big-endian),
// the meta is that of appendMergePoints, the record's own LSN is that of the newest
// merge. They are inherited by forks and copied by nothing else, for they speak of
// the records beside them.
const mergePointsVersion = 1

// appendMergePoints appends the meta of a record whose commit merges source.
//
//	byte     version, 1
//	uvarint  LSN of the source that this commit merges
//	uvarint  count of earlier merges, newest first
//	each     uvarints: how far its source LSN and its own LSN lie below those of
//	         the one before, or in the first: its source LSN below, its own LSN
func appendMergePoints(dst []byte, source wal.LSN, earlier []mergePoint) []byte {
	dst = append(dst, mergePointsVersion)
	dst = binary.AppendUvarint(dst, uint64(source))
	dst = binary.AppendUvarint(dst, uint64(len(earlier)))
	above := source
	for i, p := range earlier {
		dst = binary.AppendUvarint(dst, uint64(above-p.source))
		if i == 0 {
			dst = binary.AppendUvarint(dst, uint64(p.lsn))
		} else {
			dst = binary.AppendUvarint(dst, uint64(earlier[i-1].lsn-p.lsn))
		}
		above = p.source
	}
	return dst
}

// decodeMergePoints returns the points of a record, newest first. Errors: ErrCorrupt.
func decodeMergePoints(r *layers.Record) ([]mergePoint, error) {
	d := decoder{p: r.Meta}
	if v := d.byte(); d.err == nil && v != mergePointsVersion {
		d.fail("unknown version")
	}
	points := []mergePoint{{source: d.lsn(), lsn: r.LSN}}
	n := d.uvarint()
	if n > maxMergePoints {
		d.fail("too many merge points")
	}
	for i := uint64(0); i < n && d.err == nil; i++ {
		last := points[len(points)-1]
		below, lsn := d.lsn(), d.lsn()
		p := mergePoint{source: last.source - below, lsn: lsn}
		if i > 0 {
			p.lsn = last.lsn - lsn
		}
		if below > last.source || i > 0 && (lsn == 0 || lsn > last.lsn) || p.lsn >= last.lsn {
			d.fail("merge points out of order")
		}
		points = append(points, p)
	}
	if d.err == nil && len(d.p) > 0 {
		d.fail("bytes left over")
	}
	if d.err != nil {
		return nil, fmt.Errorf("decode merge points %s at %d: %w", r.Key, r.LSN, d.err)
	}
	return points, nil
}

func mergePointKey(id layers.TimelineID) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(id))
}

// mergePoints returns what the view knows of merges of a timeline, newest first.
func (v *View) mergePoints(id layers.TimelineID) ([]mergePoint, error) {
	rec, err := v.Get(layers.NamespaceMerges, mergePointKey(id))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return decodeMergePoints(&rec)
}

// mergeBase is where a merge starts from.
type mergeBase struct {
	common
	// source and at are the newest point on the source's ancestry that the target has
	// had: that where they parted, or what was merged since. Changes of the source lie
	// above it.
	source *node
	at     wal.LSN
	// targetAt is the newest point of the target that the source has had: changes of the
	// target lie above it.
	targetAt wal.LSN
	// ours are the LSNs of merges from the source's ancestry: what they wrote to the
	// target is nothing of its own. theirs are those of merges the other way.
	ours, theirs []wal.LSN
	// line is the ancestry of the source down to the common timeline.
	line []mergeLine
}

// mergeLine is one timeline of the ancestry of a side, what that side sees of it, and
// what the other side has had of it, newest first.
type mergeLine struct {
	node   *node
	upTo   wal.LSN
	points []mergePoint
}

// merged reports whether earlier merges moved the base up.
func (b *mergeBase) merged() bool { return b.at != b.lsn() }

// findMergeBase looks for what each side has already had of the other.
func findMergeBase(source, target *View) (b mergeBase, ok bool, err error) {
	c, ok := commonPoint(source.node, source.lsn, target.node, wal.MaxLSN)
	if !ok {
		return mergeBase{}, false, nil
	}
	b = mergeBase{common: c, source: c.node, at: c.lsn(), targetAt: c.lsn()}
	if b.line, ok, err = mergeLines(source.node, source.lsn, c.node, target); !ok || err != nil {
		return mergeBase{}, false, err
	}
	for _, l := range b.line {
		had := l.had(&b.ours)
		if had > b.at { // on one ancestry LSNs rise from timeline to timeline
			b.source, b.at = l.node, had
		}
	}
	back, ok, err := mergeLines(target.node, wal.MaxLSN, c.node, source)
	if !ok || err != nil {
		return mergeBase{}, false, err
	}
	for _, l := range back {
		b.targetAt = max(b.targetAt, l.had(&b.theirs))
	}
	slices.Sort(b.ours)
	slices.Sort(b.theirs)
	return b, true, nil
}

// mergeLines returns the ancestry of a timeline at an LSN down to another, and what a
// view of the other side has had of it; false when a purge cuts it.
func mergeLines(n *node, upTo wal.LSN, last *node, other *View) (line []mergeLine, ok bool, err error) {
	for {
		points, err := other.mergePoints(n.id)
		if err != nil {
			return nil, false, err
		}
		if line = append(line, mergeLine{n, upTo, points}); n == last {
			return line, true, nil
		}
		p := n.parent()
		if p.node == nil {
			return nil, false, nil
		}
		n, upTo = p.node, min(upTo, p.lsn)
	}
}

// had returns up to where the other side has had the timeline, zero for nothing, and adds
// the merges by which it has to lsns.
func (l *mergeLine) had(lsns *[]wal.LSN) (had wal.LSN) {
	for _, p := range l.points {
		if p.source <= l.upTo {
			*lsns = append(*lsns, p.lsn)
		}
		had = max(had, min(p.source, l.upTo)) // of a newer point it has had what came before, too
	}
	return had
}

// maxMergeLine bounds the timelines that one merge notes as merged.
const maxMergeLine = 64

// putMergePoints writes that the source was merged, and with it what it inherits of
// timelines between the two.
func (b *mergeBase) putMergePoints(batch *Batch) {
	for _, l := range b.line[:min(len(b.line), maxMergeLine)] {
		if l.upTo <= b.lsn() || len(l.points) > 0 && l.points[0].source >= l.upTo {
			continue // it is common, or nothing of it is new
		}
		earlier := l.points[:min(len(l.points), maxMergePoints)]
		batch.Put(layers.NamespaceMerges, mergePointKey(l.node.id), appendMergePoints(nil, l.upTo, earlier), nil)
	}
}

// forgottenEach bounds the merge points that one merge looks at in search of those
// that nobody can need any more.
const forgottenEach = 256

// forgetMerges deletes the points of timelines that were purged, some with every
// merge, from a place that moves on with the LSN.
func (s *Store) forgetMerges(tx *Tx) error {
	start := layers.TimelineID(1 + uint64(tx.LSN())%uint64(max(s.tree.newest(), 1)))
	scan := tx.Scan(layers.NamespaceMerges, nil, nil)
	defer scan.Close()
	ok := scan.SeekGE(mergePointKey(start))
	for range forgottenEach {
		if !ok {
			break
		}
		key := scan.Record().Key.User()
		if len(key) == 8 && s.tree.node(layers.TimelineID(binary.BigEndian.Uint64(key))) == nil {
			tx.Delete(layers.NamespaceMerges, slices.Clone(key))
		}
		ok = scan.Next()
	}
	return scan.Err()
}

// newest returns the id of the newest timeline.
func (t *tree) newest() layers.TimelineID {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.lastTimeline
}
