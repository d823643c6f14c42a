package pageserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// SnapshotRule has snapshots taken of a bucket at regular times, and deletes them again. Durations are such as 90m or 24h.
type SnapshotRule struct {
	Name     string `json:"name"`                // a-z, 0-9 and -; snapshots are named like hourly-20261129T180000Z
	Every    string `json:"every"`               // whole minutes: at each multiple of it since 1970, UTC
	KeepFor  string `json:"keep_for,omitempty"`  // when they expire
	KeepLast int    `json:"keep_last,omitempty"` // how many there are at most; one of the two is needed
}

func ruleAnswers(rules []object.SnapshotRule) (list []SnapshotRule) {
	for _, r := range rules {
		a := SnapshotRule{Name: r.Name, Every: durationText(r.Every), KeepLast: r.KeepLast}
		if r.KeepFor != 0 {
			a.KeepFor = durationText(r.KeepFor)
		}
		list = append(list, a)
	}
	return list
}

// snapshotRules reads the durations of rules; package object checks the rest.
func snapshotRules(in []SnapshotRule) (rules []object.SnapshotRule, err error) {
	for _, r := range in {
		rule := object.SnapshotRule{Name: r.Name, KeepLast: r.KeepLast}
		if rule.Every, err = time.ParseDuration(r.Every); err != nil {
			return nil, invalid("every of a rule for snapshots must be a duration such as 1h")
		}
		if r.KeepFor != "" {
			if rule.KeepFor, err = time.ParseDuration(r.KeepFor); err != nil || rule.KeepFor == 0 {
				return nil, invalid("keep_for of a rule for snapshots must be a duration such as 48h")
			}
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// scheduleEvery is how often it is looked for snapshots that are due. A snapshot keeps the moment
// that it is for, however late it is taken.
const scheduleEvery = 20 * time.Second

// scheduleCounters are what the worker below did since the start.
type scheduleCounters struct{ taken, removed, errors atomic.Int64 }

func (c *scheduleCounters) write(w io.Writer) {
	metrics.WriteCounterUint64(w, "stemma_scheduled_snapshots_taken_total", uint64(c.taken.Load()))
	metrics.WriteCounterUint64(w, "stemma_scheduled_snapshots_removed_total", uint64(c.removed.Load()))
	metrics.WriteCounterUint64(w, "stemma_scheduled_snapshots_errors_total", uint64(c.errors.Load()))
}

// followSchedules is the worker that takes the snapshots that are due, until the jobs end.
func (s *Server) followSchedules() {
	defer s.jobs.end()
	tick := time.NewTicker(scheduleEvery)
	defer tick.Stop()
	f := scheduler{s: s, done: map[scheduled]time.Time{}}
	for {
		if err := f.follow(s.jobs.ctx, time.Now()); err != nil && s.jobs.ctx.Err() == nil {
			s.schedules.errors.Add(1)
			s.log.Warn("scheduled snapshots not taken, trying again", "err", err)
		}
		select {
		case <-tick.C:
		case <-s.jobs.ctx.Done():
			return
		}
	}
}

// scheduler takes the snapshots that are due. Not safe for concurrent use.
type scheduler struct {
	s    *Server
	done map[scheduled]time.Time // the moment that was last done
	// Up to looked no rule was due before next: with nothing committed since, there is nothing to look for.
	looked wal.LSN
	next   time.Time
	seen   int // buckets that were looked at
}

// scheduled is a rule as it is: once it is changed it is looked into at once.
type scheduled struct {
	bucket timeline.BucketID
	rule   object.SnapshotRule
}

// follow goes once through the buckets that have rules. One that fails does not keep the others from being looked into.
func (f *scheduler) follow(ctx context.Context, now time.Time) error {
	visible := f.s.store.Visible()
	if visible == f.looked && now.Before(f.next) {
		return nil
	}
	f.looked = 0
	p := pauser{ctx: ctx, share: f.s.store.BackgroundShare, since: time.Now()}
	found := map[scheduled]time.Time{}
	var errs []error
	const page = 1000
	for after := timeline.BucketID(0); ; {
		infos := f.s.store.Marked(after, page)
		f.seen += len(infos)
		for i := range infos {
			if err := f.followBucket(ctx, &infos[i], now, found); err != nil && len(errs) < 10 {
				errs = append(errs, err)
			}
		}
		if len(infos) < page {
			f.done = found // what has no rule any more is forgotten
			if len(errs) == 0 {
				f.looked, f.next = visible, now.Add(object.MaxRuleEvery)
				for id, due := range found {
					if due = due.Add(id.rule.Every); due.Before(f.next) {
						f.next = due
					}
				}
			}
			return errors.Join(errs...)
		}
		after = infos[len(infos)-1].Bucket
		if err := p.pause(); err != nil {
			return err
		}
	}
}

func (f *scheduler) followBucket(ctx context.Context, info *timeline.Info, now time.Time, found map[scheduled]time.Time) error {
	attrs, err := f.s.objects.Attributes(info)
	if err != nil {
		return err
	}
	var errs []error
	for i := range attrs.Snapshots {
		r := &attrs.Snapshots[i]
		id, due := scheduled{info.Bucket, *r}, r.Due(now)
		if f.done[id].Equal(due) {
			found[id] = due
			continue
		}
		err := f.take(ctx, info, r, due)
		if err == nil {
			err = f.prune(ctx, info, r)
		}
		switch {
		case err == nil:
			found[id] = due
		case !errors.Is(err, timeline.ErrNoSuchBucket): // or it was deleted meanwhile
			errs = append(errs, fmt.Errorf("rule %q of bucket %q: %w", r.Name, info.Name, err))
		}
	}
	return errors.Join(errs...)
}

// take takes the snapshot of a moment, unless it was taken, has expired, or the bucket was not there yet.
func (f *scheduler) take(ctx context.Context, info *timeline.Info, r *object.SnapshotRule, due time.Time) error {
	at := wal.LSN(due.UnixNano())
	if at < info.Created {
		return nil
	}
	expires := wal.LSN(0)
	if r.KeepFor != 0 {
		if expires = at + wal.LSN(r.KeepFor); expires <= f.s.store.Due() {
			return nil
		}
	}
	new := timeline.NewSnapshot{Buckets: []string{info.Name}, Only: info.Bucket, At: at, SnapshotSettings: timeline.SnapshotSettings{
		Name: r.SnapshotName(due), Properties: timeline.Properties{Expires: expires},
	}}
	_, err := f.s.store.Snapshot(ctx, new)
	var gone *timeline.BelowHorizonError
	if errors.As(err, &gone) {
		new.At = 0 // better a later moment than none
		_, err = f.s.store.Snapshot(ctx, new)
	}
	switch {
	case errors.Is(err, timeline.ErrSnapshotExists):
		return nil
	case err == nil:
		f.s.schedules.taken.Add(1)
	}
	return err
}

// prune deletes the oldest snapshots of a rule that are too many.
func (f *scheduler) prune(ctx context.Context, info *timeline.Info, r *object.SnapshotRule) error {
	if r.KeepLast == 0 {
		return nil
	}
	var old []timeline.SnapshotID
	kept := 0
	for after := (timeline.SnapshotCursor{}); ; {
		const page = 1000
		list := f.s.store.Snapshots(info.Bucket, after, page)
		for i := range list {
			switch snap := &list[i]; {
			case snap.Held || !r.Took(snap.Name):
			case kept < r.KeepLast:
				kept++
			default:
				old = append(old, snap.ID)
			}
		}
		if len(list) < page {
			break
		}
		after = list[page-1].Cursor()
	}
	for len(old) > 0 {
		n := min(len(old), 1000)
		if _, err := f.s.store.DeleteSnapshots(ctx, old[:n]...); err != nil {
			return err
		}
		f.s.schedules.removed.Add(int64(n))
		old = old[n:]
	}
	return nil
}
