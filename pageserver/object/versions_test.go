package object

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stemma/timeline"
	"stemma/wal"
)

// versioning sets the state of a bucket.
func (h *harness) versioning(bucket string, v Versioning) {
	h.t.Helper()
	if _, err := h.SetVersioning(h.ctx, bucket, v); err != nil {
		h.t.Fatal(err)
	}
}

// drawn is the versions of a bucket as a line: key@id, a dot before markers, a star behind the
// current one. Ids that are not null are counted from 1 by age.
func (h *harness) drawn(bucket string, at wal.LSN) string {
	h.t.Helper()
	res, err := h.ListVersions(h.ctx, bucket, &ListVersionsInput{At: at, MaxKeys: 1000})
	if err != nil {
		h.t.Fatal(err)
	}
	var ids []VersionID
	for _, e := range res.Entries {
		if e.ID != NullVersion {
			ids = append(ids, e.ID)
		}
	}
	slices.Sort(ids)
	var out []string
	for _, e := range res.Entries {
		s := e.Key + "@"
		if i, ok := slices.BinarySearch(ids, e.ID); ok {
			s += fmt.Sprint(i + 1)
		} else {
			s += "null"
		}
		if e.Marker {
			s = "." + s
		}
		if e.Latest {
			s += "*"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func (h *harness) wantDrawn(bucket string, at wal.LSN, want string) {
	h.t.Helper()
	if got := h.drawn(bucket, at); got != want {
		h.t.Errorf("%s at %d: %s, want %s", bucket, at, got, want)
	}
}

// wantBody reads a version.
func (h *harness) wantBody(bucket, key string, id VersionID, want string) {
	h.t.Helper()
	_, body, err := h.get(bucket, key, GetInput{Version: id})
	if err != nil || string(body) != want {
		h.t.Errorf("%q %v: %q, %v, want %q", key, id, body, err, want)
	}
}

func (h *harness) delete(bucket string, k DeleteKey) DeleteResult {
	h.t.Helper()
	res, err := h.Delete(h.ctx, bucket, k)
	if err != nil {
		h.t.Fatal(err)
	}
	return res
}

// What is put before versioning, while it is enabled, and while it is suspended.
func TestVersionsThroughTheStates(t *testing.T) {
	h := start(t)
	large := strings.Repeat("large", 20_000)
	h.put("home", "k", []byte("before"))
	h.versioning("home", Enabled)
	h.wantDrawn("home", 0, "k@null*")
	first := h.put("home", "k", []byte(large)).ID()
	second := h.put("home", "k", []byte("second")).ID()
	h.wantDrawn("home", 0, "k@2* k@1 k@null")
	for id, want := range map[VersionID]string{0: "second", NullVersion: "before", first: large, second: "second"} {
		h.wantBody("home", "k", id, want)
	}
	marker := h.delete("home", DeleteKey{Key: "k"})
	if !marker.Marker || marker.ID != VersionID(marker.LSN) || !marker.Existed {
		t.Errorf("%+v", marker)
	}
	h.wantDrawn("home", 0, ".k@3* k@2 k@1 k@null")
	var met *MarkerError
	if _, _, err := h.get("home", "k", GetInput{}); !errors.Is(err, ErrNoSuchKey) || !errors.As(err, &met) || met.ID != marker.ID {
		t.Errorf("%v", err)
	}
	if _, _, err := h.get("home", "k", GetInput{Version: marker.ID}); !errors.Is(err, ErrMarker) || !errors.As(err, &met) || met.LSN != marker.LSN {
		t.Errorf("%v", err)
	}

	h.versioning("home", Suspended)
	h.put("home", "k", []byte("null again")) // takes the place of the null version, not of the marker
	h.wantDrawn("home", 0, "k@null* .k@3 k@2 k@1")
	h.put("home", "k", []byte("and again"))
	h.wantDrawn("home", 0, "k@null* .k@3 k@2 k@1")
	if res := h.delete("home", DeleteKey{Key: "k"}); res.ID != NullVersion || !res.Marker {
		t.Errorf("%+v", res)
	}
	h.wantDrawn("home", 0, ".k@null* .k@3 k@2 k@1")
	h.delete("home", DeleteKey{Key: "k"})
	h.wantDrawn("home", 0, ".k@null* .k@3 k@2 k@1")
	h.versioning("home", Enabled)
	h.put("home", "k", []byte("third"))
	h.wantDrawn("home", 0, "k@4* .k@null .k@3 k@2 k@1")

	// From the newest down: what is left becomes the current one.
	h.delete("home", DeleteKey{Key: "k", Version: h.newest("home", "k")})
	h.wantDrawn("home", 0, ".k@null* .k@3 k@2 k@1")
	if res := h.delete("home", DeleteKey{Key: "k", Version: NullVersion}); !res.Marker || res.ID != NullVersion {
		t.Errorf("%+v", res)
	}
	h.wantDrawn("home", 0, ".k@3* k@2 k@1")
	h.delete("home", DeleteKey{Key: "k", Version: marker.ID})
	h.wantDrawn("home", 0, "k@2* k@1")
	h.wantBody("home", "k", 0, "second")
	h.delete("home", DeleteKey{Key: "k", Version: second})
	h.wantBody("home", "k", 0, large)
	if o, err := h.Head(h.ctx, "home", "k", &GetInput{}); err != nil || o.ID != first || o.LSN != wal.LSN(first) {
		t.Errorf("%+v, %v", o, err)
	}
	l, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 10})
	if err != nil || len(l.Entries) != 1 || l.Entries[0].LSN != wal.LSN(first) {
		t.Errorf("%+v, %v", l, err)
	}
	h.delete("home", DeleteKey{Key: "k", Version: first})
	h.wantDrawn("home", 0, "")
	if _, err := h.DeleteBucket(h.ctx, "home", timeline.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// newest returns the id of the current version, or of its marker.
func (h *harness) newest(bucket, key string) VersionID {
	h.t.Helper()
	res, err := h.ListVersions(h.ctx, bucket, &ListVersionsInput{Prefix: key, MaxKeys: 1})
	if err != nil || len(res.Entries) == 0 {
		h.t.Fatalf("%+v, %v", res, err)
	}
	return res.Entries[0].ID
}

// A bucket is not empty while it has versions, or markers.
func TestDeleteBucketWithVersions(t *testing.T) {
	h := start(t)
	h.versioning("home", Enabled)
	res := h.delete("home", DeleteKey{Key: "k"})
	_, err := h.DeleteBucket(h.ctx, "home", timeline.DeleteOptions{})
	wantErr(t, err, timeline.ErrBucketNotEmpty)
	h.delete("home", DeleteKey{Key: "k", Version: res.ID})
	if _, err := h.DeleteBucket(h.ctx, "home", timeline.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// Many deletes at once of one key, in one request, are as one after the other.
func TestDeleteManyVersions(t *testing.T) {
	h := start(t)
	h.versioning("home", Enabled)
	var ids []VersionID
	for i := range 5 {
		ids = append(ids, h.put("home", "k", fmt.Append(nil, i)).ID())
	}
	results, _, err := h.DeleteMany(h.ctx, "home", []DeleteKey{
		{Key: "k", Version: ids[4]}, {Key: "k", Version: ids[2]}, {Key: "k", Version: ids[4]}, {Key: "k", Version: ids[3]},
		{Key: "k"}, {Key: "k"}, {Key: "k", Version: ids[0]}, {Key: "other"}, {Key: "k", Version: unknownVersion},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, existed := range []bool{true, true, false, true, true, false, true, false, false} {
		if results[i].Err != nil || results[i].Existed != existed {
			t.Errorf("%d: %+v", i, results[i])
		}
	}
	h.wantDrawn("home", 0, ".k@3* .k@2 k@1 .other@4*")
	if results[4].ID >= results[5].ID || !results[4].Marker || results[7].ID == 0 {
		t.Errorf("markers %+v, %+v, %+v", results[4], results[5], results[7])
	}
	// More than one commit can hold.
	body := make([]byte, 30<<10)
	var keys []DeleteKey
	for i := range 100 {
		h.put("home", fmt.Sprintf("many/%03d", i), body)
		keys = append(keys, DeleteKey{Key: fmt.Sprintf("many/%03d", i)})
	}
	results, last, err := h.DeleteMany(h.ctx, "home", keys)
	if err != nil || results[0].LSN == last || results[99].LSN != last {
		t.Fatalf("from %d to %d, %v", results[0].LSN, last, err)
	}
	for i := range results {
		if results[i].Err != nil || results[i].ID != VersionID(results[i].LSN) {
			t.Fatalf("%+v", results[i])
		}
	}
}

// Conditions of deletes look at the version that is deleted.
func TestConditionsOfVersions(t *testing.T) {
	h := start(t)
	h.versioning("home", Enabled)
	old := h.put("home", "k", []byte("old"))
	h.put("home", "k", []byte("newer"))
	three, five := uint64(3), uint64(5)
	for i, c := range []struct {
		key  DeleteKey
		want error
	}{
		{DeleteKey{Version: old.ID(), Cond: Conditions{IfMatch: `"x"`}}, ErrPreconditionFailed},
		{DeleteKey{Version: old.ID(), Cond: Conditions{MatchSize: &five}}, ErrPreconditionFailed},
		{DeleteKey{Version: old.ID(), Cond: Conditions{MatchModified: old.Modified().Add(-time.Hour)}}, ErrPreconditionFailed},
		{DeleteKey{Cond: Conditions{MatchSize: &three}}, ErrPreconditionFailed},
		{DeleteKey{Cond: Conditions{IfMatch: old.ETag.String()}}, ErrPreconditionFailed},
		{DeleteKey{Version: old.ID(), Cond: Conditions{IfMatch: old.ETag.String(), MatchSize: &three, MatchModified: old.Modified()}}, nil},
		{DeleteKey{Version: old.ID(), Cond: Conditions{IfMatch: `"x"`}}, nil}, // it is gone
		{DeleteKey{Cond: Conditions{MatchSize: &five}}, nil},
		{DeleteKey{Cond: Conditions{MatchSize: &five}}, ErrPreconditionFailed}, // of the marker
		{DeleteKey{Cond: Conditions{IfMatch: old.ETag.String()}}, ErrPreconditionFailed},
		{DeleteKey{Cond: Conditions{IfMatch: "*"}}, nil},
	} {
		c.key.Key = "k"
		if _, err := h.Delete(h.ctx, "home", c.key); !errors.Is(err, c.want) {
			t.Errorf("%d: %v, want %v", i, err, c.want)
		}
	}
	h.wantDrawn("home", 0, ".k@3* .k@2 k@1")
	if res := h.delete("home", DeleteKey{Key: "absent", Cond: Conditions{IfMatch: "*"}}); res.Marker {
		t.Errorf("%+v", res)
	}
	// A marker is nothing to a put.
	_, err := h.Put(h.ctx, "home", "k", &PutInput{Cond: Conditions{IfMatch: "*"}})
	wantErr(t, err, ErrNoSuchKey)
	if _, err := h.Put(h.ctx, "home", "k", &PutInput{Cond: Conditions{IfNoneMatch: "*"}}); err != nil {
		t.Error(err)
	}
}

// A fork has the versions of its source, and what it does with them is its own.
func TestVersionsInForks(t *testing.T) {
	h := start(t)
	h.versioning("home", Enabled)
	first := h.put("home", "k", []byte("first"))
	second := h.put("home", "k", []byte("second"))
	if _, err := h.Fork(h.ctx, "home", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	before := h.Store().Visible()
	h.wantDrawn("fork", 0, "k@2* k@1")
	h.delete("fork", DeleteKey{Key: "k", Version: second.ID()})
	h.wantDrawn("fork", 0, "k@1*")
	h.wantBody("fork", "k", 0, "first")
	h.wantBody("home", "k", 0, "second")
	h.wantDrawn("home", 0, "k@2* k@1")
	mine := h.put("fork", "k", []byte("mine"))
	if mine.ID() <= second.ID() {
		t.Errorf("version %v after %v", mine.ID(), second.ID())
	}
	h.wantDrawn("fork", 0, "k@2* k@1")
	h.wantDrawn("fork", before, "k@2* k@1")
	h.delete("fork", DeleteKey{Key: "k", Version: first.ID()})
	h.delete("fork", DeleteKey{Key: "k", Version: mine.ID()})
	h.wantDrawn("fork", 0, "")
	h.wantDrawn("home", 0, "k@2* k@1")
	if _, _, err := h.get("fork", "k", GetInput{Version: second.ID(), At: before}); err != nil {
		t.Error(err)
	}
	h.versioning("fork", Suspended)
	h.put("fork", "n", []byte("null"))
	h.put("home", "n", []byte("not"))
	h.wantDrawn("fork", 0, "n@null*")
	h.wantDrawn("home", 0, "k@2* k@1 n@3*")
}

// A put acts by the state of versioning at its place in the order, also when it
// comes to pass while the put is under way.
func TestPutsWhileVersioningIsEnabled(t *testing.T) {
	h := start(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 30 {
				e, err := h.Put(h.ctx, "home", fmt.Sprintf("%d/%d", w, i), &PutInput{Size: -1})
				if err != nil {
					t.Error(err)
					return
				}
				set, err := h.Settings(h.ctx, "home", e.LSN)
				if err != nil || e.Versioned != (set.Versioning == Enabled) {
					t.Errorf("put at %d, versioned %t, while the bucket was %q, %v", e.LSN, e.Versioned, set.Versioning, err)
				}
			}
		}()
	}
	for i := range 40 {
		h.versioning("home", []Versioning{Enabled, Suspended}[i%2])
	}
	wg.Wait()
}

// All pages together are the whole, whatever their size is and what is deleted between them.
func TestListVersionsInPages(t *testing.T) {
	h := start(t)
	for _, key := range []string{"a", "a\x00b", "b/1", "b/2", "c"} {
		h.put("home", key, nil)
	}
	h.versioning("home", Enabled)
	for range 3 {
		for _, key := range []string{"a", "a\x00b", "b/1", "c", "d/1"} {
			h.put("home", key, nil)
		}
	}
	h.delete("home", DeleteKey{Key: "b/2"})
	h.delete("home", DeleteKey{Key: "c"})
	for _, in := range []ListVersionsInput{{}, {Prefix: "a"}, {Prefix: "b/"}, {Delimiter: "/"}, {Delimiter: "/", Prefix: "b"}, {Delimiter: "a"}, {KeyMarker: "a"}, {KeyMarker: "b/", Delimiter: "/"}} {
		in.MaxKeys = 1000
		whole, err := h.ListVersions(h.ctx, "home", &in)
		if err != nil || whole.Truncated {
			t.Fatal(err)
		}
		for size := 1; size < 7; size++ {
			var got VersionList
			page := in
			page.MaxKeys = size
			for {
				res, err := h.ListVersions(h.ctx, "home", &page)
				if err != nil || len(res.Entries)+len(res.Prefixes) > size {
					t.Fatalf("%+v, %v", res, err)
				}
				got.Entries, got.Prefixes = append(got.Entries, res.Entries...), append(got.Prefixes, res.Prefixes...)
				if !res.Truncated {
					break
				}
				page.KeyMarker, page.VersionMarker = res.NextKeyMarker, res.NextVersionMarker
			}
			if !slices.Equal(got.Entries, whole.Entries) || !slices.Equal(got.Prefixes, whole.Prefixes) {
				t.Errorf("%+v by %d: %d versions %q, want %d %q", in, size, len(got.Entries), got.Prefixes, len(whole.Entries), whole.Prefixes)
			}
		}
	}
	// Deleting page by page ends with nothing.
	in := ListVersionsInput{MaxKeys: 3}
	for pages := 0; ; pages++ {
		res, err := h.ListVersions(h.ctx, "home", &in)
		if err != nil || pages > 20 {
			t.Fatal(pages, err)
		}
		var keys []DeleteKey
		for _, e := range res.Entries {
			keys = append(keys, DeleteKey{Key: e.Key, Version: e.ID})
		}
		if _, _, err := h.DeleteMany(h.ctx, "home", keys); err != nil {
			t.Fatal(err)
		}
		if !res.Truncated {
			break
		}
		in.KeyMarker, in.VersionMarker = res.NextKeyMarker, res.NextVersionMarker
	}
	h.wantDrawn("home", 0, "")
}

func TestParseVersionID(t *testing.T) {
	for text, want := range map[string]VersionID{
		"null": NullVersion, "1": 1, "1751631910196672425": 1751631910196672425, "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrH": unknownVersion,
	} {
		if id, err := ParseVersionID(text); err != nil || id != want {
			t.Errorf("%q: %v, %v", text, id, err)
		}
	}
	for _, text := range []string{"", "0", "01", "-1", "+1", "nul", "9223372036854775808", strings.Repeat("/", 32), "Null"} {
		if id, err := ParseVersionID(text); !errors.Is(err, ErrInvalidVersionID) {
			t.Errorf("%q: %v, %v", text, id, err)
		}
	}
	if s := VersionID(12).String() + NullVersion.String() + VersionID(0).String(); s != "12null" {
		t.Error(s)
	}
}

// Keys of versions lie in the order of the objects, and come apart as they were put together.
func FuzzVersionKey(f *testing.F) {
	f.Add([]byte("a\x00"), []byte("a\x00\x01"), uint64(1), uint64(1)<<62)
	f.Fuzz(func(t *testing.T, a, b []byte, x, y uint64) {
		x, y = x%uint64(wal.MaxLSN-1)+1, y%uint64(wal.MaxLSN-1)+1
		ka, kb := stamped(versionsOf(a), wal.LSN(x)), stamped(versionsOf(b), wal.LSN(y))
		prefix, lsn, err := splitVersionKey(ka)
		if err != nil || lsn != wal.LSN(x) {
			t.Fatalf("%q: %d, %v", ka, lsn, err)
		}
		if key, err := unescape(prefix); err != nil || string(key) != string(a) {
			t.Fatalf("%q: %q, %v", ka, key, err)
		}
		if _, lsn, err := splitVersionKey(prefix); err != nil || lsn != 0 || !isNullRecord(prefix) || isNullRecord(ka) {
			t.Fatalf("%q: %d, %v", prefix, lsn, err)
		}
		want := strings.Compare(string(a), string(b))
		if want == 0 && x != y {
			want = -1
			if x < y {
				want = 1
			}
		}
		if got := strings.Compare(string(ka), string(kb)); got != want {
			t.Fatalf("%q and %q: %d, want %d", ka, kb, got, want)
		}
		splitVersionKey(a)
	})
}
