package object

import (
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Undeleted is an object that Undelete brought back, or would.
type Undeleted struct {
	Key string
	// LSN is that of the commit which had made what is there again; At the last moment at which it was there.
	LSN, At wal.LSN
	Size    uint64
	ETag    ETag
}

// UndeleteReport says what Undelete did, or would do.
type UndeleteReport struct {
	LSN       wal.LSN // of the commit; without one, the LSN at which the bucket was looked at
	Committed bool
	Objects   []Undeleted // in the order of the keys that were asked for; without those that are there, or never were
}

// MaxUndelete is the most keys that one call brings back.
const MaxUndelete = 1000

// Undelete brings back objects that have been deleted, each as it was before, in one commit: a new version where the
// bucket keeps versions. One that is there stays as it is, as does one that nobody can tell any more what it was.
//
// Errors: ErrKeyTooLong, ErrTooManyKeys, timeline.ErrNoSuchBucket, ErrCorrupt, layers.ErrCorrupt, and those of a commit.
func (s *Service) Undelete(ctx context.Context, bucket string, keys []string, dry bool) (*UndeleteReport, error) {
	if len(keys) > MaxUndelete {
		return nil, fmt.Errorf("undelete %d keys, at most %d: %w", len(keys), MaxUndelete, ErrTooManyKeys)
	}
	m, err := s.newMerger(ctx, MergeSourceWins, nil, 0, dry)
	if err != nil {
		return nil, err
	}
	defer m.holds.letGo()
	report := &UndeleteReport{LSN: s.store.Visible()}
	var lives []life
	defer func() {
		for _, l := range lives {
			l.close()
		}
	}()
	var locks []timeline.Lock
	commit, paged := s.store.Update, false
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, err
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		l, err := s.lastLife(ctx, bucket, key, &m.holds)
		if err != nil {
			return nil, fmt.Errorf("undelete %q: %w", key, err)
		}
		if l != nil {
			report.Objects, lives, paged = append(report.Objects, l.Undeleted), append(lives, *l), paged || l.view != nil
			locks = append(locks, timeline.Lock{NS: layers.NamespaceObjects, Key: []byte(key), Exclusive: true})
		}
	}
	if dry || len(lives) == 0 {
		return report, nil
	}
	if paged { // whose pages may be more than the log has room for
		commit = func(ctx context.Context, bucket string, _ []timeline.Lock, fn func(*timeline.Tx) error) (wal.LSN, error) {
			return s.store.ExclusiveLarge(ctx, bucket, fn)
		}
	}
	var back []Undeleted
	undelete := func(tx *timeline.Tx) error {
		back = back[:0]
		for i := range lives {
			key := locks[i].Key
			if f, err := getObject(tx, key); f != nil || err != nil {
				if err != nil {
					return err
				}
				continue // somebody put it meanwhile
			}
			e := timeline.MergeEntry{NS: layers.NamespaceObjects, Key: key, Source: lives[i].view, Theirs: &lives[i].rec, Action: timeline.MergePut}
			if err := m.take(tx, &e); err != nil {
				return err
			}
			back = append(back, report.Objects[i])
		}
		return nil
	}
	var lsn wal.LSN
	err = s.withPages(ctx, bucket, func() (err error) {
		lsn, err = commit(ctx, bucket, locks, undelete)
		return err
	})
	if err != nil {
		return nil, err
	}
	report.LSN, report.Objects, report.Committed = lsn, back, len(back) > 0
	return report, nil
}

// Deleted returns the keys with one of the prefixes that were deleted within the window of a bucket and are not there
// now, at most MaxUndelete. What a move of the whole bucket took away is not among them. Cost follows what was written
// within the window.
//
// Errors: ErrTooManyKeys, timeline.ErrNoSuchBucket, layers.ErrCorrupt, those of ctx.
func (s *Service) Deleted(ctx context.Context, bucket string, prefixes []string) (keys []string, err error) {
	l, err := s.store.Log(ctx, bucket, 0, 0)
	if err != nil {
		return nil, err
	}
	since, _ := l.Since()
	l.Close()
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	for _, prefix := range prefixes {
		if keys, err = appendDeleted(ctx, keys, v, prefix, since); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func appendDeleted(ctx context.Context, keys []string, v *timeline.View, prefix string, since wal.LSN) (_ []string, err error) {
	c := v.Changes(layers.NamespaceObjects, []byte(prefix), bound(successor(prefix)), since)
	defer func() { err = errors.Join(err, c.Close()) }()
	for ok, n := c.First(), 1; ok; ok, n = c.Next(), n+1 {
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if c.Record().Kind != layers.KindTombstone {
			continue
		}
		if len(keys) == MaxUndelete {
			return nil, fmt.Errorf("more than %d keys were deleted, undelete fewer at once: %w", MaxUndelete, ErrTooManyKeys)
		}
		keys = append(keys, string(c.User()))
	}
	return keys, c.Err()
}

// life is what a key was before it was deleted.
type life struct {
	Undeleted
	rec  layers.Record
	view *timeline.View // of an object that was written in place, for its pages; else nil
}

func (l *life) close() {
	if l.view != nil {
		l.view.Close()
	}
}

// lastLife returns what a key was before it was deleted, whose body it holds; nil: it is there, or nobody knows.
func (s *Service) lastLife(ctx context.Context, bucket, key string, h *holds) (*life, error) {
	for at, first := wal.LSN(0), true; ; first = false {
		e, cut, err := s.historyStep(ctx, bucket, []byte(key), at)
		var gone *timeline.BelowHorizonError
		switch {
		case cut, !first && (errors.As(err, &gone) || errors.Is(err, timeline.ErrNoSuchBucket)), err == nil && (e == nil || first && !e.Deleted):
			return nil, nil
		case err != nil:
			return nil, err
		case e.Deleted:
			if at = e.LSN - 1; at == 0 {
				return nil, nil
			}
			continue
		}
		v, err := s.store.View(ctx, bucket, at)
		if err != nil {
			return nil, err
		}
		l := &life{Undeleted: Undeleted{Key: key, LSN: e.LSN, At: at, Size: e.Size, ETag: e.ETag}}
		if l.rec, err = v.Get(layers.NamespaceObjects, []byte(key)); err == nil && hasPages(l.rec.Meta) {
			l.view = v
			return l, nil
		}
		defer v.Close()
		if err == nil {
			err = h.add(s, l.rec.Body)
		}
		return l, err
	}
}
