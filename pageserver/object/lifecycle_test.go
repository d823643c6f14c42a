package object

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

func ptr[T any](v T) *T { return &v }

// rules gives a bucket lifecycle rules, each enabled and for all objects unless it says otherwise.
func (h *harness) rules(bucket string, rules ...LifecycleRule) {
	h.t.Helper()
	l := &Lifecycle{Rules: rules}
	for i := range rules {
		if rules[i].Status == "" {
			rules[i].Status = "Enabled"
		}
		if rules[i].Filter == nil {
			rules[i].Filter = &LifecycleFilter{}
		}
	}
	if err := l.Complete(); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.UpdateSettings(h.ctx, bucket, func(set *Settings) error {
		set.Lifecycle = l
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
}

// age follows the rules of a bucket as they are after a time.
func (h *harness) age(bucket string, after time.Duration) LifecycleReport {
	h.t.Helper()
	r, err := h.RunLifecycle(h.ctx, bucket, &LifecycleOptions{Calendar: Calendar{day}, Now: h.now().Add(after)})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *harness) putTagged(bucket, key string, size int, tags ...Field) *Entry {
	h.t.Helper()
	e, err := h.Put(h.ctx, bucket, key, &PutInput{Body: strings.NewReader(strings.Repeat("x", size)), Size: int64(size), Tags: tags})
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// classes lists the keys of a bucket with their class, if it is not STANDARD.
func (h *harness) classes(bucket string) string {
	h.t.Helper()
	list, err := h.List(h.ctx, bucket, &ListInput{MaxKeys: MaxListKeys})
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for _, e := range list.Entries {
		if e.StorageClass != Standard {
			e.Key += "=" + e.StorageClass.String()
		}
		all = append(all, e.Key)
	}
	return strings.Join(all, " ")
}

// versionsLeft lists the versions of a bucket: key, and whether it is a marker.
func (h *harness) versionsLeft(bucket string) string {
	h.t.Helper()
	list, err := h.ListVersions(h.ctx, bucket, &ListVersionsInput{MaxKeys: MaxListKeys})
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for _, e := range list.Entries {
		k := e.Key
		if e.Marker {
			k += "-marker"
		}
		if e.StorageClass != Standard {
			k += "=" + e.StorageClass.String()
		}
		all = append(all, k)
	}
	return strings.Join(all, " ")
}

func (h *harness) expect(got, want string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("got %q, want %q", got, want)
	}
}

func TestLifecycleExpires(t *testing.T) {
	h := start(t)
	tag := Field{"k", "v"}
	for _, key := range []string{"a/1", "a/2", "b/1"} {
		h.putTagged("home", key, 1)
	}
	h.putTagged("home", "tagged", 1, tag, Field{"l", "w"})
	h.putTagged("home", "big", 100_000)
	h.rules("home",
		LifecycleRule{Filter: &LifecycleFilter{Prefix: ptr("a/")}, Expiration: &Expiration{Days: ptr(int32(1))}},
		LifecycleRule{Filter: &LifecycleFilter{Tag: &LifecycleTag{&tag.Key, &tag.Value}}, Expiration: &Expiration{Days: ptr(int32(3))}},
		LifecycleRule{Filter: &LifecycleFilter{GreaterThan: ptr(int64(1000))}, Expiration: &Expiration{Days: ptr(int32(5))}},
		LifecycleRule{Filter: &LifecycleFilter{Prefix: ptr("b/")}, Status: "Disabled", Expiration: &Expiration{Days: ptr(int32(1))}},
	)
	h.age("home", day-time.Minute) // days end at midnight
	h.expect(h.classes("home"), "a/1 a/2 b/1 big tagged")
	if r := h.age("home", 2*day); r.Expired != 2 || !r.HasRules {
		t.Errorf("%+v", r)
	}
	h.expect(h.classes("home"), "b/1 big tagged")
	h.age("home", 4*day)
	h.expect(h.classes("home"), "b/1 big")
	h.age("home", 6*day)
	h.expect(h.classes("home"), "b/1")
	h.rules("home", LifecycleRule{Expiration: &Expiration{Date: ptr("2015-01-01")}})
	h.age("home", 0)
	h.expect(h.classes("home"), "")
}

func TestLifecycleTransitions(t *testing.T) {
	h := start(t)
	small := h.putTagged("home", "small", 10)
	h.putTagged("home", "big", 200_000)
	rule := LifecycleRule{Transitions: []Transition{
		{Days: ptr(int32(1)), Class: ptr("STANDARD_IA")}, {Days: ptr(int32(5)), Class: ptr("GLACIER")},
	}}
	h.rules("home", rule)
	h.age("home", 2*day)
	h.expect(h.classes("home"), "big=STANDARD_IA small=STANDARD_IA")
	if r := h.age("home", 2*day); r.Changed != 0 {
		t.Errorf("again: %+v", r)
	}
	h.age("home", 6*day)
	h.expect(h.classes("home"), "big=GLACIER small=GLACIER")
	if o, err := h.Head(h.ctx, "home", "small", &GetInput{}); err != nil || o.LSN != small.LSN {
		t.Errorf("a change of class made version %d of %d: %v", o.LSN, small.LSN, err)
	}
	h.putTagged("home", "small", 10)
	h.putTagged("home", "big", 200_000)
	h.rules("home", rule)
	if _, err := h.UpdateSettings(h.ctx, "home", func(set *Settings) error {
		set.Lifecycle.MinimumSize = minimumAll
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h.age("home", 2*day)
	h.expect(h.classes("home"), "big=STANDARD_IA small")
}

func TestLifecycleOfVersions(t *testing.T) {
	h := start(t)
	if _, err := h.SetVersioning(h.ctx, "home", Enabled); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		h.putTagged("home", "a", 40_000)
	}
	h.putTagged("home", "b", 1)
	if _, err := h.Delete(h.ctx, "home", DeleteKey{Key: "b"}); err != nil {
		t.Fatal(err)
	}
	h.rules("home", LifecycleRule{NoncurrentExpiration: &NoncurrentExpiration{Days: ptr(int32(2)), Newer: ptr(int32(2))}})
	h.age("home", day)
	h.expect(h.versionsLeft("home"), "a a a a a b-marker b")
	h.age("home", 3*day)
	h.expect(h.versionsLeft("home"), "a a a b-marker b")
	h.rules("home", LifecycleRule{
		NoncurrentExpiration:  &NoncurrentExpiration{Days: ptr(int32(9))},
		NoncurrentTransitions: []NoncurrentTransition{{Days: ptr(int32(1)), Class: ptr("GLACIER")}},
	})
	h.age("home", 3*day)
	h.expect(h.versionsLeft("home"), "a a=GLACIER a=GLACIER b-marker b=GLACIER")
	h.rules("home",
		LifecycleRule{NoncurrentExpiration: &NoncurrentExpiration{Days: ptr(int32(1))}, Expiration: &Expiration{DeleteMarker: ptr(true)}})
	if r := h.age("home", 3*day); r.Removed != 4 { // two of a, one of b and its marker
		t.Errorf("%+v", r)
	}
	h.expect(h.versionsLeft("home"), "a")
	h.rules("home", LifecycleRule{Expiration: &Expiration{Days: ptr(int32(1))}})
	h.age("home", 2*day)
	h.expect(h.versionsLeft("home"), "a-marker a")
	h.age("home", 9*day) // a marker that hides something stays
	h.expect(h.versionsLeft("home"), "a-marker a")
}

// What is locked stays, and goes when the lock is over.
func TestLifecycleRespectsLocks(t *testing.T) {
	h := start(t)
	if _, err := h.SetVersioning(h.ctx, "home", Enabled); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SetLockConfig(h.ctx, "home", LockConfig{Mode: Compliance, Days: 3}); err != nil {
		t.Fatal(err)
	}
	h.putTagged("home", "a", 1)
	h.putTagged("home", "a", 1)
	h.rules("home", LifecycleRule{NoncurrentExpiration: &NoncurrentExpiration{Days: ptr(int32(1))}})
	h.age("home", 2*day)
	h.expect(h.versionsLeft("home"), "a a")
	h.age("home", 4*day)
	h.expect(h.versionsLeft("home"), "a")
}

// Rules that a fork has inherited are for its own objects; those put to it are for all.
func TestLifecycleOfForks(t *testing.T) {
	h := start(t)
	h.putTagged("home", "old", 1)
	h.putTagged("home", "replaced", 1)
	rule := LifecycleRule{Expiration: &Expiration{Days: ptr(int32(1))}}
	h.rules("home", rule)
	if _, err := h.Fork(h.ctx, "home", 0, []string{"fork", "idle"}); err != nil {
		t.Fatal(err)
	}
	h.putTagged("fork", "new", 1)
	h.putTagged("fork", "replaced", 1)
	if _, err := h.UpdateSettings(h.ctx, "fork", func(set *Settings) error { // other settings of its own change nothing
		set.Tags = []Field{{"k", "v"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fork", "idle"} {
		h.age(name, 2*day)
	}
	h.expect(h.classes("fork"), "old")
	h.expect(h.classes("idle"), "old replaced")
	var written []string
	for info := range h.store.WrittenBuckets() {
		written = append(written, info.Name)
	}
	h.expect(strings.Join(written, " "), "fork home")
	set, err := h.Settings(h.ctx, "fork", 0)
	if err != nil {
		t.Fatal(err)
	}
	o, err := h.Head(h.ctx, "fork", "old", &GetInput{})
	if err != nil {
		t.Fatal(err)
	}
	if x, ok := h.ExpiryOf("fork", "old", set, &o.Entry); ok {
		t.Errorf("an inherited object is said to expire: %+v", x)
	}
	if _, ok := h.ExpiryOf("home", "old", set, &o.Entry); !ok {
		t.Error("the source's is not said to expire")
	}
	h.rules("fork", rule)
	h.age("fork", 2*day)
	h.expect(h.classes("fork"), "")
	h.expect(h.classes("home"), "old replaced")
}

func TestLifecycleAbortsUploads(t *testing.T) {
	h := start(t)
	for _, key := range []string{"a/1", "b/1"} {
		if _, err := h.CreateUpload(h.ctx, "home", key, &UploadInput{}); err != nil {
			t.Fatal(err)
		}
	}
	h.rules("home", LifecycleRule{Filter: &LifecycleFilter{Prefix: ptr("a/")}, AbortUploads: &AbortUploads{Days: ptr(int32(2))}})
	if r := h.age("home", day); r.Aborted != 0 {
		t.Errorf("%+v", r)
	}
	if r := h.age("home", 3*day); r.Aborted != 1 {
		t.Errorf("%+v", r)
	}
	list, err := h.ListUploads(h.ctx, "home", &ListUploadsInput{Max: 10})
	if err != nil || len(list.Uploads) != 1 || list.Uploads[0].Key != "b/1" {
		t.Errorf("%+v, %v", list, err)
	}
}

// A bucket of several pages is walked to its end, and what was put again in time stays.
func TestLifecycleWalksPages(t *testing.T) {
	skipLong(t)
	h := start(t)
	for i := range lifecyclePage + 10 {
		h.putTagged("home", fmt.Sprintf("%04d", i), 1)
	}
	h.rules("home", LifecycleRule{Expiration: &Expiration{Days: ptr(int32(1))}})
	pauses := 0
	o := &LifecycleOptions{Calendar: Calendar{day}, Now: h.now().Add(2 * day), Pause: func() error {
		pauses++
		return nil
	}}
	r, err := h.RunLifecycle(h.ctx, "home", o)
	if err != nil || r.Expired != lifecyclePage+10 || pauses != 2 {
		t.Errorf("%+v, %v, %d pauses", r, err, pauses)
	}
	h.expect(h.classes("home"), "")
}

func TestCalendar(t *testing.T) {
	noon := time.Date(2020, 5, 17, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		cal   Calendar
		since time.Time
		days  int32
		want  time.Time
	}{
		{Calendar{day}, noon, 1, time.Date(2020, 5, 19, 0, 0, 0, 0, time.UTC)},
		{Calendar{day}, noon.Truncate(day), 1, time.Date(2020, 5, 18, 0, 0, 0, 0, time.UTC)},
		{Calendar{day}, noon, 0, time.Date(2020, 5, 18, 0, 0, 0, 0, time.UTC)},
		{Calendar{10 * time.Second}, noon, 3, noon.Add(30 * time.Second)},
	} {
		if got := c.cal.due(c.since, c.days); !got.Equal(c.want) {
			t.Errorf("%v + %d: %v, want %v", c.since, c.days, got, c.want)
		}
	}
}

func TestLifecycleRanges(t *testing.T) {
	run := func(prefixes ...string) [][2]string {
		l := &Lifecycle{}
		for _, p := range prefixes {
			l.Rules = append(l.Rules, LifecycleRule{Status: "Enabled", Prefix: &p, Expiration: &Expiration{Days: ptr(int32(1))}})
		}
		return (&lifecycleRun{set: &Settings{Lifecycle: l}}).ranges()
	}
	if got := run("b/", "a/", "a/x", "a/"); !slices.Equal(got, [][2]string{{"a/", "a0"}, {"b/", "b0"}}) {
		t.Errorf("%q", got)
	}
	if got := run("b/", ""); !slices.Equal(got, [][2]string{{"", ""}}) {
		t.Errorf("%q", got)
	}
}
