package object

import (
	"crypto/md5"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// logged is a whole log, page by page.
func (h *harness) logged(in LogInput) []LogEntry {
	h.t.Helper()
	var all []LogEntry
	for {
		page, err := h.Log(h.ctx, &in)
		if err != nil {
			h.t.Fatal(err)
		}
		all = append(all, page.Entries...)
		if in.Token = page.NextToken; in.Token == "" {
			return all
		}
	}
}

// told is a log as a line: kind and key, oldest first.
func (h *harness) told(bucket string, from wal.LSN) string {
	h.t.Helper()
	var out []string
	for _, e := range h.logged(LogInput{Bucket: bucket, From: from, Oldest: true, Max: 2}) {
		out = append(out, strings.TrimSuffix(string(e.Kind)+" "+e.Key, " "))
	}
	return strings.Join(out, ", ")
}

func (h *harness) wantTold(bucket string, from wal.LSN, want string) {
	h.t.Helper()
	if got := h.told(bucket, from); got != want {
		h.t.Errorf("log of %s above %d:\n%s\nwant\n%s", bucket, from, got, want)
	}
}

func (h *harness) label(key string, id VersionID) {
	h.t.Helper()
	if _, err := h.SetTags(h.ctx, "home", key, id, []Field{{"t", "v"}}); err != nil {
		h.t.Fatal(err)
	}
}

// What each kind of commit is in the log, with and without versions.
func TestLogKinds(t *testing.T) {
	h := start(t)
	h.put("home", "a", []byte("one"))
	h.put("home", "b\x00", []byte("two"))
	h.label("a", 0)
	h.del("home", "a")
	h.del("home", "none")
	if _, err := h.WritePages(h.ctx, "home", "p", &PageInput{Create: &PageCreate{}, Ops: []PageOp{{Kind: PageWrite, Data: []byte("page")}}}); err != nil {
		t.Fatal(err)
	}
	h.wantTold("home", 0, "put a, put b\x00, metadata a, delete a, write p")
	was := h.store.Visible()

	h.versioning("home", Enabled)
	h.put("home", "b\x00", []byte("three"))
	first := h.newest("home", "b\x00")
	h.del("home", "b\x00")
	marker := h.newest("home", "b\x00")
	h.delete("home", DeleteKey{Key: "b\x00", Version: marker})
	h.put("home", "b\x00", []byte("four"))
	h.label("b\x00", first)
	h.delete("home", DeleteKey{Key: "b\x00", Version: first})
	h.delete("home", DeleteKey{Key: "b\x00", Version: h.newest("home", "b\x00")})
	h.wantTold("home", was, "put b\x00, marker b\x00, current b\x00, delete-version b\x00, put b\x00, metadata b\x00, delete-version b\x00, current b\x00")

	log := h.logged(LogInput{Bucket: "home", From: was, To: wal.LSN(first)})
	if len(log) != 1 || log[0].Size != 5 || log[0].ID != first || log[0].ETag != (ETag{Sum: md5.Sum([]byte("three"))}) {
		t.Errorf("%+v", log)
	}
	if log := h.logged(LogInput{Bucket: "home", Prefix: "b\x00", To: was}); len(log) != 1 || log[0].Size != 3 || log[0].ID != NullVersion {
		t.Errorf("of a prefix: %+v", log)
	}
}

// A log goes on in what a bucket was forked from and through its moves, shows neither more than once, and
// does not change when layers are collected.
func TestLogLineage(t *testing.T) {
	h := start(t, small)
	h.put("home", "a", []byte("one"))
	at := h.store.Visible()
	h.put("home", "b", []byte("two"))
	h.fork("home", "fork")
	h.put("home", "later", []byte("three"))
	h.put("fork", "c", []byte("four"))
	h.del("fork", "a")
	h.move(timeline.Move{Bucket: "home", Source: "home", At: at})
	h.put("home", "d", []byte("five"))
	for range 2 {
		h.wantTold("home", 0, "put a, put b, put later, move, put d")
		h.wantTold("fork", 0, "put a, put b, put c, delete a")
		h.wantTold("home", at, "put b, put later, move, put d")
		if _, err := h.store.CollectFull(h.ctx); err != nil {
			t.Fatal(err)
		}
		if err := h.store.Detach(h.ctx, "fork"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Log(h.ctx, &LogInput{Bucket: "none"}); !errors.Is(err, timeline.ErrNoSuchBucket) {
		t.Errorf("of no bucket: %v", err)
	}
	if _, err := h.Log(h.ctx, &LogInput{Bucket: "home", Token: "x"}); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("a bad token: %v", err)
	}
	if _, err := h.Log(h.ctx, &LogInput{Bucket: "home", To: 5}); !errors.Is(err, timeline.ErrNoSuchBucket) {
		t.Errorf("before it was made: %v", err)
	}
}

// What has left the window is not in the log, and the log says so.
func TestLogCut(t *testing.T) {
	h := start(t, func(o *timeline.Options) {
		o.HorizonEvery = 2 * time.Millisecond
	})
	h.put("home", "a", []byte("one"))
	old := h.put("home", "b", []byte("two")).LSN
	if _, err := h.store.SetWindow(h.ctx, "home", 0); err != nil {
		t.Fatal(err)
	}
	h.put("home", "c", []byte("three"))
	for deadline := time.Now().Add(10 * time.Second); h.store.Horizon() <= old; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the horizon stays")
		}
		h.put("home", "c", []byte("three"))
	}
	if _, err := h.store.CollectFull(h.ctx); err != nil {
		t.Fatal(err)
	}
	page, err := h.Log(h.ctx, &LogInput{Bucket: "home"})
	if err != nil || !page.Cut || page.Since <= old {
		t.Fatalf("%+v, %v", page, err)
	}
	for _, e := range page.Entries {
		if e.LSN <= page.Since {
			t.Errorf("an entry at %d, complete above %d", e.LSN, page.Since)
		}
	}
	var gone *timeline.BelowHorizonError
	if _, err := h.Log(h.ctx, &LogInput{Bucket: "home", To: old}); !errors.As(err, &gone) {
		t.Errorf("up to what is gone: %v", err)
	}
}

// Pages of every size and in both orders have every commit once.
func TestLogPages(t *testing.T) {
	h := start(t, small)
	rng := rand.New(rand.NewPCG(1, 2))
	var want []string
	for i := range 400 {
		key := fmt.Sprint(rng.IntN(40))
		if i%9 == 8 { // many keys at one LSN
			var ops []CommitOp
			for k := range 7 {
				ops = append(ops, CommitOp{Kind: CommitPut, Key: fmt.Sprint("many", k), Data: []byte("x")})
			}
			res, err := h.Service.Commit(h.ctx, "home", &CommitInput{Ops: ops})
			if err != nil {
				t.Fatal(err)
			}
			for k := range 7 {
				want = append(want, fmt.Sprintf("%d put many%d", res.LSN, k))
			}
			continue
		}
		want = append(want, fmt.Sprintf("%d put %s", h.put("home", key, []byte(key)).LSN, key))
		if i%50 == 0 {
			h.flush()
		}
	}
	if _, err := h.store.CollectFull(h.ctx); err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{1, 3, 10, 100, 0} {
		for _, oldest := range []bool{true, false} {
			var got []string
			for _, e := range h.logged(LogInput{Bucket: "home", Oldest: oldest, Max: most}) {
				got = append(got, fmt.Sprintf("%d %s %s", e.LSN, e.Kind, e.Key))
			}
			if !oldest { // keys ascend within a commit either way
				slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:19], b[:19]) })
			}
			if !slices.Equal(got, want) {
				t.Fatalf("pages of %d, oldest first: %t: %d entries, want %d", most, oldest, len(got), len(want))
			}
		}
	}
}

// Who has made a commit stays with its records: in the log of the store, in layers, in a fork that was detached, and
// after a restart.
func TestLogWriters(t *testing.T) {
	fs := storefs.NewMem()
	h := open(t, fs, small)
	h.bucket("home")
	as := func(writer uint32, do func()) {
		was := h.ctx
		h.ctx = timeline.WithWriter(was, writer)
		do()
		h.ctx = was
	}
	as(7, func() { h.put("home", "a", []byte("one")) })
	h.put("home", "b", []byte("two"))
	as(1<<32-1, func() { h.del("home", "a") })
	as(300, func() { h.label("b", 0) })
	h.versioning("home", Enabled)
	as(2, func() { h.del("home", "b") })
	h.fork("home", "fork")
	check := func(when string) {
		t.Helper()
		for _, bucket := range []string{"home", "fork"} {
			var got []string
			for _, e := range h.logged(LogInput{Bucket: bucket, Oldest: true}) {
				got = append(got, fmt.Sprintf("%s %s %d", e.Kind, e.Key, e.Writer))
			}
			if s := strings.Join(got, ", "); s != "put a 7, put b 0, delete a 4294967295, metadata b 300, marker b 2" {
				t.Errorf("%s, log of %s: %s", when, bucket, s)
			}
		}
		page, err := h.History(h.ctx, "home", "b", 0, 0)
		if err != nil || len(page.Entries) != 3 || page.Entries[0].Writer != 2 || page.Entries[1].Writer != 300 || page.Entries[2].Writer != 0 {
			t.Errorf("%s: %+v, %v", when, page, err)
		}
	}
	check("in memory")
	h.flush()
	check("flushed")
	if _, err := h.store.CollectFull(h.ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Detach(h.ctx, "fork"); err != nil {
		t.Fatal(err)
	}
	check("collected")
	h.Close()
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	h = open(t, fs, small)
	check("opened again")
}

// What was deleted below a prefix comes back, each key as it was before, whenever that was.
func TestUndeletePrefix(t *testing.T) {
	h := start(t, small)
	h.put("home", "a/1", []byte("old"))
	h.put("home", "a/2", []byte("two"))
	h.put("home", "b/1", []byte("other"))
	h.put("home", "a/1", []byte("newer"))
	h.del("home", "a/1")
	h.fork("home", "fork")
	for _, key := range []string{"a/2", "b/1"} {
		h.del("fork", key)
	}
	h.put("fork", "b/1", []byte("again"))
	h.flush()
	for prefix, want := range map[string]string{"a/": "a/1 a/2", "": "a/1 a/2", "b/": ""} {
		keys, err := h.Deleted(h.ctx, "fork", []string{prefix})
		if got := strings.Join(keys, " "); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", prefix, got, err, want)
		}
	}
	keys, err := h.Deleted(h.ctx, "fork", []string{"a/", ""}) // twice is once
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := h.Undelete(h.ctx, "fork", keys, false); err != nil || len(rep.Objects) != 2 {
		t.Fatalf("%+v, %v", rep, err)
	}
	h.want("fork", "a/1", 0, []byte("newer"))
	h.want("fork", "a/2", 0, []byte("two"))
	if keys, err := h.Deleted(h.ctx, "fork", []string{""}); err != nil || len(keys) != 0 {
		t.Errorf("%v, %v", keys, err)
	}
}
