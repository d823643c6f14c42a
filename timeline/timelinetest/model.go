package timelinetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// Config says what a Model does.
type Config struct {
	Seed  uint64
	Steps int
	// Calm runs without crashes and injected failures.
	Calm bool
	// Lie, if set, makes the disk lie; for negative controls.
	Lie func(vfs.FS) vfs.FS
	// Tune, if set, changes the options.
	Tune func(o *timeline.Options)
	// Fault, if set, is armed before the store is first opened and stays so
	// until it has struck or the run ends.
	Fault *Fault
	// CrashStep, if set, crashes the store when its background work has reached
	// the step for the CrashAfter-th time (from zero). Torn: sectors of what was
	// written and not synced are torn.
	CrashStep  timeline.Step
	CrashAfter int
	Torn       bool
}

// Model runs random operations on a store and on an oracle, one at a time.
type Model struct {
	cfg    Config
	rng    *rand.Rand
	opts   timeline.Options
	clocks *Clocks
	watch  *Watch
	disk   *Disk
	store  *timeline.Store
	oracle *Oracle
	count  *Coverage

	// lockstep lets flush and compaction come to rest after every step.
	lockstep bool
	// manual leaves flushes to the model.
	manual bool

	step      int
	content   uint64  // last content seed
	floor     wal.LSN // reads were answered up to here: no commit may get a lower LSN
	held      []heldView
	readers   []heldReader
	trace     []string
	history   []*Op
	lastFlush int
	faults    bool // the disk may fail
	hits      int  // failures of the disk, until it was healed
	calls     int  // that could have failed
	healAt    int  // step
	// healedUntil is when the log, which looks again now and then, must have
	// seen that the disk has recovered.
	healedUntil time.Time
	struck      bool // the disk has failed since the store was opened
	// gap is a time in which the store was not running.
	gap struct {
		from  wal.LSN
		until time.Duration // uptime at which it is crossed
	}
	// collecting says that a collection may have logged something.
	collecting bool
	arm        struct {
		sync.Mutex
		step    timeline.Step // to crash at; empty: none
		after   int
		percent int
		torn    bool
	}
	// pending are the value segments of an operation that may have taken place.
	pending map[layers.FileNum]bool
}

// heldView is a view kept open for a while.
type heldView struct {
	view  *timeline.View
	line  *line
	lsn   wal.LSN
	until int // step
}

// heldReader is a body that is read long after its view was closed.
type heldReader struct {
	reader *layers.ValueReader
	want   Content
	until  int
}

// NewModel opens an empty store for a run. Close the model.
func NewModel(cfg Config) (*Model, error) {
	m := &Model{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), clocks: NewClocks(), watch: &Watch{},
		oracle: NewOracle(), count: &Coverage{},
	}
	m.disk = NewDisk(storefs.NewMem(), m.rng.Uint64(), cfg.Lie)
	m.opts = SmallOptions()
	m.lockstep = m.rng.IntN(2) == 0
	switch m.rng.IntN(4) {
	case 0:
		m.opts.MemlayerBytes = 2 << 10
	case 1:
		m.opts.MemlayerBytes = 32 << 10
	case 2:
		m.manual = true
		m.opts.MemlayerBytes, m.opts.WALFlushBytes = 1<<30, 1<<30
	}
	if m.rng.IntN(2) == 0 {
		m.opts.MergeBytes = 1 + m.rng.Int64N(512) // nearly all merges are staged, some in several layers
	}
	if m.rng.IntN(2) == 0 {
		m.opts.PartBytes = 64
	}
	if m.rng.IntN(2) == 0 {
		m.opts.LayerBytes, m.opts.Level1Bytes = 12<<10, 48<<10
	}
	if m.rng.IntN(3) == 0 {
		m.opts.CacheBytes = 8 << 10
	}
	m.opts.CollectEvery = -1 // what it logs would come between the model's operations
	m.opts.At = m.reached
	windows := []gc.Window{-1, gc.Window(20 * time.Millisecond), gc.Window(200 * time.Millisecond), gc.Forever, 0}
	m.opts.Window = windows[m.rng.IntN(len(windows))]
	m.opts.UndoTime = []time.Duration{-1, 20 * time.Millisecond, time.Hour}[m.rng.IntN(3)]
	m.arm.step, m.arm.after, m.arm.torn = cfg.CrashStep, cfg.CrashAfter, cfg.Torn
	if cfg.Tune != nil {
		cfg.Tune(&m.opts)
	}
	m.oracle.undoTime = m.opts.UndoTime
	switch m.oracle.window = m.opts.Window; {
	case m.opts.Window == 0:
		m.oracle.window = gc.Window(24 * time.Hour)
	case m.opts.Window < 0:
		m.oracle.window = 0
	}
	if cfg.Fault != nil {
		m.startFaults(*cfg.Fault)
		m.healAt = math.MaxInt
	}
	err := m.open()
	if err != nil && m.excused(err) {
		m.mend()
		err = m.open()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// History returns the operations that took place, in order.
func (m *Model) History() []*Op { return m.history }

// Coverage returns what was done so far.
func (m *Model) Coverage() *Coverage { return m.count }

// Faults returns how many calls the disk has failed, and how many could have
// failed, by the Fault of the Config.
func (m *Model) Faults() (hits, calls int) { return m.hits, m.calls }

// Oracle returns the oracle; for negative controls.
func (m *Model) Oracle() *Oracle { return m.oracle }

// Check compares everything now.
func (m *Model) Check() error { return m.checker().Everything(1) }

// CheckReads compares all reads that are allowed, CheckExact what is there after
// a collection: for negative controls.
func (m *Model) CheckReads() error { c := m.checker(); return errors.Join(c.Reads(2), c.Pinned()) }

// CheckExact is Checker.Exact.
func (m *Model) CheckExact() error { return m.checker().Exact(false) }

// Do makes one operation of a test's own and checks what it did.
func (m *Model) Do(op Op) error {
	m.step++
	m.clocks.Pass(time.Millisecond, time.Millisecond)
	for i := range op.Writes {
		if w := &op.Writes[i]; (w.Kind == layers.KindValue || w.Kind == layers.KindDelta) && w.encoded == nil {
			w.encoded = layers.AppendInlineBody(nil, w.Body.Bytes())
		}
	}
	return m.explain(errors.Join(m.do(&op, nil), m.follow(), m.watch.Err()))
}

// Store returns the store; for negative controls and what no Op does.
func (m *Model) Store() *timeline.Store { return m.store }

// Clocks returns the clocks of the store.
func (m *Model) Clocks() *Clocks { return m.clocks }

// Run makes all steps. An error carries the seed and the last operations.
func (m *Model) Run() error {
	for m.step < m.cfg.Steps {
		if err := m.Step(); err != nil {
			return err
		}
	}
	return m.explain(m.finish())
}

// Step makes one step and checks what it did.
func (m *Model) Step() error {
	m.step++
	m.clocks.Pass(m.tick())
	err := m.next()
	if err == nil {
		err = m.after()
	}
	return m.explain(err)
}

func (m *Model) tick() (wall, up time.Duration) {
	d := time.Duration(1 + m.rng.Int64N(int64(time.Millisecond)))
	return d, d
}

// Close ends the run and closes the store.
func (m *Model) Close() error {
	m.dropHeld()
	if m.store == nil {
		return nil
	}
	s := m.store
	m.store = nil
	return s.Close()
}

func (m *Model) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("seed %d, step %d: %w\nlast operations:\n%s", m.cfg.Seed, m.step, err, strings.Join(m.trace, "\n"))
}

func (m *Model) note(format string, args ...any) {
	const traced = 40
	if len(m.trace) == traced {
		m.trace = slices.Delete(m.trace, 0, 1)
	}
	m.trace = append(m.trace, fmt.Sprintf("%6d  ", m.step)+fmt.Sprintf(format, args...))
}

func (m *Model) checker() *Checker {
	m.lookAtClocks()
	return &Checker{Store: m.store, Oracle: m.oracle, Rand: m.rng, Count: m.count}
}

// after follows a crash or failure that the step ran into, and checks samples.
func (m *Model) after() error {
	if err := m.follow(); err != nil {
		return err
	}
	if err := m.samples(); err != nil && !m.excused(err) {
		return err
	}
	return m.watch.Err()
}

// follow follows a crash or failure that the step ran into.
func (m *Model) follow() error {
	if mem := m.disk.Crashed(); mem != nil {
		if err := m.recover(mem, nil); err != nil {
			return err
		}
	}
	if m.store.Err() != nil && m.faults {
		if err := m.leaveReadOnly(nil); err != nil {
			return err
		}
	}
	if m.faults && m.step >= m.healAt {
		if err := m.heal(); err != nil {
			return err
		}
	}
	if m.lockstep && !m.faults {
		if err := m.quiesce(); err != nil {
			return err
		}
	}
	if m.manual && m.step-m.lastFlush > 40 {
		if err := m.flush(); err != nil {
			return err
		}
	}
	return m.releaseHeld()
}

// samples compares random places of random buckets.
func (m *Model) samples() error {
	names := m.oracle.Names()
	if len(names) == 0 {
		return m.checker().Tree()
	}
	c := m.checker()
	for range 3 {
		name := names[m.rng.IntN(len(names))]
		at := wal.LSN(0)
		if m.rng.IntN(2) == 0 {
			at = c.RetainedLSN(name)
		}
		if err := c.Sample(name, at); err != nil {
			return err
		}
	}
	if m.rng.IntN(4) == 0 {
		if err := c.someDiff(); err != nil {
			return err
		}
	}
	if m.rng.IntN(10) == 0 {
		return c.Tree()
	}
	if m.rng.IntN(10) == 0 {
		name := names[m.rng.IntN(len(names))]
		return c.Whole(name, c.RetainedLSN(name))
	}
	return nil
}

// excused reports whether an error may be a failure that the disk made up.
func (m *Model) excused(err error) bool {
	return (m.faults || time.Now().Before(m.healedUntil)) && injected(err)
}

func injected(err error) bool {
	var readOnly *wal.ReadOnlyError
	return errors.Is(err, ErrInjected) || errors.As(err, &readOnly) ||
		errors.Is(err, storefs.ErrDiskFull) || errors.Is(err, timeline.ErrSlowDown)
}

// lookAtClocks lets the oracle know what time it is. For an hour after a start
// across a longer gap nothing ends that had not ended before.
func (m *Model) lookAtClocks() {
	m.oracle.now = m.store.Now()
	if m.oracle.due = m.oracle.now; m.clocks.Uptime() < m.gap.until {
		m.oracle.due = min(m.oracle.now, m.gap.from)
	}
	m.oracle.latest = max(m.oracle.latest, m.oracle.due)
}

// do runs op on the store and lets the oracle follow.
func (m *Model) do(op *Op, look func(tx *timeline.Tx) error) error {
	m.lookAtClocks()
	op.asked, op.want, op.due = true, m.oracle.Expect(op), m.oracle.due
	execute(m.store, op, look)
	m.note("%s", op)
	if mem := m.disk.Crashed(); mem != nil {
		return m.recover(mem, op)
	}
	want := op.want
	switch {
	case op.Err == nil:
		m.count.Add(string(op.Kind))
		if op.Kind == OpMerge {
			if err := m.merged(op); err != nil || !op.Committed {
				return err
			}
		}
		return m.succeeded(op)
	case op.Kind == OpMerge && op.expected.allows(op, op.Err):
		m.count.Add("merge refused")
		return m.unchanged(op.How)
	case want != nil && meets(op.Err, want):
		m.count.Add(fmt.Sprintf("%s: %v", op.Kind, want))
		return nil
	case m.excused(op.Err) && m.store.Err() != nil:
		return m.leaveReadOnly(op)
	case m.excused(op.Err):
		m.count.Add("operation failed, store writable")
		if v := m.store.Visible(); v != m.oracle.Last() {
			return fmt.Errorf("%s failed, but the visible LSN went from %d to %d", op, m.oracle.Last(), v)
		}
		return nil
	case want != nil:
		return fmt.Errorf("%s: want %w", op, want)
	default:
		return fmt.Errorf("%s: want success", op)
	}
}

// succeeded applies op to the oracle.
func (m *Model) succeeded(op *Op) error {
	if len(op.Writes) == 0 && (op.Kind == OpUpdate || op.Kind == OpExclusive) {
		if op.LSN != m.oracle.Last() {
			return fmt.Errorf("%s wrote nothing, want the LSN it read at, %d", op, m.oracle.Last())
		}
		return nil
	}
	if err := m.oracle.Apply(op); err != nil {
		return err
	}
	if op.LSN <= m.floor {
		return fmt.Errorf("%s: reads had been answered up to %d", op, m.floor)
	}
	if v := m.store.Visible(); v != op.LSN {
		return fmt.Errorf("%s: the visible LSN is %d", op, v)
	}
	m.tookPlace(op)
	if op.Kind.tree() {
		return m.oracle.Observe(m.store)
	}
	return nil
}

// tookPlace counts what op did.
func (m *Model) tookPlace(op *Op) {
	m.history = append(m.history, op)
	if op.Kind == OpMerge {
		return
	}
	for i := range op.Writes {
		w := &op.Writes[i]
		if w.Kind == layers.KindDelta {
			m.count.Add("write delta")
		}
		switch {
		case w.Kind == layers.KindRangeTombstone:
			m.count.Add("write range delete")
		case w.Kind == layers.KindTombstone:
			m.count.Add("write delete")
		case w.encoded.Tag() == layers.BodyEmpty:
			m.count.Add("write empty body")
		case w.encoded.Tag() == layers.BodyInline && w.Body.Len() < int64(m.opts.PartBytes):
			m.count.Add("write small inline body")
		case w.encoded.Tag() == layers.BodyInline:
			m.count.Add("write inline body to be parted")
		case w.encoded.Tag() == layers.BodySpilled:
			m.count.Add("write spilled body")
		default:
			m.count.Add("write extents body")
		}
	}
}

// execute runs op. For an update or exclusive, look is called with the
// transaction before it writes.
func execute(s *timeline.Store, op *Op, look func(tx *timeline.Tx) error) {
	ctx := context.Background()
	switch op.Kind {
	case OpCommit:
		var b timeline.Batch
		addTo(&b, op.Writes)
		op.LSN, op.Err = s.Commit(ctx, op.Bucket, &b)
	case OpUpdate, OpExclusive:
		fn := func(tx *timeline.Tx) error {
			tx.Reset()
			if look != nil {
				if err := look(tx); err != nil {
					return err
				}
			}
			addTo(&tx.Batch, op.Writes)
			return nil
		}
		if op.Kind == OpExclusive {
			op.LSN, op.Err = s.Exclusive(ctx, op.Bucket, fn)
			return
		}
		var locks []timeline.Lock
		for i := range op.Writes {
			locks = append(locks, timeline.Lock{NS: op.Writes[i].NS, Key: []byte(op.Writes[i].Key), Exclusive: true})
		}
		op.LSN, op.Err = s.Update(ctx, op.Bucket, locks, fn)
	case OpCreate:
		info, err := s.CreateBucket(ctx, op.made(op.Bucket))
		if op.Err = err; err == nil {
			op.Infos, op.LSN = []timeline.Info{info}, info.Created
		}
	case OpFork:
		o := timeline.ForkOptions{Source: op.Bucket, At: op.At}
		for _, name := range op.Names {
			o.Forks = append(o.Forks, op.made(name))
		}
		op.Infos, op.Err = s.Fork(ctx, o)
		if op.Err == nil && len(op.Infos) > 0 {
			op.LSN = op.Infos[0].Created
		}
	case OpDelete:
		op.LSN, op.Err = s.DeleteBucket(ctx, op.Bucket, timeline.DeleteOptions{Force: op.Force, Undo: op.Undo})
	case OpProperties:
		op.LSN, op.Err = s.SetProperties(ctx, op.Bucket, func(timeline.Properties) (timeline.Properties, error) { return op.Props, nil })
	case OpWindow:
		op.LSN, op.Err = s.SetWindow(ctx, op.Bucket, op.Window)
	case OpUndelete:
		info, err := s.Undelete(ctx, op.ID, op.Bucket)
		if op.Err = err; err == nil {
			op.Infos, op.LSN = []timeline.Info{info}, s.Visible() // one at a time
		}
	case OpRename:
		op.LSN, op.Err = s.RenameBucket(ctx, op.Bucket, op.To)
	case OpSnapshot:
		o := timeline.NewSnapshot{Buckets: append([]string{op.Bucket}, op.Names...), At: op.At, SnapshotSettings: op.Settings}
		if op.Snaps, op.Err = s.Snapshot(ctx, o); op.Err == nil {
			op.LSN = op.Snaps[0].Created
		}
	case OpSetSnapshot:
		op.LSN, op.Err = s.SetSnapshot(ctx, op.Snapshot, func(timeline.SnapshotSettings) (timeline.SnapshotSettings, error) { return op.Settings, nil })
	case OpMove:
		res, err := s.Move(ctx, timeline.MoveOptions{Moves: op.Moves, Undo: op.Undo})
		op.LSN, op.Infos, op.Err = res.LSN, res.Infos, err
	case OpMerge:
		runMerge(s, op)
	case OpDeleteSnapshot:
		op.LSN, op.Err = s.DeleteSnapshots(ctx, op.Snapshot)
	}
}

// finish heals the disk and compares everything, before and after a restart.
func (m *Model) finish() error {
	m.disk.CrashAt("", math.MaxInt, 0)
	m.CrashAt("", 0, 0, false)
	if err := errors.Join(m.heal(), m.after()); err != nil {
		return err
	}
	if err := m.checker().Everything(2); err != nil {
		return err
	}
	if err := m.CollectFull(); err != nil {
		return err
	}
	m.countLevels()
	leased := len(m.oracle.leases) > 0
	if err := m.reopen(); err != nil {
		return err
	}
	if m.cfg.Fault == nil && !leased { // leases are lost
		if err := m.checker().Exact(true); err != nil {
			return fmt.Errorf("after a restart: %w", err)
		}
	}
	return errors.Join(m.checker().Everything(1), m.watch.Err())
}

func (m *Model) countLevels() {
	for level, l := range m.store.Metrics().Levels {
		if l.Layers > 0 {
			m.count.Max(fmt.Sprintf("layers in level %d, at most", level), int64(l.Layers))
		}
	}
}
