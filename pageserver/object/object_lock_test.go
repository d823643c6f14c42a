package object

import (
	"errors"
	"strings"
	"testing"
	"time"

	"stemma/timeline"
)

// startLocked opens a store with a bucket that has object lock.
func startLocked(t *testing.T) *harness {
	h := start(t)
	if _, err := h.CreateBucketWith(h.ctx, "vault", &Settings{Versioning: Enabled, Lock: &LockConfig{}}, Attributes{}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *harness) in(d time.Duration) time.Time { return h.now().Add(d) }

// What is retained or under legal hold stays, and everything else of the version stays as it is.
func TestLockedVersions(t *testing.T) {
	h := startLocked(t)
	for _, body := range []string{"x", strings.Repeat("large", 20_000)} {
		e := h.put("vault", "k", []byte(body))
		k := DeleteKey{Key: "k", Version: e.ID()}
		set := func(m LockMode, until time.Time, bypass bool, want error) {
			t.Helper()
			o, err := h.SetRetention(h.ctx, "vault", "k", e.ID(), NewRetention(m, until), bypass)
			wantErr(t, err, want)
			if err == nil && (o.ID != e.ID() || o.LSN != e.LSN || o.ETag != e.ETag) {
				t.Errorf("%+v", o)
			}
		}
		refused := func(bypass bool) {
			t.Helper()
			k.Bypass = bypass
			_, err := h.Delete(h.ctx, "vault", k)
			wantErr(t, err, ErrLocked)
		}
		set(Governance, h.in(-time.Hour), false, ErrRetainUntil)
		set(Governance, h.in(time.Hour), false, nil)
		refused(false)
		set(Governance, h.in(time.Minute), false, ErrLocked)
		set(Governance, h.in(time.Minute), true, nil)
		set(Governance, h.in(2*time.Hour), false, nil)
		set(Compliance, h.in(3*time.Hour), false, ErrLocked)
		h.delete("vault", DeleteKey{Key: "k"}) // a marker hides it
		h.wantBody("vault", "k", e.ID(), body)
		if _, err := h.SetLegalHold(h.ctx, "vault", "k", e.ID(), HoldOn); err != nil {
			t.Fatal(err)
		}
		refused(true)
		if _, err := h.SetLegalHold(h.ctx, "vault", "k", 0, HoldOn); !errors.Is(err, ErrNoSuchKey) {
			t.Error(err)
		}
		_, err := h.SetRetention(h.ctx, "vault", "k", h.newest("vault", "k"), Retention{}, true)
		wantErr(t, err, ErrMarker)
		if _, err := h.SetLegalHold(h.ctx, "vault", "k", e.ID(), HoldOff); err != nil {
			t.Fatal(err)
		}
		h.put("vault", "k", nil) // which leaves the locked version where it is
		o, err := h.LockOf(h.ctx, "vault", "k", &GetInput{Version: e.ID()})
		if err != nil || o.Lock.Hold != HoldOff || o.Lock.Retention.Mode != Governance || o.LSN != e.LSN {
			t.Errorf("%+v, %v", o, err)
		}
		k.Bypass = true
		h.delete("vault", k)
	}
	e := h.put("vault", "c", nil)
	if _, err := h.SetRetention(h.ctx, "vault", "c", 0, NewRetention(Compliance, h.in(time.Hour)), false); err != nil {
		t.Fatal(err)
	}
	for _, to := range []Retention{{}, NewRetention(Governance, h.in(9*time.Hour)), NewRetention(Compliance, h.in(time.Minute))} {
		_, err := h.SetRetention(h.ctx, "vault", "c", 0, to, true)
		wantErr(t, err, ErrLocked)
	}
	_, err := h.Delete(h.ctx, "vault", DeleteKey{Key: "c", Version: e.ID(), Bypass: true})
	wantErr(t, err, ErrLocked)
	_, err = h.DeleteBucket(h.ctx, "vault", timeline.DeleteOptions{Force: true})
	wantErr(t, err, ErrLocked)

	// A fork inherits the lock, and may go: the version stays where it was made.
	if _, err := h.Fork(h.ctx, "vault", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	_, err = h.Delete(h.ctx, "fork", DeleteKey{Key: "c", Version: e.ID(), Bypass: true})
	wantErr(t, err, ErrLocked)
	h.put("fork", "c", nil)
	if _, err := h.DeleteBucket(h.ctx, "fork", timeline.DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

// Every way to make a version takes the default retention, or what is asked for.
func TestDefaultRetention(t *testing.T) {
	h := startLocked(t)
	if _, err := h.SetLockConfig(h.ctx, "vault", LockConfig{Mode: Compliance, Days: 1}); err != nil {
		t.Fatal(err)
	}
	asked := Lock{Retention: NewRetention(Governance, h.in(time.Hour)), Hold: HoldOn}
	check := func(e *Entry, want LockMode, hold LegalHold) {
		t.Helper()
		o, err := h.Head(h.ctx, "vault", "k", &GetInput{Version: e.ID()})
		if err != nil || o.Lock.Retention.Mode != want || o.Lock.Hold != hold || o.Lock != e.Lock {
			t.Errorf("%+v, %v", o, err)
		}
		if left := o.Lock.Retention.Until.Sub(h.now()); want == Compliance && (left < 23*time.Hour || left > 24*time.Hour+time.Second) {
			t.Errorf("retained for %v", left)
		}
	}
	check(h.put("vault", "k", nil), Compliance, NoHold)
	e, err := h.Put(h.ctx, "vault", "k", &PutInput{Lock: asked})
	if err != nil {
		t.Fatal(err)
	}
	check(e, Governance, HoldOn)
	c, err := h.Copy(h.ctx, "vault", "k", &CopyInput{SrcBucket: "vault", SrcKey: "k", SrcVersion: e.ID()})
	if err != nil {
		t.Fatal(err)
	}
	check(&c.Entry, Compliance, NoHold)
	for _, l := range []Lock{{}, asked} {
		u, err := h.CreateUpload(h.ctx, "vault", "k", &UploadInput{Lock: l})
		if err != nil {
			t.Fatal(err)
		}
		p, err := h.PutPart(h.ctx, "vault", "k", u.ID, 1, &PutPartInput{})
		if err != nil {
			t.Fatal(err)
		}
		e, err := h.CompleteUpload(h.ctx, "vault", "k", u.ID, &CompleteInput{Parts: []CompletePart{{Number: 1, ETag: p.ETag.String()}}, Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		if l == asked {
			check(e, Governance, HoldOn)
		} else {
			check(e, Compliance, NoHold)
		}
	}
	for _, to := range []string{"home", "vault"} {
		l := asked
		if to == "vault" {
			l.Retention = NewRetention(Governance, h.in(-time.Second))
		}
		want := map[string]error{"home": ErrNoObjectLock, "vault": ErrRetainUntil}[to]
		_, err := h.Put(h.ctx, to, "k", &PutInput{Lock: l})
		wantErr(t, err, want)
		_, err = h.Copy(h.ctx, to, "copy", &CopyInput{SrcBucket: "vault", SrcKey: "k", Lock: l})
		wantErr(t, err, want)
		_, err = h.CreateUpload(h.ctx, to, "k", &UploadInput{Lock: l})
		wantErr(t, err, want)
	}
}

// Object lock needs versioning, and keeps it.
func TestLockConfig(t *testing.T) {
	h := startLocked(t)
	code := func(err error, want string) {
		t.Helper()
		var rule *RuleError
		if !errors.As(err, &rule) || rule.Code != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	_, err := h.SetLockConfig(h.ctx, "home", LockConfig{})
	code(err, "InvalidBucketState")
	h.versioning("home", Suspended)
	_, err = h.SetLockConfig(h.ctx, "home", LockConfig{})
	code(err, "InvalidBucketState")
	_, err = h.LockConfigOf(h.ctx, "home", 0)
	wantErr(t, err, ErrNoLockConfig)
	before := h.Store().Visible()
	h.versioning("home", Enabled)
	if _, err := h.SetLockConfig(h.ctx, "home", LockConfig{Mode: Governance, Years: 2}); err != nil {
		t.Fatal(err)
	}
	if c, err := h.LockConfigOf(h.ctx, "home", 0); err != nil || c != (LockConfig{Mode: Governance, Years: 2}) {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = h.LockConfigOf(h.ctx, "home", before)
	wantErr(t, err, ErrNoLockConfig)
	_, err = h.SetVersioning(h.ctx, "home", Suspended)
	code(err, "InvalidBucketState")
	for _, c := range []struct {
		config LockConfig
		want   string
	}{
		{LockConfig{Mode: Governance}, "InvalidRetentionPeriod"}, {LockConfig{Mode: Governance, Days: -1}, "InvalidRetentionPeriod"},
		{LockConfig{Mode: Governance, Days: MaxLockDays + 1}, "InvalidRetentionPeriod"}, {LockConfig{Mode: Compliance, Years: 101}, "InvalidRetentionPeriod"},
		{LockConfig{Mode: Governance, Days: 1, Years: 1}, "MalformedXML"}, {LockConfig{Days: 1}, "MalformedXML"}, {LockConfig{Mode: 9, Days: 1}, "MalformedXML"},
	} {
		_, err := h.SetLockConfig(h.ctx, "home", c.config)
		code(err, c.want)
	}
	_, err = h.SetRetention(h.ctx, "home", "k", 0, Retention{}, true)
	wantErr(t, err, ErrNoSuchKey)
}

// A bucket that has expired stays while it has a locked version of its own; a fork that only
// inherited it goes.
func TestLockedVersionsOutliveTheirBucket(t *testing.T) {
	h := start(t, func(o *timeline.Options) { o.RefuseExpiry, o.CollectEvery = RefuseExpiry, -1 })
	if _, err := h.CreateBucketWith(h.ctx, "vault", &Settings{Versioning: Enabled, Lock: &LockConfig{}}, Attributes{}); err != nil {
		t.Fatal(err)
	}
	e := h.put("vault", "k", []byte("x"))
	if _, err := h.SetLegalHold(h.ctx, "vault", "k", e.ID(), HoldOn); err != nil {
		t.Fatal(err)
	}
	h.delete("vault", DeleteKey{Key: "k"})
	if _, err := h.Fork(h.ctx, "vault", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	h.bucket("plain")
	for _, name := range []string{"vault", "fork", "plain"} {
		if _, err := h.store.SetExpiry(h.ctx, name, h.store.Now()-1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.store.CollectFull(h.ctx); err != nil {
		t.Fatal(err)
	}
	for name, there := range map[string]bool{"vault": true, "fork": false, "plain": false, "home": true} {
		if _, err := h.Bucket(name, 0); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.wantBody("vault", "k", e.ID(), "x")
}
