package object

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// RenameInput says what Rename renames.
type RenameInput struct {
	Source     string     // key
	SourceCond Conditions // of the source; what fails is always ErrPreconditionFailed
	// Cond is of the destination. Dates hold for one that is there: it must have
	// been modified, or not, since.
	Cond Conditions
	// Token makes a repetition of the same rename a success; empty: none.
	Token string
}

// renameToken is what an object keeps of the rename that gave it its key, so that
// a repetition is known: of the caller's token, and of the source.
type renameToken [16]byte

func (in *RenameInput) token() (t renameToken) {
	if in.Token == "" {
		return t
	}
	token, source := sha256.Sum256([]byte(in.Token)), sha256.Sum256([]byte(in.Source))
	copy(t[:8], token[:])
	copy(t[8:], source[:])
	return t
}

// Rename gives an object another key, in place of what is there, in one commit
// that moves handles. Everything else of the object stays. Where the bucket has
// versions, it is a new one of the key, and a delete marker hides the source.
//
// Errors: ErrKeyTooLong, ErrNoSuchKey (of the source, or of Cond.IfMatch),
// ErrPreconditionFailed, ErrSelfCopy, ErrTokenReused, timeline.ErrNoSuchBucket and
// those of a commit.
func (s *Service) Rename(ctx context.Context, bucket, key string, in *RenameInput) (wal.LSN, error) {
	for _, k := range []string{key, in.Source} {
		if err := checkKey(k); err != nil {
			return 0, fmt.Errorf("rename: %w", err)
		}
	}
	if key == in.Source {
		return 0, fmt.Errorf("rename %q: %w", key, ErrSelfCopy)
	}
	locks := []timeline.Lock{
		{NS: layers.NamespaceObjects, Key: []byte(in.Source), Exclusive: true},
		{NS: layers.NamespaceObjects, Key: []byte(key), Exclusive: true},
	}
	var done wal.LSN // of the rename that this one repeats
	r := renaming{s: s, ctx: ctx, in: in, source: locks[0].Key, key: locks[1].Key}
	defer r.letGo()
	lsn, err := s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) (err error) {
		r.letGo()
		done, err = r.run(tx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("rename: %w", err)
	}
	if done != 0 {
		return done, nil
	}
	return lsn, nil
}

// renaming is one Rename. Its transaction may run again.
type renaming struct {
	s           *Service
	ctx         context.Context
	in          *RenameInput
	source, key []byte
	holds       holds
	copied      *flattened // of the pages, where the source stays as a version
}

func (r *renaming) letGo() {
	r.holds.letGo()
	if r.copied != nil {
		r.copied.close()
		r.copied = nil
	}
}

// run makes the source the current version of key, and deletes it where it was; or
// returns the commit that had done so.
func (r *renaming) run(tx *timeline.Tx) (done wal.LSN, err error) {
	s, in, h := r.s, r.in, &r.holds
	set, err := s.settings(tx)
	if err != nil {
		return 0, err
	}
	f, err := getObject(tx, r.source)
	if err != nil {
		return 0, err
	}
	if f == nil {
		return in.repeated(tx, r.key, fmt.Errorf("%q: %w", r.source, ErrNoSuchKey))
	}
	e, err := f.entry()
	if err != nil {
		return 0, err
	}
	shown := *e
	if shown.ETag, err = s.shownETag(f); err != nil {
		return 0, err
	}
	if err := in.SourceCond.checkSource(&shown); err != nil {
		return 0, err
	}
	if err := in.checkDestination(s, tx, r.key); err != nil {
		return 0, err
	}
	if err := h.add(s, f.rec.Body); err != nil {
		return 0, err
	}
	e.LSN, e.made, e.renamed, e.Lock = 0, 0, in.token(), Lock{}.orDefault(set, s.now())
	if err := e.goesOn(set, f, tx.BranchLSN()); err != nil {
		return 0, err
	}
	along := set.replaces(f) // no version is left that has the pages
	if e.pages.paged() && !along {
		if err := s.unlock(e, nil); err != nil {
			return 0, err
		}
		from := *e
		if r.copied, err = s.copyPages(r.ctx, within(tx), &from, e, 0, e.Size); err != nil {
			return 0, err
		}
		e.putBase(tx)
	}
	to := keyWriter{s: s, tx: tx, set: set, holds: h, key: r.key}
	if err := to.put(e, f.rec.Body); err != nil {
		return 0, err
	}
	from := keyWriter{s: s, tx: tx, set: set, holds: h, key: r.source, keepsPages: along}
	return 0, from.deleteCurrent()
}

// repeated looks whether what is missing was renamed by an earlier call.
func (in *RenameInput) repeated(tx *timeline.Tx, key []byte, missing error) (wal.LSN, error) {
	want := in.token()
	if want == (renameToken{}) {
		return 0, missing
	}
	f, err := getObject(tx, key)
	if err != nil || f == nil {
		return 0, cmp.Or(err, missing)
	}
	e, err := f.entry()
	switch {
	case err != nil:
		return 0, err
	case e.renamed == want:
		return e.LSN, nil
	case [8]byte(e.renamed[:8]) == [8]byte(want[:8]):
		return 0, ErrTokenReused
	}
	return 0, missing
}

func (in *RenameInput) checkDestination(s *Service, tx *timeline.Tx, key []byte) error {
	if err := s.checkWrite(&in.Cond, tx, key); err != nil {
		return err
	}
	f, err := getObject(tx, key)
	if err != nil || f == nil {
		return err
	}
	modified := f.lsn.Time().Truncate(time.Second)
	if since := in.Cond.IfModifiedSince; !since.IsZero() && !modified.After(since) {
		return ErrPreconditionFailed
	}
	if since := in.Cond.IfUnmodifiedSince; !since.IsZero() && modified.After(since) {
		return ErrPreconditionFailed
	}
	return nil
}
