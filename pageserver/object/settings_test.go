package object

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"stemma/timeline"
	"stemma/wal"
)

// tag adds a tag to a bucket and returns the commit.
func (h *harness) tag(bucket, key string) wal.LSN {
	h.t.Helper()
	lsn, err := h.UpdateSettings(h.ctx, bucket, func(set *Settings) error {
		set.Tags = append(set.Tags, Field{Key: key})
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return lsn
}

// tags returns the tags of a bucket.
func (h *harness) tags(bucket string, at wal.LSN) (keys []string) {
	h.t.Helper()
	set, err := h.Settings(h.ctx, bucket, at)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range set.Tags {
		keys = append(keys, f.Key)
	}
	return keys
}

func expectTags(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("tags %q, want %q", got, want)
	}
}

func TestSettingsAreInheritedAndThenApart(t *testing.T) {
	h := start(t)
	expectTags(t, h.tags("home", 0))
	first := h.tag("home", "a")
	if _, err := h.Fork(h.ctx, "home", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	h.tag("home", "b")
	h.tag("fork", "c")
	expectTags(t, h.tags("home", 0), "a", "b")
	expectTags(t, h.tags("fork", 0), "a", "c")
	expectTags(t, h.tags("home", first), "a")
}

func TestSettingsChangeWholeOrNot(t *testing.T) {
	h := start(t)
	before := h.tag("home", "a")
	_, err := h.UpdateSettings(h.ctx, "home", func(set *Settings) error {
		set.Tags[0].Key = "changed"
		return ErrNoSuchKey
	})
	if !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("error %v", err)
	}
	_, err = h.UpdateSettings(h.ctx, "home", func(set *Settings) error {
		set.Tags = append(set.Tags, Field{Key: strings.Repeat("x", MaxSettingsBytes)})
		return nil
	})
	if !errors.Is(err, ErrSettingsTooLarge) {
		t.Errorf("error %v", err)
	}
	if lsn, err := h.UpdateSettings(h.ctx, "home", func(*Settings) error { return nil }); err != nil || lsn != before {
		t.Errorf("a change of nothing: %d, %v; want %d", lsn, err, before)
	}
	expectTags(t, h.tags("home", 0), "a")
	if _, err := h.Settings(h.ctx, "nowhere", 0); !errors.Is(err, timeline.ErrNoSuchBucket) {
		t.Errorf("error %v", err)
	}
}

func TestSettingsCacheIsBounded(t *testing.T) {
	var c settingsCache
	for lsn := wal.LSN(1); lsn < 3*maxCachedSettings; lsn++ {
		c.put(settingsID{1, lsn}, noSettings)
		if c.get(settingsID{1, lsn}) == nil {
			t.Fatalf("settings of %d are not there", lsn)
		}
	}
	if n := len(c.sets); n > maxCachedSettings {
		t.Errorf("%d settings, at most %d", n, maxCachedSettings)
	}
}

func FuzzDecodeSettings(f *testing.F) {
	good, err := encodeSettings(&Settings{Tags: []Field{{Key: "k", Value: "v"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, p []byte) {
		set, err := decodeSettings(p, 7)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v", err)
			}
			return
		}
		if _, err := encodeSettings(set); err != nil && !errors.Is(err, ErrSettingsTooLarge) {
			t.Error(err)
		}
	})
}
