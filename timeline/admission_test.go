package timeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
)

// An admission is asked about whatever transaction writes, sees what that is and what it replaces, and
// hears what became of it.
func TestAdmission(t *testing.T) {
	s := openUsage(t, gc.Forever).Store
	ctx := context.Background()
	var asked []string
	refusal := errors.New("no")
	var refuse error
	s.SetAdmission(func(tx *timeline.Tx) (func(bool), error) {
		note := tx.Info().Name
		for w := range tx.Writes() {
			old, err := tx.Get(w.Namespace, w.Key)
			if err != nil && !errors.Is(err, timeline.ErrNotFound) {
				t.Error(err)
			}
			note += fmt.Sprintf(" %s=%s (%s)", w.Key, w.Meta, old.Meta)
			if w.Stamped {
				note = note[:len(note)-2] + "new)"
			}
		}
		asked = append(asked, note)
		if refuse != nil {
			return nil, refuse
		}
		return func(committed bool) { asked = append(asked, fmt.Sprint(committed)) }, nil
	})
	want := func(err, is error, notes ...string) {
		t.Helper()
		if !errors.Is(err, is) {
			t.Errorf("error %v, want %v", err, is)
		}
		if !slices.Equal(asked, notes) {
			t.Errorf("it was asked and told %q, want %q", asked, notes)
		}
		asked = nil
	}
	if _, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	key := []byte("k")
	locks := []timeline.Lock{{NS: layers.NamespaceObjects, Key: key, Exclusive: true}}
	put := func(bucket, value string) error {
		_, err := s.Update(ctx, bucket, locks, func(tx *timeline.Tx) error {
			tx.Put(layers.NamespaceObjects, key, []byte(value), nil)
			return nil
		})
		return err
	}
	want(put("main", "1"), nil, "main k=1 ()", "true")
	_, err := s.Update(ctx, "main", locks, func(*timeline.Tx) error { return nil })
	want(err, nil) // it wrote nothing
	_, err = s.Update(ctx, "main", locks, func(*timeline.Tx) error { return refusal })
	want(err, refusal)
	refuse = refusal
	want(put("main", "2"), refusal, "main k=2 (1)")
	refuse = nil
	_, err = s.Exclusive(ctx, "main", func(tx *timeline.Tx) error {
		tx.Delete(layers.NamespaceObjects, key)
		return nil
	})
	want(err, nil, "main k= (1)", "true")

	if _, err := s.Fork(ctx, timeline.ForkOptions{Source: "main", Forks: timeline.Named("dev")}); err != nil {
		t.Fatal(err)
	}
	want(put("dev", "3"), nil, "dev k=3 ()", "true")
	merge := timeline.MergeOptions{Source: "dev", Target: "main"}
	refuse = refusal
	_, err = s.Merge(ctx, merge)
	if err == nil || len(asked) != 1 {
		t.Errorf("refused merge: %v, %q", err, asked)
	}
	asked, refuse = nil, nil
	merge.DryRun = true
	_, err = s.Merge(ctx, merge)
	want(err, nil)
	merge.DryRun = false
	if _, err = s.Merge(ctx, merge); err != nil || len(asked) != 2 || asked[1] != "true" {
		t.Errorf("merge: %v, %q", err, asked)
	}
	asked = nil

	var b timeline.Batch
	b.Put(layers.NamespaceObjects, key, []byte("blind"), nil)
	_, err = s.Commit(ctx, "main", &b)
	want(err, nil)
	_, err = s.SetProperties(ctx, "main", func(p timeline.Properties) (timeline.Properties, error) {
		p.ReadOnly = true
		return p, nil
	})
	want(err, nil)
	want(put("main", "4"), timeline.ErrReadOnly, "main k=4 (blind)", "false")
}

// An admission that cannot tell yet is asked again once what it waits for is there, and
// holds no lock meanwhile.
func TestAdmissionLater(t *testing.T) {
	s := openUsage(t, gc.Forever).Store
	ctx := context.Background()
	if _, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("waited in vain")
	waits, fail := 0, error(nil)
	s.SetAdmission(func(tx *timeline.Tx) (func(bool), error) {
		if waits == 2 {
			return nil, nil
		}
		return nil, &timeline.Later{Wait: func(ctx context.Context) error {
			waits++
			if _, err := s.Exclusive(ctx, "main", func(*timeline.Tx) error { return nil }); err != nil {
				t.Error(err)
			}
			return fail
		}}
	})
	runs := 0
	update := func() error {
		_, err := s.Update(ctx, "main", []timeline.Lock{{NS: layers.NamespaceObjects, Key: []byte("k"), Exclusive: true}}, func(tx *timeline.Tx) error {
			runs++
			tx.Put(layers.NamespaceObjects, []byte("k"), nil, nil)
			return nil
		})
		return err
	}
	if err := update(); err != nil || waits != 2 || runs != 3 {
		t.Errorf("%v after %d waits and %d runs, want 2 and 3", err, waits, runs)
	}
	waits, fail = 0, failure
	if err := update(); !errors.Is(err, failure) || waits != 1 {
		t.Errorf("%v after %d waits", err, waits)
	}
}

// A commit by attributes that have changed is refused like one by an outdated configuration. Other
// properties do not matter, and below the birth of a fork its source's count.
func TestAttributesAreConfiguration(t *testing.T) {
	s := openUsage(t, gc.Forever).Store
	ctx := context.Background()
	if _, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "main", Properties: timeline.Properties{Attrs: []byte("one")}}); err != nil {
		t.Fatal(err)
	}
	id, changed, err := s.Configured("main")
	if err != nil {
		t.Fatal(err)
	}
	put := func() error {
		var b timeline.Batch
		b.Put(layers.NamespaceObjects, []byte("k"), nil, nil)
		b.Guard(timeline.ConfigGuard{Timeline: id, AsOf: changed})
		_, err := s.Commit(ctx, "main", &b)
		return err
	}
	if _, err := s.SetExpiry(ctx, "main", s.Now()+1<<40); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Errorf("after another expiry: %v", err)
	}
	forks := timeline.Named("dev")
	forks[0].Attrs = []byte("of dev")
	infos, err := s.Fork(ctx, timeline.ForkOptions{Source: "main", Forks: forks})
	if err != nil {
		t.Fatal(err)
	}
	set := func(attrs string) {
		t.Helper()
		if _, err := s.SetAttributes(ctx, "main", func([]byte) ([]byte, error) { return []byte(attrs), nil }); err != nil {
			t.Fatal(err)
		}
	}
	set("one")
	if err := put(); err != nil {
		t.Errorf("after the same attributes: %v", err)
	}
	set("two")
	if err := put(); !errors.Is(err, timeline.ErrConfigChanged) {
		t.Errorf("after other attributes: %v", err)
	}
	for at, want := range map[string]string{"tip": "of dev", "past": "two"} {
		lsn := infos[0].BranchLSN
		if at == "tip" {
			lsn = 0
		}
		v, err := s.View(ctx, "dev", lsn)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(v.Attributes()); got != want {
			t.Errorf("dev at its %s: %q, want %q", at, got, want)
		}
		v.Close()
	}
}
