package object

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// lifecycleRun is what a walk through one bucket by its rules goes by.
type lifecycleRun struct {
	set *Settings
	cal Calendar
	now time.Time
	// above is the LSN that versions must lie above to be ruled: zero, or the branch
	// point of a fork that has inherited its rules.
	above wal.LSN
}

// newLifecycleRun returns nil when no rule is in force.
func newLifecycleRun(set *Settings, info *timeline.Info, o *LifecycleOptions) *lifecycleRun {
	if !set.Lifecycle.enabled() {
		return nil
	}
	return &lifecycleRun{set: set, cal: o.Calendar, now: o.Now, above: set.Lifecycle.above(info)}
}

// enabled reports whether any rule is.
func (l *Lifecycle) enabled() bool {
	return l != nil && slices.ContainsFunc(l.Rules, func(r LifecycleRule) bool { return r.Status == "Enabled" })
}

// above returns the LSN that a version must lie above to be ruled in a bucket. Rules
// that a fork has inherited are for what was written to the fork itself.
func (l *Lifecycle) above(info *timeline.Info) wal.LSN {
	if l.Bucket == info.Bucket {
		return 0
	}
	return info.BranchLSN
}

// actionKind is what a rule does to one version.
type actionKind byte

const (
	endCurrent    actionKind = iota // delete without a version id
	removeVersion                   // for good
	changeClass
)

// action is what is due for one version of a key.
type action struct {
	kind  actionKind
	found *found
	class StorageClass
}

// maxActions bounds what one commit does to one key.
const maxActions = 256

// plan returns what is due for a key: removals, or else the end of the current version, or
// else changes of class; at most maxActions of them.
func (run *lifecycleRun) plan(r versionReader, key []byte) ([]action, error) {
	p := keyPlan{run: run, key: key}
	current, err := getObject(r, key)
	if err != nil {
		return nil, err
	}
	if current != nil {
		if err := p.visit(current); err != nil {
			return nil, err
		}
	}
	if run.set.Versioning != Unversioned {
		if err := p.visitVersions(r); err != nil {
			return nil, err
		}
	}
	if err := p.lonelyMarker(); err != nil {
		return nil, err
	}
	for _, list := range [][]action{p.removals, p.ends} {
		if len(list) > 0 {
			return list, nil
		}
	}
	return p.changes, nil
}

// keyPlan gathers what is due for one key, whose versions it sees from the newest on.
type keyPlan struct {
	run *lifecycleRun
	key []byte

	seen   int
	newest *found    // the current version or marker
	since  time.Time // when what comes next stopped to be the current one
	newer  int32     // versions seen that are not current, without markers

	removals, ends, changes []action
}

func (p *keyPlan) full() bool { return len(p.removals) >= maxActions || len(p.changes) >= maxActions }

func (p *keyPlan) visitVersions(r scanner) error {
	prefix := versionsOf(p.key)
	upper := append(prefix[:len(prefix)-1:len(prefix)-1], prefix[len(prefix)-1]+1)
	scan := r.Scan(layers.NamespaceVersions, stamped(prefix, wal.MaxLSN), upper)
	defer scan.Close()
	for ok := scan.First(); ok && !p.full(); ok = scan.Next() {
		_, lsn, err := splitVersionKey(scan.Record().Key.User())
		if err != nil {
			return err
		}
		f, err := asVersion(keep(scan.Record()), lsn)
		if err != nil {
			return err
		}
		if err := p.visit(f); err != nil {
			return err
		}
	}
	return scan.Err()
}

func (p *keyPlan) visit(f *found) error {
	p.seen++
	var err error
	if p.seen == 1 {
		p.newest = f
		if !f.marker() {
			err = p.current(f)
		}
	} else {
		err = p.noncurrent(f)
		if !f.marker() {
			p.newer++
		}
	}
	p.since = f.lsn.Time()
	return err
}

// subject returns what the rules judge f by; e is nil for a marker.
func (p *keyPlan) subject(f *found) (s subject, e *Entry, err error) {
	s.key = string(p.key)
	if f.marker() {
		return s, nil, nil
	}
	if e, err = f.entry(); err != nil {
		return s, nil, fmt.Errorf("object %q at %d: %w", p.key, f.lsn, err)
	}
	s.size, s.tags = e.Size, e.Tags
	return s, e, nil
}

func (p *keyPlan) ruled(f *found) bool { return f.lsn > p.run.above }

func (p *keyPlan) due(t time.Time) bool { return !p.run.now.Before(t) }

// current judges the current version.
func (p *keyPlan) current(f *found) error {
	if !p.ruled(f) {
		return nil
	}
	s, e, err := p.subject(f)
	if err != nil {
		return err
	}
	if x, ok := p.run.set.Lifecycle.Expiry(s.key, e, p.run.cal); ok && p.due(x.At) {
		p.ends = append(p.ends, action{kind: endCurrent, found: f})
		return nil
	}
	var to transitionTo
	for i := range p.run.set.Lifecycle.Rules {
		r := &p.run.set.Lifecycle.Rules[i]
		if len(r.Transitions) == 0 || !r.fits(&s) {
			continue
		}
		for _, t := range r.Transitions {
			at := time.Time{}
			if t.Date != nil {
				at = parseDate(*t.Date)
			} else {
				at = p.run.cal.due(f.lsn.Time(), *t.Days)
			}
			to.consider(p, r, *t.Class, at, e.Size)
		}
	}
	p.transit(f, &to)
	return nil
}

// noncurrent judges a version or marker that another has replaced.
func (p *keyPlan) noncurrent(f *found) error {
	if !p.ruled(f) {
		return nil
	}
	s, e, err := p.subject(f)
	if err != nil {
		return err
	}
	var to transitionTo
	for i := range p.run.set.Lifecycle.Rules {
		r := &p.run.set.Lifecycle.Rules[i]
		if r.NoncurrentExpiration == nil && len(r.NoncurrentTransitions) == 0 || !p.fits(r, &s, e) {
			continue
		}
		if x := r.NoncurrentExpiration; x != nil && p.due(p.run.cal.due(p.since, *x.Days)) && (x.Newer == nil || p.newer >= *x.Newer) {
			if e == nil || !e.Lock.Locked(p.run.now) {
				p.removals = append(p.removals, action{kind: removeVersion, found: f})
				return nil
			}
		}
		if e == nil {
			continue
		}
		for _, t := range r.NoncurrentTransitions {
			if t.Newer == nil || p.newer >= *t.Newer {
				to.consider(p, r, *t.Class, p.run.cal.due(p.since, *t.Days), e.Size)
			}
		}
	}
	p.transit(f, &to)
	return nil
}

// fits is LifecycleRule.fits; a marker, which has neither tags nor a size, fits only rules that
// ask for none.
func (p *keyPlan) fits(r *LifecycleRule, s *subject, e *Entry) bool {
	if e == nil {
		if c := r.conditions(); len(c.tags) > 0 || c.sized() {
			return false
		}
	}
	return r.fits(s)
}

// lonelyMarker judges a current marker that hides nothing any more.
func (p *keyPlan) lonelyMarker() error {
	if p.seen != 1 || !p.newest.marker() || !p.ruled(p.newest) {
		return nil
	}
	s, _, err := p.subject(p.newest)
	if err != nil {
		return err
	}
	for i := range p.run.set.Lifecycle.Rules {
		r := &p.run.set.Lifecycle.Rules[i]
		x := r.Expiration
		if x == nil || !p.fits(r, &s, nil) {
			continue
		}
		if x.DeleteMarker != nil && *x.DeleteMarker || x.DeleteMarker == nil && p.due(x.at(p.newest.lsn.Time(), p.run.cal)) {
			p.removals = append(p.removals, action{kind: removeVersion, found: p.newest})
			return nil
		}
	}
	return nil
}

// transitionTo is the class that a version should have by the rules: of what is due,
// what was due last.
type transitionTo struct {
	class StorageClass
	at    time.Time
	any   bool
}

// smallBytes is the size below which objects change no class by default, where that was asked for.
const smallBytes = 128 << 10

func (t *transitionTo) consider(p *keyPlan, r *LifecycleRule, name string, at time.Time, size uint64) {
	class, err := ParseStorageClass(name)
	if err != nil || !p.due(at) {
		return
	}
	minimum := p.run.set.Lifecycle.MinimumSize
	small := minimum == minimumAll || minimum == minimumVaries && class != Glacier && class != DeepArchive
	if c := r.conditions(); small && size < smallBytes && !c.sized() {
		return
	}
	if !t.any || at.After(t.at) || at.Equal(t.at) && coldness(class) > coldness(t.class) {
		*t = transitionTo{class, at, true}
	}
}

// coldness orders the classes: objects go over to a colder one only.
func coldness(c StorageClass) int { return slices.Index(transitionClasses, c) }

func (p *keyPlan) transit(f *found, to *transitionTo) {
	if to.any && coldness(to.class) > coldness(f.head.class) {
		p.changes = append(p.changes, action{kind: changeClass, found: f, class: to.class})
	}
}

// ranges returns the ranges of keys that rules of objects are for: sorted, disjoint, at most
// one per prefix. An empty upper bound is none.
func (run *lifecycleRun) ranges() [][2]string {
	var prefixes []string
	for i := range run.set.Lifecycle.Rules {
		r := &run.set.Lifecycle.Rules[i]
		if r.Status != "Enabled" || r.Expiration == nil && r.NoncurrentExpiration == nil && len(r.Transitions)+len(r.NoncurrentTransitions) == 0 {
			continue
		}
		longest := ""
		for _, p := range r.conditions().prefixes {
			if len(p) > len(longest) {
				longest = p
			}
		}
		prefixes = append(prefixes, longest)
	}
	slices.Sort(prefixes)
	var all [][2]string
	for i, p := range prefixes {
		if i > 0 && len(all) > 0 && bytes.HasPrefix([]byte(p), []byte(all[len(all)-1][0])) {
			continue // within the one before
		}
		all = append(all, [2]string{p, successor(p)})
	}
	return all
}
