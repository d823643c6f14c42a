package timeline

import (
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// apply is the log's callback for a group that has become durable: records to
// the active memlayer, tree rows and those of adopted layers to the catalog (unsynced, with the
// mark in the same batch). The commits become visible when it returns.
func (s *Store) apply(group []*wal.Commit) {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	rows := s.catalog.newBatch()
	for _, c := range group {
		if err := s.applyCommit(c.Payload, c.LSN, rows, true, true); err != nil {
			panic("BUG: apply of a commit of our own: " + err.Error())
		}
	}
	last := group[len(group)-1].LSN
	s.commitRows(rows, last)
	s.applied = last
	s.publishAdopted() // before the commits become visible
	s.rotateIfFull()
}

// commitRows writes tree rows with the applied mark. Without rows the mark may
// lag: nothing is lost when the replay finds nothing to do.
func (s *Store) commitRows(rows rowBatch, last wal.LSN) {
	if rows.empty() {
		if err := rows.b.Close(); err != nil {
			s.fail(fmt.Errorf("close catalog batch: %w", err))
		}
		return
	}
	s.setApplied(rows, last)
	if err := rows.commit(false); err != nil {
		s.fail(err)
	}
}

// setApplied adds the applied mark. Ids given out by commits that are sequenced
// but not applied may be in it; at worst a crash skips them.
func (s *Store) setApplied(rows rowBatch, last wal.LSN) {
	s.tree.mu.RLock()
	m := appliedMark{lsn: last, timeline: s.tree.lastTimeline, bucket: s.tree.lastBucket, snapshot: s.tree.lastSnapshot}
	s.tree.mu.RUnlock()
	rows.set([]byte{rowApplied}, m.row())
}

// applyCommit applies the records of one commit, its tree rows, or both. The
// tree itself was changed when the commit was sequenced, or by the replay.
func (s *Store) applyCommit(payload []byte, lsn wal.LSN, rows rowBatch, records, tree bool) error {
	v := payloadVisitor{}
	if records {
		mem := s.mu.active // written under applyMu only
		var last *node
		v.record = func(r *layers.Record) error {
			if id := r.Key.Timeline(); last == nil || last.id != id {
				if last = s.tree.node(id); last == nil {
					return fmt.Errorf("record of timeline %d, which does not exist: %w", id, ErrCorrupt)
				}
			}
			mem.Add(r)
			s.memValues += valueBytes(r)
			last.written.Store(true)
			return nil
		}
	}
	if tree {
		v.tree = func(o *treeOp) error { s.applyRows(o, lsn, rows); return nil }
		v.adopt = func(d *layers.Desc) error { return s.adopt(d, lsn, rows) }
	}
	return decodePayload(payload, lsn, v)
}

// applyRows writes the rows as the operation of the commit at lsn leaves them.
// The sequenced tree may be ahead of it, by commits that a crash can still
// take back, so what may have changed since comes from the operation.
func (s *Store) applyRows(o *treeOp, lsn wal.LSN, rows rowBatch) {
	switch o.tag {
	case opCreate, opFork:
		rows.setTimeline(s.tree.node(o.timeline))
		rows.setRetention(o.timeline, retention{window: o.window})
		rows.setBucket(s.tree.bucket(o.bucket), lsn, o.name, 0)
		if !o.props.none() {
			rows.setProperties(o.bucket, &o.props)
		}
	case opMove:
		rows.setTimeline(s.tree.node(o.timeline))
		rows.setRetention(o.timeline, retention{window: o.window})
		rows.setBucket(s.tree.bucket(o.bucket), lsn, o.name, 0)
		rows.setFate(o.left, o.fate(lsn))
	case opProperties:
		rows.setProperties(o.bucket, &o.props)
	case opDelete:
		b := s.tree.bucket(o.bucket)
		rows.setBucket(b, lsn, o.name, lsn)
		rows.setFate(o.timeline, o.fate(lsn))
		if o.lsn == 0 {
			rows.deleteSnapshots(o.bucket)
		}
	case opUndelete:
		rows.setBucket(s.tree.bucket(o.bucket), lsn, o.name, 0)
		rows.delete(rowKey(rowFate, uint64(o.timeline)))
	case opDrop:
		rows.setFate(o.timeline, o.fate(lsn))
		if o.bucket != 0 {
			rows.deleteSnapshots(o.bucket)
		}
	case opWindow:
		rows.setRetention(o.timeline, retention{window: o.window, floor: o.lsn})
	case opRename:
		rows.setBucket(s.tree.bucket(o.bucket), lsn, o.name, 0)
	case opSnapshot:
		snap := o.newSnapshot(lsn)
		rows.setSnapshot(&snap)
	case opSetSnapshot:
		e, _ := s.tree.snapshot(o.snapshot) // it goes when its deletion is visible, after this
		rows.setSnapshot(&Snapshot{ID: e.id, Bucket: e.bucket, Timeline: e.timeline, LSN: e.lsn, Created: e.created, SnapshotSettings: *o.snapshotSettings()})
	case opDeleteSnapshot:
		rows.delete(snapshotKey(o.bucket, o.snapshot))
	case opHorizon:
		rows.set([]byte{rowHorizon}, row(uint64(o.lsn)))
		s.horizon.durable.Store(uint64(o.lsn))
	}
}
