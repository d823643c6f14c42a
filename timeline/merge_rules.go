package timeline

import (
	"bytes"

	"stemma/layers"
	"stemma/wal"
)

// Side says whose version of a key a merge takes.
type Side byte

// The sides.
const (
	// Neither leaves the conflict open: nothing is merged.
	Neither Side = iota
	// Theirs is the source of the merge.
	Theirs
	// Ours is the target.
	Ours
)

// MergeAction says what a merge does with a key that the source has changed.
type MergeAction byte

// The actions.
const (
	// MergePut takes the source's value.
	MergePut MergeAction = 1 + iota
	// MergeDelete deletes what the source has deleted.
	MergeDelete
	// MergeSame does nothing: both sides have the same, or nothing.
	MergeSame
	// MergeKeep does nothing: both have changed the key, and the target wins.
	MergeKeep
	// MergeConflict is a conflict that nobody has decided: there is no merge.
	MergeConflict
)

var mergeActionNames = [...]string{MergePut: "put", MergeDelete: "delete", MergeSame: "same", MergeKeep: "keep", MergeConflict: "conflict"}

func (a MergeAction) String() string { return mergeActionNames[a] }

// MergeEntry is one key that the source of a merge has changed. It is valid
// during the call that gets it; Meta and Body of the records may be kept.
type MergeEntry struct {
	NS     layers.Namespace
	Key    []byte
	Source *View          // what Theirs is of; open until the commit is visible
	Theirs *layers.Record // what the source has; nil: it deleted the key
	Ours   *layers.Record // what the target has now; nil: nothing
	// Conflict says that the target has changed the key, too, to something else.
	Conflict bool
	Action   MergeAction

	plan *mergePlan
}

// Changes walks what the source of a merge or pick has changed in a range of another
// namespace, such as what lies beside the key; nil of a revert, whose other side is the
// past of the target itself. The caller closes it before the call returns.
func (e *MergeEntry) Changes(ns layers.Namespace, lower, upper []byte) *layers.Changes {
	if e.plan == nil || e.plan.past {
		return nil
	}
	return e.plan.source.changes(ns, lower, upper, e.plan.above)
}

// Diff walks what differs in a range of another namespace between a view, which is its A, nil for that of the target, and
// the source. The caller closes it before the call returns.
func (e *MergeEntry) Diff(from *View, ns layers.Namespace, lower, upper []byte) *Diff {
	p := e.plan
	if from == nil {
		from = p.tx.view
	}
	return p.tx.view.store.Diff(p.ctx, from, e.Source, ns, lower, upper)
}

// SourceAt opens what the source had, or what it comes from, at an earlier LSN; nil if that can not be read any more. The
// caller closes it before the call returns.
func (e *MergeEntry) SourceAt(lsn wal.LSN) (*View, error) {
	v := e.Source
	if lsn == 0 || lsn > v.lsn {
		return nil, nil
	}
	n := v.node
	for p := n.parent(); p.node != nil && lsn <= p.lsn; p = n.parent() {
		n = p.node
	}
	return v.store.viewIfReadable(v, n, lsn)
}

// MergeRules are what a merge must know of the contents of records.
type MergeRules struct {
	// Namespaces that are merged, each key by itself. Default: NamespaceObjects.
	Namespaces []layers.Namespace
	// Same reports whether two values hold the same content, however it was written.
	// Default: same Meta and Body.
	Same func(a, b *layers.Record) (bool, error)
	// Resolve says who wins a conflict. Default: Neither.
	Resolve func(e *MergeEntry) (Side, error)
	// Take writes what taking the source's side of a key means, for MergePut and
	// MergeDelete. Bodies go by handle. It calls Tx.MakeRoom if it may write many records.
	// Default: the record with the same Meta and Body, or a tombstone.
	Take func(tx *Tx, e *MergeEntry) error
}

func (r MergeRules) withDefaults() MergeRules {
	if r.Namespaces == nil {
		r.Namespaces = []layers.Namespace{layers.NamespaceObjects}
	}
	if r.Same == nil {
		r.Same = func(a, b *layers.Record) (bool, error) {
			return bytes.Equal(a.Meta, b.Meta) && bytes.Equal(a.Body, b.Body), nil
		}
	}
	if r.Resolve == nil {
		r.Resolve = func(*MergeEntry) (Side, error) { return Neither, nil }
	}
	if r.Take == nil {
		r.Take = func(tx *Tx, e *MergeEntry) error {
			if e.Theirs == nil {
				tx.Delete(e.NS, bytes.Clone(e.Key))
			} else {
				tx.Put(e.NS, bytes.Clone(e.Key), e.Theirs.Meta, e.Theirs.Body)
			}
			return nil
		}
	}
	return r
}
