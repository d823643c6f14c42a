package timelinetest

import (
	"errors"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// expectMove says what a move must meet: the error of the first bucket that has one.
func (o *Oracle) expectMove(op *Op) error {
	if len(op.Moves) == 0 {
		return timeline.ErrBadMove
	}
	seen := make(map[string]bool)
	for _, m := range op.Moves {
		if seen[m.Bucket] || m.Bucket == m.Source && m.At == 0 {
			return timeline.ErrBadMove
		}
		seen[m.Bucket] = true
	}
	for _, m := range op.Moves {
		if o.names[m.Bucket] == nil {
			return timeline.ErrNoSuchBucket
		}
	}
	for _, m := range op.Moves {
		src := o.names[m.Source]
		if src == nil {
			return timeline.ErrNoSuchBucket
		}
		if err := o.expectAt(src, m.At); err != nil {
			return err
		}
	}
	return nil
}

// move leads buckets to new timelines.
func (o *Oracle) move(op *Op) error {
	if len(op.Infos) != len(op.Moves) {
		return fmt.Errorf("%d infos, want %d", len(op.Infos), len(op.Moves))
	}
	made := make([]*line, len(op.Moves))
	for i, m := range op.Moves { // all see what was before
		b, src := o.names[m.Bucket], o.names[m.Source]
		a, branch := src.line, op.LSN-1
		if m.At != 0 {
			a, branch = src.resolve(m.At)
		}
		made[i] = &line{birth: op.LSN, ancestor: a, branch: branch, depth: a.depth + 1, life: life{window: b.line.window}, points: make(map[pointKey][]Version)}
		made[i].seen = min(branch, a.sees(b.source, op.Infos[i].BranchLSN))
		made[i].configure(op.LSN, b.line, branch)
	}
	undo := op.Undo
	if undo == 0 {
		undo = o.undoTime
	}
	var errs []error
	for i, l := range made {
		b, info := o.names[op.Moves[i].Bucket], &op.Infos[i]
		if o.timelines[info.Timeline] != nil || info.Timeline == 0 {
			return fmt.Errorf("id of timeline %d is not new", info.Timeline)
		}
		old := b.line
		if old.left = op.LSN; undo > 0 {
			old.undo = o.now + wal.LSN(undo)
			if op.undo != 0 {
				old.undo = op.undo
			}
		}
		l.id, l.bucket = info.Timeline, b
		o.timelines[l.id] = l
		b.earlier, b.line = append(b.earlier, old), l
		errs = append(errs, o.checkInfo(b, info, true))
	}
	return errors.Join(errs...)
}

// sees returns the most that l sees of a bucket; a store may not know what it sees
// through timelines that were purged.
func (l *line) sees(b *bucket, told wal.LSN) wal.LSN {
	at, purged := wal.MaxLSN, false
	for n := l; n != nil && b != nil; n = n.ancestor {
		if purged = purged || n.purged; purged && told == 0 {
			return 0
		}
		if n.bucket == b {
			return at
		}
		at = min(at, n.branch)
	}
	return 0
}

// configure gives l, which sees its ancestor at branch, the configuration of now.
func (l *line) configure(lsn wal.LSN, now *line, branch wal.LSN) {
	const ns = layers.NamespaceConfig
	is := make(map[string]Version)
	for _, f := range l.ancestor.Scan(branch, ns, "", "") {
		is[f.Key] = f.Version
	}
	for _, f := range now.Scan(wal.MaxLSN, ns, "", "") {
		was, ok := is[f.Key]
		delete(is, f.Key)
		if !ok || was.LSN != f.LSN {
			l.points[pointKey{ns, f.Key}] = []Version{{LSN: lsn, Kind: layers.KindValue, Meta: f.Meta, Body: f.Body}}
		}
	}
	for key := range is {
		l.points[pointKey{ns, key}] = []Version{{LSN: lsn, Kind: layers.KindTombstone}}
	}
}

// stepMove restores, resets, promotes, swaps, or makes any bucket another one.
func (m *Model) stepMove() error {
	op := &Op{Kind: OpMove, Undo: []time.Duration{0, -1, 5 * time.Millisecond, 30 * time.Millisecond}[m.rng.IntN(4)]}
	what := m.pickMoves(op)
	if len(op.Moves) > 0 {
		op.Bucket = op.Moves[0].Bucket
	}
	err := m.do(op, nil)
	if op.Err == nil && op.LSN != 0 {
		m.count.Add("move: " + what)
	}
	return err
}

// pickMoves fills in what to move, and says what that is.
func (m *Model) pickMoves(op *Op) string {
	name := m.bucket()
	b := m.oracle.names[name]
	switch n := m.rng.IntN(10); {
	case n < 4 || b == nil:
		at := m.retained(name)
		if b != nil && len(b.earlier) > 0 && m.rng.IntN(2) == 0 {
			at = b.earlier[m.rng.IntN(len(b.earlier))].left - 1
		}
		op.Moves = []timeline.Move{{Bucket: name, Source: name, At: at}}
		if b != nil && len(b.earlier) > 0 && at != 0 && at < b.earlier[len(b.earlier)-1].left {
			return "back behind a move"
		}
		return "restore"
	case n < 6 && b.source != nil && !b.source.deleted:
		op.Moves = []timeline.Move{{Bucket: name, Source: b.source.name}}
		return "reset"
	case n < 7 && b.source != nil && !b.source.deleted:
		op.Moves = []timeline.Move{{Bucket: b.source.name, Source: name}}
		return "promote"
	case n < 9:
		other := m.bucket()
		op.Moves = []timeline.Move{{Bucket: name, Source: other}, {Bucket: other, Source: name}}
		return "swap"
	default:
		for range m.rng.IntN(4) {
			mv := timeline.Move{Bucket: m.bucket(), Source: m.bucket()}
			mv.At = m.retained(mv.Source)
			op.Moves = append(op.Moves, mv)
		}
		return "any"
	}
}
