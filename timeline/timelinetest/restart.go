package timelinetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

// open opens the store on the present disk.
func (m *Model) open() error {
	o := m.opts
	o.FS, o.Now, o.Uptime, o.Values.Now = m.disk.FS(), m.clocks.Now, m.clocks.Uptime, m.clocks.Now
	o.Logger = slog.New(m.watch)
	s, err := timeline.Open(o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	m.store = s
	m.lastFlush = m.step
	m.struck = false
	clear(m.oracle.leases)
	clear(m.oracle.ways)
	m.gap.until = 0
	if last := s.Visible(); last != 0 {
		if h := s.Horizon(); h != 0 {
			last = min(last, h)
		}
		if now := s.Now(); now > last && time.Duration(now-last) > time.Hour {
			m.gap.from, m.gap.until = last, m.clocks.Uptime()+time.Hour
			m.count.Add("start across a gap")
		}
	}
	m.lookAtClocks()
	return nil
}

// reopen closes the store cleanly and opens it again.
func (m *Model) reopen() error {
	m.note("close and open")
	if m.cfg.Fault == nil || m.disk.Hits() > 0 {
		if err := m.heal(); err != nil {
			return err
		}
	}
	if m.disk.Crashed() != nil {
		return nil // the step ends in a recovery anyway
	}
	m.countStore()
	m.dropHeld()
	if err := m.store.Close(); err != nil && !m.excused(err) {
		return fmt.Errorf("close: %w", err)
	}
	if mem := m.disk.Crashed(); mem != nil {
		m.count.Add("crash while closing")
		return m.restart(mem, nil)
	}
	m.pause()
	m.expectSegments(nil)
	err := m.openRoughly()
	if err != nil && m.excused(err) {
		m.mend()
		err = m.openRoughly()
	}
	if err != nil {
		return err
	}
	m.count.Add("close and open")
	return m.recovered(nil)
}

// recover goes on with what a crash left. op was under way, or is nil.
func (m *Model) recover(mem *storefs.MemFS, op *Op) error {
	m.dropHeld()
	m.countStore()
	m.watch.Mute(true)
	// What becomes of the old store matters to nobody.
	_ = m.store.Close()
	if op != nil {
		m.count.Add("crash during an operation")
	} else {
		m.count.Add("crash with nothing under way")
	}
	return m.restart(mem, op)
}

// restart opens what a crash left and compares everything.
func (m *Model) restart(mem *storefs.MemFS, op *Op) error {
	m.expectSegments(op)
	m.disk = NewDisk(mem, m.rng.Uint64(), m.cfg.Lie)
	m.faults = false
	m.watch.Mute(false)
	m.pause()
	m.note("recover")
	m.count.Add("crash")
	if err := m.openRoughly(); err != nil {
		return err
	}
	return m.recovered(op)
}

// pause is the time between two runs; now and then longer than an hour.
func (m *Model) pause() {
	d := time.Duration(m.rng.Int64N(int64(time.Second)))
	if m.rng.IntN(10) == 0 {
		d += time.Duration(m.rng.Int64N(int64(3 * time.Hour)))
	}
	m.clocks.Pass(d, d)
	if m.rng.IntN(10) == 0 { // somebody set the wall clock back
		m.clocks.Pass(-d-time.Duration(m.rng.Int64N(int64(time.Minute))), 0)
		m.floor = 0
	}
}

// openRoughly opens the store; some of the attempts crash or fail half-way.
func (m *Model) openRoughly() error {
	for !m.cfg.Calm && m.rng.IntN(4) == 0 {
		if m.rng.IntN(2) == 0 {
			if err := m.openAndCrash(); err != nil {
				return err
			}
		} else if err := m.openAndFail(); err != nil {
			return err
		}
	}
	layerFiles, valueFiles, err := m.files()
	if err != nil {
		return err
	}
	if err := m.open(); err != nil {
		return err
	}
	return m.checkOrphans(layerFiles, valueFiles)
}

// openAndCrash lets a recovery crash.
func (m *Model) openAndCrash() error {
	k, percent := m.rng.IntN(60), m.percent()
	m.note("open, crash at call %d, %d %% of unsynced blocks survive", k, percent)
	m.disk.CrashAt("", k, percent)
	if err := m.open(); err != nil {
		return err
	}
	if err := m.store.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	mem := m.disk.Crashed()
	if mem == nil { // it was over before
		mem = m.disk.Crash(percent)
	}
	m.count.Add("crash during recovery")
	m.disk = NewDisk(mem, m.rng.Uint64(), m.cfg.Lie)
	return nil
}

// openAndFail lets a recovery fail; the next one must succeed.
func (m *Model) openAndFail() error {
	f := Fault{Area: []Area{AreaWAL, AreaLayers, AreaValues}[m.rng.IntN(3)], Reads: m.rng.IntN(2) == 0, After: m.rng.IntN(20), Times: 1}
	m.note("open, fail call %d to %q (reads: %v)", f.After, f.Area, f.Reads)
	m.startFaults(f)
	err := m.open()
	if err != nil && !m.excused(err) {
		return err
	}
	if err != nil {
		m.count.Add("failure during recovery")
	} else if err := m.store.Close(); err != nil && !m.excused(err) {
		return fmt.Errorf("close: %w", err)
	}
	m.mend()
	m.faults = false
	m.watch.Mute(false)
	return nil
}

// recovered finds out what became of op, and compares everything.
func (m *Model) recovered(op *Op) error {
	if mem := m.disk.Crashed(); mem != nil { // before the start was over, maybe
		return m.recover(mem, op)
	}
	if op != nil {
		if err := m.resolve(op); err != nil {
			return err
		}
	}
	if err := m.followCollection(); err != nil {
		return err
	}
	if h := m.store.Horizon(); h != m.oracle.horizon {
		return fmt.Errorf("after recovery the horizon is %d, it was %d", h, m.oracle.horizon)
	}
	if err := m.oracle.Observe(m.store); err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	if v := m.store.Visible(); v != m.oracle.Last() {
		return fmt.Errorf("after recovery the visible LSN is %d, the last commit was %d", v, m.oracle.Last())
	}
	err := m.checker().Everything(1)
	if err != nil && m.excused(err) {
		m.mend()
		err = m.checker().Everything(1)
	}
	return err
}

// resolve lets the oracle follow an operation whose outcome was not known. It
// took place iff the store has a commit that nobody else made.
func (m *Model) resolve(op *Op) error {
	visible := m.store.Visible()
	if visible == m.oracle.Last() {
		m.note("it did not take place")
		m.count.Add("indeterminate commit is absent")
		return nil
	}
	if visible < m.oracle.Last() || (op.LSN != 0 && visible != op.LSN) {
		return fmt.Errorf("the visible LSN is %d after recovery, before the crash %d was acknowledged, and %s was under way", visible, m.oracle.Last(), op)
	}
	m.note("it took place at %d", visible)
	if b := m.oracle.names[op.Bucket]; b != nil && op.Kind == OpDelete {
		for _, t := range m.store.TreeLines() {
			if t.ID == b.line.id {
				op.undo = t.Undo
			}
		}
	}
	if op.Kind == OpMove {
		b := m.oracle.names[op.Moves[0].Bucket]
		for _, t := range m.store.TreeLines() {
			if b != nil && t.ID == b.line.id {
				op.undo = t.Undo
			}
		}
	}
	m.count.Add("indeterminate commit is present")
	op.LSN, op.Err, op.Infos = visible, nil, nil
	if err := learn(m.store, op); err != nil {
		return err
	}
	if err := m.oracle.Apply(op); err != nil {
		return err
	}
	m.tookPlace(op)
	return nil
}

// learn asks the store what an operation that took place has made.
func learn(s *timeline.Store, op *Op) error {
	names := op.Names
	if op.Kind == OpMerge {
		return learnMerge(s, op)
	}
	if op.Kind == OpSnapshot {
		names = nil
	}
	if op.Kind == OpUndelete {
		info, err := s.Bucket(op.Bucket, 0)
		if err != nil || info.Bucket != op.ID {
			return fmt.Errorf("%s took place, but only in part: %+v: %w", op, info, err)
		}
		op.Infos = append(op.Infos, info)
	}
	for _, mv := range op.Moves {
		info, err := s.Bucket(mv.Bucket, 0)
		if err != nil {
			return fmt.Errorf("%s took place, but only in part: bucket %q is %+v: %w", op, mv.Bucket, info, err)
		}
		op.Infos = append(op.Infos, info)
	}
	if op.Kind == OpCreate {
		names = []string{op.Bucket}
	}
	for _, name := range names {
		info, err := s.Bucket(name, 0)
		if err != nil || info.Created != op.LSN {
			return fmt.Errorf("%s took place, but only in part: bucket %q is %+v: %w", op, name, info, err)
		}
		op.Infos = append(op.Infos, info)
	}
	if op.Kind == OpSnapshot {
		return learnSnapshots(s, op)
	}
	return nil
}

// learnSnapshots asks the store which snapshots an operation has taken.
func learnSnapshots(s *timeline.Store, op *Op) error {
	op.Snaps = nil
	for _, name := range append([]string{op.Bucket}, op.Names...) {
		info, err := s.Bucket(name, 0)
		if err != nil {
			return err
		}
		list := s.Snapshots(info.Bucket, timeline.SnapshotCursor{}, 0)
		i := slices.IndexFunc(list, func(snap timeline.Snapshot) bool { return snap.Created == op.LSN })
		if i < 0 {
			return fmt.Errorf("%s took place, but there is no such snapshot of %q", op, name)
		}
		op.Snaps = append(op.Snaps, list[i])
	}
	return nil
}

// startFaults arms f. From here on errors that it explains are excused.
func (m *Model) startFaults(f Fault) {
	m.watch.Mute(true)
	m.faults = true
	m.disk.Fail(f)
}

// mend ends the failures of the disk, and counts them.
func (m *Model) mend() int {
	hits, calls := m.disk.Heal()
	m.hits, m.calls = m.hits+hits, m.calls+calls
	m.struck = m.struck || hits > 0
	return hits
}

// heal ends the failures and lets the store come to rest.
func (m *Model) heal() error {
	if m.store.Err() != nil && m.faults {
		return m.leaveReadOnly(nil)
	}
	if !m.faults {
		return nil
	}
	if m.mend() > 0 {
		m.count.Add("failure of a file system call")
		m.healedUntil = time.Now().Add(time.Minute)
	}
	// A retry may still be waiting, and the log may have lost its next segment.
	if err := m.quiesce(); err != nil {
		return err
	}
	if m.store.Err() != nil {
		return m.leaveReadOnly(nil)
	}
	m.faults = false
	m.watch.Mute(false)
	return nil
}

// leaveReadOnly checks a store whose log has failed, and starts it again. op
// was under way, or is nil.
func (m *Model) leaveReadOnly(op *Op) error {
	m.note("read-only: %v", m.store.Err())
	m.count.Add("store went read-only")
	m.mend()
	if m.collecting { // the restart says whether what failed took place
		if err := m.oracle.advance(m.store.Visible(), m.store.Horizon()); err != nil {
			return err
		}
	}
	if err := m.unchanged("store went read-only"); err != nil {
		return err
	}
	for _, name := range m.oracle.Names() {
		if m.collecting && m.oracle.expired(m.oracle.names[name], m.oracle.due) {
			continue // it has ended, or its end is what failed
		}
		if err := m.checker().Whole(name, 0); err != nil {
			return fmt.Errorf("read-only store: %w", err)
		}
	}
	if name, ok := m.living(); ok {
		var b timeline.Batch
		b.Delete(layers.NamespaceObjects, []byte("x"))
		if _, err := m.store.Commit(context.Background(), name, &b); err == nil {
			return errors.New("read-only store took a commit")
		}
	}
	mem := m.disk.Crashed()
	switch {
	case mem != nil:
	case m.rng.IntN(2) == 0:
		mem = m.disk.Crash(m.percent())
	}
	if mem != nil {
		return m.recover(mem, op)
	}
	m.dropHeld()
	m.countStore()
	// The log cannot end cleanly and says so.
	_ = m.store.Close()
	if mem := m.disk.Crashed(); mem != nil {
		return m.restart(mem, op)
	}
	m.faults = false
	m.watch.Mute(false)
	m.pause()
	m.expectSegments(op)
	if err := m.openRoughly(); err != nil {
		return err
	}
	return m.recovered(op)
}

// quiesce waits until nothing is left for flush and compaction.
func (m *Model) quiesce() error {
	deadline := time.Now().Add(time.Minute)
	for m.store.Err() == nil && m.store.Metrics().FrozenMemlayers > 0 {
		if time.Now().After(deadline) {
			return errors.New("flush does not come to its end")
		}
		if err := m.watch.Err(); err != nil {
			return err
		}
		time.Sleep(20 * time.Microsecond)
	}
	if err := m.store.Compact(); err != nil && !m.excused(err) {
		return err
	}
	return nil
}

// countStore takes the counters of the store before it goes.
func (m *Model) countStore() {
	s := m.store.Metrics()
	m.count.AddN("flushes", s.Flushes)
	m.count.AddN("compactions", s.Compactions)
	m.count.AddN("failed flushes", s.FlushErrors)
	m.count.AddN("failed compactions", s.CompactionErrors)
	m.countLevels()
}

func (m *Model) files() (layerFiles, valueFiles map[string]int64, err error) {
	if layerFiles, err = m.disk.List(AreaLayers); err != nil {
		return nil, nil, err
	}
	valueFiles, err = m.disk.List(AreaValues)
	return layerFiles, valueFiles, err
}

// checkOrphans looks for files that were there before the store was opened,
// are there still, and that nothing refers to.
func (m *Model) checkOrphans(layerFiles, valueFiles map[string]int64) error {
	if err := m.quiesce(); err != nil { // an obsolete layer is no orphan
		return err
	}
	var orphans []string
	for range 200 {
		var removed int64
		var err error
		if orphans, removed, err = m.orphans(layerFiles, valueFiles); err != nil {
			return err
		}
		if len(orphans) == 0 {
			m.count.AddN("orphans removed", removed)
			return nil
		}
		time.Sleep(time.Millisecond) // a worker is about to let go of its Version
	}
	return fmt.Errorf("files that nothing refers to survive a restart: %q", orphans)
}

func (m *Model) orphans(layerFiles, valueFiles map[string]int64) (orphans []string, removed int64, err error) {
	rows, err := catalogRows(m.disk.Snapshot())
	if err != nil {
		return nil, 0, err
	}
	check := func(area Area, before map[string]int64, used func(num uint64) bool) error {
		now, err := m.disk.List(area)
		if err != nil {
			return err
		}
		for name := range before {
			if _, still := now[name]; !still {
				removed++
				continue
			}
			hex, _, _ := strings.Cut(name, ".")
			hex, _, _ = strings.Cut(hex, "-") // a segment that was rewritten
			num, err := strconv.ParseUint(hex, 16, 64)
			if err != nil || !used(num) {
				orphans = append(orphans, string(area)+"/"+name)
			}
		}
		return nil
	}
	err = errors.Join(
		check(AreaLayers, layerFiles, func(num uint64) bool { return rows[catalogRow{'l', num}] }),
		check(AreaValues, valueFiles, func(num uint64) bool {
			return rows[catalogRow{'s', num}] || m.oracle.segments[layers.FileNum(num)] || m.pending[layers.FileNum(num)]
		}))
	return orphans, removed, err
}

// expectSegments says that op may have taken place, with its value segments.
func (m *Model) expectSegments(op *Op) {
	m.pending = make(map[layers.FileNum]bool)
	if op == nil {
		return
	}
	for i := range op.Writes {
		for _, s := range op.Writes[i].segments {
			m.pending[s] = true
		}
	}
}

// catalogRow is the key of a row of the catalog: a letter and an id.
type catalogRow struct {
	letter byte
	id     uint64
}

// catalogRows reads which rows the catalog of a store has.
func catalogRows(fs *storefs.MemFS) (map[catalogRow]bool, error) {
	db, err := pebble.Open(fs.PathJoin(dataDir, string(AreaCatalog)), &pebble.Options{FS: fs, ReadOnly: true, Logger: quiet{}})
	if err != nil {
		return nil, fmt.Errorf("open a copy of the catalog: %w", err)
	}
	rows := make(map[catalogRow]bool)
	it, err := db.NewIter(nil)
	if err == nil {
		for it.First(); it.Valid(); it.Next() {
			if k := it.Key(); len(k) == 9 {
				rows[catalogRow{k[0], binary.BigEndian.Uint64(k[1:])}] = true
			}
		}
		err = it.Close()
	}
	return rows, errors.Join(err, db.Close())
}

// quiet is a Pebble logger that says nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
