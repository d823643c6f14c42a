package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/timeline"
)

// LifecycleOptions says how RunLifecycle runs.
type LifecycleOptions struct {
	Calendar Calendar
	// Now is what days and dates are compared with.
	Now time.Time
	// Pause is called between pages of work, if set; its error ends the run.
	Pause func() error
}

// LifecycleReport is what a run did.
type LifecycleReport struct {
	Scanned  int64 // keys looked at
	Expired  int64 // current versions
	Removed  int64 // versions and delete markers, for good
	Changed  int64 // storage classes
	Aborted  int64 // uploads
	HasRules bool  // some rule is in force
}

const (
	lifecyclePage  = 1000 // keys between two views of the bucket
	lifecycleBatch = 64   // keys of one commit
)

// RunLifecycle does what is due by the lifecycle rules of a bucket, page by page, in commits of
// a few keys. What is due is judged again in the commit that does it, so that what
// was written or locked meanwhile stays.
//
// Errors: timeline.ErrNoSuchBucket, ErrCorrupt, layers.ErrCorrupt, those of Pause and of a
// commit; what was done before stays done.
func (s *Service) RunLifecycle(ctx context.Context, bucket string, o *LifecycleOptions) (LifecycleReport, error) {
	w := lifecycleWalk{s: s, bucket: bucket, o: o}
	if err := w.run(ctx); err != nil {
		return w.report, fmt.Errorf("lifecycle of bucket %q: %w", bucket, err)
	}
	return w.report, nil
}

type lifecycleWalk struct {
	s      *Service
	bucket string
	o      *LifecycleOptions
	report LifecycleReport
}

func (w *lifecycleWalk) run(ctx context.Context) error {
	set, err := w.s.Settings(ctx, w.bucket, 0)
	if err != nil || !set.Lifecycle.enabled() {
		return err
	}
	w.report.HasRules = true
	for _, r := range (&lifecycleRun{set: set}).ranges() {
		for _, ns := range []layers.Namespace{layers.NamespaceObjects, layers.NamespaceVersions} {
			if ns == layers.NamespaceVersions && set.Versioning == Unversioned {
				continue
			}
			if err := w.walk(ctx, ns, r[0], r[1]); err != nil {
				return err
			}
		}
	}
	return w.abortUploads(ctx, set)
}

// walk goes through the keys of [lower, upper) that have records in ns.
func (w *lifecycleWalk) walk(ctx context.Context, ns layers.Namespace, lower, upper string) error {
	from, to := []byte(lower), bound(upper)
	if ns == layers.NamespaceVersions {
		from = appendEscaped([]byte{}, lower)
		if upper != "" {
			to = appendEscaped(nil, upper)
		}
	}
	for from != nil {
		due, next, err := w.page(ctx, ns, from, to)
		if err != nil {
			return err
		}
		for len(due) > 0 {
			n := min(len(due), lifecycleBatch)
			if err := w.commit(ctx, due[:n]); err != nil {
				return err
			}
			due = due[n:]
		}
		if from = next; w.o.Pause != nil {
			if err := w.o.Pause(); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyWalk is a scan of all that a bucket has, or of what was written to a fork.
type keyWalk interface {
	SeekGE(user []byte) bool
	Next() bool
	Err() error
	Record() *layers.Record
}

// page looks at some keys from a key of ns on, and returns those for which something
// is due, and where the next page begins; nil: nowhere.
func (w *lifecycleWalk) page(ctx context.Context, ns layers.Namespace, from, to []byte) (due [][]byte, next []byte, err error) {
	v, err := w.s.store.View(ctx, w.bucket, 0)
	if err != nil {
		return nil, nil, err
	}
	defer v.Close()
	set, err := w.s.settings(v)
	if err != nil {
		return nil, nil, err
	}
	info := v.Info()
	run := newLifecycleRun(set, &info, w.o)
	if run == nil {
		return nil, nil, nil
	}
	var it keyWalk
	if run.above == 0 {
		scan := v.Scan(ns, from, to)
		defer scan.Close()
		it = scan
	} else {
		it = v.Changes(ns, from, to, run.above)
	}
	ok := it.SeekGE(from)
	for n := 0; ok; n++ {
		user := it.Record().Key.User()
		if n == lifecyclePage {
			return due, bytes.Clone(user), nil
		}
		key := user
		if ns == layers.NamespaceVersions {
			prefix, _, err := splitVersionKey(user)
			if err != nil {
				return nil, nil, err
			}
			if key, err = unescape(prefix); err != nil {
				return nil, nil, err
			}
		}
		w.report.Scanned++
		actions, err := run.plan(v, key)
		if err != nil {
			return nil, nil, err
		}
		if len(actions) > 0 {
			due = append(due, bytes.Clone(key))
		}
		if ns == layers.NamespaceVersions { // past the other versions of the key
			after := versionsOf(key)
			after[len(after)-1]++
			ok = it.SeekGE(after)
		} else {
			ok = it.Next()
		}
	}
	return due, nil, it.Err()
}

// commit does what is due for some keys, in as many commits as it takes.
func (w *lifecycleWalk) commit(ctx context.Context, keys [][]byte) error {
	for len(keys) > 0 {
		c := lifecycleCommit{w: w}
		if err := c.commit(ctx, keys); err != nil {
			return err
		}
		w.report.Expired += c.did[endCurrent]
		w.report.Removed += c.did[removeVersion]
		w.report.Changed += c.did[changeClass]
		keys = c.again
	}
	return nil
}

// lifecycleCommit is one commit for some keys.
type lifecycleCommit struct {
	w     *lifecycleWalk
	holds holds
	did   [changeClass + 1]int64
	again [][]byte // keys for which more is due
}

func (c *lifecycleCommit) commit(ctx context.Context, keys [][]byte) error {
	locks := make([]timeline.Lock, len(keys))
	for i := range keys {
		locks[i] = timeline.Lock{NS: layers.NamespaceObjects, Key: keys[i], Exclusive: true}
	}
	defer c.holds.letGo()
	_, err := c.w.s.store.Update(ctx, c.w.bucket, locks, func(tx *timeline.Tx) error {
		c.holds.letGo()
		c.did, c.again = [changeClass + 1]int64{}, nil
		set, err := c.w.s.settings(tx)
		if err != nil {
			return err
		}
		info := tx.Info()
		run := newLifecycleRun(set, &info, c.w.o)
		if run == nil {
			return nil
		}
		for i := range keys {
			if tx.Bytes() > deleteBytes {
				c.again = append(c.again, keys[i:]...)
				return nil
			}
			if err := c.key(tx, run, keys[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// key does what is due for one key.
func (c *lifecycleCommit) key(tx *timeline.Tx, run *lifecycleRun, key []byte) error {
	actions, err := run.plan(tx, key)
	if err != nil || len(actions) == 0 {
		return err
	}
	kw := &keyWriter{s: c.w.s, tx: tx, set: run.set, holds: &c.holds, key: key}
	for _, a := range actions {
		switch a.kind {
		case endCurrent:
			err = kw.deleteCurrent()
		case removeVersion:
			kw.remove(a.found)
		case changeClass:
			var e *Entry
			if e, err = a.found.entry(); err == nil {
				e.StorageClass = a.class
				err = kw.change(&a.found.rec, e)
			}
		}
		if err != nil {
			return err
		}
		c.did[a.kind]++
	}
	if run.set.Versioning != Unversioned {
		c.again = append(c.again, key) // one kind of action at a time
	}
	return kw.settle()
}

// abortUploads ends the uploads that are too old by the rules.
func (w *lifecycleWalk) abortUploads(ctx context.Context, set *Settings) error {
	for i := range set.Lifecycle.Rules {
		r := &set.Lifecycle.Rules[i]
		if r.Status != "Enabled" || r.AbortUploads == nil {
			continue
		}
		in := ListUploadsInput{Max: MaxListKeys}
		c := r.conditions()
		for _, p := range c.prefixes {
			if len(p) > len(in.Prefix) {
				in.Prefix = p
			}
		}
		for {
			page, err := w.s.ListUploads(ctx, w.bucket, &in)
			if err != nil {
				return err
			}
			for j := range page.Uploads {
				u := &page.Uploads[j]
				if !c.fits(&subject{key: u.Key}) || w.o.Now.Before(w.o.Calendar.due(u.Initiated(), *r.AbortUploads.Days)) {
					continue
				}
				switch err := w.s.AbortUpload(ctx, w.bucket, u.Key, u.ID); {
				case err == nil:
					w.report.Aborted++
				case !errors.Is(err, ErrNoSuchUpload):
					return err
				}
			}
			if !page.Truncated {
				break
			}
			in.KeyMarker, in.UploadIDMarker = page.NextKeyMarker, page.NextUploadIDMarker
		}
	}
	return nil
}
