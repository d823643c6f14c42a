package object

import (
	"math"
	"strings"
	"time"
)

// conditions is a filter taken apart: all of them must hold.
type conditions struct {
	prefixes []string
	tags     []Field
	greater  int64 // -1: any
	less     int64 // math.MaxInt64: any
	complete bool  // no tag lacked key or value
}

func (c *conditions) sized() bool { return c.greater >= 0 || c.less < math.MaxInt64 }

// conditions takes the filter of a rule apart.
func (r *LifecycleRule) conditions() conditions {
	c := conditions{greater: -1, less: math.MaxInt64, complete: true}
	prefix := func(p *string) {
		if p != nil && *p != "" {
			c.prefixes = append(c.prefixes, *p)
		}
	}
	tag := func(t *LifecycleTag) {
		if t.Key == nil || t.Value == nil {
			c.complete = false
			return
		}
		c.tags = append(c.tags, Field{*t.Key, *t.Value})
	}
	sizes := func(greater, less *int64) {
		if greater != nil {
			c.greater = max(c.greater, *greater)
			if *greater < 0 {
				c.greater = math.MinInt64
			}
		}
		if less != nil {
			c.less = min(c.less, *less)
		}
	}
	prefix(r.Prefix)
	if f := r.Filter; f != nil {
		prefix(f.Prefix)
		sizes(f.GreaterThan, f.LessThan)
		if f.Tag != nil {
			tag(f.Tag)
		}
		if a := f.And; a != nil {
			prefix(a.Prefix)
			sizes(a.GreaterThan, a.LessThan)
			for i := range a.Tags {
				tag(&a.Tags[i])
			}
		}
	}
	return c
}

// subject is what a rule may be for.
type subject struct {
	key  string
	size uint64
	tags []Field
}

// fits reports whether the rule is for the object.
func (r *LifecycleRule) fits(s *subject) bool {
	if r.Status != "Enabled" {
		return false
	}
	c := r.conditions()
	return c.fits(s)
}

func (c *conditions) fits(s *subject) bool {
	for _, p := range c.prefixes {
		if !strings.HasPrefix(s.key, p) {
			return false
		}
	}
	if int64(s.size) <= c.greater || int64(s.size) >= c.less {
		return false
	}
	for _, want := range c.tags {
		if !hasTag(s.tags, want) {
			return false
		}
	}
	return true
}

func hasTag(tags []Field, want Field) bool {
	for _, t := range tags {
		if t == want {
			return true
		}
	}
	return false
}

// Calendar says how long a day of a rule is. S3's days have 24 hours and end at
// midnight GMT; shorter ones, for tests, end when they are over.
type Calendar struct{ Day time.Duration }

// due returns when something that began at a time has lasted so many days.
func (c Calendar) due(since time.Time, days int32) time.Time {
	const day = 24 * time.Hour
	if c.Day != day {
		return since.Add(time.Duration(days) * c.Day)
	}
	t := since.Add(time.Duration(days) * day).UTC()
	if midnight := t.Truncate(day); !midnight.Equal(t) {
		t = midnight.Add(day)
	}
	return t
}

// Expiry is when a rule will end an object.
type Expiry struct {
	At     time.Time
	RuleID string
}

// ExpiryOf returns which rule will end an object of a bucket first, and when by days of 24
// hours; ok is false when none will.
func (s *Service) ExpiryOf(bucket, key string, set *Settings, e *Entry) (x Expiry, ok bool) {
	if !set.Lifecycle.enabled() {
		return x, false
	}
	info, err := s.store.Bucket(bucket, 0)
	if err != nil || e.LSN <= set.Lifecycle.above(&info) {
		return x, false
	}
	return set.Lifecycle.Expiry(key, e, Calendar{24 * time.Hour})
}

// AbortOf returns which rule will end an upload of a key first, and when by days of 24 hours; ok
// is false when none will.
func (l *Lifecycle) AbortOf(u *Upload) (x Expiry, ok bool) {
	if l == nil {
		return x, false
	}
	for i := range l.Rules {
		r := &l.Rules[i]
		if r.AbortUploads == nil || !r.fits(&subject{key: u.Key}) {
			continue
		}
		at := Calendar{24 * time.Hour}.due(u.Initiated(), *r.AbortUploads.Days)
		if !ok || at.Before(x.At) {
			x, ok = Expiry{at, *r.ID}, true
		}
	}
	return x, ok
}

// Expiry returns which rule will end the current version of an object first, and
// when by the calendar; ok is false when none will.
func (l *Lifecycle) Expiry(key string, e *Entry, cal Calendar) (x Expiry, ok bool) {
	if l == nil {
		return x, false
	}
	s := subject{key, e.Size, e.Tags}
	for i := range l.Rules {
		r := &l.Rules[i]
		if r.Expiration == nil || r.Expiration.DeleteMarker != nil || !r.fits(&s) {
			continue
		}
		at := r.Expiration.at(e.Modified(), cal)
		if !ok || at.Before(x.At) {
			x, ok = Expiry{at, *r.ID}, true
		}
	}
	return x, ok
}

// at returns when the expiration is due for what was made at a time. It is one of
// days or of a date.
func (x *Expiration) at(made time.Time, cal Calendar) time.Time {
	if x.Date != nil {
		return parseDate(*x.Date)
	}
	return cal.due(made, *x.Days)
}
