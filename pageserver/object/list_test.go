package object

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"stemma/internal/seeds"
	"stemma/timeline"
	"stemma/wal"
)

// item is a key or a common prefix.
type item struct {
	name  string
	group bool
}

// naiveList is what a listing after an item must give, the slow way: all
// items, by name, those that lie above after.
func naiveList(keys []string, prefix, delimiter, after string) []item {
	var items []item
	for _, k := range keys {
		if !strings.HasPrefix(k, prefix) || k <= after {
			continue
		}
		it := item{k, false}
		if delimiter != "" {
			if i := strings.Index(k[len(prefix):], delimiter); i >= 0 {
				it = item{k[:len(prefix)+i+len(delimiter)], true}
			}
		}
		if it.name > after && (len(items) == 0 || items[len(items)-1] != it) {
			items = append(items, it)
		}
	}
	return items
}

func (r *ListResult) items() []item {
	var items []item
	for i := range r.Entries {
		items = append(items, item{r.Entries[i].Key, false})
	}
	for _, p := range r.Prefixes {
		items = append(items, item{p, true})
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items
}

// oddKey makes keys in which prefixes, delimiters and the ends of the byte
// range meet.
func oddKey(rng *rand.Rand) string {
	alphabet := []string{"a", "b", "/", "//", "\x00", "\xff", "é", "-", "a/", "ab"}
	var s strings.Builder
	for range 1 + rng.IntN(6) {
		s.WriteString(alphabet[rng.IntN(len(alphabet))])
	}
	return s.String()
}

// Every page of every listing is what the naive one gives, whatever the
// prefix, the delimiter and the size of pages.
func TestListOracle(t *testing.T) {
	skipLong(t)
	seed := seeds.For(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	h := start(t, small)
	set := map[string]bool{}
	for range 400 {
		k := oddKey(rng)
		if rng.IntN(4) == 0 {
			delete(set, k)
			if _, err := h.Delete(h.ctx, "home", DeleteKey{Key: k}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		set[k] = true
		h.put("home", k, random(uint64(len(k)), rng.IntN(3000)))
	}
	// A fork sees the same through an ancestor.
	if _, err := h.Fork(h.ctx, "home", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		k := oddKey(rng)
		if rng.IntN(2) == 0 {
			h.put("fork", k, nil)
		} else if _, err := h.Delete(h.ctx, "fork", DeleteKey{Key: k}); err != nil {
			t.Fatal(err)
		}
	}
	home := sorted(set)
	var fork []string
	l, err := h.List(h.ctx, "fork", &ListInput{MaxKeys: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range l.items() {
		fork = append(fork, it.name)
	}
	delimiters := []string{"", "/", "//", "a", "\xff", "\x00", "é", "ab", "zz"}
	for range 1500 {
		in := ListInput{Delimiter: delimiters[rng.IntN(len(delimiters))], MaxKeys: 1 + rng.IntN(9)}
		if rng.IntN(2) == 0 {
			in.Prefix = oddKey(rng)[:1]
		}
		if rng.IntN(2) == 0 {
			in.After = oddKey(rng)
		}
		if rng.IntN(4) == 0 {
			in.MaxKeys = 1000
		}
		bucket, keys := "home", home
		if rng.IntN(3) == 0 {
			bucket, keys = "fork", fork
		}
		h.checkListing(bucket, keys, in, rng.IntN(2) == 0)
	}
}

// checkListing follows one listing to its end, by tokens or by markers.
func (h *harness) checkListing(bucket string, keys []string, in ListInput, markers bool) {
	h.t.Helper()
	what := fmt.Sprintf("%+v, markers %t", in, markers)
	want := naiveList(keys, in.Prefix, in.Delimiter, in.After)
	for page := 0; ; page++ {
		l, err := h.List(h.ctx, bucket, &in)
		if err != nil {
			h.t.Fatalf("%s, page %d: %v", what, page, err)
		}
		n := min(in.MaxKeys, len(want))
		if got := l.items(); !slices.Equal(got, want[:n]) {
			h.t.Fatalf("%s, page %d: %v, want %v", what, page, got, want[:n])
		}
		want = want[n:]
		if l.Truncated != (len(want) > 0) || (l.NextToken != "") != l.Truncated || (l.NextMarker != "") != l.Truncated {
			h.t.Fatalf("%s, page %d: truncated %t, %q, %q, %d left", what, page, l.Truncated, l.NextToken, l.NextMarker, len(want))
		}
		if !l.Truncated {
			return
		}
		if in.Token = l.NextToken; markers {
			in.Token, in.After = "", l.NextMarker
		}
	}
}

func sorted(set map[string]bool) []string {
	var keys []string
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// All pages of a listing show the bucket as the first one found it.
func TestListCut(t *testing.T) {
	h := start(t, small)
	var keys []string
	for i := range 50 {
		k := fmt.Sprintf("k%02d", i)
		keys = append(keys, k)
		h.put("home", k, []byte(k))
	}
	in, lsns := ListInput{MaxKeys: 7}, map[wal.LSN]bool{}
	var got []string
	for {
		l, err := h.List(h.ctx, "home", &in)
		if err != nil {
			t.Fatal(err)
		}
		lsns[l.LSN] = true
		for _, e := range l.Entries {
			got = append(got, e.Key)
		}
		if in.Token = l.NextToken; !l.Truncated {
			break
		}
		for i := range 50 {
			h.put("home", fmt.Sprintf("k%02d-%d", i, len(got)), nil)
			if _, err := h.Delete(h.ctx, "home", DeleteKey{Key: keys[i]}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !slices.Equal(got, keys) || len(lsns) != 1 {
		t.Errorf("pages at %v list %q", lsns, got)
	}
	// The same by marker reads the tip, where no key is left of those.
	l, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 1000})
	if err != nil || len(l.Entries) != 7*50 {
		t.Errorf("tip: %d keys, %v", len(l.Entries), err)
	}
}

// A token whose LSN cannot be read any more goes on at the tip; an LSN that
// was asked for does not.
func TestListTokenFallsBack(t *testing.T) {
	h := start(t)
	for _, k := range []string{"a", "b", "c"} {
		h.put("home", k, nil)
	}
	for name, lsn := range map[string]wal.LSN{"before the bucket": 5, "future": wal.MaxLSN} {
		l, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 10, Token: listToken{lsn: lsn, after: "a"}.String()})
		if err != nil || len(l.Entries) != 2 || l.Entries[0].Key != "b" {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	_, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 10, At: 5})
	wantErr(t, err, timeline.ErrNoSuchBucket)
	_, err = h.List(h.ctx, "home", &ListInput{MaxKeys: 10, At: wal.MaxLSN})
	wantErr(t, err, timeline.ErrFuture)
	for _, token := range []string{"x", "!", strings.Repeat("A", 5000), "AQ"} {
		_, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 10, Token: token})
		wantErr(t, err, ErrInvalidToken)
	}
	_, err = h.List(h.ctx, "nobody", &ListInput{MaxKeys: 10})
	wantErr(t, err, timeline.ErrNoSuchBucket)
	l, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 0})
	if err != nil || l.Truncated || len(l.Entries) > 0 {
		t.Errorf("no keys: %+v, %v", l, err)
	}
	long := strings.Repeat("a", 5000)
	for _, in := range []ListInput{{Prefix: long, MaxKeys: 1}, {Prefix: "a", After: long, MaxKeys: 10}, {After: "c", MaxKeys: 1}, {After: "\xff", Delimiter: "\xff", MaxKeys: 9}} {
		l, err := h.List(h.ctx, "home", &in)
		if err != nil || len(l.Entries) > 0 {
			t.Errorf("%.20q, %.20q: %+v, %v", in.Prefix, in.After, l, err)
		}
	}
}

// Rolled up keys cost nothing: a listing of two groups does not read the
// million keys in them. Seen by what it decodes: their metas are bad.
func TestListSkipsGroups(t *testing.T) {
	h := start(t)
	for _, g := range []string{"a", "b"} {
		var b timeline.Batch
		for i := range 2000 {
			b.Put(0x20, []byte(fmt.Sprintf("%s/%04d", g, i)), []byte("no meta"), nil)
		}
		if _, err := h.Store().Commit(h.ctx, "home", &b); err != nil {
			t.Fatal(err)
		}
	}
	l, err := h.List(h.ctx, "home", &ListInput{Delimiter: "/", MaxKeys: 2})
	if err != nil || !slices.Equal(l.Prefixes, []string{"a/", "b/"}) || l.Truncated {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 2}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("bad metas listed: %v", err)
	}
}
