package timelinetest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// Variant is one way to run a history. The answers must not depend on it.
type Variant struct {
	Name string
	Tune func(o *timeline.Options)
	// Every so many operations; zero: never.
	Restart, Crash, Flush, Compact int
	// Stream uploads every body, Inline none that fits into a commit.
	Stream, Inline bool
}

// Replay makes the operations of a Model's history on a new store. Clocks are
// set so that each gets the LSN that it had; ids and descriptions must be the
// same, and at the end everything that can be read.
func Replay(history []*Op, oracle *Oracle, v Variant, seed uint64) error {
	r := &replay{variant: v, clocks: NewClocks(), rng: rand.New(rand.NewPCG(seed, 3))}
	r.disk = NewDisk(storefs.NewMem(), seed, nil)
	r.oracle = oracle
	if err := r.open(); err != nil {
		return err
	}
	defer func() { r.store.Close() }()
	for i, op := range history {
		if err := r.between(i); err != nil {
			return fmt.Errorf("before operation %d: %w", i, err)
		}
		if err := r.repeat(op); err != nil {
			return fmt.Errorf("operation %d: %s: %w", i, op, err)
		}
	}
	// A replay collects nothing: what the oracle takes for gone may be there.
	loose := *oracle
	loose.loose, loose.now, loose.due = true, r.store.Now(), r.store.Now()
	loose.leases, loose.ways = nil, nil
	if n := len(history); n > 0 { // collections log, too
		end, _ := slices.BinarySearch(loose.lsns, history[n-1].LSN+1)
		loose.lsns = loose.lsns[:end]
	}
	c := &Checker{Store: r.store, Oracle: &loose, Rand: r.rng, Count: &r.count}
	return c.Everything(4)
}

type replay struct {
	variant Variant
	clocks  *Clocks
	rng     *rand.Rand
	disk    *Disk
	store   *timeline.Store
	watch   Watch
	count   Coverage
	oracle  *Oracle
}

func (r *replay) open() error {
	o := SmallOptions()
	o.FS, o.Logger = r.disk.FS(), slog.New(&r.watch)
	o.Now, o.Uptime, o.Values.Now = r.clocks.Now, r.clocks.Uptime, r.clocks.Now
	o.CollectEvery, o.Window, o.UndoTime = -1, r.oracle.window, r.oracle.undoTime
	if o.Window == 0 {
		o.Window = -1
	}
	if r.variant.Tune != nil {
		r.variant.Tune(&o)
	}
	s, err := timeline.Open(o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	r.store = s
	return nil
}

// between does what the variant has between two operations.
func (r *replay) between(i int) error {
	due := func(every int) bool { return every > 0 && i%every == every-1 }
	if due(r.variant.Flush) {
		if err := r.store.Flush(context.Background()); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	if due(r.variant.Compact) {
		if err := r.store.Compact(); err != nil {
			return err
		}
	}
	switch {
	case due(r.variant.Crash):
		mem := r.disk.Crash(r.rng.IntN(101))
		if err := r.store.Close(); err != nil {
			return err
		}
		r.disk = NewDisk(mem, r.rng.Uint64(), nil)
		return r.open()
	case due(r.variant.Restart):
		if err := r.store.Close(); err != nil {
			return err
		}
		return r.open()
	}
	return r.watch.Err()
}

// repeat makes op once more, at the same LSN.
func (r *replay) repeat(was *Op) error {
	op := Op{
		Kind: was.Kind, Bucket: was.Bucket, To: was.To, Names: was.Names, At: was.At, Force: was.Force,
		Undo: was.Undo, Window: was.Window, ID: was.ID, Props: was.Props, Settings: was.Settings, Snapshot: was.Snapshot, Moves: was.Moves,
		Writes: slices.Clone(was.Writes),
	}
	for i := range op.Writes {
		release, err := r.encode(&op.Writes[i])
		if err != nil {
			return err
		}
		defer release()
	}
	d := time.Duration(was.LSN - wal.LSNFromTime(r.clocks.Now()))
	r.clocks.Pass(d, d)
	execute(r.store, &op, nil)
	switch {
	case op.Err != nil:
		return op.Err
	case op.LSN != was.LSN:
		return fmt.Errorf("LSN %d", op.LSN)
	case !reflect.DeepEqual(op.Snaps, was.Snaps) || !slices.EqualFunc(op.Infos, was.Infos, func(a, b timeline.Info) bool { return sameInfo(&a, &b) }):
		return fmt.Errorf("%+v, %+v; want %+v, %+v", op.Infos, op.Snaps, was.Infos, was.Snaps)
	}
	return nil
}

// encode stores the body of w as the variant wants it.
func (r *replay) encode(w *Write) (release func(), err error) {
	const most = 6 << 10 // bytes inline
	n := w.Body.Len()
	stream := r.variant.Stream || w.encoded.Tag() != layers.BodyInline
	if r.variant.Inline && n <= most {
		stream = false
	}
	if w.Kind != layers.KindValue && w.Kind != layers.KindDelta || n == 0 {
		return func() {}, nil
	}
	if !stream {
		w.encoded = layers.AppendInlineBody(nil, w.Body.Bytes())
		return func() {}, nil
	}
	v, err := r.store.Values().NewWriter(context.Background())
	if err != nil {
		return nil, err
	}
	if _, err = v.Write(w.Body.Bytes()); err != nil {
		return nil, err
	}
	ext, err := v.Finish()
	w.encoded = layers.AppendExtentsBody(nil, ext)
	return func() {
		if err := v.Close(); err != nil {
			panic("BUG: close of a finished writer: " + err.Error())
		}
	}, err
}
