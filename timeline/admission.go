package timeline

import (
	"context"
	"errors"
	"iter"

	"stemma/layers"
)

// Admission is asked about every commit of Update, Exclusive, Merge, Rebase, Pick and
// Revert that writes something, under the locks of the commit: what tx reads of the keys
// that it writes still holds at the commit. An error refuses the commit, see Later.
// A done that is not nil is called once, before the locks fall: whether the commit is visible. When it
// is indeterminate it counts as not.
//
// Blind commits (Commit) are not asked about: see Batch.Guard.
type Admission func(tx *Tx) (done func(committed bool), err error)

// SetAdmission has a ask about commits from now on. Call it before the first commit.
func (s *Store) SetAdmission(a Admission) { s.admission.Store(&a) }

// Later is the error of an Admission that cannot tell yet. The transaction ends, Wait is
// called without any locks, and unless that fails the transaction runs again.
type Later struct {
	Wait func(ctx context.Context) error
}

func (*Later) Error() string { return "timeline: admission cannot tell yet" }

func asLater(err error) *Later {
	if err == nil {
		return nil // without an allocation
	}
	var later *Later
	errors.As(err, &later)
	return later
}

// admitted is the done of commits that nobody is asked about.
func admitted(bool) {}

// askAdmission asks whether tx may be committed. The done that it returns is never nil.
func (s *Store) askAdmission(tx *Tx) (done func(bool), err error) {
	a := s.admission.Load()
	if a == nil {
		return admitted, nil
	}
	if done, err = (*a)(tx); done == nil {
		done = admitted
	}
	return done, err
}

// Write is a record of a batch. Slices must not be changed.
type Write struct {
	Kind      layers.Kind
	Namespace layers.Namespace
	Key       []byte // of a range tombstone the first key
	End       []byte // of a range tombstone
	Meta      []byte
	Stamped   bool // of PutStamped: the stamp at the end of the key is not known yet
}

// Writes are the records of the batch.
func (b *Batch) Writes() iter.Seq[Write] {
	return func(yield func(Write) bool) {
		for i := range b.ops {
			o := &b.ops[i]
			if !yield(Write{o.kind, o.ns, o.key, o.end, o.meta, o.stamped}) {
				return
			}
		}
	}
}

// Writes are the records of the transaction, those that were staged first. They are read back from disk: when
// that fails they end early, and there will be no commit.
func (tx *Tx) Writes() iter.Seq[Write] {
	return func(yield func(Write) bool) {
		if tx.staged == nil || tx.staged.writes(yield) {
			tx.Batch.Writes()(yield)
		}
	}
}

// Attributes returns those of the bucket that the timeline belongs to which is read: below
// the birth of a fork its source's. They must not be changed. A change of them counts
// as one of the configuration, see ConfigGuard.
func (v *View) Attributes() []byte {
	if v.node.bucket == nil {
		return nil
	}
	return v.node.bucket.propertiesAt(v.store.log.Visible()).Attrs
}

// Attributes is View.Attributes.
func (tx *Tx) Attributes() []byte { return tx.view.Attributes() }
