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
	var h holds
	defer h.letGo()
	lsn, err := s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) (err error) {
		h.letGo()
		done, err = in.run(s, tx, &h, locks[0].Key, locks[1].Key)
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

// run makes the source the current version of key, and deletes it where it was; or
// returns the commit that had done so.
func (in *RenameInput) run(s *Service, tx *timeline.Tx, h *holds, source, key []byte) (done wal.LSN, err error) {
	set, err := s.settings(tx)
	if err != nil {
		return 0, err
	}
	f, err := getObject(tx, source)
	if err != nil {
		return 0, err
	}
	if f == nil {
		return in.repeated(tx, key, fmt.Errorf("%q: %w", source, ErrNoSuchKey))
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
	if err := in.checkDestination(s, tx, key); err != nil {
		return 0, err
	}
	if err := h.add(s, f.rec.Body); err != nil {
		return 0, err
	}
	e.LSN, e.made, e.renamed, e.Lock = 0, 0, in.token(), Lock{}.orDefault(set, s.now())
	if err := e.goesOn(set, f, tx.BranchLSN()); err != nil {
		return 0, err
	}
	to := keyWriter{s: s, tx: tx, set: set, holds: h, key: key}
	if err := to.put(e, f.rec.Body); err != nil {
		return 0, err
	}
	if e.pages.paged() { // the pages go along: there must be no version left that has them
		if set.Versioning != Unversioned {
			return 0, fmt.Errorf("rename an object with pages in a bucket with versions: %w", ErrNotInPlace)
		}
		tx.Delete(layers.NamespaceObjects, source)
		return 0, nil
	}
	from := keyWriter{s: s, tx: tx, set: set, holds: h, key: source}
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
