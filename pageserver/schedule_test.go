package pageserver

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// ruled gives a bucket a rule that is due every second, which no client can.
func ruled(t *testing.T, s *Server, bucket, rule string) {
	t.Helper()
	attrs := append([]byte{1}, fmt.Sprintf(`{"snapshots":[%s]}`, rule)...)
	if _, err := s.store.SetProperties(t.Context(), bucket, func(p timeline.Properties) (timeline.Properties, error) {
		p.Attrs = attrs
		return p, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Snapshots are taken of the moments that are due, once, and no more of them are kept than the rule says.
func TestScheduledSnapshots(t *testing.T) {
	s := started(t)
	var made MadeBucket
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, &made)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"other"}`, &MadeBucket{})
	ruled(t, s, "data", `{"name":"fast","every":1000000000,"keep_last":2}`)
	f := scheduler{s: s, done: map[scheduled]time.Time{}}
	follow := func(now time.Time) {
		t.Helper()
		if err := f.follow(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	names := func() (list []string) {
		t.Helper()
		var page SnapshotsAnswer
		mustAsk(t, s, "GET", "/v1/buckets/data/snapshots", "", &page)
		for _, snap := range page.Snapshots {
			list = append(list, snap.Name)
		}
		return list
	}
	if follow(made.Created.Add(-time.Second)); len(names()) != 0 {
		t.Errorf("snapshots of a time before the bucket: %q", names())
	}
	putObject(t, s, "data", "k", "before")
	due := time.Now().Truncate(time.Second).Add(time.Second)
	for range 4 {
		for s.store.Due() < wal.LSN(due.UnixNano()) {
			time.Sleep(5 * time.Millisecond)
		}
		putObject(t, s, "data", "k", "after")
		follow(due)
		follow(due.Add(time.Second / 2))
		due = due.Add(time.Second)
	}
	list := names()
	if len(list) != 2 {
		t.Fatalf("snapshots %q, want the last two", list)
	}
	snap, err := s.store.SnapshotNamed(timeline.BucketID(made.ID), list[0])
	if err != nil || snap.LSN.Time().Nanosecond() != 0 {
		t.Errorf("it keeps %v, %v, want a whole second", snap.LSN.Time(), err)
	}
	// With nothing committed, buckets are looked at when a rule is due again, and not before.
	follow(due.Add(-time.Second))
	if f.looked != s.store.Visible() || !f.next.Equal(due) {
		t.Errorf("looked up to %d of %d, next at %v, want %v", f.looked, s.store.Visible(), f.next, due)
	}
	// Another scheduler, as after a restart, takes none again.
	f = scheduler{s: s, done: map[scheduled]time.Time{}}
	if follow(due.Add(-time.Second)); !slices.Equal(names(), list) {
		t.Errorf("snapshots %q, want %q", names(), list)
	}
	if taken, removed := s.schedules.taken.Load(), s.schedules.removed.Load(); taken != 4 || removed != 2 {
		t.Errorf("%d taken, %d removed", taken, removed)
	}
}

// Among many buckets with attributes only those with rules are looked at, after a restart too.
func TestScheduleLooksAtBucketsWithRules(t *testing.T) {
	const forks = 3000
	fs, lines := storefs.NewMem(), &logLines{}
	serve := func(do func(s *Server)) {
		t.Helper()
		s, err := Start(options(fs, lines))
		if err != nil {
			t.Fatal(err)
		}
		defer shutdown(t, s)
		do(s)
		f := scheduler{s: s, done: map[scheduled]time.Time{}}
		if err := f.follow(t.Context(), time.Now()); err != nil || f.seen != 2 || len(f.done) != 2 {
			t.Errorf("%d buckets looked at, %d rules followed, %v; want 2", f.seen, len(f.done), err)
		}
	}
	serve(func(s *Server) {
		mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data","labels":{"snapshots":"none"}}`, &MadeBucket{})
		mustAsk(t, s, "POST", "/v1/buckets/data/forks", fmt.Sprintf(`{"count":%d,"name_prefix":"fork-","labels":{"snapshots":"[{"}}`, forks), &ForkAnswer{})
		for _, name := range []string{"data", "fork-0007", "fork-0070"} {
			mustAsk(t, s, "PATCH", "/v1/buckets/"+name, `{"snapshots":[{"name":"hourly","every":"1h","keep_last":1}]}`, &Bucket{})
		}
		mustAsk(t, s, "PATCH", "/v1/buckets/fork-0007", `{"snapshots":[]}`, &Bucket{})
	})
	serve(func(*Server) {})
	if lines.String() != "" {
		t.Errorf("logged: %s", lines)
	}
}

// A rule that is changed holds at once, not from the next moment on.
func TestChangedSnapshotRule(t *testing.T) {
	s := started(t)
	var made MadeBucket
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, &made)
	f := scheduler{s: s, done: map[scheduled]time.Time{}}
	now := time.Now().Truncate(time.Second)
	for i := range 3 {
		now = now.Add(time.Second)
		for s.store.Due() < wal.LSN(now.UnixNano()) {
			time.Sleep(5 * time.Millisecond)
		}
		if ruled(t, s, "data", `{"name":"fast","every":1000000000,"keep_last":3}`); i == 0 {
			putObject(t, s, "data", "k", "x")
		}
		if err := f.follow(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	ruled(t, s, "data", `{"name":"fast","every":1000000000,"keep_last":1}`)
	if err := f.follow(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if list := s.store.Snapshots(timeline.BucketID(made.ID), timeline.SnapshotCursor{}, 10); len(list) != 1 {
		t.Errorf("%d snapshots, want the last: %+v", len(list), list)
	}
}

// A bucket that got the name meanwhile gets no snapshot by the rule of the one that had it.
func TestScheduledSnapshotOfRenamed(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, &MadeBucket{})
	info, err := s.objects.Bucket("data", 0)
	if err != nil {
		t.Fatal(err)
	}
	mustAsk(t, s, "POST", "/v1/buckets/data/rename", `{"name":"old"}`, nil)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, &MadeBucket{})
	f := scheduler{s: s}
	r := &object.SnapshotRule{Name: "fast", Every: time.Minute, KeepLast: 1}
	if err := f.take(t.Context(), &info, r, time.Now()); !errors.Is(err, timeline.ErrNoSuchBucket) {
		t.Errorf("%v, want ErrNoSuchBucket", err)
	}
	for _, name := range []string{"data", "old"} {
		var page SnapshotsAnswer
		if mustAsk(t, s, "GET", "/v1/buckets/"+name+"/snapshots", "", &page); len(page.Snapshots) != 0 {
			t.Errorf("%s has %+v", name, page.Snapshots)
		}
	}
}

func TestSnapshotRulesByTheAPI(t *testing.T) {
	s := started(t)
	var b Bucket
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data","snapshots":[{"name":"hourly","every":"1h","keep_for":"48h"}]}`, &MadeBucket{})
	mustAsk(t, s, "GET", "/v1/buckets/data", "", &b)
	if len(b.Snapshots) != 1 || b.Snapshots[0] != (SnapshotRule{Name: "hourly", Every: "1h", KeepFor: "48h"}) {
		t.Errorf("%+v", b.Snapshots)
	}
	mustAsk(t, s, "POST", "/v1/buckets/data/forks", `{"name":"fork"}`, &ForkAnswer{})
	b = Bucket{}
	if mustAsk(t, s, "GET", "/v1/buckets/fork", "", &b); b.Snapshots != nil {
		t.Errorf("a fork has %+v", b.Snapshots)
	}
	mustAsk(t, s, "PATCH", "/v1/buckets/data", `{"snapshots":[]}`, &b)
	b = Bucket{}
	if mustAsk(t, s, "GET", "/v1/buckets/data", "", &b); b.Snapshots != nil {
		t.Errorf("%+v", b.Snapshots)
	}
	for _, rules := range []string{`[{"name":"x","every":"1h"}]`, `[{"name":"x","every":"soon","keep_last":1}]`, `[{"name":"x","every":"1h","keep_for":"0"}]`} {
		if status, e := ask(t, s, rootKey, "PATCH", "/v1/buckets/data", `{"snapshots":`+rules+`}`, nil); status != 400 || e.Code != "InvalidArgument" {
			t.Errorf("%s: %d %+v", rules, status, e)
		}
	}
}
