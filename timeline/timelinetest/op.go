package timelinetest

import (
	"fmt"
	"strings"
	"time"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// OpKind names an operation that makes one commit.
type OpKind string

// The kinds.
const (
	OpCommit    OpKind = "commit"
	OpUpdate    OpKind = "update"
	OpExclusive OpKind = "exclusive"
	OpCreate    OpKind = "create"
	OpFork      OpKind = "fork"
	OpDelete    OpKind = "delete-bucket"
	OpRename    OpKind = "rename"
	OpSnapshot  OpKind = "snapshot"
	OpWindow    OpKind = "set-window"
	OpUndelete  OpKind = "undelete"

	OpProperties     OpKind = "set-properties"
	OpSetSnapshot    OpKind = "set-snapshot"
	OpDeleteSnapshot OpKind = "delete-snapshot"

	OpMove  OpKind = "move"
	OpMerge OpKind = "merge"
)

// tree reports whether the operation changes the tree of timelines.
func (k OpKind) tree() bool {
	switch k {
	case OpCreate, OpFork, OpDelete, OpRename, OpSnapshot, OpSetSnapshot, OpDeleteSnapshot, OpWindow, OpUndelete, OpProperties, OpMove:
		return true
	}
	return false
}

// Op is one operation and, once it is done, its outcome.
type Op struct {
	Kind   OpKind
	Bucket string
	To     string            // rename; merge: the source
	Names  []string          // fork; snapshot: further buckets
	At     wal.LSN           // fork, snapshot; zero: the tip
	Force  bool              // delete
	Undo   time.Duration     // delete, move; as timeline.DeleteOptions has it
	Window gc.Window         // set-window
	ID     timeline.BucketID // undelete
	Writes []Write           // commit, update, exclusive, create, fork (each)

	Props    timeline.Properties       // create, fork (each), set-properties
	Settings timeline.SnapshotSettings // snapshot, set-snapshot
	Snapshot timeline.SnapshotID       // set-snapshot, delete-snapshot
	Moves    []timeline.Move           // move
	How      string                    // merge: which sort
	Side     timeline.Side             // merge: who wins
	Range    [2]string                 // pick, revert; an empty end is none

	LSN   wal.LSN
	Infos []timeline.Info     // create, fork, undelete, move
	Snaps []timeline.Snapshot // snapshot
	Err   error

	Committed bool // of a merge
	expected  *mergeExpectation

	// asked says that want is what it must meet, by the moment it was made.
	asked bool
	want  error
	due   wal.LSN // then, as the Oracle has it
	// undo is until when a deletion or move whose outcome was unknown can be undone.
	undo wal.LSN
	// observed is what an update or exclusive read before it wrote.
	observed []observation
}

// observation says what a transaction read: the LSN of a key's value, zero for
// none, or the digest of a scan.
type observation struct {
	key    pointKey
	lsn    wal.LSN
	scan   bool
	digest uint64
}

// Write is one record of an Op.
type Write struct {
	Kind layers.Kind
	NS   layers.Namespace
	Key  string
	End  string // range tombstone: exclusive end
	Meta string
	Body Content

	encoded  layers.Body      // as handed to the store
	segments []layers.FileNum // that encoded names
}

func (op *Op) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %q", op.Kind, op.Bucket)
	if op.To != "" {
		fmt.Fprintf(&s, " to %q", op.To)
	}
	if len(op.Names) > 0 {
		fmt.Fprintf(&s, " into %q", op.Names)
	}
	if op.Kind == OpMerge {
		fmt.Fprintf(&s, " (%s, side %d, range %.20q)", op.How, op.Side, op.Range)
	}
	if op.At != 0 {
		fmt.Fprintf(&s, " at %d", op.At)
	}
	if op.Force {
		s.WriteString(" force")
	}
	if op.Undo != 0 {
		fmt.Fprintf(&s, " undo %v", op.Undo)
	}
	if op.Kind == OpWindow {
		fmt.Fprintf(&s, " window %v", time.Duration(op.Window))
	}
	for _, m := range op.Moves {
		fmt.Fprintf(&s, " %q to %q at %d", m.Bucket, m.Source, m.At)
	}
	if op.Kind == OpUndelete {
		fmt.Fprintf(&s, " bucket %d", op.ID)
	}
	if op.Kind == OpSetSnapshot || op.Kind == OpDeleteSnapshot {
		fmt.Fprintf(&s, " %d", op.Snapshot)
	}
	if op.Kind == OpSnapshot || op.Kind == OpSetSnapshot {
		fmt.Fprintf(&s, " named %q, held %v, expires %d", op.Settings.Name, op.Settings.Held, op.Settings.Expires)
	}
	if op.Props.Expires != 0 || len(op.Props.Attrs) > 0 {
		fmt.Fprintf(&s, " expires %d, attributes of %d bytes", op.Props.Expires, len(op.Props.Attrs))
	}
	for i := range op.Writes {
		if i == 6 {
			fmt.Fprintf(&s, " and %d more", len(op.Writes)-i)
			break
		}
		w := &op.Writes[i]
		switch w.Kind {
		case layers.KindRangeTombstone:
			fmt.Fprintf(&s, " %02x:-[%.24q,%.24q)", byte(w.NS), w.Key, w.End)
		case layers.KindTombstone:
			fmt.Fprintf(&s, " %02x:-%.24q", byte(w.NS), w.Key)
		case layers.KindDelta:
			fmt.Fprintf(&s, " %02x:%.24q+=%.12s(%d)", byte(w.NS), w.Key, w.Meta, w.Body.Len())
		default:
			fmt.Fprintf(&s, " %02x:%.24q=%.12s(%d)", byte(w.NS), w.Key, w.Meta, w.Body.Len())
		}
	}
	if op.LSN != 0 {
		fmt.Fprintf(&s, " => %d", op.LSN)
	}
	if op.Err != nil {
		fmt.Fprintf(&s, " => %v", op.Err)
	}
	return s.String()
}

// made is a bucket that a create or fork makes.
func (op *Op) made(name string) timeline.NewBucket {
	b := timeline.NewBucket{Name: name, Properties: op.Props}
	if len(op.Writes) > 0 {
		b.First = &timeline.Batch{}
		addTo(b.First, op.Writes)
	}
	return b
}

// addTo puts the writes into a batch.
func addTo(b *timeline.Batch, writes []Write) {
	for i := range writes {
		w := &writes[i]
		switch w.Kind {
		case layers.KindRangeTombstone:
			b.DeleteRange(w.NS, []byte(w.Key), []byte(w.End))
		case layers.KindTombstone:
			b.Delete(w.NS, []byte(w.Key))
		case layers.KindDelta:
			b.Delta(w.NS, []byte(w.Key), []byte(w.Meta), w.encoded)
		default:
			b.Put(w.NS, []byte(w.Key), []byte(w.Meta), w.encoded)
		}
	}
}
