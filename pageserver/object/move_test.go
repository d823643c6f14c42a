package object

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"stemma/timeline"
)

func (h *harness) move(moves ...timeline.Move) timeline.MoveResult {
	h.t.Helper()
	res, err := h.Move(h.ctx, timeline.MoveOptions{Moves: moves})
	if err != nil {
		h.t.Fatal(err)
	}
	return res
}

// story is what a history says of a key, newest first: sizes, and - where it was not.
func (h *harness) story(bucket, key string) string {
	h.t.Helper()
	page, err := h.History(h.ctx, bucket, key, 0, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for _, e := range page.Entries {
		if e.Deleted {
			out = append(out, "-")
		} else {
			out = append(out, fmt.Sprint(e.Size))
		}
	}
	return strings.Join(out, " ")
}

// A restore of a bucket keeps its settings and what else belongs to it, drops open uploads, shows in the
// history of keys, and can be undone.
func TestRestoreBucket(t *testing.T) {
	h := start(t)
	large := random(1, 100_000)
	h.put("home", "a", large)
	h.put("home", "same", []byte("same"))
	h.put("home", "gone", []byte("gone"))
	h.tag("home", "before")
	at := h.store.Visible()
	u := h.upload("home", "up", UploadInput{})
	h.put("home", "a", []byte("other"))
	h.put("home", "new", []byte("new"))
	h.del("home", "gone")
	h.tag("home", "after")
	is := h.tags("home", 0)
	if _, err := h.Restore(h.ctx, "home", at, at); !errors.Is(err, timeline.ErrTargetChanged) {
		t.Errorf("restore of what has changed: %v", err)
	}
	res, err := h.Restore(h.ctx, "home", at, h.store.Visible())
	if err != nil {
		t.Fatal(err)
	}
	h.want("home", "a", 0, large)
	h.want("home", "a", res.LSN-1, []byte("other"))
	h.want("home", "gone", 0, []byte("gone"))
	h.wantAbsent("home", "new", 0)
	h.want("home", "new", res.LSN-1, []byte("new"))
	if got := h.tags("home", 0); fmt.Sprint(got) != fmt.Sprint(is) {
		t.Errorf("tags are %q, want %q", got, is)
	}
	if _, err := h.complete(u, CompleteInput{}); !errors.Is(err, ErrNoSuchUpload) && !errors.Is(err, ErrMalformedParts) {
		t.Errorf("complete of an upload from before: %v", err)
	}
	h.noUploads()
	for key, want := range map[string]string{"a": "100000 5 100000", "same": "4", "gone": "4 - 4", "new": "- 3", "none": ""} {
		if got := h.story("home", key); got != want {
			t.Errorf("history of %q: %q, want %q", key, got, want)
		}
	}
	h.put("home", "a", []byte("seven by"))
	if got := h.story("home", "a"); got != "8 100000 5 100000" {
		t.Errorf("history of %q: %q", "a", got)
	}
	h.move(timeline.Move{Bucket: "home", Source: "home", At: res.LSN - 1})
	h.want("home", "a", 0, []byte("other"))
	h.want("home", "new", 0, []byte("new"))
	h.wantAbsent("home", "gone", 0)
	if got := h.story("home", "a"); got != "5 8 100000 5 100000" {
		t.Errorf("history of %q: %q", "a", got)
	}
	if _, err := h.Move(h.ctx, timeline.MoveOptions{Moves: []timeline.Move{{Bucket: "home", Source: ".stemma"}}}); !errors.Is(err, timeline.ErrNoSuchBucket) {
		t.Errorf("move to a bucket of the server: %v", err)
	}
}

// No move makes a locked version disappear, or loosens its lock.
func TestMovesKeepLockedVersions(t *testing.T) {
	h := startLocked(t)
	empty := h.store.Visible()
	e := h.put("vault", "k", []byte("one"))
	unlocked := h.store.Visible()
	restore := func(at bool, want error) {
		t.Helper()
		lsn := empty
		if at {
			lsn = unlocked
		}
		_, err := h.Restore(h.ctx, "vault", lsn, 0)
		wantErr(t, err, want)
	}
	hold := func(to LegalHold) {
		t.Helper()
		if _, err := h.SetLegalHold(h.ctx, "vault", "k", e.ID(), to); err != nil {
			t.Fatal(err)
		}
	}
	hold(HoldOn)
	restore(false, ErrLocked)
	restore(true, ErrLocked) // there it was not under hold
	held := h.store.Visible()
	h.put("vault", "k", []byte("two")) // the locked version lies beside it
	restore(false, ErrLocked)
	h.delete("vault", DeleteKey{Key: "k"})
	if _, err := h.Restore(h.ctx, "vault", held, 0); err != nil {
		t.Errorf("restore to where the version is and locked: %v", err)
	}
	h.wantBody("vault", "k", 0, "one")
	hold(HoldOff)
	restore(false, nil)
	h.wantAbsent("vault", "k", 0)

	// What comes from a bucket with locks and versions goes on having them.
	h.move(timeline.Move{Bucket: "vault", Source: "vault", At: held})
	h.move(timeline.Move{Bucket: "home", Source: "vault"})
	_, err := h.Delete(h.ctx, "home", DeleteKey{Key: "k", Version: e.ID()})
	wantErr(t, err, ErrLocked)
	set, err := h.Settings(h.ctx, "home", 0)
	if err != nil || set.Lock == nil || set.Versioning != Enabled {
		t.Errorf("%+v, %v", set, err)
	}
}

// A bucket that knew nothing of versions, or of objects that are written in place, learns of them with its new content.
func TestMovesCarryWhatContentNeeds(t *testing.T) {
	h := start(t)
	h.bucket("paged")
	h.bucket("old")
	h.versioning("old", Enabled)
	h.put("old", "v", []byte("1"))
	h.put("old", "v", []byte("2"))
	in := &PageInput{Ops: []PageOp{{Kind: PageWrite, Off: 0, Data: random(3, 20_000)}}, Create: &PageCreate{}}
	if _, err := h.WritePages(h.ctx, "paged", "k", in); err != nil {
		t.Fatal(err)
	}
	h.move(timeline.Move{Bucket: "home", Source: "paged"}, timeline.Move{Bucket: "paged", Source: "old"})
	h.want("home", "k", 0, in.Ops[0].Data)
	h.put("home", "k", []byte("whole")) // removes its pages
	h.noOrphans("home")
	h.want("home", "k", 0, []byte("whole"))
	set, err := h.Settings(h.ctx, "paged", 0)
	if err != nil || set.Versioning != Suspended || !set.Pages {
		t.Errorf("%+v, %v", set, err)
	}
	h.want("paged", "v", 0, []byte("2"))
	if page, err := h.ListVersions(h.ctx, "paged", &ListVersionsInput{MaxKeys: 10}); err != nil || len(page.Entries) != 2 {
		t.Errorf("%+v, %v", page, err)
	}
	set, err = h.Settings(h.ctx, "old", 0)
	if err != nil || set.Versioning != Enabled || set.Pages {
		t.Errorf("%+v, %v", set, err)
	}
}

// Keys and prefixes become what they were by a commit like any other, under the rules of puts and deletes.
func TestRestoreAndUndeleteKeys(t *testing.T) {
	for _, v := range []Versioning{Unversioned, Enabled} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			h := start(t)
			h.versioning("home", v)
			large := random(2, 50_000)
			h.put("home", "d/a", large)
			h.put("home", "d/b", []byte("b"))
			h.put("home", "e", []byte("e"))
			at := h.store.Visible()
			h.put("home", "d/a", []byte("other"))
			h.put("home", "d/c", []byte("new"))
			h.del("home", "d/b")
			h.put("home", "e", []byte("other"))

			rep, err := h.Revert(h.ctx, &RevertInput{Bucket: "home", From: at, Prefixes: []string{"d/"}, Strategy: MergeSourceWins, Deleted: true})
			if err != nil || rep.Put != 1 || rep.Deleted != 0 {
				t.Fatalf("undelete of a prefix: %+v, %v", rep, err)
			}
			h.want("home", "d/b", 0, []byte("b"))
			h.want("home", "d/a", 0, []byte("other"))
			if rep, err = h.Revert(h.ctx, &RevertInput{Bucket: "home", From: at, Prefixes: []string{"d/"}, Strategy: MergeSourceWins}); err != nil || rep.Put != 1 || rep.Deleted != 1 || rep.Same > 1 {
				t.Fatalf("restore of a prefix: %+v, %v", rep, err)
			}
			h.want("home", "d/a", 0, large)
			h.wantAbsent("home", "d/c", 0)
			h.want("home", "e", 0, []byte("other"))

			h.del("home", "d/a")
			h.del("home", "d/b")
			h.put("home", "d/b", []byte("again"))
			h.del("home", "d/b")
			h.del("home", "e")
			h.put("home", "e", []byte("there"))
			keys := []string{"d/a", "d/b", "d/b", "d/c", "e", "never"}
			before := h.store.Visible()
			und, err := h.Undelete(h.ctx, "home", keys, true)
			if err != nil || len(und.Objects) != 3 || und.Committed || h.store.Visible() != before {
				t.Fatalf("dry run: %+v, %v", und, err)
			}
			if und, err = h.Undelete(h.ctx, "home", keys, false); err != nil || len(und.Objects) != 3 || !und.Committed || und.Objects[0].Size != 50_000 {
				t.Fatalf("undelete of keys: %+v, %v", und, err)
			}
			h.want("home", "d/a", 0, large)
			h.want("home", "d/b", 0, []byte("again"))
			h.want("home", "d/c", 0, []byte("new"))
			h.want("home", "e", 0, []byte("there"))
			if und, err = h.Undelete(h.ctx, "home", keys, false); err != nil || und.Committed || len(und.Objects) != 0 {
				t.Errorf("undelete of what is there: %+v, %v", und, err)
			}
			// What was deleted before a move comes back, too.
			h.del("home", "e")
			res, err := h.Restore(h.ctx, "home", at, 0)
			if err != nil {
				t.Fatal(err)
			}
			if und, err = h.Undelete(h.ctx, "home", []string{"d/c"}, false); err != nil || len(und.Objects) != 1 || und.Objects[0].At >= res.LSN {
				t.Errorf("undelete of what a restore took away: %+v, %v", und, err)
			}
			h.want("home", "d/c", 0, []byte("new"))
			if _, err := h.Undelete(h.ctx, "home", make([]string, MaxUndelete+1), false); !errors.Is(err, ErrTooManyKeys) {
				t.Error(err)
			}
		})
	}
}

// A fork is reset to its source and promoted in place of it; a bucket that is no fork is neither.
func TestResetAndPromote(t *testing.T) {
	h := start(t)
	h.put("home", "k", []byte("1"))
	h.fork("home", "dev")
	h.put("dev", "k", []byte("dev"))
	h.put("home", "k", []byte("2"))
	m, err := h.PromoteMove("dev")
	if err != nil {
		t.Fatal(err)
	}
	h.move(m)
	h.want("home", "k", 0, []byte("dev"))
	h.put("home", "k", []byte("3"))
	h.want("dev", "k", 0, []byte("dev"))
	if m, err = h.ResetMove("dev", 0); err != nil {
		t.Fatal(err)
	}
	h.move(m)
	h.want("dev", "k", 0, []byte("3"))
	d, err := h.Distance(h.ctx, "dev")
	if err != nil || d.Put != 0 || d.Deleted != 0 {
		t.Errorf("distance after a reset: %+v, %v", d, err)
	}
	if _, err := h.ResetMove("home", 0); !errors.Is(err, ErrNoSource) {
		t.Error(err)
	}
	if _, err := h.DeleteBucket(h.ctx, "home", timeline.DeleteOptions{Force: true, Undo: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.PromoteMove("dev"); !errors.Is(err, ErrNoSource) {
		t.Error(err)
	}
}
