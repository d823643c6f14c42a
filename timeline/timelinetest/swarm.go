package timelinetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// SwarmConfig says what a Swarm does.
type SwarmConfig struct {
	Seed    uint64
	Rounds  int // between which the store is closed or crashes
	Writers int
	Readers int
	Ops     int // per writer and round
	// Lie, if set, makes the disk lie; for negative controls.
	Lie func(vfs.FS) vfs.FS
}

// Swarm lets many goroutines write to and read from one store at once, crashes
// it under them, and explains afterwards what they saw by one order.
//
// Each writer has buckets of its own that only it creates, forks, renames and
// deletes; all of them write records into all buckets.
type Swarm struct {
	cfg    SwarmConfig
	rng    *rand.Rand
	clocks *Clocks
	watch  *Watch
	disk   *Disk
	store  *timeline.Store
	oracle *Oracle
	count  *Coverage

	content atomic.Uint64
	names   atomic.Uint64
	// over is set before a crash: what is acknowledged afterwards may be lost.
	over atomic.Bool
}

// sharedBucket is never renamed or deleted.
const sharedBucket = "shared"

// swarmOp is an Op with who made it.
type swarmOp struct {
	Op
	writer int
	acked  bool // before the crash, if there was one
	// release drops the holds on what was uploaded for it.
	release []func()
}

// sight is what a reader saw: a bucket at an LSN.
type sight struct {
	bucket timeline.BucketID
	lsn    wal.LSN
	ns     layers.Namespace
	digest uint64
	seen   bool // before the crash, if there was one
}

// NewSwarm opens an empty store with one bucket. Close the swarm.
func NewSwarm(cfg SwarmConfig) (*Swarm, error) {
	w := &Swarm{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 2)), clocks: NewClocks(), watch: &Watch{},
		oracle: NewOracle(), count: &Coverage{},
	}
	w.disk = NewDisk(storefs.NewMem(), w.rng.Uint64(), cfg.Lie)
	w.oracle.loose, w.oracle.window, w.oracle.undoTime = true, swarmWindow, -1
	if err := w.open(horizonOften); err != nil {
		return nil, err
	}
	op := Op{Kind: OpCreate, Bucket: sharedBucket}
	execute(w.store, &op, nil)
	if op.Err != nil {
		return nil, errors.Join(op.Err, w.Close())
	}
	return w, w.oracle.Apply(&op)
}

// horizonOften is how often the horizon advances under load. While what took
// place is told by where the log ends, it must not: its records move the end.
const horizonOften = 2 * time.Millisecond

// swarmWindow is that of new roots.
const swarmWindow = gc.Window(3 * time.Millisecond)

func (w *Swarm) open(horizonEvery time.Duration) error {
	o := SmallOptions()
	o.FS, o.Logger = w.disk.FS(), slog.New(w.watch)
	o.Now, o.Uptime, o.Values.Now = w.clocks.Now, w.clocks.Uptime, w.clocks.Now
	o.HorizonEvery, o.CollectEvery = horizonEvery, horizonEvery
	if horizonEvery > time.Second { // what a collection logs moves the end, too
		o.CollectEvery = -1
	}
	o.Window, o.UndoTime = swarmWindow, -1
	o.Values.MaxWriters = 16
	s, err := timeline.Open(o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	w.store = s
	return nil
}

// Coverage returns what was done so far.
func (w *Swarm) Coverage() *Coverage { return w.count }

// Close closes the store.
func (w *Swarm) Close() error { return w.store.Close() }

// Run makes all rounds.
func (w *Swarm) Run() error {
	for round := range w.cfg.Rounds {
		if err := w.round(w.rng.IntN(3) != 0); err != nil {
			return fmt.Errorf("seed %d, round %d: %w", w.cfg.Seed, round, err)
		}
	}
	return nil
}

// round lets everybody loose, and with crash set ends it by one.
func (w *Swarm) round(crash bool) error {
	w.over.Store(false)
	var all sync.WaitGroup
	ops := make([][]*swarmOp, w.cfg.Writers)
	sights := make([][]sight, w.cfg.Readers)
	errs := make([]error, w.cfg.Writers+w.cfg.Readers+1)
	done := make(chan struct{})
	for i := range w.cfg.Writers {
		wr := &writer{swarm: w, id: i, rng: rand.New(rand.NewPCG(w.rng.Uint64(), uint64(i)))}
		wr.own = w.ownBuckets(i)
		all.Go(func() {
			errs[i] = wr.run()
			ops[i] = wr.ops
		})
	}
	var helpers sync.WaitGroup
	for i := range w.cfg.Readers {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), uint64(i)))
		helpers.Go(func() { sights[i], errs[w.cfg.Writers+i] = w.read(rng, done) })
	}
	helpers.Go(func() { errs[len(errs)-1] = w.maintain(done) })

	var mem *storefs.MemFS
	if crash {
		mem = w.crash()
	}
	all.Wait()
	close(done)
	helpers.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := w.restart(mem); err != nil {
		return err
	}
	if err := w.settle(slices.Concat(ops...), slices.Concat(sights...)); err != nil {
		return err
	}
	if err := w.store.Close(); err != nil {
		return err
	}
	return w.open(horizonOften)
}

// crash waits a while, and takes what a crash leaves in the middle of it all.
func (w *Swarm) crash() *storefs.MemFS {
	time.Sleep(time.Duration(w.rng.IntN(30)) * time.Millisecond)
	w.over.Store(true)
	w.count.Add("crash")
	return w.disk.Crash([]int{0, 100, w.rng.IntN(101)}[w.rng.IntN(3)])
}

// restart opens the store again, from mem if it crashed.
func (w *Swarm) restart(mem *storefs.MemFS) error {
	m := w.store.Metrics()
	w.count.AddN("flushes", m.Flushes)
	w.count.AddN("compactions", m.Compactions)
	w.count.AddN("groups of the log", int64(m.Log.Groups))
	err := errors.Join(w.store.Close(), w.watch.Err())
	if err != nil {
		return err
	}
	if mem != nil {
		w.disk = NewDisk(mem, w.rng.Uint64(), w.cfg.Lie)
	}
	d := time.Duration(w.rng.Int64N(int64(time.Second)))
	w.clocks.Pass(d, d)
	w.count.Add("close and open")
	return w.open(time.Hour)
}

// settle puts what took place into its order, and compares.
func (w *Swarm) settle(ops []*swarmOp, sights []sight) error {
	end := w.store.Visible()
	var present []*swarmOp
	for _, op := range ops {
		switch {
		case op.LSN <= end:
			w.count.Add(string(op.Kind))
			if !op.acked {
				w.count.Add("indeterminate commit is present")
			}
			present = append(present, op)
		case op.acked:
			return fmt.Errorf("writer %d: %s was acknowledged, but the log ends at %d", op.writer, op, end)
		default:
			w.count.Add("indeterminate commit is absent")
		}
	}
	slices.SortFunc(present, func(a, b *swarmOp) int { return cmp.Compare(a.LSN, b.LSN) })
	for i, op := range present {
		err := w.explains(op)
		if err == nil {
			err = w.oracle.Apply(&op.Op)
		}
		if err != nil {
			return fmt.Errorf("%s: %w\nbefore it:\n%s", op, err, history(present[:i]))
		}
	}
	w.oracle.now, w.oracle.horizon = w.store.Now(), w.store.Horizon()
	w.oracle.due, w.oracle.latest = w.oracle.now, w.oracle.now
	if err := w.oracle.Observe(w.store); err != nil {
		return err
	}
	for _, s := range sights {
		if err := w.explainsSight(s, end); err != nil {
			return err
		}
	}
	return w.everything(&Checker{Store: w.store, Oracle: w.oracle, Rand: w.rng, Count: w.count})
}

// everything is Checker.Everything, without the tips: horizon records move
// them.
func (w *Swarm) everything(c *Checker) error {
	if err := c.Tree(); err != nil {
		return err
	}
	for _, name := range w.oracle.Names() {
		for _, at := range []wal.LSN{w.oracle.Last(), c.RetainedLSN(name)} {
			if at == 0 {
				continue
			}
			if err := c.Whole(name, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func history(ops []*swarmOp) string {
	var s strings.Builder
	for _, op := range ops[max(0, len(ops)-30):] {
		fmt.Fprintf(&s, "  writer %d: %s\n", op.writer, op)
	}
	return s.String()
}

// explains checks what a transaction saw against the state right before it.
func (w *Swarm) explains(op *swarmOp) error {
	at := op.LSN - 1
	for _, o := range op.observed {
		b := w.oracle.names[op.Bucket]
		if b == nil {
			return errors.New("runs on a bucket that does not exist")
		}
		if o.scan {
			if got := digestOf(b.line.Scan(at, o.key.ns, "", "")); got != o.digest {
				return fmt.Errorf("scan of %02x differs from the state right before the commit", byte(o.key.ns))
			}
			continue
		}
		var lsn wal.LSN
		if v, _, ok := b.line.Get(at, o.key); ok {
			lsn = v.LSN
		}
		if lsn != o.lsn {
			return fmt.Errorf("read %q at %d, but right before the commit it is at %d", o.key.key, o.lsn, lsn)
		}
	}
	return nil
}

// explainsSight checks what a reader saw; the log ends at end.
func (w *Swarm) explainsSight(s sight, end wal.LSN) error {
	if s.lsn > end {
		if s.seen {
			return fmt.Errorf("a reader saw LSN %d before the crash, but the log ends at %d", s.lsn, end)
		}
		return nil
	}
	b := w.oracle.buckets[s.bucket]
	if b == nil {
		return fmt.Errorf("a reader saw bucket %d at %d, which nobody made", s.bucket, s.lsn)
	}
	l, lsn := b.line.resolve(s.lsn)
	if l == nil {
		return fmt.Errorf("a reader saw bucket %d at %d, before it was made", s.bucket, s.lsn)
	}
	w.count.Add("read explained")
	if got := digestOf(l.Scan(lsn, s.ns, "", "")); got != s.digest {
		return fmt.Errorf("a scan of %02x in bucket %d (%q) at %d saw something else than what is there", byte(s.ns), s.bucket, b.name, s.lsn)
	}
	return nil
}

// ownBuckets returns the living buckets of a writer.
func (w *Swarm) ownBuckets(writer int) []string {
	var own []string
	for _, name := range w.oracle.Names() {
		if strings.HasPrefix(name, ownPrefix(writer)) {
			own = append(own, name)
		}
	}
	return own
}

func ownPrefix(writer int) string { return fmt.Sprintf("w%02d-", writer) }

// maintain flushes and compacts now and then, and moves the clocks.
func (w *Swarm) maintain(done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := 0; ; i++ {
		select {
		case <-done:
			return nil
		case <-time.After(500 * time.Microsecond):
		}
		w.clocks.Pass(500*time.Microsecond, 500*time.Microsecond)
		if i%20 == 0 {
			if err := w.store.Flush(ctx); err != nil {
				return fmt.Errorf("flush: %w", err)
			}
			if err := w.store.Compact(); err != nil {
				return err
			}
		}
	}
}

// read scans random buckets at the tip and in the past, twice each.
func (w *Swarm) read(rng *rand.Rand, done <-chan struct{}) ([]sight, error) {
	var sights []sight
	for {
		select {
		case <-done:
			return sights, nil
		default:
		}
		infos := w.store.Buckets("", "", 0)
		info := infos[rng.IntN(len(infos))]
		at := wal.LSN(0)
		if len(sights) > 0 && rng.IntN(2) == 0 {
			at = max(sights[rng.IntN(len(sights))].lsn, info.Created)
		}
		granted := false
		if at != 0 && rng.IntN(2) == 0 {
			err := w.store.Lease(info.Name, at, time.Hour)
			if granted = err == nil; granted {
				w.count.Add("lease")
				time.Sleep(time.Duration(rng.IntN(4)) * time.Millisecond)
			}
		}
		s, err := w.look(info.Name, at, namespaces[rng.IntN(len(namespaces)-1)]) // uploads have no past
		if errors.Is(err, timeline.ErrNoSuchBucket) && info.Name != sharedBucket {
			continue
		}
		if meets(err, errBelow) && !granted && at != 0 {
			w.count.Add("read refused")
			continue
		}
		if granted {
			w.count.Add("read at a lease")
		}
		if err != nil {
			return nil, fmt.Errorf("reader: %q at %d: %w", info.Name, at, err)
		}
		sights = append(sights, s)
	}
}

func (w *Swarm) look(name string, at wal.LSN, ns layers.Namespace) (sight, error) {
	v, err := w.store.View(context.Background(), name, at)
	if err != nil {
		return sight{}, err
	}
	defer v.Close()
	s := sight{bucket: v.Info().Bucket, lsn: v.LSN(), ns: ns, seen: !w.over.Load()}
	for i := range 2 {
		scan := v.Scan(ns, nil, nil)
		d, err := digest(scan)
		if err = errors.Join(err, scan.Close()); err != nil {
			return sight{}, err
		}
		if i == 1 && d != s.digest {
			return sight{}, errors.New("the same view shows two states")
		}
		s.digest = d
	}
	return s, nil
}

// writer makes the operations of one goroutine.
type writer struct {
	swarm *Swarm
	id    int
	rng   *rand.Rand
	own   []string
	ops   []*swarmOp
}

// run makes operations until there were enough, or the store crashes.
func (wr *writer) run() error {
	for range wr.swarm.cfg.Ops {
		if wr.swarm.over.Load() {
			return nil
		}
		op, err := wr.next()
		if err != nil {
			return fmt.Errorf("writer %d: %w", wr.id, err)
		}
		if op == nil {
			continue
		}
		if err := wr.do(op); err != nil {
			return fmt.Errorf("writer %d: %s: %w", wr.id, op, err)
		}
	}
	return nil
}

// do makes op and notes how it went.
func (wr *writer) do(op *swarmOp) error {
	execute(wr.swarm.store, &op.Op, func(tx *timeline.Tx) error {
		op.observed = op.observed[:0]
		return wr.observe(tx, op)
	})
	over := wr.swarm.over.Load()
	for _, release := range op.release {
		release()
	}
	mine := op.Kind == OpCreate || op.Kind == OpFork || op.Kind == OpRename || op.Kind == OpDelete
	switch {
	case op.Err == nil:
		op.acked = !over
		wr.ops = append(wr.ops, op)
		wr.follow(op)
		return nil
	case errors.Is(op.Err, timeline.ErrBucketNotEmpty) && op.Kind == OpDelete && !op.Force:
		return nil
	case errors.Is(op.Err, timeline.ErrNoSuchBucket) && !mine && op.Bucket != sharedBucket:
		return nil // its owner was faster
	case meets(op.Err, errBelow) && op.At != 0:
		wr.swarm.count.Add(string(op.Kind) + " refused")
		return nil
	case errors.Is(op.Err, timeline.ErrSlowDown):
		wr.swarm.count.Add("slow down")
		return nil
	default:
		return op.Err
	}
}

// follow keeps the list of the writer's own buckets.
func (wr *writer) follow(op *swarmOp) {
	drop := func(name string) {
		wr.own = slices.DeleteFunc(wr.own, func(s string) bool { return s == name })
	}
	switch op.Kind {
	case OpCreate:
		wr.own = append(wr.own, op.Bucket)
	case OpFork:
		wr.own = append(wr.own, op.Names...)
	case OpDelete:
		drop(op.Bucket)
	case OpRename:
		drop(op.Bucket)
		wr.own = append(wr.own, op.To)
	}
}

// observe notes what a transaction finds before it writes.
func (wr *writer) observe(tx *timeline.Tx, op *swarmOp) error {
	if op.Kind == OpExclusive {
		s := tx.Scan(layers.NamespaceObjects, nil, nil)
		d, err := digest(s)
		op.observed = append(op.observed, observation{key: pointKey{ns: layers.NamespaceObjects}, scan: true, digest: d})
		return errors.Join(err, s.Close())
	}
	for i := range op.Writes {
		w := &op.Writes[i]
		o := observation{key: pointKey{w.NS, w.Key}}
		rec, err := tx.Get(w.NS, []byte(w.Key))
		if err == nil {
			o.lsn = rec.LSN
		} else if !errors.Is(err, timeline.ErrNotFound) {
			return err
		}
		op.observed = append(op.observed, o)
	}
	return nil
}

// next picks an operation.
func (wr *writer) next() (*swarmOp, error) {
	op := &swarmOp{writer: wr.id}
	newName := func() string { return fmt.Sprintf("%s%d", ownPrefix(wr.id), wr.swarm.names.Add(1)) }
	switch n := wr.rng.IntN(40); {
	case n == 0 && len(wr.own) < 4 || len(wr.own) == 0:
		op.Kind, op.Bucket = OpCreate, newName()
	case n <= 3 && len(wr.own) < 6:
		op.Kind, op.Bucket = OpFork, wr.anyBucket(true)
		for range 1 + wr.rng.IntN(3) {
			op.Names = append(op.Names, newName())
		}
		if len(wr.ops) > 0 && op.Bucket == sharedBucket && wr.rng.IntN(2) == 0 {
			op.At = wr.ops[wr.rng.IntN(len(wr.ops))].LSN
		}
	case n == 4:
		op.Kind, op.Bucket, op.To = OpRename, wr.anyBucket(true), newName()
		if op.Bucket == sharedBucket {
			return nil, nil
		}
	case n == 5 || len(wr.own) >= 6:
		op.Kind, op.Bucket, op.Force = OpDelete, wr.own[wr.rng.IntN(len(wr.own))], wr.rng.IntN(3) != 0
		op.Undo = []time.Duration{0, -1, time.Millisecond, time.Hour}[wr.rng.IntN(4)]
	case n == 6:
		op.Kind, op.Bucket, op.Window = OpWindow, wr.anyBucket(false), stepWindows[wr.rng.IntN(len(stepWindows))]
	case n == 7 && len(wr.ops) > 0:
		op.Kind, op.Bucket = OpSnapshot, wr.anyBucket(false)
		if wr.rng.IntN(3) != 0 {
			op.At = wr.ops[wr.rng.IntN(len(wr.ops))].LSN
		}
	default:
		return op, wr.fill(op)
	}
	return op, nil
}

// anyBucket picks a bucket: the shared one, one's own, or with mine unset one
// that somebody has.
func (wr *writer) anyBucket(mine bool) string {
	if wr.rng.IntN(3) == 0 {
		return sharedBucket
	}
	if !mine && wr.rng.IntN(2) == 0 {
		infos := wr.swarm.store.Buckets("", "", 0)
		return infos[wr.rng.IntN(len(infos))].Name
	}
	if len(wr.own) == 0 {
		return sharedBucket
	}
	return wr.own[wr.rng.IntN(len(wr.own))]
}

// fill makes op one that writes records.
func (wr *writer) fill(op *swarmOp) error {
	op.Bucket = wr.anyBucket(false)
	op.Kind = []OpKind{OpCommit, OpCommit, OpUpdate, OpUpdate, OpExclusive}[wr.rng.IntN(5)]
	for range 1 + wr.rng.IntN(5) {
		ns := []layers.Namespace{layers.NamespaceObjects, layers.NamespaceK2V, layers.NamespaceConfig}[wr.rng.IntN(3)]
		w := Write{Kind: layers.KindValue, NS: ns, Key: fmt.Sprintf("%02d", wr.rng.IntN(12))}
		switch n := wr.rng.IntN(12); {
		case n < 2:
			w.Kind = layers.KindTombstone
		case n == 2 && op.Kind != OpUpdate:
			w.Kind, w.End = layers.KindRangeTombstone, w.Key+"~"
			if wr.rng.IntN(2) == 0 {
				w.Key, w.End = "", "~"
			}
		default:
			seed := wr.swarm.content.Add(1)
			w.Meta = fmt.Sprintf("meta-%d", seed)
			w.Body = Content{{Seed: seed, Len: int64(1 + wr.rng.IntN(2500))}}
			if n == 11 {
				if err := wr.upload(op, &w); err != nil {
					return err
				}
				break
			}
			w.encoded = layers.AppendInlineBody(nil, w.Body.Bytes())
		}
		op.Writes = append(op.Writes, w)
	}
	return nil
}

// upload streams the body of w into value segments.
func (wr *writer) upload(op *swarmOp, w *Write) error {
	w.Body[0].Len += int64(wr.rng.IntN(100 << 10))
	v, err := wr.swarm.store.Values().NewWriter(context.Background())
	if err != nil {
		return err
	}
	op.release = append(op.release, func() {
		if err := v.Close(); err != nil {
			panic("BUG: close of a finished writer: " + err.Error())
		}
	})
	if _, err := v.Write(w.Body.Bytes()); err != nil {
		return err
	}
	ext, err := v.Finish()
	if err != nil {
		return err
	}
	w.encoded = layers.AppendExtentsBody(nil, ext)
	w.segments, err = w.encoded.Segments(nil)
	return err
}
