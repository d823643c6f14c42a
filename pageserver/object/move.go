package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Move makes buckets what others are, or were, in one commit; see timeline.MoveOptions. Each keeps what
// belongs to it rather than to its content: its settings, too. Where the new content has versions, locks
// or pages of which the settings know nothing, they learn of it. docs/semantics.md has the rules.
//
// Errors: those of timeline.Move; ErrLocked when a version that is locked would not be there any more, or
// not be locked as it is.
func (s *Service) Move(ctx context.Context, o timeline.MoveOptions) (timeline.MoveResult, error) {
	for i := range o.Moves {
		m := &o.Moves[i]
		if Reserved(m.Bucket) || Reserved(m.Source) {
			return timeline.MoveResult{}, fmt.Errorf("move %q to %q: %w", m.Bucket, m.Source, timeline.ErrNoSuchBucket)
		}
	}
	o.Refuse = func(_ int, now, then *timeline.View) error { return s.checkKept(ctx, now, then) }
	o.Configure = s.configureMove
	return s.store.Move(ctx, o)
}

// checkKept refuses a bucket that has locked versions now which it would not have then, with the same
// lock. The cost follows what differs.
func (s *Service) checkKept(ctx context.Context, now, then *timeline.View) error {
	set, err := s.settings(now)
	if err != nil || set.Lock == nil {
		return err
	}
	for _, ns := range []layers.Namespace{layers.NamespaceObjects, layers.NamespaceVersions} {
		d := s.store.Diff(ctx, now, then, ns, nil, nil)
		for err == nil && d.Next() {
			err = s.checkVersionKept(d.Difference(), then)
		}
		if err = errors.Join(err, d.Err(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) checkVersionKept(d *timeline.Difference, then *timeline.View) error {
	rec := d.A
	if rec == nil || len(rec.Meta) < 2 || rec.Meta[1]&flagMarker != 0 {
		return nil
	}
	key := d.Key
	if rec.Key.Namespace() == layers.NamespaceVersions {
		if isNullRecord(key) {
			return nil
		}
		prefix, _, err := splitVersionKey(key)
		if err == nil {
			key, err = unescape(prefix)
		}
		if err != nil {
			return err
		}
	}
	e, err := decodeEntry(rec.Meta, rec.LSN)
	if err != nil {
		return err
	}
	if locked := e.Lock.refuses(s.now(), false); locked != nil {
		f, err := findVersion(then, key, versionsOf(key), e.ID())
		if err != nil {
			return err
		}
		if f != nil && f.lsn == e.LSN {
			kept, err := decodeEntry(f.rec.Meta, f.rec.LSN)
			if err != nil || kept.Lock == e.Lock {
				return err
			}
		}
		return fmt.Errorf("version %v of %q: %w", e.ID(), key, locked)
	}
	return nil
}

// configureMove tells the settings that a bucket keeps of what its new content has.
func (s *Service) configureMove(_ int, now, then *timeline.View, first *timeline.Batch) error {
	is, err := s.settings(now)
	if err != nil {
		return err
	}
	was, err := s.settings(then)
	if err != nil {
		return err
	}
	before, err := encodeSettings(is)
	if err != nil {
		return err
	}
	set := *is
	set.Pages = is.Pages || was.Pages
	if was.Lock != nil && is.Lock == nil { // its versions are locked, if not by default
		set.Lock, set.Versioning = &LockConfig{}, Enabled
	}
	if was.Versioning != Unversioned && set.Versioning == Unversioned {
		set.Versioning = Suspended
	}
	after, err := encodeSettings(&set)
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	first.Put(layers.NamespaceConfig, settingsKey, after, nil)
	return nil
}

// Restore makes a bucket what it was at a point in time. ifLSN refuses that if an object has changed above
// it; zero: no condition. Errors: those of Move.
func (s *Service) Restore(ctx context.Context, bucket string, at wal.LSN, ifLSN wal.LSN) (timeline.MoveResult, error) {
	return s.Move(ctx, timeline.MoveOptions{Moves: []timeline.Move{{Bucket: bucket, Source: bucket, At: at, IfUnchangedSince: ifLSN}}})
}

// source returns the bucket that another was forked from. Errors: ErrNoSource, timeline.ErrNoSuchBucket.
func (s *Service) source(fork string) (string, error) {
	info, err := s.Bucket(fork, 0)
	switch {
	case err != nil:
		return "", err
	case info.SourceBucket == 0:
		return "", fmt.Errorf("bucket %q is no fork: %w", fork, ErrNoSource)
	case info.SourceName == "":
		return "", fmt.Errorf("what bucket %q was forked from has been deleted: %w", fork, ErrNoSource)
	}
	return info.SourceName, nil
}

// ResetMove is the move that makes a fork what its source is, or was at a point in time (zero: the tip).
// Errors: ErrNoSource, timeline.ErrNoSuchBucket.
func (s *Service) ResetMove(fork string, at wal.LSN) (timeline.Move, error) {
	source, err := s.source(fork)
	return timeline.Move{Bucket: fork, Source: source, At: at}, err
}

// PromoteMove is the move that makes the source of a fork what the fork is. Errors: ErrNoSource,
// timeline.ErrNoSuchBucket.
func (s *Service) PromoteMove(fork string) (timeline.Move, error) {
	source, err := s.source(fork)
	return timeline.Move{Bucket: source, Source: fork}, err
}
