package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"stemma/timeline"
	"stemma/wal"
)

func commitOf(ops ...CommitOp) *CommitInput { return &CommitInput{Ops: ops} }

func putOp(key, body string) CommitOp {
	return CommitOp{Kind: CommitPut, Key: key, Data: []byte(body)}
}
func renameOp(from, to string) CommitOp {
	return CommitOp{Kind: CommitRename, Source: from, Key: to}
}

// contents returns what a bucket holds, key=body.
func contents(t *testing.T, s *Service, bucket string, at wal.LSN) string {
	t.Helper()
	l, err := s.List(t.Context(), bucket, &ListInput{At: at, MaxKeys: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range l.Entries {
		o, err := s.Get(t.Context(), bucket, e.Key, &GetInput{At: l.LSN})
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(o.Body)
		o.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(p) > 8 {
			p = fmt.Appendf(nil, "%d*%c", len(p), p[0])
		}
		all = append(all, e.Key+"="+string(p))
	}
	return strings.Join(all, " ")
}

func TestCommit(t *testing.T) {
	s := start(t).Service
	ctx := t.Context()
	if _, err := s.CreateBucket(ctx, "bucket"); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("L", 100_000)
	before, err := s.Commit(ctx, "bucket", commitOf(putOp("a", "1"), putOp("b", "2"), putOp("dir/x", "3"), putOp("dir/y", big), putOp("old", "4")))
	if err != nil || before.Ops[0].Entry.LSN != before.LSN {
		t.Fatalf("%+v, %v", before, err)
	}
	res, err := s.Commit(ctx, "bucket", &CommitInput{
		IfLSN: before.LSN,
		If: []CommitCondition{
			{Key: "a", ETag: `"` + before.Ops[0].Entry.ETag.String() + `"`}, {Key: "b", LSN: before.LSN}, {Key: "none", Absent: true}, {Key: "old", ETag: "*"},
		},
		Ops: []CommitOp{
			renameOp("a", "b"), renameOp("b", "a"), // exchanged
			{Kind: CommitRenamePrefix, Source: "dir/", Key: "dir/sub/"},
			{Kind: CommitCopy, Source: "old", Key: "copy", Replace: true, Headers: Headers{ContentType: "text/plain"}},
			{Kind: CommitDelete, Key: "old"}, {Kind: CommitDelete, Key: "none"},
			putOp("new", big),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = "a=2 b=1 copy=4 dir/sub/x=3 dir/sub/y=100000*L new=100000*L"
	if got := contents(t, s, "bucket", 0); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := contents(t, s, "bucket", res.LSN-1); got != "a=1 b=2 dir/x=3 dir/y=100000*L old=4" {
		t.Errorf("before: %s", got)
	}
	if res.Ops[2].Keys != 2 || res.Ops[4].Keys != 1 || res.Ops[5].Keys != 0 || res.Ops[3].Entry.ContentType() != "text/plain" {
		t.Errorf("%+v", res)
	}
	if res, err = s.Commit(ctx, "bucket", commitOf(CommitOp{Kind: CommitDeletePrefix, Key: "dir/"}, CommitOp{Kind: CommitCopy, Source: "old", SrcAt: before.LSN, Key: "old"})); err != nil || res.Ops[0].Keys != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	const last = "a=2 b=1 copy=4 new=100000*L old=4"
	if got := contents(t, s, "bucket", 0); got != last {
		t.Errorf("%s\nwant %s", got, last)
	}
	for name, c := range map[string]struct {
		in   CommitInput
		want error
	}{
		"nothing":       {CommitInput{}, ErrBadCommit},
		"twice":         {*commitOf(putOp("a", "1"), putOp("a", "2")), ErrBadCommit},
		"renamed twice": {*commitOf(renameOp("a", "x"), renameOp("a", "y")), ErrBadCommit},
		"onto another":  {*commitOf(renameOp("a", "x"), putOp("x", "y")), ErrBadCommit},
		"prefix clash":  {*commitOf(CommitOp{Kind: CommitRenamePrefix, Source: "a", Key: "b"}, putOp("b", "y")), ErrBadCommit},
		"itself":        {*commitOf(renameOp("a", "a")), ErrSelfCopy},
		"no source":     {*commitOf(putOp("x", "1"), renameOp("none", "a")), ErrNoSuchKey},
		"no key":        {*commitOf(putOp("", "1")), ErrKeyTooLong},
		"long key":      {*commitOf(CommitOp{Kind: CommitRenamePrefix, Source: "a", Key: strings.Repeat("k", MaxKeyBytes+1)}), ErrKeyTooLong},
		"changed":       {CommitInput{IfLSN: before.LSN, Ops: []CommitOp{putOp("x", "1")}}, timeline.ErrTargetChanged},
		"there":         {CommitInput{If: []CommitCondition{{Key: "a", Absent: true}}, Ops: []CommitOp{putOp("x", "1")}}, ErrPreconditionFailed},
		"not there":     {CommitInput{If: []CommitCondition{{Key: "none", ETag: "*"}}, Ops: []CommitOp{putOp("x", "1")}}, ErrPreconditionFailed},
		"other":         {CommitInput{If: []CommitCondition{{Key: "a", LSN: 7}}, Ops: []CommitOp{putOp("x", "1")}}, ErrPreconditionFailed},
		"two in one":    {CommitInput{If: []CommitCondition{{Key: "a", LSN: 7, Absent: true}}, Ops: []CommitOp{putOp("x", "1")}}, ErrBadCommit},
		"class":         {*commitOf(CommitOp{Kind: CommitPut, Key: "x", StorageClass: numStorageClasses}), ErrInvalidStorageClass},
	} {
		if _, err := s.Commit(ctx, "bucket", &c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := s.Commit(ctx, "none", commitOf(putOp("x", "1"))); !errors.Is(err, timeline.ErrNoSuchBucket) {
		t.Error(err)
	}
	if got := contents(t, s, "bucket", 0); got != last {
		t.Errorf("a refused commit has changed it: %s", got)
	}
}

// Objects that are written in place are renamed with their pages: onto each other, over what is there, and by prefix; and
// where the bucket has versions.
func TestCommitRenamesPages(t *testing.T) {
	s := start(t).Service
	ctx := t.Context()
	if _, err := s.CreateBucket(ctx, "bucket"); err != nil {
		t.Fatal(err)
	}
	write := func(key, body string) {
		t.Helper()
		if _, err := s.WritePages(ctx, "bucket", key, &PageInput{Create: &PageCreate{}, Ops: []PageOp{{Kind: PageWrite, Data: []byte(body)}}}); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want string, ops ...CommitOp) {
		t.Helper()
		if _, err := s.Commit(ctx, "bucket", commitOf(ops...)); err != nil {
			t.Fatal(err)
		}
		if got := contents(t, s, "bucket", 0); got != want {
			t.Fatalf("%s\nwant %s", got, want)
		}
	}
	write("a", "1")
	write("b", "2")
	run("a=2 b=1", renameOp("a", "b"), renameOp("b", "a"))
	run("b=2 h=1", renameOp("b", "h"), renameOp("a", "b")) // what was replaced lives on
	write("b", "3")
	run("h=3", renameOp("b", "h"))
	run("b=x h/h=3", putOp("b", "x"), CommitOp{Kind: CommitRenamePrefix, Source: "h", Key: "h/h"})
	run("b=3 h/h=y", renameOp("h/h", "b"), putOp("h/h", "y")) // in its place
	write("b", "4")
	if _, err := s.UpdateSettings(ctx, "bucket", func(set *Settings) error { set.Versioning = Enabled; return nil }); err != nil {
		t.Fatal(err)
	}
	run("c=4 h/h=y", renameOp("b", "c"))
}

// Metadata is changed without the bytes: of an object that was put, which stays one, and of one that is written in
// place; with the bytes, in one commit.
func TestPageMeta(t *testing.T) {
	s := start(t).Service
	ctx := t.Context()
	if _, err := s.CreateBucket(ctx, "bucket"); err != nil {
		t.Fatal(err)
	}
	put, err := s.Put(ctx, "bucket", "k", &PutInput{Body: strings.NewReader("body"), Size: 4, UserMeta: []Field{{"a", "1"}, {"b", "2"}}})
	if err != nil {
		t.Fatal(err)
	}
	meta := func(name, value string) PageOp { return PageOp{Kind: PageMeta, Name: name, Data: []byte(value)} }
	expect := func(paged bool, want ...Field) *Entry {
		t.Helper()
		r, err := s.Look(ctx, "bucket", 0, []string{"k"})
		if err != nil {
			t.Fatal(err)
		}
		if e := r.Keys[0].Entry; (e.File() != "") != paged || !slices.Equal(e.UserMeta, want) {
			t.Errorf("%+v", e)
		}
		return r.Keys[0].Entry
	}
	if _, err := s.WritePages(ctx, "bucket", "k", &PageInput{Ops: []PageOp{meta("a", ""), meta("b", "3"), meta("c", "4")}}); err != nil {
		t.Fatal(err)
	}
	if e := expect(false, Field{"b", "3"}, Field{"c", "4"}); e.ETag != put.ETag || e.LSN <= put.LSN {
		t.Errorf("%+v of %+v", e, put)
	}
	if _, err := s.WritePages(ctx, "bucket", "k", &PageInput{Ops: []PageOp{{Kind: PageWrite, Off: 4, Data: []byte("!")}, meta("b", "")}}); err != nil {
		t.Fatal(err)
	}
	expect(true, Field{"c", "4"})
	if _, err := s.WritePages(ctx, "bucket", "k", &PageInput{Ops: []PageOp{meta("c", "5")}}); err != nil {
		t.Fatal(err)
	}
	expect(true, Field{"c", "5"})
	if got := contents(t, s, "bucket", 0); got != "k=body!" {
		t.Error(got)
	}
	for _, c := range []struct {
		key  string
		op   PageOp
		want error
	}{
		{"none", meta("a", "1"), ErrNoSuchKey},
		{"k", meta("A", "1"), ErrInvalidPageOp},
		{"k", meta("a", "1\n"), ErrInvalidPageOp},
		{"k", meta("a", strings.Repeat("x", MaxUserMetaBytes)), ErrMetadataTooLarge},
	} {
		if _, err := s.WritePages(ctx, "bucket", c.key, &PageInput{Ops: []PageOp{c.op}}); !errors.Is(err, c.want) {
			t.Errorf("%s %q: %v", c.key, c.op.Name, err)
		}
	}
}

// Metadata of an encrypted object can be changed if it has the ETag that its put told.
func TestPageMetaOfEncrypted(t *testing.T) {
	h := start(t)
	h.o.Keys = testRing()
	put, err := h.Put(h.ctx, "home", "k", &PutInput{Body: strings.NewReader("body"), Size: 4, SSE: SSE{Kind: SSES3}})
	if err != nil {
		t.Fatal(err)
	}
	in := PageInput{Ops: []PageOp{{Kind: PageMeta, Name: "a", Data: []byte("1")}}, IfMatch: "etag-of-another"}
	if _, err := h.WritePages(h.ctx, "home", "k", &in); !errors.Is(err, ErrPreconditionFailed) {
		t.Errorf("another ETag: %v", err)
	}
	in.IfMatch = `"` + put.ETag.String() + `"`
	if _, err := h.WritePages(h.ctx, "home", "k", &in); err != nil {
		t.Errorf("its ETag: %v", err)
	}
	if e, err := h.Head(h.ctx, "home", "k", &GetInput{}); err != nil || e.ETag != put.ETag || !slices.Equal(e.UserMeta, []Field{{"a", "1"}}) {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := h.Put(h.ctx, "home", "c", &PutInput{Body: strings.NewReader("body"), Size: 4, SSE: SSE{Kind: SSEC}, CustomerKey: customer(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.WritePages(h.ctx, "home", "c", &PageInput{Ops: in.Ops}); !errors.Is(err, ErrKeyRequired) {
		t.Errorf("without the key of the customer: %v", err)
	}
}

// A look tells objects from prefixes, at one LSN.
func TestLook(t *testing.T) {
	s := start(t).Service
	ctx := t.Context()
	if _, err := s.CreateBucket(ctx, "bucket"); err != nil {
		t.Fatal(err)
	}
	first, err := s.Commit(ctx, "bucket", commitOf(putOp("a", "1"), putOp("d/", ""), putOp("e/x", "2"), putOp("e.txt", "3")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, "bucket", commitOf(CommitOp{Kind: CommitDeletePrefix, Key: "e"})); err != nil {
		t.Fatal(err)
	}
	look := func(at wal.LSN) (got string) {
		t.Helper()
		r, err := s.Look(ctx, "bucket", at, []string{"a", "d/", "e/", "e"})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range r.Keys {
			got += fmt.Sprintf("%v%v ", k.Entry != nil, k.Below)
		}
		return got
	}
	if got := look(first.LSN); got != "truefalse truefalse falsetrue falsetrue " {
		t.Error(got)
	}
	if got := look(0); got != "truefalse truefalse falsefalse falsefalse " {
		t.Error(got)
	}
	if _, err := s.Look(ctx, "bucket", 0, nil); !errors.Is(err, ErrBadLook) {
		t.Error(err)
	}
}

// Where the bucket keeps versions, commits make versions and delete markers.
func TestCommitKeepsVersions(t *testing.T) {
	s := start(t).Service
	ctx := t.Context()
	if _, err := s.CreateBucket(ctx, "bucket"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateSettings(ctx, "bucket", func(set *Settings) error { set.Versioning = Enabled; return nil }); err != nil {
		t.Fatal(err)
	}
	first, err := s.Commit(ctx, "bucket", commitOf(putOp("a", "1"), putOp("b", "2")))
	if err != nil || !first.Ops[0].Entry.Versioned {
		t.Fatal(err)
	}
	second, err := s.Commit(ctx, "bucket", commitOf(renameOp("a", "b"), putOp("c", "3"), CommitOp{Kind: CommitDelete, Key: "c2"}))
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.ListVersions(ctx, "bucket", &ListVersionsInput{MaxKeys: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range l.Entries {
		got = append(got, fmt.Sprintf("%s@%d %v %v", e.Key, e.ID-VersionID(first.LSN), e.Marker, e.Latest))
	}
	d := second.LSN - first.LSN
	want := []string{
		fmt.Sprintf("a@%d true true", d), "a@0 false false", fmt.Sprintf("b@%d false true", d), "b@0 false false",
		fmt.Sprintf("c@%d false true", d), fmt.Sprintf("c2@%d true true", d),
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// Commits that exchange and move keys run against each other and against readers: whoever reads sees one whole set.
func TestCommitsAreAtomic(t *testing.T) {
	s := start(t).Service
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if _, err := s.CreateBucket(ctx, "bucket"); err != nil {
		t.Fatal(err)
	}
	const keys = 8
	all := make([]CommitOp, keys)
	for i := range all {
		all[i] = putOp(fmt.Sprint("k", i), fmt.Sprint(i))
	}
	if _, err := s.Commit(ctx, "bucket", commitOf(all...)); err != nil {
		t.Fatal(err)
	}
	var writers, readers sync.WaitGroup
	var lost atomic.Int64
	for w := range 4 {
		writers.Go(func() {
			for n := range 30 {
				a, b := fmt.Sprint("k", (w+n)%keys), fmt.Sprint("k", (w+3*n+1)%keys)
				if a == b {
					continue
				}
				in := commitOf(renameOp(a, b), renameOp(b, a))
				if n%5 == 0 { // with the bucket to itself
					in = commitOf(CommitOp{Kind: CommitRenamePrefix, Source: "w", Key: "v"}, putOp("w", "w"))
				}
				if n%7 == 0 { // refused as soon as somebody else was there
					in.IfLSN = s.store.Visible()
				}
				_, err := s.Commit(ctx, "bucket", in)
				switch {
				case errors.Is(err, timeline.ErrTargetChanged):
					lost.Add(1)
				case errors.Is(err, ErrBadCommit): // w was there already, and would have been renamed
				case err != nil:
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				l, err := s.List(t.Context(), "bucket", &ListInput{Prefix: "k", MaxKeys: 100})
				if err != nil {
					t.Error(err)
					return
				}
				var bodies []byte
				for _, e := range l.Entries {
					o, err := s.Get(t.Context(), "bucket", e.Key, &GetInput{At: l.LSN})
					if err != nil {
						t.Error(err)
						return
					}
					p, err := io.ReadAll(o.Body)
					o.Body.Close()
					if err != nil {
						t.Error(err)
						return
					}
					bodies = append(bodies, p...)
				}
				if slices.Sort(bodies); !bytes.Equal(bodies, []byte("01234567")) {
					t.Errorf("at %d: %q", l.LSN, bodies)
					return
				}
			}
		})
	}
	writers.Wait()
	stop()
	readers.Wait()
}

// Encryption goes along, or the commit is refused.
func TestCommitAndEncryption(t *testing.T) {
	s := start(t).Service
	ctx := t.Context()
	if _, err := s.CreateBucket(ctx, "bucket"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, "bucket", commitOf(putOp("clear", "1"))); err != nil {
		t.Fatal(err)
	}
	customer := &CustomerKey{1}
	if _, err := s.Put(ctx, "bucket", "theirs", &PutInput{Body: strings.NewReader("2"), Size: 1, SSE: SSE{Kind: SSEC}, CustomerKey: customer}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateSettings(ctx, "bucket", func(set *Settings) error {
		set.Encryption = &Encryption{Rules: []EncryptionRule{{Default: &EncryptionDefault{Algorithm: "AES256"}}}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	res, err := s.Commit(ctx, "bucket", commitOf(putOp("sealed", "3"), putOp("long", strings.Repeat("x", 100_000)), renameOp("theirs", "yours")))
	if err != nil || res.Ops[0].Entry.SSE().Kind != SSES3 || res.Ops[2].Entry.ETag != (ETag{}) {
		t.Fatalf("%+v, %v", res, err)
	}
	res, err = s.Commit(ctx, "bucket", commitOf(CommitOp{Kind: CommitCopy, Source: "sealed", Key: "again"}, CommitOp{Kind: CommitRename, Source: "long", Key: "longer", Replace: true}))
	if err != nil || res.Ops[0].Entry.SSE().Kind != SSES3 {
		t.Fatalf("%+v, %v", res, err)
	}
	for key, want := range map[string]string{"again": "3", "sealed": "3", "clear": "1", "longer": strings.Repeat("x", 100_000)} {
		o, err := s.Get(ctx, "bucket", key, &GetInput{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(o.Body)
		if o.Body.Close(); err != nil || string(p) != want {
			t.Errorf("%s: %.20q, %v", key, p, err)
		}
	}
	if _, err := s.Commit(ctx, "bucket", commitOf(CommitOp{Kind: CommitCopy, Source: "clear", Key: "x"})); !errors.Is(err, ErrMustRewrite) {
		t.Error(err)
	}
	if _, err := s.Commit(ctx, "bucket", commitOf(CommitOp{Kind: CommitCopy, Source: "yours", Key: "x"})); !errors.Is(err, ErrKeyRequired) {
		t.Error(err)
	}
}
