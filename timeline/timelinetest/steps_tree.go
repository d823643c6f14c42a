package timelinetest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"stemma/timeline"
	"stemma/wal"
)

func (m *Model) stepCreate() error {
	if len(m.oracle.names) >= maxBuckets {
		return m.stepDelete()
	}
	op := &Op{Kind: OpCreate, Bucket: m.newName(), Props: m.properties()}
	if m.rng.IntN(3) == 0 {
		op.Writes = m.randomWrites()
	}
	return m.do(op, nil)
}

func (m *Model) stepFork() error {
	if len(m.oracle.names) >= maxBuckets {
		return m.stepDelete()
	}
	op := &Op{Kind: OpFork, Bucket: m.bucket(), Props: m.properties()}
	op.At = m.retained(op.Bucket)
	n := 1
	if m.rng.IntN(4) == 0 {
		n = m.rng.IntN(5)
	}
	for range n {
		op.Names = append(op.Names, m.newName())
	}
	if n == 1 && m.rng.IntN(4) == 0 {
		op.Writes = m.randomWrites()
	}
	if b := m.oracle.names[op.Bucket]; b != nil && m.oracle.Expect(op) == nil {
		switch {
		case op.At == 0:
			m.count.Add("fork at the tip")
		case op.At < b.line.birth:
			m.count.Add("fork below the birth of the source")
		default:
			m.count.Add("fork in the past")
		}
		if len(op.Writes) > 0 {
			m.count.Add("fork with records of its own")
		}
		if len(op.Names) > 1 {
			m.count.Add("several forks in one commit")
		}
		if b.line.depth > 0 {
			m.count.Add("fork of a fork")
		}
		m.count.Max("deepest fork", int64(b.line.depth+1))
	}
	return m.do(op, nil)
}

// properties picks attributes: mostly none.
func (m *Model) properties() (p timeline.Properties) {
	switch m.rng.IntN(6) {
	case 0:
		p.Attrs = fmt.Appendf(nil, "attributes %d", m.step)
	case 1:
		p.Attrs = bytes.Repeat([]byte("a"), 1+m.rng.IntN(3000))
	}
	if !m.cfg.Calm && m.rng.IntN(8) == 0 { // a replay of the operations alone would not know
		in := []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond, 90 * time.Minute}[m.rng.IntN(4)]
		p.Expires = m.store.Now() + wal.LSN(in)
	}
	return p
}

func (m *Model) stepProperties() error {
	return m.do(&Op{Kind: OpProperties, Bucket: m.bucket(), Props: m.properties()}, nil)
}

func (m *Model) stepRename() error {
	return m.do(&Op{Kind: OpRename, Bucket: m.bucket(), To: m.newName()}, nil)
}

func (m *Model) stepDelete() error {
	op := &Op{Kind: OpDelete, Bucket: m.bucket(), Force: m.rng.IntN(3) != 0}
	if m.rng.IntN(2) == 0 {
		op.Undo = []time.Duration{-1, 5 * time.Millisecond, 30 * time.Millisecond, time.Hour}[m.rng.IntN(4)]
	}
	if b := m.oracle.names[op.Bucket]; b != nil && b.forks > 0 && m.oracle.Expect(op) == nil {
		m.count.Add("delete a bucket with living forks")
	}
	return m.do(op, nil)
}

func (m *Model) stepSnapshot() error {
	op := &Op{Kind: OpSnapshot, Bucket: m.bucket(), Settings: m.snapshotSettings()}
	op.At = m.retained(op.Bucket)
	if m.rng.IntN(4) == 0 {
		for range 1 + m.rng.IntN(3) {
			if name := m.bucket(); name != op.Bucket || m.rng.IntN(10) == 0 {
				op.Names = append(op.Names, name)
			}
		}
		op.At = 0 // or one of them may be behind a purged timeline, and another not there
	}
	if len(op.Names) > 0 && m.oracle.Expect(op) == nil {
		m.count.Add("snapshot of several buckets")
	}
	return m.do(op, nil)
}

// snapshotSettings picks a name that may be taken, and the rest.
func (m *Model) snapshotSettings() timeline.SnapshotSettings {
	s := timeline.SnapshotSettings{Properties: m.properties(), Held: m.rng.IntN(6) == 0}
	if m.rng.IntN(4) != 0 {
		s.Name = fmt.Sprintf("snapshot %d", m.rng.IntN(8))
	}
	return s
}

// someSnapshot picks a snapshot, at times one that may not exist.
func (m *Model) someSnapshot() timeline.SnapshotID {
	ids := slices.Sorted(maps.Keys(m.oracle.snaps))
	if len(ids) == 0 || m.rng.IntN(8) == 0 {
		return timeline.SnapshotID(m.rng.IntN(50))
	}
	return ids[m.rng.IntN(len(ids))]
}

func (m *Model) stepSetSnapshot() error {
	op := &Op{Kind: OpSetSnapshot, Snapshot: m.someSnapshot(), Settings: m.snapshotSettings()}
	if m.rng.IntN(3) == 0 {
		op.Settings = m.oracle.snaps[op.Snapshot].SnapshotSettings
		op.Settings.Held = !op.Settings.Held
	}
	return m.do(op, nil)
}

func (m *Model) stepDeleteSnapshot() error {
	return m.do(&Op{Kind: OpDeleteSnapshot, Snapshot: m.someSnapshot()}, nil)
}
