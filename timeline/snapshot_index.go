package timeline

import (
	"cmp"

	"github.com/tidwall/btree"

	"stemma/layers"
	"stemma/wal"
)

// snapshotEntry is a snapshot in memory. Only settings change, under tree.mu.
type snapshotEntry struct {
	id       SnapshotID
	bucket   BucketID
	timeline layers.TimelineID
	lsn      wal.LSN
	created  wal.LSN
	settings *since[*SnapshotSettings] // nil value: deleted
}

// at returns the snapshot as one sees it who sees the commits up to visible; false:
// not at all.
func (e *snapshotEntry) at(visible wal.LSN) (Snapshot, bool) {
	s := e.settings.at(visible)
	if s == nil {
		return Snapshot{}, false
	}
	return Snapshot{ID: e.id, Bucket: e.bucket, Timeline: e.timeline, LSN: e.lsn, Created: e.created, SnapshotSettings: *s}, true
}

// bucketSnapshots are the snapshots of one bucket.
type bucketSnapshots struct {
	byLSN  *btree.BTreeG[*snapshotEntry]
	byName map[string]*since[*snapshotEntry]
	held   int // for the next commit in order
	// unsettled are names and entries that mean nothing any more, or something else,
	// but not yet for every reader.
	names   []string
	entries []*snapshotEntry
}

func newBucketSnapshots() *bucketSnapshots {
	less := func(a, b *snapshotEntry) bool {
		return cmp.Or(cmp.Compare(a.lsn, b.lsn), cmp.Compare(a.id, b.id)) < 0
	}
	return &bucketSnapshots{
		byLSN:  btree.NewBTreeGOptions(less, btree.Options{NoLocks: true}),
		byName: make(map[string]*since[*snapshotEntry]),
	}
}

// snapshot returns a snapshot and its settings for the next commit in order; nil
// when it does not exist.
func (t *tree) snapshot(id SnapshotID) (*snapshotEntry, *SnapshotSettings) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.mu.snapshots[id]
	if e == nil {
		return nil, nil
	}
	return e, e.settings.at(wal.MaxLSN)
}

// snapshotNamed returns the snapshot of a bucket that has a name; nil: none has, or
// the name is empty.
func (t *tree) snapshotNamed(id BucketID, name string, visible wal.LSN) *snapshotEntry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if of := t.mu.snapshotsOf[id]; of != nil && name != "" {
		return of.byName[name].at(visible)
	}
	return nil
}

// heldSnapshots returns how many snapshots keep a bucket from being deleted.
func (t *tree) heldSnapshots(id BucketID) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.heldSnapshotsLocked(id)
}

func (t *tree) heldSnapshotsLocked(id BucketID) int {
	if of := t.mu.snapshotsOf[id]; of != nil {
		return of.held
	}
	return 0
}

// addSnapshotLocked takes in a snapshot that there is from LSN from on.
func (t *tree) addSnapshotLocked(s *Snapshot, from, visible wal.LSN) {
	e := &snapshotEntry{id: s.ID, bucket: s.Bucket, timeline: s.Timeline, lsn: s.LSN, created: s.Created}
	of := t.mu.snapshotsOf[e.bucket]
	if of == nil {
		of = newBucketSnapshots()
		t.mu.snapshotsOf[e.bucket] = of
	}
	t.mu.snapshots[e.id] = e
	of.byLSN.Set(e)
	t.mu.pinned[lease{e.timeline, e.lsn}]++
	t.lastSnapshot = max(t.lastSnapshot, e.id)
	t.setSnapshotLocked(e, &s.SnapshotSettings, from, visible)
}

// setSnapshotLocked gives a snapshot settings from lsn on; nil: it is deleted.
func (t *tree) setSnapshotLocked(e *snapshotEntry, now *SnapshotSettings, lsn, visible wal.LSN) {
	of, old := t.mu.snapshotsOf[e.bucket], e.settings.at(wal.MaxLSN)
	name := func(s *SnapshotSettings) string {
		if s == nil {
			return ""
		}
		return s.Name
	}
	if was, is := name(old), name(now); was != is {
		if was != "" {
			of.byName[was] = of.byName[was].then(nil, lsn, visible)
			of.names = append(of.names, was)
		}
		if is != "" {
			of.byName[is] = of.byName[is].then(e, lsn, visible)
		}
	}
	if old.held() {
		of.held--
	}
	if now.held() {
		of.held++
	}
	t.setExpiryLocked(expiry{old.expires(), e.bucket, e.id}, now.expires())
	e.settings = e.settings.then(now, lsn, visible)
	if now == nil {
		l := lease{e.timeline, e.lsn}
		if t.mu.pinned[l]--; t.mu.pinned[l] == 0 {
			delete(t.mu.pinned, l)
		}
	}
	of.entries = append(of.entries, e)
	if lsn <= visible { // a replay
		t.settleSnapshotsLocked(e.bucket, visible)
	}
}

// deleteSnapshotsLocked deletes all snapshots of a bucket.
func (t *tree) deleteSnapshotsLocked(id BucketID, lsn, visible wal.LSN) {
	of := t.mu.snapshotsOf[id]
	if of == nil {
		return
	}
	for _, e := range of.byLSN.Items() {
		if e.settings.at(wal.MaxLSN) != nil {
			t.setSnapshotLocked(e, nil, lsn, visible)
		}
	}
}

// settleSnapshots lets go of what no reader at or above visible can want of the
// snapshots of a bucket.
func (t *tree) settleSnapshots(id BucketID, visible wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settleSnapshotsLocked(id, visible)
}

// settleSnapshotsOf is settleSnapshots for the buckets of operations.
func (t *tree) settleSnapshotsOf(ops []treeOp, visible wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last BucketID
	for i := range ops {
		if id := ops[i].bucket; id != last {
			t.settleSnapshotsLocked(id, visible)
			last = id
		}
	}
}

func (t *tree) settleSnapshotsLocked(id BucketID, visible wal.LSN) {
	of := t.mu.snapshotsOf[id]
	if of == nil {
		return
	}
	names, entries := of.names, of.entries
	of.names, of.entries = nil, nil
	for _, name := range names {
		switch s := of.byName[name].settled(visible); {
		case s == nil:
		case s.from > visible:
			of.names = append(of.names, name)
		case s.value == nil:
			delete(of.byName, name)
		default:
			of.byName[name] = s
		}
	}
	for _, e := range entries {
		switch s := e.settings.settled(visible); {
		case s.from > visible:
			of.entries = append(of.entries, e)
		case s.value == nil:
			of.byLSN.Delete(e)
			delete(t.mu.snapshots, e.id)
		default:
			e.settings = s
		}
	}
	if of.byLSN.Len() == 0 {
		delete(t.mu.snapshotsOf, id)
	}
}
