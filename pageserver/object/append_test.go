package object

import (
	"bytes"
	"crypto/md5"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"stemma/timeline"
)

func (h *harness) append(key string, offset int, body []byte) (*Entry, error) {
	return h.Append(h.ctx, "home", key, uint64(offset), &PutInput{Body: bytes.NewReader(body), Size: int64(len(body))})
}

// What is appended follows what was there, whatever the sizes, and the object says
// of itself what an upload of the same parts would say.
func TestAppend(t *testing.T) {
	skipLong(t)
	h := start(t)
	sizes := []int{0, 10, 5, 40 << 10, 1, 32 << 10, 300 << 10, 7, 7, 7, 7, 7, 7, 7, 7}
	var whole []byte
	var pieces [][]byte
	for i, n := range sizes {
		body := random(uint64(i), n)
		streamed := h.StreamedBytes()
		e, err := h.append("k", len(whole), body)
		if err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
		whole = append(whole, body...)
		if n > 0 {
			pieces = append(pieces, body)
		}
		if want := ChecksumOf(CRC64NVME, whole); e.Checksum != want {
			t.Fatalf("append %d: checksum %v, want %v", i, e.Checksum, want)
		}
		if got := h.StreamedBytes() - streamed; got > int64(n) {
			t.Errorf("append %d of %d bytes: %d bytes were written", i, n, got)
		}
		o := h.want("home", "k", 0, whole)
		if o.ETag != e.ETag || o.Size != uint64(len(whole)) || o.PartsCount != e.PartsCount {
			t.Fatalf("append %d: %+v, want %+v", i, o.Entry, e)
		}
	}
	var tag tagOfParts
	for i, p := range pieces {
		o, body, err := h.get("home", "k", GetInput{PartNumber: i + 1})
		if err != nil || !bytes.Equal(body, p) {
			t.Fatalf("part %d: %d bytes, %v", i+1, len(body), err)
		}
		if o.PartsCount != len(pieces) {
			t.Errorf("part %d of %d", i+1, o.PartsCount)
		}
		tag.add(md5.Sum(p))
	}
	if o := h.want("home", "k", 0, whole); o.ETag != tag.tag() || o.PartsCount != len(pieces) {
		t.Fatalf("%v, %d parts, want %v, %d", o.ETag, o.PartsCount, tag.tag(), len(pieces))
	}
	// A fork appends to what it has inherited, and the source does not see it.
	if _, err := h.Fork(h.ctx, "home", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Append(h.ctx, "fork", "k", uint64(len(whole)), &PutInput{Body: bytes.NewReader([]byte("fork")), Size: 4}); err != nil {
		t.Fatal(err)
	}
	h.want("home", "k", 0, whole)
	h.want("fork", "k", 0, append(whole[:len(whole):len(whole)], "fork"...))
}

func TestAppendToParts(t *testing.T) {
	h := start(t)
	u := h.upload("home", "k", UploadInput{Algorithm: SHA256, UserMeta: []Field{{"a", "b"}}})
	body := random(1, partBytes)
	p := h.part(u, 10000, body, Expect{})
	if _, err := h.complete(u, CompleteInput{}, p); err != nil {
		t.Fatal(err)
	}
	e, err := h.append("k", len(body), []byte("more"))
	if err != nil {
		t.Fatal(err)
	}
	if e.Checksum != (Checksum{}) || e.PartsCount != 2 || len(e.UserMeta) != 1 {
		t.Errorf("%+v", e)
	}
	h.want("home", "k", 0, append(body, "more"...))
	// A repeated complete finds another object.
	if _, err := h.complete(u, CompleteInput{}, p); !errors.Is(err, ErrNoSuchUpload) {
		t.Error(err)
	}
}

func TestAppendRefused(t *testing.T) {
	h := start(t)
	h.put("home", "k", []byte("hello"))
	before := h.Store().Visible()
	in := func(change func(*PutInput)) *PutInput {
		p := &PutInput{Body: bytes.NewReader([]byte("x")), Size: 1}
		if change != nil {
			change(p)
		}
		return p
	}
	for name, c := range map[string]struct {
		bucket, key string
		offset      uint64
		in          *PutInput
		want        error
	}{
		"too early":    {"home", "k", 4, in(nil), ErrWriteOffset},
		"too late":     {"home", "k", 6, in(nil), ErrWriteOffset},
		"nothing":      {"home", "absent", 1, in(nil), ErrWriteOffset},
		"bucket":       {"nobody", "k", 0, in(nil), timeline.ErrNoSuchBucket},
		"key":          {"home", "", 0, in(nil), ErrKeyTooLong},
		"metadata":     {"home", "k", 5, in(func(p *PutInput) { p.UserMeta = []Field{{"a", "b"}} }), ErrAppendChanges},
		"header":       {"home", "k", 5, in(func(p *PutInput) { p.Headers.CacheControl = "x" }), ErrAppendChanges},
		"class":        {"home", "k", 5, in(func(p *PutInput) { p.StorageClass = Glacier }), ErrAppendChanges},
		"condition":    {"home", "k", 5, in(func(p *PutInput) { p.Cond.IfMatch = `"x"` }), ErrPreconditionFailed},
		"none matches": {"home", "k", 5, in(func(p *PutInput) { p.Cond.IfNoneMatch = "*" }), ErrPreconditionFailed},
		"short":        {"home", "k", 5, in(func(p *PutInput) { p.Size = 2 }), ErrIncompleteBody},
		"MD5":          {"home", "k", 5, in(func(p *PutInput) { p.ContentMD5 = make([]byte, 16) }), ErrBadDigest},
	} {
		if _, err := h.Append(h.ctx, c.bucket, c.key, c.offset, c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// Somebody else is faster.
	slow := in(nil)
	slow.Body = io.MultiReader(&once{func() {
		if _, err := h.append("k", 5, []byte("!")); err != nil {
			t.Error(err)
		}
		before = h.Store().Visible()
	}}, slow.Body)
	_, err := h.Append(h.ctx, "home", "k", 5, slow)
	wantErr(t, err, ErrWriteOffset)
	slow = in(nil)
	slow.Body = io.MultiReader(&once{func() { h.put("home", "k", []byte("other!")); before = h.Store().Visible() }}, slow.Body)
	_, err = h.Append(h.ctx, "home", "k", 6, slow)
	wantErr(t, err, ErrConflict)
	h.want("home", "k", 0, []byte("other!"))
	if h.Store().Visible() != before {
		t.Error("what was refused has committed")
	}
}

// once calls f at its first read, and is empty.
type once struct{ f func() }

func (o *once) Read([]byte) (int, error) {
	if o.f != nil {
		o.f()
		o.f = nil
	}
	return 0, io.EOF
}

// Of many who append at the end that they see, none is lost.
func TestAppendRace(t *testing.T) {
	h := start(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; n < 8; {
				size := 0
				if o, err := h.Head(h.ctx, "home", "k", &GetInput{}); err == nil {
					size = int(o.Size)
				}
				switch _, err := h.append("k", size, []byte{'a' + byte(i)}); {
				case err == nil:
					n++
				case !errors.Is(err, ErrWriteOffset) && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrPreconditionFailed):
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	_, body, err := h.get("home", "k", GetInput{})
	if err != nil || len(body) != 32 || bytes.Count(body, []byte("a")) != 8 {
		t.Fatalf("%q, %v", body, err)
	}
}

func TestTooManyAppends(t *testing.T) {
	h := start(t)
	a := appending{s: h.Service, src: &source{entry: &Entry{Size: 1, PartsCount: MaxPartNumber}}, in: &PutInput{}}
	wantErr(t, a.check(h.ctx, "home", 1), ErrTooManyParts)
}

func TestRename(t *testing.T) {
	h := start(t)
	body := random(1, 100<<10)
	if _, err := h.Put(h.ctx, "home", "src", &PutInput{Body: bytes.NewReader(body), Size: -1, UserMeta: []Field{{"a", "b"}}}); err != nil {
		t.Fatal(err)
	}
	h.put("home", "dst", []byte("old"))
	before := h.Store().Visible()
	tagOf := func(key string) string {
		o, err := h.Head(h.ctx, "home", key, &GetInput{})
		if err != nil {
			t.Fatal(err)
		}
		return o.ETag.String()
	}
	long, past := string(make([]byte, MaxKeyBytes+1)), time.Unix(1, 0)
	for name, c := range map[string]struct {
		key  string
		in   RenameInput
		want error
	}{
		"absent":         {"dst", RenameInput{Source: "absent"}, ErrNoSuchKey},
		"self":           {"src", RenameInput{Source: "src"}, ErrSelfCopy},
		"long":           {long, RenameInput{Source: "src"}, ErrKeyTooLong},
		"empty":          {"dst", RenameInput{}, ErrKeyTooLong},
		"none":           {"dst", RenameInput{Source: "src", Cond: Conditions{IfNoneMatch: "*"}}, ErrPreconditionFailed},
		"other":          {"dst", RenameInput{Source: "src", Cond: Conditions{IfMatch: tagOf("src")}}, ErrPreconditionFailed},
		"new":            {"new", RenameInput{Source: "src", Cond: Conditions{IfMatch: "*"}}, ErrNoSuchKey},
		"modified":       {"dst", RenameInput{Source: "src", Cond: Conditions{IfUnmodifiedSince: past}}, ErrPreconditionFailed},
		"not modified":   {"dst", RenameInput{Source: "src", Cond: Conditions{IfModifiedSince: h.Store().Now().Time()}}, ErrPreconditionFailed},
		"source":         {"dst", RenameInput{Source: "src", SourceCond: Conditions{IfMatch: tagOf("dst")}}, ErrPreconditionFailed},
		"source none":    {"dst", RenameInput{Source: "src", SourceCond: Conditions{IfNoneMatch: "*"}}, ErrPreconditionFailed},
		"source touched": {"dst", RenameInput{Source: "src", SourceCond: Conditions{IfUnmodifiedSince: past}}, ErrPreconditionFailed},
	} {
		if _, err := h.Rename(h.ctx, "home", c.key, &c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if h.Store().Visible() != before {
		t.Error("what was refused has committed")
	}
	in := RenameInput{Source: "src", Token: "t-1", Cond: Conditions{IfMatch: tagOf("dst"), IfModifiedSince: past}}
	lsn, err := h.Rename(h.ctx, "home", "dst", &in)
	if err != nil || lsn != h.Store().Visible() {
		t.Fatalf("at %d: %v", lsn, err)
	}
	h.wantAbsent("home", "src", 0)
	o := h.want("home", "dst", 0, body)
	if len(o.UserMeta) != 1 || o.LSN != lsn {
		t.Errorf("%+v", o.Entry)
	}
	// At no LSN are there both, or none.
	h.want("home", "src", lsn-1, body)
	h.want("home", "dst", lsn-1, []byte("old"))
	// Again.
	if again, err := h.Rename(h.ctx, "home", "dst", &in); err != nil || again != lsn {
		t.Errorf("again at %d: %v", again, err)
	}
	_, err = h.Rename(h.ctx, "home", "dst", &RenameInput{Source: "else", Token: "t-1"})
	wantErr(t, err, ErrTokenReused)
	_, err = h.Rename(h.ctx, "home", "dst", &RenameInput{Source: "src", Token: "t-2"})
	wantErr(t, err, ErrNoSuchKey)
	_, err = h.Rename(h.ctx, "home", "dst", &RenameInput{Source: "src"})
	wantErr(t, err, ErrNoSuchKey)
	// A copy was not renamed.
	if _, err := h.Copy(h.ctx, "home", "copy", &CopyInput{SrcBucket: "home", SrcKey: "dst"}); err != nil {
		t.Fatal(err)
	}
	_, err = h.Rename(h.ctx, "home", "copy", &in)
	wantErr(t, err, ErrNoSuchKey)
}

// Where a bucket has versions, what was there before stays one.
func TestAppendAndRenameVersions(t *testing.T) {
	h := start(t)
	h.put("home", "src", []byte("plain"))
	if _, err := h.SetVersioning(h.ctx, "home", Enabled); err != nil {
		t.Fatal(err)
	}
	if _, err := h.append("src", 5, []byte(" more")); err != nil {
		t.Fatal(err)
	}
	h.put("home", "dst", []byte("old"))
	lsn, err := h.Rename(h.ctx, "home", "dst", &RenameInput{Source: "src"})
	if err != nil {
		t.Fatal(err)
	}
	h.want("home", "dst", 0, []byte("plain more"))
	h.wantAbsent("home", "src", 0)
	l, err := h.ListVersions(h.ctx, "home", &ListVersionsInput{MaxKeys: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range l.Entries {
		text := "marker"
		if !v.Marker {
			_, body, err := h.get("home", v.Key, GetInput{Version: v.ID})
			if err != nil {
				t.Fatal(err)
			}
			text = string(body)
		}
		got = append(got, v.Key+"="+text)
	}
	if want := []string{"dst=plain more", "dst=old", "src=marker", "src=plain more", "src=plain"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if l.Entries[0].ID != VersionID(lsn) || l.Entries[2].ID != VersionID(lsn) {
		t.Errorf("%v and %v, want %d", l.Entries[0].ID, l.Entries[2].ID, lsn)
	}
}
