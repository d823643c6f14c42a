package timelinetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// reached is told the steps of background work, by several goroutines.
func (m *Model) reached(s timeline.Step) {
	m.count.Add("step: " + string(s))
	m.arm.Lock()
	defer m.arm.Unlock()
	if m.arm.step != s {
		return
	}
	if m.arm.after--; m.arm.after < 0 {
		m.arm.step = ""
		m.disk.CrashHere(m.arm.percent, m.arm.torn)
		m.count.Add("crash at step: " + string(s))
	}
}

// CrashAt lets the store crash when background work has reached a step.
func (m *Model) CrashAt(s timeline.Step, after, percent int, torn bool) {
	m.arm.Lock()
	defer m.arm.Unlock()
	m.arm.step, m.arm.after, m.arm.percent, m.arm.torn = s, after, percent, torn
}

// stepArmStep makes one of the next steps of background work the last.
func (m *Model) stepArmStep() error {
	step, after, percent := timeline.Steps[m.rng.IntN(len(timeline.Steps))], m.rng.IntN(3), m.percent()
	m.note("crash at step %q, after %d", step, after)
	m.CrashAt(step, after, percent, m.rng.IntN(3) == 0)
	return nil
}

var stepWindows = []gc.Window{
	0, 0, gc.Window(time.Millisecond), gc.Window(10 * time.Millisecond), gc.Window(100 * time.Millisecond), gc.Window(time.Hour), gc.Forever,
}

func (m *Model) stepWindow() error {
	return m.do(&Op{Kind: OpWindow, Bucket: m.bucket(), Window: stepWindows[m.rng.IntN(len(stepWindows))]}, nil)
}

// stepUndelete brings a bucket back, or one that was never deleted, or is gone.
func (m *Model) stepUndelete() error {
	op := &Op{Kind: OpUndelete, Bucket: m.newName()}
	var can, all []timeline.BucketID
	m.lookAtClocks()
	for id := timeline.BucketID(1); int(id) <= len(m.oracle.buckets)+10; id++ {
		if b := m.oracle.buckets[id]; b != nil && b.deleted {
			all = append(all, id)
			if b.line.undeletable(m.oracle.due) {
				can = append(can, id)
			}
		}
	}
	switch n := m.rng.IntN(8); {
	case len(can) > 0 && n < 6:
		op.ID = can[m.rng.IntN(len(can))]
	case len(all) > 0 && n > 0:
		op.ID = all[m.rng.IntN(len(all))]
	default:
		op.ID = timeline.BucketID(m.rng.IntN(30))
	}
	return m.do(op, nil)
}

// stepDetach copies what a fork inherits.
func (m *Model) stepDetach() error {
	name, ok := m.living()
	if !ok {
		return nil
	}
	m.note("detach %q", name)
	if err := m.store.Detach(context.Background(), name); err != nil {
		if m.excused(err) {
			return nil
		}
		return err
	}
	l := m.oracle.names[name].line
	for _, t := range m.store.TreeLines() {
		if t.ID == l.id && t.ReadAncestor != 0 {
			return fmt.Errorf("detach %q: it still reads on in %d", name, t.ReadAncestor)
		}
	}
	if l.ancestor != nil {
		m.count.Add("detach")
	}
	return m.unchanged("detach")
}

// stepCollect runs one background collection.
func (m *Model) stepCollect() error { return m.Collect(gc.Mode(m.rng.IntN(2))) }

// Collect runs one collection of that eagerness and follows what it logs.
func (m *Model) Collect(mode gc.Mode) error {
	m.note("collect, %s", mode)
	m.collecting = true
	m.lookAtClocks() // should it crash and somebody set the clocks back
	before := m.store.Metrics()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := m.store.Collect(ctx, mode)
	if m.disk.Crashed() != nil {
		return nil // the step ends in a recovery anyway
	}
	if err != nil && !m.excused(err) {
		return errors.Join(fmt.Errorf("collect, %s: %w", mode, err), m.watch.Err())
	}
	after := m.store.Metrics()
	m.count.AddN("collections", after.Collections-before.Collections)
	m.count.AddN("rollups", after.Rollups-before.Rollups)
	m.count.AddN("purged", after.Purged-before.Purged)
	m.count.AddN("expired", after.Expired-before.Expired)
	m.count.AddN("reclaimed bytes", after.ReclaimedBytes-before.ReclaimedBytes)
	m.count.AddN("rewritten bytes", after.RewrittenBytes-before.RewrittenBytes)
	m.count.Add("collect, " + mode.String())
	if m.store.Err() != nil {
		return nil
	}
	m.lookAtClocks()
	if err != nil { // what it logged took place or not, and the store may know already
		return errors.Join(m.oracle.advance(m.store.Visible(), m.store.Horizon()), m.oracle.Observe(m.store))
	}
	if err := m.followCollection(); err != nil {
		return err
	}
	if left := m.oracle.expiredSnapshots(m.oracle.due); len(left) > 0 {
		return fmt.Errorf("snapshots %+v have expired, it is %d, and a collection has not deleted them", left, m.oracle.due)
	}
	for id, l := range m.oracle.timelines {
		if l.left != 0 && !l.dropped && m.oracle.over(l, m.oracle.due) {
			return fmt.Errorf("timeline %d was left at %d and kept until %d, it is %d, and a collection has not dropped it", id, l.left, l.undo, m.oracle.due)
		}
	}
	for _, b := range m.oracle.buckets {
		if m.oracle.expired(b, m.oracle.due) {
			return fmt.Errorf("bucket %d (%q) expires at %d, it is %d, and a collection has not deleted it", b.id, b.name, b.props.Expires, m.oracle.due)
		}
		if b.deleted && !b.line.dropped && b.line.undo <= m.oracle.due {
			return fmt.Errorf("timeline %d could be undeleted until %d, it is %d, and a collection has not dropped it", b.line.id, b.line.undo, m.oracle.due)
		}
	}
	return nil
}

// followCollection lets the oracle follow what a collection has logged.
func (m *Model) followCollection() error {
	if !m.collecting {
		return nil
	}
	m.collecting = false
	m.lookAtClocks()
	if err := m.oracle.advance(m.store.Visible(), m.store.Horizon()); err != nil {
		return err
	}
	return m.oracle.Observe(m.store)
}

// CollectFull gives back everything, and checks that only what somebody can read
// is left, and all of that.
func (m *Model) CollectFull() error {
	m.dropHeld()
	if err := m.Collect(gc.Full); err != nil || m.disk.Crashed() != nil || m.faults || m.store.Err() != nil || m.collecting {
		return err // it may have been given up: collecting
	}
	if err := m.checker().Exact(false); err != nil {
		return err
	}
	if err := m.noOrphans(); err != nil {
		return err
	}
	return m.checker().Everything(1)
}

// noOrphans checks that there is no file that nothing refers to.
func (m *Model) noOrphans() error {
	if m.struck { // what could not be removed is, at the next start
		return nil
	}
	var err error
	for range 500 {
		if err = m.strayFiles(); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond) // a worker is about to let go of its Version
	}
	return err
}

func (m *Model) strayFiles() error {
	want := make(map[string]bool)
	err := m.store.VisitRecords(func(l *layers.Desc, _ *layers.Record) error {
		if l != nil {
			want[layers.LayerName(l.Num)] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, seg := range m.store.Values().Segments() {
		want[layers.ValueFileName(seg.Num, seg.Generation)] = true
	}
	for _, area := range []Area{AreaLayers, AreaValues} {
		files, err := m.disk.List(area)
		if err != nil {
			return err
		}
		for name := range files {
			if !want[name] {
				return fmt.Errorf("%s/%s is there, and nothing refers to it", area, name)
			}
		}
	}
	return nil
}

// Put writes one object of size bytes; from 8 KiB on it is streamed.
func (m *Model) Put(bucket, key string, size int64) error {
	w := Write{Kind: layers.KindValue, NS: layers.NamespaceObjects, Key: key, Body: m.newContent(size)}
	w.Meta = fmt.Sprintf("meta-%d", m.content)
	if size >= 8<<10 {
		release, err := m.stream(&w, false)
		if err != nil {
			return m.explain(err)
		}
		defer release()
	}
	return m.Do(Op{Kind: OpCommit, Bucket: bucket, Writes: []Write{w}})
}

// Remove deletes objects by a tombstone each.
func (m *Model) Remove(bucket string, keys ...string) error {
	op := Op{Kind: OpCommit, Bucket: bucket}
	for _, k := range keys {
		op.Writes = append(op.Writes, Write{Kind: layers.KindTombstone, NS: layers.NamespaceObjects, Key: k})
	}
	return m.Do(op)
}

// Flush moves everything into layers.
func (m *Model) Flush() error { return m.explain(errors.Join(m.flush(), m.after())) }

// Everything collects everything, see CollectFull, and follows a crash.
func (m *Model) Everything() error {
	m.clocks.Pass(time.Millisecond, time.Millisecond)
	return m.explain(errors.Join(m.CollectFull(), m.after()))
}

// Lease leases a bucket at an LSN.
func (m *Model) Lease(bucket string, at wal.LSN, ttl time.Duration) error {
	m.lookAtClocks()
	err := m.store.Lease(bucket, at, ttl)
	if err == nil {
		m.oracle.lease(m.oracle.names[bucket], at, ttl)
	}
	return err
}

// Last returns the LSN of the newest commit.
func (m *Model) Last() wal.LSN { return m.oracle.Last() }

// Footprint returns what layers and value segments take on the disk, in bytes,
// and the number of records in them.
func (m *Model) Footprint() (bytes int64, records int, err error) {
	files, err := m.disk.List(AreaLayers)
	if err != nil {
		return 0, 0, err
	}
	for _, n := range files {
		bytes += n
	}
	for _, seg := range m.store.Values().Segments() {
		bytes += seg.Allocated
	}
	err = m.store.VisitRecords(func(*layers.Desc, *layers.Record) error { records++; return nil })
	return bytes, records, err
}
